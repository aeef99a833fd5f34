"""Lists mask a query and its answer together, as the item's own page does."""

from __future__ import annotations

import pytest

from guardreview.core.models import User
from guardreview.verdicts.models import ReviewItem
from tests import scenes
from tests.review.conftest import SignIn

NUMBER = "44718823"


@pytest.fixture
def item(people: dict[str, User]) -> ReviewItem:
    return scenes.item(f"My MRN: {NUMBER}, is my refill ready?", f"For {NUMBER} it is ready; take two tonight.", severity="major")


def test_the_queue_masks_in_the_answer_what_the_query_told(signed_in: SignIn, item: ReviewItem) -> None:
    for address in ("/", f"/items/{item.pk}"):
        source = signed_in("ana").get(address).content.decode()
        assert "it is ready; take two tonight" in source
        assert NUMBER not in source


def test_so_does_the_list_of_decisions(signed_in: SignIn, item: ReviewItem, people: dict[str, User]) -> None:
    scenes.say(item, people["ana"], "unsafe")
    source = signed_in("ana").get("/decided").content.decode()
    assert "it is ready; take two tonight" in source
    assert NUMBER not in source
