"""By when a pharmacist must have decided, and why then. Pure.

The deadline is the queue's order, so that nothing starves: what waits long enough comes first, whatever it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from classifiers.result import ClassifierResult, Decision, Layer


class Reason(StrEnum):
    """What moved a deadline."""

    NOBODY_WAITS = "nobody_waits"
    UNCERTAIN = "uncertain"
    LAYERS_DISAGREE = "layers_disagree"


FACTORS: Mapping[Reason, float] = {Reason.NOBODY_WAITS: 2.0, Reason.UNCERTAIN: 0.75, Reason.LAYERS_DISAGREE: 0.75}
"""By how much each stretches or shortens the time that the severity allows."""


def deadline(
    *,
    created_at: datetime,
    severity: str,
    sla_minutes: Mapping[str, int],
    decision: str,
    patient_waiting: bool,
    results: Sequence[ClassifierResult],
) -> tuple[datetime, list[str]]:
    """The moment, and the reasons that moved it from `created_at` plus what `sla_minutes` allows for the severity."""
    reasons = []
    if not patient_waiting:
        reasons.append(Reason.NOBODY_WAITS)
    if decision == Decision.HOLD:
        reasons.append(Reason.UNCERTAIN)
    if layers_disagree(results):
        reasons.append(Reason.LAYERS_DISAGREE)
    minutes = float(sla_minutes[severity])
    for reason in reasons:
        minutes *= FACTORS[reason]
    return created_at + timedelta(minutes=minutes), [str(reason) for reason in reasons]


def layers_disagree(results: Sequence[ClassifierResult]) -> bool:
    """Whether one layer found something and another, which ran, nothing. That no rule matched says nothing."""
    ran = [result for result in results if not result.error]
    cleared = any(result.is_safe for result in ran if result.layer != Layer.RULES)
    return cleared and any(not result.is_safe for result in ran)
