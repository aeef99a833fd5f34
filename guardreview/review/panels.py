"""The figures of the queue and the cascade as panels: one sentence, what it looks like, and a table. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from classifiers.result import Severity
from guardreview.review.insight import AGES, BLIND, Allowed, Scope, Stopped, Stops
from guardreview.review.plots import Line, Rows, Series, columns, interval_rows, stacked_rows, trend
from guardreview.review.presentation import LAYER_WORDS, category_words
from guardreview.review.statistics import Estimate, MissRate, miss_rate, wilson

MIN_RATE = 10
"""A share of fewer says nothing, and is not shown."""
MIN_AUDITED = 30
"""The same of settled draws, of which most are safe."""
DRAWN_ROWS, TABLE_ROWS = 10, 60
NARROW = "\u202f"
WRONG_AXIS = "Settled blocks that were wrong, %"
MISS_AXIS = "Unsafe answers that were allowed, %"
AGE_WORDS = ("under 15 min", "15 min to 1 h", "1 to 4 h", "4 to 24 h", "over a day")
PARTS = (*((severity.value, severity.value.capitalize()) for severity in Severity), (BLIND, "Reviewed blind"))


@dataclass(frozen=True, slots=True)
class Table:
    """Its first column heads the rows."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure. `note`: what it cannot say. `figure`, `below`: the same as one number and what stands under it."""

    key: str
    title: str
    sentence: str
    table: Table
    plots: Sequence[Rows | Series] = ()
    note: str = ""
    wide: bool = False
    is_table: bool = False
    figure: str = ""
    below: str = ""


# --- Words --------------------------------------------------------------------------------------------------------------------
def percent(share: float) -> str:
    """`0 %`, `0.4 %`, `12 %`: one decimal below ten."""
    value = 100 * share
    shown = f"{value:.0f}" if value == 0 or value >= 9.95 else f"{value:.1f}"
    return f"{shown}{NARROW}%"


def interval(estimate: Estimate | MissRate) -> str:
    """`3.1 to 9.8 %`."""
    low, high = percent(estimate.low), percent(estimate.high)
    return high if low == high else f"{low.removesuffix(f'{NARROW}%')} to {high}"


def count(n: int, one: str, more: str = "") -> str:
    """`1 block`, `1,204 blocks`."""
    return f"{n:,} {one if n == 1 else more or one + 's'}"


def rate_line(label: str, k: int, n: int) -> Line:
    """A share as a row of a plot; too few say so instead of a number."""
    if n < MIN_RATE:
        return Line(label, "too few", f"{label}: {k} of {n}, too few for a rate", note=f"{k} of {n}")
    found = wilson(k, n)
    return Line(
        label,
        percent(found.value),
        f"{label}: {percent(found.value)} ({interval(found)}), {k:,} of {n:,}",
        f"{k:,} of {n:,}",
        found,
    )


def rate_cells(k: int, n: int) -> list[str]:
    """The same for a table: count, of how many, share, interval."""
    if n < MIN_RATE:
        return [f"{k:,}", f"{n:,}", "too few", ""]
    found = wilson(k, n)
    return [f"{k:,}", f"{n:,}", percent(found.value), interval(found)]


def day_words(day: date) -> str:
    """`3 Nov`."""
    return f"{day.day} {day:%b}"


# --- The queue ----------------------------------------------------------------------------------------------------------------
def waiting_panel(counts: Mapping[tuple[int, str], int], late: int) -> Panel:
    """What waits now, whatever the period."""
    total = sum(counts.values())
    lines, rows = [], []
    for age, words in enumerate(AGE_WORDS):
        parts = [(name, counts.get((age, name), 0)) for name, _ in PARTS]
        named = ", ".join(f"{n} {dict(PARTS)[name].lower()}" for name, n in parts if n)
        lines.append((words.capitalize(), f"{words.capitalize()}: {named or 'none'}", parts))
        rows.append([words.capitalize(), *(f"{n:,}" for _, n in parts), f"{sum(n for _, n in parts):,}"])
    old = sum(n for (age, _), n in counts.items() if age == len(AGES))
    sentence = (
        f"{count(total, 'answer')} {'waits' if total == 1 else 'wait'}, {late:,} of them overdue." if total else "Nothing waits."
    )
    if old:
        sentence += f" {count(old, 'answer')} {'has' if old == 1 else 'have'} waited for more than a day."
    keys = [(name, words) for name, words in PARTS if any(n for (_, told), n in counts.items() if told == name)]
    table = Table(["Waiting", *(words for _, words in PARTS), "All"], rows)
    plots = [stacked_rows(lines, keys, axis="Open answers, by how long they have waited")] if total else []
    return Panel("waiting", "Waiting now", sentence, table, plots, figure=f"{total:,}", below=f"{late:,} overdue")


