"""Every write of `verdicts`: an exchange comes in, layers run, the verdict is stored once; policies and models change."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from classifiers.combined import decide
from classifiers.encoder.bundle import InvalidBundle
from classifiers.result import ClassifierResult, Decision, Layer, Severity
from classifiers.result import Verdict as CascadeVerdict
from guardreview.core.models import App, User
from guardreview.core.outbox import outbox_add
from guardreview.core.services import audit
from guardreview.verdicts import runtime
from guardreview.verdicts.learning_draw import allowed_probability
from guardreview.verdicts.models import Exchange, LayerResult, ModelVersion, Policy, ReviewItem, Verdict
from guardreview.verdicts.priority import deadline
from guardreview.verdicts.sampling import drawn
from guardreview.verdicts.waiting import announce

log = structlog.get_logger(__name__)


class IdempotencyConflict(Exception):
    """The idempotency key was used before, with another body."""


class QueueUnavailable(Exception):
    """The exchange is stored, but could not be enqueued; the sweep will. `exchange` is it."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__("the task queue is unavailable")
        self.exchange = exchange


def exchange_submit(
    *,
    app: App,
    query: str,
    response: str,
    conversation_id: str = "",
    metadata: dict[str, Any] | None = None,
    patient_waiting: bool = True,
    idempotency_key: str | None = None,
) -> tuple[Exchange, bool]:
    """Store an exchange and, once it is committed, enqueue it; (exchange, whether it is new).

    The same idempotency key with the same body gives the first exchange. Raises IdempotencyConflict, QueueUnavailable.
    """
    body = [query, response, conversation_id, metadata or {}, *([] if patient_waiting else [False])]
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    if idempotency_key and (earlier := _same_key(app, idempotency_key, digest)):
        return earlier, False
    try:
        with transaction.atomic():
            exchange = Exchange.objects.create(
                app=app,
                query=query,
                response=response,
                conversation_id=conversation_id,
                metadata=metadata or {},
                patient_waiting=patient_waiting,
                idempotency_key=idempotency_key or None,
                body_digest=digest,
            )
    except IntegrityError:  # the same key, at the same moment, in another process
        earlier = _same_key(app, idempotency_key or "", digest)
        if earlier is None:
            raise
        return earlier, False
    if not _enqueue(exchange.id, Exchange.Status.PENDING):
        raise QueueUnavailable(exchange)
    return exchange, True


def _same_key(app: App, idempotency_key: str, digest: str) -> Exchange | None:
    earlier = Exchange.objects.filter(app=app, idempotency_key=idempotency_key).first()
    if earlier is not None and earlier.body_digest != digest:
        raise IdempotencyConflict
    return earlier


def _enqueue(exchange_id: UUID, status: str) -> bool:
    """Hand a stored exchange to the workers; False if the broker cannot be reached."""
    from guardreview.verdicts.tasks import run_cascade, run_judge

    task = run_judge if status == Exchange.Status.JUDGING else run_cascade
    try:
        task.delay(str(exchange_id))
    except task.OperationalError as error:
        log.warning("enqueue_failed", exchange=str(exchange_id), error=type(error).__name__)
        return False
    return True


