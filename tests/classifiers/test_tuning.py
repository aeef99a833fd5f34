"""Thresholds from calibration items: what is promised holds, and refusals say what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from classifiers.policy import UNSAFE
from classifiers.thresholds import certify_allow_below, certify_block_at, certify_weighted, choose_bounds, one_of_each_group
from classifiers.tuning import Item, curves, save_curves, tune


def items(n: int, seed: int = 1, weight: float | None = 1.0) -> list[Item]:
    """Unsafe items score high, safe ones low, with an overlap; two thirds of the unsafe are critical."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(n):
        unsafe = bool(number % 2)
        score = float(np.clip(rng.normal(0.75 if unsafe else 0.25, 0.2), 0, 1))
        drawn = weight if weight is not None else float(rng.choice([1.0, 2.0]))
        category = "harmful_medical:unsafe_combination" if number % 4 == 1 else "misinformation"
        critical = unsafe and number % 3 > 0
        made.append(
            Item(f"{number}", f"g{number}", unsafe, critical, (category,) if unsafe else (), score, number % 11 == 0, drawn)
        )
    return made


def test_the_certified_thresholds_keep_what_they_promise_in_nineteen_of_twenty_calibrations() -> None:
    """The truth of both is known: scores are uniform, so a threshold t misses t, and blocks 1 - t of the safe."""
    rng = np.random.default_rng(3)
    missed = sum(certify_allow_below(rng.uniform(size=400), 0.05, 0.05).allow_below > 0.05 for _ in range(400))
    blocked = sum(certify_block_at(rng.uniform(size=600), 0.01, 0.05) < 0.99 for _ in range(400))
    assert missed <= 30  # 20 are expected at most; 30 or more would happen once in a hundred times
    assert blocked <= 30


def test_the_weighted_bound_keeps_its_promise_and_is_wider() -> None:
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(200):
        scores = rng.uniform(size=4000)
        probability = np.where(scores < 0.5, 1.0, 0.5)  # the low are drawn twice as often
        kept = rng.uniform(size=4000) < probability
        certificate = certify_weighted(scores[kept], 1 / probability[kept], 0.05, 0.05, largest=2.0)
        wrong += certificate.allow_below > 0.05
        assert certificate.allow_below <= certify_allow_below(scores, 0.05, 0.05).allow_below + 0.02
    assert wrong <= 15


def test_false_blocks_of_weighted_items_are_bounded_by_their_weight() -> None:
    """Twenty of four thousand are few, but each stands for a hundred."""
    safe = [*[0.05] * 4000, *[0.9] * 20]
    weights = [*[1.0] * 4000, *[100.0] * 20]
    assert certify_block_at(safe, 0.01, 0.05) < 0.1
    assert certify_block_at(safe, 0.01, 0.05, weights=weights, largest=100.0) > 0.9


def test_a_safe_item_with_the_highest_score_leaves_a_threshold_that_a_policy_may_have() -> None:
    assert certify_block_at([*[0.1] * 349, 1.0, 1.0, 1.0], 0.01, 0.05) <= 1.0


def test_a_weight_above_the_largest_that_the_sampling_allows_is_refused() -> None:
    with pytest.raises(ValueError, match="largest"):
        certify_weighted([0.5, 0.6], [1.0, 3.0], 0.05, 0.05, largest=2.0)
    with pytest.raises(ValueError, match="largest"):
        tune(items(100, weight=2.0))


def test_what_is_seldom_drawn_counts_although_the_sample_lacks_it() -> None:
    """What scores low is drawn with 1 in 2,000: most samples have none of it, so their own largest weight promises too much."""
    rng = np.random.default_rng(5)
    wrong, trusting = 0, 0
    for _ in range(200):
        scores = np.where(rng.uniform(size=4000) < 0.1, 0.1, 0.9)
        probability = np.where(scores < 0.5, 1 / 2000, 1.0)
        kept = rng.uniform(size=4000) < probability
        scores, weights = scores[kept], 1 / probability[kept]
        wrong += certify_weighted(scores, weights, 0.05, 0.05, largest=2000.0).allow_below > 0.1
        trusting += certify_weighted(scores, weights, 0.05, 0.05, largest=float(weights.max())).allow_below > 0.1
    assert wrong <= 15
    assert trusting > 100


def test_a_sampling_that_is_uneven_for_others_is_uneven_for_all() -> None:
    """What is critical may have had the smallest probability, though none that was drawn had."""
    made = items(2000)
    weights = [1.0 if item.critical else 2.0 for item in made]
    bounds = choose_bounds(
        made, [item.p_unsafe for item in made], alpha=0.05, false_blocks=0.01, delta=0.05, weights=weights, largest=2.0
    )
    assert bounds.method.startswith("Hoeffding")


