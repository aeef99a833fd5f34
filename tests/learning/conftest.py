"""A models folder of its own, with the shipped bundle and the corpus' embeddings linked into it."""

from pathlib import Path

import pytest
from django.conf import settings as real_settings

from classifiers.disguise.deobfuscation import readable
from classifiers.encoder.bundle import build_bundle, build_encoder
from classifiers.encoder.embedding_cache import CorpusEncoder
from classifiers.encoder.encoder import Encoder
from classifiers.examples import load_corpus


@pytest.fixture(scope="session")
def corpus_embeddings() -> Path:
    """Made once for all sessions."""
    corpus = load_corpus()
    encoder = CorpusEncoder(Encoder(build_encoder(real_settings.MODELS_DIR)), corpus, real_settings.MODELS_DIR)
    encoder.embed([readable(e.response) for e in corpus], [readable(e.query) for e in corpus])
    return encoder.path


@pytest.fixture
def serving_models(tmp_path: Path, settings: object, corpus_embeddings: Path) -> Path:
    for source in (build_bundle(real_settings.MODELS_DIR), build_encoder(real_settings.MODELS_DIR), corpus_embeddings):
        (tmp_path / source.name).symlink_to(source, target_is_directory=source.is_dir())
    settings.MODELS_DIR = tmp_path  # type: ignore[attr-defined]
    return tmp_path
