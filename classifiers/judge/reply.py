"""What an LLM judge replied: a well-formed `SafetyJudgment` with its quotes checked, or a `JudgeError` that says why not."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from classifiers.result import CATEGORIES, DEFAULT_SEVERITY, SAFE, Evidence, family_of

M = TypeVar("M", bound=BaseModel)

MAX_REASON_CHARS = 500
MAX_QUOTES = 10

UNNAMED_CATEGORY = "harmful_medical"
"""Stands for an unsafe judgment's category that is missing or unknown: the gravest family, so that nothing is played down."""

# What judges write besides the exact names: the lesson's names, and a subcategory without its family.
_OTHER_NAMES = {name.partition(":")[2]: name for name in CATEGORIES if ":" in name} | {
    "unsafe_combination_approval": "harmful_medical:unsafe_combination",
    "discouraging_professional_care": "discouraging_care",
    "self_medication_advice": "harmful_medical:self_medication",
}


class Usage(BaseModel):
    """Tokens that the provider counted, and bills, for one call or several."""

    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


NO_USAGE = Usage()
"""Of a call that was refused, or not made."""


class JudgeError(Exception):
    """The judge gave no well-formed judgment, which says nothing of the response.

    `reason`: a fixed phrase, with a status code or an exception's type at most; never words of the query, the response
    or the provider, so that it may be logged. `retryable`: the same call may succeed later, at the earliest after
    `retry_after_s` seconds. `usage`: the tokens spent in vain, None if a request was sent and nobody said how many.
    `provider_up`: False if the provider failed (no answer, 5xx, rate limit), True if it answered with something else, None if
    this says nothing of it.
    """

    def __init__(
        self,
        reason: str,
        retryable: bool,
        *,
        retry_after_s: float = 0.0,
        usage: Usage | None = NO_USAGE,
        provider_up: bool | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.usage = usage
        self.provider_up = provider_up


class SafetyJudgment(BaseModel):
    """One judge's word on one response. Raises ValidationError on a wrong shape or a judgment that contradicts itself.

    `categories`: names of `result.CATEGORIES`, in the judge's order, empty if and only if `is_safe`. An unknown
    subcategory becomes its family; an unknown or missing name in an unsafe judgment becomes `UNNAMED_CATEGORY`; any name
    in a safe one is a contradiction, and so is "safe" in an unsafe one. `confidence`: in [0, 1], that `is_safe` is right.
    `reason`: printable, cut at `MAX_REASON_CHARS`; it may repeat the patient's words, so it is not to be logged.
    `quotes`: what the judge says are exact words of the response; nobody has checked that yet.
    """

    # Strict: "yes", 1 or "0.9" are guesses at what was meant. Inputs are hidden because errors get logged.
    model_config = ConfigDict(strict=True, hide_input_in_errors=True)

    is_safe: bool
    categories: list[str]
    confidence: float = Field(ge=0.0, le=1.0)
    reason: str
    quotes: list[str] = []

    @field_validator("categories")
    @classmethod
    def _settle_categories(cls, names: list[str], info: ValidationInfo) -> list[str]:
        found = list(dict.fromkeys(_canonical(name) for name in names))
        if info.data.get("is_safe"):
            if set(found) - {SAFE}:
                raise ValueError("safe, yet with categories")
            return []
        if SAFE in found:
            raise ValueError("unsafe, yet in the category safe")
        return found or [UNNAMED_CATEGORY]

    @field_validator("reason")
    @classmethod
    def _tidy_reason(cls, reason: str) -> str:
        printable = "".join(char if char.isprintable() else " " for char in reason)  # PostgreSQL refuses a NUL
        tidy = " ".join(printable.split())
        return tidy if len(tidy) <= MAX_REASON_CHARS else tidy[: MAX_REASON_CHARS - 1] + "…"

    @field_validator("quotes")
    @classmethod
    def _bound_quotes(cls, quotes: list[str]) -> list[str]:
        return quotes[:MAX_QUOTES]


def _canonical(name: str) -> str:
    name = "_".join(name.lower().replace("-", " ").split())
    if name == SAFE or name in DEFAULT_SEVERITY:
        return name
    if known := _OTHER_NAMES.get(name.rpartition(":")[2]):
        return known
    family = family_of(name)
    return family if family in DEFAULT_SEVERITY else UNNAMED_CATEGORY


JUDGMENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "is_safe": {"type": "boolean"},
        "categories": {"type": "array", "items": {"type": "string", "enum": list(CATEGORIES)}},
        "confidence": {"type": "number"},
        "reason": {"type": "string"},
        "quotes": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["is_safe", "categories", "confidence", "reason", "quotes"],
    "additionalProperties": False,
}
"""The shape that the server is told to keep. Bounds are checked here and not stated there: Azure refuses them."""


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    finish_reason: str | None = None
    message: _Message


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1, max_length=1)
    usage: Usage | None = None


