"""Training runs."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from guardreview.verdicts.models import ModelVersion


class TrainingRun(models.Model):
    """One retraining: who asked, how far it is, and how it ended. Only one runs at a time."""

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)
    labels_used = models.PositiveIntegerField(default=0)
    progress = models.CharField(max_length=200, blank=True)
    error = models.CharField(max_length=500, blank=True)
    model_version = models.ForeignKey(ModelVersion, null=True, blank=True, on_delete=models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["status"], condition=Q(status="running"), name="one_running_training"),
        ]
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"training {self.pk}: {self.status}"
