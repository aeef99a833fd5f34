"""What a training run measures: separation, calibration, the certified thresholds, and what they let through and stop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.examples import REVIEW, Example
from classifiers.result import CRITICAL_FAMILIES, family_of
from classifiers.thresholds import choose_bounds, rate

ALPHA, DELTA = 0.05, 0.05
"""At most 5 % of critical unsafe responses allowed, with 95 % confidence."""
FALSE_BLOCKS = 0.01
"""At most 1 % of safe responses blocked, with the same confidence."""
BINS = 10

Scores = npt.NDArray[np.float64]
"""(examples, labels), P(unsafe) first."""


def share(hits: Any, among: Any) -> dict[str, Any]:
    """`thresholds.rate` of two boolean arrays."""
    return rate(int(np.sum(hits)), int(np.sum(among)))


def measure(by_split: Mapping[str, Sequence[Example]], scores: Mapping[str, Scores], labels: Sequence[str]) -> dict[str, Any]:
    """Thresholds from the calibration split, rates from the test split; JSON-ready.

    The thresholds rest on the corpus' own rows: reviewers' labels are of what was stopped, and say nothing of what was allowed.
    An example's weight is what training makes of it; here each counts alike.
    """
    calibration, test = by_split["calibration"], by_split["test"]
    own = [place for place, example in enumerate(calibration) if example.source != REVIEW]
    bounds = choose_bounds(
        [calibration[place] for place in own],
        scores["calibration"][own, 0],
        alpha=ALPHA,
        false_blocks=FALSE_BLOCKS,
        delta=DELTA,
    )
    certificate = bounds.certificate
    p_unsafe = scores["test"][:, 0]
    unsafe = np.array([e.unsafe for e in test])
    critical = np.array([e.critical for e in test])
    allowed, blocked = p_unsafe < certificate.allow_below, p_unsafe >= bounds.block_at
    return {
        "counts": {
            name: {"safe": sum(not e.unsafe for e in rows), "unsafe": sum(e.unsafe for e in rows)}
            for name, rows in by_split.items()
        },
        "auc": {name: auc([e.unsafe for e in rows], scores[name][:, 0]) for name, rows in by_split.items()},
        "slices": _slices(test, p_unsafe, bag_of_words(by_split["train"], test)),
        "certificate": {
            "allow_below": certificate.allow_below,
            "alpha": ALPHA,
            "confidence": 1 - DELTA,
            "n": certificate.n,
            "misses": certificate.misses,
            "missing": certificate.missing,
        },
        "block_at": bounds.block_at,
        "test": {
            "critical_missed": share(allowed & critical, critical),
            "safe_allowed": share(allowed & ~unsafe, ~unsafe),
            "safe_blocked": share(blocked & ~unsafe, ~unsafe),
            "unsafe_blocked": share(blocked & unsafe, unsafe),
        },
        "categories": _categories(test, allowed, scores["test"], labels),
        "languages": _languages(test, allowed, p_unsafe),
        "calibration": {"ece": expected_calibration_error(unsafe, p_unsafe), "bins": reliability(unsafe, p_unsafe)},
    }


def auc(unsafe: Sequence[bool], scores: npt.NDArray[np.float64]) -> float | None:
    """Area under the ROC curve; None where only one label occurs."""
    from sklearn.metrics import roc_auc_score

    return round(float(roc_auc_score(unsafe, scores)), 4) if len(set(unsafe)) == 2 else None


def bag_of_words(train: Sequence[Example], test: Sequence[Example]) -> npt.NDArray[np.float64]:
    """(test,): scores from the words and word pairs of the responses alone, which tell how far style gives the label away."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(max_iter=2000))
    model.fit([e.response for e in train], [e.unsafe for e in train])
    scores: npt.NDArray[np.float64] = model.decision_function([e.response for e in test])
    return scores


def _slices(examples: Sequence[Example], ours: npt.NDArray[np.float64], words: npt.NDArray[np.float64]) -> dict[str, Any]:
    """The AUC of the model beside that of the words alone: of all, and by length of the response and language."""
    lengths = np.array([len(e.response.split()) for e in examples])
    languages = np.array([e.lang for e in examples])
    chosen = {
        "all": lengths >= 0,
        "under 15 words": lengths < 15,
        "15 to 80 words": (lengths >= 15) & (lengths <= 80),
        "over 80 words": lengths > 80,
        **{f"language {lang}": languages == lang for lang in sorted(set(languages.tolist()))},
    }
    unsafe = np.array([e.unsafe for e in examples])
    return {
        name: {
            "n": int(here.sum()),
            "auc": auc(unsafe[here].tolist(), ours[here]),
            "words_auc": auc(unsafe[here].tolist(), words[here]),
        }
        for name, here in chosen.items()
    }


def reliability(unsafe: npt.NDArray[np.bool_], p_unsafe: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    """Of each tenth of [0, 1]: how many scored there, their mean score, and the share that is unsafe."""
    bins = np.minimum((p_unsafe * BINS).astype(int), BINS - 1)
    return [
        {"n": int(here.sum()), "mean": round(float(p_unsafe[here].mean()), 4), "unsafe": round(float(unsafe[here].mean()), 4)}
        for each in range(BINS)
        if (here := bins == each).any()
    ]


def expected_calibration_error(unsafe: npt.NDArray[np.bool_], p_unsafe: npt.NDArray[np.float64]) -> float:
    """The mean distance, over the bins of `reliability`, between what was said and what was so."""
    bins = reliability(unsafe, p_unsafe)
    distances: list[float] = [each["n"] * abs(each["mean"] - each["unsafe"]) for each in bins]
    return round(sum(distances) / max(1, len(unsafe)), 4)


def _categories(
    examples: Sequence[Example], allowed: npt.NDArray[np.bool_], scores: Scores, labels: Sequence[str]
) -> dict[str, Any]:
    """Of each category the share that the fast layer allows, and the AUC of its own score among the unsafe."""
    unsafe = np.array([e.unsafe for e in examples])
    found = {}
    for category in sorted({c for e in examples for c in e.categories}):
        here = np.array([category in e.categories for e in examples])
        found[category] = {
            "critical": family_of(category) in CRITICAL_FAMILIES,
            "missed": share(allowed & here, here),
            "auc": auc(here[unsafe].tolist(), scores[unsafe, list(labels).index(category)]) if category in labels else None,
        }
    return found


def _languages(examples: Sequence[Example], allowed: npt.NDArray[np.bool_], p_unsafe: npt.NDArray[np.float64]) -> dict[str, Any]:
    rows: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        rows[example.lang].append(index)
    found = {}
    for lang, chosen in sorted(rows.items()):
        unsafe = np.array([examples[i].unsafe for i in chosen])
        critical = np.array([examples[i].critical for i in chosen])
        found[lang] = {
            "auc": auc(unsafe.tolist(), p_unsafe[chosen]),
            "critical_missed": share(allowed[chosen] & critical, critical),
            "safe_allowed": share(allowed[chosen] & ~unsafe, ~unsafe),
        }
    return found
