"""A bound on request bodies, before Django: its ASGI handler would first write a body of any size to the disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from asgiref.typing import ASGI3Application, ASGIReceiveCallable, ASGIReceiveEvent, ASGISendCallable, HTTPScope, Scope

from guardreview.api.problems import MEDIA_TYPE, problem

MAX_UPLOADS = 2
"""Bodies with files that a process takes at a time: they lie in its temporary folder, which is small."""
UPLOAD_S = 300.0
"""In which such a body must have come."""
RETRY_AFTER_S = 30


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class BodyLimit:
    """Answers 413 to a body that is declared to be, or turns out to be, over `max_bytes`, of which it reads no more.

    `files`: addresses that take files, and how many bytes. So many are taken of a POST alone whose `Cookie` header `may_upload`
    accepts, called in a thread, and of MAX_UPLOADS at a time: others get 503.
    """

    def __init__(
        self,
        app: ASGI3Application,
        *,
        max_bytes: int,
        files: Mapping[str, int] | None = None,
        may_upload: Callable[[str], bool] = lambda cookies: False,
    ) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.files = files or {}
        self.may_upload = may_upload
        self._uploads = 0

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            if not await self._is_upload(scope):
                await self._bounded(scope, receive, send, self.max_bytes, None)
                return
            if self._uploads >= MAX_UPLOADS:
                raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "Other files are being uploaded. Try again soon.")
            self._uploads += 1
            try:
                await self._bounded(scope, receive, send, self.files[scope["path"]], UPLOAD_S)
            finally:
                self._uploads -= 1
        except _Refused as refused:  # Django reads the whole body before it answers, so nothing was sent yet
            await _refuse(scope["path"], refused, send)

    async def _is_upload(self, scope: HTTPScope) -> bool:
        """Whether it may be as large as a file, and is not known to be small."""
        if scope["path"] not in self.files or scope["method"] != "POST":
            return False
        declared = _header(scope, b"content-length")
        if declared.isdigit() and int(declared) <= self.max_bytes:
            return False
        async with ThreadSensitiveContext():  # a thread of its own, as Django has one for each request
            return await sync_to_async(self.may_upload)(_header(scope, b"cookie").decode("latin-1"))

    async def _bounded(
        self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable, max_bytes: int, within_s: float | None
    ) -> None:
        """Raises _Refused."""
        received, ended = 0, False
        clock = asyncio.get_running_loop()
        deadline = None if within_s is None else clock.time() + within_s
        too_large = _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The request's body is larger than {max_bytes} bytes.")

        async def limited() -> ASGIReceiveEvent:
            nonlocal received, ended
            try:
                async with asyncio.timeout_at(None if ended else deadline):
                    message = await receive()
            except TimeoutError:
                raise _Refused(HTTPStatus.REQUEST_TIMEOUT, f"The request's body took longer than {within_s:.0f} s.") from None
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                ended = not message.get("more_body", False)
            if received > max_bytes:
                raise too_large
            return message

        declared = _header(scope, b"content-length")
        if declared.isdigit() and int(declared) > max_bytes:
            raise too_large
        await self.app(scope, limited, send)


def _header(scope: HTTPScope, name: bytes) -> bytes:
    """Several lines of it as one: HTTP/2 may divide cookies."""
    return b"; ".join(value for each, value in scope["headers"] if each == name)


async def _refuse(path: str, refused: _Refused, send: Any) -> None:
    body = json.dumps(problem(refused.status, str(refused), instance=path)).encode()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if refused.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    await send({"type": "http.response.start", "status": int(refused.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
