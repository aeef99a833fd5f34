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

import numpy as np
import numpy.typing as npt

from classifiers.disguise.deobfuscation import readable
from classifiers.drugs.features import FEATURES, fact_features
from classifiers.encoder.bundle import InvalidBundle, read_manifest
from classifiers.encoder.windows import UnreadableTokenizer, Window, WindowReader
from classifiers.language import detect
from classifiers.policy import UNSAFE
from classifiers.result import SAFE, ClassifierResult, Evidence, Layer, severity_of

DECIMALS = 6
"""Of every probability, so that what is stored, shown and compared with a threshold is one number."""
Floats = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Head:
    """One logistic regression per label: `probabilities = sigmoid([embeddings, facts] @ weights.T + bias)`.

    `labels`: `unsafe` first, then categories. `weights`: (labels, dimensions + facts). `bias`: (labels,). `encoder_sha256`: of
    the encoder whose embeddings it reads. The facts are those of `fact_features.FEATURES`, by name and in that order.
    """

    labels: tuple[str, ...]
    weights: Floats
    bias: Floats
    encoder_sha256: str

    @classmethod
    def load(cls, path: Path) -> Head:
        """From JSON. Raises InvalidBundle on anything but finite numbers of matching shapes."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            with np.errstate(over="ignore"):  # too large for float32 is infinite, and refused as such
                weights, bias = (np.array(data[name], dtype=np.float32) for name in ("weights", "bias"))
            head = cls(tuple(data["labels"]), weights, bias, data["encoder_sha256"])
            if tuple(data["facts"]) != FEATURES:
                raise InvalidBundle(f"{path} was trained on other drug facts: run `python manage.py train`")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidBundle(f"{path} is not a head: {error}") from error
        n = len(head.labels)
        if n == 0 or head.labels[0] != UNSAFE or len(set(head.labels)) != n:
            raise InvalidBundle(f"{path} is not a head: its labels are not `{UNSAFE}` and then categories, each once")
        if weights.ndim != 2 or len(weights) != n or weights.shape[1] <= len(FEATURES) or bias.shape != (n,):
            raise InvalidBundle(f"{path} is not a head: labels, weights and bias do not fit each other")
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise InvalidBundle(f"{path} is not a head: a weight is not a finite number")
        return head

    def save(self, path: Path) -> None:
        """As JSON, with nine significant digits, from which float32 comes back as it was."""
        data = {
            "labels": list(self.labels),
            "weights": [[float(f"{w:.9g}") for w in row] for row in self.weights],
            "bias": [float(f"{b:.9g}") for b in self.bias],
            "encoder_sha256": self.encoder_sha256,
            "facts": list(FEATURES),
        }
        path.write_text(json.dumps(data), encoding="utf-8")

    @property
    def dimensions(self) -> int:
        """Of the embeddings."""
        columns: int = self.weights.shape[1]
        return columns - len(FEATURES)

    def probabilities(self, embeddings: Floats, facts: Floats) -> Probabilities:
        """(windows, dimensions) and (facts,) of their exchange -> (windows, labels), each in [0, 1], to `DECIMALS`."""
        shift = self.bias + self.weights[:, self.dimensions :] @ facts
        # One row at a time: a matrix product adds up in another order when it has more rows.
        products = [self.weights[:, : self.dimensions] @ row + shift for row in embeddings]
        logits = np.array(products, dtype=float).reshape(-1, len(self.labels))
        probabilities: Probabilities = np.round(1 / (1 + np.exp(-np.clip(logits, -30, 30))), DECIMALS)
        return probabilities


class Encoder:
    """The int8 encoder of a bundle: responses with their queries -> embeddings, window by window.

    `threads`: cores per forward pass. Raises InvalidBundle if the bundle is missing or altered.
    """

    def __init__(self, folder: str | Path, *, threads: int = 1) -> None:
        import onnxruntime

        self.manifest = read_manifest(Path(folder))
        self.encoder_sha256: str = self.manifest["inputs"]["encoder_sha256"]
        try:
            self.reader = WindowReader(Path(folder) / "tokenizer.json")
        except UnreadableTokenizer as error:
            raise InvalidBundle(str(error)) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # The arena keeps the largest pass ever seen; without it a worker's memory follows its load back down.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(
            str(Path(folder) / "encoder.onnx"), options, providers=["CPUExecutionProvider"]
        )
        # The first pass allocates and selects kernels; better here than in a patient's request.
        self.dimensions = len(self.forward(self.reader.empty()))

    def embed(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> list[Floats]:
        """Of each response with its query, as they are read when served, (windows, dimensions)."""
        asked = queries if queries is not None else [""] * len(texts)
        windows = self.reader.windows([readable(text) for text in texts], [readable(query) for query in asked])
        embeddings = self.embed_windows(windows)
        owners = np.array([window.text for window in windows])
        return [embeddings[owners == text] for text in range(len(texts))]

    def embed_windows(self, windows: Sequence[Window]) -> Floats:
        """(windows, dimensions). Two passes at a time when there is more than one.

        One window a pass: int8 activations are scaled by the largest in a pass, so that windows which shared one would
        change each other's scores.
        """
        if len(windows) < 2:
            embeddings = [self.forward(window) for window in windows]
        else:
            with ThreadPoolExecutor(max_workers=2) as pool:
                embeddings = list(pool.map(self.forward, windows))
        return np.array(embeddings, dtype=np.float32).reshape(-1, self.dimensions)

    def forward(self, window: Window) -> Floats:
        """(dimensions,): the bare pass."""
        ids = np.array([window.ids], dtype=np.int64)
        segments = np.array([window.segments], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": segments}
        embedding: Floats = self._session.run(None, inputs)[0][0]
        return embedding


class PharmacySafetyClassifier:
    """P(unsafe) and one probability per category for a response to a query, on the CPU.

    `model_path`: a bundle folder (see `bundle`). `threshold`: on P(unsafe), for `is_safe` alone; a cascade's policy has its
    own. `threads`: cores per forward pass. Raises InvalidBundle if the bundle is missing or altered.
    """

    def __init__(self, model_path: str | Path, threshold: float = 0.5, *, threads: int = 1) -> None:
        self.threshold = threshold
        self.encoder = Encoder(model_path, threads=threads)
        self.version: str = self.encoder.manifest["version"]
        if "head.json" not in self.encoder.manifest["files"]:
            raise InvalidBundle(f"{model_path} is an encoder without a head")
        self.head = Head.load(Path(model_path) / "head.json")
        if self.head.dimensions != self.encoder.dimensions or self.head.encoder_sha256 != self.encoder.encoder_sha256:
            raise InvalidBundle(f"{model_path}: the head does not fit the encoder")

    def classify(self, text: str, query: str = "") -> ClassifierResult:
        """The result for one response."""
        return self.classify_batch([text], [query])[0]

    def classify_batch(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> list[ClassifierResult]:
        """The results for many responses, in their order; `latency_ms` is each one's share of the batch."""
        if not texts:
            return []
        started = time.perf_counter()
        asked = list(queries) if queries is not None else [""] * len(texts)
        plain, plain_asked = [readable(text) for text in texts], [readable(query) for query in asked]
        windows = self.encoder.reader.windows(plain, plain_asked)
        embeddings = self.encoder.embed_windows(windows)
        facts = fact_features(plain, plain_asked)
        rows: list[list[int]] = [[] for _ in texts]
        for row, window in enumerate(windows):
            rows[window.text].append(row)
        probabilities = [self.head.probabilities(embeddings[chosen], facts[text]) for text, chosen in enumerate(rows)]
        share = (time.perf_counter() - started) * 1000 / len(texts)
        return [
            self._result(
                text, query, [windows[row] for row in chosen], scored, share, mended=(reads is not text, hears is not query)
            )
            for text, query, reads, hears, chosen, scored in zip(
                texts, asked, plain, plain_asked, rows, probabilities, strict=True
            )
        ]

    def _result(
        self,
        text: str,
        query: str,
        windows: Sequence[Window],
        probabilities: Probabilities,
        latency_ms: float,
        *,
        mended: tuple[bool, bool],
    ) -> ClassifierResult:
        if not any(window.known_word for window in windows):
            error = "the encoder can read no word of the response"
            return ClassifierResult.failed(Layer.FINETUNED, error, version=self.version, latency_ms=latency_ms)
        scores = dict(zip(self.head.labels, probabilities.max(axis=0).tolist(), strict=True))
        p_unsafe = scores[UNSAFE]
        is_safe = bool(p_unsafe < self.threshold)
        ranked = sorted((label for label in self.head.labels if label != UNSAFE), key=lambda label: -scores[label])
        categories = tuple(label for label in ranked if scores[label] >= 0.5) or tuple(ranked[:1]) or (UNSAFE,)
        reason = f"P(unsafe) = {p_unsafe:.3f}"
        evidence: tuple[Evidence, ...] = ()
        if len(windows) > 1:
            reason += f" in the worst of {len(windows)} windows"
            worst = windows[int(probabilities[:, 0].argmax())]
            span = text[worst.start : worst.end]
            # The window of a mended spelling stands elsewhere in the text as it was written.
            evidence = () if is_safe or mended[0] else (Evidence(worst.start, worst.end, span, "worst window", categories[0]),)
        spoken, asked = detect(text), detect(query)
        # No honest answer is; what the mending made of it may still be read wrongly.
        doubts = [
            f"the {part} is written in disguise"
            for part, is_mended in zip(("response", "query"), mended, strict=True)
            if is_mended
        ]
        if any(window.unknown_word for window in windows):
            doubts.append("the encoder cannot read every word")
        doubts += [
            f"the {part} is in a language without evidence ({language.foreign})"
            for part, language in (("response", spoken), ("query", asked))
            if language.foreign
        ]
        return ClassifierResult(
            is_safe,
            SAFE if is_safe else categories[0],
            "; ".join([reason, *doubts]),
            round(1 - p_unsafe, DECIMALS) if is_safe else p_unsafe,
            layer=Layer.FINETUNED.value,
            severity=None if is_safe else severity_of(categories[0]),
            categories=() if is_safe else categories,
            scores=scores,
            evidence=evidence,
            escalate=bool(doubts),
            version=self.version,
            latency_ms=latency_ms,
            language=spoken.code,
        )
