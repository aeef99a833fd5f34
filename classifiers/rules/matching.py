"""Patterns on RE2: short anchors in order, with a bounded number of words between them.

A pattern is an RE2 expression (https://github.com/google/re2/wiki/Syntax), read without regard to case, on whole words.
A space in it, but in brackets, stands for any whitespace, quotes or Markdown emphasis. ` ... ` stands for at most eight
words of the same sentence, ` ...3 ` for at most three; it may not stand inside parentheses. Gaps are counted here and not
by the expression, since a wide gap in an automaton is slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import re2  # type: ignore[import-untyped]

GAP_WORDS: Final = 8
MAX_PROGRAM: Final = 2_000
"""RE2 instructions in one anchor. Wide counted repeats (`.{0,80}`) go beyond it; what an anchor needs is a tenth."""
_GAP_CHARACTERS: Final = 24
"""Characters that one word of a gap may take, with the space before it: a bound on what is searched after an anchor."""
_GAP = re.compile(r" \.\.\.(\d*) ")
_SPACE = re.compile(r"(\\.|\[[^\]]*\])| ")
"""A space, or what a space may stand in without being one of the pattern's."""
_ANY_SPACE: Final = r"(?:[\s*_\"`]+)"
_START: Final = r"\b"
_END: Final = r"(?:\b|$)"
_WORD = re.compile(r"[^\s*_]+")


class PatternError(ValueError):
    """A pattern that RE2 refuses, that matches nothing at all, or that is too wide. The message says which and why."""


class TooManyCandidates(Exception):
    """The text holds more places to examine than any answer to a patient would."""


class Budget:
    """How much work one text may cause, in places that are looked at: a hostile text costs no more than a long one."""

    def __init__(self, places: int) -> None:
        self.left = places

    def spend(self, places: int = 1) -> None:
        """Raises TooManyCandidates when nothing is left."""
        self.left -= places
        if self.left < 0:
            raise TooManyCandidates


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end`, and the gaps within that no anchor covers, as (start, end)."""

    start: int
    end: int
    gaps: tuple[tuple[int, int], ...] = ()


def options() -> re2.Options:
    """As every pattern is compiled: any case, errors raised and not printed."""
    chosen = re2.Options()
    chosen.case_sensitive = False
    chosen.log_errors = False
    return chosen


class Pattern:
    """One compiled pattern. `anchors` are the expressions that must all match if it does: what goes into a `re2.Set`.

    Raises PatternError.
    """

    def __init__(self, source: str) -> None:
        pieces = _GAP.split(source)
        self.anchors = tuple(_anchor(piece) for piece in pieces[::2])
        self._widths = tuple(int(words or GAP_WORDS) for words in pieces[1::2])
        self._compiled = tuple(_compile(anchor, source) for anchor in self.anchors)

    def find(self, text: str, budget: Budget, sentence_end: re.Pattern[str]) -> Iterator[Span]:
        """Where the pattern matches, from left to right, none overlapping. Raises TooManyCandidates."""
        done = 0
        for first in self._compiled[0].finditer(text):
            start, end = first.span()
            if start < done:
                continue
            budget.spend()
            gaps: list[tuple[int, int]] = []
            for anchor, words in zip(self._compiled[1:], self._widths, strict=True):
                # Searched in a slice: with `pos`, the binding would encode all of the text each time.
                window = text[end : end + _GAP_CHARACTERS * (words + 1) + 80]
                following = anchor.search(window)
                if following is None:
                    break
                gap = window[: following.start()]
                if len(_WORD.findall(gap)) > words or sentence_end.search(gap):
                    break
                gaps.append((end, end + following.start()))
                end += following.end()
            else:
                done = end
                yield Span(start, end, tuple(gaps))

    def search(self, text: str, sentence_end: re.Pattern[str]) -> Iterator[Span]:
        """`find` in a text that is short already, such as a sentence."""
        return self.find(text, Budget(len(text) + 1), sentence_end)


def _anchor(piece: str) -> str:
    return f"{_START}(?:{_SPACE.sub(lambda match: match[1] or _ANY_SPACE, piece)}){_END}"


def _compile(anchor: str, source: str) -> Any:
    try:
        compiled = re2.compile(anchor, options())
    except re2.error as error:
        raise PatternError(f"pattern {source!r}: {_why(error)}") from None
    if compiled.programsize > MAX_PROGRAM:
        raise PatternError(f"pattern {source!r} is too wide for a fast scan; write ' ... ' for words in between")
    if re2.fullmatch(anchor.removeprefix(_START).removesuffix(_END), ""):
        raise PatternError(f"pattern {source!r} matches where there is nothing")
    return compiled


def _why(error: Exception) -> str:
    reason = error.args[0] if error.args else "invalid"
    return reason.decode() if isinstance(reason, bytes) else str(reason)
