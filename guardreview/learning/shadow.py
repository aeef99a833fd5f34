"""The shadow: a candidate reads the traffic that is decided already. Nothing it says reaches a verdict, or a worker that serves.

The verdicts know nothing of it: every few seconds the `learning` worker looks for exchanges that were decided and not yet read.
While it trains, the shadow waits; it then goes back an hour at most.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, Max, OuterRef, QuerySet
from django.utils import timezone

from classifiers.encoder.bundle import InvalidBundle
from classifiers.policy import UNSAFE
from classifiers.policy import Policy as CascadePolicy
from classifiers.result import Decision, Layer, Severity
from guardreview.core.models import User
from guardreview.core.outbox import outbox_add
from guardreview.core.services import audit
from guardreview.learning.gate import candidate_thresholds, fast
from guardreview.learning.policy_changes import policy_fields
from guardreview.learning.promotion import NotPromoted
from guardreview.review.calibration import APP_NAME
from guardreview.review.visibility import OPEN_BLIND
from guardreview.verdicts import runtime
from guardreview.verdicts.artefacts import StorageFailed
from guardreview.verdicts.models import Exchange, LayerResult, ModelVersion, Policy, ReviewItem, ShadowResult, Verdict
from guardreview.verdicts.priority import deadline
from guardreview.verdicts.services import TO_EMBED, layer_result_as_library, model_version_prepare

log = structlog.get_logger(__name__)
Stage = ModelVersion.Stage
REACH = timedelta(hours=1)
OVERLAP = timedelta(minutes=2)
"""Transactions commit out of order: one that began earlier may be seen later."""
BATCH = 16
SCANNED = 2_000
SLICE_S = 20.0
"""How long one task reads; the queue has other work, too."""
MAX_DRAWN = 500


# --- Who is in the shadow -------------------------------------------------------------------------------------------------------
def shadow_start(*, model: ModelVersion, actor: User) -> None:
    """Let a candidate read the traffic from now on; another that did is a candidate again. Raises NotPromoted."""
    if model.stage != Stage.CANDIDATE:
        raise NotPromoted(f"{model.version} is no candidate.")
    try:
        model_version_prepare(model=model)
    except (InvalidBundle, StorageFailed) as error:
        raise NotPromoted(str(error)) from error
    with transaction.atomic():
        ModelVersion.objects.select_for_update().filter(stage=Stage.SHADOW).update(stage=Stage.CANDIDATE)
        if not ModelVersion.objects.filter(pk=model.pk, stage=Stage.CANDIDATE).update(stage=Stage.SHADOW):
            raise NotPromoted(f"{model.version} is no candidate any more.")
        audit(actor=actor.username, action="model.shadow", target=model.version)
    model.refresh_from_db()


def shadow_end(*, model: ModelVersion, actor: User) -> None:
    """It is a candidate again; what it said stays."""
    with transaction.atomic():
        if ModelVersion.objects.filter(pk=model.pk, stage=Stage.SHADOW).update(stage=Stage.CANDIDATE):
            audit(actor=actor.username, action="model.shadow_end", target=model.version)
    model.refresh_from_db()


# --- Reading ------------------------------------------------------------------------------------------------------------------
_held: dict[str, object] = {}


def shadow_score() -> bool:
    """Read what was decided and not yet read; whether there is more. Safe to run again at any point, and twice at once."""
    model = ModelVersion.objects.filter(stage=Stage.SHADOW).first()
    policy = Policy.objects.filter(is_active=True).first()
    if model is None or policy is None:
        _held.clear()
        return False
    try:
        thresholds = candidate_thresholds(model, policy)
    except ValueError:
        thresholds = {**policy.thresholds, UNSAFE: {"allow_below": 0.0, "block_at": model.metrics.get("block_at") or 1.0}}
    tried = Policy(**{**policy_fields(policy), "thresholds": thresholds}).as_cascade_policy()
    try:
        if model.version not in _held:
            _held.clear()
            _held[model.version] = runtime.model(model.version, model.artefact)
    except (InvalidBundle, StorageFailed) as error:
        log.error("shadow_unavailable", version=model.version, error=str(error))
        return False
    end, unread = time.monotonic() + SLICE_S, _unread(model)
    for begin in range(0, len(unread), BATCH):
        _read(unread[begin : begin + BATCH], model, tried)
        if time.monotonic() >= end:
            return True
    return len(unread) >= SCANNED


def _unread(model: ModelVersion) -> list[UUID]:
    """Exchanges that the model which serves has read and this one has not, the oldest first. Calibration items are copies."""
    now = timezone.now()
    last = ShadowResult.objects.filter(model=model, policy=None).aggregate(at=Max("exchange__verdict__decided_at"))["at"]
    since = max(now - REACH, last - OVERLAP) if last else now - REACH
    rows = Verdict.objects.filter(
        ~Exists(Exchange.objects.filter(pk=OuterRef("pk"), app__name=APP_NAME)),
        decided_at__gte=since,
    ).filter(
        Exists(LayerResult.objects.filter(exchange=OuterRef("pk"), layer=Layer.FINETUNED, error="")),
        ~Exists(ShadowResult.objects.filter(exchange=OuterRef("pk"), model=model, policy=None)),
    )
    return list(rows.order_by("decided_at").values_list("pk", flat=True)[:SCANNED])


def _read(keys: Sequence[UUID], model: ModelVersion, tried: CascadePolicy) -> None:
    exchanges = list(Exchange.objects.filter(pk__in=keys).select_related("verdict__policy").prefetch_related("layer_results"))
    classifier = _held[model.version]
    began = time.perf_counter()
    try:
        said = classifier.classify_batch([e.response for e in exchanges], [e.query for e in exchanges])  # type: ignore[attr-defined]
    except Exception as error:  # one that it cannot read must not keep it from the others
        log.error("shadow_failed", version=model.version, error=type(error).__name__, exchanges=len(exchanges))
        said = [None] * len(exchanges)
    each_ms = (time.perf_counter() - began) * 1000 / max(1, len(exchanges))
    rows = []
    for exchange, result in zip(exchanges, said, strict=True):
        stored = [layer_result_as_library(row) for row in exchange.layer_results.all()]
        rules = [each for each in stored if each.layer == Layer.RULES]
        served = fast(exchange.verdict.policy.as_cascade_policy(), [each for each in stored if each.layer != Layer.JUDGE])
        failed = result is None or bool(result.error)
        decision = fast(tried, rules) if failed else fast(tried, [*rules, result])
        rows.append(
            ShadowResult(
                exchange=exchange,
                model=model,
                p_unsafe=None if failed else result.scores[UNSAFE],
                scores={} if failed else result.scores,
                served=served.value,
                decision=decision.value,
                differs=served is not decision,
                latency_ms=each_ms,
            )
        )
    ShadowResult.objects.bulk_create(rows, ignore_conflicts=True)


# --- Differences ----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Filters:
    """What of the differences is listed: how it was served, and what the shadow says."""

    served: str = ""
    decision: str = ""


def results(model: ModelVersion, *, sealed: bool = False) -> QuerySet[ShadowResult]:
    """All that a model read in the shadow. `sealed`: without what is reviewed blind and not settled, for those who decide."""
    rows = ShadowResult.objects.filter(model=model, policy=None).exclude(exchange__app__name=APP_NAME)
    return rows.exclude(Exists(ReviewItem.objects.filter(OPEN_BLIND, exchange=OuterRef("exchange")))) if sealed else rows


def differences(model: ModelVersion, filters: Filters, *, sealed: bool = False) -> QuerySet[ShadowResult]:
    """The latest first."""
    rows = results(model, sealed=sealed).filter(differs=True)
    for name in ("served", "decision"):
        if value := getattr(filters, name):
            rows = rows.filter(**{name: value})
    return rows.select_related("exchange__verdict", "exchange__review_item", "exchange__app").order_by("-created_at")


def counts(model: ModelVersion, *, sealed: bool = False) -> dict[tuple[str, str], int]:
    """(served, decision) -> how many."""
    rows = results(model, sealed=sealed).values_list("served", "decision").annotate(n=Count("pk")).order_by()
    return {(served, decision): n for served, decision, n in rows}


def score_pairs(model: ModelVersion, limit: int = 1_000, *, sealed: bool = False) -> list[tuple[float, float, bool]]:
    """(P(unsafe) that served, in the shadow, whether the decisions differ) of the latest."""
    scored = results(model, sealed=sealed).exclude(p_unsafe=None).order_by("-pk")
    rows = list(scored.values_list("exchange_id", "p_unsafe", "differs")[:limit])
    served = LayerResult.objects.filter(layer=Layer.FINETUNED, exchange__in=[key for key, *_ in rows])
    scores = {key: (found or {}).get(UNSAFE) for key, found in served.values_list("exchange_id", "scores")}
    return [(one, other, differs) for key, other, differs in rows if (one := scores.get(key)) is not None and other is not None]


def drawable(model: ModelVersion, filters: Filters) -> QuerySet[ShadowResult]:
    """Differences on answers that were allowed and that nobody is to look at yet."""
    return differences(model, filters).filter(
        exchange__verdict__decision=Decision.ALLOW,
        exchange__verdict__audit_probability__isnull=False,
        exchange__review_item=None,
    )


def shadow_draw(*, model: ModelVersion, share: float, filters: Filters, actor: User) -> int:
    """Draw a share of the allowed answers on which the shadow differs for blind review; how many. Raises NotPromoted.

    Each has a lot of its own, secret and always the same: drawn is what has one below the share, so that drawing again draws what
    a larger share adds, and no more. Its probability of coming before a pharmacist, by the audit or by this, is stored with its
    item. Answers that have an item keep it. None of these counts in what is weighted (`DRAWN_BY_DESIGN`): they are no sample
    of all.
    """
    if not 0 < share <= 1:
        raise NotPromoted("The share must be above 0 and at most 1.")
    count = 0
    with transaction.atomic():
        for row in drawable(model, filters)[:SCANNED]:
            if _lot(row.exchange_id) < share:
                count += _open_item(row.exchange, share)
            if count >= MAX_DRAWN:
                break
        audit(actor=actor.username, action="shadow.draw", target=model.version, share=share, count=count)
    return count


def _lot(exchange: UUID) -> float:
    """In [0, 1), known to nobody who lacks the server's secret."""
    digest = hmac.digest(settings.SECRET_KEY.encode(), b"shadow draw" + exchange.bytes, "sha256")
    return int.from_bytes(digest[:8], "big") / 2**64


def _open_item(exchange: Exchange, share: float) -> bool:
    """False if it has one by now."""
    verdict = exchange.verdict
    by_audit = verdict.audit_probability or 0.0
    due_at, reasons = deadline(
        created_at=timezone.now(),
        severity=Severity.MAJOR,
        sla_minutes=settings.SLA_MINUTES,
        decision=Decision.BLOCK,
        patient_waiting=exchange.patient_waiting,
        results=(),
    )
    languages = LayerResult.objects.filter(exchange=exchange).exclude(language="").values_list("language", flat=True)
    _, created = ReviewItem.objects.get_or_create(
        exchange=exchange,
        defaults={
            "kind": ReviewItem.Kind.AUDIT,
            "blind": True,
            "severity": verdict.severity or Severity.MINOR,
            "category": verdict.category,
            "layer": verdict.layer,
            "language": languages.first() or "",
            "reasons": reasons,
            "due_at": due_at,
            "inclusion_probability": by_audit + (1 - by_audit) * share,
        },
    )
    if created:
        outbox_add(topic=TO_EMBED, target=str(exchange.pk), available_at=timezone.now())
    return created
