"""API keys: who is let in, and what a key may do."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils import timezone

from guardreview.core.models import ApiKey, App
from tests.api.client import ApiClient

PROTECTED = ["/api/v1/exchanges", "/api/v1/exchanges/0192f0c1-8d2e-7c4a-9a57-2f6f4f3f9b10", "/api/v1/labels"]


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer gr_wrong", "Basic Z3I6eA==", "Token {key}", "{key}", "Bearer é\x01"]
)
def test_without_a_valid_key_nothing_is_read(anonymous: ApiClient, api_key: str, path: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.format(key=api_key)}
    answer = anonymous.get(path, **headers)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == 'Bearer realm="guardreview"'
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == 401
    assert answer.json()["instance"] == path


@pytest.mark.parametrize("path", ["/api/v1/exchanges", "/api/chat"])
def test_without_a_key_nothing_is_written(anonymous: ApiClient, path: str) -> None:
    assert anonymous.post(path, {}).status_code == 401


def test_the_scheme_is_case_insensitive(anonymous: ApiClient, api_key: str) -> None:
    assert anonymous.get("/api/v1/exchanges", Authorization=f"bearer {api_key}").status_code == 200


def test_a_revoked_key_is_refused(api: ApiClient) -> None:
    ApiKey.objects.update(revoked_at=timezone.now())
    assert api.get("/api/v1/exchanges").status_code == 401


def test_an_inactive_app_is_refused(api: ApiClient) -> None:
    App.objects.update(is_active=False)
    assert api.get("/api/v1/exchanges").status_code == 401


def test_a_session_is_no_key(client: Client, admin_user: object) -> None:
    client.force_login(admin_user)  # type: ignore[arg-type]
    assert client.get("/api/v1/exchanges").status_code == 401


def test_labels_need_the_scope(api: ApiClient) -> None:
    answer = api.get("/api/v1/labels")
    assert answer.status_code == 403
    assert "labels" in answer.json()["detail"]
    assert api.get("/api/v1/labels?format=csv").json()["status"] == 403
