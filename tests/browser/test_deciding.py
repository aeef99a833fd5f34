"""Deciding in a real browser: by keys of one's own, with words marked, taken back, and without a connection."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Site, Visitor

Visit = Callable[..., Visitor]
SETTLED_MS = 350
"""Keys rest until a new item has been seen."""
KEPT = """() => new Promise((done) => {
  const opening = indexedDB.open("guardreview.kept");
  const read = (buffer) => buffer && new TextDecoder("latin1").decode(buffer);
  opening.onsuccess = () => {
    const all = opening.result.transaction("kept").objectStore("kept").getAll();
    all.onsuccess = () => {
      opening.result.close();
      done(all.result.map((entry) => ({ ...entry, iv: read(entry.iv), sealed: read(entry.sealed) })));
    };
  };
})"""
AGED = """(days) => new Promise((done) => {
  const opening = indexedDB.open("guardreview.kept");
  opening.onsuccess = () => {
    const writing = opening.result.transaction("kept", "readwrite");
    const kept = writing.objectStore("kept");
    const all = kept.getAll();
    all.onsuccess = () => { for (const entry of all.result) kept.put({ ...entry, at: entry.at - days * 86400000 }); };
    writing.oncomplete = () => { opening.result.close(); done(); };
  };
})"""


def heading(page: Page) -> Any:
    return page.locator("h1")


def open_item(page: Page, item: int) -> None:
    page.goto(f"/items/{item}")
    page.wait_for_timeout(SETTLED_MS)


def confirm(page: Page, note: str = "") -> None:
    """Confirm a block by keys alone."""
    page.keyboard.press("c")
    if note:
        page.keyboard.press("e")
        page.keyboard.type(note)
    page.keyboard.press("Control+Enter")


def reviews(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.scenario("state")["reviews"]
    return found


def kept(page: Page) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = page.evaluate(KEPT)
    return entries


# --- By keyboard --------------------------------------------------------------------------------------------------------
def test_ten_items_by_keyboard_alone(site: Site, visit: Visit) -> None:
    items = site.scenario("ten")["items"]
    page = visit("ana").page
    page.keyboard.press("n")
    for number, item in enumerate(items):
        page.wait_for_url(f"**/items/{item}")
        page.wait_for_timeout(SETTLED_MS)
        if number % 2:
            page.keyboard.press("co"[number % 4 // 2])
        else:
            page.keyboard.press("s" if number % 4 else "6")
        page.keyboard.press("Control+Enter")
    expect(heading(page)).to_have_text("Queue")
    said = reviews(site)
    assert [review["item"] for review in said] == items
    assert [review["truth"] for review in said] == ["unsafe", "unsafe", "safe", "safe"] * 2 + ["unsafe", "unsafe"]


def test_keys_rest_until_the_new_item_is_there(site: Site, visit: Visit) -> None:
    items = site.scenario("ten")["items"]
    page = visit("ana").page
    page.keyboard.press("n")
    page.wait_for_url(f"**/items/{items[0]}")
    page.wait_for_timeout(SETTLED_MS)
    for key in ("s", "Control+Enter", "n", "s", "Control+Enter", "n", "n"):
        page.keyboard.press(key)
    page.wait_for_url(f"**/items/{items[1]}")
    page.wait_for_timeout(SETTLED_MS)
    assert page.url.endswith(f"/items/{items[1]}")
    assert [review["item"] for review in reviews(site)] == [items[0]]


def test_a_blind_item_is_neither_confirmed_nor_overturned(site: Site, visit: Visit) -> None:
    item = site.scenario("blind")["item"]
    page = visit("ana").page
    open_item(page, item)
    assert page.locator("#decision").get_attribute("data-decision") == ""
    page.keyboard.press("c")
    expect(page.locator(".toast").last).to_contain_text("This item is blind")
    page.keyboard.press("s")
    expect(page.locator("[data-submit-text]")).to_have_text("Submit decision")
    page.keyboard.press("Control+Enter")
    expect(page.locator("[data-saved] .saved-words")).to_have_text("Saved.")


def test_overturning_a_critical_block_says_at_once_that_it_needs_a_note(site: Site, visit: Visit) -> None:
    item = site.scenario("three")["items"][0]
    page = visit("ana").page
    open_item(page, item)
    needed = page.get_by_text("required: this overturns a critical block")
    expect(needed).to_be_hidden()
    page.keyboard.press("o")
    expect(needed).to_be_visible()
    expect(page.locator("[data-submit-text]")).to_have_text("Overturn the block")
    expect(page.get_by_text("if a second pharmacist agrees")).to_be_visible()
    page.keyboard.press("Control+Enter")
    expect(page.locator("#form-message")).to_contain_text("Please write why")
    expect(page.locator("[name=truth][value=safe]")).to_be_checked()
    page.wait_for_timeout(SETTLED_MS)
    page.keyboard.press("e")
    page.keyboard.type("Within the label.")
    page.keyboard.press("Control+Enter")
    expect(heading(page)).to_have_text("Misinformation")
    assert [(review["truth"], review["note"]) for review in reviews(site)] == [("safe", "Within the label.")]


def test_a_key_of_ones_own_stays_and_a_taken_one_is_refused(site: Site, visit: Visit) -> None:
    item = site.scenario("three")["items"][0]
    visitor = visit("ana")
    page = visitor.page
    open_item(page, item)
    page.keyboard.press("?")
    change = page.locator("[data-change-key=safe]")
    change.click()
    page.keyboard.press("u")
    expect(page.locator("[data-key-said]")).to_contain_text("U is taken: Unsafe.")
    change.click()
    page.keyboard.press("x")
    expect(page.locator("[data-key-said]")).to_have_text("Saved.")
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    expect(page.locator("[name=truth]:checked")).to_have_count(0)
    page.reload()
    page.wait_for_timeout(SETTLED_MS)
    expect(page.locator(".truth.safe kbd")).to_have_text("X")
    page.keyboard.press("x")
    expect(page.locator("[name=truth][value=safe]")).to_be_checked()
    page.keyboard.press("?")
    page.click("[data-keys-reset]")
    expect(page.locator("[data-key-said]")).to_have_text("Saved.")
    expect(page.locator(".truth.safe kbd")).to_have_text("S")


# --- Marked words -------------------------------------------------------------------------------------------------------
SELECT = """([from, to]) => {
  const answer = document.querySelector("[data-response]");
  const walker = document.createTreeWalker(answer, NodeFilter.SHOW_TEXT);
  const find = (text, after) => {
    walker.currentNode = answer;
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const at = node.data.indexOf(text);
      if (at >= 0) return [node, at + (after ? text.length : 0)];
    }
  };
  getSelection().setBaseAndExtent(...find(from, false), ...find(to, true));
}"""


PLACES = [
    ("eight", "grams", "eight grams"),
    ("🩹 eight", "eight", "🩹 eight"),
    ("grams", "today", "grams\u200b today"),
    ("today", "Call", "today.\r\nCall"),
    ("Call", "phone", "Call me on 555-867-5309"),
    ("then", "double it", "then double it"),
]
"""From where to where in the page, and what these words are on the server."""


def test_selected_words_are_the_same_on_the_server(site: Site, visit: Visit) -> None:
    made = site.scenario("emoji")
    page = visit("ana").page
    open_item(page, made["item"])
    for first, last, words in PLACES:
        page.evaluate(SELECT, [first, last])
        page.keyboard.press("m")
        (span,) = json.loads(page.locator("[name=spans]").input_value())
        assert made["answer"][span["start"] : span["end"]] == words
        assert page.evaluate("[...CSS.highlights.get('dangerous')].length") == 1
        page.get_by_role("button", name="Unmark").click()
    expect(page.locator("[name=truth][value=unsafe]")).to_be_checked()
    for first, last, _ in (PLACES[0], PLACES[5], PLACES[1]):  # the last one touches the first
        page.evaluate(SELECT, [first, last])
        page.keyboard.press("m")
    expect(page.locator(".span-chip")).to_have_text(["🩹 eight grams×", "then double it×"])
    page.keyboard.press("Control+Enter")
    expect(heading(page)).to_have_text("Queue")
    spans = reviews(site)[0]["spans"]
    assert [made["answer"][span["start"] : span["end"]] for span in spans] == ["🩹 eight grams", "then double it"]


def test_words_are_marked_by_dragging_over_them_and_unmarked_by_their_chip(site: Site, visit: Visit) -> None:
    made = site.scenario("emoji")
    page = visit("ana").page
    open_item(page, made["item"])
    page.keyboard.press("u")
    piece = page.locator("[data-response] [data-start='0']")
    box = piece.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    chip = page.locator(".span-chip")
    expect(chip).to_have_count(1)
    page.get_by_role("button", name="Unmark").click()
    expect(chip).to_have_count(0)
    expect(page.locator("[name=spans]")).to_have_value("[]")
    page.click("[data-mark-selection]")
    expect(page.locator(".toast").last).to_contain_text("Select the dangerous words")


# --- Taken back ---------------------------------------------------------------------------------------------------------
def test_undo_brings_the_item_back_as_it_was_sent(site: Site, visit: Visit) -> None:
    first, second, _ = site.scenario("three")["items"]
    page = visit("ana").page
    open_item(page, first)
    confirm(page, "Twice the maximum.")
    page.wait_for_url(f"**/items/{second}")
    expect(page.locator("[data-saved]")).to_contain_text("Saved. Confirms the block, unless you undo it.")
    expect(page.locator("[data-seconds-left]")).to_have_text(re.compile("^2[0-9]$"))
    page.wait_for_timeout(SETTLED_MS)
    page.keyboard.press("z")
    page.wait_for_url(f"**/items/{first}")
    expect(page.locator("#note")).to_have_value("Twice the maximum.")
    expect(page.locator("[name=truth][value=unsafe]")).to_be_checked()
    expect(page.locator("[data-saved]")).to_have_count(0)
    made = site.scenario("state")
    assert made["held"] == {str(first): "ana"}
    assert [review["undone"] for review in made["reviews"]] == [True]
    page.wait_for_timeout(SETTLED_MS)
    page.keyboard.press("Control+Enter")
    page.wait_for_url(f"**/items/{second}")
    assert [review["undone"] for review in reviews(site)] == [True, False]


def test_what_is_settled_cannot_be_undone_but_reopened(site: Site, visit: Visit) -> None:
    first, second, _ = site.scenario("three")["items"]
    page = visit("ana").page
    open_item(page, first)
    confirm(page)
    page.wait_for_url(f"**/items/{second}")
    site.scenario("settle")
    page.wait_for_timeout(SETTLED_MS)
    page.keyboard.press("z")
    expect(page.locator(".toast").last).to_contain_text("Too late to undo")
    assert page.url.endswith(f"/items/{second}")
    page.wait_for_timeout(SETTLED_MS)
    page.goto("/decided")
    page.get_by_text("Reopen", exact=True).click()
    page.get_by_role("button", name="Decide it anew").click()
    page.wait_for_url(f"**/items/{first}")
    expect(page.locator("#decision")).to_be_visible()
    expect(page.locator("[name=truth]:checked")).to_have_count(0)


# --- Without a connection -----------------------------------------------------------------------------------------------
def test_what_is_submitted_offline_is_kept_and_saved_once(site: Site, visit: Visit) -> None:
    first, second, _ = site.scenario("three")["items"]
    visitor = visit("ana")
    page = visitor.page
    open_item(page, first)
    visitor.context.set_offline(True)
    expect(page.locator("#outbox")).to_contain_text("No connection.")
    confirm(page, "Far too much.")
    expect(page.locator("[data-kept-note]")).to_contain_text("Kept in this browser, not saved yet.")
    expect(page.locator("#note")).to_be_disabled()
    expect(page.locator(".toasts")).not_to_contain_text("Saved")
    (entry,) = kept(page)
    assert set(entry) == {"key", "user", "at", "iv", "sealed"}
    assert "Far too much" not in str(entry)
    assert reviews(site) == []
    visitor.context.set_offline(False)
    page.wait_for_url(f"**/items/{second}")
    expect(page.locator("[data-saved]")).to_contain_text("Saved. Confirms the block, unless you undo it.")
    expect(page.locator("#outbox")).to_be_hidden()
    assert kept(page) == []
    assert [review["note"] for review in reviews(site)] == ["Far too much."]


def test_an_answer_that_got_lost_on_its_way_back_is_saved_once(site: Site, visit: Visit) -> None:
    first, second, _ = site.scenario("three")["items"]
    page = visit("ana").page

    def lose(route: Route) -> None:
        route.fetch(max_redirects=0)
        route.abort()

    open_item(page, first)
    page.route("**/decision", lose)
    confirm(page)
    page.wait_for_url(f"**/items/{second}")  # as soon as the browser asks again
    assert len(reviews(site)) == 1


def test_what_the_server_fails_to_save_can_be_changed_and_is_saved_later(site: Site, visit: Visit) -> None:
    first, second, _ = site.scenario("three")["items"]
    page = visit("ana").page
    open_item(page, first)
    page.route("**/decision**", lambda route: route.fulfill(status=503))
    confirm(page, "Far too much.")
    expect(page.locator("[data-kept-note]")).to_contain_text("The server could not save it.")
    page.click("[data-kept-change]")
    expect(page.locator("#note")).to_be_enabled()
    assert kept(page) == []
    page.fill("#note", "Too much.")
    page.click("#decision [type=submit]")
    expect(page.locator("[data-kept-note]")).to_be_visible()
    page.unroute("**/decision**")
    page.evaluate("guard.outbox.flush()")
    page.wait_for_url(f"**/items/{second}")
    assert [review["note"] for review in reviews(site)] == ["Too much."]


def test_a_kept_decision_outlives_its_hold(site: Site, visit: Visit) -> None:
    first, second, _ = site.scenario("three")["items"]
    visitor = visit("ana")
    page = visitor.page
    open_item(page, first)
    visitor.context.set_offline(True)
    confirm(page)
    expect(page.locator("[data-kept-note]")).to_be_visible()
    site.scenario("expire")
    visitor.context.set_offline(False)
    page.wait_for_url(f"**/items/{second}")
    assert [review["item"] for review in reviews(site)] == [first]


def test_what_another_decided_meanwhile_is_shown_beside_it(site: Site, visit: Visit) -> None:
    first, *_ = site.scenario("three")["items"]
    visitor, ben = visit("ana"), visit("ben").page
    page = visitor.page
    open_item(page, first)
    visitor.context.set_offline(True)
    confirm(page, "Far too much.")
    expect(page.locator("[data-kept-note]")).to_be_visible()
    site.scenario("expire")
    open_item(ben, first)
    ben.keyboard.press("u")
    ben.keyboard.press("7")
    ben.keyboard.press("Control+Enter")
    expect(heading(ben)).to_have_text("Misinformation")
    visitor.context.set_offline(False)
    refused = page.locator("#kept-refused")
    expect(refused).to_contain_text("Ben Okafor decided this item while you had it open.")
    expect(refused.locator("[aria-labelledby=yours]")).to_contain_text("Far too much.")
    assert kept(page) == []
    assert [review["by"] for review in reviews(site)] == ["ben"]


def test_an_expired_session_keeps_the_decision_until_one_signs_in_again(site: Site, visit: Visit) -> None:
    first, second, _ = site.scenario("three")["items"]
    visitor = visit("ana")
    page = visitor.page
    open_item(page, first)
    visitor.context.clear_cookies(name="sessionid")
    confirm(page, "Far too much.")
    expect(page.locator("[data-kept-note]")).to_contain_text("You are signed out.")
    assert reviews(site) == []
    visitor.sign_in("ana", visitor.new_page())
    page.wait_for_url(f"**/items/{second}")
    assert [review["note"] for review in reviews(site)] == ["Far too much."]


def keep_one(site: Site, visit: Visit) -> tuple[Visitor, Page, int]:
    """Ana's decision on an item, kept in her browser since the server fails to save any."""
    first, *_ = site.scenario("three")["items"]
    visitor = visit("ana")
    visitor.page.route("**/decision**", lambda route: route.fulfill(status=503))
    open_item(visitor.page, first)
    confirm(visitor.page, "Jane Doe wrote it herself.")
    expect(visitor.page.locator("[data-kept-note]")).to_be_visible()
    return visitor, visitor.page, first


