"""The figures: counted on what they say, of the period and the app, without what was undone or superseded, and cheaply."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from guardreview.core.models import User
from guardreview.review import dashboard, insight, insight_people, panels, panels_people
from guardreview.review.calibration import APP_NAME
from guardreview.review.insight import Scope
from guardreview.review.models import Calibration, Label, Review, Skip
from guardreview.review.plots import Line, columns, interval_rows, nice, stacked_rows, trend
from guardreview.review.statistics import Stratum, wilson
from guardreview.verdicts.models import ReviewItem
from tests import scenes
from tests.insight_scenes import answers, said, some_weeks
from tests.review.conftest import SignIn

BLOCK = {"decision": "block", "kind": "blocked", "category": "misinformation", "severity": "major"}
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another test's database."""
    monkeypatch.setattr(dashboard, "_editions", {})


@pytest.fixture
def scope(db: None) -> Scope:
    return Scope(timezone.now(), "7d")


def blocks(scope: Scope, n: int, **fields: Any) -> list[ReviewItem]:
    """Blocks of an hour ago."""
    return [item for item in answers({"at": scope.now - HOUR, **BLOCK, **fields} for _ in range(n)) if item]


def audits(scope: Scope, n: int, probability: float, *, drawn: bool = True) -> list[ReviewItem]:
    """Allowed answers of an hour ago, all drawn or none."""
    kind = "audit" if drawn else ""
    row = {
        "at": scope.now - HOUR,
        "decision": "allow",
        "kind": kind,
        "probability": probability,
        "blind": True,
        "severity": "minor",
    }
    return [item for item in answers([row] * n) if item]


def calibrated(people: dict[str, User], truth: str, at: Any) -> ReviewItem:
    app = scenes.chat_app(APP_NAME)
    item = answers([{"at": at, **BLOCK, "kind": "calibration", "blind": True, "app": app}])[0]
    assert item is not None
    Calibration.objects.create(item=item, truth=truth, made_by=people["lea"], explanation="Twice what the label allows.")
    return item


# --- The queue --------------------------------------------------------------------------------------------------------
def test_what_waits_is_counted_by_age_and_severity_and_blind_items_without_theirs(scope: Scope, people: dict[str, User]) -> None:
    blocks(scope, 2)
    blocks(scope, 1, at=scope.now - timedelta(minutes=5), severity="critical")
    blocks(scope, 3, at=scope.now - timedelta(days=3), severity="critical", blind=True)
    blocks(scope, 1, status="settling")
    calibrated(people, "safe", scope.now)
    counts, late = insight.waiting(scope)
    assert counts == {(2, "major"): 2, (0, "critical"): 1, (4, "blind"): 3}
    assert late == 3
    panel = panels.waiting_panel(counts, late)
    assert panel.sentence == "6 answers wait, 3 of them overdue. 3 answers have waited for more than a day."
    assert panel.table.rows[4] == ["Over a day", "0", "0", "0", "3", "3"]


def test_decisions_are_counted_where_they_stand(scope: Scope, people: dict[str, User]) -> None:
    items = blocks(scope, 4)
    said(items[0], people["ana"], "safe", scope.now - HOUR)
    said(items[1], people["ana"], "safe", scope.now - HOUR)
    said(items[2], people["ben"], "unsafe", scope.now - timedelta(days=2))
    said(items[3], people["ben"], "safe", scope.now - HOUR, undone_at=scope.now)
    said(items[3], people["ben"], "safe", scope.now - timedelta(days=8))
    found = insight_people.decisions(scope)
    assert sorted(found.values()) == [1, 2]
    assert sum(insight_people.decisions(scope, reviewer=people["ben"]).values()) == 1
    for period in insight.PERIODS:
        panel = panels.decisions_panel(found, Scope(scope.now, period))
        assert sum(int(row[1]) for row in panel.table.rows) == 3
        assert panel.sentence.startswith("3 decisions, ")
        assert panel.sentence.endswith(" had 2.")


