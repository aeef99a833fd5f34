"""`manage.py export_labels`: settled labels as JSONL or CSV, to standard output or a file."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from guardreview.core.models import App
from guardreview.learning.exports import EXPORT_FORMATS, labels_export


class Command(BaseCommand):
    help = "Write settled labels as JSONL or CSV. They hold patients' words: keep the file accordingly."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", choices=EXPORT_FORMATS, default="jsonl")
        parser.add_argument("--app", help="only the labels of this app")
        parser.add_argument("--output", type=Path, help="a file, readable by its owner alone; default: standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        app = None
        if options["app"]:
            app = App.objects.filter(name=options["app"]).first()
            if app is None:
                raise CommandError(f"no app named {options['app']}")
        lines = labels_export(format=options["format"], actor="manage.py", app=app)
        if options["output"] is None:
            sys.stdout.writelines(lines)
            return
        partial = options["output"].with_suffix(options["output"].suffix + ".partial")
        try:
            partial.touch(mode=0o600)
            with partial.open("w", encoding="utf-8", newline="") as file:
                count = sum(1 for line in lines if file.write(line))
            partial.rename(options["output"])
        except OSError as error:
            raise CommandError(f"cannot write {options['output']}: {error.strerror}") from error
        self.stderr.write(f"{count} lines in {options['output']}")
