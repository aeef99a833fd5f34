"""What is done with an item: taken, held, decided, skipped, left; and the way to the next one. Undoing is in `undoing`."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.core.services import audit
from guardreview.review import presentation
from guardreview.review.forms import DecisionForm
from guardreview.review.leases import (
    HandsFull,
    ItemTaken,
    LeaseRefused,
    hands_full_words,
    item_lease,
    item_lease_next,
    item_release,
    item_skip,
)
from guardreview.review.models import Review
from guardreview.review.queue import skipped_by
from guardreview.review.services import LeaseLost, review_create, turn_of
from guardreview.review.statements import InvalidReview
from guardreview.review.views.item import at_the_item, held, item_page
from guardreview.review.views.undoing import remember
from guardreview.review.visibility import sees
from guardreview.review.wellness import pause_is_due
from guardreview.verdicts.models import ReviewItem

LONG_AGO = "2000-01-01T00:00:00+00:00"
SKIPS_LAST = timedelta(hours=12)
SKIPS_SINCE = "skips_since"
"""Where the session keeps from which moment on skipped items are left out."""
PAUSED_AT = "paused_at"
"""Where the session keeps when a pause was offered last."""


@require_POST
@requires(Act.DECIDE)
def item_next(request: HttpRequest) -> HttpResponse:
    """Take the open item with the nearest deadline."""
    return _to_next(request)


def _to_next(request: HttpRequest) -> HttpResponse:
    """The next item, or now and then a pause. What was skipped comes only when nothing else is left and one starts anew."""
    user = cast(User, request.user)
    if pause_is_due(user=user, since=_moment(request, PAUSED_AT)):
        request.session[PAUSED_AT] = timezone.now().isoformat()
        return redirect("pause")
    skipped = skipped_by(user=user, since=max(_moment(request, SKIPS_SINCE), timezone.now() - SKIPS_LAST))
    try:
        item = item_lease_next(user=user, skipped=skipped)
    except HandsFull:
        return redirect("hands-full")
    if item is not None:
        return redirect("item", item_id=item.pk)
    if skipped:
        request.session[SKIPS_SINCE] = timezone.now().isoformat()
    messages.info(request, "Only what you skipped is left." if skipped else "Nothing else is waiting for you.")
    return redirect("queue")


def _moment(request: HttpRequest, name: str) -> datetime:
    return datetime.fromisoformat(request.session.get(name, LONG_AGO))


@never_cache
@require_GET
@requires(Act.DECIDE)
def pause(request: HttpRequest) -> HttpResponse:
    """A calm page in place of the next item, once in `PAUSE_AFTER` critical decisions without a pause."""
    return render(request, "review/pause.html", {"count": settings.PAUSE_AFTER if PAUSED_AT in request.session else 0})


@never_cache
@require_GET
@requires(Act.DECIDE)
def hands_full(request: HttpRequest) -> HttpResponse:
    """In place of the next item, what this person holds already, with the way to each."""
    mine = held(cast(User, request.user))
    why = hands_full_words() if len(mine) >= settings.MAX_LEASES else ""
    return render(request, "review/hands_full.html", {"why": why, "held": mine})


@require_POST
@requires(Act.DECIDE)
def item_decide(request: HttpRequest, item_id: int) -> HttpResponse:
    """Save a decision and go on with the next item. Nothing that was typed is lost: 422 and 409 bring it back."""
    found, form, user = get_object_or_404(ReviewItem, pk=item_id), DecisionForm(request.POST), cast(User, request.user)
    if form.is_valid():
        try:
            review = review_create(item=found, reviewer=user, turn=form.cleaned_data["turn"], **form.statement)
        except InvalidReview as error:
            form.add_error(None, str(error))
        except LeaseLost:
            return _not_saved(request, found, form)
        else:
            remember(request, review)
            return _to_next(request)
    try:
        item_lease(item=found, user=user)
    except LeaseRefused:
        return _not_saved(request, found, form)
    return item_page(request, item_id, form=form, status=HTTPStatus.UNPROCESSABLE_ENTITY)


def _not_saved(request: HttpRequest, found: ReviewItem, form: DecisionForm) -> HttpResponse:
    """409: the lease was lost. Still free, the item is taken again and the form comes back; else both statements are shown."""
    try:
        item_lease(item=found, user=cast(User, request.user))
    except LeaseRefused as refused:
        context = _both(refused.item, form, cast(User, request.user))
        if isinstance(refused, HandsFull):
            context |= {"hands_full": str(refused), "held": held(cast(User, request.user))}
        return at_the_item(render(request, "review/not_saved.html", context, status=HTTPStatus.CONFLICT))
    notice = "Your hold on this item had ended, so your decision was not saved. You hold it again: please check and submit."
    return item_page(request, found.pk, form=form, notice=notice, status=HTTPStatus.CONFLICT)


def _both(item: ReviewItem, form: DecisionForm, user: User) -> dict[str, Any]:
    """What was decided, as far as this person may know it, and what they were about to say."""
    sent = cast(QueryDict, form.data)
    unsafe = sent.get("truth") == Review.Truth.UNSAFE
    return {
        **_theirs(item, user),
        "yours": {name: sent.get(name, "") for name in ("truth", "severity", "note")},
        "your_categories": sent.getlist("categories") if unsafe else [],
        "your_answer": sent.get("corrected_answer", "") if unsafe else "",
    }


def _theirs(item: ReviewItem, user: User) -> dict[str, Any]:
    """What was decided of an item that this person had, as far as they may know it; that they read it is recorded.

    What can still be undone is shown to nobody: taken back, it might be theirs to decide, first or as the second pharmacist who
    must not know what the first said. So the page waits (`again_in` seconds) until it is settled, and then shows it or says that
    it goes on.
    """
    reviews = list(item.reviews.select_related("reviewer").filter(undone_at=None, round=item.round).order_by("pk"))
    if item.kind == ReviewItem.Kind.CALIBRATION:  # everybody says their own of it
        reviews = [review for review in reviews if review.reviewer_id == user.pk]
    own = next((review for review in reversed(reviews) if review.reviewer_id == user.pk), None)
    last = reviews[-1] if reviews and item.status != ReviewItem.Status.OPEN else None
    theirs = own or (last if last and sees(last, item, user, reviews) else None)
    if theirs is not None:
        audit(actor=user.username, action="decided.view", reviews=[theirs.pk])
    return {
        "item": item,
        "theirs": theirs,
        "decider": last.reviewer if last else None,
        "again_in": _seconds_to_settle(last) if last and theirs is None else 0,
        "goes_on": bool(reviews) and item.status == ReviewItem.Status.OPEN,
        "holder": item.leased_by if item.is_leased() else None,
    }


def _seconds_to_settle(review: Review) -> int:
    """From now until the statement is settled, as it should be: its time to be undone, and the outbox's turn."""
    left: float = (review.created_at - timezone.now()).total_seconds() + settings.UNDO_S
    return max(1, math.ceil(left)) + int(settings.OUTBOX_INTERVAL_S)


