"""Training runs: labels turn into a candidate model version."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from classifiers.encoder import adapter
from classifiers.encoder.bundle import DEFAULT_ENCODER_SHA256, SHIPPED_ADAPTER, build_bundle, build_encoder, encoder_folder
from classifiers.encoder.embedding_cache import CorpusEncoder
from classifiers.encoder.encoder import Encoder
from classifiers.examples import REVIEW, Example, InvalidExample, load_corpus
from classifiers.training import TrainedHead, train_head
from guardreview.core.models import User
from guardreview.core.services import audit
from guardreview.learning.models import TrainingRun
from guardreview.review.selectors import label_rows, labels
from guardreview.verdicts.models import ModelVersion
from guardreview.verdicts.services import model_version_register

log = structlog.get_logger(__name__)
STALE_AFTER = timedelta(minutes=30)
"""A run that has been running for longer lost its worker; head-only training takes a minute."""


class TrainingBusy(Exception):
    """A training run is waiting or running already; `run` is it."""

    def __init__(self, run: TrainingRun) -> None:
        super().__init__(f"training run {run.pk} is {run.status}")
        self.run = run


def adapter_train(*, progress: Callable[[str], None]) -> None:
    """Fine-tune the encoder on the corpus and write the adapter that the project ships. Needs torch, and no database."""
    from classifiers.encoder.finetuning import finetune

    source = encoder_folder()
    adapter.save(finetune(load_corpus(), source, progress=progress), SHIPPED_ADAPTER, encoder_sha256=DEFAULT_ENCODER_SHA256)


def corpus_train(*, progress: Callable[[str], None]) -> TrainedHead:
    """Train on the corpus alone: what the project ships. Needs no database."""
    corpus = load_corpus()
    return train_head(corpus, _encoder(corpus, progress), progress=progress)


def _encoder(corpus: Sequence[Example], progress: Callable[[str], None]) -> CorpusEncoder:
    encoder = Encoder(build_encoder(settings.MODELS_DIR, encoder=settings.ENCODER, progress=progress))
    return CorpusEncoder(encoder, corpus, settings.MODELS_DIR)


def label_examples(rows: Iterable[Mapping[str, Any]]) -> list[Example]:
    """Exported label rows as training examples. Equal texts share a group, so that no split knows another's answer."""
    examples = []
    for number, row in enumerate(rows, start=1):
        try:
            text = " ".join(f"{row.get('query', '')} {row['response']}".casefold().split())
            group = f"label-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
            examples.append(Example.from_json({**row, "group": group, "source": REVIEW}))
        except (KeyError, InvalidExample) as error:
            raise InvalidExample(f"label {number}: {error}") from error
    return examples


def labels_train(*, rows: Iterable[Mapping[str, Any]], actor: User | None, progress: Callable[[str], None]) -> ModelVersion:
    """Train on the corpus and these label rows, build the bundle and register it as a candidate. Raises InvalidExample."""
    examples = label_examples(rows)
    progress(f"training on the corpus and {len(examples)} labels")
    corpus = load_corpus()
    trained = train_head([*corpus, *examples], _encoder(corpus, progress), progress=progress)
    with tempfile.TemporaryDirectory() as scratch:
        head = Path(scratch) / "head.json"
        trained.head.save(head)
        bundle = build_bundle(settings.MODELS_DIR, head=head, encoder=settings.ENCODER, progress=progress)
    return model_version_register(
        version=bundle.name,
        corpus_hash=trained.corpus_hash,
        metrics=trained.metrics,
        labels_used=len(examples),
        actor=actor,
    )


def training_request(*, actor: User) -> TrainingRun:
    """Ask the `learning` workers to retrain with all labels. Raises TrainingBusy while another run waits or runs."""
    with transaction.atomic():
        busy = TrainingRun.objects.select_for_update().filter(status__in=_BUSY).first()
        if busy is not None and not _is_stale(busy):
            raise TrainingBusy(busy)
        if busy is not None:
            _finish(busy, TrainingRun.Status.FAILED, error="lost its worker")
        run = TrainingRun.objects.create(requested_by=actor)
        audit(actor=actor.username, action="training.request", target=f"training-{run.pk}")
        transaction.on_commit(lambda: _enqueue(run))
    return run


def _enqueue(run: TrainingRun) -> None:
    from guardreview.learning.tasks import train

    try:
        train.delay(run.pk)
    except train.OperationalError:
        _finish(run, TrainingRun.Status.FAILED, error="the task queue could not be reached; try again")


_BUSY = (TrainingRun.Status.QUEUED, TrainingRun.Status.RUNNING)


def _is_stale(run: TrainingRun) -> bool:
    return (run.started_at or run.created_at) < timezone.now() - STALE_AFTER


def training_run(*, run_id: int) -> None:
    """Do a requested run; how it ends is always recorded. A second delivery of the same run does nothing."""
    try:
        claimed = TrainingRun.objects.filter(pk=run_id, status=TrainingRun.Status.QUEUED).update(
            status=TrainingRun.Status.RUNNING, started_at=timezone.now()
        )
    except IntegrityError:  # another run is running
        claimed = 0
    if not claimed:
        return
    run = TrainingRun.objects.select_related("requested_by").get(pk=run_id)

    def progress(line: str) -> None:
        TrainingRun.objects.filter(pk=run_id).update(progress=line[:200])

    try:
        model = labels_train(rows=label_rows(labels()), actor=run.requested_by, progress=progress)
    except Exception as error:
        log.exception("training_failed", run=run_id)
        _finish(run, TrainingRun.Status.FAILED, error=f"{type(error).__name__}: {error}"[:500])
        return
    run.model_version, run.labels_used = model, model.labels_used
    run.save(update_fields=["model_version", "labels_used"])
    _finish(run, TrainingRun.Status.SUCCEEDED)


def _finish(run: TrainingRun, status: str, error: str = "") -> None:
    TrainingRun.objects.filter(pk=run.pk).update(status=status, error=error, finished_at=timezone.now(), progress="")
