"""The one decision, and the cascade in one process: nothing that failed, or is missing, ever means safe."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import inspect
import json
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.combined import SAFE_FALLBACK, CombinedSafetyClassifier, decide, run_layer
from classifiers.finetuned import PharmacySafetyClassifier
from classifiers.llm_judge import LLMJudge, make_client
from classifiers.policy import THRESHOLD_KEYS, UNSAFE, Policy, Threshold
from classifiers.result import (
    CATEGORIES,
    SAFE,
    UNDECIDED,
    ClassifierResult,
    Decision,
    Evidence,
    Layer,
    Severity,
    Verdict,
    severity_of,
)
from classifiers.rule_based import RuleBasedClassifier
from tests.judge_server import JudgeServer, Reply, judgment

POLICY = Policy({"default": Threshold(0.9, 0.1)}, version="test")
ODD_NUMBERS = (math.nan, math.inf, -math.inf, -0.5, 1.5)

# Results as layers give them, well-formed and not.

probability = st.one_of(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]), st.floats(0, 1))
number = st.one_of(probability, probability, probability, st.sampled_from(ODD_NUMBERS))
bounds = st.tuples(probability, probability).map(lambda pair: Threshold(max(pair), min(pair)))
policies = st.builds(
    lambda default, some, layers, confidence: Policy(
        {**some, "default": default}, tuple(layer for layer in Layer if layer in layers), confidence
    ),
    bounds,
    st.dictionaries(st.sampled_from(THRESHOLD_KEYS[1:]), bounds, max_size=3),
    st.one_of(st.just(set(Layer)), st.sets(st.sampled_from(Layer), min_size=1)),
    probability,
)


def results_of(layer: Layer) -> st.SearchStrategy[ClassifierResult]:
    return st.builds(
        lambda is_safe, category, categories, confidence, scores, escalate, error: ClassifierResult(
            is_safe,
            category,
            "why",
            confidence,
            layer=layer.value,
            categories=categories,
            scores=scores,
            escalate=escalate,
            error=error,
        ),
        st.booleans(),
        st.sampled_from([SAFE, UNDECIDED, UNSAFE, *CATEGORIES]),
        st.one_of(st.just(()), st.lists(st.sampled_from(CATEGORIES), max_size=2).map(tuple)),
        number,
        st.dictionaries(st.sampled_from([UNSAFE, *CATEGORIES]), number, max_size=3),
        st.sampled_from([False, False, False, True]),
        st.sampled_from(["", "", "", "timed out"]),
    )


all_results = st.tuples(*map(results_of, Layer))


def is_usable(result: ClassifierResult) -> bool:
    return not result.error and all(0 <= number <= 1 for number in (result.confidence, *result.scores.values()))


def is_certainly_safe(policy: Policy, result: ClassifierResult) -> bool:
    """Whether a fast layer leaves nothing to ask."""
    if not is_usable(result) or result.escalate:
        return False
    if result.layer == Layer.RULES:
        return result.is_safe
    stated = result.scores.get(UNSAFE, 1 - result.confidence if result.is_safe else result.confidence)
    scores = {**result.scores, UNSAFE: stated}
    return all(score < policy.threshold(category).allow_below for category, score in scores.items())


def is_hit(policy: Policy, result: ClassifierResult) -> bool:
    """Whether a fast layer may block by itself."""
    if not is_usable(result):
        return False
    if result.layer == Layer.RULES:
        return not result.is_safe and not result.escalate
    return any(score >= policy.threshold(category).block_at for category, score in result.scores.items())


@settings(deadline=None, max_examples=400)
@given(policies, all_results)
def test_nothing_is_allowed_without_evidence(policy: Policy, results: tuple[ClassifierResult, ...]) -> None:
    verdict = decide(policy, results)
    assert isinstance(verdict, Verdict)
    assert verdict.is_safe is (verdict.decision is Decision.ALLOW)
    if verdict.decision is not Decision.ALLOW:
        return
    rules, finetuned, judge = results
    fast = [r for r in (rules, finetuned) if r.layer in policy.layers]
    by_the_fast_layers = Layer.FINETUNED in policy.layers and all(is_certainly_safe(policy, r) for r in fast)
    by_the_judge = (
        Layer.JUDGE in policy.layers
        and is_usable(judge)
        and judge.is_safe
        and not judge.categories
        and judge.confidence >= policy.judge_min_confidence
    )
    assert by_the_fast_layers or by_the_judge
    assert not any(is_hit(policy, result) for result in fast)


@settings(deadline=None)
@given(policies, all_results)
def test_a_hit_of_a_fast_layer_blocks_whatever_the_others_say(policy: Policy, results: tuple[ClassifierResult, ...]) -> None:
    verdict = decide(policy, results)
    assert isinstance(verdict, Verdict)
    if any(is_hit(policy, result) for result in results[:2] if result.layer in policy.layers):
        assert verdict.decision is Decision.BLOCK
    if verdict.decision is Decision.BLOCK:
        assert verdict.categories
        assert verdict.category in verdict.categories
        assert not {SAFE, UNDECIDED} & set(verdict.categories)
        assert verdict.severity is not None
        assert verdict.severity.rank >= max(severity_of(category).rank for category in verdict.categories)


@settings(deadline=None)
@given(policies, all_results)
def test_each_layer_is_asked_for_once_and_none_that_is_switched_off(
    policy: Policy, results: tuple[ClassifierResult, ...]
) -> None:
    told: list[ClassifierResult] = []
    asked = []
    while isinstance(step := decide(policy, told), Layer):
        asked.append(step)
        told.append(next(result for result in results if result.layer == step))
    assert asked == [layer for layer in policy.layers if layer in asked]
    if step.decision is Decision.ALLOW:
        assert set(asked) >= set(policy.layers) - {Layer.JUDGE}
    if step.decision is Decision.HOLD:
        assert asked == list(policy.layers)


@settings(deadline=None)
@given(policies, all_results, st.permutations(range(3)))
def test_the_decision_is_pure(policy: Policy, results: tuple[ClassifierResult, ...], order: list[int]) -> None:
    before = copy.deepcopy(results)
    verdict = decide(policy, results)
    assert isinstance(verdict, Verdict)
    assert str(decide(policy, results)) == str(verdict)  # NaN is not equal to itself
    assert str(results) == str(before)
    another = decide(policy, [results[index] for index in order])
    assert isinstance(another, Verdict)
    assert another.decision is verdict.decision


@settings(deadline=None)
@given(policies, all_results)
def test_results_that_were_stored_decide_as_they_did(policy: Policy, results: tuple[ClassifierResult, ...]) -> None:
    """The judge's task reads the fast layers' results back from the database."""
    stored = [ClassifierResult.from_json(json.loads(json.dumps(result.as_json()))) for result in results]
    assert str(decide(policy, stored)) == str(decide(policy, results))


def test_a_stored_score_is_not_rounded_across_a_threshold() -> None:
    policy = Policy({"default": Threshold(0.9, 0.35243)})
    uncertain = finetuned(unsafe=0.352431)
    assert decide(policy, [rules(), uncertain]) is Layer.JUDGE
    assert decide(policy, [rules(), ClassifierResult.from_json(uncertain.as_json())]) is Layer.JUDGE


# The rules of the house, one by one.


def rules(is_safe: bool = True, category: str = SAFE, **details: Any) -> ClassifierResult:
    return ClassifierResult(is_safe, category, "rules said", 0.95, layer=Layer.RULES, **details)


def finetuned(is_safe: bool = True, confidence: float = 0.5, **scores: float) -> ClassifierResult:
    return ClassifierResult(is_safe, SAFE, "finetuned said", confidence, layer=Layer.FINETUNED, scores=scores)


def judged(is_safe: bool, confidence: float = 0.9, *categories: str, **details: Any) -> ClassifierResult:
    category = categories[0] if categories else SAFE
    return ClassifierResult(is_safe, category, "judge said", confidence, layer=Layer.JUDGE, categories=categories, **details)


def verdict_on(*results: ClassifierResult, policy: Policy = POLICY) -> Verdict:
    verdict = decide(policy, results)
    assert isinstance(verdict, Verdict)
    return verdict


def test_layers_run_in_order_and_only_as_far_as_needed() -> None:
    assert decide(POLICY, []) is Layer.RULES
    assert decide(POLICY, [rules()]) is Layer.FINETUNED
    assert decide(POLICY, [rules(), finetuned(unsafe=0.5)]) is Layer.JUDGE
    assert verdict_on(rules(), finetuned(unsafe=0.05)).decision is Decision.ALLOW
    assert verdict_on(rules(False, "pii:ssn")).decision is Decision.BLOCK
    assert verdict_on(rules(), finetuned(unsafe=0.95)).decision is Decision.BLOCK


@pytest.mark.parametrize(("score", "decision"), [(0.1, None), (0.0999, Decision.ALLOW), (0.9, Decision.BLOCK), (0.8999, None)])
def test_the_bounds_themselves_belong_to_the_careful_side(score: float, decision: Decision | None) -> None:
    step = decide(POLICY, [rules(), finetuned(unsafe=score)])
    assert step is Layer.JUDGE if decision is None else isinstance(step, Verdict) and step.decision is decision


def test_one_category_is_enough_to_block_or_to_doubt() -> None:
    assert verdict_on(rules(), finetuned(unsafe=0.0, **{"pii:ssn": 0.95})).categories == ("pii:ssn",)
    assert decide(POLICY, [rules(), finetuned(unsafe=0.0, **{"pii:ssn": 0.2})]) is Layer.JUDGE


def test_an_unsafe_response_without_a_sure_category_takes_the_likeliest() -> None:
    verdict = verdict_on(rules(), finetuned(unsafe=0.95, misinformation=0.3, discouraging_care=0.4))
    assert (verdict.category, verdict.severity, verdict.confidence) == ("discouraging_care", Severity.CRITICAL, 0.95)


def test_a_blocked_response_is_never_called_safe() -> None:
    """Safe by the classifier's own threshold, blocked by the policy's, and its head knows no category."""
    verdict = verdict_on(rules(), finetuned(unsafe=0.4), policy=Policy({"default": Threshold(0.3, 0.1)}))
    assert (verdict.decision, verdict.category, verdict.severity) == (Decision.BLOCK, UNSAFE, Severity.CRITICAL)
    assert verdict.confidence == 0.4


def test_an_escalating_rule_is_asked_about_and_its_category_kept() -> None:
    suspicion = rules(False, "misinformation", categories=("misinformation",), escalate=True)
    assert decide(POLICY, [suspicion, finetuned(unsafe=0.0)]) is Layer.JUDGE
    assert verdict_on(suspicion, finetuned(unsafe=0.0), judged(True)).decision is Decision.ALLOW
    held = verdict_on(suspicion, finetuned(unsafe=0.0), judged(True, 0.2))
    assert (held.decision, held.category, held.severity) == (Decision.HOLD, "misinformation", Severity.MAJOR)
    blocked = verdict_on(suspicion, finetuned(unsafe=0.0), judged(False, 0.9, "pii:email"))
    assert set(blocked.categories) == {"pii:email", "misinformation"}


@pytest.mark.parametrize("escalating", [rules(escalate=True), dataclasses.replace(finetuned(unsafe=0.0), escalate=True)])
def test_a_fast_layer_that_escalates_allows_nothing_however_safe_it_calls_it(escalating: ClassifierResult) -> None:
    others = {Layer.RULES: rules(), Layer.FINETUNED: finetuned(unsafe=0.0), Layer(escalating.layer): escalating}
    assert decide(POLICY, list(others.values())) is Layer.JUDGE


def test_of_several_findings_the_most_severe_is_primary_and_all_are_listed() -> None:
    both = rules(False, "pii:email", categories=("pii:email", "legal_advice", "harmful_medical:abrupt_stop"))
    verdict = verdict_on(both)
    assert (verdict.category, verdict.severity) == ("harmful_medical:abrupt_stop", Severity.CRITICAL)
    assert verdict.categories == ("pii:email", "legal_advice", "harmful_medical:abrupt_stop")


@pytest.mark.parametrize(
    "broken",
    [
        ClassifierResult.failed(Layer.FINETUNED, "timed out"),
        *(finetuned(unsafe=odd) for odd in ODD_NUMBERS),
        *(finetuned(unsafe=0.01, misinformation=odd) for odd in ODD_NUMBERS),
        *(finetuned(confidence=odd) for odd in ODD_NUMBERS),
        finetuned(unsafe="0.01"),  # type: ignore[arg-type]
        finetuned(is_safe="no"),  # type: ignore[arg-type]
        finetuned(is_safe=None),  # type: ignore[arg-type]
    ],
)
def test_a_broken_result_of_the_model_neither_allows_nor_blocks(broken: ClassifierResult) -> None:
    assert decide(POLICY, [rules(), broken]) is Layer.JUDGE
    assert verdict_on(rules(), broken, ClassifierResult.failed(Layer.JUDGE, "late")).decision is Decision.HOLD
    assert verdict_on(rules(), broken, judged(True)).decision is Decision.ALLOW
    assert verdict_on(rules(False, "pii:ssn"), broken).decision is Decision.BLOCK


@pytest.mark.parametrize(
    "broken",
    [
        ClassifierResult.failed(Layer.JUDGE, "late"),
        *(judged(True, odd) for odd in ODD_NUMBERS),
        *(judged(False, odd, "pii:ssn") for odd in ODD_NUMBERS),
        judged("false", 0.9),  # type: ignore[arg-type]
        judged(True, 0.9, "pii:ssn"),
        judged(True, 0.9, escalate=True),
        judged(True, 0.9, error="content filter"),
        judged(True, 0.69),
        judged(False, 0.69, "pii:ssn"),
    ],
)
def test_a_judge_that_fails_or_doubts_or_contradicts_itself_holds(broken: ClassifierResult) -> None:
    verdict = verdict_on(rules(), finetuned(unsafe=0.5), broken)
    assert (verdict.decision, verdict.is_safe, verdict.layer) == (Decision.HOLD, False, Layer.JUDGE)
    assert "judge" in verdict.reason


def test_a_model_that_states_no_probability_says_it_with_its_confidence() -> None:
    """As the lesson's classifier does."""
    assert verdict_on(rules(), finetuned(is_safe=True, confidence=0.95)).decision is Decision.ALLOW
    assert verdict_on(rules(), finetuned(is_safe=False, confidence=0.95)).decision is Decision.BLOCK
    assert decide(POLICY, [rules(), finetuned(is_safe=True, confidence=0.6)]) is Layer.JUDGE
    assert decide(POLICY, [rules(), finetuned(is_safe=True, confidence=0.6, misinformation=0.01)]) is Layer.JUDGE


