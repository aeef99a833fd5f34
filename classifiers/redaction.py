"""Personal data out of a text: each value becomes a placeholder, `[EMAIL_1]`, the same one wherever it stands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from classifiers import rule_based
from classifiers.allow_list import AllowList, comparable
from classifiers.rules.matching import Budget, Pattern, TooManyCandidates
from classifiers.rules.rule import CompiledRule
from classifiers.text import normalize

ROUNDS: Final = 8
"""What is taken out may have hidden something beside it, so a text is searched until nothing is found, so many times at most."""
_PLACEHOLDER: Final = re.compile(r"\[([A-Z]+(?:_[A-Z]+)*)_(\d{1,9})\]")


class RedactionError(RuntimeError):
    """A text could not be searched to the end: some of its personal data may still be in it. The message holds none."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """The characters `start` to `end` of the original, which `placeholder` stands for."""

    placeholder: str
    category: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Redacted:
    """`text` holds placeholders; `spans` say what of the original they stand for, in order, none overlapping."""

    text: str
    spans: tuple[Redaction, ...]


def redact(text: str, allow: AllowList | None = None) -> Redacted:
    """`text` without the personal data that the rules of PII find in it, but for what `allow` lists. Idempotent.

    Names are not looked for, and what cannot be read (`Reading.unreadable`) is left. Placeholders that stand in the text already
    are left, and their numbers are not given again. Raises RedactionError.
    """
    numbers: dict[str, int] = {}
    for kind, number in _PLACEHOLDER.findall(text):
        numbers[kind] = max(numbers.get(kind, 0), int(number))
    known: dict[tuple[str, str], str] = {}
    spans: list[Redaction] = []
    current = text
    for _ in range(ROUNDS):
        current = _replaced(text, spans)
        try:
            found = _found(current, allow)
        except TooManyCandidates:
            raise RedactionError("too many places to examine") from None
        if not found:
            return Redacted(current, tuple(spans))
        shift = _Shift(spans)
        for hit in found:
            kind = hit.category.partition(":")[2].upper() or "PERSONAL"
            key = (kind, comparable(hit.value))
            if key not in known:
                numbers[kind] = numbers.get(kind, 0) + 1
                known[key] = f"[{kind}_{numbers[kind]}]"
            spans.append(Redaction(known[key], hit.category, *shift.original(hit.start, hit.end)))
        spans.sort(key=lambda span: span.start)
    raise RedactionError(f"personal data was found in {ROUNDS} rounds, and may be left")


def _found(text: str, allow: AllowList | None) -> list[_Hit]:
    """Personal data in `text`, from left to right, none of it a placeholder; what overlaps is one. Raises TooManyCandidates."""
    plain = normalize(text)
    taken = [match.span() for match in _PLACEHOLDER.finditer(text)]
    hits: list[_Hit] = []
    for view in rule_based.readings(plain, rule_based.RuleBasedClassifier.default().speller.read(plain)):
        for rule, pattern in _searches():
            for span in rule.find(pattern, view.text, Budget(len(view.text) + 1)):
                if allow is not None and allow.covers(view.text, span.start, span.end):
                    continue
                # Where a gap stands in a pattern, its last part is the value, and the rest is what it is called.
                value = span.gaps[-1][1] if span.gaps else span.start
                start, end = view.original_span(value, span.end)
                start += len(text[start:end]) - len(text[start:end].lstrip())
                end -= len(text[start:end]) - len(text[start:end].rstrip())
                # A pattern begins at a letter or digit: what opens a telephone number stands before it.
                if text[start - 1 : start] == "(" and ")" in text[start:end]:
                    start -= 1
                if text[start - 1 : start] == "+":
                    start -= 1
                # One character is no value: a column's header is read as the first of each cell, and the header itself is found.
                if end - start > 1 and all(end <= a or b <= start for a, b in taken):
                    hits.append(_Hit(start, end, rule.rule.category, view.text[value : span.end]))
    merged: list[_Hit] = []
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end)):
        if merged and hit.start < merged[-1].end:
            before = merged.pop()
            longer = max(before, hit, key=lambda hit: hit.end - hit.start)
            hit = longer._replace(start=before.start, end=max(before.end, hit.end))
        merged.append(hit)
    return merged


class _Hit(NamedTuple):
    """The characters `start` to `end` of the text that was searched, and how they read."""

    start: int
    end: int
    category: str
    value: str


class _Shift:
    """From characters of a text with placeholders to those of the original."""

    def __init__(self, spans: list[Redaction]) -> None:
        self._spans = tuple(spans)

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Where a span that holds no placeholder stands in the original."""
        shift = 0
        for span in self._spans:
            if span.start + shift >= start:
                break
            shift += len(span.placeholder) - (span.end - span.start)
        return start - shift, end - shift


def _replaced(text: str, spans: list[Redaction]) -> str:
    parts: list[str] = []
    done = 0
    for span in spans:
        parts += (text[done : span.start], span.placeholder)
        done = span.end
    return "".join((*parts, text[done:]))


@cache
def _searches() -> tuple[tuple[CompiledRule, Pattern], ...]:
    return tuple((rule, pattern) for rule in map(CompiledRule, rule_based.PII_PATTERNS) for pattern in rule.patterns)
