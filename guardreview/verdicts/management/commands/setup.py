"""`manage.py setup`: the serving model, the first policy and the first model version. Safe to run at every start."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from classifiers.bundle import SHIPPED_HEAD, InvalidBundle
from classifiers.policy import Policy as CascadePolicy
from guardreview.verdicts import runtime
from guardreview.verdicts.models import ModelVersion, Policy
from guardreview.verdicts.services import model_version_activate, model_version_register, policy_create


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
        if not ModelVersion.objects.filter(stage=ModelVersion.Stage.ACTIVE).exists():
            model_version_activate(model=model, actor=None)
        if not Policy.objects.filter(is_active=True).exists():
            shipped = CascadePolicy.shipped().as_json()
            shipped.pop("version")
            policy_create(actor=None, note="the shipped policy", **shipped)
