"""Stored scores, packed column by column: what a million verdicts rest on, small enough to be replayed while one waits.

A block holds all verdicts from its first to its last moment. Blocks never overlap; what lies in none of them is read from the
layers' results, a few thousand rows at most, and packed by the task. A block that does not hold as many verdicts as the database
has in its stretch of time is packed anew: so late verdicts come in, and deleted ones go.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.utils import timezone

from classifiers.policy import UNSAFE
from classifiers.result import SAFE, UNDECIDED, Decision, Layer, most_severe
from guardreview.learning.models import ScoreBlock
from guardreview.verdicts.models import LayerResult, Verdict

BLOCK_ROWS: Final = 50_000
LIVE_ROWS: Final = 10_000
"""Verdicts in no block that are read for one replay, the latest."""
SETTLED_AFTER: Final = timedelta(minutes=2)
"""A verdict is committed some moments after its time: what is younger is not packed yet."""
ONE: Final = 1_000_000
"""Scores are packed in millionths: the classifier gives six decimals, so nothing is lost."""
NOT_SCORED: Final = -1
PACK_LOCK: Final = 7_204_312
"""The PostgreSQL advisory lock under which blocks are stored; SQLite's one writer needs none."""
NONE: Final = 255
"""In place of a category: none."""


class Said(IntEnum):
    """What a layer's result means to `decide`, but for the scores. `UNSURE`: neither blocks nor allows."""

    MISSING = 0
    FAILED = 1
    SAFE = 2
    UNSAFE = 3
    UNSURE = 4


DECISIONS: Final = (Decision.ALLOW, Decision.BLOCK, Decision.HOLD)


@dataclass(frozen=True, slots=True)
class Scores:
    """n verdicts as columns. `scores`: (labels, n) in millionths, NOT_SCORED where a label was not scored.

    `rules`, `finetuned`, `judge`: a Said each; the fine-tuned layer that ran is SAFE unless it escalated: its scores do the rest.
    `confidence`, `cost`: the judge's, and USD. `served`: an index of DECISIONS. `category`, `found`: indices of `categories`: the
    verdict's, and the gravest that the rules found (NONE: nothing). `exchange`: 16 bytes. `decided_at`: microseconds since 1970.
    """

    labels: tuple[str, ...]
    categories: tuple[str, ...]
    scores: npt.NDArray[np.int32]
    rules: npt.NDArray[np.uint8]
    finetuned: npt.NDArray[np.uint8]
    judge: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float64]
    cost: npt.NDArray[np.float32]
    served: npt.NDArray[np.uint8]
    category: npt.NDArray[np.uint8]
    found: npt.NDArray[np.uint8]
    app: npt.NDArray[np.int32]
    exchange: npt.NDArray[np.void]
    decided_at: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rules)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Scores:
        """These rows alone."""
        if chosen.all():
            return self
        rows = {each.name: getattr(self, each.name)[..., chosen] for each in fields(self)[2:]}
        return Scores(self.labels, self.categories, **rows)

    def key(self, row: int) -> UUID:
        """The exchange of a row."""
        return UUID(bytes=self.exchange[row].tobytes())


def microseconds(moment: datetime) -> int:
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


# --- As bytes ---------------------------------------------------------------------------------------------------------------
def pack(scores: Scores) -> bytes:
    """An `.npz`, without pickle and uncompressed: reading it back costs next to nothing."""
    buffer = io.BytesIO()
    columns = {each.name: getattr(scores, each.name) for each in fields(scores)[2:]}
    np.savez(
        buffer,
        allow_pickle=False,
        labels=np.array(scores.labels, dtype=np.str_),
        categories=np.array(scores.categories, dtype=np.str_),
        **columns,
    )
    return buffer.getvalue()


