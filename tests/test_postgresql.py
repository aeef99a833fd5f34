"""What SQLite proves holds on PostgreSQL too: the same tests again, on a cluster made for them."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tests/core", "tests/verdicts", "tests/review", "tests/learning", "tests/api")
UNPRIVILEGED = "nobody"


def binary(name: str) -> str | None:
    """A program of the server, which Debian keeps off PATH."""
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(packaged[-1]) if packaged else None)


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    initdb, server = binary("initdb"), binary("pg_ctl")
    if initdb is None or server is None:
        pytest.skip("PostgreSQL's server programs are not installed: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="guardreview-pg-") as name:
        folder = Path(name)
        # PostgreSQL refuses to run as root.
        user = UNPRIVILEGED if os.getuid() == 0 else None
        if user:
            shutil.chown(folder, user)
        data = folder / "data"

        def run(*command: str) -> None:
            done = subprocess.run(command, user=user, cwd=folder, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr

        run(initdb, "--pgdata", str(data), "--auth=trust", "--username=test", "--encoding=UTF8", "--locale=C", "--no-sync")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=200"
        run(server, "-D", str(data), "-o", options, "-w", "-l", str(folder / "log"), "start")
        try:
            yield f"postgres://test@127.0.0.1:{port}/postgres"
        finally:
            run(server, "-D", str(data), "-m", "immediate", "stop")


def test_the_service_on_postgresql(database_url: str) -> None:
    folders = [folder for folder in FOLDERS if list((ROOT / folder).glob("test_*.py"))]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *folders]
    environment = {**os.environ, "DATABASE_URL": database_url}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    summary = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", summary)
    assert passed, summary
    assert int(passed[1]) > 50, summary