def read_reply(body: bytes) -> tuple[SafetyJudgment, Usage | None]:
    """The judgment in the body of a chat completion, and what it cost in tokens, None if the body does not say. Raises JudgeError
    if there is no judgment.

    The body is checked here because the SDK does not: it hands over whatever came, in the types that were hoped for.
    """
    completion = _parsed(_Completion, body)
    if completion is None:
        raise JudgeError("the reply is not a chat completion", retryable=True, usage=None, provider_up=True)
    choice, usage = completion.choices[0], completion.usage
    if choice.finish_reason == "content_filter":
        raise JudgeError("stopped by the provider's content filter", retryable=False, usage=usage, provider_up=True)
    if choice.message.refusal:
        raise JudgeError("the model refused to judge", retryable=False, usage=usage, provider_up=True)
    if choice.finish_reason == "length":
        raise JudgeError("the judgment was cut off at the token limit", retryable=False, usage=usage, provider_up=True)
    if choice.finish_reason != "stop" or choice.message.content is None:
        raise JudgeError("the completion did not end normally", retryable=True, usage=usage, provider_up=True)
    judgment = _parsed(SafetyJudgment, choice.message.content)
    if judgment is None:
        raise JudgeError("the reply is not a well-formed judgment", retryable=True, usage=usage, provider_up=True)
    return judgment, usage


def checked_quotes(judgment: SafetyJudgment, response: str) -> tuple[tuple[Evidence, ...], int]:
    """The quotes that occur in the response, and how many do not. A safe judgment has no evidence."""
    if judgment.is_safe:
        return (), 0
    # A quote is not tied to a category: with several, none is claimed.
    category = judgment.categories[0] if len(judgment.categories) == 1 else ""
    spans = [_find(quote, response) for quote in judgment.quotes]
    found = dict.fromkeys(span for span in spans if span)
    evidence = tuple(Evidence(start, end, response[start:end], rule="judge", category=category) for start, end in found)
    return evidence, spans.count(None)


def _find(quote: str, text: str) -> tuple[int, int] | None:
    """Where the quote first occurs, runs of whitespace being equal to one another: (start, end) in characters."""
    quote = quote.strip()
    if not quote:
        return None
    if (start := text.find(quote)) >= 0:
        return start, start + len(quote)
    kept = [i for i, char in enumerate(text) if not (char.isspace() and i and text[i - 1].isspace())]
    flat = "".join(" " if text[i].isspace() else text[i] for i in kept)
    wanted = " ".join(quote.split())
    at = flat.find(wanted)
    return None if at < 0 else (kept[at], kept[at + len(wanted) - 1] + 1)


def _parsed(model: type[M], text: str | bytes) -> M | None:
    # None, and not the exception: it would travel on as the context of the JudgeError, with the words in it.
    try:
        return model.model_validate_json(text)
    except ValidationError:
        return None
