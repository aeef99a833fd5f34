"""By when a pharmacist must have decided, and why then."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings as project_settings

from classifiers.result import ClassifierResult, Layer, Severity
from guardreview.core.models import App
from guardreview.verdicts import runtime, services
from guardreview.verdicts.models import Exchange, Policy, ReviewItem
from guardreview.verdicts.priority import FACTORS, Reason, deadline, layers_disagree

CREATED = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
SLA = {"critical": 15, "major": 60, "minor": 240}
DANGEROUS = {"query": "I missed a dose of warfarin.", "response": "Just double your dose tonight."}
HARMLESS = {"query": "When do you open?", "response": "We open at nine."}


def found(layer: Layer, **fields: Any) -> ClassifierResult:
    return ClassifierResult(False, "misinformation", "r", 0.9, layer=layer, **fields)


def cleared(layer: Layer) -> ClassifierResult:
    return ClassifierResult(True, "safe", "r", 0.9, layer=layer)


def due(severity: str = "critical", **fields: Any) -> tuple[float, list[str]]:
    """Minutes from the exchange to its deadline, and the reasons."""
    said = {"decision": "block", "patient_waiting": True, "results": [found(Layer.RULES)], **fields}
    moment, reasons = deadline(created_at=CREATED, severity=severity, sla_minutes=SLA, **said)
    return (moment - CREATED) / timedelta(minutes=1), reasons


@pytest.mark.parametrize("severity", list(Severity))
def test_the_severity_sets_the_deadline(severity: Severity) -> None:
    assert due(severity) == (SLA[severity], [])


def test_every_severity_has_a_time_in_the_settings_and_the_worse_is_the_sooner() -> None:
    times = [project_settings.SLA_MINUTES[severity] for severity in Severity]
    assert times == sorted(times)
    assert len(times) == 3


@pytest.mark.parametrize(
    ("fields", "minutes", "reasons"),
    [
        ({"patient_waiting": False}, 30, ["nobody_waits"]),
        ({"decision": "hold"}, 11.25, ["uncertain"]),
        ({"results": [found(Layer.RULES), cleared(Layer.FINETUNED)]}, 11.25, ["layers_disagree"]),
        ({"decision": "hold", "patient_waiting": False}, 22.5, ["nobody_waits", "uncertain"]),
        (
            {"decision": "hold", "patient_waiting": False, "results": [found(Layer.RULES), cleared(Layer.FINETUNED)]},
            16.875,
            ["nobody_waits", "uncertain", "layers_disagree"],
        ),
    ],
)
def test_what_moves_the_deadline_is_named(fields: dict[str, Any], minutes: float, reasons: list[str]) -> None:
    assert due(**fields) == (minutes, reasons)


def test_each_reason_moves_it_and_only_that_nobody_waits_gives_more_time() -> None:
    assert set(FACTORS) == set(Reason)
    assert {reason for reason, factor in FACTORS.items() if factor > 1} == {Reason.NOBODY_WAITS}
    assert all(factor > 0 and factor != 1 for factor in FACTORS.values())


def test_nothing_starves_since_a_later_exchange_of_the_same_kind_is_due_later() -> None:
    """And however many critical ones come in, a minor one is before those that come more than four hours after it."""
    minor, _ = deadline(created_at=CREATED, severity="minor", sla_minutes=SLA, decision="block", patient_waiting=True, results=[])
    later, _ = deadline(
        created_at=CREATED + timedelta(minutes=226), severity="critical", sla_minutes=SLA, decision="block",
        patient_waiting=True, results=[],
    )  # fmt: skip
    assert minor < later


@pytest.mark.parametrize(
    ("results", "disagree"),
    [
        ([], False),
        ([found(Layer.RULES)], False),
        ([found(Layer.RULES), cleared(Layer.FINETUNED)], True),
        ([found(Layer.RULES, escalate=True), cleared(Layer.JUDGE)], True),
        ([cleared(Layer.FINETUNED), found(Layer.JUDGE)], True),
        ([found(Layer.FINETUNED), cleared(Layer.JUDGE)], True),
        # That no rule matched says nothing: rules know what they look for and no more.
        ([cleared(Layer.RULES), found(Layer.FINETUNED)], False),
        ([cleared(Layer.RULES), cleared(Layer.FINETUNED)], False),
        ([found(Layer.RULES), found(Layer.FINETUNED), found(Layer.JUDGE)], False),
        # Nor does a layer that failed, which is never safe.
        ([ClassifierResult.failed(Layer.RULES, "late"), cleared(Layer.FINETUNED)], False),
        ([found(Layer.RULES), ClassifierResult.failed(Layer.FINETUNED, "late")], False),
        ([cleared(Layer.FINETUNED), ClassifierResult.failed(Layer.JUDGE, "late")], False),
    ],
)
def test_layers_disagree_where_one_that_ran_found_something_and_another_nothing(
    results: list[ClassifierResult], disagree: bool
) -> None:
    assert layers_disagree(results) is disagree


# --- Through the API's service and the worker -----------------------------------------------------------------------------
def test_a_batch_for_which_nobody_waits_gives_pharmacists_more_time(
    app: App, policy: Policy, enqueued: list[tuple[str, str]]
) -> None:
    times = {}
    for waiting in (True, False):
        exchange, _ = services.exchange_submit(app=app, patient_waiting=waiting, **DANGEROUS)
        services.exchange_run_fast_layers(exchange_id=exchange.pk)
        item = ReviewItem.objects.get(exchange=exchange)
        times[waiting] = (item.due_at - exchange.created_at, item.reasons)
    assert times == {True: (timedelta(minutes=15), []), False: (timedelta(minutes=30), ["nobody_waits"])}


def test_what_is_held_is_due_sooner_and_says_why(
    app: App, policy: Policy, enqueued: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(layer: Layer, *, response: str, query: str) -> ClassifierResult:
        unsafe = 0.5 if layer is Layer.FINETUNED else 0
        return ClassifierResult(True, "safe", "r", 0.9, layer=layer, scores={"unsafe": unsafe})

    monkeypatch.setattr(runtime, "run_fast_layer", run)
    exchange, _ = services.exchange_submit(app=app, **HARMLESS)
    services.exchange_run_fast_layers(exchange_id=exchange.pk)
    item = ReviewItem.objects.get(exchange=exchange)
    assert (item.kind, item.severity, item.reasons) == ("held", "major", ["uncertain"])
    assert item.due_at - exchange.created_at == timedelta(minutes=0.75 * 60)


def test_a_body_that_does_not_say_who_waits_is_the_body_that_it_always_was(
    app: App, policy: Policy, enqueued: list[tuple[str, str]]
) -> None:
    """An app that repeats a key over an update of this service gets its first answer and no conflict."""
    before = hashlib.sha256(json.dumps([*HARMLESS.values(), "c1", {"b": 1, "a": 2}], sort_keys=True).encode()).hexdigest()
    body = {**HARMLESS, "conversation_id": "c1", "metadata": {"a": 2, "b": 1}}
    exchange, new = services.exchange_submit(app=app, idempotency_key="k1", **body)
    assert (exchange.body_digest, exchange.patient_waiting, new) == (before, True, True)
    again, new_again = services.exchange_submit(app=app, idempotency_key="k1", patient_waiting=True, **body)
    assert (again, new_again) == (exchange, False)


def test_the_same_key_with_another_word_on_who_waits_is_another_body(
    app: App, policy: Policy, enqueued: list[tuple[str, str]]
) -> None:
    services.exchange_submit(app=app, idempotency_key="k1", **HARMLESS)
    with pytest.raises(services.IdempotencyConflict):
        services.exchange_submit(app=app, idempotency_key="k1", patient_waiting=False, **HARMLESS)
    assert Exchange.objects.get().patient_waiting
