"""Thresholds: moved and looked at before they serve; policies proposed, approved, tried, gone back to; and their history."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from classifiers.policy import UNSAFE
from classifiers.policy import Policy as CascadePolicy
from classifiers.result import Layer
from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.core.services import audit
from guardreview.learning import policy_changes, policy_history, threshold_page
from guardreview.learning.models import PolicyChange
from guardreview.learning.policy_changes import PolicyRefused
from guardreview.learning.policy_differences import differences, key_words
from guardreview.learning.selectors import open_blind
from guardreview.learning.threshold_curves import curves, settled
from guardreview.learning.threshold_state import PERIODS, State, labels_of, number_words, read_state, since_of
from guardreview.learning.what_if import WhatIf, treats_otherwise, what_if
from guardreview.review.calibration import APP_NAME
from guardreview.verdicts import runtime
from guardreview.verdicts.models import Exchange, Policy
from guardreview.verdicts.services import layer_result_as_library

Status = PolicyChange.Status
STATE_FIELD = "state"
"""Of the form that proposes: the query of an address with the state."""


def _serving() -> Policy:
    policy = policy_history.serving_policy()
    if policy is None:
        raise Http404("No policy is in force.")
    return policy


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def thresholds(request: HttpRequest) -> HttpResponse:
    """The policy in force, or the one that the address proposes, with what it would change."""
    serving, model = _serving(), policy_history.serving_model()
    state = read_state(request.GET, serving)
    found = _replayed(state, serving)
    guarantee = policy_history.guarantee_of(state.policy, model)
    sliders = [
        threshold_page.slider(
            row, state.policy.threshold(row.key), found.histograms[row.key], guarantee if row.key == UNSAFE else None
        )
        for row in state.rows
    ]
    rest = [each for each in sliders if each.row.key == "default" and len(sliders) > 1]
    key = request.GET.get("curves", "")
    key = key if key in {row.key for row in state.rows} else state.rows[0].key
    labels = settled(model, key)
    context = {
        **_what_if_context(state, serving, found, guarantee, cast(User, request.user)),
        "sliders": [each for each in sliders if each not in rest],
        "rest": rest,
        "layers": [(layer.value, layer.value in state.fields["layers"]) for layer in Layer],
        "confidence": number_words(state.fields["judge_min_confidence"]),
        "curve_key": key,
        "curve_words": key_words(key),
        "curve_plots": threshold_page.curve_plots(curves(labels)) if labels.enough else [],
        "curve_table": threshold_page.curve_table(curves(labels)) if labels.enough else None,
        "curve_note": threshold_page.curve_note(labels, model.version or "no model"),
        "alarms": policy_history.alarms(),
        "waiting": policy_history.waiting(),
        "periods": [(days, words, days == state.days) for days, words in PERIODS.items()],
        "second": policy_changes.second_administrator(cast(User, request.user)),
    }
    return render(request, "learning/thresholds.html", context)


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def threshold_what_if(request: HttpRequest) -> HttpResponse:
    """The what-if alone, which the page asks for while a slider moves."""
    serving = _serving()
    state = read_state(request.GET, serving)
    guarantee = policy_history.guarantee_of(state.policy, policy_history.serving_model())
    return render(
        request,
        "learning/thresholds_what_if.html",
        _what_if_context(state, serving, _replayed(state, serving), guarantee, cast(User, request.user)),
    )


def _replayed(state: State, serving: Policy) -> WhatIf:
    return what_if(
        before=serving.as_cascade_policy(),
        after=state.policy,
        since=since_of(state.days),
        judge=runtime.judge_is_configured(),
        labels=labels_of(state.rows),
    )


def _what_if_context(state: State, serving: Policy, found: WhatIf, guarantee: dict[str, Any], user: User) -> dict[str, Any]:
    changed = [] if state.errors else differences(serving.as_cascade_policy(), state.policy)
    return {
        "state": state,
        "serving": serving,
        "changed": changed,
        "loosens": any(each.loosens for each in changed),
        "guarantee": guarantee,
        "guarantee_words": policy_history.guarantee_words(guarantee),
        **_figures(found, user),
    }


def _figures(found: WhatIf, user: User) -> dict[str, Any]:
    shown = [each.exchange for rows in found.examples.values() for each in rows]
    sealed = open_blind(shown) if user.may(Act.DECIDE) else set()
    return {
        "found": found,
        "sentence": threshold_page.sentence(found),
        "tiles": threshold_page.tiles(found) if found.rows else [],
        "panels": threshold_page.panels(found),
        "assumptions": threshold_page.assumptions(found),
        "examples": threshold_page.example_groups(found, without=sealed),
    }


# --- Policies ---------------------------------------------------------------------------------------------------------------
@never_cache
@require_GET
@requires(Act.READ_MODELS)
def policies(request: HttpRequest) -> HttpResponse:
    """What waits, and what was."""
    context = {
        "entries": policy_history.history(),
        "waiting": policy_history.waiting(),
        "alarms": policy_history.alarms(),
    }
    return render(request, "learning/policies.html", context)


@never_cache
@require_GET
@requires(Act.READ_MODELS)
def policy(request: HttpRequest, key: int) -> HttpResponse:
    """One policy: what it changed, what was certified of it, and, as long as it does not serve, what it would do."""
    entry = policy_history.entry(get_object_or_404(Policy.objects.select_related("created_by"), pk=key))
    serving, model = _serving(), policy_history.serving_model()
    cascade = entry.policy.as_cascade_policy()
    change = entry.change
    is_shadow = change is not None and change.status == Status.SHADOW
    context: dict[str, Any] = {
        "entry": entry,
        "change": change,
        "serving": serving,
        "is_shadow": is_shadow,
        "is_own": change is not None and change.proposed_by_id == request.user.pk,
        "to_serving": differences(
            serving.as_cascade_policy(), cascade, learning_shares=(serving.learning_share, entry.policy.learning_share)
        ),
        "guarantee": policy_history.guarantee_of(cascade, model),
        "alarms": policy_history.alarms() if entry.policy.is_active else [],
        "second": policy_changes.second_administrator(cast(User, request.user)),
    }
    context["guarantee_words"] = policy_history.guarantee_words(context["guarantee"])
    context["loosens"] = any(each.loosens for each in context["to_serving"])
    if not entry.policy.is_active:
        since = change.created_at if change is not None and is_shadow else since_of(30)
        context |= _figures(_compared(serving, cascade, since), cast(User, request.user))
    return render(request, "learning/policy.html", context)


def _compared(serving: Policy, cascade: CascadePolicy, since: datetime) -> WhatIf:
    judge = runtime.judge_is_configured()
    return what_if(before=serving.as_cascade_policy(), after=cascade, since=since, judge=judge)


@require_POST
@requires(Act.ADMINISTER)
def policy_propose(request: HttpRequest) -> HttpResponse:
    """The proposed state becomes a change: served, scheduled, tried or put before a second administrator."""
    query = request.POST.get(STATE_FIELD, "")[:4000]
    state = read_state(QueryDict(query), _serving())
    back = f"{reverse('thresholds')}?{state.query}"
    when = request.POST.get("when", "now")
    apply_at = None
    if when == "later":
        apply_at = _moment(request.POST.get("apply_at", ""))
        if apply_at is None or apply_at <= timezone.now():
            messages.error(request, "Give a time that is still to come.")
            return redirect(back)
    if state.errors:
        messages.error(request, " ".join(state.errors))
        return redirect(back)
    try:
        change = policy_changes.change_propose(
            actor=cast(User, request.user),
            fields=state.fields,
            reason=request.POST.get("reason", "")[:500],
            apply_at=apply_at,
            shadow=when == "shadow",
        )
    except (PolicyRefused, ValidationError) as error:
        messages.error(request, str(error) if isinstance(error, PolicyRefused) else " ".join(error.messages))
        return redirect(back)
    _say(request, change)
    return redirect("policy", key=change.policy_id)


DONE_WORDS = {
    Status.APPLIED: "{policy} decides from the next exchange on.",
    Status.PROPOSED: "{policy} waits for a second administrator.",
    Status.SCHEDULED: "{policy} is scheduled.",
    Status.SHADOW: "{policy} is tried beside the one in force. It decides nothing.",
    Status.REJECTED: "{policy} is rejected.",
}


def _say(request: HttpRequest, change: PolicyChange) -> None:
    if change.status == Status.SUPERSEDED:
        messages.error(request, change.answer)
        return
    messages.success(request, DONE_WORDS[Status(change.status)].format(policy=str(change.policy).capitalize()))


def _moment(text: str) -> datetime | None:
    """What a field for date and time gives, in the server's time zone."""
    try:
        moment = parse_datetime(text.strip()[:40])
    except ValueError:
        return None
    return timezone.make_aware(moment) if moment is not None and timezone.is_naive(moment) else moment


