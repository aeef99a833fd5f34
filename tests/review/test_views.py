"""The reviewers' pages, as Django's test client sees them: who may open what, and that nothing decided or typed is lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from guardreview.core.models import AuditEvent, User
from guardreview.core.roles import Role
from guardreview.review.leases import item_lease
from guardreview.review.models import Label, Review
from guardreview.review.services import review_create
from guardreview.verdicts.models import Exchange, ReviewItem, Verdict
from tests import scenes

SignIn = Callable[[str], Client]
UNSAFE = {"truth": "unsafe", "categories": ["harmful_medical:dangerous_dosage"], "severity": "critical"}
PAYLOADS = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    '"><svg/onload=alert(1)>',
    "</textarea></div><iframe srcdoc='<b>x</b>'>",
    "{% load x %}{{ request.user.password }}",
    '<a href="javascript:alert(1)">x</a>',
    "<style>body{display:none}</style>",
]


def page(response: Any) -> str:
    """A page's source; redirects are followed by the client, errors are not."""
    return str(response.content.decode())


def text_of(source: str) -> str:
    """The words of a piece of HTML, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", source)).split())


class Parsed(HTMLParser):
    """A page as a browser reads it: its tags with their attributes, and its words."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def hidden(source: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', source)
    assert found, f"no field {name}"
    return unescape(found.group(1))


def open_item(client: Client, item: ReviewItem) -> dict[str, str]:
    """Open an item for deciding; the hidden fields of its form."""
    response = client.get(f"/items/{item.pk}")
    assert response.status_code == 200
    return {name: hidden(page(response), name) for name in ("token", "opened")}


# --- Who may open what ------------------------------------------------------------------------------------------------
PAGES = {
    "/": {"pharmacist", "lead", "auditor"},
    "/items/{item}": {"pharmacist", "lead", "auditor"},
    "/items/{item}/similar": {"pharmacist", "lead", "auditor"},
    "/decided": {"pharmacist", "lead", "auditor"},
    "/pause": {"pharmacist", "lead"},
    "/hands-full": {"pharmacist", "lead"},
    "/items/{item}/said": {"pharmacist", "lead"},
    "/kept/key": {"pharmacist", "lead"},
    "/guidelines": {"pharmacist", "lead", "auditor"},
    "/guidelines/misinformation": {"pharmacist", "lead", "auditor"},
    "/guidelines/misinformation/edit": {"lead"},
    "/guidelines/doubts": {"lead"},
    "/calibration": {"lead"},
    "/insight": {"lead", "auditor"},
    "/insight/me": {"pharmacist", "lead"},
    "/insight/panels/people": {"lead", "auditor"},
    "/learning/labels": {"lead", "administrator"},
    "/learning/labels/download?format=csv": {"lead", "administrator"},
    "/learning/labels/exports": {"lead", "administrator"},
    "/learning/labels/exports/count": {"lead", "administrator"},
    "/learning/labels/exports/list": {"lead", "administrator"},
    "/learning/labels/imports": {"lead", "administrator"},
    "/learning/models": {"lead", "administrator", "auditor"},
    "/learning/models/ft-bbbbbbbbbbbb": {"lead", "administrator", "auditor"},
    "/learning/models/ft-bbbbbbbbbbbb/check/progress": {"lead", "administrator", "auditor"},
    "/learning/models/ft-bbbbbbbbbbbb/shadow": {"lead", "administrator", "auditor"},
    "/learning/training/runs": {"lead", "administrator", "auditor"},
    "/learning/health": {"lead", "administrator", "auditor"},
    "/learning/thresholds": {"lead", "administrator", "auditor"},
    "/learning/thresholds/what-if": {"lead", "administrator", "auditor"},
    "/learning/policies": {"lead", "administrator", "auditor"},
    "/learning/training/new": {"administrator"},
    "/admin/core/auditevent/": {"administrator", "auditor"},
    "/admin/core/user/": {"administrator"},
}
ACTS = {
    "/next": {"pharmacist", "lead"},
    "/items/{item}/decision": {"pharmacist", "lead"},
    "/items/{item}/decision/kept": {"pharmacist", "lead"},
    "/items/{item}/reopen": {"pharmacist", "lead"},
    "/reviews/1/undo": {"pharmacist", "lead"},
    "/preferences/keys": {"pharmacist", "lead", "auditor"},
    "/items/{item}/skip": {"pharmacist", "lead"},
    "/items/{item}/hold": {"pharmacist", "lead"},
    "/items/{item}/leave": {"pharmacist", "lead"},
    "/items/{item}/reveal": {"pharmacist", "lead"},
    "/items/{item}/conceal": {"pharmacist", "lead"},
    "/views": {"pharmacist", "lead", "auditor"},
    "/views/1/delete": {"pharmacist", "lead", "auditor"},
    "/guidelines/doubts/1/dismiss": {"lead"},
    "/guidelines/doubts/1/reopen": {"lead"},
    "/calibration/1/retire": {"lead"},
    "/learning/labels/exports/1/retry": {"lead", "administrator"},
    "/learning/labels/imports/0192f0c1-8d2e-7c4a-9a57-2f6f4f3f9b10/store": {"lead", "administrator"},
    "/learning/labels/imports/0192f0c1-8d2e-7c4a-9a57-2f6f4f3f9b10/discard": {"lead", "administrator"},
    "/learning/labels/imports/1/withdraw": {"lead", "administrator"},
    "/learning/training": {"administrator"},
    "/learning/policies/propose": {"administrator"},
    "/learning/models/ft-cccccccccccc/check": {"administrator"},
    "/learning/models/ft-cccccccccccc/promote": {"administrator"},
    "/learning/models/ft-cccccccccccc/shadow/switch": {"administrator"},
    "/learning/models/ft-cccccccccccc/shadow/draw": {"administrator"},
    "/learning/models/roll-back": {"administrator"},
}
BY_ROLE = {Role.PHARMACIST: "ana", Role.LEAD: "lea", Role.ADMINISTRATOR: "adam", Role.AUDITOR: "ida"}


