"""Checks before promotion, and the shadow, as the pages show them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classifiers.promotion import points
from guardreview.learning.gate import AUDITED, GOLD, KNOWN, RECENT, STOPPED, TEST
from guardreview.review.panels import Panel, Table
from guardreview.review.plots import Line, Rows, columns, interval_rows, nice, stacked_rows
from guardreview.review.statistics import Estimate

SET_WORDS = {
    TEST: "Test split",
    GOLD: "Gold items",
    STOPPED: "Recent, stopped",
    AUDITED: "Recent, audited",
}
JUDGED_WORDS = {KNOWN: "Test and gold items", RECENT: "Recent labels"}
BASIS_WORDS = {"single": "settled by one pharmacist", "agreed": "by two", "adjudicated": "by a lead"}
EXAMPLE_WORDS = {
    "missed_by_candidate": "Critical, allowed by the candidate alone",
    "missed_by_serving": "Critical, allowed by the serving model alone",
    "blocked_by_candidate": "Safe, blocked by the candidate alone",
    "blocked_by_serving": "Safe, blocked by the serving model alone",
}
HEAD = ("", "Items", "Serving", "Candidate", "Candidate alone", "Serving alone", "Difference", "95 % bounds")
OUTCOMES = ("allow", "judge", "block")
OUTCOME_WORDS = {"allow": "allowed", "judge": "sent on", "block": "blocked"}
BINS = 20


# --- A check --------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Example:
    """A discordant pair: the id of a corpus row, or a review item to link to."""

    id: str
    item: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found: why not, if so; figures; examples of discordant pairs by set and kind."""

    passed: bool
    objections: Sequence[tuple[str, Sequence[str]]]
    panels: Sequence[Panel]
    examples: Sequence[tuple[str, str, Sequence[Example]]]
    left_out: Sequence[tuple[str, int]]


def check_report(report: Mapping[str, Any], *, sealed: bool = False) -> Report:
    """A stored report, as its page shows it. `sealed`: without the gold items, whose truth those who decide must not learn."""
    items = report["items"]
    examples = [
        (SET_WORDS[name], EXAMPLE_WORDS[kind], [Example(id, items.get(id)) for id in ids])
        for name, found in report["sets"].items()
        for kind, ids in found["examples"].items()
        if ids and not (sealed and name == GOLD)
    ]
    return Report(
        passed=report["passed"],
        objections=[(JUDGED_WORDS[name], why) for name, why in report["objections"].items() if why],
        panels=[
            _panel(report, "misses", "Critical answers missed", "miss_margin", "critical items"),
            _panel(report, "false_blocks", "Safe answers blocked", "block_margin", "safe items"),
        ],
        examples=examples,
        left_out=list(report["left_out"].items()),
    )


def _panel(report: Mapping[str, Any], what: str, title: str, margin: str, unit: str) -> Panel:
    found = [(SET_WORDS[name], each[what]) for name, each in report["sets"].items()]
    judged = [(JUDGED_WORDS[name], each[what]) for name, each in report["judged"].items()]
    limit = report["margins"][margin]
    lines = [_line(words, each, unit) for words, each in [*judged, *found]]
    reach = [abs(edge) for line in lines if line.estimate for edge in (line.estimate.low, line.estimate.high)]
    top = nice(max([2.5 * limit, *(edge for edge in reach if edge < 0.5)]))
    plot = interval_rows(lines, low=-top, high=top, axis="Candidate minus serving; 95 % bounds, each way")
    sentence = "; ".join(f"{words.lower()}: {_says(each)}" for words, each in judged)
    if what == "misses":
        sentence += f". The upper bound may be {points(limit)}"
        note = (
            f"Audited labels are shown, not judged: they are few, and drawn unequally. {_no_sample(report.get('coverage', {}))}"
        )
    else:
        sentence += f". The limit is {points(limit)}"
        note = "Labels that were audited count as many as they stand for; of such a mixture there is no exact bound."
    return Panel(
        what,
        title,
        f"{sentence[0].upper()}{sentence[1:]}.",
        Table(HEAD, [_cells(w, each) for w, each in found]),
        [plot],
        note,
        wide=True,
    )


def _no_sample(coverage: Mapping[str, Sequence[int]]) -> str:
    """What the recent labels of what was stopped are a sample of, and how many of them count."""
    found = [(words, *coverage[basis]) for basis, words in BASIS_WORDS.items() if basis in coverage]
    shares = ", ".join(f"{used:,} of {of:,} {words}" for words, used, of in found)
    said = "Those of stopped answers are no random sample: they ask whether the candidate lets through what serving stopped"
    return f"{said}, and hard items seldom count (here {shares})." if shares else f"{said}."


