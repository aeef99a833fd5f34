"""Every read of what was decided: pages of reviews, one's own or everybody's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db.models import Q

from guardreview.core.models import User
from guardreview.core.roles import Act
from guardreview.review.models import Review
from guardreview.review.visibility import STILL_BLIND
from guardreview.verdicts.models import ReviewItem

PAGE_SIZE = 25
OUTCOMES: Mapping[str, Q] = {
    "confirmed": Q(confirms=True),
    "overturned": Q(confirms=False),
    "settled": Q(confirms=None) & ~Q(truth=Review.Truth.UNSURE),
}
"""What a review made of the verdict, by name; `settled`: the cascade had not decided."""


@dataclass(frozen=True, slots=True)
class DecisionsPage:
    """One page of reviews, newest first, and the key to read on from (None: these are the oldest)."""

    reviews: Sequence[Review]
    older: int | None


def decisions_page(*, viewer: User, own: bool, truth: str = "", outcome: str = "", before: int | None = None) -> DecisionsPage:
    """Reviews that were not undone, `PAGE_SIZE` at a time, from a key on: no offset, no count.

    Who decides items does not see what others said of one that is still open: they may be asked next.
    """
    reviews = Review.objects.filter(undone_at=None).order_by("-pk")
    if own:
        reviews = reviews.filter(reviewer=viewer)
    elif viewer.may(Act.DECIDE):
        reviews = reviews.filter(Q(reviewer=viewer) | Q(item__status=ReviewItem.Status.DECIDED))
    if truth:
        reviews = reviews.filter(truth=truth)
    if outcome:
        reviews = reviews.filter(OUTCOMES[outcome]).exclude(STILL_BLIND)
    if before is not None:
        reviews = reviews.filter(pk__lt=before)
    rows = list(
        reviews.select_related("item__exchange__verdict", "item__exchange__app", "reviewer").defer("item__exchange__metadata")[
            : PAGE_SIZE + 1
        ]
    )
    more = len(rows) > PAGE_SIZE
    rows = rows[:PAGE_SIZE]
    return DecisionsPage(rows, rows[-1].pk if more else None)
