"""Embeddings of labelled exchanges for a training run: from the table where they are kept, else made, and then kept there.

A kept one is the mean over the windows, in float16. Of an exchange that fits into one window, as most do, that is the window
itself, and training reads it; a longer one is embedded anew each time. Nothing of a patient's words goes into a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import numpy as np

from classifiers.disguise.deobfuscation import readable
from classifiers.encoder.embedding_cache import CorpusEncoder
from classifiers.encoder.encoder import Floats
from classifiers.examples import Example
from guardreview.review.models import Embedding
from guardreview.review.similar import QUERY_CHARS, RESPONSE_CHARS, read_vector, unit

CHUNK = 500


class LabelEncoder:
    """A `CorpusEncoder` that also knows the exchanges behind labels. `exchanges`: of an example's id.

    `keep`: whether to store what it makes: of the encoder that serves alone, since the search for similar exchanges reads it.
    """

    def __init__(self, corpus: CorpusEncoder, labels: Sequence[Example], exchanges: Mapping[str, UUID], *, keep: bool) -> None:
        self.corpus = corpus
        self.keep = keep
        self.encoder_sha256 = corpus.encoder_sha256
        self._exchanges = {
            (readable(e.response), readable(e.query)): exchanges[e.id]
            for e in labels
            # What is kept was cut there.
            if e.id in exchanges and len(e.response) <= RESPONSE_CHARS and len(e.query) <= QUERY_CHARS
        }

    def embed(self, texts: Sequence[str], queries: Sequence[str]) -> list[Floats]:
        """As `Encoder.embed`."""
        keys = list(zip(texts, queries, strict=True))
        wanted = {key: self._exchanges[key] for key in keys if key in self._exchanges and self._is_one_window(*key)}
        kept = self._kept(list(wanted.values()))
        known = {key: kept[exchange] for key, exchange in wanted.items() if exchange in kept}
        new = list(dict.fromkeys(key for key in keys if key not in known))
        made = dict(zip(new, self.corpus.embed([text for text, _ in new], [query for _, query in new]), strict=True))
        if self.keep:
            self._keep({wanted[key]: windows for key, windows in made.items() if key in wanted})
        return [known[key] if key in known else made[key] for key in keys]

    def _is_one_window(self, text: str, query: str) -> bool:
        return len(self.corpus.encoder.reader.windows([text], [query])) == 1

    def _kept(self, exchanges: Sequence[UUID]) -> dict[UUID, Floats]:
        found: dict[UUID, Floats] = {}
        for begin in range(0, len(exchanges), CHUNK):
            rows = Embedding.objects.filter(pk__in=exchanges[begin : begin + CHUNK], encoder=self.encoder_sha256)
            found |= {key: read_vector(vector)[np.newaxis] for key, vector in rows.values_list("pk", "vector")}
        return found

    def _keep(self, made: Mapping[UUID, Floats]) -> None:
        """So that a run which takes this one up finds them, and the search for similar exchanges too."""
        rows = [
            Embedding(pk=exchange, encoder=self.encoder_sha256, vector=unit(windows[0]).astype("<f2").tobytes())
            for exchange, windows in made.items()
        ]
        Embedding.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["exchange"], update_fields=["encoder", "vector"], batch_size=CHUNK
        )
