"""Telling an app that a pharmacist has settled one of its exchanges: a signed call, thin, and repeated until it is taken.

In the form of Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature` = "v1," and the base64 of
HMAC-SHA256(secret, "id.timestamp.body"). The body names the exchange and holds no patient's words: the app asks for the rest.

Each call is an event of the outbox from the label on until the app has taken it; no queue holds it meanwhile. The events of an
app have a topic of their own, and the apps have turns, one at a time each: one that is slow holds up itself.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from ssl import SSLContext

import httpx2
import structlog
from django.conf import settings
from django.db.models import Min
from django.utils import timezone

from guardreview.core.models import App, OutboxEvent
from guardreview.core.outbox import handles, outbox_add, outbox_lease, outbox_put_off
from guardreview.review.models import Label
from guardreview.review.services import LABELLED

log = structlog.get_logger(__name__)

CALL, GIVEN_UP = "webhook.", "webhook-given-up."
"""The outbox's topics begin so and end with an app's key. The target is the label's key."""
FIRST_WAIT_S, LONGEST_WAIT_S = 5, 3600
ATTEMPTS = 15
"""Over more than five hours. An app that was away for longer finds the outcomes by asking."""
AT_ONCE = 8
"""Calls to one app at a time."""
TURN_S = 10
"""After which another app has its turn."""
LEASE_S = 60
"""Longer than calls at once can take: when it has passed, those of a worker that died are made again."""
_turns: set[int] = set()
_turns_change = threading.Lock()


@handles(LABELLED)
def _plan_call(target: str) -> None:
    label_id = int(target.partition(":")[0])
    labels = Label.objects.filter(pk=label_id).exclude(exchange__app__webhook_url="")
    for app_id in labels.values_list("exchange__app_id", flat=True):
        outbox_add(topic=f"{CALL}{app_id}", target=str(label_id), available_at=timezone.now())


def apps_waiting() -> list[int]:
    """The keys of the apps that are to be called now, the one that has waited longest first."""
    due = OutboxEvent.objects.filter(topic__startswith=CALL, available_at__lte=timezone.now())
    topics = due.values("topic").annotate(since=Min("available_at")).order_by("since").values_list("topic", flat=True)
    return [int(topic.removeprefix(CALL)) for topic in topics]


def app_tell(*, app_id: int) -> int:
    """An app's turn: call it until nothing is due, it takes no call, or the time is over; how many it took.

    What it does not take comes again later. 0 at once if another thread gives it its turn.
    """
    count = 0
    with _turn(app_id) as mine:
        end = time.monotonic() + TURN_S
        while mine and time.monotonic() < end:
            taken = _call_some(app_id)
            count += taken
            if not taken:
                break
    return count


@contextmanager
def _turn(app_id: int) -> Iterator[bool]:
    with _turns_change:
        mine = app_id not in _turns
        _turns.add(app_id)
    try:
        yield mine
    finally:
        if mine:
            _turns.discard(app_id)


def _call_some(app_id: int) -> int:
    app = App.objects.filter(pk=app_id, is_active=True).exclude(webhook_url="").first()
    if app is None:
        OutboxEvent.objects.filter(topic__in=[f"{CALL}{app_id}", f"{GIVEN_UP}{app_id}"]).delete()
        return 0
    events = outbox_lease(topic=f"{CALL}{app_id}", limit=AT_ONCE, for_s=LEASE_S)
    if not events:
        return 0
    found = Label.objects.in_bulk([int(event.target) for event in events])
    labels = [found[int(event.target)] for event in events]
    said = _post_all(app, labels)
    taken = [event.pk for event, status in zip(events, said, strict=True) if status.startswith("2")]
    for event, status in zip(events, said, strict=True):
        if event.pk not in taken:
            _not_taken(app, event, status)
    OutboxEvent.objects.filter(pk__in=taken).delete()
    if taken:
        OutboxEvent.objects.filter(topic=f"{GIVEN_UP}{app_id}").delete()  # it is back
    return len(taken)


def _not_taken(app: App, event: OutboxEvent, said: str) -> None:
    attempt = event.attempts + 1
    if attempt < ATTEMPTS:
        log.warning("webhook_failed", app=app.pk, label=event.target, attempt=attempt, said=said)
        outbox_put_off(event, wait_s=min(FIRST_WAIT_S * 2 ** (attempt - 1), LONGEST_WAIT_S))
    else:
        log.error("webhook_given_up", app=app.pk, label=event.target, attempt=attempt, said=said)
        # Kept until it takes a call again, so that an administrator sees it.
        OutboxEvent.objects.filter(pk=event.pk).update(topic=f"{GIVEN_UP}{app.pk}", attempts=attempt)


# --- The calls ------------------------------------------------------------------------------------------------------------
def _post_all(app: App, labels: Sequence[Label]) -> list[str]:
    """What was said to each call: the status, or the error's name. Over after WEBHOOK_TIMEOUT_S, whatever the other end does."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_post_each(app, labels))
    finally:
        # Not `asyncio.run`, which waits for a name that is still looked up: no timeout ends that.
        loop.close()


async def _post_each(app: App, labels: Sequence[Label]) -> list[str]:
    async with httpx2.AsyncClient(timeout=None, verify=_tls(), follow_redirects=False, trust_env=False) as client:
        return await asyncio.gather(*(_post(client, app, label) for label in labels))


async def _post(client: httpx2.AsyncClient, app: App, label: Label) -> str:
    body = json.dumps({"type": "exchange.settled", "timestamp": label.created_at.isoformat(), "exchange": str(label.exchange_id)})
    try:
        # A timeout of the client's would count from one byte to the next.
        async with asyncio.timeout(settings.WEBHOOK_TIMEOUT_S):
            headers = {"content-type": "application/json", **signed_headers(app.webhook_secret, f"label-{label.pk}", body)}
            # Of the reply only the status counts: its body is not read, however long it is.
            async with client.stream("POST", app.webhook_url, content=body, headers=headers) as reply:
                return str(reply.status_code)
    except Exception as error:
        return type(error).__name__


@cache
def _tls() -> SSLContext:
    return httpx2.create_ssl_context()


def signed_headers(secret: str, identifier: str, body: str) -> dict[str, str]:
    """The three headers of one call, of the present moment. `secret`: "whsec_" and base64."""
    stamp = str(int(timezone.now().timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{identifier}.{stamp}.{body}".encode(), hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": identifier, "webhook-timestamp": stamp, "webhook-signature": signature}
