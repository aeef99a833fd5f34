"""Stored values in plain words."""

from datetime import UTC, datetime, timedelta

import pytest

from classifiers.result import CATEGORIES, Decision, Layer, Severity
from guardreview.review.models import Review
from guardreview.review.presentation import (
    CATEGORY_WORDS,
    CONSEQUENCES,
    DECISION_WORDS,
    KEYED,
    KIND_WORDS,
    LAYER_WORDS,
    SEVERITY_MEANING,
    category_groups,
    category_words,
    due_words,
    duration,
    outcome_words,
)
from guardreview.review.statements import confirms
from guardreview.verdicts.models import ReviewItem


def test_every_value_has_its_words() -> None:
    assert set(CATEGORIES) <= set(CATEGORY_WORDS)
    assert set(DECISION_WORDS) == set(Decision) == set(CONSEQUENCES)
    assert set(LAYER_WORDS) == set(Layer)
    assert set(KIND_WORDS) == set(ReviewItem.Kind.values)
    assert set(SEVERITY_MEANING) == set(Severity)
    assert category_words("new_family:odd_thing") == "New family: odd thing"


def test_the_form_offers_every_category_once_and_nine_have_a_key() -> None:
    choices = [choice for group in category_groups(checked=[], suggested=[]) for choice in group.choices]
    assert sorted(choice.value for choice in choices) == sorted(CATEGORIES)
    assert sorted(choice.key for choice in choices if choice.key) == list("123456789")
    assert [choice.value for choice in choices if choice.key == "1"] == ["harmful_medical:dangerous_dosage"]
    assert len(KEYED) == 9


def test_personal_data_is_folded_unless_it_matters() -> None:
    assert category_groups(checked=[], suggested=[])[-1].folded
    assert not category_groups(checked=["pii:ssn"], suggested=[])[-1].folded
    assert not category_groups(checked=[], suggested=["pii:email"])[-1].folded


@pytest.mark.parametrize("decision", list(Decision))
@pytest.mark.parametrize("truth", [Review.Truth.SAFE, Review.Truth.UNSAFE])
def test_the_form_foretells_what_the_service_will_say(decision: Decision, truth: str) -> None:
    foretold = CONSEQUENCES[decision][truth]
    said = {True: "confirms", False: "overturns", None: "settles"}[confirms(decision, truth)]
    assert said in foretold
    outcome = outcome_words(Review(truth=truth, confirms=confirms(decision, truth)), decision).lower()
    assert said.removesuffix("s") in outcome


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 00 min"),
        (86_399, "23 h 59 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations(seconds: int, words: str) -> None:
    assert duration(timedelta(seconds=seconds)) == words


def test_a_deadline_is_to_come_or_past() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert due_words(now + timedelta(minutes=5), now) == "due in 5 min"
    assert due_words(now - timedelta(minutes=5), now) == "overdue by 5 min"
