"""A run is asked for, taken up, watched, cancelled, taken up again; how it ends is always recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from structlog.testing import capture_logs

from classifiers.encoder import adapter as adapters
from classifiers.encoder.bundle import BUNDLED_ADAPTER, DEFAULT_ENCODER_SHA256, SHIPPED_ADAPTER, build_bundle, read_manifest
from classifiers.examples import REVIEW, Example, load_corpus
from classifiers.finetuned import PharmacySafetyClassifier
from classifiers.progress import Progress
from classifiers.training import TrainedHead
from guardreview.core.models import AuditEvent, User
from guardreview.learning import candidates, tasks, training_runs
from guardreview.learning.candidates import Candidate
from guardreview.learning.models import TrainingRun
from guardreview.learning.presentation_training import run_page, time_left
from guardreview.learning.training_data import Material, runs_behind
from guardreview.learning.training_runs import TrainingBusy, training_cancel, training_request, training_resume, training_run
from guardreview.review.models import Embedding, Label, Review
from guardreview.verdicts.models import ModelVersion
from guardreview.verdicts.services import model_version_activate, model_version_register
from tests.learning.labelled import settle

Train = Callable[..., Candidate]


@pytest.fixture
def admin(db: None) -> User:
    return User.objects.create_user("ada", role="administrator")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Keys of the runs that were put on the queue."""
    found: list[int] = []
    monkeypatch.setattr(tasks.train, "apply_async", lambda args, **options: found.append(args[0]))
    return found


def made(version: str = "ft-new") -> Candidate:
    found = Material([], {}, [7], used=3, left_out={"gold item": 2}, summary={})
    return Candidate(version, TrainedHead(None, {"auc": {"test": 0.9}}, "corpus"), found, [7], "# Model card")  # type: ignore[arg-type]


def trains(monkeypatch: pytest.MonkeyPatch, step: Callable[[TrainingRun, Progress], None]) -> None:
    """What a run does in place of training."""

    def train(run: TrainingRun, *, progress: Progress) -> Candidate:
        step(run, progress)
        return made()

    monkeypatch.setattr(training_runs, "candidate_train", train)
    monkeypatch.setattr(training_runs, "BEAT_S", 0)


def fresh(run: TrainingRun) -> TrainingRun:
    return TrainingRun.objects.get(pk=run.pk)


def silent_since(run: TrainingRun, **ago: int) -> None:
    TrainingRun.objects.filter(pk=run.pk).update(heartbeat_at=timezone.now() - timedelta(**ago))


# --- With the real parts --------------------------------------------------------------------------------------------------
def test_labels_make_a_candidate_whose_bundle_serves(
    admin: User, serving_models: Path, shipped_policy: object, sent: list[int]
) -> None:
    shipped = model_version_register(version=build_bundle(serving_models).name, corpus_hash="", metrics={})
    model_version_activate(model=shipped, actor=None)
    for number in range(40):
        settle(admin, f"Statement {number} on matter {number * 7} and {number * 13}.")
    run = training_request(actor=admin)
    training_run(run_id=run.pk)
    run = fresh(run)
    assert (run.status, run.error) == ("succeeded", "")
    model = run.model_version
    assert model is not None
    assert (model.stage, model.labels_used) == ("candidate", run.labels_used)
    assert 15 < run.labels_used < 40  # the others are kept for measuring
    assert run.trainers == [admin.pk]
    assert set(model.metrics["auc"]) == {"train", "validation", "calibration", "test"}
    assert model.metrics["before"]["version"] == shipped.version
    assert model.metrics["before"]["labels"]["unsafe_blocked"]["n"] > 0
    assert "## Labels" in run.card
    assert f"Beside {shipped.version}" in run.card
    assert next(each["name"] for each in run.measured if "name" in each).startswith("C ")
    assert Embedding.objects.filter(
        encoder=PharmacySafetyClassifier(serving_models / model.version).encoder.encoder_sha256
    ).exists()
    text, query = "Statement 500 on matter 3500 and 6500.", "Is it true?"
    before, after = (
        PharmacySafetyClassifier(serving_models / version).classify(text, query).scores["unsafe"]
        for version in (shipped.version, model.version)
    )
    assert after > before
    # Nothing of a patient's words is in a file: the corpus' embeddings alone are kept in one.
    assert {path.suffix for path in serving_models.iterdir() if path.is_file()} == {".npz"}
    # A second delivery does nothing.
    training_run(run_id=run.pk)
    assert ModelVersion.objects.count() == 2


