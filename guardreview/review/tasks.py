"""Celery tasks of `review`."""

from uuid import UUID

from celery import shared_task

from guardreview.review.services import settle_forgotten
from guardreview.review.similar import embedding_store


@shared_task
def settle() -> None:
    """Every minute: what would otherwise stay decided but unsettled."""
    settle_forgotten()


@shared_task
def embed(exchange_id: str) -> None:
    """Queue `embeddings`, of the workers that hold the model: keep the embedding of an exchange that came before a pharmacist."""
    embedding_store(exchange_id=UUID(exchange_id))
