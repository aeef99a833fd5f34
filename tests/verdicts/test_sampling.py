"""Which allowed answers come before a pharmacist, with which probability, and what is stored of it."""

import random
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
import redis
from scipy.stats import binomtest

from classifiers.policy import Policy as CascadePolicy
from classifiers.result import ClassifierResult, Layer
from guardreview.core.models import App, User
from guardreview.review.leases import item_lease
from guardreview.review.models import Label
from guardreview.review.services import review_create
from guardreview.review.statistics import Stratum, miss_rate
from guardreview.verdicts import learning_draw, runtime, sampling, services
from guardreview.verdicts.learning_draw import MEMORY, LearningDraw, RedisCounts
from guardreview.verdicts.models import Exchange, Policy, ReviewItem, Verdict
from guardreview.verdicts.novelty import UNKNOWN, NoveltyMap
from guardreview.verdicts.sampling import STEPS, AuditRates, audit_probability, drawn, gain, raised

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


# --- Learning ---------------------------------------------------------------------------------------------------------------
class Shared:
    """What Redis does for the workers, in this process."""

    def __init__(self) -> None:
        self.kept: dict[str, float] = {}
        self.map: bytes | None = None

    def tell(self, changes: Any) -> dict[str, float]:
        for name, value in changes.items():
            self.kept[name] = self.kept.get(name, 0.0) + value
        if sum(n for name, n in self.kept.items() if name.startswith("g")) > MEMORY:
            self.kept = {name: n / 2 if name.startswith("g") else n for name, n in self.kept.items()}
        return dict(self.kept)

    def novelty(self) -> bytes | None:
        return self.map


class Away:
    """A Redis that cannot be reached."""

    def tell(self, changes: Any) -> dict[str, float]:
        raise redis.ConnectionError

    def novelty(self) -> bytes | None:
        raise redis.ConnectionError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.05
        return self.now


def a_draw(shared: Any) -> LearningDraw:
    return LearningDraw(shared, clock=Clock())


def test_learning_raises_a_probability_and_never_lowers_it(chance: random.Random) -> None:
    for wanted in (0.0, 0.004, 0.01, 0.03, 0.2, 0.7, 1.0, 9.0):
        found = [audit_probability(CASCADE, [scored(unsafe=0.01)], RATES, wanted) for _ in range(4000)]
        assert set(found) <= {0.01, *STEPS}
        assert sum(found) / len(found) == pytest.approx(min(1.0, max(0.01, wanted)), rel=0.1)
    assert audit_probability(CASCADE, [scored(unsafe=0.05)], RATES, 0.02) == 0.05


@pytest.mark.parametrize(
    ("results", "novelty", "expected"),
    [
        ([scored(unsafe=0.0)], 1.0, 0.0),
        ([scored(unsafe=0.05)], 1.0, 0.25),
        ([scored(unsafe=0.1)], 1.0, 1.0),
        ([scored(unsafe=0.1)], 0.25, 0.25),
        ([scored(unsafe=0.01), scored(Layer.JUDGE)], 1.0, 1.0),
        ([scored(Layer.RULES, is_safe=False), scored(unsafe=0.01)], 0.5, 0.5),
    ],
)
def test_most_is_learnt_near_a_threshold_where_layers_disagree_and_of_what_is_new(
    results: list[ClassifierResult], novelty: float, expected: float
) -> None:
    assert gain(CASCADE, results, novelty) == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.005, 0.02, 0.1])
def test_the_average_share_is_kept_as_traffic_drifts(chance: random.Random, share: float) -> None:
    numbers, shared = np.random.default_rng(5), Shared()
    workers = [a_draw(shared) for _ in range(3)]
    added = []
    for begin, (a, b) in enumerate([(0.3, 6), (1.5, 6), (0.3, 20), (2, 2)]):
        for at, value in enumerate(numbers.beta(a, b, 15_000)):
            least = 0.05 if value > 0.25 else 0.01
            wanted = workers[(begin + at) % 3].wanted(float(value), least, share)
            added.append(raised(least, wanted) - least if wanted > least else 0.0)
    assert sum(added) / len(added) == pytest.approx(share, rel=0.1)
    # Each part of the traffic, too, once it is known.
    for begin in range(0, 60_000, 15_000):
        assert sum(added[begin + 3_000 : begin + 15_000]) / 12_000 == pytest.approx(share, rel=0.3)


def test_the_miss_rate_stays_unbiased_and_its_interval_covers(chance: random.Random) -> None:
    numbers = np.random.default_rng(6)
    estimates, covered, rounds = [], 0, 60
    n, caught = 6_000, 300
    for _ in range(rounds):
        draw = a_draw(Shared())
        score = numbers.beta(0.5, 8, n)
        unsafe = numbers.random(n) < 0.12 * score**0.7
        strata: dict[float, list[int]] = {}
        for value, bad in zip(score.tolist(), unsafe.tolist(), strict=True):
            least = 0.05 if value > 0.2 else 0.02
            wanted = draw.wanted(value**2, least, 0.05)
            p = raised(least, wanted) if wanted > least else least
            counts = strata.setdefault(p, [0, 0, 0])
            counts[0] += 1
            if drawn(p):
                counts[1] += 1
                counts[2] += bad
        found = miss_rate([Stratum(p, all, hits, hits, bad) for p, (all, hits, bad) in strata.items()], caught=caught)
        weighted = sum(bad / p for p, (_, _, bad) in strata.items())
        truth = int(unsafe.sum())
        estimates.append((weighted - truth, truth))
        covered += found.low <= truth / (truth + caught) <= found.high
    errors = np.array([error for error, _ in estimates])
    standard_error = errors.std(ddof=1) / rounds**0.5
    assert abs(errors.mean()) < 3.3 * standard_error
    assert standard_error < 0.1 * estimates[0][1]  # else the test above would say nothing
    assert covered >= 0.95 * rounds


