"""A policy that lets more through takes two administrators, or one with a reason and an alarm; nothing applies out of order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import assume, given
from hypothesis import strategies as st

from classifiers.combined import decide
from classifiers.policy import THRESHOLD_KEYS, UNSAFE
from classifiers.policy import Policy as CascadePolicy
from classifiers.result import CATEGORIES, ClassifierResult, Decision, Layer, Severity, Verdict, severity_of
from guardreview.core.models import AuditEvent, User
from guardreview.core.services import audit
from guardreview.learning import tasks
from guardreview.learning.models import PolicyChange
from guardreview.learning.policy_changes import (
    PolicyRefused,
    change_approve,
    change_propose,
    change_reject,
    change_serve,
    changes_apply_due,
    policy_fields,
    policy_restore,
)
from guardreview.learning.policy_differences import differences, guarantee, loosens
from guardreview.learning.policy_history import entry, guarantee_words
from guardreview.verdicts.models import ModelVersion, Policy
from guardreview.verdicts.services import policy_activate, policy_create

Status = PolicyChange.Status
BOUNDS = {"default": {"block_at": 1.0, "allow_below": 1.0}, "unsafe": {"block_at": 0.9, "allow_below": 0.1}}
DOSE = "harmful_medical:dangerous_dosage"


def cascade(thresholds: dict[str, Any] | None = None, **more: Any) -> CascadePolicy:
    return CascadePolicy.from_json({"thresholds": thresholds or BOUNDS, **more})


def unsafe(block_at: float, allow_below: float) -> dict[str, Any]:
    return {**BOUNDS, "unsafe": {"block_at": block_at, "allow_below": allow_below}}


# --- What loosens ---------------------------------------------------------------------------------------------------------------
FAST, ALL = ["rules", "finetuned"], ["rules", "finetuned", "judge"]
OWN = {**BOUNDS, DOSE: {"block_at": 0.6, "allow_below": 0.05}}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (cascade(), cascade(unsafe(0.9, 0.11)), True),
        (cascade(), cascade(unsafe(0.91, 0.1)), True),
        (cascade(), cascade(unsafe(0.8, 0.05)), False),
        (cascade(OWN), cascade(), True),  # without bounds of its own it has those of everything else
        (cascade(), cascade(OWN), False),
        (cascade({**BOUNDS, "pii": {"block_at": 0.5, "allow_below": 0.1}}), cascade(), False),
        (cascade(), cascade(layers=["finetuned", "judge"]), True),
        (cascade(), cascade(layers=["rules", "judge"]), True),
        (cascade(layers=["rules", "judge"]), cascade(), True),
        (cascade(layers=["finetuned", "judge"]), cascade(), False),
        (cascade(), cascade(layers=FAST), False),
        (cascade(layers=FAST), cascade(), True),
        (cascade(judge_min_confidence=0.7), cascade(judge_min_confidence=0.6), True),
        (cascade(judge_min_confidence=0.7), cascade(judge_min_confidence=0.8), False),
        (cascade(layers=FAST), cascade(layers=FAST, judge_min_confidence=0.1), False),
        (cascade(), cascade(judge_model="another"), True),
        (cascade(), cascade(), False),
    ],
)  # fmt: skip
def test_what_may_let_something_critical_through_loosens(before: CascadePolicy, after: CascadePolicy, expected: bool) -> None:
    assert loosens(before, after) is expected


probability = st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
critical = [UNSAFE, *(name for name in CATEGORIES if severity_of(name) is Severity.CRITICAL and name != "harmful_medical")]


@st.composite
def policies(draw: st.DrawFn) -> CascadePolicy:
    keys = [
        "default",
        *draw(st.lists(st.sampled_from([key for key in THRESHOLD_KEYS if key != "default"]), max_size=4, unique=True)),
    ]
    bounds = {}
    for key in keys:
        low, high = sorted((draw(probability), draw(probability)))
        bounds[key] = {"allow_below": low, "block_at": high}
    layers = draw(st.lists(st.sampled_from(list(Layer)), min_size=1, unique=True))
    ordered = [layer for layer in Layer if layer in layers]
    return cascade(bounds, layers=ordered, judge_min_confidence=draw(probability))


@st.composite
def outcomes(draw: st.DrawFn) -> list[ClassifierResult]:
    results = []
    for layer in Layer:
        if draw(st.integers(0, 9)) == 0:
            results.append(ClassifierResult.failed(layer, "late"))
            continue
        scores = draw(st.dictionaries(st.sampled_from(critical), probability)) if layer is Layer.FINETUNED else {}
        scores = {UNSAFE: draw(probability), **scores} if layer is Layer.FINETUNED else {}
        safe, named = draw(st.booleans()), draw(st.sampled_from(critical[1:]))
        results.append(
            ClassifierResult(
                safe, "safe" if safe else named, "", draw(probability), layer=layer, scores=scores, escalate=draw(st.booleans()),
                categories=() if safe else (named,),
            )
        )  # fmt: skip
    return results


@given(policies(), policies(), outcomes())
def test_what_does_not_loosen_lets_nothing_through_that_was_stopped(
    before: CascadePolicy, after: CascadePolicy, results: list[ClassifierResult]
) -> None:
    assume(not loosens(before, after))
    was, now = decide(before, results), decide(after, results)
    assert isinstance(was, Verdict)
    assert isinstance(now, Verdict)
    if was.decision is not Decision.ALLOW:
        assert now.decision is not Decision.ALLOW


def test_a_difference_is_told_in_words() -> None:
    before, after = cascade(OWN), cascade({**OWN, DOSE: {"block_at": 0.6, "allow_below": 0.0421}}, layers=FAST)
    assert [each.words for each in differences(before, after)] == [
        "Dangerous dosage: allow below: 0.050 → 0.0421",
        "LLM judge: runs → does not run",
    ]


def test_a_changed_share_to_learn_from_is_told_and_kept(serving: Policy, ada: User) -> None:
    [told] = differences(cascade(), cascade(), learning_shares=(0.1, 0.0))
    assert (told.words, told.loosens) == ("Share drawn to learn from: 0.100 → 0.000", False)
    change = change_propose(actor=ada, fields={**policy_fields(serving), "learning_share": 0.1})
    assert change.policy.learning_share == 0.1
    assert [each.words for each in entry(change.policy).differences] == ["Share drawn to learn from: 0.000 → 0.100"]
    [said] = AuditEvent.objects.filter(action="policy.propose")
    assert said.data["changes"] == ["Share drawn to learn from: 0.000 → 0.100"]


def test_the_guarantee_is_about_the_fast_layers() -> None:
    metrics = {"certificate": {"allow_below": 0.12, "alpha": 0.05, "confidence": 0.95, "n": 634, "misses": 22, "missing": 0}}
    said = guarantee_words(guarantee(cascade(unsafe(0.9, 0.12)), model="m", metrics=metrics))
    assert said.startswith("at most 5% of critical answers are allowed by the fast layers, with 95% confidence, up to 0.120")


def test_the_guarantee_holds_up_to_what_was_certified() -> None:
    metrics = {"certificate": {"allow_below": 0.12, "alpha": 0.05, "confidence": 0.95, "n": 634, "misses": 22, "missing": 0}}
    assert guarantee(cascade(unsafe(0.9, 0.12)), model="m", metrics=metrics)["holds"]
    assert not guarantee(cascade(unsafe(0.9, 0.1201)), model="m", metrics=metrics)["holds"]
    assert not guarantee(cascade(), model="m", metrics={})["holds"]
    assert guarantee(cascade(layers=["rules", "judge"]), model="m", metrics={})["holds"]  # the fast layers allow nothing


# --- Who may --------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def serving(db: None) -> Policy:
    ModelVersion.objects.create(version="ft-1", stage="active", metrics={"certificate": {"allow_below": 0.2}, "block_at": 0.9})
    return policy_create(actor=None, thresholds=BOUNDS)


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_user("ada", role="administrator")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob", role="administrator")


def fields(serving: Policy, block_at: float = 0.9, allow_below: float = 0.1) -> dict[str, Any]:
    return {**policy_fields(serving), "thresholds": unsafe(block_at, allow_below)}


def looser(serving: Policy) -> dict[str, Any]:
    return fields(serving, 0.9, 0.15)


def active() -> Policy:
    return Policy.objects.get(is_active=True)


def test_what_is_stricter_serves_at_once(serving: Policy, ada: User, bob: User) -> None:
    change = change_propose(actor=ada, fields=fields(serving, 0.8, 0.05))
    assert (change.status, change.loosens, active()) == (Status.APPLIED, False, change.policy)


def test_what_is_looser_waits_for_another_administrator(serving: Policy, ada: User, bob: User) -> None:
    with pytest.raises(PolicyRefused, match="Say why"):
        change_propose(actor=ada, fields=fields(serving, 0.9, 0.15))
    change = change_propose(actor=ada, fields=fields(serving, 0.9, 0.15), reason="too many are held")
    assert (change.status, change.guarantee["holds"], active()) == (Status.PROPOSED, True, serving)
    with pytest.raises(PolicyRefused, match="another administrator"):
        change_approve(actor=ada, change=change)
    lead = User.objects.create_user("lea", role="lead")
    with pytest.raises(PolicyRefused, match="Only administrators"):
        change_approve(actor=lead, change=change)
    approved = change_approve(actor=bob, change=change, answer="the audit agrees")
    assert (approved.status, approved.decided_by, active()) == (Status.APPLIED, bob, change.policy)
    with pytest.raises(PolicyRefused, match="applied already"):
        change_reject(actor=bob, change=change, answer="no")
    kept = AuditEvent.objects.get(action="policy.propose").data
    assert kept["changes"] == ["Unsafe as a whole: allow below: 0.100 → 0.150"]
    assert kept["reason"] == "too many are held"


def test_what_is_rejected_keeps_the_reason_and_never_serves(serving: Policy, ada: User, bob: User) -> None:
    change = change_propose(actor=ada, fields=fields(serving, 0.9, 0.15), reason="why not")
    with pytest.raises(PolicyRefused, match="Say why"):
        change_reject(actor=bob, change=change, answer=" ")
    change_reject(actor=bob, change=change, answer="the miss rate is too wide")
    change.refresh_from_db()
    assert (change.status, change.answer, change.reason) == (Status.REJECTED, "the miss rate is too wide", "why not")
    with pytest.raises(PolicyRefused, match="rejected already"):
        change_approve(actor=bob, change=change)
    assert active() == serving


def test_a_single_administrator_loosens_with_a_reason_that_the_audit_log_keeps(serving: Policy, ada: User) -> None:
    User.objects.create_user("gone", role="administrator", is_active=False)
    change = change_propose(actor=ada, fields=fields(serving, 0.9, 0.3), reason="we drown in holds")
    assert (change.status, change.guarantee["holds"], change.decided_by) == (Status.APPLIED, False, None)
    kept = AuditEvent.objects.get(action="policy.loosen_alone")
    assert (kept.actor, kept.data["reason"], kept.data["guarantee_holds"]) == ("ada", "we drown in holds", False)


def hand(actor: str, account: str, action: str, days_ago: float = 0, **data: Any) -> None:
    """A line of the audit log about an account, as the administrators' site writes it."""
    event = audit(actor=actor, action=action, target=account, **data)
    AuditEvent.objects.filter(pk=event.pk).update(at=timezone.now() - timedelta(days=days_ago))


