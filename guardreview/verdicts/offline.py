"""The cascade over files, in one process: what `manage.py classify` and `evaluate` share."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError

from classifiers.combined import CombinedSafetyClassifier
from classifiers.encoder.bundle import InvalidBundle
from classifiers.finetuned import PharmacySafetyClassifier
from classifiers.policy import InvalidPolicy, Policy
from classifiers.result import Verdict
from classifiers.rules.rule import RuleError
from guardreview.verdicts import models, runtime

CONCURRENCY = 8
CHUNK = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One exchange of a file: `number` of its line, and `fields`, the whole JSON object."""

    number: int
    id: str | float
    query: str
    response: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be classified, by number, and why."""

    number: int
    problem: str


def cascade(*, active: bool, progress: Callable[[str], None]) -> CombinedSafetyClassifier:
    """The shipped policy, rules and model, or with `active` those of the database at this moment.

    Raises CommandError where they cannot be had.
    """
    try:
        judge = runtime.judge() if runtime.judge_is_configured() else None
        if active:
            row = runtime.active_policy()
            judge = judge and runtime.judge(row.judge_model, policy_version=str(row))
            return CombinedSafetyClassifier(runtime.rules(), judge, runtime.finetuned(), policy=row.as_cascade_policy())
        finetuned = PharmacySafetyClassifier(runtime.shipped_bundle(progress=progress))
        return CombinedSafetyClassifier(runtime.shipped_rules(), judge, finetuned, policy=Policy.shipped())
    except models.Policy.DoesNotExist as error:
        raise CommandError("the database has no active policy: run `manage.py setup`") from error
    except (InvalidBundle, InvalidPolicy, RuleError, DatabaseError) as error:
        raise CommandError(str(error)) from error


def read_rows(lines: Iterable[bytes]) -> Iterator[Row | BadLine]:
    """JSON lines with a `response` and, if known, a `query` and an `id` (else the line's number); blank ones are skipped."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _read_row(number, line)
        except ValueError as error:
            yield BadLine(number, str(error))
        except RecursionError:
            yield BadLine(number, "nested too deeply")


def _read_row(number: int, line: bytes) -> Row:
    try:
        fields = json.loads(line.rstrip().decode("utf-8-sig" if number == 1 else "utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    response, query, id = fields.get("response"), fields.get("query"), fields.get("id")
    if not isinstance(response, str) or not response.strip():
        raise ValueError("`response` must be a non-empty text")
    if query is not None and not isinstance(query, str):
        raise ValueError("`query` must be a text")
    for name, text in (("response", response), ("query", query or "")):
        if len(text) > settings.MAX_TEXT_CHARS:
            raise ValueError(f"`{name}` is longer than {settings.MAX_TEXT_CHARS:,} characters")
    if id is not None and (isinstance(id, bool) or not isinstance(id, str | int | float) or id in (math.inf, -math.inf)):
        raise ValueError("`id` must be a text or a number")
    return Row(number, number if id is None else id, query or "", response, fields)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"not JSON: {constant}")


async def classify_rows(
    classifier: CombinedSafetyClassifier, rows: Iterable[Row | BadLine]
) -> AsyncIterator[tuple[Row, Verdict] | BadLine]:
    """Verdicts in the rows' order, `CONCURRENCY` at a time, holding `CHUNK` rows in memory."""
    running = asyncio.Semaphore(CONCURRENCY)

    async def one(row: Row | BadLine) -> tuple[Row, Verdict] | BadLine:
        if isinstance(row, BadLine):
            return row
        async with running:
            return row, await classifier.classify(row.response, row.query)

    source = iter(rows)
    while chunk := list(islice(source, CHUNK)):
        for answer in await asyncio.gather(*map(one, chunk)):
            yield answer
