"""The model's text made inert and readable: hidden characters shown, evidence cut into segments. Pure, no HTML."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from guardreview.verdicts.models import LayerResult

# Characters that cannot be seen, or that reorder what can: C0/C1 controls but for tab and line ends, format characters,
# fillers, and the tag characters in which whole sentences can be smuggled.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_SHORT = {
    0x00AD: "SHY", 0x061C: "ALM", 0x200B: "ZWSP", 0x200C: "ZWNJ", 0x200D: "ZWJ", 0x200E: "LRM", 0x200F: "RLM",
    0x2028: "LSEP", 0x2029: "PSEP", 0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF", 0x202D: "LRO", 0x202E: "RLO",
    0x2060: "WJ", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xFEFF: "BOM",
}  # fmt: skip
_TAGS = range(0xE0020, 0xE007F)
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text; with `name`, one of hidden characters, and `text` is what stands in their place."""

    text: str
    name: str = ""


def pieces(text: str) -> list[Piece]:
    """The text in stretches, each run of hidden characters made visible."""
    found: list[Piece] = []
    begin = 0
    for match in _HIDDEN.finditer(text):
        run = match.group()
        if len(run) == 1 and run in _JOINERS and _joins(text, match.start()):
            continue
        if match.start() > begin:
            found.append(Piece(text[begin : match.start()]))
        found.extend(_revealed(run))
        begin = match.end()
    if begin < len(text):
        found.append(Piece(text[begin:]))
    return found


def _joins(text: str, at: int) -> bool:
    """A joiner between two letters of a script that needs it, or two parts of one emoji, is spelling."""
    return 0 < at < len(text) - 1 and min(ord(text[at - 1]), ord(text[at + 1])) >= 0x0590


def _revealed(run: str) -> Iterable[Piece]:
    for is_tag, characters in groupby(run, key=lambda character: ord(character) in _TAGS):
        if is_tag:
            hidden = "".join(chr(ord(character) - 0xE0000) for character in characters)
            yield Piece(f"hidden: {hidden}", "text in invisible tag characters")
            continue
        for character, repeats in groupby(characters):
            count = len(list(repeats))
            short = _SHORT.get(ord(character), f"U+{ord(character):04X}")
            name = unicodedata.name(character, "control character").lower()
            yield Piece(short if count == 1 else f"{short} ×{count}", name)


def excerpt(text: str, limit: int = 180) -> str:
    """The beginning of a text on one line, hidden characters marked."""
    line = "".join(f"[{piece.text}]" if piece.name else piece.text for piece in pieces(text[: 4 * limit]))
    line = " ".join(line.split())
    return line if len(line) <= limit and len(text) <= 4 * limit else f"{line[:limit].rstrip()}…"


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


def findings_of(results: Iterable[LayerResult], length: int) -> list[Finding]:
    """The evidence of all layers, by place; a span that does not lie in a response of `length` characters is left out."""
    spans = [
        (evidence["start"], evidence["end"], result.layer, evidence)
        for result in results
        for evidence in result.evidence
        if 0 <= evidence["start"] < evidence["end"] <= length
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
            quote=excerpt(evidence["text"], 90),
        )
        for number, (start, end, layer, evidence) in enumerate(spans, start=1)
    ]


def segments(text: str, findings: Sequence[Finding]) -> list[Segment]:
    """The text cut wherever a finding begins or ends, so that overlapping ones are told apart."""
    cuts = sorted({0, len(text), *(f.start for f in findings), *(f.end for f in findings)})
    found = []
    for start, end in pairwise(cuts):
        over = [finding for finding in findings if finding.start <= start and end <= finding.end]
        found.append(
            Segment(
                pieces=pieces(text[start:end]),
                findings=tuple(finding.number for finding in over),
                begins=tuple(finding.number for finding in over if finding.start == start),
                layers=tuple(dict.fromkeys(finding.layer for finding in over)),
            )
        )
    return found
