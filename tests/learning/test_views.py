"""The pages of labels and models: counts, downloads, retraining and activation."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from html import unescape
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client

from guardreview.core.models import AuditEvent, User
from guardreview.learning.models import TrainingRun
from guardreview.review.leases import item_lease
from guardreview.review.services import review_create
from guardreview.verdicts.models import ModelVersion
from tests import scenes

BACKEND = "django.contrib.auth.backends.ModelBackend"


def text_of(response: Any) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


@pytest.fixture
def people(db: None) -> dict[str, User]:
    return scenes.people()


@pytest.fixture
def lead(people: dict[str, User]) -> Client:
    client = Client()
    client.force_login(people["lea"], backend=BACKEND)
    return client


@pytest.fixture
def administrator(people: dict[str, User]) -> Client:
    client = Client()
    client.force_login(people["adam"], backend=BACKEND)
    return client


@pytest.fixture
def three_labels(people: dict[str, User]) -> None:
    """Two unsafe, one of them in two categories; one safe. One verdict overturned, one confirmed, one held answer settled."""
    harm = {"categories": ["misinformation"], "severity": "major"}
    both = {"categories": ["misinformation", "pii:ssn"], "severity": "critical"}
    for decision, truth, fields in (("block", "safe", {}), ("block", "unsafe", harm), ("hold", "unsafe", both)):
        held = item_lease(item=scenes.item("=1+1", "Yes,\nit is “fine”.", decision=decision), user=people["ana"])
        assert held.lease_token is not None
        review_create(item=held, reviewer=people["ana"], token=held.lease_token, truth=truth, **fields)  # type: ignore[arg-type]


@pytest.mark.usefixtures("three_labels")
def test_labels_are_counted_by_what_they_say(lead: Client) -> None:
    words = text_of(lead.get("/learning/labels"))
    assert "Labels 3 Unsafe 2 Safe 1 Verdicts confirmed 1 Verdicts overturned 1 Held answers settled 1" in words
    assert "Misinformation 2 Social security number 1" in words


def test_without_labels_there_is_nothing_to_download(lead: Client) -> None:
    response = lead.get("/learning/labels")
    assert "No labels yet" in text_of(response)
    assert b"download" not in response.content


@pytest.mark.usefixtures("three_labels")
def test_labels_leave_as_jsonl_and_csv_and_that_is_recorded(lead: Client) -> None:
    answers = {name: lead.get(f"/learning/labels/download?format={name}") for name in ("jsonl", "csv")}
    bodies = {name: b"".join(answer.streaming_content).decode() for name, answer in answers.items()}
    rows = [json.loads(line) for line in bodies["jsonl"].splitlines()]
    assert [row["label"] for row in rows] == ["safe", "unsafe", "unsafe"]
    table = list(csv.DictReader(io.StringIO(bodies["csv"], newline="")))
    assert [row["response"] for row in table] == ["Yes,\nit is “fine”."] * 3
    assert table[0]["query"] == "'=1+1"
    assert "ana" not in bodies["jsonl"]
    assert re.fullmatch(r'attachment; filename="labels-\d{8}-\d{4}\.csv"', answers["csv"].headers["Content-Disposition"])
    events = AuditEvent.objects.filter(action="labels.export")
    assert [(event.actor, event.data["format"], event.data["count"]) for event in events] == [
        ("lea", "jsonl", 3),
        ("lea", "csv", 3),
    ]


@pytest.mark.usefixtures("three_labels")
def test_a_download_is_streamed_under_asgi(people: dict[str, User]) -> None:
    async def read() -> tuple[bool, str]:
        client = AsyncClient()
        await client.aforce_login(people["lea"], backend=BACKEND)
        response = await client.get("/learning/labels/download?format=jsonl")
        return response.is_async, b"".join([chunk async for chunk in response.streaming_content]).decode()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        is_async, body = async_to_sync(read)()
    assert is_async
    assert len(body.splitlines()) == 3


def test_other_formats_are_refused(lead: Client) -> None:
    assert lead.get("/learning/labels/download?format=xlsx").status_code == 400
    assert not AuditEvent.objects.filter(action="labels.export").exists()


def test_models_are_shown_with_what_was_measured(lead: Client) -> None:
    active = scenes.model_versions()[1]
    active.metrics = {
        "auc": {"test": 0.9316},
        "block_at": 0.87,
        "certificate": {"allow_below": 0.0421, "alpha": 0.05, "confidence": 0.95, "n": 93, "misses": 1, "missing": 0},
        "test": {"critical_missed": {"k": 2, "n": 80, "rate": 0.025, "low": 0.003, "high": 0.0874}},
    }
    active.save()
    response = lead.get("/learning/models")
    words = text_of(response)
    first = words[words.index("ft-") :]
    assert first.startswith("ft-bbbbbbbbbbbb Active")
    assert "AUC 0.932" in first
    assert "Allowing below 0.042 misses at most 5 % of critical answers, with 95 % confidence (1 of 93 missed" in first
    assert "Critical answers missed 2.5 % 2 of 80, 95 % interval 0.3 % to 8.7 %" in first
    assert 'aria-label="Critical answers missed: 2.5 %, 95 % interval 0.3 % to 8.7 %"' in response.content.decode()
    assert "Retrain with" not in words
    assert "Activate" not in words


def test_the_policy_in_force_is_shown_by_what_its_thresholds_hold_for(lead: Client) -> None:
    scenes.policy()
    words = text_of(lead.get("/learning/models"))
    assert "Unsafe as a whole 0.100 0.920 Medical harm 0.080 0.800 Everything else 0.150 0.900" in words


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({}, "Registered without measurements."),
        ({"certificate": {"allow_below": 0.0, "alpha": 0.05, "confidence": 0.95, "n": 20, "misses": 0, "missing": 39}},
         "39 more unsafe examples are needed"),
        ({"test": {"safe_blocked": {"k": 0, "n": 0, "rate": None, "low": 0.0, "high": 1.0}}}, "none to measure"),
    ],
)  # fmt: skip
def test_what_was_not_measured_is_said(metrics: dict[str, Any], expected: str, lead: Client) -> None:
    ModelVersion.objects.create(version="ft-1", stage="active", metrics=metrics)
    assert expected in text_of(lead.get("/learning/models"))


@pytest.mark.usefixtures("three_labels")
def test_retraining_is_asked_for_once(
    administrator: Client, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    sent: list[int] = []
    monkeypatch.setattr("guardreview.learning.tasks.train.apply_async", lambda args, **options: sent.append(args[0]))
    assert "Retrain with 3 labels" in text_of(administrator.get("/learning/models"))
    assert "Retrain with 3 labels? A worker trains on the shipped corpus and on every settled label, 3 of them new" in text_of(
        administrator.get("/learning/training/new")
    )
    assert not TrainingRun.objects.exists()
    with django_capture_on_commit_callbacks(execute=True):
        response = administrator.post("/learning/training", follow=True)
    run = TrainingRun.objects.get()
    assert sent == [run.pk]
    assert f"Training {run.pk} is queued." in text_of(response)
    again = administrator.post("/learning/training", follow=True)
    assert f"Training {run.pk} is queued already." in text_of(again)


def test_a_run_under_way_is_followed_and_an_ended_one_is_not(lead: Client) -> None:
    run = TrainingRun.objects.create(status="running", progress="embedding 610 train examples")
    response = lead.get("/learning/training/runs")
    assert b'hx-trigger="every 3s"' in response.content
    assert "embedding 610 train examples" in text_of(response)
    TrainingRun.objects.filter(pk=run.pk).update(status="failed", error="lost its worker")
    response = lead.get("/learning/training/runs")
    assert b"hx-trigger" not in response.content
    assert "Failed Failed" not in text_of(response)
    assert "lost its worker" in text_of(response)
