"""Saving and deleting one's own views of the queue."""

from __future__ import annotations

from typing import cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.review.queue import QueueFilter
from guardreview.review.queue_forms import address_of, query_of
from guardreview.review.saved_views import MAX_QUERY, InvalidView, saved_view_delete, saved_view_save
from guardreview.review.views.queue import queue_filter_form


@require_POST
@requires(Act.READ_QUEUE)
def view_save(request: HttpRequest) -> HttpResponse:
    """Keep the filters in `query` under the name in `name`."""
    user, filters = cast(User, request.user), _filters(request)
    try:
        view = saved_view_save(user=user, name=request.POST.get("name", ""), query=query_of(filters))
    except InvalidView as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"Saved as “{view.name}”.")
    return redirect(address_of(filters))


@require_POST
@requires(Act.READ_QUEUE)
def view_delete(request: HttpRequest, view_id: int) -> HttpResponse:
    """Delete a view, and go back to the filters in `query`."""
    if saved_view_delete(user=cast(User, request.user), view_id=view_id):
        messages.success(request, "The view is deleted.")
    return redirect(address_of(_filters(request)))


def _filters(request: HttpRequest) -> QueueFilter:
    """Read as an address is, so that nothing else is ever kept or gone to."""
    return queue_filter_form(QueryDict(request.POST.get("query", "")[: 2 * MAX_QUERY]), cast(User, request.user)).filters
