"""What drf-spectacular cannot see: the scheme of the keys, headers, status codes and examples of each operation."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from guardreview.api.problems import MEDIA_TYPE
from guardreview.api.serializers import (
    ChatInput,
    ChatOutput,
    ExchangeInput,
    ExchangeOutput,
    ExchangePageInput,
    ExchangePageOutput,
    HealthOutput,
    LabelExportInput,
    LabelExportOutput,
    LabelPageInput,
    LabelPageOutput,
    ProblemOutput,
)


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """`Authorization: Bearer gr_...`."""

    target_class = "guardreview.api.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "gr_..."}


PROBLEMS = {
    400: "A field or header is missing or not valid; `errors` says which.",
    401: "No API key, or one that is unknown or revoked.",
    403: "The key lacks the scope.",
    404: "No such exchange of this app.",
    406: "None of the formats that `Accept` names.",
    409: "The `Idempotency-Key` was used before, with another body.",
    413: "A text or the body is too long.",
    415: "The body is not `application/json`.",
    500: "The server failed at this request.",
    502: "The chat model failed or gave no answer that can be used.",
    503: "A part that is needed cannot be reached; `Retry-After` says when to try again.",
    504: "The chat model did not answer in time.",
}


def problems(*statuses: int, **instead: str) -> dict[Any, OpenApiResponse]:
    """Responses that are problem details; `s503="..."` words one of them otherwise."""
    worded = {**PROBLEMS, **{int(name[1:]): text for name, text in instead.items()}}
    every = sorted({*statuses, 406, 500})
    return {(status, MEDIA_TYPE): OpenApiResponse(ProblemOutput, description=worded[status]) for status in every}


def _header(name: str, description: str, **more: Any) -> OpenApiParameter:
    return OpenApiParameter(name, location=OpenApiParameter.HEADER, description=description, **more)


def _answer_header(name: str, description: str, *statuses: int) -> OpenApiParameter:
    return OpenApiParameter(
        name, location=OpenApiParameter.HEADER, description=description, response=[str(status) for status in statuses]
    )


PREFER = _header(
    "Prefer",
    "RFC 7240. `wait=N`: answer as soon as the exchange is decided, at the latest after N seconds, of which the server "
    "caps the number (see `Preference-Applied`).",
    examples=[OpenApiExample("five seconds", "wait=5")],
)
IDEMPOTENCY_KEY = _header(
    "Idempotency-Key",
    "The same key with the same body gives the first exchange; with another body 409.",
    type={"type": "string", "minLength": 1, "maxLength": 200},
)
WAITED = _answer_header("Preference-Applied", "The wait as the server capped it.", 200, 202)
EXCHANGE_ID = OpenApiParameter("exchange_id", OpenApiTypes.UUID, OpenApiParameter.PATH)

_SUBMISSION = {
    "query": "Can I take ibuprofen with my warfarin?",
    "response": "Yes, it is fine to take ibuprofen with warfarin.",
    "conversation_id": "visit-4711",
}
_BLOCKED = {
    "id": "0192f0c1-8d2e-7c4a-9a57-2f6f4f3f9b10",
    "status": "decided",
    "created_at": "2026-01-05T09:30:00.120000Z",
    "conversation_id": "visit-4711",
    "metadata": {},
    "decision": "block",
    "is_safe": False,
    "category": "harmful_medical:unsafe_combination",
    "categories": ["harmful_medical:unsafe_combination"],
    "severity": "critical",
    "reason": "unsafe_combination_approval",
    "confidence": 0.95,
    "layer": "rules",
    "versions": {"rules": "rules-3f1c2a9be4d0"},
    "answer": "I can't answer this question directly, to keep you safe. Please ask your pharmacist or physician.",
    "policy": "policy-1",
    "results": [
        {
            "layer": "rules",
            "is_safe": False,
            "category": "harmful_medical:unsafe_combination",
            "categories": ["harmful_medical:unsafe_combination"],
            "severity": "critical",
            "reason": "unsafe_combination_approval",
            "confidence": 0.95,
            "scores": {},
            "evidence": [
                {
                    "start": 5,
                    "end": 47,
                    "text": "it is fine to take ibuprofen with warfarin",
                    "rule": "unsafe_combination_approval",
                    "category": "harmful_medical:unsafe_combination",
                }
            ],
            "escalate": False,
            "version": "rules-3f1c2a9be4d0",
            "latency_ms": 0.214,
            "cost_usd": 0.0,
            "input_tokens": 0,
            "output_tokens": 0,
            "language": "",
            "error": "",
        }
    ],
    "outcome": None,
}
_PENDING = {
    **dict.fromkeys(_BLOCKED),
    **{name: _BLOCKED[name] for name in ("id", "created_at", "conversation_id", "metadata")},
    "status": "pending",
    "categories": [],
    "versions": {},
    "results": [],
}

exchange_create = extend_schema(
    operation_id="createExchange",
    summary="Submit an exchange",
    tags=["exchanges"],
    request=ExchangeInput,
    parameters=[
        IDEMPOTENCY_KEY,
        PREFER,
        WAITED,
        _answer_header("Location", "Where the exchange is.", 200, 202, 503),
        _answer_header("Retry-After", "Seconds after which to ask again.", 202, 503),
    ],
    responses={
        200: OpenApiResponse(ExchangeOutput, description="Decided.", examples=[OpenApiExample("blocked", _BLOCKED)]),
        202: OpenApiResponse(ExchangeOutput, description="Stored.", examples=[OpenApiExample("pending", _PENDING)]),
        **problems(400, 401, 409, 413, 415, 503, s503="The queue is down. The exchange is stored and will be decided later."),
    },
    examples=[OpenApiExample("an exchange", _SUBMISSION, request_only=True)],
)
exchange_list = extend_schema(
    operation_id="listExchanges",
    summary="List exchanges",
    tags=["exchanges"],
    parameters=[ExchangePageInput],
    responses={200: OpenApiResponse(ExchangePageOutput, description="A page."), **problems(400, 401)},
)
exchange_retrieve = extend_schema(
    operation_id="getExchange",
    summary="Read an exchange",
    tags=["exchanges"],
    parameters=[EXCHANGE_ID, PREFER, _answer_header("Preference-Applied", "The wait as the server capped it.", 200)],
    responses={
        200: OpenApiResponse(ExchangeOutput, description="As it stands.", examples=[OpenApiExample("blocked", _BLOCKED)]),
        **problems(400, 401, 404),
    },
)
label_list = extend_schema(
    operation_id="listLabels",
    summary="List settled labels",
    tags=["labels"],
    parameters=[LabelPageInput, OpenApiParameter("format", enum=["json", "jsonl", "csv"])],
    responses={
        (200, "application/json"): OpenApiResponse(LabelPageOutput, description="A page, or all of them as a stream."),
        (200, "application/x-ndjson"): OpenApiTypes.STR,
        (200, "text/csv"): OpenApiTypes.STR,
        **problems(400, 401, 403),
    },
)
EXPORT_ID = OpenApiParameter("export_id", OpenApiTypes.INT64, OpenApiParameter.PATH)
_RANGE_HEADERS = [
    _answer_header("ETag", "Of the content.", 200, 206, 304, 416),
    _answer_header("Accept-Ranges", "`bytes`.", 200, 206, 304, 416),
    _answer_header("Content-Range", "Which part this is.", 206, 416),
]
_EXPORT_MEDIA = ("application/x-ndjson", "text/csv", "application/vnd.apache.parquet", "application/zip")
label_export_create = extend_schema(
    operation_id="createLabelExport",
    summary="Export labels",
    tags=["labels"],
    request=LabelExportInput,
    parameters=[
        _answer_header("Location", "Where the export is.", 202),
        _answer_header("Retry-After", "Seconds after which to ask again.", 202),
    ],
    responses={
        202: OpenApiResponse(LabelExportOutput, description="A worker writes it."),
        **problems(400, 401, 403, 413, 415, 503, s503="Other exports have to be written first."),
    },
)
label_export_retrieve = extend_schema(
    operation_id="getLabelExport",
    summary="Read how far an export is",
    tags=["labels"],
    parameters=[EXPORT_ID, _answer_header("Retry-After", "Seconds after which to ask again, while it is not finished.", 200)],
    responses={200: OpenApiResponse(LabelExportOutput, description="As it stands."), **problems(400, 401, 403, 404)},
)
label_export_content = extend_schema(
    operation_id="getLabelExportContent",
    summary="Download an export",
    tags=["labels"],
    parameters=[
        EXPORT_ID,
        _header("Range", "RFC 9110: one range of bytes."),
        _header("If-Range", "The entity tag of what was downloaded so far."),
        *_RANGE_HEADERS,
    ],
    responses={
        **{
            (status, media): OpenApiResponse(OpenApiTypes.BINARY, description=told)
            for status, told in ((200, "All of it."), (206, "The part that was asked for."))
            for media in _EXPORT_MEDIA
        },
        304: OpenApiResponse(description="It is the content that the caller has."),
        416: OpenApiResponse(description="There is no such part."),
        **problems(400, 401, 403, 404, 409, 503, s409="It is not ready.", s503="The storage of exports cannot be reached."),
    },
)
chat = extend_schema(
    operation_id="chat",
    summary="Ask the chat model",
    tags=["chat"],
    request=ChatInput,
    responses={
        200: OpenApiResponse(ChatOutput, description="What the patient may read."),
        **problems(400, 401, 413, 415, 502, 503, 504, s503="No chat model is configured, or the queue is down."),
    },
    examples=[OpenApiExample("a question", {"message": "I missed a dose. What now?"}, request_only=True)],
)
health = extend_schema(
    operation_id="health",
    summary="Check the service",
    tags=["health"],
    auth=[],
    responses={
        200: OpenApiResponse(HealthOutput, description="All parts answer."),
        **problems(503, s503="The database or Redis cannot be reached."),
    },
)
