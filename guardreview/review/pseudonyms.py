"""What reviewers are called outside of this installation: the same name each time, and nobody can tell whose it is."""

from __future__ import annotations

import hmac
from functools import lru_cache

from django.conf import settings


@lru_cache(maxsize=10_000)
def reviewer_pseudonym(reviewer_id: int) -> str:
    """A keyed hash of the account's key: whoever has not the installation's secret cannot count through the few there are."""
    digest = hmac.digest(settings.PSEUDONYM_KEY.encode(), f"reviewer:{reviewer_id}".encode(), "sha256")
    return f"reviewer-{digest.hex()[:12]}"
