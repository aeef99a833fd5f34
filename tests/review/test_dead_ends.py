"""No item is lost: whatever happens to people, settings or events, somebody can take it and it can be settled."""

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from guardreview.celery import app as celery_app
from guardreview.core import outbox
from guardreview.core.models import AuditEvent, OutboxEvent, User
from guardreview.core.outbox import outbox_deliver
from guardreview.review import leases, services
from guardreview.review.models import Label, Review
from guardreview.review.tasks import settle
from guardreview.verdicts.models import ReviewItem
from tests import scenes

say = partial(scenes.say, note="seen")

Status, Stage = ReviewItem.Status, ReviewItem.Stage


@pytest.fixture(autouse=True)
def only_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_handlers", {services.SETTLE: outbox._handlers[services.SETTLE]})


@pytest.fixture
def item(people: dict[str, User]) -> ReviewItem:
    return scenes.item()


def now_due() -> None:
    OutboxEvent.objects.filter(topic=services.SETTLE).update(available_at=timezone.now())


def fresh(item: ReviewItem) -> ReviewItem:
    return ReviewItem.objects.get(pk=item.pk)


# --- Settling -----------------------------------------------------------------------------------------------------------------
def test_what_is_settling_without_an_event_is_found_and_settled(item: ReviewItem, people: dict[str, User], settings: Any) -> None:
    settings.UNDO_S = 10
    review = say(item, people["ana"], "unsafe")
    assert services.settle_forgotten() == 0  # its event is there
    OutboxEvent.objects.all().delete()
    with pytest.raises(services.TooLate):
        services.review_undo(review=review, user=people["ana"])
    settle()
    assert services.settle_forgotten() == 0  # it has one again
    outbox_deliver()
    assert (fresh(item).status, Label.objects.get().review) == (Status.DECIDED, review)


def test_the_search_for_what_is_settling_without_an_event_is_scheduled() -> None:
    entry = next(e for e in celery_app.conf.beat_schedule.values() if e["task"] == settle.name)
    assert entry["schedule"] <= 60
    assert settle.name in celery_app.tasks


def test_what_is_settling_settles_though_undoing_was_switched_off_meanwhile(
    item: ReviewItem, people: dict[str, User], settings: Any
) -> None:
    settings.UNDO_S = 10
    say(item, people["ana"], "unsafe")
    settings.UNDO_S = 0
    now_due()
    outbox_deliver()
    assert fresh(item).status == Status.DECIDED


def test_an_event_delivered_twice_settles_once(item: ReviewItem, people: dict[str, User], settings: Any) -> None:
    settings.UNDO_S, settings.SECOND_EYES = 10, ("critical",)
    say(item, people["ana"])
    for _ in range(2):
        services.item_settle(item_id=item.pk)
    assert (fresh(item).status, fresh(item).stage) == (Status.OPEN, Stage.SECOND)
    say(item, people["ben"])
    for _ in range(2):
        services.item_settle(item_id=item.pk)
    assert Label.objects.get().basis == "agreed"
    assert AuditEvent.objects.filter(action="label.settle").count() == 1


# --- Undoing ------------------------------------------------------------------------------------------------------------------
def test_the_second_opinion_can_be_taken_back_and_given_again(item: ReviewItem, people: dict[str, User], settings: Any) -> None:
    settings.UNDO_S, settings.SECOND_EYES = 10, ("critical",)
    say(item, people["ana"])
    now_due()
    outbox_deliver()
    second = say(item, people["ben"])
    item = services.review_undo(review=second, user=people["ben"])
    assert (item.status, item.stage, item.leased_by) == (Status.OPEN, Stage.SECOND, people["ben"])
    say(item, people["ben"], "unsafe")
    now_due()
    outbox_deliver()
    assert (fresh(item).status, fresh(item).stage) == (Status.OPEN, Stage.ADJUDICATION)
    assert Review.objects.filter(undone_at=None).count() == 2


def test_the_first_opinion_is_not_taken_back_under_the_second(item: ReviewItem, people: dict[str, User], settings: Any) -> None:
    settings.UNDO_S, settings.SECOND_EYES = 10, ("critical",)
    first = say(item, people["ana"])
    now_due()
    outbox_deliver()
    say(item, people["ben"])
    with pytest.raises(services.TooLate):
        services.review_undo(review=first, user=people["ana"])
    assert OutboxEvent.objects.filter(topic=services.SETTLE).count() == 1  # what was not taken back still settles
    now_due()
    outbox_deliver()
    assert Label.objects.get().basis == "agreed"


def test_nobody_takes_back_what_another_said(item: ReviewItem, people: dict[str, User], settings: Any) -> None:
    settings.UNDO_S = 10
    review = say(item, people["ana"])
    for name in ("ben", "lea"):
        with pytest.raises(services.TooLate):
            services.review_undo(review=review, user=people[name])
    assert services.review_undo(review=review, user=people["ana"]).leased_by == people["ana"]


