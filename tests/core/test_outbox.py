"""The outbox: an event is stored with what causes it, handled at least once, and none keeps another waiting."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from guardreview.core import outbox, tasks
from guardreview.core.models import App, OutboxEvent
from guardreview.core.outbox import handles, outbox_add, outbox_cancel, outbox_deliver, outbox_lease, outbox_put_off
from guardreview.core.tasks import deliver

Handle = Callable[[str, Callable[[str], None]], None]


@pytest.fixture
def handled(db: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The targets of the events of topic `test`, as they are handled; no other topic has a handler."""
    monkeypatch.setattr(outbox, "_handlers", {})
    targets: list[str] = []
    handles("test")(targets.append)
    return targets


def add(target: str = "1", *, topic: str = "test", in_s: float = -1) -> OutboxEvent:
    return outbox_add(topic=topic, target=target, available_at=timezone.now() + timedelta(seconds=in_s))


def make_due() -> None:
    """As if the waits of all events were over."""
    OutboxEvent.objects.update(available_at=timezone.now())


def waits_after_delivering(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How many seconds each event is put off when what is due is handled in no time."""
    now = timezone.now()
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "timezone", SimpleNamespace(now=lambda: now))
        outbox_deliver()
    return [(event.available_at - now).total_seconds() for event in OutboxEvent.objects.order_by("pk")]


# --- Storing and taking back --------------------------------------------------------------------------------------------
def test_an_event_is_handled_once_its_moment_has_come(handled: list[str]) -> None:
    add("now")
    add("later", in_s=60)
    assert (outbox_deliver(), handled) == (1, ["now"])
    assert list(OutboxEvent.objects.values_list("target", flat=True)) == ["later"]
    make_due()
    assert (outbox_deliver(), outbox_deliver(), handled) == (1, 0, ["now", "later"])


def test_the_task_delivers(handled: list[str]) -> None:
    add("1")
    deliver()
    assert handled == ["1"]


def test_an_event_of_a_transaction_that_was_rolled_back_never_was(handled: list[str]) -> None:
    with transaction.atomic():
        add()
        transaction.set_rollback(True)
    assert (outbox_deliver(), handled, OutboxEvent.objects.count()) == (0, [], 0)


def test_what_is_taken_back_is_not_handled(handled: list[str]) -> None:
    add("kept")
    add("taken back")
    add("taken back", topic="another")
    assert outbox_cancel(topic="test", target="taken back")
    assert not outbox_cancel(topic="test", target="taken back")
    outbox_deliver()
    assert handled == ["kept"]
    assert OutboxEvent.objects.get().topic == "another"


def test_what_was_handled_cannot_be_taken_back(handled: list[str]) -> None:
    add()
    outbox_deliver()
    assert not outbox_cancel(topic="test", target="1")


def test_taking_back_that_is_rolled_back_leaves_the_event(handled: list[str]) -> None:
    add()
    with transaction.atomic():
        assert outbox_cancel(topic="test", target="1")
        transaction.set_rollback(True)
    outbox_deliver()
    assert handled == ["1"]


# --- Order ------------------------------------------------------------------------------------------------------------------
def test_the_oldest_comes_first_and_of_two_of_one_moment_the_one_stored_first(handled: list[str]) -> None:
    moment = timezone.now() - timedelta(seconds=5)
    for target in ("b", "c"):
        outbox_add(topic="test", target=target, available_at=moment)
    add("d", in_s=-1)
    add("a", in_s=-10)
    outbox_deliver()
    assert handled == ["a", "b", "c", "d"]


def test_a_run_handles_all_that_is_due_however_much(handled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "BATCH", 3)
    for number in range(7):
        add(str(number))
    assert (outbox_deliver(), handled) == (7, list("0123456"))


def test_a_run_ends_when_its_time_is_over_and_the_next_goes_on(handled: list[str]) -> None:
    handles("slow")(lambda target: time.sleep(0.05))
    for number in range(5):
        add(str(number), topic="slow")
    counts = [outbox_deliver(for_s=0.08) for _ in range(4)]
    assert counts == [2, 2, 1, 0]


def test_while_there_is_more_the_task_comes_again_at_once(handled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    again: list[dict[str, object]] = []
    monkeypatch.setattr(deliver, "apply_async", lambda **options: again.append(options))
    monkeypatch.setattr(tasks, "SLICE_S", 0.03)
    handles("slow")(lambda target: time.sleep(0.05))
    for number in range(2):
        add(str(number), topic="slow")
    deliver()
    # One that has to wait longer than until the next tick is dropped, so that the queue does not fill with them.
    assert again == [{"expires": settings.OUTBOX_INTERVAL_S}]
    make_due()
    deliver()
    again.clear()
    deliver()
    assert again == []


def test_an_event_of_a_topic_that_nobody_handles_waits_and_keeps_nothing_waiting(handled: list[str]) -> None:
    add("unknown", topic="of a later release", in_s=-60)
    add("known")
    assert (outbox_deliver(), handled) == (1, ["known"])
    assert OutboxEvent.objects.get().attempts == 0
    handles("of a later release")(handled.append)
    outbox_deliver()
    assert handled == ["known", "unknown"]


# --- Faults -----------------------------------------------------------------------------------------------------------------
def test_one_that_fails_keeps_no_other_waiting_and_comes_again_after_ever_longer(
    handled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = []

    def fail(target: str) -> None:
        failures.append(target)
        raise ValueError("not today")

    handles("failing")(fail)
    add("bad", topic="failing", in_s=-60)
    add("good")
    seen = []
    for _ in range(4):
        seen += waits_after_delivering(monkeypatch)
        make_due()
    assert handled == ["good"]
    assert seen == [1, 2, 4, 8]
    OutboxEvent.objects.update(attempts=30)
    assert waits_after_delivering(monkeypatch) == [outbox.MAX_BACKOFF_S]
    make_due()
    handles("failing")(handled.append)
    outbox_deliver()
    assert (handled, len(failures), OutboxEvent.objects.count()) == (["good", "bad"], 5, 0)


def test_what_a_failing_handler_wrote_is_rolled_back_and_its_failure_is_kept(handled: list[str]) -> None:
    def write_and_fail(target: str) -> None:
        App.objects.create(name=target)
        raise ValueError

    handles("half")(write_and_fail)
    add("half done", topic="half")
    outbox_deliver()
    assert not App.objects.exists()
    assert OutboxEvent.objects.get().attempts == 1


def test_an_error_of_the_database_in_a_handler_is_a_failure_like_any(handled: list[str]) -> None:
    App.objects.create(name="there already")
    handles("clash")(lambda target: App.objects.create(name=target) and None)
    add("there already", topic="clash", in_s=-60)
    add("good")
    assert (outbox_deliver(), handled) == (2, ["good"])
    assert OutboxEvent.objects.get().attempts == 1


def test_a_handler_may_store_an_event_that_follows(handled: list[str]) -> None:
    handles("first")(lambda target: outbox_add(topic="test", target=target, available_at=timezone.now()) and None)
    add("then", topic="first")
    assert (outbox_deliver(), handled) == (2, ["then"])


def test_a_worker_that_dies_between_handling_and_the_end_has_it_delivered_again(handled: list[str]) -> None:
    """What the handler wrote to the database is gone with the worker's transaction; what it did elsewhere is done twice."""
    elsewhere = []

    def die(target: str) -> None:
        elsewhere.append(target)
        App.objects.create(name=target)
        if len(elsewhere) == 1:
            raise SystemExit  # as when the process is told to end: no error that anybody handles

    handles("deadly")(die)
    add("main street", topic="deadly")
    with pytest.raises(SystemExit):
        outbox_deliver()
    assert (App.objects.count(), OutboxEvent.objects.get().attempts) == (0, 0)
    outbox_deliver()
    assert (elsewhere, App.objects.count(), OutboxEvent.objects.count()) == (["main street"] * 2, 1, 0)


# --- Leases -----------------------------------------------------------------------------------------------------------------
def test_what_is_leased_is_nobody_elses_until_the_lease_is_over(handled: list[str]) -> None:
    for target in ("a", "b", "c"):
        add(target, topic="leased")
    add("later", topic="leased", in_s=60)
    taken = outbox_lease(topic="leased", limit=2, for_s=60)
    assert [event.target for event in taken] == ["a", "b"]
    assert [event.target for event in outbox_lease(topic="leased", limit=2, for_s=60)] == ["c"]
    assert outbox_lease(topic="leased", limit=2, for_s=60) == []
    assert outbox_deliver() == 0
    make_due()  # as if who took them had died
    assert [event.target for event in outbox_lease(topic="leased", limit=9, for_s=60)] == ["a", "b", "c", "later"]


def test_what_is_put_off_comes_again_after_the_wait_and_counts_its_attempts(handled: list[str]) -> None:
    add(topic="leased")
    for attempt in (1, 2):
        (event,) = outbox_lease(topic="leased", limit=1, for_s=60)
        outbox_put_off(event, wait_s=5)
        event.refresh_from_db()
        assert event.attempts == attempt
        assert 4 < (event.available_at - timezone.now()).total_seconds() <= 5
        make_due()


@pytest.mark.django_db(transaction=True)
def test_of_many_who_lease_at_once_each_gets_what_no_other_has(
    handled: list[str], beside: Callable[..., threading.Thread]
) -> None:
    for number in range(40):
        add(str(number), topic="leased")
    start, targets = threading.Barrier(4), []

    def work() -> None:
        start.wait(30)
        while events := outbox_lease(topic="leased", limit=3, for_s=60):
            targets.extend(event.target for event in events)

    for thread in [beside(work) for _ in range(4)]:
        thread.join(30)
    # One that found only what another was just taking has ended early; nothing was taken twice.
    targets += [event.target for event in outbox_lease(topic="leased", limit=40, for_s=60)]
    assert sorted(map(int, targets)) == list(range(40))


# --- Several at once --------------------------------------------------------------------------------------------------------
@pytest.fixture
def beside() -> Iterator[Callable[[Callable[[], object]], threading.Thread]]:
    """Start something in a thread with a connection of its own. At the end all must have ended without an error."""
    threads, errors = [], []

    def start(call: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            try:
                call()
            except Exception as error:
                errors.append(error)
            finally:
                connection.close()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join(30)
    assert errors == []


@pytest.mark.django_db(transaction=True)
def test_deliverers_at_once_handle_each_event_once(handled: list[str], beside: Callable[..., threading.Thread]) -> None:
    for number in range(60):
        add(str(number))
    start, counts = threading.Barrier(4), []

    def work() -> None:
        start.wait(30)
        counts.append(outbox_deliver())

    for thread in [beside(work) for _ in range(4)]:
        thread.join(30)
    assert sorted(map(int, handled)) == list(range(60))
    assert sum(counts) == 60
    assert not OutboxEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_slow_handler_holds_up_no_other_deliverer(handled: list[str], beside: Callable[..., threading.Thread]) -> None:
    if not connection.features.has_select_for_update_skip_locked:
        pytest.skip("this database has one writer at a time")
    begun, go_on = threading.Event(), threading.Event()

    def wait(target: str) -> None:
        begun.set()
        assert go_on.wait(30)

    handles("slow")(wait)
    add("slow", topic="slow", in_s=-60)
    add("quick")
    slow = beside(outbox_deliver)
    assert begun.wait(30)
    assert (outbox_deliver(), handled) == (1, ["quick"])
    go_on.set()
    slow.join(30)
    assert not OutboxEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_taking_back_what_is_just_being_handled_comes_too_late(
    handled: list[str], beside: Callable[..., threading.Thread]
) -> None:
    begun, cancelled = threading.Event(), []

    def handle(target: str) -> None:
        begun.set()
        time.sleep(0.2)  # so that the other waits for the end of this transaction
        handled.append(target)

    def cancel() -> None:
        assert begun.wait(30)
        cancelled.append(outbox_cancel(topic="slow", target="1"))

    handles("slow")(handle)
    add("1", topic="slow")
    cancelling = beside(cancel)
    outbox_deliver()
    cancelling.join(30)
    assert (handled, cancelled) == (["1"], [False])


@pytest.mark.django_db(transaction=True)
def test_what_is_just_being_taken_back_is_not_handled(handled: list[str], beside: Callable[..., threading.Thread]) -> None:
    begun = threading.Event()

    def cancel() -> None:
        with transaction.atomic():
            assert outbox_cancel(topic="test", target="1")
            begun.set()
            time.sleep(0.2)

    add("1")
    cancelling = beside(cancel)
    assert begun.wait(30)
    outbox_deliver()
    cancelling.join(30)
    assert outbox_deliver() == 0
    assert handled == []