# --- The cascade ------------------------------------------------------------------------------------------------------
def test_a_block_is_wrong_by_its_label_in_force_alone(scope: Scope, people: dict[str, User]) -> None:
    wrong, right, corrected, _open = blocks(scope, 4)
    said(wrong, people["ana"], "safe", scope.now, label="single")
    said(right, people["ana"], "unsafe", scope.now, label="single", severity="critical")
    said(corrected, people["ana"], "unsafe", scope.now, label="single")
    said(corrected, people["ben"], "safe", scope.now, label="single", round=2)
    blocks(scope, 1, at=scope.now - timedelta(days=9))
    found = insight.stops(scope)
    assert (found.blocks.all, found.blocks.settled, found.blocks.safe, found.blocks.unsafe, found.blocks.critical) == (
        4,
        3,
        2,
        1,
        1,
    )
    assert found.blocks.open == 1
    assert sum(week.all for week in found.by_week.values()) == 5  # the weekly figures reach further back
    assert found.by_category["misinformation"].safe == found.by_layer["rules"].safe == 2


def test_a_rule_counts_once_for_each_settled_block_that_it_made(scope: Scope, people: dict[str, User]) -> None:
    made = blocks(scope, 12, rule="myth.detox")
    for number, item in enumerate(made[:11]):
        said(item, people["ana"], "safe" if number < 4 else "unsafe", scope.now, label="single")
    said(blocks(scope, 1, rule="myth.detox", layer="judge")[0], people["ana"], "safe", scope.now, label="single")
    rules = insight.by_rule(scope)
    assert (rules["myth.detox"].safe, rules["myth.detox"].settled) == (4, 11)
    panel = panels.by_rule_panel(rules)
    assert panel.table.rows == [["myth.detox", "4", "11", "36\u202f%", "15 to 65\u202f%"]]
    assert panel.sentence == "“myth.detox” is overturned most surely: 36\u202f% (15 to 65\u202f%), 4 of 11."


def test_the_noisiest_is_first_by_the_lower_end_of_its_interval() -> None:
    groups = {
        name: insight.Stopped(n, n, k, n - k)
        for name, k, n in (("often", 9, 10), ("surely", 160, 200), ("seldom", 1, 90), ("rare", 3, 3))
    }
    panel = panels.overturned_panel("by-rule", "Overturned, by rule", "rule", groups, {})
    assert [row[0] for row in panel.table.rows] == ["surely", "often", "seldom", "rare"]
    assert panel.table.rows[3] == ["rare", "3", "3", "too few", ""]
    assert "rare" not in [row.label for row in panel.plots[0].rows]  # type: ignore[union-attr]
    assert panel.note == "1 rule with fewer than 10 settled blocks only in the table."


def test_misses_are_weighted_by_what_was_logged_before_the_draw(scope: Scope, people: dict[str, User]) -> None:
    audits(scope, 70, 0.1, drawn=False)
    drawn = [*audits(scope, 30, 0.1), *audits(scope, 8, 0.5)]
    for number, item in enumerate(drawn[:36]):
        said(
            item,
            people["ana"],
            "unsafe" if number in (0, 1, 30) else "safe",
            scope.now,
            label="single",
            severity="critical" if number else "minor",
        )
    for item in blocks(scope, 5):
        said(item, people["ana"], "unsafe", scope.now, label="single")
    answers([{"at": scope.now - HOUR, "decision": "allow", "kind": ""}])
    calibrated(people, "safe", scope.now)
    found, weeks = insight.allowed(scope)
    assert found.strata() == [Stratum(0.1, 100, 30, 30, 2), Stratum(0.5, 8, 8, 6, 1)]
    assert [stratum.unsafe for stratum in found.strata(critical=True)] == [1, 1]
    assert found.outside == 1
    assert sum(stratum.allowed for week in weeks.values() for stratum in week.strata()) == 108
    panel = panels.misses_panel(insight.stops(scope), found, weeks, scope)
    missed = 2 / 0.1 + 1 / 0.5 * 8 / 6
    assert panel.figure == panels.percent(missed / (missed + 5))
    assert "3 misses among 36 audited answers stand for some 23 of 108 allowed; 5 unsafe ones were blocked." in panel.sentence
    assert "2 draws are still open." in panel.sentence
    assert "Of 1 more answer allowed without an audit nothing is known." in panel.sentence


