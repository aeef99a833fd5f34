"""Twenty reviewers at once, double clicks, late submits, undoing against settling: each item decided once, none lost.

`tests/test_postgresql.py` runs all of it on PostgreSQL too.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.utils import timezone

from guardreview.core import outbox
from guardreview.core.models import AuditEvent, OutboxEvent, User
from guardreview.core.outbox import outbox_deliver
from guardreview.core.services import audit, audit_verify
from guardreview.review import leases, services
from guardreview.review.models import Label, Review, Skip
from guardreview.verdicts.models import Exchange, ReviewItem, Verdict
from tests import scenes

pytestmark = pytest.mark.django_db(transaction=True)
Status, Stage = ReviewItem.Status, ReviewItem.Stage
REVIEWERS, ITEMS = 20, 200
PATIENCE_S = 240
HARM = {"truth": "unsafe", "categories": ["harmful_medical:dangerous_dosage"], "severity": "critical"}


@pytest.fixture(autouse=True)
def connections_for_all() -> Iterator[None]:
    """Each thread holds a connection; PostgreSQL's pool has no more than one web server's threads need."""
    pool = getattr(connection, "pool", None)
    if pool is None:
        yield
        return
    before = pool.min_size, pool.max_size
    pool.resize(1, REVIEWERS + 10)
    yield
    pool.resize(*before)


@pytest.fixture(autouse=True)
def only_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else follows from a decision is not of interest here, and would need a model and a broker."""
    monkeypatch.setattr(outbox, "_handlers", {services.SETTLE: outbox._handlers[services.SETTLE]})


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each call returns or raises, in their order; all begin at one moment, each in a thread with its own connection."""
    start = threading.Barrier(len(calls))
    outcomes: list[Any] = [None] * len(calls)

    def run(place: int, call: Callable[[], Any]) -> None:
        try:
            connection.ensure_connection()
            start.wait(60)
            outcomes[place] = call()
        except Exception as error:
            outcomes[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(place, call)) for place, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def make_items(count: int, severity: str = "critical") -> list[int]:
    """The keys of new blocked items, the first due first."""
    app, policy, now = scenes.chat_app(), scenes.policy(), timezone.now()
    exchanges = [
        Exchange(app=app, policy=policy, query="May I?", response="Yes, double it.", status="decided", body_digest="-")
        for _ in range(count)
    ]
    Exchange.objects.bulk_create(exchanges)
    said = {"category": "harmful_medical:dangerous_dosage", "severity": severity}
    Verdict.objects.bulk_create(
        Verdict(exchange=e, decision="block", reason="r", confidence=1, layer="rules", policy=policy, latency_ms=1, **said)
        for e in exchanges
    )
    ReviewItem.objects.bulk_create(
        ReviewItem(exchange=e, kind="blocked", due_at=now + timedelta(seconds=n), **said) for n, e in enumerate(exchanges)
    )
    return list(ReviewItem.objects.order_by("due_at").values_list("pk", flat=True))


def make_reviewers(count: int, role: str = "pharmacist") -> list[User]:
    return [User.objects.create(username=f"{role}{n}", role=role) for n in range(count)]


def say(item: ReviewItem, user: User, truth: str = "safe", **fields: Any) -> Review:
    """The statement of whoever holds the item, as a browser sends it."""
    said = {"truth": truth, "note": "seen", "key": uuid4(), **(HARM if truth == "unsafe" else {}), **fields}
    return services.review_create(item=item, reviewer=user, token=item.lease_token, **said)


def reviewing(user: User, truth_of: Callable[[ReviewItem], str], dawdle: Callable[[], float] = float) -> Callable[[], int]:
    """One reviewer's work: take the next item and decide it, until none is left; returns how many decisions others made first."""

    def work() -> int:
        lost, deadline = 0, time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            item = leases.item_lease_next(user=user)
            if item is None:
                if not ReviewItem.objects.exclude(status=Status.DECIDED).exists():
                    return lost
                time.sleep(0.02)  # a second opinion may come yet
                continue
            time.sleep(dawdle())
            try:
                say(item, user, truth_of(item))
            except services.LeaseLost:
                lost += 1
        raise AssertionError("there is still work, or somebody waits for ever")

    return work


