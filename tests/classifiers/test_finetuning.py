"""The adapter: what training makes of it, what is written, and that merging it changes the encoder as it should."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from classifiers.encoder import adapter
from classifiers.encoder.bundle import DEFAULT_ENCODER_SHA256, SHIPPED_ADAPTER, encoder_folder
from classifiers.encoder.finetuning import Recipe, _batches, finetune
from classifiers.examples import Example, split_of
from classifiers.finetuned import PharmacySafetyClassifier


@pytest.fixture
def source() -> Path:
    return encoder_folder()


def few(corpus: list[Example]) -> list[Example]:
    """Some short twins of two splits."""
    short = [e for e in corpus if len(e.response) + len(e.query) < 160]
    train = [e for e in short if split_of(e.group) == "train"][:24]
    held = [e for e in short if split_of(e.group) == "validation"]
    return [*train, *[e for e in held if e.unsafe][:4], *[e for e in held if not e.unsafe][:4]]


@pytest.mark.filterwarnings("ignore")
def test_training_learns_reproducibly_and_what_it_learnt_can_be_merged(
    corpus: list[Example], source: Path, tmp_path: Path
) -> None:
    recipe = Recipe(rank=2, epochs=1, batch=8)
    said: list[str] = []
    pairs = finetune(few(corpus), source, recipe, progress=lambda phase, *rest: said.append(phase))
    assert "validation AUC" in said[-1]
    assert any(np.abs(b).max() > 0 for _, b in pairs.values())  # B begins at zero
    again = finetune(few(corpus), source, recipe)
    assert all(np.allclose(pairs[name][1], again[name][1], atol=1e-6) for name in pairs)

    adapter.save(pairs, tmp_path / "a.safetensors", encoder_sha256=DEFAULT_ENCODER_SHA256)
    tensors = adapter.load(tmp_path / "a.safetensors", encoder_sha256=DEFAULT_ENCODER_SHA256)
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(source)
    name = next(iter(pairs))
    before = dict(encoder.named_modules())[name].weight.detach().clone()
    adapter.merge(encoder, tensors)
    after = dict(encoder.named_modules())[name].weight.detach()
    difference = torch.from_numpy(pairs[name][1] @ pairs[name][0])
    assert torch.allclose(after - before, difference, atol=1e-3)


def test_twins_are_never_parted_and_nothing_is_left_out(corpus: list[Example], classifier: PharmacySafetyClassifier) -> None:
    some = [e for e in corpus if split_of(e.group) == "train"][:300]
    windows = [classifier.encoder.reader.windows([e.response], [e.query]) for e in some]
    batches = _batches(some, windows, 16, random.Random(1))
    assert sorted(index for batch in batches for index in batch) == list(range(len(some)))
    sizes = Counter(e.group for e in some)
    place = {some[index].group: number for number, batch in enumerate(batches) for index in batch}
    whole = [(some[i].group, number) for number, batch in enumerate(batches) for i in batch if sizes[some[i].group] <= 16]
    assert whole
    assert all(place[group] == number for group, number in whole)


def test_no_batch_is_larger_than_memory_allows(corpus: list[Example]) -> None:
    group = max(Counter(e.group for e in corpus).items(), key=lambda pair: pair[1])[0]
    some = [e for e in corpus if e.group == group] + corpus[:200]
    windows: Any = [[SimpleNamespace(ids=[0] * 9)] * (1 + number % 3) for number in range(len(some))]
    batches = _batches(some, windows, 8, random.Random(1))
    assert sorted(index for batch in batches for index in batch) == list(range(len(some)))
    assert max(sum(len(windows[index]) for index in batch) for batch in batches) <= 3 * 8


def test_the_shipped_adapter_is_small_and_for_the_packaged_encoder() -> None:
    tensors = adapter.load(SHIPPED_ADAPTER, encoder_sha256=DEFAULT_ENCODER_SHA256)
    assert len(tensors) == 2 * 36
    assert SHIPPED_ADAPTER.stat().st_size <= 5_000_000


def test_an_adapter_for_another_encoder_is_refused() -> None:
    with pytest.raises(adapter.InvalidAdapter, match="another encoder"):
        adapter.load(SHIPPED_ADAPTER, encoder_sha256="0" * 64)


@pytest.mark.parametrize(
    "tensors",
    [
        {"x.A": np.zeros((2, 3), np.float16)},
        {"x.A": np.zeros((2, 3), np.float16), "x.C": np.zeros((3, 2), np.float16)},
        {"x.A": np.full((2, 3), np.nan, np.float16), "x.B": np.zeros((3, 2), np.float16)},
    ],
)
def test_what_is_no_adapter_is_refused(tmp_path: Path, tensors: dict[str, Any]) -> None:
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, metadata={"encoder_sha256": "e"})
    with pytest.raises(adapter.InvalidAdapter):
        adapter.load(path, encoder_sha256="e")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no such format")
    for path in (tmp_path / "a.safetensors", tmp_path / "missing"):
        with pytest.raises(adapter.InvalidAdapter, match="not an adapter"):
            adapter.load(path, encoder_sha256="e")


@pytest.mark.parametrize("name", ["no.such.map", "embeddings.word_embeddings", "encoder.layer.0.output.dense"])
def test_an_adapter_that_does_not_fit_is_refused(source: Path, name: str) -> None:
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(source)
    tensors = {f"{name}.A": np.zeros((2, 7), np.float16), f"{name}.B": np.zeros((384, 2), np.float16)}
    with pytest.raises(adapter.InvalidAdapter, match="does not fit"):
        adapter.merge(encoder, tensors)