def exchange_run_fast_layers(*, exchange_id: UUID) -> None:
    """Run rules and fine-tuned classifier; store the verdict, or hand over to the judge. Safe to run again at any point."""
    exchange = _begin(exchange_id, Exchange.Status.PENDING)
    if exchange is None:
        return
    with runtime.serving() as policy:
        cascade_policy = policy.as_cascade_policy()
        results: list[ClassifierResult] = []
        if exchange.attempts > settings.MAX_ATTEMPTS:
            # Something in it kills workers. Nobody can decide it but a pharmacist.
            fast = [layer for layer in cascade_policy.layers if layer is not Layer.JUDGE]
            results = [ClassifierResult.failed(layer, "gave up after repeated failures of the worker") for layer in fast]
        step = decide(cascade_policy, results)
        while step in (Layer.RULES, Layer.FINETUNED):
            results.append(runtime.run_fast_layer(Layer(step), response=exchange.response, query=exchange.query))
            step = decide(cascade_policy, results)
    if step is Layer.JUDGE and not runtime.judge_is_configured():
        results.append(ClassifierResult.failed(Layer.JUDGE, "no judge is configured"))
        step = decide(cascade_policy, results)
    if isinstance(step, CascadeVerdict):
        _store_verdict(exchange, policy, step, new_results=results)
        return
    with transaction.atomic():
        claimed = Exchange.objects.filter(pk=exchange_id, status=Exchange.Status.PENDING).update(
            status=Exchange.Status.JUDGING, policy=policy, attempts=0, enqueued_at=timezone.now()
        )
        if claimed:
            _store_results(exchange, results)
    if claimed:
        _enqueue(exchange_id, Exchange.Status.JUDGING)


def exchange_run_judge(*, exchange_id: UUID) -> None:
    """Ask the judge about an exchange that the fast layers left uncertain, and store the verdict. Safe to run again."""
    exchange = _begin(exchange_id, Exchange.Status.JUDGING)
    if exchange is None or exchange.policy is None:
        return
    results = [layer_result_as_library(row) for row in exchange.layer_results.all()]
    if exchange.attempts > settings.MAX_ATTEMPTS:
        judged = ClassifierResult.failed(Layer.JUDGE, "gave up after repeated failures of the worker")
    elif not runtime.judge_is_configured():
        judged = ClassifierResult.failed(Layer.JUDGE, "no judge is configured")
    else:
        judge = runtime.judge(exchange.policy.judge_model, policy_version=str(exchange.policy))
        judged = asyncio.run(judge.judge(exchange.response, exchange.query))
    step = decide(exchange.policy.as_cascade_policy(), [*results, judged])
    if not isinstance(step, CascadeVerdict):
        raise TypeError(f"the judge has spoken, yet {step} should follow")
    _store_verdict(exchange, exchange.policy, step, new_results=[judged])


def _begin(exchange_id: UUID, status: str) -> Exchange | None:
    """Count the attempt before it is made, so that one that kills its worker is counted too. None: nothing to do."""
    if not Exchange.objects.filter(pk=exchange_id, status=status).update(attempts=F("attempts") + 1):
        return None
    return Exchange.objects.select_related("policy", "app").get(pk=exchange_id)


def _store_verdict(
    exchange: Exchange, policy: Policy, verdict: CascadeVerdict, *, new_results: Sequence[ClassifierResult]
) -> None:
    """In one short transaction: the verdict, its layer results and its review item. Only the first to come writes."""
    audit_rate = allowed_probability(policy, verdict.results) if verdict.decision is Decision.ALLOW else None
    with transaction.atomic():
        won = (
            Exchange.objects.filter(pk=exchange.pk)
            .exclude(status=Exchange.Status.DECIDED)
            .update(status=Exchange.Status.DECIDED, policy=policy)
        )
        if not won:
            return
        _store_results(exchange, new_results)
        Verdict.objects.create(
            exchange=exchange,
            decision=verdict.decision,
            category=verdict.category,
            categories=list(verdict.categories),
            severity=verdict.severity or "",
            reason=verdict.reason,
            confidence=verdict.confidence,
            layer=verdict.layer,
            policy=policy,
            versions={result.layer: result.version for result in verdict.results if result.version},
            latency_ms=verdict.latency_ms,
            cost_usd=verdict.cost_usd,
            audit_probability=audit_rate,
        )
        if audit_rate is None or drawn(audit_rate):
            _open_review_item(exchange, verdict, audit_rate)
    announce(exchange.pk)
    if verdict.decision is not Decision.ALLOW:
        log.warning(
            "response_blocked" if verdict.decision is Decision.BLOCK else "response_held",
            exchange=str(exchange.pk),
            category=verdict.category,
            confidence=round(verdict.confidence, 3),
            layer=verdict.layer,
        )