def decisions_panel(hours: Mapping[datetime, int], scope: Scope) -> Panel:
    """Statements over time, by the hour or as much coarser as the period is longer."""
    edges, unit, form = _edges(scope)
    counts = [0] * len(edges)
    for hour, n in hours.items():
        counts[max(0, bisect_right(edges, hour) - 1)] += n
    total = sum(counts)
    sentence, mean = "Nobody decided anything in this period.", "0"
    if total:
        busiest = max(hours, key=lambda hour: hours[hour])
        passed = (scope.now - scope.since) / timedelta(hours=1)
        mean = f"{total / passed:.1f}" if passed < 10 * total else f"{total / passed:.2f}"
        when = f"{busiest:%a} {day_words(busiest)}, {busiest:%H:%M}"
        sentence = f"{count(total, 'decision')}, {mean} an hour on average; the busiest hour, {when}, had {hours[busiest]:,}."
    labels = [f"{edge:%H:%M}" if scope.period == "24h" else day_words(edge) for edge in edges]
    values = [
        (label, n, f"{edge.strftime(form)}: {count(n, 'decision')}") for label, edge, n in zip(labels, edges, counts, strict=True)
    ]
    table = Table(
        [f"From ({unit} each)", "Decisions"], [[edge.strftime(form), f"{n:,}"] for edge, n in zip(edges, counts, strict=True)]
    )
    across = "Day" if unit == "day" else "Week of" if unit == "week" else "Time"
    plots = [columns(values, axis=f"Decisions by {unit}", across=across)] if total else []
    return Panel("decisions", f"Decisions by {unit}", sentence, table, plots, figure=f"{total:,}", below=f"{mean} an hour")


def _edges(scope: Scope) -> tuple[list[datetime], str, str]:
    """The starts of the stretches that decisions are counted in, what one is called, and how its start is written."""
    if scope.period == "90d":
        return scope.weeks, "week", "Week of %d %b"
    steps = {"24h": (timedelta(hours=1), 24, "hour", "%a %H:%M"), "7d": (timedelta(hours=6), 28, "six hours", "%a %d %b, %H:%M")}
    step, number, unit, form = steps.get(scope.period, (timedelta(days=1), 30, "day", "%a %d %b"))
    return [scope.since + step * index for index in range(number)], unit, form


# --- Blocks -------------------------------------------------------------------------------------------------------------------
def false_blocks_panel(stops: Stops, scope: Scope) -> Panel:
    """Of settled blocks, the share that pharmacists found safe; by week."""
    blocks = stops.blocks
    line = rate_line("", blocks.safe, blocks.settled)
    if blocks.settled < MIN_RATE:
        sentence = (
            f"Too few to say: {count(blocks.settled, 'block')} of this period {'is' if blocks.settled == 1 else 'are'} settled."
        )
    else:
        found = wilson(blocks.safe, blocks.settled)
        sentence = (
            f"{percent(found.value)} of blocks were wrong ({interval(found)}): {blocks.safe:,} of {blocks.settled:,} settled."
        )
    if blocks.open:
        sentence += f" {count(blocks.open, 'block')} {'is' if blocks.open == 1 else 'are'} still open."
    values, rows = [], []
    for monday in scope.weeks:
        week = stops.by_week.get(monday.date(), Stopped())
        of_week = rate_line(f"Week of {day_words(monday)}", week.safe, week.settled)
        values.append((day_words(monday), of_week.estimate, of_week.say))
        rows.append([day_words(monday), *rate_cells(week.safe, week.settled), f"{week.open:,}"])
    table = Table(["Week of", "Wrong", "Settled", "Share", "95 % interval", "Open"], rows)
    plots = [trend(values, axis=WRONG_AXIS, across="Week of")] if any(estimate for _, estimate, _ in values) else []
    below = interval(line.estimate) if line.estimate else line.note
    return Panel("false-blocks", "Wrong blocks", sentence, table, plots, figure=line.value, below=below)


def overturned_panel(key: str, title: str, what: str, groups: Mapping[str, Stopped], names: Mapping[str, str]) -> Panel:
    """The share overturned of each group, the surest to be noisy first: by the lower end of the interval."""

    def noise(item: tuple[str, Stopped]) -> tuple[float, int]:
        return (wilson(item[1].safe, item[1].settled).low if item[1].settled >= MIN_RATE else -1.0, item[1].safe)

    ordered = [(names.get(name, name), group) for name, group in sorted(groups.items(), key=noise, reverse=True) if group.settled]
    enough = [(name, group) for name, group in ordered if group.settled >= MIN_RATE]
    if not enough:
        sentence = f"Too few to say: no {what} has {MIN_RATE} settled blocks in this period."
    else:
        name, worst = enough[0]
        found = wilson(worst.safe, worst.settled)
        if worst.safe:
            share = f"{percent(found.value)} ({interval(found)}), {worst.safe:,} of {worst.settled:,}"
            sentence = f"“{name}” is overturned most surely: {share}."
        else:
            sentence = f"Of {count(sum(group.settled for _, group in enough), 'settled block')} none was overturned."
    few = len(ordered) - len(enough)
    note = (
        f"{count(few, what, _plural(what))} with fewer than {MIN_RATE} settled blocks only in the table."
        if few and enough
        else ""
    )
    lines = [rate_line(name, group.safe, group.settled) for name, group in enough[:DRAWN_ROWS]]
    plot = interval_rows(lines, axis=WRONG_AXIS)
    rows = [[name, *rate_cells(group.safe, group.settled)] for name, group in ordered[:TABLE_ROWS]]
    table = Table([what.capitalize(), "Overturned", "Settled", "Share", "95 % interval"], rows)
    return Panel(key, title, sentence, table, [plot] if enough else [], note)


