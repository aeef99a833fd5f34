"""Rules that are overturned too often are proposed for revision, until an administrator closes that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from guardreview.core.models import AuditEvent, User
from guardreview.learning.models import RuleRevision
from guardreview.learning.rule_revisions import NotClosed, open_revisions, rule_revision_close, rule_revisions_propose
from guardreview.verdicts.models import CustomRule
from tests import scenes
from tests.insight_scenes import answers, said


@pytest.fixture
def people(db: None) -> dict[str, User]:
    return scenes.people()


def blocks(people: dict[str, User], rule: str, *, right: int, wrong: int, days: float = 5) -> None:
    at = timezone.now() - timedelta(days=days)
    rows = [{"at": at, "decision": "block", "kind": "blocked", "rule": rule, "layer": "rules"} for _ in range(right + wrong)]
    for number, item in enumerate(answers(rows)):
        assert item is not None
        said(item, people["ana"], "safe" if number < wrong else "unsafe", at, label="single")


def test_only_a_rule_that_is_surely_too_wide_is_proposed(people: dict[str, User]) -> None:
    blocks(people, "pii.phone_us", right=8, wrong=17)
    blocks(people, "dose.double_up", right=24, wrong=2)
    blocks(people, "few.settled", right=0, wrong=6)
    blocks(people, "perhaps.wide", right=14, wrong=8)
    [found] = rule_revisions_propose()
    assert (found.rule, found.figures["settled"], found.figures["overturned"]) == ("pii.phone_us", 25, 17)
    assert len(found.figures["examples"]) == 10
    assert found.figures["low"] > 0.3
    assert AuditEvent.objects.filter(action="rule.revision", target="pii.phone_us").count() == 1


def test_proposing_again_refreshes_and_opens_no_second_one(people: dict[str, User]) -> None:
    blocks(people, "myth.detox", right=5, wrong=20)
    rule_revisions_propose()
    blocks(people, "myth.detox", right=0, wrong=5)
    rule_revisions_propose()
    assert RuleRevision.objects.get().figures["settled"] == 30


def test_once_closed_only_later_blocks_count(people: dict[str, User]) -> None:
    blocks(people, "myth.detox", right=5, wrong=20)
    [found] = rule_revisions_propose()
    rule_revision_close(revision=found, actor=people["adam"], note="Narrowed in release 2.")
    assert rule_revisions_propose() == []
    blocks(people, "myth.detox", right=2, wrong=20, days=-0.01)
    assert len(rule_revisions_propose()) == 1
    assert RuleRevision.objects.count() == 2


def test_it_is_closed_once_with_a_note(people: dict[str, User]) -> None:
    blocks(people, "myth.detox", right=5, wrong=20)
    [found] = rule_revisions_propose()
    for note in ("  ", "x" * 501):
        with pytest.raises(NotClosed, match="500"):
            rule_revision_close(revision=found, actor=people["adam"], note=note)
    rule_revision_close(revision=found, actor=people["adam"], note="Kept: the blocks were of one test patient.")
    with pytest.raises(NotClosed, match="already"):
        rule_revision_close(revision=found, actor=people["adam"], note="Again.")
    assert found.closed_by == people["adam"]


def test_a_custom_rule_links_to_its_page(people: dict[str, User]) -> None:
    blocks(people, "custom.grapefruit", right=2, wrong=20)
    old = timezone.now() - timedelta(days=30)
    rule = CustomRule.objects.create(
        identifier="grapefruit", category="misinformation", severity="major", action="block", is_active=True
    )
    CustomRule.objects.update(created_at=old)
    rule_revisions_propose()
    assert [(each.rule, key) for each, key in open_revisions()] == [("custom.grapefruit", rule.pk)]


@pytest.mark.parametrize(("name", "status"), [("adam", 302), ("lea", 403), ("ana", 403), ("ida", 403)])
def test_only_who_manages_rules_closes_one(people: dict[str, User], name: str, status: int) -> None:
    blocks(people, "myth.detox", right=5, wrong=20)
    [found] = rule_revisions_propose()
    client = Client()
    client.force_login(people[name], backend="django.contrib.auth.backends.ModelBackend")
    address = reverse("revision-close", args=[found.pk])
    assert client.get(address).status_code in (403, 405)
    answer: Any = client.post(address, {"note": "Done."})
    assert answer.status_code == status
    assert RuleRevision.objects.filter(closed_at__isnull=True).exists() == (status != 302)
    page = client.get(reverse("health-page"))
    assert name == "ana" or page.status_code == 200
