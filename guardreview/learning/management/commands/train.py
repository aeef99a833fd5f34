"""`manage.py train`: the shipped model from the corpus, or a candidate from the corpus and reviewers' labels."""

import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from classifiers.encoder.bundle import SHIPPED_HEAD, InvalidBundle
from classifiers.examples import InvalidExample
from classifiers.model_card import ship
from guardreview.learning.candidates import adapter_train, corpus_train

BAR = 24


class Command(BaseCommand):
    help = "Train a head on the corpus (rewrites classifiers/model/), or with --labels a candidate on reviewers' labels too."
    requires_system_checks = ()
    said = ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--labels",
            action="store_true",
            help="train with the database's labels, settled and imported, and register a candidate model version",
        )
        parser.add_argument(
            "--encoder",
            action="store_true",
            help="fine-tune the encoder first (about an hour on two cores; needs torch): on the corpus, or with --labels on both",
        )
        parser.add_argument("--output", type=Path, default=SHIPPED_HEAD.parent, help="without --labels: where to write")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["labels"]:
                self._train_candidate(encoder=options["encoder"])
            else:
                if options["encoder"]:
                    adapter_train(progress=self._progress)
                trained = corpus_train(progress=self._progress)
                ship(trained, options["output"])
                self.stdout.write(f"test AUC {trained.metrics['auc']['test']:.3f}; wrote {options['output']}")
        except (InvalidExample, InvalidBundle) as error:
            raise CommandError(str(error)) from error

    def _progress(
        self, phase: str, /, step: int = 0, steps: int = 0, measured: Mapping[str, object] | None = None, left: str = ""
    ) -> None:
        """On a terminal a bar that moves, elsewhere a line for each phase and each measurement."""
        figures = "  ".join(f"{name} {value}" for name, value in (measured or {}).items() if name != "name")
        if sys.stderr.isatty():
            done = BAR * step // steps if steps else 0
            bar = f"[{'#' * done}{'.' * (BAR - done)}] " if steps else ""
            self.stderr.write(f"\r\x1b[K{bar}{phase} {left}", ending="\n" if figures else "")
        elif phase != self.said:
            self.stderr.write(phase)
        self.said = phase
        if measured:
            self.stderr.write(f"{measured.get('name', '')}: {figures}")

    def _train_candidate(self, *, encoder: bool) -> None:
        from guardreview.learning import presentation_training
        from guardreview.learning.models import TrainingRun
        from guardreview.learning.training_runs import TrainingBusy, training_request, training_run

        settings.MODELS_DIR.mkdir(parents=True, exist_ok=True)
        kind = TrainingRun.Kind.ENCODER if encoder else TrainingRun.Kind.HEAD
        shown = 0

        def listen(run: TrainingRun) -> None:
            nonlocal shown
            new = [each for each in run.measured[shown:] if "name" in each]
            shown = len(run.measured)
            left = presentation_training.time_left(run)
            self._progress(run.progress, run.step, run.steps, new[-1] if new else None, left)

        try:
            run = training_request(actor=None, kind=kind, enqueue=False)
            training_run(run_id=run.pk, listener=listen)
        except TrainingBusy as busy:
            raise CommandError(f"{busy}: wait for it, or cancel it on the page of training runs") from busy
        except KeyboardInterrupt:
            raise CommandError("cancelled; nothing was registered", returncode=130) from None
        run.refresh_from_db()
        if run.model_version is None:
            raise CommandError(run.error or f"the run was {run.status}")
        model = run.model_version
        for reason, count in run.left_out.items():
            self.stderr.write(f"left out: {count} {reason}")
        self.stdout.write(f"{model.version} ({model.stage}), trained with {run.labels_used} labels")
