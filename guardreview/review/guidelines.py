"""Guidelines: how to decide in a category. Each ships as version 0; leads change them in versions, which are never edited."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from django.db import IntegrityError, transaction
from django.db.models import OuterRef, Subquery

from guardreview.core.models import User
from guardreview.core.services import audit
from guardreview.review.doubts import doubts_raise
from guardreview.review.guideline_text import Block, Change, blocks, changes, guideline_of, shipped
from guardreview.review.models import Guideline
from guardreview.review.presentation import category_words, display_name
from guardreview.verdicts.models import ReviewItem

MAX_TEXT, MAX_WHY = 4000, 500
SHOWN_VERSIONS = 30
"""Of a guideline's history, as many versions as its page shows, the newest first."""


class InvalidGuideline(ValueError):
    """The change is incomplete; the message is for the lead."""


class GuidelineChanged(Exception):
    """Somebody changed it since; `current` is what holds now."""

    def __init__(self, current: Guide) -> None:
        super().__init__("the guideline was changed meanwhile")
        self.current = current


@dataclass(frozen=True, slots=True)
class Guide:
    """One version of a guideline as it is shown. `suggested`: it covers a category that the verdict or a statement named."""

    category: str
    words: str
    version: int
    text: str
    why: str = ""
    made_by: str = ""
    made_at: datetime | None = None
    item_id: int | None = None
    suggested: bool = False

    @property
    def blocks(self) -> list[Block]:
        return blocks(self.text)

    @property
    def gist(self) -> str:
        """Its first line."""
        return self.blocks[0].lines[0]


# --- Reads ----------------------------------------------------------------------------------------------------------------
def guidelines_for(categories: Collection[str] = ()) -> list[Guide]:
    """Every guideline in force, in one query: those that cover one of `categories` first, as `suggested`.

    What is suggested tells the verdict: of an item that is blind to its reader, no categories.
    """
    wanted = {guideline_of(category) for category in categories}
    newest = Guideline.objects.filter(category=OuterRef("category")).order_by("-version").values("version")[:1]
    rows = Guideline.objects.filter(version=Subquery(newest)).select_related("made_by")
    stored = {row.category: _as_guide(row) for row in rows}
    found = [stored.get(category) or _shipped_guide(category) for category in shipped()]
    found = [replace(guide, suggested=guide.category in wanted) for guide in found]
    return sorted(found, key=lambda guide: not guide.suggested)


def guideline_current(*, category: str) -> Guide:
    """The version in force. Raises KeyError on a category that has no guideline."""
    newest = Guideline.objects.filter(category=category).select_related("made_by").order_by("-version").first()
    return _as_guide(newest) if newest and category in shipped() else _shipped_guide(category)


def guideline_history(*, category: str) -> list[tuple[Guide, Sequence[Change]]]:
    """Up to SHOWN_VERSIONS versions, the newest first, each with what it changed; last, if so few, the shipped one."""
    rows = Guideline.objects.filter(category=category).select_related("made_by").order_by("-version")
    guides = [*map(_as_guide, rows[: SHOWN_VERSIONS + 1]), _shipped_guide(category)]
    pairs: list[tuple[Guide, Sequence[Change]]] = [(guide, changes(old.text, guide.text)) for guide, old in pairwise(guides)]
    if len(guides) > SHOWN_VERSIONS + 1:
        return pairs[:SHOWN_VERSIONS]
    return [*pairs, (guides[-1], [])]


def _as_guide(row: Guideline) -> Guide:
    return Guide(
        category=row.category,
        words=_words(row.category),
        version=row.version,
        text=row.text,
        why=row.why,
        made_by=display_name(row.made_by),
        made_at=row.created_at,
        item_id=row.item_id,
    )


def _shipped_guide(category: str) -> Guide:
    return Guide(category=category, words=_words(category), version=0, text=shipped()[category])


def _words(category: str) -> str:
    # The one that covers a whole family is no "other" one.
    return "Personal data" if category == "pii" else category_words(category)


# --- Writes ---------------------------------------------------------------------------------------------------------------
def guideline_change(
    *, category: str, edited: int, text: str, why: str, user: User, item: ReviewItem | None = None, look_again: bool = False
) -> tuple[Guideline, int]:
    """Store the next version; with `look_again`, past decisions that it covers come into doubt. (the version, how many).

    `edited`: the version that the change began from, which must still be the newest. `item`: the adjudication that it came
    from. Raises InvalidGuideline, GuidelineChanged; KeyError on a category that has no guideline.
    """
    text, why = "\n".join(line.rstrip() for line in text.strip().splitlines()), " ".join(why.split())
    try:
        with transaction.atomic():
            current = guideline_current(category=category)
            if current.version != edited:
                raise GuidelineChanged(current)
            _check(current, text, why)
            made = Guideline.objects.create(category=category, version=edited + 1, text=text, why=why, item=item, made_by=user)
            raised = doubts_raise(guideline=made) if look_again else 0
            audit(
                actor=user.username,
                action="guideline.change",
                target=f"guideline:{category}",
                version=made.version,
                item=item.pk if item else None,
                doubts=raised,
            )
            return made, raised
    except IntegrityError as error:  # the same version, at the same moment, by another
        raise GuidelineChanged(guideline_current(category=category)) from error


def _check(current: Guide, text: str, why: str) -> None:
    if not text:
        raise InvalidGuideline("A guideline cannot be empty.")
    if len(text) > MAX_TEXT:
        raise InvalidGuideline(f"The guideline is longer than {MAX_TEXT:,} characters.")
    if "\x00" in text + why:
        raise InvalidGuideline("The text has characters that cannot be stored.")
    if not why:
        raise InvalidGuideline("Say why it is changed: pharmacists read it beside the change.")
    if len(why) > MAX_WHY:
        raise InvalidGuideline(f"The reason is longer than {MAX_WHY:,} characters.")
    if text == current.text:
        raise InvalidGuideline("Nothing was changed.")