@pytest.fixture
def item(db: None) -> ReviewItem:
    return scenes.item()


@pytest.mark.parametrize("role", Role.values)
@pytest.mark.parametrize("address", PAGES)
def test_a_page_opens_for_its_roles_alone(address: str, role: str, signed_in: SignIn, item: ReviewItem) -> None:
    scenes.model_versions()
    response = signed_in(BY_ROLE[Role(role)]).get(address.format(item=item.pk))
    if "/admin/" in address:  # the admin's own gate sends some to its sign-in
        assert (response.status_code == 200) == (role in PAGES[address])
    else:
        assert response.status_code == (200 if role in PAGES[address] else 403)


@pytest.mark.parametrize("role", Role.values)
@pytest.mark.parametrize("address", ACTS)
def test_an_act_is_done_for_its_roles_alone(
    address: str, role: str, signed_in: SignIn, item: ReviewItem, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes.model_versions()
    monkeypatch.setattr("guardreview.learning.tasks.train.delay", lambda run: None)
    response = signed_in(BY_ROLE[Role(role)]).post(address.format(item=item.pk))
    assert (response.status_code == 403) == (role not in ACTS[address])
    if role not in ACTS[address]:
        item.refresh_from_db()
        assert item.leased_by is None
        assert not Review.objects.exists()


@pytest.mark.parametrize("address", [*PAGES, *ACTS])
def test_whoever_is_not_signed_in_is_asked_to(address: str, client: Client, item: ReviewItem) -> None:
    address = address.format(item=item.pk)
    response = client.post(address) if address in ACTS or "/items/" in address else client.get(address)
    assert response.status_code == 302
    assert "sign-in" in response.headers["Location"] or "/admin/login" in response.headers["Location"]


@pytest.mark.parametrize("address", ACTS)
def test_what_changes_something_is_never_a_get(address: str, signed_in: SignIn, item: ReviewItem) -> None:
    assert signed_in("ana").get(address.format(item=item.pk)).status_code == 405


@pytest.mark.parametrize("address", ["/next", "/sign-out", "/items/{item}/decision", "/items/{item}/hold", "/sign-in"])
def test_a_forged_form_is_refused_on_a_page_of_ours(address: str, people: dict[str, User], item: ReviewItem) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(people["ana"], backend="django.contrib.auth.backends.ModelBackend")
    response = client.post(address.format(item=item.pk), {"truth": "safe"})
    assert response.status_code == 403
    assert "This form has expired" in page(response)
    assert not Review.objects.exists()


@pytest.mark.parametrize("name", scenes.PEOPLE)
def test_the_navigation_names_what_the_role_may_open_and_no_more(name: str, signed_in: SignIn, item: ReviewItem) -> None:
    client = signed_in(name)
    start = client.get("/") if name != "adam" else client.get("/learning/models")
    navigation = re.search(r'<nav class="nav".*?</nav>', page(start), flags=re.DOTALL)
    assert navigation
    linked = set(re.findall(r'href="([^"]+)"', navigation.group()))
    assert linked == {address for address in linked if client.get(address).status_code == 200}
    role = scenes.PEOPLE[name][2]
    pages = {
        "/",
        "/decided",
        "/guidelines",
        "/insight",
        "/insight/me",
        "/learning/labels",
        "/learning/models",
        "/learning/health",
        "/learning/thresholds",
        "/admin/core/auditevent/",
    }
    expected = {address for address in pages if role in PAGES[address]}
    assert linked == (expected | {"/admin/"} if role == Role.ADMINISTRATOR else expected)


# --- Signing in -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "after", "lands"),
    [
        ("ana", "", "/"),
        ("lea", "", "/"),
        ("ida", "", "/"),
        ("adam", "", "/learning/models"),
        ("adam", "/", "/learning/models"),
        ("adam", "/learning/labels", "/learning/labels"),
        ("ana", "/decided", "/decided"),
        ("ana", "https://evil.example/", "/"),
        ("ana", "//evil.example", "/"),
    ],
)
def test_everybody_lands_where_their_work_begins(
    name: str, after: str, lands: str, client: Client, people: dict[str, User]
) -> None:
    response = client.post("/sign-in", {"username": name, "password": scenes.PASSWORD, "next": after})
    assert (response.status_code, response.headers["Location"]) == (302, lands)


