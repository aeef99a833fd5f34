"""The whole service as a user starts it, in a scratch folder on a free port: for live tests and the benchmark."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Service:
    """A running service: its address, its demo app's key, its accounts' passwords, its data folder and environment."""

    address: str
    key: str
    passwords: dict[str, str]
    folder: Path
    environment: dict[str, str]

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """(status, parsed answer) of one API call; `Prefer` and the like as keyword arguments."""
        request = urllib.request.Request(  # noqa: S310 - to the service that was just started
            f"{self.address}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.status, _parsed(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _parsed(error.read())

    def submit(self, query: str, response: str, *, wait: int = 30) -> dict[str, Any]:
        """Submit an exchange and wait for its verdict."""
        _, body = self.call("POST", "/api/v1/exchanges", {"query": query, "response": response}, Prefer=f"wait={wait}")
        result: dict[str, Any] = body
        return result

    def manage(self, *arguments: str) -> str:
        """The output of a management command in the service's environment."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"{arguments} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def workers(self, queue: str) -> list[psutil.Process]:
        """The worker of a queue and its pool processes, the parent first."""
        ours = [p for p in psutil.process_iter() if _belongs_to(p, self.folder) and f"-Q {queue}" in _command_line(p)]
        return sorted(ours, key=lambda process: (process.create_time(), process.pid))


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _belongs_to(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get("GUARDREVIEW_VAR_DIR") == str(folder)
    except psutil.Error:
        return False


@contextmanager
def running_service(**environment: str) -> Iterator[Service]:
    """Start it, wait until it has answered its examples, and stop it as Ctrl-C does.

    Raises AssertionError if it does not come up.
    """
    folder = Path(tempfile.mkdtemp(prefix="guardreview-live-"))
    link_models(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    unset = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    env = {**unset, "GUARDREVIEW_VAR_DIR": str(folder), "PYTHONUNBUFFERED": "1", **environment}
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run", "--port", str(port)],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        said = _output_until(process, "Ctrl-C stops everything")
        passwords = dict(re.findall(r"^\s+(pharmacist|lead|admin|auditor)\s+(\S+)", said, flags=re.MULTILINE))
        key = (folder / "demo_api_key").read_text().strip()
        yield Service(f"http://127.0.0.1:{port}", key, passwords, folder, env)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def link_models(folder: Path) -> None:
    """The serving model that is built already, so that no torch is needed."""
    from django.conf import settings

    from classifiers.encoder.bundle import build_bundle

    build_bundle(settings.MODELS_DIR)
    shutil.copytree(settings.MODELS_DIR, folder / "models", copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _output_until(process: subprocess.Popen[str], phrase: str) -> str:
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if phrase in line:
            return "".join(said)
    raise AssertionError("manage.py run did not come up:\n" + "".join(said))


def eventually(check: Callable[[], Any], *, seconds: float = 20) -> Any:
    """What `check` returns as soon as it is true. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := check():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not so after {seconds} s")
