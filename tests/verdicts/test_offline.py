"""`manage.py classify` and `evaluate`: each line answered or named, with neither database, Redis nor server."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as project_settings
from django.core.management import CommandError, call_command

from classifiers import combined
from classifiers.combined import CombinedSafetyClassifier
from classifiers.encoder.bundle import build_bundle
from classifiers.evaluation import Truth
from classifiers.result import ClassifierResult, Verdict
from guardreview.verdicts import offline, services
from guardreview.verdicts.management.commands.classify import as_line
from guardreview.verdicts.management.commands.evaluate import labelled, truth_of
from guardreview.verdicts.offline import CHUNK, CONCURRENCY, BadLine, Row, classify_rows, read_rows
from tests.judge_server import JudgeServer, Reply, judgment

REPOSITORY = Path(__file__).resolve().parents[2]
DOSE = "\U0001f48a Forgot one? Just double your dose tonight."
HARMLESS = "We are open from nine to five."
UNCERTAIN = "It is generally safe to take both together."
"""What a rule escalates, whatever the model says of it."""
RESULT_KEYS = {"layer", "is_safe", "category", "scores", "confidence", "latency_ms", "evidence"}
LINE_KEYS = ["id", "decision", "is_safe", "category", "categories", "severity", "reason", "confidence", "layer", "results"]


@pytest.fixture(autouse=True)
def _no_judge(settings: Any) -> None:
    settings.JUDGE = {**settings.JUDGE, "api_key": "", "base_url": settings.OPENAI_BASE_URL}


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine without database and Redis, the model built."""
    folder = tmp_path_factory.mktemp("var")
    build_bundle(project_settings.MODELS_DIR)
    (folder / "models").symlink_to(project_settings.MODELS_DIR)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUDGE_", "CHAT_", "GUARDREVIEW_"))}
    return {
        **kept,
        "GUARDREVIEW_VAR_DIR": str(folder),
        "DATABASE_URL": "postgres://nobody:nothing@127.0.0.1:1/nowhere",
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }


def manage(environment: dict[str, str], *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, input=stdin, capture_output=True, timeout=100, check=False)


