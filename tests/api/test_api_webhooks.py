"""An app is told, signed, when a pharmacist has settled one of its exchanges; and told again until it listens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from celery.app.task import Task
from django.db import connection
from django.db.models import QuerySet
from django.test import Client
from django.utils import timezone

from guardreview.api import webhooks
from guardreview.api.tasks import tell_apps
from guardreview.api.webhooks import AT_ONCE, ATTEMPTS, FIRST_WAIT_S, LEASE_S, LONGEST_WAIT_S, app_tell, apps_waiting
from guardreview.celery import app as celery_app
from guardreview.core.models import App, OutboxEvent, User
from guardreview.core.outbox import outbox_add, outbox_deliver
from guardreview.core.roles import Role
from guardreview.core.services import webhook_secret_create
from guardreview.review.models import Label
from guardreview.verdicts.models import Exchange
from tests.api.reviews import review
from tests.redis_server import RedisServer


class Listener:
    """An app's address: it keeps what it was sent, and answers with `status`."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.refused = 0
        """So many of the next calls are answered with 500."""
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
                refuses, listener.refused = listener.refused > 0, max(listener.refused - 1, 0)
                self.send_response(500 if refuses else listener.status)
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


@pytest.fixture
def away(chat_app: App) -> App:
    """Nobody listens at the app's address."""
    chat_app.webhook_url = "http://127.0.0.1:9/"
    chat_app.save()
    return chat_app


def settle(exchange: Exchange) -> Label:
    review(exchange, truth="unsafe", categories=["misinformation"], severity="major")
    return Label.objects.get(exchange=exchange)


def tell() -> None:
    """What beat has two workers do every other second."""
    outbox_deliver()
    tell_apps()


def calls() -> QuerySet[OutboxEvent]:
    """Those that are still to be made, or were given up."""
    return OutboxEvent.objects.filter(topic__startswith="webhook")


def make_due() -> None:
    """As if the waits were over."""
    calls().update(available_at=timezone.now())


def signature_of(secret: str, headers: dict[str, str], body: bytes) -> str:
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def test_an_app_hears_of_a_settled_exchange_in_a_signed_call(decided: Exchange, listening_app: App, listener: Listener) -> None:
    label = settle(decided)
    assert listener.calls == []
    tell()
    ((headers, body),) = listener.calls
    assert json.loads(body)["exchange"] == str(decided.pk)
    assert headers["webhook-id"] == f"label-{label.pk}"
    assert abs(int(headers["webhook-timestamp"]) - timezone.now().timestamp()) < 60
    assert headers["webhook-signature"] == signature_of(listening_app.webhook_secret, headers, body)
    assert not calls().exists()


def test_a_call_holds_no_words_of_the_patient(decided: Exchange, listening_app: App, listener: Listener) -> None:
    settle(decided)
    tell()
    ((_, body),) = listener.calls
    assert set(json.loads(body)) == {"type", "timestamp", "exchange"}
    assert not any(word in body.decode() for word in decided.response.split() if len(word) > 4)


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_is_not_taken_comes_again_later(decided: Exchange, listening_app: App, listener: Listener, status: int) -> None:
    label = settle(decided)
    listener.status = status
    tell()
    assert len(listener.calls) == 1  # a redirect is not followed
    event = calls().get()
    assert (event.target, event.attempts) == (str(label.pk), 1)
    assert event.available_at > timezone.now()
    make_due()
    listener.status = 200
    tell()
    assert [headers["webhook-id"] for headers, _ in listener.calls] == [f"label-{label.pk}"] * 2
    assert not calls().exists()


def test_an_app_that_is_away_is_called_ever_more_rarely_and_not_for_ever(decided: Exchange, away: App) -> None:
    settle(decided)
    waits = []
    for attempt in range(1, ATTEMPTS):
        tell()
        event = calls().get()
        assert event.attempts == attempt
        waits.append(round((event.available_at - timezone.now()).total_seconds()))
        make_due()
    tell()
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (FIRST_WAIT_S, LONGEST_WAIT_S)
    make_due()
    assert apps_waiting() == []


