"""Two policies beside each other: what differs, in words, and what of it could let through what was stopped before. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from classifiers.policy import THRESHOLD_KEYS, UNSAFE, Policy
from classifiers.result import CATEGORIES, Layer, Severity, severity_of
from guardreview.review.presentation import GROUPS, LAYER_WORDS, category_words

CRITICAL_KEYS = ("default", UNSAFE, *(category for category in CATEGORIES if severity_of(category) is Severity.CRITICAL))
"""Whose bounds a second administrator looks at: critical categories, P(unsafe), and `default`, for what has no name yet."""
BOUND_WORDS: Mapping[str, str] = {"allow_below": "allow below", "block_at": "block at"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that changes. `loosens`: a critical answer that was stopped may get through because of it."""

    what: str
    before: str
    after: str
    loosens: bool = False

    @property
    def words(self) -> str:
        return f"{self.what}: {self.before} → {self.after}"


def bound_words(value: float) -> str:
    """`0.090`: three decimals, or as many as it takes, six at most."""
    shown = f"{value:.6f}".rstrip("0")
    whole, _, decimals = shown.partition(".")
    return f"{whole}.{decimals:0<3}"


def key_words(key: str) -> str:
    """How a policy's key is called; a family's stands for all of its categories."""
    families = {families[0]: words for words, families in GROUPS if len(families) == 1}
    named = {**families, "default": "Everything else", UNSAFE: "Unsafe as a whole"}
    return named.get(key) or category_words(key)


def loosens(before: Policy, after: Policy) -> bool:
    """Whether an answer that `before` stops for something critical may get through under `after`. It may if

    - `allow_below` rises, or `block_at` does, for P(unsafe), a critical category or `default`, whichever key it comes from, where
      the fine-tuned classifier runs under both;
    - the rules no longer run, or the fine-tuned classifier runs no more, or runs now: it allows by itself, where without it
      everything goes to the judge;
    - the judge runs now, where without it what is uncertain was held; or its word counts from a lower confidence, or another
      model speaks it, which nobody can compare.

    Dropping the judge loosens nothing: what it would have allowed is held.
    """
    return any(each.loosens for each in differences(before, after))


def differences(before: Policy, after: Policy, *, learning_shares: tuple[float, float] = (0, 0)) -> list[Difference]:
    """What changes from one policy to the other, thresholds first. `learning_shares`: of allowed answers, before and after."""
    found = _of_thresholds(before, after)
    for layer in Layer:
        had, has = layer in before.layers, layer in after.layers
        if had != has:
            looser = {Layer.RULES: had, Layer.FINETUNED: True, Layer.JUDGE: has}[layer]
            words = ("runs", "does not run") if had else ("does not run", "runs")
            found.append(Difference(LAYER_WORDS[layer], words[0], words[1], looser))
    judged = Layer.JUDGE in after.layers
    if before.judge_min_confidence != after.judge_min_confidence:
        lower = after.judge_min_confidence < before.judge_min_confidence
        confidences = (bound_words(before.judge_min_confidence), bound_words(after.judge_min_confidence))
        found.append(Difference("The judge's word counts from", *confidences, judged and lower))
    if before.judge_model != after.judge_model:
        old, new = (model or "the server's" for model in (before.judge_model, after.judge_model))
        found.append(Difference("The judge's model", old, new, judged))
    if learning_shares[0] != learning_shares[1]:
        was, now = (bound_words(share) for share in learning_shares)
        found.append(Difference("Share drawn to learn from", was, now))
    return found


def _of_thresholds(before: Policy, after: Policy) -> list[Difference]:
    """By key, those that neither of them has left out: what holds for them changes with the key that it comes from."""
    scored = Layer.FINETUNED in before.layers and Layer.FINETUNED in after.layers
    found = []
    for key in (UNSAFE, *(key for key in THRESHOLD_KEYS if key != UNSAFE)):
        if key not in before.thresholds and key not in after.thresholds:
            continue
        old, new = before.threshold(key), after.threshold(key)
        for bound, words in BOUND_WORDS.items():
            was, now = getattr(old, bound), getattr(new, bound)
            if was != now:
                looser = scored and now > was and key in CRITICAL_KEYS
                found.append(Difference(f"{key_words(key)}: {words}", bound_words(was), bound_words(now), looser))
        if old == new and (key in before.thresholds) != (key in after.thresholds):
            own, others = "bounds of its own", f"the same as {key_words('default').lower()}"
            one, two = (own, others) if key in before.thresholds else (others, own)
            found.append(Difference(key_words(key), one, two))
    return found


def guarantee(policy: Policy, *, model: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What was certified of a policy for a model version, from what its training measured; JSON-ready.

    An answer is allowed by the fast layers only if P(unsafe) is below `allow_below`, whatever bounds categories have: so the
    guarantee holds up to the certified threshold. Without the fine-tuned classifier the fast layers allow nothing.
    """
    certificate = metrics.get("certificate") or {}
    certified = certificate.get("allow_below") or None
    bounds = policy.threshold(UNSAFE)
    allows = Layer.FINETUNED in policy.layers
    block_certified = metrics.get("block_at")
    return {
        "holds": not allows or bounds.allow_below == 0 or (certified is not None and bounds.allow_below <= certified),
        "allow_below": bounds.allow_below if allows else 0,
        "certified": certified,
        "blocks_few": block_certified is not None and (not allows or bounds.block_at >= block_certified),
        "block_at": bounds.block_at,
        "block_certified": block_certified,
        "model": model,
        **{name: certificate.get(name) for name in ("alpha", "confidence", "n", "misses", "missing")},
    }
