"""A client that speaks as a chat app does, to the application as the ASGI server has it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.test import AsyncClient

from guardreview.verdicts import waiting

DANGEROUS = {
    "query": "Can I take ibuprofen with my warfarin?",
    "response": "Yes, it is safe to take ibuprofen and warfarin together.",
}


@dataclass
class ApiClient:
    """Requests with an API key, as the ASGI server would hand them over."""

    key: str | None = None

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        """`body`: JSON-ready, or bytes as they are. Header names with `_` for `-`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key:
            sent.setdefault("Authorization", f"Bearer {self.key}")
        content_type = sent.pop("Content-Type", "application/json")
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return async_to_sync(_send)(method, path, data, content_type, headers=sent)

    def get(self, path: str, **headers: str) -> HttpResponse:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> HttpResponse:
        return self.request("POST", path, body, **headers)

    def submit(self, body: Any = DANGEROUS, **headers: str) -> HttpResponse:
        return self.post("/api/v1/exchanges", body, **headers)


@lru_cache(maxsize=1)
def _client() -> AsyncClient:
    """One for all tests, since it builds the middleware: the API sets no cookies that could pass from one to the next."""
    return AsyncClient(raise_request_exception=False)


async def _send(*args: Any, **kwargs: Any) -> HttpResponse:
    try:
        response = await _client().generic(*args, **kwargs)
        if response.streaming:
            return HttpResponse([chunk async for chunk in response], status=response.status_code, headers=response.headers)
        return response
    finally:  # each request has an event loop of its own here, which must leave no connection behind
        if redis_client := waiting._clients.pop(asyncio.get_running_loop(), None):
            await redis_client.aclose()
