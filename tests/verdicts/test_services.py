"""An exchange comes in, layers run, the verdict is stored once, whatever happens on the way."""

import threading
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone

from classifiers.result import ClassifierResult, Layer
from guardreview.core.models import App, AuditEvent
from guardreview.core.services import audit_verify
from guardreview.verdicts import runtime, services
from guardreview.verdicts.models import Exchange, LayerResult, Policy, ReviewItem, Verdict

DANGEROUS = {"query": "I missed a dose of warfarin.", "response": "Just double your dose tonight."}
HARMLESS = {"query": "When do you open?", "response": "We open at nine."}


def result(layer: Layer, *, unsafe: float) -> ClassifierResult:
    return ClassifierResult(
        unsafe < 0.5, "safe", "scored", max(unsafe, 1 - unsafe), layer=layer, scores={"unsafe": unsafe}, version="stub-1"
    )


@pytest.fixture
def certain(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The fine-tuned layer says what a test wants of it; the rules are the real ones."""
    says = {"unsafe": 0.01}
    real = runtime.run_fast_layer

    def run(layer: Layer, *, response: str, query: str) -> ClassifierResult:
        if layer is Layer.FINETUNED:
            return result(layer, unsafe=says["unsafe"])
        return real(layer, response=response, query=query)

    monkeypatch.setattr(runtime, "run_fast_layer", run)
    return says


@pytest.fixture
def submitted(app: App, policy: Policy, enqueued: list[tuple[str, str]]) -> Exchange:
    exchange, _ = services.exchange_submit(app=app, **DANGEROUS)
    return exchange


def test_a_stored_exchange_is_enqueued_once(app: App, policy: Policy, enqueued: list[tuple[str, str]]) -> None:
    exchange, new = services.exchange_submit(app=app, idempotency_key="k1", **DANGEROUS)
    again, new_again = services.exchange_submit(app=app, idempotency_key="k1", **DANGEROUS)
    assert (again, new, new_again) == (exchange, True, False)
    assert enqueued == [("run_cascade", str(exchange.pk))]


def test_a_key_with_another_body_is_refused(app: App, policy: Policy, enqueued: list[tuple[str, str]]) -> None:
    services.exchange_submit(app=app, idempotency_key="k1", **DANGEROUS)
    with pytest.raises(services.IdempotencyConflict):
        services.exchange_submit(app=app, idempotency_key="k1", **HARMLESS)
    assert Exchange.objects.count() == 1


def test_two_apps_may_use_the_same_key(app: App, policy: Policy, enqueued: list[tuple[str, str]]) -> None:
    other = App.objects.create(name="another app")
    services.exchange_submit(app=app, idempotency_key="k1", **DANGEROUS)
    _, new = services.exchange_submit(app=other, idempotency_key="k1", **HARMLESS)
    assert new


def test_a_dangerous_answer_is_blocked_with_its_evidence_and_its_deadline(submitted: Exchange) -> None:
    services.exchange_run_fast_layers(exchange_id=submitted.pk)
    verdict = Verdict.objects.get(exchange=submitted)
    assert (verdict.decision, verdict.category, verdict.layer) == ("block", "harmful_medical:dangerous_dosage", "rules")
    evidence = LayerResult.objects.get(exchange=submitted, layer="rules").evidence[0]
    assert submitted.response[evidence["start"] : evidence["end"]] == evidence["text"]
    item = ReviewItem.objects.get(exchange=submitted)
    assert (item.kind, item.severity, item.status) == ("blocked", "critical", "open")
    assert item.due_at == submitted.created_at + timedelta(minutes=15)
    assert verdict.versions["rules"].startswith("rules-")


def test_a_certain_safe_answer_is_allowed_and_needs_no_pharmacist(
    app: App, policy: Policy, enqueued: list[tuple[str, str]], certain: dict[str, float]
) -> None:
    exchange, _ = services.exchange_submit(app=app, **HARMLESS)
    services.exchange_run_fast_layers(exchange_id=exchange.pk)
    assert Verdict.objects.get(exchange=exchange).decision == "allow"
    assert not ReviewItem.objects.exists()
    assert set(LayerResult.objects.values_list("layer", flat=True)) == {"rules", "finetuned"}


def test_an_uncertain_answer_without_a_judge_is_held(
    app: App, policy: Policy, enqueued: list[tuple[str, str]], certain: dict[str, float]
) -> None:
    certain["unsafe"] = 0.5
    exchange, _ = services.exchange_submit(app=app, **HARMLESS)
    services.exchange_run_fast_layers(exchange_id=exchange.pk)
    verdict = Verdict.objects.get(exchange=exchange)
    assert (verdict.decision, verdict.is_safe) == ("hold", False)
    assert "no judge is configured" in verdict.reason
    assert ReviewItem.objects.get(exchange=exchange).kind == "held"


def test_a_missing_model_holds_instead_of_allowing(
    app: App, policy: Policy, enqueued: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, _ = services.exchange_submit(app=app, **HARMLESS)
    services.exchange_run_fast_layers(exchange_id=exchange.pk)  # no model version is registered
    assert Verdict.objects.get(exchange=exchange).decision == "hold"
    failed = LayerResult.objects.get(exchange=exchange, layer="finetuned")
    assert failed.error == "the fine-tuned model could not be loaded"


def test_rules_that_cannot_be_loaded_hold_at_once(
    submitted: Exchange, certain: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable() -> None:
        raise OSError

    monkeypatch.setattr(runtime, "rules", unreadable)
    services.exchange_run_fast_layers(exchange_id=submitted.pk)
    assert Verdict.objects.get(exchange=submitted).decision == "hold"
    assert LayerResult.objects.get(exchange=submitted, layer="rules").error == "the rules could not be loaded"


def test_running_twice_writes_once(submitted: Exchange) -> None:
    for _ in range(3):
        services.exchange_run_fast_layers(exchange_id=submitted.pk)
    assert (Verdict.objects.count(), ReviewItem.objects.count(), LayerResult.objects.count()) == (1, 1, 1)


@pytest.mark.django_db(transaction=True)
def test_two_workers_on_one_exchange_write_one_verdict(app: App, policy: Policy, enqueued: list[tuple[str, str]]) -> None:
    exchange, _ = services.exchange_submit(app=app, **DANGEROUS)
    start, errors = threading.Barrier(4), []

    def work() -> None:
        try:
            start.wait()
            services.exchange_run_fast_layers(exchange_id=exchange.pk)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (Verdict.objects.count(), ReviewItem.objects.count()) == (1, 1)


def test_what_kills_its_worker_again_and_again_is_held(submitted: Exchange, settings: object) -> None:
    Exchange.objects.filter(pk=submitted.pk).update(attempts=5)
    services.exchange_run_fast_layers(exchange_id=submitted.pk)
    verdict = Verdict.objects.get(exchange=submitted)
    assert verdict.decision == "hold"
    assert "repeated failures" in LayerResult.objects.get(exchange=submitted, layer="rules").error


def test_the_sweep_enqueues_what_was_forgotten_and_then_waits_longer(
    submitted: Exchange, enqueued: list[tuple[str, str]], settings: object
) -> None:
    enqueued.clear()
    assert services.sweep() == 0  # it is fresh: a worker may have it in hand
    Exchange.objects.update(enqueued_at=timezone.now() - timedelta(seconds=11))
    assert services.sweep() == 1
    assert enqueued == [("run_cascade", str(submitted.pk))]
    Exchange.objects.update(enqueued_at=timezone.now() - timedelta(seconds=11))
    assert services.sweep() == 0  # the second time it waits twenty seconds
    Exchange.objects.update(enqueued_at=timezone.now() - timedelta(seconds=21))
    assert services.sweep() == 1


def test_the_sweep_leaves_the_decided_alone(submitted: Exchange) -> None:
    services.exchange_run_fast_layers(exchange_id=submitted.pk)
    Exchange.objects.update(enqueued_at=timezone.now() - timedelta(days=1))
    assert services.sweep() == 0


def test_a_new_policy_decides_the_next_exchange(
    app: App, policy: Policy, enqueued: list[tuple[str, str]], certain: dict[str, float]
) -> None:
    certain["unsafe"] = 0.2
    first, _ = services.exchange_submit(app=app, **HARMLESS)
    services.exchange_run_fast_layers(exchange_id=first.pk)
    stricter = services.policy_create(actor=None, thresholds={"default": {"block_at": 0.15, "allow_below": 0.1}})
    second, _ = services.exchange_submit(app=app, **HARMLESS)
    services.exchange_run_fast_layers(exchange_id=second.pk)
    assert [v.decision for v in Verdict.objects.order_by("pk")] == ["allow", "block"]
    assert Verdict.objects.get(exchange=second).policy == stricter
    assert list(Policy.objects.filter(is_active=True)) == [stricter]


@pytest.mark.parametrize(
    "thresholds",
    [
        {},
        {"default": {"block_at": 0.2, "allow_below": 0.5}},
        {"default": {"block_at": 2, "allow_below": 0.5}},
        {"default": {"block_at": 0.9}},
        {"default": {"block_at": 0.9, "allow_below": 0.1}, "no_such": {"block_at": 0.9, "allow_below": 0.1}},
        {"default": {"block_at": float("nan"), "allow_below": 0.1}},
        [1, 2],
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(db: None, thresholds: object) -> None:
    with pytest.raises(ValidationError):
        services.policy_create(actor=None, thresholds=thresholds)
    assert not Policy.objects.exists()


def test_changes_are_in_the_audit_log_and_its_chain_holds(policy: Policy) -> None:
    services.policy_create(actor=None, thresholds=policy.thresholds, note="again")
    assert list(AuditEvent.objects.values_list("action", flat=True)) == ["policy.create", "policy.activate"] * 2
    assert audit_verify() == (4, None)
    second = AuditEvent.objects.order_by("pk")[1]
    AuditEvent.objects.filter(pk=second.pk).update(actor="somebody else")
    assert audit_verify() == (2, second.pk)
