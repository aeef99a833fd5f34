"""The Celery application. Queues: `cascade` (fast layers), `judge` (slow network calls), `learning` (training)."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardreview.settings")

app = Celery("guardreview")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
