"""Model versions: what was measured of each, and which one serves."""

from __future__ import annotations

from typing import cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from classifiers.encoder.bundle import InvalidBundle
from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.learning import presentation, selectors
from guardreview.learning.views.training import runs_context
from guardreview.review.models import Label
from guardreview.verdicts.models import ModelVersion
from guardreview.verdicts.services import model_version_activate


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def models(request: HttpRequest) -> HttpResponse:
    """Model versions, training runs, and the policy in force."""
    runs, policy = selectors.training_runs(), selectors.active_policy()
    context = {
        "cards": [presentation.model_card(model) for model in selectors.model_versions()],
        "policy": policy,
        "thresholds": presentation.threshold_rows(policy) if policy else [],
        "label_count": Label.objects.count(),
        **runs_context(runs),
    }
    return render(request, "learning/models.html", context)


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def model(request: HttpRequest, version: str) -> HttpResponse:
    """One version beside the one that serves now: what to look at before activating it."""
    found = get_object_or_404(ModelVersion, version=version)
    active = selectors.active_model()
    context = {
        "card": presentation.model_card(found),
        "active": presentation.model_card(active) if active and active != found else None,
    }
    return render(request, "learning/model.html", context)


@require_POST
@requires(Act.MANAGE_MODELS)
def model_activate(request: HttpRequest, version: str) -> HttpResponse:
    """Serve with this version from the next exchange on."""
    found = get_object_or_404(ModelVersion, version=version)
    try:
        model_version_activate(model=found, actor=cast(User, request.user))
    except InvalidBundle as error:
        messages.error(request, f"Not activated: {error}")
        return redirect("model", version=version)
    messages.success(request, f"{version} is active. Workers use it from the next exchange on.")
    return redirect("models")
