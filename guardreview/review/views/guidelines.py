"""Guidelines: read by all who see the queue, changed by leads; and the past decisions that a change put in doubt."""

from __future__ import annotations

from http import HTTPStatus
from itertools import groupby
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from classifiers.result import family_of
from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.core.services import audit
from guardreview.review import doubts, guidelines
from guardreview.review.guideline_text import changes
from guardreview.review.guidelines import MAX_TEXT, MAX_WHY, Guide, GuidelineChanged, InvalidGuideline
from guardreview.review.masking import excerpts
from guardreview.review.models import Doubt
from guardreview.review.presentation import GROUPS
from guardreview.review.services import TooLate, item_reopen
from guardreview.verdicts.models import ReviewItem


class GuidelineForm(forms.Form):
    """A new version, and which one it began from."""

    text = forms.CharField(required=False, strip=False, max_length=4 * MAX_TEXT)
    why = forms.CharField(required=False, max_length=4 * MAX_WHY)
    edited = forms.IntegerField(min_value=0, max_value=2**31 - 1)
    item = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    look_again = forms.BooleanField(required=False)


@never_cache
@require_GET
@requires(Act.READ_QUEUE)
def guideline_list(request: HttpRequest) -> HttpResponse:
    """Every guideline in force, under the headings of the decision form."""
    found = {guide.category: guide for guide in guidelines.guidelines_for()}
    headings = {family: words for words, families in GROUPS for family in families}
    groups = [
        (heading, [found[category] for category in categories])
        for heading, categories in groupby(found, key=lambda category: headings[family_of(category)])
    ]
    return render(request, "guidelines/list.html", {"groups": groups, "doubts": doubts.doubt_count()})


@never_cache
@require_GET
@requires(Act.READ_QUEUE)
def guideline(request: HttpRequest, category: str) -> HttpResponse:
    """One guideline, and how it came to be what it is."""
    guide = _guide(category)
    context = {"guide": guide, "history": guidelines.guideline_history(category=category)}
    return render(request, "guidelines/guideline.html", context)


@never_cache
@require_http_methods(["GET", "POST"])
@requires(Act.ADJUDICATE)
def guideline_edit(request: HttpRequest, category: str) -> HttpResponse:
    """Write the next version; from an item's page, with that item as its origin."""
    guide = _guide(category)
    if request.method == "GET":
        return _edit_page(request, guide, {"text": guide.text, "item": request.GET.get("item", "")})
    form = GuidelineForm(request.POST)
    sent = {name: request.POST.get(name, "") for name in ("text", "why", "item", "look_again")}
    if not form.is_valid():
        return _edit_page(request, guide, sent, message="The form was incomplete or far too long. Please check it.")
    said = form.cleaned_data
    try:
        made, raised = guidelines.guideline_change(
            category=category,
            edited=said["edited"],
            text=said["text"],
            why=said["why"],
            user=cast(User, request.user),
            item=_origin(said["item"]),
            look_again=said["look_again"],
        )
    except InvalidGuideline as error:
        return _edit_page(request, guide, sent, message=str(error))
    except GuidelineChanged as changed:
        return _edit_page(request, changed.current, sent, theirs=changed.current)
    looked = f" {raised} past decision{'s' if raised != 1 else ''} to look at again." if raised else ""
    messages.success(request, f"Version {made.version} is in force.{looked}")
    return redirect("guideline", category=category)


def _edit_page(
    request: HttpRequest, guide: Guide, said: dict[str, Any], *, message: str = "", theirs: Guide | None = None
) -> HttpResponse:
    """The form, empty of nothing that was typed. `theirs`: what somebody else stored meanwhile (409)."""
    status = HTTPStatus.CONFLICT if theirs else HTTPStatus.UNPROCESSABLE_ENTITY if message else HTTPStatus.OK
    context = {
        "guide": guide,
        "said": said,
        "origin": _origin(said["item"]),
        "message": message,
        "theirs": theirs,
        "difference": changes(theirs.text, said["text"].replace("\r\n", "\n").strip()) if theirs else [],
        "affected": doubts.labels_affected(category=guide.category).count(),
        "most": doubts.MAX_DOUBTS,
        "max_text": MAX_TEXT,
        "max_why": MAX_WHY,
    }
    return render(request, "guidelines/edit.html", context, status=status)


def _guide(category: str) -> Guide:
    try:
        return guidelines.guideline_current(category=category)
    except KeyError as error:
        raise Http404 from error


def _origin(item_id: Any) -> ReviewItem | None:
    """The adjudicated item that a change came from, if that is one."""
    if not str(item_id).isdecimal() or len(str(item_id)) > 18:
        return None
    return ReviewItem.objects.filter(pk=item_id, stage=ReviewItem.Stage.ADJUDICATION).first()


# --- Doubts ---------------------------------------------------------------------------------------------------------------
@never_cache
@require_GET
@requires(Act.ADJUDICATE)
def doubt_list(request: HttpRequest) -> HttpResponse:
    """Past decisions that a changed guideline may have made wrong, the oldest doubt first."""
    after = request.GET.get("after", "")
    found = doubts.doubts_open(after=int(after) if after.isdecimal() and len(after) <= 18 else 0)
    page, more = found[: doubts.PAGE_SIZE], len(found) > doubts.PAGE_SIZE
    exchanges = [doubt.label.exchange for doubt in page]
    audit(actor=request.user.get_username(), action="doubts.view", exchanges=[str(exchange.pk) for exchange in exchanges])
    context = {
        "rows": [(doubt, *excerpts(doubt.label.exchange.query, doubt.label.exchange.response)) for doubt in page],
        "count": doubts.doubt_count(),
        "next": page[-1].pk if more else None,
    }
    return render(request, "guidelines/doubts.html", context)


@require_POST
@requires(Act.ADJUDICATE)
def doubt_dismiss(request: HttpRequest, doubt_id: int) -> HttpResponse:
    """The label is still right."""
    doubt = get_object_or_404(Doubt.objects.select_related("label"), pk=doubt_id)
    if doubts.doubt_dismiss(doubt=doubt, user=cast(User, request.user)):
        messages.success(request, "Still right.")
    else:
        messages.info(request, "Somebody has looked at this one already.")
    return redirect("doubts")


@require_POST
@requires(Act.ADJUDICATE)
def doubt_reopen(request: HttpRequest, doubt_id: int) -> HttpResponse:
    """Decide the item anew; once that settles, the doubt is resolved."""
    doubt = get_object_or_404(Doubt.objects.select_related("label__exchange__review_item"), pk=doubt_id)
    item = doubt.label.exchange.review_item
    try:
        item_reopen(item=item, user=cast(User, request.user))
    except TooLate:
        messages.info(request, "This item is being decided anew already.")
    return redirect("item", item_id=item.pk)
