"""What each layer said of an exchange, with its scores against the thresholds of that verdict. Pure, no HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from classifiers.policy import UNSAFE, InvalidPolicy
from classifiers.policy import Policy as CascadePolicy
from classifiers.result import Decision, Layer
from guardreview.review.evidence import Finding
from guardreview.review.presentation import LAYER_WORDS, category_words
from guardreview.verdicts.models import LayerResult, Verdict

SHOWN_SCORES = 4
"""Scores of a layer that are shown at once; the others unfold."""


@dataclass(frozen=True, slots=True)
class Score:
    """One probability as a plot from 0 to 1. `zone`: what the policy of then does with it. Positions are percentages."""

    label: str
    value: str
    at: str
    zone: str
    block_at: str
    allow_below: str
    described: str


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """What one layer of the cascade said. `state`: found, clear, unsure, failed or skipped."""

    layer: str
    name: str
    state: str
    headline: str
    reason: str = ""
    decided: bool = False
    findings: Sequence[Finding] = ()
    scores: Sequence[Score] = ()
    more_scores: Sequence[Score] = ()
    latency: str = ""
    version: str = ""
    cost: str = ""


def trace(verdict: Verdict, results: Sequence[LayerResult], findings: Sequence[Finding]) -> list[LayerTrace]:
    """Every layer in cascade order, those that were not asked too, with scores against the thresholds of that verdict."""
    by_layer = {result.layer: result for result in results}
    policy = _policy_of_then(verdict)
    return [
        _layer_trace(result, verdict, policy, [f for f in findings if f.layer == layer])
        if (result := by_layer.get(layer))
        else _not_asked(layer, policy)
        for layer in Layer
    ]


def _policy_of_then(verdict: Verdict) -> CascadePolicy | None:
    try:
        return verdict.policy.as_cascade_policy()
    except InvalidPolicy:  # written by a version that knew other categories
        return None


def _not_asked(layer: Layer, policy: CascadePolicy | None) -> LayerTrace:
    switched_off = policy is not None and layer not in policy.layers
    why = "Switched off by the policy" if switched_off else "Not asked: decided before"
    return LayerTrace(layer, LAYER_WORDS[layer], "skipped", why)


def _layer_trace(result: LayerResult, verdict: Verdict, policy: CascadePolicy | None, findings: Sequence[Finding]) -> LayerTrace:
    scores = [] if result.error else _scores(result, policy)
    state, headline = _headline(result, scores, findings)
    shown = [] if result.layer == Layer.RULES else scores
    return LayerTrace(
        layer=result.layer,
        name=LAYER_WORDS[result.layer],
        state=state,
        headline=headline,
        # The rules' and the head's reasons repeat what findings and plots say, but for a drug fact's values and its source; a
        # failure is in the headline.
        reason=result.reason if not result.error and (result.layer == Layer.JUDGE or "drug_facts." in result.reason) else "",
        decided=verdict.layer == result.layer and verdict.decision != Decision.HOLD,
        findings=findings,
        scores=shown[:SHOWN_SCORES],
        more_scores=shown[SHOWN_SCORES:],
        latency=_milliseconds(result.latency_ms) if result.latency_ms else "",
        version=result.version,
        cost=f"${result.cost_usd:.4f}" if result.cost_usd else "",
    )


def _headline(result: LayerResult, scores: Sequence[Score], findings: Sequence[Finding]) -> tuple[str, str]:
    if result.error:
        return "failed", f"Failed: {result.error}"
    if result.layer == Layer.RULES:
        if result.is_safe:
            return "clear", "No rule matched"
        matched = f"{len(findings)} matches" if len(findings) != 1 else "1 match"
        return ("unsure", f"{matched}, for the judge to weigh") if result.escalate else ("found", f"{matched}: blocks")
    if result.layer == Layer.JUDGE:
        word = "Safe" if result.is_safe else "Unsafe"
        sure = scores[0].zone != "judge" if scores else True
        state = "unsure" if not sure else "clear" if result.is_safe else "found"
        return state, f"{word}, confidence {result.confidence:.2f}{'' if sure else ': too low to count'}"
    zones = {score.zone for score in scores}
    state = "found" if "block" in zones else "unsure" if "judge" in zones else "clear"
    said = {"found": "blocks", "unsure": "uncertain, for the judge", "clear": "below every threshold"}[state]
    return state, f"P(unsafe) {result.scores.get(UNSAFE, 0):.2f}: {said}"


def _scores(result: LayerResult, policy: CascadePolicy | None) -> list[Score]:
    if result.layer == Layer.JUDGE:
        least = policy.judge_min_confidence if policy else 0.0
        zone = "judge" if result.confidence < least else "allow" if result.is_safe else "block"
        described = f"Confidence {result.confidence:.2f}; counts from {least:.2f}"
        at = _percent(result.confidence)
        return [Score("Confidence", f"{result.confidence:.2f}", at, zone, _percent(least), "", described)]
    ranked = sorted(result.scores.items(), key=lambda pair: (pair[0] != UNSAFE, -pair[1]))
    return [_score(category, value, policy) for category, value in ranked]


def _score(category: str, value: float, policy: CascadePolicy | None) -> Score:
    label = category_words(category)
    if policy is None:
        return Score(label, f"{value:.2f}", _percent(value), "", "", "", f"{label}: {value:.2f}")
    bounds = policy.threshold(category)
    zone = "block" if value >= bounds.block_at else "allow" if value < bounds.allow_below else "judge"
    described = f"{label}: {value:.2f}; blocked from {bounds.block_at:.2f}, allowed below {bounds.allow_below:.2f}"
    return Score(label, f"{value:.2f}", _percent(value), zone, _percent(bounds.block_at), _percent(bounds.allow_below), described)


def _percent(value: float) -> str:
    return f"{100 * min(1.0, max(0.0, value)):.1f}"


def _milliseconds(value: float) -> str:
    return f"{value:.2f} ms" if value < 1 else f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"
