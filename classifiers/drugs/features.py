"""The drug facts of an exchange as numbers, which the head reads beside the embedding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from classifiers.drug_facts import CATEGORY_OF, read
from classifiers.result import Severity

_KINDS = (*CATEGORY_OF, "compatible", "dose_within")
FEATURES: tuple[str, ...] = (
    *(f"{kind}_{what}" for kind in _KINDS for what in ("found", "critical", "in_response")),
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
    row: list[bool] = []
    for kind in _KINDS:
        found = [fact for fact in facts if fact.kind == kind]
        row += [bool(found), any(f.severity is Severity.CRITICAL for f in found), any(f.in_response for f in found)]
    row.append(any(fact.kind == "dose" and fact.in_response for fact in facts))
    row.append(any(fact.is_risk for fact in facts))
    return row
