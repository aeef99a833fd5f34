"""What the database counts of one week: whatever the traffic, only groups come out of it.

A week is that of UTC from Monday on, and its answers are those decided in it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import (
    Case,
    Count,
    ExpressionWrapper,
    F,
    FilteredRelation,
    FloatField,
    Func,
    IntegerField,
    Q,
    QuerySet,
    Sum,
    Value,
    When,
)
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

from classifiers.metrics import ALPHA, DELTA
from classifiers.policy import UNSAFE
from classifiers.result import CATEGORIES, CRITICAL_FAMILIES, UNDECIDED, Decision, Layer, Severity, family_of
from classifiers.thresholds import smallest_sample
from guardreview.learning import drift
from guardreview.learning.alarms import EACH
from guardreview.learning.models import PolicyChange, Promotion
from guardreview.learning.threshold_curves import open_factor
from guardreview.review.insight import LABEL_COUNTS, Allowed, Stopped
from guardreview.review.models import Label
from guardreview.review.selectors import DRAWN_BY_DESIGN
from guardreview.review.statistics import miss_rate
from guardreview.verdicts.models import CustomRule, LayerResult, ModelVersion, ReviewItem, Verdict

WEEK: Final = timedelta(days=7)
FINE: Final = 1_000
"""Scores are counted in thousandths, and kept in the bins of SCORE_EDGES."""
NO_JUDGE: Final = "no judge is configured"
"""An answer that was held since nobody set a judge up: a decision, not a failure."""
MOST_NAMES: Final = 40


def bounds_of(week: date) -> tuple[datetime, datetime]:
    """The first moment of a week, and of the next."""
    start = datetime(week.year, week.month, week.day, tzinfo=UTC)
    return start, start + WEEK


class Bin(Func):
    """Which of `parts` equal parts of [0, 1] a number lies in, as an integer. (PostgreSQL rounds on casting, SQLite cuts off.)"""

    output_field = IntegerField()

    def __init__(self, expression: Any, parts: int) -> None:
        super().__init__(ExpressionWrapper(expression * Value(float(parts)), output_field=FloatField()))

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="CAST(%(expressions)s AS INTEGER)", **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="FLOOR(%(expressions)s)::integer", **context)


def figures(week: date) -> dict[str, Any]:
    """Of one week, JSON-ready."""
    start, end = bounds_of(week)
    layers = _layers(start, end)
    decisions, categories = _decisions(start, end)
    return {
        "n": sum(decisions.values()),
        "decisions": decisions,
        "categories": categories,
        "judged": layers.get(Layer.JUDGE, {}).get("n", 0),
        "languages": layers.pop("languages", {}),
        "versions": layers.pop("versions", {}),
        "layers": layers,
        "scores": _scores(start, end),
        **_audits(start, end),
        "judge": _judge(start, end),
        "calibration": _calibration(start, end),
        "fresh": _fresh(end),
        "changes": _changes(start, end),
    }


def _week(path: str, start: datetime, end: datetime) -> dict[str, datetime]:
    return {f"{path}__gte": start, f"{path}__lt": end}


def _copies() -> QuerySet[Any, Any]:
    """Calibration items: copies, no traffic."""
    return ReviewItem.objects.filter(kind=ReviewItem.Kind.CALIBRATION).values("exchange")


def _decisions(start: datetime, end: datetime) -> tuple[dict[str, int], dict[str, int]]:
    """Verdicts by decision, and blocked ones by category."""
    rows: QuerySet[Any, Any] = (
        Verdict.objects.filter(~Q(exchange__in=_copies()), **_week("decided_at", start, end))
        .values("decision", "category")
        .annotate(n=Count("pk"))
        .order_by()
    )
    decisions: Counter[str] = Counter({decision.value: 0 for decision in Decision})
    categories: Counter[str] = Counter()
    for row in rows:
        decisions[row["decision"]] += row["n"]
        if row["decision"] == Decision.BLOCK:
            categories[row["category"]] += row["n"]
    return dict(decisions), dict(categories.most_common(MOST_NAMES))


def _layers(start: datetime, end: datetime) -> dict[str, Any]:
    """By layer: how many ran, failed and how, their latencies; and the languages and the versions that were seen."""
    whens = [When(latency_ms__lte=edge, then=Value(at)) for at, edge in enumerate(drift.LATENCY_EDGES)]
    took = Case(*whens, default=Value(len(drift.LATENCY_EDGES) - 1), output_field=IntegerField())
    results = LayerResult.objects.filter(~Q(exchange__in=_copies()), **_week("exchange__verdict__decided_at", start, end))
    rows: QuerySet[Any, Any] = (
        results.annotate(took=took, failed=Case(When(error="", then=False), default=True))
        .values("layer", "version", "language", "failed", "took")
        .annotate(n=Count("pk"))
        .order_by()
    )
    found: dict[str, Any] = {}
    languages: Counter[str] = Counter()
    versions: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        layer = found.setdefault(row["layer"], {"n": 0, "failed": 0, "errors": {}, "latency": [0] * len(drift.LATENCY_EDGES)})
        layer["n"] += row["n"]
        if row["failed"]:
            layer["failed"] += row["n"]
            continue
        layer["latency"][row["took"]] += row["n"]
        if row["version"]:
            versions[row["layer"]][row["version"]] += row["n"]
        if row["layer"] == Layer.RULES:
            languages[row["language"] or "unknown"] += row["n"]
    errors: QuerySet[Any, Any] = results.exclude(error="").values("layer", "error").annotate(n=Count("pk")).order_by("-n")
    for row in errors[:MOST_NAMES]:
        layer = found[row["layer"]]
        if row["error"] == NO_JUDGE:
            layer["failed"] -= row["n"]
            layer["n"] -= row["n"]
        elif len(layer["errors"]) < 3:
            layer["errors"][row["error"]] = row["n"]
    found["languages"] = dict(languages.most_common(MOST_NAMES))
    found["versions"] = {layer: dict(seen.most_common(10)) for layer, seen in versions.items()}
    return found


def _p_unsafe(path: str) -> Cast:
    return Cast(KeyTextTransform(UNSAFE, path), FloatField())


def _scores(start: datetime, end: datetime) -> list[int]:
    """P(unsafe) by the fine-tuned classifier, by SCORE_EDGES."""
    rows: QuerySet[Any, Any] = (
        LayerResult.objects.filter(
            ~Q(exchange__in=_copies()), layer=Layer.FINETUNED, error="", **_week("exchange__verdict__decided_at", start, end)
        )
        .annotate(bin=Bin(_p_unsafe("scores"), FINE))
        .values("bin")
        .annotate(n=Count("pk"))
        .order_by()
    )
    counts = [0] * (len(drift.SCORE_EDGES) - 1)
    for row in rows:
        if row["bin"] is not None:
            middle = (row["bin"] + 0.5) / FINE
            counts[sum(middle >= edge for edge in drift.SCORE_EDGES[1:-1])] += row["n"]
    return counts


def _audits(start: datetime, end: datetime) -> dict[str, Any]:
    """Blocks that were overturned, and the miss rate, computed as /insight does, but of weeks in UTC: those of /insight are
    in the site's time zone. `surely`: the miss rate's lower bound at the level of one test among the alarms'."""
    blocks, held = Stopped(), Stopped()
    items = ReviewItem.objects.filter(**_week("exchange__verdict__decided_at", start, end)).annotate(
        label_now=FilteredRelation("exchange__labels", condition=Q(exchange__labels__is_current=True))
    )
    stopped: QuerySet[Any, Any] = (
        items.filter(kind__in=(ReviewItem.Kind.BLOCKED, ReviewItem.Kind.HELD)).values("kind").annotate(**LABEL_COUNTS).order_by()
    )
    for row in stopped:
        (blocks if row["kind"] == ReviewItem.Kind.BLOCKED else held).add(row)
    allowed = Allowed()
    answers: QuerySet[Any, Any] = (
        Verdict.objects.filter(~Q(exchange__in=_copies()), decision=Decision.ALLOW, **_week("decided_at", start, end))
        .values("audit_probability")
        .annotate(n=Count("pk"))
        .order_by()
    )
    for row in answers:
        if row["audit_probability"] is None:
            allowed.outside += row["n"]
        else:
            allowed.by_probability[row["audit_probability"]].allowed += row["n"]
    draws: QuerySet[Any, Any] = (
        items.filter(kind=ReviewItem.Kind.AUDIT, inclusion_probability=F("exchange__verdict__audit_probability"))
        .values("exchange__verdict__audit_probability")
        .annotate(**LABEL_COUNTS)
        .order_by()
    )
    for row in draws:
        allowed.by_probability[row["exchange__verdict__audit_probability"]].audits.add(row)
    missed = miss_rate(allowed.strata(), caught=blocks.unsafe, caught_open=blocks.open)
    surely = miss_rate(allowed.strata(), caught=blocks.unsafe, caught_open=blocks.open, confidence=1 - 2 * EACH).low
    strata = sum(1 for stratum in allowed.strata() if stratum.allowed)
    return {
        "overturned": {"safe": blocks.safe, "settled": blocks.settled, "open": blocks.open},
        "held": {"settled": held.settled, "safe": held.safe, "all": held.all},
        "misses": {**asdict(missed), "strata": strata, "surely": surely},
    }


