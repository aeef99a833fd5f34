"""The queue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.utils.crypto import salted_hmac
from django.utils.http import quote_etag
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from classifiers.result import Severity
from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.core.services import audit
from guardreview.review import presentation
from guardreview.review import queue as queue_reads
from guardreview.review.presentation import count_words
from guardreview.review.queue_forms import TAB_WORDS, QueueFilterForm, address_of, query_of, tabs_of
from guardreview.review.saved_views import saved_views


@never_cache
@require_GET
@requires(Act.READ_QUEUE)
def queue(request: HttpRequest) -> HttpResponse:
    """Open items by deadline. Asked by htmx, the list alone, and nothing at all (304) while it is the same."""
    user = cast(User, request.user)
    form = queue_filter_form(request.GET, user)
    filters, cursor = form.filters, request.GET.get("cursor", "")
    try:
        page = queue_reads.queue_page(filters=filters, user=user, cursor=cursor)
    except ValueError:  # a cursor that somebody typed
        return redirect(address_of(filters))
    counts = queue_reads.queue_counts(user=user)
    # After the last decision htmx is redirected here too, and then wants the page.
    is_refresh = request.htmx.target == "queue"  # type: ignore[attr-defined]
    etag = _etag(user, filters, cursor, counts, page)
    if is_refresh and (unchanged := get_conditional_response(request, etag=etag)) is not None:
        unchanged.headers["ETag"] = etag
        return unchanged
    if page.items or filters.text:
        seen = [str(item.exchange_id) for item in page.items]
        audit(actor=user.username, action="queue.view", target=filters.tab, exchanges=seen, searched=bool(filters.text))
    now = timezone.now()
    context: dict[str, Any] = {
        "filters": filters,
        "rows": presentation.queue_rows(page.items, user=user, now=now, unmasked=filters.tab == "audit"),
        "now": now,
        "counts": counts,
        "tabs": _tabs(user, filters, counts),
        "severities": _severities(form, counts),
        "narrowed": bool(form.chips or filters.severity),
        "unfiltered": address_of(queue_reads.QueueFilter(tab=filters.tab)),
        "empty": presentation.EMPTY_WORDS[filters.tab],
        "first_page": address_of(filters) if cursor else "",
        "next_page": address_of(filters, cursor=page.next_cursor) if page.next_cursor else "",
    }
    if is_refresh:
        response = render(request, "review/_queue_refresh.html", context)
    else:
        query = query_of(filters)
        views = [(view, reverse("queue") + (f"?{view.query}" if view.query else "")) for view in saved_views(user=user)]
        kept = [(name, value) for name in ("tab", "severity") if (value := getattr(filters, name)) != "waiting" and value]
        context |= {"form": form, "kept": kept, "query": query, "views": views, "here": request.get_full_path(), "etag": etag}
        response = render(request, "review/queue.html", context)
    response.headers["ETag"] = etag
    return response


def queue_filter_form(data: Any, user: User) -> QueueFilterForm:
    """The filters in `data` as they hold for this person."""
    return QueueFilterForm(data, user=user, apps=queue_reads.filter_apps(), people=queue_reads.filter_people())


def _etag(user: User, filters: queue_reads.QueueFilter, cursor: str, counts: dict[str, int], page: queue_reads.QueuePage) -> str:
    """Differs when something on the page does, but for the times, which the page itself counts on."""
    now = timezone.now()
    shown = [
        (item.pk, item.stage, item.round, item.blind, item.leased_by_id if item.is_leased(now) else None)
        # When a blind item becomes overdue must not be seen from what is sent.
        + (() if item.blind else (item.due_at, item.due_at < now))
        for item in page.items
    ]
    stamp = repr((user.pk, filters, cursor, sorted(counts.items()), shown, page.next_cursor))
    return quote_etag(salted_hmac("guardreview.review.queue", stamp).hexdigest()[:20])


def _tabs(user: User, filters: queue_reads.QueueFilter, counts: dict[str, int]) -> list[dict[str, Any]]:
    tabs = [
        {
            "id": f"tab-{tab}",
            "words": TAB_WORDS[tab],
            "count": count_words(counts[tab]),
            "address": address_of(queue_reads.QueueFilter(tab=tab)),
            "here": tab == filters.tab,
        }
        for tab in tabs_of(user)
    ]
    return [*tabs, {"id": "tab-decided", "words": "Decided", "count": "", "address": reverse("decided"), "here": False}]


def _severities(form: QueueFilterForm, counts: dict[str, int]) -> list[dict[str, Any]]:
    """How many there are is said where it is what one would get."""
    counted = form.filters.tab == "waiting" and not form.chips
    return [
        {
            "id": f"severity-{name or 'all'}",
            "name": name,
            "words": name.capitalize() or "All",
            "count": count_words(counts[name or "waiting"]) if counted else "",
            "address": address_of(replace(form.filters, severity=name)),
            "here": form.filters.severity == name,
        }
        for name in ("", *(severity.value for severity in Severity))
    ]
