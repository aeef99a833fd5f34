"""`/api/v1/labels`: pages, streams, and that an app gets its own alone."""

from __future__ import annotations

import csv
import io
import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from guardreview.core.models import ApiKey, App, AuditEvent, User
from guardreview.review.models import Label, Review
from guardreview.verdicts.models import Exchange, Policy, ReviewItem, Verdict
from tests.api.client import ApiClient


def label(app: App, policy: Policy, response: str = "r") -> Label:
    """An exchange that was blocked, reviewed and found unsafe."""
    exchange = Exchange.objects.create(app=app, query="q", response=response, body_digest="", status="decided", policy=policy)
    Verdict.objects.create(
        exchange=exchange, decision="block", category="pii", reason="x", confidence=1, layer="rules", policy=policy, latency_ms=1
    )
    item = ReviewItem.objects.create(
        exchange=exchange, kind="blocked", severity="major", category="pii", due_at=exchange.created_at
    )
    reviewer, _ = User.objects.get_or_create(username="pat")
    review = Review.objects.create(item=item, reviewer=reviewer, truth="unsafe", categories=["pii"], severity="major")
    return Label.objects.create(exchange=exchange, review=review, value="unsafe", categories=["pii"], severity="major")


@pytest.fixture
def labels(chat_app: App, shipped_policy: Policy) -> list[Label]:
    """Five of the app's, and one of another's."""
    label(App.objects.create(name="another"), shipped_policy, response="not yours")
    return [label(chat_app, shipped_policy, response=f"=1+{number}\n💊") for number in range(5)]


def test_labels_come_in_pages_in_the_order_in_which_they_were_settled(labels_api: ApiClient, labels: list[Label]) -> None:
    seen, cursor = [], ""
    while cursor is not None:
        query = f"limit=2&cursor={cursor}" if cursor else "limit=2"
        page = labels_api.get(f"/api/v1/labels?{query}").json()
        seen += [row["id"] for row in page["results"]]
        cursor = page["next_cursor"]
    assert seen == [str(row.exchange_id) for row in labels]


def test_a_label_comes_with_its_exchange_and_a_pseudonym(labels_api: ApiClient, labels: list[Label]) -> None:
    row = labels_api.get("/api/v1/labels?limit=1").json()["results"][0]
    assert (row["label"], row["categories"], row["severity"], row["verdict"]) == ("unsafe", ["pii"], "major", "block")
    assert row["response"] == "=1+0\n💊"
    assert "pat" not in json.dumps(row)


def test_labels_since_a_moment(labels_api: ApiClient, labels: list[Label]) -> None:
    moment = labels[3].created_at.isoformat().replace("+", "%2B")
    assert len(labels_api.get(f"/api/v1/labels?since={moment}").json()["results"]) == 2


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "cursor=x", "cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "format=xml", "since=0001-01-01T00:00:00%2B23:00"],
)
def test_bad_parameters_are_named(labels_api: ApiClient, query: str) -> None:
    answer = labels_api.get(f"/api/v1/labels?{query}")
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == [query.partition("=")[0]]


@pytest.mark.parametrize("how", [{"path": "?format=jsonl"}, {"Accept": "application/x-ndjson"}])
def test_labels_as_json_lines(labels_api: ApiClient, labels: list[Label], how: dict[str, str]) -> None:
    answer = labels_api.get(f"/api/v1/labels{how.pop('path', '')}", **how)
    assert answer["Content-Type"] == "application/x-ndjson; charset=utf-8"
    rows = [json.loads(line) for line in answer.content.decode().splitlines()]
    assert [row["id"] for row in rows] == [str(row.exchange_id) for row in labels]


@pytest.mark.parametrize("how", [{"path": "?format=csv"}, {"Accept": "text/csv"}])
def test_labels_as_csv(labels_api: ApiClient, labels: list[Label], how: dict[str, str]) -> None:
    answer = labels_api.get(f"/api/v1/labels{how.pop('path', '')}", **how)
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="labels.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
    assert [row["id"] for row in rows] == [str(row.exchange_id) for row in labels]
    assert rows[0]["response"].startswith("'="), "a spreadsheet would run it"


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_no_key_gets_personal_data(labels_api: ApiClient, chat_app: App, shipped_policy: Policy, form: str) -> None:
    label(chat_app, shipped_policy, response="Ask 415-555-2671 for a call.")
    words = labels_api.get(f"/api/v1/labels?format={form}").content.decode()
    assert "Ask [PHONE_1] for a call." in words
    assert "2671" not in words
    assert AuditEvent.objects.filter(action__startswith="labels.").latest("pk").data["redacted"] is True


def test_no_labels_is_no_error(labels_api: ApiClient) -> None:
    assert labels_api.get("/api/v1/labels").json() == {"results": [], "next_cursor": None}
    assert labels_api.get("/api/v1/labels?format=jsonl").content == b""


def test_every_reading_is_in_the_audit_log(labels_api: ApiClient, labels: list[Label]) -> None:
    labels_api.get("/api/v1/labels?limit=2")
    labels_api.get("/api/v1/labels?format=csv")
    events = AuditEvent.objects.filter(action__startswith="labels.").order_by("pk")
    assert [(event.action, event.data["count"]) for event in events] == [("labels.read", 2), ("labels.export", 5)]
    key = ApiKey.objects.get(scope="labels")
    assert {(event.actor, event.target) for event in events} == {(f"key:{key.prefix}", "main street")}


def test_a_page_takes_few_queries_however_long(labels_api: ApiClient, labels: list[Label]) -> None:
    def count(limit: int) -> int:
        with CaptureQueriesContext(connection) as queries:
            labels_api.get(f"/api/v1/labels?limit={limit}")
        return len(queries)

    assert count(1) == count(5)
