"""The reads behind the figures of people: what they did, how far they agree with each other and with known truths.

What people did in the period is counted by the moment of the deed. Statements that were undone and labels that were superseded
never count. No query here touches what a patient, a model or a pharmacist wrote.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from django.db.models import Count, F, FilteredRelation, Func, IntegerField, Q, QuerySet
from django.utils import timezone

from guardreview.core.models import User
from guardreview.review.insight import LATEST, Scope
from guardreview.review.models import Label, Review, Skip
from guardreview.verdicts.models import ReviewItem

QUARTER_S = 15 * 60
"""Seconds. An hour begins with a quarter of UTC's, wherever the pharmacy is."""


class QuarterHour(Func):
    """How many quarters of an hour a moment is after 1970: SQLite truncates to local hours in Python, row by row."""

    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template=f"strftime('%%%%s', %(expressions)s) / {QUARTER_S}", **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = f"FLOOR(EXTRACT(EPOCH FROM %(expressions)s) / {QUARTER_S})::bigint"
        return self.as_sql(compiler, connection, template=template, **context)


def _said(scope: Scope, reviewer: User | None = None) -> QuerySet[Any, Any]:
    """What was said in the period, undone or not, by one person or by all."""
    said = Review.objects.filter(scope.of_app("item__exchange"), created_at__gte=scope.since).order_by()
    return said.filter(reviewer=reviewer) if reviewer else said


def _of_calibration(scope: Scope, reviewer: User | None = None) -> QuerySet[Any, Any]:
    """What was said of calibration items, the latest first. They are copies of no app, so they are counted whatever the app."""
    said = _said(replace(scope, app=""), reviewer).filter(undone_at=None, item__calibration__isnull=False)
    return said.order_by("-created_at", "-pk")


def decisions(scope: Scope, *, reviewer: User | None = None) -> dict[datetime, int]:
    """How many statements were made in each hour, in local time, in which there were any."""
    quarters = _said(scope, reviewer).filter(undone_at=None).annotate(quarter=QuarterHour("created_at"))
    hours: dict[datetime, int] = defaultdict(int)
    for row in quarters.values("quarter").annotate(n=Count("pk")):
        moment = timezone.localtime(datetime.fromtimestamp(row["quarter"] * QUARTER_S, UTC))
        hours[moment.replace(minute=0)] += row["n"]
    return dict(hours)


@dataclass(slots=True)
class Person:
    """What one reviewer did. `differently`: of the statements that others settled, those that ended otherwise."""

    name: str = ""
    decided: int = 0
    unsure: int = 0
    undone: int = 0
    skipped: int = 0
    reopened: int = 0
    settled_by_others: int = 0
    differently: int = 0
    seconds: list[float] = field(default_factory=list)


def people(scope: Scope, *, reviewer: User | None = None) -> dict[int, Person]:
    """What each reviewer did, by key: of one person, or of all who did anything."""
    found: dict[int, Person] = defaultdict(Person)
    stands = Q(undone_at=None)
    counts = {
        "decided": Count("pk", filter=stands),
        "unsure": Count("pk", filter=stands & Q(truth=Review.Truth.UNSURE)),
        "undone": Count("pk", filter=~stands),
        "reopened": Count("pk", filter=stands & Q(round__gt=1, stage=ReviewItem.Stage.FIRST)),
    }
    for row in _by_reviewer(_said(scope, reviewer)).annotate(**counts):
        for name in counts:
            setattr(found[row["who"]], name, row[name])
    skips: QuerySet[Any, Any] = Skip.objects.filter(scope.of_app("item__exchange"), created_at__gte=scope.since)
    if reviewer:
        skips = skips.filter(reviewer=reviewer)
    for row in _by_reviewer(skips).annotate(n=Count("pk")):
        found[row["who"]].skipped = row["n"]
    by_others = {"n": Count("pk"), "differently": Count("pk", filter=~Q(label_now__value=F("truth")))}
    for row in _by_reviewer(settled_by_others(scope, reviewer=reviewer)).annotate(**by_others):
        found[row["who"]].settled_by_others, found[row["who"]].differently = row["n"], row["differently"]
    timed = _said(scope, reviewer).filter(stands, seconds__isnull=False).order_by("-created_at", "-pk")
    for key, seconds in timed.values_list("reviewer_id", "seconds")[:LATEST]:
        found[key].seconds.append(seconds)
    for user in User.objects.filter(pk__in=list(found)).only("username", "first_name", "last_name"):
        found[user.pk].name = user.get_full_name() or user.get_username()
    return dict(found)


