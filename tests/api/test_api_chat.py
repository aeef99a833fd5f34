"""`/api/chat`: a guarded chat model, asked over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from guardreview.core.models import App
from guardreview.verdicts.models import Exchange
from guardreview.verdicts.services import exchange_run_fast_layers, policy_create
from tests.api.client import ApiClient
from tests.api.test_api_input import assert_problem
from tests.judge_server import JudgeServer, Reply
from tests.redis_server import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)
FALLBACK = "Please ask the pharmacist of Main Street."
DANGEROUS_ANSWER = "Yes, it is safe to take ibuprofen and warfarin together."


@pytest.fixture
def model(settings: Any) -> Iterator[JudgeServer]:
    """A chat model that the settings name."""
    with JudgeServer() as server:
        settings.CHAT = {
            **settings.CHAT,
            "kind": "openai",
            "base_url": server.base_url,
            "api_key": "secret",
            "model": "demo",
            "timeout_s": 2,
        }
        yield server


def test_an_unsafe_answer_is_replaced_by_the_fallback(api: ApiClient, model: JudgeServer, worker: None) -> None:
    model.script(Reply(DANGEROUS_ANSWER))
    body = api.post("/api/chat", {"message": "Can I take ibuprofen with warfarin?", "conversation_id": "c1"}).json()
    assert (body["answer"], body["blocked"], body["decision"]) == (FALLBACK, True, "block")
    assert body["category"] == "harmful_medical:unsafe_combination"
    assert body["conversation_id"] == "c1"
    exchange = Exchange.objects.get(pk=body["exchange"])
    assert (exchange.response, exchange.conversation_id) == (DANGEROUS_ANSWER, "c1")
    assert exchange.metadata == {"source": "chat", "model": "demo"}


def test_a_safe_answer_is_given(api: ApiClient, model: JudgeServer, worker: None) -> None:
    # Lenient, so that it does not hang on what the shipped model makes of this very sentence.
    policy_create(actor=None, thresholds={"default": {"block_at": 0.99, "allow_below": 0.99}})
    safe = "Please ask your pharmacist, who can look at all your medicines with you."
    model.script(Reply(safe))
    body = api.post("/api/chat", {"message": "Who can check my medicines?"}).json()
    assert (body["answer"], body["blocked"], body["decision"], body["category"]) == (safe, False, "allow", "safe")


def test_an_answer_that_is_not_decided_in_time_is_not_given(
    api: ApiClient, model: JudgeServer, redis_server: RedisServer, cascade: None, settings: Any
) -> None:
    settings.MAX_WAIT_S = 1
    body = api.post("/api/chat", {"message": "Hello?"}).json()
    assert (body["answer"], body["blocked"], body["decision"], body["category"]) == (FALLBACK, True, None, None)
    exchange_run_fast_layers(exchange_id=UUID(body["exchange"]))
    assert api.get(f"/api/v1/exchanges/{body['exchange']}").json()["status"] == "decided"


def test_the_model_is_told_the_conversation_as_the_patient_read_it(
    api: ApiClient, chat_app: App, model: JudgeServer, worker: None
) -> None:
    Exchange.objects.create(app=App.objects.create(name="b"), query="other", response="x", body_digest="", conversation_id="c1")
    model.script(Reply(DANGEROUS_ANSWER), Reply("Ask your pharmacist."))
    api.post("/api/chat", {"message": "First?", "conversation_id": "c1"})
    api.post("/api/chat", {"message": "Second?", "conversation_id": "c1"})
    messages = model.requests[-1].body["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert [message["content"] for message in messages[1:]] == ["First?", FALLBACK, "Second?"]


def test_of_a_long_conversation_the_model_is_told_the_end(
    api: ApiClient, chat_app: App, model: JudgeServer, redis_server: RedisServer, settings: Any
) -> None:
    settings.MAX_WAIT_S = 0
    for number in range(12):
        Exchange.objects.create(app=chat_app, query=f"{number:05} " * 1000, response="x", body_digest="", conversation_id="c1")
    api.post("/api/chat", {"message": "And now?", "conversation_id": "c1"})
    told = [message["content"][:5] for message in model.requests[-1].body["messages"] if message["role"] == "user"]
    assert told == ["00009", "00010", "00011", "And n"]


def test_without_a_model_the_settings_are_named(api: ApiClient, settings: Any) -> None:
    settings.CHAT = {**settings.CHAT, "model": ""}
    problem = assert_problem(api.post("/api/chat", {"message": "Hello?"}), 503)
    assert "CHAT_MODEL" in problem["detail"]
    assert "CHAT_API_KEY" in problem["detail"]
    assert not Exchange.objects.exists()


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply(status=500), 502),
        (Reply(status=401), 502),
        (Reply(status=429), 502),
        (Reply(status=400, code="content_filter"), 502),
        (Reply("cut", finish_reason="content_filter"), 502),
        (Reply(""), 502),
        (Reply(" \n"), 502),
        (Reply(body=b"nonsense"), 502),
        (Reply(body=b"[]"), 502),
        (Reply(body=b'{"choices": []}'), 502),
        (Reply(body=b'{"choices": [{"message": {"content": 7}}]}'), 502),
        (Reply(drop="before"), 502),
        (Reply(drop="midway", content="x"), 502),
        (Reply("late", delay_s=4), 504),
        (Reply("dripping", drip_s=0.05), 504),
    ],
    ids=repr,
)
def test_what_the_model_does_wrong_is_told_without_its_words(
    api: ApiClient, model: JudgeServer, reply: Reply, status: int
) -> None:
    model.script(reply)
    answer = api.post("/api/chat", {"message": "My name is Ada."})
    problem = assert_problem(answer, status)
    assert problem["type"] == "urn:guardreview:problem:chat-model-failed"
    assert "Ada" not in answer.content.decode(), "providers echo what they refuse"
    assert not Exchange.objects.exists()


def test_a_model_that_cannot_be_reached(api: ApiClient, model: JudgeServer, settings: Any) -> None:
    settings.CHAT = {**settings.CHAT, "base_url": "http://127.0.0.1:9/v1"}
    assert_problem(api.post("/api/chat", {"message": "Hello?"}), 502)


def test_a_refusal_is_an_answer(api: ApiClient, model: JudgeServer, redis_server: RedisServer, settings: Any) -> None:
    settings.MAX_WAIT_S = 0
    model.script(Reply(None, refusal="I cannot help with that."))
    assert api.post("/api/chat", {"message": "Hello?"}).status_code == 200
    assert Exchange.objects.get().response == "I cannot help with that."


def test_what_cannot_be_stored_is_replaced(api: ApiClient, model: JudgeServer, redis_server: RedisServer, settings: Any) -> None:
    settings.MAX_WAIT_S = 0
    model.script(Reply("nul \x00 and \ud800."))
    assert api.post("/api/chat", {"message": "Hello?"}).status_code == 200
    assert "\x00" not in Exchange.objects.get().response


def test_while_the_broker_is_down_the_exchange_is_kept(api: ApiClient, model: JudgeServer, redis_server: RedisServer) -> None:
    redis_server.stop()
    problem = assert_problem(api.post("/api/chat", {"message": "Hello?"}), 503)
    assert problem["exchange"] == str(Exchange.objects.get().pk)


@pytest.mark.parametrize("body", [{}, {"message": ""}, {"message": 7}, {"message": "x", "conversation_id": 7}, []])
def test_bad_input_asks_nobody(api: ApiClient, model: JudgeServer, body: object) -> None:
    assert_problem(api.post("/api/chat", body), 400)
    assert not model.requests
