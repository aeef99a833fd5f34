"""What the API reads: an app's own exchanges and labels, as JSON-ready dicts."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet

from classifiers.result import Decision
from guardreview.core.models import App
from guardreview.learning.exports import cleared_rows
from guardreview.review.models import Label
from guardreview.review.selectors import LabelRow, is_doubted, label_of, label_rows, labels, outcome_of, with_label
from guardreview.verdicts.models import Exchange
from guardreview.verdicts.services import layer_result_as_library

PENDING_VERDICT: dict[str, Any] = {
    "decision": None,
    "is_safe": None,
    "category": None,
    "categories": [],
    "severity": None,
    "reason": None,
    "confidence": None,
    "layer": None,
    "versions": {},
}


class InvalidCursor(ValueError):
    """A cursor that no page gave."""


def exchange_get(*, app: App, exchange_id: UUID) -> Exchange:
    """One of the app's exchanges with all that `exchange_as_json` needs. Raises Exchange.DoesNotExist."""
    related = with_label(Exchange.objects.select_related("verdict")).prefetch_related("layer_results")
    exchange = related.get(pk=exchange_id, app=app)
    exchange.app = app
    return exchange


def exchange_as_json(exchange: Exchange) -> dict[str, Any]:
    """An exchange as the API gives it; no query for one that was stored a moment ago."""
    decided = exchange.status == Exchange.Status.DECIDED
    label = label_of(exchange) if decided else None
    results = [] if exchange.status == Exchange.Status.PENDING else exchange.layer_results.all()
    return {
        "id": exchange.pk,
        "status": exchange.status,
        "created_at": exchange.created_at,
        "conversation_id": exchange.conversation_id,
        "metadata": exchange.metadata,
        **(_verdict_as_json(exchange) if decided else PENDING_VERDICT),
        "answer": answer_of(exchange, label),
        "policy": f"policy-{exchange.policy_id}" if exchange.policy_id else None,
        "results": [layer_result_as_library(row).as_json() for row in results],
        "outcome": outcome_of(label) if label else None,
    }


def _verdict_as_json(exchange: Exchange) -> dict[str, Any]:
    verdict = exchange.verdict
    return {
        "decision": verdict.decision,
        "is_safe": verdict.is_safe,
        "category": verdict.category,
        "categories": verdict.categories,
        "severity": verdict.severity or None,
        "reason": verdict.reason,
        "confidence": round(verdict.confidence, 4),
        "layer": verdict.layer,
        "versions": verdict.versions,
    }


def may_be_shown(exchange: Exchange, label: Label | None) -> bool:
    """Whether the patient may read the response: what a pharmacist settled holds, before that the verdict; undecided is no."""
    if exchange.status != Exchange.Status.DECIDED:
        return False
    if label is not None:
        return label.value == Label.Value.SAFE and not is_doubted(exchange)
    return exchange.verdict.decision == Decision.ALLOW


def answer_of(exchange: Exchange, label: Label | None) -> str | None:
    """The text that the app may show, a pharmacist's own if they wrote one; None while the exchange is undecided."""
    if exchange.status != Exchange.Status.DECIDED:
        return None
    if may_be_shown(exchange, label):
        return exchange.response
    return (label.review.corrected_answer if label else "") or fallback_of(exchange.app)


def fallback_of(app: App) -> str:
    """What an app's patients read in place of a stopped response."""
    return app.fallback_text or settings.SAFE_FALLBACK


def exchange_page(
    *, app: App, limit: int, cursor: str = "", status: str = "", decision: str = ""
) -> tuple[list[dict[str, Any]], str | None]:
    """The app's exchanges, newest first, and the cursor of the next page. Raises InvalidCursor."""
    exchanges = Exchange.objects.filter(app=app).select_related("verdict").order_by("-created_at", "-pk")
    if status:
        exchanges = exchanges.filter(status=status)
    if decision:
        exchanges = exchanges.filter(verdict__decision=decision)
    if cursor:
        at, pk = _read_cursor(cursor)
        # The first condition is what an index can seek to.
        exchanges = exchanges.filter(Q(created_at__lt=at) | Q(created_at=at, pk__lt=pk), created_at__lte=at)
    rows = list(exchanges.defer("query", "response", "metadata")[: limit + 1])
    last = rows[limit - 1] if len(rows) > limit else None
    next_cursor = _cursor(f"{last.created_at.isoformat()}~{last.pk}") if last else None
    return [_row_as_json(exchange) for exchange in rows[:limit]], next_cursor


def _row_as_json(exchange: Exchange) -> dict[str, Any]:
    decided = exchange.status == Exchange.Status.DECIDED
    verdict = _verdict_as_json(exchange) if decided else PENDING_VERDICT
    return {
        "id": exchange.pk,
        "status": exchange.status,
        "created_at": exchange.created_at,
        "conversation_id": exchange.conversation_id,
        **{name: verdict[name] for name in ("decision", "category", "severity", "confidence", "layer")},
    }


def label_page(*, app: App, limit: int, cursor: str = "", since: datetime | None = None) -> tuple[list[LabelRow], str | None]:
    """The app's settled labels, redacted, in the order of settling, and the cursor of the next page. Raises InvalidCursor."""
    rows: QuerySet[Label] = labels(app=app, since=since)
    if cursor:
        rows = rows.filter(pk__gt=_read_label_cursor(cursor))
    pks = list(rows.values_list("pk", flat=True)[: limit + 1])
    page = labels(app=app).filter(pk__in=pks[:limit])
    return list(cleared_rows(label_rows(page))), _cursor(str(pks[limit - 1])) if len(pks) > limit else None


def conversation(*, app: App, conversation_id: str, turns: int) -> list[tuple[str, str]]:
    """The last (query, what the patient read) of a conversation, oldest first; none without an id."""
    if not conversation_id:
        return []
    earlier = with_label(Exchange.objects.filter(app=app, conversation_id=conversation_id).select_related("verdict", "app"))
    exchanges = list(earlier.order_by("-created_at", "-pk")[:turns])[::-1]
    return [(exchange.query, answer_of(exchange, label_of(exchange)) or fallback_of(app)) for exchange in exchanges]


def _cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidCursor from error


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    at, _, pk = _decoded(cursor).partition("~")
    try:
        return datetime.fromisoformat(at).astimezone(UTC), UUID(pk)
    except (ValueError, OverflowError) as error:
        raise InvalidCursor from error


def _read_label_cursor(cursor: str) -> int:
    text = _decoded(cursor)
    if not text.isdecimal() or len(text) > 18:
        raise InvalidCursor
    return int(text)
