"""Training runs: asked for, taken up by a worker, watched, cancelled, taken up again, ended; how one ended is always recorded."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import structlog
from django.db import IntegrityError, transaction
from django.db.models import F, Max, Q, QuerySet
from django.utils import timezone

from guardreview.core.models import User
from guardreview.core.services import audit
from guardreview.learning.candidates import Candidate, candidate_train
from guardreview.learning.models import TrainingRun
from guardreview.review.models import Label
from guardreview.verdicts.models import ModelVersion
from guardreview.verdicts.services import model_version_register

log = structlog.get_logger(__name__)
Status = TrainingRun.Status
BUSY = (Status.QUEUED, Status.RUNNING)
STALE_AFTER = timedelta(minutes=5)
"""A run that has not been heard of for so long has lost its worker. Its longest silence, the export of an encoder, is shorter."""
MAX_ATTEMPTS = 3
BEAT_S = 1.0
"""How often at most a run writes how far it is, and looks whether it was cancelled."""
MOST_MEASURED = 200
RESUME_EVERY = timedelta(seconds=60)


class TrainingBusy(Exception):
    """A training run is waiting or running already; `run` is it."""

    def __init__(self, run: TrainingRun) -> None:
        super().__init__(f"training {run.pk} is {run.status}")
        self.run = run


class TrainingStopped(Exception):
    """The run was cancelled, or another worker has taken it up. Nothing was registered."""


def training_request(*, actor: User | None, kind: str = TrainingRun.Kind.HEAD, enqueue: bool = True) -> TrainingRun:
    """Ask for a retraining with all labels that are settled now. Raises TrainingBusy while another run waits or runs.

    Those who judge models now are noted, so that nothing they had to do with is learnt from. `enqueue`: the `learning` workers
    are to do it; else the caller does.
    """
    with transaction.atomic():
        busy = TrainingRun.objects.select_for_update().filter(status__in=BUSY).first()
        if busy is not None:
            raise TrainingBusy(busy)
        run = TrainingRun.objects.create(
            requested_by=actor,
            kind=TrainingRun.Kind(kind),
            labels_up_to=Label.objects.aggregate(last=Max("pk"))["last"] or 0,
            kept_reviewers=sorted(User.objects.filter(judges_models=True).values_list("pk", flat=True)),
        )
        audit(actor=_name(actor), action="training.request", target=f"training-{run.pk}", kind=run.kind)
        if enqueue:
            transaction.on_commit(lambda: _enqueue(run.pk), robust=True)
    return run


def training_cancel(*, run: TrainingRun, actor: User) -> bool:
    """Stop a run: at once if it waits, between two steps if it is under way. False if it has ended."""
    with transaction.atomic():
        locked = TrainingRun.objects.select_for_update().get(pk=run.pk)
        if locked.status not in BUSY:
            return False
        TrainingRun.objects.filter(pk=locked.pk).update(cancelled_by=actor)
        if locked.status == Status.QUEUED or _is_stale(locked, timezone.now()):
            _end(locked, Status.CANCELLED)
        audit(actor=actor.username, action="training.cancel", target=f"training-{locked.pk}")
    return True


def training_run(*, run_id: int, listener: Callable[[TrainingRun], None] = lambda run: None) -> None:
    """Do a run that waits, or that lost its worker; how it ends is always recorded. A second delivery does nothing.

    `listener`: told how far it is. Ctrl-C, and whatever stops the process in an orderly way, cancels it.
    """
    run = _claim(run_id)
    if run is None:
        return
    report = _Report(run, listener)
    try:
        candidate = candidate_train(run, progress=report)
        report("registering")
        _register(run, candidate)
    except TrainingStopped:
        _end(run, Status.CANCELLED)
    except KeyboardInterrupt:
        _end(run, Status.CANCELLED)
        raise
    except Exception as error:
        # Its message may quote an exchange, and so may a traceback.
        log.error("training_failed", run=run_id, error=type(error).__name__, where=_where(error))
        _end(run, Status.FAILED, error=_words(error))


def training_resume() -> int:
    """Put runs on the queue again that wait in vain or have lost their worker; how many. After MAX_ATTEMPTS they have failed."""
    now, count = timezone.now(), 0
    for run in TrainingRun.objects.filter(status__in=BUSY):
        if run.status == Status.RUNNING and not _is_stale(run, now):
            continue
        if run.status == Status.RUNNING and run.attempts >= MAX_ATTEMPTS:
            _end(run, Status.FAILED, error=f"lost its worker {run.attempts} times; something in it may kill workers")
        elif run.status == Status.RUNNING or run.created_at < now - RESUME_EVERY:
            _enqueue(run.pk, expires=RESUME_EVERY)
            count += 1
    return count


class _Report:
    """What a run calls between two steps: it shows that it lives, writes how far it is, and stops where it must.

    `measured` also says when each phase began, in seconds since the run did: what is left of one is told from that.
    """

    def __init__(self, run: TrainingRun, listener: Callable[[TrainingRun], None]) -> None:
        self.run, self.listener = run, listener
        self.written = 0.0

    def __call__(self, phase: str, /, step: int = 0, steps: int = 0, measured: Mapping[str, object] | None = None) -> None:
        run, now, phase = self.run, timezone.now(), phase[:200]
        if phase == run.progress and not measured and time.monotonic() - self.written < BEAT_S:
            return
        if phase != run.progress:
            run.measured.append({"phase": phase, "at": round((now - _since(run)).total_seconds(), 1)})
        if measured:
            run.measured.append(dict(measured))
        run.progress, run.step, run.steps, run.heartbeat_at = phase, step, steps, now
        run.measured = run.measured[-MOST_MEASURED:]
        self.written = time.monotonic()
        alive = _mine(run).filter(cancelled_by=None)
        if not alive.update(progress=phase, step=step, steps=steps, measured=run.measured, heartbeat_at=now):
            raise TrainingStopped
        self.listener(run)


def _claim(run_id: int) -> TrainingRun | None:
    """One more attempt at a run that waits or has lost its worker; None if there is nothing to do."""
    now = timezone.now()
    free = Q(status=Status.QUEUED) | Q(status=Status.RUNNING, heartbeat_at__lt=now - STALE_AFTER)
    try:
        with transaction.atomic():
            claimed = TrainingRun.objects.filter(free, pk=run_id, attempts__lt=MAX_ATTEMPTS).update(
                status=Status.RUNNING, attempts=F("attempts") + 1, started_at=now, heartbeat_at=now, progress="", measured=[]
            )
    except IntegrityError:  # another run is running
        return None
    return TrainingRun.objects.select_related("requested_by").get(pk=run_id) if claimed else None


def _mine(run: TrainingRun) -> QuerySet[TrainingRun]:
    """The run, if it still is this attempt's: a worker that was taken for dead changes nothing any more."""
    return TrainingRun.objects.filter(pk=run.pk, status__in=BUSY, attempts=run.attempts)