def test_a_wrong_password_is_said_without_naming_which(client: Client, people: dict[str, User]) -> None:
    response = client.post("/sign-in", {"username": "ana", "password": "guess"})
    assert response.status_code == 200
    assert "That name and password do not match an account." in page(response)
    assert 'value="ana"' in page(response)


def test_many_guesses_are_locked_out_on_a_page_of_ours(client: Client, people: dict[str, User]) -> None:
    for _ in range(8):
        response = client.post("/sign-in", {"username": "ana", "password": "guess"})
    assert response.status_code == 429
    assert "Too many attempts" in page(response)
    assert "Try again in 15 min" in page(response)
    right = client.post("/sign-in", {"username": "ana", "password": scenes.PASSWORD})
    assert right.status_code == 429


def test_signing_out_takes_a_post(signed_in: SignIn) -> None:
    client = signed_in("ana")
    assert client.get("/sign-out").status_code == 405
    assert client.post("/sign-out").headers["Location"] == "/sign-in"
    assert client.get("/").status_code == 302


# --- An item ----------------------------------------------------------------------------------------------------------
def test_opening_an_item_takes_it_and_is_recorded(signed_in: SignIn, people: dict[str, User], item: ReviewItem) -> None:
    response = signed_in("ana").get(f"/items/{item.pk}")
    item.refresh_from_db()
    assert item.leased_by == people["ana"]
    assert hidden(page(response), "token") == str(item.lease_token)
    event = AuditEvent.objects.get(action="item.view")
    assert (event.actor, event.target) == ("ana", f"exchange:{item.exchange_id}")
    assert "Yours for 10:00" in text_of(page(response)) or "Yours for 9:59" in text_of(page(response))


def test_the_second_to_come_reads_and_is_told_who_has_it(signed_in: SignIn, people: dict[str, User], item: ReviewItem) -> None:
    open_item(signed_in("ana"), item)
    source = page(signed_in("ben").get(f"/items/{item.pk}"))
    assert "Ana Ruiz is deciding this item." in text_of(source)
    assert 'id="decision"' not in source
    assert 'action="/next"' in source
    item.refresh_from_db()
    assert item.leased_by == people["ana"]


