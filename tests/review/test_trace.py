"""The trace says of each layer what `decide` made of it, under the policy of then."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.combined import decide
from classifiers.policy import Policy as CascadePolicy
from classifiers.result import ClassifierResult, Layer, Verdict
from guardreview.review.trace import LayerTrace, trace
from guardreview.verdicts.models import LayerResult, Policy
from guardreview.verdicts.models import Verdict as StoredVerdict
from tests import scenes

CASCADE = CascadePolicy.from_json({"thresholds": scenes.THRESHOLDS})


def said(layer: LayerTrace) -> str:
    return "".join(piece.text for piece in layer.headline)


def traced(*results: ClassifierResult, layers: list[str] | None = None, decided_by: str = "") -> list[LayerTrace]:
    policy = Policy(pk=1, thresholds=scenes.THRESHOLDS, layers=layers or [layer.value for layer in Layer])
    verdict = StoredVerdict(policy=policy, decision="block" if decided_by else "hold", layer=decided_by)
    rows = [LayerResult(**{**result.as_json(), "severity": ""}) for result in results]
    return trace(verdict, rows, [])


CLEAR = ClassifierResult(True, "safe", "No harmful patterns detected", 0.7, layer="rules")
probability = st.floats(0, 1).map(lambda value: round(value, 4))


@given(probability, probability)
def test_the_plots_zones_are_what_decide_does(unsafe: float, dosage: float) -> None:
    result = scenes.finetuned(unsafe, dangerous_dosage=dosage)
    step = decide(CASCADE, [CLEAR, result])
    zones = {score.zone for score in traced(CLEAR, result)[1].scores}
    expected = step.decision.value if isinstance(step, Verdict) else "judge"
    shown = "block" if "block" in zones else "judge" if "judge" in zones else "allow"
    assert shown == expected


def test_a_score_is_plotted_against_the_thresholds_of_its_own_category() -> None:
    overall, dosage = traced(CLEAR, scenes.finetuned(0.5, dangerous_dosage=0.8))[1].scores
    assert (overall.label, overall.block_at, overall.allow_below, overall.zone) == ("Unsafe as a whole", "92.0", "10.0", "judge")
    assert (dosage.block_at, dosage.allow_below, dosage.at, dosage.zone) == ("80.0", "8.0", "80.0", "block")
    assert dosage.described == "Dangerous dosage: 0.80; blocked from 0.80, allowed below 0.08"


def test_layers_that_did_not_run_say_why() -> None:
    rules, model, judge = traced(CLEAR, decided_by="rules", layers=["rules", "finetuned"])
    assert (rules.state, rules.decided) == ("clear", True)
    assert (model.state, said(model)) == ("skipped", "Not asked: decided before")
    assert (judge.state, said(judge)) == ("skipped", "Switched off by the policy")


def test_a_failed_layer_says_why_and_decides_nothing() -> None:
    failed = traced(CLEAR, ClassifierResult.failed(Layer.JUDGE, "timed out after 10 s"))[2]
    assert (failed.state, said(failed), failed.scores, failed.decided) == ("failed", "Failed: timed out after 10 s", [], False)


@pytest.mark.parametrize(
    ("confidence", "state", "headline"),
    [(0.93, "found", "Unsafe, confidence 0.93"), (0.5, "unsure", "Unsafe, confidence 0.50: too low to count")],
)
def test_a_judges_word_counts_from_the_policys_confidence(confidence: float, state: str, headline: str) -> None:
    judged = traced(scenes.judge("Double it.", "Double", "misinformation", confidence))[2]
    assert (judged.state, said(judged), judged.scores[0].block_at) == (state, headline, "70.0")


def test_a_policy_of_another_version_leaves_the_scores_without_thresholds() -> None:
    policy = Policy(
        pk=1, thresholds={"default": {"block_at": 0.9, "allow_below": 0.1}, "gone": {"block_at": 1, "allow_below": 0}}
    )
    row = LayerResult(**{**scenes.finetuned(0.5).as_json(), "severity": ""})
    shown = trace(StoredVerdict(policy=policy, decision="hold"), [row], [])[1]
    assert (shown.scores[0].zone, shown.scores[0].block_at, shown.scores[0].value) == ("", "", "0.50")
