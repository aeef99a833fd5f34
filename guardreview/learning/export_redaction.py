"""Personal data out of the rows of an export, by several processes: this costs more than all the rest of an export.

`python -m guardreview.learning.export_redaction` is one of them: a JSON line of texts in, a JSON line of texts out. They are
plain processes with pipes, which may be started from anywhere. A text that cannot be cleared comes back as null.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import re2  # type: ignore[import-untyped]

from classifiers import rule_based
from classifiers.allow_list import AllowList
from classifiers.redaction import RedactionError, redact
from classifiers.rules.matching import options
from classifiers.rules.rule import CompiledRule
from classifiers.text import normalize

PROJECT = Path(__file__).resolve().parents[2]
FEW = 2_000
"""Of so many texts at most, processes would take longer to start than one takes to read them."""


class Redactor:
    """Clears texts of personal data, in `processes` of its own once it is given many. A context manager: it ends them.

    `allow`: what is nobody's personal data, as in `AllowList`.
    """

    def __init__(self, *, allow: Sequence[str], processes: int) -> None:
        self._allow = tuple(allow)
        self._processes = processes
        self._seen = 0
        self._workers: list[_Worker] = []

    def __enter__(self) -> Redactor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self._workers:
            worker.end()
        self._workers = []

    def redacted(self, texts: Sequence[str]) -> list[str | None]:
        """Each text without the personal data in it; None for one that could not be searched to the end."""
        self._seen += len(texts)
        if self._processes < 2 or self._seen <= FEW:
            return cleared(texts, self._allow)
        if not self._workers:
            self._workers = [_Worker(self._allow) for _ in range(self._processes)]
        # By turns, so that the long texts of one kind are not all one process's.
        shares = [texts[number :: len(self._workers)] for number in range(len(self._workers))]
        for worker, share in zip(self._workers, shares, strict=True):
            worker.ask(share)
        found: list[str | None] = [None] * len(texts)
        for number, worker in enumerate(self._workers):
            found[number :: len(self._workers)] = worker.answer()
        return found


class _Worker:
    """A process that clears texts: asked once, it must be heard before it is asked again."""

    def __init__(self, allow: Sequence[str]) -> None:
        command = [sys.executable, "-m", "guardreview.learning.export_redaction", *allow]
        self._process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._in, self._out = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)

    def ask(self, texts: Sequence[str]) -> None:
        self._in.write(json.dumps(texts).encode() + b"\n")
        self._in.flush()

    def answer(self) -> list[str | None]:
        """Raises RuntimeError if the process has ended."""
        line = self._out.readline()
        if not line:
            raise RuntimeError("a process that redacts has ended")
        found: list[str | None] = json.loads(line)
        return found

    def end(self) -> None:
        self._process.kill()  # it holds nothing that could be lost
        with suppress(BrokenPipeError):
            self._in.close()
        self._out.close()
        self._process.wait()


def cleared(texts: Sequence[str], allow: Sequence[str] = ()) -> list[str | None]:
    """What `redact` makes of each text, in this process."""
    listed = AllowList(allow) if allow else None
    found: list[str | None] = []
    for text in texts:
        try:
            found.append(redact(text, listed).text if _suspicious(text) else text)
        except RedactionError:
            found.append(None)
    return found


def _suspicious(text: str) -> bool:
    """Whether any pattern of personal data begins anywhere in any reading of the text: where none does, `redact` finds nothing.

    One pass for all patterns together, instead of one each.
    """
    plain = normalize(text)
    canary, beginnings = _beginnings()
    for view in rule_based.readings(plain, rule_based.RuleBasedClassifier.default().speller.read(plain)):
        found = beginnings.Match(view.text)
        if found != [canary]:  # also without the canary: then the set ran out of memory and says nothing
            return True
    return False


@cache
def _beginnings() -> tuple[int, Any]:
    """A set of the first anchor of each pattern, and the number in it of the empty one, which always matches."""
    chosen = options()
    chosen.max_mem = rule_based.MAX_MEMORY
    beginnings = re2.Set.SearchSet(chosen)
    canary: int = beginnings.Add("")
    for anchor in {pattern.anchors[0] for rule in map(CompiledRule, rule_based.PII_PATTERNS) for pattern in rule.patterns}:
        beginnings.Add(anchor)
    beginnings.Compile()
    return canary, beginnings


def main() -> None:
    """Texts from standard input, as long as there are any."""
    allow = sys.argv[1:]
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(cleared(json.loads(line), allow)).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
