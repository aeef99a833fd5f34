"""How a person likes the pages."""

from __future__ import annotations

from http import HTTPStatus
from typing import cast

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST

from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.core.services import user_prefer
from guardreview.review.keys import PREFERENCE, InvalidKey, by_default, with_key


@require_POST
@requires(Act.READ_QUEUE)
def keys(request: HttpRequest) -> JsonResponse:
    """Give an action another key, or, with `reset`, all of them those that they came with; the keys as they are then."""
    user = cast(User, request.user)
    try:
        chosen = {} if "reset" in request.POST else with_key(user, request.POST.get("action", ""), request.POST.get("key", ""))
    except InvalidKey as error:
        return JsonResponse({"message": str(error)}, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    return JsonResponse({"keys": by_default(user_prefer(user=user, name=PREFERENCE, value=chosen))})
