"""An app is told, signed, when a pharmacist has settled one of its exchanges; and told again until it listens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.utils import timezone

from guardreview.api import tasks
from guardreview.api.webhooks import ATTEMPTS, FIRST_WAIT_S, LONGEST_WAIT_S, label_tell
from guardreview.core.models import App, OutboxEvent
from guardreview.core.outbox import outbox_deliver
from guardreview.core.services import webhook_secret_create
from guardreview.review.models import Label
from guardreview.verdicts.models import Exchange
from tests.api.reviews import review


class Listener:
    """An app's address: it keeps what it was sent, and answers with `status`."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(listener.status)
                if listener.status == 302:
                    self.send_header("Location", f"{listener.address}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Not to the tests' output."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def listening_app(chat_app: App, listener: Listener) -> App:
    chat_app.webhook_url = f"{listener.address}/hook"
    chat_app.save()
    return chat_app


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's part, without a worker."""
    monkeypatch.setattr(tasks.tell_app, "delay", tasks.tell_app)


def settle(exchange: Exchange) -> Label:
    review(exchange, truth="unsafe", categories=["misinformation"], severity="major")
    return Label.objects.get(exchange=exchange)


def signature_of(secret: str, headers: dict[str, str], body: bytes) -> str:
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def test_an_app_hears_of_a_settled_exchange_in_a_signed_call(decided: Exchange, listening_app: App, listener: Listener) -> None:
    label = settle(decided)
    assert listener.calls == []
    outbox_deliver()
    ((headers, body),) = listener.calls
    assert json.loads(body)["exchange"] == str(decided.pk)
    assert headers["webhook-id"] == f"label-{label.pk}"
    assert abs(int(headers["webhook-timestamp"]) - timezone.now().timestamp()) < 60
    assert headers["webhook-signature"] == signature_of(listening_app.webhook_secret, headers, body)
    assert OutboxEvent.objects.count() == 0


def test_a_call_holds_no_words_of_the_patient(decided: Exchange, listening_app: App, listener: Listener) -> None:
    settle(decided)
    outbox_deliver()
    ((_, body),) = listener.calls
    assert set(json.loads(body)) == {"type", "timestamp", "exchange"}
    assert not any(word in body.decode() for word in decided.response.split() if len(word) > 4)


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_is_not_taken_comes_again_later(decided: Exchange, listening_app: App, listener: Listener, status: int) -> None:
    label = settle(decided)
    listener.status = status
    outbox_deliver()
    assert len(listener.calls) == 1  # a redirect is not followed
    event = OutboxEvent.objects.get()
    assert event.target == f"{label.pk}:2"
    assert event.available_at > timezone.now()
    OutboxEvent.objects.update(available_at=timezone.now())
    listener.status = 200
    outbox_deliver()
    assert [headers["webhook-id"] for headers, _ in listener.calls] == [f"label-{label.pk}"] * 2
    assert OutboxEvent.objects.count() == 0


def test_an_app_that_is_away_is_called_ever_more_rarely_and_not_for_ever(decided: Exchange, listening_app: App) -> None:
    label = settle(decided)
    OutboxEvent.objects.all().delete()
    App.objects.update(webhook_url="http://127.0.0.1:9/")
    waits = []
    for attempt in range(1, ATTEMPTS + 1):
        assert not label_tell(label_id=label.pk, attempt=attempt)
        event = OutboxEvent.objects.first()
        waits.append(None if event is None else round((event.available_at - timezone.now()).total_seconds()))
        OutboxEvent.objects.all().delete()
    assert waits.pop() is None
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (FIRST_WAIT_S, LONGEST_WAIT_S)


def test_an_app_without_an_address_is_not_called(decided: Exchange, listener: Listener) -> None:
    label = settle(decided)
    outbox_deliver()
    assert (listener.calls, OutboxEvent.objects.count()) == ([], 0)
    assert not label_tell(label_id=label.pk)


def test_an_address_has_a_secret_from_the_start_and_a_new_one_counts_at_once(
    decided: Exchange, listening_app: App, listener: Listener
) -> None:
    old = listening_app.webhook_secret
    assert old.startswith("whsec_")
    new = webhook_secret_create(app=listening_app, actor="adam")
    settle(decided)
    outbox_deliver()
    ((headers, body),) = listener.calls
    assert headers["webhook-signature"] == signature_of(new, headers, body) != signature_of(old, headers, body)
