"""The queue."""

from __future__ import annotations

from dataclasses import asdict
from typing import cast
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.utils.crypto import salted_hmac
from django.utils.http import quote_etag
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from classifiers.result import CATEGORIES, Severity
from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.review import presentation
from guardreview.review import queue as queue_reads
from guardreview.review.forms import QueueFilterForm


@never_cache
@require_GET
@requires(Act.READ_QUEUE)
def queue(request: HttpRequest) -> HttpResponse:
    """Open items by deadline. Asked by htmx, the list alone, and nothing at all (304) while it is the same."""
    filters = QueueFilterForm(request.GET).filters
    try:
        page = queue_reads.queue_page(filters=filters, user=cast(User, request.user), cursor=request.GET.get("cursor", ""))
    except ValueError:  # a cursor that somebody typed
        return redirect(_queue_address(filters))
    counts = queue_reads.queue_counts(user=cast(User, request.user))
    context = {
        "filters": filters,
        "rows": presentation.queue_rows(page.items, user=cast(User, request.user), now=timezone.now()),
        "counts": counts,
        "severities": [
            ("", "All", counts["waiting"], _queue_address(filters, severity="")),
            *((s.value, s.value.capitalize(), counts.get(s, 0), _queue_address(filters, severity=s)) for s in Severity),
        ],
        "kinds": [
            ("", "All kinds", _queue_address(filters, kind="")),
            *((kind, words, _queue_address(filters, kind=kind)) for kind, words in presentation.KIND_WORDS.items()),
        ],
        "categories": [(name, words) for name, words in presentation.CATEGORY_WORDS.items() if name in CATEGORIES],
        "first_page": "" if not request.GET.get("cursor") else _queue_address(filters),
        "next_page": _queue_address(filters, cursor=page.next_cursor) if page.next_cursor else "",
        "here": request.get_full_path(),
    }
    # After the last decision htmx is redirected here too, and then wants the page.
    if request.htmx.target != "queue":  # type: ignore[attr-defined]
        return render(request, "review/queue.html", context)
    response = render(request, "review/_queue_refresh.html", context)
    etag = quote_etag(salted_hmac("guardreview.review.queue", response.content).hexdigest()[:20])
    response.headers["ETag"] = etag
    return cast(HttpResponse, get_conditional_response(request, etag=etag, response=response))


def _queue_address(filters: queue_reads.QueueFilter, **changes: str) -> str:
    wanted = {**asdict(filters), **changes}
    query = urlencode({name: value for name, value in wanted.items() if value and (name, value) != ("tab", "waiting")})
    return reverse("queue") + (f"?{query}" if query else "")
