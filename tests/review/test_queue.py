"""The queue's page: who sees which items, in which order, by which filters, and what is not told of a blind one."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from classifiers.language import KNOWN
from guardreview.core.models import AuditEvent, User
from guardreview.review.leases import item_lease
from guardreview.review.models import SavedView
from guardreview.review.presentation import count_words
from guardreview.review.queue import OTHER, PAGE_SIZE, QueueFilter, queue_counts, queue_page
from guardreview.review.queue_forms import LANGUAGE_WORDS
from guardreview.review.saved_views import MAX_VIEWS, saved_view_save
from guardreview.verdicts.models import Exchange, ReviewItem, Verdict
from tests import scenes

SignIn = Callable[[str], Client]
POLL = {"HX-Request": "true", "HX-Target": "queue"}


def page(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


def text_of(source: str) -> str:
    """The words of a piece of HTML, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", source)).replace(" ,", ",").split()).replace(" ,", ",")


def rows_of(source: str) -> list[int]:
    return [int(pk) for pk in re.findall(r'id="row-(\d+)"', source)]


def row_of(source: str, item: ReviewItem) -> str:
    """The HTML of one row."""
    return next(row for row in re.findall(r'<li class="row.*?</li>', source, flags=re.DOTALL) if f'id="row-{item.pk}"' in row)


def changed(item: ReviewItem, **fields: Any) -> ReviewItem:
    ReviewItem.objects.filter(pk=item.pk).update(**fields)
    item.refresh_from_db()
    return item


@pytest.fixture
def item(db: None) -> ReviewItem:
    return scenes.item()


# --- Order and words --------------------------------------------------------------------------------------------------
def test_the_queue_is_in_the_order_of_deadlines_with_words_for_everything(signed_in: SignIn) -> None:
    late = scenes.item(due_in=30, severity="major", category="misinformation", layer="judge")
    overdue = changed(scenes.item(due_in=-4, age=19), reasons=["layers_disagree"])
    held = changed(scenes.item(due_in=10, decision="hold", category="undecided"), reasons=["uncertain"], stage="second")
    source = page(signed_in("ana").get("/"))
    assert rows_of(source) == [overdue.pk, held.pk, late.pk]
    words = text_of(source)
    assert "<title>Queue (3) · GuardReview</title>" in source
    assert "3 answers waiting for a pharmacist, 1 overdue" in words
    assert text_of(row_of(source, overdue)).startswith(
        "Critical Dangerous dosage, 19 min waiting, layers disagree Blocked how many extra strength tylenol"
    )
    assert text_of(row_of(source, overdue)).endswith("Overdue by 4 min MainStreet chat")
    assert "Critical Uncertain, 3 min waiting Held Second opinion" in text_of(row_of(source, held))
    assert "Major Misinformation, 3 min waiting Blocked" in text_of(row_of(source, late))
    assert "All 3 Critical 2 Major 1 Minor 0" in words
    assert 'class="row is-overdue"' in row_of(source, overdue)


def test_pages_show_every_item_once(signed_in: SignIn) -> None:
    made = [scenes.item(due_in=number % 7) for number in range(2 * PAGE_SIZE + 3)]
    client, address, seen = signed_in("ana"), "/?severity=critical", []
    for _ in range(3):
        source = page(client.get(address))
        seen += rows_of(source)
        following = re.search(r'href="([^"]+)" rel="next"', source)
        address = unescape(following.group(1)) if following else ""
    assert address == ""
    assert sorted(seen) == sorted(item.pk for item in made)


@pytest.mark.parametrize("cursor", ["x", "2026-01-01~1", "999999999", "9" * 30, "9" * 5000, "-1", "~", "\x00"])
def test_a_cursor_that_somebody_typed_leads_to_the_first_page(cursor: str, signed_in: SignIn) -> None:
    response = signed_in("ana").get("/", {"cursor": cursor, "severity": "major"})
    assert (response.status_code, response.headers["Location"]) == (302, "/?severity=major")


