"""The API's views: parse, call a service or a selector, render. Asynchronous, so that waiting costs next to nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpResponseBase, StreamingHttpResponse
from django.urls import reverse
from redis import RedisError
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from guardreview.api import chat, openapi
from guardreview.api.authentication import MayReadLabels
from guardreview.api.base import ApiView, OpenView, releasing
from guardreview.api.headers import idempotency_key, preferred_wait
from guardreview.api.problems import Unavailable
from guardreview.api.selectors import (
    InvalidCursor,
    conversation,
    exchange_as_json,
    exchange_get,
    exchange_page,
    fallback_of,
    label_page,
    may_be_shown,
)
from guardreview.api.serializers import ChatInput, ExchangeInput, ExchangePageInput, LabelPageInput
from guardreview.core.services import audit
from guardreview.core.streaming import stream
from guardreview.learning.exports import labels_export
from guardreview.review.selectors import label_of
from guardreview.verdicts.models import Exchange
from guardreview.verdicts.services import exchange_submit
from guardreview.verdicts.waiting import redis_client, wait_for

POLL_AFTER_S = 1


class ExchangesView(ApiView):
    """`/api/v1/exchanges`."""

    @openapi.exchange_create
    async def post(self, request: Request) -> Response:
        """Submit an exchange.

        It is stored and handed to the cascade. With `Prefer: wait=N` the answer comes as soon as the verdict does: 200 with
        it; else 202, and the exchange is at `Location`.
        """
        wait = preferred_wait(request)
        exchange = await sync_to_async(releasing(_submit) if wait else _submit)(request)
        return await _answer(exchange, wait, is_submission=True)

    @openapi.exchange_list
    async def get(self, request: Request) -> Response:
        """List the app's exchanges, newest first."""
        return await sync_to_async(_list_exchanges)(request)


class ExchangeView(ApiView):
    """`/api/v1/exchanges/{id}`."""

    @openapi.exchange_retrieve
    async def get(self, request: Request, exchange_id: str) -> Response:
        """Read an exchange: its verdict, the trace of its layers, and its outcome after review. Takes `Prefer: wait=N` too."""
        wait = preferred_wait(request)
        exchange = await sync_to_async(releasing(_get_exchange) if wait else _get_exchange)(request, exchange_id)
        return await _answer(exchange, wait, is_submission=False)


def _submit(request: Request) -> Exchange:
    key = idempotency_key(request)
    data = ExchangeInput(data=request.data)
    data.is_valid(raise_exception=True)
    app = request.user.app
    exchange, is_new = exchange_submit(app=app, idempotency_key=key, **data.validated_data)
    return exchange if is_new else exchange_get(app=app, exchange_id=exchange.pk)


def _get_exchange(request: Request, exchange_id: str) -> Exchange:
    try:
        return exchange_get(app=request.user.app, exchange_id=UUID(exchange_id))
    except (ValueError, Exchange.DoesNotExist):
        raise NotFound("There is no such exchange.") from None


async def _answer(exchange: Exchange, wait: int | None, *, is_submission: bool) -> Response:
    """The exchange as it stands, or as it stands once it is decided or the wait is over. The database alone says which."""
    if wait and exchange.status != Exchange.Status.DECIDED:
        await wait_for(exchange.pk, wait)
        exchange = await sync_to_async(exchange_get)(app=exchange.app, exchange_id=exchange.pk)
    headers = {} if wait is None else {"Preference-Applied": f"wait={wait}"}
    status = 200
    if exchange.status != Exchange.Status.DECIDED:
        headers["Retry-After"] = str(POLL_AFTER_S)
        status = 202 if is_submission else 200
    if is_submission:
        headers["Location"] = reverse("exchange", args=[exchange.pk])
    return Response(exchange_as_json(exchange), status=status, headers=headers)


def _list_exchanges(request: Request) -> Response:
    query = ExchangePageInput(data=request.query_params)
    query.is_valid(raise_exception=True)
    return _page(exchange_page, app=request.user.app, **query.validated_data)


