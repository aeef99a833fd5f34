"""Which allowed answers a pharmacist sees all the same, and which stopped ones without the verdict. Pure but for the draws.

Every allowed answer has a probability above zero to be drawn, which is fixed and stored before the draw; so what pharmacists find
among the drawn ones says, weighted by 1 / probability, how much is missed among all. Where more can be learnt from an answer its
probability is higher, never lower, so this stays true of draws for learning. Probabilities have few values: each is a stratum of
the estimate, and an interval of many small strata says nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from classifiers.policy import Policy
from classifiers.result import ClassifierResult, Layer
from guardreview.verdicts.priority import layers_disagree

_random = random.SystemRandom()
NEAR = 0.5
"""From this share of `allow_below` on, a score counts as near the threshold."""
STEPS: Final = (0.05, 0.25, 1.0)
"""The probabilities that learning may raise one to."""


@dataclass(frozen=True, slots=True)
class AuditRates:
    """Probabilities of being drawn: of any allowed answer, and of those that were nearly not allowed."""

    floor: float
    near: float

    def __post_init__(self) -> None:
        if not 0 < self.floor <= self.near <= 1:
            raise ValueError("an audit's probabilities must be above 0 and at most 1, and the floor must not exceed the other")


def audit_probability(policy: Policy, results: Sequence[ClassifierResult], rates: AuditRates, wanted: float = 0.0) -> float:
    """With which an answer that these results allowed is to be drawn: more near the thresholds and where layers disagree.

    `wanted`: the probability that learning asks for. It can only raise what the answer has without it, to one of STEPS or not at
    all, by a lot that makes the mean what was wanted.
    """
    least = _unraised(policy, results, rates)
    return raised(least, wanted) if wanted > least else least


def _unraised(policy: Policy, results: Sequence[ClassifierResult], rates: AuditRates) -> float:
    if is_doubtful(results):
        return rates.near
    for result in results:
        for name, score in result.scores.items():
            if score >= NEAR * policy.threshold(name).allow_below:
                return rates.near
    return rates.floor


def raised(least: float, wanted: float) -> float:
    """`least` or a step above it: the two next to `wanted`, by a lot."""
    wanted = min(wanted, 1.0)
    levels = [least, *(step for step in STEPS if step > least)]
    for low, high in pairwise(levels):
        if wanted <= high:
            return high if _random.random() < (wanted - low) / (high - low) else low
    return levels[-1]


def is_doubtful(results: Sequence[ClassifierResult]) -> bool:
    """Whether layers disagree, the judge had to be asked, or something wanted it looked at."""
    return layers_disagree(results) or any(result.layer == Layer.JUDGE or result.escalate for result in results)


def gain(policy: Policy, results: Sequence[ClassifierResult], novelty: float) -> float:
    """How much a label of this allowed answer would teach, from 0 to 1, compared with others: the square of how near it came to a
    threshold, or 1 where layers disagree, times its novelty (from 0 to 1).
    """
    uncertainty = 1.0 if is_doubtful(results) else 0.0
    for result in results:
        for name, score in result.scores.items():
            bound = policy.threshold(name).allow_below
            uncertainty = max(uncertainty, min(1.0, score / bound) if bound > 0 else 1.0)
    return min(1.0, max(0.0, uncertainty**2 * novelty))


def drawn(probability: float) -> bool:
    """Whether this one is drawn. The system's randomness: nobody can foresee which answers are looked at."""
    return _random.random() < probability