def test_a_row_says_who_has_the_item(signed_in: SignIn, people: dict[str, User], item: ReviewItem) -> None:
    item_lease(item=item, user=people["ben"])
    assert "Ben Okafor has it" in text_of(page(signed_in("ana").get("/")))
    assert "Held by you" in text_of(page(signed_in("ben").get("/")))
    assert rows_of(page(signed_in("ben").get("/?tab=mine"))) == [item.pk]
    assert rows_of(page(signed_in("ana").get("/?tab=mine"))) == []
    ReviewItem.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert "has it" not in row_of(page(signed_in("ana").get("/")), item)
    assert rows_of(page(signed_in("ben").get("/?tab=mine"))) == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/", "All clear"),
        ("/?tab=mine", "Nothing in your hands"),
        ("/?tab=second", "No second opinion wanted"),
        ("/?tab=adjudication", "Everybody agrees"),
        ("/?severity=minor", "No waiting answer matches these filters. Clear them"),
    ],
)
def test_an_empty_queue_is_calm(address: str, said: str, signed_in: SignIn) -> None:
    words = text_of(page(signed_in("lea").get(address)))
    assert said in words
    assert "Nothing is waiting" in words


def test_an_empty_audit_is_calm(signed_in: SignIn) -> None:
    words = text_of(page(signed_in("ida").get("/?tab=audit")))
    assert "No audit is open" in words
    assert "Nothing is waiting" in words


def test_personal_data_is_masked_in_the_rows(signed_in: SignIn) -> None:
    made = scenes.item("my mail is jo.smith@example.com, may I?", "Call (617) 555-0123 or write to jo.smith@example.com.")
    source = page(signed_in("lea").get("/"))
    assert "555-0123" not in source
    assert "jo.smith" not in source
    assert "my mail is [e-mail address], may I?" in text_of(row_of(source, made))
    assert "Call [phone number]" in text_of(row_of(source, made))


def test_a_count_stops_at_a_thousand() -> None:
    assert [count_words(number) for number in (0, 999, 1000)] == ["0", "999", "1,000+"]


# --- Tabs -------------------------------------------------------------------------------------------------------------
TABS = {
    "ana": ["waiting", "mine", "second", "decided"],
    "lea": ["waiting", "mine", "second", "adjudication", "decided"],
    "ida": ["waiting", "second", "audit", "decided"],
}


@pytest.mark.parametrize("name", TABS)
def test_everybody_has_the_tabs_of_their_role_and_opens_no_other(name: str, signed_in: SignIn) -> None:
    first = scenes.item(due_in=1)
    second = changed(scenes.item(due_in=2), stage="second")
    third = changed(scenes.item(due_in=3), stage="adjudication")
    audit = changed(scenes.item(due_in=4), kind="audit", blind=True)
    changed(scenes.item(due_in=5), kind="calibration", blind=True)
    changed(scenes.item(due_in=6), status="settling")
    everything = [first.pk, second.pk, third.pk, audit.pk]
    inside = {"waiting": everything, "mine": [], "second": [second.pk], "adjudication": [third.pk], "audit": [audit.pk]}
    client = signed_in(name)
    source = page(client.get("/"))
    assert re.findall(r'id="tab-(\w+)"', source) == TABS[name]
    for tab, items in inside.items():
        shown = page(client.get("/", {"tab": tab}))
        if tab in TABS[name]:
            assert rows_of(shown) == items
            assert re.search(rf'id="tab-{tab}" aria-current="page">[^<]+<span class="count">{len(items)}</span>', shown)
        else:
            assert rows_of(shown) == everything
            assert 'id="tab-waiting" aria-current="page"' in shown


# --- Filters ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def five(people: dict[str, User]) -> list[ReviewItem]:
    """Items that differ in all that can be filtered by."""
    items = [
        changed(scenes.item("May I take paracetamol?", "Yes, double it.", due_in=1), language="en", layer="rules"),
        changed(scenes.item(due_in=9, severity="major", category="misinformation"), language="es", layer="judge"),
        changed(scenes.item(due_in=5, decision="hold", category="undecided", age=70), language="de", layer=""),
        changed(scenes.item(due_in=20, age=300, app=scenes.chat_app("Riverside & Co")), language="pt", layer="finetuned"),
        changed(scenes.item("Is Doppelmord safe?", "No. Not at 100%_.", due_in=30, age=20, severity="minor"), language="und"),
    ]
    item_lease(item=items[1], user=people["ben"])
    return items


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [0, 2, 1, 3, 4]),
        ("severity=major", [1]),
        ("kind=held", [2]),
        ("category=misinformation", [1]),
        ("severity=critical&kind=blocked", [0, 3]),
        ("layer=finetuned", [3]),
        ("app=Riverside+%26+Co", [3]),
        ("older_than=15", [2, 3, 4]),
        ("older_than=60", [2, 3]),
        ("older_than=240", [3]),
        ("older_than=1440", []),
        ("holder=ben", [1]),
        ("holder=ana", []),
        ("holder=~", [0, 2, 3, 4]),
        ("language=es", [1]),
        ("language=other", [3, 4]),
        ("text=PARACETAMOL", [0]),
        ("text=double+parac", [0]),
        ("text=double+doppelmord", []),
        ("text=100%25_", [4]),
        ("text=%25%27%3B--", [0, 2, 1, 3, 4]),
        ("text=double&app=Riverside+%26+Co", [3]),
    ],
)
def test_filters_are_addresses(query: str, expected: list[int], signed_in: SignIn, five: list[ReviewItem]) -> None:
    assert rows_of(page(signed_in("ana").get(f"/?{query}"))) == [five[index].pk for index in expected]


