"""What each threshold would mean on answers that pharmacists settled: precision, recall, false positives and negatives.

Settled answers were drawn with unequal probability: all that is stopped, few of what is allowed. So each counts 1 / probability,
and an interval treats each probability apart, as the miss rate on the insight page does: what was found in few draws is uncertain
by all the answers that they stand for, also where nothing was found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from django.db.models import Count, Q, QuerySet

from classifiers.policy import UNSAFE
from classifiers.result import Layer, family_of
from guardreview.learning.score_blocks import scores_of
from guardreview.review.models import Label
from guardreview.review.selectors import DRAWN_BY_DESIGN
from guardreview.review.statistics import CONFIDENCE, Estimate
from guardreview.verdicts.models import LayerResult, ModelVersion, ReviewItem

GRID: Final = np.round(np.linspace(0, 1, 51), 4)
LATEST: Final = 20_000
"""Labels that are read at most: the latest."""
ENOUGH: Final = 30
"""Of fewer labels of either kind nothing is drawn."""
STRATA: Final = 6
"""More different probabilities are put together in steps of four."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Settled:
    """Labels that the model scored: the score, whether it is unsafe (in the category), the probability with which it was drawn.

    `open_factor`: by probability, how many draws stand behind one that is settled.
    """

    scores: Floats
    truth: npt.NDArray[np.bool_]
    probability: Floats
    open_factor: dict[float, float]

    @property
    def enough(self) -> bool:
        return min(int(self.truth.sum()), int((~self.truth).sum())) >= ENOUGH


@dataclass(frozen=True, slots=True)
class Curves:
    """At each threshold of GRID, if what scores there or above is blocked: of the blocked, the unsafe; of the unsafe, the
    blocked; of the safe, the blocked; of the unsafe, those that are not. None where there is nothing to measure.
    """

    precision: Sequence[Estimate | None]
    recall: Sequence[Estimate | None]
    fpr: Sequence[Estimate | None]
    fnr: Sequence[Estimate | None]


def settled(model: ModelVersion, key: str = UNSAFE) -> Settled:
    """The latest labels in force of answers that this model scored, for P(unsafe), a category or a family."""
    labels = Label.objects.filter(DRAWN_BY_DESIGN, is_current=True).exclude(
        exchange__review_item__kind=ReviewItem.Kind.CALIBRATION
    )
    if model.activated_at:
        labels = labels.filter(created_at__gte=model.activated_at)
    rows = labels.order_by("-created_at", "-pk").values_list("exchange_id", "value", "categories", "inclusion_probability")[
        :LATEST
    ]
    known = {exchange: (value, categories, probability) for exchange, value, categories, probability in rows}
    keys, scores, truth, probability = list(known), [], [], []
    for start in range(0, len(keys), 500):
        results = LayerResult.objects.filter(
            exchange__in=keys[start : start + 500], layer=Layer.FINETUNED, version=model.version, error=""
        )
        for exchange, said in _scored(results):
            value, categories, drawn = known[exchange]
            score = _score(said, key)
            if score is None or drawn <= 0:
                continue
            scores.append(score)
            is_unsafe = value == Label.Value.UNSAFE
            truth.append(is_unsafe and (key in (UNSAFE, "default") or any(key in (name, family_of(name)) for name in categories)))
            probability.append(drawn)
    items = ReviewItem.objects.all()
    if model.activated_at:
        items = items.filter(created_at__gte=model.activated_at)
    return Settled(np.array(scores), np.array(truth, dtype=bool), np.array(probability), open_factor(items))


def _scored(results: Any) -> list[tuple[Any, dict[str, float]]]:
    rows = results.values("exchange_id", "is_safe", "confidence", "scores")
    return [(row["exchange_id"], scores_of(row)) for row in rows]


def _score(said: dict[str, float], key: str) -> float | None:
    if key in said:
        return said[key]
    return max((score for name, score in said.items() if name != UNSAFE and key in (family_of(name), "default")), default=None)


def open_factor(items: QuerySet[ReviewItem]) -> dict[float, float]:
    """By probability, how many of these items the design drew for one that is settled; calibration items excepted."""
    decided = Count("pk", filter=Q(status=ReviewItem.Status.DECIDED))
    drawn_items = items.filter(DRAWN_BY_DESIGN).exclude(kind=ReviewItem.Kind.CALIBRATION)
    rows: Any = drawn_items.order_by().values_list("inclusion_probability").annotate(drawn=Count("pk"), decided=decided)
    return {probability: drawn / done for probability, drawn, done in rows if done}


def curves(found: Settled, *, confidence: float = CONFIDENCE) -> Curves:
    """Estimates with intervals, each of which covers the truth with at least this confidence."""
    over = found.scores[None, :] >= GRID[:, None]
    truth = found.truth[None, :]
    cells = {"caught": over & truth, "wrong": over & ~truth, "missed": ~over & truth, "passed": ~over & ~truth}
    strata = _strata(found.probability)
    each = confidence if len(strata) == 1 else 1 - (1 - confidence) / (2 * len(strata))
    sums = {name: _bounded(cell, strata, found, each) for name, cell in cells.items()}

    def ratio(one: str, other: str) -> list[Estimate | None]:
        return _ratios(sums[one], sums[other], cells[one], cells[other], confidence, is_plain=len(strata) == 1)

    recall = ratio("caught", "missed")
    fnr = [each and Estimate(1 - each.value, 1 - each.high, 1 - each.low, each.n) for each in recall]
    return Curves(ratio("caught", "wrong"), recall, ratio("wrong", "passed"), fnr)


