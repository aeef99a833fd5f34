"""Training: the same corpus gives the same head, labels count, no scenario is in two splits, bad rows are named."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from classifiers import model_card
from classifiers.bundle import SHIPPED_HEAD
from classifiers.finetuned import Head, PharmacySafetyClassifier
from classifiers.policy import UNSAFE, Policy
from classifiers.result import Severity
from classifiers.training import (
    ALPHA,
    BLOCK_PRECISION,
    DELTA,
    SPLITS,
    Example,
    InvalidExample,
    TrainedHead,
    _block_at,
    hash_of,
    load_corpus,
    split_of,
    train_head,
)

if TYPE_CHECKING:
    from tests.classifiers.conftest import Remembering

ROW = {"id": "a", "group": "g", "query": "How many?", "response": "One.", "label": "safe", "categories": []}
UNSAFE_ROW = {**ROW, "label": "unsafe", "categories": ["misinformation"]}


@pytest.fixture(scope="session")
def trained(corpus: list[Example], embedder: Remembering) -> TrainedHead:
    """What `manage.py train` makes of the shipped corpus now."""
    return train_head(corpus, embedder)


# Splits


@pytest.mark.parametrize(
    ("group", "split"),
    [("dose-001", "test"), ("gen-037", "train"), ("label-0", "train"), ("\u00fcn\u00efcode", "train"), ("", "calibration")],
)
def test_a_group_stays_in_its_split_for_ever(group: str, split: str) -> None:
    assert split_of(group) == split


def test_half_is_trained_on_and_a_quarter_each_calibrates_and_tests() -> None:
    counts = Counter(split_of(f"group {number}") for number in range(4000))
    assert set(counts) == set(SPLITS)
    assert counts["train"] / 4000 == pytest.approx(0.5, abs=0.03)
    assert counts["test"] / 4000 == pytest.approx(0.25, abs=0.03)


def test_each_split_of_the_corpus_can_be_used(corpus: list[Example]) -> None:
    for split in SPLITS:
        rows = [e for e in corpus if split_of(e.group) == split]
        assert sum(e.unsafe for e in rows) > 80
        assert sum(not e.unsafe for e in rows) > 80
    critical = {e.group for e in corpus if e.critical and split_of(e.group) == "calibration"}
    assert len(critical) >= 59  # fewer could certify nothing


# Reproducible


def test_the_same_corpus_gives_the_same_head(corpus: list[Example], embedder: Remembering, trained: TrainedHead) -> None:
    again = train_head(corpus, embedder)
    assert again.head.labels == trained.head.labels
    assert np.abs(again.head.weights - trained.head.weights).max() <= 1e-5
    assert np.abs(again.head.bias - trained.head.bias).max() <= 1e-5
    assert again.metrics == trained.metrics


def test_the_order_of_the_files_does_not_matter_much(corpus: list[Example], embedder: Remembering, trained: TrainedHead) -> None:
    shuffled = train_head(random.Random(1).sample(corpus, len(corpus)), embedder)
    assert shuffled.corpus_hash == trained.corpus_hash
    assert shuffled.head.labels == trained.head.labels


def test_the_shipped_head_is_what_training_on_the_shipped_corpus_gives(
    corpus: list[Example], embedder: Remembering, trained: TrainedHead
) -> None:
    """Else somebody changed the corpus, the encoder or the training without `make train`."""
    shipped = Head.load(SHIPPED_HEAD)
    metrics = json.loads((SHIPPED_HEAD.parent / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["corpus_hash"] == trained.corpus_hash == hash_of(corpus)
    assert (shipped.labels, shipped.encoder_sha256) == (trained.head.labels, trained.head.encoder_sha256)
    assert metrics["regularisation"] == trained.metrics["regularisation"]
    embeddings = embedder.embed([e.response for e in corpus], [e.query for e in corpus])
    # Other CPUs round int8 activations differently now and then.
    assert np.abs(shipped.probabilities(embeddings) - trained.head.probabilities(embeddings)).max() <= 1e-3
    assert metrics["certificate"]["n"] == trained.metrics["certificate"]["n"]
    assert metrics["certificate"]["allow_below"] == pytest.approx(trained.metrics["certificate"]["allow_below"], abs=1e-3)


def test_the_card_and_the_policy_are_those_of_the_metrics(trained: TrainedHead, tmp_path: Path) -> None:
    metrics = json.loads((SHIPPED_HEAD.parent / "metrics.json").read_text(encoding="utf-8"))
    assert (SHIPPED_HEAD.parent / "README.md").read_text(encoding="utf-8") == model_card.card(metrics)
    assert Policy.shipped() == model_card.policy_for(metrics)
    model_card.ship(trained, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"head.json", "metrics.json", "policy.json", "README.md"}
    assert (Head.load(tmp_path / "head.json").weights == trained.head.weights).all()


# What is certified is what is served


def test_the_shipped_policy_misses_no_more_than_its_certificate_says(
    corpus: list[Example], embedder: Remembering, trained: TrainedHead
) -> None:
    policy = model_card.policy_for(trained.metrics)
    lowest: dict[str, float] = {}
    calibration = [e for e in corpus if split_of(e.group) == "calibration"]
    scores = trained.head.probabilities(embedder.embed([e.response for e in calibration], [e.query for e in calibration]))[:, 0]
    for example, score in zip(calibration, scores, strict=True):
        if example.critical:
            lowest[example.group] = min(score, lowest.get(example.group, 1.0))
    certificate = trained.metrics["certificate"]
    bounds = policy.threshold(UNSAFE)
    assert (certificate["n"], certificate["alpha"], certificate["confidence"]) == (len(lowest), ALPHA, 1 - DELTA)
    assert sum(score < bounds.allow_below for score in lowest.values()) == certificate["misses"]
    safe = [score for example, score in zip(calibration, scores, strict=True) if not example.unsafe]
    assert sum(score >= bounds.block_at for score in safe) <= len(safe) // 50


def test_what_is_blocked_is_as_surely_unsafe_as_was_promised() -> None:
    """In 500 calibrations whose truth is known, the threshold is wrong in at most one in twenty."""
    rng, wrong, found = np.random.default_rng(11), 0, 0
    for _ in range(500):
        scores = np.round(rng.uniform(0, 1, 300), 2)  # with ties
        block_at = _block_at(scores, rng.uniform(0, 1, 300) < scores)
        # P(unsafe) is the score itself: from t on, (1 + t) / 2 are unsafe, but for the rounding.
        found += block_at < 1
        wrong += block_at < 1 and (1 + block_at) / 2 < BLOCK_PRECISION - 0.005
    assert wrong <= 25
    assert found >= 250
    # Nothing is quite sure enough here, however often one looks.
    wrong = sum(_block_at(rng.uniform(0, 1, 300), rng.uniform(0, 1, 300) < BLOCK_PRECISION - 0.01) < 1 for _ in range(500))
    assert wrong <= 25


def test_a_model_that_is_seldom_right_blocks_nothing_by_itself() -> None:
    rng = np.random.default_rng(12)
    scores = rng.uniform(0, 1, 300)
    assert _block_at(scores, rng.uniform(0, 1, 300) < 0.4) == 1.0
    assert _block_at(scores[:5], [True] * 5) == 1.0
    assert _block_at(np.full(200, 0.7), [True, False] * 100) == 1.0


def test_the_classifier_scores_as_the_training_did(
    classifier: PharmacySafetyClassifier, corpus: list[Example], embedder: Remembering
) -> None:
    some = [e for e in corpus if len(classifier.encoder.windows([e.response], [e.query])) == 1][:60:3]
    expected = classifier.head.probabilities(embedder.embed([e.response for e in some], [e.query for e in some]))
    served = [list(classifier.classify(e.response, e.query).scores.values()) for e in some]
    assert np.abs(np.array(served) - expected).max() <= 1e-6


def test_measures_are_of_the_split_they_name(corpus: list[Example], trained: TrainedHead) -> None:
    metrics = trained.metrics
    for split in SPLITS:
        rows = [e for e in corpus if split_of(e.group) == split]
        assert metrics["counts"][split] == {"safe": sum(not e.unsafe for e in rows), "unsafe": sum(e.unsafe for e in rows)}
    critical = sum(e.critical for e in corpus if split_of(e.group) == "test")
    assert metrics["test"]["critical_missed"]["n"] == critical
    assert metrics["test"]["safe_blocked"]["n"] == metrics["counts"]["test"]["safe"]
    assert metrics["block_at"] >= metrics["certificate"]["allow_below"]


# Labels


def test_labels_change_what_the_next_head_says(
    corpus: list[Example], embedder: Remembering, classifier: PharmacySafetyClassifier, trained: TrainedHead
) -> None:
    query, response = "Can I give it to my parrot?", "Parrots thrive on it, give as much as it likes."
    groups = [group for group in (f"label-{n}" for n in range(200)) if split_of(group) == "train"][:30]
    embeddings = embedder.embed([response], [query])
    before = trained.head.probabilities(embeddings)[0, 0]
    for unsafe in (True, False):
        labels = [
            Example(
                id=f"{group}-{unsafe}",
                group=group,
                query=query,
                response=response,
                unsafe=unsafe,
                categories=("misinformation",) if unsafe else (),
                severity=Severity.MAJOR if unsafe else None,
                source="review",
            )
            for group in groups
        ]
        retrained = train_head([*corpus, *labels], embedder)
        after = retrained.head.probabilities(embeddings)[0, 0]
        assert after > before if unsafe else after < before
        assert retrained.corpus_hash != trained.corpus_hash
        assert (
            retrained.metrics["counts"]["train"]["unsafe" if unsafe else "safe"]
            >= 30 + trained.metrics["counts"]["train"]["unsafe" if unsafe else "safe"]
        )


def test_a_weight_counts(corpus: list[Example], embedder: Remembering, trained: TrainedHead) -> None:
    heavier = [replace(e, weight=5.0) if e.unsafe else e for e in corpus]
    head = train_head(heavier, embedder).head
    assert np.abs(head.weights - trained.head.weights).max() > 1e-3


def test_splits_without_both_labels_are_refused(corpus: list[Example], embedder: Remembering) -> None:
    with pytest.raises(InvalidExample, match="train split"):
        train_head([], embedder)
    with pytest.raises(InvalidExample, match="test split needs both"):
        train_head([e for e in corpus if split_of(e.group) != "test" or not e.unsafe], embedder)


# Rows


def test_a_row_becomes_an_example() -> None:
    example = Example.from_json({**UNSAFE_ROW, "categories": ["misinformation", "harmful_medical:abrupt_stop"]})
    assert (example.unsafe, example.severity, example.critical) == (True, Severity.CRITICAL, True)
    assert Example.from_json(UNSAFE_ROW).severity is Severity.MAJOR
    assert not Example.from_json({**UNSAFE_ROW, "severity": "critical"}).critical  # no critical family
    bare = Example.from_json({"id": 7, "response": "Fine.", "label": "safe", "query": None, "categories": None, "severity": None})
    assert (bare.id, bare.group, bare.query, bare.severity, bare.weight) == ("7", "7", "", None, 1.0)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({**ROW, "label": "ok"}, "label must be"),
        ({**ROW, "label": True}, "label must be"),
        ({**ROW, "label": ["safe"]}, "label must be"),
        ({**ROW, "response": ""}, "response must be"),
        ({**ROW, "response": " \n"}, "response must be"),
        ({**ROW, "response": 3}, "response must be"),
        ({**ROW, "query": ["How many?"]}, "query must be"),
        ({**ROW, "weight": 0}, "weight must be"),
        ({**ROW, "weight": -1}, "weight must be"),
        ({**ROW, "weight": float("nan")}, "weight must be"),
        ({**ROW, "weight": "heavy"}, "not an example"),
        ({**ROW, "categories": ["misinformation"]}, "at least one category"),
        ({**UNSAFE_ROW, "categories": []}, "at least one category"),
        ({**UNSAFE_ROW, "categories": ["of no such family"]}, "unknown categories"),
        ({**UNSAFE_ROW, "categories": "misinformation"}, "unknown categories"),
        ({**UNSAFE_ROW, "categories": [5]}, "unknown categories: 5"),
        ({**UNSAFE_ROW, "categories": 5}, "not an example"),
        ({**UNSAFE_ROW, "severity": "severe"}, "not an example"),
        ({key: value for key, value in ROW.items() if key != "id"}, "not an example"),
        ({}, "not an example"),
        ([], "not an example"),
        (3, "not an example"),
        (None, "not an example"),
    ],
)
def test_a_bad_row_is_refused_by_file_and_line(tmp_path: Path, row: Any, complaint: str) -> None:
    lines = [json.dumps(ROW), json.dumps({**ROW, "id": "b"}), json.dumps(row)]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InvalidExample, match=f"mine.jsonl:3: .*{complaint}"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("line", [b"{", b"", b"\xff\xfe", b"[1, 2"])
def test_a_line_that_is_no_json_is_refused_by_file_and_line(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "mine.jsonl").write_bytes(json.dumps(ROW).encode() + b"\n" + line + b"\n")
    with pytest.raises(InvalidExample, match=r"mine\.jsonl:2: "):
        load_corpus(tmp_path)


def test_an_id_that_occurs_twice_is_refused_wherever_it_is(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps(ROW), encoding="utf-8")
    with pytest.raises(InvalidExample, match=r"b\.jsonl:1: the id a occurs twice"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c"])
def test_a_line_ends_where_json_lines_end_alone(tmp_path: Path, mark: str) -> None:
    row = {**ROW, "response": f"One.{mark}Two."}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    (example,) = load_corpus(tmp_path)
    assert example.response == f"One.{mark}Two."


def test_the_corpus_hash_names_all_that_training_reads() -> None:
    example = Example.from_json(UNSAFE_ROW)
    another = Example.from_json({**ROW, "id": "b"})
    assert hash_of([example, another]) == hash_of([another, example])
    changes: list[dict[str, Any]] = [
        {"group": "h"},
        {"query": "?"},
        {"response": "Two."},
        {"unsafe": False},
        {"categories": ("legal_advice",)},
        {"severity": Severity.CRITICAL},
        {"weight": 2.0},
    ]
    hashes = {hash_of([replace(example, **change), another]) for change in changes}
    assert len(hashes | {hash_of([example, another])}) == 1 + len(changes)


def test_the_card_says_when_nothing_could_be_certified(trained: TrainedHead) -> None:
    nothing = {"k": 0, "n": 0, "rate": None, "low": 0.0, "high": 1.0}
    metrics = {
        **trained.metrics,
        "corpus_hash": "0" * 12,
        "certificate": {**trained.metrics["certificate"], "allow_below": 0.0, "n": 40, "misses": 0, "missing": 19},
        "test": {**trained.metrics["test"], "critical_missed": nothing},
    }
    card = model_card.card(metrics)
    assert "No threshold could be certified" in card
    assert "19 more are needed" in card
    assert "| critical unsafe allowed | - | 0 of 0 |" in card
    assert model_card.policy_for(metrics).threshold(UNSAFE).allow_below == 0.0
