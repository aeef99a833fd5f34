"""Every read of what was decided: pages of reviews, one's own or everybody's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Exists, F, OuterRef, Q

from guardreview.core.models import User
from guardreview.core.roles import Act
from guardreview.review.models import Label, Review
from guardreview.review.visibility import STILL_BLIND
from guardreview.verdicts.models import ReviewItem

PAGE_SIZE = 25
_OF_THIS_ROUND = Q(round=F("item__round")) & ~Q(item__kind=ReviewItem.Kind.CALIBRATION)
_SAME = Label.objects.filter(exchange=OuterRef("item__exchange"), is_current=True, value=OuterRef("truth"))
_IN_FORCE = Q(label__is_current=True) | (_OF_THIS_ROUND & Q(item__status=ReviewItem.Status.DECIDED) & Q(Exists(_SAME)))
OUTCOMES: Mapping[str, Q] = {
    "confirmed": Q(confirms=True) & _IN_FORCE,
    "overturned": Q(confirms=False) & _IN_FORCE,
    "settled": Q(confirms=None) & _IN_FORCE,
    "waiting": _OF_THIS_ROUND & ~Q(item__status=ReviewItem.Status.DECIDED),
}
"""What a review has made of the verdict by now, by name. `settled`: the cascade had not decided; `waiting`: nothing yet."""


@dataclass(frozen=True, slots=True)
class DecisionsPage:
    """One page of reviews, newest first, and the key to read on from (None: these are the oldest).

    `labels`: those in force, by exchange.
    """

    reviews: Sequence[Review]
    older: int | None
    labels: Mapping[UUID, Label]


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
    labels = Label.objects.filter(exchange__in=[review.item.exchange_id for review in rows], is_current=True)
    return DecisionsPage(rows, rows[-1].pk if more else None, {label.exchange_id: label for label in labels})
