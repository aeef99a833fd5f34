"""Administrators' view of policies: a change makes a new version, by the same rules as on the pages."""

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from classifiers.policy import THRESHOLD_KEYS
from classifiers.policy import Policy as CascadePolicy
from classifiers.result import Layer
from guardreview.core.models import User
from guardreview.learning.models import PolicyChange
from guardreview.learning.policy_changes import PolicyRefused, change_propose, policy_fields, policy_restore
from guardreview.learning.policy_differences import loosens
from guardreview.verdicts.models import Policy

BOUNDS = ("block_at", "allow_below")
LEVELS = {
    PolicyChange.Status.APPLIED: (messages.SUCCESS, "{} decides from the next exchange on."),
    PolicyChange.Status.PROPOSED: (messages.WARNING, "{} waits for a second administrator: it lets more through."),
    PolicyChange.Status.SUPERSEDED: (messages.ERROR, "{} was refused: something else began to serve meanwhile."),
}


def field_name(key: str, bound: str) -> str:
    """The form field of one bound of one threshold."""
    return f"{key.replace(':', '__')}___{bound}"


class PolicyForm(forms.ModelForm):
    """Two numbers per category in place of JSON; empty ones fall back to the family's, then to the default."""

    layers = forms.MultipleChoiceField(
        choices=[(layer.value, layer.value) for layer in Layer],
        widget=forms.CheckboxSelectMultiple,
        help_text="What a policy leaves out does not run. Without the judge, what is uncertain is held for a pharmacist.",
    )

    class Meta:
        model = Policy
        fields = ("layers", "judge_min_confidence", "judge_model", "learning_share", "note")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "learning_share" not in self.fields:
            return  # a version that is looked at
        current = Policy.objects.filter(is_active=True).first()
        self.fields["learning_share"].required = False
        if current is not None and not self.is_bound:
            self.initial = {name: value for name, value in policy_fields(current).items() if name != "thresholds"}
        for key, bound in ((key, bound) for key in THRESHOLD_KEYS for bound in BOUNDS):
            self.fields[field_name(key, bound)] = forms.FloatField(
                label=f"{key}: {bound.replace('_', ' ')}",
                min_value=0,
                max_value=1,
                required=key == "default",
                initial=(current.thresholds.get(key) or {}).get(bound) if current else None,
                widget=forms.NumberInput(attrs={"step": "any"}),
            )

    def clean_learning_share(self) -> float:
        """Left out, it stays as it is."""
        current = Policy.objects.filter(is_active=True).first()
        share = self.cleaned_data.get("learning_share")
        return share if share is not None else current.learning_share if current else 0.0

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        thresholds = {}
        for key in THRESHOLD_KEYS:
            bounds = {bound: cleaned.get(field_name(key, bound)) for bound in BOUNDS}
            if all(value is None for value in bounds.values()):
                continue
            if None in bounds.values():
                raise ValidationError(f"{key}: give both bounds, or neither.")
            thresholds[key] = bounds
        self.instance.thresholds = thresholds
        self._check_reason(cleaned)
        return cleaned

    def _check_reason(self, cleaned: dict[str, Any]) -> None:
        current = Policy.objects.filter(is_active=True).first()
        if self.errors or current is None or cleaned.get("note", "").strip():
            return
        fields = {"thresholds": self.instance.thresholds, **{name: cleaned[name] for name in self.Meta.fields if name in cleaned}}
        try:
            looser = loosens(current.as_cascade_policy(), CascadePolicy.from_json(fields))
        except ValueError:
            return  # the model says what is wrong with it
        if looser:
            self.add_error("note", "This lets through what was stopped before. Say why.")


@admin.register(Policy)
class PolicyAdmin(admin.ModelAdmin):
    """Add makes a new version, prefilled from the one in force. Whether it serves at once is for `policy_changes` to say."""

    form = PolicyForm
    list_display = ("__str__", "is_active", "note", "created_by", "created_at")
    ordering = ("-pk",)
    actions = ("activate",)

    def get_fieldsets(self, request: HttpRequest, obj: Policy | None = None) -> Any:
        general = PolicyForm.Meta.fields
        if obj is not None:
            history = ("created_by", "created_at", "is_active")
            return ((None, {"fields": ("thresholds", *general, *history)}),)
        rows = tuple(tuple(field_name(key, bound) for bound in BOUNDS) for key in THRESHOLD_KEYS)
        explained = "On P(unsafe): blocked at `block at` and above, allowed below `allow below`, the judge in between."
        return ((None, {"fields": general}), ("Thresholds", {"fields": rows, "description": explained}))

    def get_form(self, request: HttpRequest, obj: Policy | None = None, change: bool = False, **kwargs: Any) -> Any:
        # The threshold fields exist on the form's instances alone, which Django's form factory must not look for.
        if obj is None:
            kwargs["fields"] = PolicyForm.Meta.fields
        return super().get_form(request, obj, change, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: Policy | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Policy | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Policy, form: PolicyForm, change: bool) -> None:
        fields = {**policy_fields(obj), "layers": [layer.value for layer in Layer if layer.value in form.cleaned_data["layers"]]}
        made = change_propose(actor=cast(User, request.user), fields=fields, reason=obj.note)
        obj.pk, obj.created_at = made.policy.pk, made.policy.created_at or timezone.now()
        self._say(request, made)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> HttpResponse:
        try:
            return super().add_view(request, form_url, extra_context)
        except PolicyRefused as error:
            self.message_user(request, str(error), messages.ERROR)
            return redirect("admin:verdicts_policy_add")

    @admin.action(description="Let the selected policy serve again")
    def activate(self, request: HttpRequest, policies: QuerySet[Policy]) -> None:
        if len(policies) != 1:
            self.message_user(request, "Select exactly one policy.", messages.ERROR)
            return
        try:
            self._say(request, policy_restore(actor=cast(User, request.user), policy=policies[0]))
        except PolicyRefused as error:
            self.message_user(request, f"{error} (Under Policies, on the page of {policies[0]}.)", messages.ERROR)

    def _say(self, request: HttpRequest, change: PolicyChange) -> None:
        level, words = LEVELS[PolicyChange.Status(change.status)]
        self.message_user(request, words.format(str(change.policy).capitalize()), level)
