"""What `manage.py run` and `manage.py create_demo` make of an empty installation."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import timezone

from guardreview.core import demo
from guardreview.core.models import ApiKey, AuditEvent, User
from guardreview.core.roles import Role
from guardreview.core.services import api_key_digest

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "demo_api_key"
    monkeypatch.setattr(demo, "key_path", lambda: path)
    return path


def test_one_account_of_each_role_with_a_password_of_its_own() -> None:
    passwords = demo.demo_accounts_create()
    users = {user.username: user for user in User.objects.all()}
    assert {name: user.role for name, user in users.items()} == demo.ACCOUNTS
    assert set(demo.ACCOUNTS.values()) == set(Role)
    assert len(set(passwords.values())) == len(demo.ACCOUNTS)
    assert all(users[name].check_password(password) for name, password in passwords.items())
    assert AuditEvent.objects.filter(action="user.create").count() == len(demo.ACCOUNTS)


def test_where_anybody_has_an_account_none_is_made() -> None:
    User.objects.create_user("ann")
    assert demo.demo_accounts_create() == {}
    assert User.objects.count() == 1


def test_the_key_is_kept_for_its_owner_alone(key_file: Path) -> None:
    key_file.touch(0o644)
    text = demo.demo_app_key()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert ApiKey.objects.get().digest == api_key_digest(text)
    assert ApiKey.objects.get().scope == ApiKey.Scope.LABELS
    assert demo.demo_app_key() == text
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize("lost", ["file", "revoked", "other database"])
def test_a_key_that_is_of_no_use_any_more_is_replaced(key_file: Path, lost: str) -> None:
    text = demo.demo_app_key()
    if lost == "file":
        key_file.unlink()
    elif lost == "revoked":
        ApiKey.objects.update(revoked_at=timezone.now())
    else:
        ApiKey.objects.all().delete()
    again = demo.demo_app_key()
    assert again != text
    assert ApiKey.objects.filter(digest=api_key_digest(again), revoked_at=None).exists()


def test_the_command_says_the_passwords_once() -> None:
    first, second = io.StringIO(), io.StringIO()
    call_command("create_demo", stdout=first)
    call_command("create_demo", stdout=second)
    assert [line.split()[0] for line in first.getvalue().splitlines()[1:]] == list(demo.ACCOUNTS)
    assert "manage.py changepassword NAME" in second.getvalue()


def test_the_examples_can_be_submitted() -> None:
    rows = demo.examples()
    assert len({key for key, _ in rows}) == len(rows) >= 60
    assert all(
        body["query"] and body["response"] and set(body) <= {"query", "response", "conversation_id", "metadata"}
        for _, body in rows
    )
