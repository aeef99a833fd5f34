"""`manage.py setup`: the serving model, the first policy and the first model version. Safe to run at every start."""

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from classifiers.encoder.bundle import BUNDLE_FORMAT, SHIPPED_HEAD, InvalidBundle
from classifiers.policy import Policy as CascadePolicy
from guardreview.verdicts import runtime
from guardreview.verdicts.artefacts import StorageFailed
from guardreview.verdicts.models import ModelVersion, Policy
from guardreview.verdicts.services import (
    model_version_prepare,
    model_version_register,
    model_version_switch,
    policy_create,
    policy_fields,
)


class Command(BaseCommand):
    help = "Build the serving model and create the first policy and model version, where they are missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model-only", action="store_true", help="build the serving model; leave the database alone")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            bundle = runtime.shipped_bundle(progress=self.stdout.write)
        except InvalidBundle as error:
            raise CommandError(str(error)) from error
        if options["model_only"]:
            return
        metrics = json.loads((SHIPPED_HEAD.parent / "metrics.json").read_text(encoding="utf-8"))
        model = model_version_register(version=bundle.name, corpus_hash=metrics["corpus_hash"], metrics=metrics)
        active = ModelVersion.objects.filter(stage=ModelVersion.Stage.ACTIVE).first()
        outdated = active is not None and _is_outdated(active)
        changes_model = active is None or outdated
        try:
            if changes_model:
                model_version_prepare(model=model)
        except (InvalidBundle, StorageFailed) as error:
            raise CommandError(str(error)) from error
        # Thresholds are a model's own: those of another mean nothing for it, so both change or neither does. The rest stays.
        with transaction.atomic():
            if changes_model:
                model_version_switch(model=model, actor=None)
            policy = Policy.objects.filter(is_active=True).first()
            if outdated or policy is None:
                shipped = CascadePolicy.shipped().as_json()
                fields = {**(policy_fields(policy) if policy else shipped), "thresholds": shipped["thresholds"]}
                fields.pop("version", None)
                policy_create(actor=None, note="the shipped policy", **fields)
        if outdated:
            self.stderr.write(f"{active} is of an earlier format and cannot be served: the shipped model takes its place")


def _is_outdated(model: ModelVersion) -> bool:
    """Of another format. One that is missing or altered is not: it can be put back, and until then everything is held."""
    try:
        manifest = json.loads((settings.MODELS_DIR / model.version / "manifest.json").read_text(encoding="utf-8"))
        return bool(manifest["format"] != BUNDLE_FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False