@never_cache
@require_GET
@requires(Act.DECIDE)
def item_said(request: HttpRequest, item_id: int) -> HttpResponse:
    """What was decided meanwhile: the part of the page about a lost hold that comes again until the decision is settled."""
    found = get_object_or_404(ReviewItem.objects.select_related("leased_by"), pk=item_id)
    return render(request, "review/_theirs.html", _theirs(found, cast(User, request.user)))


@require_POST
@requires(Act.DECIDE)
def item_decide_kept(request: HttpRequest, item_id: int) -> JsonResponse:
    """Save a decision that the browser had kept while it could not be sent; the answer is for its script.

    Its hold may have ended meanwhile. It counts nevertheless if nobody has taken the item since then and it is the same turn.
    """
    found, form, user = get_object_or_404(ReviewItem, pk=item_id), DecisionForm(request.POST), cast(User, request.user)
    if request.POST.get("user") != str(user.pk):  # somebody else has signed in: it waits for its author
        return JsonResponse({}, status=HTTPStatus.UNAUTHORIZED)
    message, status = form.message, HTTPStatus.UNPROCESSABLE_ENTITY
    if form.is_valid():
        try:
            review = _create_late(found, user, form)
        except InvalidReview as error:
            message = str(error)
        except HandsFull:  # the browser keeps it, and sends it again
            return JsonResponse({}, status=HTTPStatus.TOO_MANY_REQUESTS)
        except ItemTaken as taken:
            found, message, status = taken.item, "", HTTPStatus.CONFLICT
        else:
            remember(request, review)
            return JsonResponse({"saved": True})
    page = render_to_string("review/_both.html", {**_both(found, form, user), "message": message}, request)
    return JsonResponse({"page": page}, status=status)


def _create_late(item: ReviewItem, user: User, form: DecisionForm) -> Review:
    # How long it took is not known: it is measured when it comes.
    statement = {**form.statement, "seconds": None}
    try:
        return review_create(item=item, reviewer=user, turn=form.cleaned_data["turn"], **statement)
    except LeaseLost:
        held = item_lease(item=item, user=user)
        token = cast(UUID, held.lease_token)
        if turn_of(held) != form.cleaned_data["turn"]:
            item_release(item=held, user=user, token=token)
            raise
        return review_create(item=held, reviewer=user, **{**statement, "token": token})


@require_POST
@requires(Act.DECIDE)
def item_pass_over(request: HttpRequest, item_id: int) -> HttpResponse:
    """Give the item back undecided, and take the next one."""
    found = get_object_or_404(ReviewItem, pk=item_id)
    if token := _token(request):
        item_skip(item=found, user=cast(User, request.user), token=token)
    return _to_next(request)


@require_POST
@requires(Act.DECIDE)
def item_hold(request: HttpRequest, item_id: int) -> JsonResponse:
    """Extend the lease while somebody looks at the page. The token changes if the lease had run out meanwhile."""
    try:
        held = item_lease(item=get_object_or_404(ReviewItem, pk=item_id), user=cast(User, request.user))
    except LeaseRefused as refused:
        if isinstance(refused, HandsFull):
            said: dict[str, Any] = {"full": str(refused)}
        else:
            decided = refused.item.status == ReviewItem.Status.DECIDED
            said = {"decided": decided, "holder": presentation.display_name(refused.item.leased_by)}
        return JsonResponse(said, status=HTTPStatus.CONFLICT)
    return JsonResponse({"token": str(held.lease_token), "expires_in": settings.LEASE_S})


@require_POST
@requires(Act.DECIDE)
def item_leave(request: HttpRequest, item_id: int) -> HttpResponse:
    """Give the item back undecided: the page was left."""
    if token := _token(request):
        item_release(item=get_object_or_404(ReviewItem, pk=item_id), user=cast(User, request.user), token=token)
    return HttpResponse(status=204)


def _token(request: HttpRequest) -> UUID | None:
    """The lease's, as the page sent it."""
    form = DecisionForm(request.POST)
    form.is_valid()
    token: UUID | None = form.cleaned_data.get("token")
    return token
