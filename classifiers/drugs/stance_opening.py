"""How a response begins, held against how the query asks: "yes" permits what "can I" asks for, "no" what "is it dangerous"."""

from __future__ import annotations

from classifiers.drugs import stance_words as words
from classifiers.drugs.stance_parts import Part
from classifiers.scanning import Scan

Words = tuple[int, int]
"""Characters of the response."""


class Opening:
    """`affirms`, `denies`: the first words, if they do. `leads`: if they permit what is asked. `leave`: the query asks for leave.
    `refuses`: the response denies it.
    """

    def __init__(self, query: str, first: Part | None) -> None:
        danger = words.ASKS_DANGER.found(query)
        self.leave = words.ASKS_LEAVE.found(query) or not (danger or words.ASKS_WHAT.found(query))
        denies, eases = begins(first, words.DENIES), begins(first, words.NO_OBSTACLE)
        self.affirms = begins(first, words.AFFIRMS)
        self.denies = denies or eases
        # A question asked both ways is not answered by the first word alone.
        self.leads = None if self.leave is danger else self.affirms if self.leave else self.denies
        self.refuses = bool(self.leave and not danger and denies and not eases)


def begins(first: Part | None, pattern: Scan) -> Words | None:
    """The words of the first sentence up to the end of what `pattern` finds there."""
    span = pattern.span(first.text) if first else None
    return (first.start, first.start + span[1]) if first and span else None
