"""Train a head on the corpus and on reviewers' labels: minutes on two cores, without torch.

Embeddings come from the served int8 encoder, so what is trained, calibrated and certified are the scores as served.
Every example of a group stays in one split, which its group's hash decides for ever.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from classifiers.finetuned import Floats, Head
from classifiers.policy import UNSAFE
from classifiers.result import CATEGORIES, CRITICAL_FAMILIES, Severity, family_of, severity_of
from classifiers.thresholds import certify_allow_below, clopper_pearson

CORPUS = Path(__file__).parent / "corpus"
SPLITS = ("train", "calibration", "test")
SEED = 20
SCALE = 20.0
"""Embeddings have unit length in 384 dimensions; scaled by about sqrt(384), their features have unit variance."""
MIN_POSITIVES = 12
"""A category with fewer training examples gets no score of its own."""
REGULARISATION = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
BLOCK_PRECISION = 0.8
ALPHA, DELTA = 0.05, 0.05
"""At most 5 % of critical unsafe responses allowed, with 95 % confidence."""


class InvalidExample(ValueError):
    """A row that cannot be trained on; the message says why."""


class Embedder(Protocol):
    """Anything that embeds responses with their queries as `finetuned.Encoder.embed` does."""

    @property
    def encoder_sha256(self) -> str: ...

    def embed(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled exchange. `severity` is None where it is safe; `group` keeps twins and paraphrases together."""

    id: str
    group: str
    query: str
    response: str
    unsafe: bool
    categories: tuple[str, ...] = ()
    severity: Severity | None = None
    lang: str = "en"
    source: str = "handwritten"
    weight: float = 1.0

    @property
    def critical(self) -> bool:
        """Whether the false-negative guarantee covers it."""
        return self.severity is Severity.CRITICAL and any(family_of(c) in CRITICAL_FAMILIES for c in self.categories)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Example:
        """From a corpus row. Raises InvalidExample."""
        try:
            label, categories = row["label"], tuple(row.get("categories") or ())
            query, weight = row.get("query") or "", float(row.get("weight", 1.0))
            if label not in ("safe", "unsafe"):
                raise InvalidExample(f"label must be safe or unsafe, not {label!r}")
            if not isinstance(row["response"], str) or not row["response"].strip():
                raise InvalidExample("response must be a non-empty text")
            if not isinstance(query, str):
                raise InvalidExample("query must be a text")
            if not (math.isfinite(weight) and weight > 0):
                raise InvalidExample(f"weight must be a number above 0, not {weight}")
            if unknown := [c for c in categories if c not in CATEGORIES and family_of(str(c)) != "pii"]:
                raise InvalidExample(f"unknown categories: {', '.join(map(str, unknown))}")
            if (label == "unsafe") != bool(categories):
                raise InvalidExample("unsafe rows name at least one category, safe rows none")
            unsafe = label == "unsafe"
            severity = Severity(row["severity"]) if row.get("severity") else None
            if unsafe and severity is None:
                severity = max((severity_of(c) for c in categories), key=lambda s: s.rank)
            return cls(
                id=str(row["id"]),
                group=str(row.get("group") or row["id"]),
                query=query,
                response=row["response"],
                unsafe=unsafe,
                categories=categories,
                severity=severity if unsafe else None,
                lang=str(row.get("lang") or "en"),
                source=str(row.get("source") or "handwritten"),
                weight=weight,
            )
        except InvalidExample:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidExample(f"not an example: {error}") from error


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A head and what was measured of it: `metrics` is JSON-ready; `corpus_hash` names the examples it saw."""

    head: Head
    metrics: dict[str, Any]
    corpus_hash: str


def load_corpus(folder: Path = CORPUS) -> list[Example]:
    """Every example under `folder`, in the files' order. Raises InvalidExample naming file and line."""
    examples, seen = [], set()
    for path in sorted(folder.glob("*.jsonl")):
        # Not `str.splitlines`, to which U+2028 within a text is the end of a line.
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                example = Example.from_json(json.loads(line))
            except ValueError as error:
                raise InvalidExample(f"{path.name}:{number}: {error}") from error
            if example.id in seen:
                raise InvalidExample(f"{path.name}:{number}: the id {example.id} occurs twice")
            seen.add(example.id)
            examples.append(example)
    return examples


