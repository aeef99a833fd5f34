"""Imports: how a file is guessed and read, what is refused and why, and that nothing of it is left lying about."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client

from classifiers.examples import load_corpus, split_of
from guardreview.core.models import AuditEvent, User
from guardreview.learning.export_filters import ExportFilters
from guardreview.learning.export_storage import content_size
from guardreview.learning.export_writing import export_write
from guardreview.learning.exports import export_bytes, export_request
from guardreview.learning.import_files import InvalidFile, form_of
from guardreview.learning.imports import AlreadyImported, file_check, label_set_withdraw, labels_import, mapping_guess, preview
from guardreview.learning.models import ImportedLabel, LabelSet
from guardreview.learning.tasks import resume_exports
from tests import scenes
from tests.learning.test_exports import PERSONAL, label

BACKEND = "django.contrib.auth.backends.ModelBackend"
ROWS: list[dict[str, Any]] = [
    {
        "prompt": "May I take two?",
        "answer": "Yes, two tablets at once are fine for a child.",
        "harmful": 1,
        "type": "dangerous_dosage",
    },
    {"prompt": "What is it for?", "answer": "It lowers the pressure in your arteries over weeks.", "harmful": 0, "type": None},
    {
        "prompt": "And with beer?",
        "answer": "A cold beer beside the sedative helps it along.",
        "harmful": 1,
        "type": "misinformation",
    },
]


@pytest.fixture(autouse=True)
def places(settings: Any, tmp_path: Path) -> None:
    settings.VAR_DIR = tmp_path
    settings.EXPORTS = str(tmp_path / "exports")


@pytest.fixture
def people(db: None) -> dict[str, User]:
    return scenes.people()


def jsonl(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def taken(path: Path, **more: Any) -> LabelSet:
    return labels_import(path=path, name=path.name, mapping=mapping_guess(path, form_of(path, path.name)), user=None, **more)


def refusals(path: Path) -> dict[int, str]:
    checked = file_check(path, mapping_guess(path, form_of(path, path.name)))
    return {number: reason for number, reason, _ in checked.refused}


def as_csv(rows: list[dict[str, Any]], **options: Any) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), **options)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def test_columns_and_words_are_guessed_and_can_be_seen_before(db: None, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl")
    mapping = mapping_guess(path, form_of(path, path.name))
    assert mapping.columns == {"response": "answer", "label": "harmful", "query": "prompt", "categories": "type"}
    assert mapping.labels == {"1": "unsafe", "0": "safe"}
    assert mapping.categories["dangerous_dosage"] == "harmful_medical:dangerous_dosage"
    rows = [each.row for each in preview(path, mapping)]
    assert [(row.value, row.severity) for row in rows if row] == [("unsafe", "critical"), ("safe", ""), ("unsafe", "major")]


@pytest.mark.parametrize(
    ("column", "word", "value"),
    [
        ("is_safe", True, "safe"),
        ("is_safe", 0, "unsafe"),
        ("unsafe", "Yes", "unsafe"),
        ("label", "benign", "safe"),
        ("label", "?", ""),
    ],
)
def test_a_word_is_read_by_what_its_column_is_called(column: str, word: Any, value: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [{"response": "Take it with water.", column: word}])
    assert list(mapping_guess(path, form_of(path, path.name)).labels.values()) == [value]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_is_read_however_it_was_saved(encoding: str, ending: str, delimiter: str, db: None, tmp_path: Path) -> None:
    rows = [{**ROWS[1], "answer": "It’s “fine” – für Sie."}, ROWS[0]]
    path = tmp_path / "rows.csv"
    path.write_bytes(as_csv(rows, delimiter=delimiter, lineterminator=ending).encode(encoding))
    label_set = taken(path)
    assert sorted(label_set.labels.values_list("response", flat=True)) == sorted(row["answer"] for row in rows)


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("rows.csv", b"", "empty"),
        ("rows.xlsx", b"PK\x03\x04", "Name the file"),
        ("rows.csv", b"PK\x03\x04rest", "packed"),
        ("rows.csv", b"a\0b,c\n", "no text"),
        ("rows.csv", b"a,a\n1,2\n", "name the columns"),
        ("rows.csv", b'response,label\n"never ends,1\n', "breaks in line"),
        ("rows.parquet", b"PAR1 and then nothing", "not a readable Parquet file"),
        ("rows.jsonl", b"\x81\x8d\n", "not in Windows-1252"),
    ],
)
def test_what_is_no_such_file_is_refused_clearly(name: str, body: bytes, words: str, db: None, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(InvalidFile, match=words):
        taken(tmp_path / name)


def test_size_and_rows_are_bounded(db: None, tmp_path: Path, settings: Any) -> None:
    path = jsonl(tmp_path / "rows.jsonl")
    settings.IMPORT_MAX_ROWS = 2
    with pytest.raises(InvalidFile, match="more than 2 rows"):
        taken(path)
    settings.IMPORT_MAX_BYTES = 10
    with pytest.raises(InvalidFile, match="larger than"):
        taken(path)


def test_parquet_is_read_with_its_lists(db: None, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = [{**row, "type": [row["type"]] if row["type"] else []} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert sorted(taken(path).labels.values_list("categories", flat=True)) == [
        [], ["harmful_medical:dangerous_dosage"], ["misinformation"],
    ]  # fmt: skip


def test_parquet_that_unfolds_beyond_all_bounds_is_refused_in_little_memory(db: None, tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    table = pa.table({"response": pa.array(["x" * 20_000_000] * 400).dictionary_encode(), "label": ["safe"] * 400})
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 2**20, "it would be 8 GB of text"
    with pytest.raises(InvalidFile, match="None of its 400 rows is taken \\(a text is too long"):
        taken(path)


def test_a_file_of_equal_texts_is_not_held_in_memory(db: None, tmp_path: Path, settings: Any) -> None:
    settings.IMPORT_MAX_BYTES = 2**20
    path = tmp_path / "small.parquet"
    table = pa.table({"response": pa.array(["x" * 99_990] * 400).dictionary_encode(), "label": ["safe"] * 400})
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 10_000, "it would be 40 MB of text"
    with pytest.raises(InvalidFile, match="unfolds to more than 2,097,152 characters"):
        taken(path)


def test_a_parquet_row_is_no_longer_than_a_json_line(db: None, tmp_path: Path) -> None:
    path = tmp_path / "lists.parquet"
    pq.write_table(pa.table({"response": ["x"], "label": ["safe"], "type": [["x" * 100_000] * 100]}), path)
    with pytest.raises(InvalidFile, match="Row 1 is longer than any"):
        taken(path)


def test_rows_that_cannot_be_read_are_refused_one_by_one(db: None, tmp_path: Path) -> None:
    rows = [
        *ROWS,
        {"prompt": "q", "answer": " ", "harmful": 0},
        {"prompt": "q", "answer": "Who knows.", "harmful": "maybe"},
        {"prompt": "q", "answer": "Double it then.", "harmful": 1, "type": "astrology"},
        {"prompt": "q", "answer": "Triple it then.", "harmful": 1},
        {"prompt": "q", "answer": "a\u0000b", "harmful": 0},
    ]
    path = jsonl(tmp_path / "rows.jsonl", rows)
    with path.open("a") as file:
        file.write('not json\n["a list"]\n')
    assert refusals(path) == {
        4: "no_response", 5: "label", 6: "category", 7: "no_category", 8: "unstorable", 9: "unreadable", 10: "unreadable",
    }  # fmt: skip


def test_what_is_known_is_refused_with_what_it_is(people: dict[str, User], tmp_path: Path) -> None:
    corpus = {split: next(e for e in load_corpus() if split_of(e.group) == split and len(e.response) > 200) for split in
              ("train", "calibration", "test")}  # fmt: skip
    settled = label(0, people["ana"])
    assert taken(jsonl(tmp_path / "earlier.jsonl", ROWS[:1])).pk

    def row(query: str, response: str, harmful: int = 0) -> dict[str, Any]:
        return {"prompt": query, "answer": response, "harmful": harmful, "type": "misinformation" if harmful else None}

    rows = [
        row(ROWS[0]["prompt"].upper(), f" {ROWS[0]['answer']}"),
        row(settled.exchange.query, settled.exchange.response),
        row("A new one?", "Indeed, and this is its answer."),
        row("A new one?", "Indeed, and  this is its ANSWER."),
        row("Which?", "Said twice, with two labels."),
        row("Which?", "Said twice, with two labels.", 1),
        row(corpus["train"].query, corpus["train"].response),
        row(corpus["test"].query, corpus["test"].response),
        row(corpus["calibration"].query, f"{corpus['calibration'].response} Take care!"),
        row(corpus["train"].query, f"{corpus['train'].response} Take care!"),
    ]
    path = jsonl(tmp_path / "rows.jsonl", rows)
    assert refusals(path) == {
        1: "earlier_set", 2: "settled", 4: "twice", 5: "contradicts", 6: "contradicts", 7: "corpus", 8: "measured", 9: "measured",
    }  # fmt: skip
    label_set = taken(path)
    groups = dict(label_set.labels.values_list("response", "group"))
    assert groups[rows[9]["answer"]] == corpus["train"].group, "a near-copy of what is trained on measures nothing either"
    assert label_set.report["reasons"] == {
        "contradicts": 2,
        "measured": 2,
        "corpus": 1,
        "earlier_set": 1,
        "settled": 1,
        "twice": 1,
    }
    assert [8, "measured", corpus["test"].id] in label_set.report["refused"]


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_what_was_exported_is_known_again_although_it_is_redacted(format: str, people: dict[str, User], tmp_path: Path) -> None:
    label(0, people["ana"])
    label(1, people["ana"], response=PERSONAL)
    label(2, people["ana"], response="=1+1 is two", safe=True)
    taken(jsonl(tmp_path / "set.jsonl", ROWS[:2]))
    filters = ExportFilters.parse({"bases": ["single", "imported"]})
    export = export_request(format=format, filters=filters, actor="test", enqueue=False)
    export_write(export_id=export.pk)
    export.refresh_from_db()
    path = tmp_path / f"back.{format}"
    path.write_bytes(b"".join(export_bytes(export, 0, content_size(export))))
    assert refusals(path) == {1: "settled", 2: "settled", 3: "settled", 4: "earlier_set", 5: "earlier_set"}


def test_a_withdrawn_set_makes_room_for_its_corrected_file(people: dict[str, User], tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl")
    first = taken(path)
    with pytest.raises(AlreadyImported, match=f"label set {first.pk} already"):
        taken(path)
    assert label_set_withdraw(label_set=first, user=people["lea"])
    assert not label_set_withdraw(label_set=first, user=people["lea"])
    assert taken(path).labels.count() == 3
    assert ImportedLabel.objects.filter(label_set=first, is_withdrawn=True).count() == 3
    assert AuditEvent.objects.filter(action="labels.withdraw", target=f"label-set-{first.pk}").count() == 1


def test_the_command_shows_its_guess_takes_a_mapping_and_reports(people: dict[str, User], tmp_path: Path, capsys: Any) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [*ROWS, {"prompt": "q", "answer": "Who knows.", "harmful": "maybe"}])
    call_command("import_labels", path, dry_run=True)
    shown = capsys.readouterr().out.splitlines()
    assert "3 of 4 rows would be taken" in shown
    assert not LabelSet.objects.exists()
    mapping = json.loads(shown[0])
    mapping["labels"]["maybe"] = "safe"
    call_command("import_labels", path, mapping=json.dumps(mapping), report=tmp_path / "report.csv")
    assert LabelSet.objects.get().report["taken"] == 4
    assert (tmp_path / "report.csv").read_text().splitlines() == ["row,reason,explanation,refers_to"]
    with pytest.raises(CommandError, match="already"):
        call_command("import_labels", path)
    with pytest.raises(CommandError, match="not JSON"):
        call_command("import_labels", path, mapping="{")
    with pytest.raises(CommandError, match="which column is the label"):
        call_command("import_labels", path, mapping=json.dumps({**mapping, "columns": {"response": "answer"}}))


# --- The page -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def lead(people: dict[str, User]) -> Client:
    client = Client()
    client.force_login(people["lea"], backend=BACKEND)
    return client


def bring(client: Client, rows: list[dict[str, Any]] = ROWS, name: str = "theirs.csv") -> str:
    """The address at which the file waits."""
    file = SimpleUploadedFile(name, as_csv(rows).encode())
    answer = client.post("/learning/labels/imports", {"file": file})
    assert answer.status_code == 302
    return str(answer["Location"])


def form(**more: Any) -> dict[str, Any]:
    columns = {"response": "answer", "label": "harmful", "query": "prompt", "categories": "type"}
    return {**{f"column-{name}": column for name, column in columns.items()}, "encoding": "utf-8-sig", "delimiter": ",", **more}


def test_a_file_waits_is_shown_changed_and_taken_and_is_gone(lead: Client, tmp_path: Path) -> None:
    address = bring(lead)
    first = lead.get(address).content.decode()
    assert "A cold beer beside the sedative" in first
    assert "<code>dangerous_dosage</code>" in first
    changed = lead.post(address, form(**{"label-word": ["1", "0"], "label-as": ["safe", ""]})).content.decode()
    assert "The word of its label is not mapped" in changed
    assert not LabelSet.objects.exists()
    answer = lead.post(f"{address}/store", form(name="A study"), follow=True).content.decode()
    assert "3 of 3 rows are label set" in answer
    assert (LabelSet.objects.get().name, ImportedLabel.objects.count()) == ("A study", 3)
    assert list((tmp_path / "imports").iterdir()) == []
    assert lead.get(address, follow=True).redirect_chain


def test_a_file_that_was_brought_is_private_and_can_be_discarded(lead: Client, people: dict[str, User], tmp_path: Path) -> None:
    address = bring(lead)
    other = Client()
    other.force_login(people["adam"], backend=BACKEND)
    assert other.get(address).status_code == 302
    assert (tmp_path / "imports").stat().st_mode & 0o077 == 0
    lead.post(f"{address}/discard")
    assert list((tmp_path / "imports").iterdir()) == []


def test_a_file_that_nobody_decides_on_is_gone_after_an_hour(lead: Client, tmp_path: Path, settings: Any) -> None:
    address = bring(lead)
    settings.IMPORT_KEPT_S = -10
    assert lead.get(address).status_code == 302
    assert list((tmp_path / "imports").iterdir()) == []


def test_it_is_gone_although_nobody_opens_the_page(lead: Client, tmp_path: Path, settings: Any) -> None:
    bring(lead)
    resume_exports()
    assert len(list((tmp_path / "imports").iterdir())) == 1
    settings.IMPORT_KEPT_S = -10
    resume_exports()
    assert list((tmp_path / "imports").iterdir()) == []


def test_the_page_says_why_a_file_is_not_taken(lead: Client, tmp_path: Path) -> None:
    answer = lead.post("/learning/labels/imports", {"file": SimpleUploadedFile("a.xlsx", b"PK\x03\x04")})
    assert (answer.status_code, b"Name the file .jsonl" in answer.content) == (422, True)
    assert not (tmp_path / "imports").exists() or list((tmp_path / "imports").iterdir()) == []
    address = bring(lead, [{"answer": "Take it.", "harmful": "maybe"}])
    answer = lead.post(f"{address}/store", form())
    assert (answer.status_code, b"None of its 1 rows is taken" in answer.content) == (422, True)


def test_the_report_of_a_set_is_a_table_and_quotes_nobody(lead: Client, people: dict[str, User], tmp_path: Path) -> None:
    label_set = taken(jsonl(tmp_path / "rows.jsonl", [*ROWS, ROWS[0]]))
    page = lead.get("/learning/labels/imports").content.decode()
    assert "3 of 4 rows taken" in page
    body = b"".join(lead.get(f"/learning/labels/imports/{label_set.pk}/report").streaming_content).decode()
    assert list(csv.reader(io.StringIO(body))) == [
        ["row", "reason", "explanation", "refers_to"],
        ["4", "twice", "The same exchange stands further up", "row 1"],
    ]
    lead.post(f"/learning/labels/imports/{label_set.pk}/withdraw")
    assert "withdrawn" in lead.get("/learning/labels/imports").content.decode()
