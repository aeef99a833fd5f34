"""The rule that every label comes from: each path of `next_step`, and what no sequence of statements can do."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreview.review.settlement import Open, Settled, next_step

EYES = ("critical",)
TRUTHS = ("safe", "unsafe", "unsure")


@dataclass(frozen=True)
class Said:
    """A review as the rule reads it."""

    truth: str
    stage: str


def said(*truths: str) -> list[Said]:
    """Statements in the stages in which they are made when no earlier one settles."""
    return [Said(truth, stage) for truth, stage in zip(truths, ("first", "second", "adjudication"), strict=False)]


def step(decision: str, severity: str, *truths: str) -> Open | Settled:
    return next_step(decision=decision, severity=severity, second_eyes=EYES, reviews=said(*truths))


def test_an_item_that_nobody_reviewed_is_a_first_pharmacists() -> None:
    assert step("block", "critical") == Open("first")


@pytest.mark.parametrize(
    ("decision", "severity", "truth"),
    [
        ("block", "critical", "unsafe"),
        ("block", "major", "safe"),
        ("block", "minor", "unsafe"),
        ("hold", "critical", "safe"),
        ("hold", "critical", "unsafe"),
        ("allow", "critical", "safe"),
        ("allow", "critical", "unsafe"),
    ],
)
def test_one_who_is_sure_settles_all_but_the_overturn_of_a_critical_block(decision: str, severity: str, truth: str) -> None:
    assert step(decision, severity, truth) == Settled("single")


@pytest.mark.parametrize(
    ("truths", "expected"),
    [
        (("safe",), Open("second")),
        (("unsure",), Open("second")),
        (("safe", "safe"), Settled("agreed")),
        (("safe", "unsafe"), Open("adjudication")),
        (("safe", "unsure"), Open("adjudication")),
        (("unsure", "safe"), Open("adjudication")),
        (("unsure", "unsafe"), Settled("single")),
        (("unsure", "unsure"), Open("adjudication")),
        (("safe", "unsafe", "safe"), Settled("adjudicated")),
        (("safe", "unsafe", "unsafe"), Settled("adjudicated")),
        (("safe", "unsure", "unsafe"), Settled("adjudicated")),
        (("unsure", "safe", "safe"), Settled("adjudicated")),
        (("unsure", "unsure", "unsafe"), Settled("adjudicated")),
    ],
)
def test_every_path_of_a_critical_block(truths: tuple[str, ...], expected: Open | Settled) -> None:
    assert step("block", "critical", *truths) == expected


@pytest.mark.parametrize(
    ("truths", "expected"),
    [
        (("unsure",), Open("second")),
        (("unsure", "safe"), Settled("single")),
        (("unsure", "unsafe"), Settled("single")),
        (("unsure", "unsure"), Open("adjudication")),
        (("unsure", "unsure", "safe"), Settled("adjudicated")),
    ],
)
@pytest.mark.parametrize(("decision", "severity"), [("block", "major"), ("hold", "critical"), ("allow", "minor")])
def test_every_path_of_what_one_may_overturn(
    decision: str, severity: str, truths: tuple[str, ...], expected: Open | Settled
) -> None:
    assert step(decision, severity, *truths) == expected


cases = st.fixed_dictionaries(
    {
        "decision": st.sampled_from(("allow", "block", "hold")),
        "severity": st.sampled_from(("critical", "major", "minor")),
        "second_eyes": st.sets(st.sampled_from(("critical", "major", "minor"))).map(tuple),
    }
)


@given(case=cases, words=st.lists(st.sampled_from(TRUTHS), min_size=2, max_size=2), ruling=st.sampled_from(("safe", "unsafe")))
def test_three_statements_always_settle_and_one_never_overturns_what_needs_two(
    case: dict[str, object], words: list[str], ruling: str
) -> None:
    """Each says what they like in turn; a lead, who comes third, is not let be unsure."""
    made: list[Said] = []
    result: Open | Settled = next_step(reviews=made, **case)  # type: ignore[arg-type]
    stages = []
    for truth in (*words, ruling):
        assert isinstance(result, Open)
        stages.append(result.stage)
        made.append(Said(truth, result.stage))
        result = next_step(reviews=made, **case)  # type: ignore[arg-type]
        if isinstance(result, Settled):
            break
    assert isinstance(result, Settled)
    assert stages == ["first", "second", "adjudication"][: len(stages)]
    assert made[-1].truth != "unsure"
    if case["decision"] == "block" and case["severity"] in case["second_eyes"] and made[-1].truth == "safe":  # type: ignore[operator]
        assert len(made) >= 2
        both_agree = [review.truth for review in made] == ["safe", "safe"]
        assert both_agree or made[-1].stage == "adjudication"
    assert (result.basis == "agreed") == (len(made) == 2 and made[0].truth == made[1].truth)
    assert (result.basis == "adjudicated") == (len(made) == 3)
