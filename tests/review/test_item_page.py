"""What a pharmacist reads before deciding: masked until revealed, no blind verdict, nothing that others said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from classifiers.result import ClassifierResult, Evidence, Layer, Severity
from guardreview.core.models import AuditEvent, User
from guardreview.review.fact_cards import FactCard, fact_cards, rules_in, without_notes
from guardreview.review.leases import item_lease, item_skip
from guardreview.review.services import item_reopen, review_undo
from guardreview.verdicts.models import Exchange, ReviewItem, Verdict
from tests import scenes
from tests.scenes import say

SignIn = Callable[[str], Client]
PHONE, EMAIL = "415-555-2671", "bob.smith@gmail.com"
QUERY = f"how much tylenol? my phone number is {PHONE}"
ANSWER = f"Take up to 8 grams a day. Call {PHONE} or write to {EMAIL}; st\u200bop\r\nwor\u202erying 😀 & <b>rest</b>."
PAYLOADS = ["<script>alert(1)</script>", '"><svg/onload=alert(1)>', "</textarea></div><iframe srcdoc='x'>"]


def results(answer: str = ANSWER) -> list[ClassifierResult]:
    judged = scenes.judge(
        answer, f"8 grams a day. Call {PHONE}", "harmful_medical:dangerous_dosage", reason=f"It sends the patient to {PHONE}."
    )
    return [scenes.rules(answer), scenes.finetuned(0.87, dangerous_dosage=0.74), judged]


@pytest.fixture
def item(db: None) -> ReviewItem:
    scenes.item("hello", f"Hi! We have {EMAIL} on file.", age=20, conversation_id="c-1", decision="hold", category="undecided")
    made = scenes.item(QUERY, ANSWER, results=results(), conversation_id="c-1")
    Verdict.objects.filter(pk=made.exchange_id).update(reason=f"The judge: it sends the patient to {PHONE}.")
    return made


def read(client: Client, item: ReviewItem) -> str:
    response = client.get(f"/items/{item.pk}")
    assert response.status_code == 200
    return str(response.content.decode())


def words(source: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", source)).split())


# --- Personal data ----------------------------------------------------------------------------------------------------
def test_personal_data_is_nowhere_in_the_page_before_it_is_revealed(signed_in: SignIn, item: ReviewItem) -> None:
    source = read(signed_in("ana"), item)
    assert PHONE not in source
    assert EMAIL not in source
    said = words(source)
    assert "my phone number is phone number" in said
    assert "We have e-mail address on file." in said
    assert "“" not in said
    assert "8 grams a day. Call [phone number]" in said
    assert said.count("sends the patient to phone number .") == 2  # the verdict's reason and the judge's
    assert "Personal data is masked. Reveal" in said


def test_revealing_takes_a_reason_shows_it_for_a_while_and_is_recorded(signed_in: SignIn, item: ReviewItem) -> None:
    ana = signed_in("ana")
    response = ana.post(f"/items/{item.pk}/reveal", {"reason": f"  To call   {PHONE} back "})
    assert response.headers["Location"] == f"/items/{item.pk}"
    source = read(ana, item)
    assert source.count(PHONE) >= 4
    assert EMAIL in source
    assert "Personal data is shown to you until" in words(source)
    event = AuditEvent.objects.get(action="item.reveal")
    assert (event.actor, event.target) == ("ana", f"exchange:{item.exchange_id}")
    assert event.data == {"reason": "To call [phone number] back"}
    assert "Ana Ruiz revealed personal data" in words(source)


def test_what_one_session_reveals_of_one_item_stays_there(signed_in: SignIn, item: ReviewItem) -> None:
    ana, other = signed_in("ana"), scenes.item(QUERY, ANSWER)
    ana.post(f"/items/{item.pk}/reveal", {"reason": "The advice depends on it"})
    assert PHONE not in read(ana, other)
    assert PHONE not in read(signed_in("ana"), item)
    assert PHONE not in read(signed_in("lea"), item)


def test_it_is_masked_again_after_ten_minutes_and_on_request(signed_in: SignIn, item: ReviewItem) -> None:
    ana = signed_in("ana")
    ana.post(f"/items/{item.pk}/reveal", {"reason": "The advice depends on it"})
    session = ana.session
    until = timezone.datetime.fromisoformat(session["revealed"][str(item.pk)])  # type: ignore[attr-defined]
    assert timedelta(minutes=9) < until - timezone.now() <= timedelta(minutes=10)
    session["revealed"] = {str(item.pk): (timezone.now() - timedelta(seconds=1)).isoformat()}
    session.save()
    assert PHONE not in read(ana, item)
    ana.post(f"/items/{item.pk}/reveal", {"reason": "The advice depends on it"})
    assert PHONE in read(ana, item)
    assert ana.post(f"/items/{item.pk}/conceal").status_code == 302
    assert PHONE not in read(ana, item)


def test_a_page_that_masks_itself_again_takes_no_item(signed_in: SignIn, item: ReviewItem) -> None:
    ana = signed_in("ana")
    ana.post(f"/items/{item.pk}/reveal", {"reason": "The advice depends on it"})
    assert 'id="revealed"' in read(ana, item)
    ReviewItem.objects.update(leased_by=None, lease_token=None, lease_expires_at=None)
    ana.get(f"/items/{item.pk}", headers={"HX-Request": "true", "HX-Trigger": "revealed"})
    item.refresh_from_db()
    assert item.leased_by is None


@pytest.mark.parametrize("reason", ["", "   ", "x" * 201])
def test_without_a_reason_nothing_is_revealed(reason: str, signed_in: SignIn, item: ReviewItem) -> None:
    response = signed_in("ana").post(f"/items/{item.pk}/reveal", {"reason": reason})
    assert response.status_code == 422
    assert PHONE not in response.content.decode()
    assert "Say why, in at most 200 characters" in response.content.decode()
    assert not AuditEvent.objects.filter(action="item.reveal").exists()


@pytest.mark.parametrize(("name", "status"), [("ana", 302), ("lea", 302), ("ida", 403), ("adam", 403)])
@pytest.mark.parametrize("act", ["reveal", "conceal"])
def test_only_who_decides_may_reveal(act: str, name: str, status: int, signed_in: SignIn, item: ReviewItem) -> None:
    client = signed_in(name)
    assert client.post(f"/items/{item.pk}/{act}", {"reason": "why"}).status_code == status
    assert client.get(f"/items/{item.pk}/{act}").status_code == 405
    if name == "ida":
        source = read(client, item)
        assert "Personal data is masked." in words(source)
        assert "/reveal" not in source
        assert PHONE not in source


def test_a_page_without_personal_data_speaks_of_none(signed_in: SignIn) -> None:
    assert "Personal data is" not in words(read(signed_in("ana"), scenes.item(results=[scenes.finetuned(0.9)])))


# --- Evidence ---------------------------------------------------------------------------------------------------------
class Pieces(HTMLParser):
    """The pieces of the answer as a script finds them: (data-start, data-end or None, text)."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[int, int | None, str]] = []
        self.loose = ""
        self._open: list[tuple[int, int | None] | None] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        start, end = given.get("data-start"), given.get("data-end")
        self._open.append((int(start), int(end) if end else None) if start is not None else None)
        if start is not None:
            self.found.append((int(start), int(end) if end else None, ""))

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] is not None:
            start, end, text = self.found.pop()
            self.found.append((start, end, text + data))
        else:
            self.loose += data


