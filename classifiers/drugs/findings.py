"""What the rules layer makes of drug facts: findings on the response's words, and the rules that facts may correct."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from classifiers.drug_facts import CATEGORY_OF, Reading, citation
from classifiers.drugs.stance import Approval, approvals
from classifiers.drugs.stance_words import SENDS
from classifiers.drugs.tables import FACTS, Fact, Tables
from classifiers.result import Evidence, Severity
from classifiers.rules.rule import Action, Rule
from classifiers.text import Normalized

PREFIX: Final = "drug_facts."
BLOCKS: Final = 0.95
ESCALATES: Final = 0.6
"""Confidence of a finding that may block by itself, and of one that may not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Approvals of one kind of fact: the rule that they count as, where they stand, and what they say with its source."""

    rule: Rule
    evidence: tuple[Evidence, ...]
    note: str


def findings(reading: Reading, plain: Normalized, text: str, known: Tables) -> list[Finding]:
    """The risks of `reading` that the response `text`, in plain characters `plain`, approves: one finding for each kind.

    It may block where a fact is critical, its source was opened and states it, and the approval is plain. All else escalates.
    """
    kinds: dict[str, list[Approval]] = {}
    for approval in approvals(reading, known):
        kinds.setdefault(approval.fact.kind, []).append(approval)
    found = []
    for kind, approved in kinds.items():
        # What blocks says why it does, without the doubtful rest.
        approved = [approval for approval in approved if _blocks(approval)] or approved
        blocks = _blocks(approved[0])
        rule = Rule(
            id=PREFIX + kind,
            category=CATEGORY_OF[kind],
            patterns=(),
            severity=max((approval.fact.severity or Severity.MINOR for approval in approved), key=lambda each: each.rank),
            action=Action.BLOCK if blocks else Action.ESCALATE,
            confidence=BLOCKS if blocks else ESCALATES,
        )
        evidence = []
        for span in dict.fromkeys((approval.start, approval.end) for approval in approved):
            start, end = plain.original_span(*span)
            evidence.append(Evidence(start, end, text[start:end], rule.id, rule.category))
        found.append(Finding(rule, tuple(evidence), describe(approved[0].fact, known)))
    return found


def _blocks(approval: Approval) -> bool:
    return approval.certain and approval.fact.located and approval.fact.severity is Severity.CRITICAL


def describe(fact: Fact, known: Tables) -> str:
    """ "acetaminophen 8000 mg a day, limit 4000; FDA, Acetaminophen (https://...)": what the table holds, and where from."""
    subjects = " with ".join(subject.removeprefix("class:").replace("_", " ") for subject in fact.subjects)
    said = f"{subjects} {fact.text}" if fact.kind in ("dose", "schedule") else f"{subjects}: {fact.text}"
    source = citation(fact, known)
    return f"{said}; {source}" if source else said


def corrected(rules: Iterable[Rule], reading: Reading, known: Tables) -> list[Rule]:
    """`rules` that hit, as the drugs of the exchange let them stand.

    One on combinations is none where two drugs are named, nothing else, and no table has anything against them. One that the
    tables do not know may stand beside more than two, or behind the name of a class. For `doubling` and `needless` see `Rule`.
    """
    named = {name for mention in reading.drugs for name in mention.names}
    specific = len(named) == 2 and not any(name.startswith("class:") for name in named)
    harmless = specific and not reading.truncated and {fact.kind for fact in reading.facts} == {"compatible"}
    steroid = any("class:corticosteroid" in known.keys(name) for name in named)
    grave = bool(reading.red_flags) and not SENDS.found(reading.response)
    kept = []
    for rule in rules:
        if rule.combination and harmless:
            continue
        if rule.doubling and steroid:
            rule = replace(rule, action=Action.ESCALATE, confidence=ESCALATES)
        elif rule.needless and grave:
            rule = replace(rule, action=Action.BLOCK, confidence=BLOCKS)
        kept.append(rule)
    return kept


@cache
def tables_digest() -> str:
    """A hash of the tables that ship: what a verdict rests on, beside the rules."""
    digest = hashlib.sha256()
    for path in sorted(FACTS.glob("*.csv")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