def numbers_only(outcomes: Sequence[Any]) -> None:
    """No thread ended with an error."""
    assert [outcome for outcome in outcomes if not isinstance(outcome, int)] == []


def test_twenty_reviewers_decide_two_hundred_items_once_each() -> None:
    items, users = make_items(ITEMS, severity="major"), make_reviewers(REVIEWERS)
    outcomes = at_once(*(reviewing(user, lambda item: "safe") for user in users))
    assert outcomes == [0] * REVIEWERS
    assert sorted(Review.objects.values_list("item_id", flat=True)) == sorted(items)
    assert Label.objects.filter(is_current=True).count() == Label.objects.count() == ITEMS
    assert set(ReviewItem.objects.values_list("status", "leased_by")) == {(Status.DECIDED, None)}
    assert Review.objects.values("reviewer").distinct().count() > 1
    assert audit_verify() == (2 * ITEMS + 2, None)  # two for the policy


def test_every_overturned_critical_item_gets_two_different_reviewers_and_every_quarrel_a_lead(settings: Any) -> None:
    settings.SECOND_EYES, settings.NOTE_REQUIRED = ("critical",), ("critical",)
    items = make_items(90)
    users = [*make_reviewers(REVIEWERS - 3), *make_reviewers(3, role="lead")]
    place = {key: n for n, key in enumerate(items)}

    def truth_of(item: ReviewItem) -> str:
        way = place[item.pk] % 3
        if way == 0:  # overturned by two
            return "safe"
        if way == 1:  # confirmed by one
            return "unsafe"
        return "unsafe" if item.stage == Stage.SECOND else "safe"  # two disagree, a lead settles

    numbers_only(at_once(*(reviewing(user, truth_of) for user in users)))
    stages: dict[int, list[str]] = {key: [] for key in items}
    people: dict[int, list[int]] = {key: [] for key in items}
    for review in Review.objects.select_related("reviewer").order_by("pk"):
        stages[review.item_id].append(review.stage)
        people[review.item_id].append(review.reviewer_id)
        assert review.stage != Stage.ADJUDICATION or review.reviewer.role == "lead"
    wanted = [[Stage.FIRST, Stage.SECOND], [Stage.FIRST], [Stage.FIRST, Stage.SECOND, Stage.ADJUDICATION]]
    assert [stages[key] for key in items] == [wanted[place[key] % 3] for key in items]
    assert all(len(set(each)) == len(each) for each in people.values())
    assert Counter(Label.objects.values_list("basis", "value")) == {
        ("agreed", "safe"): 30, ("single", "unsafe"): 30, ("adjudicated", "safe"): 30,
    }  # fmt: skip
    assert not ReviewItem.objects.exclude(status=Status.DECIDED).exists()
    assert audit_verify()[1] is None


def test_leases_that_run_out_under_dawdling_reviewers_lose_and_double_nothing(settings: Any) -> None:
    settings.LEASE_S = 0.05
    items, users, chance = make_items(60, severity="major"), make_reviewers(REVIEWERS), random.Random(7)
    outcomes = at_once(*(reviewing(user, lambda item: "safe", lambda: chance.random() * 0.15) for user in users))
    numbers_only(outcomes)
    assert sum(outcomes) > 0, "no lease passed to another, so this proved nothing"
    assert sorted(Review.objects.values_list("item_id", flat=True)) == sorted(items)
    assert Label.objects.count() == 60
    assert audit_verify()[1] is None


def test_of_a_late_submit_and_the_next_holders_one_wins() -> None:
    early, late = make_reviewers(2)
    for key in make_items(25, severity="major"):
        item = leases.item_lease(item=ReviewItem.objects.get(pk=key), user=early)
        ReviewItem.objects.filter(pk=key).update(lease_expires_at=timezone.now() - timedelta(seconds=1))

        def take_and_say(item: ReviewItem = item) -> Review:
            return say(leases.item_lease(item=item, user=late), late, "unsafe")

        outcomes = at_once(lambda item=item: say(item, early), take_and_say)
        won = [outcome for outcome in outcomes if isinstance(outcome, Review)]
        (lost,) = [outcome for outcome in outcomes if not isinstance(outcome, Review)]
        assert isinstance(lost, leases.ItemTaken), lost
        assert list(Review.objects.filter(item_id=key)) == won
        assert Label.objects.get(exchange=item.exchange).review == won[0]