@pytest.mark.parametrize(
    ("action", "fields"),
    [("user.create", ["username"]), ("user.password", []), ("user.change", ["role"]), ("user.change", ["is_active"])],
)
def test_an_account_that_somebody_else_had_in_hand_lately_is_no_second_person(
    serving: Policy, ada: User, bob: User, action: str, fields: list[str]
) -> None:
    change = change_propose(actor=ada, fields=looser(serving), reason="r")
    hand("ada", "bob", action, days_ago=6, fields=fields)
    with pytest.raises(PolicyRefused, match="Your account was made by somebody else"):
        change_approve(actor=bob, change=change)
    assert active() == serving
    AuditEvent.objects.filter(target="bob").update(at=timezone.now() - timedelta(days=8))
    PolicyChange.objects.filter(pk=change.pk).update(created_at=timezone.now() - timedelta(days=9))
    change.refresh_from_db()
    with pytest.raises(PolicyRefused, match="Your account was made by somebody else"):
        change_approve(actor=bob, change=change)
    PolicyChange.objects.filter(pk=change.pk).update(created_at=timezone.now())
    assert change_approve(actor=bob, change=change).status == Status.APPLIED


@pytest.mark.parametrize("actor", ["ada", "an account that ada made"])
def test_what_such_an_account_proposed_is_not_approved_either(serving: Policy, ada: User, bob: User, actor: str) -> None:
    hand(actor, "bob", "user.password", days_ago=1)
    change = change_propose(actor=bob, fields=looser(serving), reason="r")
    with pytest.raises(PolicyRefused, match="The account that proposed this was made by somebody else"):
        change_approve(actor=ada, change=change)
    assert active() == serving


