"""The fine-tuned classifier: a sentence-transformers encoder with a trained head, served by ONNX Runtime without torch.

Query and response are read together, as one pair. A long response is read in overlapping windows, and the worst window
decides.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.bundle import InvalidBundle, read_manifest
from classifiers.policy import UNSAFE
from classifiers.result import SAFE, ClassifierResult, Evidence, Layer, severity_of

MAX_QUERY_TOKENS = 64
WINDOW_TOKENS = 256
WINDOW_OVERLAP = 48
BATCH_SIZE = 16

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Head:
    """One logistic regression per label: `probabilities = sigmoid(embeddings @ weights.T + bias)`.

    `labels`: `unsafe` first, then categories. `weights`: (labels, dimensions). `bias`: (labels,).
    """

    labels: tuple[str, ...]
    weights: Floats
    bias: Floats

    @classmethod
    def load(cls, path: Path) -> Head:
        """From JSON. Raises InvalidBundle on anything but finite numbers of matching shapes."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            head = cls(
                tuple(data["labels"]), np.array(data["weights"], dtype=np.float32), np.array(data["bias"], dtype=np.float32)
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidBundle(f"{path} is not a head: {error}") from error
        shaped = head.weights.ndim == 2 and len(head.labels) == len(head.weights) == len(head.bias)
        if not shaped or head.labels[0] != UNSAFE or not (np.isfinite(head.weights).all() and np.isfinite(head.bias).all()):
            raise InvalidBundle(f"{path} is not a head: labels, weights and bias do not fit each other")
        return head

    def save(self, path: Path) -> None:
        """As JSON, with seven significant digits, which float32 does not exceed."""
        data = {
            "labels": list(self.labels),
            "weights": [[float(f"{w:.7g}") for w in row] for row in self.weights],
            "bias": [float(f"{b:.7g}") for b in self.bias],
        }
        path.write_text(json.dumps(data), encoding="utf-8")

    def probabilities(self, embeddings: Floats) -> Floats:
        """(texts, dimensions) -> (texts, labels), each in [0, 1]."""
        logits = embeddings @ self.weights.T + self.bias
        return (1 / (1 + np.exp(-np.clip(logits, -30, 30)))).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Window:
    """A part of one response with its query: token ids and segment ids, and the span in the response's characters."""

    text: int
    ids: list[int]
    segments: list[int]
    start: int
    end: int


class Encoder:
    """The int8 encoder of a bundle: responses with their queries -> embeddings, window by window.

    `threads`: cores per forward pass. Raises InvalidBundle if the bundle is missing or altered.
    """

    def __init__(self, folder: str | Path, *, threads: int = 1) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self.manifest = read_manifest(Path(folder))
        self._tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._cls, self._sep = self._tokenizer.token_to_id("[CLS]"), self._tokenizer.token_to_id("[SEP]")
        if self._cls is None or self._sep is None:
            raise InvalidBundle(f"{folder}: the tokenizer has no [CLS] and [SEP]")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # The arena keeps the largest batch ever seen; without it a worker's memory follows its load back down.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(
            str(Path(folder) / "encoder.onnx"), options, providers=["CPUExecutionProvider"]
        )
        # The first pass allocates and selects kernels; better here than in a patient's request.
        self.dimensions: int = self.forward([Window(0, [self._cls, self._sep], [0, 0], 0, 0)]).shape[1]

    def embed(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> Floats:
        """(texts, dimensions): the embedding of each response's first window with its query. What a head is trained on."""
        windows = self.windows(texts, queries)
        first = {window.text: window for window in reversed(windows)}
        return self.embed_windows([first[text] for text in range(len(texts))])

    def windows(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> list[Window]:
        """Every response as one or more overlapping windows, each with the beginning of its query."""
        queries = queries if queries is not None else [""] * len(texts)
        encoded_queries = self._tokenizer.encode_batch_fast(list(queries), add_special_tokens=False)
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        windows = []
        for index, (query, response) in enumerate(zip(encoded_queries, encoded, strict=True)):
            prefix = [self._cls, *query.ids[:MAX_QUERY_TOKENS], self._sep]
            room = WINDOW_TOKENS - len(prefix) - 1
            offsets, length = response.offsets, len(response.ids)
            begin = 0
            while True:
                end = min(begin + room, length)
                ids = [*prefix, *response.ids[begin:end], self._sep]
                span = (offsets[begin][0], offsets[end - 1][1]) if end > begin else (0, 0)
                windows.append(Window(index, ids, [0] * len(prefix) + [1] * (end - begin + 1), *span))
                if end == length:
                    break
                begin = end - WINDOW_OVERLAP
        return windows

    def embed_windows(self, windows: Sequence[Window]) -> Floats:
        """(windows, dimensions). Length-sorted batches, so that little is padded; two batches at a time when there is more than one."""
        order = sorted(range(len(windows)), key=lambda row: len(windows[row].ids))
        batches = [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]
        embeddings = np.empty((len(windows), self.dimensions), dtype=np.float32)

        def forward(batch: list[int]) -> None:
            embeddings[batch] = self.forward([windows[row] for row in batch])

        if len(batches) == 1:
            forward(batches[0])
        else:
            with ThreadPoolExecutor(max_workers=2) as pool:
                list(pool.map(forward, batches))
        return embeddings

    def forward(self, windows: Sequence[Window]) -> Any:
        """(windows, dimensions) of one batch: what ONNX Runtime itself takes and gives."""
        longest = max(len(window.ids) for window in windows)
        ids = np.zeros((len(windows), longest), dtype=np.int64)
        segments, mask = np.zeros_like(ids), np.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window.ids)] = window.ids
            segments[row, : len(window.ids)] = window.segments
            mask[row, : len(window.ids)] = 1
        return self._session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments})[0]


