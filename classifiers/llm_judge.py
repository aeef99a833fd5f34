"""LLM-as-judge: asks a chat model whether a response may reach the patient.

Works with OpenAI, Azure OpenAI and any server that speaks the same form (vLLM, Ollama, llama.cpp). The server's context
must hold `MAX_INPUT_CHARS` (at some 4 characters a token) and the prompt: some servers drop the surplus and say nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from classifiers.judge.cache import JudgeCache
from classifiers.judge.client import DEFAULT_OPTIONS, MAX_INPUT_CHARS, JsonMode, ask, check_length, make_client, most_usage
from classifiers.judge.guard import Admission, JudgeGuard
from classifiers.judge.prompts import PROMPT_VERSION
from classifiers.judge.reply import NO_USAGE, JudgeError, SafetyJudgment, Usage, checked_quotes
from classifiers.judge.store import Reservation
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

FROM_CACHE = "[from the cache]"
"""Ends the reason of a judgment that was given before."""

_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 8.0
_LEASE_MARGIN_S = 5.0
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
    judgment, _ = await ask(
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
    `deadline_s`: seconds for the wait for a slot, all `1 + max_retries` attempts, and the pauses between. `prices`: model ->
    (USD per million input tokens, USD per million output tokens); a model without a price costs 0. `guard`: breaker, cap
    and budget; None: none. `cache`: of judgments; None: none. A result's cost is that of the tokens that the provider counted; an
    attempt of which it said nothing stays in the budget at its highest price.
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
        guard: JudgeGuard | None = None,
        cache: JudgeCache | None = None,
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
        self.guard = guard
        self.cache = cache
        self.version = f"{PROMPT_VERSION}/{model}/{json_mode}"

    async def judge(self, response_text: str, query: str) -> ClassifierResult:
        """The judge's result, or a failed one that says why there is none; it raises nothing but cancellation."""
        started = time.perf_counter()
        spent: list[Usage] = []
        try:
            check_length(response_text, query, self.max_input_chars)
            judgment, notes = await self._remembered(response_text, query, spent)
        except Exception as error:  # a fault of any kind leaves the exchange undecided
            reason = error.reason if isinstance(error, JudgeError) else f"the judge raised {type(error).__name__}"
            return ClassifierResult.failed(
                Layer.JUDGE, reason, version=self.version, latency_ms=_ms_since(started), **self._spent(spent)
            )
        evidence, _ = checked_quotes(judgment, response_text)
        return ClassifierResult(
            judgment.is_safe,
            most_severe(judgment.categories) if judgment.categories else SAFE,
            " ".join([judgment.reason, *notes]),
            judgment.confidence,
            layer=Layer.JUDGE,
            severity=severity_of(most_severe(judgment.categories)) if judgment.categories else None,
            categories=tuple(judgment.categories),
            scores={"unsafe": 1.0 - judgment.confidence if judgment.is_safe else judgment.confidence},
            evidence=evidence,
            version=self.version,
            latency_ms=_ms_since(started),
            **self._spent(spent),
        )

    async def _remembered(self, response_text: str, query: str, spent: list[Usage]) -> tuple[SafetyJudgment, list[str]]:
        """The judgment from the cache, else from the provider, and what its reader must be told of it."""
        if self.cache is None:
            judgment = await self._admitted(response_text, query, spent)
            return judgment, _about_quotes(checked_quotes(judgment, response_text)[1])
        key = self.cache.key(self.version, dict(self.options), query, response_text)
        if known := await self.cache.get(key, response_text):
            judgment, dropped = known
            return judgment, [*_about_quotes(dropped), FROM_CACHE]
        judgment = await self._admitted(response_text, query, spent)
        await self.cache.put(key, judgment, response_text)
        return judgment, _about_quotes(checked_quotes(judgment, response_text)[1])

    async def _admitted(self, response_text: str, query: str, spent: list[Usage]) -> SafetyJudgment:
        deadline = time.monotonic() + self.deadline_s
        async with self._guarded() as admission, self._open() as client:
            return await self._attempts(response_text, query, client, deadline, admission, spent)

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[Admission]:
        if self.guard is None:
            yield Admission()
            return
        # Who gets a slot has time for a whole attempt, or for half the deadline: a call that is cut short is paid for, too.
        patience_s = self.deadline_s - min(self.timeout_s, self.deadline_s / 2)
        async with self.guard.admission(patience_s=patience_s, lease_s=self.deadline_s + _LEASE_MARGIN_S) as admission:
            yield admission

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[AsyncOpenAI]:
        if callable(self.client):
            async with self.client() as client:
                yield client
        else:
            yield self.client

    async def _attempts(
        self,
        response_text: str,
        query: str,
        client: AsyncOpenAI,
        deadline: float,
        admission: Admission,
        spent: list[Usage],
    ) -> SafetyJudgment:
        attempt = 0
        while True:
            attempt += 1
            timeout_s = max(0.001, min(self.timeout_s, deadline - time.monotonic()))
            try:
                judgment, usage = await self._attempt(response_text, query, client, timeout_s)
            except JudgeError as error:
                spent.append(error.usage or NO_USAGE)
                # That the little time that was left did not suffice does not outweigh an answer that came before.
                cut_short = timeout_s < self.timeout_s
                if error.provider_up is not None and (error.provider_up or not (cut_short and admission.provider_up)):
                    admission.provider_up = error.provider_up
                pause = error.retry_after_s + _jitter.uniform(0, min(_MAX_BACKOFF_S, _BACKOFF_S * 2**attempt))
                if not error.retryable or attempt > self.max_retries or time.monotonic() + pause >= deadline:
                    raise
            else:
                spent.append(usage or NO_USAGE)
                admission.provider_up = True
                return judgment
            await asyncio.sleep(pause)

    async def _attempt(
        self, response_text: str, query: str, client: AsyncOpenAI, timeout_s: float
    ) -> tuple[SafetyJudgment, Usage | None]:
        """One call, paid from the budget."""
        reservation = None
        if self.guard:
            most = most_usage(response_text, query, self.options)
            reservation = await self.guard.reserve(self._cost(most) if self.model in self.prices else None)
        try:
            judgment, usage = await ask(
                response_text,
                query,
                client,
                model=self.model,
                timeout_s=timeout_s,
                json_mode=self.json_mode,
                options=self.options,
                max_input_chars=self.max_input_chars,
            )
        except JudgeError as error:
            await self._settle(reservation, error.usage)
            raise
        await self._settle(reservation, usage)
        return judgment, usage

    async def _settle(self, reservation: Reservation | None, usage: Usage | None) -> None:
        if self.guard and usage is not None:  # what may have been billed stays reserved
            await self.guard.settle(reservation, self._cost(usage), usage)

    def _spent(self, attempts: list[Usage]) -> dict[str, Any]:
        usage = sum(attempts, Usage())
        return {"cost_usd": self._cost(usage), "input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}

    def _cost(self, usage: Usage) -> float:
        usd_per_input, usd_per_output = self.prices.get(self.model, (0.0, 0.0))
        return (usage.prompt_tokens * usd_per_input + usage.completion_tokens * usd_per_output) / 1_000_000


def _about_quotes(dropped: int) -> list[str]:
    return [f"[{dropped} quoted passage(s) not in the response were dropped]"] if dropped else []


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
