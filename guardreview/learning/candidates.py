"""From labels to a candidate that could serve: trained, measured beside what serves now, put into a bundle, with its card."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from classifiers import model_card
from classifiers.encoder import adapter as adapters
from classifiers.encoder.bundle import (
    BUNDLED_ADAPTER,
    DEFAULT_ENCODER_SHA256,
    SHIPPED_ADAPTER,
    InvalidBundle,
    build_bundle,
    build_encoder,
    encoder_folder,
    sha256_of,
)
from classifiers.encoder.embedding_cache import CorpusEncoder
from classifiers.encoder.encoder import Encoder
from classifiers.encoder.head import Head
from classifiers.examples import Example, load_corpus
from classifiers.progress import Progress
from classifiers.training import Rival, TrainedHead, train_head
from guardreview.learning.label_embeddings import LabelEncoder
from guardreview.learning.models import TrainingRun
from guardreview.learning.training_data import Material, material, runs_behind
from guardreview.verdicts.models import ModelVersion


@dataclass(frozen=True, slots=True)
class Candidate:
    """A bundle in `MODELS_DIR`, what it was made of, and its card in Markdown."""

    version: str
    trained: TrainedHead
    material: Material
    trainers: list[int]
    card: str


def adapter_train(*, progress: Progress) -> None:
    """Fine-tune the encoder on the corpus and write the adapter that the project ships. Needs torch, and no database."""
    from classifiers.encoder.finetuning import finetune

    source = encoder_folder()
    adapters.save(finetune(load_corpus(), source, progress=progress), SHIPPED_ADAPTER, encoder_sha256=DEFAULT_ENCODER_SHA256)


def corpus_train(*, progress: Progress) -> TrainedHead:
    """Train on the corpus alone: what the project ships. Needs no database."""
    corpus = load_corpus()
    encoder = build_encoder(settings.MODELS_DIR, encoder=settings.ENCODER, progress=progress)
    return train_head(corpus, CorpusEncoder(Encoder(encoder), corpus, settings.MODELS_DIR), progress=progress)


def candidate_train(run: TrainingRun, *, progress: Progress) -> Candidate:
    """Train what `run` asks for, and build its bundle. Writes embeddings that may be kept, and nothing else to the database.

    The head alone stands on the encoder that serves now, or on the shipped one. Raises InvalidExample, InvalidBundle, and what
    `progress` raises.
    """
    corpus = load_corpus()
    progress("sorting labels")
    found = material(run, corpus, progress)
    examples = [*corpus, *found.examples]
    active = ModelVersion.objects.filter(stage=ModelVersion.Stage.ACTIVE).first()
    settings.MODELS_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        adapter = _adapter(run, active, examples, Path(scratch), progress)
        encoder = Encoder(build_encoder(settings.MODELS_DIR, encoder=settings.ENCODER, adapter=adapter, progress=progress))
        rival = _rival(active, encoder, corpus, found)
        served = rival is not None and rival.embedder.encoder_sha256 == encoder.encoder_sha256
        embedder = LabelEncoder(CorpusEncoder(encoder, corpus, settings.MODELS_DIR), found.examples, found.exchanges, keep=served)
        trained = train_head(examples, embedder, rival=rival, progress=progress)
        behind = _encoder_run(run, active, adapter)
        trained.metrics.update(labels=found.summary, encoder_run=behind.pk if behind else None)
        progress("building the bundle")
        head = Path(scratch) / "head.json"
        trained.head.save(head)
        bundle = build_bundle(settings.MODELS_DIR, head=head, encoder=settings.ENCODER, adapter=adapter, progress=progress)
    trainers = sorted({*found.trainers, *(behind.trainers if behind and behind != run else [])})
    card = model_card.card({**trained.metrics, "corpus_hash": trained.corpus_hash})
    return Candidate(bundle.name, trained, found, trainers, card)


def _adapter(
    run: TrainingRun, active: ModelVersion | None, examples: Sequence[Example], scratch: Path, progress: Progress
) -> Path | None:
    """The adapter to build the encoder with: trained now, or that of the bundle that serves; None: the one that ships."""
    if run.kind == TrainingRun.Kind.ENCODER:
        from classifiers.encoder.finetuning import finetune

        source = encoder_folder(settings.ENCODER)
        path = scratch / BUNDLED_ADAPTER
        adapters.save(finetune(examples, source, progress=progress), path, encoder_sha256=sha256_of(source / "model.safetensors"))
        return path
    kept = settings.MODELS_DIR / active.version / BUNDLED_ADAPTER if active else None
    return kept if kept and kept.is_file() else None


def _encoder_run(run: TrainingRun, active: ModelVersion | None, adapter: Path | None) -> TrainingRun | None:
    """The run in which the encoder learnt from labels, if it did."""
    if run.kind == TrainingRun.Kind.ENCODER:
        return run
    if adapter is None or active is None:
        return None
    return next((each for each in runs_behind(active) if each.kind == TrainingRun.Kind.ENCODER), None)


def _rival(active: ModelVersion | None, encoder: Encoder, corpus: Sequence[Example], found: Material) -> Rival | None:
    """What serves now; None where nothing does, or what does cannot be read."""
    if active is None:
        return None
    folder = settings.MODELS_DIR / active.version
    try:
        head = Head.load(folder / "head.json")
        theirs = encoder if head.encoder_sha256 == encoder.encoder_sha256 else Encoder(folder)
    except InvalidBundle:
        return None
    embedder = LabelEncoder(CorpusEncoder(theirs, corpus, settings.MODELS_DIR), found.examples, found.exchanges, keep=False)
    return Rival(active.version, head, embedder)


def metrics_file(run: TrainingRun) -> dict[str, Any]:
    """What a run measured, as its download has it."""
    model = run.model_version
    return {
        "run": run.pk,
        "status": run.status,
        "kind": run.kind,
        "labels_used": run.labels_used,
        "left_out": run.left_out,
        "measured": run.measured,
        "model": model.version if model else None,
        "metrics": json.loads(json.dumps(model.metrics)) if model else {},
    }