def _page(read: Callable[..., tuple[Sequence[Mapping[str, Any]], str | None]], **filters: Any) -> Response:
    try:
        rows, next_cursor = read(**filters)
    except InvalidCursor:
        raise ValidationError({"cursor": ["Not a cursor of this list."]}) from None
    return Response({"results": rows, "next_cursor": next_cursor})


class JsonLines(BaseRenderer):
    """Names the format; the lines themselves are streamed."""

    media_type = "application/x-ndjson"
    format = "jsonl"


class Csv(BaseRenderer):
    """Names the format; the lines themselves are streamed."""

    media_type = "text/csv"
    format = "csv"


class LabelsView(ApiView):
    """`/api/v1/labels`."""

    permission_classes = [*ApiView.permission_classes, MayReadLabels]
    renderer_classes = [JSONRenderer, JsonLines, Csv]

    @openapi.label_list
    async def get(self, request: Request) -> HttpResponseBase:
        """List the app's settled labels, redacted, for a key with the scope `labels`.

        JSON comes in pages; `?format=jsonl` or `csv` (or `Accept`) gives all of them as one stream. Each reading is audited.
        """
        if isinstance(request.accepted_renderer, JSONRenderer):
            return await sync_to_async(_list_labels)(request)
        return await sync_to_async(_export_labels)(request)


def _list_labels(request: Request) -> Response:
    query = LabelPageInput(data=request.query_params)
    query.is_valid(raise_exception=True)
    caller = request.user
    response = _page(label_page, app=caller.app, **query.validated_data)
    audit(actor=caller.name, action="labels.read", target=caller.app.name, count=len(response.data["results"]), redacted=True)
    return response


def _export_labels(request: Request) -> StreamingHttpResponse:
    caller, renderer = request.user, request.accepted_renderer
    lines = labels_export(format=renderer.format, actor=caller.name, app=caller.app)
    chunks = stream(lines, request=request._request)
    response = StreamingHttpResponse(chunks, content_type=f"{renderer.media_type}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="labels.{renderer.format}"'
    return response


class ChatView(ApiView):
    """`/api/chat`."""

    @openapi.chat
    async def post(self, request: Request) -> Response:
        """Ask the chat model, and get its answer if the cascade allows it, else the app's fallback."""
        data, history = await sync_to_async(releasing(_read_chat))(request)
        answer = await chat.ask(data["message"], history)
        exchange = await sync_to_async(releasing(_submit_answer))(request, data, answer)
        await wait_for(exchange.pk, settings.MAX_WAIT_S)
        exchange = await sync_to_async(exchange_get)(app=exchange.app, exchange_id=exchange.pk)
        shown, verdict = may_be_shown(exchange, label_of(exchange)), exchange_as_json(exchange)
        return Response(
            {
                "answer": verdict["answer"] or fallback_of(exchange.app),
                "blocked": not shown,
                **{name: verdict[name] for name in ("decision", "category", "severity", "confidence", "conversation_id")},
                "exchange": exchange.pk,
            }
        )


def _read_chat(request: Request) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    data = ChatInput(data=request.data)
    data.is_valid(raise_exception=True)
    values = data.validated_data
    identifier = values.get("conversation_id", "")
    return values, conversation(app=request.user.app, conversation_id=identifier, turns=chat.HISTORY_TURNS)


def _submit_answer(request: Request, data: dict[str, Any], answer: str) -> Exchange:
    exchange, _ = exchange_submit(
        app=request.user.app,
        query=data["message"],
        response=answer,
        conversation_id=data.get("conversation_id", ""),
        metadata={"source": "chat", "model": settings.CHAT["model"]},
    )
    return exchange


class HealthView(OpenView):
    """`/api/health`."""

    @openapi.health
    async def get(self, request: Request) -> Response:
        """Whether the service can take exchanges: its process is up, and its database and Redis answer."""
        await sync_to_async(_check_parts)()
        return Response({"status": "ok"})


def _check_parts() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        raise Unavailable("The database cannot be reached.") from None
    try:
        redis_client().ping()
    except RedisError:
        raise Unavailable("Redis cannot be reached.") from None
