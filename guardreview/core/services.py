"""Every write of `core`: apps, keys, preferences and the audit log."""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from guardreview.core.models import ApiKey, App, AuditEvent, User, new_webhook_secret

GENESIS = "0" * 64
AUDIT_LOCK = 7_204_311
"""The PostgreSQL advisory lock under which the chain grows; SQLite's one writer needs none."""


def api_key_create(*, app: App, scope: str = ApiKey.Scope.EXCHANGES, user: User | None = None) -> tuple[ApiKey, str]:
    """A new key and its text, which is shown once and not kept. `user`: for whom a key for policies stands."""
    text = f"gr_{secrets.token_urlsafe(32)}"
    key = ApiKey.objects.create(app=app, scope=scope, user=user, prefix=text[:10], digest=api_key_digest(text))
    return key, text


def api_key_digest(text: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(text.encode()).hexdigest()


def user_prefer(*, user: User, name: str, value: Any) -> User:
    """Keep how a person likes the pages; an empty `value` is none. `value` must be JSON."""
    with transaction.atomic():
        locked = User.objects.select_for_update().get(pk=user.pk)
        locked.preferences = {key: kept for key, kept in {**locked.preferences, name: value}.items() if kept}
        locked.save(update_fields=["preferences"])
    return locked


def webhook_secret_create(*, app: App, actor: str) -> str:
    """A new secret, in force at once."""
    app.webhook_secret = new_webhook_secret()
    with transaction.atomic():
        app.save(update_fields=["webhook_secret"])
        audit(actor=actor, action="webhook.secret", target=app.name)
    return app.webhook_secret


def audit(*, actor: str, action: str, target: str = "", **data: Any) -> AuditEvent:
    """Append to the audit log, within the caller's transaction if there is one. `data` must be JSON and hold no PHI."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [AUDIT_LOCK])
        last = AuditEvent.objects.order_by("-pk").values_list("digest", flat=True).first() or GENESIS
        at = timezone.now()
        digest = audit_digest(last, at, actor, action, target, data)
        return AuditEvent.objects.create(
            at=at, actor=actor, action=action, target=target, data=data, previous=last, digest=digest
        )


def audit_digest(previous: str, at: datetime, actor: str, action: str, target: str, data: dict[str, Any]) -> str:
    """The hash of one row: of the row before, and of everything that this one says."""
    parts = [previous, at.isoformat(), actor, action, target, data]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def audit_verify() -> tuple[int, int | None]:
    """(rows read, key of the first row that does not follow from the one before, or None)."""
    previous, count = GENESIS, 0
    for event in AuditEvent.objects.order_by("pk").iterator():
        count += 1
        expected = audit_digest(previous, event.at, event.actor, event.action, event.target, event.data)
        if event.previous != previous or event.digest != expected:
            return count, event.pk
        previous = event.digest
    return count, None
