"""Pages of labels and models. Each view parses, calls a service or selector, and renders."""

from __future__ import annotations

from typing import cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from classifiers.encoder.bundle import InvalidBundle
from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.core.streaming import stream
from guardreview.learning import presentation, selectors
from guardreview.learning.models import TrainingRun
from guardreview.learning.services import EXPORT_FORMATS, TrainingBusy, labels_export, training_request
from guardreview.review.models import Label
from guardreview.verdicts.models import ModelVersion
from guardreview.verdicts.services import model_version_activate

CONTENT_TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}


@never_cache
@require_GET
@requires(Act.EXPORT_LABELS)
def labels(request: HttpRequest) -> HttpResponse:
    """How many labels there are of what, and the ways to take them out."""
    counts = selectors.label_counts()
    context = {
        "counts": counts,
        "categories": presentation.category_bars(counts),
        "confirmed": counts.outcomes.get(True, 0),
        "overturned": counts.outcomes.get(False, 0),
        "settled": counts.outcomes.get(None, 0),
    }
    return render(request, "learning/labels.html", context)


@never_cache
@require_GET
@requires(Act.EXPORT_LABELS)
def labels_download(request: HttpRequest) -> HttpResponseBase:
    """All labels as a file, streamed."""
    wanted = request.GET.get("format", "jsonl")
    if wanted not in EXPORT_FORMATS:
        return HttpResponseBadRequest("format must be jsonl or csv")
    lines = labels_export(format=wanted, actor=request.user.get_username())
    response = StreamingHttpResponse(stream(lines, request=request), content_type=CONTENT_TYPES[wanted])
    response.headers["Content-Disposition"] = f'attachment; filename="labels-{timezone.now():%Y%m%d-%H%M}.{wanted}"'
    return response


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
        **_runs_context(runs),
    }
    return render(request, "learning/models.html", context)


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def training_runs(request: HttpRequest) -> HttpResponse:
    """The list of training runs alone, which the models page asks for while one is under way."""
    return render(request, "learning/_runs.html", _runs_context(selectors.training_runs()))


def _runs_context(runs: list[TrainingRun]) -> dict[str, object]:
    busy = (TrainingRun.Status.QUEUED, TrainingRun.Status.RUNNING)
    return {"runs": runs, "training": any(run.status in busy for run in runs)}


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