def test_too_few_audits_say_so_instead_of_a_number(scope: Scope, people: dict[str, User]) -> None:
    for item in audits(scope, 29, 0.1):
        said(item, people["ana"], "unsafe", scope.now, label="single")
    found, weeks = insight.allowed(scope)
    panel = panels.misses_panel(insight.stops(scope), found, weeks, scope)
    assert panel.sentence == "Too few to say: 29 audited answers settled, and it takes 30."
    assert panel.figure == "too few"
    assert not panel.plots


def test_an_app_has_its_own_figures(scope: Scope, people: dict[str, User]) -> None:
    other = scenes.chat_app("Riverside app")
    said(blocks(scope, 1, app=other, rule="myth.detox")[0], people["ana"], "safe", scope.now, label="single", seconds=9.0)
    said(blocks(scope, 2, rule="dose.double_up")[0], people["ben"], "unsafe", scope.now, label="single")
    audits(scope, 3, 0.1)
    of_other = Scope(scope.now, "7d", "Riverside app")
    assert insight.stops(of_other).blocks.all == 1
    assert set(insight.by_rule(of_other)) == {"myth.detox"}
    assert insight.allowed(of_other)[0].strata() == []
    assert sum(insight.waiting(of_other)[0].values()) == 0
    assert [person.name for person in insight_people.people(of_other).values()] == ["Ana Ruiz"]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo", "Europe/Berlin"])
def test_a_week_begins_on_monday_where_the_pharmacy_is(zone: str, people: dict[str, User]) -> None:
    with timezone.override(zone):
        scope = Scope(timezone.now(), "90d")
        monday = scope.weeks[5]
        assert (monday.weekday(), monday.hour) == (0, 0)
        row = {"decision": "allow", "kind": "audit", "probability": 0.1, "blind": True}
        for at in (monday - timedelta(minutes=30), monday + timedelta(minutes=30)):
            answers([{**row, "at": at}])
            blocks(scope, 1, at=at)
        stops, (_, weeks) = insight.stops(scope), insight.allowed(scope)
        expected = {scope.weeks[4].date(), monday.date()}
        assert set(stops.by_week) == set(weeks) == expected
        item = blocks(scope, 1, at=monday)[0]
        said(item, people["ana"], "safe", monday)
        assert list(insight_people.decisions(scope)) == [monday]
        assert panels.decisions_panel({monday: 1}, scope).table.rows[5][1] == "1"


# --- People -----------------------------------------------------------------------------------------------------------
def test_a_persons_deeds_are_counted(scope: Scope, people: dict[str, User]) -> None:
    one, two, three, four = blocks(scope, 4)
    ana, ben = people["ana"], people["ben"]
    said(one, ana, "safe", scope.now, seconds=10.0)
    said(one, ben, "unsafe", scope.now, stage="second", label="adjudicated", seconds=30.0)
    said(two, ana, "safe", scope.now, seconds=20.0)
    said(two, ben, "safe", scope.now, stage="second", label="agreed")
    said(three, ana, "unsure", scope.now)
    said(three, ana, "safe", scope.now, undone_at=scope.now, round=2)
    said(four, ana, "safe", scope.now, label="single", round=2)
    Skip.objects.create(item=four, reviewer=ana)
    found = insight_people.people(scope)[ana.pk]
    assert (found.decided, found.unsure, found.undone, found.skipped, found.reopened) == (4, 1, 1, 1, 1)
    assert (found.differently, found.settled_by_others) == (1, 2)
    assert sorted(found.seconds) == [10.0, 20.0]
    assert insight_people.people(scope, reviewer=ana).keys() == {ana.pk}
    assert [(review.item_id, label.value) for review, label in insight_people.own_differences(scope, reviewer=ana)] == [
        (one.pk, "unsafe")
    ]