TO_EMBED = "review.embed"
"""The outbox's topic: an exchange whose embedding is to be kept, since it came before a pharmacist. The target is its key.

The event stays until the embedding is there.
"""
KIND_OF: Mapping[Decision, ReviewItem.Kind] = {
    Decision.ALLOW: ReviewItem.Kind.AUDIT,
    Decision.BLOCK: ReviewItem.Kind.BLOCKED,
    Decision.HOLD: ReviewItem.Kind.HELD,
}


def _open_review_item(exchange: Exchange, verdict: CascadeVerdict, audit_rate: float | None) -> None:
    """A pharmacist is to look at it. What is drawn for audit, and a share of what was blocked, is reviewed blind."""
    is_audit = verdict.decision is Decision.ALLOW
    severity = verdict.severity or (Severity.MINOR if is_audit else Severity.CRITICAL)
    blind = is_audit or (verdict.decision is Decision.BLOCK and drawn(settings.BLIND_SHARE))
    # Where a blind item stands in the queue must not tell what is hidden of it.
    due_at, reasons = deadline(
        created_at=exchange.created_at,
        severity=Severity.MAJOR if blind else severity,
        sla_minutes=settings.SLA_MINUTES,
        decision=Decision.BLOCK if blind else verdict.decision,
        patient_waiting=exchange.patient_waiting,
        results=() if blind else verdict.results,
    )
    ReviewItem.objects.create(
        exchange=exchange,
        kind=KIND_OF[verdict.decision],
        blind=blind,
        severity=severity,
        category=verdict.category,
        layer=verdict.layer or "",
        language=next((result.language for result in verdict.results if result.language), ""),
        reasons=reasons,
        due_at=due_at,
        inclusion_probability=1.0 if audit_rate is None else audit_rate,
    )
    outbox_add(topic=TO_EMBED, target=str(exchange.pk), available_at=timezone.now())


def _store_results(exchange: Exchange, results: Sequence[ClassifierResult]) -> None:
    rows = []
    for result in results:
        fields = result.as_json()
        fields["severity"] = fields["severity"] or ""
        rows.append(LayerResult(exchange=exchange, **fields))
    LayerResult.objects.bulk_create(rows)


def layer_result_as_library(row: LayerResult) -> ClassifierResult:
    """The stored row as `decide` reads it."""
    names = ("layer", "is_safe", "category", "categories", "severity", "reason", "confidence", "scores", "evidence", "escalate")
    more = ("version", "latency_ms", "cost_usd", "input_tokens", "output_tokens", "language", "error")
    return ClassifierResult.from_json({name: getattr(row, name) for name in (*names, *more)})


def sweep() -> int:
    """Enqueue again what was stored and never decided; how many. Each next time waits twice as long, up to ten minutes."""
    now = timezone.now()
    oldest = Exchange.objects.exclude(status=Exchange.Status.DECIDED).filter(
        enqueued_at__lt=now - timedelta(seconds=settings.SWEEP_AFTER_S)
    )
    count = 0
    for exchange in oldest.order_by("enqueued_at").only("id", "status", "sweeps", "enqueued_at")[:500]:
        patience = min(settings.SWEEP_AFTER_S * 2**exchange.sweeps, 600)
        if exchange.status == Exchange.Status.JUDGING:
            patience = max(patience, 2 * settings.JUDGE["deadline_s"])
        if exchange.enqueued_at > now - timedelta(seconds=patience):
            continue
        if not _enqueue(exchange.id, exchange.status):
            break
        Exchange.objects.filter(pk=exchange.pk).update(enqueued_at=now, sweeps=F("sweeps") + 1)
        count += 1
    if count:
        log.warning("swept", count=count)
    return count


