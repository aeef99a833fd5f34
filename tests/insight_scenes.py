"""Some weeks of a pharmacy's work, made up: what the figures are drawn from in a browser, and counted in tests."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Model
from django.utils import timezone

from guardreview.core.models import App, User
from guardreview.core.roles import Role
from guardreview.review.calibration import APP_NAME
from guardreview.review.models import Calibration, Label, Review, Skip
from guardreview.verdicts.models import Exchange, LayerResult, ReviewItem, Verdict
from tests import scenes

RULES = {
    "dose.double_up": ("harmful_medical:dangerous_dosage", 0.04),
    "combination.nsaid_anticoagulant": ("harmful_medical:unsafe_combination", 0.08),
    "care.discourage_er": ("discouraging_care", 0.15),
    "stop.abrupt_ssri": ("harmful_medical:abrupt_stop", 0.1),
    "pii.phone_us": ("pii:phone", 0.55),
    "legal.sue_pharmacy": ("legal_advice", 0.35),
    "myth.detox": ("misinformation", 0.25),
    "custom.grapefruit": ("harmful_medical:unsafe_combination", 0.6),
}
SEVERITIES = ("critical", "major", "minor")


def answers(rows: Iterable[dict[str, Any]]) -> list[ReviewItem | None]:
    """Exchanges with verdicts, and their items (None: not drawn), in a few statements.

    A row: `at`, `decision`, `kind` (empty: no item), and of the verdict and the item `layer`, `category`, `severity`, `blind`,
    `probability`, `rule`, `app`, `status`.
    """
    rows, policy, default = list(rows), scenes.policy(), scenes.chat_app()
    exchanges = Exchange.objects.bulk_create(
        Exchange(app=row.get("app", default), query="q", response="r", status="decided", body_digest="-", created_at=row["at"])
        for row in rows
    )
    verdicts = Verdict.objects.bulk_create(
        Verdict(
            exchange=exchange,
            decision=row["decision"],
            category=row.get("category", "safe"),
            severity=row.get("severity", "") if row["decision"] != "allow" else "",
            layer=row.get("layer", "rules"),
            confidence=0.9,
            policy=policy,
            latency_ms=1,
            audit_probability=row.get("probability"),
        )
        for row, exchange in zip(rows, exchanges, strict=True)
    )
    _date(verdicts, "decided_at", [row["at"] for row in rows])
    LayerResult.objects.bulk_create(
        LayerResult(
            exchange=exchange, layer="rules", is_safe=False, category="-", confidence=1, latency_ms=1,
            evidence=[{"rule": row["rule"]}],
        )
        for row, exchange in zip(rows, exchanges, strict=True)
        if row.get("rule")
    )  # fmt: skip
    items: list[ReviewItem | None] = [
        ReviewItem(
            exchange=exchange,
            kind=row["kind"],
            status=row.get("status", "open"),
            blind=row.get("blind", False),
            severity=row.get("severity", "critical"),
            category=row.get("category", "safe"),
            layer=row.get("layer", "rules"),
            due_at=row["at"] + timedelta(hours=1),
            inclusion_probability=row.get("probability") or 1.0,
            created_at=row["at"],
        )
        if row["kind"]
        else None
        for row, exchange in zip(rows, exchanges, strict=True)
    ]
    ReviewItem.objects.bulk_create(item for item in items if item)
    return items


def said(item: ReviewItem, reviewer: User, truth: str, at: datetime, *, label: str = "", **fields: Any) -> Review:
    """A statement, which settles the item with a label of this basis, if one is given."""
    severity = fields.pop("severity", "major")
    harm = {"categories": ["misinformation"], "severity": severity} if truth == "unsafe" else {}
    fields.setdefault("confirms", None if truth == "unsure" else (truth == "unsafe") == (item.kind != "audit"))
    review = Review.objects.create(item=item, reviewer=reviewer, truth=truth, blind=item.blind, **harm, **fields)
    Review.objects.filter(pk=review.pk).update(created_at=at)
    if label:
        Label.objects.filter(exchange_id=item.exchange_id).update(is_current=False)
        Label.objects.create(
            exchange_id=item.exchange_id, review=review, basis=label, value=truth,
            inclusion_probability=item.inclusion_probability, **harm,
        )  # fmt: skip
        ReviewItem.objects.filter(pk=item.pk).update(status="decided")
    return review


def _date(rows: list[Any], name: str, moments: Iterable[datetime]) -> None:
    """Set what is otherwise the moment of storing."""
    for row, moment in zip(rows, moments, strict=True):
        setattr(row, name, moment)
    model: type[Model] = type(rows[0])
    model._default_manager.bulk_update(rows, [name], batch_size=200)


def some_weeks(people: dict[str, User], *, allowed: int = 2400, blocked: int = 420) -> dict[str, Any]:
    """Four reviewers, 80 days, two apps; a draw of what was allowed, second opinions, calibration items, and what still waits."""
    chance = random.Random(11)
    now = timezone.now()
    more = [("cem", "Cem", "Aydin"), ("dana", "Dana", "Lindqvist")]
    extra = [User.objects.create(username=name, first_name=f, last_name=n, role=Role.PHARMACIST) for name, f, n in more]
    staff = [people["ana"], people["ben"], *extra]
    pace = dict(zip((person.pk for person in staff), (38.0, 64.0, 51.0, 95.0), strict=True))
    apps = [scenes.chat_app(), scenes.chat_app("Riverside app")]

    def moment(days: float = 80) -> datetime:
        at = now - timedelta(days=chance.random() ** 1.3 * days)
        return min(now, at.replace(hour=min(22, max(7, int(chance.gauss(13, 4))))))

    def decide(item: ReviewItem, by: User, truth: str, after: float = 20, **fields: Any) -> Review:
        at = min(now, item.created_at + timedelta(minutes=chance.expovariate(1 / after)))
        seconds = pace[by.pk] * chance.lognormvariate(0, 0.6) if by.pk in pace else 120.0
        return said(item, by, truth, at, seconds=seconds, **fields)

    rows = []
    for _ in range(blocked):
        rule, (category, wrong) = chance.choice(list(RULES.items()))
        layer = chance.choices(("rules", "finetuned", "judge"), (6, 3, 1))[0]
        severity = chance.choices(SEVERITIES, (3, 5, 3))[0]
        rows.append({
            "at": moment(), "decision": "block", "kind": "blocked", "layer": layer, "category": category, "severity": severity,
            "rule": rule if layer == "rules" else "", "blind": chance.random() < 0.25, "app": chance.choice(apps),
            "wrong": wrong if layer == "rules" else 0.18,
        })  # fmt: skip
    for row, item in zip(rows, answers(rows), strict=True):
        if item is None or chance.random() < 0.03:
            continue
        first, second = chance.sample(staff, 2)
        is_safe = chance.random() < row["wrong"]
        truth = "safe" if chance.random() < (0.85 if is_safe else 0.04 if not item.blind else 0.1) else "unsafe"
        if (truth == "safe" and item.severity == "critical") or chance.random() < 0.06:
            decide(item, first, chance.choice(("safe", "unsure")))
            again = "safe" if is_safe and chance.random() < 0.8 else "unsafe"
            decide(item, second, again, 60, stage="second", label="agreed", severity=item.severity)
        else:
            decide(item, first, truth, label="single", severity=item.severity, round=2 if chance.random() < 0.02 else 1)
            if chance.random() < 0.03:
                said(item, second, "safe", item.created_at, undone_at=now)
    held = [{"at": moment(), "decision": "hold", "kind": "held", "category": "undecided", "layer": "judge"} for _ in range(50)]
    for item in answers(held)[:44]:
        assert item is not None
        decide(item, chance.choice(staff), chance.choice(("safe", "safe", "unsafe")), label="single")
    rows = []
    for _ in range(allowed):
        probability = chance.choices((0.1, 0.4), (8, 2))[0]
        drawn = chance.random() < probability
        rows.append({
            "at": moment(), "decision": "allow", "kind": "audit" if drawn else "", "probability": probability, "blind": True,
            "layer": "finetuned", "severity": "minor", "app": chance.choice(apps),
        })  # fmt: skip
    for item in answers(rows):
        if item is not None and chance.random() < 0.93:
            harmful = chance.random() < (0.12 if item.inclusion_probability > 0.2 else 0.02)
            severity = chance.choice(("critical", "minor", "major"))
            decide(item, chance.choice(staff), "unsafe" if harmful else "safe", 200, label="single", severity=severity)
    _calibrate(staff, people["lea"], chance, now)
    ages = [3, 8, 12, 14, 20, 31, 44, 50, 58, 75, 130, 190, 200, 400, 700, 2000]
    answers(
        {
            "at": now - timedelta(minutes=age), "decision": "block", "kind": "blocked", "severity": SEVERITIES[age % 3],
            "category": "misinformation", "blind": age % 5 == 0,
        }
        for age in ages
    )  # fmt: skip
    for item in ReviewItem.objects.filter(kind="blocked", status="open")[:5]:
        Skip.objects.create(item=item, reviewer=chance.choice(staff))
    return {"reviews": Review.objects.count()}


def _calibrate(staff: list[User], lead: User, chance: random.Random, now: datetime) -> None:
    app = App.objects.create(name=APP_NAME, is_active=False)
    rows = [
        {
            "at": now - timedelta(days=60),
            "decision": "block",
            "kind": "calibration",
            "category": "misinformation",
            "blind": True,
            "app": app,
        }
        for _ in range(14)
    ]
    for number, item in enumerate(answers(rows)):
        assert item is not None
        truth = ("unsafe", "safe", "unsafe")[number % 3]
        Calibration.objects.create(
            item=item, truth=truth, categories=["harmful_medical:dangerous_dosage"] if truth == "unsafe" else [], made_by=lead,
            severity="critical" if truth == "unsafe" else "",
            explanation="Names 4 g of paracetamol a day without asking for weight or liver: more than a frail adult may take.",
        )  # fmt: skip
        for skill, person in zip((0.93, 0.78, 0.9, 0.7), staff, strict=True):
            other = chance.choice(("safe", "unsafe", "unsure"))
            at = now - timedelta(days=1 + chance.random() * 28)
            said(item, person, truth if chance.random() < skill else other, at, seconds=40 + 60 * chance.random())
