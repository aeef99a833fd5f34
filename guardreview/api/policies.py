"""Policies over the API: read, tried against stored scores, proposed and decided, by the same rules as on the pages."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import ValidationError as InvalidRow
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from classifiers.policy import InvalidPolicy
from classifiers.policy import Policy as CascadePolicy
from guardreview.api import openapi_policies as openapi
from guardreview.api.authentication import MayChangePolicies
from guardreview.api.base import ApiView
from guardreview.api.serializers_policies import PolicyDecisionInput, PolicyInput, WhatIfInput
from guardreview.learning import policy_changes, policy_history
from guardreview.learning.models import PolicyChange
from guardreview.learning.policy_differences import differences
from guardreview.learning.threshold_state import since_of
from guardreview.learning.what_if import Change, Side, Step, WhatIf, what_if
from guardreview.verdicts import runtime
from guardreview.verdicts.models import Policy


class PolicyView(ApiView):
    """For keys with the scope `policies`, which stand for an administrator."""

    permission_classes = [IsAuthenticated, MayChangePolicies]


class PoliciesView(PolicyView):
    """`/api/v1/policies`."""

    @openapi.policy_list
    async def get(self, request: Request) -> Response:
        """List the latest policies, newest first."""
        return await sync_to_async(_list)(request)

    @openapi.policy_propose
    async def post(self, request: Request) -> Response:
        """Propose a policy.

        It serves at once, at `apply_at`, or once another administrator approves it on its page: `change.status` says which.
        What loosens a critical threshold takes a reason. Fields that are left out stay as they are in force.
        """
        return await sync_to_async(_propose)(request)


class OnePolicyView(PolicyView):
    """`/api/v1/policies/{id}`."""

    @openapi.policy_retrieve
    async def get(self, request: Request, policy_id: str) -> Response:
        """Read a policy, what it changed, and what was certified of it."""
        return await sync_to_async(lambda: Response(as_json(_get(policy_id))))()


class PolicyDecisionView(PolicyView):
    """`/api/v1/policies/{id}/decision`."""

    @openapi.policy_decide
    async def post(self, request: Request, policy_id: str) -> Response:
        """Reject what was proposed, let a shadow policy serve, or go back to a policy of before. Only a page approves."""
        return await sync_to_async(_decide)(request, policy_id)


class WhatIfView(PolicyView):
    """`/api/v1/policies/what-if`."""

    @openapi.policy_what_if
    async def post(self, request: Request) -> Response:
        """Replay a policy over the scores of the last days, beside the one in force. Nothing is stored, and no model runs."""
        return await sync_to_async(_what_if)(request)


def _list(request: Request) -> Response:
    return Response({"results": [_entry_as_json(entry) for entry in policy_history.history()]})


def _propose(request: Request) -> Response:
    data = PolicyInput(data=request.data)
    data.is_valid(raise_exception=True)
    values = data.validated_data
    try:
        change = policy_changes.change_propose(
            actor=request.user.key.user,
            fields=_fields(values),
            reason=values.get("reason", ""),
            apply_at=values.get("apply_at"),
            shadow=values.get("shadow", False),
        )
    except InvalidRow as error:
        raise ValidationError(error.messages) from error
    return Response(as_json(change.policy), status=201)


def _decide(request: Request, policy_id: str) -> Response:
    found = _get(policy_id)
    data = PolicyDecisionInput(data=request.data)
    data.is_valid(raise_exception=True)
    act, reason, actor = data.validated_data["act"], data.validated_data.get("reason", ""), request.user.key.user
    if act == "restore":
        return Response(as_json(policy_changes.policy_restore(actor=actor, policy=found, reason=reason).policy))
    change = PolicyChange.objects.filter(policy=found).first()
    if change is None:
        raise policy_changes.PolicyRefused("Nobody proposed this policy: it can only be restored.")
    if act == "reject":
        policy_changes.change_reject(actor=actor, change=change, answer=reason)
    else:
        policy_changes.change_serve(actor=actor, change=change, reason=reason)
    return Response(as_json(found))


def _what_if(request: Request) -> Response:
    data = WhatIfInput(data=request.data)
    data.is_valid(raise_exception=True)
    serving = _serving()
    fields = _fields(data.validated_data)
    before, after = serving.as_cascade_policy(), CascadePolicy.from_json(fields)
    judge = runtime.judge_is_configured()
    found = what_if(before=before, after=after, since=since_of(data.validated_data["days"]), judge=judge)
    changed = differences(before, after, learning_shares=(serving.learning_share, fields["learning_share"]))
    return Response(
        {
            "beside": str(serving).replace(" ", "-"),
            "differences": [each.words for each in changed],
            "loosens": any(each.loosens for each in changed),
            "guarantee_holds": policy_history.guarantee_of(after, policy_history.serving_model())["holds"],
            **_report(found),
        }
    )


def _report(found: WhatIf) -> dict[str, Any]:
    def side(of: Side) -> dict[str, Any]:
        sure, expected = found.queue_per_day(of)
        return {
            "allowed": int(of.steps[Step.ALLOW]),
            "blocked": int(of.steps[Step.BLOCK]),
            "held": int(of.steps[Step.HOLD]),
            "judge": int(of.steps[Step.JUDGE]),
            "stopped_per_day": sure,
            "queue_per_day": expected,
            "judge_usd_per_day": found.judge_usd_per_day(of),
        }

    return {
        "answers": found.rows,
        "since": found.since,
        "unknown": found.unknown,
        "not_packed": found.missing,
        "newly": {change.name.lower(): {"total": found.count(change), "categories": found.changes[change]} for change in Change},
        "in_force": side(found.before),
        "proposed": side(found.after),
    }


def _fields(values: dict[str, Any]) -> dict[str, Any]:
    fields = policy_changes.policy_fields(_serving())
    fields |= {name: values[name] for name in fields if name in values}
    try:
        CascadePolicy.from_json(fields)
    except InvalidPolicy as error:
        raise ValidationError({"thresholds": [str(error)]}) from error
    return fields


def _serving() -> Policy:
    policy = policy_history.serving_policy()
    if policy is None:
        raise policy_changes.PolicyRefused("No policy is in force.")
    return policy


def _get(policy_id: str) -> Policy:
    found = Policy.objects.filter(pk=int(policy_id)).first() if policy_id.isdecimal() and len(policy_id) < 19 else None
    if found is None:
        raise NotFound("There is no such policy.")
    return found


def as_json(policy: Policy) -> dict[str, Any]:
    """A policy with its change, read anew: what was done may have moved it."""
    policy.refresh_from_db()
    return _entry_as_json(policy_history.entry(policy))


def _entry_as_json(entry: policy_history.Entry) -> dict[str, Any]:
    policy, change = entry.policy, entry.change
    return {
        "id": policy.pk,
        "in_force": policy.is_active,
        "created_at": policy.created_at,
        **policy_changes.policy_fields(policy),
        "differences": [each.words for each in entry.differences],
        "change": change
        and {
            "status": change.status,
            "replaces": change.replaces_id,
            "loosens": change.loosens,
            "guarantee_holds": change.guarantee.get("holds", False),
            "reason": change.reason,
            "answer": change.answer,
            "proposed_by": change.proposed_by.username,
            "decided_by": change.decided_by.username if change.decided_by else None,
            "apply_at": change.apply_at,
            "applied_at": change.applied_at,
        },
    }
