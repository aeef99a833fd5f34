"""Measure a cascade on labelled exchanges: rates with exact 95 % intervals, what was held kept apart from the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from classifiers.result import CRITICAL_FAMILIES, Decision, Verdict, family_of
from classifiers.thresholds import clopper_pearson


@dataclass(frozen=True, slots=True)
class Judged:
    """One labelled exchange with its verdict. `severity` is empty where it is safe or not stated."""

    unsafe: bool
    categories: tuple[str, ...]
    severity: str
    verdict: Verdict

    @property
    def critical(self) -> bool:
        return self.unsafe and self.severity == "critical" and any(family_of(c) in CRITICAL_FAMILIES for c in self.categories)


def rate(hits: int, among: int) -> dict[str, Any]:
    """A proportion with its exact 95 % interval; None where there was nothing to measure."""
    low, high = clopper_pearson(hits, among)
    return {"k": hits, "n": among, "rate": round(hits / among, 4) if among else None, "low": round(low, 4), "high": round(high, 4)}


def evaluate(rows: Sequence[Judged]) -> dict[str, Any]:
    """Counts and rates, JSON-ready.

    Positive means unsafe. `precision`: unsafe among the blocked. `recall`: blocked among the unsafe. False positive rate:
    blocked among the safe. False negative rate: allowed among the unsafe. What was held is neither, and counted apart.
    """
    unsafe = [row for row in rows if row.unsafe]
    by_category = {category: [r for r in unsafe if category in r.categories] for category in _occurring(unsafe)}
    by_severity = {name: [r for r in unsafe if r.severity == name] for name in ("critical", "major", "minor")}
    layers = Counter(row.verdict.layer for row in rows)
    return {
        "count": len(rows),
        "decisions": {
            label: {decision.value: sum(r.verdict.decision is decision for r in group) for decision in Decision}
            for label, group in (("safe", [r for r in rows if not r.unsafe]), ("unsafe", unsafe))
        },
        "overall": _rates(rows),
        "critical_false_negatives": _share([r for r in unsafe if r.critical], Decision.ALLOW),
        "categories": {category: _unsafe_rates(group) for category, group in by_category.items()},
        "severities": {name: _unsafe_rates(group) for name, group in by_severity.items() if group},
        "deciding_layer": {name: rate(count, len(rows)) for name, count in sorted(layers.items())},
        "without_judge": rate(sum(not any(r.layer == "judge" for r in row.verdict.results) for row in rows), len(rows)),
    }


def _occurring(rows: Sequence[Judged]) -> list[str]:
    return sorted({category for row in rows for category in row.categories})


def _share(rows: Sequence[Judged], decision: Decision) -> dict[str, Any]:
    return rate(sum(row.verdict.decision is decision for row in rows), len(rows))


def _rates(rows: Sequence[Judged]) -> dict[str, Any]:
    safe, unsafe = [r for r in rows if not r.unsafe], [r for r in rows if r.unsafe]
    blocked = [r for r in rows if r.verdict.decision is Decision.BLOCK]
    return {
        "precision": rate(sum(r.unsafe for r in blocked), len(blocked)),
        "recall": _share(unsafe, Decision.BLOCK),
        "false_positive_rate": _share(safe, Decision.BLOCK),
        "false_negative_rate": _share(unsafe, Decision.ALLOW),
        "held_safe": _share(safe, Decision.HOLD),
        "held_unsafe": _share(unsafe, Decision.HOLD),
    }


def _unsafe_rates(rows: Sequence[Judged]) -> dict[str, Any]:
    return {
        "recall": _share(rows, Decision.BLOCK),
        "false_negative_rate": _share(rows, Decision.ALLOW),
        "held": _share(rows, Decision.HOLD),
    }


def as_text(report: dict[str, Any]) -> str:
    """The report as a table for a terminal."""
    lines = [f"{report['count']} exchanges", "", f"{'':10}{'allow':>8}{'hold':>8}{'block':>8}"]
    for label, counts in report["decisions"].items():
        lines.append(f"{label:10}" + "".join(f"{counts[decision]:>8}" for decision in ("allow", "hold", "block")))
    lines += ["", f"{'':42}{'rate':>8}   95 % interval       k of n"]
    for name, value in report["overall"].items():
        lines.append(_line(name.replace("_", " "), value))
    lines.append(_line("critical false negatives", report["critical_false_negatives"]))
    for title in ("severities", "categories"):
        for name, values in report[title].items():
            lines.append(_line(f"{name}: allowed", values["false_negative_rate"]))
            lines.append(_line(f"{name}: blocked", values["recall"]))
    lines.append(_line("routed without the judge", report["without_judge"]))
    for name, value in report["deciding_layer"].items():
        lines.append(_line(f"decided by {name}", value))
    return "\n".join(lines)


def _line(name: str, value: dict[str, Any]) -> str:
    shown = "-" if value["rate"] is None else f"{value['rate']:.1%}"
    return f"{name:42}{shown:>8}   {value['low']:6.1%} to {value['high']:6.1%}   {value['k']} of {value['n']}"
