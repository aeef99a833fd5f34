"""Exports: asked for with filters and a live count, watched, taken out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from guardreview.core.models import App, User
from guardreview.core.roles import Act, requires
from guardreview.learning import presentation_labels as presentation
from guardreview.learning.downloads import export_response
from guardreview.learning.export_filters import ExportFilters, InvalidFilter
from guardreview.learning.export_storage import StorageFailed
from guardreview.learning.exports import ExportsBusy, NoReason, export_request, export_retry
from guardreview.learning.models import Export
from guardreview.learning.selectors import latest_exports

FORM = ("since", "until", "category", "app", "layer", "agreement")


@never_cache
@require_http_methods(["GET", "POST"])
@requires(Act.EXPORT_LABELS)
def exports(request: HttpRequest) -> HttpResponse:
    """The exports, and a form for a new one, which a POST asks for."""
    user = cast(User, request.user)
    given = _given(request)
    problem = ""
    if request.method == "POST":
        try:
            export = export_request(
                format=_format(request),
                filters=ExportFilters.parse(given),
                actor=user.username,
                user=user,
                redacted=not request.POST.get("personal"),
                why=request.POST.get("why", ""),
            )
        except (InvalidFilter, NoReason, ExportsBusy) as error:
            problem = f"{error.field.capitalize()}: {error}" if isinstance(error, InvalidFilter) else str(error)
        else:
            messages.success(request, f"Export {export.pk} is {export.status}.")
            return redirect("exports")
    context = {
        **_list_context(user),
        "given": given,
        "problem": problem,
        "count": _count(given),
        "format": request.POST.get("format", "jsonl"),
        "why": request.POST.get("why", ""),
        "personal": bool(request.POST.get("personal")),
        "apps": App.objects.exclude(name="calibration").order_by("name").values_list("name", flat=True),
        "choices": presentation.filter_choices(),
    }
    return render(request, "learning/exports.html", context, status=422 if problem else 200)


@never_cache
@require_GET
@requires(Act.EXPORT_LABELS)
def exports_count(request: HttpRequest) -> HttpResponse:
    """How many labels the form's filters let through now."""
    return render(request, "learning/_exports_count.html", {"count": _count(_given(request))})


@never_cache
@require_GET
@requires(Act.EXPORT_LABELS)
def exports_list(request: HttpRequest) -> HttpResponse:
    """The list alone, which its page asks for while one is written."""
    return render(request, "learning/_exports.html", _list_context(cast(User, request.user)))


@never_cache
@require_safe
@requires(Act.EXPORT_LABELS)
def export_download(request: HttpRequest, export_id: int) -> HttpResponseBase:
    """A finished export's bytes; one with personal data, for those alone who may have that."""
    export = get_object_or_404(Export, pk=export_id, status=Export.Status.READY)
    user = cast(User, request.user)
    if not export.redacted and not user.may(Act.EXPORT_PERSONAL):
        raise PermissionDenied(f"Your role may not {Act.EXPORT_PERSONAL.value}.")
    try:
        return export_response(export, request=request, actor=user.username)
    except StorageFailed as error:
        raise Http404(str(error)) from error


@require_POST
@requires(Act.EXPORT_LABELS)
def export_again(request: HttpRequest, export_id: int) -> HttpResponse:
    """Go on with an export that failed."""
    export = get_object_or_404(Export, pk=export_id)
    if export_retry(export=export, actor=request.user.get_username()):
        messages.success(request, f"Export {export.pk} goes on.")
    return redirect("exports")


def _given(request: HttpRequest) -> dict[str, Any]:
    sent = request.POST if request.method == "POST" else request.GET
    return {**{name: sent.get(name, "") for name in FORM}, "bases": sent.getlist("bases")}


def _format(request: HttpRequest) -> str:
    wanted = request.POST.get("format", "")
    if wanted not in Export.Format.values:
        raise InvalidFilter("format", f"Must be one of {', '.join(Export.Format.values)}.")
    return wanted


def _count(given: Mapping[str, Any]) -> int | None:
    """None while the form does not say anything that can be counted."""
    try:
        return ExportFilters.parse(given).count()
    except InvalidFilter:
        return None


def _list_context(user: User) -> dict[str, Any]:
    rows = [presentation.export_line(export, may_have_personal=user.may(Act.EXPORT_PERSONAL)) for export in latest_exports()]
    return {"exports": rows, "writing": any(row.is_unfinished for row in rows)}
