"""A replay over packed scores says of each row what `decide` says of its results."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from classifiers.combined import decide
from classifiers.policy import THRESHOLD_KEYS, Policy
from classifiers.result import CATEGORIES, ClassifierResult, Layer, Verdict
from guardreview.learning.score_blocks import RESULT_FIELDS, columns, join, pack, score_blocks_update, unpack
from guardreview.learning.threshold_page import assumptions
from guardreview.learning.what_if import Change, Step, millionths, replay, what_if
from guardreview.verdicts.models import Exchange, ModelVersion
from tests import scenes

STEPS = {
    "allow": Step.ALLOW,
    "block": Step.BLOCK,
    "hold": Step.HOLD,
    "judge": Step.JUDGE,
    "rules": Step.RULES,
    "finetuned": Step.FINETUNED,
}
LABELS = ("unsafe", "harmful_medical:dangerous_dosage", "harmful_medical:abrupt_stop", "misinformation", "pii:email")


def some_result(layer: Layer, chance: random.Random) -> ClassifierResult | None:
    """Anything that a layer may have said: nothing, a failure, a malformed number, an escalation, a contradiction."""
    kind = chance.random()
    if kind < 0.1:
        return None
    if kind < 0.18:
        return ClassifierResult.failed(layer, "it was late")
    safe = chance.random() < 0.5
    grid = chance.random() < 0.3  # exactly at a bound, now and then
    draw = (lambda: chance.choice((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0))) if grid else (lambda: round(chance.random(), 6))
    scores: dict[str, float] = {}
    if layer is Layer.FINETUNED:
        scores = {label: draw() for label in LABELS if chance.random() < 0.9} | {"unsafe": draw()}
    named = tuple(chance.sample(CATEGORIES, chance.randint(0, 2))) if not safe or chance.random() < 0.1 else ()
    confidence = 1.5 if chance.random() < 0.03 else draw()
    return ClassifierResult(
        safe,
        named[0] if named else "safe",
        "",
        confidence,
        layer=layer,
        categories=named,
        scores=scores,
        escalate=chance.random() < 0.15,
    )


def some_policy(chance: random.Random) -> Policy:
    keys = ["default", *chance.sample(THRESHOLD_KEYS[1:], chance.randint(0, 4))]
    thresholds = {}
    for key in keys:
        low, high = sorted(
            chance.choice((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.9486280000000001, 1.0, chance.random())) for _ in range(2)
        )
        thresholds[key] = {"allow_below": low, "block_at": high}
    layers = [layer for layer in Layer if chance.random() < 0.8] or [chance.choice(list(Layer))]
    return Policy.from_json({"thresholds": thresholds, "layers": layers, "judge_min_confidence": chance.choice((0, 0.5, 0.7, 1))})


def as_row(result: ClassifierResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in RESULT_FIELDS if name != "exchange_id"}


def test_the_replay_equals_decide_on_every_row_of_random_data() -> None:
    chance = random.Random(7)
    cases = []
    for _ in range(2_000):
        results = [result for layer in Layer if (result := some_result(layer, chance))]
        cases.append((uuid.UUID(int=chance.getrandbits(128)), results))
    verdicts = [(key, "hold", "undecided", datetime(2026, 1, 1, tzinfo=UTC), 1) for key, _ in cases]
    packed = columns(verdicts, {key: {result.layer: as_row(result) for result in results} for key, results in cases})
    packed = unpack(pack(packed))
    seen = set()
    for _ in range(60):
        policy = some_policy(chance)
        steps, asks = replay(policy, packed)
        for (_, results), step, asked in zip(cases, steps.tolist(), asks.tolist(), strict=True):
            said = decide(policy, results)
            word = said.decision.value if isinstance(said, Verdict) else said.value
            assert STEPS[word] == step, (policy, results)
            without = decide(policy, [result for result in results if result.layer != Layer.JUDGE])
            assert asked == (without is Layer.JUDGE), (policy, results)
            seen.add((word, asked))
    assert len(seen) == 9  # each step that there is, and each decision both with the judge and without


@pytest.mark.parametrize("threshold", [0.0, 1e-7, 0.1, 0.119628, 0.948628, 0.9486280000000001, 0.3, 0.1 + 0.2, 1.0])
def test_a_score_of_six_decimals_is_compared_exactly(threshold: float) -> None:
    at = millionths(threshold)
    for near in range(max(0, at - 3), min(1_000_000, at + 3) + 1):
        assert (near / 1_000_000 >= threshold) == (near >= at)


def test_rows_of_two_models_join_without_mixing_their_labels() -> None:
    chance = random.Random(3)
    parts = []
    for labels in (LABELS[:3], LABELS[2:]):
        rows = {}
        for _ in range(40):
            result = ClassifierResult(
                True, "safe", "", 0.5, layer="finetuned", scores={label: round(chance.random(), 6) for label in labels}
            )
            rows[uuid.UUID(int=chance.getrandbits(128))] = {Layer.FINETUNED: as_row(result)}
        parts.append(columns([(key, "allow", labels[0], datetime(2026, 1, 1, tzinfo=UTC), 1) for key in rows], rows))
    joined = join(parts)
    policy = Policy.from_json(
        {"thresholds": {"default": {"block_at": 0.8, "allow_below": 0.4}}, "layers": ["finetuned", "judge"]}
    )
    apart = [step for part in parts for step in replay(policy, part)[0].tolist()]
    assert replay(policy, joined)[0].tolist() == apart
    assert [joined.categories[code] for code in joined.category] == [LABELS[0]] * 40 + [LABELS[2]] * 40


# --- Over stored verdicts -------------------------------------------------------------------------------------------------------
BEFORE = Policy.from_json(
    {"thresholds": {"default": {"block_at": 1, "allow_below": 1}, "unsafe": {"block_at": 0.9, "allow_below": 0.1}}}
)


def moved(block_at: float, allow_below: float, **more: Any) -> Policy:
    bounds = {"default": {"block_at": 1, "allow_below": 1}, "unsafe": {"block_at": block_at, "allow_below": allow_below}}
    return Policy.from_json({"thresholds": bounds, **more})


@pytest.fixture
def answers(db: None) -> list[Exchange]:
    """Four that the classifier scored 0.05, 0.3, 0.7 and 0.95; the judge was asked about the third."""
    made = []
    for number, (score, decision) in enumerate(((0.05, "allow"), (0.3, "hold"), (0.7, "block"), (0.95, "block"))):
        results = [ClassifierResult(True, "safe", "", 0.9, layer="rules"), scenes.finetuned(score, dangerous_dosage=score / 2)]
        if score == 0.7:
            results.append(scenes.judge("double it", "double", "harmful_medical:abrupt_stop"))
        category = "harmful_medical:abrupt_stop" if score == 0.7 else "undecided"
        item = scenes.item(str(number), "double it", results=results, decision=decision, category=category, kind="blocked")
        made.append(item.exchange)
    return made


def asked(before: Policy = BEFORE, after: Policy = BEFORE, *, judge: bool = True, days: int = 7) -> Any:
    return what_if(before=before, after=after, since=timezone.now() - timedelta(days=days), judge=judge)


@pytest.mark.parametrize("packed", [False, True])
def test_what_changes_is_told_with_category_and_example(answers: list[Exchange], packed: bool) -> None:
    if packed:
        assert score_blocks_update(now=timezone.now() + timedelta(hours=1)) == 4
    same = asked()
    assert (same.rows, same.changed) == (4, 0)
    lower = asked(after=moved(0.6, 0.02))
    assert lower.changes[Change.JUDGE] == {"harmful_medical:dangerous_dosage": 1}
    assert (lower.count(Change.BLOCKED), lower.count(Change.RELEASED)) == (0, 0)  # the judge had blocked the third already
    (example,) = lower.examples[Change.JUDGE]
    assert (example.exchange, example.before, example.after, example.p_unsafe) == (answers[0].pk, Step.ALLOW, Step.JUDGE, 0.05)
    looser = asked(after=moved(0.97, 0.8))
    assert looser.changes[Change.RELEASED] == {"harmful_medical:dangerous_dosage": 1, "harmful_medical:abrupt_stop": 1}
    assert looser.count(Change.JUDGE) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_scores_of_the_model_that_served_before_are_not_replayed(answers: list[Exchange], packed: bool) -> None:
    """They say nothing of thresholds that are another model's; and the page says so."""
    if packed:
        score_blocks_update(now=timezone.now() + timedelta(hours=1))
    activated = timezone.now()
    model = ModelVersion.objects.create(version="ft-new", stage="active", activated_at=activated - timedelta(days=3))
    found = asked()
    assert (found.rows, found.since, found.since_activation) == (4, model.activated_at, True)
    assert assumptions(found)[0].startswith("Counted since the model that serves was activated, ")
    shorter = asked(days=1)
    assert not shorter.since_activation
    assert not any("activated" in each for each in assumptions(shorter))
    ModelVersion.objects.update(activated_at=activated)
    assert (asked().rows, asked().since) == (0, activated)


