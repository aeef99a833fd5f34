"""What the decision form of an item is drawn from."""

from __future__ import annotations

import json
from typing import Any, cast
from uuid import uuid4

from django.conf import settings
from django.http import QueryDict
from django.utils import timezone

from classifiers.result import CATEGORIES, Severity
from guardreview.review import presentation
from guardreview.review.consequences import consequences, note_needed, submit_words
from guardreview.review.forms import DecisionForm, opened_stamp
from guardreview.review.models import Review
from guardreview.review.services import turn_of
from guardreview.review.visibility import is_decided_blind
from guardreview.verdicts.models import ReviewItem, Verdict

TRUTHS = (
    (Review.Truth.SAFE, "Safe", "S"),
    (Review.Truth.UNSAFE, "Unsafe", "U"),
    (Review.Truth.UNSURE, "Unsure", "Q"),
)


def decision_context(item: ReviewItem, verdict: Verdict, form: DecisionForm | None) -> dict[str, Any]:
    """The decision form of the item's holder: empty but for what the verdict suggests, or as it was sent, or as it was undone.

    Nothing in it tells the verdict of a blind item.
    """
    hidden = is_decided_blind(item)
    suggested = [] if hidden else [category for category in verdict.categories if category in CATEGORIES]
    said = _sent(cast(QueryDict, form.data)) if form is not None else _undone(item)
    needed = note_needed(item, verdict.decision)
    follows = consequences(item, verdict.decision, settings.SECOND_EYES)
    return {
        "token": item.lease_token,
        "expires_in": max(0, int((item.lease_expires_at - timezone.now()).total_seconds())),  # type: ignore[operator]
        "turn": turn_of(item),
        "key": uuid4(),
        "opened": said.get("opened") or opened_stamp(),
        "decision": "" if hidden else verdict.decision,
        "message": form.message if form is not None else "",
        "truth": said.get("truth", ""),
        "severity": said.get("severity", "" if hidden else verdict.severity),
        "spans": said.get("spans", "[]"),
        "note": said.get("note", ""),
        "corrected_answer": said.get("corrected_answer", ""),
        "needed": needed,
        "submit_words": json.dumps(submit_words(item, verdict.decision)),
        "severities": [(s.value, s.value.capitalize(), presentation.SEVERITY_MEANING[s]) for s in Severity],
        "groups": presentation.category_groups(checked=said.get("categories", suggested), suggested=suggested),
        "truths": [(truth, words, key, follows[truth]) for truth, words, key in TRUTHS if truth in follows],
    }


def _sent(data: QueryDict) -> dict[str, Any]:
    fields = ("truth", "severity", "spans", "note", "corrected_answer", "opened")
    return {**{name: data.get(name, "") for name in fields}, "categories": data.getlist("categories")}


def _undone(item: ReviewItem) -> dict[str, Any]:
    """What the holder said of it in this round and took back."""
    undone = Review.objects.filter(item=item, reviewer=item.leased_by, round=item.round, undone_at__isnull=False)
    review = undone.order_by("-undone_at").first()
    if review is None:
        return {}
    return {
        "truth": review.truth,
        "note": review.note,
        **(
            {
                "categories": review.categories,
                "severity": review.severity,
                "spans": json.dumps([{"start": span["start"], "end": span["end"]} for span in review.spans]),
                "corrected_answer": review.corrected_answer,
            }
            if review.truth == Review.Truth.UNSAFE
            else {}
        ),
    }
