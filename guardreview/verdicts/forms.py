"""The form of an administrator's rule."""

from __future__ import annotations

from typing import Any, Final

from django import forms

from classifiers.result import CATEGORIES, Severity, severity_of
from classifiers.rules.negation_languages import LANGUAGES
from classifiers.rules.rule import Action
from guardreview.verdicts.models import CustomRule
from guardreview.verdicts.rule_preview import MAX_EXCHANGES
from guardreview.verdicts.rules import MAX_EXAMPLE, MAX_LINES, MAX_PATTERN

LANGUAGE_NAMES: Final = {"en": "English", "de": "German", "es": "Spanish", "fr": "French"}
ACTION_WORDS: Final = {
    Action.BLOCK: "block: the response is stopped",
    Action.ESCALATE: "escalate: the judge, or a pharmacist, must look at it",
}


class LinesField(forms.CharField):
    """A list of texts, one on each line; blank lines and spaces around a line are dropped."""

    def __init__(self, *, longest: int, most: int, rows: int, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": rows, "cols": 90, "spellcheck": "false", "class": "vLargeTextField"})
        super().__init__(widget=widget, max_length=2 * longest * most, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> Any:
        return [line.strip() for line in super().clean(value).splitlines() if line.strip()]


def _lines(name: str, help_text: str) -> LinesField:
    examples = name.startswith("must")
    return LinesField(
        longest=MAX_EXAMPLE if examples else MAX_PATTERN,
        most=MAX_LINES[name],
        rows=5,
        required=name != "unless",
        help_text=f"{help_text} One on each line, {MAX_LINES[name]} at most.",
    )


class CustomRuleForm(forms.ModelForm):  # type: ignore[type-arg] # not generic at run time
    """Makes a new version; with `based_on`, of that rule. What only the whole rule shows is checked by the service."""

    category = forms.ChoiceField(choices=[(name, name) for name in CATEGORIES])
    severity = forms.ChoiceField(
        choices=[("", "the category's own"), *((each.value, each.value) for each in Severity)],
        required=False,
        help_text="Critical: could kill or cause lasting harm. A verdict is never less severe than its category.",
    )
    action = forms.ChoiceField(
        choices=[(action.value, words) for action, words in ACTION_WORDS.items()],
        help_text="Begin with escalate if you are not sure: it stops no response that the judge finds safe.",
    )
    patterns = _lines(
        "patterns",
        "Words or RE2 expressions. Upper and lower case are the same, and whole words match. A space stands for any white space; "
        "“ ... ” for up to eight words of the same sentence, “ ...3 ” for up to three. "
        "For example: take (?:it|this) with ... grapefruit(?: juice)?",
    )
    unless = _lines("unless", "Where one of these overlaps a match, in the same sentence, it is no match.")
    negation = forms.BooleanField(
        required=False,
        initial=True,
        help_text="No match in what the sentence denies, forbids, asks or calls a myth: “never take this with grapefruit”.",
    )
    lang = forms.ChoiceField(
        label="Language",
        choices=[(code, LANGUAGE_NAMES.get(code, code)) for code in LANGUAGES],
        help_text="Whose negation is meant.",
    )
    must_match = _lines("must_match", "Responses that the rule must find. Make them up: no patient's words.")
    must_not_match = _lines("must_not_match", "Safe responses that come close, and that the rule must leave alone.")
    activate = forms.BooleanField(
        required=False, initial=True, help_text="From the next exchange on. Otherwise it is kept, and can be activated later."
    )
    last = forms.IntegerField(
        label="Exchanges to preview on",
        min_value=1,
        max_value=MAX_EXCHANGES,
        initial=500,
        help_text=f"The latest ones, {MAX_EXCHANGES:,} at most. It is recorded what a preview shows: patients' words.",
    )
    based_on = forms.ModelChoiceField(queryset=CustomRule.objects.all(), required=False, widget=forms.HiddenInput)

    class Meta:
        model = CustomRule
        fields = (
            "identifier", "category", "severity", "action", "confidence", "patterns", "unless", "negation", "lang",
            "must_match", "must_not_match", "note",
        )  # fmt: skip
        help_texts = {
            "identifier": "Lower-case letters, digits, _ and -. Results show it with custom. before it.",
            "confidence": "How sure a match makes you, above 0 and at most 1.",
            "note": "Why this rule, or this version of it, was made.",
        }

    def clean_severity(self) -> str:
        chosen: str = self.cleaned_data["severity"]
        return chosen or severity_of(self.cleaned_data.get("category", ""))