def _labelled(start: datetime, end: datetime, layer: Layer) -> QuerySet[Any]:
    """Labels in force of answers of the week that a layer had a word on, as `said`; `w`: 1 / probability.

    For the draws that are still open, the settled ones of the same probability stand: so sums of `w` are made by probability, and
    `_together` multiplies them.
    """
    condition = Q(exchange__layer_results__layer=layer, exchange__layer_results__error="")
    return (
        Label.objects.filter(
            DRAWN_BY_DESIGN, is_current=True, inclusion_probability__gt=0, **_week("exchange__verdict__decided_at", start, end)
        )
        .annotate(
            said=FilteredRelation("exchange__layer_results", condition=condition), w=Value(1.0) / F("inclusion_probability")
        )
        .filter(said__isnull=False)
    )


def _together(rows: Any, start: datetime, end: datetime, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of each combination of `keys` added up over `inclusion_probability`, each sum by how many draws of the week stand
    behind one that is settled (squares and `spread` by the square of it); `n` as it is."""
    items = ReviewItem.objects.filter(**_week("exchange__verdict__decided_at", start, end))
    factors = open_factor(items)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        factor = factors.get(row.pop("inclusion_probability"), 1.0)
        by = {"n": 1, "squares": factor**2, "spread": factor**2}
        sums = {name: value * by.get(name, factor) for name, value in row.items() if name not in keys}
        into = found.setdefault(tuple(row[key] for key in keys), {key: row[key] for key in keys} | dict.fromkeys(sums, 0))
        for name, value in sums.items():
            into[name] += value
    return list(found.values())


def _judge(start: datetime, end: datetime) -> list[dict[str, Any]]:
    """What the judge said beside what was settled, in counts and weights."""
    rows: QuerySet[Any, Any] = (
        _labelled(start, end, Layer.JUDGE)
        .exclude(said__category=UNDECIDED)
        .values("said__is_safe", "value", "inclusion_probability")
        .annotate(n=Count("pk"), weight=Sum("w"), squares=Sum(F("w") * F("w")))
        .order_by()
    )
    return [
        {
            "judge_unsafe": not row["said__is_safe"],
            "unsafe": row["value"] == Label.Value.UNSAFE,
            **{name: row[name] for name in ("n", "weight", "squares")},
        }
        for row in _together(rows, start, end, ("said__is_safe", "value"))
    ]


def _calibration(start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Sums for `drift.ScoreBin`, by tenth."""
    labelled = _labelled(start, end, Layer.FINETUNED).annotate(
        p=_p_unsafe("said__scores"),
        truth=Case(When(value=Label.Value.UNSAFE, then=1.0), default=0.0, output_field=FloatField()),
    )
    off = F("w") * (F("truth") - F("p"))
    rows: QuerySet[Any, Any] = (
        labelled.annotate(tenth=Bin(F("p"), 10))
        .values("tenth", "inclusion_probability")
        .annotate(
            n=Count("pk"),
            weight=Sum("w"),
            squares=Sum(F("w") * F("w")),
            scored=Sum(F("w") * F("p")),
            unsafe=Sum(F("w") * F("truth")),
            spread=Sum(off * off),
        )
        .order_by("tenth")
    )
    # A score of exactly 1 belongs to the last tenth.
    tenths = [{**row, "tenth": min(9, row["tenth"])} for row in rows if row["tenth"] is not None]
    return _together(tenths, start, end, ("tenth",))


def _fresh(end: datetime) -> dict[str, dict[str, int]]:
    """By category that the guarantee is about: critical labels settled in the last `fresh_days`, ever, and how many it takes."""
    certificate = (
        ModelVersion.objects.filter(stage=ModelVersion.Stage.ACTIVE).values_list("metrics__certificate", flat=True).first() or {}
    )
    needed = smallest_sample(certificate.get("alpha") or ALPHA, certificate.get("delta") or DELTA)
    since = end - timedelta(days=settings.HEALTH["fresh_days"])
    rows: QuerySet[Any, Any] = (
        Label.objects.filter(is_current=True, value=Label.Value.UNSAFE, severity=Severity.CRITICAL, created_at__lt=end)
        .values("categories")
        .annotate(ever=Count("pk"), fresh=Count("pk", filter=Q(created_at__gte=since)))
        .order_by()
    )
    found = {name: {"fresh": 0, "ever": 0, "needed": needed} for name in CATEGORIES if family_of(name) in CRITICAL_FAMILIES}
    for row in rows:
        for category in set(row["categories"]) & found.keys():
            found[category]["fresh"] += row["fresh"]
            found[category]["ever"] += row["ever"]
    return found


def _changes(start: datetime, end: datetime) -> list[dict[str, str]]:
    """What began to serve in the week, oldest first: `words`, `kind` and `target` for a link."""
    found: list[tuple[datetime, str, str, str]] = []
    found += [
        (
            made.created_at,
            f"model {made.model.version} began to serve with policy {made.policy_id}",
            "model",
            made.model.version,
        )
        for made in Promotion.objects.filter(**_week("created_at", start, end)).select_related("model")
    ]
    promoted = {target for *_, target in found}
    for model in ModelVersion.objects.filter(**_week("activated_at", start, end)).exclude(version__in=promoted):
        if model.activated_at:  # the filter says so already, but not to the type checker
            found.append((model.activated_at, f"model {model.version} began to serve", "model", model.version))
    for change in PolicyChange.objects.filter(**_week("applied_at", start, end)):
        if change.applied_at:
            words = f"policy {change.policy_id} replaced policy {change.replaces_id}"
            found.append((change.applied_at, words, "policy", str(change.policy_id)))
    found += [
        (rule.created_at, f"rule {rule.rule_id} version {rule.version} was made", "rule", str(rule.pk))
        for rule in CustomRule.objects.filter(**_week("created_at", start, end))
    ]
    return [
        {"at": at.isoformat(timespec="minutes"), "words": words, "kind": kind, "target": target}
        for at, words, kind, target in sorted(found)[:MOST_NAMES]
    ]
