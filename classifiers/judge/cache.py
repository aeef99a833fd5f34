"""Judgments that were given once, kept for a short while: the same exchange asked again costs nothing.

Kept are well-formed judgments alone, never a failure. The key is an HMAC of all that a judgment depends on, so neither query
nor response can be read from it; quotes are kept as offsets. The judge's `reason`, though, may repeat a patient's words: give
the store a short life. Each value carries an HMAC of its own: who can write to the store, but lacks the secret, cannot make
a response safe. A store that cannot be reached is one that holds nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import Sequence

from pydantic import BaseModel, ValidationError

from classifiers.judge.reply import SafetyJudgment, checked_quotes
from classifiers.judge.store import CacheStore, StoreUnavailable

log = logging.getLogger(__name__)


class _Entry(BaseModel):
    judgment: SafetyJudgment  # without its quotes
    spans: list[tuple[int, int]]
    dropped: int


class JudgeCache:
    """`secret`: shared by all who share the store. `context`: what the judgment depends on besides the judge's version, the
    options and the texts: the endpoint, and the policy's version."""

    def __init__(self, store: CacheStore, *, ttl_s: float, secret: bytes, context: Sequence[str] = ()) -> None:
        self.store = store
        self.ttl_s = ttl_s
        self.secret = secret
        self.context = tuple(context)

    def key(self, *parts: object) -> str:
        """The store's key for a judgment that depends on these JSON-ready values, and on the context."""
        return self._mac("key", json.dumps([self.context, parts], sort_keys=True))

    async def get(self, key: str, response_text: str) -> tuple[SafetyJudgment, int] | None:
        """The judgment, and how many of its quotes were not in the response; None if there is none.

        Checked like one that came from the provider: its form, and that its quotes occur in the response.
        """
        try:
            value = await asyncio.to_thread(self.store.get, key)
        except StoreUnavailable as error:
            log.warning("the judge's cache: %s", error)
            return None
        return None if value is None else self._opened(key, value, response_text)

    async def put(self, key: str, judgment: SafetyJudgment, response_text: str) -> None:
        evidence, dropped = checked_quotes(judgment, response_text)
        entry = _Entry(
            judgment=judgment.model_copy(update={"quotes": []}),
            spans=[(found.start, found.end) for found in evidence],
            dropped=dropped,
        )
        text = entry.model_dump_json()
        try:
            await asyncio.to_thread(self.store.put, key, f"{self._mac(key, text)}{text}".encode(), self.ttl_s)
        except StoreUnavailable as error:
            log.warning("the judge's cache: %s", error)

    def _opened(self, key: str, value: bytes, response_text: str) -> tuple[SafetyJudgment, int] | None:
        sealed = value.decode(errors="replace")
        mac, text = sealed[:64], sealed[64:]
        if not hmac.compare_digest(mac.encode(), self._mac(key, text).encode()):
            return None
        try:
            entry = _Entry.model_validate_json(text)
        except ValidationError:  # written by another release
            return None
        quotes = [response_text[start:end] for start, end in entry.spans]
        judgment = entry.judgment.model_copy(update={"quotes": quotes})
        found, _ = checked_quotes(judgment, response_text)
        if [(evidence.start, evidence.end) for evidence in found] != entry.spans:
            return None
        return judgment, entry.dropped

    def _mac(self, purpose: str, text: str) -> str:
        return hmac.new(self.secret, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()