def test_a_submit_that_was_under_way_when_its_decision_was_taken_back_does_not_bring_it_back(
    item: ReviewItem, people: dict[str, User], settings: Any
) -> None:
    settings.UNDO_S = 10
    key, held = uuid4(), leases.item_lease(item=item, user=people["ana"])
    again = {"item": held, "reviewer": people["ana"], "token": held.lease_token, "truth": "safe", "note": "seen", "key": key}
    review = services.review_create(**again)
    services.review_undo(review=review, user=people["ana"])
    for late in (again, {**again, "key": uuid4()}, {**again, "key": None}):
        with pytest.raises(services.LeaseLost):
            services.review_create(**late)
    assert not Review.objects.filter(undone_at=None).exists()
    say(item, people["ana"], "unsafe", key=uuid4())


# --- People -------------------------------------------------------------------------------------------------------------------
def test_what_a_closed_account_held_is_free_when_the_lease_ends(item: ReviewItem, people: dict[str, User]) -> None:
    ana = people["ana"]
    leases.item_lease(item=item, user=ana)
    ana.is_active = False
    ana.save()
    assert leases.item_lease_next(user=people["ben"]) is None
    ReviewItem.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert leases.item_lease_next(user=people["ben"]) == item


def test_what_a_closed_account_said_still_settles(item: ReviewItem, people: dict[str, User], settings: Any) -> None:
    settings.UNDO_S = 10
    say(item, people["ana"], "unsafe")
    User.objects.filter(pk=people["ana"].pk).update(is_active=False)
    now_due()
    outbox_deliver()
    assert Label.objects.get().review.reviewer == people["ana"]


def test_a_lead_who_is_none_any_more_cannot_settle_with_a_lease_from_before(
    item: ReviewItem, people: dict[str, User], settings: Any
) -> None:
    settings.SECOND_EYES = ("critical",)
    say(item, people["ana"])
    say(item, people["ben"], "unsafe")
    lea = people["lea"]
    held = leases.item_lease(item=item, user=lea)
    lea.role = "pharmacist"
    lea.save()
    with pytest.raises(services.LeaseLost):
        services.review_create(item=held, reviewer=lea, token=held.lease_token, truth="safe", note="seen")


def quarrel(item: ReviewItem, lead: User, pharmacist: User) -> None:
    """The only lead and a pharmacist disagree: nobody is left to settle it."""
    say(item, lead, "safe")
    say(item, pharmacist, "unsafe")
    assert (fresh(item).stage, fresh(item).status) == (Stage.ADJUDICATION, Status.OPEN)


def test_what_the_only_lead_has_spoken_in_can_be_started_anew(item: ReviewItem, people: dict[str, User], settings: Any) -> None:
    settings.SECOND_EYES = ("critical",)
    quarrel(item, people["lea"], people["ana"])
    assert leases.item_lease_next(user=people["lea"]) is None
    anew = services.item_reopen(item=item, user=people["lea"])
    assert (anew.round, anew.stage, anew.leased_by) == (2, Stage.FIRST, people["lea"])
    say(anew, people["lea"], "safe")
    assert fresh(item).stage == Stage.SECOND  # alone, not even a lead overturns it
    say(item, people["ana"], "safe")
    assert (Label.objects.get().basis, Label.objects.get().value) == ("agreed", "safe")


def test_nothing_is_started_anew_that_waits_for_whoever_asks_or_is_held(
    item: ReviewItem, people: dict[str, User], settings: Any
) -> None:
    settings.SECOND_EYES = ("critical",)
    other = User.objects.create(username="leo", role="lead")
    with pytest.raises(services.TooLate):
        services.item_reopen(item=item, user=people["lea"])  # nobody has said anything
    quarrel(item, people["lea"], people["ana"])
    for user in (people["ana"], other):  # who may not, and whose turn it is
        with pytest.raises(services.TooLate):
            services.item_reopen(item=item, user=user)
    leases.item_lease(item=item, user=other)
    with pytest.raises(services.TooLate):
        services.item_reopen(item=item, user=people["lea"])
    say(item, other, "unsafe")
    assert Label.objects.get().basis == "adjudicated"


def test_a_second_opinion_for_which_there_is_nobody_can_be_started_anew(
    item: ReviewItem, people: dict[str, User], settings: Any
) -> None:
    lea = people["lea"]
    say(item, lea, "unsure")
    assert leases.item_lease_next(user=lea) is None
    say(services.item_reopen(item=item, user=lea), lea, "unsafe")
    assert Label.objects.get().basis == "single"


# --- Reopening ----------------------------------------------------------------------------------------------------------------
def test_the_label_stands_until_the_new_round_settles_and_then_gives_way(item: ReviewItem, people: dict[str, User]) -> None:
    say(item, people["ana"], "unsafe")
    before = Label.objects.get()
    services.item_reopen(item=item, user=people["ana"])
    assert Label.objects.get(is_current=True) == before
    say(item, people["ana"], "safe")
    assert list(Label.objects.order_by("pk").values_list("value", "is_current")) == [("unsafe", False), ("safe", True)]


def test_what_is_reopened_and_left_alone_is_anybodys_once_the_lease_ends(item: ReviewItem, people: dict[str, User]) -> None:
    say(item, people["ana"], "unsafe")
    services.item_reopen(item=item, user=people["ana"])
    assert leases.item_lease_next(user=people["ben"]) is None
    ReviewItem.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert leases.item_lease_next(user=people["ben"]) == item
