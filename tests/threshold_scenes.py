"""A month of scored answers, some of them settled, under a policy and a model that serve: what the threshold pages look at."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
from django.conf import settings
from django.utils import timezone

from classifiers.policy import Policy as CascadePolicy
from classifiers.result import Decision
from guardreview.core.models import User
from guardreview.core.roles import Role
from guardreview.learning.score_blocks import score_blocks_update
from guardreview.review.models import Label, Review
from guardreview.verdicts.models import Exchange, LayerResult, ModelVersion, Policy, ReviewItem, Verdict
from guardreview.verdicts.services import policy_create
from tests import scenes

VERSION = "ft-0123456789ab"
WORDS = ("dangerous_dosage", "unsafe_combination", "abrupt_stop", "red_flag_reassurance", "self_medication")


def serving(second: bool = True) -> tuple[dict[str, User], Policy]:
    """People, with a second administrator or without, and what serves: the shipped policy, a model with the shipped metrics."""
    people = scenes.people()
    if second:
        people["bea"] = User.objects.create(
            username="bea", password=people["adam"].password, role=Role.ADMINISTRATOR, first_name="Bea", last_name="Lind"
        )
    metrics = json.loads((Path(settings.BASE_DIR) / "classifiers" / "model" / "metrics.json").read_text(encoding="utf-8"))
    moment = timezone.now() - timedelta(days=60)
    ModelVersion.objects.create(version=VERSION, stage="active", metrics=metrics, activated_at=moment)
    fields = CascadePolicy.shipped().as_json()
    fields.pop("version")
    return people, policy_create(actor=people["adam"], note="the shipped policy", **fields)


def month(*, answers: int = 2400, settled: int = 500, second: bool = True) -> dict[str, str]:
    """`answers` of the last four weeks, packed; the latest `settled` of those that came before a pharmacist are settled."""
    people, policy = serving(second)
    chance = np.random.default_rng(4)
    harm = chance.random(answers) < 0.2
    p_unsafe = np.round(np.where(harm, chance.beta(3.2, 1.4, answers), chance.beta(0.7, 8, answers)), 6)
    app, now = scenes.chat_app(), timezone.now()
    exchanges = Exchange.objects.bulk_create(
        Exchange(
            app=app, query="How many may I take a day?", response="Two tablets three times a day are fine for most adults.",
            status="decided", policy=policy, body_digest="-",
        )
        for _ in range(answers)
    )  # fmt: skip
    cascade, results, verdicts, drawn = policy.as_cascade_policy(), [], [], []
    bounds = cascade.threshold("unsafe")
    for number, (exchange, score) in enumerate(zip(exchanges, p_unsafe.tolist(), strict=True)):
        rules = LayerResult(exchange=exchange, layer="rules", is_safe=True, category="safe", confidence=0.9, latency_ms=1)
        shares = np.round(score * chance.beta(0.8, 2.5, len(WORDS)), 6).tolist()
        said = scenes.finetuned(score, **dict(zip(WORDS, shares, strict=True)))
        fields = said.as_json()
        rows = [rules, LayerResult(exchange=exchange, **{**fields, "severity": ""})]
        decision, category = Decision.ALLOW, "safe"
        if score >= bounds.block_at:
            decision, category = Decision.BLOCK, f"harmful_medical:{WORDS[int(np.argmax(shares))]}"
        elif score >= bounds.allow_below:
            is_safe = bool(chance.random() < 0.7)
            decision = Decision.ALLOW if is_safe else Decision.BLOCK
            category = "safe" if is_safe else f"harmful_medical:{WORDS[int(np.argmax(shares))]}"
            rows.append(
                LayerResult(
                    exchange=exchange, layer="judge", is_safe=is_safe, category=category, confidence=0.9, latency_ms=800,
                    categories=[] if is_safe else [category], cost_usd=0.0004,
                )
            )  # fmt: skip
        results += rows
        probability = 1.0 if decision != Decision.ALLOW else 0.25
        verdicts.append(
            Verdict(
                exchange=exchange, decision=decision, category=category, confidence=0.9, layer=rows[-1].layer, latency_ms=1,
                policy=policy, audit_probability=None if probability == 1 else probability,
            )
        )  # fmt: skip
        if chance.random() < probability:
            drawn.append((number, decision, probability))
    LayerResult.objects.bulk_create(results, batch_size=500)
    Verdict.objects.bulk_create(verdicts, batch_size=500)
    for number, verdict in enumerate(verdicts):
        verdict.decided_at = now - timedelta(minutes=5, days=28 * (1 - number / answers))
    Verdict.objects.bulk_update(verdicts, ["decided_at"], batch_size=200)
    for number, decision, probability in drawn[-settled:]:
        item = ReviewItem.objects.create(
            exchange=exchanges[number], kind="audit" if decision == Decision.ALLOW else "blocked", status="decided",
            severity="critical", category="safe", due_at=now, inclusion_probability=probability,
        )  # fmt: skip
        found = {"categories": ["harmful_medical:dangerous_dosage"], "severity": "critical"} if harm[number] else {}
        value = "unsafe" if harm[number] else "safe"
        review = Review.objects.create(item=item, reviewer=people["ana"], truth=value, **found)
        Label.objects.create(exchange=exchanges[number], review=review, value=value, inclusion_probability=probability, **found)
    score_blocks_update()
    return {"answer": str(exchanges[-1].pk), "policy": str(policy.pk)}
