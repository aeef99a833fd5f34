"""Guidelines: what ships, how they change, how they are shown, and which past decisions a change puts in doubt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from classifiers.result import CATEGORIES
from guardreview.core.models import AuditEvent, User
from guardreview.review import doubts, guidelines, leases, services
from guardreview.review.guideline_text import Block, blocks, changes, covered_by, guideline_of, shipped
from guardreview.review.guidelines import GuidelineChanged, InvalidGuideline, guideline_change, guidelines_for
from guardreview.review.models import Doubt, Guideline, Label
from guardreview.verdicts.models import ReviewItem
from tests import scenes

SignIn = Callable[[str], Client]
DOSE = "harmful_medical:dangerous_dosage"
STOP = "harmful_medical:abrupt_stop"


def decide(item: ReviewItem, user: User, truth: str = "unsafe", category: str = DOSE) -> Label:
    held = leases.item_lease(item=item, user=user)
    assert held.lease_token is not None
    harm: dict[str, Any] = {"categories": [category], "severity": "critical"} if truth == "unsafe" else {}
    services.review_create(item=held, reviewer=user, token=held.lease_token, truth=truth, **harm)
    return Label.objects.get(exchange=item.exchange, is_current=True)


def change(user: User, category: str = DOSE, **fields: Any) -> tuple[Guideline, int]:
    edited = guidelines.guideline_current(category=category).version
    return guideline_change(category=category, user=user, **{"edited": edited, "text": "New.", "why": "A case.", **fields})


# --- What ships -------------------------------------------------------------------------------------------------------
def test_every_category_is_covered_by_a_guideline_that_ships() -> None:
    assert [category for category in CATEGORIES if not guideline_of(category)] == []
    assert {name for name in shipped() if name not in CATEGORIES} == set()
    assert set(covered_by("pii")) == {category for category in CATEGORIES if category.startswith("pii")}
    assert covered_by(DOSE) == [DOSE]
    assert guideline_of("undecided") == ""


@pytest.mark.parametrize("category", shipped())
def test_what_ships_is_short_and_says_what_counts_what_does_not_how_severe_and_an_example(category: str) -> None:
    text = shipped()[category]
    assert len(text.split()) <= 120
    for part in (
        "Counts: ",
        "Does not count:\n- ",
        "Severity:\n- critical: ",
        "\n- major: ",
        "\n- minor: ",
        "Unsafe: ",
        "Safe: ",
    ):
        assert part in text


# --- How it is shown --------------------------------------------------------------------------------------------------
def test_blank_lines_part_paragraphs_and_dashes_make_lists() -> None:
    assert blocks("One\ntwo\n\n- a\n- b\nafter\n\n\n- c\n") == [
        Block(["One", "two"]),
        Block(["a", "b"], is_list=True),
        Block(["after"]),
        Block(["c"], is_list=True),
    ]
    assert blocks("-5 mg\n-\n- ") == [Block(["-5 mg", "-"])]


@given(st.text(max_size=200))
def test_no_word_is_lost_on_the_way_to_the_page(text: str) -> None:
    shown = "".join("".join(line.split()) for block in blocks(text) for line in block.lines)
    points_off = "".join("".join((line[2:] if line.startswith("- ") else line).split()) for line in text.splitlines())
    assert shown == points_off


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_difference_holds_both_texts(before: str, after: str) -> None:
    found = changes(before, after)
    assert "".join(change.text for change in found if change.kind != "removed") == after
    assert "".join(change.text for change in found if change.kind != "added") == before


def test_a_difference_goes_by_words() -> None:
    found = [(change.kind, change.text) for change in changes("At most 4 g a day.", "At most 3 g a day.")]
    assert found == [("same", "At most "), ("removed", "4"), ("added", "3"), ("same", " g a day.")]


# --- Changing ---------------------------------------------------------------------------------------------------------
def test_versions_are_counted_from_the_shipped_one_and_never_edited(people: dict[str, User]) -> None:
    assert guidelines.guideline_current(category=DOSE).version == 0
    first, _ = change(people["lea"], text="First.\r\n\r\n- a  ", why=" The  case of\nmorphine. ")
    second, _ = change(people["lea"], text="Second.")
    assert (first.version, first.text, first.why, first.made_by) == (1, "First.\n\n- a", "The case of morphine.", people["lea"])
    assert second.version == 2
    history = guidelines.guideline_history(category=DOSE)
    assert [(guide.version, guide.text) for guide, _ in history[:2]] == [(2, "Second."), (1, "First.\n\n- a")]
    assert (history[2][0].version, history[2][0].text, history[2][1]) == (0, shipped()[DOSE], [])


def test_a_long_history_is_cut_and_still_says_what_the_last_shown_version_changed(
    people: dict[str, User], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guidelines, "SHOWN_VERSIONS", 2)
    for number in range(4):
        change(people["lea"], text=f"Text {number}.")
    history = guidelines.guideline_history(category=DOSE)
    assert [guide.version for guide, _ in history] == [4, 3]
    assert [change.text for change in history[1][1] if change.kind == "removed"] == ["1"]


@pytest.mark.parametrize(
    "said",
    [{"text": " \n "}, {"text": "x" * 4001}, {"why": "  "}, {"why": "x" * 501}, {"text": shipped()[DOSE]}, {"text": "a\x00b"}],
)
def test_an_incomplete_change_is_refused_and_nothing_is_stored(people: dict[str, User], said: dict[str, str]) -> None:
    with pytest.raises(InvalidGuideline):
        change(people["lea"], **said)
    assert not Guideline.objects.exists()


def test_of_two_who_change_the_same_version_the_second_is_told(people: dict[str, User]) -> None:
    change(people["lea"], text="Hers.")
    with pytest.raises(GuidelineChanged) as changed:
        change(people["lea"], text="Mine.", edited=0)
    assert (changed.value.current.version, changed.value.current.text) == (1, "Hers.")
    assert Guideline.objects.count() == 1


def test_a_change_is_in_the_audit_log_without_its_text(people: dict[str, User]) -> None:
    item = scenes.item()
    change(people["lea"], text="Patient X said so.", item=item)
    event = AuditEvent.objects.get(action="guideline.change")
    assert (event.actor, event.target) == ("lea", f"guideline:{DOSE}")
    assert event.data == {"version": 1, "item": item.pk, "doubts": 0}


def test_beside_an_item_the_suggested_come_first_all_in_one_query(people: dict[str, User]) -> None:
    change(people["lea"], category="pii", text="Numbers.")
    change(people["lea"], category="pii", text="Numbers and names.")
    with CaptureQueriesContext(connection) as queries:
        found = guidelines_for(["pii:email", "pii:phone", "undecided"])
    assert len(queries) == 1
    assert [(guide.category, guide.version, guide.text) for guide in found if guide.suggested] == [
        ("pii", 2, "Numbers and names.")
    ]
    assert found[0].category == "pii"
    assert len(found) == len(shipped())
    assert [guide for guide in guidelines_for(()) if guide.suggested] == []


# --- Doubts -----------------------------------------------------------------------------------------------------------
def test_a_change_puts_in_doubt_what_it_covers_if_the_lead_asks_for_it(people: dict[str, User]) -> None:
    by_label = decide(scenes.item(category="misinformation"), people["ana"], category=DOSE)
    by_item = decide(scenes.item(), people["ana"], "safe")
    decide(scenes.item(category="misinformation"), people["ana"], category="misinformation")
    scenes.item()  # not settled
    assert change(people["lea"])[1] == 0
    assert not Doubt.objects.exists()
    made, raised = change(people["lea"], text="Newer.", look_again=True)
    assert raised == 2
    assert set(Doubt.objects.values_list("label", "guideline")) == {(by_label.pk, made.pk), (by_item.pk, made.pk)}


def test_a_family_guideline_covers_its_subcategories_and_no_other_does(people: dict[str, User]) -> None:
    email = decide(scenes.item(category="misinformation"), people["ana"], category="pii:email")
    decide(scenes.item(category="misinformation"), people["ana"], category=STOP)
    assert list(doubts.labels_affected(category="pii")) == [email]
    assert not doubts.labels_affected(category="harmful_medical").exists()


def test_what_is_old_superseded_or_in_doubt_already_is_left_out(people: dict[str, User]) -> None:
    old, item = decide(scenes.item(), people["ana"]), scenes.item()
    Label.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=181))
    superseded = decide(item, people["ana"])
    services.item_reopen(item=item, user=people["ana"])
    current = decide(item, people["ana"])
    superseded.refresh_from_db()
    assert not superseded.is_current
    assert list(doubts.labels_affected(category=DOSE)) == [current]
    assert change(people["lea"], look_again=True)[1] == 1
    assert change(people["lea"], text="Again.", look_again=True)[1] == 0
    assert Doubt.objects.get().label == current


def test_at_most_so_many_come_into_doubt_the_newest(people: dict[str, User], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "MAX_DOUBTS", 2)
    made = [decide(scenes.item(), people["ana"]) for _ in range(3)]
    assert change(people["lea"], look_again=True)[1] == 2
    assert set(Doubt.objects.values_list("label", flat=True)) == {made[1].pk, made[2].pk}


def test_a_reopened_item_that_settles_resolves_its_doubts(people: dict[str, User]) -> None:
    item = scenes.item()
    label = decide(item, people["ana"])
    change(people["lea"], look_again=True)
    services.item_reopen(item=item, user=people["lea"])
    assert doubts.doubt_count() == 1
    decide(item, people["lea"], "safe")
    doubt = Doubt.objects.get(label=label)
    assert (doubt.resolved_by, doubts.doubt_count()) == (people["lea"], 0)
    assert doubt.resolved_at is not None


def test_what_is_still_right_is_said_once_and_changes_no_label(people: dict[str, User]) -> None:
    label = decide(scenes.item(), people["ana"])
    change(people["lea"], look_again=True)
    doubt = Doubt.objects.get()
    assert doubts.doubt_dismiss(doubt=doubt, user=people["lea"])
    assert not doubts.doubt_dismiss(doubt=doubt, user=people["lea"])
    label.refresh_from_db()
    assert (label.is_current, doubts.doubt_count()) == (True, 0)
    assert AuditEvent.objects.filter(action="doubt.dismiss", target=f"exchange:{label.exchange_id}").count() == 1


# --- Pages ------------------------------------------------------------------------------------------------------------
def body(response: Any) -> str:
    return str(response.content.decode())


def test_every_guideline_is_listed_and_opens(signed_in: SignIn, people: dict[str, User]) -> None:
    client = signed_in("ana")
    source = body(client.get("/guidelines"))
    for category in shipped():
        assert f'href="/guidelines/{category}"' in source
        assert client.get(f"/guidelines/{category}").status_code == 200
    assert client.get("/guidelines/pii:email").status_code == 404
    assert client.get("/guidelines/pii:email/edit").status_code == 403
    assert signed_in("lea").get("/guidelines/nothing/edit").status_code == 404


def test_what_was_written_is_shown_as_text(signed_in: SignIn, people: dict[str, User]) -> None:
    change(
        people["lea"], text="<b>x</b>\n\n- <img src=x onerror=alert(1)>\n- st\u200bop {{ 7 }}", why="<script>alert(1)</script>"
    )
    for address in (f"/guidelines/{DOSE}", "/guidelines", f"/guidelines/{DOSE}/edit"):
        source = body(signed_in("lea").get(address))
        assert "<b>x" not in source
        assert "<img src=x" not in source
        assert "<script>alert" not in source
    assert 'title="zero width space"' in body(signed_in("ana").get(f"/guidelines/{DOSE}"))


def test_a_lead_changes_a_guideline_and_sees_first_how_many_decisions_it_touches(
    signed_in: SignIn, people: dict[str, User]
) -> None:
    decide(scenes.item(), people["ana"])
    client = signed_in("lea")
    form = body(client.get(f"/guidelines/{DOSE}/edit"))
    assert "1 of the last 180 days" in form
    sent = {"text": "New.", "why": "A case.", "edited": "0", "look_again": "on"}
    response = client.post(f"/guidelines/{DOSE}/edit", sent)
    assert (response.status_code, response.headers["Location"]) == (302, f"/guidelines/{DOSE}")
    assert Doubt.objects.count() == 1
    shown = body(client.get(f"/guidelines/{DOSE}"))
    assert "A case." in shown
    assert "Lea Vogt" in shown


def test_what_is_refused_comes_back_as_it_was_typed(signed_in: SignIn, people: dict[str, User]) -> None:
    client = signed_in("lea")
    response = client.post(f"/guidelines/{DOSE}/edit", {"text": "Typed.", "why": "", "edited": "0", "look_again": "on"})
    assert response.status_code == 422
    assert "Typed." in body(response)
    for broken in ({}, {"text": "x", "why": "y", "edited": "nought"}, {"text": "x" * 20_000, "why": "y", "edited": "0"}):
        assert client.post(f"/guidelines/{DOSE}/edit", broken).status_code == 422
    assert not Guideline.objects.exists()


def test_a_change_meanwhile_is_shown_beside_ones_own_and_can_then_be_saved(signed_in: SignIn, people: dict[str, User]) -> None:
    change(people["lea"], text="Theirs in force.")
    client = signed_in("lea")
    response = client.post(f"/guidelines/{DOSE}/edit", {"text": "Mine in force.", "why": "Because.", "edited": "0"})
    source = body(response)
    assert response.status_code == 409
    assert "Theirs in force." in source
    assert "Mine in force." in source
    assert "Because." in source
    assert 'name="edited" value="1"' in source
    again = client.post(f"/guidelines/{DOSE}/edit", {"text": "Both in force.", "why": "Because.", "edited": "1"})
    assert again.status_code == 302
    assert guidelines.guideline_current(category=DOSE).text == "Both in force."


def test_a_change_remembers_the_disagreement_that_it_came_from_and_nothing_else(
    signed_in: SignIn, people: dict[str, User]
) -> None:
    item, plain = scenes.item(), scenes.item()
    ReviewItem.objects.filter(pk=item.pk).update(stage="adjudication", status="decided")
    client = signed_in("lea")
    assert f'name="item" value="{item.pk}"' in body(client.get(f"/guidelines/{DOSE}/edit?item={item.pk}"))
    for number, (sent, expected) in enumerate([(item.pk, item.pk), (plain.pk, None), (999999, None), ("", None)]):
        client.post(f"/guidelines/{DOSE}/edit", {"text": f"T{number}", "why": "w", "edited": str(number), "item": sent})
        assert Guideline.objects.get(version=number + 1).item_id == expected
    assert client.get(f"/guidelines/{DOSE}/edit?item=<x>").status_code == 200


def test_doubts_are_listed_masked_decided_anew_or_dismissed(signed_in: SignIn, people: dict[str, User]) -> None:
    first = scenes.item("My mail is jane.doe@example.com, may I?", "Yes.")
    second = scenes.item()
    for item in (first, second):
        decide(item, people["ana"])
    change(people["lea"], look_again=True)
    client = signed_in("lea")
    source = body(client.get("/guidelines/doubts"))
    assert "2 past decisions" in source
    assert "jane.doe@example.com" not in source
    event = AuditEvent.objects.get(action="doubts.view")
    assert set(event.data["exchanges"]) == {str(first.exchange_id), str(second.exchange_id)}
    one = Doubt.objects.get(label__exchange=first.exchange)
    other = Doubt.objects.get(label__exchange=second.exchange)
    client.post(f"/guidelines/doubts/{one.pk}/dismiss")
    response = client.post(f"/guidelines/doubts/{other.pk}/reopen")
    assert response.headers["Location"] == f"/items/{second.pk}"
    second.refresh_from_db()
    assert (second.round, second.leased_by) == (2, people["lea"])
    source = body(client.get("/guidelines/doubts"))
    assert "1 past decision " in source
    assert "being decided anew" in source
    assert client.post(f"/guidelines/doubts/{other.pk}/reopen").status_code == 302


def test_doubts_come_page_by_page(signed_in: SignIn, people: dict[str, User], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "PAGE_SIZE", 2)
    for _ in range(3):
        decide(scenes.item(), people["ana"])
    change(people["lea"], look_again=True)
    client = signed_in("lea")
    source = body(client.get("/guidelines/doubts"))
    last = Doubt.objects.order_by("pk")[1].pk
    assert f"?after={last}" in source
    assert body(client.get(f"/guidelines/doubts?after={last}")).count('class="doubt"') == 1
    assert client.get("/guidelines/doubts?after=x").status_code == 200


def test_the_list_of_doubts_costs_the_same_however_many(signed_in: SignIn, people: dict[str, User]) -> None:
    client = signed_in("lea")
    decide(scenes.item(), people["ana"])
    change(people["lea"], look_again=True)
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            client.get("/guidelines/doubts")
        counts.append(len(queries))
        for _ in range(4):
            decide(scenes.item(), people["ana"])
        change(people["lea"], text=f"Newer than {len(counts)}.", look_again=True)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", ["ana", "ida", "adam"])
def test_only_a_lead_changes_a_guideline(name: str, signed_in: SignIn, people: dict[str, User]) -> None:
    response = signed_in(name).post(f"/guidelines/{DOSE}/edit", {"text": "New.", "why": "A case.", "edited": "0"})
    assert (response.status_code, Guideline.objects.count()) == (403, 0)


def test_a_forged_change_is_refused(people: dict[str, User]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(people["lea"], backend="django.contrib.auth.backends.ModelBackend")
    response = client.post(f"/guidelines/{DOSE}/edit", {"text": "New.", "why": "A case.", "edited": "0"})
    assert (response.status_code, Guideline.objects.count()) == (403, 0)


def test_beside_a_decision_the_suggested_guideline_is_open_and_on_a_blind_item_none_is(
    signed_in: SignIn, people: dict[str, User]
) -> None:
    item = scenes.item()
    opened = '<details class="guide" open>'
    source = body(signed_in("ana").get(f"/items/{item.pk}"))
    assert source.count(opened) == 1
    assert source.count("Does not count:") == len(shipped())
    blind = scenes.item()
    ReviewItem.objects.filter(pk=blind.pk).update(blind=True)
    source = body(signed_in("ben").get(f"/items/{blind.pk}"))
    assert source.count(opened) == 0
    assert source.count("Does not count:") == len(shipped())
    other = scenes.item(category="legal_advice", severity="minor")
    ReviewItem.objects.filter(pk=other.pk).update(blind=True)

    def guides(source: str) -> str:
        return source[source.index('class="guides"') : source.index("</section>", source.index('class="guides"'))]

    assert guides(source) == guides(body(signed_in("ben").get(f"/items/{other.pk}")))


def test_what_a_line_leads_with_is_set_apart() -> None:
    (paragraph, points) = blocks("Counts: a dose\nat 8:30\n\n- critical: lasting harm\n- no lead")
    assert paragraph.parts == [("Counts:", " a dose"), ("", "at 8:30")]
    assert points.parts == [("critical:", " lasting harm"), ("", "no lead")]
