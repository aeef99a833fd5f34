"""Every write of a decision: an item is decided, perhaps undone, settled into a label, reopened. Leases are in `leases`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import CharField, Exists, OuterRef
from django.db.models.functions import Cast
from django.utils import timezone

from guardreview.core.models import OutboxEvent, User
from guardreview.core.outbox import handles, outbox_add, outbox_cancel
from guardreview.core.roles import Act
from guardreview.core.services import audit
from guardreview.review import queue
from guardreview.review.leases import ItemTaken
from guardreview.review.models import Doubt, Label, Review
from guardreview.review.settlement import Open, Settled, Statement, next_step
from guardreview.review.statements import InvalidReview, check_answer, check_statement, confirms, note_is_required
from guardreview.review.visibility import is_decided_blind
from guardreview.verdicts.models import Exchange, ReviewItem, Verdict
from guardreview.verdicts.services import TO_EMBED

log = structlog.get_logger(__name__)
SETTLE = "review.settle"
"""The outbox's topic: an item whose last review can no longer be undone. The target is its key."""
LABELLED = "label.settled"
"""The outbox's topic: a label that the app is to hear of. The target begins with its key."""


class LeaseLost(ItemTaken):
    """The lease that the decision was made under has passed to another, or the item was decided meanwhile."""


class TooLate(Exception):
    """What was to be undone is settled, and the app may know of it; or it is not this person's to undo or reopen."""


def review_create(
    *,
    item: ReviewItem,
    reviewer: User,
    token: UUID,
    truth: str,
    categories: list[str] | None = None,
    severity: str = "",
    spans: Sequence[dict[str, int]] = (),
    note: str = "",
    corrected_answer: str = "",
    seconds: float | None = None,
    key: UUID | None = None,
    turn: str = "",
) -> Review:
    """Store a pharmacist's statement; what follows from it is settled once it can no longer be undone (`UNDO_S` seconds).

    `spans`: the dangerous words, as {"start", "end"} in characters of the response. `turn`: what `turn_of` said when the page was
    made. `key`: the same key again, or the same statement by the same reviewer (a double click, a resent form), gives the first
    review. Raises InvalidReview, LeaseLost.
    """
    categories = list(dict.fromkeys(categories or []))
    note, corrected_answer = note.strip(), corrected_answer.strip()
    if corrected_answer:
        check_answer(item, corrected_answer)
    try:
        with transaction.atomic():
            if key and (sent := Review.objects.filter(key=key, reviewer=reviewer, item_id=item.pk).first()):
                if sent.undone_at is not None:  # a page from before it was taken back
                    raise LeaseLost(item)
                return sent
            locked = ReviewItem.objects.select_for_update().get(pk=item.pk)
            exchange = Exchange.objects.select_related("verdict").get(pk=locked.exchange_id)
            check_statement(exchange, truth, categories, severity, spans, note, corrected_answer)
            blind = is_decided_blind(locked)
            earlier = Review.objects.filter(item=locked, reviewer=reviewer, round=locked.round, undone_at=None).first()
            if earlier is not None and _said(earlier) == (truth, categories, severity, list(spans), note, corrected_answer):
                return earlier
            # Asked again, since a role may change under a lease.
            is_theirs = queue.decidable_by(reviewer, ReviewItem.objects.filter(pk=locked.pk)).exists()
            holds = locked.lease_token == token and locked.leased_by_id == reviewer.pk
            # A page of an earlier turn may have got a new token meanwhile: it did not show what its reader must know now.
            if not (is_theirs and holds) or (turn and turn != turn_of(locked)):
                raise LeaseLost(locked)
            if locked.stage == ReviewItem.Stage.ADJUDICATION and truth == Review.Truth.UNSURE:
                raise InvalidReview("Your word settles it: say safe or unsafe, or skip it for another lead.")
            # Where the verdict is hidden, the requirement would give it away.
            if not note and not blind and note_is_required(locked, exchange.verdict.decision, truth):
                raise InvalidReview("Please write why: this decision needs a reason.")
            review = Review.objects.create(
                item=locked,
                reviewer=reviewer,
                round=locked.round,
                stage=locked.stage,
                blind=blind,
                truth=truth,
                categories=categories,
                severity=severity,
                spans=list(spans),
                note=note,
                corrected_answer=corrected_answer,
                confirms=confirms(exchange.verdict.decision, truth),
                seconds=seconds,
                key=key,
            )
            audit(
                actor=reviewer.username,
                action="review.create",
                target=f"exchange:{locked.exchange_id}",
                review=review.pk,
                truth=truth,
                confirms=review.confirms,
            )
            _after_review(locked)
            return review
    except IntegrityError as error:  # a constraint caught what the lock did not
        raise LeaseLost(ReviewItem.objects.get(pk=item.pk)) from error


