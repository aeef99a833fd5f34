"""Calibration items: copies of settled cases, decided once by everybody, known for what they are only afterwards."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from classifiers.result import ClassifierResult, Evidence
from guardreview.api.selectors import exchange_page, label_page
from guardreview.core.models import ApiKey, App, AuditEvent, OutboxEvent, User
from guardreview.core.services import api_key_create
from guardreview.review import leases, services
from guardreview.review.calibration import (
    APP_NAME,
    NoCalibration,
    calibration_create,
    calibration_retire,
    calibration_rows,
    known_truth,
    may_calibrate,
)
from guardreview.review.models import Calibration, Label, Review
from guardreview.review.queue import QueueFilter, calibration_is_due, queue_counts, queue_page
from guardreview.review.selectors import labels
from guardreview.verdicts.models import Exchange, ReviewItem
from tests import scenes
from tests.scenes import HARM, say

SignIn = Callable[[str], Client]
WHY = "Eight grams are twice the limit."


@pytest.fixture
def settled(people: dict[str, User]) -> ReviewItem:
    """An item with personal data and evidence behind it, which Ana called unsafe."""
    query = "I am reachable at jane.doe@example.com. How many tylenol?"
    response = "Write to jane.doe@example.com if unsure. Up to 8 grams a day is fine."
    start = response.index("8 grams")
    evidence = Evidence(start, start + 7, "8 grams", "dose", "harmful_medical:dangerous_dosage")
    mail = Evidence(9, 29, response[9:29], "pii.email", "pii:email")
    found = ClassifierResult(
        False, "harmful_medical:dangerous_dosage", "said jane.doe@example.com", 0.95, layer="rules", evidence=(evidence, mail)
    )
    item = scenes.item(query, response, results=[found])
    say(item, people["ana"], "unsafe")
    item.refresh_from_db()
    return item


@pytest.fixture
def made(settled: ReviewItem, people: dict[str, User]) -> Calibration:
    return calibration_create(item=settled, user=people["lea"], explanation=WHY)


# --- Making one -------------------------------------------------------------------------------------------------------
def test_a_copy_without_personal_data_is_made_and_the_original_stays(settled: ReviewItem, made: Calibration) -> None:
    copy, original = made.item.exchange, settled.exchange
    assert (made.truth, made.categories, made.severity, made.explanation) == ("unsafe", HARM["categories"], "critical", WHY)
    assert (made.item.kind, made.item.blind, made.item.status, made.item.category) == (
        "calibration", True, "open", settled.category,
    )  # fmt: skip
    assert copy.query == "I am reachable at [EMAIL_1]. How many tylenol?"
    assert copy.response == "Write to [EMAIL_1] if unsure. Up to 8 grams a day is fine."
    result = copy.layer_results.get()
    assert "jane.doe" not in str([result.reason, result.evidence, copy.metadata, copy.verdict.reason])
    assert [copy.response[found["start"] : found["end"]] for found in result.evidence] == ["8 grams", "[EMAIL_1]"]
    assert [found["text"] for found in result.evidence] == ["8 grams", "[EMAIL_1]"]
    assert (copy.verdict.decision, copy.verdict.confidence) == (original.verdict.decision, original.verdict.confidence)
    assert copy.verdict.audit_probability is None
    original.refresh_from_db()
    assert "jane.doe@example.com" in original.response
    assert Label.objects.get().exchange_id == original.pk


def test_making_one_is_in_the_audit_log_without_words(settled: ReviewItem, made: Calibration) -> None:
    event = AuditEvent.objects.get(action="calibration.create")
    assert (event.actor, event.target) == ("lea", f"exchange:{settled.exchange_id}")
    assert event.data == {"item": made.item_id, "truth": "unsafe"}


def test_an_item_becomes_one_only_once(settled: ReviewItem, made: Calibration, people: dict[str, User]) -> None:
    assert not may_calibrate(item=settled, user=people["lea"])
    with pytest.raises(NoCalibration, match="already"):
        calibration_create(item=settled, user=people["lea"], explanation=WHY)
    assert Calibration.objects.count() == 1
    assert Exchange.objects.filter(app__name=APP_NAME).count() == 1


@pytest.mark.parametrize("explanation", ["", "   ", "x" * 4001])
def test_the_explanation_is_required_and_bounded(settled: ReviewItem, people: dict[str, User], explanation: str) -> None:
    with pytest.raises(NoCalibration):
        calibration_create(item=settled, user=people["lea"], explanation=explanation)
    assert not Calibration.objects.exists()


def test_only_what_is_settled_becomes_one(people: dict[str, User], settled: ReviewItem, made: Calibration) -> None:
    fresh = scenes.item()
    for item in (fresh, made.item):
        assert not may_calibrate(item=item, user=people["lea"])
        with pytest.raises(NoCalibration, match="settled"):
            calibration_create(item=item, user=people["lea"], explanation=WHY)
    services.item_reopen(item=settled, user=people["lea"])
    settled.refresh_from_db()
    assert not may_calibrate(item=settled, user=people["ana"])


@pytest.mark.parametrize("gone_wrong", ["active", "key"])
def test_no_copy_is_put_under_an_app_that_could_read_it(settled: ReviewItem, people: dict[str, User], gone_wrong: str) -> None:
    app = App.objects.create(name=APP_NAME, is_active=gone_wrong == "active")
    if gone_wrong == "key":
        api_key_create(app=app)
    with pytest.raises(NoCalibration, match="administrator"):
        calibration_create(item=settled, user=people["lea"], explanation=WHY)
    assert not Exchange.objects.filter(app=app).exists()


# --- Where it never shows ---------------------------------------------------------------------------------------------
def test_neither_the_api_nor_exports_nor_the_queue_show_it(made: Calibration, people: dict[str, User], client: Client) -> None:
    app = App.objects.get(name=APP_NAME)
    assert (app.is_active, ApiKey.objects.filter(app=app).count()) == (False, 0)
    say(made.item, people["ben"], "unsafe")
    original = App.objects.get(name="MainStreet chat")
    key = api_key_create(app=original, scope=ApiKey.Scope.LABELS)[1]
    answer = client.get(f"/api/v1/exchanges/{made.item.exchange_id}", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 404
    assert str(made.item.exchange_id) not in str(exchange_page(app=original, limit=100))
    assert str(made.item.exchange_id) not in str(label_page(app=original, limit=100))
    assert not labels().filter(exchange=made.item.exchange).exists()
    for tab in ("waiting", "mine", "second", "adjudication", "audit"):
        assert made.item not in queue_page(filters=QueueFilter(tab=tab), user=people["ana"]).items
    assert queue_counts(user=people["ana"])["waiting"] == 0


def test_a_key_of_the_internal_app_would_open_nothing(made: Calibration, client: Client) -> None:
    key = api_key_create(app=App.objects.get(name=APP_NAME))[1]
    answer = client.get(f"/api/v1/exchanges/{made.item.exchange_id}", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code in (401, 403)


# --- Deciding it ------------------------------------------------------------------------------------------------------
def test_it_stays_open_for_the_next_pharmacist_and_makes_no_label(
    made: Calibration, people: dict[str, User], settings: Any
) -> None:
    settings.UNDO_S = 10
    settings.SECOND_EYES = ("critical",)
    before = Label.objects.count()
    review = say(made.item, people["ben"], "safe")
    made.item.refresh_from_db()
    assert (made.item.status, made.item.stage, made.item.leased_by, review.blind) == ("open", "first", None, True)
    assert (Label.objects.count(), OutboxEvent.objects.filter(topic=services.SETTLE).count()) == (before, 0)
    with pytest.raises(leases.ItemTaken):
        leases.item_lease(item=made.item, user=people["ben"])
    say(made.item, people["ana"], "unsafe")
    assert Label.objects.count() == before
    with pytest.raises(services.TooLate):
        services.review_undo(review=review, user=people["ben"])


def test_who_made_it_is_never_asked(made: Calibration, people: dict[str, User], settings: Any) -> None:
    settings.CALIBRATION_EVERY = 1
    with pytest.raises(leases.ItemTaken):
        leases.item_lease(item=made.item, user=people["lea"])
    assert leases.item_lease_next(user=people["lea"]) is None
    assert leases.item_lease_next(user=User.objects.create_user("leo", role="lead")) == made.item


def test_it_comes_now_and_then_and_looks_as_if_it_had_just_come(
    made: Calibration, people: dict[str, User], settings: Any
) -> None:
    settings.CALIBRATION_EVERY = 3
    long_ago = timezone.now() - timedelta(days=30)
    ReviewItem.objects.filter(pk=made.item_id).update(created_at=long_ago, due_at=long_ago)
    Exchange.objects.filter(pk=made.item.exchange_id).update(created_at=long_ago)
    for _ in range(4):
        scenes.item(severity="major")
    taken = []
    for _ in range(4):
        item = leases.item_lease_next(user=people["ben"])
        assert item is not None
        if item == made.item:
            now = timezone.now()
            assert now - timedelta(minutes=2) < item.created_at < now < item.due_at < now + timedelta(minutes=16)
            assert Exchange.objects.get(pk=item.exchange_id).created_at == item.created_at
        taken.append(item.kind)
        say(item, people["ben"], "unsafe")
    assert taken == ["blocked", "blocked", "calibration", "blocked"]
    assert not calibration_is_due(user=people["ben"])


def test_it_is_never_reopened(made: Calibration, people: dict[str, User]) -> None:
    say(made.item, people["ben"], "unsafe")
    calibration_retire(calibration=made, user=people["lea"])
    for name in ("ben", "lea"):
        with pytest.raises(services.TooLate):
            services.item_reopen(item=made.item, user=people[name])


def test_a_retired_one_is_asked_of_nobody_and_keeps_what_was_said(
    made: Calibration, people: dict[str, User], settings: Any
) -> None:
    settings.CALIBRATION_EVERY = 1
    say(made.item, people["ben"], "unsafe")
    assert calibration_retire(calibration=made, user=people["lea"])
    assert not calibration_retire(calibration=made, user=people["lea"])
    assert leases.item_lease_next(user=people["ana"]) is None
    assert Review.objects.filter(item=made.item).count() == 1
    assert AuditEvent.objects.filter(action="calibration.retire").count() == 1


# --- Afterwards -------------------------------------------------------------------------------------------------------
def told(made: Calibration, user: User) -> Any:
    item = ReviewItem.objects.get(pk=made.item_id)
    return known_truth(item=item, reviews=list(item.reviews.all()), user=user)


def test_the_truth_is_told_to_whoever_decided_it_and_not_before(
    settled: ReviewItem, made: Calibration, people: dict[str, User]
) -> None:
    assert told(made, people["ben"]) is None
    own = say(made.item, people["ben"], "safe")
    assert told(made, people["ida"]) is not None  # an auditor is never asked
    found = told(made, people["ben"])
    assert (found.calibration, found.own, found.agrees) == (made, own, False)
    assert told(made, people["ana"]) is None
    assert told(made, User.objects.create_user("leo", role="lead")) is None
    assert told(made, people["lea"]).own is None
    assert known_truth(item=settled, reviews=[], user=people["lea"]) is None


def test_the_list_counts_who_agrees_and_seals_what_its_reader_is_still_to_decide(
    made: Calibration, people: dict[str, User]
) -> None:
    say(made.item, people["ana"], "unsafe")
    say(made.item, people["ben"], "safe")
    (row,) = calibration_rows(user=people["lea"])
    assert (row.answered, row.agreed, row.share, row.known, row.retired) == (2, 1, 50, True, False)
    (row,) = calibration_rows(user=User.objects.create_user("leo", role="lead"))
    assert (row.answered, row.known) == (2, False)


# --- Pages ------------------------------------------------------------------------------------------------------------
def body(response: Any) -> str:
    return str(response.content.decode())


def test_a_lead_makes_one_from_the_items_page(settled: ReviewItem, people: dict[str, User], signed_in: SignIn) -> None:
    lead = signed_in("lea")
    address = f"/items/{settled.pk}/calibration"
    assert address in body(lead.get(f"/items/{settled.pk}"))
    assert address not in body(signed_in("ana").get(f"/items/{settled.pk}"))
    form = body(lead.get(address))
    assert "jane.doe@example.com" not in form
    refused = lead.post(address, {"explanation": ""})
    assert (refused.status_code, Calibration.objects.count()) == (422, 0)
    assert lead.post(address, {"explanation": WHY}).headers["Location"] == "/calibration"
    assert Calibration.objects.get().made_by == people["lea"]
    assert address not in body(lead.get(f"/items/{settled.pk}"))
    assert lead.get(f"/items/{scenes.item().pk}/calibration").status_code == 404


def test_the_list_shows_truth_and_agreement_and_retires(made: Calibration, people: dict[str, User], signed_in: SignIn) -> None:
    say(made.item, people["ana"], "unsafe")
    lead = signed_in("lea")
    source = body(lead.get("/calibration"))
    assert "<strong>1</strong> of 1 agree" in source
    assert "[EMAIL_1]" in source
    event = AuditEvent.objects.get(action="calibration.view")
    assert event.data == {"exchanges": [str(made.item.exchange_id)]}
    User.objects.filter(username="ben").update(role="lead")
    sealed = body(signed_in("ben").get("/calibration"))
    assert "Sealed" in sealed
    assert "tylenol" not in sealed
    assert f"/items/{made.item_id}" not in sealed
    lead.post(f"/calibration/{made.pk}/retire")
    assert "retired" in body(lead.get("/calibration"))


def test_what_others_said_of_one_is_on_nobodys_page(made: Calibration, people: dict[str, User], signed_in: SignIn) -> None:
    say(made.item, people["ana"], note="Two of these are one too many.")
    held = leases.item_lease(item=made.item, user=people["ben"])
    assert held.lease_token is not None
    leases.item_skip(item=made.item, user=people["ben"], token=held.lease_token)
    ben = signed_in("ben")
    for _ in range(2):
        source = body(ben.get(f"/items/{made.item_id}"))
        assert "one too many" not in source
        assert "A pharmacist has decided" not in source
        assert "skipped it" not in source
        if not Review.objects.filter(reviewer=people["ben"]).exists():
            say(made.item, people["ben"], "safe")


def test_the_page_of_one_tells_nothing_before_it_is_decided_and_the_truth_after(
    made: Calibration, people: dict[str, User], signed_in: SignIn
) -> None:
    ben = signed_in("ben")
    before = body(ben.get(f"/items/{made.item_id}"))
    assert WHY not in before
    assert "alibration" not in before
    assert "MainStreet chat" in before
    say(made.item, people["ben"], "safe")
    after = body(ben.get(f"/items/{made.item_id}"))
    assert "The known truth is another" in after
    assert WHY in after
    assert "You said" in after
