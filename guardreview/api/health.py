"""The weekly figures over the API, for keys that stand for an administrator. They hold no patient's words."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from guardreview.api.openapi import problems
from guardreview.api.policies import PolicyView
from guardreview.learning import health, rule_revisions

WEEKS = 12


class WeeklyHealthView(PolicyView):
    """`/api/v1/health/weeks`."""

    @extend_schema(
        operation_id="listHealthWeeks",
        summary="List weekly figures",
        tags=["health"],
        responses={
            200: OpenApiResponse(OpenApiTypes.OBJECT, description="`results` has the weeks, `rule_revisions` what is open."),
            **problems(401, 403),
        },
    )
    async def get(self, request: Request) -> Response:
        """Read the figures and alarms of the last twelve weeks, newest first, and the rules that are proposed for revision."""
        return await sync_to_async(_read)()


def _read() -> Response:
    weeks = [
        {"week": each.week, "counted_at": each.created_at, "alarms": each.alarms, "figures": each.figures}
        for each in reversed(health.reports(WEEKS))
    ]
    revisions = [
        {
            "rule": each.rule,
            "overturned": each.figures["overturned"],
            "settled": each.figures["settled"],
            "opened_at": each.created_at,
        }
        for each, _ in rule_revisions.open_revisions()
    ]
    return Response({"results": weeks, "rule_revisions": revisions})
