"""Every way in which a person makes another policy serve: at once, later, after a second administrator, or first in the shadow.

What loosens a critical threshold (`policy_differences.loosens`) takes a reason and waits for a second administrator. Where there
is none, the audit log keeps the reason, and an alarm stands on the pages as long as the policy serves. An account that another
had in hand lately is no second person, and an administrator who was put out lately is still waited for. A change holds what it
replaces and for which model it was made: if something else serves by the time that it is to be applied, it is refused.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from classifiers.policy import InvalidPolicy
from classifiers.policy import Policy as CascadePolicy
from guardreview.core.accounts import SETTLED_AFTER, changed_by_another, other_administrators
from guardreview.core.models import User
from guardreview.core.roles import Act
from guardreview.core.services import audit
from guardreview.learning.models import PolicyChange
from guardreview.learning.policy_differences import differences, guarantee, loosens
from guardreview.verdicts.models import ModelVersion, Policy
from guardreview.verdicts.services import policy_activate, policy_create
from guardreview.verdicts.services import policy_fields as policy_fields

Status = PolicyChange.Status
OPEN = (Status.PROPOSED, Status.SCHEDULED, Status.SHADOW)


class PolicyRefused(Exception):
    """The change may not be made so; the message says why."""


def second_administrator(actor: User) -> bool:
    """Whether what this person proposes has to wait for somebody else."""
    return other_administrators(actor)


def change_propose(
    *,
    actor: User,
    fields: dict[str, Any],
    reason: str = "",
    apply_at: datetime | None = None,
    shadow: bool = False,
    policy: Policy | None = None,
) -> PolicyChange:
    """A policy of these fields is to serve; the change's status says what became of that. `policy`: a stored one of just these
    fields, which no change has yet. `apply_at`: not before. `shadow`: only tried beside the one that serves.

    Raises PolicyRefused, and ValidationError for a policy that cannot be meant.
    """
    _check_may(actor)
    try:
        wanted = CascadePolicy.from_json(fields)
    except InvalidPolicy as error:
        raise PolicyRefused(str(error)) from error
    with transaction.atomic():
        serving, model = _serving()
        learning = (serving.learning_share, fields.get("learning_share", 0))
        changed = differences(serving.as_cascade_policy(), wanted, learning_shares=learning)
        if not changed:
            raise PolicyRefused(f"Nothing changes: {serving} says the same.")
        looser = any(each.loosens for each in changed)
        if looser and not shadow and not reason.strip():
            raise PolicyRefused("This lets through what was stopped before. Say why.")
        if shadow and PolicyChange.objects.filter(status=Status.SHADOW).exists():
            raise PolicyRefused("Another policy is tried already. End that first.")
        made = policy or policy_create(actor=actor, activate=False, note=reason.strip(), **fields)
        change = PolicyChange.objects.create(
            policy=made,
            replaces=serving,
            status=Status.SHADOW if shadow else Status.SCHEDULED,
            loosens=looser,
            guarantee=_guarantee(wanted, model),
            reason=reason.strip(),
            proposed_by=actor,
            apply_at=apply_at,
        )
        _audit(actor, "policy.propose", change, changes=[each.words for each in changed], reason=change.reason)
        return change if shadow else _forward(change, actor)


def change_serve(*, actor: User, change: PolicyChange, reason: str = "") -> PolicyChange:
    """What was tried in the shadow is to serve: by the same rules as any other, judged beside what serves now."""
    _check_may(actor)
    with transaction.atomic():
        serving, model = _serving()
        locked = _locked(change, Status.SHADOW)
        wanted = locked.policy.as_cascade_policy()
        learning = (serving.learning_share, locked.policy.learning_share)
        changed = differences(serving.as_cascade_policy(), wanted, learning_shares=learning)
        locked.replaces, locked.loosens = serving, any(each.loosens for each in changed)
        locked.guarantee = _guarantee(wanted, model)
        locked.reason, locked.proposed_by = reason.strip() or locked.reason, actor
        if locked.loosens and not locked.reason:
            raise PolicyRefused("This lets through what was stopped before. Say why.")
        locked.save(update_fields=["replaces", "loosens", "guarantee", "reason", "proposed_by"])
        _audit(actor, "policy.propose", locked, changes=[each.words for each in changed], reason=locked.reason)
        return _forward(locked, actor)


def change_approve(*, actor: User, change: PolicyChange, answer: str = "") -> PolicyChange:
    """A second administrator agrees. Raises PolicyRefused for the one who proposed it, and for an account that may be theirs."""
    _check_may(actor)
    with transaction.atomic():
        _serving()
        locked = _locked(change, Status.PROPOSED)
        if locked.proposed_by_id == actor.pk:
            raise PolicyRefused("You proposed this: another administrator must look at it.")
        _check_second_person(actor, locked)
        locked.decided_by, locked.decided_at, locked.answer = actor, timezone.now(), answer.strip()
        locked.save(update_fields=["decided_by", "decided_at", "answer"])
        _audit(actor, "policy.approve", locked, answer=locked.answer)
        return _schedule(locked, actor)


def change_reject(*, actor: User, change: PolicyChange, answer: str) -> PolicyChange:
    """It shall not serve, or not be tried any longer; also the way to take back what one proposed oneself. Takes a reason."""
    _check_may(actor)
    if not answer.strip():
        raise PolicyRefused("Say why.")
    with transaction.atomic():
        locked = _locked(change, *OPEN)
        locked.status, locked.decided_by, locked.decided_at = Status.REJECTED, actor, timezone.now()
        locked.answer = answer.strip()
        locked.save(update_fields=["status", "decided_by", "decided_at", "answer"])
        _audit(actor, "policy.reject", locked, answer=locked.answer)
    return locked


def policy_restore(*, actor: User, policy: Policy, reason: str = "", apply_at: datetime | None = None) -> PolicyChange:
    """A policy of before serves again, by the same rules as any other; as a new version, unless no change had it yet."""
    with transaction.atomic():
        serving, _ = _serving()
    looser = loosens(serving.as_cascade_policy(), policy.as_cascade_policy())
    unused = not PolicyChange.objects.filter(policy=policy).exists()
    return change_propose(
        actor=actor,
        fields=policy_fields(policy),
        reason=reason.strip() or ("" if looser else f"as {policy} was"),
        apply_at=apply_at,
        policy=policy if unused else None,
    )


def changes_apply_due() -> list[PolicyChange]:
    """Apply what is scheduled and due, the earliest first; late ones too. Safe to run at any time, and twice at once."""
    done = []
    due = PolicyChange.objects.filter(status=Status.SCHEDULED, apply_at__lte=timezone.now()).order_by("apply_at", "pk")
    for key in list(due.values_list("pk", flat=True)):
        with transaction.atomic():
            _serving()
            change = _lock(PolicyChange.objects.filter(pk=key, status=Status.SCHEDULED)).first()
            if change is not None:
                done.append(_apply(change, None))
    return done


def _forward(change: PolicyChange, actor: User) -> PolicyChange:
    """To a second administrator, if it takes one and there is one; else on to its time."""
    if change.loosens and second_administrator(actor):
        change.status = Status.PROPOSED
        change.save(update_fields=["status"])
        return change
    if change.loosens:
        _audit(actor, "policy.loosen_alone", change, reason=change.reason, guarantee_holds=change.guarantee["holds"])
    return _schedule(change, actor)


def _schedule(change: PolicyChange, actor: User) -> PolicyChange:
    """For its time, or at once if that has come."""
    change.status = Status.SCHEDULED
    change.save(update_fields=["status"])
    if change.apply_at is not None and change.apply_at > timezone.now():
        return change
    return _apply(change, actor)


def _apply(change: PolicyChange, actor: User | None) -> PolicyChange:
    """It serves from the next exchange on, unless what it was made against does not serve any more."""
    serving, model = _serving()
    if serving.pk != change.replaces_id:
        return _supersede(change, f"{serving} began to serve meanwhile; this was made against policy {change.replaces_id}")
    if model.version != change.guarantee.get("model", ""):
        return _supersede(change, f"the model {model.version} began to serve meanwhile, and thresholds are a model's own")
    policy_activate(policy=change.policy, actor=actor)
    change.status, change.applied_at = Status.APPLIED, timezone.now()
    change.save(update_fields=["status", "applied_at"])
    _audit(actor, "policy.apply", change)
    return change


def _supersede(change: PolicyChange, why: str) -> PolicyChange:
    change.status, change.answer = Status.SUPERSEDED, f"Refused: {why}."
    change.save(update_fields=["status", "answer"])
    _audit(None, "policy.supersede", change, answer=change.answer)
    return change


def _serving() -> tuple[Policy, ModelVersion]:
    """What serves now, locked until the transaction ends. Raises PolicyRefused if nothing does.

    Twice, since on PostgreSQL a row that lost its mark while one waited for its lock is not there any more.
    """
    active = Policy.objects.select_for_update().filter(is_active=True)
    serving = active.first() or active.all().first()
    if serving is None:
        raise PolicyRefused("No policy is in force: run `manage.py setup` first.")
    model = ModelVersion.objects.filter(stage=ModelVersion.Stage.ACTIVE).first() or ModelVersion(version="")
    return serving, model


def _guarantee(policy: CascadePolicy, model: ModelVersion) -> dict[str, Any]:
    return guarantee(policy, model=model.version, metrics=model.metrics)


def _lock(changes: QuerySet[PolicyChange]) -> QuerySet[PolicyChange]:
    return changes.select_for_update(of=("self",)).select_related("policy")


def _locked(change: PolicyChange, *statuses: Status) -> PolicyChange:
    found = _lock(PolicyChange.objects.filter(pk=change.pk)).get()
    if found.status not in statuses:
        raise PolicyRefused(f"It is {found.status} already.")
    return found


def _check_second_person(actor: User, change: PolicyChange) -> None:
    """Neither account may be a mask that the other's holder put on, perhaps by way of a third account."""
    since = change.created_at - SETTLED_AFTER
    for account, whose in ((actor, "Your account"), (change.proposed_by, "The account that proposed this")):
        if changed_by_another(account, since):
            raise PolicyRefused(
                f"{whose} was made by somebody else, or got another role or password from them, less than"
                f" {SETTLED_AFTER.days} days before this was proposed, or since."
                " Another administrator must propose or approve it, or it has to be proposed anew later."
            )


def _check_may(actor: User) -> None:
    if not actor.may(Act.ADMINISTER):
        raise PolicyRefused("Only administrators change policies.")


def _audit(actor: User | None, action: str, change: PolicyChange, **data: Any) -> None:
    more = {"change": change.pk, "replaces": f"policy-{change.replaces_id}", "loosens": change.loosens, "status": change.status}
    audit(actor=str(actor or "system"), action=action, target=f"policy-{change.policy_id}", **more, **data)
