"""Telling an app that a pharmacist has settled one of its exchanges: a signed call, thin, and repeated until it is taken.

In the form of Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature` = "v1," and the base64 of
HMAC-SHA256(secret, "id.timestamp.body"). The body names the exchange and holds no patient's words: the app asks for the rest.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta

import httpx2
import structlog
from django.conf import settings
from django.utils import timezone

from guardreview.core.outbox import handles, outbox_add
from guardreview.review.models import Label
from guardreview.review.services import LABELLED

log = structlog.get_logger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 5, 3600
ATTEMPTS = 15
"""Over more than five hours. An app that was away for longer finds the outcomes by asking."""


@handles(LABELLED)
def _tell(target: str) -> None:
    """Hand it to a worker: the outbox is no place to wait for a network."""
    from guardreview.api.tasks import tell_app

    label_id, attempt = _read(target)
    if Label.objects.filter(pk=label_id).exclude(exchange__app__webhook_url="").exists():
        tell_app.delay(label_id, attempt)


def _read(target: str) -> tuple[int, int]:
    label_id, _, attempt = target.partition(":")
    return int(label_id), int(attempt or 1)


def label_tell(*, label_id: int, attempt: int = 1) -> bool:
    """Call the app's address once; whether it took it (2xx). If not, the outbox holds the next attempt."""
    label = Label.objects.select_related("exchange__app").get(pk=label_id)
    app = label.exchange.app
    if not (app.webhook_url and app.is_active):
        return False
    body = json.dumps({"type": "exchange.settled", "timestamp": label.created_at.isoformat(), "exchange": str(label.exchange_id)})
    try:
        # Of the reply only the status counts: its body is not read, however long it is.
        with httpx2.stream(
            "POST",
            app.webhook_url,
            content=body,
            headers={"content-type": "application/json", **signed_headers(app.webhook_secret, f"label-{label.pk}", body)},
            timeout=settings.WEBHOOK_TIMEOUT_S,
            follow_redirects=False,
            trust_env=False,
        ) as reply:
            said, taken = str(reply.status_code), reply.is_success
    except Exception as error:
        said, taken = type(error).__name__, False
    if not taken:
        log.warning("webhook_failed", app=app.pk, label=label.pk, attempt=attempt, said=said)
        if attempt < ATTEMPTS:
            wait = min(FIRST_WAIT_S * 2 ** (attempt - 1), LONGEST_WAIT_S)
            later = timezone.now() + timedelta(seconds=wait)
            outbox_add(topic=LABELLED, target=f"{label_id}:{attempt + 1}", available_at=later)
    return taken


def signed_headers(secret: str, identifier: str, body: str) -> dict[str, str]:
    """The three headers of one call, of the present moment. `secret`: "whsec_" and base64."""
    stamp = str(int(timezone.now().timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{identifier}.{stamp}.{body}".encode(), hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": identifier, "webhook-timestamp": stamp, "webhook-signature": signature}
