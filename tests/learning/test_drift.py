"""Shifts, agreement and calibration, and how often an alarm is raised where nothing is wrong, and where something is."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from guardreview.learning import drift
from guardreview.learning.alarms import ALARM, EACH, NOTICE, UNKNOWN, Limits, alarms, audits_needed
from guardreview.review.statistics import Stratum, miss_rate

LIMITS = Limits(
    psi_notice=0.1, psi_alarm=0.25, overturned=0.3, missed=0.05, kappa=0.4, failures=0.01, calibration=0.1, fresh_days=90
)
MONDAY = date(2026, 9, 7)


# --- Figures ----------------------------------------------------------------------------------------------------------------
def test_the_same_distribution_has_no_shift() -> None:
    found = drift.shift([100, 200, 300], [1000, 2000, 3000], 0.01)
    assert found is not None
    assert found.psi < 1e-4
    assert not found.is_real


def test_psi_is_the_sum_over_the_bins() -> None:
    found = drift.shift([5000, 5000], [8000, 2000], 0.01)
    expected = (0.5 - 0.8) * np.log(0.5 / 0.8) + (0.5 - 0.2) * np.log(0.5 / 0.2)
    assert found is not None
    assert found.psi == pytest.approx(expected, rel=1e-3)
    assert found.is_real


def test_nothing_to_compare_with_is_not_known() -> None:
    assert drift.shift([1, 2], [0, 0], 0.01) is None
    assert drift.shift({}, {"en": 5}, 0.01) is None


def test_bins_that_were_almost_empty_are_joined() -> None:
    found = drift.shift([500, 1, 2, 500], [500, 0, 0, 500], 0.01)
    assert found is not None
    assert found.psi < 0.001


def test_small_weeks_stay_below_the_noise_as_often_as_is_said() -> None:
    chance = np.random.default_rng(1)
    p = np.full(10, 0.1)
    above = sum(
        bool(
            (found := drift.shift(chance.multinomial(150, p).tolist(), chance.multinomial(600, p).tolist(), 0.05))
            and found.is_real
        )
        for _ in range(2000)
    )
    assert above / 2000 < 0.07


@pytest.mark.parametrize("degrees", [1, 5, 12])
def test_the_quantile_is_that_of_chi_squared(degrees: int) -> None:
    assert drift.chi_squared_quantile(0.995, degrees) == pytest.approx(chi2.ppf(0.995, degrees), rel=0.03)


def test_kappa_weighs_what_was_drawn_seldom() -> None:
    cells = {
        (True, True): drift.Cell(50, 50, 50),
        (True, False): drift.Cell(10, 10, 10),
        (False, True): drift.Cell(2, 200, 20_000),
        (False, False): drift.Cell(50, 5_000, 500_000),
    }
    found = drift.kappa(cells)
    plain = drift.kappa({key: drift.Cell(cell.n, cell.n, cell.n) for key, cell in cells.items()})
    assert found is not None
    assert plain is not None
    assert found.value < 0.4 < 0.75 < plain.value
    assert found.high - found.low > plain.high - plain.low


def test_a_calibrated_score_is_not_far_from_the_truth() -> None:
    chance = np.random.default_rng(4)
    for factor, is_off in ((1.0, False), (0.5, True)):
        ece, z = drift.calibration_error(_bins(chance, 3000, factor))
        assert (abs(z) > 4) == is_off
        assert (ece > 0.1) == is_off


def test_latency_is_read_from_its_bins() -> None:
    counts = [0] * len(drift.LATENCY_EDGES)
    for value in np.random.default_rng(2).lognormal(3, 0.5, 5000):
        counts[next(at for at, edge in enumerate(drift.LATENCY_EDGES) if value <= edge)] += 1
    assert drift.latency(counts, 0.5) == pytest.approx(np.exp(3), rel=0.2)
    assert drift.latency([0, 0], 0.5) is None


# --- Alarms, by simulation --------------------------------------------------------------------------------------------------
def _bins(chance: Any, n: int, factor: float = 1.0) -> list[drift.ScoreBin]:
    p = chance.beta(0.8, 1.2, n)
    y, w = chance.random(n) < p, np.where(p > 0.5, 1.0, 20.0)
    said = p * factor
    return [
        drift.ScoreBin(t, int(h.sum()), w[h].sum(), (w[h] ** 2).sum(), (w[h] * said[h]).sum(), (w[h] * y[h]).sum(),
                       ((w[h] * (y[h] - said[h])) ** 2).sum())
        for t in range(10) if (h := np.minimum(9, (said * 10).astype(int)) == t).any()
    ]  # fmt: skip


def _figures(
    chance: Any, n: int = 4000, *, moved: float = 1.0, overturned: float = 0.15, missed: float = 0.01, **more: Any
) -> dict[str, Any]:
    """A week of made-up traffic. `moved`: a factor on the odds of scores. `missed`: the true miss rate."""
    scores = chance.beta(0.6, 8, n)
    odds = moved * scores / (1 - scores)
    counts = np.histogram(odds / (1 + odds), bins=drift.SCORE_EDGES)[0]
    blocked = chance.binomial(n, 0.06)
    allowed = n - blocked
    unsafe = chance.binomial(blocked, 1 - overturned)
    bad = round(unsafe * missed / (1 - missed))
    drawn = chance.binomial(allowed, 0.3)
    found = chance.hypergeometric(bad, allowed - bad, drawn) if drawn else 0
    audited = [Stratum(0.3, allowed, drawn, drawn, found)]
    misses, surely = miss_rate(audited, caught=unsafe), miss_rate(audited, caught=unsafe, confidence=1 - 2 * EACH).low
    agree = chance.multinomial(300, [0.4, 0.08, 0.07, 0.45])
    pairs = ((True, True), (True, False), (False, True), (False, False))
    return {
        "n": n,
        "scores": counts.tolist(),
        "categories": dict(zip("abcd", chance.multinomial(blocked, [0.4, 0.3, 0.2, 0.1]).tolist(), strict=True)),
        "languages": dict(zip(("en", "es", "fr"), chance.multinomial(n, [0.9, 0.07, 0.03]).tolist(), strict=True)),
        "overturned": {"safe": blocked - unsafe, "settled": blocked, "open": 0},
        "misses": {**asdict(misses), "strata": 1, "surely": surely},
        "judge": [
            {"judge_unsafe": one, "unsafe": two, "n": int(k), "weight": float(k), "squares": float(k)}
            for (one, two), k in zip(pairs, agree, strict=True)
        ],
        "calibration": [asdict(each) for each in _bins(chance, 400)],
        "layers": {
            "rules": {"n": n, "failed": 0, "errors": {}},
            "judge": {"n": 300, "failed": int(chance.binomial(300, 0.005)), "errors": {}},
        },
        "fresh": {},
        "changes": [],
        **more,
    }  # fmt: skip


def _raised(weeks: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    past: list[Any] = []
    for at, figures in enumerate(weeks):
        monday = MONDAY + timedelta(weeks=at)
        past.append((monday, figures, [asdict(alarm) for alarm in alarms(figures, past[-8:], monday, LIMITS)]))
    return [raised for *_, raised in past]


def test_stable_traffic_raises_an_alarm_in_at_most_one_week_of_twenty() -> None:
    chance = np.random.default_rng(7)
    weeks = alarming = 0
    for _ in range(25):
        for raised in _raised([_figures(chance, int(chance.choice([600, 4000, 30000]))) for _ in range(12)]):
            weeks += 1
            alarming += any(each["level"] == ALARM for each in raised)
    assert weeks == 300
    assert alarming <= weeks / 20


@pytest.mark.parametrize("part", [0.6, 0.8, 1.0])
def test_a_miss_rate_below_its_limit_raises_no_alarm(part: float) -> None:
    """It is a notice where that cannot be shown, however many weeks that takes."""
    chance = np.random.default_rng(14)
    week, levels = _figures(chance, 1), []
    for _ in range(300):
        blocked, allowed = 3_000, 60_000
        bad = round(blocked * part * LIMITS.missed / (1 - part * LIMITS.missed))
        drawn = 30_000
        audited = [Stratum(0.5, allowed, drawn, drawn, int(chance.hypergeometric(bad, allowed - bad, drawn)))]
        misses = asdict(miss_rate(audited, caught=blocked)) | {"strata": 1}
        misses["surely"] = miss_rate(audited, caught=blocked, confidence=1 - 2 * EACH).low
        raised = alarms({**week, "misses": misses}, [], MONDAY, LIMITS)
        levels += [each.level for each in raised if each.key in ("missed", "not-shown")]
    assert levels.count(ALARM) <= 300 * 0.02
    assert (levels.count(NOTICE) > 100) == (part > 0.6)


def test_what_is_not_shown_says_how_many_audits_would_show_it() -> None:
    week = _figures(np.random.default_rng(15), 100_000)
    week["misses"] |= {"rate": 0.04, "low": 0.02, "high": 0.06, "surely": 0.018, "settled": 50_000}
    week["misses"] |= {"allowed": 1_000_000, "caught": 20_000, "found": 40}
    [found] = [each for each in _raised([week])[0] if each["key"] == "not-shown"]
    assert (found["level"], found["title"], found["causes"]) == (NOTICE, "Not shown to be below 5.0 %", [])
    needed = audits_needed(week, 0.05, 0.04)
    assert needed is not None
    assert needed > 50_000
    assert f"some {needed:,} settled audits would show it" in found["seen"]
    week["misses"]["rate"] = 0.055
    [found] = [each for each in _raised([week])[0] if each["key"] == "not-shown"]
    assert "no number of audits would show it" in found["seen"]


@pytest.mark.parametrize("moved", [2.5, 6.0])
def test_a_real_shift_of_scores_is_found_within_two_weeks(moved: float) -> None:
    chance = np.random.default_rng(8)
    missed = 0
    for _ in range(20):
        stable = [_figures(chance) for _ in range(6)]
        after = _raised([*stable, *(_figures(chance, moved=moved) for _ in range(2))])[6:]
        missed += not any(each["key"] == "psi-scores" and each["level"] == ALARM for raised in after for each in raised)
    assert missed == 0


def test_a_moderate_shift_is_a_notice_first_and_says_what_changed() -> None:
    chance = np.random.default_rng(9)
    change = {"at": "2026-10-20T09:00+00:00", "words": "model ft-9 began to serve", "kind": "model", "target": "ft-9"}
    weeks = [_figures(chance) for _ in range(6)]
    weeks += [_figures(chance, moved=2.5, changes=[change]), _figures(chance, moved=2.5)]
    first, second = ([each for each in raised if each["key"] == "psi-scores"] for raised in _raised(weeks)[6:])
    assert [each["level"] for each in (*first, *second)] == [NOTICE, ALARM]
    assert second[0]["since"] == first[0]["since"] == (MONDAY + timedelta(weeks=6)).isoformat()
    assert "ft-9" in second[0]["causes"][0]
    assert {"kind": "model", "target": "ft-9"} in second[0]["links"]


@pytest.mark.parametrize(
    ("changed", "key"),
    [({"overturned": 0.6}, "overturned"), ({"missed": 0.4}, "missed")],
)
def test_what_is_wrong_is_found_in_one_week(changed: dict[str, float], key: str) -> None:
    chance = np.random.default_rng(10)
    raised = _raised([_figures(chance, 20_000, **changed)])[0]
    assert [each["key"] for each in raised if each["level"] == ALARM] == [key]
    assert all(each["todo"] and each["seen"] for each in raised)


def test_a_layer_that_fails_and_a_judge_that_disagrees_are_named() -> None:
    chance = np.random.default_rng(11)
    week = _figures(chance)
    week["layers"]["judge"] = {"n": 300, "failed": 60, "errors": {"the provider timed out": 60}}
    week["judge"] = [
        {"judge_unsafe": one, "unsafe": two, "n": 75, "weight": 75.0, "squares": 75.0}
        for one in (True, False)
        for two in (True, False)
    ]
    week["calibration"] = [asdict(each) for each in _bins(chance, 3000, 0.4)]
    keys = {each["key"]: each["seen"] for each in _raised([week])[0]}
    assert {"failures-judge", "judge", "calibration"} <= keys.keys()
    assert "timed out" in keys["failures-judge"]
    assert "too low" in keys["calibration"]


def test_too_few_audits_are_not_known_and_say_how_many_are_missing() -> None:
    chance = np.random.default_rng(12)
    week = _figures(chance, 100_000)
    week["misses"] = {**week["misses"], "settled": 5, "found": 0, "low": 0.0, "high": 0.9, "drawn": 40}
    [found] = [each for each in _raised([week])[0] if each["key"] == "missed"]
    needed = audits_needed(week, 0.05)
    assert needed is not None
    assert found["level"] == UNKNOWN
    assert f"{needed - 5:,} more" in found["seen"]
    assert "35 draws wait" in found["todo"]


def test_a_category_that_ran_out_of_fresh_labels_is_named() -> None:
    week = _figures(np.random.default_rng(13))
    week["fresh"] = {
        "harmful_medical:abrupt_stop": {"fresh": 12, "ever": 80, "needed": 59},
        "discouraging_care": {"fresh": 70, "ever": 90, "needed": 59},
        "harmful_medical:misuse_route_or_form": {"fresh": 0, "ever": 3, "needed": 59},
    }
    [found] = [each for each in _raised([week])[0] if each["key"] == "guarantee"]
    assert found["level"] == NOTICE
    assert "abrupt_stop (47 more needed)" in found["seen"]
    assert "misuse" not in found["seen"]
    assert "discouraging" not in found["seen"]


def test_a_week_without_answers_is_calm() -> None:
    assert alarms({"n": 0}, [], MONDAY, LIMITS) == []
