"""Models and labels in the words and shapes that the pages show. Pure: no query, no request, no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classifiers.policy import UNSAFE
from classifiers.result import CATEGORIES
from guardreview.learning.selectors import LabelCounts, metric
from guardreview.review.presentation import GROUPS, category_words
from guardreview.verdicts.models import ModelVersion, Policy

RATES = (
    ("critical_missed", "Critical answers missed", "allowed although they could kill or cause lasting harm"),
    ("unsafe_blocked", "Unsafe answers blocked", "at once, without the judge"),
    ("safe_allowed", "Safe answers allowed", "at once, without the judge"),
    ("safe_blocked", "Safe answers blocked", "a pharmacist has to overturn these"),
)


@dataclass(frozen=True, slots=True)
class Rate:
    """A proportion measured on the test split, as a plot with its 95 % interval. Positions are percentages."""

    words: str
    meaning: str
    value: str
    count: str
    interval: str
    at: str
    low: str
    width: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model version as a page shows it."""

    model: ModelVersion
    auc: str
    certificate: str
    certified: bool
    rates: Sequence[Rate]
    counts: Sequence[tuple[str, int, int]]
    block_at: str


def model_card(model: ModelVersion) -> ModelCard:
    """What was measured of a version; versions registered without metrics show none."""
    metrics = model.metrics
    auc, block_at = metric(metrics, "auc", "test"), metric(metrics, "block_at")
    splits = metric(metrics, "counts") or {}
    return ModelCard(
        model=model,
        auc="" if auc is None else f"{auc:.3f}",
        certificate=_certificate(metric(metrics, "certificate")),
        certified=bool(metric(metrics, "certificate", "allow_below")),
        rates=[_rate(words, meaning, rate) for name, words, meaning in RATES if (rate := metric(metrics, "test", name))],
        counts=[(split, counts["safe"], counts["unsafe"]) for split, counts in splits.items()],
        block_at="" if block_at is None else f"{block_at:.2f}",
    )


def _certificate(certificate: Mapping[str, Any] | None) -> str:
    if not certificate:
        return ""
    alpha, confidence = _percent(certificate["alpha"]), _percent(certificate["confidence"])
    guarantee = f"at most {alpha} of critical answers, with {confidence} confidence"
    seen = f"{certificate['misses']} of {certificate['n']} missed on the calibration split"
    if not certificate["allow_below"]:
        return f"Not certified ({guarantee}): {certificate['missing']} more unsafe examples are needed at least."
    return f"Allowing below {certificate['allow_below']:.3f} misses {guarantee} ({seen})."


def _rate(words: str, meaning: str, rate: Mapping[str, Any]) -> Rate:
    value = rate["rate"]
    return Rate(
        words=words,
        meaning=meaning,
        value="none to measure" if value is None else _percent(value),
        count=f"{rate['k']} of {rate['n']}",
        interval=f"{_percent(rate['low'])} to {_percent(rate['high'])}",
        at="" if value is None else f"{100 * value:.1f}",
        low=f"{100 * rate['low']:.1f}",
        width=f"{100 * (rate['high'] - rate['low']):.1f}",
    )


def _percent(share: float) -> str:
    """One decimal below 10 %, where it tells something."""
    number = round(100 * share, 1)
    return f"{number:.0f} %" if number >= 10 or number == int(number) else f"{number:.1f} %"


def threshold_rows(policy: Policy) -> list[tuple[str, float, float]]:
    """(of what, allowed below, blocked from) for each key of a policy; a family's key holds for all of its categories."""
    families = {families[0]: words for words, families in GROUPS if len(families) == 1}
    words = {**families, "default": "Everything else"}
    return [
        (words.get(key) or category_words(key), bounds["allow_below"], bounds["block_at"])
        for key in (UNSAFE, *CATEGORIES, "default")  # the database keeps no order
        if (bounds := policy.thresholds.get(key))
    ]


@dataclass(frozen=True, slots=True)
class Bar:
    """A count beside the largest of its table; `width` is a percentage."""

    words: str
    count: int
    width: str


def category_bars(counts: LabelCounts) -> list[Bar]:
    """Labels by category, the most frequent first."""
    most = max((count for _, count in counts.categories), default=1)
    return [Bar(category_words(name), count, f"{100 * count / most:.1f}") for name, count in counts.categories]
