"""An item as it is read. What is done with it is in `deciding`, the form that it carries in `decision_form`."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from classifiers.result import Decision
from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.core.services import audit
from guardreview.review import calibration, presentation, selectors
from guardreview.review.adjudication import adjudication_of
from guardreview.review.evidence import Piece, findings_of, pieces, segments
from guardreview.review.fact_cards import without_notes
from guardreview.review.forms import DecisionForm
from guardreview.review.guidelines import guidelines_for
from guardreview.review.history import history
from guardreview.review.leases import HandsFull, ItemTaken, item_lease
from guardreview.review.masking import Shield
from guardreview.review.queue import held_by
from guardreview.review.revealed import REASONS, revealed_until
from guardreview.review.selectors import ItemDetail
from guardreview.review.trace import trace
from guardreview.review.views.decision_form import decision_context
from guardreview.review.visibility import can_be_undone, is_decided_blind, sees, verdict_is_hidden
from guardreview.verdicts.models import Exchange, ReviewItem


@never_cache
@require_GET
@requires(Act.READ_QUEUE)
def item(request: HttpRequest, item_id: int) -> HttpResponse:
    """An item with all that is known of it, leased to whoever may decide it and comes first."""
    found = get_object_or_404(ReviewItem, pk=item_id)
    user = cast(User, request.user)
    # A page that masks itself again after its time is not somebody who comes to decide.
    if user.may(Act.DECIDE) and request.headers.get("HX-Trigger") != "revealed":
        try:
            with suppress(ItemTaken):  # the page says who has it
                item_lease(item=found, user=user)
        except HandsFull as refused:
            return item_page(request, item_id, hands_full=str(refused))
    return item_page(request, item_id)


def item_page(
    request: HttpRequest,
    item_id: int,
    *,
    form: DecisionForm | None = None,
    notice: str = "",
    reveal_message: str = "",
    hands_full: str = "",
    status: int = 200,
) -> HttpResponse:
    """The page as the item stands now; `form`: a decision that was not saved, kept with its message.

    `hands_full`: why its reader may not decide it though nobody else holds it.
    """
    try:
        detail = selectors.item_detail(item_id=item_id)
    except ReviewItem.DoesNotExist as error:
        raise Http404 from error
    user, now = cast(User, request.user), timezone.now()
    earlier = [str(turn.pk) for turn in detail.conversation]
    audit(actor=user.username, action="item.view", target=f"exchange:{detail.exchange.pk}", earlier=earlier)
    detail = calibration.as_seen_by(user, detail)
    shown, reviews = detail.item, detail.reviews
    hidden = verdict_is_hidden(shown, user, reviews)
    holds = shown.leased_by_id == user.pk and shown.is_leased(now)
    own_review = next((r for r in reviews if r.reviewer_id == user.pk and _counts(r, shown)), None)
    until = revealed_until(request, item_id)
    context = {
        "item": shown,
        "exchange": detail.exchange,
        "hidden": hidden,
        # As the queue shows it: an exchange that is older than its item was allowed, and drawn later.
        "since": shown.created_at if hidden else detail.exchange.created_at,
        "stage": presentation.STAGE_WORDS[shown.stage],
        "holds": holds,
        "taken": not holds and shown.is_leased(now),
        # Of who spoke before another whose word is settling, it is not their own that can be undone.
        "settling": shown.status == ReviewItem.Status.SETTLING and (own_review is None or can_be_undone(own_review, shown)),
        "own_review": own_review,
        "adjudication": adjudication_of(item=shown, reviews=reviews, response=detail.exchange.response, user=user),
        "known": calibration.known_truth(item=shown, reviews=reviews, user=user),
        "may_calibrate": calibration.may_calibrate(item=shown, user=user),
        "app_name": calibration.app_name(detail.exchange),
        "guidelines": guidelines_for(() if hidden else detail.exchange.verdict.categories),
        "notice": notice,
        "hands_full": hands_full,
        "held": held(user) if hands_full else [],
        "revealed_until": until,
        "revealed_for": max(0, int((until - now).total_seconds())) if until else 0,
        "reveal_reasons": REASONS,
        "reveal_message": reveal_message,
        **_texts(detail, user, hidden=hidden, revealed=until is not None),
    }
    if not hidden:
        context |= {
            "verdict": detail.exchange.verdict,
            "kind": presentation.KIND_WORDS[shown.kind],
            "due": presentation.due_words(shown.due_at, now),
        }
    if holds:
        context |= decision_context(shown, detail.exchange.verdict, form)
    return at_the_item(render(request, "review/item.html", context, status=status))


def _texts(detail: ItemDetail, user: User, *, hidden: bool, revealed: bool) -> dict[str, Any]:
    """All that holds patients' words, as it may be shown; of what the cascade said, nothing if that is `hidden`."""
    shown, exchange, verdict = detail.item, detail.exchange, detail.exchange.verdict
    turns = [text for turn in detail.conversation for text in (turn.query, turn.response)]
    shield = Shield([exchange.query, exchange.response, *turns], revealed=revealed)

    def show(text: str) -> list[Piece]:
        return pieces(text, shield.masks(text))

    masks = shield.masks(exchange.response)
    findings = [] if hidden else findings_of(detail.layers, exchange.response, masks)
    visible = [review for review in detail.reviews if sees(review, shown, user, detail.reviews)]
    texts: dict[str, Any] = {
        "query": show(exchange.query),
        "segments": segments(exchange.response, findings, masks),
        "turns": [(turn, show(turn.query), show(turn.response), _known(turn, hidden=hidden)) for turn in detail.conversation],
        "conversation_id": show(exchange.conversation_id),
        "findings": findings,
        "events": history(
            item=shown,
            decision=verdict.decision,
            user=user,
            reviews=detail.reviews,
            skips=detail.skips,
            audited=detail.audited,
            show=show,
        ),
        "statements": [
            (review, show(review.note), show(review.corrected_answer), presentation.outcome_words(review, verdict.decision))
            for review in visible
            if _counts(review, shown) and shown.status == ReviewItem.Status.DECIDED
        ],
    }
    if not hidden:
        texts["reason"] = show(presentation.sentence(without_notes(verdict.reason)))
        texts["trace"] = trace(verdict, detail.layers, findings, show)
    return texts | {"holds_personal_data": shield.holds}


def held(user: User) -> list[tuple[int, str, str]]:
    """(key, title, how much longer) of each item that this person holds, the one that is free first first."""
    now = timezone.now()
    return [
        (
            item.pk,
            "Blind review" if is_decided_blind(item) else presentation.category_words(item.category),
            presentation.duration(item.lease_expires_at - now),
        )
        for item in held_by(user).order_by("lease_expires_at", "pk")
        if item.lease_expires_at is not None
    ]


def _counts(review: Any, item: ReviewItem) -> bool:
    return review.round == item.round and review.undone_at is None


def _known(turn: Exchange, *, hidden: bool) -> str:
    """The decision on an earlier turn; empty where it would tell something of an item that is to be reviewed blind."""
    reviewed = getattr(turn, "review_item", None)
    if hidden or (reviewed is not None and reviewed.blind and reviewed.status != ReviewItem.Status.DECIDED):
        return ""
    verdict = getattr(turn, "verdict", None)
    return str(Decision(verdict.decision)) if verdict is not None else ""


def at_the_item(response: HttpResponse) -> HttpResponse:
    """The address bar stays with the item where htmx shows an answer that is not saved: reloading must not submit again."""
    if response.status_code != HTTPStatus.OK:
        response.headers["HX-Push-Url"] = "false"
    return response
