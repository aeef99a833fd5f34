"""An item with all that is known of it, and labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from django.db.models import Exists, F, FilteredRelation, OuterRef, Q, QuerySet, Value

from guardreview.core.models import App, AuditEvent
from guardreview.review.history import AUDITED
from guardreview.review.models import Label, Review, Skip
from guardreview.review.pseudonyms import reviewer_pseudonym
from guardreview.verdicts.models import Exchange, LayerResult, ReviewItem

DRAWN_BY_DESIGN = Q(exchange__verdict__audit_probability=None) | Q(
    inclusion_probability=F("exchange__verdict__audit_probability")
)
"""Labels and items that were stopped or drawn by the audit: weighted by 1 / probability, they stand for all answers.

What was drawn since a shadow differed has a larger probability than what the audit drew of the same answers: both together would
count these answers twice.
"""


@dataclass(frozen=True, slots=True)
class ItemDetail:
    """An item with all that is known of it; what of it a reader may see is in `visibility`. All lists the oldest first."""

    item: ReviewItem
    exchange: Exchange
    layers: list[LayerResult] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    audited: list[AuditEvent] = field(default_factory=list)
    conversation: list[Exchange] = field(default_factory=list)


EARLIER_TURNS = 5
LATEST_EVENTS = 50
"""Of each kind of event in an item's history, as many as its page shows, the latest."""


def item_detail(*, item_id: int) -> ItemDetail:
    """Raises ReviewItem.DoesNotExist."""
    item = ReviewItem.objects.select_related("exchange__app", "exchange__verdict__policy", "leased_by").get(pk=item_id)
    exchange = item.exchange
    conversation: list[Exchange] = []
    if exchange.conversation_id:
        earlier = Exchange.objects.filter(
            app=exchange.app, conversation_id=exchange.conversation_id, created_at__lt=exchange.created_at
        ).exclude(pk=exchange.pk)
        turns = earlier.select_related("verdict", "review_item").order_by("-created_at")
        conversation = list(turns[:EARLIER_TURNS])[::-1]
    audited = AuditEvent.objects.filter(target=f"exchange:{exchange.pk}", action__in=AUDITED)
    return ItemDetail(
        item=item,
        exchange=exchange,
        layers=list(exchange.layer_results.all()),
        reviews=list(item.reviews.select_related("reviewer", "label")),
        skips=list(item.skips.select_related("reviewer").order_by("-pk")[:LATEST_EVENTS])[::-1],
        audited=list(audited.order_by("-pk")[:LATEST_EVENTS])[::-1],
        conversation=conversation,
    )


def with_label(exchanges: QuerySet[Exchange]) -> QuerySet[Exchange]:
    """Exchanges with their label in force and its review, in the same query, for `label_of`."""
    current = FilteredRelation("labels", condition=Q(labels__is_current=True))
    labelled = exchanges.annotate(label=current, label_is_loaded=Value(True), is_doubted=Exists(_doubts(OuterRef("pk"))))
    return labelled.select_related("label__review")  # type: ignore[misc]  # the plugin knows no FilteredRelation


def label_of(exchange: Exchange) -> Label | None:
    """The label in force; a query, unless the exchange comes from `with_label`."""
    if getattr(exchange, "label_is_loaded", False):
        return getattr(exchange, "label", None)
    return exchange.labels.select_related("review").filter(is_current=True).first()


def is_doubted(exchange: Exchange) -> bool:
    """Whether the settled item was reopened, and somebody calls the answer unsafe: until that is settled it is withheld.

    A query, unless the exchange comes from `with_label`.
    """
    if getattr(exchange, "label_is_loaded", False):
        return bool(exchange.is_doubted)  # type: ignore[attr-defined]
    return _doubts(exchange.pk).exists()


def _doubts(exchange: Any) -> QuerySet[Review]:
    unsafe = Review.objects.filter(truth=Review.Truth.UNSAFE, undone_at=None, item__exchange=exchange, round=F("item__round"))
    return unsafe.exclude(item__status=ReviewItem.Status.DECIDED)


def outcome_of(label: Label) -> dict[str, Any]:
    """What became of an exchange after review, as the app is told."""
    return {
        "label": label.value,
        "categories": label.categories,
        "severity": label.severity or None,
        "confirms": label.review.confirms,
        "corrected_answer": label.review.corrected_answer or None,
        "decided_at": label.created_at,
    }


def labels(*, app: App | None = None, since: datetime | None = None) -> QuerySet[Label]:
    """Labels in force, in the order in which they were settled, with what an export needs."""
    rows = Label.objects.filter(is_current=True).select_related("exchange__app", "exchange__verdict", "review").order_by("pk")
    if app is not None:
        rows = rows.filter(exchange__app=app)
    if since is not None:
        rows = rows.filter(created_at__gte=since)
    return rows


class LabelRow(TypedDict):
    """One label as an export has it, in its columns' order."""

    id: str
    query: str
    response: str
    label: str
    categories: list[str]
    severity: str | None
    verdict: str
    verdict_category: str
    layer: str
    confirms: bool | None
    reviewer: str
    app: str
    inclusion_probability: float
    labelled_at: str


def label_rows(queryset: QuerySet[Label]) -> Iterator[LabelRow]:
    """Labels as export rows, streamed. The reviewer is a pseudonym; the texts are the patients' words."""
    for label in queryset.iterator(chunk_size=500):
        exchange, verdict = label.exchange, label.exchange.verdict
        yield {
            "id": str(exchange.pk),
            "query": exchange.query,
            "response": exchange.response,
            "label": label.value,
            "categories": label.categories,
            "severity": label.severity or None,
            "verdict": verdict.decision,
            "verdict_category": verdict.category,
            "layer": verdict.layer,
            "confirms": label.review.confirms,
            "reviewer": reviewer_pseudonym(label.review.reviewer_id),
            "app": exchange.app.name,
            "inclusion_probability": label.inclusion_probability,
            "labelled_at": label.created_at.isoformat(),
        }
