"""The gate before promotion: on which items a candidate is compared with what serves, and what came out. It writes nothing.

Three sets. The corpus' test split and the gold items, whose truth was known before, are judged together. The settled labels of
the last days are judged for themselves: they are of the pharmacy's own traffic. A label counts only if nobody who said anything
of its exchange trained the candidate, and if neither model may have learnt from it or from its like.

Of the labels, misses count on what was stopped: each of those came before a pharmacist with certainty, so the bound holds for
them as it stands. Allowed answers are drawn for audit with small and unequal probabilities; weighted, a single one would outweigh
a hundred. Their misses are shown, and not judged; the false blocks among them are, by the weighted difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from django.conf import settings
from django.db.models import F, QuerySet
from django.utils import timezone

from classifiers.combined import FastClassifier, decide, run_layer
from classifiers.examples import load_corpus, split_of
from classifiers.leakage import NearIndex, triples_of
from classifiers.policy import Policy as CascadePolicy
from classifiers.promotion import Comparison, Fast, Pair, compare, missing_critical, missing_safe, objections
from classifiers.result import ClassifierResult, Decision, Layer, Verdict, is_guaranteed
from guardreview.learning.models import ImportedLabel, TrainingRun
from guardreview.learning.training_data import HISTORY, group_of, runs_behind, was_trained_on
from guardreview.review.models import Calibration, Label, Review
from guardreview.verdicts.models import ModelVersion, Policy, ReviewItem

BATCH = 32
MAX_LABELS = 5_000
"""Of the last days, the newest."""
TEST, GOLD, STOPPED, AUDITED = "test", "gold", "stopped", "audited"
KNOWN, RECENT = "known", "recent"
TRAINER = "somebody who trained the candidate took part"
LEARNT = "a model may have learnt from it"
LIKE = "like something that a model learnt from"

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
    """By set, and how many labels were left out, by reason."""

    sets: dict[str, list[GateItem]]
    left_out: Counter[str] = field(default_factory=Counter)


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
    return found


def gate_items(candidate: ModelVersion, serving: ModelVersion) -> GateItems:
    """What may judge this candidate beside this model."""
    sets: dict[str, list[GateItem]] = {TEST: _test(), GOLD: [], STOPPED: [], AUDITED: []}
    left_out: Counter[str] = Counter()
    trainers = trainers_of(candidate)
    runs = [*runs_behind(candidate), *runs_behind(serving)]
    learnt = _learnt(runs)
    for gold in Calibration.objects.select_related("item__exchange").order_by("pk"):
        if gold.made_by_id in trainers:
            left_out[TRAINER] += 1
        elif learnt.near(triples_of(gold.item.exchange.query, gold.item.exchange.response)):
            left_out[LIKE] += 1
        else:
            sets[GOLD].append(_item(gold.item, gold.truth, gold.severity, gold.categories))
    for label in _recent():
        reviews = [review for review in label.exchange.review_item.reviews.all() if review.undone_at is None]
        if any(review.reviewer_id in trainers for review in reviews):
            left_out[TRAINER] += 1
        elif any(was_trained_on(run, label) for run in runs):
            left_out[LEARNT] += 1
        elif learnt.near(triples_of(label.exchange.query, label.exchange.response)):
            left_out[LIKE] += 1
        else:
            item = label.exchange.review_item
            name = AUDITED if item.kind == ReviewItem.Kind.AUDIT else STOPPED
            weight = 1 / item.inclusion_probability if name == AUDITED else 1.0
            sets[name].append(_item(item, label.value, label.severity, label.categories, weight))
    return GateItems(sets, left_out)


def _test() -> list[GateItem]:
    return [
        GateItem(e.id, e.group, e.query, e.response, e.unsafe, e.critical) for e in load_corpus() if split_of(e.group) == TEST
    ]


def _recent() -> QuerySet[Label]:
    since = timezone.now() - timedelta(days=settings.PROMOTION["days"])
    kinds = ReviewItem.Kind
    rows = Label.objects.filter(is_current=True, created_at__gte=since).filter(
        exchange__review_item__kind__in=(kinds.BLOCKED, kinds.HELD)
    ) | Label.objects.filter(
        is_current=True,
        created_at__gte=since,
        exchange__review_item__kind=kinds.AUDIT,
        # What was drawn since a shadow differed is no sample of all that was allowed.
        exchange__review_item__inclusion_probability=F("exchange__verdict__audit_probability"),
    )
    return rows.select_related("exchange__review_item").prefetch_related(*HISTORY).order_by("-pk")[:MAX_LABELS]


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


def _learnt(runs: Sequence[TrainingRun]) -> NearIndex:
    """The texts that these runs may have learnt from."""
    index = NearIndex()
    for query, response in _texts(runs):
        index.add(triples_of(query, response))
    return index


def _texts(runs: Sequence[TrainingRun]) -> Iterator[tuple[str, str]]:
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
        KNOWN: objections(known, **margins),
        RECENT: objections(recent, misses_from=stopped, **margins),
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
