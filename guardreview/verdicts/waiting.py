"""Tell a caller that waits that its verdict is stored: a worker pushes to `done:{id}`, the web server blocks on it.

The key only wakes the waiter; what the verdict is, it reads from the database.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from uuid import UUID
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
import structlog
from django.conf import settings

log = structlog.get_logger(__name__)
KEY_TTL_S = 120
GRACE_S = 1
MAX_WAITERS = 5_000
"""In one process: each holds a connection to Redis while it waits, and the client's own bound of 100 is too few."""
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, redis.asyncio.Redis] = WeakKeyDictionary()


@lru_cache(maxsize=1)
def redis_client() -> redis.Redis:
    """This process's client for short commands."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


def announce(exchange_id: UUID) -> None:
    """Wake whoever waits for this exchange. Call after commit. A Redis that is down costs the waiter its time, no more."""
    key = _key(exchange_id)
    try:
        redis_client().pipeline(transaction=False).rpush(key, 1).expire(key, KEY_TTL_S).execute()  # type: ignore[attr-defined]
    except redis.RedisError as error:
        log.warning("announce_failed", exchange=str(exchange_id), error=type(error).__name__)


async def wait_for(exchange_id: UUID, seconds: float) -> None:
    """Return once the exchange is announced, or after `seconds`, or at once if Redis is down."""
    if seconds <= 0:  # to Redis, 0 is for ever
        return
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        # The server ends a BLPOP that waits too long; a read timeout of the client's own would end it sooner.
        _clients[loop] = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=5, socket_timeout=None, max_connections=MAX_WAITERS
        )
    client, key = _clients[loop], _key(exchange_id)
    try:
        async with asyncio.timeout(seconds + GRACE_S):  # a Redis that hangs would never answer
            if await client.blpop([key], timeout=seconds):
                # Put the token back, for whoever else waits for the same exchange.
                await client.pipeline(transaction=False).rpush(key, 1).expire(key, KEY_TTL_S).execute()  # type: ignore[attr-defined]
    except (redis.RedisError, TimeoutError) as error:
        log.warning("wait_failed", exchange=str(exchange_id), error=type(error).__name__)


def _key(exchange_id: UUID) -> str:
    return f"done:{exchange_id}"
