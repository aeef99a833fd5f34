"""Train a head on the corpus and on reviewers' labels: minutes on two cores, without torch.

Embeddings come from the served int8 encoder, so what is trained, calibrated and certified are the scores as served. Of a long
response the worst window is learnt from, as it is the one that decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from classifiers.disguise.deobfuscation import readable
from classifiers.drugs.features import FEATURES, fact_features
from classifiers.encoder.encoder import Floats
from classifiers.encoder.head import Head
from classifiers.examples import REVIEW, Example, InvalidExample, hash_of, split_of
from classifiers.metrics import measure
from classifiers.policy import UNSAFE
from classifiers.result import CATEGORIES

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


class Embedder(Protocol):
    """Anything that embeds responses with their queries as `Encoder.embed` does."""

    @property
    def encoder_sha256(self) -> str: ...

    def embed(self, texts: Sequence[str], queries: Sequence[str]) -> list[Floats]: ...


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
    examples: Sequence[Example], embedder: Embedder, *, progress: Callable[[str], None] = lambda line: None
) -> TrainedHead:
    """Fit one logistic regression per label on the train split, weigh the drug facts on the validation split, set the thresholds
    on the calibration split, measure on the test split.

    Raises InvalidExample if a split lacks safe or unsafe examples.
    """
    splits = {name: _read(name, examples, embedder, progress) for name in NEEDED}
    train, validation = splits["train"], splits["validation"]
    progress("choosing the regularisation on the validation split")
    fitted = {strength: _fit(train, train.unsafe, strength) for strength in REGULARISATION}
    strength = max(REGULARISATION, key=lambda each: _auc(validation, *fitted[each]))
    weights, bias = fitted[strength]
    row, shift = _with_facts(validation, weights, bias)
    rows, biases = [row], [shift]
    frequent = Counter(category for e in train.examples for category in e.categories)
    labels = (UNSAFE, *(category for category in CATEGORIES if frequent[category] >= MIN_POSITIVES))
    progress(f"fitting {len(labels)} labels on {len(train.examples)} examples")
    for label in labels[1:]:
        weights, bias = _fit(train, np.array([label in e.categories for e in train.examples]), strength)
        rows.append(np.concatenate([weights, np.zeros(len(FEATURES))]))
        biases.append(bias)
    head = Head(labels, np.array(rows, dtype=np.float32), np.array(biases, dtype=np.float32), embedder.encoder_sha256)
    scores = {name: _scores(head, split) for name, split in splits.items()}
    metrics = measure({name: split.examples for name, split in splits.items()}, scores, labels)
    metrics["regularisation"] = strength
    return TrainedHead(head, metrics, hash_of(examples))


def _read(name: str, examples: Sequence[Example], embedder: Embedder, progress: Callable[[str], None]) -> _Split:
    # The pool is for the corpus alone: reviewers' labels that fall into it are trained on.
    chosen = [e for e in examples if (split := split_of(e.group)) == name or (name, split, e.source) == ("train", "pool", REVIEW)]
    if len({e.unsafe for e in chosen}) < 2:
        raise InvalidExample(f"the {name} split needs both safe and unsafe examples")
    progress(f"reading {len(chosen)} {name} examples")
    unsafe = np.array([e.unsafe for e in chosen])
    return _Split(chosen, *_features(chosen, embedder), unsafe)


def _features(examples: Sequence[Example], embedder: Embedder) -> tuple[list[Floats], npt.NDArray[np.float32]]:
    """As they are read when served: windows' embeddings, and drug facts."""
    texts, queries = [readable(e.response) for e in examples], [readable(e.query) for e in examples]
    return embedder.embed(texts, queries), fact_features(texts, queries)


def _fit(split: _Split, target: npt.NDArray[np.bool_], strength: float) -> tuple[npt.NDArray[np.float64], float]:
    """Weights on the embedding, and bias."""
    from sklearn.linear_model import LogisticRegression

    sample_weight = [e.weight for e in split.examples]
    features = np.array([windows.mean(axis=0) for windows in split.windows])
    for _ in range(ROUNDS):
        model = LogisticRegression(C=strength, max_iter=2000, random_state=SEED)
        model.fit(features * SCALE, target, sample_weight=sample_weight)
        weights = model.coef_[0] * SCALE
        features = split.worst(weights)
    return weights, float(model.intercept_[0])


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
