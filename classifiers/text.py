"""One plain spelling for the patterns to read, with the way back to the characters of the original."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

# Characters that render as nothing, yet split a word for a pattern: soft hyphen, zero-width and bidi controls, joiners,
# variation selectors, Hangul fillers, tag characters, and the box around an emoji digit.
_INVISIBLE = frozenset(
    map(
        chr,
        chain(
            [0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x20E3, 0x3164, 0xFEFF, 0xFFA0],
            range(0x180B, 0x1810),
            range(0x200B, 0x2010),
            range(0x202A, 0x202F),
            range(0x2060, 0x2070),
            range(0xFE00, 0xFE10),
            range(0xE0000, 0xE1000),
        ),
    )
)
_PLAIN = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4\u02b9\u02bb\u02bc\u02bd", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
    # The em dash stays: it separates clauses, where a hyphen joins words.
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
    **dict.fromkeys("\u00a0\u1680\u202f\u205f\u3000\u0085" + "".join(map(chr, range(0x2000, 0x200B))), " "),
    **dict.fromkeys("\u2028\u2029", "\n"),
}
# An ASCII character goes with what follows it, since a combining mark may compose with it.
_NON_ASCII = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]+")
_CHANGED = _INVISIBLE | _PLAIN.keys() | set(map(chr, range(0xD800, 0xE000)))
"""What NFKC leaves and `normalize` does not."""
_SHORT = 8
"""Characters of a cluster whose reading is remembered: a letter with a few marks."""


Edit = tuple[int, int, str]
"""(start, end, replacement), in characters of the text that it changes."""


@dataclass(frozen=True, slots=True)
class Normalized:
    """`text` is plain; `offsets[i]` is where its character i begins in the original; `offsets[-1]` is the original's length.

    Never decreasing, one longer than `text`.
    """

    text: str
    offsets: Sequence[int]

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original, in characters, that was read as `text[start:end]`. It is empty only if that is.

        A character that reads as several ("\ufb01" as "fi") is taken whole. Invisible characters after the last are included.
        """
        if start >= end:
            return self.offsets[start], self.offsets[start]
        last = self.offsets[end - 1]
        while self.offsets[end] == last:
            end += 1
        return self.offsets[start], self.offsets[end]

    def edited(self, edits: Iterable[Edit]) -> Normalized:
        """With the edits made, which neither overlap nor go back. A replacement as long as what it replaces keeps its offsets."""
        parts: list[str] = []
        offsets: list[int] = []
        done = 0
        for start, end, replacement in edits:
            parts += (self.text[done:start], replacement)
            offsets.extend(self.offsets[done:start])
            kept = len(replacement) == end - start
            offsets.extend(self.offsets[start:end] if kept else [self.offsets[start]] * len(replacement))
            done = end
        parts.append(self.text[done:])
        offsets.extend(self.offsets[done:])
        return Normalized("".join(parts), offsets)

    def between(self, start: int, end: int) -> str:
        """The part that was read from the characters `start` to `end` of the original."""
        return self.text[bisect_left(self.offsets, start) : bisect_left(self.offsets, end)]


def normalize(text: str) -> Normalized:
    """NFKC, invisible characters gone, quotes and hyphens straight, each kind of space a space. Idempotent, linear.

    ASCII text comes back as it is. A lone surrogate, which no encoder accepts, reads as U+FFFD.
    """
    if text.isascii():
        return Normalized(text, range(len(text) + 1))
    parts: list[str] = []
    offsets: list[int] = []
    done = 0
    for run in _NON_ASCII.finditer(text):
        if unicodedata.is_normalized("NFKC", run[0]) and _CHANGED.isdisjoint(run[0]):
            continue
        parts.append(text[done : run.start()])
        offsets.extend(range(done, run.start()))
        for start, cluster in _clusters(run[0], run.start()):
            plain = _read(cluster) if len(cluster) < _SHORT else _read.__wrapped__(cluster)
            parts.append(plain)
            offsets.extend([start] * len(plain))
        done = run.end()
    parts.append(text[done:])
    offsets.extend(range(done, len(text) + 1))
    return Normalized("".join(parts), offsets)


_TABLE_ROW = re.compile(r"^[ \t]*\|.*\|[ \t]*$", re.MULTILINE)
_RULE_ROW = re.compile(r"[ \t|:-]+")
_CELLS = 400
_HEADER = 60
"""Cells of tables, and characters of a header, that are looked at."""


def with_headers(plain: Normalized) -> Normalized | None:
    """With the header of its column before each cell of a Markdown table ("| MRN |" above "| 4471 |" reads "MRN: 4471"), since it
    says what the cell is. None where there is no table.
    """
    edits: list[Edit] = []
    headers: list[str] = []
    end_before = -1
    for row in _TABLE_ROW.finditer(plain.text) if "|" in plain.text else ():
        cells = list(re.finditer(r"[^|]+", row[0].strip(" \t")))
        if row.start() != end_before + 1:
            headers = []
        end_before = row.end()
        if not headers:
            headers = [cell[0].strip(" *_")[:_HEADER] for cell in cells]
        elif not _RULE_ROW.fullmatch(row[0]):
            begin = row.start() + len(row[0]) - len(row[0].lstrip(" \t"))
            edits += [
                (begin + cell.start(), begin + cell.start(), f" {header}:")
                for header, cell in zip(headers, cells, strict=False)
                if header
            ]
    return plain.edited(edits[:_CELLS]) if edits else None


@lru_cache(maxsize=4096)
def _read(cluster: str) -> str:
    return "".join(_PLAIN.get(char, char) for char in unicodedata.normalize("NFKC", cluster) if char not in _INVISIBLE)


@lru_cache(maxsize=4096)
def _combines(char: str) -> bool:
    # A halfwidth voiced mark is no combining mark before NFKC, and is one after.
    return bool(unicodedata.combining(unicodedata.normalize("NFKC", char)[0]))


def _clusters(run: str, start: int) -> list[tuple[int, str]]:
    """The visible characters of `run`, each with the combining marks after it, and where it begins (`run` begins at `start`)."""
    clusters: list[tuple[int, str]] = []
    for index, char in enumerate(run, start):
        if char in _INVISIBLE:
            continue
        if "\ud800" <= char <= "\udfff":
            char = "\ufffd"
        char = _PLAIN.get(char, char)
        if clusters and not char.isascii() and _combines(char):
            clusters[-1] = (clusters[-1][0], clusters[-1][1] + char)
        else:
            clusters.append((index, char))
    return clusters
