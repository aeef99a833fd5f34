"""The cascade over files, in one process: what `manage.py classify` and `evaluate` share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.conf import settings

from classifiers.combined import CombinedSafetyClassifier
from classifiers.finetuned import PharmacySafetyClassifier
from classifiers.policy import Policy
from classifiers.result import Verdict
from guardreview.verdicts import runtime

CONCURRENCY = 8
CHUNK = 64


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be classified, by number, and why."""

    number: int
    problem: str


Row = dict[str, Any]


def cascade(*, active: bool, progress: Callable[[str], None]) -> CombinedSafetyClassifier:
    """The shipped policy and model, or with `active` those of the database. Raises InvalidBundle, Policy.DoesNotExist."""
    judge = runtime.judge() if runtime.judge_is_configured() else None
    if active:
        row = runtime.active_policy()
        judge = judge and runtime.judge(row.judge_model)
        return CombinedSafetyClassifier(runtime.rules(), judge, runtime.finetuned(), policy=row.as_cascade_policy())
    bundle = runtime.shipped_bundle(progress=progress)
    return CombinedSafetyClassifier(runtime.rules(), judge, PharmacySafetyClassifier(bundle), policy=Policy.shipped())


def read_rows(lines: Iterable[bytes]) -> Iterator[Row | BadLine]:
    """JSON lines with a `response` and, if it is known, a `query` and an `id` (else the line's number)."""
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
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    response, query = row.get("response"), row.get("query")
    if not isinstance(response, str) or not response.strip():
        raise ValueError("`response` must be a non-empty text")
    if query is not None and not isinstance(query, str):
        raise ValueError("`query` must be a text")
    for name, text in (("response", response), ("query", query or "")):
        if len(text) > settings.MAX_TEXT_CHARS:
            raise ValueError(f"`{name}` is longer than {settings.MAX_TEXT_CHARS:,} characters")
    return {**row, "id": row.get("id", number), "query": query or ""}


async def classify_rows(
    classifier: CombinedSafetyClassifier, rows: Iterable[Row | BadLine]
) -> AsyncIterator[tuple[Row, Verdict] | BadLine]:
    """Verdicts in the rows' order, `CONCURRENCY` at a time, holding `CHUNK` rows in memory."""
    running = asyncio.Semaphore(CONCURRENCY)

    async def one(row: Row | BadLine) -> tuple[Row, Verdict] | BadLine:
        if isinstance(row, BadLine):
            return row
        async with running:
            return row, await classifier.classify(row["response"], row["query"])

    source = iter(rows)
    while chunk := list(islice(source, CHUNK)):
        for answer in await asyncio.gather(*map(one, chunk)):
            yield answer
