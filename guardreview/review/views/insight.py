"""The figures: of the queue, the cascade and all reviewers for leads and auditors; of oneself for who decides."""

from __future__ import annotations

from typing import cast
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from guardreview.core.models import App, User
from guardreview.core.roles import Act, requires
from guardreview.review import calibration, panels, panels_people
from guardreview.review import insight as reads
from guardreview.review import insight_people as people_reads

DEFAULT_PERIOD = "7d"
PERIOD_WORDS = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days"}


@never_cache
@require_GET
@requires(Act.READ_INSIGHT)
def insight(request: HttpRequest) -> HttpResponse:
    """Everything, for a period and an app."""
    apps = list(App.objects.exclude(name=calibration.APP_NAME).order_by("name").values_list("name", flat=True))
    app = request.GET.get("app", "")
    scope = reads.Scope(timezone.now(), _period(request), app if app in apps else "")
    stops, (allowed, allowed_weeks) = reads.stops(scope), reads.allowed(scope)
    calibrations, people = people_reads.calibrations(scope), people_reads.people(scope)
    named = sorted(people.values(), key=lambda person: person.name)
    every_time = [second for person in named for second in person.seconds]
    waiting = panels.waiting_panel(*reads.waiting(scope))
    decisions = panels.decisions_panel(people_reads.decisions(scope), scope)
    false_blocks = panels.false_blocks_panel(stops, scope)
    misses = panels.misses_panel(stops, allowed, allowed_weeks, scope)
    agreement = panels_people.agreement_panel(people_reads.second_opinions(scope), calibrations)
    times = [("Everybody", every_time), *((person.name, person.seconds) for person in named if person.seconds)]
    context = {
        "top": [waiting, decisions, false_blocks, misses, agreement],
        "sections": [
            ("The queue", [waiting, decisions]),
            ("The cascade", [misses, false_blocks, *panels.overturned_panels(stops, reads.by_rule(scope))]),
            (
                "Agreement",
                [
                    agreement,
                    panels_people.blind_panel(people_reads.confirmed_blocks(scope)),
                    panels_people.calibration_panel(calibrations, people),
                ],
            ),
            ("The work", [panels_people.time_panel(times), panels_people.deeds_panel(named)]),
        ],
        "scope": scope,
        "apps": apps,
        "periods": _periods("insight", scope),
    }
    return render(request, "insight/insight.html", context)


@never_cache
@require_GET
@requires(Act.DECIDE)
def insight_me(request: HttpRequest) -> HttpResponse:
    """One's own figures: nobody else's but the time of all together."""
    user = cast(User, request.user)
    scope = reads.Scope(timezone.now(), _period(request))
    everybody = people_reads.people(scope)
    me = everybody.get(user.pk, people_reads.Person())
    every_time = [second for person in everybody.values() for second in person.seconds]
    known = list(people_reads.own_calibrations(scope, reviewer=user))
    alike = [review for review in known if review.truth == review.item.calibration.truth]
    context = {
        "panels": [
            panels.decisions_panel(people_reads.decisions(scope, reviewer=user), scope),
            panels_people.time_panel([("You", me.seconds), ("Everybody", every_time)]),
        ],
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


def _period(request: HttpRequest) -> str:
    asked = request.GET.get("period", "")
    return asked if asked in reads.PERIODS else DEFAULT_PERIOD


def _periods(name: str, scope: reads.Scope) -> list[tuple[str, str, bool]]:
    """(words, address, whether it is shown) of each period."""
    found = []
    for period, words in PERIOD_WORDS.items():
        query = {"period": period, **({"app": scope.app} if scope.app else {})}
        found.append((words, f"{reverse(name)}?{urlencode(query)}", period == scope.period))
    return found