def unpack(data: bytes | memoryview) -> Scores:
    """The inverse of `pack`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        labels, categories = (tuple(map(str, file[name].tolist())) for name in ("labels", "categories"))
        return Scores(labels, categories, **{each.name: file[each.name] for each in fields(Scores)[2:]})


# --- From the database ------------------------------------------------------------------------------------------------------
VERDICT_FIELDS: Final = ("pk", "decision", "category", "decided_at", "exchange__app_id")
RESULT_FIELDS: Final = (
    "exchange_id", "layer", "is_safe", "category", "categories", "confidence", "scores", "escalate", "error", "cost_usd",
)  # fmt: skip
Result = Mapping[str, Any]


def read(verdicts: Sequence[tuple[Any, ...]]) -> Scores:
    """Columns of verdicts given as VERDICT_FIELDS, in their order, with what their layers said."""
    results: dict[UUID, dict[str, Result]] = defaultdict(dict)
    keys = [row[0] for row in verdicts]
    for start in range(0, len(keys), 500):
        for values in LayerResult.objects.filter(exchange__in=keys[start : start + 500]).order_by().values(*RESULT_FIELDS):
            results[values["exchange_id"]][values["layer"]] = values
    return columns(verdicts, results)


def columns(verdicts: Sequence[tuple[Any, ...]], results: Mapping[UUID, Mapping[str, Result]]) -> Scores:
    """Verdicts as VERDICT_FIELDS and, by exchange and layer, the fields of their results as columns."""
    n = len(verdicts)
    scored: dict[str, npt.NDArray[np.int32]] = {}
    names: dict[str, int] = {}
    empty = np.zeros(n, dtype=np.uint8)
    rules, finetuned, judge, served, category, found = (empty.copy() for _ in range(6))
    confidence, cost = np.zeros(n), np.zeros(n, dtype=np.float32)
    for row, (key, decision, named, *_) in enumerate(verdicts):
        said = results.get(key, {})
        served[row] = DECISIONS.index(Decision(decision))
        category[row] = names.setdefault(named, len(names))
        rules[row] = _rules_said(said.get(Layer.RULES))
        finetuned[row] = _finetuned_said(said.get(Layer.FINETUNED))
        judge[row] = _judge_said(said.get(Layer.JUDGE))
        gravest = _found(said.get(Layer.RULES))
        found[row] = names.setdefault(gravest, len(names)) if gravest else NONE
        if finetuned[row] in (Said.SAFE, Said.UNSURE):
            for label, score in scores_of(said[Layer.FINETUNED]).items():
                if label not in scored:
                    scored[label] = np.full(n, NOT_SCORED, dtype=np.int32)
                scored[label][row] = round(score * ONE)
        if judged := said.get(Layer.JUDGE):
            confidence[row] = judged["confidence"] if judge[row] != Said.FAILED else 0
            cost[row] = judged["cost_usd"]
    labels = sorted(scored, key=lambda label: (label != UNSAFE, label))
    return Scores(
        labels=tuple(labels),
        categories=tuple(names),
        scores=np.array([scored[label] for label in labels], dtype=np.int32).reshape(len(labels), n),
        rules=rules,
        finetuned=finetuned,
        judge=judge,
        confidence=confidence,
        cost=cost,
        served=served,
        category=category,
        found=found,
        app=np.array([row[4] for row in verdicts], dtype=np.int32),
        exchange=np.array([row[0].bytes for row in verdicts], dtype="V16"),
        decided_at=np.array([microseconds(row[3]) for row in verdicts], dtype=np.int64),
    )


def scores_of(result: Result) -> dict[str, float]:
    """P(label) by the fine-tuned classifier; one that states no P(unsafe) has said it with its confidence."""
    return {UNSAFE: 1 - result["confidence"] if result["is_safe"] else result["confidence"], **result["scores"]}


def _failed(result: Result) -> bool:
    numbers: tuple[Any, ...] = (result["confidence"], *result["scores"].values())
    return bool(result["error"]) or not all(isinstance(number, int | float) and 0 <= number <= 1 for number in numbers)


def _rules_said(result: Result | None) -> Said:
    if result is None:
        return Said.MISSING
    if _failed(result):
        return Said.FAILED
    if not result["is_safe"] and not result["escalate"]:
        return Said.UNSAFE
    return Said.UNSURE if result["escalate"] or result["categories"] else Said.SAFE


def _finetuned_said(result: Result | None) -> Said:
    if result is None:
        return Said.MISSING
    if _failed(result):
        return Said.FAILED
    return Said.UNSURE if result["escalate"] else Said.SAFE


def _judge_said(result: Result | None) -> Said:
    """One that contradicts itself is unsure: it is held, whatever its confidence."""
    if result is None:
        return Said.MISSING
    if _failed(result):
        return Said.FAILED
    if result["escalate"] or (result["is_safe"] and result["categories"]):
        return Said.UNSURE
    return Said.SAFE if result["is_safe"] else Said.UNSAFE


def _found(rules: Result | None) -> str:
    named = [name for name in (rules or {}).get("categories", ()) if name not in (SAFE, UNDECIDED, UNSAFE)]
    return most_severe(named) if named else ""


# --- Blocks -----------------------------------------------------------------------------------------------------------------
Stretch = tuple[datetime | None, datetime | None]
"""Between two moments, neither of which belongs to it; None: without an end."""


def blocks_since(since: datetime) -> Iterator[Scores]:
    """Packed verdicts from a moment on, the latest blocks first; a block that began before is cut."""
    earliest = microseconds(since)
    for first, data in _stored(since):
        scores = unpack(data)
        yield scores if first >= since else scores.where(scores.decided_at >= earliest)


def _stored(since: datetime) -> Iterator[tuple[datetime, bytes | memoryview]]:
    stored = ScoreBlock.objects.filter(last_verdict__gte=since).order_by("-last_verdict").values_list("first_verdict", "columns")
    if connection.vendor != "postgresql":
        yield from stored.iterator(chunk_size=4)
        return
    # Else each byte comes as two characters, which takes longer than all the rest.
    import psycopg

    keys = list(stored.values_list("pk", "first_verdict"))
    table = ScoreBlock._meta.db_table
    with psycopg.Cursor(connection.connection) as cursor:
        for key, first in keys:
            cursor.execute(f"SELECT columns FROM {table} WHERE id = %s", [key], binary=True)  # noqa: S608
            row = cursor.fetchone()
            if row is not None:  # not packed anew at this moment
                yield first, row[0]


def unpacked_since(since: datetime) -> tuple[Scores, int]:
    """The latest verdicts from a moment on that lie in no block, LIVE_ROWS at most, and how many more there are."""
    rows: list[tuple[Any, ...]] = []
    more = 0
    for after, before in reversed(_gaps()):
        if before is not None and before <= since:
            continue
        verdicts = _between(after, before).filter(decided_at__gte=since)
        room = LIVE_ROWS - len(rows)
        taken = list(verdicts.order_by("-decided_at", "-pk").values_list(*VERDICT_FIELDS)[:room])
        rows += taken
        if len(taken) == room:
            more += verdicts.count() - len(taken)
    return read(rows), more


def score_blocks_update(*, now: datetime | None = None) -> int:
    """Pack what is in no block, and anew what does not hold what it should; how many verdicts were packed. Safe at any time."""
    for block in ScoreBlock.objects.defer("columns").iterator():
        there = Verdict.objects.filter(decided_at__gte=block.first_verdict, decided_at__lte=block.last_verdict).count()
        if there != block.rows:
            ScoreBlock.objects.filter(pk=block.pk).delete()
    until = (now or timezone.now()) - SETTLED_AFTER
    packed = 0
    for after, before in _gaps():
        packed += _fill(after, before, until)
    return packed


def _gaps() -> list[Stretch]:
    """The stretches of time that no block holds, the earliest first."""
    edges = list(ScoreBlock.objects.order_by("first_verdict").values_list("first_verdict", "last_verdict"))
    if not edges:
        return [(None, None)]
    inner: list[Stretch] = [(one[1], two[0]) for one, two in pairwise(edges)]
    return [(None, edges[0][0]), *inner, (edges[-1][1], None)]


def _between(after: datetime | None, before: datetime | None) -> QuerySet[Verdict]:
    verdicts = Verdict.objects.all()
    if after is not None:
        verdicts = verdicts.filter(decided_at__gt=after)
    return verdicts if before is None else verdicts.filter(decided_at__lt=before)


def _fill(after: datetime | None, before: datetime | None, until: datetime) -> int:
    count = 0
    while True:
        verdicts = _between(after, before).filter(decided_at__lte=until).order_by("decided_at", "pk")
        begun = _unfinished(after) if before is None else None
        room = BLOCK_ROWS - (begun.rows if begun else 0)
        ends = verdicts.values_list("decided_at", flat=True)[room - 1 : room].first()
        # All of one moment go into one block.
        rows = list((verdicts if ends is None else verdicts.filter(decided_at__lte=ends)).values_list(*VERDICT_FIELDS))
        if not rows:
            return count
        _store(read(rows), rows[0][3], rows[-1][3], begun)
        count += len(rows)
        after = rows[-1][3]


def _unfinished(last: datetime | None) -> ScoreBlock | None:
    """The latest block, if there is room in it: else each run of the task would leave a small one."""
    if last is None:
        return None
    return ScoreBlock.objects.defer("columns").filter(last_verdict=last, rows__lt=BLOCK_ROWS).first()


def _store(scores: Scores, first: datetime, last: datetime, begun: ScoreBlock | None) -> None:
    """A new block, or the one that was begun with these rows added. Nothing, if another packed them meanwhile."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [PACK_LOCK])
        if ScoreBlock.objects.filter(first_verdict__lte=last, last_verdict__gte=first).exists():
            return
        earlier = ScoreBlock.objects.filter(pk=begun.pk, last_verdict=begun.last_verdict).first() if begun else None
        if earlier is None:
            ScoreBlock.objects.create(first_verdict=first, last_verdict=last, rows=len(scores), columns=pack(scores))
            return
        joined = join([unpack(earlier.columns), scores])
        earlier.last_verdict, earlier.rows, earlier.columns = last, len(joined), pack(joined)
        earlier.save(update_fields=["last_verdict", "rows", "columns"])


