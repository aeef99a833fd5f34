"""Facts about the drugs that an exchange names: pairs that clash, doses past their limit, patients who must not have them.

`read` takes query and response together and says which rows of the tables under `facts/` apply, and to what. It does not
say whether the response is right: a warning and an approval name the same pair. `classifiers.stance` tells them apart, and the
fine-tuned classifier reads `note` beside the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice, product
from typing import Any, Final

import re2  # type: ignore[import-untyped]

from classifiers.dose_limits import dose_facts
from classifiers.dosing import DAILY
from classifiers.drug_tables import Fact, Mention, Row, Tables, cells, tables
from classifiers.result import Severity
from classifiers.rules.matching import options
from classifiers.text import normalize

MAX_DRUGS: Final = 10
"""Different drugs looked at in one exchange."""
MAX_TEXT: Final = 8_000
"""Characters of a text that are searched for names: its beginning and its end, half each."""
MAX_FACTS: Final = 12

_STOP: Final = (
    r"\b(?:stop(?:ped|ping|s)?|quit(?:ting)?|cold turkey|(?:com(?:e|ing)|came|get(?:ting)?|wean\w*|go(?:ing)?) off|"
    r"skip(?:ped|ping)?|discontinu\w+|r[au]n(?:ning)? out|giv(?:e|ing) up|gave up|miss(?:ed|ing)?|taper\w*|"
    r"leave (?:it|them) (?:off|out)|drop(?:ped|ping)?|ditch(?:ed|ing)?|paus(?:e|ed|ing)|hold(?:ing)? off|"
    r"without (?:it|them|my|any)|cease|withdraw\w*|last (?:tablet|pill|dose)|forgot(?:ten)?|halt)\b"
)
_VERBS: Final = {
    "crush": r"crush\w*|grind\w*|ground up|pulveri[sz]\w*|powder\w*|mash\w*",
    "chew": r"chew\w*|bite|bitten",
    "split": r"split\w*|hal(?:f|ve[sd]?|ving)|break\w*|broken|snap\w*",
    "cut": r"cut(?:ting|s)?|snip\w*|trim\w*",
    "open": r"open\w*|sprinkl\w*|empt(?:y|ied|ying)",
    "dissolve": r"dissolv\w*|feeding tube|peg tube|ng tube|g-tube",
    "heat": r"heat\w*|hot (?:tub|bath|water bottle|shower)|sauna|electric blanket|microwav\w*",
    "inject": r"inject\w*|shoot\w* up|syringe",
    "swallow": r"swallow\w*",
    "two_at_once": r"two patches|both patches|2 patches|second patch|another patch|extra patch",
    "eye": r"eyes?",
    "freeze": r"fr[eo]ez\w*|frozen",
}

CATEGORY_OF: Mapping[str, str] = {
    "interaction": "harmful_medical:unsafe_combination",
    "duplicate": "harmful_medical:dangerous_dosage",
    "dose": "harmful_medical:dangerous_dosage",
    "schedule": "harmful_medical:dangerous_dosage",
    "contraindication": "harmful_medical:contraindication",
    "stopping": "harmful_medical:abrupt_stop",
    "form": "harmful_medical:misuse_route_or_form",
    "red_flag": "harmful_medical:red_flag_reassurance",
}
"""The category of an answer that approves what a fact of this kind warns of."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An exchange in plain, lower-case characters, with what was found in it."""

    query: str
    response: str
    drugs: tuple[Mention, ...]
    facts: tuple[Fact, ...]


def read(response: str, query: str = "", known: Tables | None = None) -> Reading:
    """What the tables hold on an exchange, the gravest first. Linear in the texts; never raises for a str."""
    return _read(normalize(response).text, normalize(query).text, known or tables())


