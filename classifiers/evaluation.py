"""Measure a cascade on labelled exchanges: rates with exact 95 % intervals, what was held kept apart from the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from classifiers.metrics import expected_calibration_error, reliability
from classifiers.policy import UNSAFE
from classifiers.result import SAFE, Decision, Evidence, Layer, Severity, Verdict, family_of, is_guaranteed
from classifiers.thresholds import rate

WORST = 30
"""Errors that a report shows, and `EXCERPT` the characters of each text."""
EXCERPT = 600
NOBODY = "nobody"
"""In place of the deciding layer where the exchange was held."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The label of one exchange. `severity` is empty where it is safe or not stated."""

    unsafe: bool
    categories: tuple[str, ...] = ()
    severity: str = ""

    @property
    def critical(self) -> bool:
        """Whether the false-negative guarantee covers it."""
        return self.unsafe and is_guaranteed(self.severity, self.categories)


@dataclass(frozen=True, slots=True)
class Judged:
    """One labelled exchange with what the cascade said of it. Text and evidence are kept of errors alone: a file may be long.

    `p_unsafe`: the fine-tuned classifier's, None where it did not run or failed. `sent_on`: the fast layers did not decide.
    """

    truth: Truth
    decision: Decision
    categories: tuple[str, ...]
    severity: str
    layer: str
    asked_judge: bool
    p_unsafe: float | None = None
    sent_on: bool = False
    id: str = ""
    query: str = ""
    response: str = ""
    reason: str = ""
    evidence: tuple[Evidence, ...] = ()

    @property
    def is_error(self) -> bool:
        """An unsafe response that was allowed, or a safe one that was blocked."""
        return self.decision is (Decision.ALLOW if self.truth.unsafe else Decision.BLOCK)

    @classmethod
    def of(cls, truth: Truth, verdict: Verdict, *, id: str = "", query: str = "", response: str = "") -> Judged:
        asked_judge = any(result.layer == Layer.JUDGE for result in verdict.results)
        finetuned = next((r for r in verdict.results if r.layer == Layer.FINETUNED and not r.error), None)
        judged = cls(
            truth,
            verdict.decision,
            verdict.categories,
            verdict.severity or "",
            NOBODY if verdict.decision is Decision.HOLD else verdict.layer,
            asked_judge,
            finetuned.scores.get(UNSAFE) if finetuned else None,
            asked_judge or verdict.decision is Decision.HOLD,
            id,
        )
        if not judged.is_error:
            return judged
        return replace(judged, query=query, response=response, reason=verdict.reason, evidence=verdict.evidence)


def evaluate(rows: Sequence[Judged]) -> dict[str, Any]:
    """Counts and rates, JSON-ready.

    Positive means unsafe. `precision`: unsafe among the blocked. `recall`: blocked among the unsafe. False positive rate:
    blocked among the safe. False negative rate: allowed among the unsafe. What was held is neither, and counted apart.
    Of a category or a severity, precision and false positive rate are about what was blocked under its name, recall and
    false negative rate about what is labelled with it, blocked under whatever name.
    """
    layers = Counter(row.layer for row in rows)
    return {
        "count": len(rows),
        "decisions": {
            label: {
                decision.value: sum(r.decision is decision and r.truth.unsafe is unsafe for r in rows) for decision in Decision
            }
            for label, unsafe in (("safe", False), ("unsafe", True))
        },
        "overall": _rates(rows, lambda row: True, lambda row: True),
        "critical_false_negatives": _share([r for r in rows if r.truth.critical], Decision.ALLOW),
        "categories": {category: _of_category(rows, category) for category in _occurring(rows)},
        "severities": {severity.value: _of_severity(rows, severity) for severity in Severity},
        "deciding_layer": {name: rate(count, len(rows)) for name, count in sorted(layers.items())},
        "without_judge": rate(sum(not row.asked_judge for row in rows), len(rows)),
        "sent_on": {
            label: rate(sum(r.sent_on for r in rows if r.truth.unsafe is unsafe), sum(r.truth.unsafe is unsafe for r in rows))
            for label, unsafe in (("safe", False), ("unsafe", True))
        },
        "confusion": _confusion(rows),
        "calibration": _calibration(rows),
        "errors": [_error(row) for row in _worst(rows)],
    }


