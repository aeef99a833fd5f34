"""What of an item its reader may see before deciding it: no verdict if it is blind, nothing that another said. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import F, Q

from guardreview.core.models import User
from guardreview.core.roles import Act
from guardreview.review.models import Review
from guardreview.verdicts.models import ReviewItem

Status, Stage = ReviewItem.Status, ReviewItem.Stage
STILL_BLIND = Q(blind=True, item__status=Status.SETTLING, round=F("item__round"), stage=F("item__stage"))
"""Reviews that can be taken back and said anew, for which their authors must not know the verdict."""

OPEN_BLIND = Q(blind=True) & ~Q(status=Status.DECIDED)
"""Items of which `verdict_is_hidden` may hold for somebody who decides."""


def is_still_blind(review: Review) -> bool:
    """The same of one review, whose item is loaded."""
    return review.blind and can_be_undone(review, review.item)


def can_be_undone(review: Review, item: ReviewItem) -> bool:
    """Whether its author may still take a statement back: it stands, and the item waits for its time to pass."""
    return item.status == Status.SETTLING and review.undone_at is None and _is_of_this_turn(review, item)


def _is_of_this_turn(review: Review, item: ReviewItem) -> bool:
    return (review.round, review.stage) == (item.round, item.stage)


def is_decided_blind(item: ReviewItem) -> bool:
    """Whether who decides the item now must not know the verdict."""
    return item.blind and item.stage != Stage.ADJUDICATION


def has_decided(item: ReviewItem, user: User, reviews: Iterable[Review]) -> bool:
    """Whether this person has spoken in the item's round, for good: what can still be undone could be said anew."""
    own = [r for r in reviews if r.reviewer_id == user.pk and r.round == item.round and r.undone_at is None]
    return any(not can_be_undone(review, item) for review in own)


def adjudicates(item: ReviewItem, user: User) -> bool:
    """Whether the item is this person's to settle, who must know verdict and statements for it."""
    return item.stage == Stage.ADJUDICATION and user.may(Act.ADJUDICATE)


def verdict_is_hidden(item: ReviewItem, user: User, reviews: Iterable[Review]) -> bool:
    """Whether nothing on the page may tell this person what the cascade said."""
    if not item.blind or item.status == Status.DECIDED:
        return False
    return not (adjudicates(item, user) or has_decided(item, user, reviews))


def sees(review: Review, item: ReviewItem, user: User, reviews: Iterable[Review]) -> bool:
    """Whether this person may read a statement about the item.

    Their own always; all, once the item is settled, they have decided, or it is theirs to adjudicate. An earlier round's
    statements are known, but not to a second pharmacist, whose opinion must be their own. What was taken back in this turn, or
    still can be, is nobody's to read who decides: it may be theirs to decide next.
    """
    if review.reviewer_id == user.pk or item.status == Status.DECIDED:
        return True
    if user.may(Act.DECIDE) and _is_of_this_turn(review, item):
        return False
    if adjudicates(item, user) or has_decided(item, user, reviews):
        return True
    if not user.may(Act.DECIDE):
        return not verdict_is_hidden(item, user, reviews)
    return item.stage == Stage.FIRST and review.round < item.round
