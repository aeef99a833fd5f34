"""The outbox: what is to follow from a committed change, later and surely. One row an event, gone once it was handled.

An event is stored in the transaction that causes it and handled after its moment has come, at least once, by the task `deliver`.
Until then it can be taken back in the same way. Whoever handles a topic registers for it: `@handles("review.settle")`. A topic
that nobody registered for is left alone: whoever works on it elsewhere takes its events with `outbox_lease`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from guardreview.core.models import OutboxEvent

log = structlog.get_logger(__name__)

Handler = Callable[[str], None]
BATCH = 100
MAX_BACKOFF_S = 600
MAX_ATTEMPTS_COUNTED = 30
_handlers: dict[str, Handler] = {}


def handles(topic: str) -> Callable[[Handler], Handler]:
    """Register the one function that is called with the target of each event of a topic, in a transaction of its own.

    So it only writes to the database. Work that waits for anything else is a topic of its own, for `outbox_lease`.
    """

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


def outbox_deliver(*, for_s: float = math.inf) -> int:
    """Handle what is due, oldest first, until nothing is or the time is over; say how many.

    What fails comes again later, each time after twice the wait. Several may deliver at once: each event is handled by one.
    """
    end = time.monotonic() + for_s
    count, found = 0, True
    while found:
        found = False
        for key in list(_due().filter(topic__in=_handlers).values_list("pk", flat=True)[:BATCH]):
            if _deliver_one(key):
                found = True
                count += 1
            if time.monotonic() >= end:
                return count
    return count


def outbox_lease(*, topic: str, limit: int, for_s: float) -> list[OutboxEvent]:
    """Take at most `limit` events that are due, oldest first, for work outside of any transaction.

    Who takes them deletes each when its work is done, or puts it off; else they come again after `for_s` seconds.
    """
    until = timezone.now() + timedelta(seconds=for_s)
    with transaction.atomic():
        events = list(_locked(_due().filter(topic=topic))[:limit])
        OutboxEvent.objects.filter(pk__in=[event.pk for event in events]).update(available_at=until)
    return events


def outbox_put_off(event: OutboxEvent, *, wait_s: float) -> None:
    """It failed once more, and comes again after the wait."""
    attempts = min(event.attempts + 1, MAX_ATTEMPTS_COUNTED)
    later = timezone.now() + timedelta(seconds=wait_s)
    OutboxEvent.objects.filter(pk=event.pk).update(attempts=attempts, available_at=later)


def _due() -> QuerySet[OutboxEvent]:
    return OutboxEvent.objects.filter(available_at__lte=timezone.now()).order_by("available_at", "id")


def _locked(events: QuerySet[OutboxEvent]) -> QuerySet[OutboxEvent]:
    """For this transaction alone, without those that another has."""
    return events.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)


def _deliver_one(key: int) -> bool:
    """False if somebody else handles it at this moment, or it is gone, or not due any more."""
    with transaction.atomic():
        event = _locked(_due().filter(pk=key)).first()
        if event is None:
            return False
        try:
            with transaction.atomic():
                _handlers[event.topic](event.target)
        except Exception as error:
            # One that cannot be handled must not keep the others waiting. Its message stays out of the log: it may quote a row.
            log.error("outbox_failed", topic=event.topic, target=event.target, error=type(error).__name__)
            outbox_put_off(event, wait_s=min(2**event.attempts, MAX_BACKOFF_S))
        else:
            event.delete()
    return True
