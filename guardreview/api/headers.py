"""The request headers that the API reads: `Prefer` (RFC 7240) and `Idempotency-Key`."""

from __future__ import annotations

import re

from django.conf import settings
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's token
_WORD = rf'(?:{_TOKEN}|"(?:[^"\\]|\\.)*")'
_PARAMETER = re.compile(rf"\s*({_TOKEN})\s*(?:=\s*({_WORD})?)?\s*([;,]|$)")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")


def preferences(header: str) -> dict[str, str]:
    """The preferences of a `Prefer` header by lower-case name. The first of a name counts; the malformed ends the reading."""
    found: dict[str, str] = {}
    position, is_preference = 0, True
    while position < len(header) and (match := _PARAMETER.match(header, position)):
        name, value, separator = match[1].lower(), match[2] or "", match[3]
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        if is_preference:  # else a parameter of the one before, none of which mean anything here
            found.setdefault(name, value)
        is_preference = separator == ","
        position = match.end()
    return found


def preferred_wait(request: Request) -> int | None:
    """Seconds that the caller is ready to wait, at most `MAX_WAIT_S`; None if it states no number of them."""
    text = preferences(request.headers.get("Prefer", "")).get("wait", "")
    if not re.fullmatch(r"[0-9]+", text):
        return None
    return settings.MAX_WAIT_S if len(text) > 9 else min(int(text), settings.MAX_WAIT_S)


def idempotency_key(request: Request) -> str | None:
    """The key, or None without the header. Raises ValidationError unless it is 1 to 200 printable ASCII characters."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise ValidationError({"Idempotency-Key": ["Must be 1 to 200 printable ASCII characters."]})
    return key
