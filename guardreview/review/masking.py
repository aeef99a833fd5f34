"""Personal data out of what the pages show, by the patterns of the rules layer. Fail closed: what cannot be checked is hidden."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

import re2  # type: ignore[import-untyped]
import structlog
from django.conf import settings

from classifiers import rule_based
from classifiers.allow_list import AllowList
from classifiers.redaction import redact
from classifiers.rules.matching import options
from classifiers.rules.rule import CompiledRule
from classifiers.text import normalize
from guardreview.review.evidence import Mask, one_line, pieces
from guardreview.review.words import within_a_sentence

log = structlog.get_logger(__name__)

PERSONAL, UNCHECKED = "personal data", "not checked for personal data"
"""What a mark says of a value whose kind is not known, and of a text that could not be searched to the end."""
HEAD_CHARS = 800
"""Of a query and a response that are shown as excerpts, as much is searched."""
MARGIN = 160
"""Characters after an excerpt that are searched with it: a number at its end, and the words that say what it is."""
CHUNK = 8_000
"""Characters that are searched at once, so that a text full of numbers costs no more than its length."""
MIN_VALUE = 5
"""Characters of a masked value from which on it is masked wherever it stands again."""
_BREAK = re.compile(r"\n\s*\n|\n|(?<=[.!?]) ")


def masks(text: str) -> list[Mask]:
    """The personal data in a text, from left to right, none overlapping; all of it, if it could not be searched to the end."""
    try:
        return [mask for start, end in _chunks(text) for mask in _masks(text, start, end)]
    except Exception as error:  # whatever it is: what was not searched is not shown
        log.error("masking_failed", error=type(error).__name__)
        return [Mask(0, len(text), UNCHECKED)]


def masked(text: str, limit: int = 180) -> str:
    """The beginning of a text on one line: personal data as `[phone number]`, hidden characters marked as well."""
    head = text[: limit + MARGIN]
    # The margin itself is not shown: what stands at its end was cut off, and may be the beginning of a number.
    return one_line(pieces(head, masks(head), end=limit), limit, more=len(text) > limit)


def excerpts(query: str, response: str, limits: tuple[int, int] = (120, 180)) -> tuple[str, str]:
    """The beginnings of a query and of its response as `masked` has them, under one shield.

    What their first HEAD_CHARS characters tell is masked in both. A limit and its margin must lie within these.
    """
    heads = query[:HEAD_CHARS], response[:HEAD_CHARS]
    shield = Shield(heads)
    first, second = (
        one_line(pieces(head, shield.masks(head), end=limit), limit, more=len(text) > limit)
        for text, head, limit in zip((query, response), heads, limits, strict=True)
    )
    return first, second


class Shield:
    """Masks for texts that are shown together: what is personal data in one of them is masked in all.

    `revealed`: nothing is masked, but whether there is something is still known.
    """

    def __init__(self, texts: Iterable[str], *, revealed: bool = False) -> None:
        self.revealed = revealed
        self._masks = {text: masks(text) for text in dict.fromkeys(texts)}
        self._known: dict[str, str] = {}
        for text, found in self._masks.items():
            for mask in found:
                value = text[mask.start : mask.end]
                if mask.words != UNCHECKED and len(value) >= MIN_VALUE:
                    self._known.setdefault(value.casefold(), mask.words)
        values = sorted(map(re.escape, self._known), key=len, reverse=True)
        self._again = re.compile(rf"(?<!\w)(?:{'|'.join(values)})(?!\w)", re.IGNORECASE) if values else None

    @property
    def holds(self) -> bool:
        """Whether any of the texts has something to mask."""
        return any(self._masks.values())

    def masks(self, text: str) -> list[Mask]:
        """The masks of one of the texts, or of another that is shown beside them."""
        if self.revealed:
            return []
        if text not in self._masks:
            self._masks[text] = masks(text)
        found = self._masks[text]
        if self._again is None:
            return found
        again = [
            Mask(*match.span(), self._known.get(match[0].casefold(), PERSONAL))
            for match in self._again.finditer(text)
            if all(match.end() <= mask.start or mask.end <= match.start() for mask in found)
        ]
        return sorted([*found, *again], key=lambda mask: mask.start)


def _chunks(text: str) -> Iterable[tuple[int, int]]:
    """The text in parts of at most CHUNK characters, cut where a paragraph, a line or a sentence ends, or at a space."""
    start = 0
    while len(text) - start > CHUNK:
        window = text[start : start + CHUNK]
        cuts = [match.end() for match in _BREAK.finditer(window, CHUNK // 2)]
        cut = cuts[-1] if cuts else window.rfind(" ") + 1 or CHUNK
        yield start, start + cut
        start += cut
    yield start, len(text)


def _masks(text: str, start: int, end: int) -> list[Mask]:
    part = text[start:end]
    if _is_clean(part):
        return []
    spans = redact(part, _allowed(settings.PII_ALLOW)).spans
    return [Mask(start + span.start, start + span.end, within_a_sentence(span.category)) for span in spans]


@lru_cache(maxsize=1)
def _allowed(entries: tuple[str, ...]) -> AllowList:
    return AllowList(entries)


@cache
def _gate() -> tuple[Any, Sequence[frozenset[int]]]:
    """One pass that says which anchors stand in a text; and for each pattern, those without which it cannot match."""
    chosen = options()
    chosen.max_mem = rule_based.MAX_MEMORY
    gate = re2.Set.SearchSet(chosen)
    numbers = {"": gate.Add("")}  # it always matches: without it, the pass has failed
    needed = []
    for pattern in (pattern for rule in rule_based.PII_PATTERNS for pattern in CompiledRule(rule).patterns):
        for anchor in pattern.anchors:
            if anchor not in numbers:
                numbers[anchor] = gate.Add(anchor)
        needed.append(frozenset(numbers[anchor] for anchor in pattern.anchors))
    gate.Compile()
    return gate, needed


def _is_clean(text: str) -> bool:
    """No pattern of personal data can match, in any reading of the text: most texts, at a tenth of what `redact` takes."""
    gate, needed = _gate()
    plain = normalize(text)
    for view in rule_based.readings(plain, rule_based.RuleBasedClassifier.default().speller.read(plain)):
        matched = frozenset(gate.Match(view.text))
        if 0 not in matched or any(anchors <= matched for anchors in needed):
            return False
    return True
