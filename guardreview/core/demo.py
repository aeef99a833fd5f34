"""What makes an empty installation worth looking at: one account of each role, a chat app with its key, example exchanges."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from guardreview.core.models import ApiKey, App, User
from guardreview.core.roles import Role
from guardreview.core.services import api_key_create, api_key_digest, audit

APP_NAME = "demo"
ACCOUNTS = {
    "pharmacist": Role.PHARMACIST,
    "colleague": Role.PHARMACIST,
    "lead": Role.LEAD,
    "admin": Role.ADMINISTRATOR,
    "auditor": Role.AUDITOR,
}
PASSWORD_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # noqa: S105 - without what looks alike
EXAMPLES = settings.BASE_DIR / "examples" / "exchanges.jsonl"


def key_path() -> Path:
    """Where the demo app's key is kept, for its owner alone, so that later runs can show it."""
    return settings.VAR_DIR / "demo_api_key"


def demo_accounts_create() -> dict[str, str]:
    """The password of each account that was made, by its name: all of them, or none where anybody has an account already."""
    with transaction.atomic():
        if User.objects.exists():
            return {}
        passwords = {name: _password() for name in ACCOUNTS}
        for name, role in ACCOUNTS.items():
            User.objects.create_user(name, password=passwords[name], role=role)
            audit(actor="system", action="user.create", target=name, role=role)
    return passwords


def _password() -> str:
    """Four groups of four characters to read and type: some 79 bits."""
    groups = ("".join(secrets.choice(PASSWORD_ALPHABET) for _ in range(4)) for _ in range(4))
    return "-".join(groups)


def demo_app_key() -> str:
    """The key of the demo app; a new one if the one that was kept is lost or no longer valid."""
    app, _ = App.objects.get_or_create(name=APP_NAME)
    try:
        text = key_path().read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        text = ""
    if text and ApiKey.objects.filter(app=app, digest=api_key_digest(text), revoked_at=None).exists():
        return text
    with transaction.atomic():
        key, text = api_key_create(app=app, scope=ApiKey.Scope.LABELS)
        audit(actor="system", action="key.create", target=key.prefix, app=app.name)
    _write_private(key_path(), text + "\n")
    return text


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        path.chmod(0o600)
        file.write(text)


def examples() -> list[tuple[str, dict[str, Any]]]:
    """(idempotency key, body) of each bundled example, as a chat app would submit it."""
    rows = (json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines() if line.strip())
    names = ("query", "response", "conversation_id", "metadata")
    return [(row["id"], {name: row[name] for name in names if name in row}) for row in rows]