def test_draws_for_learning_find_more_of_what_was_missed(chance: random.Random) -> None:
    numbers, draw = np.random.default_rng(7), a_draw(Shared())
    score = numbers.beta(0.5, 8, 20_000)
    unsafe = numbers.random(20_000) < 0.3 * score
    found, hits = 0, 0
    for value, bad in zip(score.tolist(), unsafe.tolist(), strict=True):
        wanted = draw.wanted(value**2, 0.01, 0.05)
        if drawn(raised(0.01, wanted) if wanted > 0.01 else 0.01):
            hits += 1
            found += bad
    assert found / hits > 2 * unsafe.mean()


def test_without_redis_nothing_is_drawn_for_learning(chance: random.Random) -> None:
    draw = a_draw(Away())
    assert {draw.wanted(0.9, 0.01, 0.1) for _ in range(2000)} == {0.01}
    assert draw.novelty(np.ones(384, dtype=np.float32), "e") == UNKNOWN


def test_without_redis_a_worker_goes_on_with_what_it_knew(chance: random.Random) -> None:
    draw = a_draw(Shared())
    for value in np.random.default_rng(1).beta(0.5, 8, 3000).tolist():
        draw.wanted(value, 0.01, 0.05)
    draw.counts = Away()
    wanted = [draw.wanted(value, 0.01, 0.05) - 0.01 for value in np.random.default_rng(2).beta(0.5, 8, 3000).tolist()]
    assert sum(wanted) / 3000 == pytest.approx(0.05, rel=0.3)


def test_redis_counts_as_one_for_all_workers(redis_server: Any, settings: Any) -> None:
    counts = RedisCounts(settings.REDIS_URL)
    counts.tell({"g:3:0.01": 3000.0, "debt:0.05": -1.5})
    assert counts.tell({"g:3:0.01": 500.0}) == {"g:3:0.01": 3500.0, "debt:0.05": -1.5}
    assert counts.tell({"g:4:0.01": 1000.0}) == {"g:3:0.01": 1750.0, "g:4:0.01": 500.0, "debt:0.05": -1.5}
    assert counts.novelty() is None


def test_what_was_labelled_is_no_longer_new() -> None:
    numbers = np.random.default_rng(3)
    centres = numbers.standard_normal((9, 384)).astype(np.float32)

    def near(centre: Any) -> Any:
        return centre + 0.4 * numbers.standard_normal(384).astype(np.float32)

    known = [near(centre) for centre in centres[:8] for _ in range(100)]
    found = NoveltyMap.of("e", (vector / np.linalg.norm(vector) for vector in known))
    assert found is not None
    centre = centres[0]
    like, unlike = (np.mean([found.novelty(near(each)) for _ in range(20)]) for each in (centre, centres[8]))
    assert 0 < like < 0.6 * unlike <= 1
    again = NoveltyMap.from_bytes(found.as_bytes())
    assert again.novelty(centre) == found.novelty(centre)
    assert found.novelty(np.zeros(384, dtype=np.float32)) == found.novelty(np.ones(3, dtype=np.float32)) == UNKNOWN
    assert len(found.as_bytes()) < 20_000
    assert NoveltyMap.of("e", []) is None


def test_it_takes_less_than_a_millisecond(redis_server: Any, settings: Any) -> None:
    draw = LearningDraw(RedisCounts(settings.REDIS_URL))
    numbers = np.random.default_rng(4)
    vectors = numbers.standard_normal((1000, 384)).astype(np.float32)
    made = NoveltyMap.of("e", iter(vectors))
    assert made is not None
    RedisCounts(settings.REDIS_URL).client.set("learning:novelty", made.as_bytes())
    results = [scored(Layer.RULES), scored(unsafe=0.03)]
    started = time.perf_counter()
    for vector in vectors:
        wanted = draw.wanted(gain(CASCADE, results, draw.novelty(vector, "e")), 0.01, 0.05)
        audit_probability(CASCADE, results, RATES, wanted)
    assert (time.perf_counter() - started) / len(vectors) < 0.001


def test_a_policy_that_learns_stores_what_it_drew_with_and_the_queue_does_not_tell(
    settings: Any, allowed: Any, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.AUDIT_RATES = {"floor": 0.01, "near": 0.01}
    Policy.objects.update(learning_share=0.2)
    monkeypatch.setattr(learning_draw, "_draw", a_draw(Shared()))
    monkeypatch.setattr(learning_draw, "ENOUGH", 20)
    for n in range(150):
        allowed(0.001 if n % 2 else 0.07)
    stored = set(Verdict.objects.values_list("audit_probability", flat=True))
    assert stored <= {0.01, *STEPS}
    assert len(stored) > 1
    items = list(ReviewItem.objects.all())
    assert len(items) > 5
    assert {(item.kind, item.blind, item.severity, tuple(item.reasons)) for item in items} == {("audit", True, "minor", ())}
    for item in items:
        assert item.inclusion_probability == item.exchange.verdict.audit_probability


def test_a_verdict_never_fails_for_it(allowed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Policy.objects.update(learning_share=0.2)

    def fail() -> LearningDraw:
        raise RuntimeError("anything")

    monkeypatch.setattr(learning_draw, "process_draw", fail)
    exchange = allowed(0.05)
    assert Verdict.objects.get(exchange=exchange).audit_probability == 1e-12