def _strata(probability: Floats) -> list[npt.NDArray[np.bool_]]:
    """Which rows belong together: those of one probability, or of similar ones where there are many."""
    keys = probability
    if len(np.unique(keys)) > STRATA:
        keys = np.floor(-np.log(probability) / math.log(4))
    return [keys == key for key in np.unique(keys)]


@dataclass(frozen=True, slots=True)
class _Sum:
    """How many answers there are at each threshold: estimated, at least, at most."""

    value: Floats
    low: Floats
    high: Floats


def _bounded(cell: npt.NDArray[np.bool_], strata: Sequence[npt.NDArray[np.bool_]], found: Settled, confidence: float) -> _Sum:
    """Over strata, the share of the cell by Clopper and Pearson times how many answers the stratum stands for.

    Where weights differ within a stratum, as many rows count as equal ones would say as much (Kish's effective size).
    """
    total = _Sum(*(np.zeros(len(GRID)) for _ in range(3)))
    for rows in strata:
        inverse = 1 / found.probability[rows]
        factor = np.array([found.open_factor.get(probability, 1.0) for probability in found.probability[rows]])
        weights = inverse * factor
        size, n = float(weights.sum()), float(weights.sum() ** 2 / (weights**2).sum())
        share = (cell[:, rows] * weights).sum(axis=1) / size
        low, high = clopper_pearson_many(share * n, n, confidence)
        total.value[:] += size * share
        total.low[:] += size * low
        total.high[:] += size * high
    return total


def _ratios(
    one: _Sum, other: _Sum, hits: npt.NDArray[np.bool_], rest: npt.NDArray[np.bool_], confidence: float, *, is_plain: bool
) -> list[Estimate | None]:
    """one / (one + other) at each threshold. It rises with the one and falls with the other, so their bounds bound it."""
    k, n = hits.sum(axis=1), hits.sum(axis=1) + rest.sum(axis=1)
    if is_plain:  # all drawn alike: a proportion
        low, high = clopper_pearson_many(k.astype(float), np.maximum(n, 1).astype(float), confidence)
    else:
        low = np.divide(one.low, one.low + other.high, out=np.zeros(len(GRID)), where=one.low > 0)
        high = np.divide(one.high, one.high + other.low, out=np.ones(len(GRID)), where=one.high + other.low > 0)
    value = np.divide(one.value, one.value + other.value, out=np.zeros(len(GRID)), where=n > 0)
    return [
        Estimate(float(value[at]), min(float(low[at]), float(value[at])), max(float(high[at]), float(value[at])), int(n[at]))
        if n[at]
        else None
        for at in range(len(GRID))
    ]


def clopper_pearson_many(k: Floats, n: float | Floats, confidence: float) -> tuple[Floats, Floats]:
    """The exact interval of each k of n at once; neither must be whole. By bisection on the binomial's tail."""
    tail = (1 - confidence) / 2
    n = np.broadcast_to(np.asarray(n, dtype=float), k.shape)
    none, every = k <= 1e-9, k >= n - 1e-9
    low = np.where(none, 0.0, _beta_quantiles(tail, np.where(none, 1.0, k), np.where(none, 1.0, n - k + 1)))
    high = np.where(every, 1.0, _beta_quantiles(1 - tail, np.where(every, 1.0, k + 1), np.where(every, 1.0, n - k)))
    return low, high


def _beta_quantiles(probability: float, a: Floats, b: Floats) -> Floats:
    low, high = np.zeros(a.shape), np.ones(a.shape)
    for _ in range(40):
        middle = (low + high) / 2
        below = _beta_cdf(middle, a, b) < probability
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def _beta_cdf(x: Floats, a: Floats, b: Floats) -> Floats:
    """The regularised incomplete beta function, for all at once, by its continued fraction on the side where that is short."""
    turned = x > (a + 1) / (a + b + 2)
    x, a, b = np.where(turned, 1 - x, x), np.where(turned, b, a), np.where(turned, a, b)
    gamma = np.vectorize(math.lgamma, otypes=[float])
    x = np.clip(x, 1e-300, 1 - 1e-16)
    front = np.exp(gamma(a + b) - gamma(a) - gamma(b) + a * np.log(x) + b * np.log1p(-x)) / a
    c, d = np.ones(x.shape), 1 / (1 - (a + b) * x / (a + 1))
    value = d.copy()
    for m in range(1, 400):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / (1 + term * d), 1 + term / c
            value *= d * c
        if np.abs(d * c - 1).max() < 1e-12:
            break
    found: Floats = np.where(turned, 1 - front * value, front * value)
    return found