def sign_out(page: Page) -> None:
    page.click(".menu summary")
    page.get_by_role("button", name="Sign out").click()


def test_what_is_kept_stays_sealed_after_signing_out_and_is_sent_once_its_author_is_back(site: Site, visit: Visit) -> None:
    visitor, page, first = keep_one(site, visit)
    sign_out(page)
    asked = page.locator("#outbox")
    expect(asked).to_contain_text("Sealed until you sign in here again.")
    page.evaluate("guard.outbox.flush()")  # as it does by itself, again and again
    page.wait_for_timeout(300)
    expect(asked).to_contain_text("Sealed until you sign in here again.")
    page.click("[data-outbox-leave]")
    page.wait_for_url("**/sign-in")
    (entry,) = kept(page)
    assert "Jane" not in str(entry)
    assert "unsafe" not in str(entry)
    page.unroute("**/decision**")
    other = visitor.sign_in("ben")
    assert page.evaluate("fetch('/kept/key').then(r => r.json()).then(said => said.user)") != entry["user"]
    other.wait_for_timeout(500)
    assert kept(other) == [entry]
    sign_out(other)
    other.wait_for_url("**/sign-in")
    visitor.sign_in("ana")
    expect(page.locator(".toast")).to_contain_text("Saved: the decision that was kept in this browser.")
    assert kept(page) == []
    assert [(review["item"], review["by"], review["note"]) for review in reviews(site)] == [
        (first, "ana", "Jane Doe wrote it herself.")
    ]


