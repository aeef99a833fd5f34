"""Errors beyond a request's own faults: unknown addresses, a broker that is down, a fault in the service itself."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from guardreview.api import views
from guardreview.verdicts.models import Exchange
from guardreview.verdicts.services import sweep
from tests.api.client import DANGEROUS, ApiClient
from tests.api.test_api_input import assert_problem
from tests.redis_server import RedisServer


@pytest.mark.parametrize(
    "path", ["/api/", "/api/v2/exchanges", "/api/v1/exchanges/", "/api/v1/labels/1", "/api/%00", "/api/\u00e9"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_unknown_addresses_are_problems_too(anonymous: ApiClient, method: str, path: str) -> None:
    assert_problem(anonymous.request(method, path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/v1/exchanges", "GET, POST, HEAD, OPTIONS"),
        ("PUT", "/api/v1/exchanges/0192f0c1-8d2e-7c4a-9a57-2f6f4f3f9b10", "GET, HEAD, OPTIONS"),
        ("POST", "/api/health", "GET, HEAD, OPTIONS"),
        ("POST", "/api/schema", "GET, HEAD, OPTIONS"),
        ("POST", "/api/docs", "GET, HEAD, OPTIONS"),
        ("GET", "/api/chat", "POST, OPTIONS"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(api: ApiClient, method: str, path: str, allowed: str) -> None:
    answer = api.request(method, path)
    assert_problem(answer, 405)
    assert answer["Allow"] == allowed


@pytest.mark.parametrize("path", ["/api/v1/exchanges", "/api/v1/labels?format=csv", "/api/chat", "/api/health"])
def test_options_are_the_methods(labels_api: ApiClient, path: str) -> None:
    answer = labels_api.request("OPTIONS", path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "OPTIONS" in answer["Allow"]


def test_a_form_that_is_not_given_is_refused(api: ApiClient) -> None:
    assert_problem(api.get("/api/v1/exchanges", Accept="text/html"), 406)
    assert list(assert_problem(api.get("/api/v1/exchanges?format=xml"), 400)["errors"]) == ["format"]


def test_an_unknown_host_is_a_problem(api: ApiClient) -> None:
    assert_problem(api.get("/api/v1/exchanges", Host="evil.example"), 400)


@pytest.mark.django_db(transaction=True)
def test_while_the_broker_is_down_an_exchange_is_kept_for_the_sweep(
    api: ApiClient, redis_server: RedisServer, settings: Any
) -> None:
    redis_server.stop()
    answer = api.submit(Idempotency_Key="1", Prefer="wait=5")
    problem = assert_problem(answer, 503)
    exchange = Exchange.objects.get()
    assert problem["exchange"] == str(exchange.pk)
    assert problem["type"] == "urn:guardreview:problem:queue-unavailable"
    assert int(answer["Retry-After"]) > 0
    assert answer["Location"] == f"/api/v1/exchanges/{exchange.pk}"
    assert api.get(answer["Location"]).json()["status"] == "pending"

    redis_server.start()
    assert api.submit(Idempotency_Key="1").json()["id"] == problem["exchange"], "trying again makes no second one"
    settings.SWEEP_AFTER_S = 0
    assert sweep() == 1
    assert redis_server.queue_length("cascade") == 1


@pytest.mark.django_db(transaction=True)
def test_a_wait_survives_that_redis_goes_away(api: ApiClient, redis_server: RedisServer, decided: Exchange) -> None:
    Exchange.objects.update(status="judging")
    redis_server.stop()
    answer = api.get(f"/api/v1/exchanges/{decided.pk}", Prefer="wait=5")
    assert (answer.status_code, answer.json()["status"]) == (200, "judging")


def test_a_fault_is_a_problem_without_a_trace(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError(f"failing row contains ({DANGEROUS['query']})")

    monkeypatch.setattr(views, "exchange_submit", fail)
    with caplog.at_level(logging.ERROR):
        answer = api.submit()
    assert_problem(answer, 500)
    assert "RuntimeError" not in answer.content.decode()
    logged = "".join(str(record.msg) for record in caplog.records)
    assert "RuntimeError" in logged
    assert "views.py" in logged
    assert DANGEROUS["query"] not in logged, "an exception's message may hold a patient's words"


def test_health_tells_whether_exchanges_can_be_taken(anonymous: ApiClient, redis_server: RedisServer) -> None:
    assert anonymous.get("/api/health").json() == {"status": "ok"}
    redis_server.stop()
    answer = anonymous.get("/api/health")
    assert assert_problem(answer, 503)["detail"] == "Redis cannot be reached."
    assert str(redis_server.socket) not in answer.content.decode()
