"""What all of the API's views share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

from adrf.requests import AsyncRequest
from adrf.views import APIView
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from guardreview.api.authentication import MaySubmit
from guardreview.api.parsers import JsonParser

P = ParamSpec("P")
T = TypeVar("T")


def releasing(function: Callable[P, T]) -> Callable[P, T]:
    """Give the thread's database connection back afterwards, so that a request that goes on to wait holds none."""

    def released(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return released


class Negotiation(DefaultContentNegotiation):
    """An unknown `?format=` is the caller's mistake, not an unknown address."""

    def filter_renderers(self, renderers: list[BaseRenderer], format: str) -> list[BaseRenderer]:
        known = [renderer for renderer in renderers if renderer.format == format]
        if not known:
            raise ValidationError({"format": [f"Must be one of: {', '.join(str(r.format) for r in renderers)}."]})
        return known


class JsonProblems:
    """For a view whose answers have other forms too: its problems are JSON all the same."""

    request: Request

    def handle_exception(self, error: Exception) -> Response:
        self.request.accepted_renderer, self.request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        return super().handle_exception(error)  # type: ignore[misc]


class ApiView(JsonProblems, APIView):
    """Asynchronous; takes and gives JSON."""

    parser_classes = [JsonParser]
    permission_classes: list[type[BasePermission]] = [IsAuthenticated, MaySubmit]
    content_negotiation_class = Negotiation

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> AsyncRequest:
        # DRF takes a chunked body, which declares no length, for an empty one.
        if "CONTENT_LENGTH" not in request.META and "chunked" in request.headers.get("Transfer-Encoding", ""):
            request.META["CONTENT_LENGTH"] = str(len(request.body))
        return super().initialize_request(request, *args, **kwargs)

    def options(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """What `Allow` says; the rest is in the schema."""
        return HttpResponse(status=204)

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {**super().default_response_headers, "Cache-Control": "no-store"}  # patients' words


class OpenView(ApiView):
    """A view that needs no API key."""

    authentication_classes: list[type[BaseAuthentication]] = []
    permission_classes = [AllowAny]


class UnknownView(OpenView):
    """Every other address under `/api/`."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotFound("There is nothing at this address.")
