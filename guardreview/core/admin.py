"""The administrators' site: accounts, apps and keys; the audit log to read. Who gets in is `User.is_staff`, from the role."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from guardreview.core.accounts import ADMINISTERS, CHANGED, CREATED, PASSWORD
from guardreview.core.models import ApiKey, App, AuditEvent, User
from guardreview.core.roles import Act
from guardreview.core.services import api_key_create, audit, webhook_secret_create

admin.site.site_header = admin.site.site_title = "GuardReview administration"
admin.site.site_url = "/"
admin.site.unregister(Group)  # what a person may do follows from the role


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that are looked at, never changed."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(User)
class AccountAdmin(UserAdmin):
    list_display = ("username", "role", "email", "is_active", "last_login")
    list_filter = ("role", "is_active")
    fieldsets = (
        (None, {"fields": ("username", "password", "role", "judges_models", "is_active")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("username", "role", "usable_password", "password1", "password2")}),)
    filter_horizontal = ()
    kept = ("role", "is_active", "judges_models")
    """Whose values go into the audit log, before and after."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # an account that decided something must stay; it can be made inactive

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        # The audit log knows a person by it.
        return (*self.readonly_fields, "username") if obj else self.readonly_fields

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        before = User.objects.get(pk=obj.pk) if change else None
        super().save_model(request, obj, form, change)
        changes = {name: [getattr(before, name, None), getattr(obj, name)] for name in self.kept if name in form.changed_data}
        was, does = before is not None and before.may(Act.ADMINISTER), obj.may(Act.ADMINISTER)
        if was != does:
            changes[ADMINISTERS] = [was, does]
        action, fields = CHANGED if change else CREATED, form.changed_data
        audit(actor=request.user.get_username(), action=action, target=obj.username, fields=fields, changes=changes)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Django's, which saves by itself: that somebody set another's password is recorded."""
        with transaction.atomic():
            account: User | None = self.get_object(request, unquote(id))
            response = super().user_change_password(request, id, form_url)
            if account is not None and User.objects.get(pk=account.pk).password != account.password:
                audit(actor=request.user.get_username(), action=PASSWORD, target=account.username)
        return response


@admin.register(App)
class AppAdmin(admin.ModelAdmin):
    list_display = ("name", "is_active", "created_at")
    actions = ("issue_key", "issue_labels_key", "issue_policies_key", "make_webhook_secret")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: App, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        action = "app.change" if change else "app.create"
        audit(actor=request.user.get_username(), action=action, target=obj.name, fields=form.changed_data)

    @admin.action(description="Issue an API key for exchanges")
    def issue_key(self, request: HttpRequest, apps: QuerySet[App]) -> None:
        self._issue(request, apps, ApiKey.Scope.EXCHANGES)

    @admin.action(description="Issue an API key for exchanges and labels")
    def issue_labels_key(self, request: HttpRequest, apps: QuerySet[App]) -> None:
        self._issue(request, apps, ApiKey.Scope.LABELS)

    @admin.action(description="Issue an API key for policies, in your own name")
    def issue_policies_key(self, request: HttpRequest, apps: QuerySet[App]) -> None:
        self._issue(request, apps, ApiKey.Scope.POLICIES)

    @admin.action(description="Make a new secret for the webhook")
    def make_webhook_secret(self, request: HttpRequest, apps: QuerySet[App]) -> None:
        for app in apps:
            text = webhook_secret_create(app=app, actor=request.user.get_username())
            self.message_user(request, f"Secret for {app}, shown only now: {text}", messages.SUCCESS)

    def _issue(self, request: HttpRequest, apps: QuerySet[App], scope: str) -> None:
        for app in apps:
            user = request.user if scope == ApiKey.Scope.POLICIES else None
            key, text = api_key_create(app=app, scope=scope, user=user)  # type: ignore[arg-type]
            audit(actor=request.user.get_username(), action="key.create", target=app.name, prefix=key.prefix, scope=scope)
            self.message_user(request, f"Key for {app}, shown only now: {text}", messages.SUCCESS)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("prefix", "app", "scope", "user", "created_at", "revoked_at")
    list_filter = ("app",)
    exclude = ("digest",)
    actions = ("revoke",)

    @admin.action(description="Revoke the selected keys")
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        for key in keys.filter(revoked_at__isnull=True).select_related("app"):
            ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
            audit(actor=request.user.get_username(), action="key.revoke", target=key.app.name, prefix=key.prefix)
        self.message_user(request, "Revoked. The next request with such a key is refused.", messages.SUCCESS)


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "action", "target")
    list_filter = ("action",)
    search_fields = ("actor", "target")
    exclude = ("previous", "digest")
    ordering = ("-pk",)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.may(Act.READ_AUDIT))  # type: ignore[union-attr]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)