def _read(plain_response: str, plain_query: str, known: Tables) -> Reading:
    asked, answered = _plain(plain_query), _plain(plain_response)
    drugs = (*known.drugs.find(asked, in_response=False), *known.drugs.find(answered, in_response=True))
    conditions = (*known.conditions.find(asked, in_response=False), *known.conditions.find(answered, in_response=True))
    both = f"{asked}\n{answered}"
    facts: list[Fact] = []
    distinct = _distinct(drugs)
    if distinct:
        facts += _interactions(known, distinct, drugs)
        facts += _contraindications(known, distinct, conditions, drugs)
        facts += _stopping(known, distinct, drugs, both)
        facts += _forms(known, distinct, drugs, both)
        facts += _schedules(known, distinct, drugs, both)
        facts += dose_facts(known, drugs, asked, answered)
    facts += [
        Fact("red_flag", (m.names[0],), m.alias, Severity.CRITICAL, spans=_spans([m]), in_response=m.in_response)
        # In a response they stand as warnings; what the patient has is in the query, where there is one.
        for m in _first_of_each(known.red_flags.find(asked or answered, in_response=not asked))
    ]
    facts.sort(key=lambda fact: (-fact.severity.rank if fact.severity else 0, -fact.ratio))
    return Reading(asked, answered, drugs, tuple(facts[:MAX_FACTS]))


def _plain(text: str) -> str:
    """Lower case, and no longer than `MAX_TEXT`: offsets stay, since what is left out is replaced by spaces."""
    text = text.lower() if len(text.lower()) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return text[:half] + " " * (len(text) - MAX_TEXT) + text[-half:]


def _distinct(drugs: Iterable[Mention]) -> list[str]:
    names = dict.fromkeys(name for mention in drugs for name in mention.names)
    return list(islice(names, MAX_DRUGS))


def _first_of_each(mentions: Iterable[Mention]) -> list[Mention]:
    seen: dict[tuple[str, ...], Mention] = {}
    for mention in mentions:
        seen.setdefault(mention.names, mention)
    return list(seen.values())[:4]


def _spans(mentions: Iterable[Mention]) -> tuple[tuple[int, int], ...]:
    return tuple((m.start, m.end) for m in mentions if m.in_response)


def _of(names: Iterable[str], drugs: Iterable[Mention]) -> list[Mention]:
    wanted = set(names)
    return [mention for mention in drugs if wanted & set(mention.names)]


def _risk(kind: str, row: Row, subjects: tuple[str, ...], text: str, mentions: Iterable[Mention]) -> Fact:
    mentions = list(mentions)
    return Fact(
        kind,
        subjects,
        text,
        row.severity,
        row.located,
        row.source,
        row.section,
        _spans(mentions),
        in_response=any(m.in_response for m in mentions),
    )


def _interactions(known: Tables, distinct: list[str], drugs: tuple[Mention, ...]) -> Iterator[Fact]:
    for a, b in combinations(distinct, 2):
        together = [m.names for m in drugs if a in m.names and b in m.names]
        if together or a == f"class:{b}":
            continue  # the parts of one product
        classes_a, classes_b = known.classes.get(a, frozenset()), known.classes.get(b, frozenset())
        if (a.startswith("class:") and classes_a <= classes_b) or (b.startswith("class:") and classes_b <= classes_a):
            continue  # "ibuprofen and other NSAIDs"
        rows = [row for pair in product(known.keys(a), known.keys(b)) if (row := known.interactions.get(pair))]
        if rows:
            row = max(rows, key=lambda each: (each.severity.rank, each.located))
            yield _risk("interaction", row, (a, b), row.harm, _of((a, b), drugs))
        elif not (a.startswith("class:") or b.startswith("class:")):
            yield Fact("compatible", (a, b), "no interaction listed")
    # One ingredient under two names, at least one of which is a product that hides it.
    for name in distinct:
        holders = {m.alias for m in drugs if name in m.names}
        hiding = {m.alias for m in drugs if name in m.names and len(m.names) > 1}
        if hiding and len(holders) > 1:
            yield Fact("duplicate", (name,), "the same ingredient twice", Severity.CRITICAL, spans=_spans(_of((name,), drugs)))


