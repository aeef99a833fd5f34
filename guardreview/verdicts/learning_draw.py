"""How probable learning makes a draw, so that on average a policy's `learning_share` of allowed answers is drawn for it.

A gain is worth nothing by itself: how probable a draw it asks for depends on the gains of all. Workers count these together in
Redis, in some eighty numbers that forget what is long past, with what has been asked for beyond or short of the share, which the
next draws make good. No exchange waits for it: a worker counts by itself and speaks to Redis every few seconds. Without Redis it
goes on with what it knew last; a new one then draws nothing for learning.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog
from django.conf import settings
from redis import RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from classifiers.finetuned import last_embedding
from classifiers.result import ClassifierResult, Layer
from guardreview.verdicts import sampling
from guardreview.verdicts.models import Policy
from guardreview.verdicts.novelty import UNKNOWN, NoveltyMap
from guardreview.verdicts.sampling import AuditRates

log = structlog.get_logger(__name__)
COUNTS_KEY: Final = "learning:gains"
NOVELTY_KEY: Final = "learning:novelty"
KEEP_S: Final = 30 * 86_400
TIMEOUT_S: Final = 0.1
TELL_EVERY_S: Final = 2.0
TELL_AFTER: Final = 200
"""A worker tells the others after so long, or so many exchanges."""
READ_NOVELTY_EVERY_S: Final = 300.0
RETRY_S: Final = 30.0
"""After Redis did not answer."""
MEMORY: Final = 4_000
"""Exchanges after which all counts are halved."""
ENOUGH: Final = 100
"""Exchanges before which nothing is known of the gains."""
REPAID_OVER: Final = 3_000
"""Exchanges over which draws beyond or short of the share are made good."""
BINS: Final = 40
PER_OCTAVE: Final = 4
"""Gains are counted on a logarithmic scale, down to about a thousandth."""

_TELL = """
local total = 0
for at = 3, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[at], ARGV[at + 1]) end
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do if string.sub(all[at], 1, 1) == 'g' then total = total + tonumber(all[at + 1]) end end
if total > tonumber(ARGV[1]) then
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 1) == 'g' then redis.call('HSET', KEYS[1], all[at], tostring(tonumber(all[at + 1]) / 2)) end
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])
"""


class Counts(Protocol):
    """What all workers know together."""

    def tell(self, changes: Mapping[str, float]) -> dict[str, float]:
        """Add these; all of them, afterwards. Raises RedisError."""

    def novelty(self) -> bytes | None:
        """The map that is kept. Raises RedisError."""


class RedisCounts:
    """`Counts` in Redis. A hung one costs TIMEOUT_S, once in RETRY_S."""

    def __init__(self, url: str) -> None:
        import redis

        self.client = redis.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        self._tell = self.client.register_script(_TELL)

    def tell(self, changes: Mapping[str, float]) -> dict[str, float]:
        arguments = [part for name, value in changes.items() for part in (name, repr(value))]
        flat = self._tell([COUNTS_KEY], [MEMORY, KEEP_S, *arguments])
        return {name.decode(): float(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}

    def novelty(self) -> bytes | None:
        found: bytes | None = self.client.get(NOVELTY_KEY)  # type: ignore[assignment]
        return found


def _bin(gain: float) -> int:
    return BINS - 1 if gain <= 0 else min(BINS - 1, int(-math.log2(min(gain, 1.0)) * PER_OCTAVE))


def _worth(at: int) -> float:
    """The gain that stands for a bin; the last one holds all that is worth next to nothing."""
    return 0.0 if at == BINS - 1 else 2.0 ** (-(at + 0.5) / PER_OCTAVE)


def _extra(scale: float, worth: float, least: float) -> float:
    return max(0.0, min(1.0, scale * worth) - least)


@dataclass(slots=True)
class LearningDraw:
    """One process's view of it; threads share it. `clock`: seconds."""

    counts: Counts
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pending: dict[str, float] = field(default_factory=dict)
    _waiting: int = 0
    _cells: list[tuple[float, float, float]] = field(default_factory=list)
    """(worth, least probability, how many)"""
    _debts: dict[str, float] = field(default_factory=dict)
    _scales: dict[float, float] = field(default_factory=dict)
    _next_tell: float = 0.0
    _novelty: NoveltyMap | None = None
    _next_novelty: float = 0.0

    def wanted(self, gain: float, least: float, share: float) -> float:
        """The probability that learning asks for, of an answer that has `least` without it: on average `share` are added."""
        with self._lock:
            if share not in self._scales:
                self._scales[share] = self._solve(share)
            at = _bin(gain)
            asked = least + _extra(self._scales[share], _worth(at), least)
            self._add(f"g:{at}:{least!r}", 1.0)
            self._add(f"debt:{share!r}", asked - least - share)
            self._waiting += 1
            now = self.clock()
            if now >= self._next_tell or (self._waiting >= TELL_AFTER and self._next_tell - now <= TELL_EVERY_S):
                self._tell(now)
        return asked

    def _add(self, name: str, value: float) -> None:
        self._pending[name] = self._pending.get(name, 0.0) + value

    def _tell(self, now: float) -> None:
        try:
            known = self.counts.tell(self._pending)
        except (RedisError, OSError) as error:
            log.warning("gains_not_shared", error=type(error).__name__)
            self._next_tell = now + RETRY_S
            return
        self._pending, self._waiting, self._next_tell = {}, 0, now + TELL_EVERY_S
        self._debts = {name[5:]: value for name, value in known.items() if name.startswith("debt:")}
        self._cells = []
        for name, count in known.items():
            if name.startswith("g:"):
                _, at, least = name.split(":")
                self._cells.append((_worth(int(at)), float(least), count))
        self._scales = {share: self._solve(share) for share in self._scales}

    def _solve(self, share: float) -> float:
        """The factor from gain to probability with which the known gains add the share; 0 where too few are known."""
        total = sum(count for *_, count in self._cells)
        if total < ENOUGH:
            return 0.0
        aim = min(max(0.0, share - self._debts.get(repr(share), 0.0) / REPAID_OVER), 1.5 * share)
        low, high = 1e-4, 1e6
        for _ in range(24):
            middle = math.sqrt(low * high)
            added = sum(_extra(middle, worth, least) * count for worth, least, count in self._cells) / total
            low, high = (middle, high) if added < aim else (low, middle)
        return low

    def novelty(self, embedding: Any, encoder: str) -> float:
        """Of an embedding (None: it has none) by the encoder of this hash."""
        with self._lock:
            now = self.clock()
            if now >= self._next_novelty:
                self._next_novelty = now + READ_NOVELTY_EVERY_S
                try:
                    data = self.counts.novelty()
                    self._novelty = NoveltyMap.from_bytes(data) if data else None
                except (RedisError, OSError, ValueError, KeyError) as error:
                    log.warning("novelty_unknown", error=type(error).__name__)
            known = self._novelty
        if known is None or embedding is None or known.encoder != encoder:
            return UNKNOWN
        return known.novelty(embedding)


