"""How many items one person may hold: past that, another is refused, and the page says what they hold and how to let it go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.urls import reverse
from django.utils import timezone

from guardreview.core.models import User
from guardreview.review import leases, services
from guardreview.review.models import Review
from guardreview.review.queue import held_by
from guardreview.verdicts.models import ReviewItem
from tests import scenes
from tests.review.conftest import SignIn
from tests.review.test_deciding import form_of, send_kept, text_of
from tests.review.test_deciding import page as page_of

FULL = "You hold 2 items, as many as one person may."


@pytest.fixture
def items(db: None, settings: Any) -> list[ReviewItem]:
    """Three, of which one person may hold two; the first is due last."""
    settings.MAX_LEASES = 2
    return [scenes.item(f"question {n}", due_in=30 - n) for n in range(3)]


def hold(items: list[ReviewItem], user: User) -> None:
    for item in items:
        leases.item_lease(item=item, user=user)


# --- The rule ---------------------------------------------------------------------------------------------------------
def test_who_holds_as_many_as_they_may_gets_no_other_by_address_or_by_next(
    items: list[ReviewItem], people: dict[str, User]
) -> None:
    hold(items[:2], people["ana"])
    with pytest.raises(leases.HandsFull, match=FULL):
        leases.item_lease(item=items[2], user=people["ana"])
    with pytest.raises(leases.HandsFull):
        leases.item_lease_next(user=people["ana"])
    assert leases.item_lease_next(user=people["ben"]) == items[2]
    assert set(held_by(people["ana"])) == set(items[:2])


def test_what_one_holds_already_is_held_longer_with_full_hands(items: list[ReviewItem], people: dict[str, User]) -> None:
    hold(items[:2], people["ana"])
    again = leases.item_lease(item=items[0], user=people["ana"])
    assert again.lease_token == ReviewItem.objects.get(pk=items[0].pk).lease_token


@pytest.mark.parametrize("how", ["skip", "leave", "decide", "expire"])
def test_a_hand_is_free_again_once_an_item_is_let_go(how: str, items: list[ReviewItem], people: dict[str, User]) -> None:
    hold(items[:2], people["ana"])
    item = ReviewItem.objects.get(pk=items[0].pk)
    assert item.lease_token is not None
    if how == "skip":
        leases.item_skip(item=item, user=people["ana"], token=item.lease_token)
    elif how == "leave":
        leases.item_release(item=item, user=people["ana"], token=item.lease_token)
    elif how == "decide":
        services.review_create(item=item, reviewer=people["ana"], token=item.lease_token, truth="safe")
    else:
        ReviewItem.objects.filter(pk=item.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert leases.item_lease(item=items[2], user=people["ana"]).leased_by == people["ana"]


def test_an_item_that_another_has_is_said_to_be_theirs_even_to_full_hands(
    items: list[ReviewItem], people: dict[str, User]
) -> None:
    hold(items[:2], people["ana"])
    hold(items[2:], people["ben"])
    with pytest.raises(leases.ItemTaken):
        leases.item_lease(item=items[2], user=people["ana"])


def test_undoing_gives_the_item_back_even_to_full_hands(items: list[ReviewItem], people: dict[str, User], settings: Any) -> None:
    settings.UNDO_S = 10
    held = leases.item_lease(item=items[0], user=people["ana"])
    assert held.lease_token is not None
    review = services.review_create(item=held, reviewer=people["ana"], token=held.lease_token, truth="safe")
    hold(items[1:], people["ana"])
    assert services.review_undo(review=review, user=people["ana"]).leased_by == people["ana"]
    assert held_by(people["ana"]).count() == 3


# --- The pages --------------------------------------------------------------------------------------------------------
def test_the_items_page_can_be_read_and_says_what_one_holds_with_links(
    items: list[ReviewItem], people: dict[str, User], signed_in: SignIn
) -> None:
    ReviewItem.objects.filter(pk=items[1].pk).update(blind=True)
    hold(items[:2], people["ana"])
    opened = signed_in("ana").get(f"/items/{items[2].pk}")
    assert FULL in text_of(opened)
    assert "Decide or skip one, or close its page" in text_of(opened)
    assert f'<a href="/items/{items[0].pk}">Dangerous dosage</a>' in page_of(opened)
    assert f'<a href="/items/{items[1].pk}">Blind review</a>' in page_of(opened)
    assert 'id="decision"' not in page_of(opened)
    assert ReviewItem.objects.get(pk=items[2].pk).leased_by is None


def test_next_leads_to_a_page_that_says_what_one_holds(
    items: list[ReviewItem], people: dict[str, User], signed_in: SignIn
) -> None:
    hold(items[:2], people["ana"])
    ana = signed_in("ana")
    refused = ana.post("/next", follow=True)
    assert refused.redirect_chain == [(reverse("hands-full"), 302)]
    assert FULL in text_of(refused)
    assert all(f'href="/items/{item.pk}"' in page_of(refused) for item in items[:2])
    ReviewItem.objects.update(leased_by=None, lease_token=None, lease_expires_at=None)
    assert FULL not in text_of(ana.get("/hands-full"))


def test_a_decision_whose_hold_ended_is_shown_back_to_full_hands_and_a_kept_one_waits(
    items: list[ReviewItem], people: dict[str, User], signed_in: SignIn
) -> None:
    ana = signed_in("ana")
    fields = {**form_of(ana, items[2]), "truth": "safe", "note": "Within the label."}
    ReviewItem.objects.update(leased_by=None, lease_token=None, lease_expires_at=None)
    hold(items[:2], people["ana"])
    refused = ana.post(f"/items/{items[2].pk}/decision", fields)
    assert refused.status_code == 409
    assert f"Your hold on this item had ended. {FULL}" in text_of(refused)
    assert "Within the label." in text_of(refused)
    # 429: the browser keeps it and sends it again.
    assert send_kept(ana, people["ana"], items[2], {**fields, "key": str(uuid4())}).status_code == 429
    beat = ana.post(f"/items/{items[2].pk}/hold", fields)
    assert (beat.status_code, beat.json()["full"].startswith(FULL)) == (409, True)
    assert not Review.objects.exists()
