"""A bound on request bodies, before Django: its ASGI handler would first write a body of any size to the disk."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from asgiref.typing import ASGI3Application, ASGIReceiveCallable, ASGIReceiveEvent, ASGISendCallable, Scope

from guardreview.api.problems import MEDIA_TYPE, problem


class _BodyTooLarge(Exception):
    pass


class BodyLimit:
    """Answers 413 to a body that is declared to be, or turns out to be, over `max_bytes`, of which it reads no more."""

    def __init__(self, app: ASGI3Application, *, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received = 0

        async def limited() -> ASGIReceiveEvent:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b"")) if message["type"] == "http.request" else 0
            if received > self.max_bytes:
                raise _BodyTooLarge
            return message

        declared = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            if declared.isdigit() and int(declared) > self.max_bytes:
                raise _BodyTooLarge
            await self.app(scope, limited, send)
        except _BodyTooLarge:  # Django reads the whole body before it answers, so nothing was sent yet
            await self._refuse(scope["path"], send)

    async def _refuse(self, path: str, send: Any) -> None:
        detail = f"The request's body is larger than {self.max_bytes} bytes."
        body = json.dumps(problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, instance=path)).encode()
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
