"""`manage.py activate VERSION`: promote a candidate whose check passed, or with a reason without one; `--back` returns to what
served.
"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from guardreview.core.models import User
from guardreview.core.roles import Act
from guardreview.learning import promotion
from guardreview.learning.models import Promotion
from guardreview.verdicts.models import ModelVersion


class Command(BaseCommand):
    help = "Promote a model version that passed its check, with its certified thresholds; or go back to what served before."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("version", nargs="?", default="")
        parser.add_argument("--back", action="store_true", help="return to the model that served before")
        parser.add_argument(
            "--by", default="", metavar="USER", help="whose decision it is: an active administrator; always needed"
        )
        parser.add_argument(
            "--without-check", action="store_true", help="in an emergency; the audit log keeps that nothing was checked"
        )
        parser.add_argument("--why", default="", help="the reason, which the audit log keeps")

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["version"]) == options["back"]:
            raise CommandError("give either a version or --back")
        try:
            made = self._change(options)
        except ModelVersion.DoesNotExist as error:
            known = ", ".join(ModelVersion.objects.values_list("version", flat=True))
            raise CommandError(f"no model version {options['version']}; there are: {known or 'none'}") from error
        except promotion.NotPromoted as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{made.model.version} serves with {made.policy}")

    def _change(self, options: dict[str, Any]) -> Promotion:
        if not options["by"]:
            raise CommandError("say with --by whose decision it is")
        actor = User.objects.filter(username=options["by"]).first()
        if actor is None or not actor.may(Act.MANAGE_MODELS):
            raise CommandError(f"nobody called {options['by']} may manage models")
        if options["back"]:
            return promotion.model_roll_back(actor=actor, why=options["why"])
        candidate = ModelVersion.objects.get(version=options["version"])
        if options["without_check"]:
            return promotion.model_promote_without_check(candidate=candidate, actor=actor, why=options["why"])
        return promotion.model_promote(candidate=candidate, actor=actor, why=options["why"])
