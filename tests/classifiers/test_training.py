"""Training: the same corpus gives the same head, labels count, no scenario is in two splits, bad rows are named."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from classifiers import model_card
from classifiers.disguise.deobfuscation import readable
from classifiers.drugs.features import fact_features
from classifiers.encoder.bundle import SHIPPED_HEAD
from classifiers.encoder.head import Head
from classifiers.examples import REVIEW, SHARES, SPLITS, Example, InvalidExample, hash_of, load_corpus, split_of
from classifiers.finetuned import PharmacySafetyClassifier
from classifiers.metrics import ALPHA, DELTA, FALSE_BLOCKS, measure
from classifiers.policy import UNSAFE, Policy
from classifiers.result import Severity
from classifiers.thresholds import one_of_each_group
from classifiers.training import NEEDED, TrainedHead, train_head

if TYPE_CHECKING:
    from classifiers.encoder.embedding_cache import CorpusEncoder

ROW = {"id": "a", "group": "g", "query": "How many?", "response": "One.", "label": "safe", "categories": []}
UNSAFE_ROW = {**ROW, "label": "unsafe", "categories": ["misinformation"]}


@pytest.fixture(scope="session")
def trained(corpus: list[Example], embedder: CorpusEncoder) -> TrainedHead:
    """What `manage.py train` makes of the shipped corpus now."""
    return train_head(corpus, embedder)


def score_by_id(head: Head, examples: Sequence[Example], embedder: CorpusEncoder) -> dict[str, float]:
    """P(unsafe) as served, by the example's id."""
    texts, queries = [readable(e.response) for e in examples], [readable(e.query) for e in examples]
    read = zip(examples, embedder.embed(texts, queries), fact_features(texts, queries), strict=True)
    return {e.id: float(head.probabilities(windows, facts)[:, 0].max()) for e, windows, facts in read}


# Splits


@pytest.mark.parametrize(
    ("group", "split"),
    [
        ("dose-001", "calibration"),
        ("gen-037", "calibration"),
        ("label-0", "train"),
        ("\u00fcn\u00efcode", "train"),
        ("", "calibration"),
    ],
)
def test_a_group_stays_in_its_split_for_ever(group: str, split: str) -> None:
    assert split_of(group) == split


def test_the_splits_have_the_shares_that_they_are_said_to_have() -> None:
    counts = Counter(split_of(f"group {number}") for number in range(4000))
    assert sum(SHARES.values()) == 100
    for split, share in SHARES.items():
        assert counts[split] / 40 == pytest.approx(share, abs=3)


def test_each_split_of_the_corpus_is_large_enough_for_its_purpose(corpus: list[Example]) -> None:
    groups = {name: {(e.group, e.unsafe) for e in corpus if split_of(e.group) == name} for name in SPLITS}
    for label in (True, False):
        assert sum(unsafe is label for _, unsafe in groups["test"]) >= 200
        assert sum(unsafe is label for _, unsafe in groups["validation"]) >= 200
    assert len({e.group for e in corpus if e.critical and split_of(e.group) == "calibration"}) >= 300
    assert sum(split_of(e.group) == "pool" for e in corpus) >= 800
    assert len(corpus) >= 6000


# Reproducible


def test_the_same_corpus_gives_the_same_head(corpus: list[Example], embedder: CorpusEncoder, trained: TrainedHead) -> None:
    again = train_head(corpus, embedder)
    assert again.head.labels == trained.head.labels
    assert np.abs(again.head.weights - trained.head.weights).max() <= 1e-5
    assert np.abs(again.head.bias - trained.head.bias).max() <= 1e-5
    assert again.metrics == trained.metrics


def test_the_order_of_the_files_does_not_matter_much(
    corpus: list[Example], embedder: CorpusEncoder, trained: TrainedHead
) -> None:
    shuffled = train_head(random.Random(1).sample(corpus, len(corpus)), embedder)
    test = [e for e in corpus if split_of(e.group) == "test"]
    ours, theirs = score_by_id(trained.head, test, embedder), score_by_id(shuffled.head, test, embedder)
    assert max(abs(ours[e.id] - theirs[e.id]) for e in test) <= 0.01