def test_every_piece_of_the_answer_says_where_it_stands_in_it(signed_in: SignIn, item: ReviewItem) -> None:
    source = read(signed_in("ana"), item)
    inner = re.search(r"data-response>(.*?)</div>", source, flags=re.DOTALL)
    assert inner
    shown = Pieces(inner[1])
    assert shown.loose == ""
    at = 0
    for start, end, text in shown.found:
        assert start == at
        at = start + len(text) if end is None else end
        if end is None:
            assert ANSWER[start:at] == text
    assert at == len(ANSWER)
    atomic = [(ANSWER[start:end], text) for start, end, text in shown.found if end is not None]
    assert atomic == [
        (PHONE, "phone number"), (EMAIL, "e-mail address"), ("\u200b", "ZWSP"), ("\r\n", "\n"), ("\u202e", "RLO"),
    ]  # fmt: skip


def test_a_finding_without_words_says_so(signed_in: SignIn) -> None:
    found = ClassifierResult(
        False, "harmful_medical", "Matched rules: not_read_to_the_end, rule-x", 0.5, layer=Layer.RULES, escalate=True,
        evidence=(Evidence(0, 4, "Just", "rule-x", "misinformation"),), severity=Severity.CRITICAL,
    )  # fmt: skip
    judged = ClassifierResult(
        False, "misinformation", "It is wrong.", 0.9, layer=Layer.JUDGE, categories=("misinformation",), scores={"unsafe": 0.9}
    )
    said = words(read(signed_in("ana"), scenes.item(results=[found, judged])))
    assert "Just Misinformation · rule-x Points at no particular words not_read_to_the_end" in said
    assert "Points at no particular words Misinformation · judge" in said
    assert "2 matches, for the judge to weigh" in said


