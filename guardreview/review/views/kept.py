"""The key under which a browser seals the decisions that it could not send."""

from __future__ import annotations

import base64
from typing import cast

from django.http import HttpRequest, JsonResponse
from django.utils.crypto import salted_hmac
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from guardreview.core.models import User
from guardreview.core.roles import Act, requires


@require_GET
@never_cache
@requires(Act.DECIDE)
def kept_key(request: HttpRequest) -> JsonResponse:
    """This person's own key, 32 bytes in base64, the same at every sign-in; and whose it is, as the page names them."""
    user = cast(User, request.user)
    key = salted_hmac("guardreview.review.kept", str(user.pk), algorithm="sha256").digest()
    return JsonResponse({"user": str(user.pk), "key": base64.b64encode(key).decode()})
