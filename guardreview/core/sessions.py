"""Whose session a cookie names, before Django has read a request."""

from __future__ import annotations

from importlib import import_module

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, parse_cookie

from guardreview.core.models import User
from guardreview.core.roles import Act


def session_may(cookies: str, act: Act) -> bool:
    """Whether a `Cookie` header names the session of somebody who may do `act`."""
    key = parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME)
    if not key:
        return False
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = get_user(request)
    return isinstance(user, User) and user.may(act)