def jsonl(*rows: Any) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def answers(output: bytes | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


# The commands as a user starts them


def test_200_lines_are_each_answered_or_named_without_a_database(nowhere: dict[str, str], tmp_path: Path) -> None:
    rows: list[Any] = [{"id": f"row-{n}", "query": "And now?", "response": DOSE if n % 2 else HARMLESS} for n in range(200)]
    bad = {5: b"{", 64: b"\xff", 65: b"[]", 130: b'{"response": ""}', 199: b'{"query": "?"}'}
    for index, line in bad.items():
        rows[index] = line
    path = tmp_path / "exchanges.jsonl"
    path.write_bytes(jsonl(*rows))
    done = manage(nowhere, "classify", str(path))
    told = done.stderr.decode()
    assert done.returncode == 1, told
    lines = answers(done.stdout)
    assert [line["id"] for line in lines] == [f"row-{n}" for n in range(200) if n not in bad]
    assert [line for line in told.splitlines() if line.startswith("line ")] == [
        "line 6: not JSON: Expecting property name enclosed in double quotes at column 2",
        "line 65: not UTF-8",
        "line 66: not a JSON object",
        "line 131: `response` must be a non-empty text",
        "line 200: `response` must be a non-empty text",
    ]
    assert "5 bad lines" in told
    assert "195 classified in" in told
    for line in lines:
        number = int(line["id"].removeprefix("row-"))
        assert line["decision"] == ("block" if number % 2 else "allow")
        assert line["is_safe"] is (number % 2 == 0)
        for evidence in (evidence for result in line["results"] for evidence in result["evidence"]):
            assert DOSE[evidence["start"] : evidence["end"]] == evidence["text"] == "double your dose"
    assert "Traceback" not in told
    assert DOSE not in told  # patients' words stay out of what may be logged


def test_standard_input_is_read_and_a_judge_is_asked_if_there_is_one(nowhere: dict[str, str]) -> None:
    with JudgeServer() as server:
        server.script(*[Reply(judgment(True, confidence=0.95, reason="harmless"))] * 2)
        environment = {**nowhere, "JUDGE_BASE_URL": server.base_url}
        done = manage(environment, "classify", "-", stdin=jsonl({"response": UNCERTAIN}, {"id": 7, "response": DOSE}))
        asked = len(server.requests)
    assert done.returncode == 0, done.stderr.decode()
    first, second = answers(done.stdout)
    assert (first["id"], first["decision"], first["layer"]) == (1, "allow", "judge")
    assert (second["id"], second["decision"], second["layer"]) == (7, "block", "rules")
    assert asked == 1


def test_what_cannot_be_had_is_one_clear_line(nowhere: dict[str, str], tmp_path: Path) -> None:
    empty = {**nowhere, "DATABASE_URL": f"sqlite:///{tmp_path}/none.sqlite3"}
    for done in (manage(nowhere, "classify", str(tmp_path / "none.jsonl")), manage(empty, "classify", "--active", "-")):
        assert (done.returncode, done.stdout) == (1, b"")
        (line,) = done.stderr.decode().splitlines()
        assert line.startswith("CommandError: ")


# In this process: pytest refuses any use of the database


def classify(path: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    call_command("classify", str(path), stderr=io.StringIO())
    return answers(capsys.readouterr().out)


def test_a_line_has_what_was_promised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "exchanges.jsonl"
    path.write_bytes(jsonl({"id": "a", "query": "I forgot one.", "response": DOSE}, {"id": "b", "response": UNCERTAIN}))
    blocked, held = classify(path, capsys)
    assert list(blocked) == list(held) == LINE_KEYS
    assert (blocked["decision"], blocked["category"]) == ("block", "harmful_medical:dangerous_dosage")
    assert (blocked["severity"], blocked["layer"]) == ("critical", "rules")
    assert [result["layer"] for result in held["results"]] == ["rules", "finetuned", "judge"]
    assert (held["decision"], held["reason"]) == ("hold", "the judge could not decide: no judge is configured")
    for result in (*blocked["results"], *held["results"]):
        assert set(result) >= RESULT_KEYS
    (evidence,) = blocked["results"][0]["evidence"]
    assert set(evidence) >= {"start", "end", "text", "rule"}


def test_odd_text_comes_through_as_pure_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = [
        "\ud800",
        "\x00",
        "\u200b\u200b",
        "\n" * 5000 + ".",
        "\U0001f600" * 1000,
        "\u2028" + DOSE,
        "\ud83d double your dose",
        "a" * 100_000,
    ]
    path = tmp_path / "exchanges.jsonl"
    path.write_bytes(jsonl(*({"id": text[:3], "query": text[:50], "response": text} for text in odd)))
    lines = classify(path, capsys)
    assert [line["id"] for line in lines] == [text[:3] for text in odd]
    for text, line in zip(odd, lines, strict=True):
        assert line["decision"] != "allow"
        for evidence in (evidence for result in line["results"] for evidence in result["evidence"]):
            assert text[evidence["start"] : evidence["end"]] == evidence["text"]
    assert [line["decision"] for line in lines].count("block") == 2


def test_an_empty_file_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "exchanges.jsonl"
    path.write_bytes(b"\n  \n")
    assert classify(path, capsys) == []


def test_evaluation_counts_what_can_be_read_and_names_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "labelled.jsonl"
    path.write_bytes(
        jsonl(
            {"id": "x1", "response": DOSE, "label": "unsafe", "categories": ["harmful_medical:dangerous_dosage"]},
            {"id": "x2", "response": DOSE, "label": "safe"},
            {"id": "x3", "response": UNCERTAIN, "label": "unsafe", "severity": "minor"},
            {"id": "x4", "response": HARMLESS, "label": "fine"},
            b"{",
            {"id": "x6", "response": HARMLESS},
        )
    )
    errors = io.StringIO()
    out = io.StringIO()
    with pytest.raises(CommandError, match="3 bad lines") as raised:
        call_command("evaluate", str(path), "--json", stdout=out, stderr=errors)
    assert raised.value.returncode == 1
    report = json.loads(out.getvalue())[str(path)]
    assert report["decisions"] == {"safe": {"allow": 0, "block": 1, "hold": 0}, "unsafe": {"allow": 0, "block": 1, "hold": 1}}
    assert (report["overall"]["precision"]["k"], report["overall"]["precision"]["n"]) == (1, 2)
    assert report["severities"]["critical"]["recall"]["k"] == 1
    told = errors.getvalue()
    assert f"{path}, line 4: `label` must be safe, unsafe or a category" in told
    assert f"{path}, line 5: not JSON" in told
    assert f"{path}, line 6: `label`" in told


# Lines


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "not JSON"),
        (b'"text"', "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b'{"response": null}', "`response`"),
        (b'{"response": ""}', "`response`"),
        (b'{"response": " \\n"}', "`response`"),
        (b'{"response": ["Take one."]}', "`response`"),
        (b'{"response": "One.", "query": 5}', "`query`"),
        (b'{"response": "One.", "query": ["?"]}', "`query`"),
        (b'{"response": "One.", "id": {"a": 1}}', "`id`"),
        (b'{"response": "One.", "id": true}', "`id`"),
        (b'{"response": "One.", "id": NaN}', "not JSON: NaN"),
        (b'{"response": "One.", "id": 1e999}', "`id`"),
        (b'{"response": "One.", "n": ' + b"9" * 5000 + b"}", "digits"),
        (b"[" * 100_000, "nested too deeply"),
        (json.dumps({"response": "a" * 100_001}).encode(), "longer than 100,000"),
        (json.dumps({"response": "a", "query": "a" * 100_001}).encode(), "longer than 100,000"),
    ],
    ids=range(19),
)
def test_a_bad_line_is_named_and_the_next_one_read(line: bytes, problem: str) -> None:
    good = jsonl({"id": "good", "response": "One."}).strip()
    first, bad, last = read_rows([good, line, good])
    assert isinstance(bad, BadLine)
    assert bad.number == 2
    assert problem in bad.problem
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert (first.number, last.number) == (1, 3)