def test_a_drug_fact_is_a_card_with_what_was_read_its_limit_and_its_source(signed_in: SignIn) -> None:
    answer = "Take up to 8 grams of Tylenol a day."
    source = read(signed_in("ana"), scenes.item("how many?", answer, results=[scenes.rules(answer)]))
    said = words(source)
    assert "Dose past its limit acetaminophen Read 8000 mg a day Limit 4000 mg a day Source Medscape" in said
    assert 'rel="noopener noreferrer">Medscape' in source


@pytest.mark.parametrize(
    ("response", "kind", "drugs", "limit", "located"),
    [
        ("Yes, ibuprofen and warfarin are fine together.", "Pair that clashes", "ibuprofen warfarin", "serious bleeding", True),
        ("Take methotrexate every day.", "Wrong interval", "methotrexate", "once weekly, not daily", True),
        ("Yes, isotretinoin is fine in pregnancy.", "Must not have it", "isotretinoin pregnancy", "severe birth defects", True),
        ("You can just stop warfarin today.", "Stopping is dangerous", "warfarin", "stroke, blood clot", False),
    ],
)
def test_cards_are_read_from_what_the_rules_layer_says(response: str, kind: str, drugs: str, limit: str, located: bool) -> None:
    (card,) = fact_cards(scenes.rules(response).reason)
    assert (card.kind, card.limit, bool(card.url)) == (kind, limit, located)
    assert set(card.drug.split(" with ")) == set(drugs.split())


def test_a_reasons_rules_are_told_apart_whatever_brackets_and_commas_their_notes_hold() -> None:
    reason = "Matched rules: a, drug_facts.dose (x 5 mg a day, limit 4; P (Q), T, b, c (https://x.example/a)), z-1.b"
    assert rules_in(reason) == {
        "a": "", "drug_facts.dose": "x 5 mg a day, limit 4; P (Q), T, b, c (https://x.example/a)", "z-1.b": "",
    }  # fmt: skip
    assert without_notes(reason) == "Matched rules: a, drug_facts.dose, z-1.b"
    assert fact_cards(reason) == [
        FactCard(
            "drug_facts.dose", "Dose past its limit", "x", "5 mg a day", "4 mg a day", "P (Q), T, b, c", "https://x.example/a"
        )
    ]


@pytest.mark.parametrize(
    "reason", ["", "Matched rule: ", "drug_facts.dose (", "Matched rules: drug_facts.dose (x, (((", ": (", "a: b, "]
)
def test_a_broken_reason_breaks_nothing(reason: str) -> None:
    assert all(isinstance(card, FactCard) for card in fact_cards(reason))
    assert isinstance(without_notes(reason), str)


# --- Blind review -----------------------------------------------------------------------------------------------------
TELLING = [
    "dangerous", "dosage", "critical", "blocked", "held", "rules", "judge", "finetuned", "classifier", "confidence", "8000",
    "0.87", "matched", "finding", "suggested", "due in", "overdue", "policy", "/similar", "under-review block", "kind-",
    "decision-block",
]  # fmt: skip


def blind(item: ReviewItem) -> ReviewItem:
    ReviewItem.objects.filter(pk=item.pk).update(blind=True)
    item.refresh_from_db()
    return item


def reading_part(source: str) -> str:
    """The page's title, its head, and the panes; without the decision form and the guidelines, which name every category."""
    main = source[source.index('<main id="main"') : source.index("</main>")]
    main = re.sub(r'<section class="pane decision".*?</section>', "", main, flags=re.DOTALL)
    main = re.sub(r'<section class="guides".*?</section>', "", main, flags=re.DOTALL)
    title = re.search(r"<title>.*?</title>", source)
    assert title
    return title[0] + main


@pytest.mark.parametrize("name", ["ana", "lea", "ida"])
def test_nothing_on_a_blind_page_tells_the_verdict(name: str, signed_in: SignIn, item: ReviewItem) -> None:
    source = reading_part(read(signed_in(name), blind(item)))
    assert [word for word in TELLING if word in source.lower()] == []
    assert "What the cascade said is shown once you have decided" in source
    assert "Blind review" in source


