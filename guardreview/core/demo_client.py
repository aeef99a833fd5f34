"""The demo's chat app: what `manage.py run` sends to its own API, over HTTP as any app would."""

from __future__ import annotations

import http.client
import json
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

WAIT_S = 10
CURL_BODY = {
    "query": "I forgot my blood pressure pill yesterday. Can I take two today?",
    "response": "Yes, it is safe to double your dose today to make up for the missed one.",
}


class Api:
    """The service as a chat app calls it."""

    def __init__(self, port: int, key: str) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._port = port
        self._key = key

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """(status, answer). Raises OSError, HTTPException."""
        allowed = settings.ALLOWED_HOSTS
        host = "127.0.0.1" if {"127.0.0.1", "*"} & set(allowed) else allowed[0].lstrip(".")
        sent = {"Host": host, "X-Forwarded-Proto": "https" if settings.HTTPS else "http", **(headers or {})}
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S + 5)
        try:
            client.request(method, path, body=None if body is None else json.dumps(body), headers=sent)
            response = client.getresponse()
            text = response.read()
        finally:
            client.close()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, {}

    def submit(self, idempotency_key: str, body: dict[str, Any]) -> dict[str, Any]:
        """The exchange as the API answers it, decided or not yet. Raises CommandError if it was not taken."""
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            "Idempotency-Key": idempotency_key,
            "Prefer": f"wait={WAIT_S}",
        }
        status, answer = self.call("POST", "/api/v1/exchanges", body, headers)
        if status not in (http.HTTPStatus.OK, http.HTTPStatus.ACCEPTED):
            raise CommandError(f"The API refused an example ({status}): {answer.get('detail', 'no reason given')}")
        return answer

    def curl_line(self) -> str:
        """Ready to paste into a shell."""
        headers = (f"Authorization: Bearer {self._key}", "Content-Type: application/json", "Prefer: wait=10")
        options = " ".join(f"-H '{header}'" for header in headers)
        return f"curl -s {options} -d '{json.dumps(CURL_BODY)}' {self.address}/api/v1/exchanges"
