"""Curves over thresholds from labels that were drawn unequally: weighted, and as uncertain as the few draws make them."""

from __future__ import annotations

import time

import numpy as np
import pytest

from guardreview.learning.threshold_curves import GRID, Settled, clopper_pearson_many, curves, settled
from guardreview.review.models import Label, Review
from guardreview.review.statistics import clopper_pearson
from guardreview.verdicts.models import ModelVersion, ReviewItem, Verdict
from tests import scenes

AT = {value: int(np.argmin(np.abs(GRID - value))) for value in (0.0, 0.5, 0.6)}


def test_the_intervals_at_once_are_those_of_one_at_a_time() -> None:
    k, n = np.array([0, 1, 3, 50, 199, 200, 777, 4000]), np.array([10, 10, 200, 200, 200, 200, 20000, 20000])
    low, high = clopper_pearson_many(k.astype(float), n.astype(float), 0.95)
    for index, (hits, among) in enumerate(zip(k.tolist(), n.tolist(), strict=True)):
        exact = clopper_pearson(hits, among)
        assert (low[index], high[index]) == (pytest.approx(exact.low, abs=1e-9), pytest.approx(exact.high, abs=1e-9))


def test_labels_that_were_all_drawn_give_plain_proportions() -> None:
    scores = np.array([0.2] * 40 + [0.7] * 60)
    truth = np.array([False] * 36 + [True] * 4 + [True] * 54 + [False] * 6)
    found = curves(Settled(scores, truth, np.ones(100), {}))
    precision, recall = found.precision[AT[0.5]], found.recall[AT[0.5]]
    assert precision is not None
    assert recall is not None
    assert (precision.value, precision.n) == (0.9, 60)
    assert precision.low == pytest.approx(clopper_pearson(54, 60).low, abs=1e-9)
    assert recall.value == pytest.approx(54 / 58)
    fpr, fnr = found.fpr[AT[0.5]], found.fnr[AT[0.5]]
    assert fpr is not None
    assert fnr is not None
    assert (fpr.value, fnr.value) == (pytest.approx(6 / 42), pytest.approx(4 / 58))
    assert found.precision[-1] is None  # nothing scores 1


def test_nothing_found_among_few_draws_is_still_uncertain_by_all_that_they_stand_for() -> None:
    """50 unsafe ones were stopped, and none was found in 300 draws of 30,000 that were allowed."""
    scores, truth = np.array([0.7] * 50 + [0.2] * 300), np.array([True] * 50 + [False] * 300)
    found = curves(Settled(scores, truth, np.array([1.0] * 50 + [0.01] * 300), {}))
    missed = found.fnr[AT[0.5]]
    assert missed is not None
    assert missed.value == 0
    assert missed.high > 0.8  # some 1.5 % of 30,000 may be unsafe, beside 50
    naive = curves(Settled(scores, truth, np.ones(350), {})).fnr[AT[0.5]]
    assert naive is not None
    assert naive.high < 0.08


def test_intervals_of_weighted_labels_cover_the_truth() -> None:
    chance = np.random.default_rng(2)
    n = 20_000
    truth = chance.random(n) < 0.08
    scores = np.clip(np.where(truth, chance.beta(4, 2, n), chance.beta(1, 6, n)), 0, 1)
    probability = np.where(scores >= 0.6, 1.0, 0.05)
    over = scores >= 0.5
    true_recall, true_precision = (over & truth).sum() / truth.sum(), (over & truth).sum() / over.sum()
    covered = []
    for _ in range(40):
        drawn = chance.random(n) < probability
        found = curves(Settled(scores[drawn], truth[drawn], probability[drawn], {}))
        recall, precision = found.recall[AT[0.5]], found.precision[AT[0.5]]
        assert recall is not None
        assert precision is not None
        covered.append(recall.low <= true_recall <= recall.high and precision.low <= true_precision <= precision.high)
    assert np.mean(covered) >= 0.95


def test_many_labels_take_little_time() -> None:
    chance = np.random.default_rng(1)
    found = Settled(chance.random(20_000), chance.random(20_000) < 0.3, chance.choice([1.0, 0.05, 0.01], 20_000), {})
    started = time.process_time()
    curves(found)
    assert time.process_time() - started < 2


def test_what_was_drawn_since_a_shadow_differed_stands_for_no_other(db: None) -> None:
    ana = scenes.people()["ana"]
    for number, probability in enumerate((0.25, 0.25, 0.625, 1.0)):
        item = scenes.item(str(number), "r", results=[scenes.finetuned(0.3)])
        Verdict.objects.filter(exchange=item.exchange).update(decision="allow", audit_probability=0.25)
        ReviewItem.objects.filter(pk=item.pk).update(kind="audit", status="decided", inclusion_probability=probability)
        review = Review.objects.create(item=item, reviewer=ana, truth="safe")
        Label.objects.create(exchange=item.exchange, review=review, value="safe", inclusion_probability=probability)
    found = settled(ModelVersion(version="ft-0123456789ab"))
    assert found.probability.tolist() == [0.25, 0.25]
    assert found.open_factor == {0.25: 1.0}


def test_labels_are_read_with_the_scores_of_the_serving_model_alone(db: None) -> None:
    ana = scenes.people()["ana"]
    for number, (score, value) in enumerate(((0.8, "unsafe"), (0.3, "safe"), (0.6, "safe"))):
        item = scenes.item(str(number), "r", results=[scenes.finetuned(score, dangerous_dosage=score / 2)])
        ReviewItem.objects.filter(pk=item.pk).update(status="decided")
        harm = {"categories": ["harmful_medical:dangerous_dosage"], "severity": "critical"} if value == "unsafe" else {}
        review = Review.objects.create(item=item, reviewer=ana, truth=value, **harm)
        Label.objects.create(exchange=item.exchange, review=review, value=value, inclusion_probability=0.5, **harm)
    scenes.item("open", "r", results=[scenes.finetuned(0.9)])
    found = settled(ModelVersion(version="ft-0123456789ab"))
    assert sorted(zip(found.scores.tolist(), found.truth.tolist(), strict=True)) == [(0.3, False), (0.6, False), (0.8, True)]
    assert found.open_factor == {1.0: pytest.approx(4 / 3)}
    by_family = settled(ModelVersion(version="ft-0123456789ab"), "harmful_medical")
    assert sorted(by_family.scores.tolist()) == [0.15, 0.3, 0.4]
    assert len(settled(ModelVersion(version="ft-another")).scores) == 0
