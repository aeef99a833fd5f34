"""Layers that say what they are told, and a cascade of them run to its verdict."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from classifiers.combined import CombinedSafetyClassifier
from classifiers.policy import Policy, Threshold
from classifiers.result import (
    SAFE,
    ClassifierResult,
    Layer,
    Verdict,
)

POLICY = Policy({"default": Threshold(0.9, 0.1)}, version="test")


# The rules of the house, one by one.


def rules(is_safe: bool = True, category: str = SAFE, **details: Any) -> ClassifierResult:
    return ClassifierResult(is_safe, category, "rules said", 0.95, layer=Layer.RULES, **details)


def finetuned(is_safe: bool = True, confidence: float = 0.5, **scores: float) -> ClassifierResult:
    return ClassifierResult(is_safe, SAFE, "finetuned said", confidence, layer=Layer.FINETUNED, scores=scores)


def judged(is_safe: bool, confidence: float = 0.9, *categories: str, **details: Any) -> ClassifierResult:
    category = categories[0] if categories else SAFE
    return ClassifierResult(is_safe, category, "judge said", confidence, layer=Layer.JUDGE, categories=categories, **details)


# The cascade in one process.


class Fast:
    """A fast classifier that says what it is told to, and remembers what it was asked."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.asked: list[tuple[str, str]] = []

    def classify(self, text: str, query: str = "") -> Any:
        self.asked.append((text, query))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class Oracle:
    """A judge of the same kind."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.asked: list[tuple[str, str]] = []

    async def judge(self, response_text: str, query: str) -> Any:
        self.asked.append((response_text, query))
        if len(self.asked) > 3:
            pytest.fail("the judge is asked without end")
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def run(cascade: CombinedSafetyClassifier, text: str = "Take one tablet.", query: str = "How many?") -> Verdict:
    return asyncio.run(asyncio.wait_for(cascade.classify(text, query), 20))
