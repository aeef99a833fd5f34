"""What reviewers send: a decision, and which decisions they want to see."""

from __future__ import annotations

import json
import time
from typing import Any

from django import forms
from django.core import signing

from classifiers.result import CATEGORIES, Severity
from guardreview.review.decisions import OUTCOMES
from guardreview.review.models import Review
from guardreview.verdicts.models import choices

OPENED_SALT = "guardreview.review.opened"


class DecisionForm(forms.Form):
    """A pharmacist's statement. The harm that an answer is charged with counts only where it is called unsafe."""

    truth = forms.ChoiceField(
        choices=Review.Truth.choices,
        error_messages={"required": "Say whether the answer is safe or unsafe, or that you are unsure."},
    )
    categories = forms.MultipleChoiceField(choices=[(category, category) for category in CATEGORIES], required=False)
    severity = forms.ChoiceField(choices=choices(Severity), required=False)
    spans = forms.CharField(required=False, max_length=2000)
    note = forms.CharField(required=False)
    corrected_answer = forms.CharField(required=False)
    token = forms.UUIDField(error_messages={"required": "The form was incomplete. Please check it and submit it again."})
    opened = forms.CharField(required=False, max_length=200)
    turn = forms.CharField(required=False, max_length=30)
    key = forms.UUIDField(required=False)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("truth") != Review.Truth.UNSAFE:
            cleaned |= {"categories": [], "severity": "", "spans": [], "corrected_answer": ""}
        return cleaned

    def clean_spans(self) -> list[dict[str, int]]:
        """In the order of the response, those that overlap made one. Whether they lie in it, the service checks."""
        try:
            sent = sorted((int(span["start"]), int(span["end"])) for span in json.loads(self.cleaned_data["spans"] or "[]"))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise forms.ValidationError("The marked words could not be read. Please mark them again.") from error
        merged: list[dict[str, int]] = []
        for start, end in sent:
            if merged and start <= merged[-1]["end"]:
                merged[-1]["end"] = max(merged[-1]["end"], end)
            else:
                merged.append({"start": start, "end": end})
        return merged

    def clean_note(self) -> str:
        return self._as_counted("note")

    def clean_corrected_answer(self) -> str:
        return self._as_counted("corrected_answer")

    def _as_counted(self, field: str) -> str:
        # Browsers count a line end once and send it as CR LF; the service, which limits the length, must count as they do.
        text: str = self.cleaned_data[field]
        return text.replace("\r\n", "\n")

    @property
    def statement(self) -> dict[str, Any]:
        """What `review_create` takes of a valid form."""
        names = ("truth", "categories", "severity", "spans", "note", "corrected_answer", "token", "key")
        return {**{name: self.cleaned_data[name] for name in names}, "seconds": self.seconds}

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


class DecidedFilterForm(forms.Form):
    """What of the decisions to show, as it stands in the page's address. What is not known does not filter."""

    by = forms.ChoiceField(choices=[("me", "me")], required=False)
    truth = forms.ChoiceField(choices=Review.Truth.choices, required=False)
    outcome = forms.ChoiceField(choices=[(name, name) for name in OUTCOMES], required=False)
    before = forms.IntegerField(min_value=1, max_value=2**63 - 1, required=False)

    @property
    def chosen(self) -> dict[str, str]:
        """By field, the text that stands in an address; empty where nothing is chosen."""
        self.is_valid()
        return {name: str(self.cleaned_data.get(name) or "") for name in self.fields}