def turn_of(item: ReviewItem) -> str:
    """Whose turn it is at an item: a form carries it, and a decision counts only in the turn that it was made in."""
    return f"{item.round}-{item.stage}"


def _said(review: Review) -> tuple[Any, ...]:
    return review.truth, review.categories, review.severity, review.spans, review.note, review.corrected_answer


def _after_review(item: ReviewItem) -> None:
    item.leased_by = item.lease_token = item.lease_expires_at = None
    if item.kind == ReviewItem.Kind.CALIBRATION:  # stays open: everybody is to decide it once
        item.save(update_fields=["leased_by", "lease_token", "lease_expires_at"])
        return
    item.status = ReviewItem.Status.SETTLING
    item.save(update_fields=["status", "leased_by", "lease_token", "lease_expires_at"])
    if settings.UNDO_S:
        outbox_add(topic=SETTLE, target=str(item.pk), available_at=timezone.now() + timedelta(seconds=settings.UNDO_S))
    else:
        item_settle(item_id=item.pk)


def review_undo(*, review: Review, user: User) -> ReviewItem:
    """Take a statement back; the item is its author's again. Raises TooLate once it is settled.

    Before that nobody else has seen it: neither another pharmacist nor the app.
    """
    with transaction.atomic():
        # The event first, then the item: the order in which delivering locks them, so that the two never wait for each other.
        if not outbox_cancel(topic=SETTLE, target=str(review.item_id)):
            raise TooLate
        item = ReviewItem.objects.select_for_update().get(pk=review.item_id)
        current = Review.objects.filter(pk=review.pk, reviewer=user, undone_at=None, round=item.round).first()
        last = Review.objects.filter(item=item, undone_at=None).order_by("-pk").first()
        if current is None or last != current or item.status != ReviewItem.Status.SETTLING:
            raise TooLate  # which brings the event back
        Review.objects.filter(pk=review.pk).update(undone_at=timezone.now())
        _give_to(item, user)
        audit(actor=user.username, action="review.undo", target=f"exchange:{item.exchange_id}", review=review.pk)
    return item


def _give_to(item: ReviewItem, user: User) -> None:
    item.status = ReviewItem.Status.OPEN
    item.leased_by, item.lease_token = user, uuid4()
    item.lease_expires_at = timezone.now() + timedelta(seconds=settings.LEASE_S)
    item.save(update_fields=["status", "stage", "round", "blind", "due_at", "leased_by", "lease_token", "lease_expires_at"])


@handles(SETTLE)
def _settle_event(target: str) -> None:
    item_settle(item_id=int(target))


def item_settle(*, item_id: int) -> None:
    """Draw what follows from an item's reviews: the label, or that it goes on to a second pharmacist or a lead.

    An item that is not settling (settled before, or taken back) is left as it is.
    """
    with transaction.atomic():
        item = ReviewItem.objects.select_for_update().get(pk=item_id)
        if item.status != ReviewItem.Status.SETTLING:
            return
        verdict = Verdict.objects.get(exchange_id=item.exchange_id)
        reviews = list(Review.objects.filter(item=item, round=item.round, undone_at=None).order_by("pk"))
        step = step_of(item, verdict.decision, reviews)
        if isinstance(step, Open):
            item.status, item.stage = ReviewItem.Status.OPEN, ReviewItem.Stage(step.stage)
        else:
            item.status = ReviewItem.Status.DECIDED
            _label(item, reviews[-1], step.basis)
        item.save(update_fields=["status", "stage"])


