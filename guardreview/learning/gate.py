"""The gate before promotion: on which items a candidate is compared with what serves, and what came out. It writes nothing.

Three sets. The corpus' test split and the gold items, whose truth was known before, are judged together. The settled labels of
the last days are judged for themselves: they are of the pharmacy's own traffic. A label counts only if nobody who said anything
of its exchange trained the candidate, if neither model may have learnt from it or from its like, and while it is not in doubt.
A gold item counts only if the label that it was copied from would: its truth is what those reviewers said.

Of the labels, misses count on what was stopped. It is no random sample: what several people decided, the hard items, is left out
more often (`coverage` says how often), and what the serving pair stopped it cannot have missed, so that the question there is
whether the candidate lets it through. Allowed answers are drawn for audit with small and unequal probabilities; weighted, one
alone would outweigh a hundred. Their misses are shown, and not judged; their false blocks are, by the weighted difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings
from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone

from classifiers.combined import FastClassifier, decide, run_layer
from classifiers.examples import load_corpus, split_of
from classifiers.leakage import NearIndex, triples_of
from classifiers.policy import Policy as CascadePolicy
from classifiers.promotion import Comparison, Fast, Pair, compare, missing_critical, missing_safe, nothing_allowed, objections
from classifiers.result import ClassifierResult, Decision, Layer, Verdict, is_guaranteed
from guardreview.learning.models import ImportedLabel, LabelSet, TrainingRun
from guardreview.learning.training_data import HISTORY, group_of, runs_behind, was_trained_on
from guardreview.review.models import Calibration, Doubt, Label, Review
from guardreview.verdicts.models import ModelVersion, Policy, ReviewItem

BATCH = 32
MAX_LABELS = 5_000
"""Of the last days, the newest."""
TEST, GOLD, STOPPED, AUDITED = "test", "gold", "stopped", "audited"
KNOWN, RECENT = "known", "recent"
TRAINER = "somebody who trained the candidate took part"
LEARNT = "a model may have learnt from it"
LIKE = "like something that a model learnt from"
IN_DOUBT = "a changed guideline put it in doubt"
UNSETTLED = "its original has no label in force"
LEARNT_SPLITS = ("train", "validation")
"""Of the corpus: what every model's weights were fitted to and chosen by."""

Progress = Callable[[str, int, int], None]


