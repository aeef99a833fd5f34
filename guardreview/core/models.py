"""Accounts, chat apps with their keys, and the audit log."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.core.validators import URLValidator
from django.db import models

from guardreview.core.roles import MAY, Act, Role


class UserManager(DjangoUserManager["User"]):
    """Django's, but `manage.py createsuperuser` makes an administrator: a role is what counts here."""

    def create_superuser(self, username: str, email: str | None = None, password: str | None = None, **extra_fields: Any) -> User:
        return super().create_superuser(username, email, password, **{**extra_fields, "role": Role.ADMINISTRATOR})


class User(AbstractUser):
    """A person with one role. What the role may do is in `roles.MAY` and nowhere else."""

    role = models.CharField(max_length=20, choices=Role.choices, default=Role.PHARMACIST)
    judges_models = models.BooleanField(
        default=False, help_text="Whether labels that this person took part in judge new models. They never train one then."
    )
    preferences = models.JSONField(default=dict, blank=True, help_text="How this person likes the pages: keys, for one.")

    objects = UserManager()  # type: ignore[misc]

    def may(self, act: Act) -> bool:
        """Whether this person's role allows the act; never for an inactive account."""
        return self.is_active and act in MAY[Role(self.role)]

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Django's admin asks this: administrators alone."""
        return self.may(Act.ADMINISTER)

    def has_module_perms(self, app_label: str) -> bool:
        return self.may(Act.ADMINISTER)

    def save(self, *args: Any, **kwargs: Any) -> None:
        # The admin site's gate is `is_staff`; it follows the role, so that the two cannot differ. The audit log is read there.
        self.is_staff = bool(MAY[Role(self.role)] & {Act.ADMINISTER, Act.READ_AUDIT})
        super().save(*args, **kwargs)


def new_webhook_secret() -> str:
    """In the form of Standard Webhooks."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


class App(models.Model):
    """A chat app that submits exchanges."""

    name = models.CharField(max_length=100, unique=True)
    fallback_text = models.TextField(
        blank=True, max_length=2000, help_text="What its patients read in place of a stopped response. Empty: the general text."
    )
    webhook_url = models.URLField(
        blank=True,
        max_length=500,
        validators=[URLValidator(schemes=["http", "https"])],
        help_text="Called when a pharmacist has settled one of its exchanges. Empty: the app asks.",
    )
    webhook_secret = models.CharField(max_length=60, blank=True, editable=False, help_text="What its calls are signed with.")
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        # Nothing is ever called unsigned.
        if self.webhook_url and not self.webhook_secret:
            self.webhook_secret = new_webhook_secret()
        super().save(*args, **kwargs)


class ApiKey(models.Model):
    """An app's key, of which only the hash is kept. 32 random bytes need no slow hash."""

    class Scope(models.TextChoices):
        EXCHANGES = "exchanges", "submit exchanges and read their verdicts"
        LABELS = "labels", "the same, and read the app's labels"
        POLICIES = "policies", "read, try and change policies, in an administrator's name"

    app = models.ForeignKey(App, on_delete=models.CASCADE, related_name="keys")
    prefix = models.CharField(max_length=16, help_text="The key's first characters, to tell keys apart.")
    digest = models.CharField(max_length=64, unique=True)
    scope = models.CharField(max_length=20, choices=Scope.choices, default=Scope.EXCHANGES)
    user = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.CASCADE, help_text="In whose name it changes policies."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.app} {self.prefix}..."


class OutboxEvent(models.Model):
    """What is to happen once `available_at` has come: stored in the transaction that causes it, so that it is never lost.

    At least once: what handles it must bear being told twice.
    """

    topic = models.CharField(max_length=60)
    target = models.CharField(max_length=100)
    available_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    attempts = models.PositiveSmallIntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["available_at", "id"], name="outbox_by_time")]

    def __str__(self) -> str:
        return f"{self.topic} {self.target}"


class AuditEvent(models.Model):
    """One line of the append-only audit log. Each row's hash covers the row before it, so that no edit goes unseen."""

    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=100, blank=True)
    data = models.JSONField(default=dict)
    previous = models.CharField(
        max_length=64, unique=True, help_text="Hash of the row before; unique, so that the chain never forks."
    )
    digest = models.CharField(max_length=64, unique=True)

    class Meta:
        indexes = [models.Index(fields=["target", "id"], name="audit_events_by_target")]
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.action} {self.target}"
