"""What the judge's guards and its cache remember, and where: here in one process; in Redis for several workers.

A store is synchronous and safe in threads, because workers run an event loop per judgment, and a connection that lives in a
loop would be opened anew each time. It is called in a thread, so that no loop waits for it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from classifiers.judge.reply import Usage

SECONDS_PER_DAY = 86_400
NANO_USD = 1_000_000_000
"""Money is counted in whole billionths of a dollar: sums of floats would drift, and differ between the stores."""


class StoreUnavailable(Exception):
    """The store that holds the guards' state, or cached judgments, cannot be reached. The message may be logged."""


@dataclass(frozen=True, slots=True)
class Limits:
    """0 switches a limit off. Raises ValueError on a number that is none, or below 0.

    `breaker_failures`: in a row, until the breaker opens; `breaker_cooldown_s`: until it lets one probe through.
    `max_concurrent`: judgments at a time. `daily_usd`, `daily_calls`: for a day in UTC.
    """

    breaker_failures: int = 5
    breaker_cooldown_s: float = 30.0
    max_concurrent: int = 0
    daily_usd: float = 0.0
    daily_calls: int = 0

    def __post_init__(self) -> None:
        numbers = (self.breaker_failures, self.breaker_cooldown_s, self.max_concurrent, self.daily_usd, self.daily_calls)
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ValueError("a limit of the judge must be a number, 0 or more")

    @property
    def has_budget(self) -> bool:
        return self.daily_usd > 0 or self.daily_calls > 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one call may cost, counted as spent until `settle` says what it did cost. `day`: since 1970, in UTC."""

    day: int
    nano_usd: int


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """For operators: the breaker of one judge, and what all of them together take today."""

    breaker: Literal["closed", "open", "half-open"] = "closed"
    failures: int = 0
    running: int = 0
    usd: float = 0.0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refused: int = 0


class GuardStore(Protocol):
    """The guards' state. `judge` names an endpoint with its model, `holder` one judgment, `lease_s` after how many seconds
    a holder that never came back is forgotten. Every method raises StoreUnavailable."""

    limits: Limits

    def admit(self, judge: str, holder: str, lease_s: float) -> bool:
        """Whether the breaker lets this one call: closed, or open for so long that this is the probe. May be asked again."""

    def report(self, judge: str, holder: str, provider_up: bool | None) -> None:
        """How it ended. None says nothing of the provider, and gives a probe back."""

    def take_slot(self, holder: str, lease_s: float) -> bool: ...

    def free_slot(self, holder: str) -> None: ...

    def reserve(self, nano_usd: int) -> Reservation | None:
        """Count a call and its cost as spent; None if the budget is spent already."""

    def settle(self, reservation: Reservation, nano_usd: int, usage: Usage) -> None: ...

    def status(self, judge: str) -> GuardStatus: ...


@dataclass(slots=True)
class _Breaker:
    failures: int = 0
    opened_at: float | None = None
    probe: str = ""
    probe_until: float = 0.0


@dataclass(slots=True)
class _Day:
    day: int = -1
    nano_usd: int = 0
    calls: int = 0
    refused: int = 0
    usage: Usage = field(default_factory=Usage)


class InProcessStore:
    """For one process and all its threads and event loops. `clock`: seconds since 1970."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.time) -> None:
        self.limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._breakers: dict[str, _Breaker] = {}
        self._slots: dict[str, float] = {}
        self._today = _Day()

    def admit(self, judge: str, holder: str, lease_s: float) -> bool:
        with self._lock:
            breaker, now = self._breakers.setdefault(judge, _Breaker()), self._clock()
            if breaker.opened_at is None:
                return True
            if now < breaker.opened_at + self.limits.breaker_cooldown_s:
                return False
            if breaker.probe not in ("", holder) and now < breaker.probe_until:
                return False
            breaker.probe, breaker.probe_until = holder, now + lease_s
            return True

    def report(self, judge: str, holder: str, provider_up: bool | None) -> None:
        with self._lock:
            breaker = self._breakers.setdefault(judge, _Breaker())
            if breaker.opened_at is not None and breaker.probe != holder:
                return  # began before the breaker opened, or overstayed its lease
            if provider_up:
                self._breakers[judge] = _Breaker()
            elif provider_up is None:
                breaker.probe = ""
            elif breaker.opened_at is not None:
                breaker.opened_at, breaker.probe = self._clock(), ""
            else:
                breaker.failures += 1
                if 0 < self.limits.breaker_failures <= breaker.failures:
                    breaker.opened_at = self._clock()

    def take_slot(self, holder: str, lease_s: float) -> bool:
        with self._lock:
            running = self._running()
            if 0 < self.limits.max_concurrent <= len(running.keys() - {holder}):
                return False
            running[holder] = self._clock() + lease_s
            return True

    def free_slot(self, holder: str) -> None:
        with self._lock:
            self._slots.pop(holder, None)

    def reserve(self, nano_usd: int) -> Reservation | None:
        with self._lock:
            today = self._spent_today()
            if _is_spent(self.limits, today.nano_usd, today.calls):
                today.refused += 1
                return None
            today.nano_usd += nano_usd
            today.calls += 1
            return Reservation(today.day, nano_usd)

    def settle(self, reservation: Reservation, nano_usd: int, usage: Usage) -> None:
        with self._lock:
            today = self._spent_today()
            if today.day == reservation.day:
                today.nano_usd += nano_usd - reservation.nano_usd
                today.usage += usage

    def status(self, judge: str) -> GuardStatus:
        with self._lock:
            breaker, today = self._breakers.get(judge, _Breaker()), self._spent_today()
            return GuardStatus(
                breaker=breaker_state(breaker.opened_at, self.limits.breaker_cooldown_s, self._clock()),
                failures=breaker.failures,
                running=len(self._running()),
                usd=today.nano_usd / NANO_USD,
                calls=today.calls,
                prompt_tokens=today.usage.prompt_tokens,
                completion_tokens=today.usage.completion_tokens,
                refused=today.refused,
            )

    def _running(self) -> dict[str, float]:
        now = self._clock()
        self._slots = {holder: until for holder, until in self._slots.items() if until > now}
        return self._slots

    def _spent_today(self) -> _Day:
        day = int(self._clock() // SECONDS_PER_DAY)
        if self._today.day != day:
            self._today = _Day(day)
        return self._today


def _is_spent(limits: Limits, nano_usd: int, calls: int) -> bool:
    return 0 < limits.daily_usd * NANO_USD <= nano_usd or 0 < limits.daily_calls <= calls


def breaker_state(opened_at: float | None, cooldown_s: float, now: float) -> Literal["closed", "open", "half-open"]:
    """In words, from when the breaker opened, if it did."""
    if opened_at is None:
        return "closed"
    return "open" if now < opened_at + cooldown_s else "half-open"


class CacheStore(Protocol):
    """Bytes by key, forgotten after `ttl_s` seconds. Both methods raise StoreUnavailable."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes, ttl_s: float) -> None: ...


class InProcessCache:
    """In memory, for one process: the `max_entries` that were put last."""

    def __init__(self, max_entries: int = 1000, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_entries = max_entries
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        with self._lock:
            until, value = self._entries.get(key, (0.0, b""))
            if self._clock() < until:
                return value
            self._entries.pop(key, None)
            return None

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = (self._clock() + ttl_s, value)
            while len(self._entries) > self.max_entries:
                self._entries.popitem(last=False)
