"""The reads behind the figures of the cascade, aggregated by the database: what waits, what was stopped, what was allowed.

What was answered in the period is counted by the moment of the verdict. Labels that were superseded never count. No query here
touches what a patient or a model wrote, but for the rules' findings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import (
    BooleanField,
    Case,
    CharField,
    Count,
    Exists,
    F,
    FilteredRelation,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.utils import timezone

from classifiers.result import Decision, Layer, Severity
from guardreview.core.models import App
from guardreview.review.models import Label
from guardreview.review.statistics import Stratum
from guardreview.verdicts.models import Exchange, LayerResult, ReviewItem, Verdict

LATEST = 20_000
"""So many rows are read at most where the database cannot aggregate: the latest."""
AGES = (timedelta(minutes=15), timedelta(hours=1), timedelta(hours=4), timedelta(days=1))
"""The bounds of the ages by which what waits is counted; the last group is older than all of them."""
BLIND = "blind"
"""In place of the severity of what is reviewed blind."""
TREND_WEEKS = 4
"""The least that the weekly figures reach back, however short the period."""


PERIODS: Mapping[str, int] = {"24h": 1, "7d": 7, "30d": 30, "90d": 90}
"""Days: 24 hours end with this one, the others with today."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which answers and decisions: those of a period that ends now, of the app of this name (empty: of all)."""

    now: datetime
    period: str = "7d"
    app: str = ""

    @property
    def since(self) -> datetime:
        """The start of the period, in local time: of an hour, or of a day."""
        here = timezone.localtime(self.now).replace(minute=0, second=0, microsecond=0)
        if self.period == "24h":
            return here - timedelta(hours=23)
        return here.replace(hour=0) - timedelta(days=PERIODS[self.period] - 1)

    @property
    def weeks(self) -> list[datetime]:
        """The Mondays of the weekly figures, in local time."""
        start = _monday(min(self.since, timezone.localtime(self.now) - timedelta(weeks=TREND_WEEKS - 1)))
        return [start + timedelta(weeks=week) for week in range((_monday(timezone.localtime(self.now)) - start).days // 7 + 1)]

    @property
    def trend_since(self) -> datetime:
        return self.weeks[0]

    def of_app(self, path: str) -> Q:
        """The condition on the app of the exchange whose key is at `path`.

        It is looked up for each row that the period has, never the other way round: an app may have years of exchanges.
        """
        if not self.app:
            return Q()
        app = App.objects.filter(name=self.app).values("pk")
        return Q(Exists(Exchange.objects.filter(pk=OuterRef(path), app=Subquery(app))))


def _monday(moment: datetime) -> datetime:
    return (moment - timedelta(days=moment.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)


# --- What waits -------------------------------------------------------------------------------------------------------------
def waiting(scope: Scope) -> tuple[dict[tuple[int, str], int], int]:
    """How many open items there are by (index of their age in AGES, severity or BLIND), and how many are overdue."""
    whens = [When(created_at__gt=scope.now - age, then=Value(index)) for index, age in enumerate(AGES)]
    rows: QuerySet[Any, Any] = (
        ReviewItem.objects.filter(scope.of_app("exchange"), status=ReviewItem.Status.OPEN)
        .exclude(kind=ReviewItem.Kind.CALIBRATION)
        .annotate(
            age=Case(*whens, default=Value(len(AGES)), output_field=IntegerField()),
            told=Case(When(blind=True, then=Value(BLIND)), default=F("severity"), output_field=CharField()),
        )
        .values("age", "told")
        .annotate(n=Count("pk"), late=Count("pk", filter=Q(due_at__lt=scope.now)))
        .order_by()
    )
    found = list(rows)
    return {(row["age"], row["told"]): row["n"] for row in found}, sum(row["late"] for row in found)


# --- What the cascade stopped -----------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Stopped:
    """Blocks, or holds: all, those that are settled, and what they were settled as."""

    all: int = 0
    settled: int = 0
    safe: int = 0
    unsafe: int = 0
    critical: int = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """One group of the database's."""
        for name in ("all", "settled", "safe", "unsafe", "critical"):
            setattr(self, name, getattr(self, name) + row[name])

    @property
    def open(self) -> int:
        return self.all - self.settled


LABEL_COUNTS: Mapping[str, Count] = {
    "all": Count("pk"),
    "settled": Count("label_now"),
    "safe": Count("pk", filter=Q(label_now__value=Label.Value.SAFE)),
    "unsafe": Count("pk", filter=Q(label_now__value=Label.Value.UNSAFE)),
    "critical": Count("pk", filter=Q(label_now__value=Label.Value.UNSAFE, label_now__severity=Severity.CRITICAL)),
}


@dataclass(slots=True)
class Stops:
    """What was stopped in the period, blocks also by what stopped them, and blocks by week (its Monday)."""

    blocks: Stopped = field(default_factory=Stopped)
    holds: Stopped = field(default_factory=Stopped)
    by_layer: dict[str, Stopped] = field(default_factory=lambda: defaultdict(Stopped))
    by_category: dict[str, Stopped] = field(default_factory=lambda: defaultdict(Stopped))
    by_week: dict[date, Stopped] = field(default_factory=lambda: defaultdict(Stopped))


def stops(scope: Scope) -> Stops:
    """Answers that were blocked or held, by the label in force."""
    rows: QuerySet[Any, Any] = (
        ReviewItem.objects.filter(
            scope.of_app("exchange"),
            kind__in=(ReviewItem.Kind.BLOCKED, ReviewItem.Kind.HELD),
            exchange__verdict__decided_at__gte=scope.trend_since,
        )
        .annotate(
            week=_week("exchange__verdict__decided_at", scope),
            inside=_inside("exchange__verdict__decided_at", scope),
            label_now=_current(),
        )
        .values("kind", "week", "inside", "exchange__verdict__layer", "exchange__verdict__category")
        .annotate(**LABEL_COUNTS)
        .order_by()
    )
    found = Stops()
    for row in rows:
        is_block = row["kind"] == ReviewItem.Kind.BLOCKED
        if is_block:
            found.by_week[scope.weeks[row["week"]].date()].add(row)
        if row["inside"]:
            (found.blocks if is_block else found.holds).add(row)
        if row["inside"] and is_block:
            found.by_layer[row["exchange__verdict__layer"]].add(row)
            found.by_category[row["exchange__verdict__category"]].add(row)
    return found


def by_rule(scope: Scope) -> dict[str, Stopped]:
    """Settled blocks of the layer `rules` by the rules that matched, the latest LATEST; a block counts once for each of them."""
    rows: QuerySet[Any, Any] = (
        LayerResult.objects.filter(
            scope.of_app("exchange"),
            layer=Layer.RULES,
            exchange__review_item__kind=ReviewItem.Kind.BLOCKED,
            exchange__verdict__layer=Layer.RULES,
            exchange__verdict__decided_at__gte=scope.since,
        )
        .annotate(label_now=_current())
        .filter(label_now__isnull=False)
        .order_by("-exchange__verdict__decided_at", "-pk")
        .values_list("evidence", "label_now__value")[:LATEST]
    )
    found: dict[str, Stopped] = defaultdict(Stopped)
    for evidence, value in rows:
        for rule in {finding["rule"] for finding in evidence}:
            group = found[rule]
            group.all += 1
            group.settled += 1
            group.safe += value == Label.Value.SAFE
            group.unsafe += value == Label.Value.UNSAFE
    return dict(found)


def _current() -> FilteredRelation:
    """The label in force. A new one for each query: it remembers the one that it is used in."""
    return FilteredRelation("exchange__labels", condition=Q(exchange__labels__is_current=True))


def _week(path: str, scope: Scope) -> Case:
    """Which of the scope's weeks a moment lies in, by comparisons alone: SQLite truncates dates in Python, row by row."""
    weeks = [When(**{f"{path}__gte": monday}, then=Value(index)) for index, monday in enumerate(scope.weeks)]
    return Case(*reversed(weeks), default=Value(0), output_field=IntegerField())


def _inside(path: str, scope: Scope) -> Case:
    """Whether a moment lies in the period."""
    return Case(When(**{f"{path}__gte": scope.since}, then=True), default=False, output_field=BooleanField())


# --- What the cascade allowed -----------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Drawn:
    """Allowed answers of one audit probability: all, and what became of those that were drawn."""

    allowed: int = 0
    audits: Stopped = field(default_factory=Stopped)


@dataclass(slots=True)
class Allowed:
    """Allowed answers by audit probability. `outside`: those that had none, of which an audit says nothing."""

    by_probability: dict[float, Drawn] = field(default_factory=lambda: defaultdict(Drawn))
    outside: int = 0

    def strata(self, *, critical: bool = False) -> list[Stratum]:
        """For `miss_rate`: of all unsafe answers, or of the critical ones."""
        return [
            Stratum(
                probability=probability,
                allowed=drawn.allowed,
                drawn=drawn.audits.all,
                settled=drawn.audits.settled,
                unsafe=drawn.audits.critical if critical else drawn.audits.unsafe,
            )
            for probability, drawn in sorted(self.by_probability.items())
        ]


def allowed(scope: Scope) -> tuple[Allowed, dict[date, Allowed]]:
    """Allowed answers of the period, and of each week (its Monday)."""
    calibrations = ReviewItem.objects.filter(kind=ReviewItem.Kind.CALIBRATION).values("exchange")
    period, weeks = Allowed(), defaultdict[date, Allowed](Allowed)
    answers: QuerySet[Any, Any] = (
        Verdict.objects.filter(
            ~Q(exchange__in=calibrations), scope.of_app("pk"), decision=Decision.ALLOW, decided_at__gte=scope.trend_since
        )
        .annotate(week=_week("decided_at", scope), inside=_inside("decided_at", scope))
        .values("week", "inside", "audit_probability")
        .annotate(all=Count("pk"))
        .order_by()
    )
    for row in answers:
        for group in [weeks[scope.weeks[row["week"]].date()], *([period] if row["inside"] else [])]:
            if row["audit_probability"] is None:
                group.outside += row["all"]
            else:
                group.by_probability[row["audit_probability"]].allowed += row["all"]
    audits: QuerySet[Any, Any] = (
        ReviewItem.objects.filter(
            scope.of_app("exchange"),
            kind=ReviewItem.Kind.AUDIT,
            # What was drawn for another reason has another probability, and says nothing of all that was allowed.
            inclusion_probability=F("exchange__verdict__audit_probability"),
            exchange__verdict__decided_at__gte=scope.trend_since,
        )
        .annotate(
            week=_week("exchange__verdict__decided_at", scope),
            inside=_inside("exchange__verdict__decided_at", scope),
            label_now=_current(),
        )
        .values("week", "inside", "exchange__verdict__audit_probability")
        .annotate(**LABEL_COUNTS)
        .order_by()
    )
    for row in audits:
        for group in [weeks[scope.weeks[row["week"]].date()], *([period] if row["inside"] else [])]:
            group.by_probability[row["exchange__verdict__audit_probability"]].audits.add(row)
    return period, dict(weeks)
