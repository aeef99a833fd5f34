"""The judge's breaker, cap and budget, in one process and in a real Redis, against a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from classifiers.judge.cache import JudgeCache
from classifiers.judge.client import DEFAULT_OPTIONS, most_usage
from classifiers.judge.guard import BREAKER_OPEN, BUDGET_SPENT, BUDGET_UNREADABLE, NO_PRICE, NO_SLOT, JudgeGuard
from classifiers.judge.reply import Usage
from classifiers.judge.store import GuardStore, InProcessStore, Limits, StoreUnavailable
from classifiers.llm_judge import LLMJudge, make_client
from classifiers.result import UNDECIDED, ClassifierResult
from guardreview.verdicts.judge_redis import RedisStore, guard_client
from tests.judge_server import JudgeServer, Reply, Request, judgment
from tests.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
QUERY, RESPONSE = "May I take both?", "It is fine to take them together."
PRICES = {"gpt-4o-mini": (1.0, 0.0), "other": (1.0, 0.0)}
CALL_USD = 0.001
"""What a call costs: the server counts 1,000 tokens in."""

Stores = Callable[..., tuple[GuardStore, GuardStore]]


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as running:
        yield running


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return f"unix://{redis_server.socket}"


@pytest.fixture(params=["process", "redis"])
def stores(request: pytest.FixtureRequest) -> Stores:
    """Makes what two workers see: one memory of two threads, or one Redis over two connections."""

    def make(*, clock: Callable[[], float] = time.time, **limits: Any) -> tuple[GuardStore, GuardStore]:
        if request.param == "process":
            store = InProcessStore(Limits(**limits), clock=clock)
            return store, store
        url = request.getfixturevalue("redis_url")
        one, other = (RedisStore(guard_client(url), Limits(**limits), clock=clock) for _ in range(2))
        return one, other

    return make


def make_judge(server: JudgeServer, store: GuardStore | None, *, form: str = "openai", **settings: Any) -> LLMJudge:
    def client() -> Any:
        if form == "azure":
            return make_client("azure", base_url=server.url, api_key="k", api_version="2024-10-21")
        return make_client(base_url=server.base_url)

    model = settings.setdefault("model", "gpt-4o-mini")
    guard = store and JudgeGuard(store, f"{server.base_url} {model}")
    return LLMJudge(client, guard=guard, **{"max_retries": 0, "timeout_s": 5, "prices": PRICES, **settings})


def ask(judge: LLMJudge, response: str = RESPONSE, query: str = QUERY) -> ClassifierResult:
    return asyncio.run(judge.judge(response, query))


def ask_at_once(judges: list[LLMJudge]) -> list[ClassifierResult]:
    """Each in a thread and an event loop of its own, as the workers do."""
    with ThreadPoolExecutor(len(judges)) as threads:
        return list(threads.map(ask, judges))


# The circuit breaker


@pytest.mark.parametrize("form", ["openai", "azure"])
def test_two_workers_share_a_breaker_that_opens_probes_once_and_closes(server: JudgeServer, stores: Stores, form: str) -> None:
    one, other = (make_judge(server, store, form=form) for store in stores(breaker_failures=3, breaker_cooldown_s=0.4))
    store = one.guard.store if one.guard else None
    assert store
    name = f"{server.base_url} gpt-4o-mini"
    server.always = Reply(status=500)
    assert [ask(judge).error for judge in (one, other, one)] == ["the judge answered with an error (HTTP 500)"] * 3
    refused = ask(other)
    assert (refused.error, refused.category, refused.is_safe, refused.cost_usd) == (BREAKER_OPEN, UNDECIDED, False, 0.0)
    assert len(server.requests) == 3
    assert store.status(name).breaker == "open"

    time.sleep(0.45)
    assert store.status(name).breaker == "half-open"
    server.always = Reply(judgment(True), delay_s=0.4)
    errors = [result.error for result in ask_at_once([one, other, one, other])]
    assert sorted(errors) == ["", *[BREAKER_OPEN] * 3]
    assert len(server.requests) == 4

    server.always = Reply(judgment(True))
    assert store.status(name).breaker == "closed"
    assert [result.error for result in ask_at_once([one, other])] == ["", ""]


def test_a_probe_that_fails_opens_it_again(server: JudgeServer, stores: Stores) -> None:
    one, other = (make_judge(server, store) for store in stores(breaker_failures=1, breaker_cooldown_s=0.4))
    server.always = Reply(drop="before")
    ask(one)
    time.sleep(0.45)
    assert ask(other).error == "the connection to the judge failed"
    assert ask(one).error == BREAKER_OPEN
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500),
        Reply(status=503),
        Reply(status=429),
        Reply(status=429, code="insufficient_quota"),
        Reply(drop="before"),
        Reply(judgment(True), drop="midway"),
        Reply(judgment(True), delay_s=3),
    ],
    ids=["500", "503", "429", "quota", "dropped", "dropped midway", "late"],
)
def test_failures_of_the_provider_open_it(server: JudgeServer, reply: Reply) -> None:
    judge = make_judge(server, InProcessStore(Limits(breaker_failures=2)), timeout_s=0.3)
    server.always = reply
    ask(judge)
    ask(judge)
    assert ask(judge).error == BREAKER_OPEN
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "reply",
    [
        Reply("It is safe."),
        Reply(body=b"<html>busy</html>"),
        Reply(judgment(True), refusal="I cannot."),
        Reply(judgment(True), finish_reason="content_filter"),
        Reply(judgment(True), finish_reason="length"),
        Reply(status=400, code="content_filter"),
        Reply(status=400, code="context_length_exceeded"),
        Reply(status=401),
    ],
    ids=["prose", "html", "refusal", "filter", "cut off", "azure filter", "too long", "401"],
)
def test_what_is_wrong_with_one_text_does_not(server: JudgeServer, reply: Reply) -> None:
    judge = make_judge(server, InProcessStore(Limits(breaker_failures=2)))
    server.always = reply
    errors = {ask(judge).error for _ in range(4)}
    assert len(errors) == 1
    assert BREAKER_OPEN not in errors


def test_only_failures_in_a_row_count_and_a_retried_judgment_counts_once(server: JudgeServer, stores: Stores) -> None:
    judge, _ = (make_judge(server, store, max_retries=1) for store in stores(breaker_failures=2))
    bad, good = Reply(status=500), Reply(judgment(True))
    server.script(bad, bad, bad, good, bad, bad, good, bad, bad, bad, bad)
    assert [bool(ask(judge).error) for _ in range(6)] == [True, False, True, False, True, True]
    assert ask(judge).error == BREAKER_OPEN


def test_what_was_never_sent_neither_counts_nor_closes_it(server: JudgeServer) -> None:
    store = InProcessStore(Limits(breaker_failures=1, breaker_cooldown_s=0))
    judge = make_judge(server, store)
    server.always = Reply(status=500)
    ask(judge)
    assert ask(judge, "half a pair: \ud800").error == "the client failed (UnicodeEncodeError)"
    assert store.status(f"{server.base_url} gpt-4o-mini").breaker == "half-open"


def test_a_probe_whose_worker_was_killed_does_not_block_for_ever(stores: Stores) -> None:
    one, other = stores(breaker_failures=1, breaker_cooldown_s=0)
    one.report("judge", "first", False)
    assert one.admit("judge", "killed", 0.3)
    assert not other.admit("judge", "next", 5)
    time.sleep(0.35)
    assert other.admit("judge", "next", 5)
    one.report("judge", "killed", True)  # not killed after all, but too late
    assert other.status("judge").breaker == "half-open"


def test_another_model_has_a_breaker_of_its_own(server: JudgeServer, stores: Stores) -> None:
    store, _ = stores(breaker_failures=1)
    server.script(Reply(status=500))
    ask(make_judge(server, store))
    assert ask(make_judge(server, store)).error == BREAKER_OPEN
    assert ask(make_judge(server, store, model="other")).error == ""


# The cap


class Arrivals(JudgeServer):
    """Remembers when each request came."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def next_reply(self, request: Request) -> Reply:
        self.times.append(time.monotonic())
        return super().next_reply(request)