def test_an_auditor_reads_without_taking(signed_in: SignIn, item: ReviewItem) -> None:
    source = page(signed_in("ida").get(f"/items/{item.pk}"))
    item.refresh_from_db()
    assert item.leased_by is None
    assert 'id="decision"' not in source
    assert "You are reading." in text_of(source)
    assert 'action="/next"' not in source
    assert 'action="/next"' not in page(signed_in("ida").get("/"))


@pytest.mark.parametrize("address", ["/items/999", "/items/99999999999999999999999", "/items/0", "/items/x", "/nowhere"])
def test_what_is_not_there_is_a_page_of_ours(address: str, signed_in: SignIn, db: None) -> None:
    response = signed_in("ana").get(address)
    assert response.status_code == 404
    assert "Nothing here" in page(response)


def test_a_page_shows_the_verdict_the_trace_and_earlier_turns(signed_in: SignIn) -> None:
    answer = "An adult may take up to 8 grams a day. Just double your dose."
    results = [
        scenes.rules(answer),
        scenes.finetuned(0.87, dangerous_dosage=0.74),
        scenes.judge(answer, "up to 8 grams", "misinformation"),
    ]
    app = scenes.chat_app()
    Exchange.objects.create(
        app=app, query="And before?", response="Good morning.", conversation_id="c-1", body_digest="-",
        created_at=timezone.now() - timedelta(hours=1),
    )  # fmt: skip
    Exchange.objects.create(
        app=scenes.chat_app("other"), query="Not ours", response="-", conversation_id="c-1", body_digest="-",
        created_at=timezone.now() - timedelta(hours=1),
    )  # fmt: skip
    item = scenes.item(response=answer, results=results, conversation_id="c-1")
    source = page(signed_in("ana").get(f"/items/{item.pk}"))
    words = text_of(source)
    assert "And before?" in words
    assert "Not ours" not in words
    assert "Blocked Matched rule: dangerous_dosage" in words
    assert "P(unsafe) 0.87: uncertain, for the judge" in words
    assert "Unsafe, confidence 0.93" in words
    assert 'aria-label="Dangerous dosage: 0.74; blocked from 0.80, allowed below 0.08"' in source
    assert "14 ms" in words
    assert "ft-0123456789ab" in words


def marks(source: str) -> list[tuple[set[str], str]]:
    """(findings, text) of each mark in the answer under review."""
    found = re.search(r"data-response>(.*?)</div>", source, flags=re.DOTALL)
    assert found
    return [
        (set(numbers.split()), unescape(re.sub(r"<[^>]+>", "", text)))
        for numbers, text in re.findall(r'<mark [^>]*data-findings="([\d ]+)">(.*?)</mark>', found.group(1), flags=re.DOTALL)
    ]


def test_evidence_is_marked_at_its_place_overlaps_and_emoji_included(signed_in: SignIn) -> None:
    answer = "😀 Just <double> your\n\n  dose & more"
    judged = scenes.judge(answer, "<double> your\n\n  dose", "misinformation")
    ruled = scenes.judge(answer, "your\n\n  dose & more", "misinformation")
    item = scenes.item(response=answer, results=[judged, *_as_rules(ruled)])
    source = page(signed_in("ana").get(f"/items/{item.pk}"))
    assert marks(source) == [({"1"}, "<double> "), ({"1", "2"}, "your\n\n  dose"), ({"2"}, " & more")]
    assert 'href="#finding-1" data-finding="1"' in source
    assert source.index('id="finding-1"') < source.index('id="finding-2"')


def _as_rules(result: Any) -> list[Any]:
    return [replace(result, layer="rules", evidence=tuple(replace(found, rule="rule-x") for found in result.evidence))]