@require_POST
@requires(Act.ADMINISTER)
def policy_decide(request: HttpRequest, key: int) -> HttpResponse:
    """Approve, reject or begin to serve what somebody proposed; or make a policy of before serve again."""
    found = get_object_or_404(Policy, pk=key)
    actor, answer = cast(User, request.user), request.POST.get("answer", "")[:500]
    try:
        if request.POST.get("act") == "restore":
            change = policy_changes.policy_restore(actor=actor, policy=found, reason=answer)
        else:
            change = _decided(request.POST.get("act", ""), actor, get_object_or_404(PolicyChange, policy=found), answer)
    except (PolicyRefused, ValidationError) as error:
        messages.error(request, str(error) if isinstance(error, PolicyRefused) else " ".join(error.messages))
        return redirect("policy", key=key)
    _say(request, change)
    return redirect("policy", key=change.policy_id)


def _decided(act: str, actor: User, change: PolicyChange, answer: str) -> PolicyChange:
    match act:
        case "approve":
            return policy_changes.change_approve(actor=actor, change=change, answer=answer)
        case "reject":
            return policy_changes.change_reject(actor=actor, change=change, answer=answer)
        case "serve":
            return policy_changes.change_serve(actor=actor, change=change, reason=answer)
        case _:
            raise PolicyRefused("There is nothing of that name to do.")


