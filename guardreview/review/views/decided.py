"""What was decided."""

from __future__ import annotations

from typing import cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.review import presentation, selectors
from guardreview.review.evidence import excerpt


@never_cache
@require_GET
@requires(Act.READ_QUEUE)
def decided(request: HttpRequest) -> HttpResponse:
    """The latest decisions: one's own, and for leads and auditors everybody's."""
    user = cast(User, request.user)
    sees_all = user.may(Act.READ_ALL_DECISIONS)
    mine = not sees_all or (user.may(Act.DECIDE) and request.GET.get("by") == "me")
    rows = [
        {
            "review": review,
            "outcome": presentation.outcome_words(review, review.item.exchange.verdict.decision),
            "query": excerpt(review.item.exchange.query, 120),
            "response": excerpt(review.item.exchange.response),
        }
        for review in selectors.reviews_recent(user=user if mine else None)
    ]
    return render(request, "review/decided.html", {"rows": rows, "mine": mine, "both": sees_all and user.may(Act.DECIDE)})
