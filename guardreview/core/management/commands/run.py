"""`manage.py run`: everything on this machine, in the foreground, until Ctrl-C. `make run` ends up here."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from kombu.exceptions import OperationalError

from guardreview.celery import app as celery_app
from guardreview.core.demo import ACCOUNTS, demo_accounts_create, demo_app_key, examples
from guardreview.core.demo_client import WAIT_S, Api
from guardreview.core.preconditions import check_port, check_room, only_run, port_number
from guardreview.core.supervision import (
    REDIS,
    Running,
    Supervision,
    die_with,
    private_folder,
    procfile_commands,
    redis_server,
)

FIRST = ("web", "cascade")
"""What a verdict needs. The others start when these answer."""
UP_WITHIN_S = 90
FORCE_AFTER_S = 1.0
DECISIONS = {"allow": "allowed", "block": "blocked", "hold": "held"}


class Command(BaseCommand):
    help = "Start Redis (unless REDIS_URL is set), the web server, the workers and beat; stay until Ctrl-C."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", default=str(settings.RUN_PORT), help="of the web server (default: %(default)s)")

    def handle(self, *args: Any, port: str, **options: Any) -> None:
        interruption = Interruption()
        try:
            with only_run() as lock:
                self._run(port_number(port), lock, interruption)
        except KeyboardInterrupt:
            with suppress(OSError):  # the terminal may be gone
                self.stdout.write("\nstopped" if sys.stdout.isatty() else "stopped")
        except CommandError as error:
            self._fail(str(error))
        except DatabaseError as error:
            self._fail(f"The database cannot be used: {_first_line(error)}")
        except http.client.HTTPException as error:
            self._fail(f"The web server broke off ({type(error).__name__}). Logs: {settings.VAR_DIR / 'log'}")
        except OSError as error:
            place = f" ({error.filename})" if error.filename else ""
            self._fail(f"Cannot go on: {error.strerror or error}{place}")

    def _fail(self, line: str) -> None:
        with suppress(OSError):
            self.stderr.write(line)
        sys.exit(1)

    def _run(self, port: int, lock: int, interruption: Interruption) -> None:
        check_port(port)
        check_room()
        supervision = _supervision(port)
        # A terminal that is closed tells its session's leader alone, and make does not pass that on: it is asked again below.
        # Asked here first, because one that is closed by then would pass for none that ever was.
        has_terminal = sys.stdout.isatty()
        self.stdout.write("Starting GuardReview")
        self._prepare()
        api = Api(port, demo_app_key())
        started = time.monotonic()
        running = supervision.start(keep_open=lock)
        try:
            self._await_health(running, api)
            self._await_worker(running)
            self._step("service", f"answers after {time.monotonic() - started:.1f} s")
            running.start_rest()
            self._send_examples(running, api)
            self._say_what_is_here(api)
            while not interruption.received and sys.stdout.isatty() == has_terminal:
                time.sleep(1)
                self._check(running)
            raise KeyboardInterrupt
        finally:
            running.stop()

    def _step(self, name: str, text: str) -> None:
        self.stdout.write(f"  {name:<12}{text}")
        self.stdout.flush()

    # --- Before the processes start -----------------------------------------------------------------------------------
    def _prepare(self) -> None:
        executor = MigrationExecutor(connection)
        if plan := executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", verbosity=0)
            self._step("database", f"{len(plan)} migrations applied")
        connection.close()
        self._set_up()

    def _set_up(self) -> None:
        """In a process of its own, because building a model loads torch, whose memory would stay with this one."""
        log = settings.VAR_DIR / "log" / "setup.log"
        private_folder(log.parent)
        with log.open("w") as errors:
            setup = subprocess.Popen(
                [sys.executable, "manage.py", "setup", "--skip-checks", "--no-color"],
                cwd=settings.BASE_DIR,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=die_with(os.getpid(), signal.SIGKILL),
            )
            try:
                for line in setup.stdout or ():
                    self._step("model", line.strip())
                failed = setup.wait()
            finally:
                setup.kill()
        if failed:
            self.stderr.write("\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]))
            raise CommandError(f"The set-up failed. Its last lines are above, all of them in {log}")

    # --- Until they answer --------------------------------------------------------------------------------------------
    def _check(self, running: Running) -> None:
        """Raise CommandError, with the log's last lines on standard error, once a process has failed for good."""
        if name := running.failure():
            self.stderr.write(running.log_tail(name))
            what = "stopped unexpectedly" if name == "supervisord" else "cannot be started"
            raise CommandError(f"{name} {what}. Its last lines are above; its log is {settings.VAR_DIR / 'log' / name}.log")

    def _await_health(self, running: Running, api: Api) -> None:
        last = "no answer"
        deadline = time.monotonic() + UP_WITHIN_S
        while time.monotonic() < deadline:
            self._check(running)
            try:
                status, answer = api.call("GET", "/api/health")
            except (OSError, http.client.HTTPException):
                status, answer = 0, {}
            if status == http.HTTPStatus.OK:
                return
            last = answer.get("detail", last)
            time.sleep(0.1)
        self.stderr.write(running.log_tail("web"))
        raise CommandError(f"The web server is not healthy after {UP_WITHIN_S} s: {last} Logs: {settings.VAR_DIR / 'log'}")

    def _await_worker(self, running: Running) -> None:
        """Asked over Redis: an exchange sent at each start might be held, and then wait for a pharmacist."""
        worker = f"cascade@{socket.gethostname()}"
        deadline = time.monotonic() + UP_WITHIN_S
        while time.monotonic() < deadline:
            self._check(running)
            with suppress(OSError, OperationalError):
                if celery_app.control.ping(destination=[worker], timeout=0.5, limit=1):
                    return
        self.stderr.write(running.log_tail("cascade"))
        raise CommandError(f"The cascade's worker does not answer after {UP_WITHIN_S} s. Logs: {settings.VAR_DIR / 'log'}")

    def _send_examples(self, running: Running, api: Api) -> None:
        """Once per data folder; a run that was interrupted here is taken up, as each example has its idempotency key."""
        done = settings.VAR_DIR / "examples_sent"
        if done.exists():
            return
        counts: Counter[str] = Counter()
        rows = examples()
        for number, (key, body) in enumerate(rows, start=1):
            self._check(running)
            answer = api.submit(key, body)
            if number == 1 and answer.get("status") != "decided":
                self.stderr.write(running.log_tail("cascade"))
                raise CommandError(f"No verdict within {WAIT_S} s. Logs: {settings.VAR_DIR / 'log'}")
            counts[DECISIONS.get(str(answer.get("decision")), "undecided")] += 1
            if sys.stdout.isatty():
                self.stdout.write(f"\r  {'examples':<12}{number}/{len(rows)}", ending="")
                self.stdout.flush()
        said = ", ".join(f"{counts[name]} {name}" for name in (*DECISIONS.values(), "undecided") if counts[name])
        if sys.stdout.isatty():
            self.stdout.write("\r\033[K", ending="")
        self._step("examples", f"{len(rows)} sent: {said}")
        done.touch()

    # --- What a person needs to know ----------------------------------------------------------------------------------
    def _say_what_is_here(self, api: Api) -> None:
        passwords = demo_accounts_create()
        connection.close()
        lines = ["", f"  Pages       {api.address}/", f"  API         {api.address}/api/docs", ""]
        if passwords:
            lines.append("  Accounts    (shown this once; .venv/bin/python manage.py changepassword NAME sets a new password)")
            lines += [f"    {name:<12}{password}   {ACCOUNTS[name].label}" for name, password in passwords.items()]
        else:
            lines.append("  Accounts    as before; .venv/bin/python manage.py changepassword NAME sets a new password")
        lines += ["", "  Try it", f"    {api.curl_line()}", "", "Running. Ctrl-C stops everything."]
        self.stdout.write("\n".join(lines))
        self.stdout.flush()