def test_a_blind_page_tells_the_moment_that_the_queue_tells_and_no_other(signed_in: SignIn, item: ReviewItem) -> None:
    """What was drawn from a shadow is older than its item, and was always allowed."""
    asked, drawn = timezone.now() - timedelta(days=3), timezone.now() - timedelta(minutes=7)
    Exchange.objects.filter(pk=item.exchange_id).update(created_at=asked)
    Exchange.objects.exclude(pk=item.exchange_id).update(created_at=asked - timedelta(minutes=2))
    ReviewItem.objects.filter(pk=item.pk).update(created_at=drawn)
    times = r'<time datetime="([^"]+)"'
    source = read(signed_in("ana"), blind(item))
    assert "We have" in source  # the earlier turn
    assert set(re.findall(times, source)) == {drawn.astimezone(timezone.get_current_timezone()).isoformat()}
    assert "7 min ago" in source
    ReviewItem.objects.filter(pk=item.pk).update(blind=False)
    assert "3 d 0 h ago" in read(signed_in("ana"), item)


def test_a_blind_page_is_the_same_whatever_was_said(signed_in: SignIn) -> None:
    blocked = scenes.item(QUERY, ANSWER, results=results())
    audited = scenes.item(
        QUERY,
        ANSWER,
        results=[scenes.finetuned(0.02)],
        decision="allow",
        category="safe",
        severity="minor",
        kind="audit",
        due_in=240,
    )

    def shown(made: ReviewItem) -> str:
        source = reading_part(read(signed_in("ida"), blind(made)))
        return re.sub(r"[0-9a-f-]{36}", "-", source).replace(f"/items/{made.pk}", "/items/0")

    ReviewItem.objects.update(created_at=timezone.now())
    type(blocked.exchange).objects.update(created_at=timezone.now() - timedelta(minutes=3))
    assert re.sub(r'datetime="[^"]+" title="[^"]+"', "", shown(blocked)) == re.sub(
        r'datetime="[^"]+" title="[^"]+"', "", shown(audited)
    )


def test_an_earlier_turns_decision_is_not_told_where_it_is_itself_reviewed_blind(signed_in: SignIn, item: ReviewItem) -> None:
    assert "decision-hold" in read(signed_in("ana"), item)
    ReviewItem.objects.exclude(pk=item.pk).update(blind=True)
    assert "decision-hold" not in read(signed_in("ana"), item)


def test_once_decided_everything_is_shown(signed_in: SignIn, people: dict[str, User], item: ReviewItem) -> None:
    say(blind(item), people["ana"], "unsafe")
    said = words(read(signed_in("ana"), item))
    assert "Blocked" in said
    assert "P(unsafe) 0.87" in said
    assert "Ana Ruiz said unsafe" in said


def test_a_decision_that_can_still_be_undone_does_not_open_the_verdict(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem, settings: Any
) -> None:
    settings.UNDO_S = 10
    review = say(blind(item), people["ana"])
    source = reading_part(read(signed_in("ana"), item))
    assert "and your decision can no longer be undone" in source
    assert [word for word in TELLING if word in source.lower()] == []
    review_undo(review=review, user=people["ana"])
    assert [word for word in TELLING if word in reading_part(read(signed_in("ana"), item)).lower()] == []


# --- What others said -------------------------------------------------------------------------------------------------
def test_the_second_pharmacist_reads_nothing_of_the_first(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem, settings: Any
) -> None:
    settings.SECOND_EYES = ("critical",)
    say(item, people["ana"], note="the renal dose, I think")
    for name in ("ben", "lea"):
        source = read(signed_in(name), item)
        assert "renal dose" not in source
        assert "Ana Ruiz" not in source
        assert "What they said is shown once you have decided." in source
        assert "overturned" not in source
    assert "This needs a second opinion: yours." in words(read(signed_in("ben"), item))
    assert "the renal dose, I think" in read(signed_in("ana"), item)
    assert "the renal dose, I think" in read(signed_in("ida"), item)
    say(item, people["ben"], "safe")
    assert "the renal dose, I think" in read(signed_in("ben"), item)


