"""`manage.py judge_status`: the judge's circuit breaker, calls under way, and what they cost today."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from classifiers.judge.store import StoreUnavailable
from guardreview.verdicts import runtime
from guardreview.verdicts.models import Policy


class Command(BaseCommand):
    help = "The state of the judge's circuit breaker, the judgments under way, and today's spend, all workers together."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="as JSON, for a monitor")

    def handle(self, *args: Any, **options: Any) -> None:
        model = Policy.objects.filter(is_active=True).values_list("judge_model", flat=True).first() or settings.JUDGE["model"]
        store = runtime.judge_store()
        try:
            status = store.status(runtime.judge_name(model))
        except StoreUnavailable as error:
            raise CommandError(f"the judge's state cannot be read: {error}") from error
        if options["json"]:
            shown = ("max_concurrent", "daily_usd", "daily_calls")
            bounds = {name: getattr(store.limits, name) for name in shown}
            self.stdout.write(
                json.dumps({"model": model, "configured": runtime.judge_is_configured(), **asdict(status), "limits": bounds})
            )
            return
        limits = store.limits
        for name, text in (
            ("judge", f"{model}{'' if runtime.judge_is_configured() else ' (not configured)'}"),
            ("breaker", f"{status.breaker}, {status.failures} failures in a row"),
            ("under way", f"{status.running}{_of(limits.max_concurrent)}"),
            ("today", f"{status.usd:.4f}{_of(limits.daily_usd)} USD, {status.calls}{_of(limits.daily_calls)} calls"),
            ("", f"{status.prompt_tokens} tokens in, {status.completion_tokens} out"),
            ("", f"{status.refused} calls refused because the budget was spent"),
        ):
            self.stdout.write(f"{name:12}{text}")


def _of(limit: float) -> str:
    return f" of {limit:g}" if limit else ""
