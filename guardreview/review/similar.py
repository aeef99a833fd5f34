"""Exchanges that the classifier's own encoder sees as alike: their embeddings are kept, and the nearest settled ones found.

An embedding is as much a patient's words as the text is: it is stored only for what came before a pharmacist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import numpy.typing as npt
from django.db import transaction
from django.utils import timezone

from guardreview.core.outbox import handles, outbox_add, outbox_cancel
from guardreview.review.masking import excerpts
from guardreview.review.models import Embedding, Label
from guardreview.verdicts import runtime
from guardreview.verdicts.models import Exchange
from guardreview.verdicts.services import TO_EMBED

if TYPE_CHECKING:
    from classifiers.encoder.encoder import Encoder

SEARCHED = 5_000
SHOWN = 5
LEAST = 0.6
"""Cosine similarity below which two exchanges have nothing to do with each other."""
QUERY_CHARS, RESPONSE_CHARS = 2_000, 6_000
"""Of an exchange, as much as is embedded: a worker that patients wait for must not read a book."""
FIRST_RETRY, LAST_RETRY = timedelta(minutes=5), timedelta(days=1)
"""The shortest and the longest time after which an embedding that was not made is asked for again."""
Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PastDecision:
    """A settled exchange that is like another. `alike`: cosine similarity in per cent. The texts are masked excerpts."""

    exchange_id: UUID
    item_id: int
    alike: int
    label: Label
    query: str
    response: str


def similar_decisions(*, exchange_id: UUID) -> list[PastDecision] | None:
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
    decisions = [_decision(label, round(100 * found[label.exchange_id])) for label in labels]
    return sorted(decisions, key=lambda decision: -decision.alike)


def _decision(label: Label, alike: int) -> PastDecision:
    query, response = excerpts(label.exchange.query, label.exchange.response, (140, 200))
    return PastDecision(label.exchange_id, label.exchange.review_item.pk, alike, label, query, response)


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
    if kept is None:
        kept = _embed(exchange, encoder)
    outbox_cancel(topic=TO_EMBED, target=str(exchange_id))
    return kept


def _embed(exchange: Exchange, encoder: Encoder) -> Embedding:
    from classifiers.disguise.deobfuscation import readable

    response, query = readable(exchange.response[:RESPONSE_CHARS]), readable(exchange.query[:QUERY_CHARS])
    vector = unit(encoder.embed([response], [query])[0].mean(axis=0))
    fields = {"encoder": encoder.encoder_sha256, "vector": vector.astype("<f2").tobytes()}
    return Embedding.objects.update_or_create(exchange_id=exchange.pk, defaults=fields)[0]


def unit(vector: Vector) -> Vector:
    """With length one; a vector of zeros stays one."""
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


@handles(TO_EMBED)
def _embed_event(target: str) -> None:
    """Put the exchange on the queue, and again later, until `embedding_store` takes the event out of the outbox.

    So it does not matter whether Redis is away at this moment, loses the task, or a worker fails.
    """
    from guardreview.review.tasks import embed

    exchange = Exchange.objects.filter(pk=target).only("created_at").first()
    if exchange is None:
        return
    # Each wait is as long as all that were before it, so that many which wait for a model do not fill the queue.
    wait = min(max(timezone.now() - exchange.created_at, FIRST_RETRY), LAST_RETRY)
    outbox_add(topic=TO_EMBED, target=target, available_at=timezone.now() + wait)
    transaction.on_commit(lambda: embed.delay(target), robust=True)
