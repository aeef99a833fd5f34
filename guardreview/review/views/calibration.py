"""Calibration items: made of settled ones, listed with how many agree, retired."""

from __future__ import annotations

from http import HTTPStatus
from typing import cast

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.core.services import audit
from guardreview.review import calibration, selectors
from guardreview.review.calibration import MAX_EXPLANATION, CalibrationRow, NoCalibration
from guardreview.review.masking import excerpts, masked
from guardreview.review.models import Calibration
from guardreview.verdicts.models import ReviewItem


@never_cache
@require_GET
@requires(Act.ADJUDICATE)
def calibration_list(request: HttpRequest) -> HttpResponse:
    """Every calibration item, and how many who decided it said its truth."""
    user = cast(User, request.user)
    found = calibration.calibration_rows(user=user)
    seen = [str(row.calibration.item.exchange_id) for row in found if row.known]
    audit(actor=user.username, action="calibration.view", exchanges=seen)
    answered, agreed = sum(row.answered for row in found), sum(row.agreed for row in found)
    context = {
        "rows": [(row, _excerpt(row)) for row in found],
        "active": sum(not row.retired for row in found),
        "answered": answered,
        "share": round(100 * agreed / answered) if answered else None,
    }
    return render(request, "calibration/list.html", context)


def _excerpt(row: CalibrationRow) -> tuple[str, str]:
    exchange = row.calibration.item.exchange
    return excerpts(exchange.query, exchange.response) if row.known else ("", "")


@never_cache
@require_http_methods(["GET", "POST"])
@requires(Act.ADJUDICATE)
def calibration_new(request: HttpRequest, item_id: int) -> HttpResponse:
    """Make one of a settled item: the lead says why its label is the truth."""
    item = get_object_or_404(ReviewItem.objects.select_related("exchange"), pk=item_id)
    label = selectors.label_of(item.exchange)
    if label is None or item.kind == ReviewItem.Kind.CALIBRATION:
        raise Http404
    user, explanation, message = cast(User, request.user), masked(label.review.note, MAX_EXPLANATION), ""
    if request.method == "POST":
        explanation = request.POST.get("explanation", "")[: 2 * MAX_EXPLANATION].replace("\r\n", "\n")
        try:
            calibration.calibration_create(item=item, user=user, explanation=explanation)
        except NoCalibration as error:
            message = str(error)
        else:
            messages.success(request, "Made. Every pharmacist will decide it once.")
            return redirect("calibration")
    audit(actor=user.username, action="item.view", target=f"exchange:{item.exchange_id}")
    query, response = excerpts(item.exchange.query, item.exchange.response, (400, 600))
    context = {
        "item": item,
        "label": label,
        "query": query,
        "response": response,
        "explanation": explanation,
        "message": message,
        "max_explanation": MAX_EXPLANATION,
        "in_conversation": bool(item.exchange.conversation_id),
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if message else HTTPStatus.OK
    return render(request, "calibration/new.html", context, status=status)


@require_POST
@requires(Act.ADJUDICATE)
def calibration_retire(request: HttpRequest, calibration_id: int) -> HttpResponse:
    """Ask nobody any more."""
    found = get_object_or_404(Calibration.objects.select_related("item"), pk=calibration_id)
    if calibration.calibration_retire(calibration=found, user=cast(User, request.user)):
        messages.success(request, "Retired. What was said of it stays.")
    else:
        messages.info(request, "It was retired already.")
    return redirect("calibration")
