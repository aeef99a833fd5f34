"""The chat model whose answers are guarded: one call, whose every fault becomes one line that quotes nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.conf import settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

HISTORY_TURNS = 10
HISTORY_CHARS = 20_000


class ChatNotConfigured(Exception):
    """No chat model is set up; the message names the settings."""

    def __init__(self) -> None:
        super().__init__(
            "No chat model is configured. Set CHAT_MODEL, and CHAT_API_KEY or CHAT_BASE_URL "
            "(for Azure also CHAT_KIND=azure and CHAT_API_VERSION), and start the server again."
        )


class ChatModelFailed(Exception):
    """The chat model gave no answer that could be used. `status`: 504 if it was too late, else 502."""

    def __init__(self, detail: str, status: HTTPStatus = HTTPStatus.BAD_GATEWAY) -> None:
        super().__init__(detail)
        self.status = status


async def ask(message: str, history: Sequence[tuple[str, str]] = ()) -> str:
    """The chat model's answer. `history`: earlier (question, what the patient read).

    Raises ChatNotConfigured, ChatModelFailed.
    """
    if not settings.CHAT["model"]:
        raise ChatNotConfigured
    messages = [{"role": "system", "content": settings.CHAT["system_prompt"]}]
    for question, answer in _latest(history):
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    messages.append({"role": "user", "content": message})
    try:
        # The SDK's own time limit is for each read: a server that drips bytes would outlast it.
        async with asyncio.timeout(settings.CHAT["timeout_s"]):
            # In a thread: the SDK takes most of a second to import at first, and reads certificates from the disk.
            async with await sync_to_async(_make_client, thread_sensitive=False)() as client:
                completion = await client.chat.completions.create(model=settings.CHAT["model"], messages=messages)  # type: ignore[arg-type]
    except Exception as error:
        fault = _fault(error)
    else:
        return _answer(completion)
    raise fault  # out here, so that the provider's error, which may echo the text, is not its context


def _latest(history: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """The end of the history that fits `HISTORY_CHARS`: a model's context has its bounds, and its owner pays by length."""
    length = 0
    for position in range(len(history) - 1, -1, -1):
        length += sum(map(len, history[position]))
        if length > HISTORY_CHARS:
            return history[position + 1 :]
    return history


def _make_client() -> AsyncOpenAI:
    from classifiers.llm_judge import make_client

    conf = settings.CHAT
    return make_client(
        conf["kind"],
        base_url=conf["base_url"],
        api_key=conf["api_key"],
        api_version=conf["api_version"],
        timeout_s=conf["timeout_s"],
    )


def _answer(completion: Any) -> str:
    """The text of a completion; what a server sent that only claims to speak this form has none."""
    try:
        choice = completion.choices[0]
        finish_reason, text = choice.finish_reason, choice.message.content or choice.message.refusal
    except (AttributeError, IndexError, TypeError):
        raise ChatModelFailed("The chat model's reply is not a chat completion.") from None
    if finish_reason == "content_filter":
        raise ChatModelFailed("The chat model's provider filtered the answer.")
    if not isinstance(text, str) or not text.strip():
        raise ChatModelFailed("The chat model gave an empty answer.")
    if len(text) > settings.MAX_TEXT_CHARS:
        raise ChatModelFailed("The chat model's answer is too long.")
    # A database stores neither NUL characters nor lone surrogates, and a patient needs none.
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


def _fault(error: Exception) -> ChatModelFailed:
    import openai

    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return ChatModelFailed("The chat model did not answer in time.", HTTPStatus.GATEWAY_TIMEOUT)
    if isinstance(error, openai.APIConnectionError):
        return ChatModelFailed("The chat model cannot be reached.")
    if isinstance(error, openai.APIStatusError):
        if error.code == "content_filter":
            return ChatModelFailed("The chat model's provider filtered the question.")
        known = {401: "refused the key", 403: "refused access", 404: "does not know the model", 429: "is rate limited"}
        return ChatModelFailed(f"The chat model {known.get(error.status_code, 'failed')} (HTTP {error.status_code}).")
    return ChatModelFailed(f"The chat client failed ({type(error).__name__}).")
