"""Presidio's pattern recognisers, the peer of the rules, in a process of its own: their packages are not those of this project.

Run as a script, it reads texts as JSON, one a line, and writes how many milliseconds each took.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "requirements-bench.txt"
PACKAGES = ROOT / "var" / "bench-packages"


class Unavailable(Exception):
    """Presidio could not be installed or started; the message says why."""


class Presidio:
    """A context in which `ms` times Presidio on one text. Raises Unavailable on entry."""

    def __enter__(self) -> Presidio:
        _install()
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        hello = self._process.stdout.readline() if self._process.stdout else ""
        if not hello:
            raise Unavailable(f"it ended with {self._process.wait()} as it started")
        self.recognizers = int(hello)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.communicate()

    def ms(self, text: str) -> float:
        """As measured in that process."""
        self._process.stdin.write(json.dumps(text) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def _install() -> None:
    stamp = PACKAGES / "installed"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade", "--target", str(PACKAGES)]
    done = subprocess.run([*command, "-r", str(REQUIREMENTS)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"pip install -r {REQUIREMENTS.name} failed")
    stamp.write_text(wanted, encoding="utf-8")


def main() -> None:
    # Behind what the project has: only what it lacks comes from there.
    sys.path.append(str(PACKAGES))
    from presidio_analyzer import PatternRecognizer, predefined_recognizers
    from presidio_analyzer.nlp_engine import NlpArtifacts

    classes = [
        each for _, each in inspect.getmembers(predefined_recognizers, inspect.isclass) if issubclass(each, PatternRecognizer)
    ]
    recognizers = [each for each in (one() for one in classes if one is not PatternRecognizer) if each.supported_language == "en"]
    nothing: NlpArtifacts | None = None
    print(len(recognizers), flush=True)
    for line in sys.stdin:
        text = json.loads(line)
        started = time.perf_counter()
        for recognizer in recognizers:
            recognizer.analyze(text, recognizer.supported_entities, nothing)
        print((time.perf_counter() - started) * 1000, flush=True)


if __name__ == "__main__":
    main()
