"""The whole loop: answers are stopped, pharmacists who err decide them, what they settle retrains the head, and is it better?

The pool of the corpus is what nothing was trained on. Simulated pharmacists see its exchanges as the cascade left them, through
the services that the pages call, and err at known rates. Measured is the test split, which nothing is fitted to.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from classifiers.encoder.bundle import build_bundle
from classifiers.encoder.embedding_cache import CorpusEncoder
from classifiers.encoder.encoder import Encoder
from classifiers.encoder.head import Head
from classifiers.examples import Example, load_corpus, split_of
from classifiers.progress import silent
from classifiers.training import _embedded, _scores, _Split  # the very scores that are served
from guardreview.core.models import App, User
from guardreview.learning import candidates
from guardreview.learning.models import TrainingRun
from guardreview.learning.training_runs import training_request, training_run
from guardreview.review.leases import item_lease
from guardreview.review.models import Label
from guardreview.review.services import review_create
from guardreview.verdicts import sampling
from guardreview.verdicts.models import Exchange, ModelVersion, Policy, ReviewItem
from guardreview.verdicts.services import (
    exchange_run_fast_layers,
    model_version_activate,
    model_version_register,
)

ERRORS = {"ana": 0.03, "ben": 0.08, "lea": 0.03}
"""Share of its statements that are wrong; lea is the lead who settles what the other two say differently."""
Outcome = dict[str, float]


@dataclass(frozen=True, slots=True)
class Staff:
    """Who decides, and what is true of each exchange."""

    people: dict[str, User]
    truth: dict[str, Example]

    def say(self, name: str, item: ReviewItem) -> None:
        """What this person, who may err, says of an item. The same each time that the test runs."""
        example = self.truth[item.exchange.body_digest]
        errs = random.Random(f"{name} {example.id}").random() < ERRORS[name]
        unsafe = example.unsafe != errs
        leased = item_lease(item=item, user=self.people[name])
        assert leased.lease_token is not None
        review_create(
            item=leased,
            reviewer=self.people[name],
            token=leased.lease_token,
            truth="unsafe" if unsafe else "safe",
            categories=[*(example.categories or ("misinformation",))] if unsafe else [],
            severity=(example.severity or "major") if unsafe else "",
            note="as simulated",
        )

    def settle_all(self) -> None:
        """First opinions in turns, then the second pharmacist's, then the lead's."""
        names = [name for name in self.people if name != "lea"]
        for stage in ReviewItem.Stage:
            open_items = ReviewItem.objects.filter(status="open", stage=stage).select_related("exchange").order_by("pk")
            for number, item in enumerate(open_items):
                first = item.reviews.select_related("reviewer").first()
                if stage == ReviewItem.Stage.ADJUDICATION:
                    self.say("lea", item)
                elif first is None:
                    self.say(names[number % 2], item)
                else:
                    self.say(next(name for name in names if name != first.reviewer.username), item)


@pytest.fixture
def staff(settings: object, monkeypatch: pytest.MonkeyPatch, redis_server: object, chat_app: App) -> Staff:
    settings.SECOND_EYES = ("critical",)  # type: ignore[attr-defined]  # as it is by default
    settings.AUDIT_RATES = {"floor": 0.1, "near": 0.5}  # type: ignore[attr-defined]
    monkeypatch.setattr(sampling, "_random", random.Random(20))
    people = {name: User.objects.create_user(name, role="lead" if name == "lea" else "pharmacist") for name in ERRORS}
    return Staff(people, {})


def submit(staff: Staff, app: App, examples: Sequence[Example]) -> None:
    """As an app does, decided by rules and classifier; no judge is configured, so what they leave is held."""
    for example in examples:
        exchange = Exchange.objects.create(app=app, query=example.query, response=example.response, body_digest=example.id[:64])
        staff.truth[exchange.body_digest] = example
        exchange_run_fast_layers(exchange_id=exchange.pk)


@pytest.fixture
def corpus() -> list[Example]:
    return load_corpus()


@pytest.fixture
def embedder(serving_models: Path, shipped: ModelVersion, corpus: list[Example]) -> CorpusEncoder:
    return CorpusEncoder(Encoder(serving_models / shipped.version), corpus, serving_models)


@pytest.fixture
def shipped(serving_models: Path, shipped_policy: Policy) -> ModelVersion:
    """The shipped model, active."""
    model = model_version_register(version=build_bundle(serving_models).name, corpus_hash="", metrics={})
    model_version_activate(model=model, actor=None)
    return model


def retrain() -> TrainingRun:
    run = training_request(actor=None, enqueue=False)
    training_run(run_id=run.pk)
    run.refresh_from_db()
    assert (run.status, run.error) == ("succeeded", "")
    return run


@pytest.fixture
def test_split(corpus: list[Example], embedder: CorpusEncoder) -> _Split:
    return _embedded([e for e in corpus if split_of(e.group) == "test"], embedder, silent, "")


def at_the_same_yield(split: _Split, before: Head, after: Head, bounds: tuple[float, float]) -> dict[str, tuple[int, int]]:
    """(before, after): critical answers missed while as many safe ones are allowed, safe ones blocked while as many unsafe are.

    What a better head is worth, however the thresholds are chosen.
    """
    ours, theirs = _scores(after, split)[:, 0], _scores(before, split)[:, 0]
    critical, unsafe = np.array([e.critical for e in split.examples]), split.unsafe
    allowed, blocked = theirs < bounds[0], theirs >= bounds[1]
    safe_allowed, unsafe_blocked = int((allowed & ~unsafe).sum()), int((blocked & unsafe).sum())
    low = np.sort(ours[~unsafe])[safe_allowed - 1] if safe_allowed else -1.0
    high = np.sort(ours[unsafe])[-unsafe_blocked] if unsafe_blocked else 2.0
    return {
        "critical missed": (int((allowed & critical).sum()), int(((ours <= low) & critical).sum())),
        "safe blocked": (int((blocked & ~unsafe).sum()), int(((ours >= high) & ~unsafe).sum())),
    }


def told(title: str, run: TrainingRun, same: dict[str, tuple[int, int]]) -> None:
    model = run.model_version
    assert model is not None
    before, after = model.metrics["before"], model.metrics["after"]
    print(f"\n{title}: {run.labels_used} labels, left out {run.left_out}, {model.metrics['labels']['provenance']}")
    for name, head in (("before", before), ("after ", after)):
        rates = {key: f"{head[key]['k']}/{head[key]['n']}" for key in ("critical_missed", "safe_blocked", "safe_allowed")}
        print(f"  {name} AUC {head['auc']:.4f}  allow below {head['allow_below']:.3f}  block at {head['block_at']:.3f}  {rates}")
    print(f"  at the same yield: {same}")


@pytest.fixture
def labelled(staff: Staff, shipped: ModelVersion, chat_app: App, corpus: list[Example]) -> Iterator[Staff]:
    """The pool came in, was stopped or drawn, and is settled."""
    logging.disable(logging.WARNING)  # a line for each that is stopped
    submit(staff, chat_app, [e for e in corpus if split_of(e.group) == "pool"])
    staff.settle_all()
    assert not ReviewItem.objects.exclude(status="decided").exists()
    yield staff
    logging.disable(logging.NOTSET)


def test_labels_of_pharmacists_who_err_are_right_enough_to_learn_from(
    labelled: Staff,
    shipped: ModelVersion,
    serving_models: Path,
    test_split: _Split,
    corpus: list[Example],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand of them beside 11,607 exchanges change next to nothing, for better or worse. With none of those exchanges to
    fit weights to, and a tenth of those that weigh the drug facts, they alone make a head nearly as good as the one that ships.
    So it is the encoder's doing that more of them make it no better: what can be told apart on it, it has learnt already.
    """
    labels = Label.objects.filter(is_current=True).select_related("exchange")
    wrong = sum((label.value == "unsafe") != labelled.truth[label.exchange.body_digest].unsafe for label in labels)
    count = labels.count()
    print(f"\n{count} labels, {wrong} wrong ({wrong / count:.1%})")
    assert count >= 800
    assert 0.02 <= wrong / count <= 0.07
    run = retrain()
    model = run.model_version
    assert model is not None
    assert (model.stage, run.left_out) == ("candidate", {})
    assert run.trainers == sorted(person.pk for person in labelled.people.values())
    before, after = model.metrics["before"], model.metrics["after"]
    assert before["version"] == shipped.version
    heads = [Head.load(serving_models / version / "head.json") for version in (shipped.version, model.version)]
    same = at_the_same_yield(test_split, *heads, (before["allow_below"], before["block_at"]))
    told("on the head that ships", run, same)
    assert after["auc"] >= before["auc"] - 0.003
    assert after["critical_missed"]["k"] <= before["critical_missed"]["k"] + 2
    assert after["safe_blocked"]["k"] <= before["safe_blocked"]["k"] + 2
    assert same["critical missed"][1] <= same["critical missed"][0] + 2

    monkeypatch.setattr(candidates, "load_corpus", lambda: without_training(corpus))
    run = retrain()
    model = run.model_version
    assert model is not None
    before, after = model.metrics["before"], model.metrics["after"]
    heads = [Head.load(serving_models / version / "head.json") for version in (shipped.version, model.version)]
    told(
        "in place of the head that ships", run, at_the_same_yield(test_split, *heads, (before["allow_below"], before["block_at"]))
    )
    assert model.metrics["counts"]["train"]["safe"] + model.metrics["counts"]["train"]["unsafe"] < 1100
    assert after["auc"] >= before["auc"] - 0.015
    assert after["critical_missed"]["rate"] <= 0.06
    assert after["safe_blocked"]["rate"] <= 0.015


def without_training(corpus: Sequence[Example]) -> list[Example]:
    """The corpus without what weights are fitted to, and with a tenth of what validates, by group."""

    def is_kept(example: Example) -> bool:
        split = split_of(example.group)
        tenth = int(hashlib.sha256(f"few:{example.group}".encode()).hexdigest(), 16) % 10 == 0
        return split != "train" and (split != "validation" or tenth)

    return [example for example in corpus if is_kept(example)]
