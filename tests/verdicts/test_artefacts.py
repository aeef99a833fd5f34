"""Bundles lie in a storage by their content: another host fetches what it lacks, checks it, and only then loads it."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from django.conf import settings as real_settings

from classifiers.encoder.bundle import InvalidBundle, build_bundle
from guardreview.core.models import App
from guardreview.verdicts import artefacts, runtime, services
from guardreview.verdicts.models import Exchange, LayerResult, ModelVersion
from tests import scenes


@pytest.fixture
def shipped() -> Path:
    return build_bundle(real_settings.MODELS_DIR)


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_loaded", None)
    monkeypatch.setattr(runtime, "_coming", None)


@pytest.fixture
def hosts(tmp_path: Path, settings: Any, shipped: Path) -> tuple[Path, Path]:
    """Two hosts' folders of models, the first with the shipped one, and a storage in memory that both reach."""
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(shipped, first / shipped.name)
    second.mkdir()
    settings.MODELS_DIR, settings.MODEL_STORAGE = first, f"memory://models-{uuid4().hex}"
    return first, second


def test_a_host_that_lacks_a_bundle_fetches_it_and_serves_it(hosts: tuple[Path, Path], settings: Any, shipped: Path) -> None:
    first, second = hosts
    artefact = artefacts.artefact_put(shipped.name)
    assert artefacts.artefact_put(shipped.name) == artefact  # what is there stays
    settings.MODELS_DIR = second
    classifier = runtime.model(shipped.name, artefact)
    assert classifier.version == shipped.name
    assert {path.name for path in (second / shipped.name).iterdir()} == {path.name for path in (first / shipped.name).iterdir()}
    assert [path.name for path in second.iterdir()] == [shipped.name]


def test_the_default_storage_is_a_folder_beside_the_models(hosts: tuple[Path, Path], settings: Any, shipped: Path) -> None:
    settings.MODEL_STORAGE = ""
    artefact = artefacts.artefact_put(shipped.name)
    names = {path.name for path in (hosts[0] / "artefacts" / "objects").iterdir()}
    manifest = json.loads((shipped / "manifest.json").read_text())
    assert names == {artefact, *manifest["files"].values()}


@pytest.mark.parametrize("what", ["head.json", "manifest.json"])
def test_an_object_that_was_altered_is_refused(what: str, hosts: tuple[Path, Path], settings: Any, shipped: Path) -> None:
    artefact = artefacts.artefact_put(shipped.name)
    files = json.loads((shipped / "manifest.json").read_text())["files"]
    digest = artefact if what == "manifest.json" else files[what]
    files_of, root = fsspec.core.url_to_fs(settings.MODEL_STORAGE)
    files_of.pipe_file(f"{root}/objects/{digest}", b'{"files": {"head.json": "0"}}')
    settings.MODELS_DIR = hosts[1]
    with pytest.raises(InvalidBundle, match="was altered"):
        artefacts.artefact_fetch(shipped.name, artefact)
    assert list(hosts[1].iterdir()) == []


def test_a_manifest_cannot_name_a_file_elsewhere(hosts: tuple[Path, Path], settings: Any, shipped: Path) -> None:
    evil = json.dumps({"files": {"../escaped": "0" * 64}}).encode()
    artefact = hashlib.sha256(evil).hexdigest()
    files, root = fsspec.core.url_to_fs(settings.MODEL_STORAGE)
    files.pipe_file(f"{root}/objects/{artefact}", evil)
    settings.MODELS_DIR = hosts[1]
    with pytest.raises(InvalidBundle, match="names a file that it may not"):
        artefacts.artefact_fetch(shipped.name, artefact)


def test_what_was_altered_on_the_host_is_not_served_and_the_page_is_told(
    hosts: tuple[Path, Path], shipped: Path, db: None
) -> None:
    first, _ = hosts
    assert artefacts.bundle_fault(shipped.name, "") == ""
    head = first / shipped.name / "head.json"
    head.write_text(head.read_text().replace("unsafe", "safest", 1))
    assert "not what was registered" in artefacts.bundle_fault(shipped.name, "")
    ModelVersion.objects.create(version=shipped.name, stage="active")
    services.policy_create(
        actor=None, thresholds={"default": {"block_at": 0.9, "allow_below": 0.3}}, layers=["rules", "finetuned"]
    )
    exchange = submitted()
    services.exchange_run_fast_layers(exchange_id=exchange.pk)
    assert exchange.layer_results.get(layer="finetuned").error == "the fine-tuned model could not be loaded"
    exchange.refresh_from_db()
    assert exchange.verdict.decision == "hold"


