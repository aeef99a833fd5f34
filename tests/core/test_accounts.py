"""The first administrator, as Django's own command makes it, and whom the administrators' site lets in."""

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from guardreview.core.models import AuditEvent, User
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


# --- What is recorded of accounts -----------------------------------------------------------------------------------------------
@pytest.fixture
def ada(client: Client) -> User:
    """Who is signed in."""
    user = User.objects.create_user("ada", role=Role.ADMINISTRATOR)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return user


def change(client: Client, user: User, **fields: str) -> AuditEvent:
    """Save the account's page; a box that is not given is not ticked."""
    form = {"role": user.role, "first_name": "", "last_name": "", "email": "", **fields}
    assert client.post(reverse("admin:core_user_change", args=[user.pk]), form).status_code == 302
    return AuditEvent.objects.latest("pk")


def test_role_office_and_judging_are_recorded_with_their_values_and_a_username_stays(client: Client, ada: User) -> None:
    bob = User.objects.create_user("bob", role=Role.ADMINISTRATOR)
    event = change(client, bob, username="robert", role="lead", is_active="on", judges_models="on")
    bob.refresh_from_db()
    assert (bob.username, bob.role, bob.judges_models) == ("bob", "lead", True)
    assert (event.actor, event.action, event.target) == ("ada", "user.change", "bob")
    assert event.data["changes"] == {
        "role": ["administrator", "lead"],
        "judges_models": [False, True],
        "administers": [True, False],
    }
    assert change(client, bob).data["changes"] == {"is_active": [True, False], "judges_models": [True, False]}


def test_a_new_account_and_a_password_that_somebody_sets_are_recorded(client: Client, ada: User) -> None:
    words = {"password1": "correct horse battery", "password2": "correct horse battery", "usable_password": "true"}
    client.post(reverse("admin:core_user_add"), {"username": "eve", "role": "administrator", **words})
    eve = User.objects.get(username="eve")
    made = AuditEvent.objects.get(action="user.create")
    assert (made.target, made.data["changes"]) == ("eve", {"role": [None, "administrator"], "administers": [False, True]})
    assert "horse" not in str(made.data)
    where = reverse("admin:auth_user_password_change", args=[eve.pk])
    client.post(where, {**words, "password2": "something else entirely"})
    assert not AuditEvent.objects.filter(action="user.password").exists()
    assert (
        client.post(where, {**words, "password1": "battery horse staple", "password2": "battery horse staple"}).status_code == 302
    )
    kept = AuditEvent.objects.get(action="user.password")
    assert (kept.actor, kept.target) == ("ada", "eve")
