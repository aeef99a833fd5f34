"""Administrators' view of policies (a change makes a new version) and model versions (activate one)."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest

from classifiers.bundle import InvalidBundle
from classifiers.policy import THRESHOLD_KEYS
from classifiers.result import Layer
from guardreview.core.admin import ReadOnlyAdmin
from guardreview.verdicts.models import ModelVersion, Policy
from guardreview.verdicts.services import model_version_activate, policy_activate, policy_create

BOUNDS = ("block_at", "allow_below")


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
        fields = ("layers", "judge_min_confidence", "judge_model", "note")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        current = Policy.objects.filter(is_active=True).first()
        if current is not None and not self.is_bound:
            self.initial = {
                "layers": current.layers,
                "judge_min_confidence": current.judge_min_confidence,
                "judge_model": current.judge_model,
            }
        for key, bound in ((key, bound) for key in THRESHOLD_KEYS for bound in BOUNDS):
            self.fields[field_name(key, bound)] = forms.FloatField(
                label=f"{key}: {bound.replace('_', ' ')}",
                min_value=0,
                max_value=1,
                required=key == "default",
                initial=(current.thresholds.get(key) or {}).get(bound) if current else None,
                widget=forms.NumberInput(attrs={"step": "any"}),
            )

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
        return cleaned


@admin.register(Policy)
class PolicyAdmin(admin.ModelAdmin):
    """Add makes a new version, prefilled from the active one, and activates it. Versions are never edited."""

    form = PolicyForm
    list_display = ("__str__", "is_active", "note", "created_by", "created_at")
    ordering = ("-pk",)
    actions = ("activate",)

    def get_fieldsets(self, request: HttpRequest, obj: Policy | None = None) -> Any:
        general = ("layers", "judge_min_confidence", "judge_model", "note")
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
        created = policy_create(
            actor=request.user,  # type: ignore[arg-type]
            note=obj.note,
            thresholds=obj.thresholds,
            layers=[layer.value for layer in Layer if layer.value in form.cleaned_data["layers"]],
            judge_min_confidence=obj.judge_min_confidence,
            judge_model=obj.judge_model,
        )
        obj.pk, obj.created_at = created.pk, created.created_at

    @admin.action(description="Activate the selected policy")
    def activate(self, request: HttpRequest, policies: QuerySet[Policy]) -> None:
        if len(policies) != 1:
            self.message_user(request, "Select exactly one policy.", messages.ERROR)
            return
        policy_activate(policy=policies[0], actor=request.user)  # type: ignore[arg-type]
        self.message_user(request, f"{policies[0]} decides from the next exchange on.", messages.SUCCESS)


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    list_display = ("version", "stage", "labels_used", "created_at", "activated_at")
    list_filter = ("stage",)
    ordering = ("-pk",)
    actions = ("activate",)

    @admin.action(description="Activate the selected model version")
    def activate(self, request: HttpRequest, models: QuerySet[ModelVersion]) -> None:
        if len(models) != 1:
            self.message_user(request, "Select exactly one model version.", messages.ERROR)
            return
        try:
            model_version_activate(model=models[0], actor=request.user)  # type: ignore[arg-type]
        except InvalidBundle as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        self.message_user(request, f"{models[0]} serves from the next exchange on.", messages.SUCCESS)
