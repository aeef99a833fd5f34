"""Which labels an export takes: parsed from a form, an API call or a command, kept with the export, turned into a query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils.dateparse import parse_date, parse_datetime

from classifiers.result import CATEGORIES, Layer, family_of
from guardreview.core.models import App
from guardreview.learning.models import ImportedLabel, LabelSet
from guardreview.review.models import Label

IMPORTED = "imported"
BASES = (*Label.Basis.values, IMPORTED)
AGREEMENTS = {"confirmed": True, "overturned": False, "undecided": None}
"""What a label makes of its verdict: the verdict was right, was wrong, or had decided nothing."""
FAMILIES = tuple(dict.fromkeys(map(family_of, CATEGORIES)))


class InvalidFilter(ValueError):
    """`field` cannot be what it is given as; the message says why."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class ExportFilters:
    """Empty is: no bound. `bases` empty: all settled labels, none imported. `category`: one, or a family. `app`: its key."""

    since: str = ""
    until: str = ""
    category: str = ""
    app: int | None = None
    bases: tuple[str, ...] = ()
    layer: str = ""
    agreement: str = ""
    label_sets: tuple[int, ...] = ()
    """The label sets that were in force when the export was asked for, if it takes imported labels."""

    @classmethod
    def parse(cls, given: Mapping[str, Any], *, app: App | None = None) -> ExportFilters:
        """From what a person or program gave: texts, `bases` a list of texts, `app` a name. Raises InvalidFilter."""
        name = str(given.get("app") or "")
        if app is None and name:
            app = App.objects.filter(name=name).first()
            if app is None:
                raise InvalidFilter("app", "There is no such app.")
        bases = tuple(dict.fromkeys(given.get("bases") or ()))
        if unknown := [basis for basis in bases if basis not in BASES]:
            raise InvalidFilter("bases", f"{str(unknown[0])[:40]!r} is none of {', '.join(BASES)}.")
        found = cls(
            since=_moment("since", given.get("since")),
            until=_moment("until", given.get("until")),
            category=_one_of("category", given.get("category"), (*CATEGORIES, *FAMILIES)),
            app=app.pk if app else None,
            bases=tuple(basis for basis in BASES if basis in bases),
            layer=_one_of("layer", given.get("layer"), tuple(layer.value for layer in Layer)),
            agreement=_one_of("agreement", given.get("agreement"), tuple(AGREEMENTS)),
        )
        if found.since and found.until and found.since >= found.until:
            raise InvalidFilter("until", "Must be later than `since`.")
        return found

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> ExportFilters:
        found: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
        return cls(**found)

    def as_json(self) -> dict[str, Any]:
        """What is kept: nothing of what is not bounded."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value not in ("", None, ())
        }

    def with_label_sets_in_force(self) -> ExportFilters:
        """The same, of the label sets that nobody has withdrawn by now."""
        return replace(self, label_sets=tuple(LabelSet.objects.filter(withdrawn_at=None).values_list("pk", flat=True)))

    @property
    def takes_settled(self) -> bool:
        return not self.bases or set(self.bases) != {IMPORTED}

    @property
    def takes_imported(self) -> bool:
        """What is imported has no app, layer or verdict that it could be chosen by."""
        return IMPORTED in self.bases and not (self.app or self.layer or self.agreement)

    def settled(self, labels: QuerySet[Label]) -> QuerySet[Label]:
        """Those of `labels` that the filters let through."""
        if self.since:
            labels = labels.filter(created_at__gte=datetime.fromisoformat(self.since))
        if self.until:
            labels = labels.filter(created_at__lt=datetime.fromisoformat(self.until))
        if self.app:
            labels = labels.filter(exchange__app=self.app)
        if self.bases:
            labels = labels.filter(basis__in=self.bases)
        if self.layer:
            labels = labels.filter(exchange__verdict__layer=self.layer)
        if self.agreement:
            confirms = AGREEMENTS[self.agreement]
            labels = (
                labels.filter(review__confirms__isnull=True) if confirms is None else labels.filter(review__confirms=confirms)
            )
        return labels.annotate(listed=Cast("categories", TextField())).filter(self._listed()) if self.category else labels

    def imported(self) -> QuerySet[ImportedLabel]:
        """Imported labels that the filters let through, of the label sets that are named."""
        labels = ImportedLabel.objects.filter(label_set__in=self.label_sets)
        if self.since:
            labels = labels.filter(label_set__created_at__gte=datetime.fromisoformat(self.since))
        if self.until:
            labels = labels.filter(label_set__created_at__lt=datetime.fromisoformat(self.until))
        return labels.annotate(listed=Cast("categories", TextField())).filter(self._listed()) if self.category else labels

    def _listed(self) -> Q:
        """SQLite cannot look into a JSON list; no category is a part of another's name in quotes."""
        listed = Q(listed__contains=f'"{self.category}"')
        return listed if ":" in self.category else listed | Q(listed__contains=f'"{self.category}:')

    def count(self) -> int:
        """How many labels they let through at this moment."""
        settled = self.settled(Label.objects.filter(is_current=True)).count() if self.takes_settled else 0
        return settled + (self.with_label_sets_in_force().imported().count() if self.takes_imported else 0)


def _one_of(field: str, value: Any, known: tuple[str, ...]) -> str:
    if value in ("", None):
        return ""
    if value not in known:
        raise InvalidFilter(field, f"Must be one of {', '.join(known)}.")
    return str(value)


def _moment(field: str, value: Any) -> str:
    """As ISO 8601 with its zone; a bare date is its first moment in UTC."""
    if value in ("", None):
        return ""
    if isinstance(value, datetime):
        found: datetime | None = value
    else:
        try:
            day = parse_date(str(value))
            found = datetime(day.year, day.month, day.day) if day else parse_datetime(str(value))
        except ValueError:
            found = None
    if found is None:
        raise InvalidFilter(field, "Must be a date or a moment, such as 2026-01-31 or 2026-01-31T12:00:00Z.")
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