def join(parts: Iterable[Scores]) -> Scores:
    """The rows of all of them; what one of them did not score is NOT_SCORED there. Raises ValueError on none."""
    parts = list(parts)
    labels = tuple(dict.fromkeys(label for part in parts for label in part.labels))
    names = {name: index for index, name in enumerate(dict.fromkeys(name for part in parts for name in part.categories))}
    lines = [np.concatenate([_line(part, label) for part in parts]) for label in labels]
    coded = {}
    for column in ("category", "found"):
        translated = []
        for part in parts:
            table = np.full(256, NONE, dtype=np.uint8)
            table[: len(part.categories)] = [names[name] for name in part.categories]
            translated.append(table[getattr(part, column)])
        coded[column] = np.concatenate(translated)
    own = [each.name for each in fields(Scores)[3:] if each.name not in coded]
    same = {name: np.concatenate([getattr(part, name) for part in parts]) for name in own}
    scores = np.array(lines, dtype=np.int32).reshape(len(labels), sum(map(len, parts)))
    return Scores(labels=labels, categories=tuple(names), scores=scores, **coded, **same)


def _line(part: Scores, label: str) -> npt.NDArray[np.int32]:
    if label in part.labels:
        return np.asarray(part.scores[part.labels.index(label)])
    return np.full(len(part), NOT_SCORED, dtype=np.int32)


@receiver(post_delete, sender=Verdict)
def forget(sender: type[Verdict], instance: Verdict, **kwargs: object) -> None:
    """A deleted exchange is in no block from now on: the one that held it is packed anew."""
    ScoreBlock.objects.filter(first_verdict__lte=instance.decided_at, last_verdict__gte=instance.decided_at).delete()