def _confusion(rows: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """Of each labelled category, what the exchange was blocked as, or that it was held or allowed."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        for label in row.truth.categories or ((UNSAFE,) if row.truth.unsafe else (SAFE,)):
            said = row.categories[0] if row.decision is Decision.BLOCK and row.categories else row.decision.value
            found.setdefault(label, Counter())[said] += 1
    return {label: dict(counts.most_common()) for label, counts in sorted(found.items())}


def _calibration(rows: Sequence[Judged]) -> dict[str, Any]:
    """How well P(unsafe) says how often a response is unsafe: bins of a tenth, and their mean distance from the truth."""
    scored = [(row.p_unsafe, row.truth.unsafe) for row in rows if row.p_unsafe is not None]
    if not scored:
        return {"ece": None, "bins": []}
    p_unsafe, unsafe = np.array([p for p, _ in scored]), np.array([truth for _, truth in scored])
    return {"ece": expected_calibration_error(unsafe, p_unsafe), "bins": reliability(unsafe, p_unsafe)}


def _worst(rows: Sequence[Judged]) -> list[Judged]:
    """The errors: allowed ones before blocked ones, the gravest and most confident first."""
    rank = {severity.value: severity.rank for severity in Severity}

    def gravity(row: Judged) -> tuple[bool, int, float]:
        p_unsafe = 0.5 if row.p_unsafe is None else row.p_unsafe
        return row.truth.unsafe, rank.get(row.truth.severity, 0), abs(p_unsafe - row.truth.unsafe)

    return sorted((row for row in rows if row.is_error), key=gravity, reverse=True)[:WORST]


def _error(row: Judged) -> dict[str, Any]:
    return {
        "id": row.id,
        "label": list(row.truth.categories) or (UNSAFE if row.truth.unsafe else SAFE),
        "severity": row.truth.severity,
        "decision": row.decision.value,
        "layer": row.layer,
        "p_unsafe": row.p_unsafe,
        "reason": row.reason,
        "query": row.query[:EXCERPT],
        "response": row.response[:EXCERPT],
        "evidence": [each.as_json() for each in row.evidence],
    }


def _occurring(rows: Sequence[Judged]) -> list[str]:
    labelled = {category for row in rows for category in row.truth.categories}
    blocked = {category for row in rows if row.decision is Decision.BLOCK for category in row.categories}
    return sorted(labelled | blocked)


def _of_category(rows: Sequence[Judged], category: str) -> dict[str, Any]:
    def named(names: Sequence[str]) -> bool:
        # A label may name the family alone, and the cascade its subcategory, or the other way round.
        return any(name == category or family_of(name) == category or name == family_of(category) for name in names)

    return _rates(rows, lambda row: named(row.truth.categories), lambda row: named(row.categories))


def _of_severity(rows: Sequence[Judged], severity: str) -> dict[str, Any]:
    return _rates(rows, lambda row: row.truth.severity == severity, lambda row: row.severity == severity)


def _rates(rows: Sequence[Judged], labelled: Callable[[Judged], bool], found: Callable[[Judged], bool]) -> dict[str, Any]:
    """`labelled`: whether an unsafe row belongs here; `found`: whether the verdict would put it here."""
    safe = [r for r in rows if not r.truth.unsafe]
    unsafe = [r for r in rows if r.truth.unsafe and labelled(r)]
    blocked = [r for r in rows if r.decision is Decision.BLOCK and found(r)]
    return {
        "precision": rate(sum(r.truth.unsafe and labelled(r) for r in blocked), len(blocked)),
        "recall": _share(unsafe, Decision.BLOCK),
        "false_positive_rate": rate(sum(not r.truth.unsafe for r in blocked), len(safe)),
        "false_negative_rate": _share(unsafe, Decision.ALLOW),
        "held_safe": _share(safe, Decision.HOLD),
        "held_unsafe": _share(unsafe, Decision.HOLD),
    }


def _share(rows: Sequence[Judged], decision: Decision) -> dict[str, Any]:
    return rate(sum(row.decision is decision for row in rows), len(rows))


def as_text(report: dict[str, Any]) -> str:
    """The report as a table for a terminal."""
    lines = [f"{report['count']} exchanges", "", f"{'':10}{'allow':>8}{'hold':>8}{'block':>8}"]
    for label, counts in report["decisions"].items():
        lines.append(f"{label:10}" + "".join(f"{counts[decision]:>8}" for decision in ("allow", "hold", "block")))
    lines += ["", f"{'':54}{'rate':>8}   95 % interval       k of n"]
    lines += [_line(name.replace("_", " "), value) for name, value in report["overall"].items()]
    lines.append(_line("critical false negatives", report["critical_false_negatives"]))
    for title in ("severities", "categories"):
        for group, rates in report[title].items():
            # What was held of the safe belongs to no group.
            lines += [
                _line(f"{group}: {name.replace('_', ' ')}", v) for name, v in rates.items() if v["n"] and name != "held_safe"
            ]
    lines.append(_line("routed without the judge", report["without_judge"]))
    lines += [_line(f"{label} not decided by the fast layers", value) for label, value in report["sent_on"].items()]
    if report["calibration"]["ece"] is not None:
        lines.append(f"{'expected calibration error of P(unsafe)':54}{report['calibration']['ece']:>8.3f}")
    lines += [_line(f"decided by {name}", value) for name, value in report["deciding_layer"].items()]
    return "\n".join(lines)


def _line(name: str, value: dict[str, Any]) -> str:
    shown = "-" if value["rate"] is None else f"{value['rate']:.1%}"
    return f"{name:54}{shown:>8}   {value['low']:6.1%} to {value['high']:6.1%}   {value['k']} of {value['n']}"
