"""`manage.py evaluate FILE.jsonl`: how well the cascade does on labelled exchanges."""

import asyncio
import json
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from classifiers.combined import CombinedSafetyClassifier
from classifiers.evaluation import Judged, Truth, as_text, evaluate
from classifiers.policy import UNSAFE
from classifiers.result import CATEGORIES, SAFE, Severity, family_of, severity_of
from guardreview.verdicts.offline import BadLine, Row, cascade, classify_rows, read_rows

FAMILIES = frozenset(map(family_of, CATEGORIES))


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
        classifier = cascade(active=options["active"], progress=self.stderr.write)
        reports, bad = {}, 0
        for name in options["files"]:
            try:
                with Path(name).open("rb") as lines:
                    judged, bad_here = asyncio.run(self._judge(name, classifier, labelled(read_rows(lines))))
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

    async def _judge(
        self, name: str, classifier: CombinedSafetyClassifier, rows: Iterable[Row | BadLine]
    ) -> tuple[list[Judged], int]:
        judged, bad = [], 0
        async for answer in classify_rows(classifier, rows):
            if isinstance(answer, BadLine):
                bad += 1
                self.stderr.write(f"{name}, line {answer.number}: {answer.problem}")
            else:
                row, verdict = answer
                judged.append(Judged.of(truth_of(row), verdict))
        return judged, bad


def labelled(rows: Iterable[Row | BadLine]) -> Iterator[Row | BadLine]:
    """The rows; one whose label cannot be read is a bad line, before any judge is paid for it."""
    for row in rows:
        if isinstance(row, Row):
            try:
                truth_of(row)
            except ValueError as error:
                yield BadLine(row.number, str(error))
                continue
        yield row


def truth_of(row: Row) -> Truth:
    """`label`: safe, unsafe or, for unsafe, a category's name. `categories`, or one `category`, and `severity` may be there.

    A severity that is not stated is the gravest of the categories'. Raises ValueError.
    """
    label, severity = row.fields.get("label"), row.fields.get("severity") or ""
    if label not in (SAFE, UNSAFE) and not (isinstance(label, str) and family_of(label) in FAMILIES):
        raise ValueError("`label` must be safe, unsafe or a category")
    if severity not in ("", *Severity):
        raise ValueError("`severity` must be critical, major or minor")
    category = row.fields.get("category")
    categories = row.fields.get("categories") or ([] if category in (None, "", "none", SAFE) else [category])
    if not isinstance(categories, list) or not all(isinstance(name, str) for name in categories):
        raise ValueError("`categories` must be a list of texts")
    if label == SAFE:
        return Truth(unsafe=False)
    if label != UNSAFE and not categories:
        categories = [label]
    if categories and not severity:
        severity = max(map(severity_of, categories), key=lambda s: s.rank).value
    return Truth(unsafe=True, categories=tuple(categories), severity=severity)
