"""When two labelled exchanges are the same, and what must lie in one split with an exchange."""

from __future__ import annotations

import hashlib
import hmac

from django.conf import settings

from classifiers.examples import split_of
from guardreview.learning.training_data import group_of


def text_digest(query: str, response: str) -> str:
    """64 hex digits, the same for texts that differ in case and spacing alone."""
    return hashlib.sha256(" ".join(f"{query} {response}".casefold().split()).encode()).hexdigest()


def settled_group(query: str, response: str, talk: str = "") -> str:
    """The group of a settled label as training has it: one conversation (`talk`: which), or else one text, lies in one split."""
    return group_of(talk) if talk else group_of(query, response)


def exported_group(group: str) -> tuple[str, str]:
    """(group, split) of a label as it leaves the house, by its group in here.

    The group is hashed with a key: from a plain hash, whoever has the redacted text could find out by trial what was redacted.
    Of such hashes the first is taken that falls into the same split, so that all who train agree on the splits.
    """
    split = split_of(group)
    key, tried = settings.PSEUDONYM_KEY.encode(), 0
    while True:
        hashed = hmac.digest(key, f"group:{group}:{tried}".encode(), "sha512").hex()
        for start in range(0, len(hashed), 16):
            candidate = f"label-{hashed[start : start + 16]}"
            if split_of(candidate) == split:
                return candidate, split
        tried += 1
