"""A pharmacist's part in the tests."""

from __future__ import annotations

from guardreview.core.models import User
from guardreview.review.leases import item_lease
from guardreview.review.services import review_create
from guardreview.verdicts.models import Exchange, ReviewItem


def review(exchange: Exchange, *, truth: str, categories: list[str] | None = None, severity: str = "") -> None:
    """Lease the exchange's item and say what is true of it, which settles its label."""
    user, _ = User.objects.get_or_create(username="pat")
    item = item_lease(item=ReviewItem.objects.get(exchange=exchange), user=user)
    assert item.lease_token is not None
    review_create(item=item, reviewer=user, token=item.lease_token, truth=truth, categories=categories, severity=severity)