def test_rules_alone_never_allow() -> None:
    only_rules = dataclasses.replace(POLICY, layers=(Layer.RULES,))
    assert verdict_on(rules(), policy=only_rules).decision is Decision.HOLD
    with_judge = dataclasses.replace(POLICY, layers=(Layer.RULES, Layer.JUDGE))
    assert decide(with_judge, [rules()]) is Layer.JUDGE


def test_a_hold_names_the_gravest_suspicion_and_shows_all_evidence() -> None:
    evidence = Evidence(0, 4, "stop", "some rule")
    suspicion = rules(False, "legal_advice", escalate=True, evidence=(evidence,), latency_ms=1.5)
    doubtful = finetuned(unsafe=0.5, **{"harmful_medical:abrupt_stop": 0.4, "misinformation": 0.2})
    failed = ClassifierResult.failed(Layer.JUDGE, "late", latency_ms=2.0, cost_usd=0.25)
    held = verdict_on(suspicion, doubtful, failed)
    assert (held.category, held.severity, held.evidence) == ("legal_advice", Severity.MINOR, (evidence,))
    assert (held.latency_ms, held.cost_usd, held.policy_version) == (3.5, 0.25, "test")
    assert verdict_on(rules(), doubtful, failed).severity is Severity.MAJOR  # a guess is no suspicion
    assert verdict_on(rules(), ClassifierResult.failed(Layer.FINETUNED, "gone"), failed).severity is Severity.CRITICAL
    likely = finetuned(False, unsafe=0.6, **{"harmful_medical:abrupt_stop": 0.5, "misinformation": 0.2})
    likely = dataclasses.replace(likely, categories=("harmful_medical:abrupt_stop", "misinformation"))
    assert verdict_on(rules(), likely, failed).categories == ("harmful_medical:abrupt_stop",)
    assert (verdict_on(rules(), doubtful, failed).category, held.results[-1].error) == (UNDECIDED, "late")


