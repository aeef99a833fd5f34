"""What the API refuses, and that it says why without repeating what it was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.http import HttpResponse
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from guardreview.verdicts.models import Exchange
from tests.api.client import DANGEROUS, ApiClient
from tests.redis_server import RedisServer

MISSING = object()


def assert_problem(answer: HttpResponse, status: int) -> dict[str, Any]:
    """The body of a well-formed problem."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert {"type", "title", "status", "detail", "instance"} <= body.keys()
    return body


@pytest.mark.parametrize("field", ["query", "response"])
@pytest.mark.parametrize(
    "value",
    [MISSING, None, "", " \n\t\u00a0", 7, 1.5, True, ["text"], {"text": "x"}, "nul \x00 here", "lone \ud800 surrogate"],
    ids=repr,
)
def test_a_text_must_be_a_storable_string(api: ApiClient, field: str, value: object) -> None:
    body = {**DANGEROUS, field: value}
    if value is MISSING:
        del body[field]
    problem = assert_problem(api.submit(body), 400)
    assert list(problem["errors"]) == [field]
    assert not Exchange.objects.exists()


@pytest.mark.parametrize("value", [7, True, ["x"], {}, "x" * 201, "nul \x00", "\udfff"], ids=repr)
def test_a_conversation_id_must_be_a_short_string(api: ApiClient, value: object) -> None:
    problem = assert_problem(api.submit({**DANGEROUS, "conversation_id": value}), 400)
    assert list(problem["errors"]) == ["conversation_id"]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        "text",
        7,
        [],
        {"x": "y" * 16_000},
        {"x": "é" * 8_000},
        {"nul \x00": 1},
        {"x": ["nul \x00"]},
        {"x": {"y": "\ud800"}},
        {"deep": nested(25)},
    ],
    ids=lambda value: repr(value)[:30],
)
def test_metadata_must_be_a_small_storable_object(api: ApiClient, value: object) -> None:
    problem = assert_problem(api.submit({**DANGEROUS, "metadata": value}), 400)
    assert list(problem["errors"]) == ["metadata"]


def test_optional_fields_may_be_null(api: ApiClient, redis_server: RedisServer) -> None:
    assert api.submit({**DANGEROUS, "conversation_id": None, "metadata": None}).status_code == 202
    exchange = Exchange.objects.get()
    assert (exchange.conversation_id, exchange.metadata) == ("", {})


def test_every_bad_field_is_named(api: ApiClient) -> None:
    problem = assert_problem(api.submit({"query": 1, "metadata": 2}), 400)
    assert sorted(problem["errors"]) == ["metadata", "query", "response"]
    assert problem["type"] == "urn:guardreview:problem:invalid-request"


def test_a_text_has_a_bound_in_characters(api: ApiClient, settings: Any, redis_server: RedisServer) -> None:
    settings.MAX_TEXT_CHARS = 10
    assert api.submit({"query": "💊" * 10, "response": "r"}).status_code == 202
    problem = assert_problem(api.submit({"query": "q", "response": "💊" * 11}), 413)
    assert list(problem["errors"]) == ["response"]


def test_a_body_has_a_bound_in_bytes(api: ApiClient, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    assert_problem(api.submit(b'{"query": "' + b"x" * 1000), 413)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b'{"query": NaN}',
        b'{"query": "\xff"}',
        '{"query": "é"}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"metadata": {"n": ' + b"9" * 5000 + b"}}",
        b"\x00",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_not_json_is_refused(api: ApiClient, body: bytes) -> None:
    assert_problem(api.submit(body), 400)


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"7", b"null", b"", b"{}"])
def test_a_body_is_an_object(api: ApiClient, body: bytes) -> None:
    assert_problem(api.submit(body), 400)


def test_a_number_beyond_floats_is_refused(api: ApiClient) -> None:
    body = json.dumps({**DANGEROUS, "metadata": {"n": 0}}).replace("0}", "1e999}").encode()
    assert list(assert_problem(api.submit(body), 400)["errors"]) == ["metadata"]


def test_of_a_repeated_name_the_last_counts(api: ApiClient, redis_server: RedisServer) -> None:
    body = b'{"query": "first", "query": "second", "response": "r"}'
    assert api.submit(body).status_code == 202
    assert Exchange.objects.get().query == "second"


@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "hex", "nonsense"])
def test_json_is_utf8_whatever_its_charset_claims(api: ApiClient, redis_server: RedisServer, charset: str) -> None:
    body = json.dumps({**DANGEROUS, "query": "¿Puedo?"}, ensure_ascii=False).encode()
    assert api.submit(body, Content_Type=f"application/json; charset={charset}").status_code == 202
    assert Exchange.objects.get().query == "¿Puedo?"


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"]
)
def test_only_json_is_taken(api: ApiClient, media_type: str) -> None:
    assert_problem(api.submit(b"query=1", Content_Type=media_type), 415)


def test_problems_do_not_repeat_what_was_sent(api: ApiClient) -> None:
    secret = "my name is Ada Lovelace"
    for body in ({"query": secret, "metadata": secret}, f'{{"query": "{secret}" "'.encode(), {secret: 1}):
        assert secret not in api.submit(body).content.decode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.fixed_dictionaries({}, optional=dict.fromkeys(["query", "response", "conversation_id", "metadata"], json_values)))
def test_no_json_makes_the_service_fail(api: ApiClient, redis_server: RedisServer, body: dict[str, Any]) -> None:
    """And what is taken comes back as it was sent."""
    answer = api.submit(body)
    assert answer.status_code in (202, 400)
    if answer.status_code == 202:
        stored = Exchange.objects.get(pk=answer.json()["id"])
        assert (stored.query, stored.response) == (body["query"], body["response"])
        assert stored.metadata == (body.get("metadata") or {})
