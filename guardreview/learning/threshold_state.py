"""A proposed policy as an address holds it: the same for the page, its what-if, a shared link and a form without scripts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.http import QueryDict
from django.utils import timezone

from classifiers.policy import THRESHOLD_KEYS, UNSAFE, InvalidPolicy
from classifiers.policy import Policy as CascadePolicy
from classifiers.result import Layer
from guardreview.learning.policy_changes import policy_fields
from guardreview.learning.policy_differences import key_words
from guardreview.verdicts.models import Policy

BOUNDS: Final = ("allow_below", "block_at")
PERIODS: Final[Mapping[int, str]] = {1: "a day", 7: "7 days", 30: "30 days", 90: "90 days"}
STATE: Final = "state"
"""Says that the address holds all of a policy, not only what differs from the one in force."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key with its bounds as they are written in the fields; `error` says what is wrong with them."""

    key: str
    words: str
    allow_below: str
    block_at: str
    error: str = ""


@dataclass(slots=True)
class State:
    """`fields`: of the proposed policy. `policy`: the same as `decide` reads it, the one in force where it cannot be meant."""

    fields: dict[str, Any]
    rows: list[KeyRow]
    days: int
    policy: CascadePolicy
    errors: list[str] = field(default_factory=list)

    @property
    def query(self) -> str:
        """What stands after the `?` of an address with this state."""
        parts: list[tuple[str, str]] = [(STATE, "1"), ("days", str(self.days))]
        for row in self.rows:
            parts += [(f"{row.key}.{bound}", getattr(row, bound)) for bound in BOUNDS]
        parts += [("layers", layer) for layer in self.fields["layers"]]
        parts += [("judge_min_confidence", number_words(self.fields["judge_min_confidence"]))]
        return urlencode([*parts, ("judge_model", self.fields["judge_model"])])

    @property
    def free_keys(self) -> list[tuple[str, str]]:
        """Categories that have no bounds of their own."""
        taken = {row.key for row in self.rows}
        return [(key, key_words(key)) for key in THRESHOLD_KEYS if key not in taken]


def number_words(value: float) -> str:
    """As it stands in a field: six decimals at most, as scores have."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def read_state(data: QueryDict, serving: Policy) -> State:
    """The policy that an address proposes; without one, that in force. Keys that no policy knows are left out."""
    days = next((each for each in PERIODS if str(each) == data.get("days")), 30)
    fields, now = policy_fields(serving), serving.as_cascade_policy()
    errors: list[str] = []
    if data.get(STATE):
        fields["layers"] = [layer.value for layer in Layer if layer.value in data.getlist("layers")]
        confidence, problem = _number(data.get("judge_min_confidence"), now.judge_min_confidence)
        fields["judge_min_confidence"] = confidence
        errors += [f"The judge's least confidence: {problem}"] if problem else []
        fields["judge_model"] = data.get("judge_model", "").strip()[:100]
        written = {key: [data.get(f"{key}.{bound}") for bound in BOUNDS] for key in _keys(data)}
    else:
        written = {key: [None, None] for key in _order(serving.thresholds)}
    rows: list[KeyRow] = []
    thresholds = {}
    for key, texts in written.items():
        held = now.threshold(key)
        current = (held.allow_below, held.block_at)
        read = [_number(text, value) for text, value in zip(texts, current, strict=True)]
        low, high = (value for value, _ in read)
        problem = next((said for _, said in read if said), "")
        if not problem and low > high:
            problem = "“Allow below” may not be above “block at”."
        one, two = (
            number_words(value) if text is None else text.strip()[:30] for text, (value, _) in zip(texts, read, strict=True)
        )
        rows.append(KeyRow(key, key_words(key), one, two, problem))
        errors += [f"{key_words(key)}: {problem}"] if problem else []
        thresholds[key] = {"allow_below": low, "block_at": high}
    fields["thresholds"] = thresholds
    policy = now
    if not errors:
        try:
            policy = CascadePolicy.from_json(fields)
        except InvalidPolicy as error:
            errors.append(str(error))
    return State(fields, rows, days, policy, errors)


def _keys(data: QueryDict) -> list[str]:
    wanted = {key for key in THRESHOLD_KEYS if any(f"{key}.{bound}" in data for bound in BOUNDS)} | {"default"}
    wanted |= {data.get("add", "")} & set(THRESHOLD_KEYS)
    wanted -= {data.get("remove", "")} - {"default"}
    return _order(wanted)


def _order(keys: Any) -> list[str]:
    """P(unsafe) first, what holds for everything else last."""
    return sorted(keys, key=lambda key: (key == "default", key != UNSAFE, THRESHOLD_KEYS.index(key)))


def _number(text: str | None, current: float) -> tuple[float, str]:
    """(the number, what is wrong with it). What stands as it was shown is what it was, to the last digit."""
    if text is None or text.strip() == number_words(current):
        return current, ""
    try:
        value = float(text.strip()[:30])
    except ValueError:
        return current, "give a number from 0 to 1."
    if not (math.isfinite(value) and 0 <= value <= 1):
        return current, "give a number from 0 to 1."
    return value, ""


def since_of(days: int, now: datetime | None = None) -> datetime:
    """The start of the period: midnight, some days ago; of one day, 24 hours ago."""
    now = timezone.localtime(now or timezone.now())
    if days == 1:
        return now - timedelta(days=1)
    return now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)


def labels_of(rows: Sequence[KeyRow]) -> list[str]:
    """Whose scores are counted by height."""
    return [row.key for row in rows]