def test_a_run_taken_up_again_embeds_nothing_anew(
    admin: User, serving_models: Path, shipped_model: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one worker embedded before it was killed is in the database, and the next one reads it there."""
    from classifiers.encoder.embedding_cache import CorpusEncoder
    from classifiers.encoder.encoder import Encoder
    from guardreview.learning.label_embeddings import LabelEncoder
    from guardreview.learning.training_data import material

    for number in range(5):
        settle(admin, f"Statement {number} on matter {number * 7}.")
    settle(admin, "A very long statement. " * 200)
    run = training_request(actor=admin, enqueue=False)
    corpus = load_corpus()[:100]
    found = material(run, corpus)
    texts, queries = [e.response for e in found.examples], [e.query for e in found.examples]
    encoder = Encoder(serving_models / shipped_model.version)
    made: list[int] = []
    embed = encoder.embed
    monkeypatch.setattr(encoder, "embed", lambda texts, queries: made.append(len(texts)) or embed(texts, queries))
    first = LabelEncoder(CorpusEncoder(encoder, corpus, serving_models), found.examples, found.exchanges, keep=True)
    windows = first.embed(texts, queries)
    assert Embedding.objects.count() == 5
    second = LabelEncoder(CorpusEncoder(encoder, corpus, serving_models), found.examples, found.exchanges, keep=True)
    again = second.embed(texts, queries)
    assert made == [6, 1]  # the long one has more than one window, and of those only the mean may be kept
    assert all(abs(a - b).max() < 1e-3 for a, b in zip(windows, again, strict=True))


@pytest.mark.filterwarnings("ignore")  # torch's
def test_an_encoder_is_trained_into_its_own_bundle_and_the_next_head_stands_on_it(
    admin: User, serving_models: Path, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a part of the corpus, with an adapter that is given in place of an hour's training."""
    before = SHIPPED_ADAPTER.read_bytes()
    shipped = adapters.load(SHIPPED_ADAPTER, encoder_sha256=DEFAULT_ENCODER_SHA256)
    names = sorted({key[:-2] for key in shipped})
    half = {name: (shipped[f"{name}.A"] / 2, shipped[f"{name}.B"]) for name in names}
    seen: list[int] = []

    def finetune(examples: Sequence[Example], source: Path, *, progress: Progress) -> object:
        seen.append(sum(e.source == REVIEW for e in examples))
        progress("epoch 1 of 4", 1, 2)
        return half

    corpus = [e for e in load_corpus() if len(e.response) < 60]
    monkeypatch.setattr("classifiers.encoder.finetuning.finetune", finetune)
    monkeypatch.setattr(candidates, "load_corpus", lambda: corpus)
    model_version_activate(
        model=model_version_register(version=build_bundle(serving_models).name, corpus_hash="", metrics={}), actor=None
    )
    for number in range(12):
        settle(admin, f"Statement {number} on matter {number * 7} and {number * 13}.")
    runs = []
    for kind in ("encoder", "head"):
        run = training_request(actor=admin, kind=kind)
        training_run(run_id=run.pk)
        runs.append(fresh(run))
        assert (runs[-1].status, runs[-1].error) == ("succeeded", "")
        model = runs[-1].model_version
        assert model is not None
        model_version_activate(model=model, actor=None)
        assert (serving_models / model.version / BUNDLED_ADAPTER).is_file()
        Label.objects.update(value="safe", categories=[], severity="")  # else the head would be the same again
        Review.objects.update(reviewer=User.objects.get_or_create(username="ben")[0])
    first, second = (run.model_version for run in runs)
    assert first is not None
    assert second is not None
    encoders = [read_manifest(serving_models / model.version)["inputs"]["encoder_sha256"] for model in (first, second)]
    assert encoders[0] == encoders[1] != read_manifest(build_bundle(serving_models))["inputs"]["encoder_sha256"]
    assert seen == [12]
    assert SHIPPED_ADAPTER.read_bytes() == before
    assert [run.pk for run in runs_behind(second)] == [run.pk for run in runs]
    assert runs[1].trainers == sorted([admin.pk, User.objects.get(username="ben").pk])


# --- Asked for ------------------------------------------------------------------------------------------------------------
def test_a_request_says_what_the_run_may_read(admin: User, sent: list[int], django_capture_on_commit_callbacks: Any) -> None:
    judge = User.objects.create_user("jo", judges_models=True)
    label = settle(admin, "Statement.")
    with django_capture_on_commit_callbacks(execute=True):
        run = training_request(actor=admin)
    assert sent == [run.pk]
    assert (run.status, run.labels_up_to, run.kept_reviewers) == ("queued", label.pk, [judge.pk])
    assert AuditEvent.objects.get(action="training.request").actor == "ada"
    with pytest.raises(TrainingBusy):
        training_request(actor=admin)


def test_a_run_that_cannot_be_enqueued_waits_and_is_enqueued_later(
    admin: User, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    def unreachable(args: object, **options: object) -> None:
        raise tasks.train.OperationalError

    monkeypatch.setattr(tasks.train, "apply_async", unreachable)
    with django_capture_on_commit_callbacks(execute=True):
        run = training_request(actor=admin)
    assert fresh(run).status == "queued"
    found: list[int] = []
    monkeypatch.setattr(tasks.train, "apply_async", lambda args, **options: found.append(args[0]))
    assert training_resume() == 0  # it has only just been asked for
    TrainingRun.objects.update(created_at=timezone.now() - timedelta(minutes=2))
    assert (training_resume(), found) == (1, [run.pk])


# --- Under way ------------------------------------------------------------------------------------------------------------
def test_progress_is_seen_while_it_runs_and_gone_when_it_ended(
    admin: User, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainingRun] = []

    def work(run: TrainingRun, progress: Progress) -> None:
        progress("reading", 0, 20)
        progress("reading", 5, 20, {"name": "epoch 1", "loss": 0.5, "auc": 0.8})
        seen.append(fresh(run))

    trains(monkeypatch, work)
    run = training_request(actor=admin)
    heard: list[int] = []
    training_run(run_id=run.pk, listener=lambda run: heard.append(run.step))
    (during,) = seen
    assert (during.status, during.progress, during.step, during.steps, during.attempts) == ("running", "reading", 5, 20, 1)
    assert during.measured[0]["phase"] == "reading"
    assert during.measured[1] == {"name": "epoch 1", "loss": 0.5, "auc": 0.8}
    assert heard[:2] == [0, 5]
    after = fresh(run)
    assert (after.status, after.progress, after.labels_used, after.left_out) == ("succeeded", "", 3, {"gold item": 2})
    assert (after.trainers, after.card) == ([7], "# Model card")
    assert AuditEvent.objects.get(action="training.end").data == {"status": "succeeded"}


def test_what_is_left_of_a_phase_is_told_from_its_pace() -> None:
    now = timezone.now()
    run = TrainingRun(
        status="running", progress="reading", step=25, steps=100, started_at=now - timedelta(seconds=50), heartbeat_at=now
    )
    run.measured = [{"phase": "sorting", "at": 0.0}, {"phase": "reading", "at": 10.0}]
    assert time_left(run) == "about 2 min left"
    assert run_page(run).percent == 25
    run.step = 0
    assert time_left(run) == ""


def test_cancelling_stops_a_run_between_two_steps_and_keeps_nothing(
    admin: User, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(run: TrainingRun, progress: Progress) -> None:
        progress("reading", 0, 2)
        assert training_cancel(run=run, actor=admin)
        assert fresh(run).status == "running"  # until it looks
        progress("reading", 1, 2)
        pytest.fail("it went on")

    trains(monkeypatch, work)
    run = training_request(actor=admin)
    training_run(run_id=run.pk)
    run = fresh(run)
    assert (run.status, run.error, run.cancelled_by, run.model_version) == ("cancelled", "", admin, None)
    assert not ModelVersion.objects.exists()
    assert not training_cancel(run=run, actor=admin)
    training_request(actor=admin)


def test_a_run_that_is_cancelled_while_its_files_are_stored_registers_nothing(
    admin: User, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(**fields: Any) -> ModelVersion:
        assert training_cancel(run=run, actor=admin)
        return model_version_register(**fields)

    trains(monkeypatch, lambda run, progress: progress("reading"))
    monkeypatch.setattr(training_runs, "model_version_register", slow)
    run = training_request(actor=admin)
    training_run(run_id=run.pk)
    assert (fresh(run).status, fresh(run).model_version) == ("cancelled", None)
    assert not ModelVersion.objects.exists()


def test_a_waiting_run_is_cancelled_at_once_and_never_begun(admin: User, sent: list[int]) -> None:
    run = training_request(actor=admin)
    assert training_cancel(run=run, actor=admin)
    training_run(run_id=run.pk)
    assert fresh(run).status == "cancelled"


def test_ctrl_c_cancels(admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(run: TrainingRun, progress: Progress) -> None:
        raise KeyboardInterrupt

    trains(monkeypatch, work)
    with pytest.raises(CommandError, match="cancelled; nothing was registered"):
        call_command("train", "--labels")
    assert TrainingRun.objects.get().status == "cancelled"


def test_how_a_run_failed_is_recorded_without_anybodys_words_and_frees_the_way(
    admin: User, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(run: TrainingRun, progress: Progress) -> None:
        raise RuntimeError("patient said: my chest hurts")

    trains(monkeypatch, work)
    run = training_request(actor=admin)
    with capture_logs() as logs:
        training_run(run_id=run.pk)
    assert (fresh(run).status, fresh(run).error) == ("failed", "It failed (RuntimeError); the log says where.")
    (line,) = (each for each in logs if each["event"] == "training_failed")
    assert line["where"].startswith(f"{__file__}:")
    assert "exc_info" not in line
    assert "chest" not in str(line)
    training_request(actor=admin)


def test_a_worker_without_torch_says_so(admin: User, sent: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def work(run: TrainingRun, progress: Progress) -> None:
        raise ModuleNotFoundError("No module named 'torch'")

    trains(monkeypatch, work)
    run = training_request(actor=admin, kind="encoder")
    training_run(run_id=run.pk)
    assert fresh(run).error == "Fine-tuning the encoder needs torch and transformers, which this worker does not have."


# --- Killed workers -------------------------------------------------------------------------------------------------------
class Killed(BaseException):
    """As if the process were gone: nothing is recorded."""


def killed(run: TrainingRun, progress: Progress) -> None:
    progress("reading", 1, 2)
    raise Killed


def test_a_run_that_lost_its_worker_is_taken_up_again(admin: User, sent: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    trains(monkeypatch, killed)
    run = training_request(actor=admin)
    with pytest.raises(Killed):
        training_run(run_id=run.pk)
    trains(monkeypatch, lambda run, progress: progress("reading", 2, 2))
    training_run(run_id=run.pk)  # the task comes again at once: whether the worker lives is not known yet
    assert (fresh(run).status, training_resume()) == ("running", 0)
    silent_since(run, minutes=6)
    assert (training_resume(), sent) == (1, [run.pk])
    training_run(run_id=run.pk)
    assert (fresh(run).status, fresh(run).attempts) == ("succeeded", 2)


def test_what_kills_workers_is_given_up_after_three(admin: User, sent: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    trains(monkeypatch, killed)
    run = training_request(actor=admin)
    for _ in range(3):
        with pytest.raises(Killed):
            training_run(run_id=run.pk)
        silent_since(run, minutes=6)
    training_run(run_id=run.pk)
    assert fresh(run).attempts == 3
    assert training_resume() == 0
    assert (fresh(run).status, fresh(run).error) == ("failed", "lost its worker 3 times; something in it may kill workers")
    training_request(actor=admin)


def test_a_worker_that_was_taken_for_dead_changes_nothing_any_more(
    admin: User, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(run: TrainingRun, progress: Progress) -> None:
        silent_since(run, minutes=6)
        trains(monkeypatch, lambda run, progress: progress("reading"))
        training_run(run_id=run.pk)  # another takes it up
        assert fresh(run).status == "succeeded"
        progress("reading", 1, 2)
        pytest.fail("it went on")

    trains(monkeypatch, slow)
    run = training_request(actor=admin)
    training_run(run_id=run.pk)
    assert (fresh(run).status, fresh(run).attempts) == ("succeeded", 2)
    assert ModelVersion.objects.count() == 1


def test_two_never_run_at_a_time(admin: User, sent: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    running = TrainingRun.objects.create(status="running", heartbeat_at=timezone.now(), attempts=1)
    waiting = TrainingRun.objects.create()
    trains(monkeypatch, lambda run, progress: pytest.fail("it began"))
    training_run(run_id=waiting.pk)
    assert (fresh(running).status, fresh(waiting).status) == ("running", "queued")


# --- In the terminal ------------------------------------------------------------------------------------------------------
def test_the_command_tells_phases_figures_and_the_candidate(
    admin: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(run: TrainingRun, progress: Progress) -> None:
        progress("reading", 0, 2)
        progress("reading", 2, 2, {"name": "epoch 1", "auc": 0.8})

    trains(monkeypatch, work)
    call_command("train", "--labels")
    told = capsys.readouterr()
    assert "ft-new (candidate), trained with 3 labels" in told.out
    assert [line for line in told.err.splitlines() if line] == [
        "reading",
        "epoch 1: auc 0.8",
        "registering",
        "left out: 2 gold item",
    ]
    TrainingRun.objects.create()
    with pytest.raises(CommandError, match="is queued: wait for it"):
        call_command("train", "--labels")


# --- On the pages ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def browser(admin: User) -> Client:
    client = Client()
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_a_run_is_asked_for_watched_and_cancelled_on_its_page(browser: Client, sent: list[int]) -> None:
    assert b"Start training" in browser.get("/learning/training/new").content
    response = browser.post("/learning/training", {"kind": "encoder"})
    run = TrainingRun.objects.get()
    assert (response["Location"], run.kind) == (f"/learning/training/{run.pk}", "encoder")
    TrainingRun.objects.update(status="running", progress="epoch 1 of 4", step=30, steps=120, started_at=timezone.now())
    page = browser.get(response["Location"]).content.decode()
    assert 'hx-trigger="every 2s"' in page
    assert 'max="100" value="25"' in page
    assert "Epoch 1 of 4" in page
    part = browser.get(response["Location"], headers={"HX-Request": "true"})
    assert b"<html" not in part.content
    browser.post(f"/learning/training/{run.pk}/cancel")
    assert b"Stopping" in browser.get(response["Location"]).content
    TrainingRun.objects.update(status="cancelled", finished_at=timezone.now())
    ended = browser.get(response["Location"], headers={"HX-Request": "true"})
    assert ended.headers["HX-Refresh"] == "true"
    assert b"hx-trigger" not in browser.get(response["Location"]).content
    assert browser.post("/learning/training", {"kind": "everything"}).status_code == 400


def test_a_card_is_shown_and_taken_away(browser: Client) -> None:
    model = ModelVersion.objects.create(version="ft-new", metrics={"auc": {"test": 0.9}})
    run = TrainingRun.objects.create(status="succeeded", card="# Model card <b>", model_version=model, left_out={"gold item": 2})
    page = browser.get(f"/learning/training/{run.pk}").content.decode()
    assert "# Model card &lt;b&gt;" in page
    card = browser.get(f"/learning/training/{run.pk}/card")
    assert card.content.decode() == "# Model card <b>"
    assert card.headers["Content-Disposition"] == f'attachment; filename="training-{run.pk}.md"'
    figures = browser.get(f"/learning/training/{run.pk}/card?format=json").json()
    assert (figures["metrics"]["auc"]["test"], figures["left_out"]) == (0.9, {"gold item": 2})


@pytest.mark.parametrize(
    ("role", "seen", "done"), [("administrator", 200, 302), ("lead", 200, 403), ("auditor", 200, 403), ("pharmacist", 403, 403)]
)
def test_who_may_see_runs_and_who_may_ask_for_them(db: None, role: str, seen: int, done: int, sent: list[int]) -> None:
    client = Client()
    client.force_login(User.objects.create_user("x", role=role), backend="django.contrib.auth.backends.ModelBackend")
    run = TrainingRun.objects.create(status="failed", error="x")
    for address in (f"/learning/training/{run.pk}", f"/learning/training/{run.pk}/card"):
        assert client.get(address).status_code == seen
    for address in ("/learning/training", f"/learning/training/{run.pk}/cancel"):
        assert client.post(address).status_code == done
        assert client.get(address).status_code in (403, 405)
