"""Deciding through Django's test client: what the form asks for, what is saved, taken back, reopened; keys; a pause."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from guardreview.core.models import AuditEvent, OutboxEvent, User
from guardreview.core.outbox import outbox_deliver
from guardreview.review.decisions import PAGE_SIZE
from guardreview.review.keys import ACTIONS, SHEET, InvalidKey, keys_of, with_key
from guardreview.review.leases import item_lease
from guardreview.review.models import Calibration, Label, Review
from guardreview.review.services import review_create
from guardreview.review.wellness import critical_on_end, pause_is_due
from guardreview.verdicts.models import ReviewItem
from tests import scenes

SignIn = Callable[[str], Client]
UNSAFE = {"truth": "unsafe", "categories": ["harmful_medical:dangerous_dosage"], "severity": "critical"}
HIDDEN = ("token", "opened", "turn", "key", "spans")


def page(response: Any) -> str:
    return str(response.content.decode())


def text_of(response: Any) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page(response))).split())


def form_of(client: Client, item: ReviewItem) -> dict[str, str]:
    """Open an item for deciding; the hidden fields of its form."""
    source = page(client.get(f"/items/{item.pk}"))
    found = {name: re.search(rf'name="{name}" value="([^"]*)"', source) for name in HIDDEN}
    return {name: unescape(match.group(1)) for name, match in found.items() if match}


def decide(client: Client, item: ReviewItem, **fields: Any) -> Any:
    return client.post(f"/items/{item.pk}/decision", {**form_of(client, item), **fields})


def reviewed(user: User, *, truth: str = "safe", minutes_ago: float = 0, **fields: Any) -> Review:
    """A decision by that person of an item of its own, made some minutes ago; `fields` of the item."""
    held = item_lease(item=scenes.item(**fields), user=user)
    assert held.lease_token is not None
    harm = {"categories": ["misinformation"], "severity": "major"} if truth == "unsafe" else {}
    review = review_create(item=held, reviewer=user, token=held.lease_token, truth=truth, **harm)  # type: ignore[arg-type]
    Review.objects.filter(pk=review.pk).update(created_at=timezone.now() - timedelta(minutes=minutes_ago))
    return review


def settle() -> None:
    OutboxEvent.objects.update(available_at=timezone.now())
    outbox_deliver()


@pytest.fixture
def item(db: None) -> ReviewItem:
    return scenes.item()


# --- The form -----------------------------------------------------------------------------------------------------------
def test_a_note_is_asked_for_before_and_insisted_on_after(signed_in: SignIn, item: ReviewItem, settings: Any) -> None:
    settings.NOTE_REQUIRED, settings.SECOND_EYES = ("critical",), ("critical",)
    ana = signed_in("ana")
    opened = ana.get(f"/items/{item.pk}")
    assert '<span class="needed" data-for="safe">required: this overturns a critical block</span>' in page(opened)
    assert "if a second pharmacist agrees" in text_of(opened)
    refused = decide(ana, item, truth="safe")
    assert refused.status_code == 422
    assert "this decision needs a reason" in text_of(refused)
    assert re.search(r'value="safe"[^>]* checked', page(refused))
    assert decide(ana, item, truth="safe", note="Within the label.").status_code == 302
    assert "Saved. Overturns the block: waits for a second pharmacist." in text_of(ana.get("/"))


def test_the_form_of_a_blind_item_tells_nothing_of_the_verdict(signed_in: SignIn, settings: Any) -> None:
    settings.NOTE_REQUIRED, settings.SECOND_EYES = ("critical",), ("critical",)
    forms = []
    for fields in ({}, {"decision": "hold", "category": "undecided", "severity": "minor"}):
        item = scenes.item("May I?", "Yes.", **fields)
        ReviewItem.objects.filter(pk=item.pk).update(blind=True)
        source = page(signed_in("ana").get(f"/items/{item.pk}"))
        found = re.search(r'<section class="pane decision".*?</section>', source, flags=re.DOTALL)
        assert found
        unique = rf'/items/{item.pk}\b|data-item="{item.pk}"|value="[\w:.-]{{30,}}"|data-expires-in="\d+"'
        forms.append(re.sub(unique, "", found.group()))
    assert forms[0] == forms[1]
    assert "Blind: what the machine said is shown once you have decided." in forms[0]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ([{"start": 5, "end": 11}], [{"start": 5, "end": 11}]),
        ([{"start": 9, "end": 12}, {"start": 0, "end": 4}], [{"start": 0, "end": 4}, {"start": 9, "end": 12}]),
        ([{"start": 0, "end": 4}, {"start": 2, "end": 9}, {"start": 9, "end": 10}], [{"start": 0, "end": 10}]),
    ],
)
def test_marked_words_are_saved_in_order_and_without_overlap(
    sent: list[Any], kept: list[Any], signed_in: SignIn, item: ReviewItem
) -> None:
    answer = "Take 400 mg every eight hours."
    assert decide(signed_in("ana"), item, **UNSAFE, spans=json.dumps(sent), corrected_answer=answer).status_code == 302
    review = Review.objects.get()
    assert (review.spans, review.corrected_answer) == (kept, answer)


@pytest.mark.parametrize(
    "spans",
    [
        '[{"start": 0, "end": 9999}]',
        '[{"start": -1, "end": 4}]',
        '[{"start": 4, "end": 4}]',
        '[{"start": 0}]',
        '[{"start": 0, "end": Infinity}]',
        "{",
        "7",
        '["ab"]',
        "[" * 1900,
        json.dumps([{"start": 2 * n, "end": 2 * n + 1} for n in range(21)]),
        "x" * 3000,
    ],
)
def test_marked_words_outside_of_the_answer_are_refused(spans: str, signed_in: SignIn, item: ReviewItem) -> None:
    refused = decide(signed_in("ana"), item, **UNSAFE, spans=spans, note="Look!")
    assert refused.status_code == 422
    assert "Look!" in page(refused)
    assert not Review.objects.exists()


def test_a_corrected_answer_counts_for_an_unsafe_one_alone(signed_in: SignIn) -> None:
    first, second = scenes.item(due_in=1), scenes.item(due_in=2)
    ana = signed_in("ana")
    decide(ana, first, truth="safe", corrected_answer="Take less.", spans='[{"start": 0, "end": 4}]')
    refused = decide(ana, second, **UNSAFE, corrected_answer="x" * 8001)
    assert refused.status_code == 422
    assert "longer than 8,000 characters" in text_of(refused)
    review = Review.objects.get()
    assert (review.corrected_answer, review.spans) == ("", [])


def test_who_adjudicates_must_be_sure(signed_in: SignIn, item: ReviewItem) -> None:
    ReviewItem.objects.filter(pk=item.pk).update(stage="adjudication")
    source = page(signed_in("lea").get(f"/items/{item.pk}"))
    assert re.findall(r'name="truth" value="(\w+)"', source) == ["safe", "unsafe"]
    assert "required: this settles it for all" in source


# --- Sent twice, and late -----------------------------------------------------------------------------------------------
def test_each_form_has_a_key_of_its_own_and_the_same_one_counts_once(signed_in: SignIn) -> None:
    first, second = scenes.item(due_in=1), scenes.item(due_in=2)
    ana = signed_in("ana")
    fields = form_of(ana, first)
    assert fields["key"] != form_of(ana, first)["key"]
    for _ in range(2):
        assert ana.post(f"/items/{first.pk}/decision", {**fields, **UNSAFE}).headers["Location"] == f"/items/{second.pk}"
    assert Review.objects.count() == 1


def send_kept(client: Client, user: User, item: ReviewItem, fields: dict[str, Any]) -> Any:
    return client.post(f"/items/{item.pk}/decision/kept", {"user": user.pk, **fields})


def test_a_kept_decision_is_saved_once_even_if_its_hold_has_ended(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem
) -> None:
    ana = signed_in("ana")
    fields = {**form_of(ana, item), "truth": "safe"}
    ReviewItem.objects.update(leased_by=None, lease_token=None, lease_expires_at=None)
    for _ in range(2):
        answer = send_kept(ana, people["ana"], item, fields)
        assert (answer.status_code, answer.json()) == (200, {"saved": True})
    assert Review.objects.get().reviewer == people["ana"]


def test_a_kept_decision_does_not_count_where_it_is_another_turn(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem
) -> None:
    lea = signed_in("lea")
    fields = {**form_of(lea, item), "truth": "safe", "note": "Fine."}
    ReviewItem.objects.update(leased_by=None, lease_token=None, lease_expires_at=None, stage="adjudication")
    answer = send_kept(lea, people["lea"], item, fields)
    assert answer.status_code == 409
    assert "Fine." in answer.json()["page"]
    assert not Review.objects.exists()
    item.refresh_from_db()
    assert item.leased_by is None


def test_a_kept_decision_is_answered_with_both_where_another_decided(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem
) -> None:
    ana = signed_in("ana")
    fields = {**form_of(ana, item), **UNSAFE, "note": "Far too much."}
    ReviewItem.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    decide(signed_in("ben"), item, truth="safe", note="The label allows it.")
    answer = send_kept(ana, people["ana"], item, fields)
    assert answer.status_code == 409
    both = answer.json()["page"]
    assert "Ben Okafor decided this item" in both
    assert "The label allows it." in both
    assert "Far too much." in both


def test_a_kept_decision_is_saved_for_its_author_alone(signed_in: SignIn, people: dict[str, User], item: ReviewItem) -> None:
    fields = {**form_of(signed_in("ana"), item), "truth": "safe"}
    ReviewItem.objects.update(leased_by=None, lease_token=None, lease_expires_at=None)
    assert send_kept(signed_in("ben"), people["ana"], item, fields).status_code == 401
    assert not Review.objects.exists()


def test_an_incomplete_kept_decision_says_why(signed_in: SignIn, people: dict[str, User], item: ReviewItem) -> None:
    ana = signed_in("ana")
    answer = send_kept(ana, people["ana"], item, {**form_of(ana, item), "truth": "unsafe", "note": "<b>Bad</b>"})
    assert answer.status_code == 422
    assert "Name at least one category of harm." in answer.json()["page"]
    assert "&lt;b&gt;Bad" in answer.json()["page"]


def test_what_goes_on_to_a_second_pharmacist_is_not_shown_to_who_came_late(
    signed_in: SignIn, item: ReviewItem, settings: Any
) -> None:
    settings.SECOND_EYES, settings.UNDO_S = ("critical",), 10
    ana = signed_in("ana")
    fields = form_of(ana, item)
    ReviewItem.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    decide(signed_in("ben"), item, truth="safe", note="The label allows it.")
    late = ana.post(f"/items/{item.pk}/decision", {**fields, **UNSAFE})
    assert late.status_code == 409
    assert "Ben Okafor decided this item while you had it open." in text_of(late)
    settle()
    for answer in (late, ana.get(f"/items/{item.pk}/said")):
        assert "The label allows it." not in page(answer)
    assert "It goes on to another pharmacist. Hidden: you may be asked to decide it without knowing." in text_of(answer)


# --- Taken back ---------------------------------------------------------------------------------------------------------
def test_undo_brings_the_item_back_and_releases_the_present_one(
    signed_in: SignIn, people: dict[str, User], settings: Any
) -> None:
    settings.UNDO_S = 10
    first, second = scenes.item(due_in=1), scenes.item(due_in=2)
    ana = signed_in("ana")
    spans = '[{"start": 0, "end": 4}]'
    decide(ana, first, **UNSAFE, note="Twice the maximum.", spans=spans, corrected_answer="Take less.")
    review = Review.objects.get()
    source = page(ana.get(f"/items/{second.pk}"))
    assert "Saved. Confirms the block, unless you undo it." in source
    assert f'action="/reviews/{review.pk}/undo"' in source
    held = {"held": str(second.pk), "token": form_of(ana, second)["token"]}
    assert ana.post(f"/reviews/{review.pk}/undo", held).headers["Location"] == f"/items/{first.pk}"
    back = page(ana.get(f"/items/{first.pk}"))
    for entered in ("Twice the maximum.", "Take less.", "Dangerous dosage", unescape(spans)):
        assert entered in unescape(back)
    assert re.search(r'value="unsafe"[^>]* checked', back)
    assert "data-saved" not in back
    second.refresh_from_db()
    first.refresh_from_db()
    assert (first.leased_by, second.leased_by) == (people["ana"], None)
    settle()
    assert not Label.objects.exists()
    assert decide(ana, first, truth="safe").status_code == 302


def test_undoing_too_late_is_said_kindly_and_keeps_the_present_item(
    signed_in: SignIn, people: dict[str, User], settings: Any
) -> None:
    settings.UNDO_S = 10
    first, second = scenes.item(due_in=1), scenes.item(due_in=2)
    ana = signed_in("ana")
    decide(ana, first, **UNSAFE)
    settle()
    held = {"held": str(second.pk), "token": form_of(ana, second)["token"]}
    late = ana.post(f"/reviews/{Review.objects.get().pk}/undo", held, follow=True)
    assert late.redirect_chain == [(f"/items/{second.pk}", 302)]
    assert "Too late to undo" in text_of(late)
    second.refresh_from_db()
    assert second.leased_by == people["ana"]


@pytest.mark.parametrize("held", [{}, {"held": "x", "token": "y"}, {"held": "9" * 30, "token": ""}])
def test_nobody_undoes_what_another_said(held: dict[str, str], signed_in: SignIn, item: ReviewItem, settings: Any) -> None:
    settings.UNDO_S = 10
    decide(signed_in("ana"), item, truth="safe")
    review = Review.objects.get()
    assert signed_in("ben").post(f"/reviews/{review.pk}/undo", held).status_code == 404
    assert signed_in("ana").post(f"/reviews/{review.pk}/undo", held).headers["Location"] == f"/items/{item.pk}"


def test_while_a_blind_decision_can_be_undone_nothing_tells_the_verdict(
    signed_in: SignIn, item: ReviewItem, settings: Any
) -> None:
    settings.UNDO_S = 10
    ReviewItem.objects.filter(pk=item.pk).update(blind=True)
    ana = signed_in("ana")
    decide(ana, item, truth="safe")
    after = page(ana.get("/"))
    assert '<p class="saved-words">Saved.</p>' in after
    row = re.search(r'<li class="row decided-row">.*?</li>', page(ana.get("/decided")), flags=re.DOTALL)
    assert row
    assert "Blind item" in row.group()
    assert not re.search("overturned|Dangerous dosage|critical", row.group(), flags=re.IGNORECASE)
    assert "Nothing here" in page(ana.get("/decided?outcome=overturned"))
    settle()
    assert "Block overturned" in page(ana.get("/decided?outcome=overturned"))


def test_what_is_settled_is_reopened_by_its_author(signed_in: SignIn, people: dict[str, User], settings: Any) -> None:
    item = scenes.item()
    ana = signed_in("ana")
    decide(ana, item, truth="safe")
    assert f'action="/items/{item.pk}/reopen"' in page(ana.get("/decided"))
    assert signed_in("ben").post(f"/items/{item.pk}/reopen").headers["Location"] == "/decided"
    assert ana.post(f"/items/{item.pk}/reopen").headers["Location"] == f"/items/{item.pk}"
    assert not re.search(r'name="truth"[^>]*checked', page(ana.get(f"/items/{item.pk}")))
    assert decide(ana, item, **UNSAFE).status_code == 302
    assert Label.objects.get(is_current=True).value == "unsafe"


def test_leads_reopen_any_and_auditors_none(signed_in: SignIn, people: dict[str, User]) -> None:
    review = reviewed(people["ana"])
    assert f"/items/{review.item_id}/reopen" in page(signed_in("lea").get("/decided"))
    assert "/reopen" not in page(signed_in("ida").get("/decided"))
    assert signed_in("ida").post(f"/items/{review.item_id}/reopen").status_code == 403


# --- Calibration --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"truth": "unsafe", "categories": ["misinformation"], "severity": "major"}, "Calibration: you agreed"),
        ({"truth": "safe"}, "Calibration: the settled answer was unsafe (Misinformation)."),
    ],
)
def test_a_calibration_item_says_afterwards_what_it_was(
    said: dict[str, Any], words: str, signed_in: SignIn, people: dict[str, User]
) -> None:
    item = scenes.item(kind="calibration")
    Calibration.objects.create(
        item=item, truth="unsafe", categories=["misinformation"], severity="major", explanation="-", made_by=people["lea"]
    )
    ana = signed_in("ana")
    decide(ana, item, **said)
    after = ana.get("/")
    assert words in text_of(after)
    assert f'<a href="/items/{item.pk}" data-leave>See why</a>' in page(after)
    assert "Undo" not in re.sub(r"<dialog.*?</dialog>", "", page(after), flags=re.DOTALL)
    assert words not in text_of(ana.get("/"))  # said once


# --- A pause ------------------------------------------------------------------------------------------------------------
def test_a_pause_is_offered_once_after_many_critical_ones(signed_in: SignIn, people: dict[str, User], settings: Any) -> None:
    settings.PAUSE_AFTER = 3
    ana = signed_in("ana")
    for minutes in (9, 6, 3):
        reviewed(people["ana"], minutes_ago=minutes)
    item = scenes.item()
    offered = ana.post("/next", follow=True)
    assert offered.redirect_chain == [("/pause", 302)]
    assert "You have decided 3 critical answers in a row." in text_of(offered)
    assert ana.post("/next").headers["Location"] == f"/items/{item.pk}"


@pytest.mark.parametrize(
    ("minutes", "severity", "due"),
    [((4, 3, 2), "critical", True), ((4, 3), "critical", False), ((14, 3, 2), "critical", False), ((4, 3, 2), "major", False),
     ((13, 12, 11), "critical", False), ((18, 9, 1), "critical", True)],
)  # fmt: skip
def test_a_pause_of_ten_minutes_begins_the_count_anew(
    minutes: tuple[int, ...], severity: str, due: bool, people: dict[str, User], settings: Any
) -> None:
    settings.PAUSE_AFTER = 3
    for ago in minutes:
        reviewed(people["ana"], minutes_ago=ago, severity=severity)
    assert pause_is_due(user=people["ana"]) is due
    assert not pause_is_due(user=people["ben"])
    assert critical_on_end(user=people["ana"], since=timezone.now()) == 0
    settings.PAUSE_AFTER = 0
    assert not pause_is_due(user=people["ana"])


# --- Keys ---------------------------------------------------------------------------------------------------------------
def test_a_key_of_ones_own_is_kept_and_reset(signed_in: SignIn, people: dict[str, User]) -> None:
    ana = signed_in("ana")
    answer = ana.post("/preferences/keys", {"action": "safe", "key": "X"})
    assert answer.json()["keys"]["s"] == "x"
    people["ana"].refresh_from_db()
    assert people["ana"].preferences == {"keys": {"safe": "x"}}
    assert '"s": "x"' in unescape(page(ana.get("/")))
    assert ana.post("/preferences/keys", {"action": "unsafe", "key": "s"}).json()["keys"]["u"] == "s"
    assert ana.post("/preferences/keys", {"reset": "1"}).json()["keys"]["u"] == "u"
    people["ana"].refresh_from_db()
    assert people["ana"].preferences == {}


@pytest.mark.parametrize(
    ("action", "key", "message"),
    [
        ("safe", "u", "U is taken: Unsafe."),
        ("safe", "j", "J is taken: Next row"),
        ("safe", "?", "is taken: it opens this sheet"),
        ("safe", "", "Choose one letter"),
        ("safe", "xy", "Choose one letter"),
        ("safe", " ", "Choose one letter"),
        ("safe", "\u202e", "Choose one letter"),
        ("safe", "Enter", "Choose one letter"),
        ("nonsense", "x", "There is no such action."),
        ("", "x", "There is no such action."),
    ],
)
def test_a_key_that_cannot_be_had_is_refused_in_words(
    action: str, key: str, message: str, signed_in: SignIn, people: dict[str, User]
) -> None:
    answer = signed_in("ana").post("/preferences/keys", {"action": action, "key": key})
    assert answer.status_code == 422
    assert message in answer.json()["message"]
    people["ana"].refresh_from_db()
    assert people["ana"].preferences == {}


def test_no_two_actions_come_with_the_same_key() -> None:
    defaults = [key for key, _ in ACTIONS.values()]
    assert len({*defaults, SHEET}) == len(defaults) + 1
    user = User(preferences={"keys": {"safe": "x"}})
    assert keys_of(user)["safe"] == "x"
    assert with_key(user, "safe", "s") == {}
    with pytest.raises(InvalidKey):
        with_key(user, "unsafe", "x")


# --- What was decided ---------------------------------------------------------------------------------------------------
def rows(response: Any) -> list[int]:
    return [int(key) for key in re.findall(r'id="review-(\d+)"', page(response))]


def test_decisions_are_filtered_by_truth_and_by_outcome_and_undone_ones_are_not_there(
    signed_in: SignIn, people: dict[str, User]
) -> None:
    made = {
        "over": reviewed(people["ana"]).pk,
        "conf": reviewed(people["ana"], truth="unsafe").pk,
        "sett": reviewed(people["ana"], decision="hold", category="undecided").pk,
        "unsure": reviewed(people["ana"], truth="unsure").pk,
    }
    undone = reviewed(people["ana"])
    Review.objects.filter(pk=undone.pk).update(undone_at=timezone.now())
    ana = signed_in("ana")
    for query, names in (
        ("", ["unsure", "sett", "conf", "over"]),
        ("truth=safe", ["sett", "over"]),
        ("outcome=confirmed", ["conf"]),
        ("outcome=overturned", ["over"]),
        ("outcome=settled", ["sett"]),
        ("truth=unsafe&outcome=overturned", []),
        ("truth=nonsense&outcome=%27&before=x", ["unsure", "sett", "conf", "over"]),
    ):
        assert rows(ana.get(f"/decided?{query}")) == [made[name] for name in names]


def test_older_decisions_are_reached_page_by_page(signed_in: SignIn, people: dict[str, User]) -> None:
    made = [reviewed(people["ana"]).pk for _ in range(PAGE_SIZE + 3)]
    ana = signed_in("ana")
    first = ana.get("/decided?truth=safe")
    older = re.search(r'href="([^"]+)" rel="next"', page(first))
    assert older
    second = ana.get(unescape(older.group(1)))
    assert rows(first) + rows(second) == made[::-1]
    assert 'rel="next"' not in page(second)


def test_the_list_masks_personal_data_and_says_who_looked(signed_in: SignIn, people: dict[str, User]) -> None:
    review = reviewed(people["ana"], query="Call me on 555-867-5309 please", response="We will.")
    source = page(signed_in("ana").get("/decided"))
    assert "867-5309" not in source
    event = AuditEvent.objects.filter(action="decided.view").get()
    assert (event.actor, event.data) == ("ana", {"reviews": [review.pk]})


def test_a_lead_does_not_read_there_what_they_may_still_be_asked(signed_in: SignIn, people: dict[str, User]) -> None:
    open_still = reviewed(people["ana"], truth="unsure").pk
    settled = reviewed(people["ana"]).pk
    assert rows(signed_in("lea").get("/decided")) == [settled]
    assert rows(signed_in("ida").get("/decided")) == [settled, open_still]
    assert rows(signed_in("ana").get("/decided")) == [settled, open_still]
