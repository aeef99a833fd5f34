"""What every page of a reviewer carries: their keys, and what became of the decision before it."""

from __future__ import annotations

import json
from typing import Any

from django import template

from guardreview.core.roles import Act
from guardreview.review import keys
from guardreview.review.views.undoing import Saved, just_saved

register = template.Library()


@register.simple_tag(takes_context=True)
def saved_before(context: dict[str, Any]) -> Saved | None:
    """What to say of the decision that was made on the page before; None if there is none."""
    request = context.get("request")
    user = getattr(request, "user", None)
    if request is None or user is None or not user.is_authenticated or not user.may(Act.DECIDE):
        return None
    return just_saved(request)


@register.simple_tag(takes_context=True)
def key_sheet(context: dict[str, Any]) -> dict[str, Any]:
    """The rows of the sheet of shortcuts by part, and as JSON which key stands for which of the default ones."""
    user = context["user"]
    return {**keys.sheet(user), "json": json.dumps(keys.by_default(user))}