def _register(run: TrainingRun, candidate: Candidate) -> None:
    """Record the candidate and that the run made it. Its files are stored outside of any transaction, before it is told."""
    model = model_version_register(
        version=candidate.version,
        corpus_hash=candidate.trained.corpus_hash,
        metrics=candidate.trained.metrics,
        labels_used=candidate.material.used,
        actor=run.requested_by,
    )
    wanted = _mine(run).filter(cancelled_by=None)
    with transaction.atomic():
        found = wanted.update(
            model_version=model,
            labels_used=candidate.material.used,
            left_out=candidate.material.left_out,
            trainers=candidate.trainers,
            card=candidate.card,
        )
        if found:
            _end(run, Status.SUCCEEDED)
            return
    # It was cancelled while the files were stored, or another worker has taken it up. A model that no run owns up to must not
    # be there.
    ModelVersion.objects.filter(pk=model.pk, stage=ModelVersion.Stage.CANDIDATE, training_runs=None).delete()
    raise TrainingStopped


def _end(run: TrainingRun, status: str, error: str = "") -> None:
    with transaction.atomic():
        if _mine(run).update(status=status, error=error[:500], finished_at=timezone.now(), progress="", step=0, steps=0):
            audit(actor="system", action="training.end", target=f"training-{run.pk}", status=str(status))


def _words(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "Fine-tuning the encoder needs torch and transformers, which this worker does not have."
    return f"It failed ({type(error).__name__}); the log says where."


def _where(error: Exception) -> str:
    """File and line of the call that failed."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


def _is_stale(run: TrainingRun, now: datetime) -> bool:
    return run.status == Status.RUNNING and _since(run, run.heartbeat_at) < now - STALE_AFTER


def _since(run: TrainingRun, moment: datetime | None = None) -> datetime:
    return moment or run.started_at or run.created_at


def _name(actor: User | None) -> str:
    return actor.username if actor else "system"


def _enqueue(run_id: int, expires: timedelta | None = None) -> None:
    """A queue that cannot be reached now is reached by `training_resume`."""
    from guardreview.learning.tasks import train

    try:
        train.apply_async((run_id,), expires=expires.total_seconds() if expires else None)
    except train.OperationalError as error:
        log.warning("enqueue_failed", run=run_id, error=type(error).__name__)
