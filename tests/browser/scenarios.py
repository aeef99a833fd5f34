"""What the browser tests find in the database: `python -m tests.browser.scenarios NAME` empties it and makes one scenario.

It runs in a process of its own: Playwright's event loop and Django's ORM do not share a thread.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardreview.settings")
django.setup()

from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402

from guardreview.core.models import OutboxEvent, User  # noqa: E402
from guardreview.core.outbox import outbox_deliver  # noqa: E402
from guardreview.learning.models import TrainingRun  # noqa: E402
from guardreview.review.calibration import calibration_create  # noqa: E402
from guardreview.review.guidelines import guideline_change  # noqa: E402
from guardreview.review.leases import item_lease  # noqa: E402
from guardreview.review.models import Review  # noqa: E402
from guardreview.review.services import item_settle, review_create  # noqa: E402
from guardreview.verdicts.models import ReviewItem  # noqa: E402
from tests import insight_scenes, scenes, threshold_scenes  # noqa: E402

HOSTILE = (
    "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>"
    "<style>body { display: none }</style></div><form action=//evil.example><b>bold</b> st\u200bop wor\u202erying"
)


def three() -> dict[str, Any]:
    """Two blocked items and a held one."""
    scenes.people()
    first = scenes.item(due_in=-2, results=[scenes.rules("Just double your dose tonight; up to 8 grams a day is fine.")])
    second = scenes.item("is my statin safe?", "Yes, as prescribed.", due_in=4, category="misinformation", severity="major")
    third = scenes.item("may I?", "Ask us.", due_in=9, decision="hold", category="undecided", layer="judge")
    return {"items": [first.pk, second.pk, third.pk]}


def evidence() -> dict[str, Any]:
    """One item that all three layers have spoken on, of a conversation, with overlapping evidence and hostile text."""
    people = scenes.people()
    query = "how many extra strength tylenol can i take a day?"
    answer = f"Take up to 8 grams a day. Just double your dose tonight. You don't need to see a doctor.\n\n  {HOSTILE}"
    judged = scenes.judge(answer, "8 grams a day. Just double your dose", "harmful_medical:dangerous_dosage")
    model = scenes.finetuned(0.87, dangerous_dosage=0.74, red_flag_reassurance=0.41, self_medication=0.2, abrupt_stop=0.02)
    earlier = scenes.item("hi", HOSTILE, age=30, due_in=30, conversation_id="c-1", severity="minor")
    held = item_lease(item=earlier, user=people["lea"])
    assert held.lease_token is not None
    review_create(item=held, reviewer=people["lea"], token=held.lease_token, truth="safe", note=HOSTILE)
    item = scenes.item(query, answer, results=[scenes.rules(answer), model, judged], conversation_id="c-1")
    return {"item": item.pk, "decided": earlier.pk}


def personal() -> dict[str, Any]:
    """One item whose answer holds a telephone number, which a rule found."""
    scenes.people()
    answer = "Take two. Her cell phone is 415-555-2671, call her \U0001f600 tonight."
    return {"item": scenes.item("whom do I call?", answer, results=[scenes.rules(answer)]).pk}


def everything() -> dict[str, Any]:
    """Something on every page: a full queue, decisions of all kinds, labels, guidelines, doubts, models, training runs."""
    people = scenes.people()
    items = scenes.examples()
    for number, item in enumerate(items[-6:]):
        _decide(item, people[("ana", "ben", "lea")[number % 3]], ("unsafe", "safe", "unsure")[number % 3])
    item_lease(item=items[1], user=people["ben"])
    disputed, hidden = scenes.item(), scenes.item()
    for name, truth in (("ana", "safe"), ("ben", "unsafe")):
        _decide(disputed, people[name], truth)
    ReviewItem.objects.filter(pk=hidden.pk).update(blind=True)
    settled = ReviewItem.objects.get(pk=items[-6].pk)
    calibration_create(item=settled, user=people["lea"], explanation="The label's maximum is 4 g a day.")
    change: dict[str, Any] = {"text": "What a pharmacist would not say.", "why": "A case.", "look_again": True}
    guideline_change(category="misinformation", edited=0, user=people["lea"], **change)
    models = scenes.model_versions()
    TrainingRun.objects.create(status="succeeded", requested_by=people["adam"], labels_used=120, model_version=models[-1])
    TrainingRun.objects.create(status="running", requested_by=people["adam"], progress="embedding 610 train examples")
    return {
        "items": [item.pk for item in items[:-6]],
        "decided": items[-6].pk,
        "taken": items[1].pk,
        "disputed": disputed.pk,
        "hidden": hidden.pk,
    }


def _decide(item: ReviewItem, user: User, truth: str) -> None:
    harm = {"categories": ["misinformation"], "severity": "major"} if truth == "unsafe" else {}
    scenes.say(item, user, truth, note="As the label says.", **harm)
    item_settle(item_id=item.pk)


def ten() -> dict[str, Any]:
    """Ten items, blocked and held by turns, none of them critical."""
    scenes.people()
    kinds = [{"decision": "hold", "category": "undecided", "layer": "judge"}, {"category": "misinformation"}]
    return {"items": [scenes.item(f"question {n}?", "Yes.", due_in=n, severity="major", **kinds[n % 2]).pk for n in range(10)]}


ANSWER = "Take 🩹🩹 eight grams\u200b today.\r\nCall me on 555-867-5309 or write to jo.doe@example.com, then double it."


def emoji() -> dict[str, Any]:
    """An answer with characters outside of the basic plane, hidden ones, and personal data."""
    scenes.people()
    return {"item": scenes.item("how much?", ANSWER, severity="major").pk, "answer": ANSWER}


def blind() -> dict[str, Any]:
    """A blocked item of which the verdict is hidden."""
    scenes.people()
    item = scenes.item()
    ReviewItem.objects.filter(pk=item.pk).update(blind=True)
    return {"item": item.pk}


def settle() -> dict[str, Any]:
    """No decision can be undone any more."""
    OutboxEvent.objects.update(available_at=timezone.now())
    return {"settled": outbox_deliver()}


def another() -> dict[str, Any]:
    """One more urgent item, in what is there already."""
    return {"item": scenes.item("and now?", "Yes, double it.", due_in=-30).pk}


def expire() -> dict[str, Any]:
    """Every lease has run out."""
    ReviewItem.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    return {}


def state() -> dict[str, Any]:
    """Who holds what, and what was decided."""
    now = timezone.now()
    held = {
        item.pk: item.leased_by.username
        for item in ReviewItem.objects.select_related("leased_by")
        if item.leased_by and item.is_leased(now)
    }
    reviews = [
        {
            "item": r.item_id,
            "by": r.reviewer.username,
            "truth": r.truth,
            "categories": r.categories,
            "severity": r.severity,
            "note": r.note,
            "spans": r.spans,
            "undone": r.undone_at is not None,
        }
        for r in Review.objects.select_related("reviewer")
    ]
    return {"held": held, "reviews": reviews, "users": User.objects.count()}


def insight() -> dict[str, Any]:
    """Some weeks of work, for the figures."""
    return insight_scenes.some_weeks(scenes.people())


def thresholds() -> dict[str, Any]:
    """A month of scored answers, for the threshold pages; two administrators."""
    return threshold_scenes.month()


ADDING: dict[str, Callable[[], dict[str, Any]]] = {"another": another, "expire": expire, "settle": settle, "state": state}
FRESH: dict[str, Callable[[], dict[str, Any]]] = {
    "three": three,
    "ten": ten,
    "emoji": emoji,
    "blind": blind,
    "evidence": evidence,
    "personal": personal,
    "everything": everything,
    "insight": insight,
    "thresholds": thresholds,
}

if __name__ == "__main__":
    name = sys.argv[1]
    if name in FRESH:
        call_command("flush", interactive=False, verbosity=0)
    print(json.dumps({**ADDING, **FRESH}[name]()))
