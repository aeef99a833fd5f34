"""JSON in: bounded, UTF-8, and never a crash, however deep it is nested or long its numbers are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from guardreview.api.problems import TooLarge


class JsonParser(BaseParser):
    """`application/json`, which is UTF-8 (RFC 8259) whatever a `charset` may claim."""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> object:
        raw = stream.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        if len(raw) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise TooLarge("The request's body is too large.")
        try:
            return json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
        except UnicodeDecodeError:
            raise ParseError("The body is not UTF-8.") from None
        except json.JSONDecodeError as error:  # its message holds no part of the body, the error itself holds it all
            message = f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        except RecursionError:
            message = "The body is nested too deeply."
        except ValueError:
            message = "The body holds a number that is out of range."
        raise ParseError(message)


def _refuse_constant(name: str) -> float:
    raise ValueError(name)  # NaN and Infinity are not JSON
