"""The figures of people as panels: whether they agree, how long they take, what became of what they said. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta

from guardreview.review.insight_people import Known, Person
from guardreview.review.models import Review
from guardreview.review.panels import MIN_RATE, Panel, Table, count, interval, percent, rate_cells, rate_line
from guardreview.review.plots import Line, interval_rows
from guardreview.review.presentation import duration
from guardreview.review.statistics import Estimate, cohen_kappa, difference, krippendorff_alpha, quartiles, wilson

MIN_AGREEMENT = 20
"""Items that two have decided: agreement on fewer says nothing."""
MIN_TIMES = 5


def agreement_panel(second_opinions: Sequence[Sequence[str]], calibrations: Sequence[Known]) -> Panel:
    """Cohen's kappa of the first two who spoke, Krippendorff's alpha of all; unsure is no statement."""
    by_item: dict[tuple[int, int], list[str]] = defaultdict(list)
    for known in calibrations:
        by_item[known.item, known.round].append(known.said)
    units = [list(unit) for unit in [*second_opinions, *by_item.values()]]
    sure = [[said for said in unit if said != Review.Truth.UNSURE] for unit in units]
    doubly = [unit for unit in sure if len(unit) > 1]
    pairs = [(unit[0], unit[1]) for unit in units if len(unit) > 1 and Review.Truth.UNSURE not in unit[:2]]
    same = sum(one == two for one, two in pairs)
    kappa = _line("Two pharmacists, kappa", cohen_kappa(pairs), len(pairs))
    alpha = _line("All who spoke, alpha", krippendorff_alpha(doubly), len(doubly))
    if len(pairs) < MIN_AGREEMENT:
        sentence = f"Too few to say: {count(len(pairs), 'item')} decided by two who were sure, and it takes {MIN_AGREEMENT}."
    else:
        share = interval(wilson(same, len(pairs)))
        sentence = f"Two pharmacists who were sure said the same of {same:,} of {count(len(pairs), 'item')} ({share})."
        if kappa.estimate:
            sentence += f" Beyond chance that is a kappa of {kappa.value}."
    note = "0: no better than chance; 1: always. Second opinions are asked for on hard items: it is not the agreement on all."
    table = Table(
        ["", "Value", "95 % interval", "Items"],
        [[line.label, line.value, _between(line.estimate), f"{n:,}"] for line, n in ((kappa, len(pairs)), (alpha, len(doubly)))],
    )
    plots = (
        [interval_rows([kappa, alpha], low=-1, high=1, unit="", axis="Agreement beyond chance, \u22121 to 1")]
        if kappa.estimate or alpha.estimate
        else []
    )
    below = _between(kappa.estimate) or kappa.note
    return Panel("agreement", "Do pharmacists agree?", sentence, table, plots, note, figure=kappa.value, below=below)


def _line(label: str, found: Estimate | None, n: int) -> Line:
    if n < MIN_AGREEMENT:
        return Line(label, "too few", f"{label}: too few, {count(n, 'item')}", count(n, "item"))
    if found is None:
        return Line(label, "none", f"{label}: none, since one side always said the same, {count(n, 'item')}", count(n, "item"))
    value = f"{found.value:.2f}".replace("-", "\u2212")
    return Line(label, value, f"{label}: {value} ({_between(found)}), {count(n, 'item')}", count(n, "item"), found)


def _between(found: Estimate | None) -> str:
    return "" if found is None else f"{found.low:.2f} to {found.high:.2f}".replace("-", "\u2212")


def blind_panel(blocks: Mapping[bool, tuple[int, int]]) -> Panel:
    """Whether a pharmacist who sees the verdict confirms it more readily than one who does not."""
    (n_blind, blind), (n_seen, seen) = blocks.get(True, (0, 0)), blocks.get(False, (0, 0))
    lines = [rate_line("Verdict hidden", blind, n_blind), rate_line("Verdict shown", seen, n_seen)]
    if min(n_blind, n_seen) < MIN_RATE:
        sentence = f"Too few to say: {count(n_blind, 'block')} decided blind, {n_seen:,} not."
    else:
        found = difference(seen, n_seen, blind, n_blind)
        points = f"{100 * abs(found.value):.0f} points {'more' if found.value >= 0 else 'less'} often"
        sentence = f"Who sees the verdict confirms a block {points} ({_points(found.low)} to {_points(found.high)})."
        if found.low <= 0 <= found.high:
            sentence += " That may be chance."
    table = Table(
        ["", "Confirmed", "Decided", "Share", "95 % interval"],
        [["Verdict hidden", *rate_cells(blind, n_blind)], ["Verdict shown", *rate_cells(seen, n_seen)]],
    )
    return Panel(
        "blind",
        "Does the verdict sway them?",
        sentence,
        table,
        [interval_rows(lines, high=1.0, axis="Blocks that were confirmed, %")] if n_blind + n_seen else [],
    )


def _points(share: float) -> str:
    return f"{100 * share:+.0f}".replace("-", "\u2212")


def calibration_panel(calibrations: Sequence[Known], people: Mapping[int, Person]) -> Panel:
    """Each reviewer's agreement with known truths; unsure is not agreeing."""
    said: dict[int, list[bool]] = defaultdict(list)
    for known in calibrations:
        said[known.reviewer].append(known.said == known.truth)
    right, n = sum(map(sum, said.values())), len(calibrations)
    named = sorted((people[key].name if key in people else f"reviewer {key}", found) for key, found in said.items())
    if n < MIN_RATE:
        sentence = f"Too few to say: {count(n, 'calibration item')} decided."
    else:
        found = wilson(right, n)
        sentence = f"{percent(found.value)} of {count(n, 'calibration decision')} named the known truth ({interval(found)})."
    lines = [rate_line(name, sum(found), len(found)) for name, found in named]
    table = Table(
        ["Reviewer", "Right", "Decided", "Share", "95 % interval"], [[name, *rate_cells(sum(f), len(f))] for name, f in named]
    )
    plots = [interval_rows(lines, high=1.0, axis="Decisions that named the known truth, %")] if n else []
    return Panel("calibration", "Against known truths", sentence, table, plots, wide=True)


