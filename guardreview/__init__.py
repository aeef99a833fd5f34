"""The Django project: `core` -> `verdicts` -> `review` -> `learning` -> `api`, each importing only those before it."""

from guardreview.celery import app as celery_app

__all__ = ["celery_app"]