def test_hidden_characters_of_query_and_answer_are_shown(signed_in: SignIn) -> None:
    item = scenes.item(query="may\u200b I?", response="st\u202eop \u2066it\u2069")
    source = page(signed_in("ana").get(f"/items/{item.pk}"))
    assert not set(source) & set("\u200b\u202e\u2066\u2069")
    assert 'title="zero width space">ZWSP</span>' in source
    assert 'title="right-to-left override">RLO</span>' in source
    assert not set(page(signed_in("ben").get("/"))) & set("\u200b\u202e\u2066\u2069")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_others_wrote_is_text_wherever_it_is_shown(payload: str, signed_in: SignIn, people: dict[str, User]) -> None:
    judged = scenes.judge(f"{payload} do", payload, "misinformation", reason=payload)
    item = scenes.item(
        query=payload, response=f"{payload} do", results=[judged], conversation_id=payload, app=scenes.chat_app(payload)
    )
    Verdict.objects.filter(pk=item.exchange_id).update(reason=payload)
    ana = signed_in("ana")
    sources = [page(ana.get("/")), page(ana.get(f"/items/{item.pk}"))]
    fields = open_item(ana, item)
    sources.append(page(ana.post(f"/items/{item.pk}/decision", {**fields, "note": payload})))
    ana.post(f"/items/{item.pk}/decision", {**fields, **UNSAFE, "note": payload})
    sources += [page(ana.get("/decided")), page(ana.get(f"/items/{item.pk}"))]
    for source in sources:
        parsed = Parsed(source)
        assert payload in "".join(parsed.words)
        assert not {"iframe", "img", "style", "b"} & {tag for tag, _ in parsed.tags}
        for tag, attributes in parsed.tags:
            assert tag != "script" or str(attributes["src"]).startswith("/static/")
            assert not any(name.startswith("on") or name in ("style", "srcdoc") for name in attributes)
            assert not str(attributes.get("href")).startswith("javascript:")


def test_no_page_has_anything_inline(signed_in: SignIn) -> None:
    scenes.model_versions()
    items = scenes.examples(12)
    addresses = {
        "ana": ["/", f"/items/{items[0].pk}", "/decided", "/nowhere"],
        "lea": ["/learning/labels", "/learning/models"],
        "adam": ["/learning/models/ft-cccccccccccc", "/learning/training/new", "/"],
    }
    for name, wanted in addresses.items():
        for address in wanted:
            response = signed_in(name).get(address)
            source = page(response)
            assert not re.search(r"<[^>]* style=", source), address
            assert not re.search(r"<[^>]* on\w+=", source), address
            assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", source)), address
            assert "<style" not in source
            assert not re.search(r'(?:src|href)="(?:https?:)?//', source), address
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            if response.status_code == 200:
                assert "no-store" in response.headers["Cache-Control"], address


# --- Deciding ---------------------------------------------------------------------------------------------------------
def decide(client: Client, item: ReviewItem, **fields: Any) -> HttpResponse:
    return client.post(f"/items/{item.pk}/decision", {**open_item(client, item), **fields})  # type: ignore[return-value]


def test_unsafe_confirms_the_block_and_the_next_item_comes(signed_in: SignIn, people: dict[str, User]) -> None:
    first, second = scenes.item(due_in=1), scenes.item(due_in=5)
    ana = signed_in("ana")
    response = decide(ana, first, **UNSAFE, note="Twice the maximum.")
    assert (response.status_code, response.headers["Location"]) == (302, f"/items/{second.pk}")
    review = Review.objects.get()
    assert (review.truth, review.confirms, review.note, review.reviewer) == ("unsafe", True, "Twice the maximum.", people["ana"])
    assert review.seconds is not None
    assert 0 <= review.seconds < 60
    label = Label.objects.get()
    assert (label.value, label.severity, label.categories) == ("unsafe", "critical", UNSAFE["categories"])
    assert "Saved. Block confirmed." in text_of(page(ana.get(response.headers["Location"])))


def test_safe_overturns_the_block_and_the_last_item_leads_back_to_the_queue(signed_in: SignIn, item: ReviewItem) -> None:
    ana = signed_in("ana")
    response = decide(ana, item, truth="safe")
    assert response.headers["Location"] == "/"
    assert Review.objects.get().confirms is False
    words = text_of(page(ana.get("/")))
    assert "Saved. Block overturned." in words
    assert "All clear" in words


