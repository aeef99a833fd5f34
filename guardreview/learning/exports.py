"""Exports: snapshots of labels as files, asked for, watched over and taken out. How one is written is in `export_writing`."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.db.models import Max, Q, QuerySet
from django.utils import timezone

from guardreview.core.models import App, User
from guardreview.core.roles import Act
from guardreview.core.services import audit
from guardreview.learning import export_formats as formats
from guardreview.learning.export_filters import ExportFilters
from guardreview.learning.export_redaction import cleared
from guardreview.learning.export_storage import Storage, StorageFailed, content_files
from guardreview.learning.export_writing import STALE_AFTER
from guardreview.learning.models import Export
from guardreview.review.models import Label
from guardreview.review.selectors import LabelRow, label_rows, labels

log = structlog.get_logger(__name__)
STREAMED = ("jsonl", "csv")
"""The formats of labels that are streamed without an export."""
MAX_UNFINISHED = 2
"""That one person, or one app's keys, may have at a time."""
KEPT = timedelta(days=30)
"""After so long an export's files are deleted; its row stays."""
Status = Export.Status
UNFINISHED = (Status.QUEUED, Status.RUNNING)


class ExportsBusy(Exception):
    """So many of one asker's exports wait or are written that another is not taken on."""


class NoReason(ValueError):
    """Personal data leaves only with a reason."""


# --- Asking for one ---------------------------------------------------------------------------------------------------
def export_request(
    *,
    format: str,
    filters: ExportFilters,
    actor: str,
    user: User | None = None,
    redacted: bool = True,
    why: str = "",
    enqueue: bool = True,
) -> Export:
    """Take a snapshot of the labels in force now and ask the workers to write it. `user`: None for a key or a command.

    With `enqueue`, the asker's export of the same is given again, if there is one that has not failed or expired.

    Raises NoReason, PermissionDenied (with personal data, for a role that may not have it), ExportsBusy.
    """
    why = "" if redacted else why.strip()[:500]
    if not redacted and not why:
        raise NoReason("Say why the personal data has to stay in.")
    if not redacted and user is not None and not user.may(Act.EXPORT_PERSONAL):
        raise PermissionDenied(f"Your role may not {Act.EXPORT_PERSONAL.value}.")
    if filters.takes_imported:
        filters = filters.with_label_sets_in_force()
    asked = {"format": format, "filters": filters.as_json(), "redacted": redacted, "why": why, "requested_by": user}
    with transaction.atomic():
        export = _known(asked, filters=filters, user=user) if enqueue else None
        is_new = export is None
        if export is None:
            export = Export.objects.create(**asked, labels_up_to=_newest_label())
            export.place = f"{export.created_at:%Y%m%d}-{export.pk:06d}"
            export.save(update_fields=["place"])
        audit(
            actor=actor,
            action="labels.export",
            target=f"export-{export.pk}",
            format=format,
            filters=export.filters,
            labels_up_to=export.labels_up_to,
            redacted=redacted,
            **({"why": why} if why else {}),
        )
        if enqueue and is_new:
            transaction.on_commit(partial(_enqueue, export.pk))
    return export


def _known(asked: Mapping[str, Any], *, filters: ExportFilters, user: User | None) -> Export | None:
    """The asker's export of the same, up to what is the newest label now. Raises ExportsBusy. In the caller's transaction.

    The table of labels is not locked for it: whoever asks again and again holds up no decision.
    """
    # One asker's requests come one after the other, so that two at once are not one too many; exchanges still come in meanwhile.
    asker: QuerySet[Any] = App.objects.filter(pk=filters.app or 0) if user is None else User.objects.filter(pk=user.pk)
    list(asker.select_for_update(no_key=True).values_list("pk"))
    exports = Export.objects.filter(requested_by=user, **({"filters__app": filters.app} if user is None else {}))
    same = exports.filter(**asked, labels_up_to=_greatest_key()).exclude(status__in=(Status.FAILED, Status.EXPIRED))
    if export := same.first():
        return export
    if exports.filter(status__in=UNFINISHED).count() >= MAX_UNFINISHED:
        raise ExportsBusy(f"{MAX_UNFINISHED} of your exports have to be written first. Try again later.")
    return None


