"""The page of the weekly figures: what wants attention, this week, and the weeks before; and closing a rule's revision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.learning import alarms, health_panels, rule_revisions
from guardreview.learning import health as reads
from guardreview.learning.models import RuleRevision

PAGES: Mapping[str, tuple[str, str, Act]] = {
    "decided": ("Decisions", "decided", Act.READ_ALL_DECISIONS),
    "insight": ("Insight", "insight", Act.READ_INSIGHT),
    "thresholds": ("Thresholds", "thresholds", Act.READ_MODELS),
    "models": ("Models", "models", Act.READ_MODELS),
    "labels": ("Labels", "labels-page", Act.EXPORT_LABELS),
}


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def health(request: HttpRequest) -> HttpResponse:
    """The last finished week, and up to twelve; texts of patients only behind links."""
    user = cast(User, request.user)
    found = reads.reports(12)
    weeks = [(each.week, each.figures) for each in found]
    context: dict[str, Any] = {"report": found[-1] if found else None, "may_close": user.may(Act.MANAGE_RULES)}
    if found:
        past = [(each.week, each.figures, each.alarms) for each in found[:-1]][-alarms.REFERENCE_WEEKS :]
        raised = [{**alarm, "pages": _links(alarm["links"], user)} for alarm in found[-1].alarms]
        context |= {
            "alarms": [each for each in raised if each["level"] == alarms.ALARM],
            "others": [each for each in raised if each["level"] != alarms.ALARM],
            "panels": health_panels.this_week(weeks, past),
            "multiples": health_panels.small_multiples(weeks),
            "changes": [{**each, "pages": _links([each], user)} for each in found[-1].figures["changes"]],
            "is_empty": not found[-1].figures["n"],
        }
    context["revisions"] = [
        (each, reverse("admin:verdicts_customrule_change", args=[key]) if key and user.may(Act.MANAGE_RULES) else "")
        for each, key in rule_revisions.open_revisions()
    ]
    context["may_read_items"] = user.may(Act.READ_QUEUE)
    return render(request, "learning/health.html", context)


def _links(links: list[dict[str, str]], user: User) -> list[tuple[str, str]]:
    """(words, address) of those that the person may open."""
    found = []
    for link in links:
        kind, target = link["kind"], link["target"]
        if kind in PAGES and user.may(PAGES[kind][2]):
            found.append((PAGES[kind][0], reverse(PAGES[kind][1])))
        elif kind == "model":
            found.append((f"Model {target}", reverse("model", args=[target])))
        elif kind == "policy" and user.may(Act.ADMINISTER):
            found.append((f"Policy {target}", reverse("admin:verdicts_policy_change", args=[target])))
        elif kind == "rule" and user.may(Act.MANAGE_RULES):
            found.append(("The rule", reverse("admin:verdicts_customrule_change", args=[target])))
    return list(dict.fromkeys(found))


@require_POST
@requires(Act.MANAGE_RULES)
def revision_close(request: HttpRequest, revision_id: int) -> HttpResponse:
    """Say what becomes of a rule."""
    revision = get_object_or_404(RuleRevision, pk=revision_id)
    try:
        rule_revisions.rule_revision_close(revision=revision, actor=cast(User, request.user), note=request.POST.get("note", ""))
    except rule_revisions.NotClosed as error:
        messages.error(request, f"Not closed: {error}")
    else:
        messages.success(request, f"The revision of {revision.rule} is closed.")
    return redirect("health-page")
