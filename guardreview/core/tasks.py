"""Celery tasks of `core`."""

from celery import shared_task

from guardreview.core.outbox import outbox_deliver


@shared_task
def deliver() -> None:
    """Every second or two: what the outbox holds and whose moment has come."""
    outbox_deliver()
