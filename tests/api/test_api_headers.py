"""The `Prefer` header, as RFC 7240 writes it."""

from __future__ import annotations

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.request import Request

from guardreview.api.headers import preferences, preferred_wait


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", {}),
        ("respond-async", {"respond-async": ""}),
        ("respond-async, wait=10", {"respond-async": "", "wait": "10"}),
        ("Wait=10", {"wait": "10"}),
        ('wait="10"', {"wait": "10"}),
        ("wait = 10 ; foo=1; bar , handling=lenient", {"wait": "10", "handling": "lenient"}),
        ("foo; wait=5", {"foo": ""}),
        ('foo="a, wait=5", wait=7', {"foo": "a, wait=5", "wait": "7"}),
        ('foo="a \\" b"', {"foo": 'a " b'}),
        ("wait=5, wait=9", {"wait": "5"}),
        ("foo=, wait=3", {"foo": "", "wait": "3"}),
        ("wait=5, (", {"wait": "5"}),
    ],
)
def test_preferences(header: str, expected: dict[str, str]) -> None:
    assert preferences(header) == expected


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("respond-async", None),
        ("wait", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=ten", None),
        ("wait=٣", None),
        ("wait=0", 0),
        ("wait=7", 7),
        ("wait=31", 30),
        ("wait=" + "9" * 6000, 30),
    ],
)
def test_the_wait_is_a_capped_number(header: str | None, seconds: int | None) -> None:
    headers = {} if header is None else {"Prefer": header}
    assert preferred_wait(Request(RequestFactory().get("/", headers=headers))) == seconds


@given(st.text(alphabet='wait=0123, ;"\\é()'))
def test_no_header_makes_it_fail(header: str) -> None:
    preferences(header)