class Interruption:
    """Ctrl-C, `kill` and a closed terminal end the run in order; Ctrl-C again, a moment later, by force."""

    def __init__(self) -> None:
        self.received = False
        self._at = 0.0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN):  # as under nohup
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # The same wish often comes twice at once: from the terminal, and passed on by make.
        again = number == signal.SIGINT and time.monotonic() - self._at > FORCE_AFTER_S
        if not self.received or again:
            self.received = True
            self._at = time.monotonic()
            raise KeyboardInterrupt


def _supervision(port: int) -> Supervision:
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "GUARDREVIEW_VAR_DIR": str(settings.VAR_DIR),
        "GUARDREVIEW_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
    }
    backends = {}
    if settings.REDIS_IS_PRIVATE:
        server = redis_server()
        if server is None:
            raise CommandError("There is no Redis: install redis-server or valkey-server, or set REDIS_URL to one that runs.")
        backends["redis"] = REDIS
        environment |= {"REDIS_SERVER": server, "REDIS_SOCKET": str(settings.REDIS_SOCKET)}
    commands = procfile_commands(settings.BASE_DIR / "Procfile")
    return Supervision(
        root=settings.BASE_DIR,
        folder=settings.VAR_DIR,
        socket=settings.REDIS_SOCKET.with_name("ctl.sock"),
        backends=backends,
        commands=commands,
        later=[name for name in commands if name not in FIRST],
        environment=environment,
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