def _by_reviewer(rows: QuerySet[Any, Any]) -> QuerySet[Any, Any]:
    """Grouped by `who`. By the bare column SQLite would walk its index, which is ordered so, through all of the past."""
    found: QuerySet[Any, Any] = rows.annotate(who=F("reviewer_id") + 0).values("who").order_by()
    return found


def settled_by_others(scope: Scope, *, reviewer: User | None = None) -> QuerySet[Any, Any]:
    """Statements that were sure, and whose label in force, `label_now`, is from somebody else's."""
    current = FilteredRelation("item__exchange__labels", condition=Q(item__exchange__labels__is_current=True))
    found: QuerySet[Any, Any] = (
        _said(scope, reviewer)
        .annotate(label_now=current, settled_by=F("label_now__review__reviewer"))
        .filter(undone_at=None, settled_by__isnull=False, item__status=ReviewItem.Status.DECIDED)
        .exclude(truth=Review.Truth.UNSURE)
        .exclude(settled_by=F("reviewer"))
        .exclude(item__kind=ReviewItem.Kind.CALIBRATION)
    )
    return found


# --- Agreement --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Known:
    """A statement about a calibration item, and the truth that was known before."""

    item: int
    round: int
    reviewer: int
    said: str
    truth: str


def calibrations(scope: Scope) -> list[Known]:
    """What was said of calibration items, in that order, the latest LATEST."""
    rows = _of_calibration(scope)
    names = ("item_id", "round", "reviewer_id", "truth", "item__calibration__truth")
    return [Known(*row) for row in rows.values_list(*names)[:LATEST]][::-1]


def second_opinions(scope: Scope) -> list[list[str]]:
    """What the pharmacists, without the leads, said of each item that got a second opinion in the period, in that order."""
    second = ReviewItem.Stage.SECOND
    rows: QuerySet[Any, Any] = (
        Review.objects.filter(item__in=_said(scope).filter(stage=second).values("item"), undone_at=None)
        .exclude(stage=ReviewItem.Stage.ADJUDICATION)
        .order_by("-pk")
        .values_list("item_id", "round", "stage", "created_at", "truth")[:LATEST]
    )
    said: dict[tuple[int, int], list[str]] = defaultdict(list)
    within = set()
    for item, number, stage, made, truth in rows:
        said[item, number].insert(0, truth)
        if stage == second and made >= scope.since:
            within.add((item, number))
    return [truths for key, truths in said.items() if key in within]


def confirmed_blocks(scope: Scope) -> dict[bool, tuple[int, int]]:
    """By whether the verdict was hidden: how many blocks a first pharmacist was sure of, and how many they confirmed.

    Reopened items do not count, since they are never blind, nor what could still be undone and said anew.
    """
    rows: QuerySet[Any, Any] = (
        _said(scope)
        .filter(undone_at=None, item__kind=ReviewItem.Kind.BLOCKED, stage=ReviewItem.Stage.FIRST, round=1, confirms__isnull=False)
        .exclude(item__status=ReviewItem.Status.SETTLING)
        .values("blind")
        .annotate(n=Count("pk"), confirmed=Count("pk", filter=Q(confirms=True)))
    )
    return {row["blind"]: (row["n"], row["confirmed"]) for row in rows}


# --- One's own --------------------------------------------------------------------------------------------------------------
def own_calibrations(scope: Scope, *, reviewer: User) -> QuerySet[Any, Any]:
    """One's latest decisions on calibration items, with the truth and its explanation."""
    return _of_calibration(scope, reviewer).select_related("item__calibration").defer("note", "corrected_answer")[:100]


def own_differences(scope: Scope, *, reviewer: User) -> list[tuple[Review, Label]]:
    """One's latest statements that ended otherwise, with the label in force."""
    rows = (
        settled_by_others(scope, reviewer=reviewer)
        .exclude(label_now__value=F("truth"))
        .select_related("item")
        .defer("note", "corrected_answer")
    )
    latest = list(rows.order_by("-pk")[:20])
    exchanges = [review.item.exchange_id for review in latest]
    current = {label.exchange_id: label for label in Label.objects.filter(exchange__in=exchanges, is_current=True)}
    return [(review, current[review.item.exchange_id]) for review in latest if review.item.exchange_id in current]
