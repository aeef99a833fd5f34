"""`manage.py evaluate FILE.jsonl`: how well the cascade does on labelled exchanges."""

import asyncio
import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from classifiers.bundle import InvalidBundle
from classifiers.evaluation import Judged, as_text, evaluate
from classifiers.result import severity_of
from guardreview.verdicts.models import Policy
from guardreview.verdicts.offline import BadLine, Row, cascade, classify_rows, read_rows


class Command(BaseCommand):
    help = "Precision, recall, false positives and negatives with 95 % intervals on rows with a label."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "files", nargs="+", metavar="FILE.jsonl", help='lines of {"query", "response", "label": "safe" or "unsafe", ...}'
        )
        parser.add_argument("--active", action="store_true", help="policy, rules and model of the database, not the shipped ones")
        parser.add_argument("--json", action="store_true", help="the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            classifier = cascade(active=options["active"], progress=self.stderr.write)
        except InvalidBundle as error:
            raise CommandError(str(error)) from error
        except Policy.DoesNotExist as error:
            raise CommandError("the database has no active policy: run `manage.py setup`") from error
        reports, bad = {}, 0
        for name in options["files"]:
            try:
                with Path(name).open("rb") as lines:
                    judged, bad_here = asyncio.run(self._judge(name, classifier, read_rows(lines)))
            except OSError as error:
                raise CommandError(f"cannot read {name}: {error.strerror}") from error
            bad += bad_here
            reports[name] = evaluate(judged)
            if not options["json"]:
                self.stdout.write(f"{name}: {as_text(reports[name])}\n")
        if options["json"]:
            self.stdout.write(json.dumps(reports, indent=1))
        if bad:
            raise CommandError(f"{bad} bad line{'s' if bad > 1 else ''}", returncode=1)

    async def _judge(self, name: str, classifier: Any, rows: Any) -> tuple[list[Judged], int]:
        judged, bad = [], 0
        async for answer in classify_rows(classifier, rows):
            problem = answer if isinstance(answer, BadLine) else None
            if not isinstance(answer, BadLine):
                try:
                    judged.append(_judged(*answer))
                except ValueError as error:
                    problem = BadLine(answer[0]["id"], str(error))
            if problem:
                bad += 1
                self.stderr.write(f"{name}, line {problem.number}: {problem.problem}")
        return judged, bad


def _judged(row: Row, verdict: Any) -> Judged:
    """`label`: safe or unsafe; a category's name in its place means unsafe. `categories`, or one `category`, may be there."""
    label = row.get("label")
    if not isinstance(label, str) or not label:
        raise ValueError("`label` must be safe or unsafe")
    unsafe = label != "safe"
    listed = row.get("categories") or ([row["category"]] if row.get("category") not in (None, "", "none") else [])
    if not isinstance(listed, list):
        raise ValueError("`categories` must be a list")
    categories = tuple(map(str, listed)) if unsafe else ()
    if unsafe and not categories and label != "unsafe":
        categories = (label,)
    severity = str(row.get("severity") or "")
    if unsafe and not severity and categories:
        severity = max((severity_of(category) for category in categories), key=lambda s: s.rank).value
    return Judged(unsafe, categories, severity if unsafe else "", verdict)
