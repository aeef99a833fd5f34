"""The shadow: how far a candidate agrees with what serves, and where it does not."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.learning import presentation_promotion as words
from guardreview.learning import shadow
from guardreview.learning.promotion import NotPromoted
from guardreview.verdicts.models import ModelVersion

PAGE = 30
SHARES = (10, 25, 50, 100)


def _filters(data: Any) -> shadow.Filters:
    chosen = {name: data.get(name, "") for name in ("served", "decision")}
    return shadow.Filters(**{name: value if value in words.OUTCOMES else "" for name, value in chosen.items()})


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def model_shadow_page(request: HttpRequest, version: str) -> HttpResponse:
    """What a candidate said of the traffic, beside what was served; of what its reader may still decide blind, nothing."""
    found = get_object_or_404(ModelVersion, version=version)
    filters = _filters(request.GET)
    sealed = cast(User, request.user).may(Act.DECIDE)
    counts, pairs = shadow.counts(found, sealed=sealed), shadow.score_pairs(found, sealed=sealed)
    page = Paginator(shadow.differences(found, filters, sealed=sealed), PAGE).get_page(request.GET.get("page"))
    rows = [(row, words.OUTCOME_WORDS[row.served], words.OUTCOME_WORDS[row.decision]) for row in page.object_list]
    total, differing = sum(counts.values()), sum(n for (one, other), n in counts.items() if one != other)
    context = {
        "model": found,
        "filters": filters,
        "outcomes": words.OUTCOME_WORDS.items(),
        "total": total,
        "differing": differing,
        "failed": shadow.results(found, sealed=sealed).filter(p_unsafe=None).count(),
        "matrix": words.matrix(counts),
        "panel": {"title": "Agreement"},
        "agreement": words.agreement(counts),
        "dots": words.scatter(pairs),
        "panels": words.score_panels(pairs) if pairs else [],
        "page": page,
        "rows": rows,
        "drawable": shadow.drawable(found, filters).count(),
        "shares": SHARES,
    }
    return render(request, "learning/shadow.html", context)


@require_POST
@requires(Act.MANAGE_MODELS)
def shadow_draw(request: HttpRequest, version: str) -> HttpResponse:
    """Draw a share of the differing allowed answers for blind review."""
    found = get_object_or_404(ModelVersion, version=version)
    share = request.POST.get("share", "")
    try:
        if share not in map(str, SHARES):
            raise NotPromoted(f"The share is one of {', '.join(map(str, SHARES))} per cent.")
        drawn = shadow.shadow_draw(
            model=found, share=int(share) / 100, filters=_filters(request.POST), actor=cast(User, request.user)
        )
    except NotPromoted as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"{drawn} drawn for review. They stand in the queue as audited answers do.")
    return redirect("model-shadow-page", version)
