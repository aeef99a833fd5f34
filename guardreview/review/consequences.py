"""What follows from a statement about an item, in words: before it is made, while it can be undone, while it waits. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from classifiers.result import Decision
from guardreview.review.models import Label, Review
from guardreview.review.presentation import CONSEQUENCES, outcome_words
from guardreview.review.settlement import Open, Settled
from guardreview.review.statements import note_is_required
from guardreview.review.visibility import can_be_undone, is_decided_blind
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


_STANCES: Mapping[str, tuple[str, str]] = {
    Decision.BLOCK: ("Overturns the block", "Confirms the block"),
    Decision.HOLD: ("Settles it as safe", "Settles it as unsafe"),
    Decision.ALLOW: ("Confirms that it was allowed", "Overturns that it was allowed"),
}
_WAITS: Mapping[str, str] = {
    ReviewItem.Stage.SECOND: "waits for a second pharmacist",
    ReviewItem.Stage.ADJUDICATION: "waits for a lead",
}


def stance_words(review: Review, decision: str) -> str:
    """What a statement asks for, whether or not it has come about. `decision`: the verdict's."""
    if review.truth == Review.Truth.UNSURE:
        return "Unsure"
    safe, unsafe = _STANCES[Decision(decision)]
    return safe if review.truth == Review.Truth.SAFE else unsafe


def undoable_words(review: Review, decision: str, alone: Open | Settled) -> str:
    """What follows unless it is undone, as far as its author may know. `alone`: what would follow if it were the only one."""
    stance = stance_words(review, decision)
    if review.truth == Review.Truth.UNSURE:
        first = review.stage == ReviewItem.Stage.FIRST
        return f"Goes to a {'second pharmacist' if first else 'lead'}, unless you undo it"
    if review.stage == ReviewItem.Stage.SECOND:
        return f"{stance}, or goes to a lead if the first opinion differs, unless you undo it"
    if review.stage == ReviewItem.Stage.FIRST and isinstance(alone, Open):
        return f"{stance} if a second pharmacist agrees, unless you undo it"
    return f"{stance}, unless you undo it"


def standing_words(review: Review, decision: str, label: Label | None) -> str:
    """What has come of a statement by now, as its author may know it, or whoever sees it. `label`: the exchange's in force.

    Nothing is called overturned or confirmed that is not so: it may still be undone, wait for another, or be settled otherwise.
    """
    item = review.item
    if item.kind == ReviewItem.Kind.CALIBRATION:
        return "Calibration"
    if review.round != item.round and (label is None or label.review_id != review.pk):
        return "Decided anew since"
    if is_in_force(review, label) or (review.truth == Review.Truth.UNSURE and item.status == ReviewItem.Status.DECIDED):
        return outcome_words(review, decision)
    if item.status == ReviewItem.Status.DECIDED:
        return "Settled otherwise"
    stance = stance_words(review, decision)
    return f"{stance}: {'can still be undone' if can_be_undone(review, item) else _WAITS[item.stage]}"


def is_in_force(review: Review, label: Label | None) -> bool:
    """Whether what was said is what is settled now. `label`: the exchange's in force. The item is loaded."""
    if label is None or review.item.kind == ReviewItem.Kind.CALIBRATION:
        return False
    settled = review.item.status == ReviewItem.Status.DECIDED and review.round == review.item.round
    return label.review_id == review.pk or (settled and label.value == review.truth)
