"""What a rule would do is shown before it is saved, and that somebody saw it is recorded."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from guardreview.core.models import AuditEvent, User
from guardreview.review.models import Label, Review
from guardreview.verdicts import rule_preview as module
from guardreview.verdicts.models import CustomRule, Exchange, ReviewItem
from guardreview.verdicts.rule_preview import Excerpt, rule_preview
from guardreview.verdicts.rules import rule_create
from tests import scenes
from tests.verdicts.test_rules import GRAPEFRUIT, PLAIN, draft

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", role="administrator")


def decided(response: str, decision: str, layer: str = "finetuned", label: str = "") -> Exchange:
    """An exchange with a verdict and, if called so, a settled label."""
    item = scenes.item(response=response, decision=decision, layer=layer, kind="held")
    if label:
        reviewer = User.objects.get_or_create(username="ana")[0]
        review = Review.objects.create(item=item, reviewer=reviewer, truth=label)
        Label.objects.create(exchange=item.exchange, review=review, value=label)
    return item.exchange


def text(excerpt: Excerpt) -> str:
    return "".join(piece for piece, _ in excerpt.pieces)


def test_it_counts_what_a_blocking_rule_would_newly_block(ada: User) -> None:
    decided(GRAPEFRUIT, "allow")
    decided(GRAPEFRUIT, "hold", label="safe")
    decided(GRAPEFRUIT, "hold", label="unsafe")
    decided(GRAPEFRUIT, "block", label="unsafe")
    decided(PLAIN, "allow")
    found = rule_preview(rule=draft(), actor=ada, last=100)
    assert (found.examined, found.complete, found.unscanned) == (5, True, 0)
    assert (found.newly.total, found.newly.safe, found.newly.unsafe, found.newly.unreviewed) == (3, 1, 1, 1)
    assert (found.matched.total, found.matched.safe, found.matched.unsafe) == (4, 1, 2)
    assert [excerpt.is_new for excerpt in found.excerpts] == [True, True, True, False]
    assert not CustomRule.objects.exists()


def test_escalating_is_new_only_for_what_no_judge_looked_at(ada: User) -> None:
    decided(GRAPEFRUIT, "allow", "finetuned")
    decided(GRAPEFRUIT, "allow", "judge")
    decided(GRAPEFRUIT, "hold", "")
    found = rule_preview(rule=draft(action="escalate"), actor=ada, last=100)
    assert (found.newly.total, found.matched.total) == (1, 3)


def test_it_begins_with_the_newest_and_takes_as_many_as_asked(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    made = [decided(GRAPEFRUIT, "allow") for _ in range(5)]
    found = rule_preview(rule=draft(), actor=ada, last=3)
    assert [excerpt.exchange for excerpt in found.excerpts] == [exchange.pk for exchange in made[:1:-1]]
    assert rule_preview(rule=draft(), actor=ada, last=100).examined == 5


def test_it_never_takes_more_than_the_limit(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EXCHANGES", 2)
    for _ in range(3):
        decided(PLAIN, "allow")
    assert rule_preview(rule=draft(), actor=ada, last=10**9).examined == 2


def test_when_time_is_up_it_says_so(ada: User) -> None:
    decided(GRAPEFRUIT, "allow")
    found = rule_preview(rule=draft(), actor=ada, last=100, budget_s=0)
    assert (found.complete, found.examined, found.matched.total) == (False, 0, 0)


def test_an_exchange_without_a_verdict_is_left_out(ada: User) -> None:
    exchange = decided(GRAPEFRUIT, "allow")
    ReviewItem.objects.all().delete()
    exchange.verdict.delete()
    assert rule_preview(rule=draft(), actor=ada, last=100).examined == 0


def test_twenty_excerpts_at_most_and_the_new_ones_first(ada: User) -> None:
    decided(GRAPEFRUIT, "allow")
    for _ in range(25):
        decided(GRAPEFRUIT, "block")
    found = rule_preview(rule=draft(), actor=ada, last=100)
    assert (found.matched.total, len(found.excerpts), found.excerpts[0].is_new) == (26, 20, True)


def test_an_excerpt_marks_the_match_in_its_surroundings(ada: User) -> None:
    decided("Before. " * 40 + GRAPEFRUIT + "\nAfter." * 40, "allow")
    (excerpt,) = rule_preview(rule=draft(), actor=ada, last=1).excerpts
    assert [piece for piece, marked in excerpt.pieces if marked] == ["Wash the statin down with grapefruit juice"]
    assert text(excerpt).startswith("… ")
    assert text(excerpt).endswith(" …")
    assert "\n" not in text(excerpt)
    assert len(text(excerpt)) < 400


def test_an_excerpt_shows_that_something_is_hidden_in_it(ada: User) -> None:
    decided("Wash the sta\u200btin down \u202ewith grapefruit juice.", "allow")
    (excerpt,) = rule_preview(rule=draft(), actor=ada, last=1).excerpts
    assert "sta·tin down ·with" in text(excerpt)


def test_what_was_shown_is_recorded_and_no_word_of_it_logged(ada: User) -> None:
    exchange = decided(GRAPEFRUIT, "allow")
    decided(PLAIN, "allow")
    with capture_logs() as logs:
        rule_preview(rule=draft(), actor=ada, last=100)
    event = AuditEvent.objects.get(action="rule.preview")
    assert (event.actor, event.target) == ("ada", "custom.grapefruit")
    assert event.data == {"examined": 2, "matched": 1, "exchanges": [str(exchange.pk)]}
    assert GRAPEFRUIT not in f"{logs}{event.data}"


def test_the_version_that_is_active_now_is_left_out(ada: User) -> None:
    active = rule_create(actor=ada, rule=draft())
    decided(GRAPEFRUIT, "allow")
    other = "Grapefruit juice is fine with it."
    decided(other, "allow")
    changed: dict[str, Any] = {"patterns": ["grapefruit juice is fine"], "must_match": [other]}
    found = rule_preview(rule=draft(**changed), actor=ada, last=100)
    assert [excerpt.pieces[0] for excerpt in found.excerpts] == [("Grapefruit juice is fine", True)]
    assert list(CustomRule.objects.filter(is_active=True)) == [active]


def test_a_rule_that_makes_responses_unreadable_is_told(ada: User) -> None:
    greedy = draft(
        patterns=["one|two|three|zebra"], unless=["one|two|three"], must_match=["zebra"], must_not_match=["one, two, three"]
    )
    decided("one two three " * 2000, "allow")
    assert rule_preview(rule=greedy, actor=ada, last=100).unscanned == 1