def test_more_callers_than_slots_take_turns_across_workers(stores: Stores) -> None:
    takes_s = 0.2
    with Arrivals() as server:
        server.always = Reply(judgment(True), delay_s=takes_s)
        one, other = (make_judge(server, store) for store in stores(max_concurrent=2))
        results = ask_at_once([one, other] * 4)
    assert [result.error for result in results] == [""] * 8
    # Each was under way for at least `takes_s`, so those that came within it of one another were so together.
    assert max(sum(now - takes_s < other <= now for other in server.times) for now in server.times) == 2


def test_who_gets_no_slot_in_time_is_undecided_and_costs_nothing(server: JudgeServer, stores: Stores) -> None:
    one, other = stores(max_concurrent=1)
    assert one.take_slot("busy", 60)
    refused = ask(make_judge(server, other, timeout_s=0.2, deadline_s=0.6))
    assert (refused.error, refused.category, refused.cost_usd) == (NO_SLOT, UNDECIDED, 0.0)
    assert server.requests == []
    one.free_slot("busy")
    assert ask(make_judge(server, other)).error == ""
    assert other.status("").running == 0


def test_who_waited_for_a_slot_does_not_call_if_the_breaker_opened_meanwhile(server: JudgeServer, stores: Stores) -> None:
    one, other = stores(max_concurrent=1, breaker_failures=1)
    assert one.take_slot("busy", 60)
    with ThreadPoolExecutor(1) as thread:
        judging = thread.submit(ask, make_judge(server, other))
        time.sleep(0.3)
        one.report(f"{server.base_url} gpt-4o-mini", "busy", False)
        one.free_slot("busy")
        assert judging.result().error == BREAKER_OPEN
    assert server.requests == []


