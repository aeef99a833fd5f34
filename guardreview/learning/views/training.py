"""Training runs: asked for, watched, cancelled, ended; what each was made of, and its card."""

from __future__ import annotations

import json
from typing import cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.learning import selectors
from guardreview.learning.candidates import metrics_file
from guardreview.learning.models import ImportedLabel, TrainingRun
from guardreview.learning.presentation_training import run_page
from guardreview.learning.training_runs import BUSY, TrainingBusy, training_cancel, training_request
from guardreview.review.models import Label


@never_cache
@require_GET
@requires(Act.MANAGE_MODELS)
def training_new(request: HttpRequest) -> HttpResponse:
    """What retraining means, before it is asked for."""
    last = TrainingRun.objects.filter(status=TrainingRun.Status.SUCCEEDED).first()
    labels = Label.objects.filter(is_current=True)
    context = {
        "label_count": labels.count(),
        "new_count": labels.filter(pk__gt=last.labels_up_to if last else 0).count(),
        "imported_count": ImportedLabel.objects.filter(label_set__withdrawn_at=None).count(),
        "judge_count": User.objects.filter(judges_models=True, is_active=True).count(),
        "kinds": TrainingRun.Kind,
    }
    return render(request, "learning/training_new.html", context)


@require_POST
@requires(Act.MANAGE_MODELS)
def training_start(request: HttpRequest) -> HttpResponse:
    """Ask the workers to retrain with all labels."""
    kind = request.POST.get("kind", TrainingRun.Kind.HEAD)
    if kind not in TrainingRun.Kind.values:
        return HttpResponseBadRequest("kind must be head or encoder")
    try:
        run = training_request(actor=cast(User, request.user), kind=kind)
    except TrainingBusy as busy:
        messages.error(request, f"Training {busy.run.pk} is {busy.run.status} already.")
        return redirect("training-run", busy.run.pk)
    messages.success(request, f"Training {run.pk} is queued.")
    return redirect("training-run", run.pk)


@require_POST
@requires(Act.MANAGE_MODELS)
def training_stop(request: HttpRequest, run_id: int) -> HttpResponse:
    """Cancel a run that waits or is under way."""
    run = get_object_or_404(TrainingRun, pk=run_id)
    if training_cancel(run=run, actor=cast(User, request.user)):
        messages.success(request, f"Training {run.pk} is stopping. Nothing of it is kept.")
    else:
        messages.error(request, f"Training {run.pk} had ended already.")
    return redirect("training-run", run.pk)


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def training_run(request: HttpRequest, run_id: int) -> HttpResponse:
    """One run: how far it is, or what came of it. What changes alone, where htmx asks."""
    run = get_object_or_404(TrainingRun.objects.select_related("requested_by", "cancelled_by", "model_version"), pk=run_id)
    page = run_page(run)
    part = request.htmx and page.under_way  # type: ignore[attr-defined]
    response = render(request, f"learning/{'_training_progress' if part else 'training_run'}.html", {"page": page, "run": run})
    if request.htmx and not part:  # type: ignore[attr-defined]
        response = HttpResponse(headers={"HX-Refresh": "true"})  # it has ended: all of the page is new
    return response


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def training_card(request: HttpRequest, run_id: int) -> HttpResponse:
    """A run's model card as Markdown, or its measurements as JSON."""
    run = get_object_or_404(TrainingRun.objects.select_related("model_version"), pk=run_id)
    if request.GET.get("format") == "json":
        response = HttpResponse(json.dumps(metrics_file(run), indent=1), content_type="application/json")
        response.headers["Content-Disposition"] = f'attachment; filename="training-{run.pk}.json"'
        return response
    response = HttpResponse(run.card, content_type="text/markdown; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="training-{run.pk}.md"'
    return response


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def training_runs(request: HttpRequest) -> HttpResponse:
    """The list of training runs alone, which the models page asks for while one is under way."""
    return render(request, "learning/_runs.html", runs_context(selectors.training_runs()))


def runs_context(runs: list[TrainingRun]) -> dict[str, object]:
    return {"runs": runs, "training": any(run.status in BUSY for run in runs)}
