"""The cascade: rules, then the fine-tuned classifier, then the LLM judge for what stays uncertain.

`decide` is the one place where a verdict is made. `CombinedSafetyClassifier` runs the layers in-process, the Celery
tasks run them in workers; both do only what `decide` says.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Protocol

from classifiers.policy import UNSAFE, Policy
from classifiers.result import (
    SAFE,
    UNDECIDED,
    ClassifierResult,
    Decision,
    Layer,
    Severity,
    Verdict,
    most_severe,
    severity_of,
)

log = logging.getLogger(__name__)
LIKELY = 0.5

SAFE_FALLBACK = (
    "I can't answer this question directly, to keep you safe. "
    "Please ask your pharmacist or physician, who can advise you on it personally."
)
"""What the patient reads in place of a response that was stopped."""


class FastClassifier(Protocol):
    """Rules or fine-tuned classifier: a synchronous `classify` of a response with its query."""

    def classify(self, text: str, query: str = "") -> ClassifierResult: ...


class Judge(Protocol):
    """An LLM judge: never raises for its provider's faults, but returns a failed result."""

    async def judge(self, response_text: str, query: str) -> ClassifierResult: ...


def decide(policy: Policy, results: Sequence[ClassifierResult]) -> Verdict | Layer:
    """Say the verdict on the results so far, or which layer must run next. Pure.

    - A finding of a fast layer that it may block by itself blocks, as does any P(category) at or above `block_at`.
    - The fast layers allow only if each of them ran, none escalated, and every P(category) is below `allow_below`.
    - All else goes to the judge, whose word counts at `judge_min_confidence` or more.
    - Undecided, failed, malformed, missing or switched off: `hold`. Nothing that failed ever means safe.
    """
    by_layer = {result.layer: result for result in results}
    certain = Layer.FINETUNED in policy.layers
    for layer in policy.layers:
        if layer is Layer.JUDGE:
            continue
        result = by_layer.get(layer)
        if result is None:
            return layer
        if _fault(result):
            certain = False
        elif blocked := _blocking_categories(policy, result):
            return _verdict(policy, Decision.BLOCK, result, results, blocked)
        else:
            certain = certain and not result.escalate and _all_below(policy, result)
    if certain:
        return _verdict(policy, Decision.ALLOW, by_layer[Layer.FINETUNED], results, ())
    if Layer.JUDGE not in policy.layers:
        return _hold(policy, results, "the fast layers are uncertain and the policy has no judge")
    judged = by_layer.get(Layer.JUDGE)
    if judged is None:
        return Layer.JUDGE
    if fault := _fault(judged):
        return _hold(policy, results, f"the judge could not decide: {fault}")
    if judged.escalate or (judged.is_safe and judged.categories):
        return _hold(policy, results, "the judge's result contradicts itself")
    if judged.confidence < policy.judge_min_confidence:
        return _hold(
            policy, results, f"the judge's confidence {judged.confidence:.2f} is below {policy.judge_min_confidence:.2f}"
        )
    if judged.is_safe:
        return _verdict(policy, Decision.ALLOW, judged, results, ())
    return _verdict(policy, Decision.BLOCK, judged, results, _named(judged))


def _fault(result: ClassifierResult) -> str:
    """Why a layer's result says nothing, empty if it does."""
    return result.error or ("its result is malformed" if _is_malformed(result) else "")


def _is_malformed(result: ClassifierResult) -> bool:
    """Whether what should be a truth value or a probability is none; NaN is none."""
    numbers = (result.confidence, *result.scores.values())
    return result.is_safe not in (True, False) or not all(isinstance(number, Real) and 0 <= number <= 1 for number in numbers)


def _blocking_categories(policy: Policy, result: ClassifierResult) -> tuple[str, ...]:
    if result.layer == Layer.FINETUNED:
        over = [category for category, score in _scores(result).items() if score >= policy.threshold(category).block_at]
        named = tuple(category for category in over if category != UNSAFE)
        return named or ((_likeliest(result),) if over else ())
    if result.is_safe or result.escalate:
        return ()
    return _named(result)


