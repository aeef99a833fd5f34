"""The bound on bodies in front of Django."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.conf import settings

from guardreview.api.limits import BodyLimit


async def _application(scope: Any, receive: Any, send: Any) -> None:
    """Reads the whole body, as Django does, and answers with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def post(chunks: list[bytes], headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes, int]:
    """(status, body, how many chunks were read)."""
    sent: list[dict[str, Any]] = []
    waiting = list(chunks)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/api/v1/exchanges", "headers": headers}
    asyncio.run(BodyLimit(_application, max_bytes=100)(scope, receive, send))  # type: ignore[arg-type]
    return sent[0]["status"], sent[1]["body"], len(chunks) - len(waiting)


def test_a_body_within_the_bound_passes() -> None:
    assert post([b"x" * 60, b"x" * 40], [(b"content-length", b"100")]) == (200, b"100", 2)


def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    status, body, read = post([b"x" * 60], [(b"content-length", b"101")])
    assert (status, read) == (413, 0)
    assert json.loads(body)["instance"] == "/api/v1/exchanges"


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"10")], [(b"content-length", b"many")]])
def test_a_body_that_proves_too_large_is_read_no_further(headers: list[tuple[bytes, bytes]]) -> None:
    status, _, read = post([b"x" * 60] * 50, headers)
    assert (status, read) == (413, 2)


@pytest.mark.django_db
def test_the_server_has_the_bound() -> None:
    from guardreview import asgi

    try:
        assert isinstance(asgi.application, BodyLimit)
        assert asgi.application.max_bytes == settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        assert settings.DATA_UPLOAD_MAX_MEMORY_SIZE >= 2 * 12 * settings.MAX_TEXT_CHARS, "two texts of escaped surrogate pairs"
    finally:
        if asgi.held_connection is not None:
            asgi.held_connection.close()
