"""Bundles: whole or not there, and never served when they are not what their manifest says."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from classifiers.encoder import adapter
from classifiers.encoder import bundle as bundles
from classifiers.encoder.bundle import (
    DEFAULT_ENCODER,
    DEFAULT_ENCODER_SHA256,
    SHIPPED_ADAPTER,
    SHIPPED_HEAD,
    InvalidBundle,
    adopt_bundles,
    build_bundle,
    build_encoder,
    read_manifest,
)
from classifiers.encoder.head import Head
from classifiers.finetuned import PharmacySafetyClassifier


def copied(source: Path, target: Path) -> Path:
    """A copy whose files may be written to without touching the original, the large one shared until then."""
    shutil.copytree(source, target, copy_function=os.link)
    return target


def rewrite(path: Path, text: str) -> None:
    path.unlink()  # the file may be a hard link
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def root(bundle: Path, tmp_path: Path) -> Path:
    """A models folder with the encoder, and nothing else."""
    encoder = json.loads((bundle / "manifest.json").read_text())["inputs"]["encoder_sha256"][:12]
    copied(bundle.parent / f"encoder-{encoder}", tmp_path / f"encoder-{encoder}")
    return tmp_path


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> dict[str, str]:
        raise AssertionError("the encoder is built again")

    monkeypatch.setattr(bundles, "_export_encoder", refuse)


def contents(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_bundle_is_there_at_once_the_second_time(root: Path, no_export: None) -> None:
    first = build_bundle(root)
    assert contents(first) == {"manifest.json", "encoder.onnx", "tokenizer.json", "head.json"}
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    started = time.perf_counter()
    assert build_bundle(root) == first
    assert time.perf_counter() - started < 2
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before
    assert contents(root) == {first.name, next(root.glob("encoder-*")).name}


def test_the_version_names_what_went_in_and_not_where_it_was_built(root: Path, bundle: Path) -> None:
    built = build_bundle(root)
    assert built.name == bundle.name == read_manifest(built)["version"]
    assert PharmacySafetyClassifier(built).version == built.name


@pytest.mark.parametrize("name", ["encoder.onnx", "tokenizer.json", "head.json"])
@pytest.mark.parametrize("harm", ["altered", "missing"])
def test_a_bundle_that_was_altered_is_refused_and_built_anew(root: Path, name: str, harm: str) -> None:
    folder = build_bundle(root)
    path = folder / name
    data = path.read_bytes()
    path.unlink()
    if harm == "altered":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InvalidBundle, match=name):
        PharmacySafetyClassifier(folder)
    assert build_bundle(root) == folder
    assert PharmacySafetyClassifier(folder).classify("Take one.").scores


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 3}',
        '{"format": 3, "files": []}',
        '{"format": 3, "files": {}}',
        '{"format": 2, "files": {}}',
    ],
)
def test_a_manifest_that_says_too_little_is_refused(root: Path, manifest: str) -> None:
    folder = build_bundle(root)
    rewrite(folder / "manifest.json", manifest)
    with pytest.raises(InvalidBundle):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("inputs", None), ("inputs", {}), ("inputs", "encoder_sha256"), ("version", None), ("built_with", None)],
)
def test_a_manifest_that_does_not_say_what_was_put_in_is_refused(root: Path, key: str, value: object) -> None:
    folder = build_bundle(root)
    manifest = json.loads((folder / "manifest.json").read_text()) | {key: value}
    rewrite(folder / "manifest.json", json.dumps({name: said for name, said in manifest.items() if said is not None}))
    with pytest.raises(InvalidBundle, match="says too little"):
        PharmacySafetyClassifier(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidBundle, match="no readable manifest"):
        PharmacySafetyClassifier(tmp_path / "nothing")


def test_a_head_put_beside_an_encoder_is_not_served(root: Path) -> None:
    folder = next(root.glob("encoder-*"))
    shutil.copyfile(SHIPPED_HEAD, folder / "head.json")
    with pytest.raises(InvalidBundle, match="without a head"):
        PharmacySafetyClassifier(folder)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError, SystemExit])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]) -> None:
    def interrupted(source: Path, tensors: Any, target: Path, progress: Callable[[str], None]) -> dict[str, str]:
        target.write_bytes(b"half of it")
        raise fault

    monkeypatch.setattr(bundles, "_export_encoder", interrupted)
    with pytest.raises(fault):
        build_encoder(tmp_path / "models")
    assert contents(tmp_path / "models") == set()


def test_two_builds_at_once_end_in_one_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(source: Path, tensors: Any, target: Path, progress: Callable[[str], None]) -> dict[str, str]:
        time.sleep(0.2)
        target.write_bytes(b"the same")
        return {}

    monkeypatch.setattr(bundles, "_export_encoder", slow)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: build_encoder(tmp_path), range(4)))
    assert len(set(folders)) == 1
    assert contents(tmp_path) == {folders[0].name}
    read_manifest(folders[0])


def test_a_bundle_built_elsewhere_is_adopted_whole(root: Path, tmp_path_factory: pytest.TempPathFactory, no_export: None) -> None:
    built = build_bundle(root)
    target = tmp_path_factory.mktemp("served")
    adopt_bundles(root, target)
    assert PharmacySafetyClassifier(target / built.name).version == built.name
    assert build_bundle(target) == target / built.name
    rewrite(built / "head.json", "{}")
    with pytest.raises(InvalidBundle):
        adopt_bundles(root, target)


def test_a_head_of_another_encoder_is_refused(root: Path, no_export: None) -> None:
    """It may have as many dimensions, and its scores would still mean nothing."""
    head = json.loads(SHIPPED_HEAD.read_text(encoding="utf-8"))
    for encoder in ("0" * 64, None):
        other = root / "head.json"
        other.write_text(json.dumps({**head, "encoder_sha256": encoder}), encoding="utf-8")
        with pytest.raises(InvalidBundle, match="another encoder"):
            build_bundle(root, head=other)
    other.write_text(json.dumps({"labels": ["unsafe"]}), encoding="utf-8")
    with pytest.raises(InvalidBundle, match="names its encoder"):
        build_bundle(root, head=other)


def test_an_encoder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidBundle, match=r"model\.safetensors"):
        build_bundle(tmp_path, encoder=str(tmp_path / "no-such-model"))


def test_weights_that_are_not_the_expected_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "DEFAULT_ENCODER_SHA256", "0" * 64)
    with pytest.raises(InvalidBundle, match=DEFAULT_ENCODER):
        build_encoder(tmp_path)
    assert contents(tmp_path) == set()


# Heads


@pytest.fixture
def head() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(SHIPPED_HEAD.read_text(encoding="utf-8"))
    return data


def nan_in(rows: list[Any]) -> list[Any]:
    return [[float("nan"), *rows[0][1:]], *rows[1:]]


@pytest.mark.parametrize(
    "change",
    [
        lambda head: head.update(weights=nan_in(head["weights"])),
        lambda head: head.update(bias=[float("inf"), *head["bias"][1:]]),
        lambda head: head.update(bias=[1e300, *head["bias"][1:]]),
        lambda head: head.update(weights=head["weights"][1:]),
        lambda head: head.update(weights=head["weights"][0]),
        lambda head: head.update(weights=[head["weights"]]),
        lambda head: head.update(weights=[row[:-1] if n else row for n, row in enumerate(head["weights"])]),
        lambda head: head.update(bias=head["bias"][1:]),
        lambda head: head.update(bias=[[b] for b in head["bias"]]),
        lambda head: head.update(bias=head["bias"][0]),
        lambda head: head.update(bias=["one", *head["bias"][1:]]),
        lambda head: head.update(labels=head["labels"][::-1]),
        lambda head: head.update(labels=["unsafe"] * len(head["labels"])),
        lambda head: head.update(labels=[], weights=[], bias=[]),
        lambda head: head.pop("labels"),
        lambda head: head.pop("encoder_sha256"),
        lambda head: head.clear(),
    ],
)
def test_a_head_that_does_not_add_up_is_refused(head: dict[str, Any], tmp_path: Path, change: Callable[[Any], Any]) -> None:
    change(head)
    path = tmp_path / "head.json"
    path.write_text(json.dumps(head), encoding="utf-8")
    with pytest.raises(InvalidBundle, match="not a head"):
        Head.load(path)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", '"unsafe"'])
def test_what_is_no_head_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "head.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidBundle, match="not a head"):
        Head.load(path)


def test_a_head_of_other_drug_facts_is_refused(tmp_path: Path, head: dict[str, Any]) -> None:
    path = tmp_path / "head.json"
    path.write_text(json.dumps({**head, "facts": head["facts"][::-1]}), encoding="utf-8")
    with pytest.raises(InvalidBundle, match="other drug facts"):
        Head.load(path)


def test_another_adapter_makes_another_encoder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_export_encoder", lambda source, tensors, target, progress: target.write_bytes(b"x") and {})
    shipped = build_encoder(root)
    other = tmp_path / "other.safetensors"
    matrices = adapter.load(SHIPPED_ADAPTER, encoder_sha256=DEFAULT_ENCODER_SHA256)
    pairs = {name[:-2]: (matrices[f"{name[:-2]}.A"], 2 * matrices[f"{name[:-2]}.B"]) for name in matrices}
    adapter.save(pairs, other, encoder_sha256=DEFAULT_ENCODER_SHA256)
    assert build_encoder(root, adapter=other) != shipped
    with pytest.raises(InvalidBundle, match="not an adapter"):
        build_encoder(root, adapter=tmp_path / "missing.safetensors")


def test_a_head_of_other_dimensions_is_refused(root: Path, head: dict[str, Any]) -> None:
    narrow = root / "head.json"
    narrow.write_text(json.dumps({**head, "weights": [row[:-1] for row in head["weights"]]}), encoding="utf-8")
    with pytest.raises(InvalidBundle, match="does not fit the encoder"):
        PharmacySafetyClassifier(build_bundle(root, head=narrow))


def test_a_head_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    shipped = Head.load(SHIPPED_HEAD)
    shipped.save(tmp_path / "head.json")
    again = Head.load(tmp_path / "head.json")
    assert again.labels == shipped.labels
    assert again.encoder_sha256 == shipped.encoder_sha256
    assert (again.weights == shipped.weights).all()
    assert (again.bias == shipped.bias).all()
