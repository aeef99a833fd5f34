"""Exports: snapshots that stay what they are, in every format, gone on with after a killed worker, without personal data."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from classifiers.examples import Example, split_of
from guardreview.core.models import AuditEvent, User
from guardreview.learning import export_rows, export_writing
from guardreview.learning.export_filters import ExportFilters, InvalidFilter
from guardreview.learning.export_redaction import Redactor, cleared
from guardreview.learning.export_storage import content_size
from guardreview.learning.export_writing import export_write
from guardreview.learning.exports import (
    KEPT,
    NoReason,
    export_bytes,
    export_request,
    export_retry,
    exports_expire,
    exports_resume,
)
from guardreview.learning.models import Export, ImportedLabel, LabelSet
from guardreview.learning.tasks import resume_exports
from guardreview.review.models import Label, Review
from guardreview.verdicts.models import ReviewItem, Verdict
from tests import scenes

BACKEND = "django.contrib.auth.backends.ModelBackend"
PERSONAL = "Yes, call me on 415-555-2671 tonight."
LONG = float("inf")


@pytest.fixture(autouse=True)
def storage(settings: Any, tmp_path: Path) -> Path:
    settings.EXPORTS = str(tmp_path / "exports")
    settings.EXPORT_PROCESSES = 1
    return tmp_path / "exports"


@pytest.fixture
def people(db: None) -> dict[str, User]:
    return scenes.people()


def label(
    number: int, reviewer: User, *, response: str = "", safe: bool = False, item: ReviewItem | None = None, **more: Any
) -> Label:
    """A settled label; of an item that has one already, one that supersedes it."""
    item = item or scenes.item(f"question {number}?", response or f"Answer number {number} is that you may double it.")
    harm: dict[str, Any] = {} if safe else {"categories": ["misinformation"], "severity": "major"}
    Label.objects.filter(exchange=item.exchange).update(is_current=False)
    review = Review.objects.create(
        item=item, reviewer=reviewer, truth="safe" if safe else "unsafe", confirms=not safe, round=item.round, **harm
    )
    ReviewItem.objects.filter(pk=item.pk).update(status="decided", round=item.round + 1)
    item.round += 1
    return Label.objects.create(exchange=item.exchange, review=review, value=review.truth, **harm, **more)


@pytest.fixture
def seven(people: dict[str, User]) -> list[Label]:
    """Seven labels, one with personal data in its response, one safe, one drawn with a probability of 1 %."""
    rows = [label(number, people["ana"]) for number in range(4)]
    rows.append(label(4, people["ben"], response=PERSONAL))
    rows.append(label(5, people["ben"], response="=2+2 is four.", safe=True))
    rows.append(label(6, people["ana"], inclusion_probability=0.01, basis="adjudicated"))
    return rows


def exported(format: str = "jsonl", user: User | None = None, **more: Any) -> Export:
    filters = ExportFilters.parse(more.pop("filters", {}))
    export = export_request(format=format, filters=filters, actor="test", user=user, enqueue=False, **more)
    export_write(export_id=export.pk, for_s=LONG)
    export.refresh_from_db()
    assert (export.status, export.error) == ("ready", "")
    return export


def content(export: Export) -> bytes:
    return b"".join(export_bytes(export, 0, content_size(export)))


def rows_of(export: Export) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content(export).decode().splitlines()]


def test_every_row_can_be_trained_on_and_says_where_it_comes_from(seven: list[Label]) -> None:
    rows = rows_of(exported())
    assert [row["label_key"] for row in rows] == [each.pk for each in seven]
    assert list(rows[0]) == list(export_rows.COLUMNS)
    for row in rows:
        example = Example.from_json(row)
        assert example.unsafe == (row["label"] == "unsafe")
        assert split_of(row["group"]) == row["split"] or (split_of(row["group"]), row["split"]) == ("pool", "train")
    assert [row["sampling_weight"] for row in rows] == [1, 1, 1, 1, 1, 1, 100]
    assert rows[6]["basis"] == "adjudicated"
    assert {(row["reviews"], row["supersedes"], row["gold"], row["source"]) for row in rows} == {(1, None, False, "review")}


def test_what_was_drawn_since_a_shadow_differed_has_no_sampling_weight(people: dict[str, User]) -> None:
    for number, probability in enumerate((0.25, 0.625)):
        made = label(number, people["ana"], safe=True, inclusion_probability=probability)
        Verdict.objects.filter(exchange=made.exchange).update(decision="allow", audit_probability=0.25)
    export = exported()
    assert [(row["inclusion_probability"], row["sampling_weight"]) for row in rows_of(export)] == [(0.25, 4), (0.625, None)]
    assert export.card["sampling"] == {"drawn": 1, "largest": 4, "sum": 4}


def test_reviewers_are_pseudonyms_that_stay_and_cannot_be_counted_out(seven: list[Label], people: dict[str, User]) -> None:
    first, second = rows_of(exported()), rows_of(exported())
    assert [row["reviewer"] for row in first] == [row["reviewer"] for row in second]
    names = {row["reviewer"] for row in first}
    assert len(names) == 2
    assert not names & {f"reviewer-{user.pk}" for user in people.values()}


def test_personal_data_stays_out_unless_somebody_who_may_says_why(seven: list[Label], people: dict[str, User]) -> None:
    assert rows_of(exported())[4]["response"] == "Yes, call me on [PHONE_1] tonight."
    with pytest.raises(NoReason):
        exported(user=people["lea"], redacted=False)
    with pytest.raises(PermissionDenied):
        exported(user=people["adam"], redacted=False, why="curious")
    export = exported(user=people["lea"], redacted=False, why="checking the redaction")
    assert rows_of(export)[4]["response"] == PERSONAL
    event = AuditEvent.objects.filter(action="labels.export").latest("pk")
    assert (event.data["redacted"], event.data["why"]) == (False, "checking the redaction")


def test_what_cannot_be_cleared_is_left_out_and_counted(seven: list[Label], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "guardreview.learning.export_redaction.Redactor.redacted",
        lambda self, texts: [None if "=2" in text else text for text in texts],
    )
    export = exported()
    assert (export.rows, export.card["left_out"]) == (6, {"not_redacted": 1})


def test_processes_redact_as_one_does() -> None:
    texts = [f"Text {number}: write to jo{number}@example.com" if number % 3 else f"Text {number}" for number in range(2_500)]
    with Redactor(allow=(), processes=2) as redactor:
        assert redactor.redacted(texts) == cleared(texts)


def test_the_same_snapshot_has_the_same_bytes_whatever_is_labelled_later(seven: list[Label], people: dict[str, User]) -> None:
    export = export_request(format="jsonl", filters=ExportFilters(), actor="test", enqueue=False)
    first = exported()
    item = ReviewItem.objects.get(exchange=seven[0].exchange)
    item.round = 2
    later = label(0, people["ben"], item=item, safe=True)
    export_write(export_id=export.pk, for_s=LONG)
    export.refresh_from_db()
    assert (export.sha256, export.labels_up_to) == (first.sha256, first.labels_up_to)
    assert export.sha256 == hashlib.sha256(content(export)).hexdigest()
    new = rows_of(exported())
    assert [row["label_key"] for row in new] == [*[each.pk for each in seven[1:]], later.pk]
    assert new[-1]["supersedes"] == seven[0].pk


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet", "datasets"])
def test_a_lost_worker_costs_one_part_and_changes_nothing(
    format: str, seven: list[Label], monkeypatch: pytest.MonkeyPatch, storage: Path
) -> None:
    monkeypatch.setattr(export_rows, "CHUNK_ROWS", 1)
    monkeypatch.setattr(export_writing, "PART_ROWS", 2)
    whole = exported(format)
    export = export_request(format=format, filters=ExportFilters(), actor="test", enqueue=False)
    assert not export_write(export_id=export.pk, for_s=0)
    assert Export.objects.get(pk=export.pk).last_label == seven[1].pk
    # Another is killed in the middle of the next part.
    Export.objects.filter(pk=export.pk).update(status="running", heartbeat_at=timezone.now())
    assert export_write(export_id=export.pk, for_s=LONG), "while it shows signs of life, nobody takes it over"
    assert Export.objects.get(pk=export.pk).status == "running"
    Export.objects.filter(pk=export.pk).update(heartbeat_at=timezone.now() - 2 * export_writing.STALE_AFTER)
    for part in storage.rglob(f"{export.place}/**/*-00001-of-*"):
        part.write_bytes(b"half")
    export_write(export_id=export.pk, for_s=LONG)
    export.refresh_from_db()
    assert (export.status, export.rows, export.sha256) == ("ready", 7, whole.sha256)
    assert content(export) == content(whole)


@pytest.mark.parametrize("dies_in", ["before the merged file is recorded", "after it"])
def test_a_worker_lost_while_it_finishes_a_parquet_export_loses_nothing(
    dies_in: str, seven: list[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_rows, "CHUNK_ROWS", 1)
    monkeypatch.setattr(export_writing, "PART_ROWS", 2)
    whole = exported("parquet")
    export = export_request(format="parquet", filters=ExportFilters(), actor="test", enqueue=False)
    store = export_writing._Writing._store

    def killed(run: Any, **fields: Any) -> None:
        merged = [part["name"].endswith("/labels.parquet") for part in fields.get("parts", [])]
        if merged == [True] and dies_in != "after it":
            raise SystemExit
        store(run, **fields)
        if merged == [True]:
            raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(export_writing._Writing, "_store", killed)
        with pytest.raises(SystemExit):
            export_write(export_id=export.pk, for_s=LONG)
    Export.objects.filter(pk=export.pk).update(heartbeat_at=timezone.now() - 2 * export_writing.STALE_AFTER)
    export_write(export_id=export.pk, for_s=LONG)
    export.refresh_from_db()
    assert (export.status, export.rows, export.sha256) == ("ready", 7, whole.sha256)


def test_a_worker_that_was_overtaken_stores_nothing(seven: list[Label], monkeypatch: pytest.MonkeyPatch) -> None:
    export = export_request(format="jsonl", filters=ExportFilters(), actor="test", enqueue=False)
    begun = export_writing._redacted

    def overtaken(*args: Any) -> Any:
        Export.objects.filter(pk=export.pk).update(heartbeat_at=timezone.now())
        return begun(*args)

    monkeypatch.setattr(export_writing, "_redacted", overtaken)
    assert export_write(export_id=export.pk, for_s=LONG)
    export.refresh_from_db()
    assert (export.status, export.parts, export.rows) == ("running", [], 0)


def test_forgotten_exports_go_back_to_the_workers(seven: list[Label], monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr("guardreview.learning.tasks.export_labels.delay", sent.append)
    old = timezone.now() - 2 * export_writing.STALE_AFTER
    forgotten, lost, alive = (
        export_request(format="jsonl", filters=ExportFilters(), actor="test", enqueue=False).pk for _ in range(3)
    )
    Export.objects.update(created_at=old)
    Export.objects.filter(pk=lost).update(status="running", heartbeat_at=old)
    Export.objects.filter(pk=alive).update(status="running", heartbeat_at=timezone.now())
    assert exports_resume() == 2
    assert sorted(sent) == [forgotten, lost]


def test_a_slow_part_shows_signs_of_life(seven: list[Label], monkeypatch: pytest.MonkeyPatch) -> None:
    export = export_request(format="jsonl", filters=ExportFilters(), actor="test", enqueue=False)
    begun, beats = export_writing._redacted, list[Any]()

    def seen(*args: Any) -> Any:
        beats.append(Export.objects.get(pk=export.pk).heartbeat_at)
        return begun(*args)

    monkeypatch.setattr(export_writing, "_redacted", seen)
    monkeypatch.setattr(export_writing, "ROWS_AT_ONCE", 1)
    monkeypatch.setattr(export_writing, "BEAT_S", 0)
    export_write(export_id=export.pk, for_s=LONG)
    assert len(set(beats)) == 7
    assert Export.objects.get(pk=export.pk).status == "ready"


def test_an_export_over_which_workers_are_lost_again_and_again_fails(seven: list[Label], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_rows, "CHUNK_ROWS", 1)
    monkeypatch.setattr(export_writing, "PART_ROWS", 2)
    export = export_request(format="jsonl", filters=ExportFilters(), actor="test", enqueue=False)
    assert not export_write(export_id=export.pk, for_s=0)
    monkeypatch.setattr(export_writing._Writing, "write", lambda self, until: (_ for _ in ()).throw(SystemExit))

    def is_lost() -> None:
        with pytest.raises(SystemExit):
            export_write(export_id=export.pk)
        Export.objects.filter(pk=export.pk).update(heartbeat_at=timezone.now() - 2 * export_writing.STALE_AFTER)

    for _ in range(3):
        is_lost()
    assert export_write(export_id=export.pk)
    export.refresh_from_db()
    assert (export.status, export.rows) == ("failed", 2)
    assert "lost 3 times" in export.error
    monkeypatch.undo()
    assert export_retry(export=export, actor="test")
    export.refresh_from_db()
    assert export.attempts == 0


def test_a_stored_part_is_progress(seven: list[Label]) -> None:
    export = export_request(format="jsonl", filters=ExportFilters(), actor="test", enqueue=False)
    old = timezone.now() - 2 * export_writing.STALE_AFTER
    Export.objects.filter(pk=export.pk).update(status="running", heartbeat_at=old, attempts=1)
    export_write(export_id=export.pk, for_s=LONG)
    export.refresh_from_db()
    assert (export.status, export.attempts) == ("ready", 0)


def test_files_are_deleted_after_a_month_and_the_row_says_so(seven: list[Label], storage: Path, lead: Client) -> None:
    old, new = exported(), exported("csv")
    Export.objects.filter(pk=old.pk).update(finished_at=timezone.now() - KEPT)
    resume_exports()
    old.refresh_from_db()
    assert (old.status, old.place, old.rows) == ("expired", "", 7)
    assert [folder.name for folder in storage.iterdir()] == [new.place]
    assert AuditEvent.objects.filter(action="labels.expire", target=f"export-{old.pk}").count() == 1
    words = lead.get("/learning/labels/exports/list").content.decode()
    assert "Expired" in words
    assert f"/{old.pk}/download" not in words
    assert exports_expire() == 0


def test_what_cannot_be_deleted_now_is_later(seven: list[Label], storage: Path, settings: Any) -> None:
    export = exported()
    Export.objects.update(finished_at=timezone.now() - KEPT)
    settings.EXPORTS = "s4://x"
    assert exports_expire() == 0
    settings.EXPORTS = str(storage)
    assert exports_expire() == 1
    assert not (storage / export.place).exists()


def test_csv_is_one_table_that_no_spreadsheet_runs(seven: list[Label], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_rows, "CHUNK_ROWS", 2)
    monkeypatch.setattr(export_writing, "PART_ROWS", 2)
    table = list(csv.DictReader(io.StringIO(content(exported("csv")).decode(), newline="")))
    assert [int(row["label_key"]) for row in table] == [each.pk for each in seven]
    assert table[5]["response"] == "'=2+2 is four."
    assert table[0]["categories"] == "misinformation"


def test_parquet_has_typed_columns(seven: list[Label]) -> None:
    table = pq.read_table(io.BytesIO(content(exported("parquet"))))
    assert table.column("label_key").to_pylist() == [each.pk for each in seven]
    assert table.column("categories").to_pylist()[0] == ["misinformation"]
    assert table.column("labelled_at").to_pylist()[0] == seven[0].created_at


def test_a_dataset_is_a_folder_with_a_card(seven: list[Label], storage: Path) -> None:
    export = exported("datasets")
    with zipfile.ZipFile(io.BytesIO(content(export))) as packed:
        names, readme = packed.namelist(), packed.read("README.md").decode()
    head = yaml.safe_load(readme.split("---")[1])
    splits = {each["name"]: each["num_examples"] for each in head["dataset_info"]["splits"]}
    assert sum(splits.values()) == 7
    assert {name.rpartition("/")[2].partition("-")[0] for name in names if name.startswith("data/")} == set(splits)
    assert [each["split"] for each in head["configs"][0]["data_files"]] == list(splits)
    assert all(name.endswith("-00000-of-00001.parquet") for name in names if name.startswith("data/"))
    assert (storage / export.place / "README.md").read_text() == readme
    assert "Drawn by the audit with a probability below 1: 1; the largest weight is 100" in readme
    assert "near-copies may lie in two splits" in readme


def test_the_card_counts_what_is_in_the_file(seven: list[Label]) -> None:
    card = exported().card
    assert card["labels"] == {"unsafe": 6, "safe": 1}
    assert card["bases"] == {"single": 6, "adjudicated": 1}
    assert card["sampling"] == {"drawn": 1, "largest": 100.0, "sum": 106.0}
    assert (card["rows"], card["schema_version"]) == (7, export_rows.SCHEMA_VERSION)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"category": "misinformation"}, 6),
        ({"category": "pii"}, 0),
        ({"bases": ["adjudicated"]}, 1),
        ({"agreement": "overturned"}, 1),
        ({"agreement": "undecided"}, 0),
        ({"layer": "rules"}, 7),
        ({"layer": "judge"}, 0),
        ({"app": "MainStreet chat"}, 7),
        ({"since": "2100-01-01"}, 0),
        ({"until": "2100-01-01"}, 7),
        ({"bases": ["imported"]}, 1),
        ({"bases": ["imported", "single"]}, 7),
        ({"bases": ["imported"], "layer": "rules"}, 0),
    ],
)
def test_filters_choose_and_the_live_count_agrees(filters: dict[str, Any], expected: int, seven: list[Label]) -> None:
    kept = LabelSet.objects.create(name="kept", file_sha256="a", mapping={})
    gone = LabelSet.objects.create(name="gone", file_sha256="b", mapping={}, withdrawn_at=timezone.now())
    for number, label_set in enumerate((kept, gone)):
        ImportedLabel.objects.create(label_set=label_set, digest=f"{number}", group="g", response="r", value="safe")
    assert ExportFilters.parse(filters).count() == expected
    assert exported(filters=filters).rows == expected


@pytest.mark.parametrize(
    "given", [{"since": "yesterday"}, {"category": "x"}, {"bases": ["x"]}, {"app": "nobody"}, {"layer": "x"}]
)
def test_what_no_filter_can_be_is_refused_by_name(given: dict[str, Any], db: None) -> None:
    with pytest.raises(InvalidFilter) as refused:
        ExportFilters.parse(given)
    assert refused.value.field in given


def test_nothing_to_export_is_an_empty_file(db: None) -> None:
    assert [content(exported(format)) for format in ("jsonl",)] == [b""]
    assert content(exported("csv")).decode().strip() == ",".join(export_rows.COLUMNS)
    assert pq.read_table(io.BytesIO(content(exported("parquet")))).num_rows == 0


@pytest.mark.parametrize(
    ("address", "words"), [("s4://x", "fsspec does not know"), ("s3://bucket/x", "package is missing"), ("/dev/null/x", "failed")]
)
def test_a_storage_that_cannot_be_used_is_named_and_the_export_can_go_on(
    address: str, words: str, seven: list[Label], settings: Any, storage: Path
) -> None:
    export = export_request(format="jsonl", filters=ExportFilters(), actor="test", enqueue=False)
    settings.EXPORTS = address
    assert export_write(export_id=export.pk, for_s=LONG)
    export.refresh_from_db()
    assert export.status == "failed"
    assert words in export.error
    settings.EXPORTS = str(storage)
    assert export_retry(export=export, actor="test")
    export_write(export_id=export.pk, for_s=LONG)
    export.refresh_from_db()
    assert (export.status, export.rows) == ("ready", 7)


def test_an_object_store_of_fsspec_holds_the_same_bytes(seven: list[Label], settings: Any) -> None:
    local = content(exported())
    settings.EXPORTS = "memory://exports"
    assert content(exported()) == local


def test_the_command_gives_the_bytes_of_the_page(seven: list[Label], tmp_path: Path) -> None:
    call_command("export_labels", output=tmp_path / "labels.jsonl")
    assert (tmp_path / "labels.jsonl").read_bytes() == content(exported())
    with pytest.raises(CommandError, match="Apps: MainStreet chat"):
        call_command("export_labels", app="nobody")


# --- The page -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def lead(people: dict[str, User]) -> Client:
    client = Client()
    client.force_login(people["lea"], backend=BACKEND)
    return client


def test_the_page_asks_for_an_export_and_shows_it_with_its_card(
    lead: Client, seven: list[Label], monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    sent: list[int] = []
    monkeypatch.setattr("guardreview.learning.tasks.export_labels.delay", sent.append)
    with django_capture_on_commit_callbacks(execute=True):
        answer = lead.post("/learning/labels/exports", {"format": "jsonl", "bases": ["single"]}, follow=True)
    assert b'hx-trigger="every 2s"' in answer.content
    assert export_write(export_id=sent[0], for_s=LONG)
    words = lead.get("/learning/labels/exports/list").content.decode()
    assert "hx-trigger" not in words
    assert "6 labels" in words
    assert f"/learning/labels/exports/{sent[0]}/download" in words
    assert "<strong>6</strong> labels" in lead.get("/learning/labels/exports/count?bases=single").content.decode()
    refused = lead.post("/learning/labels/exports", {"format": "jsonl", "since": "soon"})
    assert refused.status_code == 422
    assert Export.objects.count() == 1


def test_a_download_goes_on_where_it_broke_off(lead: Client, seven: list[Label], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_rows, "CHUNK_ROWS", 1)
    monkeypatch.setattr(export_writing, "PART_ROWS", 2)
    export = exported()
    address, whole = f"/learning/labels/exports/{export.pk}/download", content(export)
    first = lead.get(address)
    assert (first.status_code, first["ETag"], first["Content-Length"]) == (200, f'"{export.sha256}"', str(len(whole)))
    for start in (1, 700, len(whole) - 1):
        rest = lead.get(address, headers={"Range": f"bytes={start}-", "If-Range": first["ETag"]})
        assert (rest.status_code, b"".join(rest.streaming_content)) == (206, whole[start:])
        assert rest["Content-Range"] == f"bytes {start}-{len(whole) - 1}/{len(whole)}"
    assert b"".join(lead.get(address, headers={"Range": "bytes=10-19"}).streaming_content) == whole[10:20]
    assert b"".join(lead.get(address, headers={"Range": "bytes=-5"}).streaming_content) == whole[-5:]
    assert lead.get(address, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416
    another = lead.get(address, headers={"Range": "bytes=5-", "If-Range": '"other"'})
    assert (another.status_code, b"".join(another.streaming_content)) == (200, whole)
    assert lead.get(address, headers={"If-None-Match": first["ETag"]}).status_code == 304
    assert AuditEvent.objects.filter(action="labels.download").count() == 7


def test_personal_data_is_downloaded_by_those_alone_who_may_have_it(
    seven: list[Label], people: dict[str, User], lead: Client
) -> None:
    export = exported(user=people["lea"], redacted=False, why="a study")
    administrator = Client()
    administrator.force_login(people["adam"], backend=BACKEND)
    address = f"/learning/labels/exports/{export.pk}/download"
    assert (administrator.get(address).status_code, lead.get(address).status_code) == (403, 200)
    assert address not in administrator.get("/learning/labels/exports").content.decode()