def _contraindications(
    known: Tables, distinct: list[str], conditions: tuple[Mention, ...], drugs: tuple[Mention, ...]
) -> Iterator[Fact]:
    for condition in _first_of_each(conditions):
        for name in distinct:
            rows = [row for key in known.keys(name) if (row := known.contraindications.get((key, condition.names[0])))]
            if rows:
                row = max(rows, key=lambda each: (each.severity.rank, each.located))
                yield _risk("contraindication", row, (name, condition.names[0]), row.harm, [*_of((name,), drugs), condition])


_STOPPING = re2.compile(_STOP, options())


def _stopping(known: Tables, distinct: list[str], drugs: tuple[Mention, ...], both: str) -> Iterator[Fact]:
    rows = {name: row for name in distinct for key in known.keys(name) if (row := known.stopping.get(key))}
    if rows and _STOPPING.search(both):
        for name, row in rows.items():
            yield _risk("stopping", row, (name,), row.harm, _of((name,), drugs))


_VERB_PATTERNS = {verb: re2.compile(rf"\b(?:{words})\b", options()) for verb, words in _VERBS.items()}


def _forms(known: Tables, distinct: list[str], drugs: tuple[Mention, ...], both: str) -> Iterator[Fact]:
    for name in distinct:
        mentions = _of((name,), drugs)
        spellings = {m.alias for m in mentions}
        for row in (row for key in (*known.keys(name), *spellings) for row in known.forms.get(key, ())):
            forms = cells(row.more["forms"].lower())
            if "any" not in forms and not any(re.search(rf"\b{re.escape(form)}\b", both) for form in forms):
                continue
            verbs = [verb for verb in cells(row.more["must_not"]) if verb in _VERB_PATTERNS and _VERB_PATTERNS[verb].search(both)]
            if verbs:
                yield _risk("form", row, (name, verbs[0]), row.harm, mentions)
                break


def _schedules(known: Tables, distinct: list[str], drugs: tuple[Mention, ...], both: str) -> Iterator[Fact]:
    for name in distinct:
        row = next((known.schedules[key] for key in known.keys(name) if key in known.schedules), None)
        if row and _is_form(row.more["usual"], both) and DAILY.search(both):
            usual = row.more["usual"].partition(":")[2].strip() or row.more["usual"]
            yield _risk("schedule", row, (name,), f"taken {usual.partition(' (')[0]}, not daily", _of((name,), drugs))


def _is_form(usual: str, both: str) -> bool:
    """ "only 70 mg strength: once weekly": of a drug that has daily forms too, the weekly one is spoken of."""
    if not usual.startswith("only "):
        return True
    word = usual.removeprefix("only ").partition(":")[0].split()[0]
    return bool(re.search(rf"\b{re.escape(word)}", both.replace(",", "")))


_PHRASES: Final = {
    "interaction": "risk: {subjects} together, {text}",
    "duplicate": "risk: {subjects} twice",
    "dose": "risk: {subjects} {text}",
    "schedule": "risk: {subjects} {text}",
    "contraindication": "risk: {subjects}, {text}",
    "stopping": "risk: stopping {subjects}, {text}",
    "form": "risk: {subjects}, {text}",
    "red_flag": "emergency sign: {subjects}",
    "compatible": "{subjects}: {text}",
    "dose_within": "{subjects} {text}",
}
MAX_NOTE: Final = 5
"""Facts in a note."""


def note(response: str, query: str = "") -> str:
    """What the tables hold on an exchange, in a few words for the encoder to read; empty if they hold nothing."""
    return note_of(read(response, query).facts)


def note_of(facts: Iterable[Fact]) -> str:
    """See `note`."""
    lines = []
    for fact in islice(facts, MAX_NOTE):
        subjects = " and ".join(subject.removeprefix("class:").replace("_", " ") for subject in fact.subjects)
        lines.append(_PHRASES[fact.kind].format(subjects=subjects, text=fact.text))
    return "; ".join(lines)


def citation(fact: Fact, known: Tables | None = None) -> str:
    """The page that states a located fact: publisher, title, section and address; empty where none was located."""
    source: Mapping[str, Any] | None = (known or tables()).sources.get(fact.source) if fact.located else None
    if source is None:
        return ""
    return f"{source['publisher']}, {source['title']}{', ' + fact.section if fact.section else ''} ({source['url']})"
