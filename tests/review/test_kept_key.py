"""The key under which a browser seals what it could not send: one's own, the same for ever, and in no cache."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.review.conftest import SignIn

ADDRESS = "/kept/key"


@pytest.mark.django_db
def test_each_has_a_key_of_their_own_which_stays(signed_in: SignIn, people: dict[str, Any]) -> None:
    said = {name: signed_in(name).get(ADDRESS).json() for name in ("ana", "ben", "lea")}
    assert {name: one["user"] for name, one in said.items()} == {name: str(people[name].pk) for name in said}
    keys = [one["key"] for one in said.values()]
    assert len(set(keys)) == 3
    assert [len(base64.b64decode(key)) for key in keys] == [32, 32, 32]
    assert signed_in("ana").get(ADDRESS).json() == said["ana"]


@pytest.mark.django_db
def test_another_secret_of_the_server_makes_another_key(signed_in: SignIn, people: dict[str, Any], settings: Any) -> None:
    first = signed_in("ana").get(ADDRESS).json()["key"]
    settings.SECRET_KEY = "another"
    assert signed_in("ana").get(ADDRESS).json()["key"] != first


@pytest.mark.django_db
def test_it_is_never_stored_on_its_way(signed_in: SignIn, people: dict[str, Any]) -> None:
    assert "no-store" in signed_in("ana").get(ADDRESS)["Cache-Control"]
    assert signed_in("ana").post(ADDRESS).status_code == 405


def test_nobody_gets_one_without_signing_in(client: Any) -> None:
    response = client.get(ADDRESS)
    assert response.status_code == 302
    assert response["Location"].startswith("/sign-in")


@pytest.mark.django_db
def test_whoever_may_not_decide_has_no_key_and_no_page_asks_for_one(signed_in: SignIn, people: dict[str, Any]) -> None:
    assert signed_in("ida").get(ADDRESS).status_code == 403
    assert "data-key-url" not in signed_in("ida").get("/").content.decode()
    assert "data-key-url" in signed_in("ana").get("/").content.decode()
