"""Every non-trivial read of `review`: the queue and its counts, an item with all that is known of it, the labels."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from django.db.models import Count, Q, QuerySet
from django.db.models.functions import Left
from django.utils import timezone

from guardreview.core.models import App, User
from guardreview.review.models import Label, Review
from guardreview.verdicts.models import Exchange, ReviewItem

PAGE_SIZE = 25
HEAD_CHARS = 800
"""Of a query and a response, as much as a row of the queue may show."""


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """What the queue page shows; empty fields do not filter."""

    category: str = ""
    severity: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class QueuePage:
    """One page of the queue, and the cursor of the next (None: this is the last)."""

    items: Sequence[ReviewItem]
    next_cursor: str | None


def queue_page(*, filters: QueueFilter, cursor: str = "") -> QueuePage:
    """Open items by deadline, `PAGE_SIZE` at a time, from a cursor: no offset, no sort, no count.

    Of the texts, an item has the beginnings, as `query_head` and `response_head`. Raises ValueError on a bad cursor.
    """
    wanted = {name: value for name in ("category", "severity", "kind") if (value := getattr(filters, name))}
    items = ReviewItem.objects.filter(status=ReviewItem.Status.OPEN, **wanted)
    if cursor:
        due_at, pk = _read_cursor(cursor)
        items = items.filter(Q(due_at__gt=due_at) | Q(due_at=due_at, pk__gt=pk), due_at__gte=due_at)
    rows = list(
        items.select_related("exchange__app", "leased_by")
        # A page of the longest responses would be megabytes.
        .annotate(query_head=Left("exchange__query", HEAD_CHARS), response_head=Left("exchange__response", HEAD_CHARS))
        .defer("exchange__query", "exchange__response", "exchange__metadata")
        .order_by("due_at", "pk")[: PAGE_SIZE + 1]
    )
    more = len(rows) > PAGE_SIZE
    rows = rows[:PAGE_SIZE]
    return QueuePage(rows, f"{rows[-1].due_at.isoformat()}~{rows[-1].pk}" if more else None)


def _read_cursor(cursor: str) -> tuple[datetime, int]:
    text, _, pk = cursor.partition("~")
    due_at = datetime.fromisoformat(text)
    if due_at.tzinfo is None:
        raise ValueError("the cursor's moment has no time zone")
    return due_at, int(pk)


def open_counts() -> dict[str, int]:
    """How many items are open, by severity, in `total`, and `overdue`. One pass over an index."""
    late = Count("id", filter=Q(due_at__lt=timezone.now()))
    rows = list(ReviewItem.objects.filter(status=ReviewItem.Status.OPEN).values("severity").annotate(n=Count("id"), late=late))
    counts = {row["severity"]: row["n"] for row in rows}
    return {"total": sum(counts.values()), "overdue": sum(row["late"] for row in rows), **counts}


def next_candidates(*, user: User, skipped: Collection[int] = (), limit: int = 10) -> list[ReviewItem]:
    """The open items with the nearest deadlines that this person may take, without those (by key) that they skipped."""
    now = timezone.now()
    reviewed = Review.objects.filter(reviewer=user, item__status=ReviewItem.Status.OPEN).values("item_id")
    items = (
        ReviewItem.objects.filter(status=ReviewItem.Status.OPEN)
        .filter(Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lte=now) | Q(leased_by=user))
        .exclude(pk__in=reviewed)
        .exclude(pk__in=skipped)
        .order_by("due_at", "pk")
    )
    return list(items[:limit])


@dataclass(frozen=True, slots=True)
class ItemDetail:
    """An item with all that a pharmacist needs to decide it."""

    item: ReviewItem
    exchange: Exchange
    layers: list[Any] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    conversation: list[Exchange] = field(default_factory=list)


def item_detail(*, item_id: int) -> ItemDetail:
    """Raises ReviewItem.DoesNotExist."""
    item = ReviewItem.objects.select_related("exchange__app", "exchange__verdict__policy", "leased_by").get(pk=item_id)
    exchange = item.exchange
    conversation: list[Exchange] = []
    if exchange.conversation_id:
        earlier = Exchange.objects.filter(
            app=exchange.app, conversation_id=exchange.conversation_id, created_at__lt=exchange.created_at
        ).exclude(pk=exchange.pk)
        conversation = list(earlier.select_related("verdict").order_by("-created_at")[:5])[::-1]
    return ItemDetail(
        item=item,
        exchange=exchange,
        layers=list(exchange.layer_results.all()),
        reviews=list(item.reviews.select_related("reviewer")),
        conversation=conversation,
    )


def reviews_recent(*, user: User | None = None, limit: int = 50) -> QuerySet[Review]:
    """The latest decisions, of one person or of all."""
    reviews = Review.objects.select_related("item__exchange__verdict", "item__exchange__app", "reviewer").order_by("-pk")
    return (reviews.filter(reviewer=user) if user else reviews)[:limit]


def outcome_of(exchange: Exchange) -> dict[str, Any] | None:
    """What became of an exchange after review, as the app is told; None where no pharmacist has settled it."""
    label = getattr(exchange, "label", None)
    if label is None:
        return None
    return {
        "label": label.value,
        "categories": label.categories,
        "severity": label.severity or None,
        "confirms": label.review.confirms,
        "decided_at": label.created_at,
    }


def labels(*, app: App | None = None, since: datetime | None = None) -> QuerySet[Label]:
    """Settled labels in the order in which they were settled, with what an export needs."""
    rows = Label.objects.select_related("exchange__app", "exchange__verdict", "review").order_by("pk")
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
            "reviewer": f"reviewer-{label.review.reviewer_id}",
            "app": exchange.app.name,
            "inclusion_probability": label.inclusion_probability,
            "labelled_at": label.created_at.isoformat(),
        }
