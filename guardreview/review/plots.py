"""Data as shapes: what the templates draw as SVG. Pure: numbers in, coordinates in per cent out, as SVG attributes want them.

Along the width everything is in per cent, so that a plot has any width and its text one size; along the height of columns and
trends, in pixels of HEIGHT.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from guardreview.review.statistics import Estimate

HEIGHT = 152
"""Of columns and trends, without the line of labels below."""
HEADROOM = 12
"""Above the highest value, for its grid line's label."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A grid line with its words; `at` in per cent of the width, or in pixels from the top."""

    at: str
    words: str
    anchor: str = "middle"


# --- Rows: one thing a line ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Part:
    """A part of a stacked bar; `name` is its class."""

    x: str
    width: str
    name: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line: its words, its value, what is said of it, on how many. It has a point on an interval, or parts, or neither."""

    label: str
    value: str
    say: str
    note: str = ""
    at: str = ""
    low: str = ""
    high: str = ""
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """Lines below each other on one scale, which `axis` names with its unit. `zero`: where nothing is, if not at the left end."""

    rows: Sequence[Row]
    ticks: Sequence[Tick] = ()
    keys: Sequence[tuple[str, str]] = ()
    zero: str = ""
    axis: str = ""
    template: str = "insight/_rows.html"


@dataclass(frozen=True, slots=True)
class Line:
    """What a row is drawn from; without an estimate it has words alone."""

    label: str
    value: str
    say: str
    note: str = ""
    estimate: Estimate | None = None


def interval_rows(lines: Sequence[Line], *, low: float = 0.0, high: float | None = None, unit: str = "%", axis: str = "") -> Rows:
    """Each estimate as a point on its interval. The scale is from `low` to `high`, or to a round number above all."""
    reach = max((line.estimate.high for line in lines if line.estimate), default=1.0)
    top = high if high is not None else min(1.0, nice(reach)) if unit == "%" else nice(reach)

    def at(value: float) -> str:
        return per_cent((min(max(value, low), top) - low) / (top - low))

    rows = []
    for line in lines:
        found = line.estimate
        where, low_at, high_at = (at(found.value), at(found.low), at(found.high)) if found else ("", "", "")
        rows.append(Row(line.label, line.value, line.say, line.note, where, low_at, high_at))
    middle = (low + top) / 2
    marks = [(low, "start"), (middle, "middle"), (top, "end")]
    ticks = [Tick(at(value), words(value, unit), anchor) for value, anchor in marks]
    return Rows(rows, ticks, zero=at(0) if low < 0 else "", axis=axis)


def stacked_rows(
    lines: Sequence[tuple[str, str, Sequence[tuple[str, int]]]], keys: Sequence[tuple[str, str]], *, axis: str = ""
) -> Rows:
    """Each line (label, what is said, [(name, count), ...]) as one bar of parts, the longest over the whole width.

    `keys`: the parts' names with their words.
    """
    longest = max((sum(count for _, count in parts) for *_, parts in lines), default=0) or 1
    rows = []
    for label, say, parts in lines:
        x, drawn = 0.0, []
        for name, count in parts:
            if count:
                drawn.append(Part(per_cent(x), per_cent(count / longest), name))
                x += count / longest
        rows.append(Row(label, f"{sum(count for _, count in parts):,}", say, parts=tuple(drawn)))
    return Rows(rows, keys=keys, axis=axis)


# --- Along time ---------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Mark:
    """One moment: its stretch of the width, and in it a bar (`y`, `height`) or a point on an interval (`y`, `top`, `bottom`).

    Without `y` nothing is known of it.
    """

    x: str
    width: str
    middle: str
    say: str
    y: str = ""
    height: str = ""
    top: str = ""
    bottom: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Marks from left to right; `lines`: (x1, y1, x2, y2) between neighbouring points. `axis` names the height, with its unit."""

    marks: Sequence[Mark]
    levels: Sequence[Tick]
    ticks: Sequence[Tick]
    lines: Sequence[tuple[str, str, str, str]] = field(default_factory=list)
    height: int = HEIGHT
    axis: str = ""
    across: str = ""
    template: str = "insight/_series.html"


def columns(values: Sequence[tuple[str, int, str]], *, axis: str = "", across: str = "") -> Series:
    """Counts (label, count, what is said) as bars."""
    top = nice(max((count for _, count, _ in values), default=0) or 1, whole=True)
    step, gap = 1 / len(values), 0.16 / len(values)
    marks = []
    for index, (_, count, say) in enumerate(values):
        y = _height(count, top)
        x = index * step
        marks.append(
            Mark(
                x=per_cent(x + gap),
                width=per_cent(step - 2 * gap),
                middle=per_cent(x + step / 2),
                say=say,
                y=number(y) if count else "",
                height=number(HEIGHT - y),
            )
        )
    return Series(marks, _levels(top, ""), _labels([label for label, *_ in values]), axis=axis, across=across)


def trend(values: Sequence[tuple[str, Estimate | None, str]], *, axis: str = "", across: str = "") -> Series:
    """Estimates (label, estimate or None, what is said) as points on their intervals, neighbours joined."""
    top = min(1.0, nice(max((estimate.high for _, estimate, _ in values if estimate), default=1.0)))
    step = 1 / len(values)
    marks: list[Mark] = []
    lines = []
    for index, (_, estimate, say) in enumerate(values):
        stretch = {"x": per_cent(index * step), "width": per_cent(step), "middle": per_cent((index + 0.5) * step), "say": say}
        if estimate is None:
            marks.append(Mark(**stretch))
            continue
        y, high, low = (number(_height(value, top)) for value in (estimate.value, estimate.high, estimate.low))
        if marks and marks[-1].y:
            lines.append((marks[-1].middle, marks[-1].y, stretch["middle"], y))
        marks.append(Mark(**stretch, y=y, top=high, bottom=low))
    return Series(marks, _levels(top, "%"), _labels([label for label, *_ in values]), lines, axis=axis, across=across)


def _height(value: float, top: float) -> float:
    return HEIGHT - (HEIGHT - HEADROOM) * value / top


def _levels(top: float, unit: str) -> list[Tick]:
    values = (top, top / 2, 0.0) if unit or top % 2 == 0 else (top, 0.0)
    return [Tick(number(_height(value, top)), words(value, unit)) for value in values]


def _labels(labels: Sequence[str]) -> list[Tick]:
    """At most five of the labels, evenly, the first among them."""
    step = max(1, math.ceil(len(labels) / 5))
    return [Tick(per_cent((index + 0.5) / len(labels)), labels[index]) for index in range(0, len(labels), step)]


# --- Numbers ------------------------------------------------------------------------------------------------------------------
def nice(value: float, *, whole: bool = False) -> float:
    """The least of 1, 2, 3, 4, 5, 6 and 8 times a power of ten that is not below `value`; `whole`: an integer."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    for factor in (1, 2, 3, 4, 5, 6, 8, 10):
        if factor * power >= value * (1 - 1e-9) and not (whole and (factor * power) % 1):
            return factor * power
    return 10 * power


def per_cent(share: float) -> str:
    return f"{number(100 * share)}%"


def number(value: float) -> str:
    """As an SVG attribute: two decimals at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def words(value: float, unit: str) -> str:
    """A tick's: `20 %`, `1.5 min`, `12`."""
    if unit == "%":
        return f"{number(100 * value)} %"
    return f"{number(value)} {unit}".strip().replace("-", "\u2212")
