"""What a policy would have done: `decide`, replayed over stored scores for all rows at once. No model runs.

What a layer would say of an answer that it never saw is not known. Where that is the judge, the answer is said to go to the
judge; where it is a fast layer, since an earlier one had blocked before it ran, it is counted as not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import IntEnum
from typing import Final
from uuid import UUID

import numpy as np
import numpy.typing as npt
from django.utils import timezone

from classifiers.combined import decide
from classifiers.policy import UNSAFE, Policy
from classifiers.result import SAFE, UNDECIDED, ClassifierResult, Decision, Layer, Verdict, family_of, severity_of
from guardreview.core.models import App
from guardreview.learning.score_blocks import NONE, NOT_SCORED, ONE, Said, Scores, blocks_since, microseconds, unpacked_since
from guardreview.review.calibration import APP_NAME
from guardreview.verdicts.models import ModelVersion

MAX_ROWS: Final = 1_000_000
"""Verdicts replayed at most, the latest."""
EXAMPLES: Final = 12
"""Shown of each change, the latest."""
BINS: Final = 50
DAY_US: Final = 86_400_000_000

Steps = npt.NDArray[np.uint8]
Chosen = npt.NDArray[np.bool_]


class Step(IntEnum):
    """What `decide` answers: a decision, or the layer that must run next."""

    ALLOW = 0
    BLOCK = 1
    HOLD = 2
    JUDGE = 3
    RULES = 4
    FINETUNED = 5


class Change(IntEnum):
    """What a policy changes about an answer."""

    BLOCKED = 0
    RELEASED = 1
    JUDGE = 2
    HELD = 3


AFTER: Final[Mapping[Change, Step]] = {
    Change.BLOCKED: Step.BLOCK,
    Change.RELEASED: Step.ALLOW,
    Change.JUDGE: Step.JUDGE,
    Change.HELD: Step.HOLD,
}


def replay(policy: Policy, scores: Scores) -> tuple[Steps, Chosen]:
    """What `decide` says of each row on its stored results, and whether the row gets as far as the judge."""
    n = len(scores)
    step = np.zeros(n, dtype=np.uint8)
    undecided = np.ones(n, dtype=bool)
    certain = np.full(n, Layer.FINETUNED in policy.layers)

    def settle(chosen: Chosen, value: Step) -> None:
        nonlocal undecided
        now = undecided & chosen
        step[now] = value
        undecided &= ~now

    if Layer.RULES in policy.layers:
        settle(scores.rules == Said.MISSING, Step.RULES)
        settle(scores.rules == Said.UNSAFE, Step.BLOCK)
        certain &= scores.rules == Said.SAFE
    if Layer.FINETUNED in policy.layers:
        settle(scores.finetuned == Said.MISSING, Step.FINETUNED)
        settle(reaches(policy, scores, "block_at"), Step.BLOCK)
        certain &= (scores.finetuned == Said.SAFE) & ~reaches(policy, scores, "allow_below")
    settle(certain, Step.ALLOW)
    asks = undecided & (Layer.JUDGE in policy.layers)
    if Layer.JUDGE in policy.layers:
        heard = scores.confidence >= policy.judge_min_confidence
        settle(scores.judge == Said.MISSING, Step.JUDGE)
        settle((scores.judge == Said.SAFE) & heard, Step.ALLOW)
        settle((scores.judge == Said.UNSAFE) & heard, Step.BLOCK)
    step[undecided] = Step.HOLD
    return step, asks


def reaches(policy: Policy, scores: Scores, bound: str) -> Chosen:
    """Whether any score of a row reaches its `block_at`, or `allow_below`."""
    found = np.zeros(len(scores), dtype=bool)
    for label, column in zip(scores.labels, scores.scores, strict=True):
        at = millionths(getattr(policy.threshold(label), bound))
        if at <= ONE:
            found |= (column >= at) & (column != NOT_SCORED)
    return found


def millionths(threshold: float) -> int:
    """The least score in millionths that is not below the threshold."""
    at = max(0, int(threshold * ONE) - 2)
    while at / ONE < threshold:
        at += 1
    return at


def treats_otherwise(before: Policy, after: Policy, results: Sequence[ClassifierResult], *, judge: bool) -> bool:
    """Of one answer with these stored results, what `what_if` counts as changed."""

    def said(policy: Policy) -> Decision | Layer:
        step = decide(policy, [result for result in results if result.layer in policy.layers])
        found = step.decision if isinstance(step, Verdict) else step
        return Decision.HOLD if found is Layer.JUDGE and not judge else found

    was, now = said(before), said(after)
    return was is not now and not {was, now} & {Layer.RULES, Layer.FINETUNED}


# --- Over a period ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Example:
    """An answer that a policy would treat otherwise. `p_unsafe`: None if the classifier did not score it."""

    exchange: UUID
    decided_at: datetime
    category: str
    before: Step
    after: Step
    p_unsafe: float | None


@dataclass(slots=True)
class Side:
    """What one policy does in the period: rows by Step, those that reach the judge, and both by day, with those stopped."""

    steps: npt.NDArray[np.int64]
    asks: int
    stopped_by_day: npt.NDArray[np.int64]
    asks_by_day: npt.NDArray[np.int64]
    unknown_by_day: npt.NDArray[np.int64]
    """Reach the judge, which never saw them."""

    @classmethod
    def empty(cls, days: int) -> Side:
        return cls(np.zeros(len(Step), dtype=np.int64), 0, *(np.zeros(days, dtype=np.int64) for _ in range(3)))

    def add(self, step: Steps, asks: Chosen, day: npt.NDArray[np.int64]) -> None:
        self.steps += np.bincount(step, minlength=len(Step))
        self.asks += int(asks.sum())
        days = len(self.asks_by_day)
        self.asks_by_day += np.bincount(day[asks], minlength=days)
        self.stopped_by_day += np.bincount(day[(step == Step.BLOCK) | (step == Step.HOLD)], minlength=days)
        self.unknown_by_day += np.bincount(day[step == Step.JUDGE], minlength=days)


@dataclass(slots=True)
class WhatIf:
    """Two policies over the same verdicts. `missing`: verdicts of the period that are not packed yet. `judged`: those that the
    judge was asked about, `judge_stopped` of them were stopped, and `judge_usd` is what they cost together.

    `changes`: by Change, answers by category. `unknown`: rows of which what would be decided after, or was before, is not known.
    `histograms`: of the labels asked for, rows by score in BINS steps.
    """

    since: datetime
    until: datetime
    days: Sequence[date]
    before: Side
    after: Side
    since_activation: bool = False
    """It begins when the model that serves did: scores of others say nothing of these thresholds."""
    rows: int = 0
    missing: int = 0
    judged: int = 0
    judge_stopped: int = 0
    judge_usd: float = 0.0
    unknown: int = 0
    changes: dict[Change, dict[str, int]] = field(default_factory=lambda: {change: {} for change in Change})
    examples: dict[Change, list[Example]] = field(default_factory=lambda: {change: [] for change in Change})
    histograms: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)

    def count(self, change: Change) -> int:
        return sum(self.changes[change].values())

    @property
    def changed(self) -> int:
        return sum(map(self.count, Change))

    @property
    def judge_stop_share(self) -> float | None:
        """Of what the judge was asked about, the share that did not reach the patient."""
        return self.judge_stopped / self.judged if self.judged else None

    def queue_per_day(self, side: Side) -> tuple[float, float | None]:
        """(stopped for sure, the same and what the judge would stop of what it never saw, if it goes on as before) a day."""
        days = self.length_days
        sure, unknown = side.stopped_by_day.sum() / days, side.unknown_by_day.sum() / days
        if not unknown:
            return float(sure), float(sure)
        share = self.judge_stop_share
        return float(sure), None if share is None else float(sure + share * unknown)

    def judge_usd_per_day(self, side: Side) -> float | None:
        """At the mean cost of the judged answers; None where none was judged."""
        return self.judge_usd / self.judged * side.asks / self.length_days if self.judged else None

    @property
    def length_days(self) -> float:
        """Of the time that the verdicts cover: at least an hour."""
        return max((self.until - self.since) / timedelta(days=1), 1 / 24)


def what_if(
    *,
    before: Policy,
    after: Policy,
    since: datetime,
    now: datetime | None = None,
    judge: bool,
    labels: Sequence[str] = (UNSAFE,),
) -> WhatIf:
    """What `after` would have decided otherwise than `before` since a moment, but not from before the model that serves did:
    thresholds are a model's own, and stored scores are of the one that served then. `judge`: whether there is one: without, what
    would go to it is held. `labels`: whose scores are counted by height, a family by its highest.
    """
    until = now or timezone.now()
    activated = ModelVersion.objects.filter(stage=ModelVersion.Stage.ACTIVE).values_list("activated_at", flat=True).first()
    since_activation = activated is not None and since < activated <= until
    since = activated if activated is not None and since_activation else since
    here = timezone.localtime(since).date()
    days = [here + timedelta(days=each) for each in range((timezone.localtime(until).date() - here).days + 1)]
    midnight = microseconds(timezone.localtime(since).replace(hour=0, minute=0, second=0, microsecond=0))
    found = WhatIf(since, until, days, Side.empty(len(days)), Side.empty(len(days)), since_activation)
    found.histograms = {label: np.zeros(BINS, dtype=np.int64) for label in labels}
    known = App.objects.filter(name=APP_NAME).values_list("pk", flat=True).first()
    for scores in _parts(since, found):
        wanted = scores.decided_at <= microseconds(until)
        if known is not None:
            wanted &= scores.app != known  # calibration items are copies
        rows = scores.where(wanted)
        rows = _latest(rows, MAX_ROWS - found.rows)
        day = np.clip((rows.decided_at - midnight) // DAY_US, 0, len(days) - 1)
        _add(found, rows, day, before, after, judge=judge)
        if found.rows >= MAX_ROWS:
            found.since = since.fromtimestamp(int(rows.decided_at.min()) / 1_000_000, tz=since.tzinfo)
            found.since_activation = False
            break
    return found


def _parts(since: datetime, found: WhatIf) -> Iterator[Scores]:
    fresh, found.missing = unpacked_since(since)
    yield fresh
    yield from blocks_since(since)


def _latest(scores: Scores, most: int) -> Scores:
    if len(scores) <= most:
        return scores
    return scores.where(scores.decided_at >= np.partition(scores.decided_at, len(scores) - most)[len(scores) - most])


def _add(found: WhatIf, rows: Scores, day: npt.NDArray[np.int64], before: Policy, after: Policy, *, judge: bool) -> None:
    steps = []
    for policy, side in ((before, found.before), (after, found.after)):
        step, asks = replay(policy, rows)
        if not judge:
            step[step == Step.JUDGE] = Step.HOLD
        side.add(step, asks if judge else np.zeros_like(asks), day)
        steps.append(step)
    was, now = steps
    found.rows += len(rows)
    judged = (rows.judge != Said.MISSING) & (rows.judge != Said.FAILED)
    found.judged += int(judged.sum())
    found.judge_stopped += int((judged & (rows.served != 0)).sum())
    found.judge_usd += float(rows.cost[judged].sum(dtype=np.float64))
    known = (was < Step.RULES) & (now < Step.RULES)
    found.unknown += int((~known).sum())
    differs = known & (was != now)
    if differs.any():
        _add_changes(found, rows, was, now, differs)
    for label, counts in found.histograms.items():
        column = column_of(rows, label)
        counts += np.bincount(np.minimum(column[column >= 0] // (ONE // BINS), BINS - 1), minlength=BINS)


def column_of(rows: Scores, label: str) -> npt.NDArray[np.int32]:
    """The scores of a label; of a family, the highest of its labels."""
    if label in rows.labels:
        return np.asarray(rows.scores[rows.labels.index(label)])
    of_family = [index for index, name in enumerate(rows.labels) if name != UNSAFE and label in (family_of(name), "default")]
    if not of_family:
        return np.full(len(rows), NOT_SCORED, dtype=np.int32)
    return np.asarray(rows.scores[of_family].max(axis=0), dtype=np.int32)


def _add_changes(found: WhatIf, rows: Scores, was: Steps, now: Steps, differs: Chosen) -> None:
    places = np.flatnonzero(differs)
    some = rows.where(differs)
    categories, names = _categories(some)
    for change, after in AFTER.items():
        here = np.flatnonzero(now[places] == after)
        if not len(here):
            continue
        counts = found.changes[change]
        for index, count in zip(*np.unique(categories[here], return_counts=True), strict=True):
            counts[names[index]] = counts.get(names[index], 0) + int(count)
        newest = here[np.argsort(-some.decided_at[here], kind="stable")[:EXAMPLES]]
        found.examples[change] += [_example(some, row, names[categories[row]], was, now, places) for row in newest]
        found.examples[change] = sorted(found.examples[change], key=lambda each: each.decided_at, reverse=True)[:EXAMPLES]


def _categories(rows: Scores) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Of each row, what it is suspected of, as an index of the names: what its verdict named; else what the rules found; else the
    likeliest by the classifier.
    """
    names = [*rows.categories, *rows.labels, UNDECIDED]
    labels = [index for index, label in enumerate(rows.labels) if label != UNSAFE]
    likeliest = np.full(len(rows), len(names) - 1)
    if labels:
        own = rows.scores[labels]
        # Among equals the gravest.
        grave = sorted(range(len(labels)), key=lambda place: -severity_of(rows.labels[labels[place]]).rank)
        best = np.array(grave)[own[grave].argmax(axis=0)]
        scored = own.max(axis=0) > NOT_SCORED
        likeliest[scored] = len(rows.categories) + np.array(labels)[best[scored]]
    says_nothing = [index for index, name in enumerate(rows.categories) if name in (SAFE, UNDECIDED, UNSAFE)]
    chosen = np.where(rows.found != NONE, rows.found.astype(np.int64), likeliest)
    return np.where(np.isin(rows.category, says_nothing), chosen, rows.category.astype(np.int64)), names


def _example(rows: Scores, row: int, category: str, was: Steps, now: Steps, places: npt.NDArray[np.int64]) -> Example:
    score = int(column_of(rows, UNSAFE)[row])
    return Example(
        exchange=rows.key(row),
        decided_at=datetime.fromtimestamp(int(rows.decided_at[row]) / 1_000_000, tz=timezone.get_current_timezone()),
        category=category,
        before=Step(int(was[places[row]])),
        after=Step(int(now[places[row]])),
        p_unsafe=None if score == NOT_SCORED else score / ONE,
    )
