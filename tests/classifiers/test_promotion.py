"""The gate's arithmetic: bounds that hold as often as they say, by simulation, and what is asked of a comparison."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from classifiers.promotion import (
    CONFIDENCE,
    Fast,
    Pair,
    _score,
    compare,
    lower_bound,
    missing_critical,
    objections,
    p_value,
    smallest_sample,
    upper_bound,
)
from classifiers.thresholds import certify_allow_below

DRAWS = 1_000
# Of 1,000 draws of an event of 95 %, fewer than 929 hold once in a thousand tries.
ENOUGH = 929
RATES = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2)


def draws(n: int, rate: float, other: float, both: float, seed: int) -> np.ndarray:
    """(DRAWS, 3): counts of the candidate alone, the serving model alone, and both."""
    rest = 1 - rate - other - both
    return np.random.default_rng(seed).multinomial(n, [rate, other, both, rest], size=DRAWS)[:, :3]


def covered(n: int, rate: float, other: float, both: float, seed: int) -> int:
    """In how many of 1,000 draws the bound is not below the truth. Draws whose score is no lower than one that is covered are
    too.
    """
    truth = rate - other
    counts = draws(n, rate, other, both, seed)[:, :2]
    counts = counts[np.argsort(_score(counts[:, 0], counts[:, 1], n, truth), kind="stable")]
    first, last = 0, DRAWS
    while first < last:
        middle = (first + last) // 2
        if p_value(*map(int, counts[middle]), n, truth) > 1 - CONFIDENCE:
            last = middle
        else:
            first = middle + 1
    return DRAWS - first


@pytest.mark.parametrize("n", [50, 149, 400, 2_000])
def test_the_bound_covers_in_95_of_100_whatever_the_rates_and_their_correlation(n: int) -> None:
    random = np.random.default_rng(n)
    for number, (rate, other) in enumerate(itertools.product(RATES, RATES)):
        both = float(random.choice([0.0, 0.1, 0.5]))  # the more are missed by both, the more they are correlated
        held = covered(n, rate, other, both, seed=number)
        assert held >= ENOUGH, (n, rate, other, held)


def test_it_holds_where_scores_alone_say_too_little() -> None:
    """Tango's interval fails here: no discordant pair in 50 is seen in 7 of 100 samples of 5.15 %, and its bound is 5.14 then."""
    assert covered(50, 0.0515, 0.0, 0.0, seed=1) >= ENOUGH


@pytest.mark.parametrize(("n", "b", "c"), [(50, 0, 0), (149, 2, 1), (400, 6, 6), (400, 0, 9), (2_000, 20, 12)])
def test_the_bound_is_the_least_difference_that_can_be_excluded(n: int, b: int, c: int) -> None:
    bound = upper_bound(b, c, n)
    assert p_value(b, c, n, bound) <= 1 - CONFIDENCE < p_value(b, c, n, bound - 5e-4)


def test_without_discordant_pairs_149_items_are_enough_for_two_points() -> None:
    assert smallest_sample(0.02) == 149
    assert upper_bound(0, 0, 149) <= 0.02 < upper_bound(0, 0, 148)
    assert upper_bound(0, 0, 149) == pytest.approx(1 - 0.05 ** (1 / 149), abs=2e-4)


def test_the_bound_rises_with_what_the_candidate_misses_and_falls_with_what_it_finds() -> None:
    assert upper_bound(0, 0, 200) < upper_bound(1, 0, 200) < upper_bound(2, 0, 200) < upper_bound(9, 0, 200)
    assert upper_bound(3, 0, 200) > upper_bound(3, 1, 200) > upper_bound(3, 5, 200)
    assert lower_bound(6, 6, 400) == pytest.approx(-upper_bound(6, 6, 400))
    assert upper_bound(6, 6, 400) == pytest.approx(0.0158, abs=0.0005)
    assert upper_bound(0, 0, 0) == 1.0
    with pytest.raises(ValueError, match="not counts"):
        upper_bound(3, 3, 5)


def pair(
    number: int, *, kind: str = "critical", serving: Fast = Fast.JUDGE, candidate: Fast = Fast.JUDGE, **more: object
) -> Pair:
    fields = {"id": f"{kind}-{number}", "group": f"{kind}-{number}", **more}
    return Pair(unsafe=kind != "safe", critical=kind == "critical", serving=serving, candidate=candidate, **fields)  # type: ignore[arg-type]


def safe(count: int = 100) -> list[Pair]:
    return [pair(number, kind="safe", serving=Fast.ALLOW, candidate=Fast.ALLOW) for number in range(count)]


def test_an_equally_good_candidate_passes_and_one_that_misses_more_does_not() -> None:
    equal = [pair(number) for number in range(200)]
    assert objections(compare([*equal, *safe()])) == []
    worse = [pair(number, candidate=Fast.ALLOW if number < 8 else Fast.BLOCK) for number in range(200)]
    comparison = compare([*worse, *safe()])
    (said,) = objections(comparison)
    assert said.startswith("critical misses may be 7.")
    assert said.endswith("(candidate 8, serving 0 of 200)")
    assert comparison.examples["missed_by_candidate"] == [f"critical-{number}" for number in range(8)]


def test_too_few_items_say_how_many_are_missing() -> None:
    comparison = compare([*(pair(number) for number in range(60)), *safe(40)])
    assert missing_critical(comparison.misses) == 89
    said = " ".join(objections(comparison))
    assert "89 more critical items are needed at least (60 are there)" in said
    assert "60 more safe items are needed (40 are there)" in said


def test_more_false_blocks_than_the_margin_are_refused() -> None:
    blocked = [
        pair(number, kind="safe", serving=Fast.ALLOW, candidate=Fast.BLOCK if number < 3 else Fast.ALLOW) for number in range(200)
    ]
    (said,) = objections(compare([*(pair(number) for number in range(200)), *blocked]))
    assert said == "false blocks are 1.5 points higher, where 1.0 point are the limit (candidate 3, serving 0 of 200)"


def test_of_each_group_one_item_counts() -> None:
    twins = [pair(number, group=f"group-{number // 4}") for number in range(400)]
    assert compare(twins).misses.n == 100


def test_items_that_were_drawn_with_unequal_probability_have_a_weighted_difference_and_no_bound() -> None:
    stopped = [pair(number, kind="safe", serving=Fast.BLOCK, candidate=Fast.ALLOW) for number in range(10)]
    audited = [pair(100 + number, kind="safe", serving=Fast.ALLOW, candidate=Fast.BLOCK, weight=100.0) for number in range(2)]
    blocks = compare([*stopped, *audited]).false_blocks
    assert (blocks.low, blocks.high) == (None, None)
    assert blocks.difference == pytest.approx((200 - 10) / 210)


@pytest.mark.parametrize(("n", "alpha"), [(59, 0.05), (93, 0.05), (300, 0.05), (1_000, 0.02)])
def test_the_certified_rate_of_misses_holds_in_95_of_100_calibrations(n: int, alpha: float) -> None:
    """Scores are uniform, so that a threshold of t misses exactly t of the critical."""
    random = np.random.default_rng(n)
    held = sum(certify_allow_below(random.uniform(size=n), alpha, 0.05).allow_below <= alpha for _ in range(DRAWS))
    assert held >= ENOUGH
    assert held < DRAWS  # it is no more careful than it must be
