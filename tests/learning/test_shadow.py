"""A candidate reads along without effect; what it would have treated otherwise is listed, and drawn for blind review."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from classifiers.encoder.bundle import InvalidBundle
from classifiers.policy import UNSAFE
from classifiers.result import ClassifierResult, Layer
from guardreview.core.models import App, AuditEvent, User
from guardreview.learning import gate, promotion, shadow
from guardreview.review import insight
from guardreview.review.calibration import APP_NAME
from guardreview.verdicts import runtime
from guardreview.verdicts.models import Exchange, LayerResult, ModelVersion, Policy, ReviewItem, ShadowResult, Verdict
from guardreview.verdicts.services import policy_create
from tests import scenes

CERTIFICATE = {"allow_below": 0.3, "alpha": 0.05, "confidence": 0.95, "n": 200, "misses": 0, "missing": 0}
METRICS = {"certificate": CERTIFICATE, "block_at": 0.9}


class Reads:
    """Says what its dictionary has for a text; it fails on all if one is missing."""

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores

    def classify(self, text: str, query: str = "") -> ClassifierResult:
        return scenes.finetuned(self.scores[text])

    def classify_batch(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> list[ClassifierResult]:
        return [self.classify(text) for text in texts]


SCORES = {"same": 0.1, "stricter": 0.5, "blocks": 0.95, "looser": 0.1, "rules": 0.5}


@pytest.fixture
def people(db: None) -> dict[str, User]:
    return scenes.people()


@pytest.fixture
def policy(db: None) -> Policy:
    thresholds = {"default": {"block_at": 1.0, "allow_below": 1.0}, UNSAFE: {"block_at": 0.95, "allow_below": 0.2}}
    return policy_create(actor=None, thresholds=thresholds)


@pytest.fixture
def model(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> ModelVersion:
    shadow._held.clear()
    monkeypatch.setattr(runtime, "model", lambda version, artefact: Reads(SCORES))
    ModelVersion.objects.create(version="ft-serving", stage="active", metrics=METRICS)
    return ModelVersion.objects.create(version="ft-shadow", stage="shadow", metrics=METRICS)


def decided(text: str, p: float, decision: str, *, audited: bool = False, age: float = 1) -> Exchange:
    """An exchange that the fast layers, or a judge after them, decided so."""
    exchange = Exchange.objects.create(app=scenes.chat_app(), query="", response=text, status="decided", body_digest="-")
    for result in (ClassifierResult(True, "safe", "no rule matched", 0.5, layer=Layer.RULES), scenes.finetuned(p)):
        fields = result.as_json()
        LayerResult.objects.create(exchange=exchange, **{**fields, "severity": fields["severity"] or ""})
    Verdict.objects.create(
        exchange=exchange, decision=decision, category="safe", reason="-", confidence=0.9,
        policy=Policy.objects.get(is_active=True), latency_ms=1, audit_probability=0.05 if decision == "allow" else None,
    )  # fmt: skip
    Verdict.objects.filter(pk=exchange.pk).update(decided_at=timezone.now() - timedelta(minutes=age))
    if audited or decision != "allow":
        ReviewItem.objects.create(
            exchange=exchange, kind="audit" if audited else "held", severity="minor", category="-", due_at=timezone.now(),
            inclusion_probability=0.05 if audited else 1.0,
        )  # fmt: skip
    return exchange


@pytest.fixture
def traffic(model: ModelVersion) -> dict[str, Exchange]:
    return {
        "same": decided("same", 0.1, "allow"),
        "stricter": decided("stricter", 0.1, "allow"),
        "blocks": decided("blocks", 0.15, "allow", audited=True),
        "looser": decided("looser", 0.5, "hold"),
    }


def test_it_says_what_the_fast_layers_would_have_decided_with_its_own_bounds(
    traffic: dict[str, Exchange], model: ModelVersion
) -> None:
    before = list(Verdict.objects.order_by("pk").values())
    assert shadow.shadow_score() is False
    rows = {row.exchange.response: row for row in ShadowResult.objects.select_related("exchange")}
    said = {name: (row.served, row.decision, row.differs) for name, row in rows.items()}
    assert said == {
        "same": ("allow", "allow", False),
        "stricter": ("allow", "judge", True),
        "blocks": ("allow", "block", True),
        "looser": ("judge", "allow", True),
    }
    assert rows["stricter"].p_unsafe == 0.5
    assert list(Verdict.objects.order_by("pk").values()) == before
    shadow.shadow_score()  # a second delivery
    assert ShadowResult.objects.count() == 4


@pytest.mark.usefixtures("traffic")
def test_what_it_cannot_read_is_recorded_as_failed_and_never_as_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "model", lambda version, artefact: Reads({}))
    shadow.shadow_score()
    assert set(ShadowResult.objects.values_list("p_unsafe", "decision")) == {(None, "judge")}


@pytest.mark.usefixtures("traffic")
def test_a_shadow_whose_files_are_missing_reads_nothing_and_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(version: str, artefact: str) -> None:
        raise InvalidBundle("no readable manifest")

    monkeypatch.setattr(runtime, "model", missing)
    assert shadow.shadow_score() is False
    assert not ShadowResult.objects.exists()


@pytest.mark.usefixtures("model")
def test_it_goes_back_an_hour_and_reads_what_the_served_model_read() -> None:
    decided("same", 0.1, "allow", age=90)
    stopped_by_rules = decided("rules", 0.1, "block")
    LayerResult.objects.filter(exchange=stopped_by_rules, layer="finetuned").delete()
    shadow.shadow_score()
    assert not ShadowResult.objects.exists()


@pytest.mark.usefixtures("model")
def test_all_that_was_decided_is_read_also_where_one_look_does_not_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "SCANNED", 2)
    for _ in range(5):
        decided("same", 0.1, "allow")
    assert [shadow.shadow_score() for _ in range(3)] == [True, True, False]
    assert ShadowResult.objects.count() == 5


@pytest.mark.usefixtures("traffic")
def test_drawn_are_allowed_answers_once_blind_and_with_their_probability(model: ModelVersion, people: dict[str, User]) -> None:
    shadow.shadow_score()
    before = ReviewItem.objects.count()
    drawn = [shadow.shadow_draw(model=model, share=1.0, filters=shadow.Filters(), actor=people["adam"]) for _ in range(2)]
    assert drawn == [1, 0]  # of three differences one was held, and one drawn by the audit
    assert ReviewItem.objects.count() == before + 1
    item = ReviewItem.objects.get(exchange__response="stricter")
    assert (item.kind, item.blind, item.inclusion_probability) == ("audit", True, 1.0)
    assert [event.data["count"] for event in AuditEvent.objects.filter(action="shadow.draw").order_by("pk")] == [1, 0]


@pytest.mark.usefixtures("model")
def test_a_larger_share_adds_to_what_a_smaller_one_drew(model: ModelVersion, people: dict[str, User]) -> None:
    for _ in range(60):
        decided("stricter", 0.1, "allow")
    shadow.shadow_score()
    first = shadow.shadow_draw(model=model, share=0.25, filters=shadow.Filters(), actor=people["adam"])
    assert 3 <= first <= 30
    assert shadow.shadow_draw(model=model, share=0.25, filters=shadow.Filters(), actor=people["adam"]) == 0
    (probability,) = set(ReviewItem.objects.values_list("inclusion_probability", flat=True))
    assert probability == pytest.approx(0.05 + 0.95 * 0.25)
    assert shadow.shadow_draw(model=model, share=1.0, filters=shadow.Filters(), actor=people["adam"]) == 60 - first


@pytest.mark.usefixtures("traffic")
def test_what_is_drawn_so_counts_neither_in_the_audit_nor_in_the_gate(model: ModelVersion, people: dict[str, User]) -> None:
    from guardreview.review.models import Label, Review

    shadow.shadow_score()

    def audited() -> object:
        return insight.allowed(insight.Scope(now=timezone.now()))[0]

    before = audited()
    assert shadow.shadow_draw(model=model, share=1.0, filters=shadow.Filters(), actor=people["adam"]) == 1
    assert audited() == before
    item = ReviewItem.objects.get(exchange__response="stricter")
    review = Review.objects.create(item=item, reviewer=people["ben"], truth="safe")
    Label.objects.create(exchange=item.exchange, review=review, value="safe")
    found = gate.gate_items(model, ModelVersion.objects.get(stage="active"))
    assert found.sets["audited"] == []


def test_one_candidate_at_a_time_reads_along(
    model: ModelVersion, people: dict[str, User], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "model_version_prepare", lambda model: None)
    other = ModelVersion.objects.create(version="ft-other", metrics=METRICS)
    shadow.shadow_start(model=other, actor=people["adam"])
    assert dict(ModelVersion.objects.exclude(stage="active").values_list("version", "stage")) == {
        "ft-shadow": "candidate",
        "ft-other": "shadow",
    }
    shadow.shadow_end(model=other, actor=people["adam"])
    assert other.stage == "candidate"
    with pytest.raises(promotion.NotPromoted, match="is no candidate"):
        shadow.shadow_start(model=ModelVersion.objects.get(stage="active"), actor=people["adam"])


# --- The pages ----------------------------------------------------------------------------------------------------------------
@pytest.fixture
def signed_in(people: dict[str, User]) -> Callable[[str], Client]:
    def sign_in(name: str) -> Client:
        client = Client()
        client.force_login(people[name], backend="django.contrib.auth.backends.ModelBackend")
        return client

    return sign_in


@pytest.mark.usefixtures("traffic")
def test_the_page_lists_differences_filters_them_and_draws(signed_in: Callable[[str], Client]) -> None:
    shadow.shadow_score()
    administrator = signed_in("adam")
    page = administrator.get("/learning/models/ft-shadow/shadow").content.decode()
    assert "Of 4 exchanges that were decided, it would have treated 3 otherwise." in page
    assert page.count('<tr>\n          <th scope="row">') == 3
    page = administrator.get("/learning/models/ft-shadow/shadow?served=allow&decision=block").content.decode()
    assert page.count('<tr>\n          <th scope="row">') == 1
    sent: dict[str, Any] = {"share": "100"}
    assert signed_in("lea").post("/learning/models/ft-shadow/shadow/draw", sent).status_code == 403
    page = administrator.post("/learning/models/ft-shadow/shadow/draw", sent, follow=True).content.decode()
    assert "1 drawn for review." in page
    assert signed_in("ana").get("/learning/models/ft-shadow/shadow").status_code == 403


def listed(page: str) -> set[str]:
    return set(re.findall(r"item (\d+)</a>", page))


@pytest.mark.usefixtures("model")
def test_a_lead_sees_nothing_of_what_is_reviewed_blind_until_it_is_settled(signed_in: Callable[[str], Client]) -> None:
    sealed, told = decided("blocks", 0.15, "allow", audited=True), decided("looser", 0.5, "hold")
    ReviewItem.objects.filter(exchange=sealed).update(blind=True)
    shadow.shadow_score()
    keys = {name: str(ReviewItem.objects.get(exchange=one).pk) for name, one in (("sealed", sealed), ("told", told))}
    address = "/learning/models/ft-shadow/shadow"
    page = signed_in("lea").get(address)
    assert listed(page.content.decode()) == {keys["told"]}
    assert (page.context["total"], page.context["differing"], len(page.context["dots"])) == (1, 1, 1)
    for status in ("open", "settling"):
        ReviewItem.objects.filter(exchange=sealed).update(status=status)
        assert keys["sealed"] not in listed(signed_in("lea").get(f"{address}?served=allow").content.decode())
    for name in ("ida", "adam"):  # who never decide
        assert listed(signed_in(name).get(address).content.decode()) == set(keys.values())
    ReviewItem.objects.filter(exchange=sealed).update(status="decided")
    assert listed(signed_in("lea").get(address).content.decode()) == set(keys.values())


def test_calibration_items_are_neither_read_nor_listed(model: ModelVersion, signed_in: Callable[[str], Client]) -> None:
    copy = decided("looser", 0.5, "hold")
    shadow.shadow_score()
    Exchange.objects.filter(pk=copy.pk).update(app=App.objects.create(name=APP_NAME, is_active=False))
    assert listed(signed_in("adam").get("/learning/models/ft-shadow/shadow").content.decode()) == set()
    ShadowResult.objects.all().delete()
    shadow.shadow_score()
    assert not ShadowResult.objects.exists()


@pytest.mark.usefixtures("model")
def test_who_may_not_manage_models_changes_nothing(signed_in: Callable[[str], Client]) -> None:
    for name in ("ana", "lea", "ida"):
        for address in ("ft-shadow/check", "ft-shadow/promote", "ft-shadow/shadow/switch", "roll-back"):
            assert signed_in(name).post(f"/learning/models/{address}").status_code == 403
    assert ModelVersion.objects.get(stage="active").version == "ft-serving"
    assert signed_in("adam").get("/learning/models/ft-shadow/promote").status_code == 405
    page = signed_in("adam").post("/learning/models/ft-shadow/promote", follow=True).content.decode()
    assert "ft-shadow has not passed its check." in page
