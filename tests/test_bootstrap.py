"""`guardreview/bootstrap.py`: which Python, what is installed, and one clear line for what cannot be."""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from guardreview import bootstrap

ROOT = Path(__file__).resolve().parent.parent
MakePython = Callable[[str, str], str]


@pytest.fixture
def make_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePython:
    """Makes an interpreter that answers the probe as told, in a folder that is all there is on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("PYTHON", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)

    def make(name: str, answer: str) -> str:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{answer}\n")
        path.chmod(0o755)
        return str(path)

    return make


def stopped(call: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which the call ended."""
    with pytest.raises(SystemExit) as ended:
        call()
    line = capsys.readouterr().err
    assert ended.value.code == 1
    assert line.count("\n") == 1
    return line


def test_the_file_can_be_read_by_an_old_python() -> None:
    ast.parse((ROOT / "guardreview" / "bootstrap.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def old_pythons() -> list[str]:
    """Interpreters of this machine that are too old for the project."""
    named = (shutil.which(f"python3.{minor}") for minor in range(6, 11))
    pyenv = Path.home().glob(".pyenv/versions/3.*/bin/python3")
    versions = {path: bootstrap.probe(path, "venv")[0] for path in {*filter(None, named), *map(str, pyenv)}}
    return sorted(path for path, version in versions.items() if version and version < bootstrap.OLDEST)


@pytest.mark.skipif(not old_pythons(), reason="there is no Python older than 3.11 here")
def test_an_old_python_gets_as_far_as_the_line(make_python: MakePython, tmp_path: Path) -> None:
    folder = tmp_path / "guardreview"
    folder.mkdir()
    shutil.copy(ROOT / "guardreview" / "bootstrap.py", folder)
    for name in ("constraints.txt", "requirements-serve.txt", "requirements.txt"):
        (tmp_path / name).touch()
    for python in old_pythons():
        command = [python, "guardreview/bootstrap.py", "python"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "is too old: install Python 3.11 or 3.12" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("echo 3 10 True", "Python 3.10 is too old: install Python 3.11 or 3.12"),
        ("echo 3 13 True", "Python 3.13 is too new for the bundled Redis: install redis-server or valkey-server"),
        ("echo 3 11 False", "Python 3.11 lacks its venv module: install it"),
        ("exit 127", "does not run"),
    ],
)
def test_a_python_that_will_not_do_gets_one_line(
    make_python: MakePython,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    says: str,
) -> None:
    monkeypatch.setattr(sys, "executable", make_python("python3", answer))
    assert says in stopped(bootstrap.find_python, capsys)


def test_another_python_on_path_is_taken(make_python: MakePython, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", make_python("python3", "echo 3 9 True"))
    make_python("python3.12", "exit 127")  # a version manager's shim with nothing behind it
    suitable = make_python("python3.11", "echo 3 11 True")
    assert bootstrap.find_python() == suitable


def test_a_python_that_is_named_is_not_replaced(
    make_python: MakePython, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHON", "python3")
    monkeypatch.setattr(sys, "executable", make_python("python3", "echo 3 9 True"))
    make_python("python3.11", "echo 3 11 True")
    assert "too old" in stopped(bootstrap.find_python, capsys)


@pytest.mark.parametrize("redis", ["redis-server", "valkey-server", "REDIS_URL", ".env"])
def test_a_new_python_will_do_where_there_is_a_redis(
    make_python: MakePython, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis: str
) -> None:
    python = make_python("python3", "echo 3 13 True")
    assert bootstrap.objection(python)
    if redis == "REDIS_URL":
        monkeypatch.setenv("REDIS_URL", "redis://redis:6379/0")
    elif redis == ".env":
        (tmp_path / ".env").write_text("# ours\nREDIS_URL='redis://redis:6379/0'\n")
    else:
        make_python(redis, "")
    assert not bootstrap.objection(python)


def test_a_full_disk_gets_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Usage:
        free = 10**9

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage)
    line = stopped(lambda: bootstrap.check_room(bootstrap.ROOM_FOR_VENV), capsys)
    assert "3.0 GB are needed" in line
    assert "1.0 GB are free" in line


def test_a_data_folder_that_cannot_be_written_gets_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GUARDREVIEW_VAR_DIR", str(tmp_path / "file" / "var"))
    assert "Cannot write to the data folder" in stopped(bootstrap.check_data_folder, capsys)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_data_folder_without_room_gets_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("GUARDREVIEW_VAR_DIR", str(tmp_path))
    with Path("/dev/full").open("wb") as full:
        monkeypatch.setattr(bootstrap.tempfile, "TemporaryFile", lambda dir: full)
        assert "No space left on device" in stopped(bootstrap.check_data_folder, capsys)


# --- Real installs, of next to nothing --------------------------------------------------------------------------------
WHERE = ("python", "-c", "import sys; print(sys.prefix)")
REQUIREMENTS = ("constraints.txt", "requirements-serve.txt", "requirements.txt", "requirements-test.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a space in its path, which requires nothing, and is installed."""
    folder = tmp_path_factory.mktemp("a clone")
    (folder / "guardreview").mkdir()
    shutil.copy(ROOT / "guardreview" / "bootstrap.py", folder / "guardreview")
    for name in REQUIREMENTS:
        (folder / name).touch()
    first = run_in(folder, *WHERE)
    assert first.returncode == 0, first.stderr
    assert "installed packages in" in first.stdout
    assert first.stdout.splitlines()[-1] == str(folder / ".venv")
    return folder


@pytest.fixture
def clone(folder: Path) -> Iterator[Path]:
    """The same folder, put in order afterwards."""
    yield folder
    for name in REQUIREMENTS:
        (folder / name).write_text("")


def run_in(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "guardreview/bootstrap.py", *arguments]
    environment = os.environ | {"GUARDREVIEW_VAR_DIR": str(clone / "var"), "PIP_RETRIES": "0"}
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_what_is_installed_is_not_installed_again(clone: Path) -> None:
    assert run_in(clone, *WHERE).stdout == f"{clone / '.venv'}\n"


def test_changed_requirements_are_installed(clone: Path) -> None:
    (clone / "constraints.txt").write_text("# changed\n")
    assert "installed packages in" in run_in(clone, *WHERE).stdout
    assert run_in(clone, *WHERE).stdout == f"{clone / '.venv'}\n"


def test_a_failed_install_says_why_and_is_tried_again(clone: Path) -> None:
    (clone / "requirements.txt").write_text("nothing @ https://127.0.0.1:9/nothing-1.0-py3-none-any.whl\n")
    for _ in range(2):
        failed = run_in(clone, *WHERE)
        assert failed.returncode == 1
        assert failed.stderr.splitlines()[-1].startswith("Installing packages failed (all of it: .venv/install.log)")
        assert "127.0.0.1" not in failed.stdout + failed.stderr  # addresses are for the log alone
        assert "127.0.0.1" in (clone / ".venv" / "install.log").read_text()
    (clone / "requirements.txt").write_text("")
    assert run_in(clone, *WHERE).returncode == 0


def test_an_interrupted_install_is_taken_up_again(clone: Path) -> None:
    (clone / "requirements.txt").write_text("nothing @ https://127.0.0.1:9/nothing-1.0-py3-none-any.whl\n")
    command = [sys.executable, "guardreview/bootstrap.py", *WHERE]
    installing = subprocess.Popen(
        command, cwd=clone, env=os.environ | {"PIP_RETRIES": "9"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert installing.stdout is not None
    assert "installing packages" in installing.stdout.readline()
    pips = psutil.Process(installing.pid).children()
    installing.send_signal(signal.SIGINT)
    assert "Interrupted; the same command goes on from here." in installing.communicate(timeout=20)[1]
    assert installing.returncode == 130
    assert pips
    assert not any(pip.is_running() for pip in pips)
    (clone / "requirements.txt").write_text("")
    (clone / "constraints.txt").write_text("# changed\n")
    assert "installed packages in" in run_in(clone, *WHERE).stdout


def test_a_broken_venv_is_made_anew(clone: Path) -> None:
    (clone / ".venv" / "bin" / "python").unlink()
    again = run_in(clone, *WHERE)
    assert again.stdout.startswith("Making .venv with ")
    assert again.stdout.splitlines()[-1] == str(clone / ".venv")


def test_tools_are_installed_when_asked_for(clone: Path) -> None:
    assert not (clone / ".venv" / "installed-tools").exists()
    assert run_in(clone, "--tools").returncode == 0
    assert (clone / ".venv" / "installed-tools").exists()
    assert run_in(clone, *WHERE).stdout == f"{clone / '.venv'}\n"


def test_the_status_of_the_command_is_handed_on(clone: Path) -> None:
    assert run_in(clone, "python", "-c", "raise SystemExit(7)").returncode == 7


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent died")
def test_the_command_ends_with_make(clone: Path) -> None:
    sleep = shlex.join(
        [sys.executable, "guardreview/bootstrap.py", "python", "-c", "import time; print(1, flush=True); time.sleep(60)"]
    )
    # Of its own, not below the make that runs the tests: that would have it say where it is.
    of_make = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in of_make}
    environment["GUARDREVIEW_VAR_DIR"] = str(clone / "var")
    command = ["make", "--file=/dev/null", f"--eval=run: ; @exec {sleep}", "run"]
    with subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True) as make:
        assert make.stdout is not None
        assert make.stdout.readline() == "1\n"
        (child,) = psutil.Process(make.pid).children()
        make.kill()
        make.wait()
        child.wait(10)


def test_what_cannot_be_installed_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bootstrap, "missing_system_packages", lambda: ["chromium", "postgresql"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    bootstrap.install_system_packages()
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[0] for line in said] == ["Chromium", "PostgreSQL"]
    assert all("will be skipped" in line for line in said)
