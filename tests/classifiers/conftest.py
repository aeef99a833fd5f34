"""The real model, built once for all sessions, and the corpus with its embeddings."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from classifiers.encoder.bundle import build_bundle
from classifiers.encoder.embedding_cache import CorpusEncoder
from classifiers.examples import Example, load_corpus
from classifiers.finetuned import PharmacySafetyClassifier

REPOSITORY = Path(__file__).resolve().parents[2]


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
def embedder(classifier: PharmacySafetyClassifier, corpus: list[Example], models: Path) -> CorpusEncoder:
    return CorpusEncoder(classifier.encoder, corpus, models)
