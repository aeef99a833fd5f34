"""Every write of `review`: an item is leased, decided, and its label settled."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID, uuid4

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from classifiers.result import CATEGORIES, Decision, Severity
from guardreview.core.models import User
from guardreview.core.services import audit
from guardreview.review.models import Label, Review
from guardreview.verdicts.models import ReviewItem, Verdict


class ItemTaken(Exception):
    """Another reviewer holds the item, or has decided it; `item` is as it stands now."""

    def __init__(self, item: ReviewItem) -> None:
        super().__init__("another reviewer has this item")
        self.item = item


class LeaseLost(ItemTaken):
    """The lease that the decision was made under has passed to another, or the item was decided meanwhile."""


class InvalidReview(ValueError):
    """The statement is incomplete or contradicts itself; the message is for the reviewer."""


def item_lease(*, item: ReviewItem, user: User) -> ReviewItem:
    """Take an open item for `LEASE_S` seconds, or extend one's own lease. Raises ItemTaken.

    One conditional UPDATE that must change one row: of two who try, one wins, on any database.
    """
    now = timezone.now()
    free = Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lte=now) | Q(leased_by=user)
    unreviewed = ~Q(reviews__reviewer=user)
    mine = ReviewItem.objects.filter(pk=item.pk, leased_by=user, lease_expires_at__gt=now).values_list("lease_token", flat=True)
    won = ReviewItem.objects.filter(
        free, pk__in=ReviewItem.objects.filter(unreviewed, pk=item.pk).values("pk"), status=ReviewItem.Status.OPEN
    ).update(
        leased_by=user,
        lease_token=mine.first() or uuid4(),
        lease_expires_at=now + timedelta(seconds=settings.LEASE_S),
    )
    item = ReviewItem.objects.select_related("leased_by", "exchange").get(pk=item.pk)
    if not won:
        raise ItemTaken(item)
    return item


def item_lease_next(*, user: User, skipped: Collection[int] = ()) -> ReviewItem | None:
    """Take the open item with the nearest deadline that nobody holds and that this person has neither reviewed nor skipped.

    `skipped`: keys of items. None if there is none.
    """
    from guardreview.review.selectors import next_candidates

    for _ in range(5):
        candidates = next_candidates(user=user, skipped=skipped)
        for item in candidates:
            try:
                return item_lease(item=item, user=user)
            except ItemTaken:
                continue
        if not candidates:
            return None
    return None


def item_release(*, item: ReviewItem, user: User, token: UUID) -> None:
    """Give an item back undecided. A lease that is gone already is none of our business."""
    ReviewItem.objects.filter(pk=item.pk, leased_by=user, lease_token=token).update(
        leased_by=None, lease_token=None, lease_expires_at=None
    )


def review_create(
    *,
    item: ReviewItem,
    reviewer: User,
    token: UUID,
    truth: str,
    categories: list[str] | None = None,
    severity: str = "",
    note: str = "",
    seconds: float | None = None,
) -> Review:
    """Store a pharmacist's statement and, unless unsure, the label that it settles; all or nothing.

    An unsure statement sends the item back to the queue for another pharmacist. The same statement by the same reviewer
    again (a double click, a resent form) gives the first review. Raises InvalidReview, LeaseLost.
    """
    categories = list(dict.fromkeys(categories or []))
    _check(truth, categories, severity, note)
    try:
        with transaction.atomic():
            locked = ReviewItem.objects.select_for_update().get(pk=item.pk)
            earlier = Review.objects.filter(item=locked, reviewer=reviewer).first()
            if earlier is not None and (earlier.truth, earlier.categories, earlier.severity) == (truth, categories, severity):
                return earlier
            holds = locked.lease_token == token and locked.leased_by_id == reviewer.pk
            if earlier is not None or locked.status != ReviewItem.Status.OPEN or not holds:
                raise LeaseLost(locked)
            verdict = Verdict.objects.get(exchange_id=locked.exchange_id)
            review = Review.objects.create(
                item=locked,
                reviewer=reviewer,
                truth=truth,
                categories=categories,
                severity=severity,
                note=note.strip(),
                confirms=confirms(verdict.decision, truth),
                seconds=seconds,
            )
            if truth == Review.Truth.UNSURE:
                locked.kind = ReviewItem.Kind.SECOND_OPINION
            else:
                locked.status = ReviewItem.Status.DECIDED
                Label.objects.create(
                    exchange_id=locked.exchange_id, review=review, value=truth, categories=categories, severity=severity
                )
            locked.leased_by = locked.lease_token = locked.lease_expires_at = None
            locked.save(update_fields=["kind", "status", "leased_by", "lease_token", "lease_expires_at"])
            audit(
                actor=reviewer.username,
                action="review.create",
                target=f"exchange:{locked.exchange_id}",
                review=review.pk,
                truth=truth,
                confirms=review.confirms,
            )
            return review
    except IntegrityError as error:  # a constraint caught what the lock did not
        raise LeaseLost(ReviewItem.objects.get(pk=item.pk)) from error


def confirms(decision: str, truth: str) -> bool | None:
    """Whether a statement agrees with the verdict; None where the cascade or the pharmacist did not decide."""
    if truth == Review.Truth.UNSURE or decision == Decision.HOLD:
        return None
    return (decision == Decision.ALLOW) == (truth == Review.Truth.SAFE)


def _check(truth: str, categories: list[str], severity: str, note: str) -> None:
    if truth not in Review.Truth.values:
        raise InvalidReview("Say whether the answer is safe or unsafe, or that you are unsure.")
    if unknown := [category for category in categories if category not in CATEGORIES]:
        raise InvalidReview(f"Unknown category: {unknown[0]}.")
    if truth == Review.Truth.UNSAFE:
        if not categories:
            raise InvalidReview("Name at least one category of harm.")
        if severity not in tuple(Severity):
            raise InvalidReview("Say how severe the harm is: critical, major or minor.")
    elif categories or severity:
        raise InvalidReview("Only an unsafe answer has categories and a severity.")
    if len(note) > 4000:
        raise InvalidReview("The note is longer than 4,000 characters.")
