"""`manage.py activate VERSION`: serve with a registered model version; workers follow with their next exchange."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from classifiers.encoder.bundle import InvalidBundle
from guardreview.verdicts.models import ModelVersion
from guardreview.verdicts.services import model_version_activate


class Command(BaseCommand):
    help = "Serve with a registered model version; workers follow with their next exchange."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("version")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            model = ModelVersion.objects.get(version=options["version"])
            model_version_activate(model=model, actor=None)
        except ModelVersion.DoesNotExist as error:
            known = ", ".join(ModelVersion.objects.values_list("version", flat=True))
            raise CommandError(f"no model version {options['version']}; there are: {known or 'none'}") from error
        except InvalidBundle as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{model.version} is active")