def test_without_a_judge_what_would_go_to_it_is_held(answers: list[Exchange]) -> None:
    found = asked(after=moved(0.9, 0.02), judge=False)
    assert (found.count(Change.JUDGE), found.count(Change.HELD)) == (0, 1)
    assert found.after.asks == 0


def test_cost_and_queue_are_told_by_the_day_with_what_they_rest_on(answers: list[Exchange]) -> None:
    found = asked(after=moved(0.9, 0.02), days=2)
    assert (found.judged, found.judge_stop_share) == (1, 1.0)
    assert found.judge_usd_per_day(found.before) == pytest.approx(2 * 0.0004 / 2, rel=1e-4)
    assert found.judge_usd_per_day(found.after) == pytest.approx(3 * 0.0004 / 2, rel=1e-4)
    sure, expected = found.queue_per_day(found.after)
    assert (sure, expected) == (pytest.approx(1, rel=1e-4), pytest.approx(2, rel=1e-4))
    assert found.histograms["unsafe"].sum() == 4


def test_what_a_layer_would_say_of_what_it_never_saw_is_not_known(db: None) -> None:
    scenes.item(results=[scenes.rules("Just double your dose tonight; up to 8 grams a day is fine.")])
    found = asked(after=moved(0.9, 0.1, layers=["finetuned", "judge"]))
    assert (found.unknown, found.changed) == (1, 0)
    assert found.after.steps[Step.FINETUNED] == 1
