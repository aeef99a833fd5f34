"""Exports and imports in the words and shapes that the pages show. Pure: no query, no request, no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classifiers.result import CATEGORIES, Layer
from guardreview.learning.export_filters import AGREEMENTS, BASES, FAMILIES
from guardreview.learning.export_storage import content_size
from guardreview.learning.import_mapping import REASONS
from guardreview.learning.models import Export, LabelSet
from guardreview.review.presentation import LAYER_WORDS, category_words

BASIS_WORDS = {"single": "One pharmacist", "agreed": "Two who agree", "adjudicated": "A lead", "imported": "Imported"}
AGREEMENT_WORDS = {"confirmed": "Verdict confirmed", "overturned": "Verdict overturned", "undecided": "Verdict held"}
FORMAT_WORDS = {"jsonl": "JSON lines", "csv": "CSV", "parquet": "Parquet", "datasets": "Hugging Face datasets"}
FILTER_WORDS = {"since": "from", "until": "before"}


@dataclass(frozen=True, slots=True)
class ExportLine:
    """An export as the list shows it; `done` is a percentage of its labels."""

    export: Export
    words: str
    filters: str
    size: str
    done: str
    total: int
    card: Sequence[tuple[str, str]]
    may_download: bool

    @property
    def is_unfinished(self) -> bool:
        return self.export.status in (Export.Status.QUEUED, Export.Status.RUNNING)


def export_line(export: Export, *, may_have_personal: bool) -> ExportLine:
    """A row of the list."""
    ready = export.status == Export.Status.READY
    total = export.rows if ready else sum(export.card.get("expected", []))
    return ExportLine(
        export=export,
        words=FORMAT_WORDS[export.format],
        filters=filter_words(export.filters),
        size=size_words(content_size(export)) if ready else "",
        done=f"{100 * export.rows / total:.0f}" if total else "0",
        total=total,
        card=card_lines(export) if ready else (),
        may_download=ready and (export.redacted or may_have_personal),
    )


def filter_words(filters: Mapping[str, Any]) -> str:
    """What an export was bounded by."""
    parts = [f"{words} {str(filters[name])[:10]}" for name, words in FILTER_WORDS.items() if filters.get(name)]
    parts += [BASIS_WORDS[basis].lower() for basis in filters.get("bases", [])]
    if filters.get("category"):
        parts.append(category_words(filters["category"]))
    if filters.get("layer"):
        parts.append(LAYER_WORDS.get(filters["layer"], filters["layer"]))
    if filters.get("agreement"):
        parts.append(AGREEMENT_WORDS[filters["agreement"]].lower())
    if filters.get("app"):
        parts.append("one app")
    return ", ".join(parts) or "all settled labels"


def card_lines(export: Export) -> list[tuple[str, str]]:
    """What the card of a finished export counts."""
    card = export.card

    def counted(name: str, words: Mapping[str, str] | None = None) -> str:
        return ", ".join(f"{(words or {}).get(key, key)} {count:,}" for key, count in card.get(name, {}).items()) or "none"

    sampling = card.get("sampling", {})
    return [
        ("Labels", counted("labels")),
        ("Settled by", counted("bases", BASIS_WORDS)),
        ("Categories", counted("categories", {name: category_words(name) for name in card.get("categories", {})})),
        ("Splits", counted("splits")),
        ("Drawn by chance", f"{sampling.get('drawn', 0):,}, the largest weight {sampling.get('largest', 0):g}"),
        ("Left out", f"{card.get('left_out', {}).get('not_redacted', 0):,} that could not be redacted"),
        ("Newest label", f"{export.labels_up_to}"),
        ("SHA-256", export.sha256),
    ]


def filter_choices() -> dict[str, list[tuple[str, str]]]:
    """The form's lists, as (value, words)."""
    return {
        "bases": [(basis, BASIS_WORDS[basis]) for basis in BASES],
        "layers": [(layer.value, LAYER_WORDS.get(layer.value, layer.value)) for layer in Layer],
        "agreements": [(name, AGREEMENT_WORDS[name]) for name in AGREEMENTS],
        "families": [(family, category_words(family) or family) for family in FAMILIES],
        "categories": [(category, category_words(category)) for category in CATEGORIES if ":" in category],
        "formats": list(FORMAT_WORDS.items()),
    }


def size_words(size: int) -> str:
    """`1.2 MB`."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


FIELD_WORDS = {
    "response": "Response",
    "label": "Label",
    "query": "Query",
    "categories": "Categories",
    "severity": "Severity",
    "lang": "Language",
    "group": "Group",
    "id": "Id",
}


@dataclass(frozen=True, slots=True)
class LabelSetLine:
    """A label set as the list shows it; `share` is the percentage of its rows that was taken."""

    label_set: LabelSet
    taken: int
    rows: int
    share: str
    labels: str
    refused: Sequence[tuple[str, int, str]]


def label_set_line(label_set: LabelSet) -> LabelSetLine:
    """A row of the list, with how many rows were refused for each reason, and the first of their numbers."""
    report = label_set.report
    rows, taken = report.get("rows", 0), report.get("taken", 0)
    numbers: dict[str, list[int]] = {}
    for number, reason, _ in report.get("refused", []):
        numbers.setdefault(reason, []).append(number)
    return LabelSetLine(
        label_set=label_set,
        taken=taken,
        rows=rows,
        share=f"{100 * taken / rows:.1f}" if rows else "0",
        labels=", ".join(f"{count:,} {value}" for value, count in sorted(report.get("labels", {}).items())),
        refused=[(REASONS.get(reason, reason), len(found), number_words(found)) for reason, found in numbers.items()],
    )


def number_words(numbers: Sequence[int], most: int = 8) -> str:
    """`2, 5, 9 and 12 more`."""
    shown = ", ".join(f"{number}" for number in numbers[:most])
    return f"{shown} and {len(numbers) - most:,} more" if len(numbers) > most else shown