HOSTILE = [
    "nonsense",
    "' OR 1=1 --",
    "\x00",
    "😀" * 200,
    "<script>alert(1)</script>",
    "9" * 400,
    "-1",
    "%",
    "a" * 5000,
    "&|!():*'",
]
NAMES = ["tab", "severity", "kind", "category", "layer", "app", "holder", "older_than", "language"]


@pytest.mark.parametrize("value", HOSTILE)
def test_what_nobody_offered_does_not_filter(value: str, signed_in: SignIn, five: list[ReviewItem]) -> None:
    client = signed_in("ana")
    source = page(client.get("/", dict.fromkeys(NAMES, value)))
    assert len(rows_of(source)) == 5
    assert 'class="chip"' not in source
    searched = page(client.get("/", {"text": value}))
    assert "<script>alert" not in searched
    assert client.get("/", {name: ["x", value] for name in [*NAMES, "text", "cursor"]}).status_code in (200, 302)


@pytest.mark.parametrize(
    "text", ["'", "a' & b", "a:*", "!a", "(a", "\\", "a\\", "ß İ ﬁ", "١٢", "日本語", "x" * 300, "a " * 200, "1e5 0x1F", "-5"]
)
def test_no_words_to_search_for_are_an_error(text: str, signed_in: SignIn, five: list[ReviewItem]) -> None:
    source = page(signed_in("ana").get("/", {"text": text}))
    field = re.search(r'name="text" value="([^"]*)"', source)
    assert field is None or len(unescape(field.group(1))) <= 100


def test_a_calibration_or_audit_kind_is_nothing_to_filter_by(signed_in: SignIn, five: list[ReviewItem]) -> None:
    assert len(rows_of(page(signed_in("ana").get("/?kind=audit")))) == 5
    assert len(rows_of(page(signed_in("ana").get("/?kind=calibration")))) == 5


def test_active_filters_are_chips_that_can_be_taken_away(signed_in: SignIn, five: list[ReviewItem]) -> None:
    query = "severity=minor&text=%3Cb%3E&category=misinformation&kind=held&layer=judge&older_than=60&holder=ben&language=other"
    source = page(signed_in("ana").get(f"/?{query}"))
    chips = re.findall(r'<a class="chip" href="([^"]+)"[^>]*><bdi>(.*?)</bdi>', source)
    assert [unescape(words) for _, words in chips] == [
        "“<b>”", "Misinformation", "Held", "LLM judge", "Waiting over 1 h", "Held by Ben Okafor", "Another language",
    ]  # fmt: skip
    assert "severity=minor" in chips[0][0]
    assert "text=" not in chips[0][0]
    assert "holder" in chips[0][0]
    assert "holder" not in chips[5][0]
    assert "Filter 7 active" in text_of(source)


def test_every_known_language_has_words() -> None:
    assert set(LANGUAGE_WORDS) == KNOWN | {OTHER}


# --- Blind items ------------------------------------------------------------------------------------------------------
def blind_pair() -> tuple[ReviewItem, ReviewItem]:
    """Two that look alike, and about which everything else differs."""
    first = changed(scenes.item("may I?", "Yes.", due_in=-9), blind=True, reasons=["layers_disagree"], stage="second")
    other = scenes.item("may I?", "Yes.", due_in=300, severity="minor", category="pii:ssn", decision="hold")
    return first, changed(other, blind=True, created_at=first.created_at, kind="audit", layer="judge")


