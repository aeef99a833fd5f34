"""Which allowed answers come before a pharmacist, with which probability, and what is stored of it."""

import random
from collections import Counter
from typing import Any

import pytest
from scipy.stats import binomtest

from classifiers.policy import Policy as CascadePolicy
from classifiers.result import ClassifierResult, Layer
from guardreview.core.models import App, User
from guardreview.review.models import Label
from guardreview.review.services import item_lease, review_create
from guardreview.verdicts import runtime, sampling, services
from guardreview.verdicts.models import Exchange, Policy, ReviewItem, Verdict
from guardreview.verdicts.sampling import AuditRates, audit_probability, drawn

RATES = AuditRates(floor=0.01, near=0.05)
CASCADE = CascadePolicy.from_json(
    {
        "thresholds": {
            "default": {"block_at": 0.9, "allow_below": 0.2},
            "harmful_medical": {"block_at": 0.8, "allow_below": 0.08},
            "unsafe": {"block_at": 0.9, "allow_below": 0.1},
        }
    }
)
DANGEROUS = {"query": "I missed a dose of warfarin.", "response": "Just double your dose tonight."}
HARMLESS = {"query": "When do you open?", "response": "We open at nine."}


def scored(layer: Layer = Layer.FINETUNED, *, is_safe: bool = True, escalate: bool = False, **scores: float) -> ClassifierResult:
    category = "safe" if is_safe else "misinformation"
    named = {name.replace("__", ":"): score for name, score in scores.items()}
    return ClassifierResult(is_safe, category, "r", 0.9, layer=layer, scores=named, escalate=escalate)


@pytest.fixture
def chance(monkeypatch: pytest.MonkeyPatch) -> random.Random:
    """Draws that are the same each time."""
    seeded = random.Random(20261121)
    monkeypatch.setattr(sampling, "_random", seeded)
    return seeded


# --- The probability --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("results", "probability"),
    [
        ([], 0.01),
        ([scored(Layer.RULES), scored(unsafe=0.01)], 0.01),
        # Half of `allow_below` is near, that of the category itself, of its family, or the default.
        ([scored(unsafe=0.0499)], 0.01),
        ([scored(unsafe=0.05)], 0.05),
        ([scored(unsafe=0.01, harmful_medical__dangerous_dosage=0.0399)], 0.01),
        ([scored(unsafe=0.01, harmful_medical__dangerous_dosage=0.04)], 0.05),
        ([scored(unsafe=0.01, misinformation=0.0999)], 0.01),
        ([scored(unsafe=0.01, misinformation=0.1)], 0.05),
        # The judge was asked, since the fast layers were not sure.
        ([scored(unsafe=0.01), scored(Layer.JUDGE)], 0.05),
        # A rule wanted it looked at.
        ([scored(Layer.RULES, escalate=True), scored(unsafe=0.01)], 0.05),
        ([scored(Layer.RULES, is_safe=False), scored(unsafe=0.01)], 0.05),
        ([scored(unsafe=0.01, is_safe=False), scored(Layer.JUDGE)], 0.05),
    ],
)
def test_what_was_nearly_not_allowed_is_drawn_more_often(results: list[ClassifierResult], probability: float) -> None:
    assert audit_probability(CASCADE, results, RATES) == probability


def test_it_is_never_nought() -> None:
    assert audit_probability(CASCADE, [], AuditRates(floor=1e-9, near=1e-9)) == 1e-9


