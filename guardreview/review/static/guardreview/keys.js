// Single keys: which one a person has chosen for what, the sheet where they choose, and the links and buttons that name one.
// A page names the key that an action came with, in data-key and data-key-of; here alone is known which one was chosen for it.
"use strict";

(() => {
  const sheet = document.getElementById("keys");
  let chosen = JSON.parse(sheet.dataset.keys); // by the key that the action came with

  // The key that the pressed one stands for; empty if it stands for nothing. Letters count without Shift only.
  guard.pressed = (event) => {
    const key = event.key.toLowerCase();
    if (event.shiftKey && key !== event.key.toUpperCase()) return "";
    for (const [original, own] of Object.entries(chosen)) if (own === key) return original;
    return key in chosen ? "" : key;
  };

  function label() {
    const all = [...document.querySelectorAll("[data-key], [data-key-of]")];
    for (const element of all) {
      const own = chosen[element.dataset.key ?? element.dataset.keyOf];
      if (!own) continue;
      const cap = element.matches("kbd") ? element : (element.closest("label") ?? element).querySelector("kbd");
      if (cap) cap.textContent = own.toUpperCase();
      if (element.hasAttribute("aria-keyshortcuts")) element.setAttribute("aria-keyshortcuts", own);
    }
  }

  // --- Links and buttons --------------------------------------------------------------------------------------------------
  document.addEventListener("keydown", (event) => {
    if (!guard.isShortcut(event) || Date.now() < guard.restUntil) return;
    const key = CSS.escape(guard.pressed(event));
    if (!key) return;
    const target = document.querySelector(`a[data-key="${key}"], button[data-key="${key}"]`);
    if (!target || target.disabled) {
      if (key === "z") guard.toast("Nothing to undo now. Your last ten decisions can be reopened under Decided.");
      return;
    }
    event.preventDefault();
    target.click();
  });

  // --- The sheet ------------------------------------------------------------------------------------------------------------
  for (const opener of document.querySelectorAll("[data-open-dialog=keys]")) {
    opener.hidden = false;
    opener.addEventListener("click", () => sheet.showModal());
  }
  sheet.addEventListener("click", (event) => event.target === sheet && sheet.close());
  const choice = sheet.querySelector("[data-keys-switch]");
  choice.checked = guard.keysOn();
  choice.addEventListener("change", () => localStorage.setItem("keys", choice.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "?" || event.repeat || event.ctrlKey || event.metaKey || guard.isTyping(event.target)) return;
    event.preventDefault();
    if (sheet.open) sheet.close();
    else sheet.showModal();
  });

  // --- Other keys -----------------------------------------------------------------------------------------------------------
  let waiting = null; // the button of the action that gets the next key pressed
  const say = (text) => { sheet.querySelector("[data-key-said]").textContent = text; };

  function stopWaiting() {
    if (waiting) waiting.textContent = "Change";
    waiting = null;
  }

  async function store(fields) {
    const body = new URLSearchParams({ ...fields, csrfmiddlewaretoken: guard.cookie("csrftoken") });
    try {
      const response = await fetch(sheet.dataset.changeUrl, { method: "POST", body });
      if (response.redirected) return say("You are signed out. Sign in again first.");
      const said = await response.json();
      if (!response.ok) return say(said.message);
      chosen = said.keys;
      label();
      return say("Saved.");
    } catch {
      return say("No connection, so the key is as it was.");
    }
  }

  sheet.addEventListener("click", (event) => {
    const button = event.target.closest("[data-change-key]");
    const again = button === waiting;
    stopWaiting();
    if (button && !again) {
      waiting = button;
      button.textContent = "Press a key…";
      say("Press the new key, or Esc to leave it.");
    } else if (event.target.closest("[data-keys-reset]")) store({ reset: "1" });
  });
  sheet.addEventListener("close", () => { stopWaiting(); say(""); });
  addEventListener("keydown", (event) => {
    if (!waiting || ["Shift", "Control", "Alt", "Meta", "Tab"].includes(event.key)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const action = waiting.dataset.changeKey;
    stopWaiting();
    if (event.key === "Escape") say("");
    else store({ action, key: event.key });
  }, { capture: true });

  document.addEventListener("htmx:afterSettle", label);
  label();
})();
