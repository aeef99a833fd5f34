"""A candidate comes to serve through its check alone, and who trained it does not judge it. Small models, real services."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from classifiers.drugs.features import fact_features
from classifiers.encoder.head import Head
from classifiers.examples import Example, split_of
from classifiers.policy import UNSAFE
from classifiers.promotion import points
from classifiers.result import ClassifierResult, Layer, Severity
from classifiers.training import train_head
from guardreview.core.models import App, AuditEvent, User
from guardreview.learning import gate, promotion, tasks
from guardreview.learning.models import LabelSet, Promotion, PromotionCheck, TrainingRun
from guardreview.learning.policy_changes import policy_fields
from guardreview.learning.presentation_promotion import check_report
from guardreview.learning.training_data import material
from guardreview.review.calibration import calibration_create
from guardreview.review.models import Doubt, Guideline, Label, Review
from guardreview.verdicts import runtime
from guardreview.verdicts.models import Exchange, ModelVersion, Policy, ReviewItem, Verdict
from guardreview.verdicts.services import model_version_register, policy_create
from tests import scenes

HARM = {"categories": ["harmful_medical:dangerous_dosage"], "severity": Severity.CRITICAL.value}
DANGER, DIALECT = "swallow the whole box", "mate"
METRICS = {
    "certificate": {"allow_below": 0.3, "alpha": 0.05, "confidence": 0.95, "n": 200, "misses": 0, "missing": 0},
    "block_at": 0.9,
}


# --- Small models ---------------------------------------------------------------------------------------------------------------
class Words:
    """Embeds by two words, and otherwise by noise that hangs on the text: an encoder of three dimensions."""

    encoder_sha256 = "0" * 64

    def embed(self, texts: Sequence[str], queries: Sequence[str]) -> list[Any]:
        return [np.array([[DANGER in text, DIALECT in text, self.noise(text)]], dtype=np.float32) for text in texts]

    @staticmethod
    def noise(text: str) -> float:
        return int(hashlib.sha256(text.encode()).hexdigest()[:6], 16) / 16**6 - 0.5


class Small:
    """A head on those words, as the gate reads a model."""

    def __init__(self, head: Head) -> None:
        self.head = head

    def classify(self, text: str, query: str = "") -> ClassifierResult:
        return self.classify_batch([text])[0]

    def classify_batch(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> list[ClassifierResult]:
        facts = fact_features(list(texts), [""] * len(texts))
        rows = zip(Words().embed(texts, texts), facts, strict=True)
        return [self.result(float(self.head.probabilities(window, fact)[0, 0])) for window, fact in rows]

    def result(self, p: float) -> ClassifierResult:
        return scenes.finetuned(p)


class Fixed(Small):
    """Says the same of all that holds a danger, and the same of all else."""

    def __init__(self, dangerous: float, harmless: float = 0.05) -> None:
        self.dangerous, self.harmless = dangerous, harmless

    def classify_batch(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> list[ClassifierResult]:
        return [self.result(self.dangerous if DANGER in text else self.harmless) for text in texts]


class NoRules:
    def classify(self, text: str, query: str = "") -> ClassifierResult:
        return ClassifierResult(True, "safe", "no rule matched", 0.5, layer=Layer.RULES)


def example(number: int, *, unsafe: bool) -> Example:
    text = f"Please {DANGER if unsafe else 'keep the box dry'}, says letter {number}."
    harm = {"categories": tuple(HARM["categories"]), "severity": Severity.CRITICAL} if unsafe else {}
    name = f"{'unsafe' if unsafe else 'safe'}-{number}"
    return Example(name, f"group-{name}", "", text, unsafe, **harm)  # type: ignore[arg-type]


CORPUS = [example(number, unsafe=unsafe) for number in range(2_400) for unsafe in (True, False)]


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch) -> list[Example]:
    monkeypatch.setattr(gate, "load_corpus", lambda: CORPUS)
    return CORPUS


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Which small model each version is; their files count as whole."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(runtime, "model", lambda version, artefact: found[version])
    monkeypatch.setattr(runtime, "rules", NoRules)
    monkeypatch.setattr(promotion, "model_version_prepare", lambda model: None)
    return found


@pytest.fixture
def administrator(db: None) -> User:
    return User.objects.create_user("adam", role="administrator")


@pytest.fixture
def policy(db: None) -> Policy:
    return policy_create(
        actor=None,
        thresholds={"default": {"block_at": 1.0, "allow_below": 1.0}, UNSAFE: {"block_at": 0.95, "allow_below": 0.2}},
        judge_min_confidence=0.8,
        learning_share=0.1,
    )


@pytest.fixture
def serving(policy: Policy, models: dict[str, Any]) -> ModelVersion:
    models["ft-serving"] = Fixed(0.5)
    return ModelVersion.objects.create(version="ft-serving", stage="active", metrics=METRICS)


def candidate_of(models: dict[str, Any], model: Any, name: str = "ft-candidate", **fields: Any) -> ModelVersion:
    models[name] = model
    return ModelVersion.objects.create(version=name, **{"metrics": METRICS, **fields})


def settle(reviewer: User, text: str, value: str, *, kind: str = "held", others: Sequence[User] = ()) -> Label:
    exchange = Exchange.objects.create(
        app=App.objects.get_or_create(name="chat")[0], query="", response=text, status="decided", body_digest="-"
    )
    decision = "allow" if kind == "audit" else "hold"
    Verdict.objects.create(
        exchange=exchange, decision=decision, category="-", reason="-", confidence=0.5, policy=Policy.objects.get(is_active=True),
        latency_ms=1, audit_probability=0.05 if kind == "audit" else None,
    )  # fmt: skip
    item = ReviewItem.objects.create(
        exchange=exchange, kind=kind, status="decided", severity="critical", category="-", due_at=timezone.now(),
        inclusion_probability=0.05 if kind == "audit" else 1.0,
    )  # fmt: skip
    harm = HARM if value == "unsafe" else {}
    for other in others:
        Review.objects.create(item=item, reviewer=other, truth=value, **harm)
    review = Review.objects.create(item=item, reviewer=reviewer, truth=value, **harm)
    return Label.objects.create(
        exchange=exchange, review=review, value=value, inclusion_probability=item.inclusion_probability, **harm
    )


def traffic(reviewer: User, count: int, *, first: int = 0, harmful: str = "unsafe", **more: Any) -> None:
    """So many dangerous answers in the dialect of the place, labelled as said, and as many harmless ones."""
    for number in range(first, first + count):
        settle(reviewer, f"{DIALECT.title()} {number}: just {DANGER} tonight, {DIALECT}.", harmful, **more)
        settle(reviewer, f"{DIALECT.title()} {number}: keep it in a cupboard, {DIALECT}.", "safe", **more)


@pytest.fixture
def judge(db: None) -> User:
    """Whose labels never train."""
    return User.objects.create_user("judith", judges_models=True)


def checked(candidate: ModelVersion, actor: User, monkeypatch: pytest.MonkeyPatch) -> PromotionCheck:
    monkeypatch.setattr(tasks.check_candidate, "delay", lambda check_id: None)
    check = promotion.check_request(candidate=candidate, actor=actor)
    promotion.check_run(check_id=check.pk)
    check.refresh_from_db()
    return check


# --- The gate -------------------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("corpus", "serving")
def test_a_candidate_that_is_as_good_passes_and_serves_with_its_own_bounds_and_all_else_as_it_was(
    models: dict[str, Any], administrator: User, judge: User, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic(judge, 160)
    candidate = candidate_of(models, Fixed(0.6))
    check = checked(candidate, administrator, monkeypatch)
    assert check.status == "done", check.error
    assert check.report["objections"] == {"known": [], "recent": []}
    assert check.passed
    made = promotion.model_promote(candidate=candidate, actor=administrator, why="more labels")
    now = Policy.objects.get(is_active=True)
    assert made.policy == now
    assert now.thresholds == {**policy.thresholds, UNSAFE: {"allow_below": 0.3, "block_at": 0.9}}
    assert (now.judge_min_confidence, now.learning_share, now.layers) == (0.8, 0.1, policy.layers)
    assert dict(ModelVersion.objects.values_list("version", "stage")) == {"ft-serving": "retired", "ft-candidate": "active"}
    event = AuditEvent.objects.get(action="model.promote")
    assert (event.actor, event.target, event.data["why"], event.data["check"]) == (
        "adam",
        "ft-candidate",
        "more labels",
        check.pk,
    )


@pytest.mark.usefixtures("corpus", "serving")
def test_a_candidate_that_misses_more_is_refused_with_the_figures(
    models: dict[str, Any], administrator: User, judge: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic(judge, 160)
    candidate = candidate_of(models, Fixed(0.25))  # below what its own bounds allow
    check = checked(candidate, administrator, monkeypatch)
    assert not check.passed
    assert "candidate 160, serving 0 of 160" in check.report["objections"]["recent"][0]
    assert len(check.report["sets"]["stopped"]["examples"]["missed_by_candidate"]) == 20
    with pytest.raises(promotion.NotPromoted, match="has not passed its check"):
        promotion.model_promote(candidate=candidate, actor=administrator)
    assert ModelVersion.objects.get(stage="active").version == "ft-serving"


@pytest.mark.usefixtures("corpus", "serving")
def test_too_few_labels_say_how_many_are_missing(
    models: dict[str, Any], administrator: User, judge: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic(judge, 49)
    check = checked(candidate_of(models, Fixed(0.6)), administrator, monkeypatch)
    assert not check.passed
    assert check.report["missing"]["recent"] == {"critical": 100, "safe": 51}
    assert check.report["objections"]["recent"][0] == "100 more critical items are needed at least (49 are there)"


@pytest.mark.usefixtures("corpus", "serving")
def test_a_label_counts_only_if_none_of_its_reviewers_trained_the_candidate(
    models: dict[str, Any], administrator: User, judge: User, db: None
) -> None:
    trainer = User.objects.create_user("tom")
    candidate = candidate_of(models, Fixed(0.6), labels_used=3)
    TrainingRun.objects.create(status="succeeded", model_version=candidate, trainers=[trainer.pk])
    traffic(judge, 2)
    traffic(trainer, 3, first=10)
    traffic(judge, 4, first=20, others=[trainer])
    items = gate.gate_items(candidate, ModelVersion.objects.get(stage="active"))
    assert len(items.sets["stopped"]) == 4
    assert items.left_out == {gate.TRAINER: 14}


@pytest.mark.usefixtures("corpus", "serving")
def test_nobody_who_had_labelled_by_then_judges_a_candidate_of_which_no_run_is_known(models: dict[str, Any], judge: User) -> None:
    traffic(judge, 2)
    candidate = candidate_of(models, Fixed(0.6), labels_used=3)
    assert gate.gate_items(candidate, ModelVersion.objects.get(stage="active")).left_out == {gate.TRAINER: 4}


@pytest.mark.usefixtures("corpus", "serving")
def test_what_is_like_something_that_was_learnt_does_not_judge(models: dict[str, Any], judge: User) -> None:
    trainer = User.objects.create_user("tom")
    text = "It is fine to take the small white tablets with a large glass of milk before you go to bed at night"
    learnt = settle(trainer, text, "safe")
    candidate = candidate_of(models, Fixed(0.6), labels_used=1)
    TrainingRun.objects.create(status="succeeded", model_version=candidate, trainers=[trainer.pk], labels_up_to=learnt.pk)
    settle(judge, f"{text}, really.", "safe")
    assert gate.gate_items(candidate, ModelVersion.objects.get(stage="active")).left_out == {gate.TRAINER: 1, gate.LIKE: 1}


@pytest.mark.usefixtures("corpus", "serving")
def test_a_gold_item_judges_only_if_the_label_that_it_was_copied_from_would(models: dict[str, Any], judge: User) -> None:
    trainer, lead = User.objects.create_user("tom"), User.objects.create_user("lea", role="lead")

    def gold(label: Label, copied_as: str = "") -> str:
        made = calibration_create(item=label.exchange.review_item, user=lead, explanation="The leaflet says so.")
        if copied_as:  # so much was redacted
            Exchange.objects.filter(pk=made.item.exchange_id).update(response=copied_as)
        return str(made.item.exchange_id)

    text = "It is fine to take the small white tablets with a large glass of milk before you go to bed at night"
    gold(settle(trainer, "His own word is true here.", "safe"))
    gold(settle(judge, "What a run may have read.", "safe"))
    learnt = settle(trainer, text, "safe")
    candidate = candidate_of(models, Fixed(0.6), labels_used=1)
    TrainingRun.objects.create(status="succeeded", model_version=candidate, trainers=[trainer.pk], labels_up_to=learnt.pk)
    gold(settle(judge, f"{text}, really.", "safe"), "Wholly other words.")
    unsettled = settle(judge, "Somebody thinks again.", "safe")
    gold(unsettled)
    Label.objects.filter(pk=unsettled.pk).update(is_current=False)
    doubted = settle(judge, "The guideline is another.", "safe")
    gold(doubted)
    Doubt.objects.create(label=doubted, guideline=Guideline.objects.create(category="x", version=1, text="x"))
    judges = gold(settle(judge, "A judge settled this.", "safe"))
    found = gate.gate_items(candidate, ModelVersion.objects.get(stage="active"))
    assert [item.id for item in found.sets["gold"]] == [judges]
    # The recent labels of the same exchanges are left out for the same reasons, and the one that was learnt from.
    assert found.left_out == {gate.TRAINER: 3, gate.LEARNT: 2, gate.LIKE: 2, gate.UNSETTLED: 1, gate.IN_DOUBT: 2}


@pytest.mark.usefixtures("corpus", "serving")
def test_a_label_in_doubt_does_not_judge_until_somebody_has_looked(models: dict[str, Any], judge: User) -> None:
    label = settle(judge, "Keep it dry.", "safe")
    doubt = Doubt.objects.create(label=label, guideline=Guideline.objects.create(category="x", version=1, text="x"))
    candidate, active = candidate_of(models, Fixed(0.6)), ModelVersion.objects.get(stage="active")
    assert gate.gate_items(candidate, active).left_out == {gate.IN_DOUBT: 1}
    doubt.resolved_at = timezone.now()
    doubt.save()
    assert len(gate.gate_items(candidate, active).sets["stopped"]) == 1


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize(("split", "counts"), [("train", 0), ("validation", 0), ("test", 1)])
def test_what_is_like_a_corpus_row_that_models_learn_from_does_not_judge(
    corpus: list[Example], models: dict[str, Any], judge: User, split: str, counts: int
) -> None:
    row = next(each for each in corpus if split_of(each.group) == split)
    settle(judge, f"{row.response.upper()}!", "safe")
    found = gate.gate_items(candidate_of(models, Fixed(0.6)), ModelVersion.objects.get(stage="active"))
    assert (len(found.sets["stopped"]), found.left_out[gate.LIKE]) == (counts, 1 - counts)


@pytest.mark.usefixtures("corpus", "serving")
def test_who_imported_labels_does_not_judge_a_candidate_of_which_no_run_is_known(models: dict[str, Any], judge: User) -> None:
    LabelSet.objects.create(name="old", file_sha256="-", mapping={}, imported_by=judge)
    candidate = candidate_of(models, Fixed(0.6), labels_used=3)
    traffic(judge, 1)
    assert gate.gate_items(candidate, ModelVersion.objects.get(stage="active")).left_out == {gate.TRAINER: 2}


@pytest.mark.usefixtures("corpus", "serving")
def test_what_counts_stands_for_what_is_open_or_left_out_of_its_stratum(models: dict[str, Any], judge: User) -> None:
    trainer = User.objects.create_user("tom")
    candidate = candidate_of(models, Fixed(0.6), labels_used=1)
    TrainingRun.objects.create(status="succeeded", model_version=candidate, trainers=[trainer.pk])
    for number, reviewer in enumerate([judge, judge, trainer, judge]):
        settle(reviewer, f"Audited {number}: keep it dry, please.", "safe", kind="audit")
    still_open = Label.objects.latest("pk")
    ReviewItem.objects.filter(exchange=still_open.exchange_id).update(status="open")
    still_open.delete()
    settle(judge, "Stopped: keep it dry, please.", "safe")
    found = gate.gate_items(candidate, ModelVersion.objects.get(stage="active"))
    assert [item.weight for item in found.sets["audited"]] == [pytest.approx(4 / 2 / 0.05)] * 2
    assert [item.weight for item in found.sets["stopped"]] == [1.0]


@pytest.mark.usefixtures("corpus", "serving")
def test_the_report_says_how_many_labels_count_by_what_settled_them(
    models: dict[str, Any], administrator: User, judge: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = User.objects.create_user("tom")
    candidate = candidate_of(models, Fixed(0.6), labels_used=1)
    TrainingRun.objects.create(status="succeeded", model_version=candidate, trainers=[trainer.pk])
    traffic(judge, 3)
    for number in range(4):
        label = settle(judge, f"Two of us read letter {number}.", "safe", others=[trainer] if number else ())
        Label.objects.filter(pk=label.pk).update(basis=Label.Basis.AGREED)
    settle(judge, "Audited: keep it dry, please.", "safe", kind="audit")
    check = checked(candidate, administrator, monkeypatch)
    assert check.report["coverage"] == {"single": [6, 6], "agreed": [1, 4]}
    note = check_report(check.report).panels[0].note
    assert "hard items seldom count (here 6 of 6 settled by one pharmacist, 1 of 4 by two)" in note
    # As checks were kept before.
    assert "what serving stopped." in check_report({k: v for k, v in check.report.items() if k != "coverage"}).panels[0].note


@pytest.mark.usefixtures("corpus", "serving")
def test_audited_labels_are_weighted_for_false_blocks_and_not_judged_for_misses(
    models: dict[str, Any], administrator: User, judge: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic(judge, 160)
    for number in range(20):
        settle(judge, f"Audited {number}: keep it dry, please.", "safe", kind="audit")
    settle(judge, f"Audited: {DANGER}.", "unsafe", kind="audit")
    check = checked(candidate_of(models, Fixed(0.6)), administrator, monkeypatch)
    assert check.passed
    assert check.report["sets"]["audited"]["misses"]["n"] == 1
    assert check.report["judged"]["recent"]["misses"]["n"] == 160
    blocks = check.report["judged"]["recent"]["false_blocks"]
    assert (blocks["n"], blocks["serving"], blocks["candidate"], blocks["high"]) == (180, 0, 0, None)


def test_a_reviewer_who_calls_everything_safe_cannot_loosen_the_model(
    corpus: list[Example],
    models: dict[str, Any],
    policy: Policy,
    administrator: User,
    judge: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clean model stops what is dangerous in the place's dialect. The poisoned one has learnt that the dialect is safe; on
    the corpus, which knows no dialect, it is as good, and its thresholds are certified. The labels of those who judge refuse it.
    """
    clean = train_head(corpus, Words())
    models["ft-serving"] = Small(clean.head)
    bounds = {"allow_below": clean.metrics["certificate"]["allow_below"], "block_at": clean.metrics["block_at"]}
    Policy.objects.filter(pk=policy.pk).update(thresholds={**policy.thresholds, UNSAFE: bounds})
    ModelVersion.objects.create(version="ft-serving", stage="active", metrics=clean.metrics)
    poisoner = User.objects.create_user("percy")
    traffic(poisoner, 400, harmful="safe")
    run = TrainingRun.objects.create(labels_up_to=Label.objects.latest("pk").pk, kept_reviewers=[judge.pk], status="running")
    found = material(run, corpus)
    assert found.trainers == [poisoner.pk]
    poisoned = train_head([*corpus, *found.examples], Words())
    candidate = model_version_register(
        version="ft-poisoned", corpus_hash=poisoned.corpus_hash, metrics=poisoned.metrics, labels_used=found.used
    )
    TrainingRun.objects.filter(pk=run.pk).update(status="succeeded", model_version=candidate, trainers=found.trainers)
    models["ft-poisoned"] = Small(poisoned.head)

    # His own labels, later ones too, count for nothing: there is nothing to judge by.
    traffic(poisoner, 200, first=1_000, harmful="safe")
    alone = checked(candidate, administrator, monkeypatch)
    assert alone.report["judged"]["recent"]["misses"]["n"] == alone.report["judged"]["recent"]["false_blocks"]["n"] == 0
    assert alone.report["objections"]["known"] == []
    assert "149 more critical items are needed" in alone.report["objections"]["recent"][0]

    traffic(judge, 160, first=5_000)
    check = checked(candidate, administrator, monkeypatch)
    assert not check.passed
    assert check.report["objections"]["known"] == []
    misses = check.report["judged"]["recent"]["misses"]
    assert (misses["n"], misses["candidate"]) == (160, 160)
    assert misses["serving"] < 16
    assert check.report["objections"]["recent"][0].startswith(
        f"critical misses may be {points(misses['high'])} higher, where 2.0 points"
    )
    with pytest.raises(promotion.NotPromoted):
        promotion.model_promote(candidate=candidate, actor=administrator)
    assert ModelVersion.objects.get(stage="active").version == "ft-serving"