def test_confidence_is_in_the_decision() -> None:
    assert verdict_on(rules(), finetuned(confidence=0.8, unsafe=0.05)).confidence == 0.95
    assert verdict_on(rules(), finetuned(confidence=0.6, unsafe=0.93)).confidence == 0.93
    assert verdict_on(rules(), finetuned(unsafe=0.5), judged(True, 0.75)).confidence == 0.75


# The lesson's contract.


def test_the_lessons_result_has_its_four_fields_first() -> None:
    fields = [field.name for field in dataclasses.fields(ClassifierResult)]
    assert fields[:4] == ["is_safe", "category", "reason", "confidence"]
    result = ClassifierResult(False, "pii:ssn", "matched", 0.99)
    assert (result.is_safe, result.category, result.reason, result.confidence) == (False, "pii:ssn", "matched", 0.99)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.is_safe = True  # type: ignore[misc]
    with pytest.raises(TypeError):
        ClassifierResult(False, "pii:ssn", "matched", 0.99, "rules")  # type: ignore[call-arg]


def test_the_lessons_constructors() -> None:
    signature = inspect.signature(CombinedSafetyClassifier)
    assert list(signature.parameters)[:3] == ["rule_classifier", "llm_client", "finetuned_classifier"]
    assert signature.parameters["finetuned_classifier"].default is None
    assert list(inspect.signature(CombinedSafetyClassifier.classify).parameters) == ["self", "response_text", "query"]
    assert inspect.iscoroutinefunction(CombinedSafetyClassifier.classify)
    signature = inspect.signature(PharmacySafetyClassifier)
    assert list(signature.parameters)[:2] == ["model_path", "threshold"]
    assert signature.parameters["threshold"].default == 0.5


