"""Pages at 200 % zoom and in narrow windows: nothing is out of reach, and what has the focus is seen (WCAG 1.4.10, 2.4.11)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site, Visitor

Visit = Callable[..., Visitor]
SIZES = [(640, 400), (320, 640), (1180, 760)]
"""A window of 1280 by 800 at 200 %, the narrowest one, and one with panes side by side."""
FOCUSED = """() => {
  const element = document.activeElement;
  if (element === document.body) return null;
  const label = element.matches("[type=radio], [type=checkbox]") && element.closest("label");
  const box = (label || element).getBoundingClientRect();
  const top = Math.max(box.top, 0), bottom = Math.min(box.bottom, innerHeight);
  const left = Math.max(box.left, 0), right = Math.min(box.right, innerWidth);
  const shares = [0.1, 0.3, 0.5, 0.7, 0.9];
  const seen = bottom > top && right > left && shares.some((x) => shares.some((y) => {
    const there = document.elementFromPoint(left + x * (right - left), top + y * (bottom - top));
    return there && (element.contains(there) || there.closest("label")?.contains(element));
  }));
  return { seen, what: element.outerHTML.slice(0, 120), is: element.id || element.type || "" };
}"""


def walk(page: Page, key: str = "Tab") -> list[dict[str, str]]:
    """What has the focus, one after the other, as a key is pressed from the top of the page until nothing has it any more."""
    page.evaluate("scrollTo(0, 0)")
    came: list[dict[str, str]] = []
    for _ in range(150):
        page.keyboard.press(key)
        focused = page.evaluate(FOCUSED)
        if focused is None or came[-1:] == [focused]:
            break
        came.append(focused)
    return came


@pytest.mark.parametrize("size", SIZES)
def test_an_item_is_decided_in_a_small_window_and_nothing_covers_the_focus(
    size: tuple[int, int], site: Site, visit: Visit
) -> None:
    made = site.scenario("evidence")
    page = visit("ana", viewport={"width": size[0], "height": size[1]}).page
    page.goto(f"/items/{made['item']}")
    page.wait_for_selector(".similar")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    came = walk(page)
    assert [focused["what"] for focused in came if not focused["seen"]] == []
    assert "note" in [focused["is"] for focused in came]
    if page.locator(".to-decision").is_visible():
        page.locator(".to-decision").click()
    page.locator("label.truth.unsafe").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    page.locator("[name=categories]").first.check()
    page.locator("#decision [type=submit]").click()
    expect(page.locator("[data-saved]")).to_be_visible()


@pytest.mark.parametrize("size", SIZES)
def test_nothing_covers_the_focus_on_long_pages(size: tuple[int, int], site: Site, visit: Visit) -> None:
    site.scenario("everything")
    page = visit("lea", viewport={"width": size[0], "height": size[1]}).page
    page.evaluate("scrollTo(0, 1e6)")
    for key in ("k", "j", "k"):  # from the last row to the first one, and back
        came = walk(page, key)
        assert len(came) > 5
        assert [focused["what"] for focused in came if not focused["seen"]] == [], key
    for address in ("/", "/decided", "/guidelines"):
        page.goto(address)
        assert [focused["what"] for focused in walk(page) if not focused["seen"]] == [], address
