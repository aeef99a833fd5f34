"""`manage.py export_labels`: labels as a file, by the same snapshot and in the same bytes as the page and the API give."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from guardreview.core.models import App
from guardreview.learning.export_filters import AGREEMENTS, BASES, ExportFilters, InvalidFilter
from guardreview.learning.export_storage import StorageFailed, content_size
from guardreview.learning.export_writing import export_write
from guardreview.learning.exports import NoReason, export_bytes, export_request
from guardreview.learning.models import Export


class Command(BaseCommand):
    help = "Export labels: to standard output, or to a file. What is exported stays in the storage of exports, too."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", choices=Export.Format.values, default="jsonl")
        parser.add_argument("--output", type=Path, help="the file to write; without it, standard output")
        parser.add_argument("--app", default="", help="of this app alone")
        parser.add_argument("--since", default="", help="settled on this day or later, or since this moment")
        parser.add_argument("--until", default="", help="settled before")
        parser.add_argument("--category", default="", help="a category, or a family of them")
        parser.add_argument("--layer", default="", help="whose verdict it was: rules, finetuned, judge")
        parser.add_argument("--basis", action="append", dest="bases", choices=BASES, help="may be given several times")
        parser.add_argument("--agreement", default="", choices=("", *AGREEMENTS), help="what the label makes of the verdict")
        parser.add_argument("--with-personal-data", metavar="WHY", default="", help="do not redact, for this recorded reason")

    def handle(self, *args: Any, **options: Any) -> None:
        names = ("since", "until", "category", "app", "layer", "agreement", "bases")
        try:
            filters = ExportFilters.parse({name: options[name] for name in names})
            export = export_request(
                format=options["format"],
                filters=filters,
                actor="command line",
                redacted=not options["with_personal_data"],
                why=options["with_personal_data"],
                enqueue=False,
            )
        except InvalidFilter as error:
            apps = ", ".join(App.objects.order_by("name").values_list("name", flat=True))
            raise CommandError(f"--{error.field}: {error}" + (f" Apps: {apps}." if error.field == "app" else "")) from error
        except NoReason as error:
            raise CommandError(str(error)) from error
        try:
            export_write(export_id=export.pk, for_s=float("inf"))
            export.refresh_from_db()
            if export.status != Export.Status.READY:
                raise CommandError(f"The export failed: {export.error}")
            with ExitStack() as stack:
                target = stack.enter_context(options["output"].open("wb")) if options["output"] else sys.stdout.buffer
                for piece in export_bytes(export, 0, content_size(export)):
                    target.write(piece)
        except (OSError, StorageFailed) as error:
            raise CommandError(f"The export could not be written: {error}") from error
        self.stderr.write(f"{export.rows} labels up to {export.labels_up_to}, SHA-256 {export.sha256}")