def test_too_few_items_are_refused_with_the_number_that_is_missing() -> None:
    assert certify_block_at([0.1] * 200, 0.01, 0.05) == 1.0
    assert certify_block_at([0.1] * 299, 0.01, 0.05) < 0.11
    few = certify_weighted(np.full(50, 0.9), np.ones(50), 0.05, 0.05, largest=1.0)
    assert few.allow_below == 0.0
    assert few.missing > 500
    assert certify_weighted([], [], 0.05, 0.05, largest=1.0).missing > 0
    enough = 50 + few.missing
    assert certify_weighted(np.full(enough, 0.9), np.ones(enough), 0.05, 0.05, largest=1.0).allow_below == 0.9


@pytest.mark.parametrize("weights", [[1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_a_weight_that_is_none_is_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        certify_weighted([0.5, 0.6], weights, 0.05, 0.05, largest=1.0)


def test_what_is_blocked_is_above_the_certified_score() -> None:
    scores = [0.2] * 500 + [0.9]
    block_at = certify_block_at(scores, 0.01, 0.05)
    assert 0.2 < block_at <= 0.9


def test_thresholds_are_tuned_and_reported() -> None:
    tuning = tune(items(2000))
    bounds = tuning.policy.threshold(UNSAFE)
    assert 0 < bounds.allow_below < bounds.block_at < 1
    assert tuning.method == "Clopper-Pearson"
    report = tuning.report
    assert report["critical_missed_by_finetuned"]["rate"] <= 0.05
    assert report["critical_missed_by_fast_layers"]["k"] < report["critical_missed_by_finetuned"]["k"] + 1
    assert report["safe_blocked"]["rate"] <= 0.011
    assert set(report["categories"]) == {"harmful_medical:unsafe_combination", "misinformation"}
    assert report["categories"]["harmful_medical:unsafe_combination"]["critical"]


def test_weighted_items_are_held_to_the_wider_bound() -> None:
    tuning = tune(items(6000, weight=None), largest_weight=2.0)
    assert tuning.method.startswith("Hoeffding")
    assert tuning.certificate.allow_below < tune(items(6000)).certificate.allow_below


def test_items_that_were_all_drawn_alike_need_no_weights() -> None:
    assert tune(items(2000, weight=2.0), largest_weight=2.0).certificate == tune(items(2000)).certificate


def test_twins_count_once() -> None:
    twins = [Item(f"twin {number}", "one", True, True, ("misinformation",), 0.9) for number in range(500)]
    tuning = tune([*twins, *items(400)[::2]])
    assert tuning.certificate.n == 1
    assert tuning.certificate.missing == 58


def test_which_of_a_group_counts_does_not_depend_on_its_score() -> None:
    ids, groups = [f"{n}-{twin}" for n in range(2000) for twin in "ab"], [str(n) for n in range(2000) for _ in "ab"]
    drawn = one_of_each_group(ids, groups)
    assert sorted(groups[place] for place in drawn) == sorted(set(groups))
    assert 900 < sum(ids[place].endswith("a") for place in drawn) < 1100
    backwards = one_of_each_group(ids[::-1], groups[::-1])
    assert {ids[place] for place in drawn} == {ids[::-1][place] for place in backwards}


def test_nothing_can_be_tuned_on_one_label() -> None:
    with pytest.raises(ValueError, match="safe and critical"):
        tune([item for item in items(100) if not item.unsafe])


def test_the_curves_are_those_of_the_items() -> None:
    drawn = curves(items(1000))
    middle = drawn["threshold"].index(0.5)
    assert drawn["recall"][0] == 1
    assert drawn["fpr"][0] == 1
    assert drawn["recall"][middle] > 0.8
    assert drawn["recall"][middle] + drawn["fnr"][middle] == pytest.approx(1)
    assert drawn["fnr"] == sorted(drawn["fnr"])
    assert drawn["judge_share"][middle] == 0
    assert drawn["judge_share"][0] == pytest.approx(1, abs=0.1)


def test_the_curves_are_saved_as_a_page_that_fetches_nothing_and_a_picture(tmp_path: Path) -> None:
    page, picture = save_curves(tune(items(1000)), tmp_path / "curves")
    text = page.read_text(encoding="utf-8")
    assert "recall of blocking" in text
    assert 'src="http' not in text
    assert picture.read_bytes().startswith(b"\x89PNG")
