"""When a reviewer has decided so many critical answers on end that a pause is due."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from classifiers.result import Severity
from guardreview.core.models import User
from guardreview.review.models import Review
from guardreview.review.visibility import STILL_BLIND

PAUSE = timedelta(minutes=10)
"""So long without a decision counts as a pause."""


def critical_on_end(*, user: User, since: datetime | None = None) -> int:
    """How many critical items this person has decided, after `since`, without a pause in between; at most `PAUSE_AFTER`."""
    # How severe a blind item is must not be told while its decision could be said anew.
    reviews = Review.objects.filter(reviewer=user, undone_at=None).exclude(STILL_BLIND).order_by("-created_at")
    if since is not None:
        reviews = reviews.filter(created_at__gt=since)
    before, count = timezone.now(), 0
    for created_at, severity in reviews.values_list("created_at", "item__severity")[: 10 * settings.PAUSE_AFTER]:
        if before - created_at >= PAUSE or count == settings.PAUSE_AFTER:
            break
        before = created_at
        count += severity == Severity.CRITICAL
    return count


def pause_is_due(*, user: User, since: datetime | None = None) -> bool:
    """Whether to offer a pause; `since`: when one was offered last."""
    return bool(settings.PAUSE_AFTER) and critical_on_end(user=user, since=since) >= int(settings.PAUSE_AFTER)