def test_a_judgment_that_was_cancelled_gives_its_slot_back(server: JudgeServer, stores: Stores) -> None:
    store, _ = stores(max_concurrent=1)

    async def go() -> None:
        judging = asyncio.ensure_future(make_judge(server, store).judge(RESPONSE, QUERY))
        while not server.requests:
            await asyncio.sleep(0.01)
        judging.cancel()
        await judging

    server.script(Reply(delay_s=5))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(go())
    assert store.status("").running == 0


def test_the_slot_of_a_killed_worker_comes_back(server: JudgeServer, redis_url: str) -> None:
    script = (
        "import asyncio, sys; from classifiers.judge.guard import JudgeGuard; from classifiers.judge.store import Limits;"
        "from guardreview.verdicts.judge_redis import RedisStore, guard_client;"
        "from classifiers.llm_judge import LLMJudge, make_client; from classifiers import llm_judge;"
        "llm_judge._LEASE_MARGIN_S = 0.5;"
        "store = RedisStore(guard_client(sys.argv[1]), Limits(max_concurrent=1));"
        "client = lambda: make_client(base_url=sys.argv[2]);"
        "judge = LLMJudge(client, guard=JudgeGuard(store, 'j'), deadline_s=1.5, timeout_s=1.5);"
        "asyncio.run(judge.judge('r', 'q'))"
    )
    store = RedisStore(guard_client(redis_url), Limits(max_concurrent=1))
    server.script(Reply(judgment(True), delay_s=30))
    with subprocess.Popen([sys.executable, "-c", script, redis_url, server.base_url], cwd=ROOT) as worker:
        while not server.requests:
            assert worker.poll() is None
            time.sleep(0.02)
        os.kill(worker.pid, signal.SIGKILL)
    assert store.status("").running == 1
    assert not store.take_slot("next", 5)
    assert ask(make_judge(server, store, deadline_s=10, timeout_s=3)).error == ""


def test_each_lease_ends_by_itself(stores: Stores) -> None:
    one, other = stores(max_concurrent=2)
    assert one.take_slot("long", 60)
    assert one.take_slot("short", 0.2)
    assert not other.take_slot("next", 60)
    time.sleep(0.25)
    assert other.take_slot("next", 60)
    assert not other.take_slot("one more", 60)
    assert one.take_slot("long", 60)  # who has one keeps it


