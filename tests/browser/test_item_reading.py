"""Reading an item in a browser: personal data is revealed and masked again without losing what was entered."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import Site

PHONE = "415-555-2671"


def test_what_was_entered_stays_when_personal_data_is_revealed_and_masked_again(site: Site, visit: Any) -> None:
    made = site.scenario("personal")
    page = visit("ana").page
    page.goto(f"/items/{made['item']}")
    page.check("[name=truth][value=unsafe]", force=True)
    page.fill("#note", "as the label says")
    assert PHONE not in page.content()
    page.click(".masking summary")
    page.fill("#reveal-reason", "The advice depends on it")
    page.click(".masking button")
    expect(page.locator("[data-response]")).to_contain_text(PHONE)
    expect(page.locator("#note")).to_have_value("as the label says")
    page.click(".revealed button")
    expect(page.locator("[data-response]")).to_contain_text("phone number")
    assert PHONE not in page.content()
    expect(page.locator("#note")).to_have_value("as the label says")
    expect(page.locator("[name=truth][value=unsafe]")).to_be_checked()


def test_a_finding_leads_to_its_words_masked_as_they_are(site: Site, visit: Any) -> None:
    made = site.scenario("personal")
    page = visit("ana").page
    page.goto(f"/items/{made['item']}")
    page.locator("[data-finding]").first.click()
    expect(page.locator("mark.is-focused")).to_contain_text("phone number")
    expect(page.locator(".similar")).to_contain_text("no embedding yet")


def test_what_is_selected_and_copied_of_a_mask_is_its_word(site: Site, visit: Any) -> None:
    made = site.scenario("personal")
    page = visit("ana").page
    page.goto(f"/items/{made['item']}")
    page.locator("[data-response]").select_text()
    copied = page.evaluate("getSelection().toString()")
    assert PHONE not in copied
    assert "Her cell phone is" in copied
    assert "phone number" in copied


def test_the_page_with_its_masks_open_and_revealed_is_accessible_in_both_themes(site: Site, visit: Any) -> None:
    made = site.scenario("personal")
    for scheme in ("light", "dark"):
        page = visit("ana", color_scheme=scheme, reduced_motion="reduce").page
        page.goto(f"/items/{made['item']}")
        page.click(".masking summary")
        page.wait_for_selector(".similar")
        assert Axe().run(page).response["violations"] == []
        page.fill("#reveal-reason", "The advice depends on it")
        page.click(".masking button")
        page.wait_for_selector(".revealed")
        assert Axe().run(page).response["violations"] == []
