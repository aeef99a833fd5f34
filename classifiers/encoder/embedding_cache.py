"""Embeddings of the corpus, kept between training runs: reading it all takes minutes, training a head on it seconds.

Only the corpus is kept. An embedding of a patient's words would be personal health information, as the words are.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from classifiers.disguise.deobfuscation import readable
from classifiers.encoder.encoder import Encoder, Floats
from classifiers.encoder.windows import MAX_QUERY_TOKENS, MAX_WINDOWS, WINDOW_OVERLAP, WINDOW_TOKENS
from classifiers.examples import Example


class CorpusEncoder:
    """An `Encoder` that reads each exchange of the corpus once for each encoder, and all others every time.

    `folder`: where the embeddings are kept. A file that cannot be read is made anew.
    """

    def __init__(self, encoder: Encoder, corpus: Iterable[Example], folder: Path) -> None:
        self.encoder = encoder
        self.encoder_sha256 = encoder.encoder_sha256
        # What else shapes an embedding stands in the name: another window is another embedding.
        cut = f"{WINDOW_TOKENS}-{WINDOW_OVERLAP}-{MAX_WINDOWS}-{MAX_QUERY_TOKENS}"
        self.path = folder / f"corpus-embeddings-{encoder.encoder_sha256[:12]}-{cut}.npz"
        # Rules, lexicon and list of words shape what is read of a text, so that is the key.
        self._corpus = {_key(readable(e.response), readable(e.query)) for e in corpus}
        self._known = self._load()

    def embed(self, texts: Sequence[str], queries: Sequence[str]) -> list[Floats]:
        """As `Encoder.embed`."""
        keys = [_key(text, query) for text, query in zip(texts, queries, strict=True)]
        new = {key: number for number, key in enumerate(keys) if key not in self._known}
        chosen = list(new.values())
        fresh = self.encoder.embed([texts[i] for i in chosen], [queries[i] for i in chosen]) if chosen else []
        found = dict(zip(new, fresh, strict=True))
        if kept := {key: windows for key, windows in found.items() if key in self._corpus}:
            self._known.update(kept)
            self._save()
        return [self._known[key] if key in self._known else found[key] for key in keys]

    def _load(self) -> dict[str, Floats]:
        try:
            with self.path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                keys, counts, rows = file["keys"], file["counts"], file["rows"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return {}
        if counts.sum() != len(rows) or len(keys) != len(counts):
            return {}
        parts = np.split(rows, np.cumsum(counts)[:-1])
        return {str(key): part for key, part in zip(keys, parts, strict=True) if str(key) in self._corpus}

    def _save(self) -> None:
        keys = np.array(list(self._known))
        counts = np.array([len(windows) for windows in self._known.values()])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.path.parent, suffix=".npz", delete=False) as scratch:
            np.savez(scratch, keys=keys, counts=counts, rows=np.concatenate(list(self._known.values())))
        Path(scratch.name).replace(self.path)


def _key(text: str, query: str) -> str:
    return hashlib.sha256(f"{len(query)}:{query}{text}".encode("utf-8", "surrogatepass")).hexdigest()
