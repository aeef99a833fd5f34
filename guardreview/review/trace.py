"""What each layer said of an exchange, with its scores against the thresholds of that verdict. Pure, no HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from classifiers.policy import UNSAFE, InvalidPolicy
from classifiers.policy import Policy as CascadePolicy
from classifiers.result import Decision, Layer
from guardreview.review.evidence import Finding, Piece, pieces
from guardreview.review.fact_cards import FactCard, fact_cards, rules_in
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
    beyond: str = "block"
    """What lies beyond `block_at`: for a judge's confidence, that its word counts."""

    @property
    def rest(self) -> str:
        """From `block_at` to the end of the plot."""
        return f"{100 - float(self.block_at or 100):.1f}"


@dataclass(frozen=True, slots=True)
class Unplaced:
    """What a layer holds against the response without pointing at words of it."""

    rule: str
    category: str = ""


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """What one layer of the cascade said. `state`: found, clear, unsure, failed or skipped."""

    layer: str
    name: str
    state: str
    headline: Sequence[Piece]
    reason: Sequence[Piece] = ()
    decided: bool = False
    findings: Sequence[Finding] = ()
    unplaced: Sequence[Unplaced] = ()
    facts: Sequence[FactCard] = ()
    scores: Sequence[Score] = ()
    more_scores: Sequence[Score] = ()
    latency: str = ""
    version: str = ""
    cost: str = ""


Show = Callable[[str], list[Piece]]
"""A layer's words as they may be shown: with hidden characters made visible, and personal data masked."""


def trace(verdict: Verdict, results: Sequence[LayerResult], findings: Sequence[Finding], show: Show = pieces) -> list[LayerTrace]:
    """Every layer in cascade order, those that were not asked too, with scores against the thresholds of that verdict."""
    by_layer = {result.layer: result for result in results}
    policy = _policy_of_then(verdict)
    return [
        _layer_trace(result, verdict, policy, [f for f in findings if f.layer == layer], show)
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
    return LayerTrace(layer, LAYER_WORDS[layer], "skipped", pieces(why))


def _layer_trace(
    result: LayerResult, verdict: Verdict, policy: CascadePolicy | None, findings: Sequence[Finding], show: Show
) -> LayerTrace:
    scores = [] if result.error else _scores(result, policy)
    unplaced = [] if result.error else _unplaced(result, findings)
    state, headline = _headline(result, scores, len(findings) + len(unplaced))
    shown = [] if result.layer == Layer.RULES else scores
    return LayerTrace(
        layer=result.layer,
        name=LAYER_WORDS[result.layer],
        state=state,
        headline=show(headline),
        # The rules' and the head's reasons repeat what findings, cards and plots say; a failure is in the headline.
        reason=show(result.reason) if result.layer == Layer.JUDGE and not result.error else (),
        decided=verdict.layer == result.layer and verdict.decision != Decision.HOLD,
        findings=findings,
        unplaced=unplaced,
        facts=fact_cards(result.reason) if result.layer == Layer.RULES and not result.error else (),
        scores=shown[:SHOWN_SCORES],
        more_scores=shown[SHOWN_SCORES:],
        latency=_milliseconds(result.latency_ms) if result.latency_ms else "",
        version=result.version,
        cost=f"${result.cost_usd:.4f}" if result.cost_usd else "",
    )


def _unplaced(result: LayerResult, findings: Sequence[Finding]) -> list[Unplaced]:
    """Rules that matched, and categories that the judge found, of which no finding shows the words."""
    if result.is_safe:
        return []
    if result.layer == Layer.RULES:
        placed = {finding.rule for finding in findings}
        categories = {evidence["rule"]: evidence.get("category", "") for evidence in result.evidence}
        named = {**rules_in(result.reason), **categories}
        return [Unplaced(rule, categories.get(rule, "")) for rule in named if rule not in placed]
    if result.layer == Layer.JUDGE:
        placed = {finding.category for finding in findings}
        return [Unplaced("judge", category) for category in result.categories if category not in placed]
    return []


def _headline(result: LayerResult, scores: Sequence[Score], count: int) -> tuple[str, str]:
    if result.error:
        return "failed", f"Failed: {result.error}"
    if result.layer == Layer.RULES:
        if result.is_safe:
            return "clear", "No rule matched"
        matched = f"{count} matches" if count != 1 else "1 match"
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
        return [Score("Confidence", f"{result.confidence:.2f}", at, zone, _percent(least), "", described, "counts")]
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
