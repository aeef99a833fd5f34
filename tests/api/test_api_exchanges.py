"""`/api/v1/exchanges`: submitting, waiting, reading and listing."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from guardreview.api import views
from guardreview.core.models import App
from guardreview.core.services import api_key_create
from guardreview.verdicts import waiting
from guardreview.verdicts.models import Exchange
from guardreview.verdicts.services import exchange_run_fast_layers
from guardreview.verdicts.waiting import wait_for
from tests.api.client import DANGEROUS, ApiClient
from tests.api.reviews import review
from tests.redis_server import RedisServer


def test_a_submission_is_stored_enqueued_and_answered_at_once(api: ApiClient, redis_server: RedisServer) -> None:
    answer = api.submit({**DANGEROUS, "conversation_id": "visit 7", "metadata": {"channel": "web", "turn": 3}})
    assert answer.status_code == 202
    body = answer.json()
    exchange = Exchange.objects.get()
    assert answer["Location"] == f"/api/v1/exchanges/{exchange.pk}"
    assert answer["Retry-After"] == "1"
    assert answer["Cache-Control"] == "no-store"
    assert "Preference-Applied" not in answer
    assert (body["id"], body["status"]) == (str(exchange.pk), "pending")
    assert (body["decision"], body["is_safe"], body["answer"], body["results"]) == (None, None, None, [])
    assert (exchange.query, exchange.response) == (DANGEROUS["query"], DANGEROUS["response"])
    assert (exchange.conversation_id, exchange.metadata) == ("visit 7", {"channel": "web", "turn": 3})
    assert redis_server.queue_length("cascade") == 1


@pytest.mark.django_db(transaction=True)
def test_a_caller_that_waits_gets_the_verdict_of_a_real_worker(api: ApiClient, worker: None) -> None:
    answer = api.submit(Prefer="respond-async, wait=20")
    body = answer.json()
    assert answer.status_code == 200
    assert answer["Preference-Applied"] == "wait=20"
    assert (body["status"], body["decision"], body["is_safe"]) == ("decided", "block", False)
    assert body["category"] == "harmful_medical:unsafe_combination"
    assert body["severity"] == "critical"
    assert body["layer"] == "rules"
    assert body["answer"] == "Please ask the pharmacist of Main Street."
    [rules] = body["results"]
    assert rules["evidence"][0]["text"] in DANGEROUS["response"]


@pytest.mark.django_db(transaction=True)
def test_a_wait_that_ends_undecided_gives_202_after_its_time(api: ApiClient, redis_server: RedisServer) -> None:
    started = time.monotonic()
    answer = api.submit(Prefer="wait=1")
    assert answer.status_code == 202
    assert answer["Preference-Applied"] == "wait=1"
    assert 0.9 < time.monotonic() - started < 4


@pytest.mark.django_db(transaction=True)
def test_a_wait_is_longer_than_the_patience_of_a_socket(api: ApiClient, redis_server: RedisServer) -> None:
    """redis-py gives up on a socket after 5 s unless it knows that a command blocks."""
    started = time.monotonic()
    assert api.submit(Prefer="wait=6").status_code == 202
    assert 5.9 < time.monotonic() - started < 9


@pytest.mark.django_db(transaction=True)
def test_who_waits_holds_no_database_connection(
    api: ApiClient, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[object] = []

    async def look(exchange_id: UUID, seconds: float) -> None:
        held.append(await sync_to_async(lambda: connection.connection)())

    monkeypatch.setattr(views, "wait_for", look)
    answer = api.submit(Prefer="wait=1")
    api.get(answer["Location"], Prefer="wait=1")
    assert held == [None, None]


def test_many_wait_at_once(redis_server: RedisServer) -> None:
    """redis-py's own bound on connections is 100; beyond it a caller would be answered at once."""

    async def waits() -> list[float]:
        async def one() -> float:
            started = time.monotonic()
            await wait_for(uuid4(), 1)
            return time.monotonic() - started

        durations = await asyncio.gather(*(one() for _ in range(150)))
        await waiting._clients.pop(asyncio.get_running_loop()).aclose()
        return durations

    assert min(asyncio.run(waits())) > 0.9


