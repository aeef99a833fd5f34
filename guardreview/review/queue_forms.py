"""What narrows the queue: filters as they stand in its address, as a form, and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.urls import reverse

from classifiers.result import CATEGORIES, Severity
from guardreview.core.models import User
from guardreview.core.roles import Act
from guardreview.review.presentation import CATEGORY_WORDS, KIND_WORDS, LAYER_WORDS, display_name
from guardreview.review.queue import FREE, OTHER, QueueFilter
from guardreview.review.search import words_of
from guardreview.verdicts.models import ReviewItem

MAX_TEXT = 100
AGES: Mapping[int, str] = {15: "15 min", 60: "1 h", 240: "4 h", 1440: "1 d"}
LANGUAGE_WORDS: Mapping[str, str] = {
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "de": "German",
    OTHER: "Another language",
}
TAB_WORDS: Mapping[str, str] = {
    "waiting": "Waiting",
    "mine": "Mine",
    "second": "Second opinion",
    "adjudication": "For a lead",
    "audit": "Audit",
}
TAB_ACTS: Mapping[str, Act] = {
    "waiting": Act.READ_QUEUE,
    "mine": Act.DECIDE,
    "second": Act.READ_QUEUE,
    "adjudication": Act.ADJUDICATE,
    # What was drawn for audit had been allowed: the tab tells the verdict of what others review blind.
    "audit": Act.READ_INSIGHT,
}


def tabs_of(user: User) -> list[str]:
    """The tabs that this person may see."""
    # Who decides items must not know which were drawn for audit.
    return [tab for tab, act in TAB_ACTS.items() if user.may(act) and not (tab == "audit" and user.may(Act.DECIDE))]


def address_of(filters: QueueFilter, **more: str) -> str:
    """Where the queue shows this."""
    query = query_of(filters, **more)
    return reverse("queue") + (f"?{query}" if query else "")


def query_of(filters: QueueFilter, **more: str) -> str:
    """The query part of that address; what does not filter is not in it."""
    wanted = {**asdict(filters), **more}
    return urlencode({name: value for name, value in wanted.items() if value and (name, value) != ("tab", "waiting")})


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is on, in words, and the address at which it is off."""

    words: str
    without: str


class QueueFilterForm(forms.Form):
    """The queue's filters. What is not known, or is not this person's to see, does not filter.

    `apps`: names. `people`: those who may hold an item. `filters` is what came of it.
    """

    tab = forms.ChoiceField(required=False)
    severity = forms.ChoiceField(choices=[(severity.value, severity.capitalize()) for severity in Severity], required=False)
    text = forms.CharField(required=False, label="Words")
    category = forms.ChoiceField(required=False)
    kind = forms.ChoiceField(required=False, label="Verdict")
    layer = forms.ChoiceField(required=False, label="Decided by")
    holder = forms.ChoiceField(required=False, label="Held by")
    app = forms.ChoiceField(required=False)
    older_than = forms.TypedChoiceField(required=False, label="Waiting", coerce=int, empty_value=None)
    language = forms.ChoiceField(required=False)

    FOLDED = ("text", "category", "kind", "layer", "older_than", "holder", "app", "language")

    def __init__(self, data: Any, *, user: User, apps: Sequence[str], people: Sequence[User]) -> None:
        super().__init__(data, auto_id="filter-%s")
        kinds = (ReviewItem.Kind.BLOCKED, ReviewItem.Kind.HELD)  # the others are blind, and have a tab or come unannounced
        offered: dict[str, list[tuple[str, str]]] = {
            "category": [("", "Any"), *((name, words) for name, words in CATEGORY_WORDS.items() if name in CATEGORIES)],
            "kind": [("", "Any"), *((kind.value, KIND_WORDS[kind]) for kind in kinds)],
            "layer": [("", "Any layer"), *LAYER_WORDS.items()],
            "holder": [("", "Any"), (FREE, "Nobody"), *((one.username, display_name(one)) for one in people)],
            "app": [("", "Any"), *((app, app) for app in apps)],
            "older_than": [("", "Any time"), *((str(minutes), f"Over {words}") for minutes, words in AGES.items())],
            "language": [("", "Any"), *LANGUAGE_WORDS.items()],
            "tab": [(tab, TAB_WORDS[tab]) for tab in tabs_of(user)],
        }
        for name, choices in offered.items():
            self.fields[name].choices = choices  # type: ignore[attr-defined]  # each of them is a ChoiceField
        self.fields["text"].widget.attrs = {"maxlength": MAX_TEXT, "autocomplete": "off", "spellcheck": "false"}
        self.is_valid()
        self.filters = QueueFilter(**{name: value for name in self.fields if (value := self.cleaned_data.get(name))})
        self.data = asdict(self.filters)  # the form shows what holds, not what was asked for

    def clean_text(self) -> str:
        text = str(self.cleaned_data["text"])[:MAX_TEXT]
        return text if words_of(text) else ""

    @property
    def folded(self) -> list[forms.BoundField]:
        """The fields that lie behind "Filter"."""
        return [self[name] for name in self.FOLDED]

    @property
    def chips(self) -> list[Chip]:
        """Those of them that are set."""
        empty = QueueFilter()
        return [
            Chip(self._words(name, value), address_of(replace(self.filters, **{name: getattr(empty, name)})))
            for name in self.FOLDED
            if (value := getattr(self.filters, name))
        ]

    def _words(self, name: str, value: Any) -> str:
        if name == "text":
            return f"“{value}”"
        words: str = dict(self.fields[name].choices)[str(value)]  # type: ignore[attr-defined]  # likewise
        return {"holder": f"Held by {words}", "older_than": f"Waiting {words.lower()}"}.get(name, words)
