"""The one decision, and the cascade in one process: nothing that failed, or is missing, ever means safe."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.combined import SAFE_FALLBACK, CombinedSafetyClassifier, decide
from classifiers.finetuned import PharmacySafetyClassifier
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
from tests.classifiers.cascade import POLICY, Fast, Oracle, finetuned, judged, rules, run

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


@settings(max_examples=40, deadline=None)
@given(policies, all_results)
def test_the_cascade_says_what_decide_says_of_what_is_stored(policy: Policy, results: tuple[ClassifierResult, ...]) -> None:
    """The Celery service calls `decide` on results that it stored; in one process it is called on what layers returned."""
    first, second, third = results
    verdict = run(CombinedSafetyClassifier(Fast(first), Oracle(third), Fast(second), policy=policy))
    stored = [ClassifierResult.from_json(json.loads(json.dumps(result.as_json()))) for result in verdict.results]
    assert decide(policy, stored) == verdict


@pytest.mark.parametrize("unsafe", [0.0, 0.5, 1.0])
def test_a_verdict_comes_back_from_json_with_its_decision_and_every_result(unsafe: float) -> None:
    evidence = Evidence(0, 4, "stop", "some rule")
    late = ClassifierResult.failed(Layer.JUDGE, "late", latency_ms=2.0, cost_usd=0.25)
    verdict = verdict_on(rules(evidence=(evidence,)), finetuned(is_safe=unsafe < 0.5, unsafe=unsafe), late)
    read = Verdict.from_json(json.loads(json.dumps(verdict.as_json())))
    assert (read, type(read), type(read.decision)) == (verdict, Verdict, Decision)
