"""The fine-tuned classifier: a sentence-transformers encoder with a trained head, served by ONNX Runtime without torch.

Query and response are read together, as one pair. A long response is read in overlapping windows, and the worst window
decides.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path

from classifiers.disguise.deobfuscation import readable
from classifiers.drugs.features import fact_features
from classifiers.encoder.bundle import InvalidBundle
from classifiers.encoder.encoder import Encoder, Floats
from classifiers.encoder.head import DECIMALS, Head, Probabilities
from classifiers.encoder.windows import Window
from classifiers.language import detect
from classifiers.policy import UNSAFE
from classifiers.result import SAFE, ClassifierResult, Evidence, Layer, severity_of

_seen: ContextVar[tuple[Floats, str] | None] = ContextVar("seen", default=None)


def last_embedding() -> tuple[Floats, str] | None:
    """(mean over the windows, hash of the encoder) of what this thread classified last: who wants it need not embed it again."""
    return _seen.get()


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
        if rows[-1]:
            _seen.set((embeddings[rows[-1]].mean(axis=0), self.encoder.encoder_sha256))
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
