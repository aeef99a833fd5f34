"""Which items' personal data a session is shown unmasked, and until when."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast

from django.http import HttpRequest
from django.utils import timezone

from guardreview.core.models import User
from guardreview.core.roles import Act

REVEALED = "revealed"
"""Where the session keeps until when each item's personal data is shown."""
REVEAL_LASTS = timedelta(minutes=10)
MAX_REVEALED = 20
MAX_REASON = 200
REASONS = (
    "To tell whether it is personal data",
    "The advice depends on it",
    "To reach the patient or the prescriber",
    "To check that the masking is right",
)


def revealed_until(request: HttpRequest, item_id: int) -> datetime | None:
    """Until when this session is shown the item's personal data; None if it is masked."""
    until = _revealed(request).get(str(item_id))
    return datetime.fromisoformat(until) if until else None


def reveal(request: HttpRequest, item_id: int) -> None:
    """Show the item's personal data to this session for REVEAL_LASTS."""
    until = (timezone.now() + REVEAL_LASTS).isoformat()
    others = [pair for pair in _revealed(request).items() if pair[0] != str(item_id)]
    request.session[REVEALED] = dict([*others, (str(item_id), until)][-MAX_REVEALED:])


def conceal(request: HttpRequest, item_id: int) -> None:
    """Mask it again, before its time."""
    request.session[REVEALED] = {item: until for item, until in _revealed(request).items() if item != str(item_id)}


def _revealed(request: HttpRequest) -> dict[str, str]:
    """What is revealed now, by item; nothing to whoever may not reveal, whatever the session says."""
    if not cast(User, request.user).may(Act.REVEAL):
        return {}
    now = timezone.now()
    kept = request.session.get(REVEALED, {})
    return {item: until for item, until in kept.items() if datetime.fromisoformat(until) > now}