def _scores(result: ClassifierResult) -> Mapping[str, float]:
    """P(category) by the fine-tuned classifier. One that states no P(unsafe) has said it with its confidence."""
    return {UNSAFE: 1 - result.confidence if result.is_safe else result.confidence, **result.scores}


def _named(result: ClassifierResult) -> tuple[str, ...]:
    """The categories of a finding, at least one."""
    named = tuple(c for c in (*result.categories, result.category) if c and c not in (SAFE, UNDECIDED, UNSAFE))
    return tuple(dict.fromkeys(named)) or (UNSAFE,)


def _likeliest(result: ClassifierResult) -> str:
    """The most probable category of a response that is unsafe as a whole."""
    scores = {category: score for category, score in result.scores.items() if category != UNSAFE}
    return max(scores, key=lambda category: scores[category]) if scores else _named(result)[0]


def _all_below(policy: Policy, result: ClassifierResult) -> bool:
    if result.layer != Layer.FINETUNED:
        return result.is_safe and not result.categories
    return all(score < policy.threshold(category).allow_below for category, score in _scores(result).items())


def _verdict(
    policy: Policy,
    decision: Decision,
    deciding: ClassifierResult,
    results: Sequence[ClassifierResult],
    categories: tuple[str, ...],
) -> Verdict:
    found = tuple(dict.fromkeys((*categories, *_found_by_rules(results)))) if decision is Decision.BLOCK else ()
    severities = [severity_of(category) for category in found]
    if deciding.severity and found:
        severities.append(deciding.severity)
    return Verdict(
        is_safe=decision is Decision.ALLOW,
        category=most_severe(found) if found else SAFE,
        reason=deciding.reason,
        confidence=_confidence(decision, deciding),
        decision=decision,
        layer=deciding.layer,
        severity=max(severities, key=lambda severity: severity.rank, default=None),
        categories=found,
        scores=deciding.scores,
        evidence=tuple(evidence for result in results for evidence in result.evidence),
        version=deciding.version,
        latency_ms=sum(result.latency_ms for result in results),
        cost_usd=sum(result.cost_usd for result in results),
        results=tuple(results),
        policy_version=policy.version,
    )


def _confidence(decision: Decision, deciding: ClassifierResult) -> float:
    """In the decision. The fine-tuned classifier's own `is_safe` is by its own threshold, and the policy has another."""
    if deciding.layer != Layer.FINETUNED:
        return deciding.confidence
    scores = _scores(deciding)
    return round(1 - scores[UNSAFE], 6) if decision is Decision.ALLOW else max(scores.values())


def _found_by_rules(results: Sequence[ClassifierResult]) -> tuple[str, ...]:
    return tuple(category for result in results if result.layer == Layer.RULES for category in result.categories)


def _hold(policy: Policy, results: Sequence[ClassifierResult], reason: str) -> Verdict:
    """Nobody could decide. What was suspected is kept, so that a pharmacist sees the gravest suspicion first."""
    heard = [result for result in results if not _fault(result)]
    suspected = tuple(dict.fromkeys(category for result in heard for category in _suspected(result)))
    if suspected:
        severity = severity_of(most_severe(suspected))
    else:
        # Nobody suspects a harm. Where no layer has read it at all, the worst must be assumed.
        severity = Severity.MAJOR if any(result.layer == Layer.FINETUNED for result in heard) else Severity.CRITICAL
    opinions = [result.confidence for result in results if result.layer != Layer.RULES and not _fault(result)]
    last = results[-1] if results else None
    return Verdict(
        is_safe=False,
        category=most_severe(suspected) if suspected else UNDECIDED,
        reason=reason,
        confidence=min(opinions, default=0.0),
        decision=Decision.HOLD,
        layer=last.layer if last else "",
        severity=severity,
        categories=suspected,
        evidence=tuple(evidence for result in results for evidence in result.evidence),
        latency_ms=sum(result.latency_ms for result in results),
        cost_usd=sum(result.cost_usd for result in results),
        results=tuple(results),
        policy_version=policy.version,
    )


def _suspected(result: ClassifierResult) -> tuple[str, ...]:
    """What a layer found without deciding. A category that the fine-tuned classifier holds unlikely is only its best guess."""
    if result.is_safe:
        return ()
    return tuple(category for category in _named(result) if result.scores.get(category, 1.0) >= LIKELY)


