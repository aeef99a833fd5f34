"""Input fields that take what is meant and nothing else: no silent conversion, nothing that a database cannot store."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from guardreview.api.problems import TooLarge

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""PostgreSQL's text holds neither NUL characters nor lone surrogates."""
MAX_DEPTH = 20


class StrictTextField(serializers.CharField):
    """A string as it was sent, spaces included: evidence is counted in its characters."""

    default_error_messages = {
        "invalid": "Must be a string.",
        "blank": "May not be empty.",
        "unstorable": "May not hold NUL characters or lone surrogates.",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if not self.allow_blank and not data.strip():
            self.fail("blank")
        if _UNSTORABLE.search(data):
            self.fail("unstorable")
        return str(data)


@extend_schema_field({"type": "string", "minLength": 1, "maxLength": settings.MAX_TEXT_CHARS})
class PatientTextField(StrictTextField):
    """A query, a response or a message: not empty, and of at most `MAX_TEXT_CHARS` characters, else 413."""

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, str) and len(data) > settings.MAX_TEXT_CHARS:
            raise TooLarge(f"Longer than {settings.MAX_TEXT_CHARS} characters.", field=self.field_name or "")
        return super().to_internal_value(data)


@extend_schema_field({"type": "object", "additionalProperties": True})
class MetadataField(serializers.Field):
    """A JSON object of at most `MAX_METADATA_BYTES`, which the app finds again with its exchange."""

    default_error_messages = {
        "invalid": "Must be an object.",
        "too_large": f"Longer than {settings.MAX_METADATA_BYTES} bytes of JSON.",
        "too_deep": f"Nested more than {MAX_DEPTH} deep.",
        "unstorable": "May not hold NUL characters or lone surrogates.",
        "number": "Holds a number that is out of range.",
    }

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("invalid")
        self._check(data, 1)
        if len(json.dumps(data, ensure_ascii=False).encode()) > settings.MAX_METADATA_BYTES:
            self.fail("too_large")
        return dict(data)

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any]:
        return value

    def _check(self, value: object, depth: int) -> None:
        if depth > MAX_DEPTH:
            self.fail("too_deep")
        if isinstance(value, dict):
            for key, item in value.items():
                self._check(key, depth)
                self._check(item, depth + 1)
        elif isinstance(value, list):
            for item in value:
                self._check(item, depth + 1)
        elif isinstance(value, str) and _UNSTORABLE.search(value):
            self.fail("unstorable")
        elif isinstance(value, float) and not math.isfinite(value):
            self.fail("number")