@pytest.mark.parametrize("key", [uuid4(), None])
@pytest.mark.parametrize("undo_s", [0, 10])
def test_the_same_submit_twenty_times_at_once_is_one_review(settings: Any, key: Any, undo_s: int) -> None:
    settings.UNDO_S, settings.SECOND_EYES = undo_s, ("critical",)
    (pk,), (user,) = make_items(1), make_reviewers(1)
    item = leases.item_lease(item=ReviewItem.objects.get(pk=pk), user=user)
    outcomes = at_once(*[lambda: say(item, user, key=key)] * REVIEWERS)
    assert outcomes == [Review.objects.get()] * REVIEWERS
    assert OutboxEvent.objects.filter(topic=services.SETTLE).count() == bool(undo_s)
    assert AuditEvent.objects.filter(action="review.create").count() == 1


def test_of_twenty_who_open_one_item_one_gets_it() -> None:
    (key,), users = make_items(1), make_reviewers(REVIEWERS)
    item = ReviewItem.objects.get(pk=key)
    outcomes = at_once(*[lambda user=user: leases.item_lease(item=item, user=user) for user in users])
    assert Counter(type(outcome) for outcome in outcomes) == {ReviewItem: 1, leases.ItemTaken: REVIEWERS - 1}
    item.refresh_from_db()
    assert item.leased_by == users[next(n for n, outcome in enumerate(outcomes) if isinstance(outcome, ReviewItem))]


def test_who_opens_forty_items_at_once_holds_no_more_than_they_may(settings: Any) -> None:
    settings.MAX_LEASES = 5
    (user,) = make_reviewers(1)
    items = list(ReviewItem.objects.filter(pk__in=make_items(2 * REVIEWERS)))
    by_address = [lambda item=item: leases.item_lease(item=item, user=user) for item in items[:REVIEWERS]]
    for calls in (by_address, [lambda: leases.item_lease_next(user=user)] * REVIEWERS):
        ReviewItem.objects.update(leased_by=None, lease_token=None, lease_expires_at=None)
        outcomes = at_once(*calls)
        assert {type(outcome) for outcome in outcomes} <= {ReviewItem, leases.HandsFull}, outcomes
        assert 0 < ReviewItem.objects.filter(leased_by=user).count() <= 5
    ReviewItem.objects.update(leased_by=None, lease_token=None, lease_expires_at=None)
    assert sum(isinstance(outcome, ReviewItem) for outcome in at_once(*by_address)) == 5


def test_next_pressed_in_two_tabs_leaves_both_with_an_item_that_they_can_decide() -> None:
    make_items(3, severity="major")
    (user,) = make_reviewers(1)
    first, second = at_once(*[lambda: leases.item_lease_next(user=user)] * 2)
    say(first, user)
    if first == second:
        assert first.lease_token == second.lease_token
    else:
        say(second, user)
    assert Review.objects.count() == len({first.pk, second.pk})


def test_undoing_and_settling_at_once_end_in_one_of_the_two(settings: Any) -> None:
    settings.UNDO_S, settings.MAX_LEASES = 60, 40
    (user,), ended = make_reviewers(1), Counter[str]()
    for key in make_items(40, severity="major"):
        review = say(leases.item_lease(item=ReviewItem.objects.get(pk=key), user=user), user)
        OutboxEvent.objects.filter(topic=services.SETTLE).update(available_at=timezone.now())
        # Now one, now the other is a little ahead.
        ahead = random.Random(key).choice([0, 0, 0.002, 0.004])

        def undo(review: Review = review, ahead: float = ahead) -> ReviewItem:
            time.sleep(ahead)
            return services.review_undo(review=review, user=user)

        undone, delivered = at_once(undo, outbox_deliver)
        item = ReviewItem.objects.get(pk=key)
        review.refresh_from_db()
        assert isinstance(delivered, int), delivered
        assert not OutboxEvent.objects.filter(topic=services.SETTLE).exists()
        if isinstance(undone, ReviewItem):
            ended["undone"] += 1
            assert (item.status, item.leased_by, review.undone_at is not None) == (Status.OPEN, user, True)
            assert not Label.objects.filter(exchange=item.exchange).exists()
        else:
            ended["settled"] += 1
            assert isinstance(undone, services.TooLate), undone
            assert (item.status, item.leased_by, review.undone_at) == (Status.DECIDED, None, None)
            assert Label.objects.get(exchange=item.exchange).review == review
    assert ended.total() == 40
    assert audit_verify()[1] is None