_draw: LearningDraw | None = None


def process_draw() -> LearningDraw:
    """This process's."""
    global _draw
    if _draw is None:
        _draw = LearningDraw(RedisCounts(settings.REDIS_URL))
    return _draw


def allowed_probability(policy: Policy, results: Sequence[ClassifierResult]) -> float:
    """With which an allowed answer is to be drawn. It speaks to Redis at times, so it is for outside of transactions.

    Whatever goes wrong with what learning asks for, the probability that the answer has without it stands.
    """
    rates, cascade_policy = AuditRates(**settings.AUDIT_RATES), policy.as_cascade_policy()
    least = sampling.audit_probability(cascade_policy, results, rates)
    if not policy.learning_share:
        return least
    try:
        layers, draw = {result.layer for result in results if not result.error}, process_draw()
        # The judge's worker has classified nothing, or something else.
        seen = last_embedding() if Layer.FINETUNED in layers and Layer.JUDGE not in layers else None
        novelty = draw.novelty(*seen) if seen is not None else UNKNOWN
        wanted = draw.wanted(sampling.gain(cascade_policy, results, novelty), least, policy.learning_share)
        return sampling.audit_probability(cascade_policy, results, rates, wanted)
    except Exception as error:  # a verdict must never fail for it
        log.error("gain_unknown", error=type(error).__name__)
        return least
