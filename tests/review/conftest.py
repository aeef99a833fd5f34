"""Five people of four roles, and what each sees through Django's test client."""

from collections.abc import Callable

import pytest
from django.test import Client

from guardreview.core.models import User
from tests import scenes

SignIn = Callable[[str], Client]


@pytest.fixture
def people(db: None) -> dict[str, User]:
    return scenes.people()


@pytest.fixture
def signed_in(people: dict[str, User]) -> SignIn:
    """`signed_in("ana")`: a browser in which that person is signed in."""

    def sign_in(name: str) -> Client:
        client = Client()
        client.force_login(people[name], backend="django.contrib.auth.backends.ModelBackend")
        return client

    return sign_in
