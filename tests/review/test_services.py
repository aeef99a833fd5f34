"""An item is leased by one, decided once, and its label settled."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from guardreview.core.models import App, AuditEvent, User
from guardreview.review import leases, services, statements
from guardreview.review.models import Label, Review
from guardreview.review.pseudonyms import reviewer_pseudonym
from guardreview.review.queue import QueueFilter, queue_counts, queue_page
from guardreview.review.selectors import label_of, label_rows, labels, outcome_of
from guardreview.verdicts.models import Exchange, Policy, ReviewItem, Verdict
from guardreview.verdicts.services import policy_create

MakeItem = Callable[..., ReviewItem]


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", role="pharmacist")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob", role="pharmacist")


@pytest.fixture
def make_item(db: None) -> MakeItem:
    app, _ = App.objects.get_or_create(name="chat")
    policy: Policy = policy_create(actor=None, thresholds={"default": {"block_at": 0.9, "allow_below": 0.3}})

    def make(decision: str = "block", due_in: int = 15, **fields: Any) -> ReviewItem:
        exchange = Exchange.objects.create(app=app, query="May I?", response="Yes, double it.", status="decided", body_digest="-")
        category = fields.pop("category", "harmful_medical:dangerous_dosage")
        severity = fields.pop("severity", "critical")
        Verdict.objects.create(
            exchange=exchange, decision=decision, category=category, severity=severity, reason="r", confidence=0.9,
            layer="rules", policy=policy, latency_ms=1,
        )  # fmt: skip
        kind = "blocked" if decision == "block" else "held"
        due_at = timezone.now() + timedelta(minutes=due_in)
        return ReviewItem.objects.create(
            exchange=exchange, kind=kind, severity=severity, category=category, due_at=due_at, **fields
        )

    return make


def decide(item: ReviewItem, user: User, truth: str = "safe", **fields: Any) -> Review:
    leased = leases.item_lease(item=item, user=user)
    assert leased.lease_token is not None
    return services.review_create(item=leased, reviewer=user, token=leased.lease_token, truth=truth, **fields)


def test_a_leased_item_is_not_to_be_had(make_item: MakeItem, alice: User, bob: User) -> None:
    item = make_item()
    leases.item_lease(item=item, user=alice)
    with pytest.raises(leases.ItemTaken) as taken:
        leases.item_lease(item=item, user=bob)
    assert taken.value.item.leased_by == alice


def test_opening_ones_own_item_again_keeps_the_token(make_item: MakeItem, alice: User) -> None:
    item = make_item()
    first = leases.item_lease(item=item, user=alice)
    again = leases.item_lease(item=item, user=alice)
    assert first.lease_token == again.lease_token
    assert again.lease_expires_at >= first.lease_expires_at


def test_an_expired_lease_passes_on_and_its_holder_is_fenced(make_item: MakeItem, alice: User, bob: User) -> None:
    item = make_item()
    old = leases.item_lease(item=item, user=alice)
    ReviewItem.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    new = leases.item_lease(item=item, user=bob)
    assert new.lease_token != old.lease_token
    with pytest.raises(services.LeaseLost):
        services.review_create(item=item, reviewer=alice, token=old.lease_token, truth="safe")
    assert not Review.objects.exists()


def test_a_released_item_is_free_at_once(make_item: MakeItem, alice: User, bob: User) -> None:
    item = leases.item_lease(item=make_item(), user=alice)
    leases.item_release(item=item, user=alice, token=item.lease_token)
    assert leases.item_lease(item=item, user=bob).leased_by == bob


def test_next_is_the_nearest_deadline_that_nobody_holds(make_item: MakeItem, alice: User, bob: User) -> None:
    late, early = make_item(due_in=60), make_item(due_in=5)
    assert leases.item_lease_next(user=alice) == early
    assert leases.item_lease_next(user=bob) == late
    assert leases.item_lease_next(user=User.objects.create_user("carol")) is None


def test_skipping_goes_on_to_what_comes_after(make_item: MakeItem, alice: User) -> None:
    first, second = make_item(due_in=5), make_item(due_in=60)
    assert leases.item_lease_next(user=alice, skipped=[first.pk]) == second
    assert leases.item_lease_next(user=alice, skipped=[second.pk]) == first


@pytest.mark.parametrize(
    ("decision", "truth", "confirms"),
    [("block", "unsafe", True), ("block", "safe", False), ("allow", "safe", True), ("allow", "unsafe", False),
     ("hold", "safe", None), ("hold", "unsafe", None), ("block", "unsure", None)],
)  # fmt: skip
def test_what_confirms_and_what_overturns(decision: str, truth: str, confirms: bool | None) -> None:
    assert statements.confirms(decision, truth) is confirms


def test_a_decision_settles_the_label(make_item: MakeItem, alice: User) -> None:
    item = make_item()
    review = decide(item, alice, "unsafe", categories=["harmful_medical:dangerous_dosage"], severity="critical", note=" no ")
    item.refresh_from_db()
    label = Label.objects.get(exchange=item.exchange)
    assert (item.status, item.leased_by, review.confirms, review.note) == ("decided", None, True, "no")
    assert (label.value, label.categories, label.review) == ("unsafe", ["harmful_medical:dangerous_dosage"], review)
    assert AuditEvent.objects.filter(action="review.create", actor="alice", target=f"exchange:{item.exchange_id}").exists()


def test_overturning_is_told_as_the_outcome(make_item: MakeItem, alice: User) -> None:
    item = make_item(severity="major")
    assert label_of(item.exchange) is None
    decide(item, alice, "safe")
    label = label_of(Exchange.objects.get(pk=item.exchange_id))
    assert label is not None
    outcome = outcome_of(label)
    assert (outcome["label"], outcome["confirms"]) == ("safe", False)


def test_unsure_sends_it_to_another_pharmacist(make_item: MakeItem, alice: User, bob: User) -> None:
    item = make_item(severity="major")
    decide(item, alice, "unsure", note="not my field")
    item.refresh_from_db()
    assert (item.status, item.stage, Label.objects.count()) == ("open", "second", 0)
    assert leases.item_lease_next(user=alice) is None
    with pytest.raises(leases.ItemTaken):
        leases.item_lease(item=item, user=alice)
    assert leases.item_lease_next(user=bob) == item
    decide(item, bob, "safe")
    assert Label.objects.get().review.reviewer == bob


@pytest.mark.parametrize(
    "statement",
    [
        {"truth": "perhaps"},
        {"truth": "unsafe"},
        {"truth": "unsafe", "categories": ["harmful_medical:dangerous_dosage"]},
        {"truth": "unsafe", "categories": ["no such"], "severity": "critical"},
        {"truth": "unsafe", "categories": ["misinformation"], "severity": "terrible"},
        {"truth": "safe", "categories": ["misinformation"]},
        {"truth": "safe", "severity": "minor"},
        {"truth": "safe", "note": "x" * 4001},
    ],
)
def test_an_incomplete_statement_is_refused_and_nothing_is_stored(
    make_item: MakeItem, alice: User, statement: dict[str, Any]
) -> None:
    item = make_item()
    with pytest.raises(statements.InvalidReview):
        decide(item, alice, **statement)
    item.refresh_from_db()
    assert (item.status, Review.objects.count(), Label.objects.count()) == ("open", 0, 0)


def test_a_double_click_counts_once(make_item: MakeItem, alice: User) -> None:
    item = leases.item_lease(item=make_item(severity="major"), user=alice)
    say = {"item": item, "reviewer": alice, "token": item.lease_token, "truth": "safe"}
    assert services.review_create(**say) == services.review_create(**say)
    assert Review.objects.count() == 1


def test_a_second_and_different_decision_is_refused(make_item: MakeItem, alice: User) -> None:
    item = leases.item_lease(item=make_item(severity="major"), user=alice)
    services.review_create(item=item, reviewer=alice, token=item.lease_token, truth="safe")
    with pytest.raises(services.LeaseLost):
        services.review_create(
            item=item, reviewer=alice, token=item.lease_token, truth="unsafe",
            categories=["misinformation"], severity="minor",
        )  # fmt: skip


def test_a_made_up_token_opens_nothing(make_item: MakeItem, alice: User) -> None:
    item = leases.item_lease(item=make_item(), user=alice)
    with pytest.raises(services.LeaseLost):
        services.review_create(item=item, reviewer=alice, token=uuid4(), truth="safe")


@pytest.mark.django_db(transaction=True)
def test_many_reviewers_at_once_decide_each_item_exactly_once(make_item: MakeItem) -> None:
    items = [make_item(due_in=n, severity="major") for n in range(30)]
    users = [User.objects.create_user(f"reviewer{n}") for n in range(6)]
    start, errors, decided = threading.Barrier(len(users)), [], []

    def work(user: User) -> None:
        try:
            start.wait()
            while item := leases.item_lease_next(user=user):
                services.review_create(item=item, reviewer=user, token=item.lease_token, truth="safe")
                decided.append(item.pk)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(decided) == sorted(item.pk for item in items)
    assert (Review.objects.count(), Label.objects.count()) == (30, 30)


def test_the_queue_goes_by_deadline_page_after_page(make_item: MakeItem, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guardreview.review.queue.PAGE_SIZE", 3)
    items = [make_item(due_in=n) for n in (7, 1, 5, 3, 9, 2, 8)]
    seen, cursor = [], ""
    while True:
        page = queue_page(user=alice, filters=QueueFilter(), cursor=cursor)
        seen += page.items
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert seen == sorted(items, key=lambda item: item.due_at)


def test_items_with_equal_deadlines_are_all_shown(make_item: MakeItem, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guardreview.review.queue.PAGE_SIZE", 2)
    items = [make_item() for _ in range(5)]
    ReviewItem.objects.update(due_at=timezone.now())
    first = queue_page(user=alice, filters=QueueFilter())
    second = queue_page(user=alice, filters=QueueFilter(), cursor=first.next_cursor or "")
    third = queue_page(user=alice, filters=QueueFilter(), cursor=second.next_cursor or "")
    assert [*first.items, *second.items, *third.items] == items


def test_filters_and_counts(make_item: MakeItem, alice: User) -> None:
    make_item(severity="minor", category="legal_advice")
    make_item(decision="hold")
    make_item()
    counts = queue_counts(user=alice)
    assert (counts["waiting"], counts["critical"], counts["minor"], counts["major"]) == (3, 2, 1, 0)
    assert len(queue_page(user=alice, filters=QueueFilter(severity="minor")).items) == 1
    assert len(queue_page(user=alice, filters=QueueFilter(kind="held")).items) == 1
    assert len(queue_page(user=alice, filters=QueueFilter(category="legal_advice", severity="critical")).items) == 0


@pytest.mark.parametrize("cursor", ["x", "~", "2026-01-01~x", "~5"])
def test_a_bad_cursor_is_an_error(alice: User, cursor: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        queue_page(user=alice, filters=QueueFilter(), cursor=cursor)


def test_an_exported_label_names_nobody(make_item: MakeItem, alice: User) -> None:
    decide(make_item(severity="major"), alice, "safe")
    (row,) = label_rows(labels())
    assert row["reviewer"] == reviewer_pseudonym(alice.pk)
    assert "alice" not in str(row)
    assert (row["label"], row["verdict"], row["confirms"], row["inclusion_probability"]) == ("safe", "block", False, 1.0)
