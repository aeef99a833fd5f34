"""The figures in a real browser: plots by keyboard, mouse and finger, without scripts, in both themes, at any width."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import Site, Visitor

Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def weeks(site: Site) -> Site:
    """The site, with some weeks of work."""
    site.scenario("insight")
    return site


def test_arrows_move_along_the_points_and_say_their_values(weeks: Site, visit: Visit) -> None:
    page = visit("lea").page
    page.goto("/insight?period=30d")
    plot = page.locator("#decisions [data-plot]")
    marks, said = plot.locator("[data-mark]"), plot.locator("[data-said]")
    expect(said).to_have_text("")
    expect(plot.locator("[tabindex='0']")).to_have_count(1)  # one stop of Tab, however many points
    plot.locator("[tabindex='0']").focus()
    expect(said).to_have_text(marks.last.get_attribute("aria-label") or "-")
    page.keyboard.press("ArrowLeft")
    expect(marks.nth(28)).to_be_focused()
    expect(said).to_have_text(marks.nth(28).get_attribute("aria-label") or "-")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    expect(marks.first).to_be_focused()
    page.keyboard.press("Escape")
    expect(said).to_have_text("")


def test_the_mouse_and_a_finger_read_a_point(weeks: Site, visit: Visit) -> None:
    mouse = visit("ida").page
    mouse.goto("/insight?period=90d")
    mark = mouse.locator("#false-blocks [data-mark]").nth(3)
    mark.locator(".plot-hit").hover()
    expect(mouse.locator("#false-blocks [data-said]")).to_have_text(re.compile(r"^Week of .+ of \d+"))
    mouse.locator("h1").hover()
    expect(mouse.locator("#false-blocks [data-said]")).to_have_text("")

    finger = visit("ida", has_touch=True, viewport={"width": 360, "height": 740}).page
    finger.goto("/insight?period=90d")
    finger.locator("#by-rule [data-mark]").nth(1).tap()
    expect(finger.locator("#by-rule [data-said]")).to_have_text(re.compile(r": .+ of \d+$"))


def test_without_scripts_every_value_is_in_a_table(weeks: Site, visit: Visit) -> None:
    page = visit("lea", java_script_enabled=False).page
    page.goto("/insight?period=30d")
    page.get_by_role("link", name="Show them").click()
    page.locator("#by-rule summary").click()
    expect(page.locator("#by-rule td").first).to_be_visible()
    assert page.locator("#decisions .plot-bar").count() > 20
    assert page.locator("#decisions title").first.text_content()


def test_a_figure_that_does_not_come_says_so_and_is_asked_for_again(weeks: Site, visit: Visit) -> None:
    page = visit("lea").page
    page.route("**/insight/panels/by-rule*", lambda route: route.abort())
    page.goto("/insight?period=30d")
    panel = page.locator("#by-rule")
    expect(panel).to_contain_text("This figure did not come.")
    expect(panel).to_have_attribute("aria-busy", "false")
    expect(page.locator("#by-layer .panel-sentence")).to_be_visible()  # the others come all the same
    expect(page.get_by_role("button", name="Try again")).to_have_count(1)
    page.unroute("**/insight/panels/by-rule*")
    panel.get_by_role("button", name="Try again").click()
    expect(panel.locator("[data-mark]").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(scheme: str, weeks: Site, visit: Visit) -> None:
    for name, address in (("lea", "/insight?period=30d"), ("ana", "/insight/me?period=30d")):
        page = visit(name, color_scheme=scheme).page
        page.goto(address)
        expect(page.locator("[data-awaited]")).to_have_count(0)
        page.evaluate("for (const details of document.querySelectorAll('main details')) details.open = true")
        found = Axe().run(page).response["violations"]
        assert found == [], [(violation["id"], violation["nodes"][0]["html"][:200]) for violation in found]


@pytest.mark.parametrize("size", [(320, 640), (640, 400), (1180, 760)])
def test_no_page_is_wider_than_the_window(size: tuple[int, int], weeks: Site, visit: Visit) -> None:
    page = visit("lea", viewport={"width": size[0], "height": size[1]}).page
    for address in ("/insight?period=30d", "/insight/me?period=30d"):
        page.goto(address)
        expect(page.locator("[data-awaited]")).to_have_count(0)
        page.evaluate("for (const details of document.querySelectorAll('main details')) details.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], address
        clipped = page.evaluate(
            "[...document.querySelectorAll('.plot-value, .plot-note')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
        )
        assert clipped == 0, address
