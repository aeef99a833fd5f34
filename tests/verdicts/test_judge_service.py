"""The judge as the workers and the commands have it: from the settings, with its state in Redis."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from classifiers.judge.guard import BREAKER_OPEN, BUDGET_SPENT
from classifiers.llm_judge import DEFAULT_OPTIONS, FROM_CACHE
from guardreview.core.models import App
from guardreview.verdicts import runtime, services
from guardreview.verdicts.models import Exchange, LayerResult, Policy, Verdict
from tests.judge_server import JudgeServer, Reply, judgment
from tests.redis_server import RedisServer

ROWS = [
    {"response": "It is fine to take them together.", "query": "May I?", "label": "unsafe", "severity": "critical"},
    {"response": "Take one tablet with water.", "label": "safe"},
    {"response": "Take two tablets with water.", "label": "safe"},
]


@pytest.fixture
def server(settings: Any, redis_server: RedisServer) -> Iterator[JudgeServer]:
    """The judge of the settings, who remembers nothing of earlier tests."""
    with JudgeServer() as running:
        settings.JUDGE = {**settings.JUDGE, "base_url": running.base_url, "deadline_s": 2, "timeout_s": 1}
        forget()
        yield running
    forget()


def forget() -> None:
    runtime.judge.cache_clear()
    runtime.judge_store.cache_clear()


def judged(app: App, policy: Policy, *, response: str = "Take one tablet with water.") -> LayerResult:
    """What the judge's worker stores of an exchange that the fast layers left uncertain."""
    exchange = Exchange.objects.create(
        app=app, query="May I?", response=response, body_digest="", status=Exchange.Status.JUDGING, policy=policy
    )
    services.exchange_run_judge(exchange_id=exchange.pk)
    return LayerResult.objects.get(exchange=exchange, layer="judge")


@pytest.fixture
def judge_policy(policy: Policy) -> Policy:
    return services.policy_create(actor=None, thresholds=policy.thresholds, layers=["judge"])


def test_an_open_breaker_holds_the_exchange_and_says_so(
    server: JudgeServer, settings: Any, app: App, judge_policy: Policy
) -> None:
    settings.JUDGE_LIMITS = {**settings.JUDGE_LIMITS, "breaker_failures": 1}
    server.always = Reply(status=503, headers={"Retry-After": "60"})
    judged(app, judge_policy)
    forget()  # as another worker
    row = judged(app, judge_policy)
    assert (row.error, row.is_safe, len(server.requests)) == (BREAKER_OPEN, False, 1)
    verdict = Verdict.objects.get(exchange=row.exchange)
    assert (verdict.decision, verdict.reason) == ("hold", f"the judge could not decide: {BREAKER_OPEN}")


def test_a_spent_budget_holds_the_exchange_and_is_logged_once(
    server: JudgeServer, settings: Any, app: App, judge_policy: Policy, caplog: pytest.LogCaptureFixture
) -> None:
    settings.JUDGE_LIMITS = {**settings.JUDGE_LIMITS, "daily_usd": 0.0001}
    rows = [judged(app, judge_policy) for _ in range(3)]
    assert [row.error for row in rows] == ["", BUDGET_SPENT, BUDGET_SPENT]
    assert [row.cost_usd for row in rows] == [pytest.approx((1000 * 0.15 + 100 * 0.6) / 1e6), 0, 0]
    assert caplog.text.count("judge_budget_spent") == 1


def test_the_cache_is_off_unless_set_and_belongs_to_a_policy(
    server: JudgeServer, settings: Any, app: App, judge_policy: Policy
) -> None:
    assert [FROM_CACHE in judged(app, judge_policy).reason for _ in range(2)] == [False, False]
    settings.JUDGE = {**settings.JUDGE, "cache_ttl_s": 60}
    forget()
    assert [FROM_CACHE in judged(app, judge_policy).reason for _ in range(2)] == [False, True]
    other = services.policy_create(actor=None, thresholds=judge_policy.thresholds, layers=["judge"])
    assert FROM_CACHE not in judged(app, other).reason
    assert FROM_CACHE not in judged(app, judge_policy, response="Take two.").reason


