"""Labels: how many there are of what, and a quick way to take them out."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from guardreview.core.roles import Act, requires
from guardreview.core.streaming import stream
from guardreview.learning import presentation, selectors
from guardreview.learning.export_formats import CONTENT_TYPES
from guardreview.learning.exports import STREAMED, labels_export


@never_cache
@require_GET
@requires(Act.EXPORT_LABELS)
def labels(request: HttpRequest) -> HttpResponse:
    """How many labels there are of what."""
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
    """All labels as a file, streamed at once and redacted; an export does the same for many, and can be gone on with."""
    wanted = request.GET.get("format", "jsonl")
    if wanted not in STREAMED:
        return HttpResponseBadRequest("format must be jsonl or csv")
    lines = labels_export(format=wanted, actor=request.user.get_username())
    response = StreamingHttpResponse(stream(lines, request=request), content_type=CONTENT_TYPES[wanted])
    response.headers["Content-Disposition"] = f'attachment; filename="labels-{timezone.now():%Y%m%d-%H%M}.{wanted}"'
    return response
