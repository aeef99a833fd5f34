"""The text of guidelines: what ships, which one covers a category, how it is shown and what a change changed. Pure, no HTML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path

from classifiers.result import CATEGORIES, family_of

_FILE = Path(__file__).with_name("guidelines.toml")
_LEAD = re.compile(r"[^\W\d_][\w ]{0,24}:(?=\s|$)")
_TOKENS = re.compile(r"\n- |\n|[^\S\n]+|\w+|[^\w\s]")


@cache
def shipped() -> Mapping[str, str]:
    """The text of version 0 of every guideline, in the order of the file."""
    texts: dict[str, str] = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {category: text.strip() for category, text in texts.items()}


def guideline_of(category: str) -> str:
    """The category whose guideline covers this one: its own, else its family's; empty if there is none."""
    return next((name for name in (category, family_of(category)) if name in shipped()), "")


def covered_by(guideline: str) -> list[str]:
    """The categories that the guideline of this category covers."""
    return [category for category in CATEGORIES if guideline_of(category) == guideline]


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph of lines, or with `is_list` a list of points."""

    lines: Sequence[str]
    is_list: bool = False

    @property
    def parts(self) -> list[tuple[str, str]]:
        """Each line as (what it leads with, the rest): "Does not count:", "critical:"; mostly nothing leads."""
        return [(lead[0], line[lead.end() :]) if (lead := _LEAD.match(line)) else ("", line) for line in self.lines]


def blocks(text: str) -> list[Block]:
    """Plain text as paragraphs and lists: a blank line parts paragraphs, and a line that begins with "- " is a point."""
    found: list[tuple[bool, list[str]]] = []
    after_blank = True
    for line in text.splitlines():
        is_point = line.startswith("- ")
        said = line[2:].strip() if is_point else line.strip()
        if said and (after_blank or found[-1][0] != is_point):
            found.append((is_point, []))
        if said:
            found[-1][1].append(said)
        after_blank = not said
    return [Block(lines, is_list) for is_list, lines in found]


@dataclass(frozen=True, slots=True)
class Change:
    """A stretch of text that stayed (`same`), came (`added`) or went (`removed`)."""

    kind: str
    text: str


def changes(before: str, after: str) -> list[Change]:
    """What became of a text, word by word; together `same` and `added` are the new text, `same` and `removed` the old one."""
    old, new = _TOKENS.findall(before), _TOKENS.findall(after)
    found: list[Change] = []
    for tag, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            found.append(Change("same", "".join(old[i:j])))
            continue
        if i < j:
            found.append(Change("removed", "".join(old[i:j])))
        if k < m:
            found.append(Change("added", "".join(new[k:m])))
    return found
