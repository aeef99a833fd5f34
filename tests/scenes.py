"""People, chat apps, policies and items to review, made without a cascade: what tests of the pages look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.utils import timezone

from classifiers.combined import decide
from classifiers.policy import Policy as CascadePolicy
from classifiers.result import CATEGORIES, SAFE, ClassifierResult, Decision, Evidence, Layer, Severity, Verdict, severity_of
from classifiers.rule_based import RuleBasedClassifier
from guardreview.core.models import App, User
from guardreview.core.roles import Role
from guardreview.review.leases import item_lease
from guardreview.review.models import Review
from guardreview.review.services import review_create
from guardreview.verdicts.models import Exchange, LayerResult, ModelVersion, Policy, ReviewItem
from guardreview.verdicts.models import Verdict as StoredVerdict
from guardreview.verdicts.services import policy_create

PASSWORD = "correct-horse-battery"
PEOPLE = {
    "ana": ("Ana", "Ruiz", Role.PHARMACIST),
    "ben": ("Ben", "Okafor", Role.PHARMACIST),
    "lea": ("Lea", "Vogt", Role.LEAD),
    "adam": ("Adam", "Stone", Role.ADMINISTRATOR),
    "ida": ("Ida", "Holm", Role.AUDITOR),
}
THRESHOLDS = {
    "default": {"block_at": 0.9, "allow_below": 0.15},
    "harmful_medical": {"block_at": 0.8, "allow_below": 0.08},
    "unsafe": {"block_at": 0.92, "allow_below": 0.1},
}
HARM: dict[str, Any] = {"categories": ["harmful_medical:dangerous_dosage"], "severity": "critical"}
EXAMPLES = Path(settings.BASE_DIR) / "examples" / "exchanges.jsonl"


def people() -> dict[str, User]:
    """One account for each name in PEOPLE, all with PASSWORD."""
    made = {}
    for name, (first, last, role) in PEOPLE.items():
        made[name] = User.objects.create(username=name, password=_hash(), role=role, first_name=first, last_name=last)
    return made


@cache
def _hash() -> str:
    """PASSWORD as it is stored: made once, since that is slow on purpose."""
    return make_password(PASSWORD)


def chat_app(name: str = "MainStreet chat") -> App:
    return App.objects.get_or_create(name=name)[0]


def policy() -> Policy:
    """The active policy; made at the first call."""
    return Policy.objects.filter(is_active=True).first() or policy_create(actor=None, thresholds=THRESHOLDS)


def finetuned(unsafe: float, **categories: float) -> ClassifierResult:
    """A fine-tuned layer that says P(unsafe) and, by subcategory of `harmful_medical`, P(category)."""
    scores = {"unsafe": unsafe, **{f"harmful_medical:{name}": value for name, value in categories.items()}}
    found = [name for name, value in scores.items() if value >= 0.5 and name != "unsafe"] if unsafe >= 0.5 else []
    return ClassifierResult(
        unsafe < 0.5, found[0] if found else SAFE, f"P(unsafe) = {unsafe:.3f}", max(unsafe, 1 - unsafe), layer=Layer.FINETUNED,
        categories=tuple(found), scores=scores, version="ft-0123456789ab", latency_ms=14.2,
    )  # fmt: skip


def judge(response: str, quote: str, category: str, confidence: float = 0.93, reason: str = "") -> ClassifierResult:
    """A judge that finds the quoted words unsafe."""
    start = response.index(quote)
    evidence = Evidence(start, start + len(quote), quote, "judge", category)
    return ClassifierResult(
        False, category, reason or "The answer endorses a dose that is known to be dangerous.", confidence, layer=Layer.JUDGE,
        categories=(category,), scores={"unsafe": confidence}, evidence=(evidence,), version="gpt-4o-mini/judge-1a2b3c",
        latency_ms=812.0, cost_usd=0.0004, severity=severity_of(category),
    )  # fmt: skip


def rules(response: str) -> ClassifierResult:
    """The shipped rules on a response."""
    return RuleBasedClassifier.default().classify(response)


def item(
    query: str = "how many extra strength tylenol can i take a day?",
    response: str = "Just double your dose tonight; up to 8 grams a day is fine.",
    *,
    results: Sequence[ClassifierResult] = (),
    decision: str = Decision.BLOCK,
    category: str = "harmful_medical:dangerous_dosage",
    severity: str = Severity.CRITICAL,
    layer: str = Layer.RULES,
    kind: str = "",
    due_in: float = 15,
    age: float = 3,
    conversation_id: str = "",
    app: App | None = None,
) -> ReviewItem:
    """An exchange with its verdict and an open item; `due_in` and `age` in minutes."""
    now = timezone.now()
    exchange = Exchange.objects.create(
        app=app or chat_app(), query=query, response=response, conversation_id=conversation_id, status="decided", policy=policy(),
        body_digest="-", created_at=now - timedelta(minutes=age),
    )  # fmt: skip
    for result in results:
        fields = result.as_json()
        LayerResult.objects.create(exchange=exchange, **{**fields, "severity": fields["severity"] or ""})
    StoredVerdict.objects.create(
        exchange=exchange, decision=decision, category=category, severity=severity, confidence=0.95, layer=layer, policy=policy(),
        categories=[category] if category in CATEGORIES else [], reason="Matched rule: dangerous_dosage", latency_ms=1,
    )  # fmt: skip
    return ReviewItem.objects.create(
        exchange=exchange, kind=kind or {"block": "blocked", "hold": "held"}[decision], severity=severity, category=category,
        due_at=now + timedelta(minutes=due_in), created_at=exchange.created_at,
    )  # fmt: skip


def decided_item(verdict: Verdict, *, query: str, response: str, **fields: Any) -> ReviewItem:
    """An item with the verdict that `decide` gave, and the results that it was given on."""
    made = item(
        query, response, results=verdict.results, decision=verdict.decision, category=verdict.category,
        severity=verdict.severity or Severity.CRITICAL, layer=verdict.layer, **fields,
    )  # fmt: skip
    StoredVerdict.objects.filter(pk=made.exchange_id).update(
        reason=verdict.reason, confidence=verdict.confidence, categories=list(verdict.categories)
    )
    return made


def say(item: ReviewItem, user: User, truth: str = "safe", **fields: Any) -> Review:
    """Take an item and decide it; what is unsafe does HARM, unless `fields` say otherwise."""
    held = item_lease(item=item, user=user)
    assert held.lease_token is not None
    said = {"truth": truth, **(HARM if truth == "unsafe" else {}), **fields}
    return review_create(item=held, reviewer=user, token=held.lease_token, **said)


def examples(limit: int = 40) -> list[ReviewItem]:
    """Items from the bundled examples: the real rules, a made-up fine-tuned layer, a judge that is there now and then."""
    cascade = CascadePolicy.from_json({"thresholds": THRESHOLDS})
    rows = [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()][:limit]
    made = []
    for number, row in enumerate(rows):
        response = row["response"]
        results = [rules(response)]
        if not isinstance(decide(cascade, results), Verdict):
            likely = (0.97 if number % 3 else 0.55) if row["expect"] == "unsafe" else (0.03 if number % 4 else 0.35)
            names = [name.partition(":")[2] for name in row["categories"] if name.startswith("harmful_medical:")]
            others = {"dangerous_dosage": 0.04, "unsafe_combination": 0.07, "contraindication": 0.05, "self_medication": 0.02}
            results.append(finetuned(likely, **{**others, **dict.fromkeys(names, likely - 0.02)}))
        if not isinstance(decide(cascade, results), Verdict):
            category = (row["categories"] or ["misinformation"])[0]
            judged = judge(response, response[: response.index(" ", min(40, len(response) - 8))], category)
            failed = ClassifierResult.failed(Layer.JUDGE, "no judge is configured")
            results.append(judged if number % 2 and row["categories"] else failed)
        verdict = decide(cascade, results)
        assert isinstance(verdict, Verdict)
        if verdict.decision is not Decision.ALLOW:
            sla = settings.SLA_MINUTES[verdict.severity or Severity.CRITICAL]
            age = 2.0 + 3 * (limit - number) % 31
            app = chat_app() if number % 3 else chat_app("Riverside app")
            conversation = row.get("conversation_id", "")
            made.append(
                decided_item(
                    verdict,
                    query=row["query"],
                    response=response,
                    age=age,
                    due_in=sla - age,
                    app=app,
                    conversation_id=conversation,
                )
            )
    return made


def model_versions() -> list[ModelVersion]:
    """A retired, an active and a candidate version with what training measures."""
    metrics = json.loads((Path(settings.BASE_DIR) / "classifiers" / "model" / "metrics.json").read_text(encoding="utf-8"))
    stages = [("ft-aaaaaaaaaaaa", "retired", 0), ("ft-bbbbbbbbbbbb", "active", 0), ("ft-cccccccccccc", "candidate", 120)]
    return [
        ModelVersion.objects.create(version=version, stage=stage, labels_used=used, metrics=metrics, corpus_hash="5f3c9a7e12ab")
        for version, stage, used in stages
    ]
