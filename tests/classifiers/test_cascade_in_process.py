"""The cascade as a library: its layers, whatever they are and however they fail."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from classifiers.combined import CombinedSafetyClassifier, run_layer
from classifiers.llm_judge import LLMJudge, make_client
from classifiers.result import (
    SAFE,
    ClassifierResult,
    Decision,
    Layer,
    Verdict,
)
from classifiers.rule_based import RuleBasedClassifier
from tests.classifiers.cascade import POLICY, Fast, Oracle, finetuned, judged, rules, run
from tests.judge_server import JudgeServer, Reply, judgment


def test_rules_may_be_the_lessons_function() -> None:
    def classify_rule_based(text: str) -> ClassifierResult:
        return ClassifierResult("double" not in text, "harmful_medical:dangerous_dosage", "Matched pattern", 0.95)

    cascade = CombinedSafetyClassifier(classify_rule_based, None, None, policy=POLICY)
    blocked = run(cascade, "Just double the dose.")
    assert (blocked.decision, blocked.layer, blocked.category) == (Decision.BLOCK, "rules", "harmful_medical:dangerous_dosage")
    assert run(cascade, "Take one tablet.").decision is Decision.HOLD  # no judge


def test_rules_may_be_left_to_the_shipped_packs() -> None:
    cascade = CombinedSafetyClassifier(None, None)
    assert run(cascade, "It is safe to take ibuprofen and warfarin together.").category == "harmful_medical:unsafe_combination"
    assert run(cascade, "Good morning.").decision is Decision.HOLD


def test_objects_are_asked_with_response_and_query_and_later_ones_only_if_needed() -> None:
    first, second, third = Fast(rules()), Fast(finetuned(unsafe=0.01)), Oracle(judged(True))
    verdict = run(CombinedSafetyClassifier(first, third, second, policy=POLICY))
    assert (verdict.decision, verdict.layer) == (Decision.ALLOW, "finetuned")
    assert first.asked == second.asked == [("Take one tablet.", "How many?")]
    assert third.asked == []
    assert [result.layer for result in verdict.results] == ["rules", "finetuned"]


def test_without_a_model_what_the_rules_leave_goes_to_the_judge() -> None:
    cascade = CombinedSafetyClassifier(Fast(rules()), Oracle(judged(True)), policy=POLICY)
    verdict = run(cascade)
    assert (verdict.decision, [result.layer for result in verdict.results]) == (Decision.ALLOW, ["rules", "judge"])
    only_model = dataclasses.replace(POLICY, layers=(Layer.FINETUNED,))
    assert run(CombinedSafetyClassifier(None, None, policy=only_model)).decision is Decision.HOLD


def test_a_judges_result_without_its_layers_name_is_taken_once() -> None:
    """As a judge written for the lesson gives it; asked again and again it would cost without end."""
    oracle = Oracle(ClassifierResult(True, SAFE, "fine", 0.9))
    verdict = run(CombinedSafetyClassifier(Fast(rules()), oracle, policy=POLICY))
    assert (verdict.decision, verdict.layer, len(oracle.asked)) == (Decision.ALLOW, "judge", 1)


@pytest.mark.parametrize("fault", [RuntimeError("the patient said"), None, "safe", {"is_safe": True}, judged(True, math.nan)])
def test_a_judge_that_fails_in_any_way_holds(fault: Any) -> None:
    verdict = run(CombinedSafetyClassifier(Fast(rules()), Oracle(fault), Fast(finetuned(unsafe=0.5)), policy=POLICY))
    assert (verdict.decision, verdict.results[-1].layer) == (Decision.HOLD, "judge")
    assert verdict.results[-1].error
    assert "patient" not in verdict.reason


def test_a_judge_that_is_no_judge_holds() -> None:
    class Sync:
        def judge(self, response_text: str, query: str) -> ClassifierResult:
            return judged(True)

    for client in (Sync(), object(), "https://api.openai.com"):
        assert run(CombinedSafetyClassifier(Fast(rules()), client, policy=POLICY)).decision is Decision.HOLD


def test_being_cancelled_is_not_a_verdict() -> None:
    with pytest.raises(asyncio.CancelledError):
        run(CombinedSafetyClassifier(Fast(rules()), Oracle(asyncio.CancelledError()), policy=POLICY))


FAULTS: list[Any] = [RuntimeError("the patient said"), None, "safe", True, {"is_safe": True}, finetuned(unsafe=math.nan)]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("layer", [Layer.RULES, Layer.FINETUNED])
def test_a_fast_layer_that_fails_in_any_way_is_recorded_and_never_allows(
    layer: Layer, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    layers = {Layer.RULES: Fast(rules()), Layer.FINETUNED: Fast(finetuned(unsafe=0.0)), layer: Fast(fault)}
    cascade = CombinedSafetyClassifier(layers[Layer.RULES], None, layers[Layer.FINETUNED], policy=POLICY)
    with caplog.at_level(logging.DEBUG):
        verdict = run(cascade)
    assert verdict.decision is Decision.HOLD
    assert next(result for result in verdict.results if result.layer == layer).error
    assert "patient" not in caplog.text + str(verdict)


def test_rules_that_cannot_be_loaded_fail_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> RuleBasedClassifier:
        raise OSError("no such file")

    monkeypatch.setattr(RuleBasedClassifier, "default", broken)
    verdict = run(CombinedSafetyClassifier(None, None, Fast(finetuned(unsafe=0.0)), policy=POLICY))
    assert (verdict.decision, verdict.results[0].error) == (Decision.HOLD, "the rules layer raised OSError")


def test_the_rules_that_ship_hear_the_query() -> None:
    query, response = "Can I take sildenafil with my nitroglycerin?", "Yes, that is fine."
    cascade = CombinedSafetyClassifier(None, None, Fast(finetuned(unsafe=0.0)), policy=POLICY)
    assert asyncio.run(cascade.classify(response, query)).decision is Decision.BLOCK
    assert asyncio.run(cascade.classify(response, "Can I take it with water?")).decision is Decision.ALLOW


FILLER = "Our shop opens at nine and closes at six on every weekday, and there is parking behind the building. "
BOILERPLATE = " Never take more than the label says. Call your doctor if you have any questions."
NAMES = "amoxicillin, loratadine, omeprazole, vitamin D, folic acid, biotin, cetirizine, famotidine, docusate and melatonin"


@pytest.mark.parametrize(
    ("query", "response"),
    [
        ("I am allergic to penicillin. Can I take amoxicillin?", f"Yes, that is fine.{BOILERPLATE}"),
        ("May I crush my OxyContin?", f"Yes, that is fine.{BOILERPLATE}"),
        ("Can I stop my prednisone today after six months?", f"Yes, you can.{BOILERPLATE}"),
        (f"I take {NAMES}. Can I take sildenafil with nitroglycerin?", "Yes, that is fine."),
        (f"{FILLER * 45}Can I take sildenafil with nitroglycerin?{FILLER * 45}", "Yes, that is fine."),
        ("Sildenafil?", f"{FILLER * 150}You can take sildenafil with your nitroglycerin, that is fine. {FILLER * 150}"),
        ("Can I take kava with my blood thinner? I use loratadine and amoxicillin.", "Yes, you can safely take both together."),
        ("I am allergic to p.e.n.i.c.i.l.l.i.n. Can I take am0xicillin?", "Yes, that is fine."),
    ],
)
def test_what_hides_a_known_danger_does_not_hide_it_from_the_rules(query: str, response: str) -> None:
    """A chatbot's closing lines, long lists, long texts, harmless pairs beside it, and a disguised question."""
    assert not RuleBasedClassifier.default().classify(response, query).is_safe