def test_unsure_sends_it_to_somebody_else(signed_in: SignIn, item: ReviewItem) -> None:
    decide(signed_in("ana"), item, truth="unsure", note="renal dose?")
    assert "You said unsure" in text_of(page(signed_in("ana").get(f"/items/{item.pk}")))
    source = page(signed_in("ben").get(f"/items/{item.pk}"))
    assert "This needs a second opinion: yours" in text_of(source)
    assert "renal dose?" not in source
    assert "Ana" not in source
    decide(signed_in("ben"), item, truth="safe")
    settled = text_of(page(signed_in("ida").get(f"/items/{item.pk}")))
    assert "Unsure Sent to a second pharmacist · Ana Ruiz" in settled
    assert "renal dose?" in settled
    assert "Safe Block overturned · Ben Okafor" in settled


def test_a_harm_left_ticked_does_not_keep_an_answer_from_being_safe(signed_in: SignIn, item: ReviewItem) -> None:
    decide(signed_in("ana"), item, **{**UNSAFE, "truth": "safe"})
    assert (Review.objects.get().categories, Review.objects.get().severity) == ([], "")


def test_the_verdicts_categories_and_severity_are_suggested(signed_in: SignIn, item: ReviewItem) -> None:
    source = page(signed_in("ana").get(f"/items/{item.pk}"))
    boxes = re.findall(r'<input type="checkbox" name="categories" value="([^"]+)"[^>]*data-suggested checked>', source)
    assert boxes == ["harmful_medical:dangerous_dosage"]
    assert re.search(r'name="severity" value="critical" checked', source)
    assert not re.search(r'name="truth"[^>]*checked', source)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"note": "Look!"}, "Say whether the answer is safe or unsafe, or that you are unsure."),
        ({"truth": "unsafe", "severity": "major", "note": "Look!"}, "Name at least one category of harm."),
        ({"truth": "unsafe", "categories": ["misinformation"], "note": "Look!"}, "Say how severe the harm is"),
        ({**UNSAFE, "note": "Look!" * 1000}, "longer than 4,000 characters"),
        ({**UNSAFE, "categories": ["nonsense"], "note": "Look!"}, "nonsense"),
        ({"truth": "maybe", "note": "Look!"}, "maybe"),
    ],
)
def test_an_incomplete_decision_comes_back_with_all_that_was_entered(
    fields: dict[str, Any], message: str, signed_in: SignIn, item: ReviewItem
) -> None:
    response = decide(signed_in("ana"), item, **fields)
    source = page(response)
    assert response.status_code == 422
    assert not Review.objects.exists()
    assert message in text_of(source)
    assert fields["note"] in source
    checked = re.findall(r'name="categories" value="([^"]+)"[^>]* checked>', source)
    assert checked == [name for name in fields.get("categories", []) if name != "nonsense"]
    if fields.get("truth") == "unsafe":
        assert re.search(r'name="truth" value="unsafe"[^>]* checked', source)
    if fields.get("severity"):
        assert re.search(rf'name="severity" value="{fields["severity"]}" checked', source)


def test_a_note_of_4000_characters_on_many_lines_is_saved(signed_in: SignIn, item: ReviewItem) -> None:
    note = ("a" * 39 + "\r\n") * 100  # as a browser sends 4,000 characters, line ends counted once
    assert decide(signed_in("ana"), item, truth="safe", note=note).status_code == 302
    assert Review.objects.get().note == note.replace("\r\n", "\n").strip()


