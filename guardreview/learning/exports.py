"""Labels as files, for training elsewhere."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

from django.db.models import QuerySet

from guardreview.core.models import App
from guardreview.core.services import audit
from guardreview.review.models import Label
from guardreview.review.selectors import LabelRow, label_rows, labels

EXPORT_FORMATS = ("jsonl", "csv")


def labels_export(*, format: str, actor: str, app: App | None = None) -> Iterator[str]:
    """Settled labels as lines of JSONL or CSV, streamed in constant memory. The export is written to the audit log first."""
    if format not in EXPORT_FORMATS:
        raise ValueError(f"format must be one of {', '.join(EXPORT_FORMATS)}")
    rows = labels(app=app)
    audit(actor=actor, action="labels.export", target=app.name if app else "all apps", format=format, count=rows.count())
    return _jsonl(rows) if format == "jsonl" else _csv(rows)


def _jsonl(rows: QuerySet[Label]) -> Iterator[str]:
    for row in label_rows(rows):
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _csv(rows: QuerySet[Label]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(LabelRow.__annotations__), lineterminator="\r\n")
    writer.writeheader()
    yield buffer.getvalue()
    for row in label_rows(rows):
        buffer.seek(0)
        buffer.truncate()
        writer.writerow({key: _cell(value) for key, value in row.items()})
        yield buffer.getvalue()


def _cell(value: object) -> object:
    """Lists as `a;b`. A leading =, +, - or @ would be run as a formula by a spreadsheet: an apostrophe makes it text."""
    if isinstance(value, list):
        value = ";".join(map(str, value))
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return "" if value is None else value
