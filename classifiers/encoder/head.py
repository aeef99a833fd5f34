"""The head: one logistic regression per label, on an encoder's embeddings and on the drug facts of the exchange."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifiers.drugs.features import FEATURES
from classifiers.encoder.bundle import InvalidBundle
from classifiers.encoder.encoder import Floats
from classifiers.policy import UNSAFE

DECIMALS = 6
"""Of every probability, so that what is stored, shown and compared with a threshold is one number."""
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Head:
    """One logistic regression per label: `probabilities = sigmoid([embeddings, facts] @ weights.T + bias)`.

    `labels`: `unsafe` first, then categories. `weights`: (labels, dimensions + facts). `bias`: (labels,). `encoder_sha256`: of
    the encoder whose embeddings it reads. The facts are those of `drugs.features.FEATURES`, by name and in that order.
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
