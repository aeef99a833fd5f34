"""Where labels are already: the map by which workers tell what is new, made anew from settled exchanges' embeddings."""

from __future__ import annotations

from typing import Final

import structlog
from redis import RedisError

from guardreview.review.models import Embedding
from guardreview.verdicts.learning_draw import KEEP_S, NOVELTY_KEY
from guardreview.verdicts.models import Policy
from guardreview.verdicts.novelty import NoveltyMap, unit_rows
from guardreview.verdicts.waiting import redis_client

log = structlog.get_logger(__name__)
MOST: Final = 500_000
"""The latest labels that are read, one after another: what is older is hardly like today's."""


def novelty_map_store() -> int:
    """Count the settled exchanges' embeddings and put the counts where workers read them; how many. 0 if it is switched off."""
    if not Policy.objects.filter(is_active=True, learning_share__gt=0).exists():
        return 0
    settled = Embedding.objects.filter(exchange__labels__is_current=True)
    encoder = settled.order_by("-pk").values_list("encoder", flat=True).first()
    if encoder is None:
        return 0
    vectors = settled.filter(encoder=encoder).order_by("-pk").values_list("vector", flat=True)[:MOST]
    made = NoveltyMap.of(encoder, unit_rows(vectors.iterator(chunk_size=2_000)))
    if made is None:
        return 0
    try:
        redis_client().set(NOVELTY_KEY, made.as_bytes(), ex=KEEP_S)
    except RedisError as error:
        log.warning("novelty_not_shared", error=type(error).__name__)
        return 0
    return int(made.counts[0].sum())
