"""Masked personal data of an item is shown, for a reason, and masked again."""

from __future__ import annotations

from http import HTTPStatus
from typing import cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.core.services import audit
from guardreview.review.masking import masked
from guardreview.review.revealed import MAX_REASON, conceal, reveal
from guardreview.review.views.item import item_page
from guardreview.verdicts.models import ReviewItem


@never_cache
@require_POST
@requires(Act.REVEAL)
def item_reveal(request: HttpRequest, item_id: int) -> HttpResponse:
    """Show an item's personal data to this session for some minutes, and record why. 422 without a reason."""
    found = get_object_or_404(ReviewItem, pk=item_id)
    reason = " ".join(request.POST.get("reason", "").split())
    if not reason or len(reason) > MAX_REASON:
        message = f"Say why, in at most {MAX_REASON} characters: nothing was revealed."
        return item_page(request, item_id, reveal_message=message, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    # The log holds no patient's words, be they quoted in a reason.
    kept = masked(reason, MAX_REASON)
    audit(actor=cast(User, request.user).username, action="item.reveal", target=f"exchange:{found.exchange_id}", reason=kept)
    reveal(request, item_id)
    return redirect("item", item_id=item_id)


@require_POST
@requires(Act.REVEAL)
def item_conceal(request: HttpRequest, item_id: int) -> HttpResponse:
    """Mask an item's personal data again."""
    found = get_object_or_404(ReviewItem, pk=item_id)
    conceal(request, found.pk)
    return redirect("item", item_id=item_id)
