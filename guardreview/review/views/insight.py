"""The figures: of the queue, the cascade and all reviewers for leads and auditors; of oneself for who decides."""

from __future__ import annotations

from dataclasses import replace
from typing import cast
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from guardreview.core.models import App, User
from guardreview.core.roles import Act, requires
from guardreview.review import calibration, dashboard, panels, panels_people
from guardreview.review import insight as reads
from guardreview.review import insight_people as people_reads

DEFAULT_PERIOD = "7d"
PERIOD_WORDS = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days"}


@never_cache
@require_GET
@requires(Act.READ_INSIGHT)
def insight(request: HttpRequest) -> HttpResponse:
    """Everything, for a period and an app: what is read already, and the places that the other panels are put into.

    `whole`: all of it at once, for browsers without scripts.
    """
    apps = list(App.objects.exclude(name=calibration.APP_NAME).order_by("name").values_list("name", flat=True))
    app = request.GET.get("app", "")
    edition = dashboard.edition_of(_period(request), app if app in apps else "")
    scope, whole = edition.scope, "whole" in request.GET
    slots = {
        key: {
            "key": key,
            "title": figure.title,
            "wide": figure.wide,
            "address": _address("insight-panel", scope, key=key),
            "panel": edition.panel(figure) if whole or edition.has(figure) else None,
        }
        for key, figure in dashboard.FIGURES.items()
    }
    context = {
        "top": [slots[key] for key in dashboard.TOP],
        "sections": [(heading, [slots[figure.key] for figure in figures]) for heading, figures in dashboard.SECTIONS.items()],
        "whole": f"{_address('insight', scope)}&whole",
        "is_whole": all(slot["panel"] for slot in slots.values()),
        "as_of": scope.now,
        "scope": scope,
        "apps": apps,
        "periods": _periods("insight", scope),
    }
    return render(request, "insight/insight.html", context)


@never_cache
@require_GET
@requires(Act.READ_INSIGHT)
def insight_panel(request: HttpRequest, key: str) -> HttpResponse:
    """One panel, and its number for the top of the page."""
    figure = dashboard.FIGURES.get(key)
    app = request.GET.get("app", "")
    if figure is None or (app and not _known(app)):
        raise Http404
    edition = dashboard.edition_of(_period(request), app)
    context = {"panel": edition.panel(figure), "as_of": edition.scope.now, "is_top": key in dashboard.TOP}
    return render(request, "insight/_panel_alone.html", context)


@never_cache
@require_GET
@requires(Act.DECIDE)
def insight_me(request: HttpRequest) -> HttpResponse:
    """One's own figures: nobody else's but the time of all together, which may be a little older."""
    user = cast(User, request.user)
    scope = reads.Scope(timezone.now(), _period(request))
    everybody = dashboard.edition_of(scope.period)
    me = people_reads.people(scope, reviewer=user).get(user.pk, people_reads.Person())
    times = [("You", me.seconds), ("Everybody", dashboard.everybodys_seconds(everybody))]
    known = list(people_reads.own_calibrations(scope, reviewer=user))
    alike = [review for review in known if review.truth == review.item.calibration.truth]
    context = {
        "decisions": panels.decisions_panel(people_reads.decisions(scope, reviewer=user), scope),
        "time": panels_people.time_panel(times),
        "as_of": everybody.scope.now,
        "me": me,
        "known": known,
        "alike": alike,
        "wrong": [review for review in known if review not in alike],
        "differently": panels_people.differently_words(me),
        "differences": people_reads.own_differences(scope, reviewer=user),
        "scope": scope,
        "periods": _periods("insight-me", scope),
    }
    return render(request, "insight/me.html", context)


def _known(app: str) -> bool:
    """Whether figures may be asked for of the app of this name. No name holds a NUL, of which PostgreSQL will not even hear."""
    return "\0" not in app and app != calibration.APP_NAME and App.objects.filter(name=app).exists()


def _period(request: HttpRequest) -> str:
    asked = request.GET.get("period", "")
    return asked if asked in reads.PERIODS else DEFAULT_PERIOD


def _periods(name: str, scope: reads.Scope) -> list[tuple[str, str, bool]]:
    """(words, address, whether it is shown) of each period."""
    return [
        (words, _address(name, replace(scope, period=period)), period == scope.period) for period, words in PERIOD_WORDS.items()
    ]


def _address(name: str, scope: reads.Scope, **path: str) -> str:
    query = {"period": scope.period, **({"app": scope.app} if scope.app else {})}
    return f"{reverse(name, kwargs=path)}?{urlencode(query)}"
