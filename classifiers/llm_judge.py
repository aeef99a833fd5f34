"""LLM-as-judge: asks a chat model whether a response may reach the patient.

Works with OpenAI, Azure OpenAI and any server that speaks the same form (vLLM, Ollama, llama.cpp). The server's context
must hold `MAX_INPUT_CHARS` (at some 4 characters a token) and the prompt: some servers drop the surplus and say nothing.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from classifiers.judge_reply import JUDGMENT_SCHEMA, JudgeError, SafetyJudgment, Usage, checked_quotes, read_reply
from classifiers.prompts import PROMPT_VERSION, SYSTEM_PROMPT, user_prompt
from classifiers.result import SAFE, ClassifierResult, Layer, most_severe, severity_of

if TYPE_CHECKING:  # importing it takes most of a second, and who only reads judgments needs none of it
    from openai import AsyncOpenAI

__all__ = [
    "DEFAULT_OPTIONS",
    "MAX_INPUT_CHARS",
    "PROMPT_VERSION",
    "JsonMode",
    "JudgeError",
    "LLMJudge",
    "SafetyJudgment",
    "Usage",
    "classify_with_llm",
    "make_client",
]

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

_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 8.0
_jitter = random.SystemRandom()


async def classify_with_llm(
    response_text: str,
    original_query: str,
    client: AsyncOpenAI,
    *,
    model: str = "gpt-4o-mini",
    timeout_s: float = 10.0,
    json_mode: JsonMode = "json_schema",
    options: Mapping[str, object] = DEFAULT_OPTIONS,
    max_input_chars: int = MAX_INPUT_CHARS,
) -> SafetyJudgment:
    """One call, no retry. `model` is the deployment's name on Azure; `timeout_s` is for the whole call, in seconds.

    Raises JudgeError on all that is not a well-formed judgment: a late, broken, filtered, refused or truncated answer,
    an HTTP error, or texts longer than `max_input_chars`.
    """
    judgment, _ = await _ask(
        response_text,
        original_query,
        client,
        model=model,
        timeout_s=timeout_s,
        json_mode=json_mode,
        options=options,
        max_input_chars=max_input_chars,
    )
    return judgment


class LLMJudge:
    """The cascade's third layer: `classify_with_llm` with retries, a price, and evidence checked against the response.

    `client`: an AsyncOpenAI (or AsyncAzureOpenAI), which belongs to one event loop; or a function that makes one, for
    workers that run a loop per call: then each judgment opens and closes its own. `timeout_s`: seconds for one attempt;
    `deadline_s`: seconds for all `1 + max_retries` of them with the pauses between. `prices`: model -> (USD per million
    input tokens, USD per million output tokens); a model without a price costs 0. `on_usage`: told of each attempt's tokens.
    """

    def __init__(
        self,
        client: AsyncOpenAI | Callable[[], AsyncOpenAI],
        *,
        model: str = "gpt-4o-mini",
        timeout_s: float = 10.0,
        deadline_s: float = 25.0,
        max_retries: int = 2,
        json_mode: JsonMode = "json_schema",
        options: Mapping[str, object] = DEFAULT_OPTIONS,
        max_input_chars: int = MAX_INPUT_CHARS,
        prices: Mapping[str, tuple[float, float]] | None = None,
        on_usage: Callable[[Usage], None] | None = None,
    ) -> None:
        self.client = client
        self.model = model
        self.timeout_s = timeout_s
        self.deadline_s = deadline_s
        self.max_retries = max_retries
        self.json_mode = json_mode
        self.options = options
        self.max_input_chars = max_input_chars
        self.prices = prices or {}
        self.on_usage = on_usage
        self.version = f"{PROMPT_VERSION}/{model}/{json_mode}"

    async def judge(self, response_text: str, query: str) -> ClassifierResult:
        """The judge's result, or a failed one that says why there is none; it raises nothing but cancellation."""
        started = time.perf_counter()
        spent: list[Usage] = []
        try:
            async with self._open() as client:
                judgment = await self._attempts(response_text, query, client, spent)
        except Exception as error:  # a fault of any kind leaves the exchange undecided
            reason = error.reason if isinstance(error, JudgeError) else f"the judge raised {type(error).__name__}"
            details = {"version": self.version, "latency_ms": _ms_since(started), "cost_usd": self._cost(spent)}
            return ClassifierResult.failed(Layer.JUDGE, reason, **details)
        evidence, dropped = checked_quotes(judgment, response_text)
        return ClassifierResult(
            judgment.is_safe,
            most_severe(judgment.categories) if judgment.categories else SAFE,
            f"{judgment.reason} [{dropped} quoted passage(s) not in the response were dropped]" if dropped else judgment.reason,
            judgment.confidence,
            layer=Layer.JUDGE,
            severity=severity_of(most_severe(judgment.categories)) if judgment.categories else None,
            categories=tuple(judgment.categories),
            scores={"unsafe": 1.0 - judgment.confidence if judgment.is_safe else judgment.confidence},
            evidence=evidence,
            version=self.version,
            latency_ms=_ms_since(started),
            cost_usd=self._cost(spent),
        )

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[AsyncOpenAI]:
        if callable(self.client):
            async with self.client() as client:
                yield client
        else:
            yield self.client

    async def _attempts(self, response_text: str, query: str, client: AsyncOpenAI, spent: list[Usage]) -> SafetyJudgment:
        deadline = time.monotonic() + self.deadline_s
        attempt = 0
        while True:
            attempt += 1
            try:
                judgment, usage = await _ask(
                    response_text,
                    query,
                    client,
                    model=self.model,
                    timeout_s=min(self.timeout_s, deadline - time.monotonic()),
                    json_mode=self.json_mode,
                    options=self.options,
                    max_input_chars=self.max_input_chars,
                )
            except JudgeError as error:
                self._count(error.usage, spent)
                pause = max(error.retry_after_s, _jitter.uniform(0, min(_MAX_BACKOFF_S, _BACKOFF_S * 2**attempt)))
                if not error.retryable or attempt > self.max_retries or time.monotonic() + pause >= deadline:
                    raise
            else:
                self._count(usage, spent)
                return judgment
            await asyncio.sleep(pause)

    def _count(self, usage: Usage, spent: list[Usage]) -> None:
        spent.append(usage)
        if self.on_usage:
            self.on_usage(usage)

    def _cost(self, spent: list[Usage]) -> float:
        total = sum(spent, Usage())
        usd_per_input, usd_per_output = self.prices.get(self.model, (0.0, 0.0))
        return (total.prompt_tokens * usd_per_input + total.completion_tokens * usd_per_output) / 1_000_000


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


