"""Training runs: asked for, watched, ended."""

from __future__ import annotations

from typing import cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.learning import selectors
from guardreview.learning.models import TrainingRun
from guardreview.learning.training_runs import TrainingBusy, training_request
from guardreview.review.models import Label


@never_cache
@require_GET
@requires(Act.MANAGE_MODELS)
def training_new(request: HttpRequest) -> HttpResponse:
    """What retraining means, before it is asked for."""
    active = selectors.active_model()
    label_count = Label.objects.count()
    context = {"label_count": label_count, "new_count": max(0, label_count - (active.labels_used if active else 0))}
    return render(request, "learning/training_new.html", context)


@require_POST
@requires(Act.MANAGE_MODELS)
def training_start(request: HttpRequest) -> HttpResponse:
    """Ask the workers to retrain with all labels."""
    try:
        run = training_request(actor=cast(User, request.user))
    except TrainingBusy as busy:
        messages.error(request, f"Training {busy.run.pk} is {busy.run.status} already.")
    else:
        messages.success(request, f"Training {run.pk} is queued.")
    return redirect("models")


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def training_runs(request: HttpRequest) -> HttpResponse:
    """The list of training runs alone, which the models page asks for while one is under way."""
    return render(request, "learning/_runs.html", runs_context(selectors.training_runs()))


def runs_context(runs: list[TrainingRun]) -> dict[str, object]:
    busy = (TrainingRun.Status.QUEUED, TrainingRun.Status.RUNNING)
    return {"runs": runs, "training": any(run.status in busy for run in runs)}