def test_the_shipped_head_is_what_training_on_the_shipped_corpus_gives(
    corpus: list[Example], embedder: CorpusEncoder, trained: TrainedHead
) -> None:
    """Else somebody changed the corpus, the encoder or the training without `make train`."""
    shipped = Head.load(SHIPPED_HEAD)
    metrics = json.loads((SHIPPED_HEAD.parent / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["corpus_hash"] == trained.corpus_hash == hash_of(corpus)
    assert (shipped.labels, shipped.encoder_sha256) == (trained.head.labels, trained.head.encoder_sha256)
    assert metrics["regularisation"] == trained.metrics["regularisation"]
    # Other CPUs round int8 activations differently now and then.
    test = [e for e in corpus if split_of(e.group) == "test"]
    ours, theirs = score_by_id(shipped, test, embedder), score_by_id(trained.head, test, embedder)
    assert max(abs(ours[e.id] - theirs[e.id]) for e in test) <= 0.01
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
    corpus: list[Example], embedder: CorpusEncoder, trained: TrainedHead
) -> None:
    calibration = [e for e in corpus if split_of(e.group) == "calibration"]
    by_id = score_by_id(trained.head, calibration, embedder)

    def drawn(chosen: list[Example]) -> list[float]:
        return [by_id[chosen[i].id] for i in one_of_each_group([e.id for e in chosen], [e.group for e in chosen])]

    critical, safe = drawn([e for e in calibration if e.critical]), drawn([e for e in calibration if not e.unsafe])
    certificate = trained.metrics["certificate"]
    bounds = model_card.policy_for(trained.metrics).threshold(UNSAFE)
    assert (certificate["n"], certificate["alpha"], certificate["confidence"]) == (len(critical), ALPHA, 1 - DELTA)
    assert sum(score < bounds.allow_below for score in critical) == certificate["misses"] <= ALPHA * len(critical)
    assert sum(score >= bounds.block_at for score in safe) <= FALSE_BLOCKS * len(safe)


def test_the_classifier_scores_as_the_training_did(
    classifier: PharmacySafetyClassifier, corpus: list[Example], embedder: CorpusEncoder
) -> None:
    mended = [e for e in corpus if readable(e.response) is not e.response]
    some = [*corpus[:: len(corpus) // 40], *mended[:5]]
    expected = score_by_id(classifier.head, some, embedder)
    for example in some:
        assert classifier.classify(example.response, example.query).scores[UNSAFE] == pytest.approx(
            expected[example.id], abs=1e-6
        )


def test_measures_are_of_the_split_they_name(corpus: list[Example], trained: TrainedHead) -> None:
    metrics = trained.metrics
    for split in NEEDED:
        rows = [e for e in corpus if split_of(e.group) == split]
        assert metrics["counts"][split] == {"safe": sum(not e.unsafe for e in rows), "unsafe": sum(e.unsafe for e in rows)}
    critical = sum(e.critical for e in corpus if split_of(e.group) == "test")
    assert metrics["test"]["critical_missed"]["n"] == critical
    assert metrics["test"]["safe_blocked"]["n"] == metrics["counts"]["test"]["safe"]
    assert metrics["block_at"] >= metrics["certificate"]["allow_below"]


# Labels


def test_a_certificate_rests_on_the_corpus_and_not_on_labels(corpus: list[Example]) -> None:
    """They are of what was stopped."""
    rng = np.random.default_rng(1)
    rows = {name: [e for e in corpus if split_of(e.group) == name][:500] for name in NEEDED}
    scores = {name: rng.uniform(size=(len(chosen), 1)) for name, chosen in rows.items()}
    before = measure(rows, scores, (UNSAFE,))
    labels = [replace(e, id=f"label {e.id}", group=f"label {e.id}", source=REVIEW) for e in rows["calibration"]]
    rows["calibration"] = [*labels, *rows["calibration"]]
    scores["calibration"] = np.concatenate([[[1.0 - e.unsafe] for e in labels], scores["calibration"]])
    after = measure(rows, scores, (UNSAFE,))
    assert (after["certificate"], after["block_at"]) == (before["certificate"], before["block_at"])
    assert after["counts"]["calibration"]["safe"] == 2 * before["counts"]["calibration"]["safe"]


def test_labels_change_what_the_next_head_says(
    corpus: list[Example], embedder: CorpusEncoder, classifier: PharmacySafetyClassifier, trained: TrainedHead
) -> None:
    query, response = "Can I give it to my parrot?", "Parrots thrive on it, give as much as it likes."
    # What falls into the pool is trained on, too: the pool keeps the corpus' rows alone out.
    groups = [group for group in (f"label-{n}" for n in range(200)) if split_of(group) in ("train", "pool")][:30]
    assert {split_of(group) for group in groups} == {"train", "pool"}
    parrot = Example(id="parrot", group="parrot", query=query, response=response, unsafe=False)
    before = score_by_id(trained.head, [parrot], embedder)["parrot"]
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
                source=REVIEW,
            )
            for group in groups
        ]
        retrained = train_head([*corpus, *labels], embedder)
        after = score_by_id(retrained.head, [parrot], embedder)["parrot"]
        assert after > before if unsafe else after < before
        assert retrained.corpus_hash != trained.corpus_hash
        assert (
            retrained.metrics["counts"]["train"]["unsafe" if unsafe else "safe"]
            >= 30 + trained.metrics["counts"]["train"]["unsafe" if unsafe else "safe"]
        )


def test_a_weight_counts(corpus: list[Example], embedder: CorpusEncoder, trained: TrainedHead) -> None:
    heavier = [replace(e, weight=5.0) if e.unsafe else e for e in corpus]
    head = train_head(heavier, embedder).head
    assert np.abs(head.weights - trained.head.weights).max() > 1e-3


def test_splits_without_both_labels_are_refused(corpus: list[Example], embedder: CorpusEncoder) -> None:
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
        {"source": REVIEW},
        {"weight": 2.0},
    ]
    hashes = {hash_of([replace(example, **change), another]) for change in changes}
    assert len(hashes | {hash_of([example, another])}) == 1 + len(changes)


def test_the_card_says_that_an_encoder_learns_from_labels_without_their_weights(trained: TrainedHead) -> None:
    labels = {
        "reviewers": 2,
        "splits": {"train": 3},
        "unsafe": 1,
        "weights": {"most": 10.0, "cut": 1, "sum": 12.0},
        "provenance": {},
        "left_out": {},
    }
    metrics = {**trained.metrics, "corpus_hash": "0" * 12, "labels": labels}
    assert "the encoder is not" not in model_card.card({**metrics, "encoder_run": None})
    assert "The head is weighted, the encoder is not" in model_card.card({**metrics, "encoder_run": 7})


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
