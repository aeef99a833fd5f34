"""`manage.py tune`: a certificate, or a refusal with the number that is missing; curves and figures in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from classifiers.examples import load_corpus, split_of
from classifiers.policy import UNSAFE, Policy
from guardreview.learning.management.commands.tune import _labels
from guardreview.verdicts import models
from guardreview.verdicts.services import policy_create


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Labelled rows with a critical group each, as an export has them: from the pool, which nothing was trained on."""
    pool = [e for e in load_corpus() if split_of(e.group) == "pool" and len(e.response) < 200][:260]
    path = tmp_path / "labels.jsonl"
    rows = [
        {
            "id": e.id,
            "query": e.query,
            "response": e.response,
            "label": "unsafe" if e.unsafe else "safe",
            "categories": list(e.categories),
            "severity": e.severity,
        }
        for e in pool
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def tune(capsys: pytest.CaptureFixture[str], folder: Path, **options: Any) -> tuple[str, dict[str, Any]]:
    call_command("tune", output=folder, **options)
    return capsys.readouterr().out, json.loads((folder / "tuning.json").read_text(encoding="utf-8"))


def test_thresholds_are_certified_and_drawn(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, report = tune(capsys, tmp_path / "out", labels=labels)
    assert "with 95% confidence (Clopper-Pearson" in said
    certificate = report["certificate"]
    assert certificate["n"] >= 59
    assert certificate["misses"] <= 0.05 * certificate["n"]
    assert Policy.from_json(report["policy"]).threshold(UNSAFE).allow_below == certificate["allow_below"]
    assert (tmp_path / "out" / "curves.html").stat().st_size > 10_000
    assert (tmp_path / "out" / "curves.png").exists()


def test_a_stricter_promise_is_refused_with_what_is_missing(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, report = tune(capsys, tmp_path / "out", labels=labels, alpha=0.001)
    assert "refused" in said
    assert report["certificate"]["missing"] > 2000
    assert report["policy"]["thresholds"][UNSAFE]["allow_below"] == 0.0


def test_a_policy_is_stored_and_not_activated(
    db: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration = [e for e in load_corpus() if split_of(e.group) == "calibration" and len(e.response) < 200][:300]
    monkeypatch.setattr("guardreview.learning.management.commands.tune._calibration", lambda: calibration)
    shipped = Policy.shipped().as_json()
    shipped.pop("version")
    serving = policy_create(actor=None, **{**shipped, "learning_share": 0.1, "judge_model": "another"})
    _, report = tune(capsys, tmp_path / "out", create_policy=True)
    (policy,) = models.Policy.objects.exclude(pk=serving.pk)
    assert not policy.is_active
    assert (policy.learning_share, policy.judge_model) == (0.1, "another")
    assert policy.as_cascade_policy().threshold(UNSAFE).allow_below == report["certificate"]["allow_below"]


def test_no_policy_rests_on_labels_alone(labels: Path, tmp_path: Path) -> None:
    """They are of what was stopped: a response that was allowed is not among them."""
    with pytest.raises(CommandError, match="stopped"):
        call_command("tune", labels=labels, create_policy=True, output=tmp_path / "out")


def test_labels_that_were_sampled_count_by_their_probability(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in labels.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        row["inclusion_probability"] = 0.5 if number % 2 else 1.0
    labels.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    said, report = tune(capsys, tmp_path / "out", labels=labels, smallest_probability=0.25)
    assert report["method"].startswith("Hoeffding")
    assert "where only stopped ones do" in said


def test_labels_without_a_sampling_weight_are_left_out(tmp_path: Path) -> None:
    rows = [
        {"id": n, "response": f"{n}", "label": "safe", "inclusion_probability": p, "sampling_weight": w}
        for n, (p, w) in enumerate(((0.25, 4), (0.625, None)))
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert [example.weight for example in _labels(path)] == [4]


@pytest.mark.parametrize(
    ("probabilities", "options", "complaint"),
    [
        ([0.5, 1.0], {}, "--smallest-probability.*may be missing"),
        ([0.5, 1.0], {"smallest_probability": 0.6}, "less than 0.6"),
        ([0.5, 1.0], {"smallest_probability": 0.0}, "above 0 and at most 1"),
        ([0.5, 0.0], {}, "above 0 and at most 1"),
        ([0.5, 1.5], {}, "above 0 and at most 1"),
        ([0.5, "rarely"], {}, "above 0 and at most 1"),
    ],
)
def test_a_sampling_that_nobody_knows_is_refused(
    tmp_path: Path, probabilities: list[Any], options: dict[str, float], complaint: str
) -> None:
    path = tmp_path / "labels.jsonl"
    rows = [{"id": n, "response": f"{n}", "label": "safe", "inclusion_probability": p} for n, p in enumerate(probabilities)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(CommandError, match=complaint):
        call_command("tune", labels=path, output=tmp_path / "out", **options)


@pytest.mark.parametrize("content", ["{", '{"label": "safe"}', '{"response": "a", "label": "safe", "id": 1}'])
def test_what_cannot_be_tuned_on_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CommandError):
        call_command("tune", labels=path, output=tmp_path / "out")
    with pytest.raises(CommandError, match="cannot read"):
        call_command("tune", labels=tmp_path / "missing.jsonl", output=tmp_path / "out")
