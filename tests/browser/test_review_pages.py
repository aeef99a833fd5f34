"""The reviewers' pages in a real browser: by keyboard, with two people at once, without a connection, without scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site, Visitor
from tests.scenes import PASSWORD

Visit = Callable[..., Visitor]
SETTLED_MS = 350
"""Keys rest until a new item has been seen."""


def heading(page: Page) -> Any:
    return page.locator("h1")


def test_three_items_by_keyboard_alone_and_the_queue_shrinks(site: Site, visit: Visit) -> None:
    made = site.scenario("three")
    page = visit().page
    page.keyboard.type("ana")  # the name has the focus
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("#queue-summary")).to_have_text("3 answers waiting for a pharmacist, 1 overdue.")
    page.wait_for_load_state()  # with its scripts

    page.keyboard.press("n")
    expect(heading(page)).to_have_text("Dangerous dosage")
    page.wait_for_timeout(SETTLED_MS)
    page.keyboard.press("c")
    expect(page.locator("[data-submit-text]")).to_have_text("Confirm the block")
    expect(page.get_by_text("Unsafe confirms the block.")).to_be_visible()
    page.keyboard.press("e")
    page.keyboard.type("Twice the maximum.")
    page.keyboard.press("Control+Enter")

    expect(heading(page)).to_have_text("Misinformation")
    expect(heading(page)).to_be_focused()
    expect(page.locator(".saved-words")).to_have_text("Saved. Confirms the block, unless you undo it.")
    assert page.url.endswith(f"/items/{made['items'][1]}")
    page.wait_for_timeout(SETTLED_MS)
    page.keyboard.press("o")
    expect(page.get_by_text("Safe overturns the block; the app sees it as the outcome.")).to_be_visible()
    page.keyboard.press("Control+Enter")

    expect(heading(page)).to_have_text("Uncertain")
    page.wait_for_timeout(SETTLED_MS)
    page.keyboard.press("c")
    expect(page.locator(".toast").last).to_contain_text("nothing to confirm")
    page.keyboard.press("5")
    page.keyboard.press("7")
    page.keyboard.press("5")
    expect(page.locator("[name=categories]:checked")).to_have_count(1)
    page.keyboard.press("Control+Enter")

    expect(page.get_by_role("heading", name="All clear")).to_be_visible()
    expect(page.locator("#queue-summary")).to_have_text("Nothing is waiting.")
    first, second, third = site.scenario("state")["reviews"]
    assert (first["truth"], first["note"], first["severity"]) == ("unsafe", "Twice the maximum.", "critical")
    assert first["categories"] == ["harmful_medical:dangerous_dosage"]
    assert (second["truth"], second["categories"]) == ("safe", [])
    assert (third["truth"], third["categories"]) == ("unsafe", ["harmful_medical:misuse_route_or_form"])


def test_rows_are_walked_by_keyboard_and_escape_nothing(site: Site, visit: Visit) -> None:
    made = site.scenario("three")
    page = visit("ana").page
    for key, row in (("j", 0), ("ArrowDown", 1), ("j", 2), ("j", 2), ("k", 1)):
        page.keyboard.press(key)
        expect(page.locator(".row-link").nth(row)).to_be_focused()
    page.keyboard.press("Enter")
    expect(heading(page)).to_have_text("Misinformation")
    page.wait_for_timeout(SETTLED_MS)
    page.keyboard.press("g")
    expect(heading(page)).to_have_text("Queue")
    assert site.scenario("state")["held"] == {}
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("n")  # rests behind the sheet
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_hidden()
    page.keyboard.press("n")
    page.wait_for_url(f"**/items/{made['items'][0]}")
    page.wait_for_timeout(SETTLED_MS)
    page.keyboard.press("n")
    page.wait_for_url(f"**/items/{made['items'][1]}")


def test_keys_rest_while_typing_on_repeat_and_with_modifiers(site: Site, visit: Visit) -> None:
    made = site.scenario("three")
    page = visit("ana").page
    page.goto(f"/items/{made['items'][0]}")
    page.wait_for_timeout(SETTLED_MS)
    page.keyboard.press("e")
    page.keyboard.type("scuoqn1g?")
    expect(page.locator("#note")).to_have_value("scuoqn1g?")
    expect(page.locator("[name=truth]:checked")).to_have_count(0)
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+s")
    page.keyboard.press("Shift+u")
    expect(page.locator("[name=truth]:checked")).to_have_count(0)
    page.keyboard.down("2")
    page.keyboard.down("2")  # held down: the system repeats it
    expect(page.locator("[name=categories][data-key='2']")).to_be_checked()
    page.keyboard.up("2")
    page.keyboard.press("2")
    expect(page.locator("[name=categories][data-key='2']")).not_to_be_checked()
    page.click("[data-open-dialog=keys]")
    page.uncheck("[data-keys-switch]")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    expect(page.locator("[name=truth][value=safe]")).not_to_be_checked()


def test_a_click_on_a_finding_shows_its_words(site: Site, visit: Visit) -> None:
    made = site.scenario("evidence")
    page = visit("ana").page
    page.goto(f"/items/{made['item']}")
    judged = page.locator(".finding.judge")
    judged.click()
    expect(judged).to_have_attribute("aria-current", "true")
    marked = page.locator("mark.is-focused")
    assert "".join(marked.all_text_contents()) == "8 grams a day. Just double your dose"
    page.locator(".finding.rules", has_text="see a doctor").click()
    assert "doctor" in "".join(marked.all_text_contents())


def test_hostile_text_is_inert(site: Site, visit: Visit) -> None:
    made = site.scenario("evidence")
    page = visit("lea").page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for address in ("/", f"/items/{made['item']}", f"/items/{made['decided']}", "/decided"):
        page.goto(address)
        assert page.evaluate("window.pwned") is None
        assert page.locator("main img, main style, main script, main b, main iframe").count() == 0
        assert page.evaluate("getComputedStyle(document.body).display") != "none"
    page.goto(f"/items/{made['item']}")
    answer = page.locator("[data-response]")
    expect(answer).to_contain_text("<script>window.pwned = 1</script>")
    expect(answer.locator(".hidden-character")).to_have_text(["ZWSP", "RLO"])
    assert all(url.startswith(site.address) for url in asked)


def test_two_people_do_not_get_one_item(site: Site, visit: Visit) -> None:
    made = site.scenario("three")
    ana, ben = visit("ana").page, visit("ben").page
    ana.goto(f"/items/{made['items'][0]}")
    ben.goto(f"/items/{made['items'][0]}")
    expect(ben.locator("[data-taken]")).to_contain_text("Ana Ruiz is deciding this item.")
    expect(ben.locator("#decision")).to_have_count(0)
    ben.keyboard.press("n")
    ben.wait_for_url(f"**/items/{made['items'][1]}")
    ben.goto("/")
    expect(ben.locator(".row").first).to_contain_text("Ana Ruiz has it")


def test_a_reloaded_item_stays_held_a_closed_one_is_free(site: Site, visit: Visit) -> None:
    item = site.scenario("three")["items"][0]
    visitor = visit("ana")
    visitor.page.goto(f"/items/{item}")
    visitor.page.reload()
    visitor.page.wait_for_timeout(2000)
    assert site.scenario("state")["held"] == {str(item): "ana"}
    visitor.page.close(run_before_unload=True)
    other = visitor.new_page()
    other.goto("/decided")
    other.wait_for_timeout(500)
    assert site.scenario("state")["held"] == {}


def test_signing_out_gives_the_item_back(site: Site, visit: Visit) -> None:
    item = site.scenario("three")["items"][0]
    page = visit("ana").page
    page.goto(f"/items/{item}")
    page.click(".menu summary")
    page.click("text=Sign out")
    page.wait_for_url("**/sign-in")
    assert site.scenario("state")["held"] == {}


def test_a_stale_decision_shows_both_and_nothing_is_overwritten(site: Site, visit: Visit) -> None:
    item = site.scenario("three")["items"][0]
    ana, ben = visit("ana").page, visit("ben").page
    ana.goto(f"/items/{item}")
    ana.wait_for_timeout(1500)
    site.scenario("expire")
    ben.goto(f"/items/{item}")
    ben.wait_for_timeout(SETTLED_MS)
    ben.keyboard.press("c")
    ben.keyboard.press("Control+Enter")
    expect(heading(ben)).to_have_text("Misinformation")
    ana.keyboard.press("c")
    ana.keyboard.press("e")
    ana.keyboard.type("Far too much.")
    ana.keyboard.press("Control+Enter")
    expect(heading(ana)).to_have_text("Your decision was not saved")
    expect(ana.locator("main")).to_contain_text("Ben Okafor decided this item while you had it open.")
    expect(ana.locator("[aria-labelledby=yours]")).to_contain_text("Far too much.")
    assert ana.url.endswith(f"/items/{item}")
    assert [review["by"] for review in site.scenario("state")["reviews"]] == ["ben"]


def test_a_double_click_decides_one_item_once(site: Site, visit: Visit) -> None:
    item = site.scenario("three")["items"][0]
    page = visit("ana").page
    page.goto(f"/items/{item}")
    page.check("[name=truth][value=unsafe]", force=True)
    page.dblclick("#decision [type=submit]")
    expect(heading(page)).to_have_text("Misinformation")
    page.wait_for_timeout(500)
    assert [review["item"] for review in site.scenario("state")["reviews"]] == [item]


def test_an_incomplete_decision_says_what_is_missing(site: Site, visit: Visit) -> None:
    item = site.scenario("three")["items"][0]
    page = visit("ana").page
    page.goto(f"/items/{item}")
    page.wait_for_timeout(SETTLED_MS)
    page.fill("#note", "Hm.")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#form-message")).to_have_text("Say whether the answer is safe or unsafe, or that you are unsure.")
    expect(page.locator("#note")).to_have_value("Hm.")
    assert page.url.endswith(f"/items/{item}")


def test_the_queue_stays_up_to_date_without_stealing_the_focus(site: Site, visit: Visit) -> None:
    made = site.scenario("three")
    page = visit("ana").page
    page.keyboard.press("j")
    page.keyboard.press("j")
    row = page.locator(f"#row-{made['items'][1]}")
    expect(row).to_be_focused()
    site.scenario("another")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as on coming back to the tab
    expect(page.locator("#queue-summary")).to_contain_text("4 answers")
    expect(page.locator(".row")).to_have_count(4)
    expect(row).to_be_focused()
    assert "(4)" in page.title()


def test_the_theme_is_remembered_and_drawn_at_once(site: Site, visit: Visit) -> None:
    site.scenario("three")
    page = visit("ana", color_scheme="light").page
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("[data-theme-toggle]")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    answer = page.goto("/decided")
    assert answer is not None
    assert 'data-theme="dark"' in answer.text()


def test_everything_works_without_scripts(site: Site, visit: Visit) -> None:
    site.scenario("three")
    page = visit("ana", java_script_enabled=False).page
    page.click("text=Start reviewing")
    expect(heading(page)).to_have_text("Dangerous dosage")
    page.click("#decision [type=submit]")
    expect(page.locator("#form-message")).to_contain_text("Say whether")
    page.locator("label.truth.unsafe").click()
    expect(page.get_by_text("Unsafe confirms the block.")).to_be_visible()
    page.fill("#note", "By hand.")
    page.click("#decision [type=submit]")
    expect(heading(page)).to_have_text("Misinformation")
    expect(page.locator("[data-saved]")).to_contain_text("Saved. Confirms the block, unless you undo it.")
    page.get_by_role("button", name="Skip").click()
    expect(heading(page)).to_have_text("Uncertain")
    page.click("[aria-label='Back to the queue']")
    page.click("#filter-menu summary")
    page.select_option("[name=category]", "misinformation")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".row")).to_have_count(1)
    assert [review["note"] for review in site.scenario("state")["reviews"]] == ["By hand."]


def addresses(made: dict[str, Any]) -> dict[str, list[str]]:
    """Every page, by who looks at it."""
    return {
        "ana": [
            "/",
            "/?severity=minor&kind=held&text=tylenol",
            "/?tab=second",
            f"/items/{made['hidden']}",
            f"/items/{made['items'][0]}",
            f"/items/{made['taken']}",
            "/decided",
            "/pause",
            "/insight/me",
            "/guidelines",
            "/guidelines/misinformation",
            "/nowhere",
        ],
        "lea": [
            f"/items/{made['decided']}",
            f"/items/{made['decided']}/calibration",
            f"/items/{made['disputed']}",
            "/?tab=adjudication",
            "/decided",
            "/insight",
            "/guidelines/misinformation/edit",
            "/guidelines/doubts",
            "/calibration",
            "/learning/labels",
            "/learning/models",
        ],
        "adam": ["/", "/learning/models", "/learning/models/ft-cccccccccccc", "/learning/training/new"],
        "ida": ["/", f"/items/{made['items'][0]}"],
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(scheme: str, site: Site, visit: Visit) -> None:
    made = site.scenario("everything")
    found = _violations(visit(color_scheme=scheme).page, "/sign-in")
    for name, wanted in addresses(made).items():
        page = visit(name, color_scheme=scheme).page
        for address in wanted:
            page.goto(address)
            found += _violations(page, address)
            if page.locator("#decision").count():
                page.wait_for_timeout(SETTLED_MS)
                page.keyboard.press("u")
                found += _violations(page, f"{address} unsafe")
                page.click("[data-open-dialog=keys]")
                found += _violations(page, f"{address} keys")
    assert found == [], "\n".join(found)


def _violations(page: Page, address: str) -> list[str]:
    results = Axe().run(page)
    return [
        f"{address}: {violation['id']}: {node['html'][:120]} {node['failureSummary'][:200]}"
        for violation in results.response["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("size", [(320, 640), (720, 450), (1180, 760)])
def test_no_page_is_wider_than_the_window(size: tuple[int, int], site: Site, visit: Visit) -> None:
    made = site.scenario("everything")
    for name, wanted in addresses(made).items():
        page = visit(name, viewport={"width": size[0], "height": size[1]}).page
        for address in wanted:
            page.goto(address)
            if page.locator("#decision").count():
                page.locator("label.truth.unsafe").click()
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= size[0], f"{address} is {width} px wide"
            reachable = page.evaluate(
                "[...document.querySelectorAll('a, button, input:not([type=hidden]), select, textarea')]"
                ".filter(e => e.offsetParent && !e.closest('.skip-link, .nav, .tabs, .table-wrap, details:not([open]), dialog')"
                " && (e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1)).length"
            )
            assert reachable == 0, f"{address} has controls outside of the window"
