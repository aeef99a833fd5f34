"""Labels as rows of an export: what of each is told, in keyset chunks, so that a million need no more memory than a thousand."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import BooleanField, Count, Exists, ExpressionWrapper, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from guardreview.learning.export_filters import IMPORTED, ExportFilters
from guardreview.learning.models import ImportedLabel
from guardreview.learning.texts import exported_group, settled_group
from guardreview.review.models import Calibration, Label, Review
from guardreview.review.pseudonyms import reviewer_pseudonym
from guardreview.review.selectors import DRAWN_BY_DESIGN, LabelRow

SCHEMA_VERSION = 2
"""Of the rows. 1 had the columns of `LabelRow` alone, and other pseudonyms."""
CHUNK_ROWS = 1_000
TRAINED_ON = {"pool": "train"}
"""A retraining also learns from labels that fall into the pool; elsewhere nobody needs to know of it."""


class ExportRow(LabelRow):
    """A label with what training needs beside it, in the columns' order.

    `label_key`: of the label, or of the imported one. `sampling_weight`: 1 / `inclusion_probability`; None where the row is
    no sample of all (`DRAWN_BY_DESIGN`). `supersedes`: the `label_key` of the label that stood before it. `reviews`: how
    many statements of its round it rests on. `gold`: it is one of the cases whose truth pharmacists are measured against.
    """

    schema_version: int
    label_key: int
    group: str
    split: str
    lang: str
    source: str
    basis: str
    blind: bool
    sampling_weight: float | None
    supersedes: int | None
    reviews: int
    gold: bool


COLUMNS = tuple(ExportRow.__annotations__)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a snapshot has been read: the last keys of settled and of imported labels."""

    label: int = 0
    imported: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The labels that were in force when `up_to` was the newest, through filters. Superseding one later changes nothing of it."""

    up_to: int
    filters: ExportFilters

    def labels(self) -> QuerySet[Label]:
        later = Label.objects.filter(exchange=OuterRef("exchange"), pk__gt=OuterRef("pk"), pk__lte=self.up_to)
        labels = Label.objects.filter(pk__lte=self.up_to) if self.filters.takes_settled else Label.objects.none()
        return self.filters.settled(labels.filter(~Exists(later)))

    def imported(self) -> QuerySet[ImportedLabel]:
        return self.filters.imported() if self.filters.takes_imported else ImportedLabel.objects.none()

    def count(self) -> int:
        return self.labels().count() + self.imported().count()

    def chunks(self, after: Place) -> Iterator[tuple[Place, list[ExportRow]]]:
        """(how far it reaches, rows) of at most CHUNK_ROWS, in the order of the keys, settled labels first."""
        gold = self._gold()
        while after.imported == 0 and (found := list(_settled(self.labels(), after.label))):
            after = Place(found[-1][0], 0)
            yield after, [_settled_row(values, gold) for values in found]
        while found := list(_imported(self.imported(), after.imported)):
            after = Place(after.label, found[-1][0])
            yield after, [_imported_row(values) for values in found]

    def _gold(self) -> Collection[UUID]:
        """Exchanges of which there was a calibration item when the snapshot's newest label was made."""
        newest = Label.objects.filter(pk__lte=self.up_to).order_by("-pk").values_list("created_at", flat=True).first()
        if newest is None:
            return frozenset()
        copies = Calibration.objects.filter(created_at__lte=newest).values_list("item__exchange__idempotency_key", flat=True)
        return frozenset(UUID(key) for key in copies if key)


_LABEL = (
    "pk", "exchange_id", "exchange__query", "exchange__response", "value", "categories", "severity",
    "exchange__verdict__decision", "exchange__verdict__category", "exchange__verdict__layer", "review__confirms",
    "review__reviewer_id", "exchange__app__name", "inclusion_probability", "created_at", "review__item__language", "basis",
    "review__blind", "exchange__app_id", "exchange__conversation_id", "supersedes", "statements",
    "by_design",
)  # fmt: skip


def _settled(labels: QuerySet[Label], after: int) -> QuerySet[Label, tuple[Any, ...]]:
    before = Label.objects.filter(exchange=OuterRef("exchange"), pk__lt=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    # Whoever said something of the round before it was settled; nothing can be added to that or undone any more.
    said = Review.objects.filter(
        item=OuterRef("review__item"), round=OuterRef("review__round"), pk__lte=OuterRef("review"), undone_at=None
    )
    statements = said.order_by().values("item").annotate(n=Count("pk")).values("n")
    rows = labels.filter(pk__gt=after).annotate(
        supersedes=Subquery(before),
        statements=Coalesce(Subquery(statements, output_field=IntegerField()), 1),
        by_design=ExpressionWrapper(DRAWN_BY_DESIGN, output_field=BooleanField()),
    )
    return rows.order_by("pk").values_list(*_LABEL)[:CHUNK_ROWS]


def _settled_row(values: tuple[Any, ...], gold: Collection[UUID]) -> ExportRow:
    (
        key, exchange, query, response, label, categories, severity, verdict, verdict_category, layer, confirms, reviewer, app,
        probability, at, language, basis, blind, app_key, talk, supersedes, statements, by_design,
    ) = values  # fmt: skip
    group, split = exported_group(settled_group(query, response, f"{app_key}:{talk}" if talk else ""))
    return {
        "id": str(exchange),
        "query": query,
        "response": response,
        "label": label,
        "categories": categories,
        "severity": severity or None,
        "verdict": verdict,
        "verdict_category": verdict_category,
        "layer": layer,
        "confirms": confirms,
        "reviewer": reviewer_pseudonym(reviewer),
        "app": app,
        "inclusion_probability": probability,
        "labelled_at": _utc(at),
        "schema_version": SCHEMA_VERSION,
        "label_key": key,
        "group": group,
        "split": TRAINED_ON.get(split, split),
        "lang": language or "und",
        "source": "review",
        "basis": basis,
        "blind": blind,
        "sampling_weight": 1 / probability if probability and by_design else None,
        "supersedes": supersedes,
        "reviews": statements,
        "gold": exchange in gold,
    }


_IMPORTED = (
    "pk", "group", "query", "response", "value", "categories", "severity", "language", "label_set__created_at",
)  # fmt: skip


def _imported(labels: QuerySet[ImportedLabel], after: int) -> QuerySet[ImportedLabel, tuple[Any, ...]]:
    return labels.filter(pk__gt=after).order_by("pk").values_list(*_IMPORTED)[:CHUNK_ROWS]


def _imported_row(values: tuple[Any, ...]) -> ExportRow:
    """Nobody knows with which probability it came to whoever labelled it: it has none, and no weight."""
    key, group, query, response, label, categories, severity, language, at = values
    group, split = exported_group(group)
    return {
        "id": f"imported-{key}",
        "query": query,
        "response": response,
        "label": label,
        "categories": categories,
        "severity": severity or None,
        "verdict": "",
        "verdict_category": "",
        "layer": "",
        "confirms": None,
        "reviewer": "",
        "app": "",
        "inclusion_probability": None,  # type: ignore[typeddict-item]
        "labelled_at": _utc(at),
        "schema_version": SCHEMA_VERSION,
        "label_key": key,
        "group": group,
        "split": TRAINED_ON.get(split, split),
        "lang": language,
        "source": IMPORTED,
        "basis": IMPORTED,
        "blind": False,
        "sampling_weight": None,
        "supersedes": None,
        "reviews": 0,
        "gold": False,
    }


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
