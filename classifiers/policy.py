"""A policy: which layers run, and the thresholds on P(unsafe) between which the judge decides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from classifiers.result import CATEGORIES, Layer, family_of

SHIPPED_POLICY = Path(__file__).parent / "model" / "policy.json"
UNSAFE = "unsafe"
"""The score of the response as a whole, beside those of the categories."""
THRESHOLD_KEYS = ("default", UNSAFE, *CATEGORIES)


class InvalidPolicy(ValueError):
    """A policy that may not be used; the message names the field and says why."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """On P(unsafe): blocked at `block_at` and above, allowed below `allow_below`, the judge in between."""

    block_at: float
    allow_below: float

    def __post_init__(self) -> None:
        for name, value in (("block_at", self.block_at), ("allow_below", self.allow_below)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise InvalidPolicy(f"{name} must be a number from 0 to 1, not {value!r}")
        if self.allow_below > self.block_at:
            raise InvalidPolicy(f"allow_below ({self.allow_below}) may not exceed block_at ({self.block_at})")


@dataclass(frozen=True, slots=True)
class Policy:
    """Immutable, thresholds too. They are keyed by category, `unsafe` or `default`; the most specific key holds.

    `layers`: those that run, in cascade order. `judge_min_confidence`: below it, the judge's word is no decision.
    `judge_model`: empty for the one that the judge was set up with.
    Raises InvalidPolicy on values that cannot be meant.
    """

    thresholds: Mapping[str, Threshold]
    layers: tuple[Layer, ...] = tuple(Layer)
    judge_min_confidence: float = 0.7
    judge_model: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", MappingProxyType(dict(self.thresholds)))
        if "default" not in self.thresholds:
            raise InvalidPolicy("thresholds: 'default' is missing")
        if unknown := sorted(set(self.thresholds) - set(THRESHOLD_KEYS)):
            raise InvalidPolicy(f"thresholds: unknown categories {', '.join(unknown)}")
        layers = tuple(layer for layer in Layer if layer in self.layers)
        if not layers or layers != tuple(self.layers):
            raise InvalidPolicy("layers: at least one of rules, finetuned, judge, in that order, each once")
        object.__setattr__(self, "layers", layers)
        if not 0 <= self.judge_min_confidence <= 1:
            raise InvalidPolicy("judge_min_confidence must be from 0 to 1")

    def threshold(self, category: str) -> Threshold:
        """The bounds for a score: its category's, else its family's, else the default."""
        for key in (category, family_of(category)):
            if key in self.thresholds:
                return self.thresholds[key]
        return self.thresholds["default"]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Policy:
        """From `{"thresholds": {key: {"block_at", "allow_below"}}, "layers", "judge_min_confidence", "version"}`."""
        try:
            thresholds = {key: Threshold(**bounds) for key, bounds in dict(data["thresholds"]).items()}
            return cls(
                thresholds=thresholds,
                layers=tuple(Layer(layer) for layer in data.get("layers", tuple(Layer))),
                judge_min_confidence=float(data.get("judge_min_confidence", 0.7)),
                judge_model=str(data.get("judge_model", "")),
                version=str(data.get("version", "")),
            )
        except InvalidPolicy:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidPolicy(f"not a policy: {error}") from error

    def as_json(self) -> dict[str, Any]:
        """The inverse of `from_json`."""
        return {
            "thresholds": {
                key: {"block_at": bounds.block_at, "allow_below": bounds.allow_below} for key, bounds in self.thresholds.items()
            },
            "layers": [layer.value for layer in self.layers],
            "judge_min_confidence": self.judge_min_confidence,
            "judge_model": self.judge_model,
            "version": self.version,
        }

    @classmethod
    def shipped(cls) -> Policy:
        """The policy that comes with the shipped model, whose thresholds were set on its calibration split."""
        return cls.from_json(json.loads(SHIPPED_POLICY.read_text(encoding="utf-8")))
