"""Celery tasks of `api`, on the queue of slow network calls."""

from celery import shared_task

from guardreview.api.webhooks import label_tell


@shared_task
def tell_app(label_id: int, attempt: int) -> None:
    """Tell an app that one of its exchanges is settled."""
    label_tell(label_id=label_id, attempt=attempt)
