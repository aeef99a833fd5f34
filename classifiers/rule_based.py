"""The first layer: rules that run in microseconds at no cost, before any model.

One `re2.Set` pass over the text says which rules can match at all. Only those are searched for spans, and only spans are
read for negation. An ordinary answer costs the one pass.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import cache
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Final

import re2  # type: ignore[import-untyped]

from classifiers.result import SAFE, ClassifierResult, Evidence, Layer, family_of
from classifiers.rules.matching import Budget, Pattern, TooManyCandidates, options
from classifiers.rules.rule import Action, CompiledRule, Pack, Rule, RuleError
from classifiers.text import Normalized, normalize

__all__ = [
    "HARMFUL_MEDICAL_PATTERNS",
    "PII_PATTERNS",
    "ClassifierResult",
    "Rule",
    "RuleBasedClassifier",
    "RuleError",
    "classify_rule_based",
]

PACKS: Final = Path(__file__).parent / "rules"
MAX_EVIDENCE: Final = 20
"""Spans kept for each rule: more tell a pharmacist nothing."""
MAX_WORK: Final = 2_000
"""Places looked at in one text; a sentence that is read counts `rule.READING`. A text with more, none of them a hit, is
undecided: it is no answer to a patient."""
MAX_MEMORY: Final = 64 << 20
"""Bytes that the automaton of the set may take."""
NOTHING_FOUND: Final = 0.7
"""Confidence in "safe" when no rule hits: the rules know few of the ways to do harm."""


class RuleBasedClassifier:
    """Searches a text for what the rules of `packs`, and `extra` ones, describe. Safe to share between threads.

    Raises RuleError for two rules of one name, a pattern that does not compile, or more than `max_memory` bytes hold. It
    does not run the rules' examples: `Rule.check` does, when a rule is written.
    """

    def __init__(self, packs: Iterable[Pack], extra: Iterable[Rule] = (), *, max_memory: int = MAX_MEMORY) -> None:
        self.rules = (*(rule for pack in packs for rule in pack.rules), *extra)
        names = [rule.id for rule in self.rules]
        if twice := {name for name in names if names.count(name) > 1}:
            raise RuleError(f"more than one rule is named {', '.join(sorted(twice))}")
        described = json.dumps([asdict(rule) for rule in self.rules], sort_keys=True)
        self.version = f"rules-{hashlib.sha256(described.encode()).hexdigest()[:12]}"

        chosen = options()
        chosen.max_mem = max_memory
        self._set = re2.Set.SearchSet(chosen)
        # A set that runs out of memory says "no match". The empty pattern always matches: without it, the scan has failed.
        self._canary: int = self._set.Add("")
        numbers: dict[str, int] = {}
        self._searches: list[tuple[CompiledRule, Pattern, frozenset[int]]] = []
        for rule in self.rules:
            compiled = CompiledRule(rule)
            for pattern in compiled.patterns:
                for anchor in pattern.anchors:
                    if anchor not in numbers:
                        numbers[anchor] = self._set.Add(anchor)
                self._searches.append((compiled, pattern, frozenset(numbers[anchor] for anchor in pattern.anchors)))
        try:
            self._set.Compile()
        except Exception as error:  # the binding's own type is not exported
            raise RuleError(f"{len(numbers)} patterns do not fit in {max_memory} bytes") from error

    @classmethod
    def default(cls) -> RuleBasedClassifier:
        """The one of the packs that ship, loaded at the first call."""
        return _default()

    def classify(self, text: str, query: str = "") -> ClassifierResult:
        """What the rules find in `text`; `query` is taken as by the other layers, and rules do not read it. Linear time.

        A scan that could not be finished is a failed result, unless it had found something by then. Never raises for a str.
        """
        begun = perf_counter()
        plain = normalize(text)
        found: dict[str, list[Evidence]] = {}
        error = ""
        matched = frozenset(self._set.Match(plain.text))
        if self._canary not in matched:
            error = "the scan ran out of memory"
        elif len(matched) > 1:
            try:
                self._search(plain, text, matched, found)
            except TooManyCandidates:
                error = "too many places to examine"
        if found:
            result = _found([rule for rule in self.rules if rule.id in found], found)
        elif error:
            result = ClassifierResult.failed(Layer.RULES, error)
        else:
            result = ClassifierResult(True, SAFE, "No harmful patterns detected", NOTHING_FOUND, layer=Layer.RULES)
        return replace(result, version=self.version, latency_ms=(perf_counter() - begun) * 1e3)

    def _search(self, plain: Normalized, text: str, matched: frozenset[int], found: dict[str, list[Evidence]]) -> None:
        budget = Budget(MAX_WORK)
        for compiled, pattern, anchors in self._searches:
            if not anchors <= matched:
                continue
            rule = compiled.rule
            already = found.get(rule.id, [])
            for span in islice(compiled.find(pattern, plain.text, budget), MAX_EVIDENCE - len(already)):
                start, end = plain.original_span(span.start, span.end)
                # Two patterns of one rule may find the same words.
                if all(end <= other.start or start >= other.end for other in already):
                    already.append(Evidence(start, end, text[start:end], rule.id, rule.category))
                    found[rule.id] = already


def _found(hit: list[Rule], found: dict[str, list[Evidence]]) -> ClassifierResult:
    """The result for at least one hit; the most severe rule comes first, among equals one that blocks."""
    rules = sorted(hit, key=lambda rule: (-rule.severity.rank, rule.action is Action.ESCALATE, -rule.confidence))
    escalate = all(rule.action is Action.ESCALATE for rule in rules)
    scores: dict[str, float] = {}
    for rule in rules:
        scores[rule.category] = max(rule.confidence, scores.get(rule.category, 0.0))
    return ClassifierResult(
        False,
        rules[0].category,
        "Matched rules: " + ", ".join(rule.id for rule in rules) if len(rules) > 1 else f"Matched rule: {rules[0].id}",
        max(rule.confidence for rule in rules if rule.action is Action.BLOCK or escalate),
        layer=Layer.RULES,
        severity=rules[0].severity,
        categories=tuple(scores),
        scores={**scores, "unsafe": max(scores.values())},
        evidence=tuple(evidence for rule in rules for evidence in sorted(found[rule.id], key=lambda each: each.start)),
        escalate=escalate,
    )


# Made by `__getattr__`.
HARMFUL_MEDICAL_PATTERNS: tuple[Rule, ...]
PII_PATTERNS: tuple[Rule, ...]


@cache
def _packs() -> tuple[Pack, ...]:
    return tuple(Pack.load(path) for path in sorted(PACKS.glob("*.toml")))


@cache
def _default() -> RuleBasedClassifier:
    return RuleBasedClassifier(_packs())


def classify_rule_based(text: str) -> ClassifierResult:
    """What the rules that ship find in a response. See `RuleBasedClassifier.classify`."""
    return _default().classify(text)


def __getattr__(name: str) -> tuple[Rule, ...]:
    """`HARMFUL_MEDICAL_PATTERNS` and `PII_PATTERNS`: the rules that ship, read when first asked for."""
    families = {"HARMFUL_MEDICAL_PATTERNS": ("harmful_medical", "discouraging_care"), "PII_PATTERNS": ("pii",)}
    if name not in families:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return tuple(rule for pack in _packs() for rule in pack.rules if family_of(rule.category) in families[name])