@pytest.mark.parametrize("name", ["ana", "lea", "ida"])
def test_nothing_in_a_blind_row_tells_the_verdict(name: str, signed_in: SignIn) -> None:
    first, other = blind_pair()
    source = page(signed_in(name).get("/"))
    rows = [re.sub(r"(row-|why-|/items/)\d+", r"\1", row_of(source, item)) for item in (first, other)]
    assert rows[0] == rows[1]
    assert text_of(rows[0]) == "Blind review, 3 min waiting may I? Yes. MainStreet chat"
    assert "overdue" not in text_of(source)
    assert "Critical 0 Major 0 Minor 0" in text_of(source)


@pytest.mark.parametrize(
    "query", ["severity=critical", "kind=blocked", "category=harmful_medical:dangerous_dosage", "layer=rules", "severity=minor"]
)
def test_a_blind_item_is_not_found_by_what_is_hidden_of_it(query: str, signed_in: SignIn) -> None:
    first, _ = blind_pair()
    changed(first, layer="rules")
    assert rows_of(page(signed_in("lea").get(f"/?{query}"))) == []


def test_the_address_of_the_next_page_does_not_tell_a_blind_items_deadline(signed_in: SignIn) -> None:
    items = [changed(scenes.item(due_in=number), blind=True) for number in range(PAGE_SIZE + 1)]
    assert f'href="/?cursor={items[PAGE_SIZE - 1].pk}"' in page(signed_in("ana").get("/"))


def test_nothing_is_sent_when_a_blind_item_becomes_overdue(signed_in: SignIn) -> None:
    first, _ = blind_pair()
    changed(first, due_at=timezone.now() + timedelta(hours=1))
    client = signed_in("ana")
    etag = client.get("/").headers["ETag"]
    changed(first, due_at=timezone.now() - timedelta(hours=1))
    assert client.get("/", headers={**POLL, "If-None-Match": etag}).status_code == 304


def test_the_audit_tab_shows_what_is_in_it(signed_in: SignIn) -> None:
    _, audit = blind_pair()
    source = page(signed_in("ida").get("/?tab=audit"))
    assert rows_of(source) == [audit.pk]
    assert "Minor Social security number, 3 min waiting Audit" in text_of(row_of(source, audit))
    assert rows_of(page(signed_in("ida").get("/?tab=audit&severity=minor"))) == [audit.pk]


def test_an_item_of_ones_own_is_in_mine_whatever_it_is(signed_in: SignIn, people: dict[str, User]) -> None:
    known = changed(scenes.item(), kind="calibration", blind=True)
    item_lease(item=known, user=people["ana"])
    assert rows_of(page(signed_in("ana").get("/?tab=mine"))) == [known.pk]


@pytest.mark.parametrize(("text", "found"), [("two", True), ("555", False), ("call 555", False), ("867", False)])
def test_what_is_masked_is_not_found_by_searching(text: str, found: bool, signed_in: SignIn) -> None:
    item = scenes.item("whom do I call?", "Take two. Her cell phone is 617-555-0188, call her.")
    assert rows_of(page(signed_in("ana").get("/", {"text": text}))) == ([item.pk] if found else [])


# --- What is recorded, and what is sent -------------------------------------------------------------------------------
def views() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action="queue.view").order_by("pk"))


def test_every_page_of_patients_words_is_in_the_audit_log(signed_in: SignIn, item: ReviewItem) -> None:
    client = signed_in("ana")
    client.get("/?text=tylenol")
    (event,) = views()
    assert (event.actor, event.target) == ("ana", "waiting")
    assert event.data == {"exchanges": [str(item.exchange_id)], "searched": True}
    client.get("/?severity=minor")
    client.get("/?cursor=nonsense")
    signed_in("adam").get("/")
    assert len(views()) == 1


