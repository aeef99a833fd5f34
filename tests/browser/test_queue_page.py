"""The queue in a real browser: its filters and views by hand and by keyboard, and a list that changes under the reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site, Visitor

Visit = Callable[..., Visitor]


def come_back(page: Page) -> None:
    """As on coming back to the tab."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_filters_are_set_seen_and_taken_away(site: Site, visit: Visit) -> None:
    site.scenario("three")
    page = visit("ana").page
    page.click("#filter-menu summary")
    expect(page.locator("#filter-text")).to_be_focused()
    page.keyboard.type("statin jk")  # keys are letters here
    expect(page.locator("#filter-text")).to_have_value("statin jk")
    page.fill("#filter-text", "statin")
    page.select_option("#filter-category", "misinformation")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?text=statin&category=misinformation")  # what does not filter is not in the address
    expect(page.locator(".row")).to_have_count(1)
    expect(page.locator(".chip")).to_have_text(["“statin”", "Misinformation"])
    page.click("text=Critical")
    expect(page.get_by_role("heading", name="Nothing here")).to_be_visible()
    page.get_by_role("link", name="Clear them").click()
    expect(page.locator(".row")).to_have_count(3)
    page.go_back()
    page.go_back()
    page.get_by_role("link", name="Remove the filter Misinformation").click()
    page.wait_for_url("**/?text=statin")
    page.click("#filter-menu summary")
    page.keyboard.press("Escape")
    expect(page.locator("#filter-text")).to_be_hidden()
    expect(page.locator("#filter-menu summary")).to_be_focused()


def test_a_view_is_kept_and_opened_again(site: Site, visit: Visit) -> None:
    site.scenario("three")
    page = visit("ana").page
    page.goto("/?kind=held")
    page.click("#view-menu summary")
    page.fill("#view-name", "Nobody could say")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_have_text("Saved as “Nobody could say”.")
    page.goto("/")
    page.click("#view-menu summary")
    page.get_by_role("link", name="Nobody could say", exact=True).click()
    page.wait_for_url("**/?kind=held")
    page.click("#view-menu summary")
    page.get_by_role("button", name="Delete the view Nobody could say").click()
    expect(page.locator(".toast")).to_have_text("The view is deleted.")
    assert page.url.endswith("/?kind=held")
    page.click("#view-menu summary")
    expect(page.locator(".views")).to_have_count(0)


def test_a_refresh_leaves_alone_what_the_reader_is_doing(site: Site, visit: Visit) -> None:
    site.scenario("three")
    page = visit("ana").page
    page.click("#filter-menu summary")
    page.fill("#filter-text", "half a wo")
    site.scenario("another")
    come_back(page)
    expect(page.locator(".row")).to_have_count(4)
    expect(page.locator("#tab-waiting .count")).to_have_text("4")
    expect(page.locator("#severity-critical .count")).to_have_text("3")
    expect(page.locator("#filter-text")).to_be_focused()
    expect(page.locator("#filter-text")).to_have_value("half a wo")
    page.keyboard.press("Escape")
    page.focus("#severity-major")
    site.scenario("another")
    come_back(page)
    expect(page.locator(".row")).to_have_count(5)
    expect(page.locator("#severity-major")).to_be_focused()


def test_times_go_on_and_the_list_is_not_sent_for_that(site: Site, visit: Visit) -> None:
    site.scenario("three")
    visitor = visit()
    page = visitor.page
    page.clock.install()
    visitor.sign_in("ana")
    why = page.locator(".row-why").nth(1)
    expect(why).to_have_text(", 3 min waiting")
    with page.expect_response(f"{site.address}/") as answer:
        page.clock.run_for(2 * 60 * 1000)
    assert answer.value.status == 304
    expect(why).to_have_text(", 5 min waiting")
    expect(page.locator(".row-due").nth(0)).to_have_text("Overdue by 4 min")
    expect(page.locator(".row-due").nth(1)).to_have_text("Due in 1 min")


def test_filters_and_views_need_no_script(site: Site, visit: Visit) -> None:
    site.scenario("three")
    page = visit("ana", java_script_enabled=False).page
    page.click("#filter-menu summary")
    page.select_option("#filter-category", "misinformation")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".row")).to_have_count(1)
    page.click("#view-menu summary")
    page.fill("#view-name", "Untrue")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".messages")).to_contain_text("Saved as")
    page.goto("/")
    page.click("#view-menu summary")
    page.get_by_role("link", name="Untrue", exact=True).click()
    expect(page.locator(".row")).to_have_count(1)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_open_menus_have_no_barrier_and_fit(theme: Any, width: int, site: Site, visit: Visit) -> None:
    site.scenario("everything")
    page = visit("lea", color_scheme=theme, viewport={"width": width, "height": 800}).page
    for menu in ("#filter-menu", "#view-menu"):
        page.goto("/?text=take&older_than=15")
        page.click(f"{menu} summary")
        panel = page.locator(f"{menu} .menu-panel")
        expect(panel).to_be_visible()
        box = panel.bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
