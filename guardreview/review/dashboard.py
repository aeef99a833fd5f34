"""Which figures there are, what each is made of, and how long it is kept: many may look for the price of one.

What is kept says nothing of who asked for it. Whether somebody may see it is asked of every request, before it comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Lock
from typing import Any, TypeVar

from django.conf import settings
from django.utils import timezone

from guardreview.review import insight, insight_people, panels, panels_people
from guardreview.review.insight import Scope
from guardreview.review.panels import Panel

T = TypeVar("T")
MOST_EDITIONS = 64
"""Of as many periods and apps figures are kept at once; then the oldest go."""


@dataclass(slots=True)
class _Slot:
    """One result, once somebody has needed it; who needs it meanwhile waits."""

    lock: Lock = field(default_factory=Lock)
    found: Any = None


class Edition:
    """The figures of one scope, each made once, when it is first needed."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._slots: dict[Callable[..., Any], _Slot] = {}
        self._lock = Lock()

    def of(self, read: Callable[[Scope], T]) -> T:
        """What `read` says of the scope."""
        return self._once(read, lambda: read(self.scope))

    def panel(self, figure: Figure) -> Panel:
        """The figure, drawn."""
        return self._once(figure.make, lambda: figure.make(self))

    def has(self, figure: Figure) -> bool:
        """Whether `panel` takes no time."""
        slot = self._slots.get(figure.make)
        return slot is not None and slot.found is not None

    def _once(self, key: Callable[..., T], make: Callable[[], T]) -> T:
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
        with slot.lock:
            if slot.found is None:
                slot.found = make()
            found: T = slot.found
        return found


_editions: dict[tuple[str, str, str], Edition] = {}
_editions_lock = Lock()


def edition_of(period: str, app: str = "") -> Edition:
    """The figures of a period that ends now, or at most INSIGHT_KEPT_S seconds ago, where they are read already."""
    now, key = timezone.now(), (period, app, timezone.get_current_timezone_name())
    with _editions_lock:
        kept = _editions.pop(key, None)
        if kept is None or now - kept.scope.now >= timedelta(seconds=settings.INSIGHT_KEPT_S):
            kept = Edition(Scope(now, period, app))
        _editions[key] = kept
        while len(_editions) > MOST_EDITIONS:
            del _editions[next(iter(_editions))]
    return kept


# --- The figures ------------------------------------------------------------------------------------------------------------
def _waiting(edition: Edition) -> Panel:
    return panels.waiting_panel(*edition.of(insight.waiting))


def _decisions(edition: Edition) -> Panel:
    return panels.decisions_panel(edition.of(insight_people.decisions), edition.scope)


def _misses(edition: Edition) -> Panel:
    allowed, weeks = edition.of(insight.allowed)
    return panels.misses_panel(edition.of(insight.stops), allowed, weeks, edition.scope)


def _false_blocks(edition: Edition) -> Panel:
    return panels.false_blocks_panel(edition.of(insight.stops), edition.scope)


def _by_rule(edition: Edition) -> Panel:
    return panels.by_rule_panel(edition.of(insight.by_rule))


def _by_category(edition: Edition) -> Panel:
    return panels.by_category_panel(edition.of(insight.stops))


def _by_layer(edition: Edition) -> Panel:
    return panels.by_layer_panel(edition.of(insight.stops))


def _agreement(edition: Edition) -> Panel:
    return panels_people.agreement_panel(edition.of(insight_people.second_opinions), edition.of(insight_people.calibrations))


def _blind(edition: Edition) -> Panel:
    return panels_people.blind_panel(edition.of(insight_people.confirmed_blocks))


def _calibration(edition: Edition) -> Panel:
    return panels_people.calibration_panel(edition.of(insight_people.calibrations), edition.of(insight_people.people))


def _time(edition: Edition) -> Panel:
    named = _by_name(edition)
    times = [("Everybody", everybodys_seconds(edition)), *((one.name, one.seconds) for one in named if one.seconds)]
    return panels_people.time_panel(times)


def _people(edition: Edition) -> Panel:
    return panels_people.deeds_panel(_by_name(edition))


def _by_name(edition: Edition) -> list[insight_people.Person]:
    return sorted(edition.of(insight_people.people).values(), key=lambda person: person.name)


def everybodys_seconds(edition: Edition) -> list[float]:
    """What each decision took, whoever made it."""
    return [seconds for person in _by_name(edition) for seconds in person.seconds]


@dataclass(frozen=True, slots=True)
class Figure:
    """One panel: its key in addresses, its title while it is awaited, and how it is made."""

    key: str
    title: str
    make: Callable[[Edition], Panel]
    wide: bool = False


SECTIONS: Mapping[str, Sequence[Figure]] = {
    "The queue": (Figure("waiting", "Waiting now", _waiting), Figure("decisions", "Decisions", _decisions)),
    "The cascade": (
        Figure("misses", "Missed by the cascade", _misses, wide=True),
        Figure("false-blocks", "Wrong blocks", _false_blocks),
        Figure("by-rule", "Overturned, by rule", _by_rule),
        Figure("by-category", "Overturned, by category", _by_category),
        Figure("by-layer", "Overturned, by layer", _by_layer),
    ),
    "Agreement": (
        Figure("agreement", "Do pharmacists agree?", _agreement),
        Figure("blind", "Does the verdict sway them?", _blind),
        Figure("calibration", "Against known truths", _calibration, wide=True),
    ),
    "The work": (Figure("time", "Time per item", _time, wide=True), Figure("people", "Who did what", _people, wide=True)),
}
FIGURES: Mapping[str, Figure] = {figure.key: figure for figures in SECTIONS.values() for figure in figures}
TOP = ("waiting", "decisions", "false-blocks", "misses", "agreement")
"""Those that are also told as one number above all."""
