"""What a training run may learn from: settled and imported labels, without those that would leak. It writes nothing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from typing import Any
from uuid import UUID

from django.db.models import BooleanField, ExpressionWrapper, F, Min

from classifiers.examples import REVIEW, Example, InvalidExample, split_of
from classifiers.leakage import guard
from classifiers.progress import Progress, silent
from guardreview.learning.models import ImportedLabel, TrainingRun
from guardreview.review.calibration import APP_NAME
from guardreview.review.models import Doubt, Label, Review
from guardreview.review.selectors import DRAWN_BY_DESIGN
from guardreview.verdicts.models import Exchange, ModelVersion, ReviewItem

MAX_WEIGHT = 10.0
"""Of one label. What is seldom drawn counts as often as it stands for, up to here: beyond, one label, or one person's mistake,
would outweigh the corpus (truncated importance sampling: Ionides, JCGS 2008)."""
HISTORY = ("exchange__labels", "exchange__review_item__reviews")
"""What `was_trained_on` reads of a label: for `prefetch_related`."""
KEPT = "a reviewer who judges models took part"
DOUBTED = "in doubt since a guideline changed"
WITHDRAWN = "withdrawn"
UNUSABLE = "cannot be trained on"
LATER = "settled after the run was asked for"
IMPORTED = ("group", "query", "response", "value", "categories", "severity", "language")


def was_trained_on(run: TrainingRun, label: Label) -> bool:
    """Whether a run may have learnt from the exchange of a settled label. Pure, if HISTORY was prefetched.

    In doubt it says yes, so that what judges a candidate is surely new to it: also of an exchange that was left out by the guard
    against near-copies, lies in a split that is only measured on, or whose label of that time was superseded later. It says no
    where no label of the exchange was settled yet, and where one of `kept_reviewers` had said something of it before the run.
    A model has more than one run behind it where its encoder was trained in another: see `runs_behind`.
    """
    if all(each.pk > run.labels_up_to for each in label.exchange.labels.all()):
        return False
    kept = set(run.kept_reviewers)
    reviews = label.exchange.review_item.reviews.all()
    return not any(review.reviewer_id in kept and review.created_at < run.created_at for review in reviews)


def runs_behind(model: ModelVersion) -> list[TrainingRun]:
    """The runs that a model learnt from labels in: its own, and the one that its encoder was trained in, if that was another."""
    found = TrainingRun.objects.filter(model_version=model) | TrainingRun.objects.filter(pk=model.metrics.get("encoder_run"))
    return list(found.order_by("pk"))


@dataclass(frozen=True, slots=True)
class Material:
    """Labels in their groups, those that measure among them. `exchanges`: of an example's id. `summary`: for card and pages.

    `trainers`: keys of those who reviewed or imported what weights were fitted to.
    """

    examples: list[Example]
    exchanges: Mapping[str, UUID]
    trainers: list[int]
    used: int
    left_out: Mapping[str, int]
    summary: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A label, and why it may not be used, if that is known."""

    example: Example
    reason: str
    known_since: datetime
    basis: str
    exchange: UUID | None = None
    imported_by: int | None = None


def material(run: TrainingRun, corpus: Sequence[Example], progress: Progress = silent) -> Material:
    """What `run` may learn from, by its `labels_up_to` and `kept_reviewers`; in the same groups whatever is labelled later.

    `progress` is called with each label that is read and that is compared: a run that is silent for long is taken for dead.
    """
    candidates: list[_Candidate] = []
    for each in chain(_settled(run), _imported(run)):
        progress("reading labels", len(candidates), 0)
        candidates.append(each)
    candidates.sort(key=lambda each: (each.known_since, each.example.id))
    labels = [(each.example, each.reason) for each in candidates]
    guarded = guard(labels, corpus, _gold(), lambda step, steps: progress("looking for near-copies", step, steps))
    left_out = guarded.left_out
    late = left_out.pop(LATER, 0)
    by_id = {each.example.id: each for each in candidates}
    fitted = [example for example in guarded.kept if split_of(example.group) in ("train", "pool", "validation")]
    exchanges = {e.id: exchange for e in guarded.kept if (exchange := by_id[e.id].exchange)}
    reviewers = _reviewers(exchanges[e.id] for e in fitted if e.id in exchanges)
    importers = {key for e in fitted if (key := by_id[e.id].imported_by) is not None}
    summary = {
        "provenance": dict(Counter(by_id[e.id].basis for e in fitted).most_common()),
        "splits": dict(Counter(_split(e) for e in guarded.kept)),
        "unsafe": sum(e.unsafe for e in fitted),
        "weights": {
            "sum": round(sum(e.weight for e in fitted), 1),
            "largest": max((e.weight for e in fitted), default=0.0),
            "most": MAX_WEIGHT,
            "cut": sum(e.weight >= MAX_WEIGHT for e in fitted),
        },
        "reviewers": len(reviewers),
        "left_out": dict(left_out.most_common()),
        "later": late,
        "labels_up_to": run.labels_up_to,
    }
    return Material(
        guarded.kept, exchanges, sorted(importers.union(reviewers)), len(fitted), dict(left_out.most_common()), summary
    )


