"""Training runs in the words and shapes that their page shows. Pure: no query, no request, no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any

from django.utils import timezone

from guardreview.learning.models import TrainingRun
from guardreview.review.plots import HEADROOM, HEIGHT, Line, Mark, Rows, Series, Tick, interval_rows, number, per_cent
from guardreview.review.statistics import Estimate

Status = TrainingRun.Status
MEASURES = (("auc", "AUC on the validation split"), ("loss", "Loss"))
RATES = (
    ("critical_missed", "Critical missed"),
    ("safe_blocked", "Safe blocked"),
    ("unsafe_blocked", "Unsafe blocked"),
    ("safe_allowed", "Safe allowed"),
)


@dataclass(frozen=True, slots=True)
class Panel:
    """A figure with what it says, for `insight/_series.html` and `insight/_rows.html`."""

    title: str
    plot: Series | Rows


@dataclass(frozen=True, slots=True)
class RunPage:
    """One run. `percent`: of the present phase, None where nobody knows; `phases`: (words, how long) of those that are over."""

    run: TrainingRun
    under_way: bool
    percent: int | None = None
    left: str = ""
    lasted: str = ""
    phases: Sequence[tuple[str, str]] = ()
    curves: Sequence[Panel] = ()
    compared: Sequence[Panel] = ()
    provenance: Sequence[tuple[str, int]] = ()
    left_out: Sequence[tuple[str, int]] = ()
    labels: Mapping[str, Any] = field(default_factory=dict)


def run_page(run: TrainingRun) -> RunPage:
    """What its page shows of a run."""
    metrics = run.model_version.metrics if run.model_version else {}
    labels = metrics.get("labels", {}) if run.status == Status.SUCCEEDED else {}
    end = run.finished_at or timezone.now()
    return RunPage(
        run=run,
        under_way=run.status in (Status.QUEUED, Status.RUNNING),
        percent=100 * run.step // run.steps if run.steps else None,
        left=time_left(run),
        lasted=duration(end - run.started_at) if run.started_at else "",
        phases=_phases(run, end),
        curves=[Panel(words, curve(points)) for key, words in MEASURES if len(points := _points(run, key)) > 1],
        compared=_compared(metrics) if run.status == Status.SUCCEEDED else [],
        provenance=list(labels.get("provenance", {}).items()),
        left_out=list(run.left_out.items()),
        labels=labels,
    )


def duration(length: timedelta) -> str:
    """In the largest unit that says enough."""
    seconds = max(0, round(length.total_seconds()))
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def time_left(run: TrainingRun) -> str:
    """What is left of the present phase, at the pace so far; empty while nobody can tell."""
    begun = next((each["at"] for each in reversed(run.measured) if each.get("phase") == run.progress), None)
    if begun is None or not run.step or run.step >= run.steps or not (run.started_at and run.heartbeat_at):
        return ""
    spent = run.heartbeat_at - run.started_at - timedelta(seconds=begun)
    return f"about {duration(spent * (run.steps - run.step) / run.step)} left" if spent.total_seconds() > 2 else ""


def _phases(run: TrainingRun, end: Any) -> list[tuple[str, str]]:
    begun = [each for each in run.measured if "phase" in each]
    if not begun or not run.started_at:
        return []
    moments = [each["at"] for each in begun[1:]]
    if run.finished_at:
        moments.append((end - run.started_at).total_seconds())
    pairs = zip(begun, moments, strict=False)
    return [(each["phase"], duration(timedelta(seconds=until - each["at"]))) for each, until in pairs]


def _points(run: TrainingRun, key: str) -> list[tuple[str, float]]:
    return [(each["name"], each[key]) for each in run.measured if "name" in each and key in each]


def curve(points: Sequence[tuple[str, float]]) -> Series:
    """Figures (name, value) from left to right, on a scale from the least to the greatest."""
    values = [value for _, value in points]
    low, high = min(values), max(values)
    span = high - low or 1.0
    step = 1 / len(points)

    def height(value: float) -> str:
        return number(HEIGHT - HEADROOM - (HEIGHT - 2 * HEADROOM) * (value - low) / span)

    marks = []
    for place, (name, value) in enumerate(points):
        at = {"x": per_cent(place * step), "width": per_cent(step), "middle": per_cent((place + 0.5) * step)}
        y = height(value)
        marks.append(Mark(**at, say=f"{name}: {value:.3f}", y=y, top=y, bottom=y))
    lines = [(a.middle, a.y, b.middle, b.y) for a, b in pairwise(marks)]
    levels = [Tick(height(value), f"{value:.3f}") for value in ((high, low) if high > low else (high,))]
    ticks = [Tick(mark.middle, name) for mark, (name, _) in zip(marks, points, strict=True)]
    # Three at most, so that they stand side by side on a phone.
    return Series(marks, levels, ticks[:: max(1, len(ticks) // 2)], lines)


def _compared(metrics: Mapping[str, Any]) -> list[Panel]:
    """What serves and the candidate on the same rows, rate by rate."""
    before, after = metrics.get("before"), metrics.get("after")
    if not (before and after):
        return []
    panels = []
    for key, words in RATES:
        lines = [_line(who, words, head[key]) for who, head in (("Served then", before), ("This one", after))]
        panels.append(Panel(words, interval_rows(lines)))
    return panels


def _line(who: str, what: str, rate: Mapping[str, Any]) -> Line:
    if rate["rate"] is None:
        return Line(who, "none", f"{who}, {what.lower()}: none to measure")
    value = f"{100 * rate['rate']:.1f} %"
    interval = f"95 % interval {100 * rate['low']:.1f} % to {100 * rate['high']:.1f} %"
    return Line(
        who,
        value,
        f"{who}, {what.lower()}: {value}, {rate['k']} of {rate['n']}, {interval}",
        f"{rate['k']} of {rate['n']}",
        Estimate(rate["rate"], rate["low"], rate["high"], rate["n"]),
    )
