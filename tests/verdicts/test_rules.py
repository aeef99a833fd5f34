"""Administrators' rules: what is refused and why, versions, and that workers follow a change, or hold."""

import asyncio
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from classifiers.combined import CombinedSafetyClassifier
from classifiers.policy import Policy as CascadePolicy
from classifiers.result import Decision, Layer
from classifiers.rule_based import RuleBasedClassifier
from classifiers.rules.rule import RuleError
from guardreview.core.models import App, AuditEvent, User
from guardreview.core.services import audit_verify
from guardreview.verdicts import rules, runtime, services
from guardreview.verdicts.models import CustomRule, LayerResult, Policy, Verdict
from guardreview.verdicts.rules import rule_create, rules_activate, rules_deactivate

pytestmark = pytest.mark.django_db

GRAPEFRUIT = "Wash the statin down with grapefruit juice."
PLAIN = "We open at nine."


def draft(**changed: Any) -> CustomRule:
    """An unsaved rule that is valid unless a test changes it."""
    values: dict[str, Any] = {
        "identifier": "grapefruit",
        "category": "harmful_medical:unsafe_combination",
        "severity": "critical",
        "action": "block",
        "patterns": ["wash ...4 down with grapefruit(?: juice)?"],
        "must_match": [GRAPEFRUIT],
        "must_not_match": ["Never wash it down with grapefruit juice.", "Grapefruit is a fruit."],
    }
    return CustomRule(**{**values, **changed})


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", role="administrator")


def layer(response: str = GRAPEFRUIT) -> Any:
    """What the rules layer says now, as a worker runs it."""
    return runtime.run_fast_layer(Layer.RULES, response=response, query="")


# What is refused


