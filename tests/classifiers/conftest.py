"""The real model, built once for all sessions, and the corpus with its embeddings."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from classifiers.bundle import build_bundle
from classifiers.finetuned import Floats, PharmacySafetyClassifier
from classifiers.training import Example, load_corpus

REPOSITORY = Path(__file__).resolve().parents[2]


class Remembering:
    """The served encoder, which reads each exchange once a session."""

    def __init__(self, classifier: PharmacySafetyClassifier) -> None:
        self._encoder = classifier.encoder
        self._known: dict[tuple[str, str], Floats] = {}

    @property
    def encoder_sha256(self) -> str:
        return self._encoder.encoder_sha256

    def embed(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> Floats:
        pairs = list(zip(texts, queries or [""] * len(texts), strict=True))
        if new := [pair for pair in dict.fromkeys(pairs) if pair not in self._known]:
            embeddings = self._encoder.embed([text for text, _ in new], [query for _, query in new])
            self._known.update(zip(new, embeddings, strict=True))
        return np.array([self._known[pair] for pair in pairs])


@pytest.fixture(scope="session")
def models() -> Path:
    """Where bundles are kept between sessions."""
    return Path(os.environ.get("GUARDREVIEW_VAR_DIR", REPOSITORY / "var")) / "models"


@pytest.fixture(scope="session")
def bundle(models: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, where the encoder is built for the first time
        return build_bundle(models)


@pytest.fixture(scope="session")
def classifier(bundle: Path) -> PharmacySafetyClassifier:
    return PharmacySafetyClassifier(bundle)


@pytest.fixture(scope="session")
def corpus() -> list[Example]:
    return load_corpus()


@pytest.fixture(scope="session")
def embedder(classifier: PharmacySafetyClassifier) -> Remembering:
    return Remembering(classifier)
