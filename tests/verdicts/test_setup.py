"""`manage.py setup`: run at every start, it changes nothing that works, and replaces a model that cannot be served any more."""

import json
from pathlib import Path

import pytest
from django.conf import settings as real_settings
from django.core.management import call_command

from classifiers.encoder.bundle import build_bundle, build_encoder
from classifiers.policy import Policy as CascadePolicy
from guardreview.verdicts.models import ModelVersion, Policy
from guardreview.verdicts.services import model_version_register, policy_create


@pytest.fixture
def models(db: None, settings: object, tmp_path: Path) -> Path:
    for source in (build_bundle(real_settings.MODELS_DIR), build_encoder(real_settings.MODELS_DIR)):
        (tmp_path / source.name).symlink_to(source, target_is_directory=True)
    settings.MODELS_DIR = tmp_path  # type: ignore[attr-defined]
    return tmp_path


def test_the_first_run_makes_policy_and_model_and_the_second_changes_nothing(models: Path) -> None:
    call_command("setup", verbosity=0)
    first = (ModelVersion.objects.get(), Policy.objects.get())
    assert first[0].stage == "active"
    assert first[1].is_active
    call_command("setup", verbosity=0)
    assert (ModelVersion.objects.get(), Policy.objects.get()) == first


def test_what_an_administrator_chose_is_kept(models: Path) -> None:
    call_command("setup", verbosity=0)
    fields = CascadePolicy.shipped().as_json()
    fields.pop("version")
    chosen = policy_create(actor=None, **fields)
    call_command("setup", verbosity=0)
    assert Policy.objects.get(is_active=True) == chosen


def test_a_model_whose_files_are_missing_is_kept(models: Path) -> None:
    """They may be restored; until then everything is held, for all to see."""
    gone = model_version_register(version="ft-gone", corpus_hash="", metrics={})
    ModelVersion.objects.filter(pk=gone.pk).update(stage="active")
    call_command("setup", verbosity=0)
    assert ModelVersion.objects.get(stage="active") == gone


def test_a_model_of_an_earlier_format_is_replaced_with_its_thresholds(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models / "ft-old").mkdir()
    (models / "ft-old" / "manifest.json").write_text(json.dumps({"format": 2, "files": {}}), encoding="utf-8")
    old = model_version_register(version="ft-old", corpus_hash="", metrics={})
    ModelVersion.objects.filter(pk=old.pk).update(stage="active")
    fields = CascadePolicy.shipped().as_json()
    fields.pop("version")
    loose = policy_create(
        actor=None, **{**fields, "judge_min_confidence": 0.9, "learning_share": 0.1, "note": "for the old model"}
    )

    def die(**_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("guardreview.verdicts.management.commands.setup.policy_create", die)
        with pytest.raises(KeyboardInterrupt):
            call_command("setup", verbosity=0)
    assert (ModelVersion.objects.get(stage="active"), Policy.objects.get(is_active=True)) == (old, loose)
    call_command("setup", verbosity=0)
    assert ModelVersion.objects.get(stage="active").version == build_bundle(models).name
    policy = Policy.objects.get(is_active=True)
    assert policy != loose
    assert (policy.judge_min_confidence, policy.learning_share) == (0.9, 0.1)
    assert policy.as_cascade_policy().thresholds == CascadePolicy.shipped().thresholds
    assert "cannot be served" in capsys.readouterr().err
