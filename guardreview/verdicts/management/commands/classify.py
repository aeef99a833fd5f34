"""`manage.py classify FILE.jsonl`: verdicts on exchanges in a file, with neither server nor database."""

import asyncio
import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError

from classifiers.combined import CombinedSafetyClassifier
from classifiers.result import ClassifierResult, Verdict
from guardreview.verdicts.offline import BadLine, Row, cascade, classify_rows, read_rows

RESULT_FIELDS = ("layer", "is_safe", "category", "scores", "confidence", "latency_ms", "evidence", "reason", "error")


class Command(BaseCommand):
    help = "Classify the exchanges of a JSON-lines file; one JSON line each to standard output."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE.jsonl", help='lines of {"id", "query", "response"}; - for standard input')
        parser.add_argument("--active", action="store_true", help="policy, rules and model of the database, not the shipped ones")

    def handle(self, *args: Any, **options: Any) -> None:
        classifier = cascade(active=options["active"], progress=self.stderr.write)
        with _open(options["file"]) as source:
            bad = asyncio.run(self._classify(classifier, read_rows(source)))
        if bad:
            raise CommandError(f"{bad} bad line{'s' if bad > 1 else ''}", returncode=1)

    async def _classify(self, classifier: CombinedSafetyClassifier, rows: Iterable[Row | BadLine]) -> int:
        count, bad, started, told = 0, 0, time.monotonic(), time.monotonic()
        async for answer in classify_rows(classifier, rows):
            if isinstance(answer, BadLine):
                bad += 1
                self.stderr.write(f"line {answer.number}: {answer.problem}")
                continue
            count += 1
            # ASCII, so that no terminal's encoding, and no lone surrogate in a text, stops the rest.
            print(json.dumps(as_line(*answer), allow_nan=False), flush=True)
            if time.monotonic() - told > 2:
                told = time.monotonic()
                self.stderr.write(f"{count} classified, {count / (told - started):.0f} per second")
        self.stderr.write(f"{count} classified in {time.monotonic() - started:.1f} s")
        return bad


def _open(name: str) -> BinaryIO:
    try:
        return sys.stdin.buffer if name == "-" else Path(name).open("rb")
    except OSError as error:
        raise CommandError(f"cannot read {name}: {error.strerror}") from error


def as_line(row: Row, verdict: Verdict) -> dict[str, Any]:
    """The output line of one exchange; offsets are in characters of the response as given."""
    whole = verdict.as_json()
    return {
        "id": row.id,
        "decision": verdict.decision.value,
        **{name: whole[name] for name in ("is_safe", "category", "categories", "severity", "reason", "confidence", "layer")},
        "results": [{name: result[name] for name in RESULT_FIELDS} for result in map(ClassifierResult.as_json, verdict.results)],
    }
