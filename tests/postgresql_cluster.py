"""A PostgreSQL cluster of one's own in a scratch folder, where the server's programs are installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNPRIVILEGED = "nobody"


class Missing(Exception):
    """The server's programs are not installed."""


def binary(name: str) -> str:
    """A program of the server, which Debian keeps off PATH. Raises Missing."""
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(packaged[-1]) if packaged else None)
    if found is None:
        raise Missing("PostgreSQL's server programs are not installed: apt-get install postgresql")
    return found


@contextmanager
def postgresql_cluster(**options: str) -> Iterator[str]:
    """The address (`postgres://...`) of a fresh and empty database; `options` are the server's. Raises Missing."""
    initdb, server = binary("initdb"), binary("pg_ctl")
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
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **options}
        given = " ".join(f"-c {key}={value}" for key, value in settings.items())
        run(server, "-D", str(data), "-o", f"-p {port} {given}", "-w", "-l", str(folder / "log"), "start")
        try:
            yield f"postgres://test@127.0.0.1:{port}/postgres"
        finally:
            run(server, "-D", str(data), "-m", "immediate", "stop")
