"""`manage.py compare`: measured figures, and no figure for what was not measured."""

import json
from pathlib import Path

import pytest
from django.core.management import call_command


def test_the_two_tables_hold_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("compare", limit=60, output=tmp_path / "compare.json")
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    assert report["exchanges"] == 60
    assert set(report["layers"]) == {"rules", "finetuned"}
    assert "judge" not in report
    assert "not measured: no key" in said
    recalls = [report["thresholds"][threshold]["recall"]["rate"] for threshold in ("0.9", "0.5", "0.3")]
    assert recalls == sorted(recalls)
    assert recalls[0] < recalls[-1]
    for row in (*report["layers"].values(), report["combined"]):
        assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert report["combined"]["without_judge"]["n"] == 60
    assert report["layers"]["rules"]["p50_ms"] < report["layers"]["finetuned"]["p50_ms"]