def step_of(item: ReviewItem, decision: str, reviews: Sequence[Statement]) -> Open | Settled:
    """What `next_step` says under the settings. `decision`: the verdict's. `reviews`: those of the item's round that stand."""
    return next_step(decision=decision, severity=item.severity, second_eyes=settings.SECOND_EYES, reviews=reviews)


def settle_forgotten(limit: int = 200) -> int:
    """Store the settling event anew for items that are settling without one, since somebody deleted it, say; how many."""
    event = OutboxEvent.objects.filter(topic=SETTLE, target=OuterRef("key"))
    settling = ReviewItem.objects.filter(status=ReviewItem.Status.SETTLING).annotate(key=Cast("pk", CharField()))
    forgotten = list(settling.filter(~Exists(event)).order_by("pk").values_list("pk", flat=True)[:limit])
    for key in forgotten:
        outbox_add(topic=SETTLE, target=str(key), available_at=timezone.now())
    if forgotten:
        log.warning("settling_without_event", count=len(forgotten))
    return len(forgotten)


def _label(item: ReviewItem, review: Review, basis: str) -> None:
    superseded = Label.objects.filter(exchange_id=item.exchange_id, is_current=True).update(is_current=False)
    doubts = Doubt.objects.filter(label__exchange_id=item.exchange_id, resolved_at=None)
    doubts.update(resolved_at=timezone.now(), resolved_by=review.reviewer)
    label = Label.objects.create(
        exchange_id=item.exchange_id,
        review=review,
        basis=basis,
        value=review.truth,
        categories=review.categories,
        severity=review.severity,
        inclusion_probability=item.inclusion_probability,
    )
    outbox_add(topic=LABELLED, target=str(label.pk), available_at=timezone.now())
    audit(
        actor=review.reviewer.username,
        action="label.settle",
        target=f"exchange:{item.exchange_id}",
        label=label.pk,
        value=label.value,
        basis=basis,
        supersedes=bool(superseded),
    )
    outbox_add(topic=TO_EMBED, target=str(item.exchange_id), available_at=timezone.now())


def item_reopen(*, item: ReviewItem, user: User) -> ReviewItem:
    """Decide a settled item anew, as a new round of reviews; the label stands until the new round settles. Raises TooLate.

    A pharmacist may reopen what is among their last ten decisions, if it was theirs that settled it; who adjudicates, any. They
    may also start anew what waits for somebody else than them: where there is nobody else, it could never be settled. The truth
    of a calibration item is known: it is never reopened.
    """
    with transaction.atomic():
        locked = ReviewItem.objects.select_for_update().get(pk=item.pk)
        settled = locked.status == ReviewItem.Status.DECIDED
        if not (settled or _waits_for_others(locked, user)) or locked.kind == ReviewItem.Kind.CALIBRATION:
            raise TooLate
        if not user.may(Act.ADJUDICATE):
            own = Label.objects.filter(exchange_id=locked.exchange_id, is_current=True, review__reviewer=user)
            if not own.exists() or locked.pk not in queue.reopenable_items(user=user):
                raise TooLate
        locked.round += 1
        locked.stage = ReviewItem.Stage.FIRST
        locked.blind = False
        locked.due_at = timezone.now() + timedelta(minutes=settings.SLA_MINUTES[locked.severity])
        _give_to(locked, user)
        audit(actor=user.username, action="item.reopen", target=f"exchange:{locked.exchange_id}", round=locked.round)
    return locked


def _waits_for_others(item: ReviewItem, user: User) -> bool:
    """Whether nobody holds the open item, and this person, who may adjudicate, has spoken in its round."""
    if item.status != ReviewItem.Status.OPEN or item.is_leased() or not user.may(Act.ADJUDICATE):
        return False
    return Review.objects.filter(item=item, reviewer=user, round=item.round, undone_at=None).exists()
