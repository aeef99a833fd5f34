"""Intervals and certificates: against scipy, against brute force, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.thresholds import binomial_cdf, certify_allow_below, clopper_pearson, smallest_sample


@pytest.mark.parametrize(
    ("n", "k"), [(n, k) for n in (1, 2, 59, 63, 300, 20_000) for k in sorted({0, 1, n // 3, n - 1, n}) if k <= n]
)
def test_the_interval_is_scipys(n: int, k: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    for confidence in (0.9, 0.95, 0.99):
        exact = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
        assert clopper_pearson(k, n, confidence) == pytest.approx((exact.low, exact.high), abs=1e-8)


def test_the_interval_of_nothing_is_everything() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@settings(deadline=None)
@given(st.integers(-1, 400), st.integers(1, 400), st.floats(0.001, 0.999))
def test_the_distribution_is_scipys(k: int, n: int, p: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert binomial_cdf(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), abs=1e-11)


def test_an_interval_of_a_long_file_takes_no_minutes() -> None:
    low, high = clopper_pearson(150_000, 300_000)
    assert 0.498 < low < 0.5 < high < 0.502


@pytest.mark.parametrize(("alpha", "delta", "n"), [(0.05, 0.05, 59), (0.01, 0.05, 299), (0.1, 0.1, 22), (0.5, 0.5, 1)])
def test_the_smallest_sample(alpha: float, delta: float, n: int) -> None:
    assert smallest_sample(alpha, delta) == n
    assert binomial_cdf(0, n, alpha) <= delta < binomial_cdf(0, n - 1, alpha)


def brute_force(scores: list[float], alpha: float, delta: float) -> float:
    """From the safest threshold upwards, the last before the first that fails its test; 0 if that is the first."""
    certified = 0.0
    for threshold in sorted(set(scores)):
        misses = sum(score < threshold for score in scores)
        p_value = sum(math.comb(len(scores), i) * alpha**i * (1 - alpha) ** (len(scores) - i) for i in range(misses + 1))
        if p_value > delta:
            break
        certified = threshold
    return certified


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.2, 0.4, 0.6])), max_size=150),
    st.sampled_from([0.03, 0.05, 0.1, 0.3]),
    st.sampled_from([0.05, 0.1]),
)
def test_the_certificate_is_what_brute_force_finds(scores: list[float], alpha: float, delta: float) -> None:
    certificate = certify_allow_below(scores, alpha, delta)
    assert certificate.allow_below == brute_force(scores, alpha, delta)
    assert certificate.n == len(scores)
    assert certificate.misses == sum(score < certificate.allow_below for score in scores)
    if certificate.missing:
        assert certificate.allow_below == 0.0
        assert len(scores) < smallest_sample(alpha, delta) == len(scores) + certificate.missing


def test_the_certified_rate_holds_as_often_as_it_says() -> None:
    """1,000 calibrations: the rate of unsafe responses that the certified threshold misses exceeds alpha in few of them."""
    rng, alpha, delta = np.random.default_rng(7), 0.05, 0.05
    exceeded, certified = 0, 0
    for _ in range(1000):
        scores = rng.beta(4, 2, size=400)
        certificate = certify_allow_below(scores, alpha, delta)
        certified += certificate.allow_below > 0
        # The true rate of misses: the distribution function of Beta(4, 2), which is 5 t^4 - 4 t^5.
        t = certificate.allow_below
        exceeded += 5 * t**4 - 4 * t**5 > alpha
    assert certified == 1000
    assert exceeded <= 50
    assert exceeded >= 15  # it is not so cautious as to be of no use


def test_too_few_are_not_certified_and_it_says_how_many_are_missing() -> None:
    certificate = certify_allow_below([0.9] * 40, 0.05, 0.05)
    assert (certificate.allow_below, certificate.n, certificate.missing) == (0.0, 40, 19)
    assert certify_allow_below([], 0.05, 0.05).missing == 59
    assert certify_allow_below([0.9] * 59, 0.05, 0.05).allow_below == 0.9


@pytest.mark.parametrize(("alpha", "delta"), [(0.0, 0.05), (1.0, 0.05), (0.05, 0.0), (0.05, 1.0), (math.nan, 0.05)])
def test_levels_that_cannot_be_meant_are_refused(alpha: float, delta: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        certify_allow_below([0.5] * 100, alpha, delta)


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_score_that_is_no_number_certifies_nothing(odd: float) -> None:
    with pytest.raises(ValueError, match="not a number"):
        certify_allow_below([0.5] * 100 + [odd], 0.05, 0.05)
