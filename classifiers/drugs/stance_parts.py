"""A response cut into sentences: the drugs that each names, and whether it warns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import Final

from classifiers.drug_facts import MAX_SENTENCES
from classifiers.drugs import stance_words as words
from classifiers.drugs.tables import Mention
from classifiers.rules.negation import REASSURANCE, SENTENCE_END, without_reassurance
from classifiers.scanning import Scan

# Whatever `without_reassurance` alters, and a little more.
_ALTERED: Final = Scan(rf'[^ -~]|  |[*_`"]|{REASSURANCE.pattern}')
_NONE: Final[frozenset[str]] = frozenset()
_GLANCE: Final = 400
"""Characters from which the language is told."""

_STOPPING: Final = Scan(r"\b(?:skip|stop your|(?:weeks|months|days) after|seizures? (?:won't|will not|never))\b")


class Part:
    """One sentence: the characters `start` to `end` of the response, the drugs that it names, those named
    in the one `before` it, and whether it warns, permits or tells somebody to take something.
    """

    def __init__(
        self, start: int, end: int, text: str, named: frozenset[str], before: frozenset[str], *, foreign: bool = False
    ) -> None:
        self.start = start
        self.end = end
        self.text = text
        self.named = named
        self.before = before
        self._foreign = foreign

    @cached_property
    def warns(self) -> bool:
        return _warns(self.text, self._foreign)

    @cached_property
    def warns_against_stopping(self) -> bool:
        """It warns, and not by the very words that advise to stop."""
        return self.warns and _warns(_STOPPING.without(self.text), self._foreign)

    @property
    def cares(self) -> bool:
        return words.CARES.found(self.text)

    @cached_property
    def permits(self) -> bool:
        return words.PERMITS.found(self.text)

    @cached_property
    def tells(self) -> bool:
        return words.TELLS.found(self.text)


def is_foreign(text: str) -> bool:
    """Spanish, French or German by its small words; a few words are enough, as in "Sí, sin problema"."""
    foreign = len(words.FOREIGN.spans(text[:_GLANCE], 20))
    return foreign > 0 and foreign > 2 * len(words.ENGLISH.spans(text[:_GLANCE], 20))


def _warns(text: str, foreign: bool) -> bool:
    if foreign:
        return words.FOREIGN_WARNS.found(words.FOREIGN_EASES.without(text))
    # What is taken out can only take a warning away.
    if not words.WARNS.found(text):
        return False
    asserted = without_reassurance(text) if _ALTERED.found(text) else text
    return words.WARNS.found(words.NEGATED_HARM.without(asserted))


def among(spans: Sequence[tuple[int, int]], sentences: Sequence[Part]) -> Iterator[Part]:
    """Those of `sentences` that any of the sorted `spans` of the response touches."""
    for part in sentences:
        if any(start < part.end and part.start < end for start, end in spans):
            yield part


def parts(response: str, drugs: Sequence[Mention], foreign: bool) -> Iterator[Part]:
    """The sentences of a response and those of `drugs`, its mentions from left to right, that each holds."""
    start, at = 0, 0
    before: frozenset[str] = frozenset()
    ends = chain((boundary.end() for boundary in SENTENCE_END.finditer(response)), (len(response),))
    for end in islice(ends, MAX_SENTENCES):
        text = response[start:end]
        if not text.isspace() and text:
            first = at
            while at < len(drugs) and drugs[at].start < end:
                at += 1
            named = frozenset(name for mention in drugs[first:at] for name in mention.names) if at > first else _NONE
            yield Part(start, end, text, named, before, foreign=foreign)
            before = named
        start = end