@never_cache
@require_GET
@requires(Act.ADMINISTER)
def threshold_answer(request: HttpRequest, exchange_id: UUID) -> HttpResponse:
    """One answer that a policy would treat otherwise, with what each layer said of it. That it was read is recorded.

    The address holds the policy, as a state or by its key: what it does not treat otherwise cannot be opened.
    """
    exchange = get_object_or_404(Exchange.objects.select_related("app", "verdict__policy"), pk=exchange_id, verdict__isnull=False)
    serving = _serving()
    state = read_state(request.GET, serving)
    key = request.GET.get("policy", "")
    tried = get_object_or_404(Policy, pk=int(key)) if key.isdecimal() and len(key) < 10 else None
    proposed = tried.as_cascade_policy() if tried else state.policy
    results = list(exchange.layer_results.all())
    said = [layer_result_as_library(result) for result in results]
    judge = runtime.judge_is_configured()
    if exchange.app.name == APP_NAME or not treats_otherwise(serving.as_cascade_policy(), proposed, said, judge=judge):
        raise Http404("The proposed policy would not treat this answer otherwise.")
    audit(actor=request.user.get_username(), action="policy.example", target=f"exchange:{exchange.pk}")
    scores: dict[str, float] = next((result.scores for result in results if result.layer == Layer.FINETUNED), {})
    rows = [
        (key_words(name), number_words(score), proposed.threshold(name))
        for name, score in sorted(scores.items(), key=lambda each: (each[0] != UNSAFE, -each[1]))
    ]
    back = reverse("policy", args=[tried.pk]) if tried else f"{reverse('thresholds')}?{state.query}"
    context = {"exchange": exchange, "results": results, "rows": rows, "back": back, "tried": tried}
    return render(request, "learning/thresholds_answer.html", context)
