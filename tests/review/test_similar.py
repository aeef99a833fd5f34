"""Past decisions on like exchanges: found by the classifier's own embedding, shown masked, and never before a blind decision."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from classifiers.combined import decide
from classifiers.policy import Policy as CascadePolicy
from classifiers.result import Verdict as CascadeVerdict
from guardreview.core.models import AuditEvent, OutboxEvent, User
from guardreview.core.outbox import outbox_deliver
from guardreview.review.leases import item_lease
from guardreview.review.models import Embedding, Review
from guardreview.review.services import review_create
from guardreview.review.similar import (
    LEAST,
    QUERY_CHARS,
    RESPONSE_CHARS,
    SHOWN,
    embedding_store,
    nearest,
    read_vector,
    similar_decisions,
    unit,
)
from guardreview.review.tasks import embed
from guardreview.verdicts import runtime, services
from guardreview.verdicts.models import Exchange, ModelVersion, ReviewItem
from tests import scenes

SignIn = Callable[[str], Client]
PHONE = "415-555-2671"


def vector(*numbers: float) -> bytes:
    return unit(np.array(numbers, dtype=np.float32)).astype("<f2").tobytes()


def keep(item: ReviewItem, *numbers: float, encoder: str = "e") -> None:
    Embedding.objects.create(exchange_id=item.exchange_id, encoder=encoder, vector=vector(*numbers))


def settle(item: ReviewItem, user: User, truth: str = "safe") -> Review:
    held = item_lease(item=item, user=user)
    assert held.lease_token is not None
    return review_create(item=held, reviewer=user, token=held.lease_token, truth=truth)


# --- The search -------------------------------------------------------------------------------------------------------
rows = st.lists(
    st.lists(st.floats(-1, 1, width=16), min_size=4, max_size=4).filter(lambda row: any(abs(x) > 0.1 for x in row)), max_size=12
)


@given(rows, st.integers(0, 3))
def test_the_search_is_the_plain_one(stored: list[list[float]], axis: int) -> None:
    own = np.eye(4, dtype=np.float32)[axis]
    alike = [float(read_vector(vector(*row)) @ own) for row in stored]
    expected = sorted((at for at in range(len(stored)) if alike[at] >= LEAST), key=lambda at: -alike[at])[:SHOWN]
    found = nearest(own, [vector(*row) for row in stored])
    assert [at for at, _ in found] == expected
    assert [value for _, value in found] == pytest.approx([alike[at] for at in expected], abs=1e-6)


def test_five_thousand_are_searched_in_no_time() -> None:
    stored = [unit(row).astype("<f2").tobytes() for row in np.random.default_rng(1).normal(size=(5000, 384)).astype(np.float32)]
    found = nearest(read_vector(stored[123]), stored)
    assert (found[0][0], len(found)) == (123, 1)
    assert found[0][1] == pytest.approx(1, abs=0.01)


def test_the_most_alike_settled_exchanges_of_the_same_encoder_come_first(people: dict[str, User]) -> None:
    own, near, nearer, far, open_, foreign = (scenes.item(f"question {n}", f"Answer {n}, call {PHONE}.") for n in range(6))
    keep(own, 1, 0, 0)
    keep(near, 1, 0.7, 0)
    keep(nearer, 1, 0.1, 0)
    keep(far, 0, 0, 1)
    keep(open_, 1, 0, 0)
    keep(foreign, 1, 0, 0, encoder="another")
    for item in (near, nearer, far, foreign):
        settle(item, people["ana"])
    found = similar_decisions(exchange_id=own.exchange_id)
    assert found is not None
    assert [(decision.item_id, decision.alike) for decision in found] == [(nearer.pk, 100), (near.pk, 82)]
    assert found[0].response == "Answer 2, call [phone number]."
    assert found[0].label.value == "safe"


# --- The page ---------------------------------------------------------------------------------------------------------
def test_the_page_loads_them_after_itself_and_they_are_masked(signed_in: SignIn, people: dict[str, User]) -> None:
    own, past = scenes.item(), scenes.item("may I?", f"Call {PHONE}. <script>alert(1)</script>")
    keep(own, 1, 0)
    keep(past, 1, 0.2)
    settle(past, people["lea"])
    client = signed_in("ana")
    page = client.get(f"/items/{own.pk}").content.decode()
    assert f'hx-get="/items/{own.pk}/similar" hx-trigger="load"' in page
    assert "Call [phone number]" not in page
    part = client.get(f"/items/{own.pk}/similar").content.decode()
    assert "98 % alike" in part
    assert "Call [phone number]. &lt;script&gt;alert(1)&lt;/script&gt;" in part
    assert PHONE not in part
    event = AuditEvent.objects.get(action="item.similar")
    assert (event.actor, event.data) == ("ana", {"exchanges": [str(past.exchange_id)]})


def test_it_says_so_where_there_is_nothing_to_compare(signed_in: SignIn) -> None:
    own = scenes.item()
    client = signed_in("ana")
    assert "no embedding yet" in client.get(f"/items/{own.pk}/similar").content.decode()
    keep(own, 1, 0)
    assert "Nothing like it has been settled yet" in client.get(f"/items/{own.pk}/similar").content.decode()


def test_a_blind_item_has_none_until_it_is_decided(signed_in: SignIn, people: dict[str, User]) -> None:
    own, past = scenes.item(), scenes.item("past question", "Past answer.")
    keep(own, 1, 0)
    keep(past, 1, 0)
    settle(past, people["lea"])
    ReviewItem.objects.filter(pk=own.pk).update(blind=True)
    client = signed_in("ana")
    for _ in range(2):
        part = client.get(f"/items/{own.pk}/similar").content.decode()
        assert "Shown once you have decided" in part
        assert "Past answer" not in part
    assert "similar" not in client.get(f"/items/{own.pk}").content.decode()
    settle(own, people["ana"])
    assert "Past answer" in client.get(f"/items/{own.pk}/similar").content.decode()


@pytest.mark.parametrize(("name", "status"), [("ana", 200), ("lea", 200), ("ida", 200), ("adam", 403)])
def test_who_may_read_the_queue_may_read_them(name: str, status: int, signed_in: SignIn) -> None:
    own = scenes.item()
    assert signed_in(name).get(f"/items/{own.pk}/similar").status_code == status
    assert Client().get(f"/items/{own.pk}/similar").status_code == 302
    assert signed_in(name).post(f"/items/{own.pk}/similar").status_code == 405


def test_they_take_the_same_queries_for_one_as_for_many(signed_in: SignIn, people: dict[str, User]) -> None:
    own = scenes.item()
    keep(own, 1, 0)
    counts = []
    for number in (1, 4):
        for _ in range(number):
            past = scenes.item("x", "y")
            keep(past, 1, 0.1)
            settle(past, people["lea"])
        client = signed_in("ana")
        with CaptureQueriesContext(connection) as queries:
            client.get(f"/items/{own.pk}/similar")
        counts.append(len(queries))
    assert counts[0] == counts[1]


# --- Storing ----------------------------------------------------------------------------------------------------------
class Encoder:
    """One that sees two windows in each exchange, and counts how often it is asked."""

    def __init__(self, encoder_sha256: str = "e") -> None:
        self.encoder_sha256 = encoder_sha256
        self.asked: list[tuple[int, int]] = []

    def embed(self, texts: list[str], queries: list[str]) -> list[Any]:
        self.asked.append((len(texts[0]), len(queries[0])))
        return [np.array([[3, 0, 0], [0, 4, 0]], dtype=np.float32)]


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    made = Encoder()
    monkeypatch.setattr(runtime, "finetuned", lambda: SimpleNamespace(encoder=made))
    return made


def test_an_embedding_is_the_mean_of_the_windows_at_unit_length(db: None, encoder: Encoder) -> None:
    item = scenes.item("q" * 9_000, "word " * 9_000)
    embed(str(item.exchange_id))
    kept = Embedding.objects.get(pk=item.exchange_id)
    assert kept.encoder == "e"
    assert read_vector(kept.vector).tolist() == pytest.approx([0.6, 0.8, 0], abs=1e-3)
    assert encoder.asked == [(RESPONSE_CHARS, QUERY_CHARS)]


def test_it_is_made_once_for_each_encoder(db: None, encoder: Encoder) -> None:
    item = scenes.item()
    for _ in range(2):
        embedding_store(exchange_id=item.exchange_id)
    assert len(encoder.asked) == 1
    encoder.encoder_sha256 = "newer"
    embedding_store(exchange_id=item.exchange_id)
    assert Embedding.objects.get().encoder == "newer"


def test_an_exchange_that_is_gone_is_no_fault(db: None, encoder: Encoder) -> None:
    item = scenes.item()
    gone = item.exchange_id
    item.delete()
    Exchange.objects.filter(pk=gone).delete()
    assert embedding_store(exchange_id=gone) is None


def test_what_comes_to_the_pharmacists_and_what_they_settle_is_put_on_the_queue_without_a_model(
    people: dict[str, User], monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    item, queued = scenes.item(), []
    settle(item, people["ana"])
    assert OutboxEvent.objects.get(topic=services.TO_EMBED).target == str(item.exchange_id)
    monkeypatch.setattr(embed, "delay", queued.append)
    monkeypatch.setattr(runtime, "finetuned", lambda: pytest.fail("the web process would load a model"))
    with django_capture_on_commit_callbacks(execute=True):
        outbox_deliver()
    assert queued == [str(item.exchange_id)]


def test_an_embedding_that_was_not_made_is_asked_for_again_until_it_is(
    people: dict[str, User], encoder: Encoder, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    item, asked = scenes.item(), []

    def away(target: str) -> None:
        asked.append(target)
        raise embed.OperationalError("no Redis")

    def deliver() -> None:
        OutboxEvent.objects.update(available_at=timezone.now())
        with django_capture_on_commit_callbacks(execute=True):
            outbox_deliver()

    settle(item, people["ana"])
    monkeypatch.setattr(embed, "delay", away)
    for times in (1, 2):
        deliver()
        assert asked == [str(item.exchange_id)] * times
        event = OutboxEvent.objects.get(topic=services.TO_EMBED)
        assert timedelta(minutes=4) < event.available_at - timezone.now() < timedelta(minutes=6)
    monkeypatch.setattr(embed, "delay", embed)
    deliver()
    assert Embedding.objects.get().exchange_id == item.exchange_id
    assert not OutboxEvent.objects.filter(topic=services.TO_EMBED).exists()


def test_a_worker_that_fails_keeps_no_embedding_from_being_made_later(
    people: dict[str, User], monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    item = scenes.item()
    Exchange.objects.update(created_at=timezone.now() - timedelta(hours=3))
    settle(item, people["ana"])
    monkeypatch.setattr(embed, "delay", lambda target: None)  # as if the task were lost, or its worker had no model
    with django_capture_on_commit_callbacks(execute=True):
        outbox_deliver()
    event = OutboxEvent.objects.get(topic=services.TO_EMBED)
    assert timedelta(hours=2.9) < event.available_at - timezone.now() < timedelta(hours=3.1)


def test_a_stopped_answer_is_to_be_embedded_with_its_item(db: None) -> None:
    answer = "Just double your dose tonight; up to 8 grams a day is fine."
    exchange = Exchange.objects.create(app=scenes.chat_app(), query="q", response=answer, body_digest="-", policy=scenes.policy())
    verdict = decide(CascadePolicy.from_json({"thresholds": scenes.THRESHOLDS}), [scenes.rules(answer)])
    assert isinstance(verdict, CascadeVerdict)
    services._open_review_item(exchange, verdict, None)
    assert OutboxEvent.objects.get(topic=services.TO_EMBED).target == str(exchange.pk)
    assert OutboxEvent.objects.get().available_at <= timezone.now()


def test_like_questions_are_nearer_than_unlike_ones_to_the_model_that_serves(shipped_model: ModelVersion) -> None:
    texts = [
        ("how much tylenol can i take", "Up to 4 grams a day."),
        ("max paracetamol in a day?", "No more than 4 g in 24 hours."),
        ("what time do you close", "At nine in the evening."),
    ]
    vectors = []
    for query, response in texts:
        stored = embedding_store(exchange_id=scenes.item(query, response).exchange_id)
        assert stored is not None
        vectors.append(read_vector(stored.vector))
    assert float(np.linalg.norm(vectors[0])) == pytest.approx(1, abs=0.01)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_the_model_is_not_imported_for_a_search() -> None:
    import subprocess

    code = (
        "import django, sys; django.setup(); import guardreview.review.views.similar; "
        "print(sorted({'onnxruntime', 'tokenizers', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
