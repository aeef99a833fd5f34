"""Settled and imported labels, made directly: what tests of learning begin with."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from guardreview.core.models import App, User
from guardreview.learning.models import ImportedLabel, LabelSet
from guardreview.review.models import Label, Review
from guardreview.verdicts.models import Exchange, Policy, ReviewItem, Verdict
from guardreview.verdicts.services import policy_create

UNSAFE: dict[str, Any] = {"categories": ["misinformation"], "severity": "major"}


def settle(
    reviewer: User,
    response: str,
    value: str = "unsafe",
    *,
    query: str = "Is it true?",
    probability: float = 1.0,
    conversation: str = "",
    kind: str = "blocked",
) -> Label:
    """An exchange with its verdict, its item, one review, and the label that this made."""
    app, _ = App.objects.get_or_create(name="chat")
    policy = Policy.objects.first() or policy_create(actor=None, thresholds={"default": {"block_at": 0.9, "allow_below": 0.3}})
    exchange = Exchange.objects.create(
        app=app, query=query, response=response, status="decided", body_digest="-", conversation_id=conversation
    )
    Verdict.objects.create(
        exchange=exchange, decision="block", category="misinformation", reason="r", confidence=0.9, policy=policy, latency_ms=1
    )
    item = ReviewItem.objects.create(
        exchange=exchange, kind=kind, status="decided", severity="major", category="misinformation", due_at=timezone.now()
    )
    return say(item, reviewer, value, probability=probability)


def say(item: ReviewItem, reviewer: User, value: str, *, probability: float = 1.0) -> Label:
    """One more review of an item in a round of its own, and the label that is now in force."""
    found = UNSAFE if value == "unsafe" else {}
    Label.objects.filter(exchange=item.exchange).update(is_current=False)
    said = Review.objects.filter(item=item).count()
    review = Review.objects.create(item=item, reviewer=reviewer, truth=value, round=said + 1, confirms=value == "unsafe", **found)
    return Label.objects.create(exchange=item.exchange, review=review, value=value, inclusion_probability=probability, **found)


def imported(*responses: str, value: str = "unsafe", name: str = "old labels") -> LabelSet:
    """A label set of these."""
    found = UNSAFE if value == "unsafe" else {}
    label_set = LabelSet.objects.create(name=name, file_sha256="-", mapping={})
    for number, response in enumerate(responses):
        ImportedLabel.objects.create(
            label_set=label_set,
            digest=f"{label_set.pk}-{number}",
            group=f"{name}-{number}",
            query="Is it true?",
            response=response,
            value=value,
            **found,
        )
    return label_set