def test_an_app_without_an_address_is_not_called(decided: Exchange, listener: Listener) -> None:
    settle(decided)
    tell()
    assert (listener.calls, calls().count()) == ([], 0)


def test_an_address_has_a_secret_from_the_start_and_a_new_one_counts_at_once(
    decided: Exchange, listening_app: App, listener: Listener
) -> None:
    old = listening_app.webhook_secret
    assert old.startswith("whsec_")
    new = webhook_secret_create(app=listening_app, actor="adam")
    settle(decided)
    tell()
    ((headers, body),) = listener.calls
    assert headers["webhook-signature"] == signature_of(new, headers, body) != signature_of(old, headers, body)


# --- Nothing is lost ------------------------------------------------------------------------------------------------------
def test_the_outbox_says_who_is_to_be_called_without_a_broker_and_without_a_call(
    decided: Exchange, listening_app: App, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = settle(decided)
    monkeypatch.setattr(Task, "apply_async", lambda *args, **options: pytest.fail("a task was published"))
    outbox_deliver()
    assert listener.calls == []
    event = calls().get()
    assert (event.topic, event.target) == (f"webhook.{listening_app.pk}", str(label.pk))
    assert apps_waiting() == [listening_app.pk]


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_during_a_call(
    decided: Exchange, listening_app: App, listener: Listener, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(decided)
    outbox_deliver()
    post, open_ones = webhooks._post_all, []

    def watched(app: App, labels: Any) -> list[str]:
        open_ones.append(connection.in_atomic_block)
        return post(app, labels)

    monkeypatch.setattr(webhooks, "_post_all", watched)
    tell_apps()
    assert (open_ones, len(listener.calls)) == ([False], 1)


def test_a_call_whose_worker_died_is_made_again(
    decided: Exchange, listening_app: App, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(app: App, labels: Any) -> list[str]:
        raise SystemExit

    settle(decided)
    outbox_deliver()
    with monkeypatch.context() as patch:
        patch.setattr(webhooks, "_post_all", die)
        with pytest.raises(SystemExit):
            tell_apps()
    tell_apps()
    assert listener.calls == []  # as it may still be under way
    calls().update(available_at=calls().get().available_at - timedelta(seconds=LEASE_S))
    tell_apps()
    assert len(listener.calls) == 1
    assert not calls().exists()


def test_many_calls_go_in_one_turn_and_one_that_is_refused_keeps_no_other(
    decided: Exchange, listening_app: App, listener: Listener
) -> None:
    label = settle(decided)
    OutboxEvent.objects.all().delete()
    for _ in range(3 * AT_ONCE + 1):
        outbox_add(topic=f"webhook.{listening_app.pk}", target=str(label.pk), available_at=timezone.now())
    listener.refused = 1
    assert app_tell(app_id=listening_app.pk) == 3 * AT_ONCE
    assert len(listener.calls) == 3 * AT_ONCE + 1
    assert calls().get().attempts == 1


@pytest.mark.parametrize("change", [{"is_active": False}, {"webhook_url": ""}])
def test_an_app_that_is_no_longer_to_be_called_is_not(
    decided: Exchange, listening_app: App, listener: Listener, change: dict[str, Any]
) -> None:
    settle(decided)
    outbox_deliver()
    App.objects.update(**change)
    tell_apps()
    assert (listener.calls, calls().count()) == ([], 0)


def test_beat_has_apps_told_on_a_queue_that_nothing_else_uses(settings: Any) -> None:
    assert tell_apps.name in {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    queue = celery_app.amqp.router.route({}, tell_apps.name)["queue"].name
    others = {celery_app.amqp.router.route({}, name)["queue"].name for name in celery_app.tasks if name != tell_apps.name}
    assert queue not in others


# --- A server that answers when it likes ----------------------------------------------------------------------------------
class Dripping:
    """An app's address that sends one byte of its reply every tenth of a second, and no end of them."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.server.getsockname()[1]}/"
        self.called, self.left, self.over = threading.Event(), threading.Event(), threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while not self.over.is_set():
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.drip, args=[peer], daemon=True).start()

    def drip(self, peer: socket.socket) -> None:
        with peer:
            peer.recv(65536)
            self.called.set()
            try:
                peer.sendall(b"HTTP/1.1 200 OK\r\nx-slow: ")
                while not self.over.wait(0.1):
                    peer.sendall(b"a")
            except OSError:
                self.left.set()


@pytest.fixture
def dripping() -> Iterator[Dripping]:
    made = Dripping()
    yield made
    made.over.set()
    made.server.close()


def seconds(call: Callable[[], object]) -> float:
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


def test_a_server_that_drips_is_left_at_the_deadline(decided: Exchange, chat_app: App, dripping: Dripping, settings: Any) -> None:
    settings.WEBHOOK_TIMEOUT_S = 0.5
    chat_app.webhook_url = dripping.address
    chat_app.save()
    settle(decided)
    outbox_deliver()
    assert 0.5 <= seconds(tell_apps) < 2
    assert dripping.left.wait(2)  # the connection is closed, too
    assert calls().get().attempts == 1


def test_a_name_that_is_looked_up_for_ever_ends_at_the_deadline_too(
    decided: Exchange, chat_app: App, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOK_TIMEOUT_S = 0.3
    chat_app.webhook_url = "http://pharmacy.example/"
    chat_app.save()
    settle(decided)
    outbox_deliver()
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: answered.wait(20))
    try:
        assert 0.3 <= seconds(tell_apps) < 2
    finally:
        answered.set()
    assert calls().get().attempts == 1


@pytest.mark.django_db(transaction=True)
def test_a_slow_app_takes_one_thread_and_holds_up_no_other(
    decided: Exchange, listening_app: App, listener: Listener, dripping: Dripping, settings: Any
) -> None:
    settings.WEBHOOK_TIMEOUT_S = 1.5
    label = settle(decided)
    slow = App.objects.create(name="slow", webhook_url=dripping.address)
    OutboxEvent.objects.all().delete()
    for app in [slow] * 2 * AT_ONCE + [listening_app]:
        outbox_add(topic=f"webhook.{app.pk}", target=str(label.pk), available_at=timezone.now())

    def work() -> None:
        tell_apps()
        connection.close()

    first = threading.Thread(target=work)
    first.start()
    assert dripping.called.wait(5)
    assert seconds(tell_apps) < 1
    assert len(listener.calls) == 1
    first.join(10)
    assert calls().filter(attempts=1).count() == AT_ONCE  # its turn ended when it took none
    assert not webhooks._turns


# --- Who looks after it ---------------------------------------------------------------------------------------------------
def test_an_administrator_sees_what_waits_for_an_app_and_what_was_given_up(decided: Exchange, away: App, client: Client) -> None:
    client.force_login(User.objects.create(username="adam", role=Role.ADMINISTRATOR))

    def page() -> str:
        return client.get("/admin/core/app/").content.decode()

    assert "nothing waiting" in page()
    settle(decided)
    tell()
    assert "1 waiting, for up to 0\xa0minutes; failed up to 1 times" in page()
    calls().update(attempts=ATTEMPTS - 1, available_at=timezone.now())
    tell()
    assert "1 given up since it last took a call" in page()
    assert "waiting" not in page()


def test_what_was_given_up_is_forgotten_once_the_app_takes_a_call(
    decided: Exchange, listening_app: App, listener: Listener
) -> None:
    label = settle(decided)
    listener.status = 500
    outbox_deliver()
    calls().update(attempts=ATTEMPTS - 1)
    tell_apps()
    assert calls().get().topic == f"webhook-given-up.{listening_app.pk}"
    listener.status = 200
    outbox_add(topic=f"webhook.{listening_app.pk}", target=str(label.pk), available_at=timezone.now())
    tell_apps()
    assert len(listener.calls) == 2
    assert not calls().exists()
