"""Intervals against published tables, agreement against worked examples, and simulations of how often an interval covers."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from guardreview.review.statistics import (
    Estimate,
    Stratum,
    beta_cdf,
    beta_quantile,
    clopper_pearson,
    cohen_kappa,
    difference,
    krippendorff_alpha,
    miss_rate,
    quartiles,
    wilson,
)

SIMULATIONS = 300


def bounds(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


# --- Proportions ------------------------------------------------------------------------------------------------------
def test_wilsons_interval_is_the_published_one() -> None:
    """Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3."""
    assert bounds(wilson(81, 263)) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert bounds(wilson(15, 148)) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert bounds(wilson(0, 20)) == pytest.approx((0, 0.1611), abs=5e-5)
    assert bounds(wilson(1, 29)) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_the_exact_interval_is_the_published_one() -> None:
    """The same table, method 5."""
    assert bounds(clopper_pearson(81, 263)) == pytest.approx((0.2527, 0.3676), abs=5e-5)
    assert bounds(clopper_pearson(15, 148)) == pytest.approx((0.0578, 0.1617), abs=5e-5)
    assert bounds(clopper_pearson(0, 20)) == pytest.approx((0, 0.1684), abs=5e-5)
    assert bounds(clopper_pearson(1, 29)) == pytest.approx((0.0009, 0.1776), abs=5e-5)


def test_the_difference_of_two_shares_is_the_published_one() -> None:
    """Newcombe, Statistics in Medicine 17 (1998), 873-890, table II, method 10: 56/70 - 48/80 and 9/10 - 3/10."""
    assert bounds(difference(56, 70, 48, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert bounds(difference(9, 10, 3, 10)) == pytest.approx((0.1705, 0.8090), abs=5e-5)


@given(st.floats(0.001, 0.999), st.integers(1, 20_000), st.integers(1, 20_000))
def test_the_beta_distribution_is_scipys(probability: float, a: int, b: int) -> None:
    x = beta_quantile(probability, a, b)
    assert x == pytest.approx(stats.beta.ppf(probability, a, b), rel=1e-7)
    assert beta_cdf(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
@given(st.integers(1, 3000), st.data())
def test_an_interval_holds_its_share_and_mirrors(interval: Callable[..., Estimate], n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    found, mirrored = interval(k, n), interval(n - k, n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert bounds(found) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(1, 0), (0, 0), (3, 2), (-1, 5)])
def test_what_is_no_proportion_is_refused(k: int, n: int) -> None:
    for interval in (wilson, clopper_pearson):
        with pytest.raises(ValueError, match="not a proportion"):
            interval(k, n)


def test_the_exact_interval_never_covers_less_often_than_it_says() -> None:
    for n in (5, 40):
        found = [clopper_pearson(k, n) for k in range(n + 1)]
        for truth in np.linspace(0.01, 0.99, 99):
            covered = sum(stats.binom.pmf(k, n, truth) for k in range(n + 1) if found[k].low <= truth <= found[k].high)
            assert covered >= 0.95 - 1e-9


def test_quartiles_are_the_middle_half() -> None:
    assert quartiles([1, 2, 3, 4, 5]) == Estimate(3, 2, 4, 5)
    with pytest.raises(ValueError, match="no values"):
        quartiles([])


# --- Agreement --------------------------------------------------------------------------------------------------------
def test_kappa_is_the_textbooks_and_sklearns() -> None:
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    found = cohen_kappa(pairs)
    assert found is not None
    assert found.value == pytest.approx(0.4)
    assert found.value == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)))
    # Cohen's (1960) standard error, which the interval is near to.
    error = math.sqrt(0.7 * 0.3 / (50 * 0.5**2)) * NormalDist().inv_cdf(0.975)
    assert bounds(found) == pytest.approx((0.4 - error, 0.4 + error), abs=0.04)


def test_kappa_says_nothing_where_somebody_always_said_the_same() -> None:
    assert cohen_kappa([]) is None
    assert cohen_kappa([("safe", "safe")] * 9 + [("safe", "unsafe")]) is None
    assert cohen_kappa([("safe", "safe")] * 30) is None


def test_kappa_of_perfect_agreement_still_has_a_width() -> None:
    found = cohen_kappa([("safe", "safe")] * 10 + [("unsafe", "unsafe")] * 10)
    assert found is not None
    assert found.value == found.high == 1
    assert 0.5 < found.low < 0.8


def test_kappas_interval_covers_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    cells = [("s", "s"), ("s", "u"), ("u", "s"), ("u", "u")]
    shares = np.array([0.35, 0.1, 0.12, 0.43])
    chance = 0.45 * 0.47 + 0.55 * 0.53
    truth = (0.78 - chance) / (1 - chance)
    covered = 0
    for _ in range(1000):
        found = cohen_kappa([cells[cell] for cell in random.choice(4, size=60, p=shares)])
        covered += found is not None and found.low <= truth <= found.high
    assert covered >= 930


def test_alpha_is_krippendorffs_own_example() -> None:
    """Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), part C: four observers, twelve units, nominal: 0.743."""
    said = ["111", "2223", "3333", "3333", "2222", "1234", "4444", "1112", "2222", "555", "11", "3"]
    found = krippendorff_alpha([list(unit) for unit in said])
    assert found is not None
    assert found.value == pytest.approx(0.743, abs=5e-4)
    assert found.n == 11  # what one alone saw says nothing of agreement
    assert found.low < found.value < found.high
    assert found == krippendorff_alpha([list(unit) for unit in said])


def test_alpha_says_nothing_where_nobody_ever_differs_or_nobody_saw_the_same() -> None:
    assert krippendorff_alpha([]) is None
    assert krippendorff_alpha([["safe", "safe"]] * 20) is None
    assert krippendorff_alpha([["safe"], ["unsafe"]]) is None


# --- What is missed ---------------------------------------------------------------------------------------------------
def test_each_found_miss_counts_for_those_that_were_not_drawn() -> None:
    found = miss_rate([Stratum(0.01, 20_000, 200, 200, 2), Stratum(0.05, 2_000, 100, 100, 3)], caught=240)
    assert found.missed == pytest.approx(2 / 0.01 + 3 / 0.05)
    assert found.rate == pytest.approx(260 / (260 + 240))
    assert found.low < 0.52 < found.high
    assert (found.found, found.drawn, found.open, found.unaudited) == (5, 300, 0, 0)


def test_the_interval_is_the_exact_one_of_each_stratum_added_up() -> None:
    first, second = clopper_pearson(2, 200, 0.975), clopper_pearson(3, 100, 0.975)
    found = miss_rate([Stratum(0.01, 20_000, 200, 200, 2), Stratum(0.05, 2_000, 100, 100, 3)], caught=240)
    low, high = 20_000 * first.low + 2_000 * second.low, 20_000 * first.high + 2_000 * second.high
    assert (found.missed_low, found.missed_high) == pytest.approx((low, high))
    assert bounds_of(found) == pytest.approx((low / (low + 240), high / (high + 240)))


def bounds_of(found: object) -> tuple[float, float]:
    return found.low, found.high  # type: ignore[attr-defined]


def test_open_draws_count_neither_as_safe_nor_as_unsafe() -> None:
    settled = miss_rate([Stratum(0.1, 1_000, 100, 100, 4)], caught=50)
    half = miss_rate([Stratum(0.1, 1_000, 100, 50, 2)], caught=50)
    assert half.missed == pytest.approx(settled.missed)
    assert half.high > settled.high
    assert half.low < settled.low
    assert half.open == 50


def test_open_blocks_widen_the_interval_downwards_alone() -> None:
    closed = miss_rate([Stratum(0.1, 1_000, 100, 100, 4)], caught=50)
    opened = miss_rate([Stratum(0.1, 1_000, 100, 100, 4)], caught=50, caught_open=30)
    assert opened.low < closed.low
    assert opened.high == closed.high


def test_a_stratum_that_nobody_looked_at_may_be_anything() -> None:
    found = miss_rate([Stratum(0.5, 100, 50, 50, 0), Stratum(0.01, 80, 1, 0, 0)], caught=20)
    assert found.unaudited == 80
    assert found.high >= 80 / 100
    assert found.low == 0


def test_nothing_unsafe_is_no_rate() -> None:
    assert miss_rate([], caught=0).rate is None
    found = miss_rate([Stratum(0.1, 1_000, 100, 100, 0)], caught=0)
    assert (found.rate, found.low, found.high) == (None, 0, 1)


def test_the_estimate_lies_in_its_interval_however_lucky_the_draw() -> None:
    found = miss_rate([Stratum(0.01, 100, 3, 3, 3)], caught=10)
    assert 3 <= found.missed <= 100
    assert found.low <= (found.rate or 0) <= found.high


WORLDS = {
    "much traffic": [(0.01, 20_000, 60), (0.05, 4_000, 80)],
    "little traffic": [(0.1, 400, 9), (0.5, 60, 8)],
    "nearly nothing missed": [(0.02, 10_000, 2), (0.2, 1_000, 1)],
    "most is missed": [(0.05, 2_000, 1_500), (0.3, 300, 200)],
}


@pytest.mark.parametrize("settles", [1.0, 0.6])
@pytest.mark.parametrize("world", WORLDS)
def test_the_interval_covers_the_truth_at_least_as_often_as_it_says(world: str, settles: float) -> None:
    random = np.random.default_rng(20)
    strata, caught = WORLDS[world], 120
    truth = sum(unsafe for *_, unsafe in strata) / (sum(unsafe for *_, unsafe in strata) + caught)
    covered = 0
    for _ in range(SIMULATIONS):
        seen = []
        for probability, allowed, unsafe in strata:
            drawn_unsafe, drawn_safe = random.binomial([unsafe, allowed - unsafe], probability)
            settled_unsafe, settled_safe = random.binomial([drawn_unsafe, drawn_safe], settles)
            drawn, settled = drawn_unsafe + drawn_safe, settled_unsafe + settled_safe
            seen.append(Stratum(probability, allowed, int(drawn), int(settled), int(settled_unsafe)))
        found = miss_rate(seen, caught=caught)
        covered += found.low <= truth <= found.high
    assert covered >= 0.95 * SIMULATIONS


def test_the_estimate_is_right_on_average() -> None:
    random = np.random.default_rng(4)
    missed = []
    for _ in range(2000):
        drawn_unsafe, drawn_safe = random.binomial([80, 3_920], 0.05)
        seen = Stratum(0.05, 4_000, int(drawn_unsafe + drawn_safe), int(drawn_unsafe + drawn_safe), int(drawn_unsafe))
        missed.append(miss_rate([seen], caught=10).missed)
    assert np.mean(missed) == pytest.approx(80, rel=0.03)
