"""Importing labelled sets: a file waits in a private place until somebody has seen how it is read; then it is taken, or not."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from guardreview.core.models import User
from guardreview.core.services import audit
from guardreview.learning.import_checks import Checks, NewRow
from guardreview.learning.import_files import FileForm, InvalidFile, RawRow, form_of, rows_of
from guardreview.learning.import_mapping import REASONS, ImportMapping, ReadRow, Refused, guessed
from guardreview.learning.models import ImportedLabel, LabelSet

log = structlog.get_logger(__name__)
LOOKED_AT = 2_000
"""Rows that the guess of a mapping rests on."""
SHOWN = 20
STORED_AT_ONCE = 500


class AlreadyImported(ValueError):
    """The same file is a label set already; the message names it."""


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """An uploaded file that nobody has decided on yet: whose it is, what it was called, and its bytes' hash."""

    key: UUID
    owner: int
    name: str
    sha256: str
    form: FileForm

    @property
    def path(self) -> Path:
        return _folder(self.key) / "file"


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """A row as it would be read, or why it would be refused."""

    number: int
    row: ReadRow | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What would be, or was, made of a file: rows taken, and (row, reason, detail) of each refused one, in the file's order."""

    rows: int
    taken: Sequence[NewRow]
    refused: Sequence[tuple[int, str, str]] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        values = Counter(new.row.value for new in self.taken)
        categories = Counter(category for new in self.taken for category in new.row.categories)
        return {
            "rows": self.rows,
            "taken": len(self.taken),
            "labels": dict(values),
            "categories": dict(categories.most_common()),
            "reasons": dict(Counter(reason for _, reason, _ in self.refused).most_common()),
            "refused": [list(each) for each in self.refused],
        }


