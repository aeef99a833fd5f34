"""Administrators make policies and activate models in the admin; nobody else gets in."""

import pytest
from django.test import Client

from guardreview.core.models import ApiKey, App, AuditEvent, User
from guardreview.core.services import api_key_digest
from guardreview.learning.admin import field_name
from guardreview.verdicts.models import ModelVersion, Policy
from guardreview.verdicts.services import policy_create


@pytest.fixture
def admin(db: None) -> Client:
    client = Client()
    user = User.objects.create_user("ada", role="administrator")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def current(db: None) -> Policy:
    return policy_create(actor=None, thresholds={"default": {"block_at": 0.9, "allow_below": 0.3}})


def form(**changed: object) -> dict[str, object]:
    values: dict[str, object] = {
        "layers": ["rules", "finetuned", "judge"],
        "judge_min_confidence": "0.8",
        "note": "stricter",
        field_name("default", "block_at"): "0.8",
        field_name("default", "allow_below"): "0.1",
    }
    return {**values, **changed}


@pytest.mark.parametrize("role", ["pharmacist", "lead", "auditor"])
def test_only_administrators_get_in(role: str, current: Policy) -> None:
    client = Client()
    client.force_login(User.objects.create_user(role, role=role), backend="django.contrib.auth.backends.ModelBackend")
    for path in ("/admin/verdicts/policy/add/", "/admin/verdicts/policy/", "/admin/core/apikey/", "/admin/core/user/"):
        assert client.get(path).status_code in (302, 403)
    assert client.post("/admin/verdicts/policy/add/", form()).status_code in (302, 403)
    assert Policy.objects.count() == 1


def test_a_new_policy_is_prefilled_and_becomes_the_active_one(admin: Client, current: Policy) -> None:
    page = admin.get("/admin/verdicts/policy/add/")
    assert page.status_code == 200
    assert page.context["adminform"].form[field_name("default", "block_at")].value() == 0.9
    category = "harmful_medical:dangerous_dosage"
    bounds = {field_name(category, "block_at"): "0.6", field_name(category, "allow_below"): "0.05"}
    answer = admin.post("/admin/verdicts/policy/add/", form(**bounds))
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    active = Policy.objects.get(is_active=True)
    assert active.pk != current.pk
    assert active.thresholds == {
        "default": {"block_at": 0.8, "allow_below": 0.1},
        category: {"block_at": 0.6, "allow_below": 0.05},
    }
    assert (active.judge_min_confidence, active.note, str(active.created_by)) == (0.8, "stricter", "ada")
    assert AuditEvent.objects.filter(actor="ada", action="policy.activate", target=f"policy-{active.pk}").exists()


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({field_name("default", "allow_below"): "0.9"}, "may not exceed"),
        ({field_name("default", "block_at"): ""}, "required"),
        ({field_name("default", "block_at"): "nan"}, "Enter a number"),
        ({field_name("default", "block_at"): "7"}, "less than or equal to 1"),
        ({field_name("pii", "block_at"): "0.5"}, "give both bounds"),
        ({"layers": []}, "required"),
        ({"layers": ["rules", "oracle"]}, "valid choice"),
        ({"judge_min_confidence": "-1"}, "greater than or equal to 0"),
    ],
)
def test_a_policy_that_cannot_be_meant_says_why(admin: Client, current: Policy, changed: dict[str, object], problem: str) -> None:
    answer = admin.post("/admin/verdicts/policy/add/", form(**changed))
    assert answer.status_code == 200
    assert problem in answer.content.decode()
    assert list(Policy.objects.filter(is_active=True)) == [current]


def test_a_policy_is_looked_at_but_never_edited(admin: Client, current: Policy) -> None:
    path = f"/admin/verdicts/policy/{current.pk}/change/"
    assert admin.get(path).status_code == 200
    assert admin.post(path, form()).status_code == 403
    assert admin.post(f"/admin/verdicts/policy/{current.pk}/delete/", {"post": "yes"}).status_code == 403


def test_an_older_policy_can_be_activated_again(admin: Client, current: Policy) -> None:
    policy_create(actor=None, thresholds={"default": {"block_at": 0.95, "allow_below": 0.4}})
    admin.post("/admin/verdicts/policy/", {"action": "activate", "_selected_action": [current.pk]})
    assert list(Policy.objects.filter(is_active=True)) == [current]


def test_an_older_policy_that_lets_more_through_is_not_activated_without_a_reason(admin: Client, current: Policy) -> None:
    stricter = policy_create(actor=None, thresholds={"default": {"block_at": 0.5, "allow_below": 0.1}})
    page = admin.post("/admin/verdicts/policy/", {"action": "activate", "_selected_action": [current.pk]}, follow=True)
    assert "Say why" in page.content.decode()
    assert list(Policy.objects.filter(is_active=True)) == [stricter]


def test_a_looser_policy_waits_for_another_administrator_here_too(admin: Client, current: Policy) -> None:
    User.objects.create_user("bob", role="administrator")
    looser = form(**{field_name("default", "allow_below"): "0.5", "note": ""})
    assert "Say why" in admin.post("/admin/verdicts/policy/add/", looser).content.decode()
    page = admin.post("/admin/verdicts/policy/add/", {**looser, "note": "too many are held"}, follow=True)
    assert "waits for a second administrator" in page.content.decode()
    assert list(Policy.objects.filter(is_active=True)) == [current]
    same = form(
        **{field_name("default", "block_at"): "0.9", field_name("default", "allow_below"): "0.3", "judge_min_confidence": "0.7"}
    )
    assert "Nothing changes" in admin.post("/admin/verdicts/policy/add/", same, follow=True).content.decode()


def test_no_model_can_be_activated_in_the_admin(admin: Client, current: Policy) -> None:
    model = ModelVersion.objects.create(version="ft-0")
    admin.post("/admin/verdicts/modelversion/", {"action": "activate", "_selected_action": [model.pk]}, follow=True)
    model.refresh_from_db()
    assert model.stage == "candidate"
    assert b'value="activate"' not in admin.get("/admin/verdicts/modelversion/").content


def test_a_key_is_shown_once_and_can_be_revoked(admin: Client) -> None:
    app = App.objects.create(name="chat")
    page = admin.post("/admin/core/app/", {"action": "issue_key", "_selected_action": [app.pk]}, follow=True)
    key = ApiKey.objects.get()
    shown = next(word for word in page.content.decode().split() if word.startswith("gr_"))
    assert api_key_digest(shown.partition("<")[0]) == key.digest
    assert shown.partition("<")[0] not in admin.get("/admin/core/apikey/").content.decode()
    admin.post("/admin/core/apikey/", {"action": "revoke", "_selected_action": [key.pk]})
    key.refresh_from_db()
    assert key.revoked_at is not None


@pytest.mark.parametrize(
    "path",
    ["core/user", "core/app", "core/apikey", "core/auditevent", "verdicts/policy", "verdicts/modelversion", "core/user/add"],
)
def test_every_page_opens(admin: Client, current: Policy, path: str) -> None:
    assert admin.get(f"/admin/{path}/").status_code == 200
