"""`manage.py health`: count the weekly figures that are due, or those of one week."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from guardreview.learning import health
from guardreview.learning.models import HealthReport


class Command(BaseCommand):
    help = "Count the weekly figures of all weeks that are due, or of one week, and say what wants attention."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--week", type=date.fromisoformat, help="its Monday, as 2026-11-16")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            weeks = [options["week"]] if options["week"] else health.weeks_due()
            for week in weeks:
                health.health_report_store(week=week)
        except ValueError as error:
            raise CommandError(str(error)) from None
        for report in HealthReport.objects.filter(week__in=weeks).order_by("week"):
            self.stdout.write(f"{report}: {report.figures['n']:,} answers")
            for alarm in report.alarms:
                self.stdout.write(f"  {alarm['level']}: {alarm['title']}. {alarm['seen']}")
        if not weeks:
            self.stdout.write("Nothing is due.")