# --- The file that waits ----------------------------------------------------------------------------------------------
def file_receive(*, chunks: Iterable[bytes], name: str, user: User) -> WaitingFile:
    """Keep an uploaded file where nobody but the service can read it. Raises InvalidFile."""
    files_forget()
    key = uuid4()
    folder = _folder(key)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    try:
        digest, size = hashlib.sha256(), 0
        with (folder / "file").open("wb") as file:
            for chunk in chunks:
                size += len(chunk)
                if size > settings.IMPORT_MAX_BYTES:
                    raise InvalidFile(f"The file is larger than {settings.IMPORT_MAX_BYTES // 2**20} MB.")
                digest.update(chunk)
                file.write(chunk)
        name = Path(name).name[:100]
        waiting = WaitingFile(key, user.pk, name, digest.hexdigest(), form_of(folder / "file", name))
        kept = {"owner": waiting.owner, "name": name, "sha256": waiting.sha256, "form": _form_json(waiting.form)}
        (folder / "about.json").write_text(json.dumps(kept), encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return waiting


def file_get(*, key: UUID, user: User) -> WaitingFile | None:
    """The file that this person left there, if it still waits."""
    files_forget()
    try:
        kept = json.loads((_folder(key) / "about.json").read_text(encoding="utf-8"))
    except OSError:
        return None
    if kept["owner"] != user.pk:
        return None
    return WaitingFile(key, kept["owner"], kept["name"], kept["sha256"], FileForm(**kept["form"]))


def file_discard(waiting: WaitingFile) -> None:
    """Gone for good."""
    shutil.rmtree(_folder(waiting.key), ignore_errors=True)


def files_forget() -> None:
    """What has waited too long is gone."""
    for folder in (settings.VAR_DIR / "imports").glob("*"):
        with suppress(FileNotFoundError):  # somebody else was faster
            if folder.stat().st_mtime < time.time() - settings.IMPORT_KEPT_S:
                shutil.rmtree(folder, ignore_errors=True)


def _folder(key: UUID) -> Path:
    return Path(settings.VAR_DIR) / "imports" / str(key)


def _form_json(form: FileForm) -> dict[str, str]:
    return {"kind": form.kind, "encoding": form.encoding, "delimiter": form.delimiter}


# --- Reading it -------------------------------------------------------------------------------------------------------
def first_rows(path: Path, form: FileForm, limit: int = LOOKED_AT) -> list[RawRow]:
    """Raises InvalidFile if not even the first can be read."""
    rows = []
    for row in rows_of(path, form):
        rows.append(row)
        if len(rows) >= limit:
            break
    if not rows:
        raise InvalidFile("The file has no rows.")
    return rows


def mapping_guess(path: Path, form: FileForm) -> ImportMapping:
    """Raises InvalidFile."""
    return guessed(form, first_rows(path, form))


def preview(path: Path, mapping: ImportMapping) -> list[PreviewRow]:
    """The first rows as they will be read. Raises InvalidFile."""
    return [PreviewRow(row.number, *_tried(mapping, row)) for row in first_rows(path, mapping.form, SHOWN)]


def _tried(mapping: ImportMapping, row: RawRow) -> tuple[ReadRow | None, str]:
    try:
        return mapping.read(row), ""
    except Refused as refused:
        return None, REASONS[refused.reason]


def file_check(path: Path, mapping: ImportMapping) -> Checked:
    """All of the file, against itself and everything that is known. Raises InvalidFile."""
    count, read, refused = 0, list[ReadRow](), list[tuple[int, str, str]]()
    for raw in rows_of(path, mapping.form):
        count += 1
        try:
            read.append(mapping.read(raw))
        except Refused as reason:
            refused.append((raw.number, reason.reason, reason.detail))
    checks, taken = Checks(read), []
    for place, row in enumerate(read):
        try:
            taken.append(checks.check(place, row))
        except Refused as reason:
            refused.append((row.number, reason.reason, reason.detail))
    return Checked(count, taken, sorted(refused))


# --- Taking it --------------------------------------------------------------------------------------------------------
def labels_import(*, path: Path, name: str, mapping: ImportMapping, user: User | None) -> LabelSet:
    """Store the rows that are new as a label set, all or none, with the report of those that are refused.

    Raises InvalidFile, AlreadyImported, InvalidMapping.
    """
    mapping = mapping.checked()
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if before := LabelSet.objects.filter(file_sha256=sha256, withdrawn_at=None).first():
        raise AlreadyImported(f"This file is label set {before.pk} already.")
    checked = file_check(path, mapping)
    if not checked.taken:
        told = ", ".join(f"{REASONS[reason].lower()}: {count:,}" for reason, count in checked.report()["reasons"].items())
        raise InvalidFile(f"None of its {checked.rows:,} rows is taken ({told}).")
    try:
        with transaction.atomic():
            label_set = LabelSet.objects.create(
                name=name[:100], file_sha256=sha256, mapping=mapping.as_json(), report=checked.report(), imported_by=user
            )
            ImportedLabel.objects.bulk_create(_rows(label_set, checked.taken), batch_size=STORED_AT_ONCE)
            audit(
                actor=user.username if user else "command line",
                action="labels.import",
                target=f"label-set-{label_set.pk}",
                sha256=sha256,
                rows=checked.rows,
                taken=len(checked.taken),
            )
    except IntegrityError as error:  # somebody else imports the same exchanges at this moment
        raise AlreadyImported("Another import has taken some of these rows meanwhile. Try again.") from error
    return label_set


def _rows(label_set: LabelSet, taken: Iterable[NewRow]) -> list[ImportedLabel]:
    return [
        ImportedLabel(
            label_set=label_set,
            digest=new.digest,
            group=new.group,
            query=new.row.query,
            response=new.row.response,
            value=new.row.value,
            categories=list(new.row.categories),
            severity=new.row.severity,
            language=new.row.language,
        )
        for new in taken
    ]


def label_set_withdraw(*, label_set: LabelSet, user: User) -> bool:
    """Nothing trains on it from now on, and its texts may come in another set; False if it was withdrawn before."""
    with transaction.atomic():
        in_force = LabelSet.objects.filter(pk=label_set.pk, withdrawn_at=None)
        if not in_force.update(withdrawn_at=timezone.now()):
            return False
        ImportedLabel.objects.filter(label_set=label_set).update(is_withdrawn=True)
        audit(actor=user.username, action="labels.withdraw", target=f"label-set-{label_set.pk}")
    return True


def report_csv(report: dict[str, Any]) -> Iterator[str]:
    """The refused rows, a line each: number, reason, and what it refers to."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(["row", "reason", "explanation", "refers_to"])
    for number, reason, detail in report.get("refused", ()):
        writer.writerow([number, reason, REASONS.get(reason, reason), detail])
        if buffer.tell() > 60_000:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()
