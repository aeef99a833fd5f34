"""Personal data out of a text: each value becomes a placeholder, `[EMAIL_1]`, the same one wherever it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from classifiers.allow_list import AllowList, comparable
from classifiers.rules.matching import Budget
from classifiers.rules.rule import CompiledRule
from classifiers.text import Normalized, normalize

ROUNDS: Final = 8
"""What is taken out may have hidden something beside it, so a text is searched until nothing is found."""
_PLACEHOLDER: Final = re.compile(r"\[([A-Z]+(?:_[A-Z]+)*)_(\d{1,9})\]")


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
    """`text` without the personal data that the rules of PII know, but for what `allow` lists. Idempotent.

    Names are not looked for. Placeholders that stand in the text already are left, and their numbers are not given again.
    """
    numbers: dict[str, int] = {}
    for kind, number in _PLACEHOLDER.findall(text):
        numbers[kind] = max(numbers.get(kind, 0), int(number))
    known: dict[tuple[str, str], str] = {}
    spans: list[Redaction] = []
    current = text
    for _ in range(ROUNDS):
        current = _replaced(text, spans)
        found = list(_found(current, allow))
        if not found:
            break
        shift = _Shift(spans)
        for start, end, category in found:
            kind = category.partition(":")[2].upper() or "PERSONAL"
            key = (kind, comparable(current[start:end]))
            if key not in known:
                numbers[kind] = numbers.get(kind, 0) + 1
                known[key] = f"[{kind}_{numbers[kind]}]"
            spans.append(Redaction(known[key], category, *shift.original(start, end)))
        spans.sort(key=lambda span: span.start)
    return Redacted(_replaced(text, spans), tuple(spans))


def _found(text: str, allow: AllowList | None) -> Iterator[tuple[int, int, str]]:
    """Personal data in `text`, from left to right, none overlapping and none of it a placeholder."""
    plain: Normalized = normalize(text)
    taken = [match.span() for match in _PLACEHOLDER.finditer(text)]
    hits: list[tuple[int, int, str]] = []
    for rule in _rules():
        for pattern in rule.patterns:
            for span in rule.find(pattern, plain.text, Budget(len(plain.text) + 1)):
                # Where a gap stands in a pattern, its last part is the value, and the rest is what it is called.
                value = span.gaps[-1][1] if span.gaps else span.start
                if allow is not None and allow.covers(plain.text, value, span.end):
                    continue
                start, end = plain.original_span(value, span.end)
                # A pattern begins at a letter or digit: what opens a telephone number stands before it.
                if text[start - 1 : start] == "(" and ")" in text[start:end]:
                    start -= 1
                if text[start - 1 : start] == "+":
                    start -= 1
                if start < end and all(end <= a or b <= start for a, b in taken):
                    hits.append((start, end, rule.rule.category))
    last = 0
    for start, end, category in sorted(hits, key=lambda hit: (hit[0], -hit[1])):
        if start >= last:
            yield start, end, category
            last = end


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
def _rules() -> tuple[CompiledRule, ...]:
    from classifiers.rule_based import PII_PATTERNS

    return tuple(CompiledRule(rule) for rule in PII_PATTERNS)
