"""How unlike what is labelled already an exchange is: cheap enough for every one, and it keeps nobody's words.

An embedding is hashed by the sides of random planes that it lies on, in several tables (Charikar 2002). What is kept is how many
labelled exchanges fell into each bucket: a few kilobytes, however many there are, from which no embedding can be got back.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from typing import Final

import numpy as np
import numpy.typing as npt

TABLES: Final = 8
BITS: Final = 8
CENTRED_ON: Final = 2_000
"""So many embeddings say where the planes lie. All point in similar directions: planes through 0 would cut off nothing."""
UNKNOWN: Final = 0.5
"""The novelty of what has no embedding, or is compared with nothing."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NoveltyMap:
    """`encoder`: whose embeddings it is of. `offsets`: (TABLES * BITS,). `counts`: (TABLES, 2 ** BITS)."""

    encoder: str
    dimensions: int
    offsets: Floats
    counts: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, encoder: str, vectors: Iterable[Floats]) -> NoveltyMap | None:
        """Of labelled exchanges' embeddings, each (dimensions,), read one after another; None without any."""
        rest = iter(vectors)
        first = list(islice(rest, CENTRED_ON))
        if not first:
            return None
        dimensions = len(first[0])
        offsets = (np.array(first) @ planes(dimensions)).mean(axis=0).astype(np.float32)
        found = cls(encoder, dimensions, offsets, np.zeros((TABLES, 1 << BITS), dtype=np.uint32))
        for vector in chain(first, rest):
            found.counts[_TABLE, found._buckets(vector)] += 1
        return found

    def novelty(self, vector: Floats) -> float:
        """From 1, where nothing like it was labelled, towards 0. `vector`: (dimensions,), of any length."""
        length = float(np.linalg.norm(vector))
        if len(vector) != self.dimensions or not length:
            return UNKNOWN
        return float((1 / np.sqrt(1.0 + self.counts[_TABLE, self._buckets(vector / length)])).mean())

    def _buckets(self, vector: Floats) -> npt.NDArray[np.int64]:
        """(TABLES,)"""
        sides = (vector @ planes(self.dimensions) > self.offsets).reshape(TABLES, BITS)
        buckets: npt.NDArray[np.int64] = sides @ _WEIGHTS
        return buckets

    def as_bytes(self) -> bytes:
        """An `.npz`, without pickle."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            allow_pickle=False,
            encoder=np.array(self.encoder),
            dimensions=np.array(self.dimensions),
            offsets=self.offsets,
            counts=self.counts,
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> NoveltyMap:
        """The inverse of `as_bytes`. Raises ValueError, OSError, KeyError on anything else."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            found = cls(str(file["encoder"]), int(file["dimensions"]), file["offsets"], file["counts"])
        if found.offsets.shape != (TABLES * BITS,) or found.counts.shape != (TABLES, 1 << BITS):
            raise ValueError("a map of another make")
        return found


_TABLE: Final = np.arange(TABLES)
_WEIGHTS: Final = 1 << np.arange(BITS)


@lru_cache(maxsize=4)
def planes(dimensions: int) -> Floats:
    """The same for all processes: (dimensions, TABLES * BITS)."""
    return np.random.default_rng(7_204).standard_normal((dimensions, TABLES * BITS)).astype(np.float32)


def unit_rows(stored: Iterable[bytes | memoryview]) -> Iterator[Floats]:
    """Vectors as `review.Embedding` has them."""
    for vector in stored:
        yield np.frombuffer(bytes(vector), dtype="<f2").astype(np.float32)