def test_the_storages_copy_takes_the_place_of_one_that_was_altered(hosts: tuple[Path, Path], shipped: Path) -> None:
    artefact = artefacts.artefact_put(shipped.name)
    head = hosts[0] / shipped.name / "head.json"
    head.unlink()
    head.write_text("{}")
    artefacts.artefact_fetch(shipped.name, artefact)
    assert artefacts.artefact_of(shipped.name) == artefact


def test_another_bundle_under_the_name_of_a_version_is_refused(hosts: tuple[Path, Path], shipped: Path) -> None:
    (hosts[0] / shipped.name).rename(hosts[0] / "ft-000000000000")
    with pytest.raises(InvalidBundle, match="is not the bundle of"):
        artefacts.artefact_of("ft-000000000000")


# --- Switching under load -------------------------------------------------------------------------------------------------------
def submitted() -> Exchange:
    app, _ = App.objects.get_or_create(name="chat")
    return Exchange.objects.create(app=app, query="Is it open?", response="The pharmacy opens at nine.", body_digest="-")


class Slow:
    """A model that takes a while to load and says its name."""

    def __init__(self, version: str, seconds: float) -> None:
        time.sleep(seconds)
        self.version = version

    def classify(self, text: str, query: str = "") -> Any:
        return replace(scenes.finetuned(0.01), version=self.version)


@pytest.mark.django_db(transaction=True)
def test_while_another_model_loads_the_one_before_serves_on_with_its_own_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "model", lambda version, artefact: Slow(version, 0.0 if version == "ft-old" else 0.4))
    ModelVersion.objects.create(version="ft-old", stage="active")
    new = ModelVersion.objects.create(version="ft-new")
    bounds = {"default": {"block_at": 0.9, "allow_below": 0.3}}
    first = services.policy_create(actor=None, thresholds=bounds)
    runtime.warm_up()
    second = services.policy_create(actor=None, thresholds=bounds, activate=False)
    services.policy_activate(policy=second, actor=None)
    services.model_version_switch(model=new, actor=None)
    waits, seen = [], []
    for _ in range(60):
        exchange, began = submitted(), time.perf_counter()
        services.exchange_run_fast_layers(exchange_id=exchange.pk)
        waits.append(time.perf_counter() - began)
        exchange.refresh_from_db()
        seen.append((exchange.verdict.versions["finetuned"], exchange.verdict.policy_id, exchange.verdict.decision))
        time.sleep(0.01)
    assert max(waits) < 0.3  # nobody waited for the load
    assert list(dict.fromkeys(seen)) == [("ft-old", first.pk, "allow"), ("ft-new", second.pk, "allow")]
    assert LayerResult.objects.exclude(error="").count() == 0


@pytest.mark.django_db(transaction=True)
def test_a_model_that_cannot_be_loaded_fails_the_layer_and_the_one_before_does_not_serve_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(version: str, artefact: str) -> Any:
        if version == "ft-new":
            raise InvalidBundle("altered")
        return Slow(version, 0)

    monkeypatch.setattr(runtime, "model", load)
    ModelVersion.objects.create(version="ft-old", stage="active")
    services.policy_create(
        actor=None, thresholds={"default": {"block_at": 0.9, "allow_below": 0.3}}, layers=["rules", "finetuned"]
    )
    runtime.warm_up()
    services.model_version_switch(model=ModelVersion.objects.create(version="ft-new"), actor=None)
    services.exchange_run_fast_layers(exchange_id=submitted().pk)
    for thread in threading.enumerate():
        if thread.name.startswith("Thread-") and thread is not threading.current_thread():
            thread.join(1)
    exchange = submitted()
    services.exchange_run_fast_layers(exchange_id=exchange.pk)
    exchange.refresh_from_db()
    assert exchange.verdict.decision == "hold"
    assert exchange.layer_results.get(layer="finetuned").error == "the fine-tuned model could not be loaded"


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_had_nothing_to_do_loads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows under which policy its model served last."""
    monkeypatch.setattr(runtime, "model", lambda version, artefact: Slow(version, 0))
    ModelVersion.objects.create(version="ft-old", stage="active")
    services.policy_create(actor=None, thresholds={"default": {"block_at": 0.9, "allow_below": 0.3}})
    runtime.warm_up()
    assert runtime._loaded is not None
    runtime._loaded.at -= runtime.PATIENCE_S
    services.model_version_switch(model=ModelVersion.objects.create(version="ft-new"), actor=None)
    exchange = submitted()
    services.exchange_run_fast_layers(exchange_id=exchange.pk)
    exchange.refresh_from_db()
    assert exchange.verdict.versions["finetuned"] == "ft-new"