def _split(example: Example) -> str:
    split = split_of(example.group)
    return "train" if split == "pool" else split


def _settled(run: TrainingRun) -> Iterator[_Candidate]:
    """Each labelled exchange by its label in force, since the first one that it had."""
    kept = set(Review.objects.filter(reviewer__in=run.kept_reviewers).values_list("item__exchange_id", flat=True))
    doubted = set(Doubt.objects.filter(resolved_at=None).values_list("label_id", flat=True))
    rows = Label.objects.filter(is_current=True).annotate(
        since=Min("exchange__labels__created_at"),
        kind=F("exchange__review_item__kind"),
        by_design=ExpressionWrapper(DRAWN_BY_DESIGN, output_field=BooleanField()),
    )
    rows = rows.exclude(kind=ReviewItem.Kind.CALIBRATION).select_related("exchange")
    for label in rows.order_by("pk").iterator(chunk_size=1000):
        reason = KEPT if label.exchange_id in kept else DOUBTED if label.pk in doubted else ""
        reason = LATER if label.pk > run.labels_up_to else reason
        example, reason = _example(_label_row(label, by_design=label.by_design), reason)
        basis = f"{label.get_basis_display()}; {ReviewItem.Kind(label.kind).label.lower()}"
        yield _Candidate(example, reason, label.since, basis, label.exchange_id)


def _label_row(label: Label, *, by_design: bool) -> dict[str, Any]:
    exchange = label.exchange
    # The turns of one conversation answer each other; else what says the same lies in one group.
    talk = f"{exchange.app_id}:{exchange.conversation_id}" if exchange.conversation_id else ""
    return {
        "id": str(exchange.pk),
        "group": group_of(talk) if talk else group_of(exchange.query, exchange.response),
        "query": exchange.query,
        "response": exchange.response,
        "label": label.value,
        "categories": label.categories,
        "severity": label.severity,
        "source": REVIEW,
        "weight": _weight(label.inclusion_probability) if by_design else 1.0,
    }


def _weight(probability: float) -> float:
    return min(MAX_WEIGHT, 1 / probability) if probability > 0 else MAX_WEIGHT


def _imported(run: TrainingRun) -> Iterator[_Candidate]:
    rows = ImportedLabel.objects.select_related("label_set").filter(label_set__created_at__lte=run.created_at)
    rows = rows.only(*IMPORTED, "label_set__created_at", "label_set__withdrawn_at", "label_set__imported_by")
    for row in rows.order_by("pk").iterator(chunk_size=1000):
        fields = {
            "id": f"import-{row.pk}",
            "group": row.group,
            "query": row.query,
            "response": row.response,
            "label": row.value,
            "categories": row.categories,
            "severity": row.severity,
            "lang": row.language,
            "source": REVIEW,
        }
        example, reason = _example(fields, WITHDRAWN if row.label_set.withdrawn_at else "")
        yield _Candidate(example, reason, row.label_set.created_at, "imported", imported_by=row.label_set.imported_by_id)


def _example(row: Mapping[str, Any], reason: str) -> tuple[Example, str]:
    try:
        return Example.from_json(row), reason
    except InvalidExample:  # an unsafe one without a category, say, of an import
        return Example(str(row["id"]), str(row["group"]), row["query"], row["response"], unsafe=False), reason or UNUSABLE


def _gold() -> Iterator[tuple[str, str]]:
    """The copies that are calibration items, and the exchanges that they were made from."""
    copies = Exchange.objects.filter(app__name=APP_NAME, review_item__kind=ReviewItem.Kind.CALIBRATION)
    originals: list[UUID] = []
    for key, query, response in copies.values_list("idempotency_key", "query", "response"):
        originals.append(UUID(key))
        yield query, response
    for begin in range(0, len(originals), 500):
        yield from Exchange.objects.filter(pk__in=originals[begin : begin + 500]).values_list("query", "response")


def _reviewers(exchanges: Iterable[UUID]) -> list[int]:
    """Keys of all whose statements stand behind the labels of these exchanges."""
    keys, found = list(exchanges), set[int]()
    for begin in range(0, len(keys), 500):
        reviews = Review.objects.filter(item__exchange__in=keys[begin : begin + 500], undone_at=None)
        found |= set(reviews.values_list("reviewer_id", flat=True))
    return sorted(found)


def group_of(*texts: str) -> str:
    """The group of what says the same, whatever its case and spacing."""
    text = " ".join(" ".join(texts).casefold().split())
    return f"label-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def label_examples(rows: Iterable[Mapping[str, Any]]) -> list[Example]:
    """Exported label rows as examples. Equal texts share a group, so that no split knows another's answer."""
    examples = []
    for number, row in enumerate(rows, start=1):
        try:
            group = group_of(row.get("query", ""), row["response"])
            examples.append(replace(Example.from_json({**row, "group": group}), source=REVIEW))
        except (KeyError, InvalidExample) as error:
            raise InvalidExample(f"label {number}: {error}") from error
    return examples