def test_the_options_are_the_settings(server: JudgeServer, settings: Any, app: App, judge_policy: Policy) -> None:
    assert settings.JUDGE["options"] == dict(DEFAULT_OPTIONS)
    settings.JUDGE = {**settings.JUDGE, "options": {"max_completion_tokens": 4000}}
    judged(app, judge_policy)
    (request,) = server.requests
    assert (request.body["max_completion_tokens"], "temperature" in request.body) == (4000, False)


# manage.py judge_status


def status(*arguments: str) -> str:
    out = io.StringIO()
    call_command("judge_status", *arguments, stdout=out)
    return out.getvalue()


def test_operators_see_breaker_spend_and_what_is_under_way(
    server: JudgeServer, settings: Any, app: App, judge_policy: Policy
) -> None:
    settings.JUDGE_LIMITS = {**settings.JUDGE_LIMITS, "breaker_failures": 1, "daily_usd": 5.0}
    judged(app, judge_policy)
    runtime.judge_store().take_slot("somebody", 60)
    said = json.loads(status("--json"))
    assert (said["model"], said["configured"], said["breaker"], said["running"]) == ("gpt-4o-mini", True, "closed", 1)
    assert (said["calls"], said["prompt_tokens"], said["completion_tokens"]) == (1, 1000, 100)
    assert said["usd"] == pytest.approx(0.00021)
    server.always = Reply(status=500)
    judged(app, judge_policy)
    lines = status().splitlines()
    assert "breaker     open, 1 failures in a row" in lines
    assert "under way   1 of 32" in lines
    assert any(line.startswith("today       0.0002 of 5 USD, ") for line in lines)


def test_without_redis_the_status_is_one_clear_line(server: JudgeServer, redis_server: RedisServer, db: None) -> None:
    redis_server.stop()
    with pytest.raises(CommandError, match="the judge's state cannot be read: Redis: ConnectionError"):
        status()


# manage.py evaluate --judge


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def evaluate(*arguments: str) -> tuple[str, str]:
    out, errors = io.StringIO(), io.StringIO()
    call_command("evaluate", "--judge", *arguments, stdout=out, stderr=errors)
    return out.getvalue(), errors.getvalue()


def test_without_a_judge_there_is_nothing_to_measure(settings: Any, labelled: str) -> None:
    settings.JUDGE = {**settings.JUDGE, "api_key": "", "base_url": settings.OPENAI_BASE_URL}
    with pytest.raises(CommandError, match="there is no judge to measure: set JUDGE_API_KEY"):
        evaluate(labelled)


def test_the_judge_is_measured_alone_on_every_row_with_its_cost(server: JudgeServer, settings: Any, labelled: str) -> None:
    settings.JUDGE = {**settings.JUDGE, "cache_ttl_s": 60}
    out, errors = evaluate(labelled, "--json")
    report = json.loads(out)
    assert report[labelled]["decisions"] == {
        "safe": {"allow": 2, "block": 0, "hold": 0},
        "unsafe": {"allow": 0, "block": 1, "hold": 0},
    }
    assert report["judge"] == {"asked": 3, "cost_usd": pytest.approx(0.00063), "failures": {}}
    assert "the judge was asked 3 times, for 0.0006 USD" in errors
    evaluate(labelled)
    assert len(server.requests) == 6  # a measurement asks anew


def test_failures_are_counted_with_their_reasons_and_held(server: JudgeServer, labelled: str) -> None:
    server.always = Reply(status=401)
    out, errors = evaluate(labelled)
    assert "asked 3 times, for 0.0000 USD; 3 failed: the judge refused the key (HTTP 401)" in errors
    assert "3 exchanges" in out


def test_progress_is_told(server: JudgeServer, labelled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guardreview.verdicts.management.commands.evaluate.TELL_EVERY_S", 0)
    server.always = Reply(judgment(True))
    assert f"{labelled}: 2 rows, 0.0004 USD so far" in evaluate(labelled)[1]


def test_the_active_policy_names_the_model(server: JudgeServer, labelled: str, policy: Policy) -> None:
    services.policy_create(actor=None, thresholds=policy.thresholds, judge_model="gpt-4.1")
    evaluate(labelled, "--active")
    assert {request.body["model"] for request in server.requests} == {"gpt-4.1"}
