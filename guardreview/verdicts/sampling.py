"""Which allowed answers a pharmacist sees all the same, and which stopped ones without the verdict. Pure but for the draw.

Every allowed answer has a probability above zero to be drawn, which is fixed and stored before the draw; so what pharmacists find
among the drawn ones says, weighted by 1 / probability, how much is missed among all.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from classifiers.policy import Policy
from classifiers.result import ClassifierResult, Layer
from guardreview.verdicts.priority import layers_disagree

_random = random.SystemRandom()
NEAR = 0.5
"""From this share of `allow_below` on, a score counts as near the threshold."""


@dataclass(frozen=True, slots=True)
class AuditRates:
    """Probabilities of being drawn: of any allowed answer, and of those that were nearly not allowed."""

    floor: float
    near: float

    def __post_init__(self) -> None:
        if not 0 < self.floor <= self.near <= 1:
            raise ValueError("an audit's probabilities must be above 0 and at most 1, and the floor must not exceed the other")


def audit_probability(policy: Policy, results: Sequence[ClassifierResult], rates: AuditRates) -> float:
    """With which an answer that these results allowed is to be drawn: more near the thresholds and where layers disagree."""
    if layers_disagree(results) or any(result.layer == Layer.JUDGE or result.escalate for result in results):
        return rates.near
    for result in results:
        for name, score in result.scores.items():
            if score >= NEAR * policy.threshold(name).allow_below:
                return rates.near
    return rates.floor


def drawn(probability: float) -> bool:
    """Whether this one is drawn. The system's randomness: nobody can foresee which answers are looked at."""
    return _random.random() < probability
