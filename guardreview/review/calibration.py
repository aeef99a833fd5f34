"""Calibration items: settled cases whose truth is known, which every pharmacist decides once without knowing that they are one.

Such an item is a copy, so that the original stays what it is: an exchange without personal data, under an internal app that has
no key and speaks to no API. What is said of it never becomes a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Prefetch
from django.utils import timezone

from classifiers.allow_list import AllowList
from classifiers.redaction import Redacted, RedactionError, redact
from guardreview.core.models import App, User
from guardreview.core.roles import Act
from guardreview.core.services import audit
from guardreview.review.models import Calibration, Label, Review
from guardreview.review.selectors import ItemDetail
from guardreview.verdicts.models import Exchange, LayerResult, ReviewItem, Verdict

APP_NAME = "calibration"
MAX_EXPLANATION = 4000
SHOWN = 200
"""Of all calibration items, as many as the list shows, the newest first."""


class NoCalibration(ValueError):
    """This item cannot become a calibration item; the message is for the lead."""


# --- Writes ---------------------------------------------------------------------------------------------------------------
def calibration_create(*, item: ReviewItem, user: User, explanation: str) -> Calibration:
    """Make a calibration item of a settled one: its truth is the label in force. Raises NoCalibration."""
    explanation = explanation.strip()
    if not explanation:
        raise NoCalibration("Say why this is the truth: whoever decides the item reads it afterwards.")
    if len(explanation) > MAX_EXPLANATION:
        raise NoCalibration(f"The explanation is longer than {MAX_EXPLANATION:,} characters.")
    label = Label.objects.filter(exchange_id=item.exchange_id, is_current=True).first()
    if label is None or item.status != ReviewItem.Status.DECIDED or item.kind == ReviewItem.Kind.CALIBRATION:
        raise NoCalibration("Only a settled item can become a calibration item.")
    original = Exchange.objects.select_related("app", "verdict").get(pk=item.exchange_id)
    try:
        copy = _Copy(original, list(original.layer_results.all()))
        explanation = _redacted(explanation).text
    except RedactionError as error:
        raise NoCalibration("This text cannot be cleared of personal data, so it must not be shown to others.") from error
    try:
        with transaction.atomic():
            made = _store(copy, item, label, user, explanation)
            audit(
                actor=user.username,
                action="calibration.create",
                target=f"exchange:{original.pk}",
                item=made.item_id,
                truth=made.truth,
            )
    except IntegrityError as error:  # the copy's key is the original's
        raise NoCalibration("This item has become a calibration item already.") from error
    return made


def _store(copy: _Copy, item: ReviewItem, label: Label, user: User, explanation: str) -> Calibration:
    app, _ = App.objects.get_or_create(name=APP_NAME, defaults={"is_active": False})
    if app.is_active or app.keys.exists():
        raise NoCalibration(
            "A chat app is called “calibration” and would be given the copies. Ask an administrator to rename it."
        )
    exchange = copy.exchange
    exchange.app = app
    exchange.save(force_insert=True)
    copy.verdict.exchange = exchange
    copy.verdict.save(force_insert=True)
    for result in copy.results:
        result.exchange = exchange
    LayerResult.objects.bulk_create(copy.results)
    made = ReviewItem.objects.create(
        exchange=exchange,
        kind=ReviewItem.Kind.CALIBRATION,
        blind=True,
        severity=item.severity,
        category=item.category,
        layer=item.layer,
        language=item.language,
        due_at=timezone.now() + timedelta(minutes=settings.SLA_MINUTES[item.severity]),
    )
    return Calibration.objects.create(
        item=made,
        truth=label.value,
        categories=label.categories,
        severity=label.severity,
        explanation=explanation,
        made_by=user,
    )


class _Copy:
    """An exchange, its verdict and its layer results as unsaved rows, without personal data; evidence moves with the text."""

    def __init__(self, original: Exchange, results: Sequence[LayerResult]) -> None:
        response = _redacted(original.response)
        self.exchange = Exchange(
            query=_redacted(original.query).text,
            response=response.text,
            # So that its page names the app of the original, not this one, which would tell that its truth is known.
            metadata={"app": original.app.name},
            patient_waiting=original.patient_waiting,
            # Unique in the app: an exchange is copied once.
            idempotency_key=str(original.pk),
            body_digest="-",
            status=Exchange.Status.DECIDED,
            policy_id=original.policy_id,
        )
        verdict = original.verdict
        # No audit probability: a copy says nothing about what the cascade misses.
        self.verdict = Verdict(
            **_fields(verdict, Verdict, without={"exchange", "audit_probability", "reason"}),
            reason=_redacted(verdict.reason).text,
        )
        self.results = [
            LayerResult(
                **_fields(result, LayerResult, without={"id", "exchange", "reason", "evidence"}),
                reason=_redacted(result.reason).text,
                evidence=[_moved(evidence, response) for evidence in result.evidence],
            )
            for result in results
        ]


def _fields(row: Any, model: Any, without: set[str]) -> dict[str, Any]:
    kept = [field for field in model._meta.concrete_fields if field.name not in without]
    return {field.attname: getattr(row, field.attname) for field in kept}


def _redacted(text: str) -> Redacted:
    return redact(text, AllowList(settings.PII_ALLOW))


def _moved(evidence: dict[str, Any], redacted: Redacted) -> dict[str, Any]:
    """Evidence where its words stand in the redacted text; a placeholder that it touches is all within it."""
    start = _new_position(evidence["start"], redacted, at_end=False)
    end = _new_position(evidence["end"], redacted, at_end=True)
    return {**evidence, "start": start, "end": end, "text": redacted.text[start:end]}


def _new_position(position: int, redacted: Redacted, *, at_end: bool) -> int:
    shift = 0
    for span in redacted.spans:
        if span.start >= position:
            break
        new_start, length = span.start + shift, len(span.placeholder)
        if position < span.end:
            return new_start + length if at_end else new_start
        shift += length - (span.end - span.start)
    return position + shift


def calibration_freshen(*, item: ReviewItem) -> None:
    """Make an item that was just leased look as if it had come just now: its true age would tell what it is."""
    now = timezone.now()
    item.created_at = now - timedelta(seconds=40)
    item.due_at = item.created_at + timedelta(minutes=settings.SLA_MINUTES[item.severity])
    item.save(update_fields=["created_at", "due_at"])
    Exchange.objects.filter(pk=item.exchange_id).update(created_at=item.created_at)


def calibration_retire(*, calibration: Calibration, user: User) -> bool:
    """Nobody is asked any more; what was said of it stays. False if it was retired already."""
    with transaction.atomic():
        items = ReviewItem.objects.filter(pk=calibration.item_id, status=ReviewItem.Status.OPEN)
        retired = items.update(status=ReviewItem.Status.DECIDED, leased_by=None, lease_token=None, lease_expires_at=None)
        if retired:
            audit(actor=user.username, action="calibration.retire", target=f"exchange:{calibration.item.exchange_id}")
    return bool(retired)


# --- Reads ----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """One calibration item: how many decided it, and of those how many said its truth.

    `known`: whether the reader knows its truth; else it is not told, since they are still to decide it themselves.
    """

    calibration: Calibration
    answered: int
    agreed: int
    known: bool

    @property
    def retired(self) -> bool:
        return self.calibration.item.status == ReviewItem.Status.DECIDED

    @property
    def share(self) -> int:
        """Percent."""
        return round(100 * self.agreed / self.answered) if self.answered else 0


def calibration_rows(*, user: User) -> list[CalibrationRow]:
    """The calibration items as `user` may see them, those in use first, then the newest."""
    said = Prefetch("item__reviews", Review.objects.filter(undone_at=None))
    found = Calibration.objects.select_related("item__exchange", "made_by").prefetch_related(said).order_by("-pk")
    rows = []
    for calibration in found[:SHOWN]:
        reviews = list(calibration.item.reviews.all())
        agreed = sum(review.truth == calibration.truth for review in reviews)
        rows.append(CalibrationRow(calibration, len(reviews), agreed, _knows(user, calibration, reviews)))
    return sorted(rows, key=lambda row: row.retired)


@dataclass(frozen=True, slots=True)
class KnownTruth:
    """The truth of a calibration item beside what its reader said of it, if they did."""

    calibration: Calibration
    own: Review | None

    @property
    def agrees(self) -> bool:
        return self.own is not None and self.own.truth == self.calibration.truth


def known_truth(*, item: ReviewItem, reviews: Sequence[Review], user: User) -> KnownTruth | None:
    """What the page of a calibration item tells once its reader has decided it; None before, and on every other item.

    The item's view puts it into the page's context as `known`, for `calibration/_known.html`.
    """
    if item.kind != ReviewItem.Kind.CALIBRATION:
        return None
    calibration = Calibration.objects.select_related("made_by", "item").get(item=item)
    standing = [review for review in reviews if review.undone_at is None]
    if not _knows(user, calibration, standing):
        return None
    return KnownTruth(calibration, next((review for review in standing if review.reviewer_id == user.pk), None))


def _knows(user: User, calibration: Calibration, reviews: Sequence[Review]) -> bool:
    """Who made it, has decided it, or may still see it but is never asked."""
    if calibration.made_by_id == user.pk or any(review.reviewer_id == user.pk for review in reviews):
        return True
    return calibration.item.status == ReviewItem.Status.DECIDED or not user.may(Act.DECIDE)


def app_name(exchange: Exchange) -> str:
    """The app as an item's page names it: of a copy, the original's."""
    return str(exchange.metadata.get("app", "")) if exchange.app.name == APP_NAME else exchange.app.name


def as_seen_by(user: User, detail: ItemDetail) -> ItemDetail:
    """An item without what others said and did, if it is a calibration item: so many would tell what it is, and sway."""
    if detail.item.kind != ReviewItem.Kind.CALIBRATION:
        return detail
    own = [review for review in detail.reviews if review.reviewer_id == user.pk]
    return replace(detail, reviews=own, skips=[], audited=[])


def may_calibrate(*, item: ReviewItem, user: User) -> bool:
    """Whether this person may make a calibration item of this one: a lead, of what is settled and was not copied before."""
    settled = item.status == ReviewItem.Status.DECIDED and item.kind != ReviewItem.Kind.CALIBRATION
    if not (settled and user.may(Act.ADJUDICATE)):
        return False
    return not Exchange.objects.filter(app__name=APP_NAME, idempotency_key=str(item.exchange_id)).exists()
