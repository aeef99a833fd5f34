"""What reviewers send: filters of the queue, and a decision."""

from __future__ import annotations

import time
from typing import Any

from django import forms
from django.core import signing

from classifiers.result import CATEGORIES, Severity
from guardreview.review.models import Review
from guardreview.review.queue import QueueFilter
from guardreview.verdicts.models import ReviewItem, choices

OPENED_SALT = "guardreview.review.opened"


class QueueFilterForm(forms.Form):
    """The queue's filters as they stand in its address. What is not known does not filter."""

    severity = forms.ChoiceField(choices=choices(Severity), required=False)
    kind = forms.ChoiceField(choices=ReviewItem.Kind.choices, required=False)
    category = forms.CharField(max_length=60, required=False)

    @property
    def filters(self) -> QueueFilter:
        self.is_valid()
        return QueueFilter(**{name: value for name in self.fields if (value := self.cleaned_data.get(name))})


class DecisionForm(forms.Form):
    """A pharmacist's statement. The harm that an answer is charged with counts only where it is called unsafe."""

    truth = forms.ChoiceField(
        choices=Review.Truth.choices,
        error_messages={"required": "Say whether the answer is safe or unsafe, or that you are unsure."},
    )
    categories = forms.MultipleChoiceField(choices=[(category, category) for category in CATEGORIES], required=False)
    severity = forms.ChoiceField(choices=choices(Severity), required=False)
    note = forms.CharField(required=False)
    token = forms.UUIDField(error_messages={"required": "The form was incomplete. Please check it and submit it again."})
    opened = forms.CharField(required=False)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("truth") != Review.Truth.UNSAFE:
            cleaned["categories"], cleaned["severity"] = [], ""
        return cleaned

    def clean_note(self) -> str:
        # Browsers count a line end once and send it as CR LF; the service, which limits the length, must count as they do.
        note: str = self.cleaned_data["note"]
        return note.replace("\r\n", "\n")

    @property
    def seconds(self) -> float | None:
        """From opening the item to submitting; None where the stamp is missing or forged."""
        try:
            opened = float(signing.loads(self.cleaned_data["opened"], salt=OPENED_SALT))
        except signing.BadSignature:
            return None
        return round(max(0.0, time.time() - opened), 1)

    @property
    def message(self) -> str:
        """The first thing that is wrong, in words for the reviewer; empty if nothing is."""
        return next((str(error) for errors in self.errors.values() for error in errors), "")


def opened_stamp() -> str:
    """The present moment, signed: a form carries it, so that the time spent on an item cannot be made up."""
    return signing.dumps(time.time(), salt=OPENED_SALT)
