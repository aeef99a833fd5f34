"""Administrators' view of policies and rules (a change makes a new version) and model versions (activate one)."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import AdminErrorList, AdminForm
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from classifiers.encoder.bundle import InvalidBundle
from classifiers.policy import THRESHOLD_KEYS
from classifiers.result import Layer
from guardreview.core.admin import ReadOnlyAdmin
from guardreview.core.roles import Act
from guardreview.verdicts.forms import CustomRuleForm
from guardreview.verdicts.models import CustomRule, ModelVersion, Policy
from guardreview.verdicts.rule_preview import Preview, rule_preview
from guardreview.verdicts.rules import rule_create, rules_activate, rules_deactivate
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


def _as_lines(field: str) -> Callable[[Any, CustomRule], str]:
    """A read-only column that shows a list of texts, one on each line; the admin escapes them."""

    @admin.display(description=field.replace("_", " "))
    def lines(self: Any, rule: CustomRule) -> str:
        return "\n".join(getattr(rule, field)) or "-"

    return lines


@admin.register(CustomRule)
class CustomRuleAdmin(ReadOnlyAdmin):
    """A rule is looked at, and a new version begun from it; both ways to a new row go through one form, with a preview."""

    list_display = ("__str__", "is_active", "category", "severity", "action", "note", "created_by", "created_at")
    list_filter = ("is_active", "action", "category")
    list_select_related = ("created_by",)
    search_fields = ("identifier", "note")
    ordering = ("identifier", "-version")
    actions = ("activate", "deactivate")
    fields = (
        "rule_id", "version", "is_active", "category", "severity", "action", "confidence", "patterns_", "unless_", "negation",
        "lang", "must_match_", "must_not_match_", "note", "created_by", "created_at",
    )  # fmt: skip
    readonly_fields = fields
    add_form_template = "admin/verdicts/customrule/add_form.html"
    patterns_, unless_ = _as_lines("patterns"), _as_lines("unless")
    must_match_, must_not_match_ = _as_lines("must_match"), _as_lines("must_not_match")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.may(Act.MANAGE_RULES))  # type: ignore[union-attr]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The form of a new rule, or with `?from=KEY` of a rule's next version. Its buttons preview or save what is in it."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return self._form_page(request, CustomRuleForm(initial=self._initial(request)))
        form = CustomRuleForm(request.POST)
        preview = None
        if form.is_valid():
            data, actor = form.cleaned_data, request.user
            try:
                if "_preview" in request.POST:
                    preview = rule_preview(rule=form.instance, actor=actor, last=data["last"])  # type: ignore[arg-type]
                else:
                    rule = rule_create(
                        rule=form.instance,
                        actor=actor,  # type: ignore[arg-type]
                        based_on=data["based_on"],
                        activate=data["activate"],
                    )
                    words = "is active from the next exchange on" if rule.is_active else "is stored, and not active"
                    self.message_user(request, f"{rule} {words}.", messages.SUCCESS)
                    return redirect("admin:verdicts_customrule_changelist")
            except ValidationError as error:
                form.add_error(None, error)
        return self._form_page(request, form, preview)

    def _initial(self, request: HttpRequest) -> dict[str, Any]:
        key = request.GET.get("from", "")
        rule = CustomRule.objects.filter(pk=int(key)).first() if key.isdecimal() and len(key) < 19 else None
        if rule is None:
            return {}
        values = {name: getattr(rule, name) for name in CustomRuleForm.Meta.fields if name != "note"}
        return {**values, "based_on": rule.pk}

    def _form_page(self, request: HttpRequest, form: CustomRuleForm, preview: Preview | None = None) -> HttpResponse:
        sections: list[tuple[Any, Any]] = [
            (None, {"fields": ["identifier", "category", "severity", "action", "confidence", "note"]}),
            ("What it finds", {"fields": ["patterns", "unless", "negation", "lang"]}),
            ("Examples", {"fields": ["must_match", "must_not_match"]}),
            ("Try it, then save it", {"fields": ["last", "activate", "based_on"]}),
        ]
        page = AdminForm(form, sections, {}, model_admin=self)
        context = {
            **self.admin_site.each_context(request),
            "title": "New version of a rule" if form["based_on"].value() else "Add rule",
            "adminform": page,
            "media": self.media + page.media,
            "errors": AdminErrorList(form, []),
            "inline_admin_formsets": [],
            "preview": preview,
        }
        return self.render_change_form(request, context, add=True)

    @admin.action(description="Activate the selected versions")
    def activate(self, request: HttpRequest, rules: QuerySet[CustomRule]) -> None:
        self._change(request, rules, rules_activate, "active from the next exchange on")

    @admin.action(description="Deactivate the selected rules")
    def deactivate(self, request: HttpRequest, rules: QuerySet[CustomRule]) -> None:
        self._change(request, rules.filter(is_active=True), rules_deactivate, "no longer active")

    def _change(self, request: HttpRequest, rules: QuerySet[CustomRule], change: Callable[..., None], words: str) -> None:
        try:
            change(rules=list(rules), actor=request.user)
        except ValidationError as error:
            self.message_user(request, " ".join(error.messages), messages.ERROR)
            return
        self.message_user(request, f"{', '.join(map(str, rules)) or 'Nothing'}: {words}.", messages.SUCCESS)


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
