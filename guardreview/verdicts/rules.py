"""Every write of administrators' rules: a version is made, the active set changes. What is refused names the form's field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Max

from classifiers.rule_based import RuleBasedClassifier
from classifiers.rules.rule import CompiledRule, Rule, RuleError
from guardreview.core.models import User
from guardreview.core.services import audit
from guardreview.verdicts import runtime
from guardreview.verdicts.models import CustomRule

MAX_ACTIVE: Final = 200
MAX_LINES: Final[Mapping[str, int]] = {"patterns": 20, "unless": 20, "must_match": 50, "must_not_match": 50}
"""Entries in each list of a rule."""
MAX_PATTERN: Final = 500
MAX_EXAMPLE: Final = 1_000
"""Characters in one entry."""
CHANGED: Final = "Somebody changed the active rules at the same moment. Nothing was saved; try again."


def rule_check(rule: CustomRule) -> RuleBasedClassifier:
    """The rules layer as it would be with this version active. Raises ValidationError, by field where one is at fault.

    All that the library demands is asked of the library: RE2 compiles each pattern, and each example does what it says.
    """
    rule.full_clean(exclude=["is_active", "created_by"], validate_constraints=False)
    _check_lists(rule)
    if rule.identifier in {shipped.id for shipped in runtime.shipped_rules().rules}:
        raise ValidationError({"identifier": "A rule that ships has this name; choose another."})
    try:
        rule.as_rule().check()
        others = CustomRule.objects.filter(is_active=True).exclude(identifier=rule.identifier).order_by("pk")
        return _compile([*others, rule])
    except RuleError as error:
        raise ValidationError(_plain(error, rule)) from error


def _check_lists(rule: CustomRule) -> None:
    errors: dict[str, list[str]] = {}
    for field, most in MAX_LINES.items():
        longest = MAX_EXAMPLE if field.startswith("must") else MAX_PATTERN
        lines = getattr(rule, field)
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            errors[field] = ["Give a list of texts."]
        elif len(lines) > most:
            errors[field] = [f"At most {most} lines; these are {len(lines)}."]
        elif numbers := [str(number) for number, line in enumerate(lines, start=1) if len(line) > longest]:
            errors[field] = [f"At most {longest} characters in a line; longer: {', '.join(numbers)}."]
    if not errors:
        for field in ("patterns", "unless"):
            if problems := _pattern_problems(rule, getattr(rule, field)):
                errors[field] = problems
    if not errors:
        errors = _example_problems(rule)
    if errors:
        raise ValidationError(errors)


def _pattern_problems(rule: CustomRule, lines: Sequence[str]) -> list[str]:
    problems = []
    for number, line in enumerate(lines, start=1):
        try:
            CompiledRule(Rule.from_mapping({"id": rule.rule_id, "category": rule.category, "patterns": [line]}))
        except RuleError as error:
            problems.append(f"Line {number}: {_plain(error, rule)}")
    return problems


def _example_problems(rule: CustomRule) -> dict[str, list[str]]:
    try:
        compiled = CompiledRule(rule.as_rule())
    except RuleError as error:
        raise ValidationError(_plain(error, rule)) from error
    problems: dict[str, list[str]] = {}
    for field, expected in (("must_match", True), ("must_not_match", False)):
        wrong = [n for n, line in enumerate(getattr(rule, field), start=1) if compiled.matches(line) is not expected]
        if wrong:
            does = "does not match" if expected else "matches"
            problems[field] = [f"Line {number}: the rule {does} this." for number in wrong]
    return problems


def _plain(error: RuleError, rule: CustomRule) -> str:
    text = str(error).removeprefix(f"rule {rule.rule_id}").lstrip(": ")
    return f"{text[:1].upper()}{text[1:]}."


def _compile(rows: Iterable[CustomRule]) -> RuleBasedClassifier:
    rows = list(rows)
    if len(rows) > MAX_ACTIVE:
        raise ValidationError(f"At most {MAX_ACTIVE} rules can be active. Deactivate one first.")
    return runtime.rule_set(rows)


def rule_create(*, actor: User | None, rule: CustomRule, based_on: CustomRule | None = None, activate: bool = True) -> CustomRule:
    """Store an unsaved rule as the next version of `based_on`, or as a new rule; active at once unless told otherwise.

    Raises ValidationError, also if `based_on` is no longer the latest version.
    """
    latest = CustomRule.objects.filter(identifier=rule.identifier).aggregate(n=Max("version"))["n"] or 0
    if latest and based_on is None:
        raise ValidationError({"identifier": f"A rule has this name, in version {latest}. Make a new version of it instead."})
    if based_on is not None and (rule.identifier, latest) != (based_on.identifier, based_on.version):
        raise ValidationError(f"This was begun from {based_on}, which is not the latest of {rule.identifier} ({latest}).")
    rule.version, rule.created_by, rule.is_active = latest + 1, actor, False
    expected = runtime.active_rules()
    rule_set = rule_check(rule)
    try:
        with transaction.atomic():
            rule.save(force_insert=True)
            _record(actor, "rule.create", [rule], note=rule.note)
            if activate:
                _activate([rule], actor, expected, rule_set)
    except IntegrityError as error:  # the same version, made at the same moment
        raise ValidationError(CHANGED) from error
    rule.is_active = activate
    return rule


def rules_activate(*, rules: Sequence[CustomRule], actor: User | None) -> None:
    """Make these versions the active ones of their rules, from the next exchange on. Raises ValidationError."""
    names = [rule.identifier for rule in rules]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValidationError(f"One version of a rule can be active: choose one of {', '.join(sorted(twice))}.")
    expected = runtime.active_rules()
    others = CustomRule.objects.filter(is_active=True).exclude(identifier__in=names).order_by("pk")
    try:
        for rule in rules:
            rule.as_rule().check()  # a release may have changed what a pattern matches
        rule_set = _compile([*others, *rules])
    except RuleError as error:
        raise ValidationError(f"{error}.") from error
    with transaction.atomic():
        _activate(rules, actor, expected, rule_set)


def rules_deactivate(*, rules: Sequence[CustomRule], actor: User | None) -> None:
    """Take these out of the active set, from the next exchange on. Always possible, since it mends a set that fails."""
    keys = [rule.pk for rule in rules]
    expected = runtime.active_rules()
    try:
        version = _compile(CustomRule.objects.filter(is_active=True).exclude(pk__in=keys).order_by("pk")).version
    except (RuleError, ValidationError):
        version = ""  # what is left does not compile either: the layer still fails
    with transaction.atomic():
        _record(actor, "rule.deactivate", rules, rule_set=version)
        _refuse_if_changed(expected)
        CustomRule.objects.filter(pk__in=keys).update(is_active=False)


def _activate(
    rules: Sequence[CustomRule], actor: User | None, expected: runtime.ActiveRules, rule_set: RuleBasedClassifier
) -> None:
    _record(actor, "rule.activate", rules, rule_set=rule_set.version)
    _refuse_if_changed(expected)
    names = [rule.identifier for rule in rules]
    CustomRule.objects.filter(is_active=True, identifier__in=names).update(is_active=False)
    CustomRule.objects.filter(pk__in=[rule.pk for rule in rules]).update(is_active=True)


def _refuse_if_changed(expected: runtime.ActiveRules) -> None:
    """After `_record`: the audit log has one writer until its transaction ends, so nobody else can change the set now."""
    if runtime.active_rules() != expected:
        raise ValidationError(CHANGED)


def _record(actor: User | None, action: str, rules: Sequence[CustomRule], **data: Any) -> None:
    for rule in rules:
        audit(actor=str(actor or "system"), action=action, target=rule.rule_id, version=rule.version, **data)
