"""Stored scores are packed: all of them, once, and no longer than the exchange is there."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest
from django.utils import timezone

from classifiers.result import ClassifierResult
from guardreview.learning import score_blocks
from guardreview.learning.models import ScoreBlock
from guardreview.learning.score_blocks import blocks_since, score_blocks_update, unpacked_since
from guardreview.verdicts.models import Exchange, Verdict
from tests import scenes

LONG_AGO = timezone.now() - timedelta(days=365)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_blocks, "BLOCK_ROWS", 4)


def answer(minutes_ago: float, score: float = 0.5) -> Exchange:
    results = [ClassifierResult(True, "safe", "", 0.9, layer="rules"), scenes.finetuned(score)]
    exchange = scenes.item(str(minutes_ago), "r", results=results).exchange
    Verdict.objects.filter(pk=exchange.pk).update(decided_at=timezone.now() - timedelta(minutes=minutes_ago))
    return exchange


def packed() -> list[UUID]:
    return [part.key(row) for part in blocks_since(LONG_AGO) for row in range(len(part))]


def everything() -> list[UUID]:
    fresh, more = unpacked_since(LONG_AGO)
    assert more == 0
    return [*packed(), *(fresh.key(row) for row in range(len(fresh)))]


def test_every_verdict_is_in_one_block_and_what_is_new_joins_the_last(db: None) -> None:
    made = [answer(minutes).pk for minutes in range(100, 90, -1)]
    assert score_blocks_update() == 10
    assert [block.rows for block in ScoreBlock.objects.order_by("first_verdict")] == [4, 4, 2]
    assert sorted(packed()) == sorted(made)
    assert score_blocks_update() == 0
    made += [answer(minutes).pk for minutes in (50, 40, 30)]
    assert sorted(everything()) == sorted(made)
    assert score_blocks_update() == 3
    assert [block.rows for block in ScoreBlock.objects.order_by("first_verdict")] == [4, 4, 4, 1]
    assert sorted(everything()) == sorted(made)


def test_a_verdict_of_this_moment_is_read_but_not_packed_yet(db: None) -> None:
    made = answer(0)
    assert score_blocks_update() == 0
    assert everything() == [made.pk]


def test_a_verdict_that_came_late_is_found_wherever_it_belongs(db: None) -> None:
    made = [answer(minutes).pk for minutes in range(100, 92, -1)]
    score_blocks_update()
    between = answer(96.5)  # between two blocks: read at once
    assert sorted(everything()) == sorted([*made, between.pk])
    within = answer(98.5)  # within one: the task sees that there is one more
    score_blocks_update()
    assert sorted(packed()) == sorted([*made, between.pk, within.pk])


def test_a_deleted_exchange_vanishes_at_once_and_the_others_stay(db: None) -> None:
    made = [answer(minutes) for minutes in range(100, 92, -1)]
    score_blocks_update()
    gone = made[2]
    gone.review_item.delete()
    gone.delete()
    left = sorted(exchange.pk for exchange in made if exchange is not gone)
    assert sorted(everything()) == left
    score_blocks_update()
    assert sorted(packed()) == left
    # Deleted by the database alone, where Django hears nothing.
    Verdict.objects.filter(pk=left[0])._raw_delete("default")
    score_blocks_update()
    assert sorted(packed()) == left[1:]


def test_verdicts_of_one_moment_go_into_one_block(db: None) -> None:
    moment = timezone.now() - timedelta(hours=1)
    made = [answer(60).pk for _ in range(7)]
    Verdict.objects.update(decided_at=moment)
    score_blocks_update()
    assert [block.rows for block in ScoreBlock.objects.all()] == [7]
    assert sorted(packed()) == sorted(made)


def test_two_who_pack_at_once_pack_nothing_twice(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [answer(minutes).pk for minutes in (100, 99, 98)]
    read = score_blocks.read

    def slow(rows: list[tuple[object, ...]]) -> score_blocks.Scores:
        monkeypatch.setattr(score_blocks, "read", read)
        score_blocks_update()  # the other, in the middle of this one
        return read(rows)

    monkeypatch.setattr(score_blocks, "read", slow)
    score_blocks_update()
    assert sorted(packed()) == sorted(made)


def test_what_is_read_live_is_bounded_and_the_rest_is_counted(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_blocks, "LIVE_ROWS", 3)
    made = [answer(minutes) for minutes in range(100, 92, -1)]
    fresh, more = unpacked_since(LONG_AGO)
    assert (more, {fresh.key(row) for row in range(3)}) == (5, {exchange.pk for exchange in made[-3:]})


def test_a_block_holds_no_pickle_and_no_words(db: None) -> None:
    answer(100)
    score_blocks_update()
    data = bytes(ScoreBlock.objects.get().columns)
    assert b"Traceback" not in data
    assert all(member.dtype != object for member in np.load(__import__("io").BytesIO(data), allow_pickle=False).values())
