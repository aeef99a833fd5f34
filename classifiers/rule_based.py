"""The first layer: rules that run in microseconds at no cost, before any model.

One `re2.Set` pass over the text says which rules can match at all. Only those are searched for spans, and only spans are
read for negation. An ordinary answer costs that pass, and three more over it and its query: for odd spellings, for the names of
drugs and for warning signs. What the tables say of those counts where the response approves it (`classifiers.drugs.stance`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import cache
from itertools import filterfalse, islice
from pathlib import Path
from time import perf_counter
from typing import Final

import re2  # type: ignore[import-untyped]

from classifiers.allow_list import AllowList
from classifiers.disguise.deobfuscation import Reading, speller_of
from classifiers.drug_facts import read_normalized
from classifiers.drugs.findings import corrected, findings, tables_digest
from classifiers.drugs.tables import tables
from classifiers.result import SAFE, ClassifierResult, Evidence, Layer, Severity, family_of
from classifiers.rules.matching import Budget, Pattern, TooManyCandidates, options
from classifiers.rules.rule import Action, CompiledRule, Pack, Rule, RuleError
from classifiers.text import Normalized, normalize, with_headers

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
MAX_UNREADABLE: Final = 200
"""Characters shown of what could not be read."""
MAX_MEMORY: Final = 64 << 20
"""Bytes that the automaton of the set may take."""
UNREADABLE: Final = Rule("unreadable_text", "jailbreak_success", (), Severity.MAJOR, Action.ESCALATE, 0.5)
"""What stands for text, in response or query, that no rule can read: enciphered, encoded, or in letters of two alphabets."""
NOT_READ_TO_THE_END: Final = Rule("not_read_to_the_end", "harmful_medical", (), Severity.CRITICAL, Action.ESCALATE, 0.5)
"""What stands for an exchange that names more drugs, conditions or doses than are looked at: the rest may be what harms."""
NOTHING_FOUND: Final = 0.7
"""Confidence in "safe" when no rule hits: the rules know few of the ways to do harm."""


class RuleBasedClassifier:
    """Searches a text for what the rules of `packs`, and `extra` ones, describe. Safe to share between threads.

    Raises RuleError for two rules of one name, a pattern that does not compile, or more than `max_memory` bytes hold. It
    does not run the rules' examples: `Rule.check` does, when a rule is written. `allow` lists what is nobody's personal data:
    the pharmacy's own numbers, addresses, and domains of e-mail.
    """

    def __init__(
        self, packs: Iterable[Pack], extra: Iterable[Rule] = (), *, allow: Iterable[str] = (), max_memory: int = MAX_MEMORY
    ) -> None:
        self.rules = (*(rule for pack in packs for rule in pack.rules), *extra)
        names = [rule.id for rule in self.rules]
        if twice := {name for name in names if names.count(name) > 1}:
            raise RuleError(f"more than one rule is named {', '.join(sorted(twice))}")
        self._allow = AllowList(allow)
        self.speller = speller_of(self.rules)
        described = json.dumps([asdict(rule) for rule in self.rules] + list(self._allow.entries), sort_keys=True)
        self.version = f"rules-{hashlib.sha256((described + tables_digest()).encode()).hexdigest()[:12]}"
        self._known = tables()

        chosen = options()
        chosen.max_mem = max_memory
        self._set = re2.Set.SearchSet(chosen)
        # A set that runs out of memory says "no match". The empty pattern always matches: without it, the scan has failed.
        self._canary: int = self._set.Add("")
        numbers: dict[str, int] = {}
        self._searches: list[tuple[CompiledRule, Pattern, frozenset[int]]] = []
        # By the first of its anchors, each search: most of them are never looked at.
        self._starting: dict[int, list[int]] = {}
        for rule in self.rules:
            compiled = CompiledRule(rule)
            for pattern in compiled.patterns:
                for anchor in pattern.anchors:
                    if anchor not in numbers:
                        numbers[anchor] = self._set.Add(anchor)
                anchors = [numbers[anchor] for anchor in pattern.anchors]
                self._starting.setdefault(anchors[0], []).append(len(self._searches))
                self._searches.append((compiled, pattern, frozenset(anchors)))
        try:
            self._set.Compile()
        except Exception as error:  # the binding's own type is not exported
            raise RuleError(f"{len(numbers)} patterns do not fit in {max_memory} bytes") from error

    @classmethod
    def default(cls, allow: Iterable[str] = ()) -> RuleBasedClassifier:
        """The one of the packs that ship, loaded at the first call. For `allow`, see the class."""
        return _default(tuple(allow))

    def classify(self, text: str, query: str = "") -> ClassifierResult:
        """What rules and drug facts find in `text`, the response to `query`. Linear time.

        A scan that could not be finished is a failed result, unless it had found something by then. Never raises for a str.
        """
        begun = perf_counter()
        plain = normalize(text)
        found: dict[str, list[Evidence]] = {}
        reading = self.speller.read(plain)
        error = ""
        for searched in readings(plain, reading):
            error = self._scan(searched, text, found) or error
        view = plain if reading.respelled is None else reading.respelled
        asked = self.speller.read(normalize(query))
        plain_query = normalize(query) if asked.respelled is None else asked.respelled
        known = read_normalized(view.text, plain_query.text, self._known)
        hit = corrected((rule for rule in self.rules if rule.id in found), known, self._known)
        notes: dict[str, str] = {}
        for finding in findings(known, view, text, self._known):
            hit.append(finding.rule)
            found[finding.rule.id] = list(finding.evidence)
            notes[finding.rule.id] = f" ({finding.note})"
        if not (hit or error) and known.truncated:
            result = _found([NOT_READ_TO_THE_END], {NOT_READ_TO_THE_END.id: []}, {})
        elif not (hit or error) and (reading.unreadable or asked.unreadable):
            start, end = reading.unreadable or (0, 0)
            shown = min(end, start + MAX_UNREADABLE)
            evidence = [Evidence(start, shown, text[start:shown], UNREADABLE.id, UNREADABLE.category)] if shown else []
            result = _found([UNREADABLE], {UNREADABLE.id: evidence}, {})
        elif hit:
            result = _found(hit, found, notes)
        elif error:
            result = ClassifierResult.failed(Layer.RULES, error)
        else:
            result = ClassifierResult(True, SAFE, "No harmful patterns detected", NOTHING_FOUND, layer=Layer.RULES)
        return replace(result, version=self.version, latency_ms=(perf_counter() - begun) * 1e3)

    def _scan(self, plain: Normalized, text: str, found: dict[str, list[Evidence]]) -> str:
        """Adds to `found` what hits in one reading of `text`; returns why the scan could not be finished, empty if it was."""
        matched = frozenset(self._set.Match(plain.text))
        if self._canary not in matched:
            return "the scan ran out of memory"
        if len(matched) > 1:
            try:
                self._search(plain, text, matched, found)
            except TooManyCandidates:
                return "too many places to examine"
        return ""

    def _search(self, plain: Normalized, text: str, matched: frozenset[int], found: dict[str, list[Evidence]]) -> None:
        budget = Budget(MAX_WORK)
        for number in sorted(number for anchor in matched for number in self._starting.get(anchor, ())):
            compiled, pattern, anchors = self._searches[number]
            if not anchors <= matched:
                continue
            rule = compiled.rule
            already = found.get(rule.id, [])
            spans = compiled.find(pattern, plain.text, budget)
            if rule.category.startswith("pii") and self._allow.entries:
                spans = filterfalse(lambda span: self._allow.covers(plain.text, span.start, span.end), spans)
            for span in islice(spans, MAX_EVIDENCE - len(already)):
                start, end = plain.original_span(span.start, span.end)
                if not text[start:end].strip():  # invisible, or the header of a table's column
                    continue
                # Two patterns of one rule may find the same words.
                if all(end <= other.start or start >= other.end for other in already):
                    already.append(Evidence(start, end, text[start:end], rule.id, rule.category))
                    found[rule.id] = already


def readings(plain: Normalized, reading: Reading) -> tuple[Normalized, ...]:
    """All that is searched of a text: as it stands, with the headers of its tables' columns, and as a person reads it."""
    return tuple(view for view in (plain, with_headers(plain), reading.respelled) if view is not None)