def _line(words: str, found: Mapping[str, Any], unit: str) -> Line:
    if not found["n"]:
        return Line(words, "none", f"{words}: no {unit}", "no items")
    note = f"{found['serving']} and {found['candidate']} of {found['n']:,}"
    if found["high"] is None:
        return Line(words, points(found["difference"]), f"{words}: {points(found['difference'])}, weighted", note)
    estimate = Estimate(found["difference"], found["low"], found["high"], found["n"])
    return Line(words, points(found["difference"]), f"{words}: {points(found['difference'])}, {_bounds(found)}", note, estimate)


def _bounds(found: Mapping[str, Any]) -> str:
    if found["high"] is None:
        return "weighted: none"
    return f"{points(found['low']).split()[0]} to {points(found['high'])}"


def _says(found: Mapping[str, Any]) -> str:
    if not found["n"]:
        return "none"
    bound = "" if found["high"] is None else f", {points(found['high'])} at most"
    return f"{points(found['difference'])}{bound}"


def _cells(words: str, found: Mapping[str, Any]) -> list[str]:
    numbers = [f"{found[name]:,}" for name in ("n", "serving", "candidate", "candidate_alone", "serving_alone")]
    return [words, *numbers, points(found["difference"]), _bounds(found)] if found["n"] else [words, *numbers, "", ""]


# --- The shadow -----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Cell:
    """How many were served one way and would be decided another. `differs`: the two are not the same."""

    count: int
    share: str
    differs: bool
    served: str
    decision: str


@dataclass(frozen=True, slots=True)
class Dot:
    """One exchange in the scatter: both scores, as positions in per cent."""

    x: str
    y: str
    differs: bool


def matrix(counts: Mapping[tuple[str, str], int]) -> list[tuple[str, list[Cell]]]:
    """Rows: as served; columns: as the shadow says."""
    total = sum(counts.values()) or 1
    return [
        (
            OUTCOME_WORDS[served],
            [
                Cell(n, f"{100 * n / total:.1f}", served != decision, served, decision)
                for decision in OUTCOMES
                for n in [counts.get((served, decision), 0)]
            ],
        )
        for served in OUTCOMES
    ]


def scatter(pairs: Sequence[tuple[float, float, bool]]) -> list[Dot]:
    """(serving, shadow, differs) scores as dots; what differs is drawn last, above the others."""
    ordered = sorted(pairs, key=lambda pair: pair[2])
    return [Dot(f"{100 * one:.2f}%", f"{100 * (1 - other):.2f}%", differs) for one, other, differs in ordered]


def score_panels(pairs: Sequence[tuple[float, float, bool]]) -> list[Panel]:
    """Where either model's scores lie."""
    panels = []
    for key, title, place in (("scores-serving", "Scores that served", 0), ("scores-shadow", "Scores in the shadow", 1)):
        bins = [0] * BINS
        for pair in pairs:
            bins[min(int(pair[place] * BINS), BINS - 1)] += 1
        values = [
            (f"{n / BINS:.2f}", found, f"{n / BINS:.2f} to {(n + 1) / BINS:.2f}: {found:,}") for n, found in enumerate(bins)
        ]
        plot = columns(values, axis="Exchanges", across="P(unsafe)")
        low = sum(bins[:2])
        sentence = f"{low:,} of {len(pairs):,} score below 0.10."
        panels.append(
            Panel(key, title, sentence, Table(("P(unsafe) from", "Exchanges"), [[v[0], f"{v[1]:,}"] for v in values]), [plot])
        )
    return panels


def agreement(counts: Mapping[tuple[str, str], int]) -> Rows:
    """Of each way to be served, what the shadow says."""
    keys = [(name, OUTCOME_WORDS[name].capitalize()) for name in OUTCOMES]
    lines = []
    for served in OUTCOMES:
        parts = [(decision, counts.get((served, decision), 0)) for decision in OUTCOMES]
        said = ", ".join(f"{n:,} {OUTCOME_WORDS[name]}" for name, n in parts if n) or "none"
        lines.append((OUTCOME_WORDS[served].capitalize(), f"Served {OUTCOME_WORDS[served]}; in the shadow: {said}", parts))
    return stacked_rows(lines, keys, axis="As served; coloured by what the shadow says")
