"""`/api/v1/labels/exports`: snapshots of an app's own labels as files, redacted. The page and the command give the same bytes."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import Q
from django.http import HttpResponseBase
from django.urls import reverse
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from guardreview.api import openapi
from guardreview.api.authentication import MayReadLabels
from guardreview.api.base import ApiView
from guardreview.api.problems import Conflict, Unavailable
from guardreview.api.serializers import LabelExportInput
from guardreview.core.models import App
from guardreview.learning.downloads import export_response
from guardreview.learning.export_filters import ExportFilters, InvalidFilter
from guardreview.learning.export_storage import StorageFailed, content_size
from guardreview.learning.exports import ExportsBusy, export_request
from guardreview.learning.models import Export

POLL_AFTER_S = 2
MAX_KEY = 2**63 - 1


class LabelExportsView(ApiView):
    """`/api/v1/labels/exports`."""

    permission_classes = [*ApiView.permission_classes, MayReadLabels]

    @openapi.label_export_create
    async def post(self, request: Request) -> Response:
        """Take a snapshot of the app's labels as they are now. A worker writes it: 202, and `Location` says how far it is."""
        return await sync_to_async(_create)(request)


class LabelExportView(ApiView):
    """`/api/v1/labels/exports/{id}`."""

    permission_classes = [*ApiView.permission_classes, MayReadLabels]

    @openapi.label_export_retrieve
    async def get(self, request: Request, export_id: str) -> Response:
        """How far an export is. Once it is `ready`, neither it nor its content changes."""
        export = await sync_to_async(_get)(request, export_id)
        headers = {} if export.finished_at else {"Retry-After": str(POLL_AFTER_S)}
        return Response(_as_json(export), headers=headers)


class LabelExportContentView(ApiView):
    """`/api/v1/labels/exports/{id}/content`."""

    permission_classes = [*ApiView.permission_classes, MayReadLabels]

    @openapi.label_export_content
    async def get(self, request: Request, export_id: str) -> HttpResponseBase:
        """Download an export. Takes `Range` and `If-Range`, so that what broke off can go on."""
        return await sync_to_async(_content)(request, export_id)


def _create(request: Request) -> Response:
    data = LabelExportInput(data=request.data)
    data.is_valid(raise_exception=True)
    caller, given = request.user, dict(data.validated_data)
    format = given.pop("format", Export.Format.JSONL)
    try:
        filters = ExportFilters.parse(given, app=caller.app)
        export = export_request(format=format, filters=filters, actor=caller.name)
    except InvalidFilter as error:
        raise ValidationError({error.field: [str(error)]}) from None
    except ExportsBusy as error:
        raise Unavailable(str(error)) from None
    where = reverse("label-export", args=[export.pk])
    return Response(_as_json(export), status=202, headers={"Location": where, "Retry-After": str(POLL_AFTER_S)})


def _get(request: Request, export_id: str) -> Export:
    """One that was asked for with a key of this app: others' may hold what the app must not see."""
    app: App = request.user.app
    mine = Q(filters__app=app.pk, requested_by=None, redacted=True)
    export = None
    if export_id.isascii() and export_id.isdecimal() and int(export_id) <= MAX_KEY:
        export = Export.objects.filter(mine, pk=int(export_id)).first()
    if export is None:
        raise NotFound("There is no such export.")
    return export


def _content(request: Request, export_id: str) -> HttpResponseBase:
    export = _get(request, export_id)
    if export.status != Export.Status.READY:
        raise Conflict(f"The export is {export.status}.")
    try:
        return export_response(export, request=request._request, actor=request.user.name)
    except StorageFailed:
        raise Unavailable("The storage of exports cannot be reached.") from None


def _as_json(export: Export) -> dict[str, Any]:
    ready = export.status == Export.Status.READY
    return {
        "id": export.pk,
        "status": export.status,
        "format": export.format,
        "filters": {name: value for name, value in export.filters.items() if name != "app"},
        "labels_up_to": export.labels_up_to,
        "rows": export.rows,
        "created_at": export.created_at,
        "finished_at": export.finished_at,
        "sha256": export.sha256 or None,
        "bytes": content_size(export) if ready else None,
        "card": export.card if ready else None,
        "content": reverse("label-export-content", args=[export.pk]) if ready else None,
        "error": export.error or None,
    }
