"""What a run may learn from, and what it leaves out, by reason."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from classifiers.examples import REVIEW, Example, InvalidExample, split_of
from guardreview.core.models import App, User
from guardreview.learning import training_data
from guardreview.learning.models import LabelSet, TrainingRun
from guardreview.learning.training_data import HISTORY, MAX_WEIGHT, Material, label_examples, material, was_trained_on
from guardreview.review.models import Doubt, Guideline, Label
from guardreview.verdicts.models import Exchange, ReviewItem, Verdict
from tests.learning.labelled import imported, say, settle

WORDS = [f"word{number}" for number in range(300)]


def text(seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=40))


def in_split(split: str, query: str = "Is it true?") -> list[str]:
    """Responses whose own group falls into a split."""
    wanted = (each for each in map(text, range(1000)) if split_of(training_data.group_of(query, each)) == split)
    return [next(wanted) for _ in range(5)]


@pytest.fixture
def ana(db: None) -> User:
    return User.objects.create_user("ana", role="pharmacist")


@pytest.fixture
def judge(db: None) -> User:
    return User.objects.create_user("jo", role="pharmacist", judges_models=True)


def run_now(kept: Sequence[User] = ()) -> TrainingRun:
    last = Label.objects.order_by("-pk").first()
    return TrainingRun.objects.create(labels_up_to=last.pk if last else 0, kept_reviewers=[user.pk for user in kept])


def learnt(found: Material) -> set[str]:
    return {example.response for example in found.examples}


def test_what_was_drawn_since_a_shadow_differed_counts_once(ana: User) -> None:
    audited, drawn = (settle(ana, text(seed), probability=share, kind="audit") for seed, share in ((1, 0.25), (2, 0.5)))
    Verdict.objects.filter(exchange__in=[audited.exchange, drawn.exchange]).update(decision="allow", audit_probability=0.25)
    found = material(run_now(), [])
    assert {e.response: e.weight for e in found.examples} == {text(1): 4.0, text(2): 1.0}


def test_a_label_counts_by_how_seldom_its_exchange_is_looked_at_up_to_a_cap(ana: User) -> None:
    settle(ana, text(1))
    settle(ana, text(2), probability=0.25)
    settle(ana, text(3), "safe", probability=0.001)
    found = material(run_now(), [])
    assert {e.response: e.weight for e in found.examples} == {text(1): 1.0, text(2): 4.0, text(3): MAX_WEIGHT}
    assert all(e.source == REVIEW for e in found.examples)
    assert found.summary["weights"]["cut"] == sum(e.weight == MAX_WEIGHT for e in found.examples if split_of(e.group) != "test")


def test_sorting_labels_shows_that_it_lives(ana: User) -> None:
    for number in range(3):
        settle(ana, text(number))
    said: list[tuple[str, int, int]] = []
    material(run_now(), [], lambda phase, step=0, steps=0, measured=None: said.append((phase, step, steps)))
    assert said[:3] == [("reading labels", number, 0) for number in range(3)]
    assert said[3:] == [("looking for near-copies", step, 6) for step in range(7)]


def test_only_labels_in_force_that_were_settled_by_then_are_read(ana: User) -> None:
    first = settle(ana, text(1))
    settle(ana, text(2))
    say(first.exchange.review_item, ana, "safe")
    run = run_now()
    settle(ana, text(3))
    say(Label.objects.get(exchange__response=text(2)).exchange.review_item, ana, "safe")
    found = material(run, [])
    assert {(e.response, e.unsafe) for e in found.examples} == {(text(1), False)}
    assert found.summary["later"] == 2
    assert "settled after" not in str(found.left_out)


def test_what_those_who_judge_models_took_part_in_is_not_read(ana: User, judge: User) -> None:
    settle(judge, text(1))
    both = settle(judge, text(2))
    say(both.exchange.review_item, ana, "safe")
    settle(ana, text(3))
    found = material(run_now([judge]), [])
    assert learnt(found) == {text(3)}
    assert found.left_out == {training_data.KEPT: 2}


def test_the_guard_of_the_corpus_holds_for_labels(ana: User) -> None:
    group = next(f"g{n}" for n in range(100) if split_of(f"g{n}") == "test")
    corpus = [Example("c", group, "Is it true?", text(1), unsafe=False)]
    settle(ana, f"{text(1)} indeed")
    settle(ana, text(2))
    found = material(run_now(), corpus)
    assert (learnt(found), found.left_out) == ({text(2)}, {"like the corpus' test split": 1})


def test_gold_items_and_what_is_like_their_originals_are_not_read(ana: User) -> None:
    original = settle(ana, text(1))
    again = settle(ana, f"{text(1)} indeed")
    assert again.exchange != original.exchange
    copies = App.objects.create(name="calibration", is_active=False)
    copy = Exchange.objects.create(
        app=copies, query="Is it?", response="cleared of names", body_digest="-", idempotency_key=str(original.exchange_id)
    )
    ReviewItem.objects.create(exchange=copy, kind="calibration", severity="major", category="x", due_at=timezone.now())
    settle(ana, text(2))
    found = material(run_now(), [])
    assert (learnt(found), found.left_out) == ({text(2)}, {"gold item": 2})


def test_a_label_in_doubt_waits_until_somebody_has_looked(ana: User) -> None:
    label = settle(ana, text(1))
    guideline = Guideline.objects.create(category="misinformation", version=1, text="x")
    doubt = Doubt.objects.create(label=label, guideline=guideline)
    assert material(run_now(), []).left_out == {training_data.DOUBTED: 1}
    doubt.resolved_at = timezone.now()
    doubt.save()
    assert learnt(material(run_now(), [])) == {text(1)}


def test_imported_labels_are_read_until_they_are_withdrawn(ana: User) -> None:
    label_set = imported(text(1), text(2))
    settle(ana, text(3))
    found = material(run_now(), [])
    assert learnt(found) == {text(1), text(2), text(3)}
    assert found.exchanges.keys() == {str(Label.objects.get().exchange_id)}
    LabelSet.objects.filter(pk=label_set.pk).update(withdrawn_at=timezone.now())
    assert material(run_now(), []).left_out == {training_data.WITHDRAWN: 2}


def test_an_import_without_a_category_is_left_out_and_stops_nothing(ana: User) -> None:
    label_set = imported(text(1), text(2))
    label_set.labels.filter(response=text(1)).update(categories=[])
    found = material(run_now(), [])
    assert (learnt(found), found.left_out) == ({text(2)}, {training_data.UNUSABLE: 1})


def test_a_label_stays_in_its_split_whatever_is_labelled_later(ana: User) -> None:
    settle(ana, text(1))
    settle(ana, f"{text(1)} indeed")
    imported(f"Hello {text(1)}")
    before = {e.id: e.group for e in material(run_now(), []).examples}
    assert len(set(before.values())) == 1
    first = Label.objects.order_by("pk").first()
    assert first is not None
    say(first.exchange.review_item, ana, "safe")
    settle(ana, f"{text(1)} of course")
    after = {e.id: e.group for e in material(run_now(), []).examples}
    assert after.items() >= before.items()


def test_turns_of_one_conversation_lie_in_one_split(ana: User) -> None:
    settle(ana, text(1), conversation="c-7")
    settle(ana, text(2), conversation="c-7")
    settle(ana, text(3), conversation="c-8")
    groups = {e.response: e.group for e in material(run_now(), []).examples}
    assert groups[text(1)] == groups[text(2)] != groups[text(3)]


def test_trainers_are_those_behind_what_weights_were_fitted_to(ana: User) -> None:
    ben, cleo, dan = (User.objects.create_user(name) for name in ("ben", "cleo", "dan"))
    trained, tested = in_split("train"), in_split("test")
    both = settle(ben, trained[0])
    say(both.exchange.review_item, ana, "unsafe")
    settle(cleo, tested[0])
    assert dan.pk
    found = material(run_now(), [])
    assert found.trainers == sorted([ana.pk, ben.pk])
    assert (found.used, found.summary["splits"]) == (1, {"train": 1, "test": 1})


def test_who_imported_what_weights_were_fitted_to_is_a_trainer(ana: User) -> None:
    ben, cleo = User.objects.create_user("ben"), User.objects.create_user("cleo")
    settle(ana, in_split("train")[0])
    names = {split: next(n for n in map(str, range(1000)) if split_of(f"{n}-0") == split) for split in ("train", "test")}
    for number, (person, split) in enumerate([(ben, "train"), (cleo, "test")]):
        label_set = imported(text(2000 + number), name=names[split])
        LabelSet.objects.filter(pk=label_set.pk).update(imported_by=person)
    found = material(run_now(), [])
    assert found.trainers == sorted([ana.pk, ben.pk])
    assert found.summary["reviewers"] == 1


def test_reading_many_labels_takes_few_queries(ana: User) -> None:
    for number in range(30):
        settle(ana, text(number))
    run = run_now()
    with CaptureQueriesContext(connection) as few:
        material(run, [])
    for number in range(30, 60):
        settle(ana, text(number))
    run = run_now()
    with CaptureQueriesContext(connection) as more:
        material(run, [])
    assert len(more) == len(few) <= 8


def test_equal_texts_of_a_file_share_a_group() -> None:
    row = {"id": "a", "query": "Is it?", "response": "Yes  it IS.", "label": "safe", "categories": []}
    first, second = label_examples([row, {**row, "id": "b", "response": "yes it is."}])
    assert first.group == second.group
    with pytest.raises(InvalidExample, match="label 2"):
        label_examples([row, {**row, "label": "perhaps"}])


# Was it trained on?


def asked(run: TrainingRun, label: Label) -> bool:
    fresh = Label.objects.prefetch_related(*HISTORY).get(pk=label.pk)
    with CaptureQueriesContext(connection) as queries:
        found = was_trained_on(run, fresh)
    assert len(queries) == 0
    return found


def test_a_run_has_not_seen_what_was_settled_later_or_kept_from_it(ana: User, judge: User) -> None:
    seen, kept = settle(ana, text(1)), settle(judge, text(2))
    run = run_now([judge])
    later = settle(ana, text(3))
    assert [asked(run, label) for label in (seen, kept, later)] == [True, False, False]


def test_a_run_has_seen_an_exchange_whose_label_is_another_by_now(ana: User, judge: User) -> None:
    """Also if somebody who judges models said the newer one: by then the older one had been learnt from."""
    label = settle(ana, text(1))
    run = run_now([judge])
    newer = say(label.exchange.review_item, judge, "safe")
    assert asked(run, newer)
    TrainingRun.objects.filter(pk=run.pk).update(created_at=timezone.now() + timedelta(hours=1))
    run.refresh_from_db()
    assert not asked(run, newer)
