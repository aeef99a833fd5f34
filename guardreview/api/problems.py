"""Every error as RFC 9457 problem details. None of them repeats what the caller sent: it may be a patient's words."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.urls import reverse
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response

from guardreview.api.chat import ChatModelFailed, ChatNotConfigured
from guardreview.learning.policy_changes import PolicyRefused
from guardreview.verdicts.services import IdempotencyConflict, QueueUnavailable

log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"


class TooLarge(exceptions.APIException):
    """More than the server takes: a text or the body. `field` is where, empty for the body."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    def __init__(self, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.field = field


class Conflict(exceptions.APIException):
    """What is asked for is not in the state that this needs."""

    status_code = HTTPStatus.CONFLICT


class Unavailable(exceptions.APIException):
    """A part that the service needs cannot be reached."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE


def problem(status: int, detail: str, *, instance: str, kind: str = "", **more: Any) -> dict[str, Any]:
    """The body of a problem. `kind` names those that a program may want to tell apart; else the status says it all."""
    return {
        "type": f"urn:guardreview:problem:{kind}" if kind else "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        "instance": instance,
        **more,
    }


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's hook: the answer to whatever a view raised."""
    path = context["request"].path
    status, body, headers = _describe(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        _log_fault(error, path)
    body = problem(status, body.pop("detail"), instance=path, **body)
    return Response(body, status=status, headers=headers, content_type=MEDIA_TYPE)


def _describe(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """(status, what the problem says, headers)."""
    match error:
        case QueueUnavailable(exchange=exchange):
            detail = "The exchange is stored and will be decided later, but the task queue cannot be reached now."
            where = reverse("exchange", args=[exchange.pk])
            headers = {"Retry-After": str(settings.SWEEP_AFTER_S), "Location": where}
            return 503, {"kind": "queue-unavailable", "detail": detail, "exchange": str(exchange.pk)}, headers
        case IdempotencyConflict():
            return 409, {"kind": "idempotency-conflict", "detail": "This Idempotency-Key was used before, with another body."}, {}
        case PolicyRefused():
            return 409, {"kind": "policy-refused", "detail": str(error)}, {}
        case ChatNotConfigured():
            return 503, {"kind": "chat-not-configured", "detail": str(error)}, {}
        case ChatModelFailed():
            return error.status, {"kind": "chat-model-failed", "detail": str(error)}, {}
        case TooLarge():
            errors = {"errors": {error.field: [str(error.detail)]}} if error.field else {}
            return 413, {"detail": str(error.detail), **errors}, {}
        case RequestDataTooBig():
            return 413, {"detail": "The request's body is too large."}, {}
        case SuspiciousOperation() | UnreadablePostError():
            return 400, {"detail": "The request could not be read."}, {}
        case Http404():
            return 404, {"detail": "There is nothing at this address."}, {}
        case PermissionDenied():
            return 403, {"detail": "You may not do this."}, {}
        case exceptions.ValidationError():
            return 400, {"kind": "invalid-request", **_by_field(error.detail)}, {}
        case exceptions.APIException():
            return error.status_code, {"detail": str(error.detail)}, _headers(error)
    return 500, {"detail": "The server failed at this request."}, {}


def _by_field(detail: Any) -> dict[str, Any]:
    errors = dict(detail) if isinstance(detail, Mapping) else {"non_field_errors": detail}
    whole = errors.pop("non_field_errors", [])
    told = str(whole[0]) if whole else f"Not valid: {', '.join(errors)}."
    return {"detail": told, "errors": errors} if errors else {"detail": told}


def _headers(error: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    return headers


def _log_fault(error: Exception, path: str) -> None:
    """Where it happened, but not the exception's message: a database's quotes the row, which holds a patient's words."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("request_failed", path=path, error=type(error).__name__, frames=frames)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's `handler400`: what it refuses before any view, such as an unknown host."""
    if not request.path.startswith("/api/"):
        return defaults.bad_request(request, exception)
    return _plain(request, HTTPStatus.BAD_REQUEST, "The request could not be read.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's `handler500`: faults outside of the API's views."""
    if not request.path.startswith("/api/"):
        return defaults.server_error(request)
    return _plain(request, HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed at this request.")


def _plain(request: HttpRequest, status: HTTPStatus, detail: str) -> HttpResponse:
    return JsonResponse(problem(status, detail, instance=request.path), status=status, content_type=MEDIA_TYPE)
