"""Rules that pharmacists overturn too often: proposed for revision, until an administrator says what becomes of them."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, FilteredRelation, Q, QuerySet
from django.utils import timezone

from classifiers.result import Layer
from guardreview.core.models import User
from guardreview.core.services import audit
from guardreview.learning.models import RuleRevision
from guardreview.review.models import Label
from guardreview.review.statistics import wilson
from guardreview.verdicts.models import CustomRule, LayerResult, ReviewItem

log = structlog.get_logger(__name__)
DAYS: Final = 90
EXAMPLES: Final = 10
MOST_READ: Final = 100_000


class NotClosed(ValueError):
    """It cannot be closed; the message says why."""


def rule_revisions_propose(*, now: datetime | None = None) -> list[RuleRevision]:
    """Open a revision of each rule of which surely too many blocks were overturned, refresh those that are open; which are.

    Of the last DAYS days; of a rule that was changed, or whose revision was closed, since then: it may have helped.
    A block counts once for each rule that found something in it: custom, shipped, or a drug fact's.
    """
    now = now or timezone.now()
    closed: dict[str, Any] = dict(
        RuleRevision.objects.filter(closed_at__isnull=False).order_by("closed_at").values_list("rule", "closed_at")
    )
    for rule in CustomRule.objects.filter(is_active=True):
        closed[rule.rule_id] = max(closed.get(rule.rule_id, rule.created_at), rule.created_at)
    counts: dict[str, dict[str, Any]] = defaultdict(lambda: {"settled": 0, "overturned": 0, "examples": []})
    for evidence, value, item, decided_at in _settled(now - timedelta(days=DAYS)).iterator(chunk_size=2_000):
        for rule_id in {str(finding["rule"])[:120] for finding in evidence if finding.get("rule")}:
            if decided_at < closed.get(rule_id, decided_at):
                continue
            of_rule = counts[rule_id]
            of_rule["settled"] += 1
            if value == Label.Value.SAFE:
                of_rule["overturned"] += 1
                if len(of_rule["examples"]) < EXAMPLES:
                    of_rule["examples"].append(item)
    limits = settings.RULE_REVISION
    for rule_id, found in counts.items():
        if found["settled"] < limits["settled"]:
            continue
        estimate = wilson(found["overturned"], found["settled"])
        if estimate.low > limits["overturned"]:
            figures = {**found, "low": estimate.low, "high": estimate.high}
            _propose(rule_id, figures, estimate.value)
    return list(RuleRevision.objects.filter(closed_at__isnull=True).order_by("-share_overturned"))


def _settled(since: datetime) -> QuerySet[Any, Any]:
    """(evidence, label, item, decided at) of settled blocks by the rules, the latest first."""
    return (
        LayerResult.objects.filter(
            layer=Layer.RULES,
            exchange__review_item__kind=ReviewItem.Kind.BLOCKED,
            exchange__verdict__layer=Layer.RULES,
            exchange__verdict__decided_at__gte=since,
        )
        .annotate(label_now=FilteredRelation("exchange__labels", condition=Q(exchange__labels__is_current=True)))
        .filter(label_now__isnull=False)
        .annotate(decided_at=F("exchange__verdict__decided_at"), item=F("exchange__review_item__pk"))
        .order_by("-exchange__verdict__decided_at", "-pk")
        .values_list("evidence", "label_now__value", "item", "decided_at")[:MOST_READ]
    )


def _propose(rule_id: str, figures: dict[str, Any], share: float) -> None:
    with transaction.atomic():
        _, created = RuleRevision.objects.update_or_create(
            rule=rule_id, closed_at=None, defaults={"figures": figures, "share_overturned": share}
        )
        if created:
            audit(actor="system", action="rule.revision", target=rule_id[:100], overturned=figures["overturned"])
            log.info("rule_revision_proposed", rule=rule_id, overturned=figures["overturned"], settled=figures["settled"])


def rule_revision_close(*, revision: RuleRevision, actor: User, note: str) -> RuleRevision:
    """Say what became of it. It opens again only over blocks decided later. Raises NotClosed."""
    note = note.strip()
    if not note or len(note) > 500:
        raise NotClosed("Say in at most 500 characters what becomes of the rule.")
    with transaction.atomic():
        closed = RuleRevision.objects.filter(pk=revision.pk, closed_at__isnull=True).update(
            closed_at=timezone.now(), closed_by=actor, note=note
        )
        if not closed:
            raise NotClosed("It is closed already.")
        audit(actor=actor.username, action="rule.revision_close", target=revision.rule[:100], revision=revision.pk)
    revision.refresh_from_db()
    return revision


def open_revisions() -> list[tuple[RuleRevision, int | None]]:
    """What is open, the most overturned first; and the key of the custom rule's version that is active, if it is one."""
    found = list(RuleRevision.objects.filter(closed_at__isnull=True).order_by("-share_overturned", "pk")[:50])
    names = [each.rule.removeprefix(CustomRule.PREFIX) for each in found if each.rule.startswith(CustomRule.PREFIX)]
    keys = dict(CustomRule.objects.filter(identifier__in=names).order_by("is_active", "version").values_list("identifier", "pk"))
    return [
        (each, keys.get(each.rule.removeprefix(CustomRule.PREFIX)) if each.rule.startswith(CustomRule.PREFIX) else None)
        for each in found
    ]
