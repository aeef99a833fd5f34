"""The forms that rows of an export take: JSON lines, CSV, Parquet, and the folder that Hugging Face `datasets` loads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from guardreview.learning.export_rows import COLUMNS, SCHEMA_VERSION, ExportRow
from guardreview.review.selectors import LabelRow

if TYPE_CHECKING:
    import pyarrow as pa

CONTENT_TYPES = {
    "jsonl": "application/x-ndjson; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "datasets": "application/zip",
}
EXTENSIONS = {"jsonl": "jsonl", "csv": "csv", "parquet": "parquet", "datasets": "zip"}
SPLITS = ("train", "validation", "calibration", "test")


_encoded = json.JSONEncoder(ensure_ascii=False).encode


class Writer(Protocol):
    """Takes rows, a chunk at a time, and writes them to the file that it was made with."""

    def write(self, rows: Sequence[ExportRow]) -> None: ...
    def close(self) -> None: ...


class JsonLines:
    """One JSON object a line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, rows: Sequence[ExportRow]) -> None:
        self._file.write("".join(json_line(row) for row in rows).encode())

    def close(self) -> None:
        """Nothing is left to write."""


class Csv:
    """RFC 4180. Only the first part of an export has the header, so that its parts make one file."""

    def __init__(self, file: BinaryIO, *, header: bool) -> None:
        self._file = file
        if header:
            file.write(csv_line(COLUMNS).encode())

    def write(self, rows: Sequence[ExportRow]) -> None:
        self._file.write("".join(csv_line(row.values()) for row in rows).encode())

    def close(self) -> None:
        """Nothing is left to write."""


class Parquet:
    """One row group a chunk."""

    def __init__(self, file: BinaryIO) -> None:
        import pyarrow.parquet as pq

        self._schema = parquet_schema()
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, rows: Sequence[ExportRow]) -> None:
        import pyarrow as pa

        columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in COLUMNS}  # type: ignore[literal-required]
        columns["labelled_at"] = [datetime.fromisoformat(at) for at in columns["labelled_at"]]
        self._writer.write_table(pa.Table.from_pydict(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def json_line(row: LabelRow) -> str:
    return _encoded(row) + "\n"


def csv_line(values: Iterable[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow([cell(value) for value in values])
    return buffer.getvalue()


def cell(value: object) -> object:
    """Lists as `a;b`. A leading =, +, - or @ would be run as a formula by a spreadsheet: an apostrophe makes it text."""
    if isinstance(value, list):
        value = ";".join(map(str, value))
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return "" if value is None else value


def parquet_schema() -> pa.Schema:
    """What each column is."""
    import pyarrow as pa

    text, known = pa.string(), {
        "categories": pa.list_(pa.string()),
        "confirms": pa.bool_(),
        "blind": pa.bool_(),
        "gold": pa.bool_(),
        "inclusion_probability": pa.float64(),
        "sampling_weight": pa.float64(),
        "labelled_at": pa.timestamp("us", tz="UTC"),
        "schema_version": pa.int32(),
        "label_key": pa.int64(),
        "supersedes": pa.int64(),
        "reviews": pa.int32(),
    }  # fmt: skip
    return pa.schema([(name, known.get(name, text)) for name in COLUMNS])


def parquet_merge(parts: Iterable[BinaryIO], target: BinaryIO) -> None:
    """Several Parquet files as one, a row group at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(target, parquet_schema(), compression="zstd") as writer:
        for part in parts:
            source = pq.ParquetFile(part)
            for number in range(source.num_row_groups):
                writer.write_table(source.read_row_group(number, use_threads=False))


def dataset_card(card: Mapping[str, Any], files: Iterable[Mapping[str, Any]]) -> str:
    """README.md of a folder that `datasets.load_dataset` reads. `files`: name, rows and bytes of its Parquet files.

    It says nothing that differs between two exports of the same labels.
    """
    splits: dict[str, list[int]] = {}
    for file in files:
        rows, size = splits.setdefault(str(file["name"]).rpartition("/")[2].partition("-")[0], [0, 0])
        splits[str(file["name"]).rpartition("/")[2].partition("-")[0]] = [rows + file["rows"], size + file["bytes"]]
    splits = {name: splits[name] for name in SPLITS if name in splits}
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for name in splits:
        lines += [f"  - split: {name}", f"    path: data/{name}-*.parquet"]
    lines += ["dataset_info:", "  config_name: default", "  features:"]
    for field in parquet_schema():
        lines += [f"  - name: {field.name}", *_feature(str(field.type))]
    lines.append("  splits:")
    for name, (rows, size) in splits.items():
        lines += [f"  - name: {name}", f"    num_bytes: {size}", f"    num_examples: {rows}"]
    total = sum(size for _, size in splits.values())
    lines += [f"  download_size: {total}", f"  dataset_size: {total}", "task_categories:", "- text-classification", "---"]
    return "\n".join([*lines, "", *_card_text(card)]) + "\n"


def _feature(kind: str) -> list[str]:
    if kind.startswith("list"):
        return ["    list: string"]
    names = {"double": "float64", "timestamp[us, tz=UTC]": "timestamp[us, tz=UTC]"}
    return [f"    dtype: {names.get(kind, kind)}"]


def _card_text(card: Mapping[str, Any]) -> list[str]:
    """The words of a card."""

    def listed(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"

    left_out = card.get("left_out", {})
    weights = card["sampling"]
    return [
        "# Labels of GuardReview",
        "",
        "What pharmacists settled about the answers of a pharmacy's LLM: one label an exchange.",
        "",
        f"- rows: {card['rows']:,}",
        f"- left out, since they could not be cleared of personal data: {left_out.get('not_redacted', 0):,}",
        f"- labels: {listed(card['labels'])}",
        f"- categories: {listed(card['categories'])}",
        f"- severities: {listed(card['severities'])}",
        f"- how they were settled: {listed(card['bases'])}",
        f"- splits: {listed(card['splits'])}",
        f"- newest label that may be in it: {card['labels_up_to']}",
        f"- filters: {json.dumps(card['filters'], sort_keys=True) if card['filters'] else 'none'}",
        f"- personal data: {'redacted; names are not looked for' if card['redacted'] else 'as it came'}",
        f"- schema version: {SCHEMA_VERSION}",
        "",
        "## Sampling",
        "",
        "What was stopped came before a pharmacist with probability 1, what was allowed with the probability that its row says. "
        "`sampling_weight` is 1 / `inclusion_probability`: weighted by it, rows stand for the whole stream; it is empty for what "
        "was drawn since a candidate differed, which is no sample of all, and for imported ones, of which nobody knows it.",
        f"Drawn by the audit with a probability below 1: {weights['drawn']:,}; the largest weight is {weights['largest']:g}, "
        f"the sum {weights['sum']:,.6g}.",
        "",
        "`split` and `group` never change for a text. They go by conversation or text alone: near-copies may lie in two splits, "
        "which a retraining in GuardReview would group or leave out. Look for them before you measure.",
        "Reviewers are pseudonyms.",
    ]  # fmt: skip
