"""The judge's guards and cache in Redis, shared by all workers.

Each step is one script, so no other worker comes in between; times are Redis' own. A key whose last holder is gone expires.
A command is sent once: to repeat one whose answer was lost would count twice.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from classifiers.judge.reply import Usage
from classifiers.judge.store import (
    NANO_USD,
    SECONDS_PER_DAY,
    GuardStatus,
    Limits,
    Reservation,
    StoreUnavailable,
    breaker_state,
)

log = structlog.get_logger(__name__)
TIMEOUT_S = 1.0
"""For a command: a Redis that hangs must not use up the judge's deadline."""

SLOTS = "judge:slots"
KEEP_BREAKER_S = SECONDS_PER_DAY
KEEP_SPENT_S = 3 * SECONDS_PER_DAY

_NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

_ADMIT = f"""{_NOW}
local holder, cooldown, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local opened = tonumber(redis.call('HGET', KEYS[1], 'opened_at') or nil)
if not opened then return 1 end
if now < opened + cooldown then return 0 end
local probe, probe_until = unpack(redis.call('HMGET', KEYS[1], 'probe', 'probe_until'))
if probe and probe ~= holder and now < tonumber(probe_until) then return 0 end
redis.call('HSET', KEYS[1], 'probe', holder, 'probe_until', now + lease)
return 1
"""

_REPORT = f"""{_NOW}
local holder, up, limit, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local opened = redis.call('HGET', KEYS[1], 'opened_at')
if opened and redis.call('HGET', KEYS[1], 'probe') ~= holder then return '' end
if up == 'yes' then
  redis.call('DEL', KEYS[1])
  return opened and 'closed' or ''
end
redis.call('HDEL', KEYS[1], 'probe', 'probe_until')
if up == 'no' then
  local failures = redis.call('HINCRBY', KEYS[1], 'failures', opened and 0 or 1)
  redis.call('EXPIRE', KEYS[1], keep)
  if opened or (limit > 0 and failures >= limit) then
    redis.call('HSET', KEYS[1], 'opened_at', now)
    return opened and '' or 'opened'
  end
end
return ''
"""

_TAKE_SLOT = f"""{_NOW}
local holder, limit, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local others = redis.call('ZCARD', KEYS[1])
if redis.call('ZSCORE', KEYS[1], holder) then others = others - 1 end
if limit > 0 and others >= limit then return 0 end
redis.call('ZADD', KEYS[1], now + lease, holder)
redis.call('PEXPIRE', KEYS[1], math.max(lease, redis.call('PTTL', KEYS[1])))
return 1
"""

_RESERVE = """
local nano, most_nano, most_calls = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local spent, calls = unpack(redis.call('HMGET', KEYS[1], 'nano_usd', 'calls'))
redis.call('EXPIRE', KEYS[1], ARGV[4])
if (most_nano > 0 and tonumber(spent or 0) >= most_nano) or (most_calls > 0 and tonumber(calls or 0) >= most_calls) then
  return redis.call('HINCRBY', KEYS[1], 'refused', 1)
end
redis.call('HINCRBY', KEYS[1], 'nano_usd', nano)
redis.call('HINCRBY', KEYS[1], 'calls', 1)
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 0
"""


def guard_client(url: str) -> redis.Redis:
    """A client for `RedisStore`: impatient, and without repetition."""
    return redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0))


class RedisStore:
    """A `GuardStore` and a `CacheStore`. `clock`: seconds since 1970, which says what day it is."""

    def __init__(self, client: redis.Redis, limits: Limits, *, clock: Callable[[], float] = time.time) -> None:
        self.limits = limits
        self._client = client
        self._clock = clock
        self._admit = client.register_script(_ADMIT)
        self._report = client.register_script(_REPORT)
        self._take_slot = client.register_script(_TAKE_SLOT)
        self._reserve = client.register_script(_RESERVE)

    def admit(self, judge: str, holder: str, lease_s: float) -> bool:
        with _reached():
            return bool(self._admit([_breaker_key(judge)], (holder, _ms(self.limits.breaker_cooldown_s), _ms(lease_s))))

    def report(self, judge: str, holder: str, provider_up: bool | None) -> None:
        word = {True: "yes", False: "no", None: ""}[provider_up]
        with _reached():
            change = self._report([_breaker_key(judge)], (holder, word, self.limits.breaker_failures, KEEP_BREAKER_S))
        if change == b"opened":
            log.warning("judge_breaker_opened", cooldown_s=self.limits.breaker_cooldown_s)
        elif change == b"closed":
            log.warning("judge_breaker_closed")

    def take_slot(self, holder: str, lease_s: float) -> bool:
        with _reached():
            return bool(self._take_slot([SLOTS], (holder, self.limits.max_concurrent, _ms(lease_s))))

    def free_slot(self, holder: str) -> None:
        with _reached():
            self._client.zrem(SLOTS, holder)

    def reserve(self, nano_usd: int) -> Reservation | None:
        day, most = self._day(), round(self.limits.daily_usd * NANO_USD)
        with _reached():
            refused = self._reserve([_day_key(day)], (nano_usd, most, self.limits.daily_calls, KEEP_SPENT_S))
        if refused == 1:  # the first of the day
            log.warning("judge_budget_spent", usd=self.limits.daily_usd, calls=self.limits.daily_calls)
        return None if refused else Reservation(day, nano_usd)

    def settle(self, reservation: Reservation, nano_usd: int, usage: Usage) -> None:
        key = _day_key(reservation.day)
        with _reached(), self._client.pipeline() as pipeline:
            pipeline.hincrby(key, "nano_usd", nano_usd - reservation.nano_usd)
            pipeline.hincrby(key, "prompt_tokens", usage.prompt_tokens)
            pipeline.hincrby(key, "completion_tokens", usage.completion_tokens)
            pipeline.expire(key, KEEP_SPENT_S)
            pipeline.execute()

    def status(self, judge: str) -> GuardStatus:
        with _reached(), self._client.pipeline() as pipeline:
            pipeline.time()
            pipeline.hgetall(_breaker_key(judge))
            pipeline.zrange(SLOTS, 0, -1, withscores=True)
            pipeline.hgetall(_day_key(self._day()))
            clock, breaker, slots, spent = pipeline.execute()
        now = clock[0] + clock[1] / 1e6
        opened_at = int(breaker[b"opened_at"]) / 1000 if b"opened_at" in breaker else None
        names = ("calls", "prompt_tokens", "completion_tokens", "refused")
        return GuardStatus(
            breaker=breaker_state(opened_at, self.limits.breaker_cooldown_s, now),
            failures=int(breaker.get(b"failures", 0)),
            running=sum(until > now * 1000 for _, until in slots),
            usd=int(spent.get(b"nano_usd", 0)) / NANO_USD,
            **{name: int(spent.get(name.encode(), 0)) for name in names},
        )

    def get(self, key: str) -> bytes | None:
        with _reached():
            value: Any = self._client.get(f"judge:cache:{key}")
            return None if value is None else bytes(value)

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        with _reached():
            self._client.set(f"judge:cache:{key}", value, px=max(1, _ms(ttl_s)))  # Redis refuses 0

    def _day(self) -> int:
        return int(self._clock() // SECONDS_PER_DAY)


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise StoreUnavailable(f"Redis: {type(error).__name__}") from None


def _breaker_key(judge: str) -> str:
    return f"judge:breaker:{hashlib.sha256(judge.encode()).hexdigest()[:16]}"


def _day_key(day: int) -> str:
    return f"judge:spent:{day}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
