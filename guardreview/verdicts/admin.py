"""Administrators' view of rules (a change makes a new version) and model versions (activate one)."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import AdminErrorList, AdminForm
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from guardreview.core.admin import ReadOnlyAdmin
from guardreview.core.roles import Act
from guardreview.verdicts.forms import CustomRuleForm
from guardreview.verdicts.models import CustomRule, ModelVersion
from guardreview.verdicts.rule_preview import Preview, rule_preview
from guardreview.verdicts.rules import rule_create, rules_activate, rules_deactivate


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
    """To look at: a version comes to serve on the page of models alone, by way of its check."""

    list_display = ("version", "stage", "labels_used", "created_at", "activated_at")
    list_filter = ("stage",)
    ordering = ("-pk",)
