"""The fine-tuned classifier: a sentence-transformers encoder with a trained head, served by ONNX Runtime without torch.

Query and response are read together, as one pair. A long response is read in overlapping windows, and the worst window
decides.
"""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifiers.bundle import InvalidBundle, read_manifest
from classifiers.policy import UNSAFE
from classifiers.result import SAFE, ClassifierResult, Evidence, Layer, severity_of

MAX_QUERY_TOKENS = 64
WINDOW_TOKENS = 256
WINDOW_OVERLAP = 48
DECIMALS = 6
"""Of every probability, so that what is stored, shown and compared with a threshold is one number."""
SCRIPTS = ("LATIN", "GREEK", "MICRO", "MODIFIER", "MASCULINE", "FEMININE")
"""How the Unicode names of letters begin that occur in English about medicines."""

Floats = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Head:
    """One logistic regression per label: `probabilities = sigmoid(embeddings @ weights.T + bias)`.

    `labels`: `unsafe` first, then categories. `weights`: (labels, dimensions). `bias`: (labels,). `encoder_sha256`: of the
    weights of the encoder whose embeddings it reads.
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
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidBundle(f"{path} is not a head: {error}") from error
        n = len(head.labels)
        if n == 0 or head.labels[0] != UNSAFE or len(set(head.labels)) != n:
            raise InvalidBundle(f"{path} is not a head: its labels are not `{UNSAFE}` and then categories, each once")
        if weights.ndim != 2 or len(weights) != n or bias.shape != (n,):
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
        }
        path.write_text(json.dumps(data), encoding="utf-8")

    def probabilities(self, embeddings: Floats) -> Probabilities:
        """(texts, dimensions) -> (texts, labels), each in [0, 1], to `DECIMALS`."""
        # One row at a time: a matrix product adds up in another order when it has more rows.
        products = np.array([self.weights @ row for row in embeddings], dtype=float).reshape(-1, len(self.labels))
        return np.round(1 / (1 + np.exp(-np.clip(products + self.bias, -30, 30))), DECIMALS)


@dataclass(frozen=True, slots=True)
class Window:
    """A part of one response with its query: token ids and segment ids, and the span in the response's characters.

    `known_word`: there is a word of the response that the encoder can read. `unknown_word`: there is one, or one of the
    query, that it cannot, so that it stands for nothing, or for something else.
    """

    text: int
    ids: list[int]
    segments: list[int]
    start: int = 0
    end: int = 0
    known_word: bool = False
    unknown_word: bool = False


class Encoder:
    """The int8 encoder of a bundle: responses with their queries -> embeddings, window by window.

    `threads`: cores per forward pass. Raises InvalidBundle if the bundle is missing or altered.
    """

    def __init__(self, folder: str | Path, *, threads: int = 1) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self.manifest = read_manifest(Path(folder))
        self.encoder_sha256: str = self.manifest["inputs"]["encoder_sha256"]
        self._tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._cls, self._sep, self._unk = map(self._special_token, ("[CLS]", "[SEP]", "[UNK]"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # The arena keeps the largest pass ever seen; without it a worker's memory follows its load back down.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(
            str(Path(folder) / "encoder.onnx"), options, providers=["CPUExecutionProvider"]
        )
        # The first pass allocates and selects kernels; better here than in a patient's request.
        self.dimensions = len(self.forward(Window(0, [self._cls, self._sep], [0, 0])))

    def embed(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> Floats:
        """(texts, dimensions): the embedding of each response's first window with its query. What a head is trained on."""
        windows = self.windows(texts, queries)
        first = {window.text: window for window in reversed(windows)}
        return self.embed_windows([first[text] for text in range(len(texts))])

    def windows(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> list[Window]:
        """Every response as one or more overlapping windows, each with the beginning of its query."""
        pairs = zip(texts, queries if queries is not None else [""] * len(texts), strict=True)
        return [window for row, (text, query) in enumerate(pairs) for window in self._windows(row, text, query)]

    def _windows(self, row: int, text: str, query: str) -> Iterator[Window]:
        asked, _, _, unknown_asked = self._tokens(query)
        ids, offsets, known, unknown = self._tokens(text)
        prefix = [self._cls, *asked[:MAX_QUERY_TOKENS], self._sep]
        room = WINDOW_TOKENS - len(prefix) - 1
        for begin in range(0, max(1, len(ids) - WINDOW_OVERLAP), room - WINDOW_OVERLAP):
            part = slice(begin, begin + room)
            spans = offsets[part]
            yield Window(
                row,
                [*prefix, *ids[part], self._sep],
                [0] * len(prefix) + [1] * (len(spans) + 1),
                start=spans[0][0] if spans else 0,
                end=spans[-1][1] if spans else 0,
                known_word=any(known[part]),
                unknown_word=any(unknown[part]) or any(unknown_asked[:MAX_QUERY_TOKENS]),
            )

    def _special_token(self, name: str) -> int:
        token: int | None = self._tokenizer.token_to_id(name)
        if token is None:
            raise InvalidBundle(f"the tokenizer has no {name}")
        return token

    def _tokens(self, text: str) -> tuple[list[int], list[tuple[int, int]], list[bool], list[bool]]:
        """Of each token: id, span in characters of the text, whether it is (of) a word that is known, or one that is unknown."""
        text = text.encode("utf-8", "replace").decode()  # the tokenizer refuses lone surrogates; each becomes one "?"
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        spelled = [text[start:end] for start, end in encoding.offsets]
        words = [any(map(str.isalnum, spelling)) for spelling in spelled]
        strange = [id == self._unk or _is_foreign(word) for id, word in zip(encoding.ids, spelled, strict=True)]
        known = [word and not odd for word, odd in zip(words, strange, strict=True)]
        unknown = [word and odd for word, odd in zip(words, strange, strict=True)]
        return encoding.ids, encoding.offsets, known, unknown

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


def _is_foreign(word: str) -> bool:
    """Whether a letter or digit is of a script that the encoder was not taught, though its vocabulary has single letters."""
    return not word.isascii() and any(
        (char.isalpha() or char.isdecimal()) and not unicodedata.name(char, "").startswith(SCRIPTS)
        for char in word
        if not char.isascii()
    )


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
        if self.head.weights.shape[1] != self.encoder.dimensions or self.head.encoder_sha256 != self.encoder.encoder_sha256:
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

    def _result(self, text: str, windows: Sequence[Window], probabilities: Probabilities, latency_ms: float) -> ClassifierResult:
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
            evidence = () if is_safe else (Evidence(worst.start, worst.end, span, "worst window", categories[0]),)
        unknown = any(window.unknown_word for window in windows)
        return ClassifierResult(
            is_safe,
            SAFE if is_safe else categories[0],
            f"{reason}; the encoder cannot read every word" if unknown else reason,
            round(1 - p_unsafe, DECIMALS) if is_safe else p_unsafe,
            layer=Layer.FINETUNED.value,
            severity=None if is_safe else severity_of(categories[0]),
            categories=() if is_safe else categories,
            scores=scores,
            evidence=evidence,
            escalate=unknown,
            version=self.version,
            latency_ms=latency_ms,
        )
