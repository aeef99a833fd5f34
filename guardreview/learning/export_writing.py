"""Writing an export: part by part into the storage, so that where a worker is lost another goes on after the last part."""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Any

import structlog
from django.conf import settings
from django.db.models import F
from django.utils import timezone

from guardreview.learning import export_formats as formats
from guardreview.learning.export_filters import ExportFilters
from guardreview.learning.export_redaction import Redactor
from guardreview.learning.export_rows import SCHEMA_VERSION, ExportRow, Place, Snapshot
from guardreview.learning.export_storage import Storage, StorageFailed, content_files
from guardreview.learning.models import Export

log = structlog.get_logger(__name__)
PART_ROWS = 20_000
SLICE_S = 60.0
"""After so long a worker lets others have their turn, and goes on later."""
STALE_AFTER = timedelta(minutes=3)
"""Without a sign of life for so long, its worker is lost."""
BEAT_S = 20.0
MAX_LOST = 3
"""Workers that are lost over an export, one after the other and without a part stored between, until it has failed."""
ROWS_AT_ONCE = 100
"""Redacted between two signs of life: long texts take long."""
Status = Export.Status


def export_write(*, export_id: int, for_s: float = SLICE_S) -> bool:
    """Write parts until all are stored or the time is over; whether it is done with, for good or bad.

    Of several workers one writes. What a killed one had not stored is written again, from the last part on.
    """
    now = timezone.now()
    queued = Export.objects.filter(pk=export_id, status=Status.QUEUED)
    lost = Export.objects.filter(pk=export_id, status=Status.RUNNING, heartbeat_at__lt=now - STALE_AFTER)
    told = f"Its worker was lost {MAX_LOST} times and had stored nothing more; it may need more memory than it is given"
    if lost.filter(attempts__gte=MAX_LOST - 1).update(status=Status.FAILED, error=told, finished_at=now):
        log.error("export_failed", export=export_id, error="lost")
        return True
    taken = queued.update(status=Status.RUNNING, heartbeat_at=now)
    if not taken and not lost.update(status=Status.RUNNING, heartbeat_at=now, attempts=F("attempts") + 1):
        return True  # somebody else has it
    export = Export.objects.get(pk=export_id)
    try:
        done = _Writing(export).write(until=time.monotonic() + for_s)
    except _Lost:
        return True
    except Exception as error:
        told = str(error) if isinstance(error, StorageFailed) else f"{type(error).__name__} while it was written"
        log.error("export_failed", export=export.pk, error=type(error).__name__)
        Export.objects.filter(pk=export.pk, status=Status.RUNNING).update(
            status=Status.FAILED, error=told[:500], finished_at=timezone.now()
        )
        return True
    if not done:
        Export.objects.filter(pk=export.pk, status=Status.RUNNING).update(status=Status.QUEUED)
    return done


class _Lost(Exception):
    """Another worker has gone on with the export meanwhile."""


