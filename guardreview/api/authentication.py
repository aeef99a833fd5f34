"""Who calls: a chat app, by an API key in `Authorization: Bearer gr_...`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from guardreview.core.models import ApiKey, App
from guardreview.core.roles import Act
from guardreview.core.services import api_key_digest

if TYPE_CHECKING:  # DRF's views import this module
    from rest_framework.views import APIView


@dataclass(frozen=True, slots=True)
class Caller:
    """The app behind a request, in the place where Django expects a user, and the key that it came with."""

    app: App
    key: ApiKey
    is_authenticated: bool = True

    @property
    def name(self) -> str:
        """As the audit log names it."""
        return f"key:{self.key.prefix}"


class ApiKeyAuthentication(BaseAuthentication):
    """One query: the key's digest, not revoked, of an active app. What else may be wrong is not told apart to the caller."""

    def authenticate(self, request: Request) -> tuple[Caller, ApiKey] | None:
        scheme, _, text = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        keys = ApiKey.objects.select_related("app", "user").filter(revoked_at=None, app__is_active=True)
        key = keys.filter(digest=api_key_digest(text.strip())).first()
        if key is None:
            raise AuthenticationFailed("The API key is unknown or revoked.")
        return Caller(key.app, key), key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="guardreview"'


class MaySubmit(BasePermission):
    """The key is an app's own: one that stands for an administrator reads no patient's words."""

    message = "This API key is for policies alone."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, Caller) and request.user.key.scope != ApiKey.Scope.POLICIES


class MayChangePolicies(BasePermission):
    """The key has the scope `policies`, and who it stands for still is an administrator."""

    message = "This API key does not have the scope 'policies', or does not stand for an administrator any more."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not isinstance(request.user, Caller) or request.user.key.scope != ApiKey.Scope.POLICIES:
            return False
        person = request.user.key.user
        return person is not None and person.may(Act.ADMINISTER)


class MayReadLabels(BasePermission):
    """The key has the scope `labels`."""

    message = "This API key does not have the scope 'labels'."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, Caller) and request.user.key.scope == ApiKey.Scope.LABELS
