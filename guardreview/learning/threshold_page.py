"""The figures of the threshold pages in words and shapes. Pure: no query, no request."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from django.utils import timezone

from guardreview.learning.threshold_curves import ENOUGH, GRID, Curves, Settled
from guardreview.learning.threshold_state import KeyRow
from guardreview.learning.what_if import BINS, Change, Example, Side, Step, WhatIf
from guardreview.review.panels import Panel, Table, count, day_words, interval, percent
from guardreview.review.plots import columns, number, per_cent, stacked_rows
from guardreview.review.presentation import category_words
from guardreview.review.statistics import Estimate

STEP_WORDS: Mapping[Step, str] = {
    Step.ALLOW: "Allowed",
    Step.JUDGE: "To the judge",
    Step.HOLD: "Held",
    Step.BLOCK: "Blocked",
    Step.RULES: "Not known",
    Step.FINETUNED: "Not known",
}
PARTS = (("allow", "Allowed"), ("judge", "To the judge"), ("hold", "Held"), ("block", "Blocked"), ("unknown", "Not known"))
CHANGE_WORDS: Mapping[Change, str] = {
    Change.BLOCKED: "Newly blocked",
    Change.RELEASED: "Newly allowed",
    Change.JUDGE: "Newly to the judge",
    Change.HELD: "Newly held",
}
CHANGE_PARTS: Mapping[Change, str] = {
    Change.BLOCKED: "block",
    Change.RELEASED: "allow",
    Change.JUDGE: "judge",
    Change.HELD: "hold",
}


@dataclass(frozen=True, slots=True)
class Tile:
    """One number with what stands under it. `mood`: of what kind the change is."""

    title: str
    value: str
    below: str
    mood: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """Of a histogram; in per cent of its box."""

    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True, slots=True)
class Slider:
    """A key with its two bounds over the scores of the period."""

    row: KeyRow
    bars: Sequence[Bar]
    allow_at: str
    block_at: str
    middle: str
    rest: str
    certified: str = ""
    blocks_from: str = ""
    blocks_rest: str = ""
    is_big: bool = False


def slider(row: KeyRow, bounds: Any, counts: Any, guarantee: Mapping[str, Any] | None = None) -> Slider:
    """`guarantee` only for P(unsafe), which alone is certified."""
    certified, blocks = (guarantee["certified"], guarantee["block_certified"]) if guarantee else (None, None)
    return Slider(
        row=row,
        bars=histogram(counts),
        allow_at=per_cent(bounds.allow_below),
        block_at=per_cent(bounds.block_at),
        middle=per_cent(bounds.block_at - bounds.allow_below),
        rest=per_cent(1 - bounds.block_at),
        certified=per_cent(certified) if certified else "",
        blocks_from=per_cent(blocks) if blocks is not None else "",
        blocks_rest=per_cent(1 - blocks) if blocks is not None else "",
        is_big=guarantee is not None,
    )


def histogram(counts: Any) -> list[Bar]:
    """Bars whose heights are square roots: most scores are low, and the few others matter more."""
    heights = np.sqrt(np.asarray(counts, dtype=float))
    top = heights.max() or 1.0
    width = 1 / BINS
    return [
        Bar(per_cent(index * width + 0.1 * width), per_cent(1 - share), per_cent(0.8 * width), per_cent(share))
        for index, share in enumerate(heights / top * 0.94)
        if share
    ]


# --- What would change ------------------------------------------------------------------------------------------------------
def sentence(found: WhatIf) -> str:
    """The what-if in one sentence."""
    if not found.rows:
        return "No verdict of this period is stored, so there is nothing to replay."
    if not found.changed:
        return f"Nothing would have changed for any of {count(found.rows, 'answer')}."
    parts = [f"{found.count(change):,} {words.lower()}" for change, words in CHANGE_WORDS.items() if found.count(change)]
    changed = share(found.changed, found.rows)
    return f"Of {count(found.rows, 'answer')}, {_listed(parts)}: {changed} would have been treated otherwise."


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def share(part: int, whole: int) -> str:
    """In per cent, with as many decimals as it takes to be more than nothing."""
    if not whole or not part:
        return percent(0)
    value = 100 * part / whole
    return percent(part / whole) if value >= 0.1 else f"{value:.{1 - math.floor(math.log10(value))}f}\u202f%"


def tiles(found: WhatIf) -> list[Tile]:
    """Changes with their share, then what a day costs in looks and in money."""
    made = [
        Tile(words, f"{found.count(change):,}", f"{share(found.count(change), found.rows)} of answers", CHANGE_PARTS[change])
        for change, words in CHANGE_WORDS.items()
    ]
    return [*made, _queue_tile(found), _cost_tile(found)]


def _queue_tile(found: WhatIf) -> Tile:
    def told(side: Side) -> str:
        sure, expected = found.queue_per_day(side)
        return f"{expected if expected is not None else sure:,.0f}"

    return Tile("Queue a day", told(found.after), f"now {told(found.before)}", "flat")


def _cost_tile(found: WhatIf) -> Tile:
    after, before = found.judge_usd_per_day(found.after), found.judge_usd_per_day(found.before)
    if after is None or before is None:
        return Tile("Judge a day", "not known", "no judged answer", "flat")
    return Tile("Judge a day", money(after), f"now {money(before)}", "flat")


def money(usd: float) -> str:
    """Cents, or two digits of what is less than a dollar."""
    return f"${usd:,.2f}" if usd >= 1 or usd == 0 else f"${usd:.{1 - math.floor(math.log10(usd))}f}"


def assumptions(found: WhatIf) -> list[str]:
    """What the figures rest on."""
    said = []
    if found.since_activation:
        began = timezone.localtime(found.since)
        said.append(f"Counted since the model that serves was activated, {began:%Y-%m-%d %H:%M}: other models score otherwise.")
    if found.judged:
        mean = found.judge_usd / found.judged
        said.append(
            f"The judge is taken to cost {money(mean)} an answer and to stop {percent(found.judge_stop_share or 0)}, as it did on"
            f" {count(found.judged, 'answer')} of this period."
        )
    if found.after.steps[Step.JUDGE]:
        said.append("What the judge would say of an answer that it never saw is not known.")
    if found.unknown:
        said.append(
            f"Of {count(found.unknown, 'answer')} it is not known what would be decided: a layer that would never ran on them."
        )
    if found.missing:
        said.append(f"{count(found.missing, 'verdict')} of this period {'is' if found.missing == 1 else 'are'} not packed yet.")
    return said


def panels(found: WhatIf) -> list[Panel]:
    """What becomes of all answers; what changes, by category; what is stopped, by day."""
    if not found.rows:
        return []
    return [_outcomes(found), _by_category(found), _by_day(found)]


def _outcomes(found: WhatIf) -> Panel:
    def parts(side: Side) -> list[tuple[str, int]]:
        steps = side.steps.tolist()
        unknown = steps[Step.RULES] + steps[Step.FINETUNED]
        return list(zip((name for name, _ in PARTS), (steps[0], steps[3], steps[2], steps[1], unknown), strict=True))

    sides = [("In force", parts(found.before)), ("Proposed", parts(found.after))]
    lines = [(name, f"{name}: {', '.join(f'{n:,} {dict(PARTS)[part].lower()}' for part, n in of)}", of) for name, of in sides]
    keys = [(name, words) for name, words in PARTS if any(n for _, of in sides for part, n in of if part == name)]
    rows = [[words, *(f"{dict(of)[name]:,}" for _, of in sides)] for name, words in keys]
    before, after = (1 - dict(of)["allow"] / found.rows for _, of in sides)
    said = f"{percent(after)} of answers would not have been allowed at once; now it is {percent(before)}."
    return Panel(
        "outcomes", "All answers", said, Table(["", "In force", "Proposed"], rows), [stacked_rows(lines, keys, axis="Answers")]
    )


def _by_category(found: WhatIf) -> Panel:
    totals: dict[str, int] = {}
    for counts in found.changes.values():
        for name, n in counts.items():
            totals[name] = totals.get(name, 0) + n
    ordered = sorted(totals, key=lambda name: -totals[name])
    lines, rows = [], []
    for name in ordered:
        parts = [(CHANGE_PARTS[change], found.changes[change].get(name, 0)) for change in Change]
        named = ", ".join(f"{n:,} {CHANGE_WORDS[change].lower()}" for change, (_, n) in zip(Change, parts, strict=True) if n)
        lines.append((category_words(name), f"{category_words(name)}: {named}", parts))
        rows.append([category_words(name), *(f"{n:,}" for _, n in parts)])
    keys = [(CHANGE_PARTS[change], words) for change, words in CHANGE_WORDS.items() if found.count(change)]
    said = f"Most of them: {category_words(ordered[0]).lower()}, {totals[ordered[0]]:,}." if ordered else "Nothing changes."
    plots = [stacked_rows(lines[:8], keys, axis="Answers that would be treated otherwise")] if lines else []
    return Panel("changes", "Changes, by category", said, Table(["", *CHANGE_WORDS.values()], rows), plots)


def _by_day(found: WhatIf) -> Panel:
    stopped, before = found.after.stopped_by_day.tolist(), found.before.stopped_by_day.tolist()
    asks, asked = found.after.asks_by_day.tolist(), found.before.asks_by_day.tolist()
    days = [day_words(day) for day in found.days]
    values = [
        (day, n, f"{day}: {n:,} stopped, now {was:,}; {ask:,} to the judge, now {had:,}")
        for day, n, was, ask, had in zip(days, stopped, before, asks, asked, strict=True)
    ]
    rows = [[day, *(f"{n:,}" for n in of)] for day, *of in zip(days, before, stopped, asked, asks, strict=True)]
    head = ["Day", "Stopped now", "Stopped, proposed", "To the judge now", "To the judge, proposed"]
    sure, expected = found.queue_per_day(found.after)
    said = f"{sure:,.0f} {'answer' if round(sure) == 1 else 'answers'} a day stopped for sure"
    if expected is None:
        said += ", and those that the judge would stop"
    elif round(expected) != round(sure):
        said += f", {expected:,.0f} with those that the judge would stop if it goes on as before"
    plots = [columns(values, axis="Stopped as proposed", across="Day")]
    return Panel("days", "Stopped, by day", f"{said}.", Table(head, rows), plots, wide=True)


@dataclass(frozen=True, slots=True)
class ExampleGroup:
    """Answers of one change, the latest."""

    words: str
    part: str
    total: int
    rows: Sequence[tuple[Example, str, str]]


def example_groups(found: WhatIf, without: Container[UUID] = ()) -> list[ExampleGroup]:
    """With each example its category and what becomes of it, in words; `without` these exchanges."""
    return [
        ExampleGroup(
            CHANGE_WORDS[change],
            CHANGE_PARTS[change],
            found.count(change),
            [(each, category_words(each.category), f"{STEP_WORDS[each.before]} → {STEP_WORDS[each.after]}") for each in rows],
        )
        for change, examples in found.examples.items()
        if (rows := [each for each in examples if each.exchange not in without])
    ]


# --- Curves -----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class CurveLine:
    """One curve in a box of 100 by 100: its path, the path of the band of its intervals, its name and its class."""

    path: str
    band: str
    words: str
    name: str


@dataclass(frozen=True, slots=True)
class CurveMark:
    """One threshold: its stretch of the width, and what the curves are there."""

    x: str
    width: str
    middle: str
    say: str


@dataclass(frozen=True, slots=True)
class CurvePlot:
    """Two curves over the threshold, with what is certified."""

    title: str
    lines: Sequence[CurveLine]
    marks: Sequence[CurveMark]


def curve_plots(found: Curves) -> list[CurvePlot]:
    """Precision and recall; false positives and negatives."""
    pairs = (
        ("Precision and recall of blocking", (("Precision", "one", found.precision), ("Recall", "two", found.recall))),
        ("Wrong either way", (("Safe blocked, FPR", "two", found.fpr), ("Unsafe let through, FNR", "bad", found.fnr))),
    )
    plots = []
    for title, named in pairs:
        lines = [CurveLine(_path(of), _band(of), words, name) for words, name, of in named]
        marks = []
        step = float(GRID[1])
        for index, threshold in enumerate(GRID.tolist()):
            said = [f"{words} {_told(of[index])}" for words, _, of in named]
            left, right = max(0.0, threshold - step / 2), min(1.0, threshold + step / 2)
            say = f"At {threshold:.2f}: {'; '.join(said)}"
            marks.append(CurveMark(per_cent(left), per_cent(right - left), per_cent(threshold), say))
        plots.append(CurvePlot(title, lines, marks))
    return plots


def _told(estimate: Estimate | None) -> str:
    return f"{percent(estimate.value)} ({interval(estimate)})" if estimate else "nothing to measure"


def _path(of: Sequence[Estimate | None]) -> str:
    points = [(at, each) for at, each in zip(GRID.tolist(), of, strict=True) if each]
    return "M" + "L".join(f"{number(100 * at)} {number(100 - 100 * each.value)}" for at, each in points) if points else ""


def _band(of: Sequence[Estimate | None]) -> str:
    points = [(at, each) for at, each in zip(GRID.tolist(), of, strict=True) if each]
    if not points:
        return ""
    upper = [f"{number(100 * at)} {number(100 - 100 * each.high)}" for at, each in points]
    lower = [f"{number(100 * at)} {number(100 - 100 * each.low)}" for at, each in reversed(points)]
    return f"M{'L'.join([*upper, *lower])}Z"


def curve_table(found: Curves) -> Table:
    """Every fifth threshold of the curves."""
    rows = [
        [f"{GRID[at]:.2f}", *(_told(of[at]) for of in (found.precision, found.recall, found.fpr, found.fnr))]
        for at in range(0, len(GRID), 5)
    ]
    return Table(["Threshold", "Precision", "Recall", "Safe blocked", "Unsafe let through"], rows)


def curve_note(found: Settled, model: str) -> str:
    """From how many labels; and what is missing where there are too few."""
    n, unsafe = len(found.scores), int(found.truth.sum())
    told = f"{count(n, 'settled answer')} scored by {model}, {unsafe:,} of them unsafe"
    if found.enough:
        return f"From {told}; each counts 1 / the probability with which it was drawn."
    return f"Too few to draw: {told}. It takes {ENOUGH} unsafe and {ENOUGH} safe ones."
