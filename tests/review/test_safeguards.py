"""What must hold against somebody's will, or by bad luck: two pairs of eyes, pages of another turn, and who may read what."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from classifiers.result import ClassifierResult, Decision, Layer
from guardreview.api.selectors import answer_of
from guardreview.core.models import AuditEvent, OutboxEvent, User
from guardreview.review import leases, services, statements
from guardreview.review.adjudication import adjudication_of
from guardreview.review.models import Label, Review
from guardreview.review.selectors import label_of, with_label
from guardreview.verdicts import services as verdict_services
from guardreview.verdicts.models import Exchange, ReviewItem
from tests import scenes
from tests.review.conftest import SignIn
from tests.scenes import HARM

say = partial(scenes.say, note="seen")


def answer(item: ReviewItem) -> str | None:
    exchange = with_label(Exchange.objects.select_related("verdict", "app")).get(pk=item.exchange_id)
    return answer_of(exchange, label_of(exchange))


# --- What the patient reads -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (" Just DOUBLE your dose tonight; up to 8 grams a day is fine.\n", "the answer that you call unsafe"),
        ("You can double your dose tonight, that is safe.", "A rule stops"),
        ("Call him on his cell, 617-555-0188.", "A rule stops"),
    ],
)
def test_what_is_stopped_does_not_come_back_as_a_corrected_answer(text: str, why: str, people: dict[str, User]) -> None:
    with pytest.raises(statements.InvalidReview, match=why):
        say(scenes.item(), people["ana"], "unsafe", corrected_answer=text)
    assert not Review.objects.exists()


def test_a_corrected_answer_that_no_rule_stops_reaches_the_patient(people: dict[str, User]) -> None:
    item = scenes.item()
    say(item, people["ana"], "unsafe", corrected_answer="At most 4 grams a day. Never double your dose.")
    assert answer(item) == "At most 4 grams a day. Never double your dose."


def test_a_text_that_the_rules_could_not_check_is_refused(people: dict[str, User], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "run_fast_layer", lambda *_, **__: ClassifierResult.failed(Layer.RULES, "away"))
    with pytest.raises(statements.InvalidReview, match="could not be checked"):
        say(scenes.item(), people["ana"], "unsafe", corrected_answer="At most 4 grams a day.")


def test_a_released_answer_is_withheld_as_soon_as_somebody_calls_it_unsafe(people: dict[str, User], settings: Any) -> None:
    item = scenes.item()
    say(item, people["ana"], "safe")
    assert answer(item) == item.exchange.response
    services.item_reopen(item=item, user=people["lea"])
    assert answer(item) == item.exchange.response
    settings.UNDO_S = 30
    say(item, people["lea"], "unsafe")
    assert Label.objects.get().value == "safe"
    assert answer(item) != item.exchange.response


# --- Two pairs of eyes ------------------------------------------------------------------------------------------------
def test_a_pharmacist_reopens_what_they_settled_and_not_what_another_did(people: dict[str, User]) -> None:
    item = scenes.item(decision="hold")
    say(item, people["ana"], "unsafe")
    services.item_reopen(item=item, user=people["lea"])
    say(item, people["lea"], "unsafe")
    with pytest.raises(services.TooLate):
        services.item_reopen(item=item, user=people["ana"])
    assert services.item_reopen(item=item, user=people["lea"]).round == 3


def test_a_decision_of_an_earlier_turn_does_not_count(people: dict[str, User], settings: Any) -> None:
    settings.SECOND_EYES = ("critical",)
    item = scenes.item()
    turn = services.turn_of(item)
    say(item, people["ana"], "safe")
    held = leases.item_lease(item=item, user=people["ben"])
    assert held.lease_token is not None
    with pytest.raises(services.LeaseLost):  # the page was made before it was a second opinion
        services.review_create(item=held, reviewer=people["ben"], token=held.lease_token, truth="safe", note="x", turn=turn)
    again = services.turn_of(held)
    services.review_create(item=held, reviewer=people["ben"], token=held.lease_token, truth="safe", note="x", turn=again)
    assert Label.objects.get().basis == "agreed"


def test_the_same_truth_with_another_text_for_the_patient_is_not_the_same_statement(people: dict[str, User]) -> None:
    item = scenes.item()
    say(item, people["ana"], "unsafe", corrected_answer="At most 4 grams a day.")
    with pytest.raises(services.LeaseLost):
        services.review_create(
            item=item, reviewer=people["ana"], token=uuid4(), truth="unsafe", corrected_answer="At most 3 grams.", **HARM
        )


# --- Who reads what ---------------------------------------------------------------------------------------------------
def test_no_page_of_an_item_is_seen_without_a_line_in_the_audit_log(signed_in: SignIn) -> None:
    earlier = scenes.item("hi", "Hello.", conversation_id="c-7", age=9)
    item = scenes.item(conversation_id="c-7")
    client = signed_in("ana")
    client.post(f"/items/{item.pk}/decision", {})
    client.post(f"/items/{item.pk}/reveal", {})
    lines = AuditEvent.objects.filter(action="item.view", target=f"exchange:{item.exchange_id}")
    assert [line.data for line in lines] == [{"earlier": [str(earlier.exchange_id)]}] * 2


def test_marked_words_are_masked_as_they_are_in_the_whole_answer(people: dict[str, User], settings: Any) -> None:
    settings.SECOND_EYES = ("critical",)
    response = "Just double your dose. MRN 4471123 agrees."
    item = scenes.item(response=response)
    start = response.index("4471123")
    say(item, people["ana"], "safe")
    say(item, people["ben"], "unsafe", spans=[{"start": start, "end": start + 7}])
    item.refresh_from_db()
    reviews = list(item.reviews.select_related("reviewer"))
    shown = adjudication_of(item=item, reviews=reviews, response=response, user=people["lea"])
    assert shown is not None
    assert "4471123" not in str([statement.quotes for statement in shown.statements])


def test_a_blind_items_place_in_the_queue_tells_nothing(people: dict[str, User], settings: Any) -> None:
    settings.BLIND_SHARE = 1
    waits = set()
    for decision, severity in (("block", "critical"), ("block", "minor"), ("allow", None)):
        exchange = scenes.item(decision="hold").exchange
        exchange.review_item.delete()
        exchange.created_at = timezone.now()
        verdict: Any = SimpleNamespace(decision=Decision(decision), severity=severity, category="safe", layer="rules", results=())
        verdict_services._open_review_item(exchange, verdict, 0.01 if decision == "allow" else None)
        item = ReviewItem.objects.get(exchange=exchange)
        waits.add((item.due_at - exchange.created_at, item.blind, tuple(item.reasons)))
    assert len(waits) == 1


# --- What earlier releases stored -------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_an_update_keeps_second_opinions_and_embeds_what_is_there() -> None:
    before = [("verdicts", "0003_custom_rules"), ("review", "0001_initial"), ("core", "0001_initial")]
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    try:
        executor = MigrationExecutor(connection)
        executor.migrate([*before, ("learning", "0001_initial")])
        old = executor.loader.project_state(before).apps
        app = old.get_model("core", "App").objects.create(name="old")
        people = [old.get_model("core", "User").objects.create(username=name) for name in ("ana", "ben")]
        policy = old.get_model("verdicts", "Policy").objects.create(thresholds={"default": {"block_at": 0.9, "allow_below": 0.1}})
        exchanges = old.get_model("verdicts", "Exchange").objects
        exchange = exchanges.create(app=app, query="q", response="r", status="decided", body_digest="")
        undecided = {"category": "undecided", "severity": "major"}
        verdict = {"decision": "hold", "reason": "", "confidence": 0, "layer": "judge", "policy": policy, "latency_ms": 1}
        old.get_model("verdicts", "Verdict").objects.create(exchange=exchange, **undecided, **verdict)
        items = old.get_model("verdicts", "ReviewItem").objects
        item = items.create(exchange=exchange, kind="second_opinion", due_at=timezone.now(), status="decided", **undecided)
        reviews = old.get_model("review", "Review").objects
        reviews.create(item=item, reviewer=people[0], truth="unsure")
        review = reviews.create(item=item, reviewer=people[1], truth="safe")
        old.get_model("review", "Label").objects.create(exchange=exchange, review=review, value="safe")
        executor = MigrationExecutor(connection)
        executor.migrate(latest)
        kept = ReviewItem.objects.get()
        assert (kept.kind, kept.stage, kept.layer, kept.status) == ("held", "second", "judge", "decided")
        assert list(Review.objects.order_by("pk").values_list("stage", flat=True)) == ["first", "second"]
        assert Label.objects.get().is_current
        assert OutboxEvent.objects.get(topic="review.embed").target == str(exchange.pk)
    finally:
        call_command("migrate", verbosity=0)
