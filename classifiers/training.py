"""Train a head on the corpus and on reviewers' labels: minutes on two cores, without torch.

Embeddings come from the served int8 encoder, so what is trained, calibrated and certified are the scores as served. Of a long
response the worst window is learnt from, as it is the one that decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from classifiers.disguise.deobfuscation import readable
from classifiers.drugs.features import FEATURES, fact_features
from classifiers.encoder.encoder import Floats
from classifiers.encoder.head import Head
from classifiers.examples import REVIEW, Example, InvalidExample, hash_of, split_of
from classifiers.metrics import ALPHA, DELTA, FALSE_BLOCKS, auc, measure, share
from classifiers.policy import UNSAFE
from classifiers.progress import Progress, silent
from classifiers.result import CATEGORIES
from classifiers.thresholds import choose_bounds

SEED = 20
SCALE = 20.0
"""Embeddings have unit length in 384 dimensions; scaled by about sqrt(384), their features have unit variance."""
MIN_POSITIVES = 12
"""A category with fewer training examples gets no score of its own."""
REGULARISATION = (0.0001, 0.0003, 0.001, 0.003, 0.01)
FACTS_REGULARISATION = 0.03
ROUNDS = 2
"""Of choosing each response's worst window by the head of the round before."""
NEEDED = ("train", "validation", "calibration", "test")
BATCH = 256
"""Exchanges that are read between two words of progress."""


class Embedder(Protocol):
    """Anything that embeds responses with their queries as `Encoder.embed` does."""

    @property
    def encoder_sha256(self) -> str: ...

    def embed(self, texts: Sequence[str], queries: Sequence[str]) -> list[Floats]: ...


@dataclass(frozen=True, slots=True)
class Rival:
    """A head to be measured on the same splits as the new one, with the encoder whose embeddings it reads."""

    version: str
    head: Head
    embedder: Embedder


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A head and what was measured of it: `metrics` is JSON-ready; `corpus_hash` names the examples it saw."""

    head: Head
    metrics: dict[str, Any]
    corpus_hash: str


@dataclass(frozen=True, slots=True)
class _Split:
    """The examples of one split; of each, its windows' embeddings, the drug facts, and the truth."""

    examples: list[Example]
    windows: list[Floats]
    facts: npt.NDArray[np.float32]
    unsafe: npt.NDArray[np.bool_]

    def worst(self, weights: npt.NDArray[np.floating]) -> Floats:
        """(examples, dimensions): each response's window with the highest score."""
        return np.array([windows[int((windows @ weights).argmax())] for windows in self.windows])


def train_head(
    examples: Sequence[Example], embedder: Embedder, *, rival: Rival | None = None, progress: Progress = silent
) -> TrainedHead:
    """Fit one logistic regression per label on the train split, weigh the drug facts on the validation split, set the thresholds
    on the calibration split, measure on the test split; the last two are the corpus' own rows.

    `rival`: what serves now. `metrics["before"]` has it beside `metrics["after"]`: the new one on the same rows, each with the
    bounds that the calibration split certifies for it. Raises InvalidExample if a split lacks safe or unsafe examples.
    """
    splits = {name: _read(name, examples, embedder, progress) for name in NEEDED}
    train, validation = splits["train"], splits["validation"]
    strength, weights, bias = _regularised(train, validation, progress)
    row, shift = _with_facts(validation, weights, bias)
    rows, biases = [row], [shift]
    frequent = Counter(category for e in train.examples for category in e.categories)
    labels = (UNSAFE, *(category for category in CATEGORIES if frequent[category] >= MIN_POSITIVES))
    for number, label in enumerate(labels[1:], start=1):
        progress(f"fitting categories on {len(train.examples)} examples", number - 1, len(labels) - 1)
        weights, bias = _fit(train, np.array([label in e.categories for e in train.examples]), strength)
        rows.append(np.concatenate([weights, np.zeros(len(FEATURES))]))
        biases.append(bias)
    head = Head(labels, np.array(rows, dtype=np.float32), np.array(biases, dtype=np.float32), embedder.encoder_sha256)
    progress("measuring on the test split")
    scores = {name: _scores(head, split) for name, split in splits.items()}
    metrics = measure({name: split.examples for name, split in splits.items()}, scores, labels)
    metrics["regularisation"] = strength
    labelled = [e for e in examples if e.source == REVIEW]
    if rival or labelled:
        metrics["after"] = _beside(head, splits, labelled, embedder)
    if rival:
        progress(f"measuring {rival.version} on the same rows")
        same = rival.embedder.encoder_sha256 == embedder.encoder_sha256
        theirs = splits if same else {name: _read(name, examples, rival.embedder, progress) for name in ("calibration", "test")}
        metrics["before"] = {"version": rival.version, **_beside(rival.head, theirs, labelled, rival.embedder)}
    return TrainedHead(head, metrics, hash_of(examples))


def _read(name: str, examples: Sequence[Example], embedder: Embedder, progress: Progress) -> _Split:
    """Reviewers' labels that fall into the pool are trained on, since the pool is for the corpus alone; those that fall to
    calibration and test are measured apart, so that the corpus' figures can be compared from run to run.
    """
    if name == "train":
        chosen = [e for e in examples if (split := split_of(e.group)) == name or (split == "pool" and e.source == REVIEW)]
    else:
        with_labels = name == "validation"
        chosen = [e for e in examples if split_of(e.group) == name and (with_labels or e.source != REVIEW)]
    if len({e.unsafe for e in chosen}) < 2:
        raise InvalidExample(f"the {name} split needs both safe and unsafe examples")
    return _embedded(chosen, embedder, progress, f"reading {len(chosen)} {name} examples")


