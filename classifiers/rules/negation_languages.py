"""Negation in Spanish, French and German: a smaller form of `classifiers.rules.negation`, for the rule packs of these languages.

What denies must stand in the clause of the match, before it. Words that deny a worry ("no hay problema", "kein Problem") are
taken out first. A question asserts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import re2  # type: ignore[import-untyped]

from classifiers.rules.matching import options


@dataclass(frozen=True, slots=True)
class _Cues:
    """Expressions on lower-case text: denials of a worry, denials and conditions, denials that a comma does not end, clause ends,
    and what after a match takes it back.
    """

    reassures: Any
    denies: Any
    denies_on: Any
    clause: Any
    takes_back: Any


def _cues(reassures: str, denies: str, denies_on: str, clause: str, takes_back: str) -> _Cues:
    chosen = options()
    return _Cues(
        re2.compile(rf"\b(?:{reassures})\b", chosen),
        # `\b` and `\w` know ASCII alone: the "ne" of "ibuprofène" is no word.
        re2.compile(rf"(?:^|[^\pL])(?:{denies})(?:[^\pL]|$)", chosen),
        re2.compile(rf"(?:^|[^\pL])(?:{denies_on})\PL*$", chosen),
        re2.compile(rf"[;:,()—]|\b(?:{clause})\b", chosen),
        re2.compile(rf"^[^,.;]{{0,40}}?\b(?:{takes_back})", chosen),
    )


_LANGUAGES: Final[Mapping[str, _Cues]] = {
    "es": _cues(
        r"no (?:hay|es|tiene|tienes|existe) (?:ning[uú]n |un |una )?(?:problema|riesgo|peligro|inconveniente)|"
        r"no (?:se preocupe|te preocupes)|"
        r"sin (?:problema|riesgo|peligro|miedo)s?|no (?:es|ser[ií]a) (?:peligroso|malo|grave)|no pasa nada|no solo",
        r"no|nunca|jam[aá]s|tampoco|ni|evit\S+|sin|nadie|peligros\S+|prohibid\S+|mito|falso|si|cuando|antes de|en lugar de|"
        r"en vez de|"
        r"su m[eé]dico puede|consult\S+|pregunt\S+|riesgo de|desaconsej\S+",
        r"nunca|jam[aá]s|evite|evita|en ning[uú]n caso",
        r"pero|sino|as[ií] que|por lo tanto|porque|y puede|y luego|aunque",
        r"es (?:muy )?(?:peligros|un mito|un error|fals)|puede (?:causar|provocar|dañar|ser (?:mortal|peligros))|"
        r"no es (?:segur|ciert)|solo si (?:su|tu)|si (?:su|tu) m[eé]dico",
    ),
    "fr": _cues(
        r"(?:il n'y a |y a |n'est )?(?:pas|aucun) (?:de |un |aucun )?(?:probl[eè]me|risque|danger|souci|dangereux|grave)s?|"
        r"sans (?:probl[eè]me|risque|danger|crainte|souci)s?|ne vous inqui[eé]tez pas|ne t'inqui[eè]te pas|pas seulement",
        r"ne|n'\S+|pas|jamais|aucun\S*|[eé]vite[rz]?\S*|sans|interdit\S*|dangereux|mythe|faux|si|quand|avant de|au lieu de|"
        r"plut[oô]t que|"
        r"votre m[eé]decin peut|consult\S+|demand\S+|risque de|d[eé]conseill\S+",
        r"jamais|[eé]vitez|en aucun cas",
        r"mais|donc|alors|parce que|car|et vous|puis|bien que",
        r"est (?:tr[eè]s )?(?:dangereu|un mythe|une erreur|fau|d[eé]conseill)|peut (?:causer|provoquer|[eê]tre (?:mortel|"
        r"dangereu))|n'est pas|sauf si|que si votre|seulement si",
    ),
    "de": _cues(
        r"kein(?:e|en|erlei)? (?:problem|risiko|gefahr|sorge)\S*|nicht (?:gef[aä]hrlich|schlimm|bedenklich)|ohne (?:problem|"
        r"risiko|gefahr|sorge|bedenken)\S*|"
        r"keine sorge|machen sie sich keine|nicht nur",
        r"nicht|nie|niemals|kein\S*|vermeiden|vermeide|ohne|verboten|gef[aä]hrlich\S*|mythos|falsch|wenn|falls|bevor|statt|"
        r"anstatt|"
        r"ihr arzt kann|frag\S+|risiko|abzuraten|davon ab|darf nicht",
        r"nie|niemals|auf keinen fall|keinesfalls",
        r"aber|sondern|also|deshalb|denn|weil|und sie|dann|obwohl",
        r"(?:ist|w[aä]re|kann) (?:\S+ )?(?:gef[aä]hrlich|t[oö]dlich|ein mythos|ein fehler|falsch)|nicht\b|auf keinen fall|"
        r"keinesfalls|nie\b|niemals\b|"
        r"nur wenn|es sei denn",
    ),
}
_NOT: Final = re2.compile(
    r"(?:^|[^\pL])(?:no|nunca|jam[aá]s|ni|ne|pas|jamais|aucun\S*|nicht|nie|niemals|kein\S*)(?:[^\pL]|$)", options()
)
LANGUAGES: Final = ("en", *_LANGUAGES)
"""What a rule's `lang` may be. English is `classifiers.rules.negation`'s."""


def asserts(language: str, before: str, inside: str, after: str, heading: str) -> bool:
    """The sentence states what stands between `before` and `after`, with `inside` in its gaps, under the line `heading`."""
    cues = _LANGUAGES[language]
    before, after = before.lower(), after.lower()
    if after.rstrip().endswith("?") or _NOT.search(inside.lower()) or cues.takes_back.search(after):
        return False
    return not _denied(cues, before) and not (heading and _denied(cues, heading.lower()))


def _denied(cues: _Cues, text: str) -> bool:
    parts = cues.clause.split(cues.reassures.sub(" ", text))
    return bool(cues.denies.search(parts[-1])) or any(cues.denies_on.search(part) for part in parts[:-1])
