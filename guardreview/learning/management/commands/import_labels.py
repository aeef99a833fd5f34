"""`manage.py import_labels FILE`: the rows of a labelled file that are new, as a label set."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from guardreview.learning.import_files import InvalidFile, form_of
from guardreview.learning.import_mapping import REASONS, ImportMapping, InvalidMapping
from guardreview.learning.imports import AlreadyImported, file_check, labels_import, mapping_guess, report_csv


class Command(BaseCommand):
    help = (
        "Import labelled exchanges from JSON lines, CSV or Parquet. Without --mapping it is guessed; --dry-run shows the guess."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--name", default="", help="of the label set; without it, the file's")
        parser.add_argument("--mapping", default="", help="JSON, or @FILE with it, in the form that --dry-run prints")
        parser.add_argument(
            "--dry-run", action="store_true", help="store nothing; print the mapping and what would be made of it"
        )
        parser.add_argument("--report", type=Path, help="write the refused rows there, as CSV")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            form = form_of(path, path.name)
            mapping = self._mapping(options["mapping"]) if options["mapping"] else mapping_guess(path, form)
            if options["dry_run"]:
                self.stdout.write(json.dumps(mapping.as_json(), ensure_ascii=False))
                report = file_check(path, mapping.checked()).report()
            else:
                label_set = labels_import(path=path, name=options["name"] or path.name, mapping=mapping, user=None)
                report = label_set.report
                self.stdout.write(f"label set {label_set.pk}")
            if options["report"]:
                options["report"].write_text("".join(report_csv(report)), encoding="utf-8", newline="")
        except (InvalidFile, InvalidMapping, AlreadyImported) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"cannot read or write {error.filename}: {error.strerror}") from error
        self.stdout.write(f"{report['taken']} of {report['rows']} rows {'would be ' if options['dry_run'] else ''}taken")
        for reason, count in report["reasons"].items():
            self.stdout.write(f"  {count} refused: {REASONS[reason]}")

    def _mapping(self, given: str) -> ImportMapping:
        text = Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given
        try:
            return ImportMapping.from_json(json.loads(text))
        except json.JSONDecodeError as error:
            raise InvalidMapping(f"--mapping is not JSON: {error}") from error
