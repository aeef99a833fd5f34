"""Which model serves, with which policy: every check, promotion and way back, and what the pages read of them.

Model and policy change together, in one transaction: thresholds are a model's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from classifiers.encoder.bundle import InvalidBundle
from classifiers.policy import UNSAFE
from guardreview.core.models import User
from guardreview.core.services import audit
from guardreview.learning.gate import Contender, candidate_thresholds, gate_items, gate_report
from guardreview.learning.models import Promotion, PromotionCheck
from guardreview.learning.policy_changes import policy_fields
from guardreview.review.models import Label
from guardreview.verdicts import runtime
from guardreview.verdicts.artefacts import StorageFailed
from guardreview.verdicts.models import ModelVersion, Policy
from guardreview.verdicts.services import model_version_prepare, model_version_switch, policy_activate, policy_create

log = structlog.get_logger(__name__)
Stage, Status = ModelVersion.Stage, PromotionCheck.Status
FRESH_FOR = timedelta(hours=24)
FRESH_LABELS = 100
"""After so many new labels a check says too little of today."""
LOST_AFTER = timedelta(minutes=3)
"""A check whose worker has not been heard of for so long is begun anew by whoever gets its task."""
HEARD_EVERY_S = 2.0


class NotPromoted(Exception):
    """What serves stays as it is; the message says why."""


# --- Checks -------------------------------------------------------------------------------------------------------------------
def check_request(*, candidate: ModelVersion, actor: User) -> PromotionCheck:
    """Ask the `learning` workers to compare a candidate with what serves. Raises NotPromoted while a check waits or runs."""
    _must_be_new(candidate)
    with transaction.atomic():
        # Under a lock, so that two clicks make one check.
        ModelVersion.objects.select_for_update().get(pk=candidate.pk)
        open_ = PromotionCheck.objects.filter(candidate=candidate, status__in=(Status.QUEUED, Status.RUNNING))
        open_.filter(heartbeat_at__lt=timezone.now() - 10 * LOST_AFTER).update(status=Status.FAILED, error="lost its worker")
        if open_.exists():
            raise NotPromoted("It is being checked already.")
        serving, policy = pair_in_force()
        check = PromotionCheck.objects.create(
            candidate=candidate,
            serving=serving,
            policy=policy,
            passed=False,
            report={},
            requested_by=actor,
            status=Status.QUEUED,
            heartbeat_at=timezone.now(),
        )
        audit(actor=actor.username, action="model.check", target=candidate.version, check=check.pk, serving=serving.version)
        transaction.on_commit(lambda: _enqueue(check))
    return check


def _enqueue(check: PromotionCheck) -> None:
    from guardreview.learning.tasks import check_candidate

    try:
        check_candidate.delay(check.pk)
    except check_candidate.OperationalError:
        _end(check, Status.FAILED, error="the task queue could not be reached; try again")


def check_run(*, check_id: int) -> None:
    """Do a requested check; how it ends is always recorded. A second delivery does nothing while the first is at work."""
    now = timezone.now()
    waiting = PromotionCheck.objects.filter(pk=check_id, status=Status.QUEUED)
    lost = PromotionCheck.objects.filter(pk=check_id, status=Status.RUNNING, heartbeat_at__lt=now - LOST_AFTER)
    if not any(rows.update(status=Status.RUNNING, heartbeat_at=now) for rows in (waiting, lost)):
        return
    check = PromotionCheck.objects.select_related("candidate", "serving", "policy").get(pk=check_id)
    heard = [0.0]

    def progress(words: str, step: int, steps: int) -> None:
        at = timezone.now()
        if at.timestamp() - heard[0] >= HEARD_EVERY_S or step == steps:
            heard[0] = at.timestamp()
            PromotionCheck.objects.filter(pk=check_id).update(progress=words, step=step, steps=steps, heartbeat_at=at)

    try:
        check.report = _compare(check, progress)
    except (NotPromoted, InvalidBundle, StorageFailed) as error:
        _end(check, Status.FAILED, error=str(error)[:500])
    except Exception as error:
        # Its message may quote an exchange.
        log.error("check_failed", check=check_id, error=type(error).__name__)
        _end(check, Status.FAILED, error=f"It failed ({type(error).__name__}); the log says where.")
    else:
        check.passed = check.report["passed"]
        check.save(update_fields=["report", "passed"])
        _end(check, Status.DONE)
        audit(
            actor=str(check.requested_by or "system"), action="model.checked", target=check.candidate.version, passed=check.passed
        )


def _compare(check: PromotionCheck, progress: Any) -> dict[str, Any]:
    try:
        thresholds = candidate_thresholds(check.candidate, check.policy)
    except ValueError as error:
        raise NotPromoted(str(error)) from error
    progress("the items are being chosen", 0, 0)
    latest = Label.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    rules_active = [key for key, _ in runtime.active_rules()]
    policy = check.policy.as_cascade_policy()
    tried = Policy(**{**policy_fields(check.policy), "thresholds": thresholds}).as_cascade_policy()
    report = gate_report(
        gate_items(check.candidate, check.serving, progress),
        rules=runtime.rules(),
        serving=Contender(runtime.model(check.serving.version, check.serving.artefact), policy),
        candidate=Contender(runtime.model(check.candidate.version, check.candidate.artefact), tried),
        progress=progress,
    )
    return {**report, "labels_up_to": latest, "rules": rules_active, "thresholds": thresholds}


def _end(check: PromotionCheck, status: str, error: str = "") -> None:
    PromotionCheck.objects.filter(pk=check.pk).update(status=status, error=error, progress="", heartbeat_at=timezone.now())


def stale_because(check: PromotionCheck) -> str:
    """Why a check does not say what is so now; "" if it does."""
    serving, policy = pair_in_force()
    if (check.serving_id, check.policy_id) != (serving.pk, policy.pk):
        return "Something else serves now than when it was checked."
    if check.report.get("rules") != [key for key, _ in runtime.active_rules()]:
        return "Other rules are active now than when it was checked."
    if check.created_at < timezone.now() - FRESH_FOR:
        return "The check is more than a day old."
    if Label.objects.filter(pk__gt=check.report.get("labels_up_to", 0)).count() >= FRESH_LABELS:
        return f"{FRESH_LABELS} labels or more were settled since the check."
    return ""


def last_check(candidate: ModelVersion) -> PromotionCheck | None:
    """The latest, whatever became of it."""
    return PromotionCheck.objects.select_related("serving", "policy", "requested_by").filter(candidate=candidate).first()


def other_checks(check: PromotionCheck | None) -> list[PromotionCheck]:
    """All that came to a result since the last promotion, of any candidate, but this: who tries often enough passes by chance."""
    found = PromotionCheck.objects.select_related("candidate").filter(status=Status.DONE)
    if last := Promotion.objects.first():
        found = found.filter(created_at__gt=last.created_at)
    return list(found.exclude(pk=check.pk) if check else found)


# --- What serves ----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Before:
    """A model to go back to, with the policy that it served under last."""

    model: ModelVersion
    policy: Policy


def pair_in_force() -> tuple[ModelVersion, Policy]:
    """Raises NotPromoted where nothing serves."""
    model = ModelVersion.objects.filter(stage=Stage.ACTIVE).first()
    policy = Policy.objects.filter(is_active=True).first()
    if model is None or policy is None:
        raise NotPromoted("Nothing serves yet: run `manage.py setup`.")
    return model, policy


def promotions(limit: int = 20) -> list[Promotion]:
    """The latest, the newest first."""
    return list(Promotion.objects.select_related("model", "policy", "made_by", "passed_check")[:limit])


def before_this() -> Before | None:
    """Where one click goes back to: the model that served before this one. None: it is the first."""
    serving = ModelVersion.objects.filter(stage=Stage.ACTIVE).first()
    # Going back takes what is above off the pile, so that going back twice goes further, not forth again.
    pile: list[Promotion] = []
    for each in Promotion.objects.select_related("model", "policy").order_by("pk"):
        models = [other.model_id for other in pile[-2:]]
        if models[-1:] == [each.model_id]:
            del pile[-1]  # under another policy since
        elif len(models) == 2 and models[0] == each.model_id and each.passed_check_id is None:
            del pile[-2:]
        pile.append(each)
    for each in reversed(pile):
        if serving is not None and each.model_id != serving.pk:
            return Before(each.model, each.policy)
    return None


# --- Writes ---------------------------------------------------------------------------------------------------------------------
def model_promote(*, candidate: ModelVersion, actor: User, why: str = "") -> Promotion:
    """Let a candidate serve whose last check passed and is fresh, with its own certified bounds. Raises NotPromoted."""
    check = last_check(candidate)
    if check is None or check.status != Status.DONE or not check.passed:
        raise NotPromoted(f"{candidate.version} has not passed its check.")
    return _promote(candidate, actor=actor, why=why, check=check)


def model_promote_without_check(*, candidate: ModelVersion, actor: User, why: str) -> Promotion:
    """For emergencies, from the command line alone: the audit log keeps that nothing was checked, and why. Raises NotPromoted."""
    if not why.strip():
        raise NotPromoted("Say why: it is kept in the audit log.")
    return _promote(candidate, actor=actor, why=why, check=None)


def _promote(candidate: ModelVersion, *, actor: User, why: str, check: PromotionCheck | None) -> Promotion:
    _must_be_new(candidate)
    _prepare(candidate)
    with transaction.atomic():
        _lock_pair()
        # Under the lock: what serves now is what it was compared with.
        if check is not None and (stale := stale_because(check)):
            raise NotPromoted(f"{stale} Check it again.")
        serving, policy = _keep_pair()
        try:
            thresholds = candidate_thresholds(candidate, policy)
        except ValueError as error:
            raise NotPromoted(str(error)) from error
        fields = {**policy_fields(policy), "thresholds": thresholds}
        note = f"with {candidate.version}: its certified bounds"
        made = policy_create(actor=actor, activate=False, note=note, **fields)
        promotion = _serve(candidate, made, actor=actor, why=why, check=check)
        action = "model.promote" if check else "model.promote_without_check"
        more = {"policy": made.pk, "before": serving.version, "policy_before": policy.pk, "check": check.pk if check else None}
        audit(actor=actor.username, action=action, target=candidate.version, why=why[:500], **more)
    log.warning("model_promoted", version=candidate.version, policy=made.pk, checked=check is not None)
    return promotion


def model_roll_back(*, actor: User, why: str = "") -> Promotion:
    """Return to the model that served before this one, with its own bounds; all else stays as it is in force, so that nothing
    else is loosened. Raises NotPromoted.
    """
    before = before_this()
    if before is None:
        raise NotPromoted("Nothing served before.")
    _prepare(before.model)
    with transaction.atomic():
        _lock_pair()
        if (now := before_this()) is None or (now.model.pk, now.policy.pk) != (before.model.pk, before.policy.pk):
            raise NotPromoted("Something else serves since a moment ago. Look again.")
        serving, policy = _keep_pair()
        fields = {**policy_fields(policy), "thresholds": {**policy.thresholds, UNSAFE: _bounds_of(before)}}
        made = policy_create(actor=actor, activate=False, note=f"back to {before.model.version}: its bounds", **fields)
        promotion = _serve(before.model, made, actor=actor, why=why or f"back from {serving.version}", check=None)
        more = {"policy": made.pk, "before": serving.version, "policy_before": policy.pk}
        audit(actor=actor.username, action="model.roll_back", target=before.model.version, why=why[:500], **more)
    log.warning("model_rolled_back", version=before.model.version, policy=made.pk)
    return promotion


def _bounds_of(before: Before) -> dict[str, float]:
    """What was certified of a model, or what it served with last where that is stricter, or nothing is certified."""
    last = before.policy.as_cascade_policy().threshold(UNSAFE)
    try:
        certified = candidate_thresholds(before.model, before.policy)[UNSAFE]
    except ValueError:
        return {"allow_below": last.allow_below, "block_at": last.block_at}
    return {name: min(value, getattr(last, name)) for name, value in certified.items()}


def _must_be_new(model: ModelVersion) -> None:
    if model.stage not in (Stage.CANDIDATE, Stage.SHADOW, Stage.RETIRED):
        raise NotPromoted(f"{model.version} serves already.")


def _prepare(model: ModelVersion) -> None:
    """Its files are whole before anything changes: outside of any transaction, since they may have to be fetched."""
    try:
        model_version_prepare(model=model)
    except (InvalidBundle, StorageFailed) as error:
        raise NotPromoted(str(error)) from error


def _lock_pair() -> None:
    """One at a time: by the rows that every change of what serves must write."""
    list(Policy.objects.select_for_update().filter(is_active=True).values_list("pk"))
    list(ModelVersion.objects.select_for_update().filter(stage=Stage.ACTIVE).values_list("pk"))


def _keep_pair() -> tuple[ModelVersion, Policy]:
    """The pair in force, and a row for it, if it came to serve otherwise: by set-up, or under another policy since."""
    model, policy = pair_in_force()
    last = Promotion.objects.first()
    if last is None or (last.model_id, last.policy_id) != (model.pk, policy.pk):
        Promotion.objects.create(model=model, policy=policy, why="served already")
    return model, policy


def _serve(model: ModelVersion, policy: Policy, *, actor: User, why: str, check: PromotionCheck | None) -> Promotion:
    policy_activate(policy=policy, actor=actor)
    model_version_switch(model=model, actor=actor)
    return Promotion.objects.create(model=model, policy=policy, passed_check=check, why=why[:500], made_by=actor)
