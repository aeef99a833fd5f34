"""The single keys of the pages, and which other ones a person has chosen for them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from guardreview.core.models import User
from guardreview.review.presentation import CATEGORY_WORDS, KEYED

PREFERENCE = "keys"
ACTIONS: Mapping[str, tuple[str, str]] = {
    "confirm": ("c", "Confirm the verdict"),
    "overturn": ("o", "Overturn the verdict"),
    "safe": ("s", "Safe"),
    "unsafe": ("u", "Unsafe"),
    "unsure": ("q", "Unsure: ask somebody else"),
    "mark": ("m", "Mark the selected words as dangerous"),
    "note": ("e", "Write a note; Esc leaves it"),
    "undo": ("z", "Undo the last decision"),
    "next": ("n", "Start reviewing; on an item, skip it"),
    "queue": ("g", "Back to the queue"),
    "row-next": ("j", "Next row, like the arrow down"),
    "row-before": ("k", "Row before, like the arrow up"),
    **{f"category-{number}": (str(number), CATEGORY_WORDS[name]) for number, name in enumerate(KEYED, start=1)},
}
"""By name: the key that it has unless a person chooses another, and what it does."""
SHEET = "?"
"""The key of the sheet where keys are chosen; it stays what it is."""
_AROUND = ("next", "queue", "row-next", "row-before")


class InvalidKey(ValueError):
    """The key cannot be had; the message is for the person who wanted it."""


def keys_of(user: User) -> dict[str, str]:
    """The key of each action, as this person likes it."""
    chosen = user.preferences.get(PREFERENCE, {})
    return {action: chosen.get(action, default) for action, (default, _) in ACTIONS.items()}


def by_default(user: User) -> dict[str, str]:
    """This person's keys by the one that each action came with, which is how the pages name an action."""
    return {ACTIONS[action][0]: key for action, key in keys_of(user).items()}


def with_key(user: User, action: str, key: str) -> dict[str, str]:
    """What to store for this person, so that `key` does `action`: what differs from the defaults. Raises InvalidKey."""
    if action not in ACTIONS:
        raise InvalidKey("There is no such action.")
    key = key.lower()
    if len(key) != 1 or not key.isprintable() or key.isspace():
        raise InvalidKey("Choose one letter, digit or sign.")
    if key == SHEET:
        raise InvalidKey(f"{SHEET} is taken: it opens this sheet. Choose another key.")
    keys = keys_of(user)
    for other, taken in keys.items():
        if taken == key and other != action:
            raise InvalidKey(f"{key.upper()} is taken: {ACTIONS[other][1]}. Choose another key, or change that one first.")
    keys[action] = key
    return {name: value for name, value in keys.items() if value != ACTIONS[name][0]}


def sheet(user: User) -> dict[str, list[dict[str, str]]]:
    """The rows of the sheet of shortcuts in three parts; each has its `action`, `default` key, the person's own, and `words`."""
    keys = keys_of(user)
    parts: dict[str, list[dict[str, str]]] = {"deciding": [], "categories": [], "around": []}
    for action, (default, words) in ACTIONS.items():
        part = "categories" if action.startswith("category-") else "around" if action in _AROUND else "deciding"
        parts[part].append({"action": action, "default": default, "key": keys[action], "words": words})
    return parts