def test_what_one_changes_of_oneself_or_of_a_name_counts_for_nothing(serving: Policy, ada: User, bob: User) -> None:
    hand("bob", "bob", "user.password")
    hand("ada", "bob", "user.change", fields=["email", "judges_models"])
    change = change_propose(actor=ada, fields=looser(serving), reason="r")
    assert change_approve(actor=bob, change=change).status == Status.APPLIED


def test_nobody_is_alone_by_putting_the_others_out(serving: Policy, ada: User, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_active=False)
    hand("ada", "bob", "user.change", days_ago=6, fields=["is_active"], changes={"administers": [True, False]})
    assert change_propose(actor=ada, fields=looser(serving), reason="r").status == Status.PROPOSED
    AuditEvent.objects.filter(target="bob").update(at=timezone.now() - timedelta(days=8))
    alone = change_propose(actor=ada, fields=looser(serving), reason="they left")
    assert (alone.status, alone.decided_by) == (Status.APPLIED, None)
    assert AuditEvent.objects.filter(action="policy.loosen_alone").count() == 1


def test_what_changes_nothing_is_refused(serving: Policy, ada: User) -> None:
    with pytest.raises(PolicyRefused, match="Nothing changes"):
        change_propose(actor=ada, fields=policy_fields(serving))
    with pytest.raises(PolicyRefused, match="may not exceed"):
        change_propose(actor=ada, fields=fields(serving, 0.1, 0.2))
    assert Policy.objects.count() == 1