class PharmacySafetyClassifier:
    """P(unsafe) and one probability per category for a response to a query, on the CPU.

    `model_path`: a bundle folder (see `bundle`). `threshold`: on P(unsafe), for `is_safe` alone; a cascade's policy has its
    own. `threads`: cores per forward pass. Raises InvalidBundle if the bundle is missing or altered.
    """

    def __init__(self, model_path: str | Path, threshold: float = 0.5, *, threads: int = 1) -> None:
        self.threshold = threshold
        self.encoder = Encoder(model_path, threads=threads)
        self.version: str = self.encoder.manifest["version"]
        self.head = Head.load(Path(model_path) / "head.json")
        if self.head.weights.shape[1] != self.encoder.dimensions:
            raise InvalidBundle(f"{model_path}: the head does not fit the encoder")

    def classify(self, text: str, query: str = "") -> ClassifierResult:
        """The result for one response."""
        return self.classify_batch([text], [query])[0]

    def classify_batch(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> list[ClassifierResult]:
        """The results for many responses, in their order; `latency_ms` is each one's share of the batch."""
        if not texts:
            return []
        started = time.perf_counter()
        windows = self.encoder.windows(texts, queries)
        probabilities = self.head.probabilities(self.encoder.embed_windows(windows))
        share = (time.perf_counter() - started) * 1000 / len(texts)
        rows: list[list[int]] = [[] for _ in texts]
        for row, window in enumerate(windows):
            rows[window.text].append(row)
        return [
            self._result(text, [windows[row] for row in of_text], probabilities[of_text], share)
            for text, of_text in zip(texts, rows, strict=True)
        ]

    def _result(self, text: str, windows: Sequence[Window], probabilities: Floats, latency_ms: float) -> ClassifierResult:
        worst = int(probabilities[:, 0].argmax())
        scores = {label: float(p) for label, p in zip(self.head.labels, probabilities.max(axis=0), strict=True)}
        p_unsafe = scores[UNSAFE]
        ranked = sorted((label for label in self.head.labels if label != UNSAFE), key=lambda label: -scores[label])
        is_safe = p_unsafe < self.threshold
        categories = tuple(label for label in ranked if scores[label] >= 0.5) or tuple(ranked[:1])
        window = windows[worst]
        evidence = ()
        if len(windows) > 1 and not is_safe:
            span = text[window.start : window.end]
            evidence = (Evidence(window.start, window.end, span, "worst window", categories[0] if categories else UNSAFE),)
        return ClassifierResult(
            is_safe,
            SAFE if is_safe else (categories[0] if categories else UNSAFE),
            f"P(unsafe) = {p_unsafe:.3f}" + (f" in the worst of {len(windows)} windows" if len(windows) > 1 else ""),
            max(p_unsafe, 1 - p_unsafe),
            layer=Layer.FINETUNED.value,
            severity=None if is_safe or not categories else severity_of(categories[0]),
            categories=() if is_safe else categories,
            scores=scores,
            evidence=evidence,
            version=self.version,
            latency_ms=latency_ms,
        )
