"""What a rule would do, before it is saved: it is run, with the rules that are active, over the latest stored exchanges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic
from typing import Any, Final
from uuid import UUID

from django.db.models import FilteredRelation, Q

from classifiers.result import Decision, Evidence, Layer
from classifiers.rule_based import RuleBasedClassifier
from classifiers.rules.rule import Action
from guardreview.core.models import User
from guardreview.core.services import audit
from guardreview.verdicts.models import CustomRule, Exchange, ReviewItem
from guardreview.verdicts.rules import rule_check

MAX_EXCHANGES: Final = 2_000
MAX_EXCERPTS: Final = 20
BUDGET_S: Final = 5.0
"""Seconds that one preview may take: a person waits for it, and other requests share the process."""
PAGE: Final = 50
"""Exchanges read at a time: a response may have `MAX_TEXT_CHARS` characters."""
CONTEXT: Final = 120
"""Characters shown on either side of a match."""
MAX_MARKED: Final = 400
"""Characters shown from the first match on."""
# Labels are the next app's; this app may read what a pharmacist settled, and imports nothing for it.
FIELDS: Final = ("pk", "query", "response", "verdict__decision", "verdict__layer", "label__value")


@dataclass(slots=True)
class Count:
    """Exchanges, and what pharmacists have said of them."""

    total: int = 0
    safe: int = 0
    unsafe: int = 0

    @property
    def unreviewed(self) -> int:
        return self.total - self.safe - self.unsafe

    def add(self, label: str | None) -> None:
        self.total += 1
        self.safe += label == "safe"
        self.unsafe += label == "unsafe"


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Where the rule matches one response, in pieces of (text, whether it matches), and what was decided of it."""

    exchange: UUID
    pieces: Sequence[tuple[str, bool]]
    decision: str
    label: str
    is_new: bool


@dataclass(slots=True)
class Preview:
    """`newly`: of `matched`, what the rule would have changed. `unscanned`: what the rules could not read to the end."""

    action: Action
    version: str
    wanted: int
    examined: int = 0
    complete: bool = True
    matched: Count = field(default_factory=Count)
    newly: Count = field(default_factory=Count)
    unscanned: int = 0
    excerpts: list[Excerpt] = field(default_factory=list)


def rule_preview(*, rule: CustomRule, actor: User, last: int, budget_s: float = BUDGET_S) -> Preview:
    """Run an unsaved rule over the `last` decided exchanges, newest first, for `budget_s` seconds at most.

    Stores nothing but a line in the audit log, which names the exchanges that were shown. Raises ValidationError.
    """
    rule_set = rule_check(rule)
    preview = Preview(Action(rule.action), rule_set.version, wanted=min(last, MAX_EXCHANGES))
    until = monotonic() + budget_s
    for row in islice(_latest(), preview.wanted):
        if monotonic() >= until:
            preview.complete = False
            break
        _examine(preview, rule, rule_set, row)
    # What the rule would change is shown first.
    preview.excerpts = sorted(preview.excerpts, key=lambda excerpt: not excerpt.is_new)[:MAX_EXCERPTS]
    audit(
        actor=str(actor),
        action="rule.preview",
        target=rule.rule_id,
        examined=preview.examined,
        matched=preview.matched.total,
        exchanges=[str(excerpt.exchange) for excerpt in preview.excerpts],
    )
    return preview


def _latest() -> Iterator[dict[str, Any]]:
    """Decided exchanges, newest first: their keys are in the order of time."""
    label = FilteredRelation("labels", condition=Q(labels__is_current=True))
    # A calibration item's exchange is a copy of one that is looked at already.
    exchanges = Exchange.objects.filter(verdict__isnull=False).exclude(review_item__kind=ReviewItem.Kind.CALIBRATION)
    rows = exchanges.annotate(label=label).order_by("-pk").values(*FIELDS)
    page = list(rows[:PAGE])
    while page:
        yield from page
        page = list(rows.filter(pk__lt=page[-1]["pk"])[:PAGE])


def _examine(preview: Preview, rule: CustomRule, rule_set: RuleBasedClassifier, row: dict[str, Any]) -> None:
    preview.examined += 1
    result = rule_set.classify(row["response"], row["query"])
    preview.unscanned += bool(result.error)
    evidence = [found for found in result.evidence if found.rule == rule.rule_id]
    if not evidence:
        return
    is_new = _changes(preview.action, row["verdict__decision"], row["verdict__layer"])
    preview.matched.add(row["label__value"])
    if is_new:
        preview.newly.add(row["label__value"])
    shown = sum(excerpt.is_new for excerpt in preview.excerpts) if is_new else len(preview.excerpts)
    if shown < MAX_EXCERPTS:
        preview.excerpts.append(
            Excerpt(
                exchange=row["pk"],
                pieces=_pieces(row["response"], evidence),
                decision=row["verdict__decision"],
                label=row["label__value"] or "",
                is_new=is_new,
            )
        )


def _changes(action: Action, decision: str, layer: str) -> bool:
    """Blocking changes all that was not blocked; escalating, what the fast layers allowed without the judge."""
    if action is Action.BLOCK:
        return decision != Decision.BLOCK
    return decision == Decision.ALLOW and layer != Layer.JUDGE


def _pieces(text: str, evidence: Sequence[Evidence]) -> list[tuple[str, bool]]:
    """The surroundings of the first match, on one line, cut where a match begins or ends."""
    spans = sorted((found.start, found.end) for found in evidence)
    begin = max(0, spans[0][0] - CONTEXT)
    end = min(len(text), spans[0][0] + MAX_MARKED, max(spans[0][1] + CONTEXT, spans[0][0]))
    pieces: list[tuple[str, bool]] = []
    done = begin
    for start, stop in spans:
        if start >= end:
            break
        pieces += [(text[done:start], False), (text[start : min(stop, end)], True)]
        done = min(stop, end)
    pieces.append((text[done:end], False))
    shown = [(_printable(piece), marked) for piece, marked in pieces if piece]
    return [("… ", False)] * (begin > 0) + shown + [(" …", False)] * (end < len(text))


def _printable(text: str) -> str:
    """Characters that are not seen, or that reorder what is, as dots: an excerpt must look like what it says."""
    return "".join(char if char.isprintable() else " " if char.isspace() else "·" for char in text)
