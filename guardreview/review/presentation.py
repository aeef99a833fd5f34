"""Stored rows in the words and shapes that the pages show. Pure: no query, no request, no HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from classifiers.result import CATEGORIES, UNDECIDED, Decision, Layer, Severity, family_of
from guardreview.core.models import User
from guardreview.review.masking import excerpts
from guardreview.review.models import Review
from guardreview.review.queue import COUNT_LIMIT
from guardreview.review.words import CATEGORY_WORDS as CATEGORY_WORDS
from guardreview.review.words import category_words as category_words
from guardreview.verdicts.models import ReviewItem
from guardreview.verdicts.priority import Reason

GROUPS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("Medical harm", ("harmful_medical",)),
    ("Care and information", ("discouraging_care", "misinformation")),
    ("Conduct", ("jailbreak_success", "legal_advice")),
    ("Personal data", ("pii",)),
)
"""The families of categories under the headings of the decision form."""
KEYED = tuple(category for category in CATEGORY_WORDS if category in CATEGORIES and category != "harmful_medical")[:9]
"""The categories that the keys 1 to 9 toggle: the same for every item, so that hands learn them."""
LAYER_WORDS: Mapping[str, str] = {Layer.RULES: "Rules", Layer.FINETUNED: "Fine-tuned classifier", Layer.JUDGE: "LLM judge"}
KIND_WORDS: Mapping[str, str] = {
    ReviewItem.Kind.BLOCKED: "Blocked",
    ReviewItem.Kind.HELD: "Held",
    ReviewItem.Kind.AUDIT: "Audit",
    ReviewItem.Kind.CALIBRATION: "Calibration",
}
STAGE_WORDS: Mapping[str, str] = {
    ReviewItem.Stage.FIRST: "",
    ReviewItem.Stage.SECOND: "Second opinion",
    ReviewItem.Stage.ADJUDICATION: "For a lead",
}
REASON_WORDS: Mapping[str, str] = {
    Reason.NOBODY_WAITS: "nobody is waiting",
    Reason.UNCERTAIN: "uncertain",
    Reason.LAYERS_DISAGREE: "layers disagree",
}
DECISION_WORDS: Mapping[str, str] = {Decision.ALLOW: "Allowed", Decision.BLOCK: "Blocked", Decision.HOLD: "Held"}
CONSEQUENCES: Mapping[str, Mapping[str, str]] = {
    Decision.BLOCK: {
        Review.Truth.SAFE: "Safe overturns the block; the app sees it as the outcome.",
        Review.Truth.UNSAFE: "Unsafe confirms the block.",
    },
    Decision.HOLD: {
        Review.Truth.SAFE: "Safe settles what the cascade could not: the answer may be given.",
        Review.Truth.UNSAFE: "Unsafe settles what the cascade could not: the answer stays withheld.",
    },
    Decision.ALLOW: {
        Review.Truth.SAFE: "Safe confirms that it was allowed.",
        Review.Truth.UNSAFE: "Unsafe overturns it; the app sees it as the outcome.",
    },
}


def sentence(text: str) -> str:
    """With a capital letter first."""
    return text[:1].upper() + text[1:]


def display_name(user: User | None) -> str:
    """How a person is called on the pages."""
    return "" if user is None else (user.get_full_name() or user.get_username())


def duration(span: timedelta) -> str:
    """`40 s`, `12 min`, `3 h 05 min`, `2 d 4 h`; never negative."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{days} d {hours % 24} h"


def due_words(due_at: datetime, now: datetime) -> str:
    """`due in 12 min` or `overdue by 3 min`."""
    return f"overdue by {duration(now - due_at)}" if now > due_at else f"due in {duration(due_at - now)}"


def outcome_words(review: Review, decision: str) -> str:
    """What a review made of the verdict."""
    if review.truth == Review.Truth.UNSURE:
        return "Sent to a second pharmacist" if review.stage == ReviewItem.Stage.FIRST else "Sent to a lead"
    if review.confirms is None:
        return "Settled"
    verb = "confirmed" if review.confirms else "overturned"
    return f"{'Block' if decision == Decision.BLOCK else 'Allowed answer'} {verb}"


def count_words(count: int) -> str:
    """A count that stops at COUNT_LIMIT: `12`, or `1,000+`."""
    return f"{COUNT_LIMIT:,}+" if count >= COUNT_LIMIT else str(count)


