"""Model versions: what was measured of each, which one serves, and how another comes to serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.learning import presentation, promotion, selectors, shadow
from guardreview.learning.models import PromotionCheck
from guardreview.learning.presentation_promotion import check_report
from guardreview.learning.views.training import runs_context
from guardreview.review.models import Label
from guardreview.verdicts.artefacts import bundle_fault
from guardreview.verdicts.models import ModelVersion

MAX_WHY = 500
UNDER_WAY = (PromotionCheck.Status.QUEUED, PromotionCheck.Status.RUNNING)


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def models(request: HttpRequest) -> HttpResponse:
    """Model versions, training runs, what serves now, and what served before."""
    runs, policy = selectors.training_runs(), selectors.active_policy()
    versions = list(selectors.model_versions())
    serving = next((each for each in versions if each.stage == ModelVersion.Stage.ACTIVE), None)
    shown = [each for each in versions if each.stage != ModelVersion.Stage.RETIRED]
    context = {
        "cards": [(presentation.model_card(each), bundle_fault(each.version, each.artefact)) for each in shown],
        "retired": [each for each in versions if each.stage == ModelVersion.Stage.RETIRED],
        "serving": serving,
        "policy": policy,
        "thresholds": presentation.threshold_rows(policy) if policy else [],
        "label_count": Label.objects.count(),
        "promotions": promotion.promotions(),
        "before": promotion.before_this(),
        **runs_context(runs),
    }
    return render(request, "learning/models.html", context)


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def model(request: HttpRequest, version: str) -> HttpResponse:
    """One version beside the one that serves now: its check, and what may be done with it."""
    found = get_object_or_404(ModelVersion, version=version)
    active = selectors.active_model()
    context = {
        "card": presentation.model_card(found),
        "fault": bundle_fault(found.version, found.artefact),
        "active": presentation.model_card(active) if active and active != found else None,
        **_check_context(found, _user(request)),
    }
    return render(request, "learning/model.html", context)


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def model_check_progress(request: HttpRequest, version: str) -> HttpResponse:
    """How far a check is; once it has ended, the whole page is new."""
    found = get_object_or_404(ModelVersion, version=version)
    context = _check_context(found, _user(request))
    if not context["under_way"]:
        return HttpResponse(headers={"HX-Refresh": "true"})
    return render(request, "learning/_check_progress.html", {"model": found, **context})


def _check_context(found: ModelVersion, user: User) -> dict[str, Any]:
    check = promotion.last_check(found)
    under_way = check is not None and check.status in UNDER_WAY
    sealed = user.may(Act.DECIDE)
    report = check_report(check.report, sealed=sealed) if check is not None and check.report else None
    stale = promotion.stale_because(check) if check is not None and report is not None and found.stage != "active" else ""
    return {
        "check": check,
        "other_checks": promotion.other_checks(check),
        "under_way": under_way,
        "report": report,
        "stale": stale,
        "may_promote": report is not None and report.passed and not stale and found.stage != ModelVersion.Stage.ACTIVE,
    }


@require_POST
@requires(Act.MANAGE_MODELS)
def model_check(request: HttpRequest, version: str) -> HttpResponse:
    """Compare it with what serves."""
    found = get_object_or_404(ModelVersion, version=version)
    return _do(request, found, lambda: promotion.check_request(candidate=found, actor=_user(request)), "The check is queued.")


@require_POST
@requires(Act.MANAGE_MODELS)
def model_promote(request: HttpRequest, version: str) -> HttpResponse:
    """Let it serve from the next exchange on, if its check says that it may."""
    found = get_object_or_404(ModelVersion, version=version)
    why = request.POST.get("why", "")[:MAX_WHY].strip()
    return _do(
        request,
        found,
        lambda: promotion.model_promote(candidate=found, actor=_user(request), why=why),
        f"{version} serves. Workers follow within seconds.",
    )


@require_POST
@requires(Act.MANAGE_MODELS)
def model_roll_back(request: HttpRequest) -> HttpResponse:
    """Return to what served before."""
    try:
        made = promotion.model_roll_back(actor=_user(request), why=request.POST.get("why", "")[:MAX_WHY].strip())
    except promotion.NotPromoted as error:
        messages.error(request, f"Not changed: {error}")
    else:
        messages.success(request, f"{made.model.version} serves again, with {made.policy}. Workers follow within seconds.")
    return redirect("models")


@require_POST
@requires(Act.MANAGE_MODELS)
def model_shadow(request: HttpRequest, version: str) -> HttpResponse:
    """Begin or end its time in the shadow."""
    found = get_object_or_404(ModelVersion, version=version)
    if found.stage == ModelVersion.Stage.SHADOW:
        shadow.shadow_end(model=found, actor=_user(request))
        messages.success(request, f"{version} no longer reads along.")
        return redirect("model", version)
    return _do(
        request,
        found,
        lambda: shadow.shadow_start(model=found, actor=_user(request)),
        f"{version} reads along. Nothing it says has any effect.",
    )


def _do(request: HttpRequest, found: ModelVersion, act: Callable[[], object], done: str) -> HttpResponse:
    try:
        act()
    except promotion.NotPromoted as error:
        messages.error(request, f"Not done: {error}")
    else:
        messages.success(request, done)
    return redirect("model", found.version)


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)