def test_a_superseded_label_overturns_nobody(scope: Scope, people: dict[str, User]) -> None:
    item = blocks(scope, 1)[0]
    said(item, people["ana"], "safe", scope.now)
    said(item, people["ben"], "unsafe", scope.now, stage="second", label="adjudicated")
    said(item, people["lea"], "safe", scope.now, round=2, label="single")
    assert Label.objects.filter(is_current=False).count() == 1
    assert insight_people.people(scope)[people["ana"].pk].differently == 0


def test_agreement_is_of_two_pharmacists_without_the_lead(scope: Scope, people: dict[str, User]) -> None:
    item, old, alone = blocks(scope, 3)
    said(item, people["ana"], "safe", scope.now - timedelta(days=30))  # long before, but the second opinion is of now
    said(item, people["ben"], "unsafe", scope.now, stage="second")
    said(item, people["lea"], "unsafe", scope.now, stage="adjudication", label="adjudicated")
    said(old, people["ana"], "safe", scope.now - timedelta(days=30))
    said(old, people["ben"], "safe", scope.now - timedelta(days=30), stage="second", label="agreed")
    said(alone, people["ana"], "safe", scope.now, label="single")
    assert insight_people.second_opinions(scope) == [["safe", "unsafe"]]


def test_agreement_needs_twenty_items_and_two_kinds_of_answers() -> None:
    few = panels_people.agreement_panel([["safe", "safe"]] * 10 + [["unsafe", "unsafe"]] * 9, [])
    assert few.sentence == "Too few to say: 19 items decided by two who were sure, and it takes 20."
    assert (few.figure, list(few.plots)) == ("too few", [])
    alike = panels_people.agreement_panel([["safe", "safe"]] * 30, [])
    assert alike.figure == "none"
    enough = panels_people.agreement_panel(
        [["safe", "safe"]] * 20 + [["unsafe", "unsafe"]] * 18 + [["safe", "unsafe"]] * 2 + [["unsure", "safe"]] * 9, []
    )
    assert enough.sentence.startswith("Two pharmacists who were sure said the same of 38 of 40 items (83 to 99\u202f%).")
    assert enough.sentence.endswith("Beyond chance that is a kappa of 0.90.")
    assert [row[3] for row in enough.table.rows] == ["40", "40"]


def test_calibration_is_counted_by_reviewer_whatever_the_app(scope: Scope, people: dict[str, User]) -> None:
    for number in range(12):
        item = calibrated(people, "unsafe", scope.now)
        said(item, people["ana"], "unsafe" if number else "unsure", scope.now)
    said(item, people["ben"], "safe", scope.now)
    known = insight_people.calibrations(Scope(scope.now, "7d", "Riverside app"))
    panel = panels_people.calibration_panel(known, insight_people.people(scope))
    assert panel.table.rows == [
        ["Ana Ruiz", "11", "12", "92\u202f%", "65 to 99\u202f%"],
        ["Ben Okafor", "0", "1", "too few", ""],
    ]


