"""`manage.py run` as a user meets it: what it says, what survives it (nothing), and what it survives."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.management import CommandError

from guardreview.core import preconditions
from guardreview.core.supervision import Supervision, procfile_commands
from tests.service import ROOT, Service, eventually, link_models

UP = "Ctrl-C stops everything"
PROCESSES = {"redis", "web", "cascade", "judge", "webhooks", "learning", "beat"}


class Run:
    """A `manage.py run`: under make in a terminal of its own, or by itself with its output in a pipe."""

    def __init__(self, folder: Path, *, terminal: bool = False, **environment: str) -> None:
        self.folder = folder
        self.port = free_port()
        unset = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
        self.environment = {**unset, "GUARDREVIEW_VAR_DIR": str(folder), "GUARDREVIEW_SWEEP_AFTER_S": "2", **environment}
        self.output = ""
        self.ours, theirs = os.openpty() if terminal else os.pipe()
        command = [sys.executable, "manage.py", "run", "--port", str(self.port)]
        under_make = ["make", "--no-print-directory", "--file=/dev/null", f"--eval=run: ; @exec {shlex.join(command)}", "run"]

        def begin() -> None:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests themselves run under nohup
            if terminal:
                os.login_tty(theirs)

        self.process = subprocess.Popen(
            under_make if terminal else command,
            cwd=ROOT,
            env=self.environment,
            stdin=theirs if terminal else subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=begin,
        )
        os.close(theirs)

    def read_until(self, phrase: str) -> str:
        """All output so far, once the phrase is in it or the process has ended."""
        while phrase not in self.output:
            try:
                chunk = os.read(self.ours, 65536)
            except OSError:  # the terminal's other end is closed
                break
            if not chunk:
                break
            self.output += chunk.decode().replace("\r\n", "\n")
        return self.output

    def ended(self) -> int:
        """Its exit status, once it has ended and all output is read."""
        self.read_until("\0")
        os.close(self.ours)
        return self.process.wait(30)

    def service(self) -> Service:
        key = (self.folder / "demo_api_key").read_text().strip()
        return Service(f"http://127.0.0.1:{self.port}", key, {}, self.folder, self.environment)

    def supervisord(self) -> psutil.Process:
        below = psutil.Process(self.process.pid).children(recursive=True)
        return next(process for process in below if any(part.endswith("supervision.py") for part in process.cmdline()))

    def family(self) -> dict[str, psutil.Process]:
        """What supervisord runs, by name."""
        named = {}
        for process in self.supervisord().children():
            with suppress(psutil.Error):  # it has just ended
                # Redis writes its title over its environment.
                named[process.environ().get("SUPERVISOR_PROCESS_NAME", "redis")] = process
        return named


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def left_over(folder: Path) -> list[psutil.Process]:
    """Processes that were started for this data folder, other than this one."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            is_redis = line.startswith("redis-server") or "/redis-server" in line
            belongs = str(folder) in line if is_redis else process.environ().get("GUARDREVIEW_VAR_DIR") == str(folder)
            if belongs and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with an awkward name and the serving model."""
    folder = tmp_path_factory.mktemp("100% run #")
    link_models(folder)
    yield folder
    assert left_over(folder) == []
    shutil.rmtree(folder)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Run]]:
    """Starts `manage.py run` on the folder and waits until it is up; what a failed test leaves is killed."""
    runs: list[Run] = []

    def started(**options: Any) -> Run:
        runs.append(Run(folder, **options))
        assert UP in runs[-1].read_until(UP), runs[-1].output
        return runs[-1]

    yield started
    for process in left_over(folder):
        process.kill()
    for run in runs:
        run.process.wait(30)


def another_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", "run", *arguments]
    environment = os.environ | {"GUARDREVIEW_VAR_DIR": str(folder)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_first_run_in_a_terminal(start: Callable[..., Run], folder: Path, tmp_path: Path) -> None:
    run = start(terminal=True)
    accounts = re.findall(r"^    (\w+) +((?:[a-z2-9]{4}-){3}[a-z2-9]{4})   (\w+)$", run.output, flags=re.MULTILINE)
    assert [(name, role) for name, _, role in accounts] == [
        ("pharmacist", "Pharmacist"),
        ("colleague", "Pharmacist"),
        ("lead", "Lead"),
        ("admin", "Administrator"),
        ("auditor", "Auditor"),
    ]
    assert re.search(r"examples +63 sent: .*\d+ blocked", run.output)

    (curl,) = re.findall(r"^    (curl .*)$", run.output, flags=re.MULTILINE)
    if shutil.which("curl"):
        answer = json.loads(subprocess.run(curl, shell=True, capture_output=True, text=True, check=True).stdout)  # noqa: S602
        assert answer["decision"] in {"block", "hold"}

    for private in (folder, folder / "log", folder / "demo_api_key", folder / "redis.sock"):
        assert stat.S_IMODE(private.stat().st_mode) & 0o077 == 0, private
    listening = [c for p in run.family().values() for c in p.net_connections() if c.status == psutil.CONN_LISTEN]
    assert [(c.laddr.ip, c.laddr.port) for c in listening] == [("127.0.0.1", run.port)]

    second = another_run(folder, "--port", str(free_port()))
    assert (second.returncode, second.stdout) == (1, "")
    assert re.fullmatch(r"GuardReview runs already on .* \(process \d+\)\.\n", second.stderr)
    taken = another_run(tmp_path, "--port", str(run.port))
    assert (taken.returncode, taken.stdout) == (1, "")
    assert taken.stderr == f"Port {run.port} is taken. Choose another: make run PORT={run.port + 1}\n"

    os.write(run.ours, b"\x03")  # Ctrl-C, to the whole foreground group
    pressed = time.monotonic()
    assert run.ended() == -signal.SIGINT  # make's; the run's own is 0, or make would say so
    assert time.monotonic() - pressed < 8
    assert run.output.splitlines()[-1] == "stopped"
    assert left_over(folder) == []


def test_a_later_run_is_up_soon_keeps_the_data_and_mends_itself(start: Callable[..., Run], folder: Path) -> None:
    if not (folder / "examples_sent").exists():  # this test is run by itself
        start().process.send_signal(signal.SIGINT)
        eventually(lambda: not left_over(folder))
    key = (folder / "demo_api_key").read_text()
    is_busy = os.getloadavg()[0] > (os.cpu_count() or 1)  # with other things than this
    started = time.monotonic()
    run = start()
    assert time.monotonic() - started < (30 if is_busy else 10)
    assert (folder / "demo_api_key").read_text() == key
    assert "Accounts    as before" in run.output
    assert "examples" not in run.output
    service = run.service()
    status, page = service.call("GET", "/api/v1/exchanges?limit=200")
    assert status == 200
    assert len(page["results"]) >= 63

    eventually(lambda: set(run.family()) == PROCESSES)
    ids = []
    for name in sorted(PROCESSES):
        killed = run.family()[name]
        status, body = service.call("POST", "/api/v1/exchanges", {"query": "I forgot.", "response": f"Double your dose. {name}"})
        assert status == 202
        ids.append(body["id"])
        killed.kill()
        eventually(lambda name=name, killed=killed: run.family().get(name, killed) != killed)
        eventually(lambda: _healthy(service))
    for exchange in ids:
        body = eventually(lambda exchange=exchange: _decided(service, exchange), seconds=60)
        assert body["decision"] == "block"
        assert len(body["results"]) == 1
    run.process.send_signal(signal.SIGTERM)
    assert run.ended() == 0
    assert left_over(folder) == []
    assert "Double your dose" not in "".join(path.read_text() for path in (folder / "log").iterdir())


def _healthy(service: Service) -> bool:
    try:
        return service.call("GET", "/api/health")[0] == 200
    except OSError:
        return False


def _decided(service: Service, exchange: str) -> Any:
    _, body = service.call("GET", f"/api/v1/exchanges/{exchange}")
    return body if body["status"] == "decided" else None


def hang_up(run: Run) -> None:
    """The terminal's window is closed."""
    os.close(run.ours)
    run.ours = os.open(os.devnull, os.O_RDONLY)