def time_panel(groups: Sequence[tuple[str, Sequence[float]]]) -> Panel:
    """Seconds from opening an item to deciding it, by group: the median on the middle half. The sentence is of the first."""
    seconds = groups[0][1]
    sentence = f"Too few to say: {count(len(seconds), 'decision')} with a time."
    if len(seconds) >= MIN_TIMES:
        found = quartiles(seconds)
        sentence = (
            f"Half of {count(len(seconds), 'decision')} took {_time(found.value)} or less;"
            f" the middle half, {_time(found.low)} to {_time(found.high)}."
        )
    lines, rows = [], []
    for name, values in groups:
        if len(values) < MIN_TIMES:
            lines.append(Line(name, "too few", f"{name}: {count(len(values), 'decision')}, too few", f"n {len(values):,}"))
            rows.append([name, f"{len(values):,}", "", "too few", ""])
            continue
        found = quartiles(values)
        half = f"{_time(found.low)} to {_time(found.high)}"
        say = f"{name}: median {_time(found.value)}, middle half {half}, {count(found.n, 'decision')}"
        in_minutes = Estimate(found.value / 60, found.low / 60, found.high / 60, found.n)
        lines.append(Line(name, _time(found.value), say, f"n {found.n:,}", in_minutes))
        rows.append([name, f"{found.n:,}", _time(found.low), _time(found.value), _time(found.high)])
    table = Table(["", "Decisions", "First quartile", "Median", "Third quartile"], rows)
    plots = [interval_rows(lines, unit="min", axis="Time from opening to deciding, min")] if len(seconds) >= MIN_TIMES else []
    return Panel("time", "Time per item", sentence, table, plots, wide=True)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return duration(timedelta(seconds=seconds))


def deeds_panel(people: Sequence[Person]) -> Panel:
    """What each did, as a table alone."""
    total = Person()
    for name in ("decided", "unsure", "undone", "skipped", "reopened", "settled_by_others", "differently"):
        setattr(total, name, sum(getattr(person, name) for person in people))
    sentence = (
        f"{count(total.decided, 'decision')}; {total.undone:,} undone, {total.skipped:,} skipped,"
        f" {total.reopened:,} decided anew after reopening."
        if people
        else "Nobody decided anything in this period."
    )
    rows = [[person.name, *_cells(person)] for person in sorted(people, key=lambda person: -person.decided)]
    head = ["Reviewer", "Decided", "Unsure", "Undone", "Skipped", "Reopened", "Settled otherwise"]
    return Panel("people", "Who did what", sentence, Table(head, rows), wide=True, is_table=bool(rows))


def _cells(person: Person) -> list[str]:
    numbers = [person.decided, person.unsure, person.undone, person.skipped, person.reopened]
    return [*(f"{number:,}" for number in numbers), f"{person.differently:,} of {person.settled_by_others:,}"]


def differently_words(person: Person) -> str:
    """One's own, in a sentence."""
    n, differently = person.settled_by_others, person.differently
    if not n:
        return "Nobody else has settled anything that you decided."
    share = f" ({interval(wilson(differently, n))})" if n >= MIN_RATE else ""
    return f"Of {count(n, 'decision')} that others looked at, {differently:,} ended otherwise{share}."