# The budget


def test_calls_beyond_the_days_number_are_not_made(server: JudgeServer, stores: Stores) -> None:
    one, other = (make_judge(server, store) for store in stores(daily_calls=3))
    server.always = Reply(judgment(True), delay_s=0.1)
    errors = [result.error for result in ask_at_once([one, other] * 4)]
    assert sorted(errors) == ["", "", "", *[BUDGET_SPENT] * 5]
    assert len(server.requests) == 3


def test_the_budget_is_spent_by_what_calls_did_cost(server: JudgeServer, stores: Stores) -> None:
    one, other = stores(daily_usd=5 * CALL_USD)
    server.always = Reply("not JSON")  # a reply that is no judgment is paid for, too
    results = [ask(make_judge(server, store)) for store in (one, other) * 3]
    assert [result.error == BUDGET_SPENT for result in results] == [False] * 5 + [True]
    assert sum(result.cost_usd for result in results) == pytest.approx(5 * CALL_USD)
    status = other.status("")
    assert (status.calls, status.refused, status.prompt_tokens, status.completion_tokens) == (5, 1, 5000, 500)
    assert status.usd == pytest.approx(5 * CALL_USD)


def test_parallel_calls_exceed_the_budget_by_one_call_at_most(server: JudgeServer, stores: Stores) -> None:
    one, other = (make_judge(server, store) for store in stores(daily_usd=2.5 * CALL_USD))
    server.always = Reply(judgment(True), delay_s=0.1)
    spent = 0.0
    for _ in range(4):
        spent += sum(result.cost_usd for result in ask_at_once([one, other] * 5))
    assert 2.5 * CALL_USD <= spent <= 3.5 * CALL_USD


def test_each_retry_is_paid_from_the_budget(server: JudgeServer, stores: Stores) -> None:
    store, _ = stores(daily_calls=2)
    server.always = Reply(status=500)
    assert ask(make_judge(server, store, max_retries=5)).error == BUDGET_SPENT
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "reply",
    [
        Reply(judgment(True), delay_s=3),
        Reply(judgment(True), drip_s=0.05),
        Reply(drop="before"),
        Reply(judgment(True), drop="midway"),
        Reply(body=b"<html>busy</html>"),
        Reply(body=json.dumps({"choices": [{"finish_reason": "stop", "message": {"content": judgment(True)}}]}).encode()),
    ],
    ids=["late", "dripping", "dropped", "dropped midway", "html", "no usage"],
)
def test_a_call_that_may_have_been_billed_stays_spent_at_its_highest_price(
    server: JudgeServer, stores: Stores, reply: Reply
) -> None:
    most = most_usage(RESPONSE, QUERY, DEFAULT_OPTIONS).prompt_tokens * 1e-6
    one, other = stores(daily_usd=1.5 * most)
    server.always = reply
    result = ask(make_judge(server, one, timeout_s=0.4))
    assert (result.cost_usd, result.input_tokens) == (0.0, 0)  # nobody counted
    assert other.status("").usd == pytest.approx(most)
    assert [ask(make_judge(server, other, timeout_s=0.4)).error == BUDGET_SPENT for _ in range(2)] == [False, True]


def test_a_call_that_was_cancelled_stays_spent(server: JudgeServer, stores: Stores) -> None:
    store, _ = stores(daily_usd=1.0)

    async def go() -> None:
        judging = asyncio.ensure_future(make_judge(server, store).judge(RESPONSE, QUERY))
        while not server.requests:
            await asyncio.sleep(0.01)
        judging.cancel()
        await judging

    server.script(Reply(delay_s=5))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(go())
    assert store.status("").usd > 0


