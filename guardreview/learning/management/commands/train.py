"""`manage.py train`: the shipped model from the corpus, or a candidate from the corpus and reviewers' labels."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from classifiers.encoder.bundle import SHIPPED_HEAD, InvalidBundle
from classifiers.examples import InvalidExample
from classifiers.model_card import ship
from guardreview.learning.training_runs import adapter_train, corpus_train, labels_train


class Command(BaseCommand):
    help = "Train a head on the corpus (rewrites classifiers/model/), or with --labels on reviewers' labels too."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--labels",
            nargs="?",
            const="",
            metavar="FILE.jsonl",
            help="train with the database's labels, or those of an exported file, and register a candidate model version",
        )
        parser.add_argument("--activate", action="store_true", help="with --labels: serve with the new version at once")
        parser.add_argument(
            "--encoder",
            action="store_true",
            help="fine-tune the encoder on the corpus first (about an hour on two cores); without --labels",
        )
        parser.add_argument("--output", type=Path, default=SHIPPED_HEAD.parent, help="without --labels: where to write")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["labels"] is None:
                if options["encoder"]:
                    adapter_train(progress=self._progress)
                self._train_shipped(options["output"])
            elif options["encoder"]:
                raise CommandError("--encoder fine-tunes on the corpus alone: give it without --labels")
            else:
                self._train_with_labels(options["labels"], options["activate"])
        except (InvalidExample, InvalidBundle) as error:
            raise CommandError(str(error)) from error

    def _progress(self, line: str) -> None:
        self.stderr.write(line)

    def _train_shipped(self, output: Path) -> None:
        trained = corpus_train(progress=self._progress)
        ship(trained, output)
        self.stdout.write(f"test AUC {trained.metrics['auc']['test']:.3f}; wrote {output}")

    def _train_with_labels(self, source: str, activate: bool) -> None:
        from guardreview.review.selectors import label_rows, labels
        from guardreview.verdicts.services import model_version_activate

        rows = _read_jsonl(Path(source)) if source else label_rows(labels())
        settings.MODELS_DIR.mkdir(parents=True, exist_ok=True)
        model = labels_train(rows=rows, actor=None, progress=self._progress)
        if activate:
            model_version_activate(model=model, actor=None)
        self.stdout.write(f"{model.version} ({model.stage}), trained with {model.labels_used} labels")


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise CommandError(f"cannot read labels from {path}: {error}") from error