async def _ask(
    response_text: str,
    query: str,
    client: AsyncOpenAI,
    *,
    model: str,
    timeout_s: float,
    json_mode: JsonMode,
    options: Mapping[str, object],
    max_input_chars: int,
) -> tuple[SafetyJudgment, Usage]:
    if len(response_text) + len(query) > max_input_chars:
        raise JudgeError("too long to judge", retryable=False)
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

    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return JudgeError("the judge did not answer in time", retryable=True)
    if isinstance(error, openai.APIConnectionError):
        return JudgeError("the connection to the judge failed", retryable=True)
    if not isinstance(error, openai.APIStatusError):
        return JudgeError(f"the client failed ({type(error).__name__})", retryable=False)
    status = error.status_code
    if error.code == "content_filter":
        return JudgeError(f"stopped by the provider's content filter (HTTP {status})", retryable=False)
    if error.code == "context_length_exceeded":
        return JudgeError(f"too long for the model (HTTP {status})", retryable=False)
    if error.code == "insufficient_quota":
        return JudgeError(f"the account's quota is used up (HTTP {status})", retryable=False)
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
    )


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds that the provider asks to wait; 0 if it asks for nothing that is a number."""
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError):
            seconds = float(headers[header]) * unit
            if math.isfinite(seconds):
                return max(0.0, seconds)
    return 0.0


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