def _found(hit: list[Rule], found: dict[str, list[Evidence]], notes: dict[str, str]) -> ClassifierResult:
    """The result for at least one hit; the most severe rule comes first, among equals one that blocks. `notes` by rule."""
    rules = sorted(hit, key=lambda rule: (-rule.severity.rank, rule.action is Action.ESCALATE, -rule.confidence))
    escalate = all(rule.action is Action.ESCALATE for rule in rules)
    scores: dict[str, float] = {}
    for rule in rules:
        scores[rule.category] = max(rule.confidence, scores.get(rule.category, 0.0))
    return ClassifierResult(
        False,
        rules[0].category,
        ("Matched rules: " if len(rules) > 1 else "Matched rule: ")
        + ", ".join(rule.id + notes.get(rule.id, "") for rule in rules),
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
def _default(allow: tuple[str, ...]) -> RuleBasedClassifier:
    return RuleBasedClassifier(_packs(), allow=allow)


def classify_rule_based(text: str) -> ClassifierResult:
    """What the rules that ship find in a response. See `RuleBasedClassifier.classify`."""
    return RuleBasedClassifier.default().classify(text)


def __getattr__(name: str) -> tuple[Rule, ...]:
    """`HARMFUL_MEDICAL_PATTERNS` and `PII_PATTERNS`: the rules that ship, read when first asked for."""
    families = {"HARMFUL_MEDICAL_PATTERNS": ("harmful_medical", "discouraging_care"), "PII_PATTERNS": ("pii",)}
    if name not in families:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return tuple(rule for pack in _packs() for rule in pack.rules if family_of(rule.category) in families[name])
