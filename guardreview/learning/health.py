"""The weekly figures and what in them wants attention, stored as HealthReports.

Labels come later than answers, so the latest REFRESHED weeks are counted anew each day. A report replaces itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db.models import Min
from django.utils import timezone

from guardreview.learning import alarms
from guardreview.learning.health_figures import WEEK, bounds_of, figures
from guardreview.learning.models import HealthReport
from guardreview.verdicts.models import Verdict

log = structlog.get_logger(__name__)
CAUGHT_UP: Final = 12
"""Weeks without a report that are counted late; what is older is not."""
REFRESHED: Final = 4
"""Of so many weeks the labels still come in."""


def monday_of(moment: datetime) -> date:
    """The Monday of its week, in UTC."""
    day = moment.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())


def weeks_due(now: datetime | None = None) -> list[date]:
    """Finished weeks without a report, CAUGHT_UP at most, and the latest ones that were not counted today; oldest first."""
    now = now or timezone.now()
    this = monday_of(now)
    first = Verdict.objects.aggregate(first=Min("decided_at"))["first"]
    if first is None:
        return []
    weeks = [this - WEEK * back for back in range(CAUGHT_UP, 0, -1) if this - WEEK * back >= monday_of(first)]
    counted = dict(HealthReport.objects.filter(week__in=weeks).values_list("week", "created_at"))
    return [
        week
        for week in weeks
        if week not in counted or (week >= this - WEEK * REFRESHED and now - counted[week] >= timedelta(days=1))
    ]


def health_report_store(*, week: date, now: datetime | None = None) -> HealthReport:
    """Count a week and store it in place of what was counted of it before. ValueError: no Monday, or not over."""
    now = now or timezone.now()
    if week.weekday():
        raise ValueError(f"{week} is no Monday")
    if bounds_of(week)[1] > now:
        raise ValueError(f"the week of {week} is not over")
    found = figures(week)
    earlier = HealthReport.objects.filter(week__lt=week, week__gte=week - WEEK * alarms.REFERENCE_WEEKS).order_by("week")
    raised = alarms.alarms(
        found, [(each.week, each.figures, each.alarms) for each in earlier], week, alarms.Limits(**settings.HEALTH)
    )
    fields = {"figures": found, "alarms": [asdict(alarm) for alarm in raised], "created_at": now}
    report, _ = HealthReport.objects.update_or_create(week=week, defaults=fields)
    HealthReport.objects.filter(pk=report.pk).update(created_at=now)
    log.info("health_counted", week=str(week), verdicts=found["n"], alarms=sum(alarm.level == alarms.ALARM for alarm in raised))
    return report


def health_update(*, now: datetime | None = None) -> list[date]:
    """Count what is due; which weeks those were."""
    due = weeks_due(now)
    for week in due:
        health_report_store(week=week, now=now)
    return due


def reports(weeks: int = 12) -> Sequence[HealthReport]:
    """The latest, oldest first."""
    return list(HealthReport.objects.order_by("-week")[:weeks])[::-1]