@pytest.mark.parametrize(
    ("changed", "field", "problem"),
    [
        ({"identifier": "Grape fruit"}, "identifier", "Lower-case letters"),
        ({"identifier": "grapefruit\n"}, "identifier", "Lower-case letters"),
        ({"identifier": "a" * 51}, "identifier", "at most 50 characters"),
        ({"identifier": "dangerous_dosage"}, "identifier", "A rule that ships has this name"),
        ({"category": "harmful"}, "category", "One of "),
        ({"lang": "tlh"}, "lang", "One of "),
        ({"severity": "fatal"}, "severity", "not a valid choice"),
        ({"action": "allow"}, "action", "not a valid choice"),
        ({"confidence": 0}, "confidence", "greater than or equal to"),
        ({"confidence": 1.5}, "confidence", "less than or equal to 1"),
        ({"patterns": []}, "patterns", "cannot be blank"),
        ({"patterns": ["fine", "gr(ape"]}, "patterns", "Line 2: Pattern 'gr(ape': missing )"),
        ({"patterns": [r"(grape)\1"]}, "patterns", "Line 1: "),  # RE2 knows no back-references
        ({"patterns": ["grape(?=fruit)"]}, "patterns", "Line 1: "),  # nor lookahead
        ({"patterns": ["x*"]}, "patterns", "matches where there is nothing"),
        ({"patterns": ["grape.{0,900}fruit"]}, "patterns", "too wide"),
        ({"patterns": ["take {drug}"]}, "patterns", "{drug} is not among the words"),
        ({"patterns": ["a b"] * 21}, "patterns", "At most 20 lines; these are 21."),
        ({"patterns": ["a" * 501]}, "patterns", "At most 500 characters in a line; longer: 1."),
        ({"patterns": "grapefruit"}, "patterns", "list of texts"),
        ({"patterns": [7]}, "patterns", "list of texts"),
        ({"unless": ["a(b"]}, "unless", "Line 1: "),
        ({"must_match": []}, "must_match", "cannot be blank"),
        ({"must_match": [GRAPEFRUIT, PLAIN]}, "must_match", "Line 2: the rule does not match this."),
        ({"must_not_match": []}, "must_not_match", "cannot be blank"),
        ({"must_not_match": [PLAIN, GRAPEFRUIT]}, "must_not_match", "Line 2: the rule matches this."),
        ({"negation": False}, "must_not_match", "Line 1: the rule matches this."),
        ({"must_match": [GRAPEFRUIT] * 51}, "must_match", "At most 50 lines"),
        ({"must_match": [GRAPEFRUIT + " " * 1000]}, "must_match", "At most 1000 characters"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_its_field(changed: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(ValidationError) as refused:
        rule_create(actor=None, rule=draft(**changed))
    assert list(refused.value.message_dict) == [field]
    assert problem in " ".join(refused.value.message_dict[field])
    assert not CustomRule.objects.exists()
    assert not AuditEvent.objects.exists()


def test_a_confidence_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValidationError, match="Confidence must be a number above 0 and at most 1"):
        rule_create(actor=None, rule=draft(confidence=float("nan")))


@settings(max_examples=60, deadline=None)
@given(pattern=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30).filter(str.strip))
def test_any_pattern_compiles_or_is_refused_with_a_reason(pattern: str) -> None:
    rule = draft(patterns=[pattern], negation=False, must_match=[pattern], must_not_match=["zzz"])
    problems: dict[str, list[str]] = {}
    try:
        evidence = rules.rule_check(rule).classify(pattern).evidence
    except ValidationError as refused:
        problems = refused.message_dict
    assert set(problems) <= {"patterns", "must_match", "must_not_match"}
    assert problems or "custom.grapefruit" in {found.rule for found in evidence}


def test_no_more_than_two_hundred_are_active(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_ACTIVE", 2)
    first = rule_create(actor=ada, rule=draft())
    rule_create(actor=ada, rule=draft(identifier="second"))
    with pytest.raises(ValidationError, match="At most 2 rules"):
        rule_create(actor=ada, rule=draft(identifier="third"))
    rule_create(actor=ada, rule=draft(), based_on=first)  # a new version takes no place more


def test_rules_that_do_not_fit_in_memory_are_refused(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny(rows: Any) -> RuleBasedClassifier:
        return RuleBasedClassifier([], [row.as_rule() for row in rows], max_memory=200)

    monkeypatch.setattr(runtime, "rule_set", tiny)
    with pytest.raises(ValidationError, match="patterns do not fit in 200 bytes"):
        rule_create(actor=ada, rule=draft())
    assert not CustomRule.objects.exists()


# Versions


def test_an_edit_is_a_new_version_and_the_old_one_stays(ada: User) -> None:
    first = rule_create(actor=None, rule=draft())
    second = rule_create(actor=ada, rule=draft(action="escalate", note="too harsh"), based_on=first)
    assert (second.version, second.created_by, second.is_active) == (2, ada, True)
    rows = CustomRule.objects.order_by("version").values_list("version", "action", "is_active")
    assert list(rows) == [(1, "block", False), (2, "escalate", True)]


def test_a_name_is_not_taken_twice_by_accident() -> None:
    rule_create(actor=None, rule=draft())
    with pytest.raises(ValidationError, match="Make a new version of it"):
        rule_create(actor=None, rule=draft())


def test_a_version_begun_from_an_older_one_is_refused() -> None:
    first = rule_create(actor=None, rule=draft())
    rule_create(actor=None, rule=draft(), based_on=first)
    with pytest.raises(ValidationError, match="which is not the latest"):
        rule_create(actor=None, rule=draft(), based_on=first)
    with pytest.raises(ValidationError, match="which is not the latest"):
        rule_create(actor=None, rule=draft(identifier="renamed"), based_on=first)
    assert CustomRule.objects.count() == 2


def test_the_database_keeps_one_active_version() -> None:
    rule_create(actor=None, rule=draft())
    with pytest.raises(IntegrityError), transaction.atomic():
        draft(version=2, is_active=True).save()
    with pytest.raises(IntegrityError), transaction.atomic():
        draft(version=1).save()


def test_an_older_version_can_be_activated_again() -> None:
    first = rule_create(actor=None, rule=draft())
    second = rule_create(actor=None, rule=draft(), based_on=first)
    rules_activate(rules=[first], actor=None)
    assert list(CustomRule.objects.filter(is_active=True)) == [first]
    with pytest.raises(ValidationError, match="One version of a rule can be active"):
        rules_activate(rules=[first, second], actor=None)


def test_a_change_at_the_same_moment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = runtime.rule_set

    def while_another_activates(rows: Any) -> RuleBasedClassifier:
        monkeypatch.setattr(runtime, "rule_set", real)
        rule_create(actor=None, rule=draft(identifier="other"))
        return real(rows)

    monkeypatch.setattr(runtime, "rule_set", while_another_activates)
    with pytest.raises(ValidationError, match="at the same moment"):
        rule_create(actor=None, rule=draft())
    assert list(CustomRule.objects.values_list("identifier", flat=True)) == ["other"]
    assert "custom.grapefruit" not in AuditEvent.objects.values_list("target", flat=True)


def test_every_change_is_in_the_audit_log_with_the_rule_set_that_it_made(ada: User) -> None:
    first = rule_create(actor=ada, rule=draft(note="why"))
    made = runtime.rules().version
    rule_create(actor=ada, rule=draft(), based_on=first, activate=False)
    rules_deactivate(rules=[first], actor=ada)
    events = list(AuditEvent.objects.values_list("actor", "action", "target", "data"))
    target = ("ada", "custom.grapefruit")
    assert [(actor, target) for actor, _, target, _ in events] == [target] * 4
    assert [(action, data) for _, action, _, data in events] == [
        ("rule.create", {"version": 1, "note": "why"}),
        ("rule.activate", {"version": 1, "rule_set": made}),
        ("rule.create", {"version": 2, "note": ""}),
        ("rule.deactivate", {"version": 1, "rule_set": runtime.shipped_rules().version}),
    ]
    assert audit_verify() == (4, None)


# Workers


def test_workers_follow_a_change_at_the_next_exchange() -> None:
    shipped = layer()
    assert (shipped.is_safe, shipped.version) == (True, runtime.shipped_rules().version)
    rule = rule_create(actor=None, rule=draft())
    found = layer()
    assert (found.category, found.escalate) == ("harmful_medical:unsafe_combination", False)
    assert found.reason == "Matched rule: custom.grapefruit"
    assert found.version not in ("", shipped.version)
    softer = rule_create(actor=None, rule=draft(action="escalate"), based_on=rule)
    assert layer().escalate is True
    rules_deactivate(rules=[softer], actor=None)
    assert (layer().is_safe, layer().version) == (True, shipped.version)


def test_a_rule_that_is_not_active_does_nothing() -> None:
    rule_create(actor=None, rule=draft(), activate=False)
    assert layer().is_safe


def test_the_set_is_compiled_once_and_looked_up_by_one_query(django_assert_num_queries: Any) -> None:
    rule_create(actor=None, rule=draft())
    compiled = runtime.rules()
    with django_assert_num_queries(1):
        assert runtime.rules() is compiled


def test_the_shipped_rules_still_hold_beside_them() -> None:
    rule_create(actor=None, rule=draft())
    assert layer("Just double your dose tonight.").category == "harmful_medical:dangerous_dosage"


def test_a_set_that_does_not_compile_holds_until_it_is_mended(
    app: App, policy: Policy, enqueued: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = rule_create(actor=None, rule=draft())
    CustomRule.objects.filter(pk=rule.pk).update(created_at="2020-01-01T00:00:00Z")  # not the set that is compiled already

    def full(rows: Any) -> RuleBasedClassifier:
        tried.append(len(list(rows)))
        raise RuleError("900 patterns do not fit in 67108864 bytes")

    tried: list[int] = []
    monkeypatch.setattr(runtime, "rule_set", full)
    with capture_logs() as logs:
        for _ in range(2):
            exchange, _ = services.exchange_submit(app=app, query="?", response=PLAIN)
            services.exchange_run_fast_layers(exchange_id=exchange.pk)
    assert set(Verdict.objects.values_list("decision", flat=True)) == {"hold"}
    assert set(LayerResult.objects.filter(layer="rules").values_list("error", flat=True)) == {"the rules could not be loaded"}
    assert tried == [1]  # a set that failed is not tried again at each exchange
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"].count("rules_unavailable") == 1
    runtime.warm_up()  # nor does it keep a worker from starting
    rules_deactivate(rules=[rule], actor=None)  # possible although nothing compiles
    assert layer().is_safe


def test_a_verdict_names_the_rule_set(app: App, policy: Policy, enqueued: list[tuple[str, str]]) -> None:
    rule_create(actor=None, rule=draft())
    exchange, _ = services.exchange_submit(app=app, query="?", response=GRAPEFRUIT)
    services.exchange_run_fast_layers(exchange_id=exchange.pk)
    verdict = Verdict.objects.get(exchange=exchange)
    assert (verdict.decision, verdict.layer) == ("block", "rules")
    recorded = AuditEvent.objects.get(action="rule.activate").data["rule_set"]
    assert verdict.versions["rules"] == recorded == exchange.layer_results.get(layer="rules").version


def test_the_cascade_in_process_takes_them_too() -> None:
    rule_create(actor=None, rule=draft())
    cascade = CombinedSafetyClassifier(runtime.rules(), None, policy=CascadePolicy.shipped())
    assert asyncio.run(cascade.classify(GRAPEFRUIT)).decision is Decision.BLOCK
