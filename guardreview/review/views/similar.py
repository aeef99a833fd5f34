"""Past decisions on exchanges like the item's: a part of its page that loads after it."""

from __future__ import annotations

from typing import cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.core.services import audit
from guardreview.review.similar import similar_decisions
from guardreview.review.visibility import verdict_is_hidden
from guardreview.verdicts.models import ReviewItem


@never_cache
@require_GET
@requires(Act.READ_QUEUE)
def item_similar(request: HttpRequest, item_id: int) -> HttpResponse:
    """The nearest settled exchanges and what was decided; nothing on an item that is blind to the reader."""
    found = get_object_or_404(ReviewItem, pk=item_id)
    user = cast(User, request.user)
    if verdict_is_hidden(found, user, found.reviews.all()):
        return render(request, "review/_similar.html", {"item": found, "hidden": True})
    decisions = similar_decisions(exchange_id=found.exchange_id)
    if decisions:
        shown = [str(decision.exchange_id) for decision in decisions]
        audit(actor=user.username, action="item.similar", target=f"exchange:{found.exchange_id}", exchanges=shown)
    return render(request, "review/_similar.html", {"item": found, "decisions": decisions})