def test_signing_out_can_forget_it(site: Site, visit: Visit) -> None:
    _, page, _ = keep_one(site, visit)
    sign_out(page)
    page.click("[data-outbox-drop]")
    page.wait_for_url("**/sign-in")
    assert kept(page) == []


def test_nobody_else_sends_it(site: Site, visit: Visit) -> None:
    visitor, page, _ = keep_one(site, visit)
    visitor.context.clear_cookies(name="sessionid")
    other = visitor.sign_in("ben", visitor.new_page())
    page.unroute("**/decision**")
    page.evaluate("guard.outbox.flush()")
    other.evaluate("guard.outbox.flush()")
    assert len(kept(other)) == 1
    assert reviews(site) == []


def test_what_no_key_fits_is_dropped_and_its_author_is_told(site: Site, visit: Visit) -> None:
    _, page, _ = keep_one(site, visit)
    page.route("**/kept/key", lambda route: route.fulfill(json={**route.fetch().json(), "key": "A" * 43 + "="}))
    page.goto("/decided")
    expect(page.locator(".toast")).to_contain_text("cannot be read any more")
    assert kept(page) == []


def test_what_was_kept_too_long_loses_its_words_at_once_and_its_author_is_told(site: Site, visit: Visit) -> None:
    visitor, page, _ = keep_one(site, visit)
    page.evaluate(AGED, 4)
    visitor.context.clear_cookies(name="sessionid")
    visitor.sign_in("ben", page)
    expect(page.locator(".nav")).to_be_visible()
    page.evaluate("guard.outbox.flush()")
    (entry,) = kept(page)
    assert set(entry) == {"key", "user", "at", "iv", "sealed"}
    assert entry["iv"] is None
    assert entry["sealed"] is None
    visitor.context.clear_cookies(name="sessionid")
    visitor.sign_in("ana", page)
    expect(page.locator(".toast")).to_contain_text("Please decide that item again.")
    assert kept(page) == []
    assert reviews(site) == []


# --- Twice --------------------------------------------------------------------------------------------------------------
def test_submitting_twice_decides_one_item_once(site: Site, visit: Visit) -> None:
    first, second, _ = site.scenario("three")["items"]
    page = visit("ana").page
    open_item(page, first)
    page.keyboard.press("c")
    page.evaluate("(form => { form.requestSubmit(); form.requestSubmit(); })(document.getElementById('decision'))")
    page.wait_for_url(f"**/items/{second}")
    page.wait_for_timeout(SETTLED_MS)
    assert [review["item"] for review in reviews(site)] == [first]


def test_going_back_after_deciding_cannot_decide_it_again(site: Site, visit: Visit) -> None:
    first, second, _ = site.scenario("three")["items"]
    page = visit("ana").page
    open_item(page, first)
    confirm(page)
    page.wait_for_url(f"**/items/{second}")
    page.go_back()
    page.wait_for_url(f"**/items/{first}")
    expect(page.locator("#decision")).to_have_count(0)
    assert [review["item"] for review in reviews(site)] == [first]
