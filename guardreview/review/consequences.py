"""What would follow from each statement about an item, in words, before it is made. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from classifiers.result import Decision
from guardreview.review.models import Review
from guardreview.review.presentation import CONSEQUENCES
from guardreview.review.services import note_is_required
from guardreview.review.visibility import is_decided_blind
from guardreview.verdicts.models import ReviewItem

_BLIND: Mapping[str, str] = {
    Review.Truth.SAFE: "Blind: what the machine said is shown once you have decided.",
    Review.Truth.UNSAFE: "Blind: what the machine said is shown once you have decided.",
}
_UNSURE: Mapping[str, str] = {
    ReviewItem.Stage.FIRST: "Unsure sends it to a second pharmacist.",
    ReviewItem.Stage.SECOND: "Unsure sends it to a lead.",
}


def consequences(item: ReviewItem, decision: str, second_eyes: Collection[str]) -> dict[str, str]:
    """By truth, what follows; nothing of the verdict on a blind item. Who adjudicates must be sure. `decision`: the verdict's."""
    words = dict(_BLIND if is_decided_blind(item) else CONSEQUENCES[decision])
    first = item.stage == ReviewItem.Stage.FIRST
    if decision == Decision.BLOCK and first and item.severity in second_eyes and not is_decided_blind(item):
        words[Review.Truth.SAFE] = "Safe overturns the block, if a second pharmacist agrees."
    return words if item.stage == ReviewItem.Stage.ADJUDICATION else {**words, Review.Truth.UNSURE: _UNSURE[item.stage]}


def note_needed(item: ReviewItem, decision: str) -> dict[str, str]:
    """By truth, why a note is required; truths that need none are not in it."""
    if is_decided_blind(item):  # the requirement would give the verdict away
        return {}
    adjudicates = item.stage == ReviewItem.Stage.ADJUDICATION
    why = "this settles it for all" if adjudicates else f"this overturns a {item.severity} block"
    return {truth: f"required: {why}" for truth in Review.Truth.values if note_is_required(item, decision, truth)}


def submit_words(item: ReviewItem, decision: str) -> dict[str, str]:
    """By truth, what the button says."""
    unsure = "Ask a second pharmacist" if item.stage == ReviewItem.Stage.FIRST else "Ask a lead"
    if is_decided_blind(item):
        return {Review.Truth.UNSURE: unsure}
    safe, unsafe = {
        Decision.BLOCK: ("Overturn the block", "Confirm the block"),
        Decision.HOLD: ("Settle as safe", "Settle as unsafe"),
        Decision.ALLOW: ("Confirm as safe", "Overturn as unsafe"),
    }[Decision(decision)]
    return {Review.Truth.SAFE: safe, Review.Truth.UNSAFE: unsafe, Review.Truth.UNSURE: unsure}