class Model(FastClassifier, Protocol):
    """A fine-tuned classifier that reads many at once."""

    def classify_batch(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> list[ClassifierResult]: ...


@dataclass(frozen=True, slots=True)
class GateItem:
    """One exchange with its truth; `item`: the review item's key, to link to."""

    id: str
    group: str
    query: str
    response: str
    unsafe: bool
    critical: bool
    weight: float = 1.0
    item: int | None = None


@dataclass(frozen=True, slots=True)
class GateItems:
    """By set, and how many labels were left out, by reason. `coverage`: of the recent labels of what was stopped, how many count
    of how many, by what settled them.
    """

    sets: dict[str, list[GateItem]]
    left_out: Counter[str] = field(default_factory=Counter)
    coverage: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contender:
    """A model with the policy that it serves under, or would."""

    model: Model
    policy: CascadePolicy


# --- Which items --------------------------------------------------------------------------------------------------------------
def trainers_of(model: ModelVersion) -> set[int]:
    """Keys of those whose labels a model was trained on; all who had said anything by then, where no run tells."""
    runs = runs_behind(model)
    found = {key for run in runs for key in run.trainers}
    if not runs and model.labels_used:
        found |= set(Review.objects.filter(created_at__lte=model.created_at).values_list("reviewer_id", flat=True).distinct())
        sets = LabelSet.objects.filter(created_at__lte=model.created_at, imported_by__isnull=False)
        found |= set(sets.values_list("imported_by_id", flat=True))
    return found


def gate_items(candidate: ModelVersion, serving: ModelVersion, progress: Progress = lambda *_: None) -> GateItems:
    """What may judge this candidate beside this model. `progress`: called between any two texts, so that it is known to live."""
    since = timezone.now() - timedelta(days=settings.PROMOTION["days"])
    sets: dict[str, list[GateItem]] = {TEST: _test(), GOLD: [], STOPPED: [], AUDITED: []}
    left_out: Counter[str] = Counter()
    bars = _Bars([*runs_behind(candidate), *runs_behind(serving)], trainers_of(candidate), progress)
    for gold, label in _gold():
        reason = TRAINER if gold.made_by_id in bars.trainers else bars.reason(label, gold.item) if label else UNSETTLED
        if reason:
            left_out[reason] += 1
        else:
            sets[GOLD].append(_item(gold.item, gold.truth, gold.severity, gold.categories))
    used: dict[Stratum, list[Label]] = {}
    read, counted = Counter[str](), Counter[str]()
    for number, label in enumerate(_recent(since)[:MAX_LABELS]):
        progress("the items are being chosen", number + 1, 0)
        item, reason = label.exchange.review_item, bars.reason(label)
        stratum = _stratum(item.kind, item.inclusion_probability)
        if stratum[0] == STOPPED:
            read[label.basis] += 1
            counted[label.basis] += not reason
        if reason:
            left_out[reason] += 1
        else:
            used.setdefault(stratum, []).append(label)
    drawn = _drawn(since)
    for stratum, labels in used.items():
        name, probability = stratum
        # One that counts stands for those of its stratum that do not: still open, or left out.
        weight = drawn[stratum] / len(labels) / probability
        sets[name] += [_item(each.exchange.review_item, each.value, each.severity, each.categories, weight) for each in labels]
    return GateItems(sets, left_out, {basis: (counted[basis], read[basis]) for basis in Label.Basis.values if read[basis]})


class _Bars:
    """What keeps a settled label from judging a candidate."""

    def __init__(self, runs: Sequence[TrainingRun], trainers: set[int], progress: Progress) -> None:
        self.trainers = trainers
        self._runs = runs
        rows = []
        for query, response in _texts(runs):
            rows.append(triples_of(query, response))
            progress("what was learnt from is being read", len(rows), 0)
        self._learnt = NearIndex.of(rows)
        self._doubted = set(Doubt.objects.filter(resolved_at=None).values_list("label_id", flat=True))

    def reason(self, label: Label, copy: ReviewItem | None = None) -> str:
        """Why it may not; "" if it may. `copy`: the gold item made from it. HISTORY is prefetched."""
        exchanges = [label.exchange, copy.exchange] if copy else [label.exchange]
        reviews = label.exchange.review_item.reviews.all()
        if any(review.reviewer_id in self.trainers for review in reviews if review.undone_at is None):
            return TRAINER
        if label.pk in self._doubted:
            return IN_DOUBT
        if any(was_trained_on(run, label) for run in self._runs):
            return LEARNT
        return LIKE if any(self._learnt.near(triples_of(each.query, each.response)) for each in exchanges) else ""


def _test() -> list[GateItem]:
    return [
        GateItem(e.id, e.group, e.query, e.response, e.unsafe, e.critical) for e in load_corpus() if split_of(e.group) == TEST
    ]


def _gold() -> Iterator[tuple[Calibration, Label | None]]:
    """Each gold item with the label in force of its original, whose key is its copy's."""
    rows = list(Calibration.objects.select_related("item__exchange").order_by("pk"))
    for begin in range(0, len(rows), 500):
        some = {UUID(gold.item.exchange.idempotency_key): gold for gold in rows[begin : begin + 500]}
        labels = Label.objects.filter(is_current=True, exchange__in=list(some)).select_related("exchange__review_item")
        found = {label.exchange_id: label for label in labels.prefetch_related(*HISTORY)}
        yield from ((gold, found.get(original)) for original, gold in some.items())


def _recent(since: datetime) -> QuerySet[Label]:
    rows = Label.objects.filter(_of_the_draw("exchange__review_item__"), is_current=True, created_at__gte=since)
    return rows.select_related("exchange__review_item").prefetch_related(*HISTORY).order_by("-pk")


def _of_the_draw(item: str = "") -> Q:
    """`item`: how the review item is reached. What was drawn since a shadow differed is no sample of all that was allowed."""
    kinds = ReviewItem.Kind
    drawn = {f"{item}kind": kinds.AUDIT, f"{item}inclusion_probability": F("exchange__verdict__audit_probability")}
    return Q(**{f"{item}kind__in": (kinds.BLOCKED, kinds.HELD)}) | Q(**drawn)


Stratum = tuple[str, float]
"""A set, and the probability with which its answers came before a pharmacist."""


def _stratum(kind: str, probability: float) -> Stratum:
    return (AUDITED if kind == ReviewItem.Kind.AUDIT else STOPPED), probability


def _drawn(since: datetime) -> Counter[Stratum]:
    """How many were settled since then, or came since then and are not settled yet."""
    path = "exchange__review_item__"
    settled = _recent(since).order_by().values_list(f"{path}kind", f"{path}inclusion_probability")
    waiting = ReviewItem.objects.filter(_of_the_draw(), created_at__gte=since).exclude(status=ReviewItem.Status.DECIDED)
    waiting = waiting.exclude(exchange__labels__is_current=True).order_by()
    found: Counter[Stratum] = Counter()
    for rows in (settled, waiting.values_list("kind", "inclusion_probability")):
        for kind, probability, count in rows.annotate(count=Count("pk")):
            found[_stratum(kind, probability)] += count
    return found


def _item(item: ReviewItem, truth: str, severity: str, categories: Sequence[str], weight: float = 1.0) -> GateItem:
    exchange, unsafe = item.exchange, truth == Label.Value.UNSAFE
    return GateItem(
        id=str(exchange.pk),
        group=group_of(exchange.query, exchange.response),
        query=exchange.query,
        response=exchange.response,
        unsafe=unsafe,
        critical=unsafe and is_guaranteed(severity or None, tuple(categories)),
        weight=weight,
        item=item.pk,
    )


def _texts(runs: Sequence[TrainingRun]) -> Iterator[tuple[str, str]]:
    """What models of these runs may have learnt from: the corpus, labels and imports."""
    yield from ((each.query, each.response) for each in load_corpus() if split_of(each.group) in LEARNT_SPLITS)
    for run in runs:
        labels = Label.objects.filter(pk__lte=run.labels_up_to, exchange__review_item__reviews__reviewer__in=run.trainers)
        yield from labels.values_list("exchange__query", "exchange__response").distinct().iterator(chunk_size=1000)
        imported = ImportedLabel.objects.filter(label_set__created_at__lte=run.created_at)
        yield from imported.values_list("query", "response").iterator(chunk_size=1000)


# --- What came out ------------------------------------------------------------------------------------------------------------
def gate_report(
    items: GateItems, *, rules: FastClassifier, serving: Contender, candidate: Contender, progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """Both on all items, by set, and why the candidate does not pass, if so. JSON-ready; it holds no text of an exchange."""
    pairs = _pairs(items, rules, serving, candidate, progress)
    margins = {name: settings.PROMOTION[name] for name in ("miss_margin", "block_margin")}
    known, stopped = compare([*pairs[TEST], *pairs[GOLD]]), compare(pairs[STOPPED])
    recent = compare([*pairs[STOPPED], *pairs[AUDITED]])
    sets = {name: compare(rows) for name, rows in pairs.items()}
    named = {id for comparison in sets.values() for ids in comparison.examples.values() for id in ids}
    judged = {
        KNOWN: [*nothing_allowed([*pairs[TEST], *pairs[GOLD]]), *objections(known, **margins)],
        RECENT: [
            *nothing_allowed([*pairs[STOPPED], *pairs[AUDITED]], stopped=True),
            *objections(recent, misses_from=stopped, **margins),
        ],
    }
    return {
        "sets": {name: comparison.as_json() for name, comparison in sets.items()},
        "judged": {KNOWN: known.as_json(), RECENT: Comparison(stopped.misses, recent.false_blocks, recent.examples).as_json()},
        "objections": judged,
        "missing": {
            name: {
                "critical": missing_critical(misses, margins["miss_margin"]),
                "safe": missing_safe(blocks, margins["block_margin"]),
            }
            for name, misses, blocks in (
                (KNOWN, known.misses, known.false_blocks),
                (RECENT, stopped.misses, recent.false_blocks),
            )
        },
        "left_out": dict(items.left_out.most_common()),
        "coverage": items.coverage,
        "items": {each.id: each.item for rows in items.sets.values() for each in rows if each.item and each.id in named},
        "margins": {**margins, "days": settings.PROMOTION["days"]},
        "passed": not any(judged.values()),
    }


def _pairs(
    items: GateItems, rules: FastClassifier, serving: Contender, candidate: Contender, progress: Progress
) -> dict[str, list[Pair]]:
    total, done = sum(map(len, items.sets.values())), 0
    found: dict[str, list[Pair]] = {}
    for name, rows in items.sets.items():
        found[name] = []
        for begin in range(0, len(rows), BATCH):
            batch = rows[begin : begin + BATCH]
            progress("both models read", done, total)
            texts, queries = [row.response for row in batch], [row.query for row in batch]
            ruled = [run_layer(Layer.RULES, rules, row.response, row.query) for row in batch]
            served, tried = (contender.model.classify_batch(texts, queries) for contender in (serving, candidate))
            for row, rule, one, other in zip(batch, ruled, served, tried, strict=True):
                outcomes = fast(serving.policy, [rule, one]), fast(candidate.policy, [rule, other])
                found[name].append(Pair(row.id, row.group, row.unsafe, row.critical, *outcomes, row.weight))
            done += len(batch)
    progress("both models read", total, total)
    return found


def fast(policy: CascadePolicy, results: Sequence[ClassifierResult]) -> Fast:
    """What the fast layers make of their results: what they do not decide goes to the judge, or is held."""
    step = decide(policy, [result for result in results if result.layer in policy.layers])
    if isinstance(step, Verdict) and step.decision is not Decision.HOLD:
        return Fast(step.decision.value)
    return Fast.JUDGE


def candidate_thresholds(model: ModelVersion, policy: Policy) -> dict[str, Any]:
    """The thresholds that a model would serve with: its own certified bounds on P(unsafe), all others as they are in force.

    Raises ValueError where nothing was certified of it.
    """
    certificate = model.metrics.get("certificate") or {}
    allow_below, block_at = certificate.get("allow_below"), model.metrics.get("block_at")
    if not allow_below or block_at is None:
        raise ValueError(f"No threshold was certified of {model.version}: it could not allow anything.")
    return {**policy.thresholds, "unsafe": {"allow_below": allow_below, "block_at": block_at}}
