"""The pages of thresholds and policies: what they show, what an address proposes, and who may make it serve."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.http import QueryDict
from django.test import Client
from django.utils import timezone

from guardreview.core.models import AuditEvent, User
from guardreview.learning.models import PolicyChange
from guardreview.learning.policy_changes import change_propose, policy_fields
from guardreview.learning.threshold_state import read_state
from guardreview.verdicts.models import Exchange, Policy, ReviewItem
from tests import threshold_scenes

BACKEND = "django.contrib.auth.backends.ModelBackend"
LOOSER = "state=1&unsafe.allow_below=0.3&unsafe.block_at=0.95&default.allow_below=1&default.block_at=1" + "".join(
    f"&layers={layer}" for layer in ("rules", "finetuned", "judge")
)
LOOSER += "&judge_min_confidence=0.7&judge_model=&days=30"
STRICTER = LOOSER.replace("0.3", "0.05").replace("0.95", "0.9")


def text_of(response: Any) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def signed_in(person: User) -> Client:
    client = Client()
    client.force_login(person, backend=BACKEND)
    return client


@pytest.fixture
def month(db: None) -> dict[str, str]:
    return threshold_scenes.month(answers=300, settled=120)


@pytest.fixture
def adam(month: dict[str, str]) -> Client:
    return signed_in(User.objects.get(username="adam"))


@pytest.fixture
def bea(month: dict[str, str]) -> Client:
    return signed_in(User.objects.get(username="bea"))


def test_without_a_proposal_nothing_changes(adam: Client) -> None:
    words = text_of(adam.get("/learning/thresholds"))
    assert "Nothing would have changed for any of 300 answers." in words
    assert "What differs" not in words
    assert re.search(r"\d+ settled answers scored by ft-0123456789ab", words)


def test_an_address_holds_a_proposal_with_all_that_it_would_change(adam: Client) -> None:
    page = adam.get(f"/learning/thresholds?{LOOSER}")
    words = text_of(page)
    assert "Unsafe as a whole: allow below 0.119628 → to 0.300 loosens" in words
    assert "The guarantee no longer holds" in words
    found = page.context["found"]
    assert found.rows == 300
    assert found.changed > 0
    assert text_of(adam.get(f"/learning/thresholds/what-if?{LOOSER}")) in words
    again = read_state(QueryDict(page.context["state"].query), Policy.objects.get())
    assert again.fields == page.context["state"].fields


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("unsafe.allow_below=0.97", "may not be above"),
        ("unsafe.allow_below=nan", "a number from 0 to 1"),
        ("unsafe.block_at=1.5", "a number from 0 to 1"),
        ("judge_min_confidence=x", "a number from 0 to 1"),
    ],
)
def test_what_cannot_be_meant_says_why_and_is_not_proposed(adam: Client, change: str, problem: str) -> None:
    assert problem in text_of(adam.get(f"/learning/thresholds?{LOOSER}&{change}"))
    answer = adam.post("/learning/policies/propose", {"state": f"{LOOSER}&{change}", "reason": "r"}, follow=True)
    assert problem in text_of(answer)
    assert Policy.objects.count() == 1


def test_a_category_gets_bounds_of_its_own_and_loses_them(adam: Client) -> None:
    dose = "harmful_medical:dangerous_dosage"
    state = adam.get(f"/learning/thresholds?{LOOSER}&add={dose}").context["state"]
    assert [row.key for row in state.rows] == ["unsafe", dose, "default"]
    assert (state.rows[1].allow_below, state.rows[1].block_at) == ("1", "1")
    less = adam.get(f"/learning/thresholds?{state.query}&remove={dose}").context["state"]
    assert [row.key for row in less.rows] == ["unsafe", "default"]
    odd = adam.get(f"/learning/thresholds?{LOOSER}&add=nonsense&remove=default").context["state"]
    assert [row.key for row in odd.rows] == ["unsafe", "default"]


def test_two_administrators_loosen_one_after_the_other(adam: Client, bea: Client) -> None:
    told = adam.post("/learning/policies/propose", {"state": LOOSER, "when": "now", "reason": ""}, follow=True)
    assert "Say why" in text_of(told)
    page = adam.post("/learning/policies/propose", {"state": LOOSER, "when": "now", "reason": "too many wait"}, follow=True)
    where = page.redirect_chain[-1][0]
    assert "another administrator must look at it" in text_of(page)
    assert "another administrator" in text_of(adam.post(f"{where}/decide", {"act": "approve"}, follow=True))
    assert not PolicyChange.objects.get().policy.is_active
    seen = text_of(bea.get(where))
    assert "The guarantee does not hold" in seen
    assert "newly allowed" in seen
    assert "decides from the next exchange on" in text_of(bea.post(f"{where}/decide", {"act": "approve"}, follow=True))
    words = text_of(adam.get("/learning/policies"))
    assert "by Adam Stone, approved by Bea Lind" in words
    assert f"The guarantee does not hold under {PolicyChange.objects.get().policy}" in words


def test_a_single_administrator_is_warned_for_as_long_as_it_serves(adam: Client) -> None:
    User.objects.filter(username="bea").update(is_active=False)
    adam.post("/learning/policies/propose", {"state": LOOSER.replace("0.3", "0.1199"), "reason": "I judge it right"})
    alone = PolicyChange.objects.get().policy
    for address in ("/learning/thresholds", "/learning/policies", f"/learning/policies/{alone.pk}"):
        words = text_of(adam.get(address))
        assert f"Adam Stone loosened {alone} alone on" in words
        assert "Reason: I judge it right" in words
    adam.post("/learning/policies/propose", {"state": STRICTER})
    assert "alone" not in text_of(adam.get(f"/learning/policies/{Policy.objects.latest('pk').pk}"))


def test_a_time_to_come_schedules_and_one_that_has_passed_is_refused(adam: Client) -> None:
    past = {"state": STRICTER, "when": "later", "apply_at": "2020-01-01T10:00"}
    for moment in ("2020-01-01T10:00", "", "nonsense", "2026-02-31T10:00"):
        assert "still to come" in text_of(adam.post("/learning/policies/propose", {**past, "apply_at": moment}, follow=True))
    later = timezone.localtime().replace(year=timezone.now().year + 1, day=1).strftime("%Y-%m-%dT%H:%M")
    assert "is scheduled" in text_of(adam.post("/learning/policies/propose", {**past, "apply_at": later}, follow=True))
    change = PolicyChange.objects.get()
    page = adam.post(f"/learning/policies/{change.policy_id}/decide", {"act": "reject", "answer": "not yet"}, follow=True)
    assert "Rejected by Adam Stone: not yet" in text_of(page)


def test_a_policy_in_the_shadow_shows_what_it_would_do_with_links(adam: Client) -> None:
    change = change_propose(
        actor=User.objects.get(username="adam"),
        fields={**policy_fields(Policy.objects.get()), "judge_min_confidence": 0.95},
        shadow=True,
    )
    PolicyChange.objects.filter(pk=change.pk).update(created_at=timezone.now() - timezone.timedelta(days=30))
    page = adam.get(f"/learning/policies/{change.policy_id}")
    words = text_of(page)
    assert f"Since it is tried, beside {change.replaces}" in words
    assert page.context["found"].changed > 0
    assert "/learning/thresholds/answers/" in page.content.decode()
    assert "Propose to serve" in words


def example_of(client: Client) -> str:
    """An answer that LOOSER would treat otherwise."""
    groups = client.get(f"/learning/thresholds?{LOOSER}").context["examples"]
    return str(groups[0].rows[0][0].exchange)


def test_only_an_answer_that_the_proposal_treats_otherwise_can_be_opened(month: dict[str, str], adam: Client) -> None:
    key = example_of(adam)
    kept = Exchange.objects.filter(layer_results__layer="finetuned", layer_results__scores__unsafe__lt=0.05).first()
    assert kept is not None
    refused = [
        f"{key}",  # nothing is proposed
        f"{key}?policy={Policy.objects.get(is_active=True).pk}",
        f"{key}?policy=999999",
        f"{key}?policy=-1",
        f"{key}?{LOOSER.replace('0.3', '0.97')}",  # cannot be meant
        f"{kept.pk}?{LOOSER}",
    ]
    for address in refused:
        assert adam.get(f"/learning/thresholds/answers/{address}").status_code == 404, address
    assert not AuditEvent.objects.filter(action="policy.example").exists()
    assert adam.get(f"/learning/thresholds/answers/{key}?{LOOSER}").status_code == 200


def test_every_example_that_is_shown_can_be_opened(month: dict[str, str], adam: Client) -> None:
    adam.post("/learning/policies/propose", {"state": LOOSER, "when": "shadow", "reason": "r"})
    change = PolicyChange.objects.get()
    PolicyChange.objects.update(created_at=timezone.now() - timezone.timedelta(days=30))
    for page in (f"/learning/thresholds?{LOOSER}", f"/learning/thresholds?{STRICTER}", f"/learning/policies/{change.policy_id}"):
        links = re.findall(r'href="(/learning/thresholds/answers/[^"]+)"', unescape(adam.get(page).content.decode()))
        assert links
        assert {adam.get(link).status_code for link in links} == {200}
    assert f'href="/learning/policies/{change.policy_id}"' in adam.get(links[0]).content.decode()


def test_a_lead_is_told_the_day_of_an_example_and_nothing_of_a_blind_one(month: dict[str, str], adam: Client) -> None:
    key = example_of(adam)
    item, _ = ReviewItem.objects.update_or_create(
        exchange_id=key,
        defaults={
            "kind": "blocked",
            "status": "open",
            "blind": True,
            "severity": "major",
            "category": "-",
            "due_at": timezone.now(),
        },
    )
    lead = signed_in(User.objects.get(username="lea"))

    def shown(client: Client) -> tuple[set[str], str]:
        page = client.get(f"/learning/thresholds/what-if?{LOOSER}")
        keys = {str(each.exchange) for group in page.context["examples"] for each, *_ in group.rows}
        return keys, page.content.decode()

    keys, page = shown(lead)
    assert keys
    assert key not in keys
    assert set(re.findall(r'<time datetime="([^"]+)"', page)) == set(re.findall(r'<time datetime="(\d{4}-\d\d-\d\d)"', page))
    assert not re.search(r"<time[^>]*>[^<]*:", page)
    assert key in shown(adam)[0]
    item.status = "decided"
    item.save()
    assert key in shown(lead)[0]


def test_an_answer_is_read_masked_and_that_is_recorded(month: dict[str, str], adam: Client) -> None:
    key = example_of(adam)
    Exchange.objects.filter(pk=key).update(response="Call 415-555-2671 tonight, or write to jo@example.org.")
    page = adam.get(f"/learning/thresholds/answers/{key}?{LOOSER}")
    assert "jo@example.org" not in page.content.decode()
    assert AuditEvent.objects.get(action="policy.example").target == f"exchange:{key}"
    back = urlsplit(re.search(r'href="(/learning/thresholds\?[^"]+)"', unescape(page.content.decode()))[1])  # type: ignore[index]
    assert parse_qs(back.query)["unsafe.allow_below"] == ["0.3"]


def test_readers_look_and_only_administrators_change(month: dict[str, str]) -> None:
    lead, pharmacist = (signed_in(User.objects.get(username=name)) for name in ("lea", "ana"))
    one = f"/learning/policies/{Policy.objects.get().pk}"
    for address in ("/learning/thresholds", "/learning/thresholds/what-if", "/learning/policies", one):
        assert (lead.get(address).status_code, pharmacist.get(address).status_code) == (200, 403)
    assert "Let it serve" not in text_of(lead.get("/learning/thresholds"))
    assert "thresholds/answers" not in lead.get(f"/learning/thresholds?{LOOSER}").content.decode()
    assert lead.get(f"/learning/thresholds/answers/{month['answer']}").status_code == 403
    for address in ("/learning/policies/propose", f"{one}/decide"):
        assert lead.post(address, {"state": STRICTER, "act": "restore"}).status_code == 403
    assert Policy.objects.count() == 1
