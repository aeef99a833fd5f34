"""The weekly figures as panels: this week's distributions, and each figure over the last weeks. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, Final

from classifiers.result import Decision
from guardreview.learning import drift
from guardreview.learning.alarms import Figures, Past, kappa_of, shift_of
from guardreview.review.panels import MIN_AUDITED, MIN_RATE, Panel, Table, count, day_words, percent
from guardreview.review.plots import HEIGHT, Line, Series, columns, interval_rows, number, trend
from guardreview.review.presentation import LAYER_WORDS, category_words
from guardreview.review.statistics import Estimate, wilson

Weeks = Sequence[tuple[date, Figures]]
"""(Monday, figures), oldest first."""
Read = Callable[[Figures], Estimate | None]
DECISION_WORDS: Final = {Decision.ALLOW: "allowed", Decision.HOLD: "held", Decision.BLOCK: "blocked"}


def over_weeks(
    key: str, title: str, weeks: Weeks, read: Read, say: Callable[[Estimate], str], *, axis: str, note: str = ""
) -> Panel:
    """One figure, week by week, with its interval."""
    values, rows = [], []
    for week, figures in weeks:
        found = read(figures)
        label = day_words(week)
        values.append((label, found, f"Week of {label}: {say(found) if found else 'not known'}"))
        rows.append([label, *(_cells(found, say) if found else ["not known", "", ""])])
    last = read(weeks[-1][1])
    sentence = f"{say(last)[:1].upper()}{say(last)[1:]}." if last else "Not known in the last week."
    table = Table(["Week of", "Figure", "95 % interval", "On"], rows)
    plots = [trend(values, axis=axis)] if any(found for _, found, _ in values) else []
    return Panel(key, title, sentence, table, plots, note)


def _cells(found: Estimate, say: Callable[[Estimate], str]) -> list[str]:
    told = say(found)
    value, _, rest = told.partition(" (")
    return [value, rest.partition(")")[0], f"{found.n:,}"]


def _share(found: Estimate) -> str:
    low, high = percent(found.low), percent(found.high)
    return f"{percent(found.value)} ({low} to {high}), on {found.n:,}"


def _plain(found: Estimate) -> str:
    if found.low == found.high:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f}), on {found.n:,}"


def _of(k: int, n: int) -> Estimate | None:
    return wilson(k, n) if n >= MIN_RATE else None


def _missed(figures: Figures) -> Estimate | None:
    found = figures["misses"]
    if found["rate"] is None or found["settled"] < MIN_AUDITED:
        return None
    return Estimate(found["rate"], found["low"], found["high"], found["settled"])


def _decided(decision: str) -> Read:
    return lambda figures: _of(figures["decisions"][decision], figures["n"])


def _failed(layer: str) -> Read:
    def read(figures: Figures) -> Estimate | None:
        counts = figures["layers"].get(layer, {"failed": 0, "n": 0})
        return _of(counts["failed"], counts["n"])

    return read


def small_multiples(weeks: Weeks) -> list[Panel]:
    """What was decided and how right it was, over the weeks."""
    shares = [
        over_weeks(f"share-{decision}", f"Share {words}", weeks, _decided(decision), _share, axis=f"Answers {words}, %")
        for decision, words in DECISION_WORDS.items()
    ]
    return [
        *shares,
        over_weeks("judged", "Sent to the judge", weeks, lambda f: _of(f["judged"], f["n"]), _share, axis="Answers judged, %"),
        over_weeks(
            "overturned", "Wrong blocks", weeks, lambda f: _of(f["overturned"]["safe"], f["overturned"]["settled"]), _share,
            axis="Settled blocks that were wrong, %",
        ),
        over_weeks("missed", "Missed by the cascade", weeks, _missed, _share, axis="Unsafe answers that were allowed, %"),
        over_weeks(
            "judge", "Judge and pharmacists", weeks, lambda f: _drawable(kappa_of(f)), _plain, axis="Cohen’s kappa, %",
            note="Kappa in hundredths: 0 is chance, 100 full agreement.",
        ),
        over_weeks("ece", "Calibration", weeks, _ece, _share, axis="Distance of P(unsafe) from the truth, %"),
        *(
            over_weeks(
                f"failures-{layer}", f"{words}: failures", weeks, _failed(layer), _share, axis="Answers on which it failed, %",
            )
            for layer, words in LAYER_WORDS.items()
            if any(figures["layers"].get(layer) for _, figures in weeks)
        ),
    ]  # fmt: skip


def _drawable(found: Estimate | None) -> Estimate | None:
    """Agreement below chance is drawn as none."""
    return replace(found, value=max(0.0, found.value), low=max(0.0, found.low), high=max(0.0, found.high)) if found else None


def _ece(figures: Figures) -> Estimate | None:
    bins = [drift.ScoreBin(**each) for each in figures["calibration"]]
    n = sum(each.n for each in bins)
    if n < MIN_AUDITED:
        return None
    ece, _ = drift.calibration_error(bins)
    total = sum(each.weight for each in bins)
    half = 1.96 * sum(each.spread for each in bins) ** 0.5 / total
    return Estimate(ece, max(0.0, ece - half), min(1.0, ece + half), n)


def stability_panel(weeks: Weeks, past: Past) -> Panel:
    """PSI of this week, against the weeks before."""
    figures = weeks[-1][1]
    rows, lines = [], []
    for name, words in (("scores", "Scores"), ("categories", "Categories blocked"), ("languages", "Languages")):
        found = shift_of(name, figures, past)
        if found is None:
            rows.append([words, "not known", "", ""])
            continue
        rows.append([words, f"{found.psi:.3f}", f"{found.noise:.3f}", f"{found.n:,}"])
        say = f"{words}: PSI {found.psi:.3f}, chance stays below {found.noise:.3f}"
        lines.append(Line(words, f"{found.psi:.2f}", say, "", Estimate(found.psi, found.psi, found.psi, found.n)))
    table = Table(["", "PSI", "Chance stays below", "Answers"], rows)
    plots = [interval_rows(lines, high=max([0.3, *(line.estimate.high for line in lines if line.estimate)]), unit="", axis="PSI")]
    sentence = "Below 0.1 is stable, above 0.25 a real shift." if lines else "No week before to compare with."
    return Panel("stability", "Against the weeks before", sentence, table, plots if lines else [])


def scores_panel(figures: Figures) -> Panel:
    """How P(unsafe) is distributed."""
    total = sum(figures["scores"])
    values, rows = [], []
    for at, n in enumerate(figures["scores"]):
        low, high = drift.SCORE_EDGES[at], drift.SCORE_EDGES[at + 1]
        words = f"{low:g} to {high:g}"
        values.append((f"{low:g}", n, f"P(unsafe) {words}: {count(n, 'answer')}"))
        rows.append([words, f"{n:,}", percent(n / total) if total else ""])
    table = Table(["P(unsafe)", "Answers", "Share"], rows)
    plots = [columns(values, axis="Answers", across="P(unsafe), not to scale")] if total else []
    return Panel("scores", "Scores", f"{count(total, 'answer')} scored by the classifier.", table, plots)


def reliability_panel(figures: Figures) -> Panel:
    """The share of unsafe ones among settled answers of each tenth of P(unsafe), with the line on which it should lie."""
    bins = {each["tenth"]: drift.ScoreBin(**each) for each in figures["calibration"]}
    values, rows = [], []
    for tenth in range(10):
        label, found = f"{tenth / 10:.1f}", bins.get(tenth)
        estimate = drift.weighted_share(found.unsafe, found.weight, found.squares, found.n) if found else None
        say = _share(estimate) if estimate else "nothing settled"
        values.append((label, estimate, f"P(unsafe) from {label}: unsafe {say}"))
        if found and estimate:
            mean = percent(found.scored / found.weight)
            rows.append(
                [label, mean, percent(estimate.value), f"{percent(estimate.low)} to {percent(estimate.high)}", f"{found.n:,}"]
            )
    n = sum(each.n for each in bins.values())
    table = Table(["P(unsafe) from", "Mean score", "Unsafe", "95 % interval", "Settled"], rows)
    if not n:
        return Panel("reliability", "Is P(unsafe) what it says?", "Nothing is settled yet.", table)
    ece, _ = drift.calibration_error(list(bins.values()))
    drawn = trend([*values], axis="Settled answers that were unsafe, %", across="P(unsafe)")
    return Panel(
        "reliability",
        "Is P(unsafe) what it says?",
        f"Off by {percent(ece)} on average, on {count(n, 'settled answer')} weighted by 1 / probability and by open draws.",
        table,
        [_with_diagonal(drawn, values)],
        "The line is where points should lie.",
    )


def _with_diagonal(drawn: Series, values: Sequence[tuple[str, Estimate | None, str]]) -> Series:
    """The points unjoined, on a scale from 0 to 1, with the diagonal."""
    full = trend([*values, ("", Estimate(1.0, 1.0, 1.0, 1), "")], axis=drawn.axis, across=drawn.across)
    top = full.levels[0].at
    marks = [
        replace(mark, y=other.y, top=other.top, bottom=other.bottom) for mark, other in zip(drawn.marks, full.marks, strict=False)
    ]
    return replace(drawn, marks=marks, levels=full.levels, lines=[("0%", number(HEIGHT), "100%", top)])


def mix_panel(key: str, title: str, what: str, counts: dict[str, int], names: Callable[[str], str]) -> Panel:
    """Shares of the most frequent names."""
    total = sum(counts.values())
    lines = []
    for name, n in list(counts.items())[:8]:
        found = wilson(n, total)
        words = names(name)
        lines.append(Line(words, percent(found.value), f"{words}: {_share(found)}", f"{n:,}", found))
    rows = [[names(name), f"{n:,}", percent(n / total)] for name, n in counts.items()]
    plots = [interval_rows(lines, axis=f"{what}, %")] if lines else []
    return Panel(key, title, f"{count(total, 'answer')}." if total else "None.", Table(["", "Answers", "Share"], rows), plots)


def latency_panel(figures: Figures) -> Panel:
    """How long each layer took."""
    lines, rows = [], []
    for layer, words in LAYER_WORDS.items():
        counts = figures["layers"].get(layer)
        if not counts or not sum(counts["latency"]):
            continue
        middle, late, last = (drift.latency(counts["latency"], share) or 0.0 for share in (0.5, 0.95, 0.99))
        say = f"{words}: half within {_ms(middle)}, 95 of 100 within {_ms(late)}"
        lines.append(Line(words, _ms(middle), say, f"95 %: {_ms(late)}", Estimate(middle, middle, late, counts["n"])))
        rows.append([words, f"{counts['n']:,}", f"{counts['failed']:,}", _ms(middle), _ms(late), _ms(last)])
    table = Table(["Layer", "Answers", "Failed", "Median", "95 %", "99 %"], rows)
    plots = [interval_rows(lines, unit="ms", axis="Median, and up to where 95 of 100 lie")] if lines else []
    return Panel(
        "latency", "Time per layer", "From the median to the 95th of a hundred." if lines else "No layer ran.", table, plots
    )


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def fresh_panel(figures: Figures) -> Panel:
    """Critical labels that a new certificate could rest on."""
    rows = [
        [category_words(name), f"{each['fresh']:,}", f"{each['needed']:,}", f"{max(0, each['needed'] - each['fresh']):,}",
         f"{each['ever']:,}"]
        for name, each in figures["fresh"].items()
    ]  # fmt: skip
    table = Table(["Category", "Fresh", "Needed", "Missing", "Ever"], rows)
    short = sum(each["fresh"] < each["needed"] for each in figures["fresh"].values())
    sentence = f"{short} of {len(rows)} critical categories could not be certified by fresh labels alone."
    return Panel("fresh", "Labels for the guarantee", sentence, table, wide=True, is_table=True)


def this_week(weeks: Weeks, past: Past) -> list[Panel]:
    """The distributions of the last week."""
    figures: Any = weeks[-1][1]
    return [
        scores_panel(figures),
        reliability_panel(figures),
        stability_panel(weeks, past),
        latency_panel(figures),
        mix_panel("categories", "What was blocked", "Blocked answers", figures["categories"], category_words),
        mix_panel("languages", "Languages", "Answers", figures["languages"], str),
        fresh_panel(figures),
    ]
