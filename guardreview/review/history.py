"""What happened to an item, as a list for one reader: decided, undone, skipped, reopened, revealed, settled. Pure, no HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from guardreview.core.models import AuditEvent, User
from guardreview.review.consequences import stance_words
from guardreview.review.evidence import Piece
from guardreview.review.models import Label, Review, Skip
from guardreview.review.presentation import display_name, outcome_words
from guardreview.review.visibility import sees, verdict_is_hidden
from guardreview.verdicts.models import ReviewItem

WITHHELD = "A pharmacist has decided. What they said is shown once you have decided."
SOMEBODY = "Somebody"
NAMELESS: Mapping[str, str] = {
    ReviewItem.Stage.FIRST: "First pharmacist",
    ReviewItem.Stage.SECOND: "Second pharmacist",
    ReviewItem.Stage.ADJUDICATION: "Lead",
}
"""How those who spoke are called until the item is settled, so that no word counts for whose it is.

Whoever else did something in the round is SOMEBODY: who reopened an item or revealed its data at ten is who spoke a minute later.
"""
AUDITED = ("item.reopen", "item.reveal")


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the history. `truth`, `categories`, `severity`, `note` and `answer` are a statement's; `what`: what came of it.

    `over`: it no longer counts, because it was undone or superseded.
    """

    at: datetime
    who: str
    words: str
    truth: str = ""
    severity: str = ""
    categories: Sequence[str] = ()
    note: Sequence[Piece] = ()
    answer: Sequence[Piece] = ()
    what: Sequence[str] = ()
    blind: bool = False
    over: bool = False


def history(
    *,
    item: ReviewItem,
    decision: str,
    user: User,
    reviews: Sequence[Review],
    skips: Sequence[Skip],
    audited: Sequence[AuditEvent],
    show: Callable[[str], list[Piece]],
) -> list[Event]:
    """The item's events that `user` may see, the oldest first. `reviews`: all of the item, with reviewers and labels."""
    known = [user, *(review.reviewer for review in reviews), *(skip.reviewer for skip in skips)]
    names = {person.username: display_name(person) for person in known}
    began = _round_began(item, audited)

    def who(username: str, at: datetime) -> str:
        named = username == user.username or at < began or item.status == ReviewItem.Status.DECIDED
        return names.get(username, username) if named else SOMEBODY

    hidden = verdict_is_hidden(item, user, reviews)
    events = [Event(item.created_at, "", "Came to the pharmacists")]
    for review in reviews:
        if sees(review, item, user, reviews):
            events.append(_statement(review, item, user, "" if hidden else decision, show))
        elif review.undone_at is None:
            events.append(Event(review.created_at, "", WITHHELD))
    events += [Event(skip.created_at, who(skip.reviewer.username, skip.created_at), "skipped it") for skip in skips]
    events += [_audited(event, who(event.actor, event.at), show) for event in audited]
    return sorted(events, key=lambda event: event.at)


def _round_began(item: ReviewItem, audited: Sequence[AuditEvent]) -> datetime:
    """When the item was reopened for its present round; if that is not known, when it was made: then nobody is named."""
    reopened = [event.at for event in audited if event.action == "item.reopen" and event.data.get("round") == item.round]
    return min(reopened, default=item.created_at)


def _statement(review: Review, item: ReviewItem, user: User, decision: str, show: Callable[[str], list[Piece]]) -> Event:
    label: Label | None = getattr(review, "label", None)
    named = review.reviewer_id == user.pk or review.round < item.round or item.status == ReviewItem.Status.DECIDED
    what = []
    if review.undone_at is not None:
        what.append("taken back")
    elif label is not None:
        what.append(f"settled it: {label.get_basis_display()}")
        if not label.is_current:
            what.append("superseded since")
    if decision and review.undone_at is None and review.confirms is not None:
        # Of one that settles nothing by itself, only what it asks for is true.
        what.append((outcome_words if label is not None else stance_words)(review, decision).lower())
    return Event(
        at=review.created_at,
        who=display_name(review.reviewer) if named else NAMELESS[review.stage],
        words="said",
        truth=review.truth,
        severity=review.severity,
        categories=review.categories,
        note=show(review.note) if review.note else (),
        answer=show(review.corrected_answer) if review.corrected_answer else (),
        what=what,
        blind=review.blind,
        over=review.undone_at is not None or (label is not None and not label.is_current),
    )


def _audited(event: AuditEvent, who: str, show: Callable[[str], list[Piece]]) -> Event:
    if event.action == "item.reopen":
        return Event(event.at, who, "reopened it")
    return Event(event.at, who, "revealed personal data", note=show(str(event.data.get("reason", ""))))
