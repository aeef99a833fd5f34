"""The drug facts of an exchange as numbers, which the head reads beside the embedding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from classifiers.drug_facts import CATEGORY_OF, read
from classifiers.drugs.tables import Fact
from classifiers.result import Severity

FEATURES: tuple[str, ...] = (
    *(f"{kind}_{what}" for kind in CATEGORY_OF for what in ("found", "critical", "in_response")),
    "compatible_found",
    "dose_within_found",
    "dose_within_in_response",
    "dose_over_in_response",
    "any_risk",
)
"""Each 0 or 1. A warning and an approval have the same: which of them it is, the embedding tells."""


def fact_features(texts: Sequence[str], queries: Sequence[str] | None = None) -> npt.NDArray[np.float32]:
    """(texts, len(FEATURES))."""
    pairs = zip(texts, queries if queries is not None else [""] * len(texts), strict=True)
    rows = [_features(text, query) for text, query in pairs]
    return np.array(rows, dtype=np.float32).reshape(-1, len(FEATURES))


def _features(text: str, query: str) -> list[bool]:
    facts = read(text, query).facts
    told = {name for fact in facts for name in _names(fact)}
    return [name in told for name in FEATURES]


def _names(fact: Fact) -> Iterator[str]:
    yield f"{fact.kind}_found"
    if fact.in_response:
        yield f"{fact.kind}_in_response"
    if fact.severity is Severity.CRITICAL:
        yield f"{fact.kind}_critical"
    if fact.is_risk:
        yield "any_risk"
    if fact.kind == "dose" and fact.in_response:
        yield "dose_over_in_response"
