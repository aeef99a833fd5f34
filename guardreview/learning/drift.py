"""How far one distribution has moved from another, and whether a probability means what it says. Pure: counts and sums in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from guardreview.review.statistics import Estimate

SCORE_EDGES: Final = (
    0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0,
)  # fmt: skip
"""Of the bins that scores are kept in: narrow where most of them lie."""
LEAST_SHARE: Final = 0.05
"""Bins with less of the reference are joined with their neighbours: a PSI of almost empty bins is noise."""
LATENCY_EDGES: Final = tuple(round(0.1 * 2 ** (step / 2), 4) for step in range(42))
"""In ms, from 0.1 to some two minutes, each 1.41 times the one before."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A population stability index. `noise`: what chance alone stays below, in all but `alpha` of the cases."""

    psi: float
    noise: float
    n: int

    @property
    def is_real(self) -> bool:
        return self.psi > self.noise


def shift(now: Mapping[str, int] | Sequence[int], before: Mapping[str, int] | Sequence[int], alpha: float) -> Shift | None:
    """PSI of counts against a reference: the sum of (p - q) ln(p / q) over the bins. None where one of them is empty.

    Of two samples of the same population, psi / (1 / n + 1 / m) is close to chi-squared with (bins - 1) degrees of freedom
    (Yurdakul 2018), which gives `noise`. Sequences are ordered bins, and neighbours are joined; of names, the rare ones are.
    """
    pairs = _paired(now, before)
    n, m = sum(a for a, _ in pairs), sum(b for _, b in pairs)
    if not n or not m:
        return None
    bins = _joined(pairs, m) if not isinstance(now, Mapping) else _named(pairs, m)
    if len(bins) < 2:
        return Shift(0.0, 0.0, n)
    size, psi = len(bins), 0.0
    for a, b in bins:
        p, q = (a + 0.5) / (n + size / 2), (b + 0.5) / (m + size / 2)  # an empty bin has no logarithm
        psi += (p - q) * math.log(p / q)
    return Shift(psi, chi_squared_quantile(1 - alpha, size - 1) * (1 / n + 1 / m), n)


def _paired(now: Mapping[str, int] | Sequence[int], before: Mapping[str, int] | Sequence[int]) -> list[tuple[int, int]]:
    if isinstance(now, Mapping) and isinstance(before, Mapping):
        return [(now.get(name, 0), before.get(name, 0)) for name in {**now, **before}]
    return list(zip(now, before, strict=True))  # type: ignore[arg-type]


def _joined(pairs: Iterable[tuple[int, int]], m: int) -> list[tuple[int, int]]:
    bins: list[tuple[int, int]] = []
    a = b = 0
    for more_a, more_b in pairs:
        a, b = a + more_a, b + more_b
        if b >= LEAST_SHARE * m:
            bins.append((a, b))
            a = b = 0
    if (a or b) and bins:
        bins[-1] = (bins[-1][0] + a, bins[-1][1] + b)
    return bins


def _named(pairs: Iterable[tuple[int, int]], m: int) -> list[tuple[int, int]]:
    """Each frequent name, and all others together."""
    bins, a, b = [], 0, 0
    for one_a, one_b in pairs:
        if one_b >= LEAST_SHARE * m:
            bins.append((one_a, one_b))
        else:
            a, b = a + one_a, b + one_b
    return [*bins, (a, b)] if a or b else bins


def chi_squared_quantile(probability: float, degrees: int) -> float:
    """By Wilson and Hilferty's (1931) approximation: good to a per cent where it is used."""
    z, part = NormalDist().inv_cdf(probability), 2 / (9 * degrees)
    return float(degrees * (1 - part + z * math.sqrt(part)) ** 3)


# --- Weighted shares --------------------------------------------------------------------------------------------------------
def weighted_share(hits: float, total: float, squares: float, n: int, alpha: float = 0.05) -> Estimate:
    """Of weighted items, the share of hits (sums of weights) with Wilson's interval of their effective number.

    `squares`: the sum of squared weights; total ** 2 / squares is Kish's effective size. `n`: of items. Raises ValueError on 0.
    """
    if not total or not squares:
        raise ValueError("no items")
    size, share = total**2 / squares, min(1.0, hits / total)
    z = NormalDist().inv_cdf(1 - alpha / 2)
    centre = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    return Estimate(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)), n)


@dataclass(frozen=True, slots=True)
class Cell:
    """Settled items of one kind: how many, the sum of their weights 1 / probability, and that of the squares."""

    n: int
    weight: float
    squares: float


def kappa(cells: Mapping[tuple[bool, bool], Cell], alpha: float = 0.05) -> Estimate | None:
    """Cohen's kappa of (judge says unsafe, pharmacists say unsafe), weighted; None where one of them always said the same.

    As `statistics.cohen_kappa`: the interval takes chance agreement as known.
    """
    total = sum(cell.weight for cell in cells.values())
    if not total:
        return None
    first = sum(cell.weight for (one, _), cell in cells.items() if one) / total
    second = sum(cell.weight for (_, two), cell in cells.items() if two) / total
    if first in (0, 1) or second in (0, 1):
        return None
    chance = first * second + (1 - first) * (1 - second)
    agreed = sum(cell.weight for (one, two), cell in cells.items() if one == two)
    squares, n = sum(cell.squares for cell in cells.values()), sum(cell.n for cell in cells.values())
    found = weighted_share(agreed, total, squares, n, alpha)
    value, low, high = ((share - chance) / (1 - chance) for share in (found.value, found.low, found.high))
    return Estimate(value, low, high, n)


# --- Calibration ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ScoreBin:
    """Settled items of one tenth of P(unsafe), weighted by 1 / probability: sums of weights, their squares, weight * score,
    weight * unsafe, and of the squares of weight * (unsafe - score)."""

    tenth: int
    n: int
    weight: float
    squares: float
    scored: float
    unsafe: float
    spread: float


def calibration_error(bins: Sequence[ScoreBin]) -> tuple[float, float]:
    """(ECE, z). ECE: the mean distance of the mean score from the share of unsafe ones in a tenth. z: how many standard errors
    the mean of unsafe - score over all lies from 0, which it has if P(unsafe) is what it says. (0, 0) without items.
    """
    total = sum(each.weight for each in bins)
    if not total:
        return 0.0, 0.0
    ece = sum(abs(each.unsafe - each.scored) for each in bins) / total
    spread = math.sqrt(sum(each.spread for each in bins))
    z = (sum(each.unsafe for each in bins) - sum(each.scored for each in bins)) / spread if spread else 0.0
    return ece, z


def latency(counts: Sequence[int], share: float) -> float | None:
    """The quantile in ms, read from counts by LATENCY_EDGES: in the middle of its bin, on the logarithmic scale."""
    total, passed = sum(counts), 0
    for at, count in enumerate(counts):
        passed += count
        if count and passed >= share * total:
            return LATENCY_EDGES[at] / math.sqrt(math.sqrt(2))
    return None