def test_htmx_gets_the_list_alone_and_nothing_while_it_is_the_same(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem
) -> None:
    client = signed_in("ana")
    whole = client.get("/")
    assert f'data-etag="{unescape(whole.headers["ETag"])}"'.replace('"', "") in unescape(page(whole)).replace('"', "")
    same = client.get("/", headers={**POLL, "If-None-Match": whole.headers["ETag"]})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", whole.headers["ETag"])
    assert len(views()) == 1
    item_lease(item=item, user=people["ben"])
    fresh = client.get("/", headers={**POLL, "If-None-Match": whole.headers["ETag"]})
    assert "<html" not in page(fresh)
    assert rows_of(page(fresh)) == [item.pk]
    assert "Ben Okafor has it" in page(fresh)
    assert page(fresh).count('hx-swap-oob="true"') == 3
    assert "<title>Queue (1) · GuardReview</title>" in page(fresh)
    assert len(views()) == 2
    assert client.get("/?severity=critical", headers={**POLL, "If-None-Match": fresh.headers["ETag"]}).status_code == 200
    assert signed_in("ben").get("/", headers={**POLL, "If-None-Match": fresh.headers["ETag"]}).status_code == 200
    scenes.item()
    assert client.get("/", headers={**POLL, "If-None-Match": fresh.headers["ETag"]}).status_code == 200


# --- Saved views ------------------------------------------------------------------------------------------------------
def test_a_view_is_saved_opened_and_deleted(signed_in: SignIn, people: dict[str, User], five: list[ReviewItem]) -> None:
    client = signed_in("ana")
    query = "severity=major&holder=ben&nonsense=1&kind=nonsense"
    saved = client.post("/views", {"name": "  Ben's   major ones ", "query": query})
    assert (saved.status_code, saved.headers["Location"]) == (302, "/?severity=major&holder=ben")
    view = SavedView.objects.get()
    assert (view.user, view.name, view.query) == (people["ana"], "Ben's major ones", "severity=major&holder=ben")
    source = page(client.get("/"))
    assert 'href="/?severity=major&amp;holder=ben">Ben&#x27;s major ones</a>' in source
    opened = page(client.get("/?severity=major&holder=ben"))
    assert rows_of(opened) == [five[1].pk]
    assert 'holder=ben" aria-current="true">Ben' in opened
    assert "major ones" not in page(signed_in("ben").get("/"))
    client.post("/views", {"name": "Ben's major ones", "query": ""})
    assert SavedView.objects.get().query == ""
    gone = client.post(f"/views/{view.pk}/delete", {"query": "severity=minor"})
    assert gone.headers["Location"] == "/?severity=minor"
    assert not SavedView.objects.exists()


def test_nobody_deletes_anothers_view(signed_in: SignIn, people: dict[str, User]) -> None:
    view = saved_view_save(user=people["ben"], name="mine", query="")
    assert signed_in("ana").post(f"/views/{view.pk}/delete").status_code == 302
    assert SavedView.objects.filter(pk=view.pk).exists()


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "\x00"])
def test_a_view_needs_a_name(name: str, signed_in: SignIn) -> None:
    response = signed_in("ana").post("/views", {"name": name, "query": "severity=minor"}, follow=True)
    assert "Give the view a name" in page(response)
    assert not SavedView.objects.exists()


def test_nobody_has_more_than_twenty_views(signed_in: SignIn, people: dict[str, User]) -> None:
    client = signed_in("ana")
    for number in range(MAX_VIEWS + 2):
        client.post("/views", {"name": f"view {number}", "query": ""})
    assert SavedView.objects.filter(user=people["ana"]).count() == MAX_VIEWS
    client.post("/views", {"name": "view 3", "query": "severity=minor"})
    assert SavedView.objects.get(name="view 3").query == "severity=minor"
    assert signed_in("ben").post("/views", {"name": "view 3", "query": ""}).status_code == 302
    assert SavedView.objects.count() == MAX_VIEWS + 1


@pytest.mark.parametrize("query", ["//evil.example", "https://evil.example/?severity=minor", "\x00", "severity=" + "x" * 9000])
def test_a_view_leads_nowhere_but_to_the_queue(query: str, signed_in: SignIn) -> None:
    response = signed_in("ana").post("/views", {"name": "n", "query": query})
    assert response.headers["Location"] == "/"
    assert SavedView.objects.get().query == ""