def _greatest_key() -> int:
    return Label.objects.aggregate(newest=Max("pk"))["newest"] or 0


def _newest_label() -> int:
    """The greatest key of a label; none with a smaller one can come any more. In the caller's transaction.

    PostgreSQL gives keys out before their rows are committed: the lock waits for whoever has one.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {connection.ops.quote_name(Label._meta.db_table)} IN SHARE MODE")
    return _greatest_key()


def export_retry(*, export: Export, actor: str) -> bool:
    """Go on with a failed one, from its last part; False if it has not failed."""
    with transaction.atomic():
        failed = Export.objects.filter(pk=export.pk, status=Status.FAILED)
        if not failed.update(status=Status.QUEUED, error="", heartbeat_at=None, attempts=0):
            return False
        audit(actor=actor, action="labels.export_retry", target=f"export-{export.pk}")
        transaction.on_commit(partial(_enqueue, export.pk))
    return True


def exports_resume() -> int:
    """Hand those that nobody works on to the workers again; how many."""
    since = timezone.now() - STALE_AFTER
    forgotten = Export.objects.filter(
        Q(heartbeat_at__lt=since) | Q(heartbeat_at=None, created_at__lt=since), status__in=UNFINISHED
    ).values_list("pk", flat=True)
    for key in forgotten:
        _enqueue(key)
    return len(forgotten)


def exports_expire() -> int:
    """Delete the files of those that ended long ago; how many. What cannot be deleted now is tried again the next time."""
    ended = Export.objects.filter(status__in=(Status.READY, Status.FAILED), finished_at__lt=timezone.now() - KEPT)
    ended.update(status=Status.EXPIRED, error=f"Its files were deleted after {KEPT.days} days. Ask for a new export.")
    deleted = 0
    for export in Export.objects.filter(status=Status.EXPIRED).exclude(place=""):
        try:
            Storage().remove_folder(export.place)
        except StorageFailed as error:
            log.warning("export_not_deleted", export=export.pk, error=str(error))
            continue
        with transaction.atomic():
            deleted += Export.objects.filter(pk=export.pk).update(place="")
            audit(actor="system", action="labels.expire", target=f"export-{export.pk}", redacted=export.redacted)
    return deleted


def _enqueue(key: int) -> None:
    from guardreview.learning.tasks import export_labels

    try:
        export_labels.delay(key)
    except export_labels.OperationalError:
        log.warning("enqueue_failed", export=key)  # `exports_resume` does it later


# --- Reading one ------------------------------------------------------------------------------------------------------
def export_bytes(export: Export, start: int, end: int) -> Generator[bytes, None, None]:
    """Bytes `start` to `end` of what is downloaded. Raises StorageFailed."""
    yield from Storage().bytes([(file["name"], file["bytes"]) for file in content_files(export)], start, end)


def export_download_record(*, export: Export, actor: str) -> None:
    """Whoever takes an export out is in the audit log."""
    audit(actor=actor, action="labels.download", target=f"export-{export.pk}", rows=export.rows, redacted=export.redacted)


def labels_export(*, format: str, actor: str, app: App | None = None) -> Iterator[str]:
    """Labels in force as lines of JSONL or CSV, streamed without a snapshot, redacted, with the columns of `LabelRow` alone.

    The export is written to the audit log first.
    """
    if format not in STREAMED:
        raise ValueError(f"format must be one of {', '.join(STREAMED)}")
    found = labels(app=app)
    target = app.name if app else "all apps"
    audit(actor=actor, action="labels.export", target=target, format=format, count=found.count(), redacted=True)
    rows = cleared_rows(label_rows(found))
    if format == Export.Format.JSONL:
        return (formats.json_line(row) for row in rows)
    return chain([formats.csv_line(LabelRow.__annotations__)], (formats.csv_line(row.values()) for row in rows))


def cleared_rows(rows: Iterable[LabelRow]) -> Iterator[LabelRow]:
    """Without personal data, and without those that cannot be cleared of it."""
    for row in rows:
        query, response = cleared([row["query"], row["response"]], settings.PII_ALLOW)
        if query is not None and response is not None:
            yield {**row, "query": query, "response": response}
