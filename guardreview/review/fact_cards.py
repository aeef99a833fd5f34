"""What the rules layer said of drug facts, read back from its stored reason: what was read, the limit or pair, the source. Pure.

The reason is the text of then; the tables may have changed since.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from classifiers.drugs.findings import PREFIX

KINDS: Mapping[str, str] = {
    "dose": "Dose past its limit",
    "interaction": "Pair that clashes",
    "duplicate": "Same ingredient twice",
    "schedule": "Wrong interval",
    "contraindication": "Must not have it",
    "stopping": "Stopping is dangerous",
    "form": "Form must not be changed",
    "red_flag": "Warning sign",
}
_RULE = re.compile(r"[a-z][a-z0-9_.-]*")
_CITED = re.compile(r"(?P<said>.*); (?P<source>.*) \((?P<url>https?://[^\s()]+)\)", re.DOTALL)
_DOSE = re.compile(r"(?P<drug>.+?) (?P<read>\d[\d.e+-]* \S+(?: .+?)?), limit (?P<limit>.+)", re.DOTALL)
_SCHEDULE = re.compile(r"(?P<drug>.+?) taken (?P<limit>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FactCard:
    """One drug fact that the response approves against. `source` and `url` are empty where no source was located."""

    rule: str
    kind: str
    drug: str
    read: str
    limit: str
    source: str = ""
    url: str = ""


def rules_in(reason: str) -> dict[str, str]:
    """The rules that a reason of the rules layer names, in its order, each with its note or an empty one."""
    _, _, rest = reason.partition(": ")
    found: dict[str, str] = {}
    while name := _RULE.match(rest):
        rest = rest[name.end() :]
        note = ""
        if rest.startswith(" ("):
            end = _closing(rest, 1)
            note, rest = rest[2:end], rest[end + 1 :]
        found[name.group()] = note
        if not rest.startswith(", "):
            break
        rest = rest[2:]
    return found


def fact_cards(reason: str) -> list[FactCard]:
    """A card for each drug fact in a reason of the rules layer."""
    return [_card(rule, note) for rule, note in rules_in(reason).items() if rule.startswith(PREFIX) and note]


def without_notes(reason: str) -> str:
    """A reason of the rules layer, only with the names of its rules; any other as it is."""
    if PREFIX not in reason:
        return reason
    said, _, _ = reason.partition(": ")
    return f"{said}: {', '.join(rules_in(reason))}"


def _card(rule: str, note: str) -> FactCard:
    kind = rule.removeprefix(PREFIX)
    cited = _CITED.fullmatch(note)
    said = cited["said"] if cited else note
    parts = {"dose": _DOSE, "schedule": _SCHEDULE}.get(kind)
    match = parts.fullmatch(said) if parts else None
    if match:
        read, drug, limit = match.groupdict().get("read") or "", match["drug"], match["limit"]
        if read:  # both are in the same unit, which only what was read names
            most, _, whose = limit.partition(" ")
            limit = " ".join(filter(None, [most, read.partition(" ")[2], whose]))
    else:
        drug, _, limit = said.partition(": ")
        read = ""
    source, url = (cited["source"], cited["url"]) if cited else ("", "")
    return FactCard(rule, KINDS.get(kind, kind.replace("_", " ").capitalize()), drug, read, limit, source, url)


def _closing(text: str, opening: int) -> int:
    """Where the bracket that opens at `opening` closes; the end of the text, if it does not."""
    depth = 0
    for at in range(opening, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if not depth:
            return at
    return len(text)