def _embedded(chosen: list[Example], embedder: Embedder, progress: Progress, phase: str) -> _Split:
    """As they are read when served: windows' embeddings, and drug facts."""
    windows: list[Floats] = []
    facts = [np.zeros((0, len(FEATURES)), dtype=np.float32)]
    for begin in range(0, len(chosen), BATCH):
        progress(phase, begin, len(chosen))
        batch = chosen[begin : begin + BATCH]
        texts, queries = [readable(e.response) for e in batch], [readable(e.query) for e in batch]
        windows += embedder.embed(texts, queries)
        facts.append(fact_features(texts, queries))
    return _Split(chosen, windows, np.concatenate(facts), np.array([e.unsafe for e in chosen], dtype=bool))


def _regularised(train: _Split, validation: _Split, progress: Progress) -> tuple[float, npt.NDArray[np.float64], float]:
    """The strength with the best AUC on the validation split, with its weights and bias."""
    tried = []
    phase = "choosing the regularisation on the validation split"
    for number, strength in enumerate(REGULARISATION):
        progress(phase, number, len(REGULARISATION))
        weights, bias = _fit(train, train.unsafe, strength)
        area, loss = _auc(validation, weights, bias), _log_loss(validation, weights, bias)
        tried.append((area, strength, weights, bias))
        measured = {"name": f"C {strength:g}", "auc": round(area, 4), "loss": round(loss, 4)}
        progress(phase, number + 1, len(REGULARISATION), measured)
    _, strength, weights, bias = max(tried, key=lambda each: each[0])
    return strength, weights, bias


def _beside(head: Head, splits: Mapping[str, _Split], labelled: Sequence[Example], embedder: Embedder) -> dict[str, Any]:
    """What a head makes of the test split under the bounds that the calibration split certifies for it; JSON-ready.

    `labels`: the same of the reviewers' labels that nothing was fitted to.
    """
    calibration, test = splits["calibration"], splits["test"]
    bounds = choose_bounds(
        calibration.examples, _scores(head, calibration)[:, 0], alpha=ALPHA, false_blocks=FALSE_BLOCKS, delta=DELTA
    )
    allow_below, block_at = bounds.certificate.allow_below, bounds.block_at
    found = {"allow_below": allow_below, "block_at": block_at, **_outcomes(head, test, allow_below, block_at)}
    held = [e for e in labelled if split_of(e.group) in ("calibration", "test")]
    if held:
        found["labels"] = _outcomes(head, _embedded(held, embedder, silent, ""), allow_below, block_at)
    return found


def _outcomes(head: Head, split: _Split, allow_below: float, block_at: float) -> dict[str, Any]:
    p_unsafe, unsafe = _scores(head, split)[:, 0], split.unsafe
    critical = np.array([e.critical for e in split.examples], dtype=bool)
    allowed, blocked = p_unsafe < allow_below, p_unsafe >= block_at
    return {
        "auc": auc(unsafe.tolist(), p_unsafe),
        "critical_missed": share(allowed & critical, critical),
        "safe_allowed": share(allowed & ~unsafe, ~unsafe),
        "safe_blocked": share(blocked & ~unsafe, ~unsafe),
        "unsafe_blocked": share(blocked & unsafe, unsafe),
    }


def _fit(split: _Split, target: npt.NDArray[np.bool_], strength: float) -> tuple[npt.NDArray[np.float64], float]:
    """Weights on the embedding, and bias."""
    from sklearn.linear_model import LogisticRegression

    sample_weight = [e.weight for e in split.examples]
    features = np.array([windows.mean(axis=0) for windows in split.windows])
    # Newton's method: a fifth of the time of L-BFGS here, and closer to the optimum. Each round begins where the last one ended.
    model = LogisticRegression(C=strength, max_iter=2000, random_state=SEED, solver="newton-cg", warm_start=True)
    for _ in range(ROUNDS):
        model.fit(features * SCALE, target, sample_weight=sample_weight)
        weights = model.coef_[0] * SCALE
        features = split.worst(weights)
    return weights, float(model.intercept_[0])


def _log_loss(split: _Split, weights: npt.NDArray[np.float64], bias: float) -> float:
    from sklearn.metrics import log_loss

    return float(log_loss(split.unsafe, 1 / (1 + np.exp(-(split.worst(weights) @ weights + bias)))))


def _auc(split: _Split, weights: npt.NDArray[np.float64], bias: float) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(split.unsafe, split.worst(weights) @ weights + bias))


def _with_facts(split: _Split, weights: npt.NDArray[np.float64], bias: float) -> tuple[npt.NDArray[np.float64], float]:
    """The logit joined with the drug facts by a second regression, on examples that the first has not seen: that makes the
    result a probability, too.
    """
    from sklearn.linear_model import LogisticRegression

    logits = split.worst(weights) @ weights + bias
    model = LogisticRegression(C=FACTS_REGULARISATION, max_iter=2000, random_state=SEED)
    model.fit(np.column_stack([logits, split.facts]), split.unsafe, sample_weight=[e.weight for e in split.examples])
    slope = max(float(model.coef_[0, 0]), 1e-3)
    return np.concatenate([weights * slope, model.coef_[0, 1:]]), bias * slope + float(model.intercept_[0])


def _scores(head: Head, split: _Split) -> npt.NDArray[np.float64]:
    """(examples, labels): of each label the highest over the windows."""
    return np.array(
        [head.probabilities(windows, facts).max(axis=0) for windows, facts in zip(split.windows, split.facts, strict=True)]
    )
