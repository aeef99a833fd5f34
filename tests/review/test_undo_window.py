"""While a decision can be undone it is its author's alone, and until it has come about no page says that it has."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from guardreview.core.models import AuditEvent, User
from guardreview.review import leases, services
from guardreview.review.models import Label, Review
from guardreview.review.visibility import sees
from guardreview.verdicts.models import ReviewItem
from tests import scenes
from tests.review.conftest import SignIn
from tests.review.test_deciding import UNSAFE, decide, form_of, page, rows, settle, text_of

SECRET = "I misread the strength."


@pytest.fixture
def item(db: None, settings: Any) -> ReviewItem:
    settings.UNDO_S = 10
    return scenes.item()


def say(item: ReviewItem, user: User, truth: str = "safe", note: str = SECRET) -> Review:
    held = leases.item_lease(item=item, user=user)
    assert held.lease_token is not None
    harm: dict[str, Any] = {name: value for name, value in UNSAFE.items() if name != "truth"} if truth == "unsafe" else {}
    return services.review_create(item=held, reviewer=user, token=held.lease_token, truth=truth, note=note, **harm)


def stale(client: Any, item: ReviewItem) -> dict[str, str]:
    """The form of somebody whose hold on the item has ended since."""
    fields = form_of(client, item)
    ReviewItem.objects.filter(pk=item.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    return {**fields, "truth": "safe", "note": "Fine."}


# --- Who came late ----------------------------------------------------------------------------------------------------
def test_who_came_late_reads_what_was_said_once_it_cannot_be_undone(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem
) -> None:
    ben = signed_in("ben")
    fields = stale(ben, item)
    review = say(item, people["ana"], "unsafe")
    late = ben.post(f"/items/{item.pk}/decision", fields)
    assert late.status_code == 409
    assert "Ana Ruiz decided this item while you had it open." in text_of(late)
    assert "Shown here as soon as it can no longer be undone." in text_of(late)
    assert SECRET not in page(late)
    assert re.search(rf'hx-get="/items/{item.pk}/said" hx-trigger="load delay:1[12]s"', page(late))
    assert "hx-trigger" in page(ben.get(f"/items/{item.pk}/said"))
    settle()
    shown = ben.get(f"/items/{item.pk}/said")
    assert f"What was decided Truth Unsafe Categories Dangerous dosage Severity Critical By Ana Ruiz, just now Note {SECRET}" in (
        text_of(shown)
    )
    assert "hx-trigger" not in page(shown)
    assert AuditEvent.objects.filter(actor="ben", action="decided.view", data={"reviews": [review.pk]}).count() == 1


def test_who_came_late_and_decides_after_an_undo_has_never_read_what_was_taken_back(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem
) -> None:
    ben = signed_in("ben")
    fields = stale(ben, item)
    services.review_undo(review=say(item, people["ana"], "unsafe"), user=people["ana"])
    pages = [ben.post(f"/items/{item.pk}/decision", fields), ben.get(f"/items/{item.pk}/said")]
    assert "Nothing yet: Ana Ruiz is looking at it." in text_of(pages[1])
    ReviewItem.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    pages += [ben.get(f"/items/{item.pk}/said"), ben.get(f"/items/{item.pk}")]
    assert 'id="decision"' in page(pages[-1])
    assert not any(SECRET in page(each) for each in pages)


def test_a_lead_does_not_read_another_leads_ruling_while_it_can_be_undone_nor_once_it_was(
    people: dict[str, User], item: ReviewItem
) -> None:
    lee = User.objects.create(username="lee", role="lead")
    ReviewItem.objects.filter(pk=item.pk).update(stage="adjudication")
    ruling = say(item, people["lea"], "unsafe")
    for undo in (False, True):
        if undo:
            services.review_undo(review=ruling, user=people["lea"])
        ruling.refresh_from_db()
        item.refresh_from_db()
        assert not sees(ruling, item, lee, [ruling])
        assert sees(ruling, item, people["lea"], [ruling])


def test_who_spoke_first_is_not_told_that_they_can_undo_what_the_second_said(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem, settings: Any
) -> None:
    settings.SECOND_EYES = ("critical",)
    ReviewItem.objects.filter(pk=item.pk).update(blind=True)
    say(item, people["ana"])
    settle()
    say(item, people["ben"], "unsafe", note="Never.")
    opened = signed_in("ana").get(f"/items/{item.pk}")
    assert "It waits for another pharmacist." in text_of(opened)
    assert "can still be undone" not in text_of(opened)
    assert "Never." not in page(opened)
    assert "Matched rule" in page(opened)  # their word stands, so the verdict is no secret any more


# --- The history ------------------------------------------------------------------------------------------------------
def test_until_it_is_settled_the_history_of_a_round_names_nobody_but_its_reader(
    signed_in: SignIn, people: dict[str, User], settings: Any
) -> None:
    settings.SECOND_EYES = ("critical",)
    item = scenes.item()
    held = leases.item_lease(item=item, user=people["ben"])
    assert held.lease_token is not None
    leases.item_skip(item=held, user=people["ben"], token=held.lease_token)
    say(item, people["ana"], "unsafe")
    services.item_reopen(item=item, user=people["ana"])
    signed_in("ana").post(f"/items/{item.pk}/reveal", {"reason": "to ring the doctor"})
    say(item, people["ana"], "safe")
    held = leases.item_lease(item=item, user=people["lea"])
    assert held.lease_token is not None
    leases.item_skip(item=held, user=people["lea"], token=held.lease_token)
    say(item, people["ben"], "unsafe")
    said = history_of(signed_in("lea").get(f"/items/{item.pk}"))
    assert said == [
        "Came to the pharmacists",
        "Ben Okafor skipped it",  # of the round before, which is settled and known
        "Ana Ruiz said unsafe",
        "Somebody reopened it",
        "Somebody revealed personal data",
        "First pharmacist said safe",
        "Lea Vogt skipped it",
        "Second pharmacist said unsafe",
    ]
    say(item, people["lea"], "unsafe")
    after = history_of(signed_in("lea").get(f"/items/{item.pk}"))
    assert after[3:6] == ["Ana Ruiz reopened it", "Ana Ruiz revealed personal data", "Ana Ruiz said safe"]


def history_of(response: Any) -> list[str]:
    lines = re.findall(r'<p class="event-line">(.*?)<time', page(response), flags=re.DOTALL)
    found = [" ".join(re.sub(r"<[^>]+>", " ", line).split()) for line in lines]
    return [re.sub(" Critical$", "", line) for line in found]


def test_the_history_calls_overturned_only_what_was(signed_in: SignIn, people: dict[str, User], settings: Any) -> None:
    settings.SECOND_EYES = ("critical",)
    item = scenes.item()
    say(item, people["ana"])
    waiting = text_of(signed_in("ana").get(f"/items/{item.pk}"))
    assert "Overturns the block" in waiting
    assert "lock overturned" not in waiting
    say(item, people["ben"])
    assert "Settled it: two pharmacists, each without seeing the other, block overturned" in text_of(
        signed_in("ana").get(f"/items/{item.pk}")
    )


# --- The list of decisions, and what is said after deciding -----------------------------------------------------------
def outcomes(client: Any, query: str = "") -> list[str]:
    found = re.findall(
        r'class="row-link"[^>]*>[^<]*</a>\s*(?:<span class="tag ([^"]*)">([^<]*)</span>)?', page(client.get(f"/decided{query}"))
    )
    return [" ".join(filter(None, pair)) for pair in found]


def test_the_list_says_what_has_come_of_a_decision_at_each_step(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem, settings: Any
) -> None:
    settings.SECOND_EYES = ("critical",)
    ana, ben = signed_in("ana"), signed_in("ben")
    say(item, people["ana"])
    assert outcomes(ana) == ["Overturns the block: can still be undone"]
    settle()
    assert outcomes(ana) == ["Overturns the block: waits for a second pharmacist"]
    say(item, people["ben"], "unsafe")
    # That somebody has spoken is nobody's to know who may not.
    assert outcomes(ana) == ["Overturns the block: waits for a second pharmacist"]
    assert outcomes(ben) == ["Confirms the block: can still be undone"]
    settle()
    assert (outcomes(ana), outcomes(ben)) == (["Overturns the block: waits for a lead"], ["Confirms the block: waits for a lead"])
    say(item, people["lea"], "unsafe")
    settle()
    assert (outcomes(ana), outcomes(ben)) == (["Settled otherwise"], ["confirmed Block confirmed"])
    services.item_reopen(item=item, user=people["lea"])
    assert (outcomes(ana), outcomes(signed_in("lea"), "?by=me")) == (["Decided anew since"], ["confirmed Block confirmed"])


def test_the_filters_find_what_is_so_and_what_waits(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem, settings: Any
) -> None:
    settings.SECOND_EYES = ("critical",)
    ana = signed_in("ana")
    first = say(item, people["ana"])
    for name, found in (("waiting", [first.pk]), ("overturned", []), ("confirmed", [])):
        assert rows(ana.get(f"/decided?outcome={name}")) == found
    settle()
    assert rows(ana.get("/decided?outcome=waiting")) == [first.pk]
    say(item, people["ben"])
    settle()
    assert Label.objects.get().value == "safe"
    assert rows(ana.get("/decided?outcome=waiting")) == []
    assert rows(ana.get("/decided?outcome=overturned")) == [first.pk]


def test_an_outvoted_decision_is_found_under_no_outcome(signed_in: SignIn, people: dict[str, User], settings: Any) -> None:
    settings.SECOND_EYES = ("critical",)
    item = scenes.item()
    for name, truth in (("ana", "safe"), ("ben", "unsafe"), ("lea", "unsafe")):
        say(item, people[name], truth)
    assert rows(signed_in("ana").get("/decided?outcome=overturned")) == []
    assert len(rows(signed_in("lea").get("/decided?outcome=confirmed"))) == 2


@pytest.mark.parametrize(
    ("stage", "truth", "words"),
    [
        ("first", "safe", "Overturns the block if a second pharmacist agrees, unless you undo it."),
        ("first", "unsafe", "Confirms the block, unless you undo it."),
        ("first", "unsure", "Goes to a second pharmacist, unless you undo it."),
        ("second", "safe", "Overturns the block, or goes to a lead if the first opinion differs, unless you undo it."),
        ("second", "unsure", "Goes to a lead, unless you undo it."),
        ("adjudication", "safe", "Overturns the block, unless you undo it."),
    ],
)
def test_after_deciding_nothing_is_said_to_have_happened_that_can_be_undone(
    stage: str, truth: str, words: str, signed_in: SignIn, item: ReviewItem, settings: Any
) -> None:
    settings.SECOND_EYES = ("critical",)
    ReviewItem.objects.filter(pk=item.pk).update(stage=stage)
    lea = signed_in("lea")
    fields = UNSAFE if truth == "unsafe" else {"truth": truth}
    assert decide(lea, item, **fields, note="Seen.").status_code == 302
    assert f"Saved. {words}" in text_of(lea.get("/"))


def test_a_decision_whose_seconds_are_over_is_being_settled_until_it_is(signed_in: SignIn, item: ReviewItem) -> None:
    ana = signed_in("ana")
    decide(ana, item, **UNSAFE)
    Review.objects.update(created_at=timezone.now() - timedelta(seconds=11))
    assert "Saved. It is being settled." in text_of(ana.get("/"))
