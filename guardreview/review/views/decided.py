"""What was decided."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.core.services import audit
from guardreview.review import presentation
from guardreview.review.consequences import is_in_force, standing_words
from guardreview.review.decisions import OUTCOMES, decisions_page
from guardreview.review.forms import DecidedFilterForm
from guardreview.review.masking import excerpts
from guardreview.review.models import Label, Review
from guardreview.review.queue import reopenable_items
from guardreview.review.visibility import is_still_blind
from guardreview.verdicts.models import ReviewItem


@never_cache
@require_GET
@requires(Act.READ_QUEUE)
def decided(request: HttpRequest) -> HttpResponse:
    """The latest decisions: one's own, and for leads and auditors everybody's."""
    user = cast(User, request.user)
    sees_all, decides = user.may(Act.READ_ALL_DECISIONS), user.may(Act.DECIDE)
    form = DecidedFilterForm(request.GET)
    chosen = form.chosen
    own = not sees_all or (decides and chosen["by"] == "me")
    page = decisions_page(
        viewer=user, own=own, truth=chosen["truth"], outcome=chosen["outcome"], before=int(chosen["before"] or 0) or None
    )
    may_reopen = _reopenable(user, page.reviews) if decides else frozenset()
    rows = [_row(review, page.labels.get(review.item.exchange_id), may_reopen) for review in page.reviews]
    audit(actor=user.username, action="decided.view", reviews=[review.pk for review in page.reviews])

    def address(**changes: str) -> str:
        query = urlencode({name: value for name, value in {**chosen, "before": "", **changes}.items() if value})
        return reverse("decided") + (f"?{query}" if query else "")

    context = {
        "rows": rows,
        "mine": own,
        "filtered": bool(chosen["truth"] or chosen["outcome"]),
        "whose": [("Everybody's", not own, address(by="")), ("Mine", own, address(by="me"))] if sees_all and decides else [],
        "truths": [
            (words, chosen["truth"] == value, address(truth=value))
            for value, words in (("", "All"), *((truth.value, truth.value.capitalize()) for truth in Review.Truth))
        ],
        "outcomes": [
            (words, chosen["outcome"] == value, address(outcome=value))
            for value, words in (("", "Any"), *((name, name.capitalize()) for name in OUTCOMES))
        ],
        "everything": address(truth="", outcome=""),
        "newest": address() if chosen["before"] else "",
        "older": address(before=str(page.older)) if page.older else "",
    }
    return render(request, "review/decided.html", context)


def _reopenable(user: User, reviews: Collection[Review]) -> frozenset[int]:
    """Keys of the reviews whose items this person may decide anew: the latest of each item, of those that are settled."""
    items = set(reopenable_items(user=user)) if not user.may(Act.ADJUDICATE) else {review.item_id for review in reviews}
    latest: dict[int, int] = {}
    for review in reviews:
        if review.item_id in items and review.item.status == ReviewItem.Status.DECIDED:
            latest.setdefault(review.item_id, review.pk)
    if user.may(Act.ADJUDICATE):
        return frozenset(latest.values())
    # What another settled is theirs.
    return frozenset(Label.objects.filter(review__in=latest.values(), is_current=True).values_list("review_id", flat=True))


def _row(review: Review, label: Label | None, may_reopen: Collection[int]) -> dict[str, Any]:
    item, exchange = review.item, review.item.exchange
    still_blind = is_still_blind(review)
    category = review.categories[0] if review.categories else item.category
    query, response = excerpts(exchange.query, exchange.response)
    return {
        "review": review,
        "title": "Blind item" if still_blind and not review.categories else presentation.category_words(category),
        "outcome": "" if still_blind else standing_words(review, exchange.verdict.decision, label),
        "tone": {True: "confirmed", False: "overturned", None: ""}[review.confirms] if is_in_force(review, label) else "",
        "query": query,
        "response": response,
        "may_reopen": review.pk in may_reopen,
    }
