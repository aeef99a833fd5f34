"""`manage.py evaluate FILE.jsonl`: how well the cascade does on labelled exchanges; with `--judge`, the judge by itself."""

import asyncio
import json
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from classifiers.combined import CombinedSafetyClassifier
from classifiers.evaluation import Judged, Truth, as_text, evaluate
from classifiers.evaluation_report import as_html
from classifiers.policy import UNSAFE, InvalidPolicy, Policy
from classifiers.result import CATEGORIES, SAFE, Layer, Severity, Verdict, family_of, severity_of
from guardreview.verdicts import models, runtime
from guardreview.verdicts.offline import BadLine, Row, cascade, classify_rows, read_rows

TELL_EVERY_S = 2.0
FAMILIES = frozenset(map(family_of, CATEGORIES))


@dataclass
class Tally:
    """What the judge was asked, what it cost, and why it gave no judgment where it gave none."""

    asked: int = 0
    cost_usd: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        self.cost_usd += verdict.cost_usd
        for result in verdict.results:
            if result.layer == Layer.JUDGE:
                self.asked += 1
                self.failures.update([result.error] if result.error else [])

    def as_json(self) -> dict[str, Any]:
        return {"asked": self.asked, "cost_usd": round(self.cost_usd, 6), "failures": dict(self.failures.most_common())}

    def __str__(self) -> str:
        failed = "".join(f"; {count} failed: {reason}" for reason, count in self.failures.most_common())
        return f"the judge was asked {self.asked} times, for {self.cost_usd:.4f} USD{failed}"


class Command(BaseCommand):
    help = "Precision, recall, false positives and negatives with 95 % intervals on rows with a label."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "files", nargs="+", metavar="FILE.jsonl", help='lines of {"query", "response", "label": "safe" or "unsafe", ...}'
        )
        parser.add_argument("--active", action="store_true", help="policy, rules and model of the database, not the shipped ones")
        parser.add_argument("--judge", action="store_true", help="ask the judge about every row, and no other layer")
        parser.add_argument("--json", action="store_true", help="the report as JSON")
        parser.add_argument(
            "--html", type=Path, metavar="REPORT.html", help="also write the report as a page, with the worst errors"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["judge"]:
            classifier = judge_alone(active=options["active"])
        else:
            classifier = cascade(active=options["active"], progress=self.stderr.write)
        reports, bad, tally = {}, 0, Tally()
        for name in options["files"]:
            try:
                with Path(name).open("rb") as lines:
                    judged, bad_here = asyncio.run(self._judge(name, classifier, labelled(read_rows(lines)), tally))
            except OSError as error:
                raise CommandError(f"cannot read {name}: {error.strerror}") from error
            bad += bad_here
            reports[name] = evaluate(judged)
            if not options["json"]:
                self.stdout.write(f"{name}: {as_text(reports[name])}\n")
        if options["html"]:
            options["html"].write_text(as_html(reports), encoding="utf-8")
        if options["json"]:
            self.stdout.write(json.dumps(reports | ({"judge": tally.as_json()} if options["judge"] else {}), indent=1))
        if tally.asked:
            self.stderr.write(str(tally))
        if bad:
            raise CommandError(f"{bad} bad line{'s' if bad > 1 else ''}", returncode=1)

    async def _judge(
        self, name: str, classifier: CombinedSafetyClassifier, rows: Iterable[Row | BadLine], tally: Tally
    ) -> tuple[list[Judged], int]:
        judged, bad, told = [], 0, time.monotonic()
        async for answer in classify_rows(classifier, rows):
            if isinstance(answer, BadLine):
                bad += 1
                self.stderr.write(f"{name}, line {answer.number}: {answer.problem}")
            else:
                row, verdict = answer
                judged.append(Judged.of(truth_of(row), verdict, id=str(row.id), query=row.query, response=row.response))
                tally.add(verdict)
            if time.monotonic() - told > TELL_EVERY_S:
                told = time.monotonic()
                self.stderr.write(f"{name}: {len(judged)} rows, {tally.cost_usd:.4f} USD so far")
        return judged, bad


def judge_alone(*, active: bool) -> CombinedSafetyClassifier:
    """The cascade with no layer but the judge, asked anew each time. Raises CommandError where there is none."""
    if not runtime.judge_is_configured():
        raise CommandError("there is no judge to measure: set JUDGE_API_KEY, or JUDGE_BASE_URL for a server without keys")
    try:
        policy = runtime.active_policy().as_cascade_policy() if active else Policy.shipped()
    except models.Policy.DoesNotExist as error:
        raise CommandError("the database has no active policy: run `manage.py setup`") from error
    except (InvalidPolicy, DatabaseError) as error:
        raise CommandError(str(error)) from error
    judge = runtime.judge(policy.judge_model, cached=False)
    return CombinedSafetyClassifier(None, judge, policy=replace(policy, layers=(Layer.JUDGE,)))


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
