"""Every non-trivial read of `learning`: how many labels there are of what, model versions with what was measured of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Case, Count, IntegerField, QuerySet, Value, When

from guardreview.learning.models import Export, LabelSet, TrainingRun
from guardreview.review.models import Label
from guardreview.review.visibility import OPEN_BLIND
from guardreview.verdicts.models import ModelVersion, Policy, ReviewItem

Stage = ModelVersion.Stage


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """How many labels there are; `outcomes` by whether they confirm the verdict (None: it had not decided)."""

    total: int
    values: Mapping[str, int]
    categories: Sequence[tuple[str, int]]
    severities: Mapping[str, int]
    outcomes: Mapping[bool | None, int]


def label_counts() -> LabelCounts:
    """One grouped query. An answer with several categories counts for each."""
    rows = Label.objects.values("value", "categories", "severity", "review__confirms").annotate(n=Count("id"))
    values: Counter[str] = Counter()
    categories: Counter[str] = Counter()
    severities: Counter[str] = Counter()
    outcomes: Counter[bool | None] = Counter()
    for row in rows:
        values[row["value"]] += row["n"]
        outcomes[row["review__confirms"]] += row["n"]
        severities[row["severity"]] += row["n"]
        for category in row["categories"]:
            categories[category] += row["n"]
    return LabelCounts(values.total(), values, categories.most_common(), severities, outcomes)


def open_blind(exchanges: Iterable[UUID]) -> set[UUID]:
    """Those of them that are reviewed blind and are not settled."""
    return set(ReviewItem.objects.filter(OPEN_BLIND, exchange__in=list(exchanges)).values_list("exchange_id", flat=True))


def model_versions() -> QuerySet[ModelVersion]:
    """The active version first, then the one in the shadow, candidates, and retired ones, the newest of each first."""
    order = Case(
        When(stage=Stage.ACTIVE, then=Value(0)),
        When(stage=Stage.SHADOW, then=Value(1)),
        When(stage=Stage.CANDIDATE, then=Value(2)),
        default=Value(3),
        output_field=IntegerField(),
    )
    return ModelVersion.objects.order_by(order, "-pk")


def active_model() -> ModelVersion | None:
    """The version that serves now."""
    return ModelVersion.objects.filter(stage=Stage.ACTIVE).first()


def active_policy() -> Policy | None:
    """The policy that new exchanges are decided under."""
    return Policy.objects.select_related("created_by").filter(is_active=True).first()


def training_runs(limit: int = 10) -> list[TrainingRun]:
    """The latest training runs."""
    return list(TrainingRun.objects.select_related("requested_by", "model_version")[:limit])


def metric(metrics: Mapping[str, Any], *path: str) -> Any:
    """A measured value by its path; None where a version was registered without it."""
    value: Any = metrics
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def latest_exports(limit: int = 20) -> list[Export]:
    """The latest exports."""
    return list(Export.objects.select_related("requested_by")[:limit])


def latest_label_sets(limit: int = 50) -> list[LabelSet]:
    """The latest label sets, with their labels counted."""
    return list(LabelSet.objects.select_related("imported_by")[:limit])