@pytest.mark.parametrize("reply", [Reply(status=429), Reply(status=500), Reply(status=400, code="content_filter")])
def test_an_http_error_costs_nothing(server: JudgeServer, stores: Stores, reply: Reply) -> None:
    store, _ = stores(daily_usd=1.0)
    server.always = reply
    assert "HTTP" in ask(make_judge(server, store)).error
    assert (store.status("").usd, store.status("").calls) == (0.0, 1)


def test_what_was_never_sent_costs_nothing(server: JudgeServer, stores: Stores) -> None:
    store, _ = stores(daily_usd=1.0)
    with JudgeServer() as gone:
        pass
    assert ask(make_judge(gone, store)).error == "the connection to the judge failed"
    assert ask(make_judge(server, store), "half a pair: \ud800").error == "the client failed (UnicodeEncodeError)"
    assert (store.status("").usd, store.status("").calls) == (0.0, 2)


def test_a_new_day_has_a_new_budget(server: JudgeServer, stores: Stores) -> None:
    now = [86_400 * 20_000 - 1.0]
    store, _ = stores(daily_calls=1, clock=lambda: now[0])
    judge = make_judge(server, store)
    assert [ask(judge).error for _ in range(2)] == ["", BUDGET_SPENT]
    now[0] += 1
    assert (ask(judge).error, store.status("").calls) == ("", 1)


def test_what_was_reserved_by_a_killed_worker_stays_spent_and_settling_late_changes_no_other_day(stores: Stores) -> None:
    now = [86_400 * 20_000.0]
    one, other = stores(daily_usd=1.0, clock=lambda: now[0])
    assert one.reserve(700_000_000)
    late = one.reserve(100_000_000)
    assert late
    assert other.status("").usd == pytest.approx(0.8)
    now[0] += 86_400
    one.settle(late, 5, Usage(prompt_tokens=5))
    assert (other.status("").usd, other.status("").prompt_tokens) == (0.0, 0)


def test_with_a_budget_a_model_needs_a_price_and_a_free_one_is_free(server: JudgeServer, stores: Stores) -> None:
    store, _ = stores(daily_usd=1.0)
    assert ask(make_judge(server, store, model="unknown")).error == NO_PRICE
    assert server.requests == []
    assert ask(make_judge(server, store, model="local", prices={"local": (0, 0)})).error == ""


@pytest.mark.parametrize(
    "limits",
    [
        {"daily_usd": -1},
        {"daily_usd": float("nan")},
        {"daily_usd": float("inf")},
        {"max_concurrent": -1},
        {"breaker_failures": -1},
    ],
)
def test_a_limit_that_is_no_number_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        Limits(**limits)  # type: ignore[arg-type]


# Redis away: nothing becomes safe, and no budget is exceeded unseen


@pytest.fixture
def gone(tmp_path: Path) -> str:
    """The address of a Redis that is not there."""
    return f"unix://{tmp_path}/none.sock"


def test_without_redis_breaker_cap_and_cache_are_off_and_the_judge_decides(server: JudgeServer, gone: str) -> None:
    store = RedisStore(guard_client(gone), Limits(breaker_failures=1, max_concurrent=1))
    cache = JudgeCache(store, ttl_s=60, secret=b"s")
    judge = make_judge(server, store, cache=cache)
    server.script(Reply(status=500))
    assert ask(judge).error == "the judge answered with an error (HTTP 500)"
    assert [(result.error, result.is_safe) for result in ask_at_once([judge] * 3)] == [("", False)] * 3
    assert len(server.requests) == 4


@pytest.mark.parametrize("limits", [{"daily_usd": 1.0}, {"daily_calls": 100}])
def test_without_redis_a_budget_means_no_call(server: JudgeServer, gone: str, limits: dict[str, Any]) -> None:
    result = ask(make_judge(server, RedisStore(guard_client(gone), Limits(**limits))))
    assert (result.error, result.is_safe, result.category) == (BUDGET_UNREADABLE, False, UNDECIDED)
    assert server.requests == []


