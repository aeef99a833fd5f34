"""What a rule is, which are refused, and what a set of them is called."""

import re

import pytest

from classifiers import rule_based
from classifiers.rule_based import Rule, RuleBasedClassifier, RuleError
from classifiers.rules.rule import CompiledRule, Pack

RULES = RuleBasedClassifier.default().rules
BREAD = {
    "id": "bread",
    "category": "misinformation",
    "patterns": ["bread cures ... cold"],
    "must_match": ["Bread cures any cold."],
    "must_not_match": ["It is not true that bread cures a cold."],
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_rules_that_ship_do_on_their_examples_what_they_say(rule: Rule) -> None:
    rule.check()


def test_rules_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RuleError, match="do not fit in 65536 bytes"):
        RuleBasedClassifier([Pack("all", RULES)], max_memory=1 << 16)


def test_an_administrators_rule_joins_those_that_ship() -> None:
    rule = Rule.from_mapping(BREAD)
    rule.check()
    classifier = RuleBasedClassifier([Pack("all", RULES)], [rule])
    result = classifier.classify("Bread is not a medicine, but bread cures the common cold.")
    assert (result.category, result.confidence) == ("misinformation", 0.95)
    assert [evidence.text for evidence in result.evidence] == ["bread cures the common cold"]
    assert classifier.version != RuleBasedClassifier.default().version


@pytest.mark.parametrize(
    ("category", "action", "query"),
    [
        ("harmful_medical:dangerous_dosage", "block", "on hydrocortisone for addisons, fever"),
        ("discouraging_care", "escalate", "crushing chest pain since an hour"),
    ],
)
def test_what_an_administrators_rule_does_is_not_changed_by_the_drugs_of_an_exchange(
    category: str, action: str, query: str
) -> None:
    rule = Rule.from_mapping(BREAD | {"category": category, "action": action})
    result = RuleBasedClassifier([], [rule]).classify("Bread cures any cold.", query)
    assert not result.is_safe
    assert result.escalate is (action == "escalate")


def test_the_version_is_that_of_the_content() -> None:
    assert RuleBasedClassifier([Pack("other name", RULES)]).version == RuleBasedClassifier.default().version
    assert RuleBasedClassifier([Pack("fewer", RULES[1:])]).version != RuleBasedClassifier.default().version


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "Bad Name"}, "id must be"),
        ({"id": None}, "id must be"),
        ({"category": "nonsense"}, "unknown category 'nonsense'"),
        ({"patterns": []}, "give 1 to"),
        ({"patterns": "bread"}, "patterns must be a list"),
        ({"patterns": ["x" * 3000]}, "more than 2000 characters"),
        ({"severity": "huge"}, "huge"),
        ({"action": "delete"}, "delete"),
        ({"confidence": 0}, "confidence must be"),
        ({"confidence": "high"}, "confidence must be"),
        ({"negation": "no"}, "negation must be"),
        ({"combination": 1}, "combination must be"),
        ({"lang": "xx"}, "unknown lang 'xx'"),
        ({"validator": "astrology"}, "unknown validator 'astrology'"),
        ({"colour": "red"}, "unknown fields: colour"),
        ({"patterns": ["{bread} cures"]}, "{bread} is not among the words"),
    ],
)
def test_a_rule_that_is_malformed_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(RuleError, match=re.escape(message)):
        Rule.from_mapping(BREAD | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"must_match": []}, "at least one example"),
        ({"must_not_match": []}, "at least one example"),
        ({"must_match": ["Cake cures a cold."]}, "does not match its example 'Cake cures a cold.'"),
        ({"must_not_match": ["Bread cures a cold."]}, "matches 'Bread cures a cold.'"),
        ({"patterns": ["bread("]}, "missing )"),
        ({"patterns": ["(?=bread)"]}, "invalid perl operator"),
        ({"patterns": ["b*"]}, "matches where there is nothing"),
        ({"patterns": ["bread (?:\\w+ ){0,900}cold"]}, "too wide"),
    ],
)
def test_a_rule_that_does_not_do_what_it_says_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(RuleError, match=re.escape(message)):
        Rule.from_mapping(BREAD | change).check()


def test_two_rules_of_one_name_are_refused() -> None:
    rule = Rule.from_mapping(BREAD)
    with pytest.raises(RuleError, match="more than one rule is named bread"):
        RuleBasedClassifier([], [rule, rule])


def test_gaps_are_bounded_and_end_with_the_sentence() -> None:
    rule = CompiledRule(Rule.from_mapping(BREAD | {"patterns": ["bread ...2 cold"]}))
    assert rule.matches("bread cold")
    assert rule.matches("bread one\ntwo cold")
    assert not rule.matches("bread one two three cold")
    assert not rule.matches("bread one. Two cold")
    assert rule.matches("bread 2.5 mg cold")


def test_the_lessons_lists() -> None:
    assert {rule.id for rule in rule_based.PII_PATTERNS} >= {"ssn", "email", "credit_card"}
    named = {rule.id for rule in rule_based.HARMFUL_MEDICAL_PATTERNS}
    assert named >= {
        "unsafe_combination_approval",
        "dangerous_dosage",
        "discouraging_professional_care",
        "self_medication_advice",
    }
