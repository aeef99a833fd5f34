"""The first administrator, as Django's own command makes it, and whom the administrators' site lets in."""

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from guardreview.core.models import User
from guardreview.core.roles import MAY, Act, Role

pytestmark = pytest.mark.django_db


def test_createsuperuser_makes_an_administrator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "correct horse battery")
    call_command("createsuperuser", username="ann", email="ann@example.org", interactive=False, verbosity=0)
    ann = User.objects.get(username="ann")
    assert ann.role == Role.ADMINISTRATOR
    assert ann.is_staff
    assert ann.may(Act.ADMINISTER)


def test_other_accounts_keep_the_role_they_are_given() -> None:
    assert User.objects.create_user("bob", password="correct horse battery", role=Role.LEAD).role == Role.LEAD
    assert User.objects.create_user("eve", password="correct horse battery").role == Role.PHARMACIST


def page(client: Client, role: Role, name: str) -> int:
    """The status of a page of the administrators' site for somebody of this role."""
    client.force_login(User.objects.create_user(f"{role}-{name}", role=role), backend="django.contrib.auth.backends.ModelBackend")
    return client.get(reverse(f"admin:{name}")).status_code


@pytest.mark.parametrize("role", Role)
def test_the_audit_log_is_read_by_those_whose_role_says_so(client: Client, role: Role) -> None:
    assert (page(client, role, "core_auditevent_changelist") == 200) == (Act.READ_AUDIT in MAY[role])


@pytest.mark.parametrize("role", Role)
def test_all_else_of_the_administration_is_the_administrators_alone(client: Client, role: Role) -> None:
    for name in ("core_user_changelist", "core_app_changelist", "core_apikey_changelist", "verdicts_policy_changelist"):
        assert (page(client, role, name) == 200) == (role == Role.ADMINISTRATOR)
