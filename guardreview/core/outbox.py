"""The outbox: what is to follow from a committed change, later and surely. One row an event, gone once it was handled.

An event is stored in the transaction that causes it and handled after its moment has come, at least once, by the task `deliver`.
Until then it can be taken back in the same way. Whoever handles a topic registers for it: `@handles("review.settle")`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from django.db import connection, transaction
from django.utils import timezone

from guardreview.core.models import OutboxEvent

log = structlog.get_logger(__name__)

Handler = Callable[[str], None]
_handlers: dict[str, Handler] = {}
BATCH = 200
MAX_BACKOFF_S = 600


def handles(topic: str) -> Callable[[Handler], Handler]:
    """Register the one function that is called with the target of each event of a topic, in a transaction of its own."""

    def register(handler: Handler) -> Handler:
        _handlers[topic] = handler
        return handler

    return register


def outbox_add(*, topic: str, target: str, available_at: datetime) -> OutboxEvent:
    """Store an event, in the caller's transaction."""
    return OutboxEvent.objects.create(topic=topic, target=target, available_at=available_at)


def outbox_cancel(*, topic: str, target: str) -> bool:
    """Take back what has not been handled yet; False if there is nothing to take back."""
    return bool(OutboxEvent.objects.filter(topic=topic, target=target).delete()[0])


def outbox_deliver() -> int:
    """Handle what is due, oldest first, and say how many. What fails comes again later, each time after twice the wait."""
    count = 0
    while count < BATCH and _deliver_one():
        count += 1
    return count


def _deliver_one() -> bool:
    with transaction.atomic():
        due = OutboxEvent.objects.filter(available_at__lte=timezone.now(), topic__in=_handlers).order_by("available_at", "id")
        skip = connection.features.has_select_for_update_skip_locked
        event = due.select_for_update(skip_locked=skip).first()
        if event is None:
            return False
        try:
            with transaction.atomic():
                _handlers[event.topic](event.target)
        except Exception as error:
            # One that cannot be handled must not keep the others waiting. Its message stays out of the log: it may quote a row.
            wait = min(2**event.attempts, MAX_BACKOFF_S)
            event.attempts = min(event.attempts + 1, 30)
            event.available_at = timezone.now() + timedelta(seconds=wait)
            event.save(update_fields=["attempts", "available_at"])
            log.error("outbox_failed", topic=event.topic, target=event.target, error=type(error).__name__)
        else:
            event.delete()
    return True