# --- When -----------------------------------------------------------------------------------------------------------------------
def in_minutes(minutes: float) -> Any:
    return timezone.now() + timedelta(minutes=minutes)


def come(change: PolicyChange, minutes_ago: float) -> None:
    PolicyChange.objects.filter(pk=change.pk).update(apply_at=in_minutes(-minutes_ago))


def test_what_is_scheduled_serves_from_its_time_on_also_if_that_was_missed(serving: Policy, ada: User) -> None:
    change = change_propose(actor=ada, fields=fields(serving, 0.8, 0.05), apply_at=in_minutes(60))
    assert change.status == Status.SCHEDULED
    tasks.apply_policy_changes()
    assert active() == serving
    come(change, 600)
    tasks.apply_policy_changes()
    assert active() == change.policy
    assert changes_apply_due() == []


def test_of_two_that_are_due_the_earlier_is_applied_and_the_other_refused(serving: Policy, ada: User) -> None:
    late = change_propose(actor=ada, fields=fields(serving, 0.8, 0.05), apply_at=in_minutes(60))
    early = change_propose(actor=ada, fields=fields(serving, 0.85, 0.06), apply_at=in_minutes(50))
    come(late, 5)
    come(early, 10)
    assert [change.pk for change in changes_apply_due()] == [early.pk, late.pk]
    late.refresh_from_db()
    assert active() == early.policy
    assert late.status == Status.SUPERSEDED
    assert late.answer == f"Refused: {early.policy} began to serve meanwhile; this was made against {serving}."


