"""What every layer says, in one vocabulary: categories, severities, decisions and `ClassifierResult`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self


class Layer(StrEnum):
    """One classifier of the cascade, in the order in which they run."""

    RULES = "rules"
    FINETUNED = "finetuned"
    JUDGE = "judge"


class Decision(StrEnum):
    """The cascade's final word. Only `ALLOW` lets the response reach the patient."""

    ALLOW = "allow"
    BLOCK = "block"
    HOLD = "hold"


class Severity(StrEnum):
    """`CRITICAL`: could plausibly kill or cause lasting harm. Ordered by `rank`, the most severe highest."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"

    @property
    def rank(self) -> int:
        return {"critical": 3, "major": 2, "minor": 1}[self.value]


SAFE = "safe"
"""The category of a response in which nothing was found."""

UNDECIDED = "undecided"
"""The category of a response on which no layer could decide."""

DEFAULT_SEVERITY: Mapping[str, Severity] = MappingProxyType(
    {
        "harmful_medical": Severity.CRITICAL,
        "harmful_medical:dangerous_dosage": Severity.CRITICAL,
        "harmful_medical:unsafe_combination": Severity.CRITICAL,
        "harmful_medical:contraindication": Severity.CRITICAL,
        "harmful_medical:abrupt_stop": Severity.CRITICAL,
        "harmful_medical:red_flag_reassurance": Severity.CRITICAL,
        "harmful_medical:self_medication": Severity.CRITICAL,
        "harmful_medical:misuse_route_or_form": Severity.CRITICAL,
        "discouraging_care": Severity.CRITICAL,
        "misinformation": Severity.MAJOR,
        "pii": Severity.MAJOR,
        "pii:ssn": Severity.MAJOR,
        "pii:email": Severity.MAJOR,
        "pii:credit_card": Severity.MAJOR,
        "pii:phone": Severity.MAJOR,
        "pii:mrn": Severity.MAJOR,
        "pii:date_of_birth": Severity.MAJOR,
        "pii:address": Severity.MAJOR,
        "pii:insurance_id": Severity.MAJOR,
        "pii:nhs_number": Severity.MAJOR,
        "pii:national_id": Severity.MAJOR,
        "pii:npi": Severity.MAJOR,
        "pii:dea_number": Severity.MAJOR,
        "pii:drivers_license": Severity.MAJOR,
        "pii:passport": Severity.MAJOR,
        "pii:bank_account": Severity.MAJOR,
        "pii:iban": Severity.MAJOR,
        "jailbreak_success": Severity.MAJOR,
        "legal_advice": Severity.MINOR,
    }
)
"""Every category (`family` or `family:subcategory`) with the severity of a finding that does not state its own."""

CATEGORIES: tuple[str, ...] = tuple(DEFAULT_SEVERITY)
CRITICAL_FAMILIES = frozenset({"harmful_medical", "discouraging_care"})
"""The families whose critical findings the false-negative guarantee covers."""


def family_of(category: str) -> str:
    """`harmful_medical` for `harmful_medical:dangerous_dosage`; a bare family is its own."""
    return category.partition(":")[0]


def is_guaranteed(severity: str | None, categories: Iterable[str]) -> bool:
    """Whether the false-negative guarantee covers an unsafe response that is labelled so."""
    return severity == Severity.CRITICAL and any(family_of(category) in CRITICAL_FAMILIES for category in categories)


def severity_of(category: str) -> Severity:
    """Default severity of a category; an unknown subcategory has its family's, an unknown family counts as critical."""
    return DEFAULT_SEVERITY.get(category) or DEFAULT_SEVERITY.get(family_of(category), Severity.CRITICAL)


def most_severe(categories: Iterable[str]) -> str:
    """The category with the highest default severity, the first among equals. Raises ValueError on none."""
    return max(categories, key=lambda category: severity_of(category).rank)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A span of the response, in characters of the text as given (`text == response[start:end]`), and what found it."""

    start: int
    end: int
    text: str
    rule: str
    category: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"start": self.start, "end": self.end, "text": self.text, "rule": self.rule, "category": self.category}


@dataclass(frozen=True, slots=True)
class ClassifierResult:
    """What one layer says of one response.

    `is_safe`: nothing was found. `category`: the primary category, `safe` where nothing was found, `undecided` where the
    layer failed. `confidence` is in [0, 1]. `scores`: P(category) in [0, 1], with P(unsafe) under `unsafe`.
    `escalate`: something was found that this layer may not block by itself. `latency_ms`: milliseconds spent in the layer.
    `language`: ISO 639-1 of the response, `und` for undetermined, empty if the layer did not look. `input_tokens` and
    `output_tokens`: what a provider counted. `error`: why the layer failed, empty if it ran; a failed layer is never safe.
    """

    is_safe: bool
    category: str
    reason: str
    confidence: float
    _: KW_ONLY
    layer: str = ""
    severity: Severity | None = None
    categories: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    escalate: bool = False
    version: str = ""
    latency_ms: float = 0.0
    cost_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    language: str = ""
    error: str = ""

    @classmethod
    def failed(cls, layer: str, error: str, **details: Any) -> ClassifierResult:
        """The result of a layer that erred, timed out or is missing. It says nothing of the response."""
        return cls(False, UNDECIDED, error, 0.0, layer=layer, error=error, **details)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        fields = dict(data)
        fields["severity"] = Severity(fields["severity"]) if fields.get("severity") else None
        fields["categories"] = tuple(fields.get("categories", ()))
        fields["evidence"] = tuple(Evidence(**evidence) for evidence in fields.get("evidence", ()))
        return cls(**fields)

    def as_json(self) -> dict[str, Any]:
        """A JSON-ready dict of every field. What is compared with a threshold is not rounded: read back, it decides alike."""
        return {
            "layer": self.layer,
            "is_safe": self.is_safe,
            "category": self.category,
            "categories": list(self.categories),
            "severity": self.severity and self.severity.value,
            "reason": self.reason,
            "confidence": self.confidence,
            "scores": dict(self.scores),
            "evidence": [evidence.as_json() for evidence in self.evidence],
            "escalate": self.escalate,
            "version": self.version,
            "latency_ms": round(self.latency_ms, 3),
            "cost_usd": self.cost_usd,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "language": self.language,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Verdict(ClassifierResult):
    """The cascade's final word: a `ClassifierResult` whose `layer` decided, with the decision and every layer's result."""

    _: KW_ONLY
    decision: Decision = Decision.HOLD
    results: tuple[ClassifierResult, ...] = ()
    policy_version: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        results = tuple(map(ClassifierResult.from_json, data["results"]))
        return super(Verdict, cls).from_json({**data, "decision": Decision(data["decision"]), "results": results})

    def as_json(self) -> dict[str, Any]:
        """A JSON-ready dict of every field, each layer's result included."""
        own = {"decision": self.decision.value, "policy_version": self.policy_version}
        return ClassifierResult.as_json(self) | own | {"results": [result.as_json() for result in self.results]}