def test_a_row_takes_what_it_is_given_and_its_number_for_an_id() -> None:
    lines = [
        b'\xef\xbb\xbf{"response": "One."}\r\n',
        b"\n",
        b'{"id": null, "query": null, "response": " One. ", "label": "safe"}',
    ]
    first, second = read_rows(lines)
    assert first == Row(1, 1, "", "One.", {"response": "One."})
    assert isinstance(second, Row)
    assert (second.number, second.id, second.query, second.response, second.fields["label"]) == (3, 3, "", " One. ", "safe")


@pytest.mark.parametrize(
    ("fields", "truth"),
    [
        ({"label": "safe"}, Truth(unsafe=False)),
        ({"label": "safe", "category": "none", "severity": None}, Truth(unsafe=False)),
        ({"label": "unsafe"}, Truth(unsafe=True)),
        ({"label": "unsafe", "category": "pii"}, Truth(True, ("pii",), "major")),
        (
            {"label": "unsafe", "categories": ["legal_advice", "discouraging_care"]},
            Truth(True, ("legal_advice", "discouraging_care"), "critical"),
        ),
        ({"label": "unsafe", "categories": ["pii:ssn"], "severity": "minor"}, Truth(True, ("pii:ssn",), "minor")),
        ({"label": "pii"}, Truth(True, ("pii",), "major")),
        ({"label": "harmful_medical:abrupt_stop"}, Truth(True, ("harmful_medical:abrupt_stop",), "critical")),
    ],
)
def test_a_label_is_read(fields: dict[str, Any], truth: Truth) -> None:
    assert truth_of(Row(1, 1, "", "One.", fields)) == truth


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"label": None},
        {"label": ""},
        {"label": "SAFE"},
        {"label": "ok"},
        {"label": True},
        {"label": ["unsafe"]},
        {"label": "unsafe", "severity": "severe"},
        {"label": "unsafe", "categories": "pii"},
        {"label": "unsafe", "categories": [5]},
        {"label": "unsafe", "category": ["pii"]},
    ],
)
def test_a_label_that_is_not_clear_is_not_guessed(fields: dict[str, Any]) -> None:
    row = Row(3, "x", "", "One.", fields)
    (bad,) = labelled([row])
    assert isinstance(bad, BadLine)
    assert bad.number == 3


# Chunks


class Echo(CombinedSafetyClassifier):
    """Says the response as its reason; the later one is asked, the sooner it answers."""

    def __init__(self) -> None:
        self.running = self.most = 0

    async def classify(self, response_text: str, query: str = "") -> Verdict:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001 * (10 - len(response_text) % 10))
        self.running -= 1
        return Verdict(False, "undecided", response_text, 0.0)


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 200])
def test_rows_keep_their_order_over_chunks_and_none_is_lost(count: int) -> None:
    rows: list[Row | BadLine] = [
        BadLine(n, "bad") if n % 7 == 3 else Row(n, n, "", f"{n} {'x' * (n % 13)}", {}) for n in range(count)
    ]
    classifier = Echo()

    async def go() -> list[Any]:
        return [answer async for answer in classify_rows(classifier, rows)]

    given = asyncio.run(go())
    assert [answer if isinstance(answer, BadLine) else answer[0] for answer in given] == rows
    assert all(answer[1].reason == answer[0].response for answer in given if not isinstance(answer, BadLine))
    assert classifier.most <= CONCURRENCY


def test_no_more_than_a_chunk_is_read_ahead() -> None:
    read = 0

    def endless() -> Iterator[Row]:
        nonlocal read
        while True:
            read += 1
            yield Row(read, read, "", "One.", {})

    async def go() -> None:
        count = 0
        async for _ in classify_rows(Echo(), endless()):
            count += 1
            assert read <= count + CHUNK
            if count == 3 * CHUNK:
                return

    asyncio.run(go())


# One decision


def test_the_service_decides_by_the_same_function_as_this() -> None:
    assert services.decide is combined.decide
    assert services.runtime.run_layer is combined.run_layer


def test_a_line_is_the_verdict_itself() -> None:
    result = ClassifierResult(False, "pii:ssn", "matched", 0.99, layer="rules")
    verdict = Verdict(False, "pii:ssn", "matched", 0.99, layer="rules", categories=("pii:ssn",), results=(result,))
    line = as_line(Row(1, "a", "", "x", {}), verdict)
    assert list(line) == LINE_KEYS
    assert (line["decision"], line["results"][0]["category"]) == ("hold", "pii:ssn")


def test_without_the_active_policy_the_command_says_what_to_do(db: None) -> None:
    with pytest.raises(CommandError, match=r"no active policy: run `manage\.py setup`"):
        offline.cascade(active=True, progress=lambda line: None)
