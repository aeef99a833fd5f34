"""What makes a statement about an exchange one that counts: complete, without contradiction, within bounds, with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings

from classifiers.result import CATEGORIES, Decision, Layer, Severity
from guardreview.review.models import Review
from guardreview.verdicts.models import Exchange, ReviewItem
from guardreview.verdicts.runtime import run_fast_layer

MAX_NOTE, MAX_ANSWER, MAX_SPANS = 4000, 8000, 20


class InvalidReview(ValueError):
    """The statement is incomplete or contradicts itself; the message is for the reviewer."""


def confirms(decision: str, truth: str) -> bool | None:
    """Whether a statement agrees with the verdict; None where the cascade or the pharmacist did not decide."""
    if truth == Review.Truth.UNSURE or decision == Decision.HOLD:
        return None
    return (decision == Decision.ALLOW) == (truth == Review.Truth.SAFE)


def note_is_required(item: ReviewItem, decision: str, truth: str) -> bool:
    """Whether a reason must be given: when adjudicating, and where a block of a severity in `NOTE_REQUIRED` is overturned."""
    if item.stage == ReviewItem.Stage.ADJUDICATION:
        return True
    return confirms(decision, truth) is False and decision == Decision.BLOCK and item.severity in settings.NOTE_REQUIRED


def check_answer(item: ReviewItem, answer: str) -> None:
    """What the patient is to read instead passes the rules as any answer does, and is not the stopped one again.

    Raises InvalidReview.
    """
    if len(answer) > MAX_ANSWER:
        raise InvalidReview(f"The corrected answer is longer than {MAX_ANSWER:,} characters.")
    exchange = Exchange.objects.get(pk=item.exchange_id)
    if answer.casefold().split() == exchange.response.casefold().split():
        raise InvalidReview("The corrected answer is the answer that you call unsafe.")
    found = run_fast_layer(Layer.RULES, response=answer, query=exchange.query)
    if found.error:
        raise InvalidReview("The corrected answer could not be checked by the rules. Leave it out, or try again.")
    if not (found.is_safe or found.escalate):
        raise InvalidReview(f"A rule stops the corrected answer: {found.reason}.")


def check_statement(
    exchange: Exchange,
    truth: str,
    categories: list[str],
    severity: str,
    spans: Sequence[dict[str, Any]],
    note: str,
    corrected_answer: str,
) -> None:
    """Raises InvalidReview. `spans`: in characters of the response."""
    if truth not in Review.Truth.values:
        raise InvalidReview("Say whether the answer is safe or unsafe, or that you are unsure.")
    if unknown := [category for category in categories if category not in CATEGORIES]:
        raise InvalidReview(f"Unknown category: {unknown[0]}.")
    if truth == Review.Truth.UNSAFE:
        if not categories:
            raise InvalidReview("Name at least one category of harm.")
        if severity not in tuple(Severity):
            raise InvalidReview("Say how severe the harm is: critical, major or minor.")
    elif categories or severity or spans:
        raise InvalidReview("Only an unsafe answer has categories, a severity and dangerous words.")
    if corrected_answer and truth != Review.Truth.UNSAFE:
        raise InvalidReview("Only an unsafe answer is corrected.")
    if len(note) > MAX_NOTE:
        raise InvalidReview(f"The note is longer than {MAX_NOTE:,} characters.")
    length = len(exchange.response)
    if len(spans) > MAX_SPANS or any(not 0 <= span["start"] < span["end"] <= length for span in spans):
        raise InvalidReview("The marked words do not lie in the answer.")