EMPTY_WORDS: Mapping[str, tuple[str, str]] = {
    "waiting": ("All clear", "Every answer that was stopped has been decided. New ones appear here by themselves."),
    "mine": ("Nothing in your hands", "What you open is yours for a while, and is listed here until you decide it or leave it."),
    "second": ("No second opinion wanted", "Where a pharmacist is unsure, or overturns a critical block, a second one is asked."),
    "adjudication": ("Everybody agrees", "Where two pharmacists do not, you are asked."),
    "audit": ("No audit is open", "Now and then an answer that was allowed is drawn for a look."),
}
"""What an empty tab says."""


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One line of the queue. It holds no item: what is not in it, no page can show.

    Of a blind one, all that would tell the verdict is empty. `why`: what moved its deadline, in words.
    """

    pk: int
    blind: bool
    title: str
    since: datetime
    waiting: str
    query: str
    response: str
    app: str
    holder: str
    severity: str = ""
    why: str = ""
    kind: str = ""
    kind_words: str = ""
    stage: str = ""
    stage_words: str = ""
    due_at: datetime | None = None
    due: str = ""
    overdue: bool = False
    patient_waits: bool = True


def queue_rows(items: Iterable[Any], *, user: User, now: datetime, unmasked: bool = False) -> list[QueueRow]:
    """Items of `queue.queue_page` as the queue shows them to `user`; a lease that has run out is nobody's.

    `unmasked`: what is blind is shown in full.
    """
    rows = []
    for item in items:
        blind = item.blind and not unmasked
        query, response = excerpts(item.query_head, item.response_head)
        shown = QueueRow(
            pk=item.pk,
            blind=blind,
            title="Blind review",
            since=item.created_at,
            waiting=duration(now - item.created_at),
            query=query,
            response=response,
            app=item.exchange.app.name,
            holder="" if not item.is_leased(now) else "you" if item.leased_by_id == user.pk else display_name(item.leased_by),
        )
        rows.append(shown if blind else replace(shown, **_told_by_verdict(item, now)))
    return rows


def _told_by_verdict(item: ReviewItem, now: datetime) -> dict[str, Any]:
    # Of what is called uncertain already, that need not be said again.
    said = {Reason.UNCERTAIN} if item.category == UNDECIDED else set()
    return {
        "title": category_words(item.category),
        "severity": item.severity,
        "why": ", ".join(REASON_WORDS[reason] for reason in item.reasons if reason in REASON_WORDS and reason not in said),
        "kind": item.kind,
        "kind_words": KIND_WORDS[item.kind],
        "stage": item.stage,
        "stage_words": STAGE_WORDS[item.stage],
        "due_at": item.due_at,
        "due": due_words(item.due_at, now),
        "overdue": now > item.due_at,
        "patient_waits": Reason.NOBODY_WAITS not in item.reasons,
    }


@dataclass(frozen=True, slots=True)
class CategoryChoice:
    """A category as a checkbox; `key`: the digit that toggles it, or empty."""

    value: str
    words: str
    key: str
    checked: bool
    suggested: bool


@dataclass(frozen=True, slots=True)
class CategoryGroup:
    """The checkboxes under one heading; `folded`: not shown until asked for."""

    words: str
    choices: Sequence[CategoryChoice]
    folded: bool


def category_groups(*, checked: Iterable[str], suggested: Iterable[str]) -> list[CategoryGroup]:
    """Every category under its heading. Personal data, a long list, is folded unless one of it is checked or suggested."""
    checked, suggested = set(checked), set(suggested)
    groups = []
    for words, families in GROUPS:
        members = [category for category in CATEGORY_WORDS if category in CATEGORIES and family_of(category) in families]
        choices = [
            CategoryChoice(
                category,
                CATEGORY_WORDS[category],
                str(KEYED.index(category) + 1) if category in KEYED else "",
                category in checked,
                category in suggested,
            )
            for category in members
        ]
        groups.append(CategoryGroup(words, choices, families == ("pii",) and not (checked | suggested) & set(members)))
    return groups


SEVERITY_MEANING: Mapping[str, str] = {
    Severity.CRITICAL: "could kill or cause lasting harm",
    Severity.MAJOR: "could cause harm that needs care",
    Severity.MINOR: "little or no harm",
}
