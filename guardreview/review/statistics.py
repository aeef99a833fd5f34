"""What a few items say of all: intervals of proportions, agreement of people, and what is missed. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import krippendorff
import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and the interval that covers the truth in (at least, about) 95 of 100 cases. `n`: measured on how many."""

    value: float
    low: float
    high: float
    n: int


# --- Proportions ------------------------------------------------------------------------------------------------------------
def wilson(k: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """k of n with Wilson's score interval, which covers on average what it says. Raises ValueError unless 0 <= k <= n > 0."""
    _check(k, n, confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = k / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, 0.0 if k == 0 else max(0.0, centre - half), 1.0 if k == n else min(1.0, centre + half), n)


def clopper_pearson(k: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """k of n with the exact interval, which never covers less often than it says. Raises ValueError unless 0 <= k <= n > 0."""
    _check(k, n, confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else beta_quantile(tail, k, n - k + 1)
    high = 1.0 if k == n else beta_quantile(1 - tail, k + 1, n - k)
    return Estimate(k / n, low, high, n)


def difference(k1: int, n1: int, k2: int, n2: int, confidence: float = CONFIDENCE) -> Estimate:
    """k1/n1 - k2/n2 of two independent groups, with Newcombe's interval (1998, his method 10). `n`: of both."""
    one, two = wilson(k1, n1, confidence), wilson(k2, n2, confidence)
    value = one.value - two.value
    low = value - math.hypot(one.value - one.low, two.high - two.value)
    high = value + math.hypot(one.high - one.value, two.value - two.low)
    return Estimate(value, low, high, n1 + n2)


def _check(k: int, n: int, confidence: float) -> None:
    if not 0 <= k <= n or n == 0:
        raise ValueError(f"not a proportion: {k} of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not {confidence}")


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The x at which the beta distribution's integral from 0 is `probability`, by bisection: slow, and sure."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # beyond, the fraction converges slowly
        return 1 - beta_cdf(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """By Lentz's method as Thompson and Barnett modified it; some sqrt(max(a, b)) steps."""
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    value = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / ((1 + term * d) or tiny)
            c = (1 + term / c) or tiny
            value *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return value


# --- Times ------------------------------------------------------------------------------------------------------------------
def quartiles(values: Sequence[float]) -> Estimate:
    """The median, with the first and the third quartile as its interval. Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return Estimate(float(middle), float(low), float(high), len(values))


# --- Agreement --------------------------------------------------------------------------------------------------------------
def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> Estimate | None:
    """Cohen's kappa of two raters: how far they agree beyond chance; None where one of them always said the same.

    The interval takes chance agreement as known, as Cohen (1960) did, with Wilson's interval of the agreement in place of the
    normal one: so it has a width where everybody agreed, too.
    """
    first, second = Counter(one for one, _ in pairs), Counter(two for _, two in pairs)
    if len(first) < 2 or len(second) < 2:
        return None
    n = len(pairs)
    chance = sum(first[value] * second[value] for value in first) / n**2
    agreed = wilson(sum(one == two for one, two in pairs), n)
    value, low, high = ((share - chance) / (1 - chance) for share in (agreed.value, agreed.low, agreed.high))
    return Estimate(value, low, high, n)


def krippendorff_alpha(units: Iterable[Sequence[str]]) -> Estimate | None:
    """Krippendorff's alpha, nominal: each unit is what its raters said, any number of them; those with one alone do not count.

    None where nobody ever said anything else: then nothing tells agreement from habit. The interval: percentiles of a bootstrap
    over units, the same for the same units.
    """
    paired = [Counter(unit) for unit in units if len(unit) > 1]
    values = sorted(set().union(*paired))
    if len(values) < 2:
        return None
    counts = np.array([[unit[value] for value in values] for unit in paired])
    random = np.random.default_rng(0)
    draws = (counts[random.integers(len(counts), size=len(counts))] for _ in range(RESAMPLES))
    resampled = [_alpha(drawn) for drawn in draws if (drawn.sum(axis=0) > 0).sum() > 1]
    low, high = np.quantile(resampled, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)) if resampled else (-1.0, 1.0)
    return Estimate(_alpha(counts), float(low), float(high), len(paired))


def _alpha(counts: np.ndarray) -> float:
    """`counts`: (units, values), how many raters said each."""
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


# --- What is missed ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Stratum:
    """Allowed answers of one audit probability: all, those drawn, those of them that are settled, and those found unsafe."""

    probability: float
    allowed: int
    drawn: int
    settled: int
    unsafe: int


@dataclass(frozen=True, slots=True)
class MissRate:
    """Of the unsafe answers, the share that was allowed; `rate` is None where nothing unsafe was found at all.

    `missed`: estimated, unsafe answers that were allowed. `caught`: counted. `unaudited`: allowed answers of strata of which no
    draw is settled, and of which the interval therefore takes anything for possible.
    """

    rate: float | None
    low: float
    high: float
    missed: float
    missed_low: float
    missed_high: float
    found: int
    caught: int
    allowed: int
    drawn: int
    settled: int
    unaudited: int

    @property
    def open(self) -> int:
        """Draws that nobody has settled yet."""
        return self.drawn - self.settled


def miss_rate(strata: Sequence[Stratum], *, caught: int, caught_open: int = 0, confidence: float = CONFIDENCE) -> MissRate:
    """FN / (FN + TP), from an audit that drew each allowed answer with a known probability.

    FN is Horvitz and Thompson's (1952) estimate: each unsafe answer found counts 1 / probability. Draws that are still open count
    neither as safe nor as unsafe: the settled ones of their stratum stand for them. `caught`: TP, the blocked answers that are
    settled as unsafe, which were all looked at. `caught_open`: blocked ones not settled yet.

    The interval is of the very answers that were allowed, not of some larger population. In each stratum the exact binomial
    interval, at 1 - (1 - confidence) / strata (Bonferroni), times how many were allowed; their sums hold together with at least
    `confidence`. It is conservative twice: the draw is without replacement, and strata are never all at their bounds. Open blocks
    count as unsafe for the lower bound and as safe for the upper one.

    It assumes that the probability was logged before the draw, that the settled draws of a stratum are like its open ones, and
    that the label is the truth.
    """
    audited = [stratum for stratum in strata if stratum.allowed]
    each = 1 - (1 - confidence) / max(1, len(audited))
    missed = low = high = 0.0
    for stratum in audited:
        if not stratum.settled:
            high += stratum.allowed
            continue
        bound = clopper_pearson(stratum.unsafe, stratum.settled, each)
        # What was seen is sure, whatever the interval says.
        low += max(bound.low * stratum.allowed, stratum.unsafe)
        high += min(bound.high * stratum.allowed, stratum.allowed - (stratum.settled - stratum.unsafe))
        missed += stratum.unsafe / stratum.probability * stratum.drawn / stratum.settled
    missed = min(max(missed, low), high)  # a lucky draw may weigh more than there are answers
    return MissRate(
        rate=missed / (missed + caught) if missed + caught else None,
        low=low / (low + caught + caught_open) if low else 0.0,
        high=high / (high + caught) if high + caught else 1.0,
        missed=missed,
        missed_low=low,
        missed_high=high,
        found=sum(stratum.unsafe for stratum in audited),
        caught=caught,
        allowed=sum(stratum.allowed for stratum in audited),
        drawn=sum(stratum.drawn for stratum in audited),
        settled=sum(stratum.settled for stratum in audited),
        unaudited=sum(stratum.allowed for stratum in audited if not stratum.settled),
    )