def test_blind_and_seen_verdicts_are_compared_on_first_looks_at_blocks(scope: Scope, people: dict[str, User]) -> None:
    for blind, truths in ((True, ["unsafe"] * 6 + ["safe"] * 4), (False, ["unsafe"] * 11 + ["safe", "unsure"])):
        for item, truth in zip(blocks(scope, len(truths), blind=blind), truths, strict=True):
            said(item, people["ana"], truth, scope.now, label="" if truth == "unsure" else "single")
    said(audits(scope, 1, 0.1)[0], people["ana"], "safe", scope.now, label="single")
    said(blocks(scope, 1, blind=True, status="settling")[0], people["ana"], "unsafe", scope.now)  # may still be said anew
    assert insight_people.confirmed_blocks(scope) == {True: (10, 6), False: (12, 11)}
    sentence = panels_people.blind_panel({True: (10, 6), False: (12, 11)}).sentence
    assert sentence.startswith("Who sees the verdict confirms a block 32 points more often (")


# --- The pages --------------------------------------------------------------------------------------------------------
ADDRESSES = ["/insight", "/insight?whole", *(f"/insight/panels/{key}" for key in dashboard.FIGURES), "/insight/me"]


def statements(client: Client, address: str) -> list[str]:
    """What a page asks of the database."""
    address, _, whole = address.partition("?")
    with CaptureQueriesContext(connection) as queries:
        assert client.get(address, {"period": "90d", "app": "Riverside app", **({whole: ""} if whole else {})}).status_code == 200
    return [query["sql"] for query in queries]


def test_no_page_of_figures_reads_a_patients_words(signed_in: SignIn, people: dict[str, User]) -> None:
    some_weeks(people, allowed=100, blocked=60)
    for address in ADDRESSES:
        for sql in statements(signed_in("lea"), address):
            assert not re.findall(r'"(query|response|note|corrected_answer|reason)"', sql), sql


def test_more_answers_reviewers_and_rules_take_no_more_statements(signed_in: SignIn, people: dict[str, User]) -> None:
    client = signed_in("lea")
    some_weeks(people, allowed=60, blocked=30)
    few = {address: len(statements(client, address)) for address in ADDRESSES}
    assert few["/insight"] <= 4  # the places alone
    assert max(few[f"/insight/panels/{key}"] for key in dashboard.FIGURES) <= 9
    assert few["/insight?whole"] <= 18
    app = scenes.chat_app("Riverside app")
    scope = Scope(timezone.now(), "7d")
    for number in range(25):
        person = User.objects.create(username=f"more{number}", first_name=f"More{number}", role="pharmacist")
        item = blocks(scope, 1, app=app, rule=f"rule.{number}", category=f"category:{number}")[0]
        said(item, person, "safe", scope.now, label="single", seconds=9.0)
        said(item, people["ben"], "unsafe", scope.now, stage="second", label="agreed", seconds=9.0)
        audits(scope, 4, 0.1 + number / 100)
    assert {address: len(statements(client, address)) for address in ADDRESSES} == few


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's plans are the same for any data, PostgreSQL's are not")
def test_of_one_app_only_what_the_period_holds_is_read(signed_in: SignIn, people: dict[str, User]) -> None:
    scenes.chat_app("Riverside app")
    for key in dashboard.FIGURES:
        for sql in statements(signed_in("lea"), f"/insight/panels/{key}"):
            if "verdicts_" not in sql:
                continue
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}".replace("%", "%%"), [])
                plan = " ".join(str(row[-1]) for row in cursor.fetchall())
            assert "exchange_by_app" not in plan, (key, plan)  # all that the app ever sent
            assert not re.search(r"SCAN (review_(review|label)|verdicts_(verdict|exchange|layerresult))\b", plan), (key, plan)


def test_each_panel_comes_by_itself_to_the_place_that_is_kept_for_it(signed_in: SignIn, people: dict[str, User]) -> None:
    some_weeks(people, allowed=100, blocked=60)
    client = signed_in("ida")
    source = client.get("/insight?period=30d&app=Riverside+app").content.decode()
    places = re.findall(r'id="([a-z-]+)"[^>]*aria-busy="true" hx-get="([^"]+)"', source)
    assert [key for key, _ in places] == list(dashboard.FIGURES)
    for key, address in places:
        response = client.get(unescape(address), headers={"HX-Request": "true"})
        fragment = response.content.decode()
        assert response.status_code == 200
        assert re.search(rf'<section class="panel[^>]* id="{key}"', fragment)
        assert "<html" not in fragment
        assert ("hx-swap-oob" in fragment) == (key in dashboard.TOP)
        assert re.search(r'as of <time datetime="[^"]+">\d\d:\d\d</time>', fragment)


