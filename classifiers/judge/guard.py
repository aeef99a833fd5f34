"""What stands between the judge and its provider: a circuit breaker, a cap on concurrent judgments, a daily budget.

Their state lies in a `GuardStore`: `InProcessStore` for a program of one process, one in Redis where several workers share
it.

What holds where the store cannot be read: no breaker and no cap, since both only spare the provider, and the worker's own
number of threads bounds the calls; a budget is not exceeded unseen, so with one set nothing is called. None of it can make
a response safe: what is not called is a failed judgment, hence held.

Why not pybreaker: its `call` takes no coroutine (its asynchronous one needs Tornado), and its Redis storage shares the state
alone, so that after the cool-down each worker would send a probe, not one of them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from classifiers.judge.reply import JudgeError, Usage
from classifiers.judge.store import NANO_USD, GuardStore, Reservation, StoreUnavailable

T = TypeVar("T")

log = logging.getLogger(__name__)
_jitter = random.SystemRandom()

BREAKER_OPEN = "not asked: the circuit breaker is open after repeated failures of the judge"
NO_SLOT = "not asked: no slot for another call became free in time"
BUDGET_SPENT = "not asked: the judge's budget for today is spent"
BUDGET_UNREADABLE = "not asked: the judge's budget cannot be read"
NO_PRICE = "not asked: there is a budget, and the model has no price"

_POLL_S = 0.1


@dataclass(slots=True)
class Admission:
    """One admitted judgment. Whoever makes it says in `provider_up` what it showed of the provider."""

    provider_up: bool | None = None


class JudgeGuard:
    """The guards of one judge. `judge` names its endpoint and model, whose failures are counted apart from others'."""

    def __init__(self, store: GuardStore, judge: str) -> None:
        self.store = store
        self.judge = judge

    @asynccontextmanager
    async def admission(self, *, patience_s: float, lease_s: float) -> AsyncIterator[Admission]:
        """Around one judgment with all its attempts. Raises JudgeError if the breaker is open, or if no slot was free within
        `patience_s`. After `lease_s` a holder whose worker was killed is forgotten."""
        holder, admission = secrets.token_hex(8), Admission()
        await self._pass_breaker(holder, lease_s)
        try:
            if await self._wait_for_slot(holder, patience_s, lease_s):
                await self._pass_breaker(holder, lease_s)  # it may have opened in the meantime
            yield admission
        finally:
            await self._or_else(None, self.store.free_slot, holder)
            await self._or_else(None, self.store.report, self.judge, holder, admission.provider_up)

    async def reserve(self, usd: float | None) -> Reservation | None:
        """Before each call: what it may cost at most, None if the model has no price. Raises JudgeError if it may not be made.

        Calls are admitted as long as less than the budget is spent, calls under way included: it is exceeded by one call's
        cost at most. None: there is no budget, and nobody counts.
        """
        limits = self.store.limits
        if usd is None and limits.daily_usd:
            raise JudgeError(NO_PRICE, retryable=False)
        try:
            reservation = await asyncio.to_thread(self.store.reserve, math.ceil((usd or 0.0) * NANO_USD))
        except StoreUnavailable as error:
            log.warning("the judge's guards: %s", error)
            if limits.has_budget:
                raise JudgeError(BUDGET_UNREADABLE, retryable=False) from None
            return None
        if reservation is None:
            raise JudgeError(BUDGET_SPENT, retryable=False)
        return reservation

    async def settle(self, reservation: Reservation | None, usd: float, usage: Usage) -> None:
        """After the call: what it did cost. Where nobody calls this, or it cannot be stored, what was reserved stays counted."""
        if reservation:
            await self._or_else(None, self.store.settle, reservation, math.ceil(usd * NANO_USD), usage)

    async def _pass_breaker(self, holder: str, lease_s: float) -> None:
        if not await self._or_else(True, self.store.admit, self.judge, holder, lease_s):
            raise JudgeError(BREAKER_OPEN, retryable=False)

    async def _wait_for_slot(self, holder: str, patience_s: float, lease_s: float) -> bool:
        """Whether it had to wait. Raises JudgeError if it waited in vain."""
        until, waited = time.monotonic() + patience_s, False
        while not await self._or_else(True, self.store.take_slot, holder, lease_s):
            waited = True
            pause = _jitter.uniform(_POLL_S / 2, _POLL_S)
            if time.monotonic() + pause >= until:
                raise JudgeError(NO_SLOT, retryable=False)
            await asyncio.sleep(pause)
        return waited

    async def _or_else(self, default: T, method: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.to_thread(method, *args)
        except StoreUnavailable as error:
            log.warning("the judge's guards: %s", error)
            return default