def test_a_double_click_saves_once(signed_in: SignIn, item: ReviewItem) -> None:
    ana = signed_in("ana")
    fields = open_item(ana, item)
    answers = [ana.post(f"/items/{item.pk}/decision", {**fields, **UNSAFE}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [302, 302]
    assert Review.objects.count() == Label.objects.count() == 1


def test_a_stale_decision_is_answered_with_both(signed_in: SignIn, item: ReviewItem) -> None:
    ana, ben = signed_in("ana"), signed_in("ben")
    fields = open_item(ana, item)
    ReviewItem.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert decide(ben, item, truth="safe", note="The label allows it.").status_code == 302
    response = ana.post(f"/items/{item.pk}/decision", {**fields, **UNSAFE, "note": "Far too much."})
    assert response.status_code == 409
    words = text_of(page(response))
    assert "Ben Okafor decided this item while you had it open." in words
    assert "What was decided Truth Safe By Ben Okafor" in words
    assert "Note The label allows it." in words
    assert "What you were about to say Truth Unsafe Categories Dangerous dosage Severity Critical Note Far too much." in words
    assert Review.objects.get().truth == "safe"


def test_a_stale_decision_on_an_item_that_another_holds_shows_who(signed_in: SignIn, item: ReviewItem) -> None:
    ana = signed_in("ana")
    fields = open_item(ana, item)
    ReviewItem.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    open_item(signed_in("ben"), item)
    response = ana.post(f"/items/{item.pk}/decision", {**fields, "truth": "safe", "note": "Fine."})
    assert response.status_code == 409
    assert "Ben Okafor has it now" in text_of(page(response))
    assert "What you were about to say Truth Safe Note Fine." in text_of(page(response))


def test_a_stale_decision_on_a_free_item_can_be_submitted_again(signed_in: SignIn, item: ReviewItem) -> None:
    ana = signed_in("ana")
    old = open_item(ana, item)
    ana.post(f"/items/{item.pk}/leave", old)
    response = ana.post(f"/items/{item.pk}/decision", {**old, **UNSAFE, "note": "Far too much."})
    source = page(response)
    assert response.status_code == 409
    assert "Your hold on this item had ended, so your decision was not saved." in text_of(source)
    assert "Far too much." in source
    assert re.search(r'name="truth" value="unsafe"[^>]* checked', source)
    assert hidden(source, "token") != old["token"]
    again = ana.post(f"/items/{item.pk}/decision", {**old, **UNSAFE, "token": hidden(source, "token")})
    assert again.status_code == 302
    assert Review.objects.count() == 1


def test_another_decision_on_what_one_decided_before_is_refused(signed_in: SignIn, item: ReviewItem) -> None:
    ana = signed_in("ana")
    fields = open_item(ana, item)
    ana.post(f"/items/{item.pk}/decision", {**fields, "truth": "safe"})
    response = ana.post(f"/items/{item.pk}/decision", {**fields, **UNSAFE})
    assert response.status_code == 409
    assert "You decided this item before, in another way." in text_of(page(response))
    assert Review.objects.get().truth == "safe"


@pytest.mark.parametrize("broken", [{"token": ""}, {"token": "x"}])
def test_a_form_without_its_lease_saves_nothing(broken: dict[str, str], signed_in: SignIn, item: ReviewItem) -> None:
    response = decide(signed_in("ana"), item, truth="safe", note="Fine.", **broken)
    assert response.status_code == 422
    assert "Fine." in page(response)
    assert not Review.objects.exists()


@pytest.mark.parametrize("opened", ["", "forged", "1.5:x:y"])
def test_time_spent_cannot_be_made_up(opened: str, signed_in: SignIn, item: ReviewItem) -> None:
    assert decide(signed_in("ana"), item, truth="safe", opened=opened).status_code == 302
    assert Review.objects.get().seconds is None


# --- Going on ---------------------------------------------------------------------------------------------------------
def test_start_takes_the_most_urgent_item_that_is_free(signed_in: SignIn, people: dict[str, User]) -> None:
    later, first, taken = scenes.item(due_in=9), scenes.item(due_in=5), scenes.item(due_in=1)
    item_lease(item=taken, user=people["ben"])
    assert signed_in("ana").post("/next").headers["Location"] == f"/items/{first.pk}"
    assert signed_in("lea").post("/next").headers["Location"] == f"/items/{later.pk}"
    lead = signed_in("lea")
    lead.post("/next")
    nothing = Client()
    nothing.force_login(User.objects.create_user("cleo"), backend="django.contrib.auth.backends.ModelBackend")
    assert nothing.post("/next", follow=True).redirect_chain == [("/", 302)]


def test_what_is_skipped_comes_again_last(signed_in: SignIn) -> None:
    first, second, third = (scenes.item(due_in=due) for due in (1, 2, 3))
    ana = signed_in("ana")
    assert ana.post(f"/items/{first.pk}/skip", open_item(ana, first)).headers["Location"] == f"/items/{second.pk}"
    first.refresh_from_db()
    assert first.leased_by is None
    assert decide(ana, second, truth="safe").headers["Location"] == f"/items/{third.pk}"
    assert decide(ana, third, truth="safe").headers["Location"] == "/"
    assert "Only what you skipped is left." in text_of(page(ana.get("/")))
    assert ana.post("/next").headers["Location"] == f"/items/{first.pk}"


def test_a_held_item_is_held_longer_and_a_lost_one_is_told(signed_in: SignIn, people: dict[str, User], item: ReviewItem) -> None:
    ana = signed_in("ana")
    fields = open_item(ana, item)
    ReviewItem.objects.update(lease_expires_at=timezone.now() + timedelta(seconds=5))
    held = ana.post(f"/items/{item.pk}/hold", fields)
    assert held.json() == {"token": fields["token"], "expires_in": 600}
    item.refresh_from_db()
    assert item.lease_expires_at is not None
    assert item.lease_expires_at > timezone.now() + timedelta(seconds=500)
    ReviewItem.objects.update(leased_by=people["ben"])
    lost = ana.post(f"/items/{item.pk}/hold", fields)
    assert (lost.status_code, lost.json()) == (409, {"decided": False, "holder": "Ben Okafor"})


def test_leaving_gives_the_item_back_but_not_somebody_elses(signed_in: SignIn, people: dict[str, User], item: ReviewItem) -> None:
    ana = signed_in("ana")
    fields = open_item(ana, item)
    assert signed_in("ben").post(f"/items/{item.pk}/leave", fields).status_code == 204
    item.refresh_from_db()
    assert item.leased_by == people["ana"]
    assert ana.post(f"/items/{item.pk}/leave", fields).status_code == 204
    item.refresh_from_db()
    assert item.leased_by is None


def test_pharmacists_see_their_own_decisions_leads_and_auditors_all(signed_in: SignIn, people: dict[str, User]) -> None:
    for name in ("ana", "ben", "lea"):
        made = item_lease(item=scenes.item(query=f"asked of {name}"), user=people[name])
        assert made.lease_token is not None
        review_create(item=made, reviewer=people[name], token=made.lease_token, truth="safe")
    seen = {name: set(re.findall(r"asked of (\w+)", page(signed_in(name).get("/decided")))) for name in ("ana", "lea", "ida")}
    assert seen == {"ana": {"ana"}, "lea": {"ana", "ben", "lea"}, "ida": {"ana", "ben", "lea"}}
    assert set(re.findall(r"asked of (\w+)", page(signed_in("lea").get("/decided?by=me")))) == {"lea"}
    assert set(re.findall(r"asked of (\w+)", page(signed_in("ana").get("/decided?by=all")))) == {"ana"}
    assert "Block overturned" in text_of(page(signed_in("ana").get("/decided")))


# --- Pages for what goes wrong ----------------------------------------------------------------------------------------
def test_a_fault_of_the_server_is_a_page_of_ours_that_says_nothing_of_it(
    signed_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("patient Smith")

    client = signed_in("ana")
    client.raise_request_exception = False
    monkeypatch.setattr("guardreview.review.queue.queue_page", broken)
    response = client.get("/")
    assert response.status_code == 500
    assert "Something broke" in page(response)
    assert "Smith" not in page(response)


def test_a_request_for_another_host_is_a_page_of_ours(client: Client) -> None:
    response = client.get("/sign-in", headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert "Not understood" in page(response)


@pytest.mark.parametrize(
    ("cookie", "attribute"), [("dark", ' data-theme="dark"'), ("light", ' data-theme="light"'), ('"><x', "")]
)
def test_the_chosen_theme_is_in_the_page_before_it_is_drawn(cookie: str, attribute: str, client: Client) -> None:
    client.cookies["theme"] = cookie
    assert f'<html lang="en"{attribute}>' in page(client.get("/sign-in"))
