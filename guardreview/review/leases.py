"""Whose an item is: one pharmacist's for some time. It is taken, extended, given back or skipped, always by one UPDATE."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from guardreview.core.models import User
from guardreview.core.services import audit
from guardreview.review import queue
from guardreview.review.calibration import calibration_freshen
from guardreview.review.models import Skip
from guardreview.verdicts.models import ReviewItem


class LeaseRefused(Exception):
    """The item is not to be had; `item` is as it stands now."""

    def __init__(self, item: ReviewItem, message: str = "another reviewer has this item") -> None:
        super().__init__(message)
        self.item = item


class ItemTaken(LeaseRefused):
    """Another reviewer holds the item, or has decided it."""


class HandsFull(LeaseRefused):
    """This person holds `MAX_LEASES` other items; the message is for them."""

    def __init__(self, item: ReviewItem) -> None:
        super().__init__(item, hands_full_words())


def hands_full_words() -> str:
    """Why somebody gets no other item, and what they can do."""
    held = "1 item" if settings.MAX_LEASES == 1 else f"{settings.MAX_LEASES} items"
    return f"You hold {held}, as many as one person may. Decide or skip one, or close its page, to take another."


def item_lease(*, item: ReviewItem, user: User) -> ReviewItem:
    """Take an open item for `LEASE_S` seconds, or extend one's own lease. Raises ItemTaken, HandsFull.

    One conditional UPDATE that must change one row: of two who try, one wins, on any database. Nobody takes more than
    `MAX_LEASES`, since what one person holds and does not look at is kept from all. Undoing and reopening give an item to whoever
    asks all the same: it is their own word, and nobody waits for it.
    """
    with transaction.atomic():
        _in_turn(user)
        held = queue.held_by(user)
        token = held.filter(pk=item.pk).values_list("lease_token", flat=True).first()
        free = _to_be_had(item, user)
        full = token is None and held.count() >= settings.MAX_LEASES and free.exists()
        won = not full and free.update(**_lease(user, token))
        item = ReviewItem.objects.select_related("leased_by", "exchange").get(pk=item.pk)
    if full:
        raise HandsFull(item)
    if not won:
        raise ItemTaken(item)
    return item


def _lease(user: User, token: UUID | None) -> dict[str, Any]:
    """The columns of a lease from now on. `token`: of the lease that it extends."""
    until = timezone.now() + timedelta(seconds=settings.LEASE_S)
    return {"leased_by": user, "lease_token": token or uuid4(), "lease_expires_at": until}


def _in_turn(user: User) -> None:
    """Let one person's requests take items one after the other, or they could together take more than one may hold.

    PostgreSQL locks the person's row, and always before an item's; SQLite has one writer at a time.
    """
    User.objects.select_for_update(no_key=True).filter(pk=user.pk).values_list("pk").first()


def _to_be_had(item: ReviewItem, user: User) -> QuerySet[ReviewItem]:
    """The item, if this person may decide it and nobody else holds it at this moment."""
    return ReviewItem.objects.filter(
        Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lte=timezone.now()) | Q(leased_by=user),
        pk__in=queue.decidable_by(user, ReviewItem.objects.filter(pk=item.pk)).values("pk"),
        status=ReviewItem.Status.OPEN,
    )


def item_lease_next(*, user: User, skipped: Collection[int] = ()) -> ReviewItem | None:
    """Take the open item with the nearest deadline that nobody holds and that this person has neither reviewed nor skipped.

    Now and then it is a calibration item instead. `skipped`: keys of items. None if there is none. Raises HandsFull.
    """
    if queue.calibration_is_due(user=user):
        item = _lease_first(queue.calibration_candidates(user=user).exclude(pk__in=skipped), user)
        if item is not None:
            calibration_freshen(item=item)
            return item
    return _lease_first(queue.next_candidates(user=user, skipped=skipped), user)


def _lease_first(candidates: QuerySet[ReviewItem], user: User) -> ReviewItem | None:
    """Lease the first that nobody takes at the same moment; one's own keeps its token, for the page that shows it already."""
    with transaction.atomic():
        _in_turn(user)
        # Where rows are locked, those that others are just taking are passed over; SQLite has one writer at a time. Either way
        # the one that is found stays free until the end of the transaction.
        first = candidates.select_for_update(skip_locked=True, of=("self",)).first()
        if first is None:
            return None
        is_own = first.leased_by_id == user.pk and first.is_leased()
        if not is_own and queue.held_by(user).count() >= settings.MAX_LEASES:
            raise HandsFull(first)
        for name, value in _lease(user, first.lease_token if is_own else None).items():
            setattr(first, name, value)
        first.save(update_fields=["leased_by", "lease_token", "lease_expires_at"])
        return first


def item_release(*, item: ReviewItem, user: User, token: UUID) -> bool:
    """Give an item back undecided; whether it was this person's. A lease that is gone already is none of our business."""
    return bool(
        ReviewItem.objects.filter(pk=item.pk, leased_by=user, lease_token=token).update(
            leased_by=None, lease_token=None, lease_expires_at=None
        )
    )


def item_skip(*, item: ReviewItem, user: User, token: UUID) -> None:
    """Give an item back undecided, and remember that this person did not want it."""
    with transaction.atomic():
        if item_release(item=item, user=user, token=token):
            Skip.objects.create(item=item, reviewer=user)
            audit(actor=user.username, action="item.skip", target=f"exchange:{item.exchange_id}")