def test_an_approval_is_refused_once_something_else_serves(serving: Policy, ada: User, bob: User) -> None:
    change = change_propose(actor=ada, fields=fields(serving, 0.9, 0.15), reason="r")
    policy_activate(policy=policy_create(actor=None, activate=False, thresholds=unsafe(0.5, 0.01)), actor=None)
    assert change_approve(actor=bob, change=change).status == Status.SUPERSEDED
    assert active().thresholds == unsafe(0.5, 0.01)


def test_a_schedule_made_for_another_model_is_refused(serving: Policy, ada: User) -> None:
    change = change_propose(actor=ada, fields=fields(serving, 0.8, 0.05), apply_at=in_minutes(60))
    ModelVersion.objects.filter(version="ft-1").update(stage="retired")
    ModelVersion.objects.create(version="ft-2", stage="active")
    come(change, 1)
    (done,) = changes_apply_due()
    assert done.status == Status.SUPERSEDED
    assert "ft-2" in done.answer


def test_an_approved_change_with_a_time_waits_for_it(serving: Policy, ada: User, bob: User) -> None:
    change = change_propose(actor=ada, fields=fields(serving, 0.9, 0.15), reason="r", apply_at=in_minutes(60))
    assert change.status == Status.PROPOSED
    come(change, 1)
    assert changes_apply_due() == []  # nobody has agreed yet
    PolicyChange.objects.filter(pk=change.pk).update(apply_at=in_minutes(60))
    assert change_approve(actor=bob, change=change).status == Status.SCHEDULED
    come(change, 1)
    assert [done.status for done in changes_apply_due()] == [Status.APPLIED]


# --- Back, and beside ---------------------------------------------------------------------------------------------------------
def test_going_back_is_a_new_change_and_obeys_the_same_rule(serving: Policy, ada: User, bob: User) -> None:
    stricter = change_propose(actor=ada, fields=fields(serving, 0.8, 0.05))
    with pytest.raises(PolicyRefused, match="Say why"):
        policy_restore(actor=ada, policy=serving)
    back = policy_restore(actor=ada, policy=serving, reason="too much is held")
    assert (back.status, back.policy) == (Status.PROPOSED, serving)
    change_approve(actor=bob, change=back)
    assert active() == serving
    again = policy_restore(actor=ada, policy=stricter.policy)
    assert (again.status, again.reason) == (Status.APPLIED, f"as {stricter.policy} was")
    assert again.policy not in (serving, stricter.policy)
    assert again.policy.thresholds == stricter.policy.thresholds
    with pytest.raises(PolicyRefused, match="Nothing changes"):
        policy_restore(actor=ada, policy=again.policy)


def test_a_policy_in_the_shadow_serves_nobody_until_it_is_proposed(serving: Policy, ada: User, bob: User) -> None:
    shadow = change_propose(actor=ada, fields=fields(serving, 0.9, 0.15), shadow=True)
    assert (shadow.status, active()) == (Status.SHADOW, serving)
    with pytest.raises(PolicyRefused, match="Another policy is tried"):
        change_propose(actor=ada, fields=fields(serving, 0.9, 0.16), shadow=True)
    between = change_propose(actor=ada, fields=fields(serving, 0.9, 0.05))
    assert between.status == Status.APPLIED
    with pytest.raises(PolicyRefused, match="Say why"):
        change_serve(actor=ada, change=shadow)
    proposed = change_serve(actor=ada, change=shadow, reason="two quiet weeks")
    assert (proposed.status, proposed.replaces) == (Status.PROPOSED, between.policy)
    assert change_approve(actor=bob, change=proposed).status == Status.APPLIED
    other = change_propose(actor=ada, fields=fields(serving, 0.7, 0.01), shadow=True)
    assert change_reject(actor=bob, change=other, answer="seen enough").status == Status.REJECTED