class _Writing:
    """One worker's turn at an export."""

    def __init__(self, export: Export) -> None:
        self.export = export
        self.storage = Storage()
        self.snapshot = Snapshot(export.labels_up_to, ExportFilters.from_json(export.filters))
        if not export.card:
            export.card = {
                "expected": [self.snapshot.labels().count(), self.snapshot.imported().count()],
                "labels_up_to": export.labels_up_to,
                "filters": export.filters,
                "redacted": export.redacted,
                "schema_version": SCHEMA_VERSION,
                **{name: {} for name in (*_COUNTED, "categories", "left_out")},
                "sampling": {"drawn": 0, "largest": 0.0, "sum": 0.0},
                "place": [0, 0],
                "written": 0,
            }
        self.parts_in_all = sum(-(-rows // PART_ROWS) for rows in export.card["expected"]) or 1

    def write(self, *, until: float) -> bool:
        processes = settings.EXPORT_PROCESSES if sum(self.export.card["expected"]) > PART_ROWS else 1
        with Redactor(allow=settings.PII_ALLOW, processes=processes) as redactor:
            chunks = self.snapshot.chunks(Place(*self.export.card["place"]))
            waiting = next(chunks, None)
            while waiting is not None or self.export.card["written"] == 0:
                if time.monotonic() > until and self.export.card["written"]:
                    return False
                waiting = self._part(waiting, chunks, redactor)
        self._finish()
        return True

    def _part(
        self, waiting: tuple[Place, list[ExportRow]] | None, chunks: Iterator[tuple[Place, list[ExportRow]]], redactor: Redactor
    ) -> tuple[Place, list[ExportRow]] | None:
        """Write one part, which begins with the chunk that waits; the next one that waits. Without any, a part without rows."""
        number, counts, place = self.export.card["written"], _Counts(self.export.card), Place(*self.export.card["place"])
        with ExitStack() as open_files:
            files = _Files(self.export.format, self.storage, self.export.place, number, self.parts_in_all, open_files)
            taken, kind = 0, bool(waiting and waiting[0].imported)
            while waiting is not None and taken < PART_ROWS and bool(waiting[0].imported) == kind:
                place, rows = waiting
                taken += len(rows)
                kept = self._kept(rows, redactor)
                counts.left_out(len(rows) - len(kept))
                counts.add(kept)
                files.write(kept)
                waiting = next(chunks, None)
            parts = files.close()
        card = {**counts.card, "place": [place.label, place.imported], "written": number + 1}
        self._store(
            attempts=0,
            parts=[*self.export.parts, *parts],
            rows=self.export.rows + sum(part["rows"] for part in parts),
            last_label=place.label,
            card=card,
        )
        return waiting

    def _kept(self, rows: list[ExportRow], redactor: Redactor) -> list[ExportRow]:
        """What of a chunk goes out."""
        self._beat()
        if not self.export.redacted:
            return rows
        kept: list[ExportRow] = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            kept += _redacted(rows[start : start + ROWS_AT_ONCE], redactor)
            self._beat()
        return kept

    def _beat(self) -> None:
        """A sign of life, if the last is old enough. Raises _Lost."""
        if self.export.heartbeat_at and timezone.now() - self.export.heartbeat_at > timedelta(seconds=BEAT_S):
            self._store()

    def _store(self, **fields: Any) -> None:
        """With a sign of life. Raises _Lost unless the export is still as this worker left it."""
        mine = Export.objects.filter(pk=self.export.pk, status=Status.RUNNING, heartbeat_at=self.export.heartbeat_at)
        fields["heartbeat_at"] = timezone.now()
        if not mine.update(**fields):
            raise _Lost
        for name, value in fields.items():
            setattr(self.export, name, value)

    def _finish(self) -> None:
        export = self.export
        if export.format == Export.Format.PARQUET:
            self._merge()
        if export.format == Export.Format.DATASETS:
            self._store(parts=self._packed())
        card = {name: value for name, value in export.card.items() if name not in ("place", "written", "expected")}
        files = content_files(export)
        sha256 = files[0]["sha256"] if len(files) == 1 else self._sha256(files)
        self._store(status=Status.READY, sha256=sha256, card={**card, "rows": export.rows}, finished_at=timezone.now())
        log.info("export_written", export=export.pk, rows=export.rows)

    def _sha256(self, files: Sequence[Mapping[str, Any]]) -> str:
        digest, size = hashlib.sha256(), sum(file["bytes"] for file in files)
        for piece in self.storage.bytes([(file["name"], file["bytes"]) for file in files], 0, size):
            digest.update(piece)
            self._beat()
        return digest.hexdigest()

    def _merge(self) -> None:
        """Make one file of the parts of a Parquet export, unless a worker that was lost then has. They go once it is recorded."""
        export, name = self.export, f"{self.export.place}/labels.parquet"
        if [part["name"] for part in export.parts] == [name]:
            return
        parts = export.parts
        with self.storage.writing(name) as file:
            formats.parquet_merge(self._opened(parts), file)  # type: ignore[arg-type]
        self._store(parts=[{"name": name, "rows": export.rows, "bytes": file.bytes, "sha256": file.sha256}])
        for part in parts:
            self.storage.remove(part["name"])

    def _opened(self, parts: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
        for part in parts:
            self._beat()
            with self.storage.reading(part["name"]) as file:
                yield file

    def _packed(self) -> list[dict[str, Any]]:
        """The folder with its card, and the same as one file to download."""
        export = self.export
        data = [part for part in export.parts if "/data/" in part["name"]]
        with self.storage.writing(f"{export.place}/README.md") as file:
            file.write(formats.dataset_card({**export.card, "rows": export.rows}, data).encode())
        readme = {"name": f"{export.place}/README.md", "rows": 0, "bytes": file.bytes, "sha256": file.sha256}
        with self.storage.writing(f"{export.place}/labels.zip") as file, zipfile.ZipFile(file, "w") as packed:
            for part in (readme, *data):
                # Without a time of its own, so that the same labels make the same file.
                entry = zipfile.ZipInfo(part["name"].removeprefix(f"{export.place}/"))
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                with packed.open(entry, "w") as target:
                    for piece in self.storage.bytes([(part["name"], part["bytes"])], 0, part["bytes"]):
                        target.write(piece)
                        self._beat()
        return [*data, readme, {"name": f"{export.place}/labels.zip", "rows": 0, "bytes": file.bytes, "sha256": file.sha256}]


class _Files:
    """The files of one part: one, or of a dataset one for each split that has rows."""

    def __init__(self, format: str, storage: Storage, place: str, number: int, of: int, open_files: ExitStack) -> None:
        self._format, self._storage, self._place, self._open_files = format, storage, place, open_files
        self._number, self._of = number, of
        self._writers: dict[str, tuple[formats.Writer, Any, list[int]]] = {}
        if format != Export.Format.DATASETS:
            self._writer("")

    def write(self, rows: Sequence[ExportRow]) -> None:
        by_split: dict[str, list[ExportRow]] = {}
        for row in rows:
            by_split.setdefault(row["split"] if self._format == Export.Format.DATASETS else "", []).append(row)
        for split, some in by_split.items():
            writer, _, count = self._writer(split)
            writer.write(some)
            count[0] += len(some)

    def _writer(self, split: str) -> tuple[formats.Writer, Any, list[int]]:
        if split not in self._writers:
            kind = "parquet" if split else self._format
            name = f"data/{split}" if split else "labels"
            path = f"{self._place}/{name}-{self._number:05d}-of-{self._of:05d}.{kind}"
            file = self._open_files.enter_context(self._storage.writing(path))
            made: dict[str, Any] = {
                "jsonl": formats.JsonLines,
                "csv": partial(formats.Csv, header=self._number == 0),
                "parquet": formats.Parquet,
            }
            self._writers[split] = (made[kind](file), (path, file), [0])
        return self._writers[split]

    def close(self) -> list[dict[str, Any]]:
        """What was written."""
        for writer, _, _ in self._writers.values():
            writer.close()
        self._open_files.close()
        return [
            {"name": path, "rows": count[0], "bytes": file.bytes, "sha256": file.sha256}
            for _, (path, file), count in (self._writers[split] for split in sorted(self._writers))
        ]


_COUNTED = {"labels": "label", "severities": "severity", "bases": "basis", "splits": "split"}


class _Counts:
    """What a card says, counted on."""

    def __init__(self, card: Mapping[str, Any]) -> None:
        self._before = card
        self._counters = {name: Counter(card[name]) for name in (*_COUNTED, "categories", "left_out")}
        self._sampling = dict(card["sampling"])

    def left_out(self, rows: int) -> None:
        if rows:
            self._counters["left_out"]["not_redacted"] += rows

    def add(self, rows: Sequence[ExportRow]) -> None:
        for name, column in _COUNTED.items():
            self._counters[name].update(filter(None, (row[column] for row in rows)))  # type: ignore[literal-required]
        self._counters["categories"].update(chain.from_iterable(row["categories"] for row in rows))
        weights = [weight for row in rows if (weight := row["sampling_weight"])]
        self._sampling["drawn"] += sum(weight > 1 for weight in weights)
        self._sampling["largest"] = max([self._sampling["largest"], *weights])
        self._sampling["sum"] += sum(weights)

    @property
    def card(self) -> dict[str, Any]:
        """Most frequent first, so that the same labels make the same card."""
        counts = {
            name: dict(sorted(counter.items(), key=lambda item: (-item[1], item[0]))) for name, counter in self._counters.items()
        }
        return {**self._before, **counts, "sampling": self._sampling}


def _redacted(rows: list[ExportRow], redactor: Redactor) -> list[ExportRow]:
    """Without the rows that cannot be cleared of personal data."""
    texts = redactor.redacted([text for row in rows for text in (row["query"], row["response"])])
    kept = []
    for row, query, response in zip(rows, texts[::2], texts[1::2], strict=True):
        if query is not None and response is not None:
            row["query"], row["response"] = query, response
            kept.append(row)
    return kept