class CombinedSafetyClassifier:
    """The whole cascade in one process, for any asyncio program.

    `rule_classifier`: None for the shipped packs, a `classify_rule_based`-like function of the text, or an object with
    `classify(text, query)`. `llm_client`: an OpenAI-compatible async client, an object with `judge(response, query)`,
    or None: then what the fast layers leave uncertain is held. `finetuned_classifier`: a `PharmacySafetyClassifier`, or
    None: then the layer does not run, and whatever the rules do not block goes to the judge.
    """

    def __init__(
        self,
        rule_classifier: FastClassifier | Callable[[str], ClassifierResult] | None,
        llm_client: Any,
        finetuned_classifier: FastClassifier | None = None,
        *,
        policy: Policy | None = None,
    ) -> None:
        self.rule_classifier = rule_classifier
        self.llm_client = llm_client
        self.finetuned_classifier = finetuned_classifier
        self.policy = policy

    async def classify(self, response_text: str, query: str = "") -> Verdict:
        """The verdict on a response to a query. Never raises for what a layer does: a layer that fails, fails closed."""
        policy = self.policy or Policy.shipped()
        others = tuple(layer for layer in policy.layers if layer is not Layer.FINETUNED)
        if self.finetuned_classifier is None and others:  # where it is the only layer, it fails instead
            policy = replace(policy, layers=others)
        results: list[ClassifierResult] = []
        while isinstance(step := decide(policy, results), Layer):
            results.append(await self._run(step, response_text, query))
        return step

    async def _run(self, layer: Layer, response_text: str, query: str) -> ClassifierResult:
        if layer is Layer.JUDGE:
            return await self._judge(response_text, query)
        rules = _ShippedRules() if self.rule_classifier is None else self.rule_classifier
        classifier = rules if layer is Layer.RULES else self.finetuned_classifier
        return await asyncio.to_thread(run_layer, layer, classifier, response_text, query)

    async def _judge(self, response_text: str, query: str) -> ClassifierResult:
        if self.llm_client is None:
            return ClassifierResult.failed(Layer.JUDGE, "no judge is configured")
        try:
            judge = self.llm_client
            if not hasattr(judge, "judge"):
                from classifiers.llm_judge import LLMJudge

                judge = LLMJudge(judge)
            return _accepted(Layer.JUDGE, await judge.judge(response_text, query))
        except Exception as error:
            return ClassifierResult.failed(Layer.JUDGE, f"the judge raised {type(error).__name__}")


class _ShippedRules:
    """The rules of the packs, loaded when they are first needed: a pack that cannot be read is a failed layer."""

    def classify(self, text: str, query: str = "") -> ClassifierResult:
        from classifiers.rule_based import RuleBasedClassifier

        return RuleBasedClassifier.default().classify(text, query)


def run_layer(
    layer: Layer,
    classifier: FastClassifier | Callable[[str], ClassifierResult] | None,
    response_text: str,
    query: str,
) -> ClassifierResult:
    """Run a fast layer; whatever it raises becomes a failed result, so that no fault can mean safe."""
    if classifier is None:
        return ClassifierResult.failed(layer, f"the {layer} layer is not available")
    try:
        if hasattr(classifier, "classify"):
            return _accepted(layer, classifier.classify(response_text, query))
        return _accepted(layer, classifier(response_text))
    except Exception as error:
        # Where, not what: a message may quote the patient.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        log.error("the %s layer raised %s at %s:%d", layer, type(error).__name__, frame.filename, frame.lineno or 0)
        return ClassifierResult.failed(layer, f"the {layer} layer raised {type(error).__name__}")


def _accepted(layer: Layer, result: object) -> ClassifierResult:
    """The result under its layer's name; a failed one in place of what is no result, or is malformed."""
    if not isinstance(result, ClassifierResult):
        return ClassifierResult.failed(layer, f"the {layer} layer returned {type(result).__name__}, no ClassifierResult")
    if _is_malformed(result):
        return ClassifierResult.failed(layer, f"the {layer} layer failed: {_fault(result)}", version=result.version)
    return result if result.layer == layer else replace(result, layer=layer.value)
