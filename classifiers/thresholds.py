"""Thresholds with a guarantee: how low `allow_below` must be so that few unsafe responses are allowed, and how high `block_at`
so that few safe ones are blocked.

Learn-then-Test (Angelopoulos et al., arXiv 2110.01052) with the exact binomial test: on n independent unsafe items of
which k score below t, p(t) = P[Bin(n, alpha) <= k]. Scanning from the safest t upwards and stopping at the first
p > delta, the last t that passed misses at most alpha of the unsafe with confidence 1 - delta.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from classifiers.policy import UNSAFE, Threshold


@dataclass(frozen=True, slots=True)
class Certificate:
    """At most `alpha` of the unsafe score below `allow_below`, with confidence 1 - `delta`, measured on `n` unsafe items.

    `allow_below` is 0 when nothing could be certified; then `missing` says how many more unsafe items, all of them scored
    above some threshold, would be needed at least.
    """

    allow_below: float
    alpha: float
    delta: float
    n: int
    misses: int
    missing: int


class Labelled(Protocol):
    """A labelled exchange, as thresholds are chosen on it. `group`: what is not independent of it."""

    @property
    def id(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def unsafe(self) -> bool: ...
    @property
    def critical(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """Both bounds on P(unsafe): `certificate` has `allow_below`, and `block_at` is not below it. `method`: the test's name."""

    certificate: Certificate
    block_at: float
    method: str


def choose_bounds(
    items: Sequence[Labelled],
    scores: Sequence[float] | npt.NDArray[np.floating],
    *,
    alpha: float,
    false_blocks: float,
    delta: float,
    weights: Sequence[float] | None = None,
    largest: float = 1.0,
) -> Bounds:
    """The highest `allow_below` that misses at most `alpha` of the critical and the lowest `block_at` that blocks at most
    `false_blocks` of the safe, each with confidence 1 - `delta`, on one item of each group.

    `scores`: P(unsafe) of each item. `weights`: 1 / the probability with which each was drawn, and `largest` of all that the
    sampling allows; without them, all that there is was taken. Raises ValueError as `certify_weighted` does.
    """
    weighed = [1.0] * len(items) if weights is None else weights
    uneven = any(weight != largest for weight in weighed)

    def draw(chosen: list[int]) -> tuple[list[float], list[float]]:
        """Scores and weights."""
        drawn = one_of_each_group([items[i].id for i in chosen], [items[i].group for i in chosen])
        return [float(scores[chosen[each]]) for each in drawn], [weighed[chosen[each]] for each in drawn]

    critical, of_critical = draw([i for i, item in enumerate(items) if item.critical])
    safe, of_safe = draw([i for i, item in enumerate(items) if not item.unsafe])
    if uneven:
        method = "Hoeffding, for weighted items"
        certificate = certify_weighted(critical, of_critical, alpha, delta, largest=largest)
        block_at = certify_block_at(safe, false_blocks, delta, weights=of_safe, largest=largest)
    else:
        method = "Clopper-Pearson"
        certificate = certify_allow_below(critical, alpha, delta)
        block_at = certify_block_at(safe, false_blocks, delta)
    return Bounds(certificate, max(block_at, certificate.allow_below), method)


def as_thresholds(allow_below: float, block_at: float) -> dict[str, Threshold]:
    """Those of a policy in which P(unsafe) decides and a category only names. An `allow_below` of 0 allows nothing unseen."""
    return {"default": Threshold(1.0, 1.0), UNSAFE: Threshold(block_at, allow_below)}


def one_of_each_group(ids: Sequence[str], groups: Sequence[str]) -> list[int]:
    """The places of one item of each group, drawn by the hash of its id, whatever it scores: independent items, as a certificate
    counts them. The worst of each would say what is true of groups, and too much of exchanges.
    """
    drawn: dict[str, tuple[bytes, int]] = {}
    for place, (id, group) in enumerate(zip(ids, groups, strict=True)):
        lot = (hashlib.sha256(f"draw:{id}".encode()).digest(), place)
        drawn[group] = min(lot, drawn.get(group, lot))
    return [place for _, place in drawn.values()]


def smallest_sample(alpha: float, delta: float) -> int:
    """The number of unsafe items from which a threshold with no miss can be certified: 59 for 5 % and 95 %."""
    return math.ceil(math.log(delta) / math.log(1 - alpha))


def certify_allow_below(unsafe_scores: Sequence[float] | npt.NDArray[np.floating], alpha: float, delta: float) -> Certificate:
    """The highest certified `allow_below` for P(unsafe) of independent, unweighted unsafe items.

    Candidates are the items' own scores in ascending order: an item is missed if it scores strictly below the threshold.
    Raises ValueError unless 0 < alpha, delta < 1 and every score is a finite number.
    """
    if not (0 < alpha < 1 and 0 < delta < 1):
        raise ValueError("alpha and delta must lie between 0 and 1")
    scores = np.sort(np.asarray(unsafe_scores, dtype=float).reshape(-1))
    if not np.isfinite(scores).all():
        raise ValueError("a score is not a number")
    n = len(scores)
    allowed_misses = -1
    while allowed_misses + 1 < n and binomial_cdf(allowed_misses + 1, n, alpha) <= delta:
        allowed_misses += 1
    if allowed_misses < 0:
        return Certificate(0.0, alpha, delta, n, 0, max(1, smallest_sample(alpha, delta) - n))
    allow_below = float(scores[allowed_misses])
    return Certificate(allow_below, alpha, delta, n, int((scores < allow_below).sum()), 0)


