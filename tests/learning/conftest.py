"""A models folder of its own, with the shipped bundle linked into it."""

from pathlib import Path

import pytest
from django.conf import settings as real_settings

from classifiers.bundle import build_bundle


@pytest.fixture
def serving_models(tmp_path: Path, settings: object) -> Path:
    shipped = build_bundle(real_settings.MODELS_DIR)
    encoder = next(real_settings.MODELS_DIR.glob("encoder-*"))
    for source in (shipped, encoder):
        (tmp_path / source.name).symlink_to(source, target_is_directory=True)
    settings.MODELS_DIR = tmp_path  # type: ignore[attr-defined]
    return tmp_path
