"""The model's text made inert and readable: hidden characters shown, masks in place, evidence in segments. Pure, no HTML."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from guardreview.verdicts.models import LayerResult

# Characters that cannot be seen, or that reorder what can: C0/C1 controls but for tab and line ends, format characters,
# fillers, and the tag characters in which whole sentences can be smuggled.
_HIDDEN = (
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_SHORT = {
    0x00AD: "SHY", 0x061C: "ALM", 0x200B: "ZWSP", 0x200C: "ZWNJ", 0x200D: "ZWJ", 0x200E: "LRM", 0x200F: "RLM",
    0x2028: "LSEP", 0x2029: "PSEP", 0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF", 0x202D: "LRO", 0x202E: "RLO",
    0x2060: "WJ", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xFEFF: "BOM",
}  # fmt: skip
_CUT = re.compile(f"{_HIDDEN}|\r\n?")
_TAGS = range(0xE0020, 0xE007F)
_JOINERS = "\u200c\u200d"
QUOTED = 360
"""Characters of a finding's span that its quote is made from."""


@dataclass(frozen=True, slots=True)
class Mask:
    """The characters `start` to `end` of a text, which are not shown, and what they are in words."""

    start: int
    end: int
    words: str


@dataclass(frozen=True, slots=True)
class Piece:
    """What is shown for the characters `start` to `end` of a text.

    With `name`, one that stands for something else: for hidden characters, or if `masked`, for personal data.
    """

    text: str
    name: str = ""
    start: int = 0
    end: int = 0
    masked: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether it shows just what stands there, character for character."""
        return not self.name and len(self.text) == self.end - self.start


def pieces(text: str, masks: Iterable[Mask] = (), *, start: int = 0, end: int | None = None) -> list[Piece]:
    """The characters `start` to `end` of a text in stretches: hidden characters made visible, each mask one piece.

    `masks`: in order, none overlapping. One that `start` or `end` would cut is shown whole.
    """
    end = len(text) if end is None else min(end, len(text))
    found: list[Piece] = []
    at = start
    for mask in masks:
        if mask.end <= start or mask.start >= end:
            continue
        found.extend(_unmasked(text, at, mask.start))
        found.append(Piece(mask.words, "personal data", mask.start, mask.end, masked=True))
        at = mask.end
    found.extend(_unmasked(text, at, end))
    return found


def _unmasked(text: str, begin: int, end: int) -> Iterable[Piece]:
    for match in _CUT.finditer(text, begin, max(begin, end)):
        run = match.group()
        if len(run) == 1 and run in _JOINERS and _joins(text, match.start()):
            continue
        if match.start() > begin:
            yield Piece(text[begin : match.start()], "", begin, match.start())
        # A browser reads each of a page's carriage returns as a line feed, and the two together as one.
        yield from [Piece("\n", "", *match.span())] if run[0] == "\r" else _revealed(run, match.start())
        begin = match.end()
    if begin < end:
        yield Piece(text[begin:end], "", begin, end)


def _joins(text: str, at: int) -> bool:
    """A joiner between two letters of a script that needs it, or two parts of one emoji, is spelling."""
    return 0 < at < len(text) - 1 and min(ord(text[at - 1]), ord(text[at + 1])) >= 0x0590


def _revealed(run: str, at: int) -> Iterable[Piece]:
    for is_tag, characters in groupby(run, key=lambda character: ord(character) in _TAGS):
        if is_tag:
            hidden = "".join(chr(ord(character) - 0xE0000) for character in characters)
            yield Piece(f"hidden: {hidden}", "text in invisible tag characters", at, at + len(hidden))
            at += len(hidden)
            continue
        for character, repeats in groupby(characters):
            count = len(list(repeats))
            short = _SHORT.get(ord(character), f"U+{ord(character):04X}")
            name = unicodedata.name(character, "control character").lower()
            yield Piece(short if count == 1 else f"{short} ×{count}", name, at, at + count)
            at += count


def excerpt(text: str, limit: int = 180) -> str:
    """The beginning of a text on one line, hidden characters marked, nothing masked: for texts that hold no patient's words."""
    return one_line(pieces(text, end=4 * limit), limit, more=len(text) > 4 * limit)


def one_line(found: Iterable[Piece], limit: int, *, more: bool) -> str:
    """Pieces on one line of at most `limit` characters, those that stand for something else in brackets. `more`: text follows."""
    line = " ".join("".join(f"[{piece.text}]" if piece.name else piece.text for piece in found).split())
    return f"{line[:limit].rstrip()}…" if more or len(line) > limit else line


@dataclass(frozen=True, slots=True)
class Finding:
    """A span of the response that a layer holds against it; `number` links it to its place in the text."""

    number: int
    layer: str
    rule: str
    category: str
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the response over which the same findings hold; `begins`: those that begin here."""

    pieces: list[Piece]
    findings: tuple[int, ...] = ()
    begins: tuple[int, ...] = ()
    layers: tuple[str, ...] = ()


def findings_of(results: Iterable[LayerResult], response: str, masks: Sequence[Mask] = ()) -> list[Finding]:
    """The evidence of all layers, by place, quoted with its masks; a span that does not lie in the response is left out."""
    spans = [
        (evidence["start"], evidence["end"], result.layer, evidence)
        for result in results
        for evidence in result.evidence
        if 0 <= evidence["start"] < evidence["end"] <= len(response)
    ]
    spans.sort(key=lambda span: (span[0], -span[1]))
    return [
        Finding(
            number=number,
            layer=layer,
            rule=evidence["rule"],
            category=evidence.get("category", ""),
            start=start,
            end=end,
            quote=one_line(pieces(response, masks, start=start, end=min(end, start + QUOTED)), 90, more=end > start + QUOTED),
        )
        for number, (start, end, layer, evidence) in enumerate(spans, start=1)
    ]


def segments(text: str, findings: Sequence[Finding], masks: Sequence[Mask] = ()) -> list[Segment]:
    """The text cut wherever a finding begins or ends, so that overlapping ones are told apart; a mask is never cut."""
    starts = [mask.start for mask in masks]
    cuts = {0, len(text)}
    for cut in (edge for finding in findings for edge in (finding.start, finding.end)):
        at = bisect_left(starts, cut) - 1
        inside = at >= 0 and cut < masks[at].end
        cuts |= {masks[at].start, masks[at].end} if inside else {cut}
    found: list[Segment] = []
    begun: set[int] = set()
    for start, end in pairwise(sorted(cuts)):
        over = [finding for finding in findings if finding.start < end and start < finding.end]
        begins = [finding.number for finding in over if finding.number not in begun]
        begun.update(begins)
        found.append(
            Segment(
                pieces=pieces(text, masks, start=start, end=end),
                findings=tuple(finding.number for finding in over),
                begins=tuple(begins),
                layers=tuple(dict.fromkeys(finding.layer for finding in over)),
            )
        )
    return found
