"""What the reviews of an item make of it: settled, or whose turn it is next. Pure: the rule that every label comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from classifiers.result import Decision
from guardreview.review.models import Label, Review
from guardreview.verdicts.models import ReviewItem


class Statement(Protocol):
    """What this rule reads of a review."""

    @property
    def truth(self) -> str: ...
    @property
    def stage(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Open:
    """Not settled: somebody else is to decide."""

    stage: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The last review settles it."""

    basis: str


def next_step(*, decision: str, severity: str, second_eyes: Sequence[str], reviews: Sequence[Statement]) -> Open | Settled:
    """What follows from the reviews of the item's present round, in the order in which they were made, without those undone.

    `decision`: the verdict's. `severity`: the item's. `second_eyes`: severities whose blocks two must overturn.

    One statement settles, but for two cases that go to a second pharmacist, who does not see the first's: somebody is unsure, or
    overturns a block of a severity in `second_eyes`. Two that agree settle. Two that do not, or of whom the second is unsure,
    leave it to a lead, whose word settles. A second one who is sure where the first was not settles too, unless that alone
    would overturn such a block.
    """
    if not reviews:
        return Open(ReviewItem.Stage.FIRST)
    last = reviews[-1]
    if last.truth == Review.Truth.UNSURE:
        return Open(ReviewItem.Stage.SECOND if len(reviews) == 1 else ReviewItem.Stage.ADJUDICATION)
    if last.stage == ReviewItem.Stage.ADJUDICATION:
        return Settled(Label.Basis.ADJUDICATED)
    overturns = decision == Decision.BLOCK and severity in second_eyes and last.truth == Review.Truth.SAFE
    if len(reviews) == 1:
        return Open(ReviewItem.Stage.SECOND) if overturns else Settled(Label.Basis.SINGLE)
    before = reviews[-2]
    if before.truth == last.truth:
        return Settled(Label.Basis.AGREED)
    if before.truth == Review.Truth.UNSURE and not overturns:
        return Settled(Label.Basis.SINGLE)
    return Open(ReviewItem.Stage.ADJUDICATION)