def test_a_view_is_saved_by_a_form_of_ours_alone(people: dict[str, User]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(people["ana"], backend="django.contrib.auth.backends.ModelBackend")
    assert client.post("/views", {"name": "n", "query": ""}).status_code == 403
    assert not SavedView.objects.exists()


# --- What it costs ----------------------------------------------------------------------------------------------------
@pytest.fixture
def ten_thousand(db: None) -> None:
    """As many open items, of long answers, some blind, each with a word of its own."""
    app, policy, now = scenes.chat_app(), scenes.policy(), timezone.now()
    exchanges = [
        Exchange(
            id=uuid4(), app=app, query=f"May I? word{number}", response="Yes, do. " * 200, status="decided", body_digest="-",
            policy=policy,
        )
        for number in range(10_000)
    ]  # fmt: skip
    Exchange.objects.bulk_create(exchanges, batch_size=2000)
    Verdict.objects.bulk_create(
        [
            Verdict(
                exchange=exchange, decision="block", category="pii:ssn", reason="r", confidence=1, policy=policy, latency_ms=1
            )
            for exchange in exchanges
        ],
        batch_size=2000,
    )
    ReviewItem.objects.bulk_create(
        [
            ReviewItem(
                exchange=exchange,
                kind=("blocked", "held")[number % 2],
                stage=("first", "first", "second", "adjudication")[number % 4],
                severity=("critical", "major", "minor")[number % 3],
                category="pii:ssn" if number % 5 else "misinformation",
                blind=number % 7 == 0,
                due_at=now + timedelta(seconds=(number * 7919) % 9000 - 3000),
            )
            for number, exchange in enumerate(exchanges)
        ],
        batch_size=2000,
    )


def queries(client: Client, address: str, **options: Any) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address, **options).status_code in (200, 304)
    return len(captured)


def test_a_page_takes_as_many_queries_for_ten_thousand_items_as_for_one(
    signed_in: SignIn, request: pytest.FixtureRequest, item: ReviewItem
) -> None:
    client = signed_in("lea")
    etag = client.get("/").headers["ETag"]
    few = queries(client, "/")
    # Session, person, apps, people, views, items, counts; to record it: the last of the log, a line more, a savepoint's two,
    # and PostgreSQL's lock.
    lock = int(connection.vendor == "postgresql")
    assert few == 11 + lock
    assert queries(client, "/", headers={**POLL, "If-None-Match": etag}) == 6
    request.getfixturevalue("ten_thousand")
    assert queries(client, "/", headers=POLL) == 10 + lock
    for address in ("/", "/?severity=critical", "/?kind=held&severity=minor", "/?category=misinformation", "/?tab=second"):
        assert queries(client, address) == few
    assert queries(client, f"/?cursor={item.pk}") == few + 1


@pytest.mark.usefixtures("ten_thousand")
def test_a_page_is_read_from_an_index_without_a_sort_and_counts_stop_at_a_thousand() -> None:
    with CaptureQueriesContext(connection) as captured:
        counts = queue_counts(user=User(pk=0))
    assert len(captured) == 1
    assert (counts["waiting"], counts["second"], counts["audit"]) == (1000, 1000, 0)
    if connection.vendor != "sqlite":
        pytest.skip("reads SQLite's query plans")
    of_index = {
        "deadline": QueueFilter(),
        "severity": QueueFilter(severity="critical"),
        "kind": QueueFilter(kind="held"),
        "category": QueueFilter(category="misinformation"),
        "stage": QueueFilter(tab="second"),
    }
    for name, filters in of_index.items():
        second = queue_page(filters=filters, user=User(pk=0)).next_cursor or ""
        for cursor in ("", second):
            with CaptureQueriesContext(connection) as captured:
                queue_page(filters=filters, user=User(pk=0), cursor=cursor)
            with connection.cursor() as asked:
                asked.execute(f"EXPLAIN QUERY PLAN {captured[-1]['sql']}")
                plan = [row[3] for row in asked.fetchall()]
            assert f"open_items_by_{name}" in plan[0], plan
            assert not any("TEMP B-TREE" in step for step in plan), plan


@pytest.mark.usefixtures("ten_thousand")
def test_a_rare_word_is_found_by_the_index_of_words() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no index of words")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE verdicts_exchange")
    with CaptureQueriesContext(connection) as captured:
        found = queue_page(filters=QueueFilter(text="word9876"), user=User(pk=0)).items
        assert [item.exchange.query for item in found] == ["May I? word9876"]
    assert len(captured) == 4  # the nearest items, all items, their texts, and the text that this test reads
    with connection.cursor() as asked:
        asked.execute(f"EXPLAIN {captured[1]['sql']}")
        plan = "\n".join(row[0] for row in asked.fetchall())
    assert "exchange_words" in plan, plan
    with CaptureQueriesContext(connection) as captured:
        assert len(queue_page(filters=QueueFilter(text="yes may"), user=User(pk=0)).items) == PAGE_SIZE
    assert len(captured) == 2
