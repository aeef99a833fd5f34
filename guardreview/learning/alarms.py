"""What in a week's figures wants attention: what is seen, since when, what likely caused it, and what to do. Pure.

False alarms are kept down in three ways. All tests of a week share one error rate: each is made at ERROR_RATE / TESTS
(Bonferroni), so that in a week in which nothing is wrong anywhere, the chance of any alarm is at most ERROR_RATE. An alarm takes
more than chance: it must also be large enough to matter. And a moderate shift of a distribution is a notice in its first week, an
alarm in its second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import NormalDist
from typing import Any, Final

from guardreview.learning import drift
from guardreview.review.statistics import Estimate, clopper_pearson, wilson

ALARM: Final = "alarm"
NOTICE: Final = "notice"
UNKNOWN: Final = "unknown"
ERROR_RATE: Final = 0.05
TESTS: Final = 10
"""Scores, categories, languages, overturned, missed, the judge, calibration, and three layers."""
EACH: Final = ERROR_RATE / TESTS
REFERENCE_WEEKS: Final = 8
SET_ASIDE: Final = 4
LARGE_AT_ONCE: Final = 0.5
"""A PSI that is an alarm in its first week."""
Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """From the settings: shares, but for `psi_*`, `kappa` (the least agreement) and `fresh_days` (so long a label is fresh)."""

    psi_notice: float
    psi_alarm: float
    overturned: float
    missed: float
    kappa: float
    failures: float
    calibration: float
    fresh_days: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """`since`: the Monday of the first week of an unbroken row in which it was seen. `links`: kinds of pages."""

    key: str
    level: str
    title: str
    seen: str
    since: str
    causes: Sequence[str]
    todo: str
    links: Sequence[Mapping[str, str]] = ()


Past = Sequence[tuple[date, Figures, Sequence[Mapping[str, Any]]]]
"""(Monday, figures, alarms) of the weeks before, oldest first."""


def alarms(figures: Figures, past: Past, week: date, limits: Limits) -> list[Alarm]:
    """The gravest first. `past`: at most REFERENCE_WEEKS weeks."""
    if not figures["n"]:
        return []
    found = [
        *_shifts(figures, past, limits),
        _overturned(figures, limits),
        _missed(figures, limits),
        _judge(figures, limits),
        _calibration(figures, limits),
        *_failures(figures, limits),
        _guarantee(figures, limits),
    ]
    order = {ALARM: 0, UNKNOWN: 1, NOTICE: 2}
    dated = [_dated(alarm, past, week, figures["changes"]) for alarm in found if alarm]
    return sorted(dated, key=lambda alarm: order[alarm.level])


def _alarm(key: str, level: str, title: str, seen: str, todo: str, causes: Sequence[str] = (), *links: str) -> Alarm:
    return Alarm(key, level, title, seen, "", list(causes), todo, [{"kind": kind, "target": ""} for kind in links])


def _dated(alarm: Alarm, past: Past, week: date, changes: Sequence[Mapping[str, str]]) -> Alarm:
    """With the week that it began in, and what was changed then."""
    since, began = week, list(changes)
    for monday, figures, raised in reversed(past):
        if not any(each["key"] == alarm.key for each in raised):
            break
        since, began = monday, list(figures["changes"])
    causes, links = list(alarm.causes), list(alarm.links)
    if alarm.level != UNKNOWN and alarm.key not in ("guarantee", "not-shown"):
        causes = [*(f"In the week it began, {each['words']} ({each['at'][:10]})." for each in began), *causes]
        links += [{"kind": each["kind"], "target": each["target"]} for each in began]
    return Alarm(alarm.key, alarm.level, alarm.title, alarm.seen, since.isoformat(), causes, alarm.todo, links)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


# --- Distributions ----------------------------------------------------------------------------------------------------------
SHIFTED: Final = {
    "scores": ("Scores have shifted", "What the chat app is asked, or the model behind it, has changed."),
    "categories": (
        "Other dangers than before",
        "Patients ask about other things, or a rule or threshold stops more of one kind.",
    ),
    "languages": ("Other languages than before", "A new group of patients, or a new app."),
}


def shift_of(name: str, figures: Figures, past: Past) -> drift.Shift | None:
    """Of the week against all of the weeks before together, without those of the last SET_ASIDE that were off themselves: a shift
    must not hide in its own reference, and what has lasted longer than that is how things are. None without any.
    """
    reference: Any = None
    for at, (_, before, raised) in enumerate(past):
        if at >= len(past) - SET_ASIDE and any(each["key"] == f"psi-{name}" for each in raised):
            continue
        if name == "scores":
            reference = [a + b for a, b in zip(reference or [0] * len(before[name]), before[name], strict=True)]
        else:
            reference = {
                key: (reference or {}).get(key, 0) + before[name].get(key, 0) for key in {**(reference or {}), **before[name]}
            }
    return drift.shift(figures[name], reference, EACH) if reference else None


def _shifts(figures: Figures, past: Past, limits: Limits) -> list[Alarm]:
    found = []
    last = {each["key"] for each in past[-1][2]} if past else set()
    for name, (title, cause) in SHIFTED.items():
        shift = shift_of(name, figures, past)
        if shift is None or not shift.is_real or shift.psi < limits.psi_notice:
            continue
        again = f"psi-{name}" in last and shift.psi >= limits.psi_alarm
        level = ALARM if shift.psi >= LARGE_AT_ONCE or again else NOTICE
        seen = (
            f"PSI {shift.psi:.2f} against the weeks before"
            f" (0.1 is worth a look, 0.25 a real shift; chance stays below {shift.noise:.2f})."
        )
        todo = (
            "Look at a few answers of this week; if they are right, let the reference catch up; if not, roll back what changed."
        )
        found.append(_alarm(f"psi-{name}", level, title, seen, todo, [cause], "decided"))
    return found


# --- Reviews ----------------------------------------------------------------------------------------------------------------
def _overturned(figures: Figures, limits: Limits) -> Alarm | None:
    counts = figures["overturned"]
    if not counts["settled"]:
        return None
    found = wilson(counts["safe"], counts["settled"], 1 - 2 * EACH)
    if found.low <= limits.overturned:
        return None
    seen = (
        f"{counts['safe']:,} of {counts['settled']:,} settled blocks were wrong, surely more than {percent(limits.overturned)}."
    )
    todo = "See which rules and categories it is, and revise those rules or raise the threshold."
    return _alarm("overturned", ALARM, "Too many blocks are wrong", seen, todo, ["A rule is too wide, or a threshold too low."],
                  "insight")  # fmt: skip


def audits_needed(figures: Figures, limit: float, rate: float | None = None) -> int | None:
    """Settled audits from which an upper bound below `limit` may be hoped for, if `rate` is missed (unless told, half of the
    limit). None: no number of audits says so, since nothing was caught, or `rate` is not below the limit."""
    misses = figures["misses"]
    rate = limit / 2 if rate is None else rate
    if not misses["caught"] or not misses["allowed"] or rate >= limit:
        return None

    def share(rate: float) -> float:
        """Of allowed answers, that are missed at a miss rate."""
        return min(1.0, float(misses["caught"]) * rate / (1 - rate) / float(misses["allowed"]))

    truth, most = share(rate), share(limit)
    n = 10
    while n < 10_000_000 and clopper_pearson(round(truth * n), n, 1 - 0.05 / max(1, misses["strata"])).high > most:
        n = math.ceil(n * 1.25)
    return min(n, int(misses["allowed"]))


def _missed(figures: Figures, limits: Limits) -> Alarm | None:
    """An alarm only where the lower bound at EACH, `surely`, is above the limit. An upper bound above it is no sign that too much
    is missed: it takes many audits to show that little is."""
    misses = figures["misses"]
    needed = audits_needed(figures, limits.missed)
    seen = (
        f"An estimated {percent(misses['rate'] or 0)} of unsafe answers were allowed"
        f" ({percent(misses['low'])} to {percent(misses['high'])}): {misses['found']:,} in {misses['settled']:,} audits."
    )
    if misses["surely"] > limits.missed:
        todo = "Lower the thresholds, read the misses, retrain with them."
        return _alarm("missed", ALARM, "Too much is missed", seen, todo, ["A kind of danger that no layer knows."],
                      "insight", "thresholds")  # fmt: skip
    if misses["high"] <= limits.missed:
        return None
    if needed is None or misses["settled"] < needed:
        missing = None if needed is None else needed - misses["settled"]
        seen = f"{misses['settled']:,} audits are settled."
        seen += " No block was found right, and without any the rate is not defined." if missing is None else (
            f" It takes some {missing:,} more to say whether less than {percent(limits.missed)} of unsafe answers are missed."
        )  # fmt: skip
        todo = (
            f"{misses['drawn'] - misses['settled']:,} draws wait to be settled. Audit a larger share if that stays too few."
            if misses["drawn"] > misses["settled"]
            else "Audit a larger share of what is allowed."
        )
        return _alarm("missed", UNKNOWN, "Miss rate not known", seen, todo, (), "insight")
    enough = audits_needed(figures, limits.missed, misses["rate"])
    if enough is None:
        seen += " At that rate, no number of audits would show it."
        todo = "Read the misses, and lower the thresholds."
    else:
        seen += f" At that rate, some {max(enough, misses['settled'] + 1):,} settled audits would show it."
        todo = "Audit a larger share of what is allowed."
    return _alarm("not-shown", NOTICE, f"Not shown to be below {percent(limits.missed)}", seen, todo, (), "insight", "thresholds")


def kappa_of(figures: Figures, alpha: float = 0.05) -> Estimate | None:
    """Of the judge and the pharmacists."""
    cells = {
        (each["judge_unsafe"], each["unsafe"]): drift.Cell(each["n"], each["weight"], each["squares"])
        for each in figures["judge"]
    }
    return drift.kappa(cells, alpha) if cells else None


def _judge(figures: Figures, limits: Limits) -> Alarm | None:
    found = kappa_of(figures, 2 * EACH)
    if found is None or found.n < 30 or found.high >= limits.kappa:
        return None
    seen = f"Kappa with pharmacists is {found.value:.2f} ({found.low:.2f} to {found.high:.2f}) on {found.n:,} answers."
    todo = "Read the answers on which they differ; try another judge's model, or ask more confidence of it."
    causes = ["The judge's model was changed by its provider."]
    return _alarm("judge", ALARM, "The judge disagrees with pharmacists", seen, todo, causes, "insight", "thresholds")


def _calibration(figures: Figures, limits: Limits) -> Alarm | None:
    bins = [drift.ScoreBin(**each) for each in figures["calibration"]]
    ece, z = drift.calibration_error(bins)
    n = sum(each.n for each in bins)
    if n < 100 or ece <= limits.calibration or abs(z) <= Z_EACH:
        return None
    direction = "too low" if z > 0 else "too high"
    seen = f"P(unsafe) is {direction}: off by {percent(ece)} on average, {n:,} settled answers, {abs(z):.1f} standard errors."
    todo = "Retrain with the new labels; until then set thresholds by what was audited."
    return _alarm("calibration", ALARM, "P(unsafe) is not what it says", seen, todo, ["Other traffic than it was trained on."],
                  "models", "thresholds")  # fmt: skip


Z_EACH: Final = -NormalDist().inv_cdf(EACH / 2)


def _failures(figures: Figures, limits: Limits) -> list[Alarm]:
    found = []
    for layer, counts in figures["layers"].items():
        if counts["n"] < 10 or wilson(counts["failed"], counts["n"], 1 - 2 * EACH).low <= limits.failures:
            continue
        most = ", ".join(f"“{error[:80]}” {n:,} times" for error, n in counts["errors"].items())
        seen = f"The layer {layer} failed on {counts['failed']:,} of {counts['n']:,} answers: {most}."
        todo = "What failed was held or judged. See the log of the workers and docs/operations.md."
        found.append(_alarm(f"failures-{layer}", ALARM, f"The layer {layer} fails", seen, todo))
    return found


def _guarantee(figures: Figures, limits: Limits) -> Alarm | None:
    """Categories that had labels enough for the guarantee once, and have too few fresh ones now."""
    short = {name: each for name, each in figures["fresh"].items() if each["ever"] >= each["needed"] > each["fresh"]}
    if not short:
        return None
    names = ", ".join(f"{name} ({each['needed'] - each['fresh']} more needed)" for name, each in short.items())
    seen = f"Too few critical labels of the last {limits.fresh_days} days to renew the guarantee: {names}."
    todo = "Let more be reviewed, or import a labelled set, before thresholds are certified again."
    return _alarm("guarantee", NOTICE, "The guarantee runs out of fresh labels", seen, todo, (), "labels")
