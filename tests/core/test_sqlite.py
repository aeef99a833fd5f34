"""The connection that a server process keeps to the embedded database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from django.db import connection

from guardreview.core.sqlite import hold_open


@pytest.mark.skipif(connection.vendor != "sqlite", reason="of SQLite alone")
def test_the_log_outlives_the_connections_of_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "NAME", str(tmp_path / "held.sqlite3"))
    held = hold_open()
    assert held is not None
    request = sqlite3.connect(tmp_path / "held.sqlite3")
    request.execute("CREATE TABLE t (x)")
    request.close()
    assert (tmp_path / "held.sqlite3-wal").stat().st_size > 0, "else each request would end by writing it back"
    held.close()
    assert not (tmp_path / "held.sqlite3-wal").exists()
