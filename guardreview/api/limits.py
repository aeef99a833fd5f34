"""A bound on request bodies, before Django: its ASGI handler would first write a body of any size to the disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from asgiref.typing import ASGI3Application, ASGIReceiveCallable, ASGIReceiveEvent, ASGISendCallable, Scope

from guardreview.api.problems import MEDIA_TYPE, problem


class _BodyTooLarge(Exception):
    pass


class BodyLimit:
    """Answers 413 to a body that is declared to be, or turns out to be, over `max_bytes`, of which it reads no more.

    `files`: addresses that take files, and how many bytes.
    """

    def __init__(self, app: ASGI3Application, *, max_bytes: int, files: Mapping[str, int] | None = None) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.files = files or {}

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received, max_bytes = 0, self.files.get(scope["path"], self.max_bytes)

        async def limited() -> ASGIReceiveEvent:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b"")) if message["type"] == "http.request" else 0
            if received > max_bytes:
                raise _BodyTooLarge
            return message

        declared = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            if declared.isdigit() and int(declared) > max_bytes:
                raise _BodyTooLarge
            await self.app(scope, limited, send)
        except _BodyTooLarge:  # Django reads the whole body before it answers, so nothing was sent yet
            await self._refuse(scope["path"], max_bytes, send)

    async def _refuse(self, path: str, max_bytes: int, send: Any) -> None:
        detail = f"The request's body is larger than {max_bytes} bytes."
        body = json.dumps(problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, instance=path)).encode()
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