def test_a_redis_that_hangs_costs_the_wait_and_no_more(redis_server: RedisServer) -> None:
    async def wait() -> None:
        await wait_for(uuid4(), 0.2)
        await waiting._clients.pop(asyncio.get_running_loop()).aclose()

    assert redis_server.process is not None
    started = time.monotonic()
    redis_server.process.send_signal(signal.SIGSTOP)
    try:
        asyncio.run(wait())
    finally:
        redis_server.process.send_signal(signal.SIGCONT)
    assert time.monotonic() - started < 3


@pytest.mark.django_db(transaction=True)
def test_two_callers_wait_for_the_same_exchange(api: ApiClient, cascade: None, redis_server: RedisServer) -> None:
    identifier = api.submit().json()["id"]
    statuses: list[str] = []

    def wait() -> None:
        statuses.append(api.get(f"/api/v1/exchanges/{identifier}", Prefer="wait=10").json()["status"])
        connection.close()

    callers = [threading.Thread(target=wait) for _ in range(2)]
    for caller in callers:
        caller.start()
    time.sleep(0.5)
    exchange_run_fast_layers(exchange_id=UUID(identifier))
    for caller in callers:
        caller.join(15)
    assert statuses == ["decided", "decided"]


def test_the_cap_on_waiting_is_a_setting(api: ApiClient, redis_server: RedisServer, settings: object) -> None:
    settings.MAX_WAIT_S = 0  # type: ignore[attr-defined]
    answer = api.submit(Prefer='foo; bar=1, WAIT="3600"')
    assert (answer.status_code, answer["Preference-Applied"]) == (202, "wait=0")


def test_the_same_key_with_the_same_body_gives_the_first_exchange(
    api: ApiClient, cascade: None, redis_server: RedisServer
) -> None:
    first = api.submit(Idempotency_Key="order-1")
    again = api.submit(Idempotency_Key="order-1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    exchange_run_fast_layers(exchange_id=UUID(first.json()["id"]))
    decided = api.submit(Idempotency_Key="order-1")
    assert (decided.status_code, decided.json()["decision"]) == (200, "block")
    assert Exchange.objects.count() == 1
    assert redis_server.queue_length("cascade") == 1


def test_the_same_key_with_another_body_is_a_conflict(api: ApiClient, redis_server: RedisServer) -> None:
    api.submit(Idempotency_Key="order-1")
    answer = api.submit({**DANGEROUS, "query": "Another?"}, Idempotency_Key="order-1")
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:guardreview:problem:idempotency-conflict"
    assert Exchange.objects.count() == 1


def test_a_key_belongs_to_its_app(api: ApiClient, redis_server: RedisServer) -> None:
    other = ApiClient(api_key_create(app=App.objects.create(name="another"))[1])
    assert api.submit(Idempotency_Key="1").json()["id"] != other.submit(Idempotency_Key="1").json()["id"]


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "tab\there", "é"])
def test_a_key_is_short_and_printable(api: ApiClient, key: str) -> None:
    answer = api.submit(Idempotency_Key=key)
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["Idempotency-Key"]


def test_text_is_stored_to_the_character(api: ApiClient, redis_server: RedisServer) -> None:
    texts = {"query": " \n¿Puedo? 💊\t", "response": "\u202eNo\u200b. \r\n  "}
    api.submit(texts)
    exchange = Exchange.objects.get()
    assert (exchange.query, exchange.response) == (texts["query"], texts["response"])


def test_an_exchange_shows_its_verdict_its_trace_and_its_outcome(api: ApiClient, decided: Exchange) -> None:
    body = api.get(f"/api/v1/exchanges/{decided.pk}").json()
    assert body["policy"] == f"policy-{decided.policy_id}"
    assert body["versions"] == {"rules": body["results"][0]["version"]}
    assert body["outcome"] is None

    review(decided, truth="safe")
    body = api.get(f"/api/v1/exchanges/{decided.pk}").json()
    assert body["decision"] == "block", "the verdict itself never changes"
    assert (body["outcome"]["label"], body["outcome"]["confirms"]) == ("safe", False)
    assert body["answer"] == DANGEROUS["response"], "a pharmacist said that it may be shown"


def test_what_a_pharmacist_finds_unsafe_is_not_shown(api: ApiClient, decided: Exchange) -> None:
    decided.verdict.__class__.objects.update(decision="allow")
    assert api.get(f"/api/v1/exchanges/{decided.pk}").json()["answer"] == DANGEROUS["response"]
    review(decided, truth="unsafe", categories=["pii"], severity="major")
    assert api.get(f"/api/v1/exchanges/{decided.pk}").json()["answer"] == "Please ask the pharmacist of Main Street."