POLICY_FIELDS: Final = ("thresholds", "layers", "judge_min_confidence", "judge_model", "learning_share")
"""What a policy says. A version of before that serves again is a new row with the same."""


def policy_fields(policy: Policy) -> dict[str, Any]:
    """All that a policy says, as `policy_create` takes it. (`as_cascade_policy` has only what decides.)"""
    return {name: getattr(policy, name) for name in POLICY_FIELDS}


def policy_create(*, actor: User | None, activate: bool = True, note: str = "", **fields: Any) -> Policy:
    """A new policy version, active from the next exchange on unless told otherwise. Raises ValidationError."""
    policy = Policy(note=note, created_by=actor, **fields)
    policy.full_clean(exclude=["is_active"])
    with transaction.atomic():
        policy.save()
        audit(actor=str(actor or "system"), action="policy.create", target=f"policy-{policy.pk}", note=note)
        if activate:
            policy_activate(policy=policy, actor=actor)
    return policy


def policy_activate(*, policy: Policy, actor: User | None) -> None:
    """Make a policy the one that new exchanges are decided under."""
    with transaction.atomic():
        Policy.objects.select_for_update().filter(is_active=True).update(is_active=False)
        Policy.objects.filter(pk=policy.pk).update(is_active=True)
        audit(actor=str(actor or "system"), action="policy.activate", target=f"policy-{policy.pk}")
    policy.is_active = True


def model_version_register(
    *, version: str, corpus_hash: str, metrics: dict[str, Any], labels_used: int = 0, actor: User | None = None
) -> ModelVersion:
    """Record a bundle that lies in `MODELS_DIR` as a candidate, and store its files for other hosts; what is recorded already is
    returned. If the storage is away the version is recorded all the same: its files are stored before it serves.
    """
    from guardreview.verdicts.artefacts import StorageFailed, artefact_put

    artefact = ""
    try:
        artefact = artefact_put(version)
    except (InvalidBundle, StorageFailed) as error:
        log.error("artefact_not_stored", version=version, error=str(error))
    with transaction.atomic():
        model, created = ModelVersion.objects.get_or_create(
            version=version,
            defaults={"corpus_hash": corpus_hash, "metrics": metrics, "labels_used": labels_used, "artefact": artefact},
        )
        if created:
            audit(actor=str(actor or "system"), action="model.register", target=version)
    if artefact and not model.artefact:
        ModelVersion.objects.filter(pk=model.pk, artefact="").update(artefact=artefact)
        model.artefact = artefact
    return model


def model_version_prepare(*, model: ModelVersion) -> None:
    """See that the files of a version are whole, on this host and in the storage. Raises InvalidBundle, StorageFailed."""
    from guardreview.verdicts.artefacts import artefact_fetch, artefact_put

    artefact_fetch(model.version, model.artefact)
    if not model.artefact:
        model.artefact = artefact_put(model.version)
        ModelVersion.objects.filter(pk=model.pk, artefact="").update(artefact=model.artefact)


def model_version_activate(*, model: ModelVersion, actor: User | None) -> None:
    """Serve with this model from the next exchange on. Raises InvalidBundle if its bundle is missing or altered, StorageFailed.

    It asks nobody: only set-up calls it, where nothing else can serve. What people activate goes through `learning.promotion`.
    """
    model_version_prepare(model=model)
    model_version_switch(model=model, actor=actor)


def model_version_switch(*, model: ModelVersion, actor: User | None) -> None:
    """The rows of it alone, within the caller's transaction if there is one."""
    stages = ModelVersion.Stage
    with transaction.atomic():
        ModelVersion.objects.select_for_update().filter(stage=stages.ACTIVE).exclude(pk=model.pk).update(stage=stages.RETIRED)
        ModelVersion.objects.filter(pk=model.pk).update(stage=stages.ACTIVE, activated_at=timezone.now())
        audit(actor=str(actor or "system"), action="model.activate", target=model.version)
    model.refresh_from_db()
