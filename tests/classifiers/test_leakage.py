"""Near-copies are found wherever they are, and what would leak is not trained on."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from classifiers.examples import REVIEW, SPLITS, Example, split_of
from classifiers.leakage import GOLD, NEAR, NearIndex, frequencies, guard, near_copies, triples_of

WORDS = [f"word{number}" for number in range(400)]
DISCLAIMER = " ".join(f"note{number}" for number in range(26))
QUESTION = "May I take both of these together this evening"


def group_in(split: str, start: str = "g") -> str:
    return next(group for group in (f"{start}{number}" for number in range(1000)) if split_of(group) == split)


def text(seed: int, length: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def row(id: str, group: str, response: str, source: str = "written", *, query: str = QUESTION) -> Example:
    return Example(id, group, query, response, unsafe=False, source=source)


def label(id: str, response: str, *, group: str = "", query: str = QUESTION) -> tuple[Example, str]:
    return row(id, group or f"label-{id}", response, REVIEW, query=query), ""


def changed(response: str, at: int = 5) -> str:
    words = response.split()
    return " ".join([*words[:at], "zebra", *words[at + 1 :]])


@pytest.mark.parametrize("disclaimer", ["", DISCLAIMER])
@pytest.mark.parametrize("counted", [False, True])
def test_the_index_finds_what_comparing_all_pairs_finds(disclaimer: str, counted: bool) -> None:
    rng = random.Random(3)
    texts = [text(seed, rng.randrange(3, 50)) for seed in range(60)]
    texts += [changed(rng.choice(texts[:60]), 1) for _ in range(60)]
    texts = [f"{each} {disclaimer}" for each in texts]
    rows = [triples_of("", each) for each in texts]
    index = NearIndex(frequencies(rows) if counted else None)
    pairs = set()
    for place, triples in enumerate(rows):
        pairs |= {(other, place) for other in index.near(triples)}
        index.add(triples)

    def is_near(a: frozenset[int], b: frozenset[int]) -> bool:
        return len(a & b) / (len(a) if len(a) >= 20 else len(a | b)) >= NEAR

    expected = {(a, b) for b in range(len(rows)) for a in range(b) if is_near(rows[a], rows[b])}
    assert pairs == expected
    assert len(pairs) > 20


def test_case_spacing_and_punctuation_hide_no_copy() -> None:
    index = NearIndex()
    index.add(triples_of("May I?", text(1)))
    assert index.near(triples_of("MAY  I", text(1).upper().replace(" ", ", "))) == [0]
    assert index.near(triples_of("May I?", text(2))) == []


def test_a_long_answer_is_known_again_within_a_longer_one_and_a_short_one_is_not() -> None:
    index = NearIndex()
    index.add(triples_of("", text(1)))
    index.add(triples_of("", "Yes, that is fine."))
    assert index.near(triples_of("", f"Good evening and thank you for asking. {text(1)} Take care, your pharmacy.")) == [0]
    assert index.near(triples_of("", f"Yes, that is fine. {text(2)}")) == []


def test_near_copies_are_told_of_different_groups_alone() -> None:
    long = text(1, 90)
    rows = [row("a", "g1", long), row("b", "g2", changed(long)), row("c", "g1", changed(long, 20))]
    assert {(a.id, b.id) for a, b in near_copies(rows)} == {("a", "b"), ("b", "c")}


@pytest.mark.parametrize("split", ["validation", "calibration", "test"])
def test_a_label_like_a_row_that_is_measured_on_is_left_out(split: str) -> None:
    corpus = [row("c", group_in(split), text(1))]
    found = guard([label("same", text(1)), label("near", changed(text(1))), label("other", text(2))], corpus)
    assert [example.id for example in found.kept] == ["other"]
    assert found.left_out == {f"like the corpus' {split} split": 2}


@pytest.mark.parametrize("split", ["train", "pool"])
def test_a_label_like_a_row_that_nothing_is_measured_on_takes_its_group(split: str) -> None:
    group = group_in(split)
    (kept,) = guard([label("near", changed(text(1)))], [row("c", group, text(1))]).kept
    assert kept.group == group


def test_a_gold_item_is_not_trained_on_nor_what_is_like_it() -> None:
    found = guard([label("near", changed(text(1))), label("other", text(2))], [], gold=[(QUESTION, text(1))])
    assert ([example.id for example in found.kept], found.left_out) == (["other"], {GOLD: 1})


def test_labels_that_say_the_same_lie_in_one_split_for_ever() -> None:
    """Also if the first of them is not used any more, and whatever comes later."""
    first, near, later = label("first", text(1)), label("near", changed(text(1))), label("later", text(3))
    (_, kept) = guard([first, near], []).kept
    assert kept.group == "label-first"
    gone = (first[0], "withdrawn")
    found = guard([gone, near, later], [])
    assert [(example.id, example.group) for example in found.kept] == [("near", "label-first"), ("later", "label-later")]
    assert found.left_out == {"withdrawn": 1}


def test_what_is_like_items_of_two_splits_is_left_out() -> None:
    one, two = group_in("train", "label-"), group_in("test", "label-")
    long = f"{text(1)} {text(2)}"
    found = guard([label("a", text(1), group=one), label("b", text(2), group=two), label("c", long)], [])
    assert ([example.id for example in found.kept], found.left_out) == (["a", "b"], {"like items of two splits": 1})


def test_of_one_group_the_first_alone_is_found_where_groups_are_asked_for() -> None:
    rows = [triples_of("", each) for each in (text(1), changed(text(1)), changed(text(1), 20), text(2))]
    index = NearIndex.of(rows)
    assert index.near(rows[0]) == [0, 1, 2]
    assert index.near_groups(rows[0], ["g1", "g1", "g2", "g1"]) == [0, 2]


def test_a_disclaimer_on_every_label_compares_no_more_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words are not in the corpus: they would look rare if the labels were not counted, and each would find all others."""
    compared = 0
    is_near = NearIndex._is_near

    def counting(row: frozenset[int], triples: frozenset[int]) -> bool:
        nonlocal compared
        compared += 1
        return is_near(row, triples)

    monkeypatch.setattr(NearIndex, "_is_near", staticmethod(counting))
    labels = [label(str(number), f"{text(number)} {DISCLAIMER}") for number in range(300)]
    told: list[tuple[int, int]] = []
    found = guard([*labels, label("copy", f"{changed(text(7))} {DISCLAIMER}")], [], progress=lambda *at: told.append(at))
    assert compared < 300
    assert [example.group for example in found.kept if example.id == "copy"] == ["label-7"]
    assert told == [(step, 602) for step in range(603)]


def test_nothing_that_is_kept_for_training_is_like_anything_that_measures(corpus: Sequence[Example]) -> None:
    """4,000 labels, half of them near-copies of corpus rows, against the corpus; and it takes seconds."""
    rng = random.Random(4)
    labels = []
    for number in range(4000):
        example = rng.choice(corpus)
        response = changed(example.response, 2) if number % 2 else " ".join(rng.choices(example.response.split(), k=12))
        labels.append((replace(example, id=f"l{number}", group=f"label-{number}", response=response, source=REVIEW), ""))
    begun = time.process_time()
    found = guard(labels, corpus)
    assert time.process_time() - begun < 30
    assert sum(found.left_out.values()) > 300
    trained = [e for e in found.kept if split_of(e.group) in ("train", "pool")]
    measured = [e for e in corpus if split_of(e.group) in ("validation", "calibration", "test")]
    index = NearIndex()
    for example in measured:
        index.add(triples_of(example.query, example.response))
    assert not [e.id for e in trained if index.near(triples_of(e.query, e.response))]
    assert len(trained) > 1000
    assert set(map(split_of, (e.group for e in found.kept))) <= set(SPLITS)
