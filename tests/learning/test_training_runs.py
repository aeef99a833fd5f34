"""Labels go out, a run turns them into a candidate, and how a run ended is always recorded."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from classifiers.encoder.bundle import build_bundle
from classifiers.examples import InvalidExample
from classifiers.finetuned import PharmacySafetyClassifier
from guardreview.core.models import App, AuditEvent, User
from guardreview.learning import exports, tasks, training_runs
from guardreview.learning.models import TrainingRun
from guardreview.review.models import Label, Review
from guardreview.verdicts.models import Exchange, ModelVersion, ReviewItem, Verdict
from guardreview.verdicts.services import policy_create


@pytest.fixture
def lead(db: None) -> User:
    return User.objects.create_user("lead", role="lead")


@pytest.fixture
def app(db: None) -> App:
    return App.objects.create(name="chat")


def settle(app: App, reviewer: User, response: str, value: str = "unsafe") -> Label:
    policy = policy_create(actor=None, thresholds={"default": {"block_at": 0.9, "allow_below": 0.3}})
    exchange = Exchange.objects.create(app=app, query="=1+1", response=response, status="decided", body_digest="-")
    Verdict.objects.create(
        exchange=exchange, decision="block", category="misinformation", reason="r", confidence=0.9, policy=policy, latency_ms=1
    )
    item = ReviewItem.objects.create(
        exchange=exchange, kind="blocked", status="decided", severity="major", category="misinformation", due_at=timezone.now()
    )
    found: dict[str, Any] = {"categories": ["misinformation", "pii"], "severity": "major"} if value == "unsafe" else {}
    review = Review.objects.create(item=item, reviewer=reviewer, truth=value, confirms=value == "unsafe", **found)
    return Label.objects.create(exchange=exchange, review=review, value=value, **found)


def test_jsonl_has_one_row_per_label(app: App, lead: User) -> None:
    settle(app, lead, 'Line one,\n"two" ✓')
    settle(app, lead, "Fine.", "safe")
    rows = [json.loads(line) for line in exports.labels_export(format="jsonl", actor="lead")]
    assert [(row["label"], row["response"]) for row in rows] == [("unsafe", 'Line one,\n"two" ✓'), ("safe", "Fine.")]
    assert AuditEvent.objects.get(action="labels.export").data == {"format": "jsonl", "count": 2}


def test_csv_reads_back_and_runs_no_formula(app: App, lead: User) -> None:
    settle(app, lead, 'Line one,\n"two" ✓')
    text = "".join(exports.labels_export(format="csv", actor="lead"))
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["response"], row["categories"], row["query"]) == ('Line one,\n"two" ✓', "misinformation;pii", "'=1+1")


def test_a_csv_without_labels_has_its_header(db: None) -> None:
    (header,) = exports.labels_export(format="csv", actor="lead")
    assert header.startswith("id,query,response,label,")


def test_an_app_exports_its_own_alone(app: App, lead: User) -> None:
    settle(app, lead, "mine")
    settle(App.objects.create(name="other"), lead, "theirs")
    rows = [json.loads(line) for line in exports.labels_export(format="jsonl", actor="lead", app=app)]
    assert [row["response"] for row in rows] == ["mine"]


def test_the_command_writes_a_private_file_whole(app: App, lead: User, tmp_path: Path) -> None:
    settle(app, lead, "Fine.", "safe")
    target = tmp_path / "labels.jsonl"
    call_command("export_labels", output=target)
    assert json.loads(target.read_text())["label"] == "safe"
    assert target.stat().st_mode & 0o077 == 0
    with pytest.raises(CommandError, match="no app named"):
        call_command("export_labels", app="nobody")


def rows_of(count: int, label: str) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {"categories": ["misinformation"], "severity": "major"} if label == "unsafe" else {"categories": []}
    for number in range(count):
        yield {"id": f"{label}{number}", "query": "Is it true?", "response": f"Statement {number}.", "label": label, **found}


def test_equal_texts_share_a_group() -> None:
    (first, *_), (second, *_) = (training_runs.label_examples(rows_of(3, label)) for label in ("safe", "unsafe"))
    assert first.group == second.group


def test_a_row_that_cannot_be_trained_on_is_named() -> None:
    rows = [*rows_of(2, "safe"), {"id": "x", "response": "y", "label": "perhaps"}]
    with pytest.raises(InvalidExample, match="label 3"):
        training_runs.label_examples(rows)


def test_labels_make_a_candidate_whose_bundle_serves(db: None, serving_models: Path) -> None:
    model = training_runs.labels_train(rows=rows_of(40, "unsafe"), actor=None, progress=lambda line: None)
    assert (model.stage, model.labels_used) == ("candidate", 40)
    assert set(model.metrics["auc"]) == {"train", "validation", "calibration", "test"}
    shipped = PharmacySafetyClassifier(build_bundle(serving_models))
    candidate = PharmacySafetyClassifier(serving_models / model.version)
    text, query = "Statement 500.", "Is it true?"
    assert candidate.classify(text, query).scores["unsafe"] > shipped.classify(text, query).scores["unsafe"]


def test_a_requested_run_is_enqueued_once_and_recorded(
    lead: User, serving_models: Path, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(tasks.train, "delay", sent.append)
    with django_capture_on_commit_callbacks(execute=True):
        run = training_runs.training_request(actor=lead)
    assert sent == [run.pk]
    with pytest.raises(training_runs.TrainingBusy):
        training_runs.training_request(actor=lead)
    training_runs.training_run(run_id=run.pk)
    run.refresh_from_db()
    assert (run.status, run.error) == ("succeeded", "")
    assert run.model_version == ModelVersion.objects.get()
    training_runs.training_run(run_id=run.pk)  # a second delivery
    assert ModelVersion.objects.count() == 1


def test_a_failed_run_says_why_and_frees_the_way(
    lead: User, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    monkeypatch.setattr(tasks.train, "delay", lambda run_id: None)
    run = training_runs.training_request(actor=lead)

    def fail(**kwargs: Any) -> None:
        raise RuntimeError("no space left on device")

    monkeypatch.setattr(training_runs, "labels_train", fail)
    training_runs.training_run(run_id=run.pk)
    run.refresh_from_db()
    assert (run.status, run.error) == ("failed", "RuntimeError: no space left on device")
    training_runs.training_request(actor=lead)


def test_a_run_that_cannot_be_enqueued_says_so(
    lead: User, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    def unreachable(run_id: int) -> None:
        raise tasks.train.OperationalError

    monkeypatch.setattr(tasks.train, "delay", unreachable)
    with django_capture_on_commit_callbacks(execute=True):
        run = training_runs.training_request(actor=lead)
    run.refresh_from_db()
    assert (run.status, run.error) == ("failed", "the task queue could not be reached; try again")


def test_a_run_that_lost_its_worker_does_not_block_the_next(lead: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.train, "delay", lambda run_id: None)
    lost = training_runs.training_request(actor=lead)
    TrainingRun.objects.update(status="running", started_at=timezone.now() - timedelta(hours=1))
    training_runs.training_request(actor=lead)
    lost.refresh_from_db()
    assert (lost.status, lost.error) == ("failed", "lost its worker")
