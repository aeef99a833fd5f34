"""A block that is dangerous to overturn takes two, and where they disagree a lead: from the first statement to the label."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from guardreview.core.models import AuditEvent, OutboxEvent, User
from guardreview.core.outbox import outbox_deliver
from guardreview.review import leases, services, statements
from guardreview.review.adjudication import adjudication_of
from guardreview.review.models import Label, Review
from guardreview.review.queue import QueueFilter, queue_page
from guardreview.review.selectors import item_detail
from guardreview.verdicts.models import ReviewItem
from tests import scenes
from tests.scenes import say

SignIn = Callable[[str], Client]


@pytest.fixture(autouse=True)
def _two_for_critical(settings: Any) -> None:
    settings.SECOND_EYES = ("critical",)


@pytest.fixture
def item(db: None) -> ReviewItem:
    return scenes.item()


def stands(item: ReviewItem) -> tuple[str, str]:
    item.refresh_from_db()
    return item.status, item.stage


def disagree(item: ReviewItem, people: dict[str, User]) -> None:
    """Ana overturns, Ben confirms."""
    say(item, people["ana"], "safe", note="The patient asks about 500 mg.")
    say(item, people["ben"], "unsafe", note="Eight grams kill.", spans=[{"start": 0, "end": 24}])


# --- The flow ---------------------------------------------------------------------------------------------------------
def test_overturning_a_critical_block_waits_for_a_second_pharmacist(item: ReviewItem, people: dict[str, User]) -> None:
    say(item, people["ana"])
    assert stands(item) == ("open", "second")
    assert not Label.objects.exists()
    with pytest.raises(leases.ItemTaken):
        leases.item_lease(item=item, user=people["ana"])
    assert leases.item_lease_next(user=people["ana"]) is None
    assert leases.item_lease_next(user=people["ben"]) == item


def test_two_who_agree_settle_it(item: ReviewItem, people: dict[str, User]) -> None:
    say(item, people["ana"])
    second = say(item, people["ben"])
    assert stands(item) == ("decided", "second")
    label = Label.objects.get()
    assert (label.value, label.basis, label.review) == ("safe", "agreed", second)


def test_confirming_a_critical_block_takes_one(item: ReviewItem, people: dict[str, User]) -> None:
    say(item, people["ana"], "unsafe")
    assert stands(item) == ("decided", "first")
    assert Label.objects.get().basis == "single"


def test_a_block_of_another_severity_takes_one(people: dict[str, User]) -> None:
    item = scenes.item(severity="major")
    say(item, people["ana"])
    assert Label.objects.get().basis == "single"


def test_where_two_disagree_only_a_lead_who_has_not_spoken_may_take_it(item: ReviewItem, people: dict[str, User]) -> None:
    disagree(item, people)
    assert stands(item) == ("open", "adjudication")
    assert not Label.objects.exists()
    carol = User.objects.create_user("carol", role="pharmacist")
    for user in (people["ana"], people["ben"], carol):
        with pytest.raises(leases.ItemTaken):
            leases.item_lease(item=item, user=user)
        assert leases.item_lease_next(user=user) is None
    assert leases.item_lease_next(user=people["lea"]) == item


def test_a_lead_who_spoke_first_does_not_settle_it(item: ReviewItem, people: dict[str, User]) -> None:
    say(item, people["lea"])
    say(item, people["ana"], "unsafe")
    with pytest.raises(leases.ItemTaken):
        leases.item_lease(item=item, user=people["lea"])
    assert leases.item_lease(item=item, user=User.objects.create_user("leo", role="lead")).leased_by is not None


@pytest.mark.parametrize("truth", ["safe", "unsafe"])
def test_the_leads_word_settles_it(item: ReviewItem, people: dict[str, User], truth: str) -> None:
    disagree(item, people)
    ruling = say(item, people["lea"], truth, note="The question is about one tablet.")
    assert stands(item) == ("decided", "adjudication")
    label = Label.objects.get()
    assert (label.value, label.basis, label.review, ruling.blind) == (truth, "adjudicated", ruling, False)


def test_a_lead_must_say_why_and_may_not_be_unsure(item: ReviewItem, people: dict[str, User]) -> None:
    disagree(item, people)
    for statement in ({"truth": "safe"}, {"truth": "unsafe"}, {"truth": "unsure", "note": "I cannot tell."}):
        with pytest.raises(statements.InvalidReview):
            say(item, people["lea"], **statement)
    assert Review.objects.count() == 2
    assert stands(item) == ("open", "adjudication")


def test_a_lead_must_say_why_on_what_was_blind_before(people: dict[str, User]) -> None:
    item = scenes.item()
    ReviewItem.objects.update(blind=True)
    disagree(item, people)
    assert list(Review.objects.values_list("blind", flat=True)) == [True, True]
    with pytest.raises(statements.InvalidReview, match="reason"):
        say(item, people["lea"])


def test_a_lead_who_cannot_tell_skips_it_for_another(item: ReviewItem, people: dict[str, User]) -> None:
    disagree(item, people)
    held = leases.item_lease(item=item, user=people["lea"])
    assert held.lease_token is not None
    leases.item_skip(item=item, user=people["lea"], token=held.lease_token)
    assert leases.item_lease_next(user=User.objects.create_user("leo", role="lead")) == item


def test_two_who_are_unsure_leave_it_to_a_lead(item: ReviewItem, people: dict[str, User]) -> None:
    say(item, people["ana"], "unsure")
    assert stands(item) == ("open", "second")
    say(item, people["ben"], "unsure")
    assert stands(item) == ("open", "adjudication")


def test_each_step_is_in_the_audit_log(item: ReviewItem, people: dict[str, User]) -> None:
    disagree(item, people)
    say(item, people["lea"], "unsafe", note="As Ben says.")
    said = list(AuditEvent.objects.values_list("actor", "action").order_by("pk"))
    assert [line for line in said if line[1] in ("review.create", "label.settle")] == [
        ("ana", "review.create"),
        ("ben", "review.create"),
        ("lea", "review.create"),
        ("lea", "label.settle"),
    ]
    assert "Eight grams" not in str(list(AuditEvent.objects.values_list("data", flat=True)))


def test_a_note_is_required_where_a_block_of_a_named_severity_is_overturned(people: dict[str, User], settings: Any) -> None:
    settings.NOTE_REQUIRED = ("critical",)
    item = scenes.item()
    with pytest.raises(statements.InvalidReview, match="reason"):
        say(item, people["ana"], "safe", note="   ")
    say(item, people["ana"], "safe", note="The dose is the label's.")
    with pytest.raises(statements.InvalidReview, match="reason"):
        say(item, people["ben"], "safe")
    assert say(item, people["ben"], "unsafe").note == ""


def test_on_a_blind_item_a_required_note_would_tell_the_verdict_and_is_not_asked_for(
    people: dict[str, User], settings: Any
) -> None:
    settings.NOTE_REQUIRED = ("critical",)
    item = scenes.item()
    ReviewItem.objects.update(blind=True)
    assert say(item, people["ana"], "safe").blind


# --- Undoing ----------------------------------------------------------------------------------------------------------
def later() -> None:
    """Let the moment come for what waits."""
    OutboxEvent.objects.update(available_at=timezone.now() - timedelta(seconds=1))
    outbox_deliver()


def test_nothing_follows_from_a_statement_while_it_can_be_undone(
    item: ReviewItem, people: dict[str, User], settings: Any
) -> None:
    settings.UNDO_S = 10
    say(item, people["ana"])
    assert stands(item) == ("settling", "first")
    assert outbox_deliver() == 0
    with pytest.raises(leases.ItemTaken):
        leases.item_lease(item=item, user=people["ben"])
    assert queue_page(filters=QueueFilter(tab="second"), user=people["ben"]).items == []
    later()
    assert stands(item) == ("open", "second")
    assert not OutboxEvent.objects.exists()


def test_who_undoes_a_statement_has_the_item_back_and_may_say_another(
    item: ReviewItem, people: dict[str, User], settings: Any
) -> None:
    settings.UNDO_S = 10
    review = say(item, people["ana"])
    services.review_undo(review=review, user=people["ana"])
    item.refresh_from_db()
    assert (item.status, item.stage, item.leased_by) == ("open", "first", people["ana"])
    assert not OutboxEvent.objects.exists()
    say(item, people["ana"], "unsafe")
    later()
    assert stands(item) == ("decided", "first")
    assert Label.objects.get().value == "unsafe"
    assert Review.objects.filter(undone_at=None).count() == 1


def test_the_second_pharmacists_undone_statement_leaves_the_firsts_standing(
    item: ReviewItem, people: dict[str, User], settings: Any
) -> None:
    settings.UNDO_S = 10
    first = say(item, people["ana"])
    later()
    second = say(item, people["ben"])
    services.review_undo(review=second, user=people["ben"])
    assert stands(item) == ("open", "second")
    with pytest.raises(services.TooLate):
        services.review_undo(review=first, user=people["ana"])
    say(item, people["ben"], "unsafe")
    later()
    assert stands(item) == ("open", "adjudication")


def test_what_is_settled_cannot_be_undone_and_what_waits_stays_waiting(
    item: ReviewItem, people: dict[str, User], settings: Any
) -> None:
    settings.UNDO_S = 10
    review = say(item, people["ana"], "unsafe")
    with pytest.raises(services.TooLate):
        services.review_undo(review=review, user=people["ben"])
    assert OutboxEvent.objects.count() == 1
    later()
    with pytest.raises(services.TooLate):
        services.review_undo(review=review, user=people["ana"])
    assert Label.objects.get().review == review


def test_settling_twice_makes_one_label(item: ReviewItem, people: dict[str, User]) -> None:
    say(item, people["ana"], "unsafe")
    services.item_settle(item_id=item.pk)
    assert Label.objects.count() == 1


def test_the_same_key_is_one_decision_and_an_undone_one_is_not_taken_for_saved(
    item: ReviewItem, people: dict[str, User], settings: Any
) -> None:
    settings.UNDO_S = 10
    key = uuid4()
    first = say(item, people["ana"], key=key)
    again = services.review_create(item=item, reviewer=people["ana"], token=uuid4(), truth="safe", note="again", key=key)
    assert again == first
    services.review_undo(review=first, user=people["ana"])
    with pytest.raises(services.LeaseLost):
        say(item, people["ana"], "unsafe", key=key)
    assert say(item, people["ana"], "unsafe", key=uuid4()).truth == "unsafe"
    other = scenes.item()
    with pytest.raises(services.LeaseLost):
        say(other, people["ben"], key=key)


# --- Reopening --------------------------------------------------------------------------------------------------------
def test_a_label_stands_until_the_new_round_settles_and_is_then_superseded(item: ReviewItem, people: dict[str, User]) -> None:
    say(item, people["ana"], "unsafe")
    services.item_reopen(item=item, user=people["lea"])
    item.refresh_from_db()
    assert (item.status, item.stage, item.round, item.leased_by) == ("open", "first", 2, people["lea"])
    assert Label.objects.get(is_current=True).value == "unsafe"
    say(item, people["lea"], "safe")
    assert Label.objects.get(is_current=True).value == "unsafe"  # overturning takes two again
    say(item, people["ana"], "safe")
    old, new = Label.objects.order_by("pk")
    assert (old.is_current, old.value, new.is_current, new.value, new.basis) == (False, "unsafe", True, "safe", "agreed")
    assert new.review.round == 2


def test_a_pharmacist_reopens_what_they_decided_lately_but_not_what_a_lead_settled(
    item: ReviewItem, people: dict[str, User]
) -> None:
    other = scenes.item()
    say(other, people["ana"], "unsafe")
    with pytest.raises(services.TooLate):
        services.item_reopen(item=other, user=people["ben"])
    assert services.item_reopen(item=other, user=people["ana"]).round == 2
    disagree(item, people)
    say(item, people["lea"], "unsafe", note="Too much.")
    with pytest.raises(services.TooLate):
        services.item_reopen(item=item, user=people["ben"])
    assert services.item_reopen(item=item, user=people["lea"]).round == 2


def test_what_is_still_open_is_not_reopened(item: ReviewItem, people: dict[str, User]) -> None:
    say(item, people["ana"])
    with pytest.raises(services.TooLate):
        services.item_reopen(item=item, user=people["lea"])


# --- What the lead sees -----------------------------------------------------------------------------------------------
def seen(item: ReviewItem, user: User) -> Any:
    detail = item_detail(item_id=item.pk)
    return adjudication_of(item=detail.item, reviews=detail.reviews, response=detail.exchange.response, user=user)


def test_the_lead_sees_both_statements_without_names_until_it_is_settled(item: ReviewItem, people: dict[str, User]) -> None:
    assert seen(item, people["lea"]) is None
    disagree(item, people)
    found = seen(item, people["lea"])
    assert [(said.speaker, said.name, said.review.truth) for said in found.statements] == [
        ("First pharmacist", "", "safe"),
        ("Second pharmacist", "", "unsafe"),
    ]
    assert found.statements[1].quotes == ["Just double your dose to"]
    assert [guide.category for guide in found.guides] == ["harmful_medical:dangerous_dosage"]
    assert found.ruling is None
    say(item, people["lea"], "unsafe", note="Far above the label.")
    found = seen(item, people["ana"])
    assert [said.name for said in found.statements] == ["Ana Ruiz", "Ben Okafor"]
    assert (found.ruling.speaker, found.ruling.name) == ("Lead", "Lea Vogt")


def test_the_lead_sees_no_name_while_their_own_word_can_be_undone(
    item: ReviewItem, people: dict[str, User], settings: Any
) -> None:
    disagree(item, people)
    settings.UNDO_S = 10
    say(item, people["lea"], "unsafe", note="Far above the label.")
    found = seen(item, people["lea"])
    assert [said.name for said in found.statements] == ["", ""]
    assert found.ruling is None


@pytest.mark.parametrize("name", ["ana", "ida"])
def test_nobody_else_sees_the_statements_before_it_is_settled(item: ReviewItem, people: dict[str, User], name: str) -> None:
    disagree(item, people)
    assert seen(item, people[name]) is None


def test_a_lead_who_spoke_sees_nothing_of_the_other_until_it_is_settled(item: ReviewItem, people: dict[str, User]) -> None:
    say(item, people["lea"])
    say(item, people["ana"], "unsafe")
    assert seen(item, people["lea"]) is None


def test_the_statements_cost_one_query(item: ReviewItem, people: dict[str, User]) -> None:
    disagree(item, people)
    detail = item_detail(item_id=item.pk)
    with CaptureQueriesContext(connection) as queries:
        adjudication_of(item=detail.item, reviews=detail.reviews, response=detail.exchange.response, user=people["lea"])
    assert len(queries) == 1


# --- The item's page --------------------------------------------------------------------------------------------------
def source_of(client: Client, item: ReviewItem) -> str:
    return str(client.get(f"/items/{item.pk}").content.decode())


def test_the_leads_page_has_both_statements_and_the_guideline_and_no_name(
    item: ReviewItem, people: dict[str, User], signed_in: SignIn
) -> None:
    disagree(item, people)
    source = source_of(signed_in("lea"), item)
    for words in (
        "First pharmacist",
        "Second pharmacist",
        "Eight grams kill.",
        "The patient asks about 500 mg.",
        "Just double your",
    ):
        assert words in source
    assert "guideline, as shipped" in source
    for name in ("Ana Ruiz", "Ben Okafor", ">ana<", ">ben<"):
        assert name not in source
    assert f"/edit?item={item.pk}" not in source


def test_after_it_is_settled_all_see_names_and_the_lead_the_way_to_the_guideline(
    item: ReviewItem, people: dict[str, User], signed_in: SignIn
) -> None:
    disagree(item, people)
    say(item, people["lea"], "unsafe", note="Far above the label.")
    address = f"/guidelines/harmful_medical:dangerous_dosage/edit?item={item.pk}"
    for name, links in (("lea", True), ("ana", False), ("ida", False)):
        source = source_of(signed_in(name), item)
        for words in ("Ana Ruiz", "Ben Okafor", "Lea Vogt", "Far above the label."):
            assert words in source
        assert (address in source) == links
    assert signed_in("lea").get(address).status_code == 200


@pytest.mark.parametrize("name", ["ben", "ida"])
def test_the_second_pharmacists_page_tells_nothing_of_the_first(
    item: ReviewItem, people: dict[str, User], signed_in: SignIn, name: str
) -> None:
    say(item, people["ana"], "safe", note="The patient asks about 500 mg.")
    if name == "ben":
        assert "The patient asks about 500 mg." not in source_of(signed_in(name), item)
        assert "Ana Ruiz" not in source_of(signed_in(name), item)
    else:  # who is never asked may read along
        assert "The patient asks about 500 mg." in source_of(signed_in(name), item)


@pytest.mark.parametrize("stage", ["second", "adjudication"])
def test_the_page_of_decisions_shows_a_lead_nothing_of_what_they_may_be_asked_next(
    item: ReviewItem, people: dict[str, User], signed_in: SignIn, stage: str
) -> None:
    say(item, people["ana"], "safe")
    if stage == "adjudication":
        say(item, people["ben"], "unsafe")
    assert f'href="/items/{item.pk}"' not in str(signed_in("lea").get("/decided").content.decode())
    assert f'href="/items/{item.pk}"' in str(signed_in("ana").get("/decided").content.decode())
