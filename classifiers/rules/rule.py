"""A rule: what it looks for, what a hit means, and the examples that show it. Rules come from packs or a database."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from classifiers.pii import VALIDATORS
from classifiers.result import CATEGORIES, Severity, severity_of
from classifiers.rules import negation
from classifiers.rules.matching import Budget, Pattern, PatternError, Span
from classifiers.rules.negation_languages import LANGUAGES
from classifiers.text import normalize

MAX_PATTERNS: Final = 60
READING: Final = 8
"""What reading a sentence costs, in places looked at."""
MAX_EXAMPLE: Final = 2_000
"""Characters in one example."""
_ID = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_WORDS = re.compile(r"\{([a-z_]+)\}")
_LISTS: Final = ("patterns", "unless", "must_match", "must_not_match")
_FLAGS: Final = ("negation", "combination", "doubling", "needless")


class RuleError(ValueError):
    """A rule that cannot be used. The message names the rule and says what to change."""


class Action(StrEnum):
    """What a hit of a rule does: stop the response, or have a slower layer look at it."""

    BLOCK = "block"
    ESCALATE = "escalate"


@dataclass(frozen=True, slots=True)
class Rule:
    """`patterns` and `unless` are in the language of `classifiers.rules.matching`; an `unless` that overlaps a match within its
    sentence excuses it. `validator` names one of `classifiers.pii.VALIDATORS`. With `negation`, what the text denies, asks,
    refuses or reports as a myth is no match. With `combination`, the rule permits taking drugs together: it is no hit where the
    drug tables know them and list nothing against it. With `doubling`, it advises more of a dose: it only escalates where a
    steroid is named, which is doubled in illness. With `needless`, it says that nobody need be seen, which is true of a cold: it
    blocks beside a red flag. `lang`: the language whose negation is meant. `confidence` is in (0, 1].
    """

    id: str
    category: str
    patterns: tuple[str, ...]
    severity: Severity
    action: Action = Action.BLOCK
    confidence: float = 0.95
    unless: tuple[str, ...] = ()
    validator: str = ""
    negation: bool = True
    combination: bool = False
    doubling: bool = False
    needless: bool = False
    lang: str = "en"
    must_match: tuple[str, ...] = field(default=(), repr=False)
    must_not_match: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], words: Mapping[str, str] | None = None) -> Rule:
        """A rule from parsed TOML or JSON; `{name}` in a pattern is replaced from `words`. Raises RuleError.

        Required: `id`, `category`, `patterns`. `severity` is the category's own unless stated.
        """
        name = data.get("id")
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise RuleError(f"rule {name!r}: id must be lower-case letters, digits and _ . - (at most 64), a letter first")
        unknown = data.keys() - {each.name for each in fields(cls)}
        if unknown:
            raise RuleError(f"rule {name}: unknown fields: {', '.join(sorted(map(str, unknown)))}")
        category = data.get("category")
        if category not in CATEGORIES:
            raise RuleError(f"rule {name}: unknown category {category!r}; one of {', '.join(CATEGORIES)}")
        lists = {each: _strings(name, each, data.get(each, ())) for each in _LISTS}
        for each in ("patterns", "unless"):
            lists[each] = tuple(_expand(name, pattern, words or {}) for pattern in lists[each])
        confidence = data.get("confidence", 0.95)
        if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence <= 1:
            raise RuleError(f"rule {name}: confidence must be a number above 0 and at most 1")
        flags = {flag: data.get(flag, flag == "negation") for flag in _FLAGS}
        for flag, value in flags.items():
            if not isinstance(value, bool):
                raise RuleError(f"rule {name}: {flag} must be true or false")
        validator = data.get("validator", "")
        if validator and validator not in VALIDATORS:
            raise RuleError(f"rule {name}: unknown validator {validator!r}; one of {', '.join(VALIDATORS)}")
        lang = data.get("lang", "en")
        if lang not in LANGUAGES:
            raise RuleError(f"rule {name}: unknown lang {lang!r}; one of {', '.join(LANGUAGES)}")
        try:
            severity = Severity(data.get("severity", severity_of(category)))
            action = Action(data.get("action", Action.BLOCK))
        except ValueError as error:
            raise RuleError(f"rule {name}: {error}") from None
        return cls(
            id=name,
            category=category,
            severity=severity,
            action=action,
            confidence=float(confidence),
            validator=validator,
            lang=lang,
            negation=flags["negation"],
            combination=flags["combination"],
            doubling=flags["doubling"],
            needless=flags["needless"],
            **lists,
        )

    def check(self) -> None:
        """Raises RuleError unless the rule compiles, has examples of both kinds, and does on each what they say."""
        if not self.must_match or not self.must_not_match:
            raise RuleError(f"rule {self.id}: give at least one example under must_match and one under must_not_match")
        compiled = CompiledRule(self)
        for example in self.must_match:
            if not compiled.matches(example):
                raise RuleError(f"rule {self.id} does not match its example {example!r}")
        for example in self.must_not_match:
            if compiled.matches(example):
                raise RuleError(f"rule {self.id} matches {example!r}, which must_not_match lists")


@dataclass(frozen=True, slots=True)
class Pack:
    """Rules that are kept together, under a name."""

    name: str
    rules: tuple[Rule, ...]

    @classmethod
    def load(cls, path: Path) -> Pack:
        """A TOML file: `[words]` are the names used in patterns, each `[[rule]]` a rule. Raises RuleError, OSError."""
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
            return cls(path.stem, tuple(Rule.from_mapping(rule, data.get("words")) for rule in data.get("rule", ())))
        except (tomllib.TOMLDecodeError, RuleError) as error:
            raise RuleError(f"{path.name}: {error}") from error


class CompiledRule:
    """A rule that is ready to search. Raises RuleError if one of its patterns does not compile."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        try:
            self.patterns = tuple(Pattern(source) for source in rule.patterns)
            self._unless = tuple(Pattern(source) for source in rule.unless)
        except PatternError as error:
            raise RuleError(f"rule {rule.id}: {error}") from None
        self._validator = VALIDATORS[rule.validator] if rule.validator else None

    def matches(self, text: str) -> bool:
        """Anything in `text`, as it was written, counts as a hit."""
        plain = normalize(text).text
        return any(True for pattern in self.patterns for _ in self.find(pattern, plain, Budget((READING + 1) * len(plain) + 1)))

    def find(self, pattern: Pattern, text: str, budget: Budget) -> Iterator[Span]:
        """Where one of `self.patterns` hits in normalised text. Raises TooManyCandidates."""
        for span in pattern.find(text, budget, negation.SENTENCE_END):
            if self._validator and not self._validator(text, span.start, span.end):
                continue
            if self._unless or self.rule.negation:
                budget.spend(READING)
                if self._excused(text, span):
                    continue
            yield span

    def _excused(self, text: str, span: Span) -> bool:
        sentence = negation.Sentence.around(text, span.start, span.end)
        for pattern in self._unless:
            for exception in pattern.search(sentence.text, negation.SENTENCE_END):
                if exception.start < span.end - sentence.start and exception.end > span.start - sentence.start:
                    return True
        return self.rule.negation and not sentence.asserts(span.start, span.end, span.gaps, self.rule.lang)


def _strings(name: str, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) and each.strip() for each in value):
        raise RuleError(f"rule {name}: {key} must be a list of non-empty strings")
    if key == "patterns" and not 1 <= len(value) <= MAX_PATTERNS:
        raise RuleError(f"rule {name}: give 1 to {MAX_PATTERNS} patterns")
    if any(len(each) > MAX_EXAMPLE for each in value):
        raise RuleError(f"rule {name}: an entry of {key} has more than {MAX_EXAMPLE} characters")
    return tuple(value)


def _expand(name: str, pattern: str, words: Mapping[str, str]) -> str:
    def replacement(match: re.Match[str]) -> str:
        if match[1] not in words:
            raise RuleError(f"rule {name}: {match[0]} is not among the words")
        return _expand(name, words[match[1]], words)

    return _WORDS.sub(replacement, pattern)
