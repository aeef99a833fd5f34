"""Celery tasks of `core`."""

import time
from contextlib import suppress

from celery import shared_task
from django.conf import settings

from guardreview.core.outbox import outbox_deliver

SLICE_S = 0.2
"""How long it keeps a process for itself that patients' exchanges need too."""


@shared_task
def deliver() -> None:
    """Every second or two, and again at once while there is more: what the outbox holds and whose moment has come."""
    begun = time.monotonic()
    outbox_deliver(for_s=SLICE_S)
    if time.monotonic() - begun >= SLICE_S:
        # What waited on the queue until the next tick is dropped there, so that these never pile up.
        with suppress(deliver.OperationalError):
            deliver.apply_async(expires=settings.OUTBOX_INTERVAL_S)