def test_reviewers_who_undo_while_the_outbox_is_delivered_all_the_time(settings: Any) -> None:
    """Ten reviewers decide; half of the time they take it back, near the last moment. Two workers deliver meanwhile."""
    settings.UNDO_S = 0.1
    items, users = make_items(60, severity="major"), make_reviewers(10)
    done = threading.Event()

    def deliver() -> int:
        count = 0
        while not done.is_set():
            count += outbox_deliver()
            time.sleep(0.005)
        return count

    def work(user: User, chance: random.Random) -> Callable[[], int]:
        def run() -> int:
            taken_back, deadline = 0, time.monotonic() + PATIENCE_S
            while ReviewItem.objects.filter(status=Status.OPEN).exists():
                assert time.monotonic() < deadline, "an item stays open"
                item = leases.item_lease_next(user=user)
                if item is None:
                    time.sleep(0.01)
                    continue
                review = say(item, user)
                if chance.random() < 0.5:
                    time.sleep(0.09 + chance.random() * 0.04)
                    try:
                        services.review_undo(review=review, user=user)
                        taken_back += 1
                    except services.TooLate:
                        pass
            return taken_back

        return run

    def all_work() -> list[Any]:
        try:
            return at_once(*(work(user, random.Random(n)) for n, user in enumerate(users)))
        finally:
            done.set()

    worked, *delivered = at_once(all_work, deliver, deliver)
    numbers_only([*worked, *delivered])
    OutboxEvent.objects.filter(topic=services.SETTLE).update(available_at=timezone.now())
    while outbox_deliver():
        pass
    standing = Review.objects.filter(undone_at=None)
    assert sorted(standing.values_list("item_id", flat=True)) == sorted(items)
    assert sorted(Label.objects.values_list("review_id", flat=True)) == sorted(standing.values_list("pk", flat=True))
    assert Review.objects.exclude(undone_at=None).count() == sum(worked)
    assert not ReviewItem.objects.exclude(status=Status.DECIDED).exists()
    assert audit_verify()[1] is None


def test_of_two_who_reopen_one_does() -> None:
    (key,), leads = make_items(1, severity="major"), make_reviewers(2, role="lead")
    item = leases.item_lease(item=ReviewItem.objects.get(pk=key), user=leads[0])
    say(item, leads[0])
    outcomes = at_once(*[lambda lead=lead: services.item_reopen(item=item, user=lead) for lead in leads])
    assert Counter(type(outcome) for outcome in outcomes) == {ReviewItem: 1, services.TooLate: 1}
    assert ReviewItem.objects.get().round == 2
    assert Label.objects.get().is_current


def test_skipping_and_submitting_at_once_do_one_of_the_two() -> None:
    (user,) = make_reviewers(1)
    for key in make_items(15, severity="major"):
        item = leases.item_lease(item=ReviewItem.objects.get(pk=key), user=user)
        said, _ = at_once(
            lambda item=item: say(item, user),
            lambda item=item: leases.item_skip(item=item, user=user, token=item.lease_token),
        )
        decided, skipped = Review.objects.filter(item=item).count(), Skip.objects.filter(item=item).count()
        assert decided + skipped == 1
        assert isinstance(said, services.LeaseLost) == bool(skipped)


def test_the_audit_chain_neither_forks_nor_breaks_under_twenty_writers() -> None:
    """Some of them roll back, so that rows which others may have waited for are never there."""

    def write(number: int) -> Callable[[], int]:
        def run() -> int:
            for n in range(20):
                try:
                    with transaction.atomic():
                        audit(actor=f"writer{number}", action="test", target=str(n))
                        if (n + number) % 4 == 0:
                            raise InterruptedError
                except InterruptedError:
                    pass
            return 0

        return run

    assert at_once(*map(write, range(20))) == [0] * 20
    assert audit_verify() == (20 * 15, None)