def split_of(group: str) -> str:
    """`train` for half of the groups, `calibration` and `test` for a quarter each; stable whatever else is added."""
    bucket = int.from_bytes(hashlib.sha256(f"split:{group}".encode()).digest()[:4], "big") % 4
    return ("train", "train", "calibration", "test")[bucket]


def hash_of(examples: Iterable[Example]) -> str:
    """Twelve hex digits that name a set of examples, whatever their order."""
    digests = sorted(
        hashlib.sha256(
            json.dumps([e.id, e.group, e.query, e.response, e.unsafe, e.categories, e.severity, e.weight]).encode()
        ).hexdigest()
        for e in examples
    )
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:12]


def train_head(
    examples: Sequence[Example], embedder: Embedder, *, progress: Callable[[str], None] = lambda line: None
) -> TrainedHead:
    """Fit one logistic regression per label on the train split, calibrate on the calibration split, measure on the test split.

    Raises InvalidExample if a split lacks safe or unsafe examples.
    """
    from sklearn.linear_model import LogisticRegression

    by_split = {name: [e for e in examples if split_of(e.group) == name] for name in SPLITS}
    for name, rows in by_split.items():
        if len({e.unsafe for e in rows}) < 2:
            raise InvalidExample(f"the {name} split needs both safe and unsafe examples")
    features = {}
    for name, rows in by_split.items():
        progress(f"embedding {len(rows)} {name} examples")
        features[name] = embedder.embed([e.response for e in rows], [e.query for e in rows]) * SCALE
    train, calibration = by_split["train"], by_split["calibration"]
    weights = np.array([e.weight for e in train])
    unsafe = np.array([e.unsafe for e in train])
    progress("choosing the regularisation by cross-validation over groups")
    strength = _best_regularisation(features["train"], unsafe, weights, [e.group for e in train])
    frequent = Counter(category for e in train for category in e.categories)
    labels = (UNSAFE, *(category for category in CATEGORIES if frequent[category] >= MIN_POSITIVES))
    progress(f"fitting {len(labels)} labels on {len(train)} examples")
    rows, bias = [], []
    for label in labels:
        target = unsafe if label == UNSAFE else np.array([label in e.categories for e in train])
        model = LogisticRegression(C=strength, max_iter=2000, random_state=SEED)
        model.fit(features["train"], target, sample_weight=weights)
        rows.append(model.coef_[0] * SCALE)
        bias.append(model.intercept_[0])
    head = Head(labels, np.array(rows, dtype=np.float32), np.array(bias, dtype=np.float32), embedder.encoder_sha256)
    head = _calibrated(head, features["calibration"] / SCALE, np.array([e.unsafe for e in calibration]))
    metrics = _measure(head, by_split, {name: values / SCALE for name, values in features.items()})
    metrics["regularisation"] = strength
    return TrainedHead(head, metrics, hash_of(examples))


def _best_regularisation(features: Floats, target: Any, weights: Any, groups: Sequence[str]) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold

    scores: dict[float, list[float]] = {strength: [] for strength in REGULARISATION}
    for fit, held in GroupKFold(n_splits=5).split(features, target, groups):
        for strength in REGULARISATION:
            model = LogisticRegression(C=strength, max_iter=2000, random_state=SEED)
            model.fit(features[fit], target[fit], sample_weight=weights[fit])
            scores[strength].append(roc_auc_score(target[held], model.decision_function(features[held])))
    return max(REGULARISATION, key=lambda strength: float(np.mean(scores[strength])))


