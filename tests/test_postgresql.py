"""What SQLite proves holds on PostgreSQL too: the same tests again, on a cluster made for them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgresql_cluster import Missing, postgresql_cluster

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tests/core", "tests/verdicts", "tests/review", "tests/learning", "tests/api")


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    try:
        with postgresql_cluster(fsync="off", max_connections="200") as address:
            yield address
    except Missing as error:
        pytest.skip(str(error))


def test_the_service_on_postgresql(database_url: str) -> None:
    folders = [folder for folder in FOLDERS if list((ROOT / folder).glob("test_*.py"))]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *folders]
    environment = {**os.environ, "DATABASE_URL": database_url}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)
    summary = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", summary)
    assert passed, summary
    assert int(passed[1]) > 50, summary
