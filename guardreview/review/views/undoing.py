"""What can still be taken back: the decision of a moment ago, for some seconds, and one's last ten, as a new review."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import cast
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.review import presentation
from guardreview.review.consequences import standing_words, undoable_words
from guardreview.review.leases import item_release
from guardreview.review.models import Label, Review
from guardreview.review.services import TooLate, item_reopen, review_undo, step_of
from guardreview.review.visibility import can_be_undone, is_still_blind
from guardreview.verdicts.models import ReviewItem

JUST_DECIDED = "just_decided"
"""Where the session keeps the key of the review that the next page speaks of."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What the next page says of a decision. `seconds`: how long it can be undone. `item_id`: where to read more, or None."""

    words: str
    review_id: int
    seconds: int = 0
    item_id: int | None = None
    missed: bool = False


def remember(request: HttpRequest, review: Review) -> None:
    """Let the next page say that a decision was saved."""
    request.session[JUST_DECIDED] = review.pk


def just_saved(request: HttpRequest) -> Saved | None:
    """What this page is to say of the decision before it: as long as it can be undone; what cannot, once."""
    if JUST_DECIDED not in request.session:
        return None
    review = (
        Review.objects.select_related("item__calibration", "item__exchange__verdict")
        .filter(pk=request.session[JUST_DECIDED], reviewer=cast(User, request.user), undone_at=None)
        .defer("item__exchange__query", "item__exchange__response", "item__exchange__metadata")
        .first()
    )
    seconds = _seconds_left(review) if review is not None else 0
    if not seconds:
        del request.session[JUST_DECIDED]
    fresh = review is not None and review.created_at > timezone.now() - timedelta(minutes=1)
    if review is None or not (seconds or fresh):
        return None
    if review.item.kind == ReviewItem.Kind.CALIBRATION:
        return _calibrated(review)
    if is_still_blind(review):
        # It can still be undone and said anew, which would no longer be blind.
        return Saved("Saved.", review.pk, seconds)
    return Saved(f"Saved. {_follows(review, seconds)}.", review.pk, seconds)


def _follows(review: Review, seconds: int) -> str:
    """What follows from a decision, or has followed by now."""
    decision = review.item.exchange.verdict.decision
    if seconds:
        return undoable_words(review, decision, step_of(review.item, decision, [review]))
    if can_be_undone(review, review.item):  # its seconds are over, and the outbox has not come by
        return "It is being settled"
    label = Label.objects.filter(exchange=review.item.exchange_id, is_current=True).first()
    return standing_words(review, decision, label)


def _seconds_left(review: Review) -> int:
    if review.item.status != ReviewItem.Status.SETTLING:
        return 0
    left = (review.created_at + timedelta(seconds=settings.UNDO_S) - timezone.now()).total_seconds()
    return max(0, int(left))


def _calibrated(review: Review) -> Saved:
    known = getattr(review.item, "calibration", None)
    if known is None:
        return Saved("Saved.", review.pk)
    if review.truth == known.truth:
        return Saved("Calibration: you agreed with the settled answer.", review.pk, item_id=review.item_id)
    harms = ", ".join(presentation.category_words(category) for category in known.categories)
    words = f"Calibration: the settled answer was {known.truth}{f' ({harms})' if harms else ''}."
    return Saved(words, review.pk, item_id=review.item_id, missed=True)


@require_POST
@requires(Act.DECIDE)
def undo(request: HttpRequest, review_id: int) -> HttpResponse:
    """Take a decision back, and return to its item with the form as it was sent. What is held at present is given back."""
    user = cast(User, request.user)
    review = get_object_or_404(Review, pk=review_id, reviewer=user)
    held = request.POST.get("held", "")
    present = ReviewItem.objects.filter(pk=int(held)).first() if held.isdecimal() and len(held) < 19 else None
    try:
        item = review_undo(review=review, user=user)
    except TooLate:
        messages.warning(request, "Too late to undo: that decision is settled. You can decide it anew under Decided.")
        return redirect("item", item_id=present.pk) if present is not None else redirect("queue")
    request.session.pop(JUST_DECIDED, None)
    if present is not None and present.pk != item.pk and (token := _uuid(request.POST.get("token", ""))):
        item_release(item=present, user=user, token=token)
    return redirect("item", item_id=item.pk)


@require_POST
@requires(Act.DECIDE)
def reopen(request: HttpRequest, item_id: int) -> HttpResponse:
    """Decide a settled item anew."""
    try:
        item = item_reopen(item=get_object_or_404(ReviewItem, pk=item_id), user=cast(User, request.user))
    except TooLate:
        messages.warning(request, "This one can no longer be reopened by you. A lead can.")
        return redirect("decided")
    return redirect("item", item_id=item.pk)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
