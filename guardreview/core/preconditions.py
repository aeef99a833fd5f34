"""What must hold before `manage.py run` starts anything. Each raises CommandError with the one line that says what to do."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.management.base import CommandError

ROOM_NEEDED = 200 * 10**6
ENDS_WITHIN_S = 10


def port_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**16:
        raise CommandError(f"{text!r} is no port. Use a number from 1 to 65535: make run PORT=8001")
    return int(text)


@contextmanager
def only_run() -> Iterator[int]:
    """Hold the data folder. Yields the descriptor of the lock that supervisord inherits, and so keeps if this run is killed."""
    with (settings.VAR_DIR / "run.lock").open("a+") as run, (settings.VAR_DIR / "supervisord.lock").open("a") as supervisord:
        try:
            fcntl.lockf(run, fcntl.LOCK_EX | fcntl.LOCK_NB)  # this process's alone: it ends with it
        except OSError:
            run.seek(0)
            raise CommandError(f"GuardReview runs already on {settings.VAR_DIR} (process {run.read()}).") from None
        run.truncate(0)
        run.write(str(os.getpid()))
        run.flush()
        deadline = time.monotonic() + ENDS_WITHIN_S
        while not _lock(supervisord.fileno()):
            if time.monotonic() > deadline:
                raise CommandError(f"What an earlier run on {settings.VAR_DIR} has started does not end; see its log folder.")
            time.sleep(0.1)
        yield supervisord.fileno()


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.RUN_HOST, port))
        except OSError as error:
            what = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            other = port + 1 if 1024 <= port < 2**16 - 1 else 8001
            raise CommandError(f"Port {port} {what}. Choose another: make run PORT={other}") from error


def check_room() -> None:
    free = shutil.disk_usage(settings.VAR_DIR).free
    if free < ROOM_NEEDED:
        needs = f"{ROOM_NEEDED // 10**6} MB are needed in {settings.VAR_DIR}, {free // 10**6} MB are free"
        raise CommandError(f"The disk is too full: {needs}. Make room, or move: GUARDREVIEW_VAR_DIR=/path make run")
