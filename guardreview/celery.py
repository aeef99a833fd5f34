"""The Celery application. Queues: `cascade` (fast layers), `outbox` (what follows from changes), `embeddings`, `judge` (the LLM),
`webhooks` (calls to apps), `learning` (training).
"""

import os
from pathlib import Path

from celery import Celery
from celery.signals import heartbeat_sent
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardreview.settings")

app = Celery("guardreview")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@heartbeat_sent.connect
def show_life(**kwargs: object) -> None:
    """Every other second, from a worker whose main loop turns and reaches the broker: what a container's health check reads."""
    if settings.HEARTBEAT_FILE:
        Path(settings.HEARTBEAT_FILE).touch()
