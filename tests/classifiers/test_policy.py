"""Policies: what may be said, what is refused, and which threshold holds for a category."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.policy import SHIPPED_POLICY, THRESHOLD_KEYS, UNSAFE, InvalidPolicy, Policy, Threshold
from classifiers.result import CATEGORIES, Layer

DEFAULT = {"default": {"block_at": 0.9, "allow_below": 0.1}}
bounds = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda pair: Threshold(max(pair), min(pair)))


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(THRESHOLD_KEYS[1:]), bounds, max_size=5),
    bounds,
    st.sets(st.sampled_from(Layer), min_size=1),
    st.floats(0, 1),
)
def test_a_policy_comes_back_from_json_as_it_was(
    some: dict[str, Threshold], default: Threshold, layers: set[Layer], confidence: float
) -> None:
    policy = Policy({**some, "default": default}, tuple(layer for layer in Layer if layer in layers), confidence, "m", "v")
    assert Policy.from_json(json.loads(json.dumps(policy.as_json()))) == policy


def test_the_most_specific_threshold_holds() -> None:
    def only(value: float) -> Threshold:
        return Threshold(value, value)

    family, member = "harmful_medical", "harmful_medical:abrupt_stop"
    policy = Policy({"default": only(0.1), family: only(0.2), member: only(0.3), UNSAFE: only(0.4)})
    assert policy.threshold("harmful_medical:abrupt_stop") == only(0.3)
    assert policy.threshold("harmful_medical:dangerous_dosage") == only(0.2)
    assert policy.threshold("harmful_medical") == only(0.2)
    assert policy.threshold(UNSAFE) == only(0.4)
    assert policy.threshold("pii:ssn") == policy.threshold("of no family") == only(0.1)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"thresholds": {}}, "'default' is missing"),
        ({"thresholds": None}, "not a policy"),
        ({"thresholds": "default"}, "not a policy"),
        ({"thresholds": {"default": 0.5}}, "not a policy"),
        ({"thresholds": {"default": {"block_at": 0.5}}}, "not a policy"),
        ({"thresholds": {"default": {"block_at": 0.5, "allow_below": 0.1, "block": 1}}}, "not a policy"),
        ({"thresholds": {"default": {"block_at": 0.5, "allow_below": 0.6}}}, "may not exceed"),
        ({"thresholds": {"default": {"block_at": 1.5, "allow_below": 0.6}}}, "from 0 to 1"),
        ({"thresholds": {"default": {"block_at": math.nan, "allow_below": 0.6}}}, "from 0 to 1"),
        ({"thresholds": {"default": {"block_at": 0.5, "allow_below": -math.inf}}}, "from 0 to 1"),
        ({"thresholds": {"default": {"block_at": True, "allow_below": 0.1}}}, "from 0 to 1"),
        ({"thresholds": {"default": {"block_at": "0.9", "allow_below": 0.1}}}, "from 0 to 1"),
        ({"thresholds": {**DEFAULT, "no such category": DEFAULT["default"]}}, "unknown categories"),
        ({"layers": []}, "at least one"),
        ({"layers": ["judge", "rules"]}, "in that order"),
        ({"layers": ["rules", "rules"]}, "each once"),
        ({"layers": ["rules", "oracle"]}, "not a policy"),
        ({"layers": None}, "not a policy"),
        ({"judge_min_confidence": 1.1}, "judge_min_confidence"),
        ({"judge_min_confidence": math.nan}, "judge_min_confidence"),
        ({"judge_min_confidence": "high"}, "not a policy"),
    ],
)
def test_what_cannot_be_meant_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidPolicy, match=complaint):
        Policy.from_json({"thresholds": DEFAULT, **change})


def test_a_policy_cannot_be_changed() -> None:
    thresholds = {"default": Threshold(0.9, 0.1)}
    policy = Policy(thresholds)
    thresholds["default"] = Threshold(1.0, 1.0)
    assert policy.threshold(UNSAFE) == Threshold(0.9, 0.1)
    with pytest.raises(TypeError):
        policy.thresholds["default"] = Threshold(1.0, 1.0)  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        policy.version = "another"  # type: ignore[misc]


def test_layers_may_be_plain_names() -> None:
    policy = Policy({"default": Threshold(0.9, 0.1)}, layers=("rules", "judge"))  # type: ignore[arg-type]
    assert policy.layers == (Layer.RULES, Layer.JUDGE)
    assert all(isinstance(layer, Layer) for layer in policy.layers)


def test_the_shipped_policy_is_what_the_calibration_of_the_shipped_model_justifies() -> None:
    policy = Policy.shipped()
    metrics = json.loads((Path(SHIPPED_POLICY).parent / "metrics.json").read_text(encoding="utf-8"))
    certificate = metrics["certificate"]
    assert certificate["alpha"] <= 0.05
    assert certificate["confidence"] >= 0.95
    assert policy.threshold(UNSAFE) == Threshold(metrics["block_at"], certificate["allow_below"])
    assert policy.layers == tuple(Layer)
    assert {policy.threshold(category).allow_below for category in CATEGORIES} == {1.0}  # a category's score only names it
