"""The int8 encoder of a bundle, run by ONNX Runtime: exchanges, or windows on them, become embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifiers.encoder.bundle import InvalidBundle, read_manifest
from classifiers.encoder.windows import UnreadableTokenizer, Window, WindowReader

Floats = npt.NDArray[np.float32]


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

    def embed(self, texts: Sequence[str], queries: Sequence[str]) -> list[Floats]:
        """Of each response with its query, both as `deobfuscation.readable` gives them, (windows, dimensions)."""
        windows = self.reader.windows(texts, queries)
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