def _plural(what: str) -> str:
    return f"{what.removesuffix('y')}ies" if what.endswith("y") else f"{what}s"


def by_rule_panel(rules: Mapping[str, Stopped]) -> Panel:
    return overturned_panel("by-rule", "Overturned, by rule", "rule", rules, {})


def by_category_panel(stops: Stops) -> Panel:
    names = {category: category_words(category) for category in stops.by_category}
    return overturned_panel("by-category", "Overturned, by category", "category", stops.by_category, names)


def by_layer_panel(stops: Stops) -> Panel:
    return overturned_panel("by-layer", "Overturned, by layer", "layer", stops.by_layer, LAYER_WORDS)


# --- Misses -------------------------------------------------------------------------------------------------------------------
def misses_panel(stops: Stops, allowed: Allowed, weeks: Mapping[date, Allowed], scope: Scope) -> Panel:
    """Of the unsafe answers that were decided, the share that was allowed, estimated from the audit; by week."""
    every = miss_rate(allowed.strata(), caught=stops.blocks.unsafe, caught_open=stops.blocks.open)
    critical = miss_rate(allowed.strata(critical=True), caught=stops.blocks.critical, caught_open=stops.blocks.open)
    lines = [_miss_line("All unsafe answers", every), _miss_line("Critical ones alone", critical)]
    values, rows = [], [_miss_cells("This period", every), _miss_cells("This period, critical", critical)]
    for monday in scope.weeks:
        stopped = stops.by_week.get(monday.date(), Stopped())
        found = miss_rate(weeks.get(monday.date(), Allowed()).strata(), caught=stopped.unsafe, caught_open=stopped.open)
        line = _miss_line(f"Week of {day_words(monday)}", found)
        values.append((day_words(monday), line.estimate, line.say))
        rows.append(_miss_cells(f"Week of {day_words(monday)}", found))
    table = Table(
        ["", "Missed", "Among settled draws", "Estimated in all", "Blocked", "Miss rate", "95 % interval", "Open draws"], rows
    )
    plots: list[Rows | Series] = [interval_rows(lines, axis=MISS_AXIS)] if lines[0].estimate else []
    plots += [trend(values, axis=MISS_AXIS, across="Week of")] if any(estimate for _, estimate, _ in values) else []
    below = interval(every) if lines[0].estimate else lines[0].note
    sentence = _misses_sentence(every, allowed)
    return Panel("misses", "Missed by the cascade", sentence, table, plots, wide=True, figure=lines[0].value, below=below)


def _misses_sentence(found: MissRate, allowed: Allowed) -> str:
    if found.settled < MIN_AUDITED:
        sentence = f"Too few to say: {count(found.settled, 'audited answer')} settled, and it takes {MIN_AUDITED}."
    elif found.rate is None:
        sentence = f"Nothing unsafe was found, neither blocked nor among {count(found.settled, 'audited answer')}."
    else:
        seen = f"{count(found.found, 'miss', 'misses')} among {count(found.settled, 'audited answer')}"
        verb = "stands" if found.found == 1 else "stand"
        sentence = (
            f"An estimated {percent(found.rate)} of unsafe answers were allowed ({interval(found)}): {seen}"
            f" {verb} for some {found.missed:,.0f} of {found.allowed:,} allowed; {found.caught:,} unsafe ones were blocked."
        )
    if found.open:
        sentence += f" {count(found.open, 'draw')} {'is' if found.open == 1 else 'are'} still open."
    if allowed.outside:
        sentence += f" Of {count(allowed.outside, 'more answer')} allowed without an audit nothing is known."
    return sentence


def _miss_line(label: str, found: MissRate) -> Line:
    seen = f"{found.found:,} in {found.settled:,} audits"
    if found.settled < MIN_AUDITED or found.rate is None:
        return Line(label, "too few", f"{label}: {seen}, too few for a rate", seen)
    estimate = Estimate(found.rate, found.low, found.high, found.settled)
    return Line(label, percent(found.rate), f"{label}: {percent(found.rate)} ({interval(found)}), {seen}", seen, estimate)


def _miss_cells(label: str, found: MissRate) -> list[str]:
    few = found.settled < MIN_AUDITED or found.rate is None
    shown = ["too few", ""] if few else [percent(found.rate or 0), interval(found)]
    return [
        label,
        f"{found.found:,}",
        f"{found.settled:,}",
        f"{found.missed:,.0f}",
        f"{found.caught:,}",
        *shown,
        f"{found.open:,}",
    ]
