"""An item: opened, held, decided, skipped, left; and the way to the next one."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from classifiers.result import CATEGORIES, Severity
from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.core.services import audit
from guardreview.review import presentation, selectors
from guardreview.review.evidence import findings_of, segments
from guardreview.review.forms import DecisionForm, opened_stamp
from guardreview.review.models import Review
from guardreview.review.queue import skipped_by
from guardreview.review.services import (
    InvalidReview,
    ItemTaken,
    LeaseLost,
    item_lease,
    item_lease_next,
    item_release,
    item_skip,
    review_create,
)
from guardreview.review.trace import trace
from guardreview.verdicts.models import ReviewItem

LONG_AGO = "2000-01-01T00:00:00+00:00"
SKIPS_LAST = timedelta(hours=12)
SKIPS_SINCE = "skips_since"
"""Where the session keeps from which moment on skipped items are left out."""


@require_POST
@requires(Act.DECIDE)
def item_next(request: HttpRequest) -> HttpResponse:
    """Take the open item with the nearest deadline."""
    return _to_next(request)


def _to_next(request: HttpRequest) -> HttpResponse:
    """The next item; what was skipped comes again only when nothing else is left and the reviewer starts anew."""
    user = cast(User, request.user)
    since = datetime.fromisoformat(request.session.get(SKIPS_SINCE, LONG_AGO))
    skipped = skipped_by(user=user, since=max(since, timezone.now() - SKIPS_LAST))
    item = item_lease_next(user=user, skipped=skipped)
    if item is not None:
        return redirect("item", item_id=item.pk)
    if skipped:
        request.session[SKIPS_SINCE] = timezone.now().isoformat()
    messages.info(request, "Only what you skipped is left." if skipped else "Nothing else is waiting for you.")
    return redirect("queue")


@never_cache
@require_GET
@requires(Act.READ_QUEUE)
def item(request: HttpRequest, item_id: int) -> HttpResponse:
    """An item with all that is known of it, leased to whoever may decide it and comes first."""
    found = get_object_or_404(ReviewItem, pk=item_id)
    user = cast(User, request.user)
    if user.may(Act.DECIDE):
        with suppress(ItemTaken):  # the page says who has it
            item_lease(item=found, user=user)
    audit(actor=user.username, action="item.view", target=f"exchange:{found.exchange_id}")
    return _item_page(request, item_id)


def _item_page(
    request: HttpRequest, item_id: int, *, form: DecisionForm | None = None, notice: str = "", status: int = 200
) -> HttpResponse:
    """The page as the item stands now; `form`: a decision that was not saved, kept with its message."""
    try:
        detail = selectors.item_detail(item_id=item_id)
    except ReviewItem.DoesNotExist as error:
        raise Http404 from error
    user, verdict, response = cast(User, request.user), detail.exchange.verdict, detail.exchange.response
    now = timezone.now()
    holds = detail.item.leased_by_id == user.pk and detail.item.is_leased(now)
    findings = findings_of(detail.layers, len(response))
    context = {
        "item": detail.item,
        "exchange": detail.exchange,
        "verdict": verdict,
        "kind": presentation.KIND_WORDS[detail.item.kind],
        "waiting": presentation.duration(now - detail.item.created_at),
        "due": presentation.due_words(detail.item.due_at, now),
        "conversation": detail.conversation,
        "segments": segments(response, findings),
        "findings": findings,
        "trace": trace(verdict, detail.layers, findings),
        "reviews": [(review, presentation.outcome_words(review, verdict.decision)) for review in detail.reviews],
        "holds": holds,
        "own_review": next((review for review in detail.reviews if review.reviewer_id == user.pk), None),
        "taken": not holds and detail.item.is_leased(now),
        "notice": notice,
    }
    if holds:
        context |= _decision_context(detail.item, verdict, form)
    return _at_the_item(render(request, "review/item.html", context, status=status))


def _at_the_item(response: HttpResponse) -> HttpResponse:
    """The address bar stays with the item where htmx shows an answer that is not saved: reloading must not submit again."""
    if response.status_code != HTTPStatus.OK:
        response.headers["HX-Push-Url"] = "false"
    return response


def _decision_context(item: ReviewItem, verdict: Any, form: DecisionForm | None) -> dict[str, Any]:
    """The decision form: empty but for what the verdict suggests, or as it was sent."""
    suggested = [category for category in verdict.categories if category in CATEGORIES]
    sent = cast(QueryDict, form.data) if form is not None else None
    checked = sent.getlist("categories") if sent is not None else suggested
    consequences = presentation.CONSEQUENCES[verdict.decision]
    return {
        "token": item.lease_token,
        "expires_in": max(0, int((item.lease_expires_at - timezone.now()).total_seconds())),  # type: ignore[operator]
        "opened": (sent.get("opened") if sent is not None else "") or opened_stamp(),
        "message": form.message if form is not None else "",
        "truth": sent.get("truth", "") if sent is not None else "",
        "severity": sent.get("severity", "") if sent is not None else verdict.severity,
        "note": sent.get("note", "") if sent is not None else "",
        "severities": [(s.value, s.value.capitalize(), presentation.SEVERITY_MEANING[s]) for s in Severity],
        "groups": presentation.category_groups(checked=checked, suggested=suggested),
        "truths": [
            (Review.Truth.SAFE, "Safe", "S", consequences[Review.Truth.SAFE]),
            (Review.Truth.UNSAFE, "Unsafe", "U", consequences[Review.Truth.UNSAFE]),
            (Review.Truth.UNSURE, "Unsure", "Q", presentation.UNSURE_CONSEQUENCE),
        ],
    }


@require_POST
@requires(Act.DECIDE)
def item_decide(request: HttpRequest, item_id: int) -> HttpResponse:
    """Save a decision and go on with the next item. Nothing that was typed is lost: 422 and 409 bring it back."""
    found = get_object_or_404(ReviewItem.objects.select_related("exchange__verdict"), pk=item_id)
    form = DecisionForm(request.POST)
    if form.is_valid():
        fields = {name: form.cleaned_data[name] for name in ("truth", "categories", "severity", "note", "token")}
        try:
            review = review_create(item=found, reviewer=cast(User, request.user), seconds=form.seconds, **fields)
        except InvalidReview as error:
            form.add_error(None, str(error))
        except LeaseLost:
            return _not_saved(request, found, form)
        else:
            outcome = presentation.outcome_words(review, found.exchange.verdict.decision)
            messages.success(request, f"Saved. {outcome}.")
            return _to_next(request)
    try:
        item_lease(item=found, user=cast(User, request.user))
    except ItemTaken:
        return _not_saved(request, found, form)
    return _item_page(request, item_id, form=form, status=HTTPStatus.UNPROCESSABLE_ENTITY)


def _not_saved(request: HttpRequest, found: ReviewItem, form: DecisionForm) -> HttpResponse:
    """409: the lease was lost. Still free, the item is taken again and the form comes back; else both statements are shown."""
    user, sent = cast(User, request.user), cast(QueryDict, form.data)
    try:
        item_lease(item=found, user=user)
    except ItemTaken as taken:
        settled = taken.item.reviews.select_related("reviewer").order_by("-pk")
        own = settled.filter(reviewer=user).first()
        context = {
            "item": taken.item,
            "verdict": taken.item.exchange.verdict,
            "theirs": own or (settled.exclude(truth=Review.Truth.UNSURE).first()),
            "holder": taken.item.leased_by if taken.item.is_leased() else None,
            "yours": {name: sent.get(name, "") for name in ("truth", "severity", "note")},
            "your_categories": sent.getlist("categories") if sent.get("truth") == Review.Truth.UNSAFE else [],
        }
        return _at_the_item(render(request, "review/not_saved.html", context, status=HTTPStatus.CONFLICT))
    notice = "Your hold on this item had ended, so your decision was not saved. You hold it again: please check and submit."
    return _item_page(request, found.pk, form=form, notice=notice, status=HTTPStatus.CONFLICT)


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
    except ItemTaken as taken:
        decided = taken.item.status == ReviewItem.Status.DECIDED
        return JsonResponse(
            {"decided": decided, "holder": presentation.display_name(taken.item.leased_by)}, status=HTTPStatus.CONFLICT
        )
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