def test_the_general_fallback_serves_apps_without_one(api: ApiClient, decided: Exchange, settings: object) -> None:
    settings.SAFE_FALLBACK = "Ask a person."  # type: ignore[attr-defined]
    App.objects.update(fallback_text="")
    assert api.get(f"/api/v1/exchanges/{decided.pk}").json()["answer"] == "Ask a person."


def test_an_exchange_takes_three_queries(api: ApiClient, decided: Exchange) -> None:
    review(decided, truth="safe")
    with CaptureQueriesContext(connection) as queries:
        assert api.get(f"/api/v1/exchanges/{decided.pk}").status_code == 200
    assert len(queries) == 3, "the key, the exchange with all that is one to one, the layer results"


def test_an_app_sees_its_own_exchanges_alone(api: ApiClient, decided: Exchange) -> None:
    other = ApiClient(api_key_create(app=App.objects.create(name="another"))[1])
    assert other.get(f"/api/v1/exchanges/{decided.pk}").status_code == 404
    assert other.get("/api/v1/exchanges").json() == {"results": [], "next_cursor": None}
    assert api.get(f"/api/v1/exchanges/{str(decided.pk).upper()}").status_code == 200


@pytest.mark.parametrize("identifier", [uuid4(), "17", "not-a-uuid", "%00", "{}", "0" * 300])
def test_an_unknown_exchange_is_not_found(api: ApiClient, identifier: object) -> None:
    answer = api.get(f"/api/v1/exchanges/{identifier}")
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"


def test_the_list_is_paged_newest_first(api: ApiClient, chat_app: App) -> None:
    moment = timezone.now()
    # Pairs of the same moment: a page may end between two of them.
    exchanges = [
        Exchange.objects.create(
            app=chat_app, query="q", response="r", body_digest="", created_at=moment + timedelta(seconds=number // 2)
        )
        for number in range(7)
    ]
    seen, cursor = [], ""
    while cursor is not None:
        page = api.get(f"/api/v1/exchanges?limit=2&cursor={cursor}" if cursor else "/api/v1/exchanges?limit=2").json()
        assert len(page["results"]) <= 2
        seen += [row["id"] for row in page["results"]]
        cursor = page["next_cursor"]
    expected = sorted(exchanges, key=lambda exchange: (exchange.created_at, exchange.pk), reverse=True)
    assert seen == [str(exchange.pk) for exchange in expected]


def test_the_list_can_be_filtered(api: ApiClient, decided: Exchange, chat_app: App) -> None:
    pending = Exchange.objects.create(app=chat_app, query="q", response="r", body_digest="")

    def ids(query: str) -> list[str]:
        return [row["id"] for row in api.get(f"/api/v1/exchanges?{query}").json()["results"]]

    assert ids("") == [str(pending.pk), str(decided.pk)]
    assert ids("status=pending") == [str(pending.pk)]
    assert ids("decision=block") == [str(decided.pk)]
    assert ids("decision=allow") == []


def test_the_list_takes_two_queries_however_long(api: ApiClient, decided: Exchange, chat_app: App) -> None:
    for _ in range(30):
        Exchange.objects.create(app=chat_app, query="q", response="r", body_digest="")
    with CaptureQueriesContext(connection) as queries:
        assert len(api.get("/api/v1/exchanges").json()["results"]) == 31
    assert len(queries) == 2
    assert "response" not in queries[-1]["sql"], "the texts are not read for a list"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=ten", "limit"),
        ("limit=1000", "limit"),
        ("status=done", "status"),
        ("decision=maybe", "decision"),
        ("cursor=%00", "cursor"),
        ("cursor=abc", "cursor"),
        ("cursor=éé", "cursor"),
        ("cursor=MDAwMS0wMS0wMVQwMDowMDowMCsyMzowMH4wMTkyZjBjMS04ZDJlLTdjNGEtOWE1Ny0yZjZmNGYzZjliMTA", "cursor"),
        ("cursor=MjAyNi0wMS0wMVQwMDowMDowMH54", "cursor"),
    ],
)
def test_bad_parameters_are_named(api: ApiClient, query: str, field: str) -> None:
    answer = api.get(f"/api/v1/exchanges?{query}")
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == [field]
