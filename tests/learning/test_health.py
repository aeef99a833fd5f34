"""The weekly figures: what is counted of a week, when, and who may look at it."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from guardreview.core.models import User
from guardreview.learning import health, tasks
from guardreview.learning.health_figures import figures
from guardreview.learning.health_panels import reliability_panel
from guardreview.learning.models import HealthReport
from guardreview.verdicts.models import LayerResult, ReviewItem, Verdict
from tests import scenes
from tests.insight_scenes import answers, said

MONDAY = date(2026, 11, 2)
START = datetime(2026, 11, 2, tzinfo=UTC)
NOW = START + timedelta(days=7, hours=3)


@pytest.fixture
def people(db: None) -> dict[str, User]:
    return scenes.people()


def week_of(
    people: dict[str, User], start: datetime = START, *, allowed: int = 400, blocked: int = 60, shift: float = 1.0
) -> None:
    """Answers of one week through all layers; audits and blocks are settled."""
    chance = random.Random(3)
    rows: list[dict[str, Any]] = [
        {"at": start + timedelta(hours=chance.random() * 167), "decision": "allow", "kind": "audit" if n % 4 == 0 else "",
         "probability": 0.25, "layer": "finetuned"}
        for n in range(allowed)
    ]  # fmt: skip
    rows += [
        {"at": start + timedelta(hours=chance.random() * 167), "decision": "block", "kind": "blocked", "layer": "finetuned",
         "category": "misinformation"}
        for _ in range(blocked)
    ]  # fmt: skip
    items = answers(rows)
    exchanges = [item.exchange_id if item else None for item in items]
    keys = list(
        Verdict.objects.filter(decided_at__gte=start, decided_at__lt=start + timedelta(days=7)).values_list("pk", "decision")
    )
    results = []
    for key, decision in keys:
        p = min(1.0, chance.betavariate(0.6, 12) * shift) if decision == "allow" else chance.betavariate(12, 1.5)
        common = {"exchange_id": key, "is_safe": decision == "allow", "category": "safe", "confidence": 0.9}
        results.append(LayerResult(layer="rules", version="rules-1", language="en", latency_ms=0.4, **common))
        results.append(LayerResult(layer="finetuned", version="ft-1", scores={"unsafe": round(p, 6)}, latency_ms=20, **common))
    LayerResult.objects.bulk_create(results)
    assert len(exchanges) == len(keys)
    for at, item in enumerate(items):
        if item is not None:
            truth = "unsafe" if (item.kind == "blocked") != (at % 20 == 0 and item.kind == "blocked") else "safe"
            said(item, people["ana"], truth, item.created_at, label="single")


def test_a_week_is_counted(people: dict[str, User]) -> None:
    week_of(people)
    answers([{"at": START + timedelta(days=8), "decision": "allow", "kind": "", "probability": 0.1}])
    found = figures(MONDAY)
    assert (found["n"], found["decisions"]) == (460, {"allow": 400, "block": 60, "hold": 0})
    assert found["categories"] == {"misinformation": 60}
    assert found["languages"] == {"en": 460}
    assert sum(found["scores"]) == 460
    assert found["scores"][-1] + sum(found["scores"][14:]) > 40
    assert found["overturned"] == {"safe": 3, "settled": 60, "open": 0}
    assert (found["misses"]["allowed"], found["misses"]["settled"], found["misses"]["found"]) == (400, 100, 0)
    assert found["layers"]["finetuned"]["n"] == 460
    assert found["layers"]["rules"]["failed"] == 0
    assert found["misses"]["surely"] == 0
    assert "measured" not in found
    assert sum(each["n"] for each in found["calibration"]) == 160
    # Each audit stands for four answers.
    assert sum(each["weight"] for each in found["calibration"]) == pytest.approx(460)


def test_calibration_items_count_in_no_figure(people: dict[str, User]) -> None:
    week_of(people, allowed=40, blocked=10)
    before = figures(MONDAY)
    (copy,) = answers(
        [{"at": START, "decision": "block", "kind": "calibration", "layer": "finetuned", "category": "legal_advice"}]
    )
    assert copy is not None
    common = {"exchange_id": copy.exchange_id, "is_safe": False, "category": "-", "confidence": 0.9, "latency_ms": 5}
    LayerResult.objects.create(layer="rules", version="rules-1", language="de", **common)
    LayerResult.objects.create(layer="finetuned", version="ft-1", scores={"unsafe": 0.7}, **common)
    assert figures(MONDAY) == before


def test_scores_lie_in_their_bins_on_either_database(people: dict[str, User]) -> None:
    answers([{"at": START, "decision": "allow", "kind": "", "probability": 0.1} for _ in range(4)])
    for verdict, p in zip(Verdict.objects.all(), (0.0, 0.0996, 0.5004, 1.0), strict=True):
        LayerResult.objects.create(
            exchange_id=verdict.pk,
            layer="finetuned",
            is_safe=True,
            category="safe",
            confidence=1,
            latency_ms=1,
            scores={"unsafe": p},
        )
    scores = figures(MONDAY)["scores"]
    assert [at for at, n in enumerate(scores) if n] == [0, 6, 11, 19]


def test_settled_draws_stand_for_the_open_ones(people: dict[str, User]) -> None:
    """In the calibration and in the kappa, as in the miss rate."""
    items = answers(
        [{"at": START, "decision": "block", "kind": "blocked", "layer": "judge"} for _ in range(10)]
        + [{"at": START, "decision": "allow", "kind": "audit", "layer": "judge", "probability": 0.25} for _ in range(40)]
    )
    for at, item in enumerate(items):
        assert item is not None
        unsafe = item.kind == ReviewItem.Kind.BLOCKED
        common = {"exchange_id": item.exchange_id, "is_safe": not unsafe, "category": "safe", "confidence": 1, "latency_ms": 1}
        LayerResult.objects.create(layer="judge", **common)
        LayerResult.objects.create(layer="finetuned", scores={"unsafe": 0.85 if unsafe else 0.05}, **common)
        if unsafe or at % 4 == 0:
            said(item, people["ana"], "unsafe" if unsafe else "safe", START, label="single")
    found = figures(MONDAY)
    low, high = found["calibration"]
    assert (low["n"], low["weight"], low["squares"]) == (10, pytest.approx(160), pytest.approx(10 * 16**2))
    assert (low["scored"], low["spread"]) == (pytest.approx(160 * 0.05), pytest.approx(10 * (16 * 0.05) ** 2))
    assert (high["n"], high["weight"]) == (10, pytest.approx(10))
    assert {each["unsafe"]: (each["n"], each["weight"]) for each in found["judge"]} == {
        True: (10, pytest.approx(10)),
        False: (10, pytest.approx(160)),
    }


def test_a_score_of_one_belongs_to_the_last_tenth(people: dict[str, User]) -> None:
    items = answers([{"at": START, "decision": "block", "kind": "blocked", "layer": "finetuned"} for _ in range(5)])
    for item, p in zip(items, (0.95, 0.95, 1.0, 1.0, 1.0), strict=True):
        assert item is not None
        LayerResult.objects.create(
            exchange_id=item.exchange_id, layer="finetuned", is_safe=False, category="-", confidence=1, latency_ms=1,
            scores={"unsafe": p},
        )  # fmt: skip
        said(item, people["ana"], "unsafe", START, label="single")
    [last] = figures(MONDAY)["calibration"]
    assert (last["tenth"], last["n"]) == (9, 5)
    assert last["scored"] == pytest.approx(4.9)
    panel = reliability_panel({"calibration": [last]})
    assert [row[-1] for row in panel.table.rows] == ["5"]


def test_the_judge_is_compared_with_what_was_settled(people: dict[str, User]) -> None:
    from guardreview.learning.alarms import kappa_of

    items = answers(
        [{"at": START, "decision": "block", "kind": "blocked", "layer": "judge"} for _ in range(40)]
        + [{"at": START, "decision": "allow", "kind": "audit", "layer": "judge", "probability": 0.1} for _ in range(40)]
    )
    for at, item in enumerate(items):
        assert item is not None
        blocked = item.kind == ReviewItem.Kind.BLOCKED
        LayerResult.objects.create(
            exchange_id=item.exchange_id, layer="judge", is_safe=not blocked, category="safe", confidence=1, latency_ms=900
        )
        said(item, people["ana"], "unsafe" if blocked == bool(at % 10) else "safe", START, label="single")
    found = kappa_of(figures(MONDAY))
    assert found is not None
    assert found.n == 80
    assert found.low < found.value < found.high < 1


def test_what_was_drawn_since_a_shadow_differed_is_weighed_in_no_figure(people: dict[str, User]) -> None:
    row = {"at": START, "decision": "allow", "kind": "audit", "layer": "judge", "probability": 0.25}
    for item, probability in zip(answers([row] * 4), (0.25, 0.25, 0.625, 1.0), strict=True):
        assert item is not None
        item.inclusion_probability = probability
        item.save()
        for layer in ("judge", "finetuned"):
            LayerResult.objects.create(
                exchange_id=item.exchange_id, layer=layer, is_safe=True, category="safe", confidence=1, latency_ms=1,
                scores={"unsafe": 0.1},
            )  # fmt: skip
        said(item, people["ana"], "unsafe", START, label="single")
    found = figures(MONDAY)
    assert [(each["n"], each["weight"]) for each in found["judge"]] == [(2, 8)]
    assert [(each["n"], each["weight"]) for each in found["calibration"]] == [(2, 8)]


def test_weeks_are_caught_up_and_counted_anew_while_labels_come(people: dict[str, User]) -> None:
    week_of(people, allowed=40, blocked=5)
    later = NOW + timedelta(days=14)
    assert health.health_update(now=later) == [MONDAY, date(2026, 11, 9), date(2026, 11, 16)]
    assert health.health_update(now=later) == []
    assert health.weeks_due(later + timedelta(days=1)) == [MONDAY, date(2026, 11, 9), date(2026, 11, 16)]
    assert HealthReport.objects.count() == 3


def test_counting_a_week_again_replaces_it(people: dict[str, User]) -> None:
    week_of(people, allowed=40, blocked=5)
    first = health.health_report_store(week=MONDAY, now=NOW)
    again = health.health_report_store(week=MONDAY, now=NOW)
    assert first.pk == again.pk
    assert first.figures == again.figures


@pytest.mark.parametrize("week", [date(2026, 11, 3), date(2026, 11, 9)])
def test_no_monday_and_no_week_that_is_not_over_is_counted(db: None, week: date) -> None:
    with pytest.raises(ValueError, match=r"Monday|not over"):
        health.health_report_store(week=week, now=NOW)


def test_the_command_says_what_is_wrong_with_a_week(db: None) -> None:
    with pytest.raises(CommandError, match="no Monday"):
        call_command("health", "--week", "2026-11-03")


def test_the_task_counts_nothing_where_nothing_happened(db: None) -> None:
    tasks.count_health()
    assert not HealthReport.objects.exists()


def test_the_number_of_queries_does_not_grow_with_the_traffic(
    people: dict[str, User], django_assert_max_num_queries: Any
) -> None:
    week_of(people, allowed=200, blocked=20)
    with django_assert_max_num_queries(20):
        figures(MONDAY)


# --- The page ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "status"), [("lea", 200), ("adam", 200), ("ida", 200), ("ana", 403)])
def test_who_may_read_models_may_read_the_health(people: dict[str, User], name: str, status: int) -> None:
    week_of(people)
    health.health_report_store(week=MONDAY, now=NOW)
    client = Client()
    client.force_login(people[name], backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(reverse("health-page"))
    assert page.status_code == status
    if status == 200:
        text = page.content.decode()
        assert "Week of 2 November 2026" in text
        assert "style=" not in text
        assert text.count('<section class="panel') == text.count("As a table") + 1


def test_an_empty_page_is_a_page(people: dict[str, User]) -> None:
    client = Client()
    client.force_login(people["lea"], backend="django.contrib.auth.backends.ModelBackend")
    assert "No week is counted yet" in client.get(reverse("health-page")).content.decode()