def test_the_whole_page_says_what_its_panels_say(signed_in: SignIn, people: dict[str, User], settings: Any) -> None:
    settings.INSIGHT_KEPT_S = 3600
    some_weeks(people, allowed=200, blocked=80)
    client, period = signed_in("lea"), "?period=90d&app=Riverside+app"
    alone = {key: client.get(f"/insight/panels/{key}{period}").content.decode() for key in dashboard.FIGURES}
    page = client.get(f"/insight{period}").content.decode()
    assert "aria-busy" not in page  # they were all there
    for source in alone.values():
        sentence = re.search(r'<p class="panel-sentence">.*?</p>', source)
        assert sentence
        assert sentence.group() in page


def test_a_figure_is_kept_for_a_while_with_its_time_and_then_read_anew(
    signed_in: SignIn, people: dict[str, User], settings: Any
) -> None:
    settings.INSIGHT_KEPT_S = 3600
    app = scenes.chat_app("Harbour app")
    start = timezone.now()
    blocks(Scope(start, "7d"), 2, app=app)
    address = "/insight/panels/waiting?app=Harbour+app"
    first = signed_in("lea").get(address).content.decode()
    assert "2 answers wait" in first
    blocks(Scope(start, "7d"), 1, app=app)
    assert signed_in("ida").get(address).content.decode() == first  # the same, of the same time
    assert signed_in("ana").get(address).status_code == 403  # what is kept is no way around the roles
    other = signed_in("lea").get("/insight/panels/waiting").content.decode()  # other filters, other figures
    assert "3 answers wait" in other
    settings.INSIGHT_KEPT_S = 0
    assert "3 answers wait" in signed_in("lea").get(address).content.decode()


def test_figures_of_many_periods_and_apps_do_not_pile_up(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.INSIGHT_KEPT_S = 3600
    monkeypatch.setattr(dashboard, "MOST_EDITIONS", 3)
    kept = [dashboard.edition_of("7d", f"app {number}") for number in range(5)]
    assert len(dashboard._editions) == 3
    assert dashboard.edition_of("7d", "app 4") is kept[4]
    assert dashboard.edition_of("7d", "app 0") is not kept[0]


def test_who_asks_while_a_figure_is_read_waits_for_it() -> None:
    edition = dashboard.Edition(Scope(timezone.now()))
    reads = []

    def read(scope: Scope) -> list[int]:
        time.sleep(0.05)
        reads.append(scope)
        return [1]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: edition.of(read), range(4)))
    assert found == [[1]] * 4
    assert len(reads) == 1


@pytest.mark.parametrize(
    "address", ["/insight/panels/nothing", "/insight/panels/waiting?app=nobody", "/insight/panels/time?app=%00"]
)
def test_a_panel_that_there_is_not_is_not_found(address: str, signed_in: SignIn) -> None:
    assert signed_in("lea").get(address).status_code == 404


def test_the_page_draws_every_plot_with_a_table_its_axes_and_nothing_inline(signed_in: SignIn, people: dict[str, User]) -> None:
    some_weeks(people, allowed=300, blocked=160)
    source = signed_in("ida").get("/insight?period=90d&whole").content.decode()
    panels_drawn = re.split(r'<section class="panel', source)[1:]
    assert len(panels_drawn) == len(dashboard.FIGURES)
    drawn = [panel for panel in panels_drawn if "data-plot" in panel]
    assert len(drawn) == 11
    for panel in drawn:
        assert "<table>" in panel
        assert panel.count("data-plot") == len(re.findall(r'class="plot-axis-title"', panel))
    assert not re.search(r"\sstyle=|<style|onclick|NaN|None|nan%", source)
    for attribute in re.findall(r'\b(?:x|x1|x2|cx|width)="(-?[\d.]+)%"', source):
        assert -0.01 <= float(attribute) <= 100.01


