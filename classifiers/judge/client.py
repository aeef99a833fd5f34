"""One call to a chat model: the client, the request, and every way in which it can fail, as a `JudgeError`."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from classifiers.judge.prompts import SYSTEM_PROMPT, user_prompt
from classifiers.judge.reply import JUDGMENT_SCHEMA, NO_USAGE, JudgeError, SafetyJudgment, Usage, read_reply

if TYPE_CHECKING:  # importing it takes most of a second, and who only reads judgments needs none of it
    from openai import AsyncOpenAI

JsonMode = Literal["json_schema", "json_object"]
"""What the server can enforce: the judgment's schema, or only that the reply is JSON."""

MAX_INPUT_CHARS = 60_000
"""Query and response together. More is not judged: what is cut off unseen could be the part that harms."""

DEFAULT_OPTIONS: Mapping[str, object] = MappingProxyType({"temperature": 0, "max_tokens": 1000})
"""Merged into each request. Reasoning models refuse both: give them `{"max_completion_tokens": 4000}` or the like."""

_RESPONSE_FORMATS: Mapping[JsonMode, dict[str, Any]] = {
    "json_schema": {
        "type": "json_schema",
        "json_schema": {"name": "safety_judgment", "strict": True, "schema": JUDGMENT_SCHEMA},
    },
    "json_object": {"type": "json_object"},
}

UNBOUNDED_COMPLETION_TOKENS = 16_000
"""What a completion is taken to need at most where the options state no limit."""

_UNSENT = frozenset({"ConnectError", "UnsupportedProtocol", "UnicodeEncodeError"})
"""Faults that come before anything is sent. Of them and of HTTP errors it is known that they cost nothing."""

_FIXED_BYTES = len(f"{SYSTEM_PROMPT}{user_prompt('', '')}{json.dumps(_RESPONSE_FORMATS['json_schema'])}".encode()) + 100
"""Of a request without its texts; 100 for the roles and what stands between the messages."""


def make_client(
    kind: Literal["openai", "azure"] = "openai",
    *,
    base_url: str = "https://api.openai.com/v1",
    api_key: str = "",
    api_version: str = "",
    timeout_s: float = 10.0,
) -> AsyncOpenAI:
    """A client for one event loop; close it, or use it in `async with`. For Azure, `base_url` is the resource's endpoint
    (`https://NAME.openai.azure.com`) and `api_version` is required. Local servers take an empty key.
    Raises ValueError on a kind or a version that is missing or unknown."""
    from openai import AsyncAzureOpenAI, AsyncOpenAI, DefaultAsyncHttpxClient

    if kind not in ("openai", "azure"):
        raise ValueError("the judge's kind is openai or azure")
    if kind == "azure" and not api_version:
        raise ValueError("Azure needs an api_version")
    # The SDK follows redirects: they would carry the patient's words to a host that nobody configured.
    http_client = DefaultAsyncHttpxClient(follow_redirects=False, timeout=timeout_s)
    key = api_key or "none"  # the SDK insists on one
    if kind == "azure":
        return AsyncAzureOpenAI(
            azure_endpoint=base_url, api_key=key, api_version=api_version, http_client=http_client, max_retries=0
        )
    return AsyncOpenAI(base_url=base_url, api_key=key, http_client=http_client, max_retries=0)


def check_length(response_text: str, query: str, max_input_chars: int) -> None:
    """Raises JudgeError if the texts are together longer than that."""
    if len(response_text) + len(query) > max_input_chars:
        raise JudgeError("too long to judge", retryable=False)


def most_usage(response_text: str, query: str, options: Mapping[str, object]) -> Usage:
    """What one request may take at most. No tokenizer makes more tokens of a text than it has bytes."""
    size = sum(len(text.encode(errors="surrogatepass")) for text in (response_text, query))
    limits = [options.get(name) for name in ("max_tokens", "max_completion_tokens")]
    completion = max((limit for limit in limits if isinstance(limit, int) and limit > 0), default=UNBOUNDED_COMPLETION_TOKENS)
    return Usage(prompt_tokens=_FIXED_BYTES + size, completion_tokens=completion)


async def ask(
    response_text: str,
    query: str,
    client: AsyncOpenAI,
    *,
    model: str,
    timeout_s: float,
    json_mode: JsonMode,
    options: Mapping[str, object],
    max_input_chars: int,
) -> tuple[SafetyJudgment, Usage | None]:
    """One request, no retry: the judgment, and what it took, None if the provider does not say. `timeout_s` is for the whole.
    Raises JudgeError."""
    check_length(response_text, query, max_input_chars)
    response_format: Any = _RESPONSE_FORMATS[json_mode]
    try:
        # The SDK's own time limit is for each read: a server that drips bytes would outlast it.
        async with asyncio.timeout(timeout_s):
            reply = await client.with_options(max_retries=0, timeout=timeout_s).chat.completions.with_raw_response.create(
                model=model,
                messages=[
                    {"role": "system", "content": SYSTEM_PROMPT},
                    {"role": "user", "content": user_prompt(query, response_text)},
                ],
                response_format=response_format,
                extra_body=dict(options),
            )
    except Exception as error:
        fault = _fault(error)
    else:
        return read_reply(reply.content)
    raise fault  # out here, so that the provider's error, which may echo the text, is not its context


def _fault(error: Exception) -> JudgeError:
    import openai

    # By its name, since the client may have been made with either generation of httpx.
    usage = NO_USAGE if type(error.__cause__ or error).__name__ in _UNSENT else None
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return JudgeError("the judge did not answer in time", retryable=True, usage=usage, provider_up=False)
    if isinstance(error, openai.APIConnectionError):
        return JudgeError("the connection to the judge failed", retryable=True, usage=usage, provider_up=False)
    if not isinstance(error, openai.APIStatusError):
        return JudgeError(f"the client failed ({type(error).__name__})", retryable=False, usage=usage)
    status = error.status_code
    if error.code == "content_filter":
        return JudgeError(f"stopped by the provider's content filter (HTTP {status})", retryable=False, provider_up=True)
    if error.code == "context_length_exceeded":
        return JudgeError(f"too long for the model (HTTP {status})", retryable=False, provider_up=True)
    if error.code == "insufficient_quota":
        return JudgeError(f"the account's quota is used up (HTTP {status})", retryable=False, provider_up=False)
    known = {
        401: "the judge refused the key",
        403: "the judge refused access",
        404: "no such model or deployment",
        429: "rate limited",
    }
    return JudgeError(
        f"{known.get(status, 'the judge answered with an error')} (HTTP {status})",
        retryable=status in (408, 409, 429) or status >= 500,
        retry_after_s=_retry_after_s(error.response.headers),
        provider_up=status not in (408, 429) and status < 500,
    )


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds that the provider asks to wait (RFC 9110: a number or a date); 0 if it asks for nothing that can be read."""
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError):
            seconds = float(headers[header]) * unit
            if math.isfinite(seconds):
                return max(0.0, seconds)
    with suppress(KeyError, ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    return 0.0