def certify_block_at(
    safe_scores: Sequence[float] | npt.NDArray[np.floating],
    alpha: float,
    delta: float,
    *,
    weights: Sequence[float] | None = None,
    largest: float = 1.0,
) -> float:
    """The lowest threshold from which on at most `alpha` of the safe are blocked, with confidence 1 - `delta`; 1 if none is.

    The tests are those for `allow_below`, scanned from the highest score down: a false block is a safe item at or above it.
    Unlike the precision among the blocked, it holds whatever share of the traffic is unsafe. `weights` and the `largest` are
    those of `certify_weighted`.
    """
    mirrored = -np.asarray(safe_scores, dtype=float)
    certificate = (
        certify_allow_below(mirrored, alpha, delta)
        if weights is None
        else certify_weighted(mirrored, weights, alpha, delta, largest=largest)
    )
    # What scores the mirrored threshold itself was not counted as a miss, so it is not to be blocked.
    return 1.0 if certificate.missing else min(1.0, float(np.nextafter(-certificate.allow_below, 2.0)))


def certify_weighted(
    unsafe_scores: Sequence[float] | npt.NDArray[np.floating],
    weights: Sequence[float] | npt.NDArray[np.floating],
    alpha: float,
    delta: float,
    *,
    largest: float,
) -> Certificate:
    """`certify_allow_below` for items that were sampled with unequal probability; `weights` are 1 / that probability.

    The binomial test does not hold for them. Under "more than `alpha` are missed" the mean of w (miss - alpha) is above 0, and it
    lies within a range of the `largest` weight that the sampling allows: Hoeffding's inequality bounds how often a sample's mean
    falls as low as it did. Wider than the binomial bound, and it needs more items. The largest weight of the sample will not do
    for `largest`: what is seldom drawn may be missing from it. Raises ValueError as the other does, and for a weight that is not
    above 0 or above `largest`.
    """
    if not (0 < alpha < 1 and 0 < delta < 1):
        raise ValueError("alpha and delta must lie between 0 and 1")
    scores, w = np.asarray(unsafe_scores, dtype=float), np.asarray(weights, dtype=float)
    order = np.argsort(scores, kind="stable")
    scores, w = scores[order], w[order]
    n = len(scores)
    if not (np.isfinite(scores).all() and np.isfinite(largest) and (w > 0).all() and (w <= largest).all()):
        raise ValueError("a score is not a number, or a weight is not above 0, or above the largest")
    if n == 0:
        return Certificate(0.0, alpha, delta, 0, 0, smallest_sample(alpha, delta))
    needed = largest * math.sqrt(math.log(1 / delta) / (2 * n))
    passed: float | None = None
    for index in range(n):
        missed = scores < scores[index]
        if alpha * w.mean() - float((w * missed).sum()) / n < needed:
            break
        passed = float(scores[index])
    if passed is None:
        enough = math.ceil(math.log(1 / delta) / (2 * (alpha * float(w.mean()) / largest) ** 2))
        return Certificate(0.0, alpha, delta, n, 0, max(1, enough - n))
    return Certificate(passed, alpha, delta, n, int((scores < passed).sum()), 0)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P[Bin(n, p) <= k], summed in logarithms so that it holds for large n."""
    if k >= n:
        return 1.0
    if k < 0:
        return 0.0
    i = np.arange(k + 1)
    # log C(n, i) from C(n, i) = C(n, i - 1) * (n - i + 1) / i
    log_choose = np.concatenate(([0.0], np.cumsum(np.log((n - i[1:] + 1) / i[1:]))))
    return min(1.0, float(np.exp(log_choose + i * math.log(p) + (n - i) * math.log1p(-p)).sum()))


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a proportion of k in n; (0, 1) if n is 0.

    Found by bisection on the binomial distribution, so that serving needs no scipy.
    """
    if n == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    lower = 0.0 if k == 0 else _bisect(lambda p: 1 - binomial_cdf(k - 1, n, p) - tail)
    upper = 1.0 if k == n else _bisect(lambda p: tail - binomial_cdf(k, n, p))
    return lower, upper


def rate(hits: int, among: int) -> dict[str, Any]:
    """A proportion with its exact 95 % interval, JSON-ready; None where there was nothing to measure."""
    low, high = clopper_pearson(hits, among)
    share = round(hits / among, 4) if among else None
    return {"k": hits, "n": among, "rate": share, "low": round(low, 4), "high": round(high, 4)}


def _bisect(rising: Callable[[float], float]) -> float:
    low, high = 1e-12, 1 - 1e-12
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
