"""RE2 expressions for texts that are searched many times over.

The binding's own `search` and `finditer` count characters in the text and build objects for each match, which costs several times
the search itself; asked for less, RE2 answers in less than a microsecond.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any, Final

import re2  # type: ignore[import-untyped]

from classifiers.rules.matching import options

_ANYWHERE: Final = re2._re2.RE2.Anchor.UNANCHORED
_Spans = list[tuple[int, int]]


class Scan:
    """One RE2 expression, in any case unless `chosen` says otherwise. Offsets are in characters of the text.

    Raises `re2.error`. Safe to share between threads.
    """

    def __init__(self, expression: str, chosen: re2.Options | None = None) -> None:
        compiled = re2.compile(expression, chosen or options())
        self._match: Any = compiled._regexp.Match
        self._groups: tuple[tuple[str, int], ...] = tuple(compiled.groupindex.items())

    def found(self, text: str) -> bool:
        data = text.encode()
        spans: _Spans = self._match(_ANYWHERE, data, 0, len(data))
        return spans[0][0] >= 0

    def span(self, text: str, group: int = 0) -> tuple[int, int] | None:
        """The first match, or the `group` in it that every match has."""
        data = text.encode()
        start, end = self._match(_ANYWHERE, data, 0, len(data))[group]
        if start < 0:
            return None
        return (start, end) if len(data) == len(text) else (_characters(data, start), _characters(data, end))

    def spans(self, text: str, most: int = sys.maxsize) -> _Spans:
        """The first `most` matches from left to right, none overlapping."""
        data = text.encode()
        found = [spans[0] for spans in self._all(data, most)]
        return found if len(data) == len(text) else [(_characters(data, start), _characters(data, end)) for start, end in found]

    def groups(self, text: str) -> dict[str, str] | None:
        """What stands in the named groups of the first match; an empty text for one that is not in it."""
        data = text.encode()
        spans: _Spans = self._match(_ANYWHERE, data, 0, len(data))
        return self._named(data, spans) if spans[0][0] >= 0 else None

    def without(self, text: str) -> str:
        """`text` with a space for each match."""
        parts, done = [], 0
        for start, end in self.spans(text):
            parts.append(text[done:start])
            done = end
        return " ".join((*parts, text[done:])) if parts else text

    def _named(self, data: bytes, spans: _Spans) -> dict[str, str]:
        return {name: data[slice(*spans[at])].decode() if spans[at][0] >= 0 else "" for name, at in self._groups}

    def _all(self, data: bytes, most: int) -> list[_Spans]:
        at, match, length = 0, self._match, len(data)
        found: list[_Spans] = []
        while at <= length and len(found) < most:
            spans: _Spans = match(_ANYWHERE, data, at, length)
            start, end = spans[0]
            if start < 0:
                break
            found.append(spans)
            at = end if end > at else end + 1
        return found


class Gated:
    """A pattern of `re`, run only where RE2 finds it, or `gate`, which must match wherever the pattern does in ASCII text."""

    def __init__(self, pattern: str, gate: str = "") -> None:
        self._pattern = re.compile(pattern)
        self._gate = Scan(gate or pattern)

    def search(self, text: str) -> re.Match[str] | None:
        # Beyond ASCII, the two do not mean the same by a letter or a digit.
        if not text.isascii():
            return self._pattern.search(text)
        found = self._gate.span(text)
        return self._pattern.search(text, found[0]) if found else None

    def all(self, text: str) -> Iterator[re.Match[str]]:
        """Every match from left to right."""
        if first := self.search(text):
            yield from self._pattern.finditer(text, first.start())


def _characters(data: bytes, end: int) -> int:
    return len(data[:end].decode())
