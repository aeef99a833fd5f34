"""`manage.py classify FILE.jsonl`: verdicts on exchanges in a file, with neither server nor database."""

import asyncio
import json
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from classifiers.bundle import InvalidBundle
from classifiers.result import Verdict
from guardreview.verdicts.models import Policy
from guardreview.verdicts.offline import BadLine, Row, cascade, classify_rows, read_rows

RESULT_FIELDS = ("layer", "is_safe", "category", "scores", "confidence", "latency_ms", "evidence", "reason", "error")


class Command(BaseCommand):
    help = "Classify the exchanges of a JSON-lines file; one JSON line each to standard output."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE.jsonl", help='lines of {"id", "query", "response"}; - for standard input')
        parser.add_argument("--active", action="store_true", help="policy, rules and model of the database, not the shipped ones")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            classifier = cascade(active=options["active"], progress=self.stderr.write)
        except InvalidBundle as error:
            raise CommandError(str(error)) from error
        except Policy.DoesNotExist as error:
            raise CommandError("the database has no active policy: run `manage.py setup`") from error
        try:
            source = sys.stdin.buffer if options["file"] == "-" else Path(options["file"]).open("rb")
        except OSError as error:
            raise CommandError(f"cannot read {options['file']}: {error.strerror}") from error
        with source:
            bad = asyncio.run(self._classify(classifier, read_rows(source)))
        if bad:
            raise CommandError(f"{bad} bad line{'s' if bad > 1 else ''}", returncode=1)

    async def _classify(self, classifier: Any, rows: Any) -> int:
        count, bad, started, told = 0, 0, time.monotonic(), time.monotonic()
        async for answer in classify_rows(classifier, rows):
            if isinstance(answer, BadLine):
                bad += 1
                self.stderr.write(f"line {answer.number}: {answer.problem}")
                continue
            count += 1
            sys.stdout.write(json.dumps(as_line(*answer), ensure_ascii=False) + "\n")
            if time.monotonic() - told > 2:
                told = time.monotonic()
                self.stderr.write(f"{count} classified, {count / (told - started):.0f} per second")
        sys.stdout.flush()
        self.stderr.write(f"{count} classified in {time.monotonic() - started:.1f} s")
        return bad


def as_line(row: Row, verdict: Verdict) -> dict[str, Any]:
    """The output line of one exchange; offsets are in characters of the response as given."""
    whole = verdict.as_json()
    return {
        "id": row["id"],
        "decision": verdict.decision.value,
        **{name: whole[name] for name in ("is_safe", "category", "categories", "severity", "reason", "confidence", "layer")},
        "results": [{name: result[name] for name in RESULT_FIELDS} for result in map(_as_json, verdict.results)],
    }


def _as_json(result: Any) -> dict[str, Any]:
    fields: dict[str, Any] = result.as_json()
    return fields
