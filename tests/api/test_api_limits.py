"""The bound on bodies in front of Django."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from guardreview.api import limits
from guardreview.api.limits import BodyLimit
from guardreview.core.roles import Act
from guardreview.core.sessions import session_may
from tests import scenes


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

    scope = {"type": "http", "method": "POST", "path": "/api/v1/exchanges", "headers": headers}
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


async def _upload(limit: BodyLimit, chunks: list[bytes | float], *, cookie: str = "mine", **more: Any) -> tuple[int, bytes]:
    """(status, body) of a POST to the address of files. A number among the chunks: so many seconds nothing comes."""
    sent: list[dict[str, Any]] = []
    waiting = list(chunks)

    async def receive() -> dict[str, Any]:
        while isinstance(waiting[0], float):
            await asyncio.sleep(waiting.pop(0))
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/files", "headers": [(b"cookie", cookie.encode())], **more}
    await limit(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] != 503 or (b"retry-after", b"30") in sent[0]["headers"]
    return sent[0]["status"], sent[1]["body"]


def _files() -> BodyLimit:
    return BodyLimit(_application, max_bytes=100, files={"/files": 1_000}, may_upload="mine".__eq__)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 200),
        ({"cookie": "somebody's"}, 413),
        ({"cookie": ""}, 413),
        ({"method": "PUT"}, 413),
        ({"path": "/files/"}, 413),
    ],
)
def test_the_bound_of_files_is_for_those_who_may_bring_some(given: dict[str, Any], status: int) -> None:
    assert asyncio.run(_upload(_files(), [b"x" * 500], **given))[0] == status


def test_of_large_uploads_few_are_taken_at_a_time_and_small_ones_still_are() -> None:
    limit = _files()
    small = [(b"cookie", b"mine"), (b"content-length", b"50")]

    async def all_at_once() -> list[int]:
        slow = [_upload(limit, [b"x" * 500, 0.05, b"x"]) for _ in range(limits.MAX_UPLOADS + 1)]
        found = await asyncio.gather(*slow, _upload(limit, [b"x" * 50], headers=small))
        return [status for status, _ in [*found, await _upload(limit, [b"x" * 500])]]

    statuses = asyncio.run(all_at_once())
    assert sorted(statuses[:3]) == [200, 200, 503]
    assert statuses[3:] == [200, 200], "a small body needs no place, and a place is given back"


def test_an_upload_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPLOAD_S", 0.05)
    limit = _files()
    assert asyncio.run(_upload(limit, [b"x" * 10, 5.0, b"x"]))[0] == 408
    assert limit._uploads == 0


@pytest.mark.django_db
def test_a_session_says_who_may_bring_files() -> None:
    people = scenes.people()

    def may(name: str) -> bool:
        client = Client()
        client.force_login(people[name], backend="django.contrib.auth.backends.ModelBackend")
        return session_may(f"theme=dark; {client.cookies.output(attrs=[], header='', sep=';').strip()}", Act.IMPORT_LABELS)

    assert (may("lea"), may("ana")) == (True, False)
    people["lea"].is_active = False
    people["lea"].save()
    assert not may("lea")
    assert not session_may("", Act.IMPORT_LABELS)
    assert not session_may(f"{settings.SESSION_COOKIE_NAME}=made-up", Act.IMPORT_LABELS)


@pytest.mark.django_db
def test_the_server_has_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    from guardreview import asgi

    monkeypatch.setattr("guardreview.api.base.close_old_connections", lambda: None)  # the test's own would go

    try:
        assert isinstance(asgi.application, BodyLimit)
        assert asgi.application.max_bytes == settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        assert asgi.application.files == {"/learning/labels/imports": settings.IMPORT_MAX_BYTES + 2**16}
        assert not asgi.application.may_upload("")
        assert settings.DATA_UPLOAD_MAX_MEMORY_SIZE >= 2 * 12 * settings.MAX_TEXT_CHARS, "two texts of escaped surrogate pairs"
    finally:
        if asgi.held_connection is not None:
            asgi.held_connection.close()