def kill_supervisord(run: Run) -> None:
    run.supervisord().kill()


def press_ctrl_c_twice(run: Run) -> None:
    run.process.send_signal(signal.SIGINT)
    time.sleep(1.2)
    run.process.send_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda run: run.process.send_signal(signal.SIGHUP), 0),
        (lambda run: run.process.kill(), -signal.SIGKILL),
        (hang_up, -signal.SIGHUP),
        (kill_supervisord, 1),
        (press_ctrl_c_twice, 0),
    ],
    ids=["SIGHUP", "SIGKILL", "the terminal is closed", "supervisord killed", "Ctrl-C twice"],
)
def test_nothing_survives(start: Callable[..., Run], folder: Path, end: Callable[[Run], None], status: int) -> None:
    run = start(terminal=end is hang_up)
    assert len(left_over(folder)) >= len(PROCESSES)
    end(run)
    assert run.ended() == status
    eventually(lambda: not left_over(folder), seconds=15)


def test_a_run_right_after_one_that_was_killed(start: Callable[..., Run]) -> None:
    start().process.kill()
    run = start()
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 0


def test_a_process_that_cannot_start_is_shown_and_ends_the_run(folder: Path) -> None:
    run = Run(folder, GUARDREVIEW_JUDGE_THREADS="many")
    assert run.ended() == 1
    assert "'many'" in run.output
    assert run.output.splitlines()[-1].startswith("judge cannot be started. Its last lines are above")
    assert left_over(folder) == []


# --- One clear line ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "8000x"])
def test_what_is_no_port_is_refused(port: str) -> None:
    with pytest.raises(CommandError, match=r"is no port\. Use a number from 1 to 65535"):
        preconditions.port_number(port)


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 10**6

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(CommandError, match=r"The disk is too full: 200 MB are needed in .*, 1 MB are free"):
        preconditions.check_room()


def test_without_any_redis_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from guardreview.core.management.commands import run

    monkeypatch.setattr(run, "redis_server", lambda: None)
    with pytest.raises(CommandError, match="install redis-server or valkey-server, or set REDIS_URL"):
        run._supervision(8000)


def test_each_process_of_the_procfile_is_supervised(tmp_path: Path) -> None:
    commands = procfile_commands(ROOT / "Procfile")
    assert set(commands) == PROCESSES - {"redis"}
    supervision = Supervision(
        root=ROOT, folder=tmp_path, socket=tmp_path / "ctl.sock", backends={}, commands=commands, later=["beat"], environment={}
    )
    assert re.findall(r"^\[program:(\w+)\]", supervision.configuration(), flags=re.MULTILINE) == list(commands)
    assert supervision.configuration().count("autostart=false") == 1
