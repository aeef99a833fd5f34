"""Policies over the API: a key that stands for an administrator obeys the rules of the pages, and reads nobody's words."""

from __future__ import annotations

from typing import Any

import pytest

from guardreview.core.models import ApiKey, App, User
from guardreview.core.services import api_key_create
from guardreview.learning import policy_changes
from guardreview.learning.models import PolicyChange
from guardreview.verdicts.models import ModelVersion, Policy
from tests.api.client import ApiClient

LOOSER = {"unsafe": {"block_at": 0.96, "allow_below": 0.3}, "default": {"block_at": 1, "allow_below": 1}}
STRICTER = {"unsafe": {"block_at": 0.9, "allow_below": 0.05}, "default": {"block_at": 1, "allow_below": 1}}


def client_of(app: App, name: str) -> ApiClient:
    person = User.objects.create_user(name, role="administrator")
    return ApiClient(api_key_create(app=app, scope=ApiKey.Scope.POLICIES, user=person)[1])


@pytest.fixture
def ada(chat_app: App, shipped_policy: Policy) -> ApiClient:
    ModelVersion.objects.create(version="ft-1", stage="active", metrics={"certificate": {"allow_below": 0.12}})
    return client_of(chat_app, "ada")


@pytest.fixture
def bob(chat_app: App, ada: ApiClient) -> ApiClient:
    return client_of(chat_app, "bob")


def said(response: Any) -> Any:
    return response.json()


def test_what_is_stricter_serves_and_what_is_looser_waits_for_another(
    ada: ApiClient, bob: ApiClient, shipped_policy: Policy
) -> None:
    made = ada.post("/api/v1/policies", {"thresholds": STRICTER, "reason": "an incident"})
    assert (made.status_code, said(made)["in_force"], said(made)["change"]["status"]) == (201, True, "applied")
    refused = ada.post("/api/v1/policies", {"thresholds": LOOSER})
    assert (refused.status_code, said(refused)["type"]) == (409, "urn:guardreview:problem:policy-refused")
    waiting = said(ada.post("/api/v1/policies", {"thresholds": LOOSER, "reason": "too many are held"}))
    assert (waiting["in_force"], waiting["change"]["status"], waiting["change"]["guarantee_holds"]) == (False, "proposed", False)
    decide = f"/api/v1/policies/{waiting['id']}/decision"
    for key in (ada, bob):
        refused = key.post(decide, {"act": "approve"})
        assert (refused.status_code, "a person signs in" in refused.content.decode()) == (400, True)
    change = PolicyChange.objects.get(policy=waiting["id"])
    approved = policy_changes.change_approve(actor=User.objects.get(username="bob"), change=change)
    assert approved.policy.is_active
    assert [row["id"] for row in said(ada.get("/api/v1/policies"))["results"]] == [
        waiting["id"],
        said(made)["id"],
        shipped_policy.pk,
    ]
    back = said(bob.post(f"/api/v1/policies/{said(made)['id']}/decision", {"act": "restore"}))
    assert (back["in_force"], back["thresholds"]) == (True, STRICTER)


def test_a_what_if_stores_nothing(ada: ApiClient) -> None:
    found = said(ada.post("/api/v1/policies/what-if", {"thresholds": LOOSER, "days": 7}))
    assert (found["answers"], found["loosens"], found["guarantee_holds"], found["beside"]) == (0, True, False, found["beside"])
    assert Policy.objects.count() == 1


@pytest.mark.parametrize(
    "body",
    [
        {"thresholds": {"unsafe": {"block_at": 0.5, "allow_below": 0.6}, "default": {"block_at": 1, "allow_below": 1}}},
        {"thresholds": {"nonsense": {"block_at": 0.5, "allow_below": 0.2}}},
        {"thresholds": {"unsafe": {"block_at": 0.5}}},
        {"layers": ["judge", "rules"]},
        {"judge_min_confidence": 2},
    ],
)
def test_what_cannot_be_meant_is_refused_by_field(ada: ApiClient, body: dict[str, Any]) -> None:
    for address in ("/api/v1/policies", "/api/v1/policies/what-if"):
        assert ada.post(address, body).status_code == 400
    assert PolicyChange.objects.count() == 0


def test_other_keys_get_nothing_here_and_this_key_nothing_elsewhere(
    ada: ApiClient, api: ApiClient, labels_api: ApiClient
) -> None:
    for address in ("/api/v1/policies", "/api/v1/policies/1"):
        assert api.get(address).status_code == 403
        assert labels_api.get(address).status_code == 403
    assert ada.get("/api/v1/exchanges").status_code == 403
    assert ada.get("/api/v1/labels").status_code == 403
    assert ada.get("/api/v1/policies/999").status_code == 404
    assert ada.get("/api/v1/policies/nonsense").status_code == 404


def test_a_key_ends_with_the_office_of_who_it_stands_for(ada: ApiClient) -> None:
    assert ada.get("/api/v1/policies").status_code == 200
    User.objects.filter(username="ada").update(role="lead")
    assert ada.get("/api/v1/policies").status_code == 403