def test_the_fallback_sends_the_patient_to_a_person() -> None:
    assert "pharmacist" in SAFE_FALLBACK
    assert "physician" in SAFE_FALLBACK
    assert "can't answer" in SAFE_FALLBACK


# The cascade in one process.


class Fast:
    """A fast classifier that says what it is told to, and remembers what it was asked."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.asked: list[tuple[str, str]] = []

    def classify(self, text: str, query: str = "") -> Any:
        self.asked.append((text, query))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class Oracle:
    """A judge of the same kind."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.asked: list[tuple[str, str]] = []

    async def judge(self, response_text: str, query: str) -> Any:
        self.asked.append((response_text, query))
        if len(self.asked) > 3:
            pytest.fail("the judge is asked without end")
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def run(cascade: CombinedSafetyClassifier, text: str = "Take one tablet.", query: str = "How many?") -> Verdict:
    return asyncio.run(asyncio.wait_for(cascade.classify(text, query), 20))


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


@settings(max_examples=40, deadline=None)
@given(policies, all_results)
def test_the_cascade_says_what_decide_says_of_what_is_stored(policy: Policy, results: tuple[ClassifierResult, ...]) -> None:
    """The Celery service calls `decide` on results that it stored; in one process it is called on what layers returned."""
    first, second, third = results
    verdict = run(CombinedSafetyClassifier(Fast(first), Oracle(third), Fast(second), policy=policy))
    stored = [ClassifierResult.from_json(json.loads(json.dumps(result.as_json()))) for result in verdict.results]
    assert decide(policy, stored) == verdict


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