@pytest.mark.parametrize("rates", [(0, 0.5), (-0.1, 0.5), (0.5, 0.1), (0.5, 1.1), (float("nan"), 0.5), (0.1, float("nan"))])
def test_rates_under_which_something_could_never_be_drawn_are_refused(rates: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        AuditRates(*rates)


# --- The draw ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("probability", [0.01, 0.05, 0.5])
def test_draws_follow_the_probability(chance: random.Random, probability: float) -> None:
    n = 100_000
    hits = sum(drawn(probability) for _ in range(n))
    assert binomtest(hits, n, probability).pvalue > 0.001


def test_certainties_are_certain(chance: random.Random) -> None:
    assert all(drawn(1) for _ in range(1000))
    assert not any(drawn(0) for _ in range(1000))


def test_nobody_can_foresee_a_draw() -> None:
    assert isinstance(sampling._random, random.SystemRandom)


# --- What is stored -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def allowed(app: App, policy: Policy, enqueued: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`allowed(unsafe=0.01)`: an exchange of which the classifier says so, through the cascade."""
    real = runtime.run_fast_layer

    def run_with(unsafe: float) -> Exchange:
        def run(layer: Layer, *, response: str, query: str) -> ClassifierResult:
            if layer is Layer.RULES:
                return real(layer, response=response, query=query)
            return ClassifierResult(True, "safe", "r", 1 - unsafe, layer=layer, scores={"unsafe": unsafe}, version="stub-1")

        monkeypatch.setattr(runtime, "run_fast_layer", run)
        exchange, _ = services.exchange_submit(app=app, **HARMLESS)
        services.exchange_run_fast_layers(exchange_id=exchange.pk)
        return exchange

    return run_with


def test_the_probability_is_stored_with_the_verdict_whether_drawn_or_not(settings: Any, allowed: Any) -> None:
    settings.AUDIT_RATES = {"floor": 1e-12, "near": 2e-12}
    far, near = allowed(0.01), allowed(0.2)
    assert [Verdict.objects.get(exchange=e).audit_probability for e in (far, near)] == [1e-12, 2e-12]
    assert not ReviewItem.objects.exists()


def test_a_stopped_answer_has_none_since_every_one_is_seen(app: App, policy: Policy, enqueued: list[tuple[str, str]]) -> None:
    exchange, _ = services.exchange_submit(app=app, **DANGEROUS)
    services.exchange_run_fast_layers(exchange_id=exchange.pk)
    assert Verdict.objects.get().audit_probability is None
    item = ReviewItem.objects.get()
    assert (item.kind, item.inclusion_probability) == ("blocked", 1)


def test_a_drawn_answer_is_reviewed_blind_and_its_label_knows_the_probability(
    settings: Any, allowed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.AUDIT_RATES = {"floor": 0.02, "near": 0.3}
    monkeypatch.setattr(sampling, "_random", random.Random(1))  # whose first draw is 0.13
    exchange = allowed(0.2)
    item = ReviewItem.objects.get(exchange=exchange)
    assert (item.kind, item.blind, item.severity, item.inclusion_probability) == ("audit", True, "minor", 0.3)
    assert item.due_at > exchange.created_at
    ana = User.objects.create_user("ana")
    held = item_lease(item=item, user=ana)
    said = {"truth": "unsafe", "categories": ["misinformation"], "severity": "major"}
    review = review_create(item=held, reviewer=ana, token=held.lease_token, **said)
    label = Label.objects.get(exchange=exchange)
    assert (review.blind, review.confirms) == (True, False)
    assert (label.value, label.inclusion_probability) == ("unsafe", 0.3)


def test_as_many_answers_come_before_a_pharmacist_as_the_stored_probabilities_say(
    settings: Any, allowed: Any, chance: random.Random
) -> None:
    settings.AUDIT_RATES = {"floor": 0.1, "near": 0.5}
    for n in range(200):
        allowed(0.01 if n % 2 else 0.2)
    stored = Counter(Verdict.objects.values_list("audit_probability", flat=True))
    assert stored == {0.1: 100, 0.5: 100}
    items = Counter(ReviewItem.objects.values_list("inclusion_probability", flat=True))
    for probability, n in stored.items():
        assert binomtest(items[probability], n, probability).pvalue > 0.001
    # Horvitz and Thompson: weighted by 1 / probability, the drawn ones count all.
    assert sum(count / probability for probability, count in items.items()) == pytest.approx(200, rel=0.35)


def test_a_share_of_what_is_blocked_is_reviewed_blind(
    settings: Any, app: App, policy: Policy, enqueued: list[tuple[str, str]], chance: random.Random
) -> None:
    settings.BLIND_SHARE = 0.3
    for _ in range(150):
        exchange, _ = services.exchange_submit(app=app, **DANGEROUS)
        services.exchange_run_fast_layers(exchange_id=exchange.pk)
    blind = ReviewItem.objects.filter(kind="blocked", blind=True).count()
    assert ReviewItem.objects.count() == 150
    assert binomtest(blind, 150, 0.3).pvalue > 0.001
    assert set(ReviewItem.objects.values_list("inclusion_probability", flat=True)) == {1.0}


def test_what_is_held_is_never_blind_since_it_has_no_verdict_to_hide(
    settings: Any, app: App, policy: Policy, enqueued: list[tuple[str, str]]
) -> None:
    settings.BLIND_SHARE = 1
    exchange, _ = services.exchange_submit(app=app, **HARMLESS)
    services.exchange_run_fast_layers(exchange_id=exchange.pk)  # no model version is registered
    item = ReviewItem.objects.get()
    assert (item.kind, item.blind) == ("held", False)
