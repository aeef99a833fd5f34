"""Exchanges that the classifier's own encoder sees as alike: their embeddings are kept, and the nearest settled ones found.

An embedding is as much a patient's words as the text is: it is stored only for what came before a pharmacist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt
from django.db import transaction

from guardreview.core.outbox import handles
from guardreview.review.masking import masked
from guardreview.review.models import Embedding, Label
from guardreview.verdicts import runtime
from guardreview.verdicts.models import Exchange
from guardreview.verdicts.services import TO_EMBED

SEARCHED = 5_000
SHOWN = 5
LEAST = 0.6
"""Cosine similarity below which two exchanges have nothing to do with each other."""
QUERY_CHARS, RESPONSE_CHARS = 2_000, 6_000
"""Of an exchange, as much as is embedded: a worker that patients wait for must not read a book."""
Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Decision:
    """A settled exchange that is like another. `alike`: cosine similarity in per cent. The texts are masked excerpts."""

    exchange_id: UUID
    item_id: int
    alike: int
    label: Label
    query: str
    response: str


def similar_decisions(*, exchange_id: UUID) -> list[Decision] | None:
    """Up to SHOWN of the latest SEARCHED settled exchanges, the most alike first; None if this one has no embedding yet."""
    own = Embedding.objects.filter(pk=exchange_id).first()
    if own is None:
        return None
    settled = Embedding.objects.filter(encoder=own.encoder, exchange__labels__is_current=True).exclude(pk=exchange_id)
    # Keys of exchanges grow with time, so these are the latest.
    rows = list(settled.order_by("-pk").values_list("pk", "vector")[:SEARCHED])
    near = nearest(read_vector(own.vector), [row[1] for row in rows])
    found = {rows[at][0]: alike for at, alike in near}
    labels = Label.objects.filter(exchange__in=found, is_current=True).select_related("exchange__review_item", "review")
    decisions = [
        Decision(
            exchange_id=label.exchange_id,
            item_id=label.exchange.review_item.pk,
            alike=round(100 * found[label.exchange_id]),
            label=label,
            query=masked(label.exchange.query, 140),
            response=masked(label.exchange.response, 200),
        )
        for label in labels
    ]
    return sorted(decisions, key=lambda decision: -decision.alike)


def nearest(own: Vector, stored: Sequence[bytes | memoryview]) -> list[tuple[int, float]]:
    """(place in `stored`, cosine similarity) of at most SHOWN that are at least LEAST alike, the most alike first."""
    if not stored:
        return []
    rows = np.frombuffer(b"".join(map(bytes, stored)), dtype="<f2").reshape(len(stored), -1)
    alike = rows.astype(np.float32) @ own
    first = np.argsort(-alike, kind="stable")[:SHOWN]
    return [(int(at), float(alike[at])) for at in first if alike[at] >= LEAST]


def read_vector(stored: bytes | memoryview) -> Vector:
    """A stored vector, (dimensions,)."""
    return np.frombuffer(bytes(stored), dtype="<f2").astype(np.float32)


# --- Writes ---------------------------------------------------------------------------------------------------------------
def embedding_store(*, exchange_id: UUID) -> Embedding | None:
    """Embed an exchange with the model that serves, and keep it; again only if another encoder made what is kept.

    Loads the model, so it is for workers alone. None if the exchange is gone. Raises InvalidBundle.
    """
    exchange = Exchange.objects.filter(pk=exchange_id).first()
    if exchange is None:
        return None
    encoder = runtime.finetuned().encoder
    kept = Embedding.objects.filter(pk=exchange_id, encoder=encoder.encoder_sha256).first()
    if kept is not None:
        return kept
    from classifiers.disguise.deobfuscation import readable

    response, query = readable(exchange.response[:RESPONSE_CHARS]), readable(exchange.query[:QUERY_CHARS])
    vector = unit(encoder.embed([response], [query])[0].mean(axis=0))
    fields = {"encoder": encoder.encoder_sha256, "vector": vector.astype("<f2").tobytes()}
    return Embedding.objects.update_or_create(exchange_id=exchange_id, defaults=fields)[0]


def unit(vector: Vector) -> Vector:
    """With length one; a vector of zeros stays one."""
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


@handles(TO_EMBED)
def _embed_event(target: str) -> None:
    from guardreview.review.tasks import embed

    # If the queue cannot be reached at this moment the exchange stays without one, which its page says; nothing else may fail.
    transaction.on_commit(lambda: embed.delay(target), robust=True)
