"""What the embedded database needs to be fast."""

from __future__ import annotations

import sqlite3

from django.db import connection


def hold_open() -> sqlite3.Connection | None:
    """A connection for a server process to keep for as long as it lives; None on other databases.

    Whoever closes the last connection to a SQLite database in WAL mode writes the whole log back to the disk and deletes
    it: some 10 ms, at the end of every request and task if nothing else is open. Not for a process that forks.
    """
    if connection.vendor != "sqlite":
        return None
    held = sqlite3.connect(connection.settings_dict["NAME"], check_same_thread=False)
    held.execute("PRAGMA journal_mode=WAL")
    held.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the log is opened by the first read
    return held