def test_a_redis_that_goes_away_during_the_call_costs_no_judgment(server: JudgeServer, redis_server: RedisServer) -> None:
    url = f"unix://{redis_server.socket}"
    judge = make_judge(server, RedisStore(guard_client(url), Limits(max_concurrent=1, daily_calls=10)))
    server.always = Reply(judgment(True), delay_s=0.5)
    with ThreadPoolExecutor(1) as thread:
        judging = thread.submit(ask, judge)
        while not server.requests:
            time.sleep(0.01)
        redis_server.stop()
        assert (judging.result().error, judging.result().is_safe) == ("", True)
    assert ask(judge).error == BUDGET_UNREADABLE
    redis_server.start()
    assert ask(judge).error == ""  # without a restart of the worker


def test_a_redis_that_hangs_does_not_use_up_the_deadline(
    server: JudgeServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guardreview.verdicts.judge_redis.TIMEOUT_S", 0.2)
    url = f"unix://{redis_server.socket}"
    assert redis_server.process
    redis_server.process.send_signal(signal.SIGSTOP)
    try:
        assert ask(make_judge(server, RedisStore(guard_client(url), Limits(max_concurrent=1)))).error == ""
        assert ask(make_judge(server, RedisStore(guard_client(url), Limits(daily_calls=1)))).error == BUDGET_UNREADABLE
    finally:
        redis_server.process.send_signal(signal.SIGCONT)


def test_the_store_says_that_it_is_unavailable_in_every_method(gone: str) -> None:
    store = RedisStore(guard_client(gone), Limits())
    reservation = InProcessStore(Limits()).reserve(1)
    assert reservation
    for call in (
        lambda: store.admit("j", "h", 1),
        lambda: store.report("j", "h", None),
        lambda: store.take_slot("h", 1),
        lambda: store.free_slot("h"),
        lambda: store.reserve(1),
        lambda: store.settle(reservation, 1, Usage()),
        lambda: store.status("j"),
        lambda: store.get("k"),
        lambda: store.put("k", b"v", 1),
    ):
        with pytest.raises(StoreUnavailable, match=r"^Redis: \w+$"):
            call()


# Both stores are one thing


HOLDERS = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("admit"), HOLDERS),
    st.tuples(st.just("report"), HOLDERS, st.sampled_from([True, False, None])),
    st.tuples(st.just("take_slot"), HOLDERS),
    st.tuples(st.just("free_slot"), HOLDERS),
    st.tuples(st.just("reserve"), st.integers(0, 10**9)),
    st.tuples(st.just("settle"), st.integers(0, 10**9), st.integers(0, 1000)),
)


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(STEPS, max_size=40),
    limits=st.builds(
        Limits,
        breaker_failures=st.integers(0, 3),
        breaker_cooldown_s=st.sampled_from([0.0, 3600.0]),
        max_concurrent=st.integers(0, 2),
        daily_usd=st.sampled_from([0.0, 0.5, 2.0]),
        daily_calls=st.integers(0, 5),
    ),
)
def test_redis_answers_as_memory_does(redis_url: str, steps: list[tuple[Any, ...]], limits: Limits) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        pair: tuple[GuardStore, GuardStore] = (InProcessStore(limits), RedisStore(client, limits))
        reserved: tuple[Any, Any] = (None, None)
        for name, *arguments in steps:
            match name:
                case "admit":
                    said = [store.admit("judge", arguments[0], 3600) for store in pair]
                case "report":
                    said = [store.report("judge", *arguments) for store in pair]  # type: ignore[func-returns-value]
                case "take_slot":
                    said = [store.take_slot(arguments[0], 3600) for store in pair]
                case "free_slot":
                    said = [store.free_slot(arguments[0]) for store in pair]  # type: ignore[func-returns-value]
                case "reserve":
                    said = [store.reserve(arguments[0]) for store in pair]
                    reserved = (said[0], said[1])
                case _:
                    said = [None, None]
                    for store, reservation in zip(pair, reserved, strict=True):
                        if reservation:
                            store.settle(reservation, arguments[0], Usage(prompt_tokens=arguments[1]))
                    reserved = (None, None)
            assert said[0] == said[1], name
            assert pair[0].status("judge") == pair[1].status("judge"), name
