"""What a lead sees of the statements that disagree: side by side, without names until it is settled. Pure but for one query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guardreview.core.models import User
from guardreview.core.roles import Act
from guardreview.review.evidence import Mask, Piece, one_line, pieces
from guardreview.review.guidelines import Guide, guidelines_for
from guardreview.review.history import NAMELESS
from guardreview.review.masking import masks
from guardreview.review.models import Review
from guardreview.review.presentation import display_name
from guardreview.verdicts.models import ReviewItem

Stage = ReviewItem.Stage
QUOTE_CHARS = 200


@dataclass(frozen=True, slots=True)
class Statement:
    """One review beside another. `speaker`: who, by turn; `name` is empty until the item is settled. `quotes`: marked words."""

    review: Review
    speaker: str
    name: str
    quotes: Sequence[str]
    note: Sequence[Piece]


@dataclass(frozen=True, slots=True)
class Adjudication:
    """`statements`: the pharmacists'; `ruling`: the lead's, once settled; `guides`: what holds for the categories named."""

    statements: Sequence[Statement]
    ruling: Statement | None
    guides: Sequence[Guide]


def _quote(response: str, hidden: Sequence[Mask], start: int, end: int) -> str:
    """The words marked, masked as they are in the whole answer."""
    return one_line(pieces(response, hidden, start=start, end=end), QUOTE_CHARS, more=False)


def adjudication_of(*, item: ReviewItem, reviews: Sequence[Review], response: str, user: User) -> Adjudication | None:
    """The round's disagreement for whoever may settle it, and once it is settled for every reader; else None.

    `reviews`: the item's, with their reviewers.
    """
    settled = item.status == ReviewItem.Status.DECIDED
    of_round = [review for review in reviews if review.round == item.round and review.undone_at is None]
    if item.stage != Stage.ADJUDICATION or not (settled or _settles(user, of_round)):
        return None
    hidden = masks(response)
    said = [
        Statement(
            review,
            NAMELESS[review.stage],
            display_name(review.reviewer) if settled else "",
            [_quote(response, hidden, span["start"], span["end"]) for span in review.spans],
            pieces(review.note, masks(review.note)),
        )
        for review in of_round
    ]
    named = [item.category, *(category for review in of_round for category in review.categories)]
    return Adjudication(
        statements=[statement for statement in said if statement.review.stage != Stage.ADJUDICATION],
        ruling=next((statement for statement in said if statement.review.stage == Stage.ADJUDICATION and settled), None),
        guides=[guide for guide in guidelines_for(named) if guide.suggested],
    )


def _settles(user: User, reviews: Sequence[Review]) -> bool:
    """Whether this person is to settle it, or has: not a pharmacist, nor a lead who spoke first or second."""
    own = [review for review in reviews if review.reviewer_id == user.pk]
    return user.may(Act.ADJUDICATE) and all(review.stage == Stage.ADJUDICATION for review in own)