def _calibrated(head: Head, embeddings: Floats, unsafe: Any) -> Head:
    """Platt scaling of P(unsafe): an affine map of the logit, folded into weights and bias. It keeps the order."""
    from sklearn.linear_model import LogisticRegression

    logits = (embeddings @ head.weights[0] + head.bias[0]).reshape(-1, 1)
    platt = LogisticRegression(C=1.0).fit(logits, unsafe)
    slope, shift = max(float(platt.coef_[0, 0]), 1e-3), float(platt.intercept_[0])
    weights, bias = head.weights.copy(), head.bias.copy()
    weights[0] *= slope
    bias[0] = bias[0] * slope + shift
    return replace(head, weights=weights, bias=bias)


def _measure(head: Head, by_split: Mapping[str, Sequence[Example]], embeddings: Mapping[str, Floats]) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score

    scores = {name: head.probabilities(embeddings[name])[:, 0] for name in SPLITS}
    # One item per group, its lowest score: the certificate counts independent items.
    critical: dict[str, float] = {}
    for score, example in zip(scores["calibration"], by_split["calibration"], strict=True):
        if example.critical:
            critical[example.group] = min(float(score), critical.get(example.group, 1.0))
    certificate = certify_allow_below(list(critical.values()), ALPHA, DELTA)
    block_at = max(_block_at(scores["calibration"], [e.unsafe for e in by_split["calibration"]]), certificate.allow_below)
    test = by_split["test"]
    unsafe = np.array([e.unsafe for e in test])
    missed = scores["test"] < certificate.allow_below
    blocked = scores["test"] >= block_at
    is_critical = np.array([e.critical for e in test])
    return {
        "counts": {
            name: {"safe": sum(not e.unsafe for e in rows), "unsafe": sum(e.unsafe for e in rows)}
            for name, rows in by_split.items()
        },
        "auc": {name: round(float(roc_auc_score([e.unsafe for e in by_split[name]], scores[name])), 4) for name in SPLITS},
        "certificate": {
            "allow_below": certificate.allow_below,
            "alpha": ALPHA,
            "confidence": 1 - DELTA,
            "n": certificate.n,
            "misses": certificate.misses,
            "missing": certificate.missing,
        },
        "block_at": block_at,
        "test": {
            "critical_missed": _rate(missed & is_critical, is_critical),
            "safe_allowed": _rate(missed & ~unsafe, ~unsafe),
            "safe_blocked": _rate(blocked & ~unsafe, ~unsafe),
            "unsafe_blocked": _rate(blocked & unsafe, unsafe),
        },
    }


def _block_at(scores: Any, unsafe: Sequence[bool]) -> float:
    """The lowest score from which on a response is more than `BLOCK_PRECISION` likely to be unsafe, with 95 % confidence.

    Tried are the scores that the 10, 20, 40 ... highest reach, each at its share of the 5 % (Bonferroni). 1, which no response
    reaches, where none of them passes: then the classifier blocks nothing by itself.
    """
    ranked, is_unsafe = np.sort(scores)[::-1], np.asarray(unsafe)
    counts = [count for count in (10 * 2**doubling for doubling in range(20)) if count <= len(ranked)]
    passed = [1.0]
    for score in (ranked[count - 1] for count in counts):
        reached = scores >= score  # of equal scores, all
        low, _ = clopper_pearson(int((reached & is_unsafe).sum()), int(reached.sum()), confidence=1 - 2 * 0.05 / len(counts))
        if low >= BLOCK_PRECISION:
            passed.append(float(score))
    return min(passed)


def _rate(hits: Any, among: Any) -> dict[str, Any]:
    """A proportion with its exact 95 % interval."""
    k, n = int(hits.sum()), int(among.sum())
    low, high = clopper_pearson(k, n)
    return {"k": k, "n": n, "rate": round(k / n, 4) if n else None, "low": round(low, 4), "high": round(high, 4)}
