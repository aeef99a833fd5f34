"""Every read about policies in force, tried, waiting and past, with what changed in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from guardreview.learning.models import PolicyChange
from guardreview.learning.policy_differences import Difference, differences, guarantee
from guardreview.review.presentation import display_name
from guardreview.verdicts.models import ModelVersion, Policy

Status = PolicyChange.Status
HISTORY = 50


@dataclass(frozen=True, slots=True)
class Entry:
    """One policy as the history tells it; `change` is None for those that a program made."""

    policy: Policy
    change: PolicyChange | None
    differences: Sequence[Difference]

    @property
    def is_open(self) -> bool:
        return self.change is not None and self.change.status in (Status.PROPOSED, Status.SCHEDULED, Status.SHADOW)


def serving_policy() -> Policy | None:
    return Policy.objects.select_related("created_by").filter(is_active=True).first()


def serving_model() -> ModelVersion:
    """The version that serves; one without a name where none does."""
    return ModelVersion.objects.filter(stage=ModelVersion.Stage.ACTIVE).first() or ModelVersion(version="")


def guarantee_of(policy: Any, model: ModelVersion) -> dict[str, Any]:
    """Of a policy as `decide` reads it."""
    return guarantee(policy, model=model.version, metrics=model.metrics)


def history() -> list[Entry]:
    """The latest policies, the newest first, each beside the one that it replaced or, if nobody proposed it, the one before."""
    policies = list(Policy.objects.select_related("created_by").order_by("-pk")[: HISTORY + 1])
    changes = PolicyChange.objects.select_related("replaces", "proposed_by", "decided_by").filter(policy__in=policies)
    by_policy = {change.policy_id: change for change in changes}
    entries = []
    for index, policy in enumerate(policies[:HISTORY]):
        change = by_policy.get(policy.pk)
        earlier = change.replaces if change else policies[index + 1] if index + 1 < len(policies) else None
        entries.append(Entry(policy, change, _between(earlier, policy)))
    return entries


def entry(policy: Policy) -> Entry:
    """One policy, as `history` tells it."""
    change = PolicyChange.objects.select_related("replaces", "proposed_by", "decided_by").filter(policy=policy).first()
    earlier = change.replaces if change else Policy.objects.filter(pk__lt=policy.pk).order_by("-pk").first()
    return Entry(policy, change, _between(earlier, policy))


def _between(earlier: Policy | None, policy: Policy) -> list[Difference]:
    if earlier is None:
        return []
    shares = (earlier.learning_share, policy.learning_share)
    return differences(earlier.as_cascade_policy(), policy.as_cascade_policy(), learning_shares=shares)


def waiting() -> list[PolicyChange]:
    """What a second administrator must look at, is scheduled, or is tried; in this order, the earliest first."""
    order = {Status.PROPOSED: 0, Status.SCHEDULED: 1, Status.SHADOW: 2}
    rows = PolicyChange.objects.select_related("policy", "replaces", "proposed_by").filter(status__in=order)
    return sorted(rows, key=lambda change: (order[Status(change.status)], change.apply_at or change.created_at))


def alarms() -> list[str]:
    """What must be said of the policy in force as long as it serves."""
    policy = serving_policy()
    if policy is None:
        return ["No policy is in force: nothing is decided until `manage.py setup` ran."]
    said = []
    found = guarantee_of(policy.as_cascade_policy(), serving_model())
    if not found["holds"]:
        said.append(f"The guarantee does not hold under {policy}: {guarantee_words(found)}")
    change = PolicyChange.objects.select_related("proposed_by").filter(policy=policy, status=Status.APPLIED).first()
    if change is not None and change.loosens and change.decided_by_id is None:
        when = f"{timezone.localtime(change.applied_at or change.created_at):%Y-%m-%d}"
        said.append(
            f"{display_name(change.proposed_by)} loosened {policy} alone on {when}; no second administrator looked at it."
            f" Reason: {change.reason}"
        )
    return said


def guarantee_words(found: dict[str, Any]) -> str:
    """What a guarantee says, and what it was measured on."""
    if not found["model"]:
        return "no model serves."
    if found["certified"] is None:
        missing = f"; {found['missing']} more critical examples are needed at least" if found["missing"] else ""
        return f"nothing is certified for the model {found['model']}{missing}."
    seen = f"{found['misses']} of {found['n']} missed" if found["n"] else "as its training measured"
    promise = ""
    if found["alpha"] and found["confidence"]:
        share, confidence = f"{found['alpha']:.0%}", f"{found['confidence']:.0%}"
        promise = f"at most {share} of critical answers are allowed by the fast layers, with {confidence} confidence, "
    return (
        f"{promise}up to {found['certified']:.3f}, and answers are allowed below {found['allow_below']:.3f}"
        f" ({seen}, on the corpus' calibration split, model {found['model']})."
    )
