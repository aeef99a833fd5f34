"""Faults of the judge's server: each leaves the exchange undecided and says why; retries, deadline and cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from classifiers.llm_judge import (
    MAX_INPUT_CHARS,
    JudgeError,
    LLMJudge,
    classify_with_llm,
    make_client,
)
from classifiers.result import UNDECIDED, Layer
from tests.classifiers.judging import QUERY, UNSAFE, ask, classify, shaped
from tests.judge_server import JudgeServer, Reply, judgment


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as running:
        yield running


# Faults: each leaves the exchange undecided and says why


FAULTS = [
    pytest.param(Reply(delay_s=5), "the judge did not answer in time", True, id="late"),
    pytest.param(Reply(judgment(True), drip_s=0.05), "the judge did not answer in time", True, id="dripping"),
    pytest.param(Reply(drop="before"), "the connection to the judge failed", True, id="dropped"),
    pytest.param(Reply(judgment(True), drop="midway"), "the connection to the judge failed", True, id="dropped midway"),
    pytest.param(Reply(status=500), "the judge answered with an error (HTTP 500)", True, id="500"),
    pytest.param(Reply(status=503), "the judge answered with an error (HTTP 503)", True, id="503"),
    pytest.param(Reply(status=429), "rate limited (HTTP 429)", True, id="429"),
    pytest.param(Reply(status=429, code="insufficient_quota"), "the account's quota is used up (HTTP 429)", False, id="quota"),
    pytest.param(Reply(status=400), "the judge answered with an error (HTTP 400)", False, id="400"),
    pytest.param(
        Reply(status=400, code="content_filter"), "stopped by the provider's content filter (HTTP 400)", False, id="azure filter"
    ),
    pytest.param(
        Reply(status=400, code="context_length_exceeded"), "too long for the model (HTTP 400)", False, id="context too small"
    ),
    pytest.param(Reply(status=401), "the judge refused the key (HTTP 401)", False, id="401"),
    pytest.param(Reply(status=403), "the judge refused access (HTTP 403)", False, id="403"),
    pytest.param(Reply(status=404), "no such model or deployment (HTTP 404)", False, id="404"),
    pytest.param(
        Reply(judgment(True), finish_reason="content_filter"), "stopped by the provider's content filter", False, id="filter"
    ),
    pytest.param(
        Reply(judgment(True), finish_reason="length"), "the judgment was cut off at the token limit", False, id="truncated"
    ),
    pytest.param(Reply(judgment(True), refusal="I cannot."), "the model refused to judge", False, id="refusal"),
    pytest.param(Reply(judgment(True), finish_reason="tool_calls"), "the completion did not end normally", True, id="tool call"),
    pytest.param(Reply(judgment(True), finish_reason=None), "the completion did not end normally", True, id="unfinished"),
    pytest.param(Reply(None), "the completion did not end normally", True, id="no content"),
    pytest.param(Reply(body=b"<html>busy</html>"), "the reply is not a chat completion", True, id="html"),
    pytest.param(
        Reply(body=b"busy", headers={"Content-Type": "text/plain"}), "the reply is not a chat completion", True, id="txt"
    ),
    pytest.param(Reply(body=b'{"choices": [{"mess'), "the reply is not a chat completion", True, id="broken completion"),
    pytest.param(Reply(body=b'{"choices": []}'), "the reply is not a chat completion", True, id="no choice"),
    pytest.param(Reply(body=b"[]"), "the reply is not a chat completion", True, id="list"),
    pytest.param(Reply(""), "the reply is not a well-formed judgment", True, id="empty"),
    pytest.param(Reply("It is safe."), "the reply is not a well-formed judgment", True, id="prose"),
    pytest.param(Reply(judgment(True)[:-9]), "the reply is not a well-formed judgment", True, id="broken judgment"),
    pytest.param(Reply(f"```json\n{judgment(True)}\n```"), "the reply is not a well-formed judgment", True, id="markdown"),
    pytest.param(Reply(judgment(True, "pii")), "the reply is not a well-formed judgment", True, id="contradiction"),
]


@pytest.mark.parametrize(("reply", "reason", "retryable"), FAULTS)
def test_a_fault_is_undecided_with_its_reason(server: JudgeServer, reply: Reply, reason: str, retryable: bool) -> None:
    server.always = reply
    started = time.monotonic()
    result = ask(server, timeout_s=0.4, max_retries=0)

    assert (result.is_safe, result.category, result.error, result.reason) == (False, UNDECIDED, reason, reason)
    assert (result.layer, result.confidence, dict(result.scores)) == (Layer.JUDGE, 0.0, {})
    assert result.latency_ms > 0
    assert len(server.requests) == 1  # the SDK's own retries are off

    with pytest.raises(JudgeError) as caught:
        classify(server, timeout_s=0.4)
    assert (caught.value.reason, caught.value.retryable) == (reason, retryable)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "content",
    [
        shaped(is_safe=None),
        shaped(is_safe="false"),
        shaped(is_safe=1),
        shaped(categories=None),
        shaped(categories="pii"),
        shaped(categories=["safe"]),
        shaped(categories=["safe", "pii"]),
        shaped(confidence=None),
        shaped(confidence=1.01),
        shaped(confidence=-0.01),
        shaped(confidence=95),
        shaped(confidence="0.9"),
        shaped(confidence=float("nan")),
        shaped(confidence=float("inf")),
        shaped(reason=None),
        shaped(reason=7),
        shaped(quotes="It is fine"),
        shaped(is_safe=True, categories=["pii"]),
        shaped(is_safe=True, categories=["something else"]),
        f"[{shaped()}]",
        "null",
    ],
)
def test_a_judgment_of_the_wrong_shape_is_none(server: JudgeServer, content: str) -> None:
    server.script(Reply(content))

    assert ask(server, max_retries=0).error == "the reply is not a well-formed judgment"


def test_a_server_that_is_not_there_leaves_it_undecided(server: JudgeServer) -> None:
    with JudgeServer() as gone:
        pass

    assert ask(gone, max_retries=1, timeout_s=2).error == "the connection to the judge failed"


def test_texts_too_long_to_judge_are_never_sent_in_part(server: JudgeServer) -> None:
    assert ask(server, "x" * (MAX_INPUT_CHARS - 10), "y" * 11).error == "too long to judge"
    assert ask(server, "x" * 90, "y" * 11, max_input_chars=100).error == "too long to judge"
    assert server.requests == []
    assert ask(server, "x" * (MAX_INPUT_CHARS - 10), "y" * 10).error == ""


def test_text_that_cannot_be_encoded_leaves_it_undecided(server: JudgeServer) -> None:
    assert ask(server, "half a pair: \ud800").error == "the client failed (UnicodeEncodeError)"


def test_a_client_that_cannot_be_made_leaves_it_undecided() -> None:
    def broken() -> Any:
        raise OSError("no certificates at /secret/path")

    result = asyncio.run(LLMJudge(broken).judge(UNSAFE, QUERY))

    assert result.error == "the judge raised OSError"


def test_a_redirect_is_not_followed(server: JudgeServer) -> None:
    with JudgeServer() as elsewhere:
        server.always = Reply(status=307, headers={"Location": f"{elsewhere.base_url}/chat/completions"})

        assert ask(server, max_retries=0).error == "the judge answered with an error (HTTP 307)"
        assert elsewhere.requests == []


def test_cancellation_passes_through(server: JudgeServer) -> None:
    async def go() -> None:
        async with make_client(base_url=server.base_url) as client:
            judging = asyncio.ensure_future(LLMJudge(client).judge(UNSAFE, QUERY))
            await asyncio.sleep(0.2)
            judging.cancel()
            await judging

    server.script(Reply(delay_s=5))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(go())


# Retries, deadline and cost


def test_it_decides_after_passing_faults_and_pays_for_each_attempt(server: JudgeServer) -> None:
    server.script(Reply(status=500), Reply("not JSON", prompt_tokens=2000, completion_tokens=10))
    result = ask(server, prices={"gpt-4o-mini": (0.15, 0.60)})

    assert (result.error, result.category) == ("", "harmful_medical:unsafe_combination")
    assert len(server.requests) == 3
    assert result.cost_usd == pytest.approx((3000 * 0.15 + 110 * 0.60) / 1e6)
    assert (result.input_tokens, result.output_tokens) == (3000, 110)


def test_a_failed_judgment_has_its_cost_and_a_model_without_price_costs_nothing(server: JudgeServer) -> None:
    server.always = Reply("{", finish_reason="length")

    assert ask(server, prices={"gpt-4o-mini": (1.0, 0.0)}).cost_usd == pytest.approx(0.001)
    assert ask(server, model="local", prices={"gpt-4o-mini": (1.0, 0.0)}).cost_usd == 0.0


def test_the_sdks_own_retries_are_off_whatever_the_client_was_set_to(server: JudgeServer) -> None:
    from openai import AsyncOpenAI

    async def go() -> None:
        async with AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=5) as client:
            await classify_with_llm(UNSAFE, QUERY, client)

    server.script(Reply(status=500))
    with pytest.raises(JudgeError):
        asyncio.run(go())
    assert len(server.requests) == 1


def test_it_gives_up_after_its_retries_and_at_once_where_they_are_in_vain(server: JudgeServer) -> None:
    server.always = Reply(status=500)
    assert ask(server, max_retries=1).error == "the judge answered with an error (HTTP 500)"
    assert len(server.requests) == 2

    server.always = Reply(status=401)
    assert ask(server, max_retries=1).error == "the judge refused the key (HTTP 401)"
    assert len(server.requests) == 3


@pytest.mark.parametrize("headers", [{"Retry-After": "1"}, {"Retry-After-Ms": "1000"}, {"Retry-After": "date"}])
def test_it_waits_as_long_as_the_provider_asks(server: JudgeServer, headers: dict[str, str]) -> None:
    if headers == {"Retry-After": "date"}:  # which has no fractions of a second
        headers = {"Retry-After": formatdate(time.time() + 2, usegmt=True)}
    server.script(Reply(status=429, headers=headers))
    result = ask(server)

    assert result.error == ""
    assert 1000 <= result.latency_ms < 4000


@pytest.mark.parametrize("wait", ["soon", "nan", "-5", "inf", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_an_unintelligible_wait_is_a_plain_backoff(server: JudgeServer, wait: str) -> None:
    server.script(Reply(status=429, headers={"Retry-After": wait}))

    assert ask(server).error == ""


def test_a_wait_beyond_the_deadline_is_not_begun(server: JudgeServer) -> None:
    server.script(Reply(status=429, headers={"Retry-After": "60"}))
    result = ask(server, deadline_s=5)

    assert result.error == "rate limited (HTTP 429)"
    assert result.latency_ms < 2000
    assert len(server.requests) == 1


def test_all_attempts_together_keep_the_deadline(server: JudgeServer) -> None:
    server.always = Reply(delay_s=5)
    result = ask(server, timeout_s=0.4, deadline_s=1.0, max_retries=50)

    assert result.error == "the judge did not answer in time"
    assert result.latency_ms < 1800
    assert ask(server, timeout_s=4, deadline_s=0.5, max_retries=0).latency_ms < 1800


def test_a_late_answer_is_no_verdict_even_if_it_says_safe(server: JudgeServer) -> None:
    server.always = Reply(judgment(True, confidence=1.0), delay_s=0.8)

    assert ask(server, timeout_s=0.3, max_retries=0).category == UNDECIDED
    assert ask(server, timeout_s=3, max_retries=0).is_safe
