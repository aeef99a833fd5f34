"""The operations on policies, as the schema describes them."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from guardreview.api.openapi import problems
from guardreview.api.serializers_policies import (
    PolicyDecisionInput,
    PolicyInput,
    PolicyListOutput,
    PolicyOutput,
    WhatIfInput,
    WhatIfOutput,
)

POLICY_ID = OpenApiParameter("policy_id", OpenApiTypes.INT, OpenApiParameter.PATH)
REFUSED = {"s404": "No such policy.", "s409": "The change may not be made so; `detail` says why."}

policy_list = extend_schema(
    operation_id="listPolicies",
    summary="List policies",
    tags=["policies"],
    responses={200: OpenApiResponse(PolicyListOutput, description="The latest 50."), **problems(401, 403)},
)
policy_propose = extend_schema(
    operation_id="proposePolicy",
    summary="Propose a policy",
    tags=["policies"],
    request=PolicyInput,
    responses={
        201: OpenApiResponse(PolicyOutput, description="Stored; `change.status` says whether it serves."),
        **problems(400, 401, 403, 409, 413, 415, **REFUSED),
    },
)
policy_retrieve = extend_schema(
    operation_id="getPolicy",
    summary="Read a policy",
    tags=["policies"],
    parameters=[POLICY_ID],
    responses={200: OpenApiResponse(PolicyOutput, description="As it stands."), **problems(401, 403, 404, **REFUSED)},
)
policy_decide = extend_schema(
    operation_id="decidePolicy",
    summary="Approve, reject, serve or restore a policy",
    tags=["policies"],
    parameters=[POLICY_ID],
    request=PolicyDecisionInput,
    responses={
        200: OpenApiResponse(PolicyOutput, description="As it stands now. A policy that is restored may be a new one."),
        **problems(400, 401, 403, 404, 409, 413, 415, **REFUSED),
    },
)
policy_what_if = extend_schema(
    operation_id="whatIfPolicy",
    summary="Replay a policy over stored scores",
    tags=["policies"],
    request=WhatIfInput,
    responses={
        200: OpenApiResponse(WhatIfOutput, description="Beside the policy in force."),
        **problems(400, 401, 403, 409, 413, 415, **REFUSED),
    },
)