def test_who_adjudicates_reads_both_without_names(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem, settings: Any
) -> None:
    settings.SECOND_EYES = ("critical",)
    say(blind(item), people["ana"], note="fine by me")
    say(item, people["ben"], "unsafe", note=f"never, says {EMAIL}")
    page = read(signed_in("lea"), item)
    assert EMAIL not in page
    source = words(page)
    assert "First pharmacist said safe" in source
    assert "Second pharmacist said unsafe" in source
    assert "Ana Ruiz" not in source
    assert "P(unsafe) 0.87" in source
    assert "For a lead" in source


def test_the_history_has_skips_reopenings_what_was_undone_and_what_was_superseded(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem, settings: Any
) -> None:
    held = item_lease(item=item, user=people["ben"])
    assert held.lease_token is not None
    item_skip(item=held, user=people["ben"], token=held.lease_token)
    settings.UNDO_S = 10
    review_undo(review=say(item, people["ana"], note="too quick"), user=people["ana"])
    settings.UNDO_S = 0
    say(item, people["ana"], "unsafe", note=f"ask {EMAIL}", corrected_answer="At most 4 grams.")
    item_reopen(item=ReviewItem.objects.get(pk=item.pk), user=people["lea"])
    say(item, people["lea"], "safe")
    source = read(signed_in("lea"), item)
    found = re.search(r'<ol class="timeline">.*?</ol>', source, flags=re.DOTALL)
    assert found
    said = re.sub(r"\b(just now|\d+ (?:s|min) ago)\b", "-", words(found[0]))
    assert said == (
        "Came to the pharmacists - Ben Okafor skipped it - Ana Ruiz said safe - Taken back too quick "
        "Ana Ruiz said unsafe Critical - Dangerous dosage Settled it: one pharmacist, superseded since, block confirmed "
        "ask e-mail address Corrected answer At most 4 grams. "
        "Lea Vogt reopened it - Lea Vogt said safe - Settled it: one pharmacist, block overturned"
    )


def test_a_statement_that_another_took_back_is_nobodys_to_read(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem, settings: Any
) -> None:
    settings.UNDO_S = 10
    review_undo(review=say(item, people["ana"], note="too quick"), user=people["ana"])
    ReviewItem.objects.update(lease_expires_at=timezone.now())
    source = read(signed_in("ben"), item)
    assert "too quick" not in source
    assert "Ana Ruiz" not in source


# --- Inert, and quick -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_others_wrote_is_text_in_history_reason_and_cards(
    payload: str, signed_in: SignIn, people: dict[str, User], settings: Any
) -> None:
    settings.SECOND_EYES = ("critical",)
    answer = f"Take 8 grams of Tylenol a day. {payload}"
    ruled = scenes.rules(answer)
    reason = f"Matched rule: drug_facts.dose ({payload} 5 mg a day, limit 4; {payload} (https://x.example))"
    noted = ClassifierResult(False, "misinformation", reason, 0.9, layer=Layer.RULES, evidence=ruled.evidence)
    judged = scenes.judge(answer, "8 grams", "misinformation", reason=payload)
    made = scenes.item(payload, answer, results=[noted, judged], conversation_id=payload)
    say(made, people["ana"], note=payload)
    source = read(signed_in("ana"), made)
    assert payload not in source
    assert "<iframe" not in source
    assert "<svg/onload" not in source
    ana = signed_in("ana")
    ana.post(f"/items/{made.pk}/reveal", {"reason": payload})
    assert payload not in read(ana, made)


def test_a_source_is_linked_only_if_it_is_an_address_of_the_web() -> None:
    (card,) = fact_cards("Matched rule: drug_facts.dose (x 5 mg a day, limit 4; T (javascript:alert(1)))")
    assert (card.url, card.source) == ("", "")


def test_the_page_takes_the_same_few_queries_however_long_the_history(
    signed_in: SignIn, people: dict[str, User], item: ReviewItem
) -> None:
    ida = signed_in("ida")
    read(ida, item)
    with CaptureQueriesContext(connection) as few:
        read(ida, item)
    for name in ("ana", "ben", "lea"):
        held = item_lease(item=item, user=people[name])
        assert held.lease_token is not None
        item_skip(item=held, user=people[name], token=held.lease_token)
    say(item, people["ana"], note="fine")
    for _ in range(3):
        item_reopen(item=ReviewItem.objects.get(pk=item.pk), user=people["lea"])
        say(item, people["lea"], "unsafe")
    with CaptureQueriesContext(connection) as many:
        read(ida, item)
    assert len(many) == len(few) <= 17, json.dumps([query["sql"][:90] for query in many.captured_queries], indent=1)