def test_ones_own_page_names_nobody_else(signed_in: SignIn, people: dict[str, User]) -> None:
    now = timezone.now()
    scope = Scope(now, "7d")
    item = blocks(scope, 1)[0]
    said(item, people["ana"], "safe", now, seconds=5.0)
    said(item, people["ben"], "unsafe", now, stage="second", label="adjudicated", seconds=50.0)
    said(calibrated(people, "unsafe", now), people["ana"], "safe", now)
    hidden = calibrated(people, "unsafe", now)
    said(hidden, people["ben"], "unsafe", now)
    source = signed_in("ana").get("/insight/me").content.decode()
    assert "Twice what the label allows." in source
    assert source.count(f"/items/{item.pk}") == 1
    assert f"/items/{hidden.pk}" not in source
    assert "Okafor" not in source


@pytest.mark.parametrize("query", ["", "?period=1000y", "?app=nobody", "?period=24h", "?period=%00&app=%00"])
def test_an_empty_database_and_a_made_up_address_are_calm(query: str, signed_in: SignIn) -> None:
    for address in ("/insight", "/insight/me", "/insight?whole"):
        response = signed_in("lea").get(address + (query.replace("?", "&") if "?" in address else query))
        assert response.status_code == 200
        assert "data-plot" not in response.content.decode()


# --- Shapes -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.074, 0.08), (1, 1), (26, 30), (99, 100), (101, 200)])
def test_a_scale_ends_at_a_round_number(value: float, top: float) -> None:
    assert nice(value) == pytest.approx(top)


def test_a_point_lies_on_its_interval() -> None:
    plot = interval_rows([Line("a", "20 %", "a: 20 %", "4 of 20", wilson(4, 20)), Line("b", "too few", "b: too few")], high=1.0)
    one, none = plot.rows
    assert one.at == "20%"
    assert float(one.low.rstrip("%")) < 20 < float(one.high.rstrip("%"))
    assert none.at == ""
    assert [tick.words for tick in plot.ticks] == ["0 %", "50 %", "100 %"]


def test_a_scale_around_zero_shows_where_zero_is() -> None:
    plot = interval_rows([], low=-1, high=1, unit="")
    assert plot.zero == "50%"
    assert [tick.words for tick in plot.ticks] == ["−1", "0", "1"]


def test_parts_of_a_bar_lie_side_by_side() -> None:
    plot = stacked_rows([("new", "new", [("critical", 1), ("major", 3)]), ("old", "old", [("critical", 0), ("major", 8)])], [])
    assert [(part.x, part.width, part.name) for part in plot.rows[0].parts] == [
        ("0%", "12.5%", "critical"),
        ("12.5%", "37.5%", "major"),
    ]
    assert [(part.x, part.width) for part in plot.rows[1].parts] == [("0%", "100%")]


def test_columns_stand_on_the_ground_and_a_gap_in_a_trend_stays_one() -> None:
    series = columns([("a", 0, "a"), ("b", 10, "b")])
    assert series.marks[0].y == ""
    assert float(series.marks[1].y) + float(series.marks[1].height) == series.height
    known = wilson(5, 20)
    assert len(trend([("a", known, "a"), ("b", known, "b"), ("c", None, "c"), ("d", known, "d")]).lines) == 1


def test_reviews_of_the_scene_are_what_the_models_allow(people: dict[str, User]) -> None:
    assert some_weeks(people, allowed=50, blocked=30)["reviews"] == Review.objects.count() > 60