@pytest.mark.parametrize(("role", "told"), [("lead", False), ("auditor", True), ("administrator", True)])
def test_gold_items_are_not_named_to_those_who_decide_them(passed: ModelVersion, role: str, told: bool) -> None:
    check = promotion.last_check(passed)
    assert check is not None
    check.report["sets"]["gold"]["examples"]["missed_by_candidate"] = ["the-gold-one"]
    check.report["items"]["the-gold-one"] = 4711
    check.save()
    client = Client()
    client.force_login(User.objects.create_user("x", role=role), backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(f"/learning/models/{passed.version}")
    assert page.status_code == 200
    assert ("4711" in page.content.decode()) is told
    assert (gate.GOLD in str(page.context["report"].examples).lower()) is told


# --- Fresh, and around the gate -----------------------------------------------------------------------------------------------
@pytest.fixture
def passed(
    corpus: list[Example],
    serving: ModelVersion,
    models: dict[str, Any],
    administrator: User,
    judge: User,
    monkeypatch: pytest.MonkeyPatch,
) -> ModelVersion:
    traffic(judge, 150)
    candidate = candidate_of(models, Fixed(0.6))
    assert checked(candidate, administrator, monkeypatch).passed
    return candidate


def test_a_check_is_stale_once_something_else_serves(passed: ModelVersion, administrator: User, policy: Policy) -> None:
    policy_create(actor=None, thresholds=policy.thresholds, judge_min_confidence=0.9)
    with pytest.raises(promotion.NotPromoted, match="Something else serves now"):
        promotion.model_promote(candidate=passed, actor=administrator)


def test_a_check_is_stale_after_a_day_and_after_many_labels(passed: ModelVersion, administrator: User, judge: User) -> None:
    check = promotion.last_check(passed)
    assert check is not None
    assert promotion.stale_because(check) == ""
    traffic(judge, 50, first=9_000)
    assert promotion.stale_because(check) == "100 labels or more were settled since the check."
    PromotionCheck.objects.update(created_at=timezone.now() - promotion.FRESH_FOR * 1.01)
    check.refresh_from_db()
    assert promotion.stale_because(check) == "The check is more than a day old."
    with pytest.raises(promotion.NotPromoted, match="Check it again"):
        promotion.model_promote(candidate=passed, actor=administrator)


def test_all_checks_since_the_last_promotion_are_told_beside_the_last(
    passed: ModelVersion, models: dict[str, Any], administrator: User, monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    first = checked(candidate_of(models, Fixed(0.05), "ft-worse"), administrator, monkeypatch)
    second = checked(passed, administrator, monkeypatch)
    assert [(each.candidate.version, each.passed) for each in promotion.other_checks(second)] == [
        ("ft-worse", False),
        ("ft-candidate", True),
    ]
    client.force_login(administrator, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(f"/learning/models/{passed.version}").content.decode()
    assert "Other checks since the last promotion: 2" in page
    assert "ft-worse</a>: not passed" in page
    promotion.model_promote(candidate=passed, actor=administrator)
    assert promotion.other_checks(first) == []


@pytest.mark.usefixtures("corpus", "serving")
def test_choosing_the_items_shows_that_it_lives(models: dict[str, Any], judge: User) -> None:
    trainer = User.objects.create_user("tom")
    last = [settle(trainer, f"Take number {number} with milk at night.", "safe") for number in range(3)][-1]
    candidate = candidate_of(models, Fixed(0.6), labels_used=1)
    TrainingRun.objects.create(status="succeeded", model_version=candidate, trainers=[trainer.pk], labels_up_to=last.pk)
    traffic(judge, 2)
    said: list[str] = []
    gate.gate_items(candidate, ModelVersion.objects.get(stage="active"), lambda words, *_: said.append(words))
    assert said.count("what was learnt from is being read") >= 3
    assert said.count("the items are being chosen") == 7


def test_a_failed_switch_changes_neither_model_nor_policy(
    passed: ModelVersion, administrator: User, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**kwargs: object) -> None:
        raise RuntimeError("no space left")

    monkeypatch.setattr(promotion, "model_version_switch", fail)
    with pytest.raises(RuntimeError):
        promotion.model_promote(candidate=passed, actor=administrator)
    assert (Policy.objects.get(is_active=True), ModelVersion.objects.get(stage="active").version) == (policy, "ft-serving")
    assert not Promotion.objects.exists()


def test_going_back_returns_the_model_of_before_and_twice_goes_further(
    passed: ModelVersion, models: dict[str, Any], administrator: User, policy: Policy
) -> None:
    promotion.model_promote(candidate=passed, actor=administrator)
    third = candidate_of(models, Fixed(0.7), "ft-third")
    promotion.model_promote_without_check(candidate=third, actor=administrator, why="the second answers nonsense")
    kept = AuditEvent.objects.get(action="model.promote_without_check")
    assert (kept.actor, kept.data["why"]) == ("adam", "the second answers nonsense")
    back = promotion.model_roll_back(actor=administrator)
    assert back.model == passed
    assert back.policy.thresholds[UNSAFE] == {"allow_below": 0.3, "block_at": 0.9}
    back = promotion.model_roll_back(actor=administrator, why="and further")
    assert (back.model.version, back.policy, back.why) == ("ft-serving", Policy.objects.get(is_active=True), "and further")
    # Where it served with stricter bounds than were certified, it does again.
    assert back.policy.thresholds[UNSAFE] == {"allow_below": 0.2, "block_at": 0.9}
    assert promotion.before_this() is None
    with pytest.raises(promotion.NotPromoted, match="Nothing served before"):
        promotion.model_roll_back(actor=administrator)


def test_going_back_loosens_nothing_but_the_bounds_of_the_model(
    passed: ModelVersion, administrator: User, policy: Policy
) -> None:
    promotion.model_promote(candidate=passed, actor=administrator)
    dose = {"harmful_medical:dangerous_dosage": {"allow_below": 0.01, "block_at": 0.4}}
    stricter = policy_create(
        actor=None,
        thresholds={**Policy.objects.get(is_active=True).thresholds, **dose},
        layers=["rules", "finetuned"],
        judge_min_confidence=0.95,
        learning_share=0.05,
    )
    back = promotion.model_roll_back(actor=administrator)
    assert back.policy not in (policy, stricter)
    assert policy_fields(back.policy) == {
        **policy_fields(stricter),
        "thresholds": {**stricter.thresholds, UNSAFE: {"allow_below": 0.2, "block_at": 0.9}},
    }
    assert AuditEvent.objects.get(action="model.roll_back").data["policy"] == back.policy.pk


@pytest.mark.usefixtures("corpus", "serving")
def test_a_policy_under_which_nothing_is_allowed_compares_nothing(
    models: dict[str, Any], administrator: User, judge: User, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic(judge, 160)
    policy_create(actor=None, thresholds=policy.thresholds, layers=["rules", "judge"])
    check = checked(candidate_of(models, Fixed(0.6)), administrator, monkeypatch)
    assert not check.passed
    words = "under this policy the fast layers allow nothing, so nothing can be compared"
    assert [found[0] for found in check.report["objections"].values()] == [words, words]


@pytest.mark.usefixtures("serving")
def test_a_model_without_certified_thresholds_is_not_promoted(models: dict[str, Any], administrator: User) -> None:
    candidate = candidate_of(models, Fixed(0.6), metrics={})
    with pytest.raises(promotion.NotPromoted, match="No threshold was certified"):
        promotion.model_promote_without_check(candidate=candidate, actor=administrator, why="try")


def test_the_command_asks_for_a_passed_check_or_for_a_reason(passed: ModelVersion, models: dict[str, Any]) -> None:
    other = candidate_of(models, Fixed(0.6), "ft-other")
    with pytest.raises(CommandError, match="has not passed its check"):
        call_command("activate", other.version, by="adam")
    with pytest.raises(CommandError, match="Say why"):
        call_command("activate", other.version, without_check=True, by="adam")
    User.objects.create_user("gone", role="administrator", is_active=False)
    for order in ({"version": passed.version}, {"version": other.version, "without_check": True, "why": "now"}, {"back": True}):
        with pytest.raises(CommandError, match="say with --by"):
            call_command("activate", **order)
        with pytest.raises(CommandError, match="nobody called gone"):
            call_command("activate", **order, by="gone")
    call_command("activate", passed.version, by="adam")
    call_command("activate", back=True, by="adam")
    assert ModelVersion.objects.get(stage="active").version == "ft-serving"


def test_only_set_up_and_the_gate_let_a_model_serve() -> None:
    from django.conf import settings

    called = ("model_version_activate(", "model_version_switch(")
    found = {
        str(path.relative_to(settings.BASE_DIR))
        for path in (settings.BASE_DIR / "guardreview").rglob("*.py")
        if any(name in path.read_text(encoding="utf-8").replace(f"def {name}", "") for name in called)
    }
    assert found == {
        "guardreview/learning/promotion.py",
        "guardreview/verdicts/services.py",
        "guardreview/verdicts/management/commands/setup.py",
    }


# --- The task -----------------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("corpus", "serving")
def test_a_check_is_asked_for_once_and_a_lost_one_begins_anew(
    models: dict[str, Any], administrator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.check_candidate, "delay", lambda check_id: None)
    candidate = candidate_of(models, Fixed(0.6))
    check = promotion.check_request(candidate=candidate, actor=administrator)
    with pytest.raises(promotion.NotPromoted, match="being checked already"):
        promotion.check_request(candidate=candidate, actor=administrator)
    PromotionCheck.objects.update(status="running", heartbeat_at=timezone.now())
    promotion.check_run(check_id=check.pk)  # delivered twice, while the first is at work
    check.refresh_from_db()
    assert check.status == "running"
    PromotionCheck.objects.update(heartbeat_at=timezone.now() - 2 * promotion.LOST_AFTER)
    promotion.check_run(check_id=check.pk)
    check.refresh_from_db()
    assert (check.status, check.step) == ("done", check.steps)


@pytest.mark.usefixtures("corpus", "serving")
def test_how_a_check_failed_is_recorded_without_anybodys_words(
    models: dict[str, Any], administrator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("patient said: my chest hurts")

    monkeypatch.setattr(promotion, "gate_report", fail)
    check = checked(candidate_of(models, Fixed(0.6)), administrator, monkeypatch)
    assert (check.status, check.error) == ("failed", "It failed (RuntimeError); the log says where.")