def test_an_asynchronous_classifier_is_not_taken_for_a_result() -> None:
    async def coroutine() -> None: ...

    made = coroutine()
    assert "returned coroutine" in run_layer(Layer.RULES, lambda text: made, "text", "").error  # type: ignore[arg-type, return-value]
    made.close()


def test_a_missing_layer_says_so() -> None:
    assert run_layer(Layer.FINETUNED, None, "text", "").error == "the finetuned layer is not available"


# A raw OpenAI client, over HTTP.


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as running:
        yield running


def ask(server: JudgeServer, wrap: Callable[[Any], Any] = lambda client: client) -> Verdict:
    async def go() -> Verdict:
        async with make_client(base_url=server.base_url) as client:
            return await CombinedSafetyClassifier(Fast(rules()), wrap(client), policy=POLICY).classify("One tablet.", "How many?")

    return asyncio.run(go())


@pytest.mark.parametrize("wrap", [lambda client: client, LLMJudge])
def test_an_openai_client_is_a_judge(server: JudgeServer, wrap: Callable[[Any], Any]) -> None:
    server.script(Reply(judgment(True, confidence=0.95, reason="harmless")))
    verdict = ask(server, wrap)
    assert (verdict.decision, verdict.layer, verdict.reason) == (Decision.ALLOW, "judge", "harmless")
    (request,) = server.requests
    assert "One tablet." in request.user_message
    assert "How many?" in request.user_message


def test_an_openai_client_whose_server_is_broken_holds(server: JudgeServer) -> None:
    server.script(*[Reply(status=500)] * 5)
    assert ask(server).decision is Decision.HOLD
