// The item page: the lease, the keys of the decision, and evidence that a finding points at.
"use strict";

(() => {
  const SETTLE_MS = 200; // keys rest until a new item has been seen
  const HEARTBEAT_S = 45;
  const IDLE_S = 300; // who has not touched anything for so long does not keep an item from others
  const SOON_S = 60;

  const pane = () => document.querySelector(".pane.decision");
  const form = () => document.getElementById("decision");
  let busyUntil = 0;
  let busy = false;
  let lease = null;
  let lastTouch = Date.now();

  // --- The lease: counted down, extended while somebody is there, given back on leaving -------------------------------
  function takeUp() {
    const here = pane();
    if (!here) lease = null;
    else if (!lease || lease.pane !== here) {
      lease = { pane: here, endsAt: Date.now() + 1000 * Number(here.dataset.expiresIn), asked: Date.now(), lost: false };
      busyUntil = Date.now() + SETTLE_MS;
      describe();
      showCurrent();
      if (/mac/i.test(navigator.platform)) document.querySelector("[data-submit-key]").textContent = "⌘ ↵";
      // Reloading gives the lease back after the new page has taken it: take it again once the dust has settled.
      setTimeout(() => lease?.pane === here && beat(), 1200);
    }
  }

  // Behind a long conversation, the answer that is to be decided is what comes into view.
  function showCurrent() {
    const conversation = document.querySelector(".pane.conversation");
    const current = conversation.querySelector(".current");
    if (current.offsetTop + current.offsetHeight > conversation.clientHeight) conversation.scrollTop = current.offsetTop - conversation.offsetTop - 16;
  }

  function body() {
    const data = new FormData();
    data.set("csrfmiddlewaretoken", guard.cookie("csrftoken"));
    data.set("token", form().elements.token.value);
    return data;
  }

  async function beat() {
    const mine = lease;
    if (!mine || mine.lost || busy) return;
    mine.asked = Date.now();
    try {
      const response = await fetch(mine.pane.dataset.holdUrl, { method: "POST", body: body() });
      if (mine !== lease || response.redirected) return;
      const said = await response.json();
      if (response.ok) {
        mine.endsAt = Date.now() + 1000 * said.expires_in;
        for (const field of document.querySelectorAll("[name=token]")) field.value = said.token;
      } else if (response.status === 409) {
        mine.lost = true;
        complain(said.decided ? "This item has been decided meanwhile." : `${said.holder || "Somebody else"} has this item now.`);
      }
    } catch {
      // No connection: the countdown goes on, and the next beat tries again.
    }
  }

  function tick() {
    takeUp();
    if (!lease) return;
    const left = Math.max(0, Math.round((lease.endsAt - Date.now()) / 1000));
    const clock = document.querySelector("[data-lease-time]");
    if (clock) clock.textContent = lease.lost ? "–" : `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    const soon = left <= SOON_S || lease.lost;
    document.querySelector("[data-lease]")?.classList.toggle("soon", soon);
    if (soon && !lease.warned) guard.toast("This item is yours for one more minute. Move the mouse or press a key to keep it.");
    lease.warned = soon;
    const touched = Date.now() - lastTouch < 1000 * IDLE_S;
    const since = (Date.now() - lease.asked) / 1000;
    if (!document.hidden && touched && (since > HEARTBEAT_S || (left <= SOON_S && since > 5))) beat();
  }

  function leave() {
    if (!lease || lease.lost || busy || !form()) return;
    navigator.sendBeacon(lease.pane.dataset.leaveUrl, body());
    lease.lost = true;
  }

  for (const name of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"]) {
    document.addEventListener(name, () => { lastTouch = Date.now(); }, { passive: true });
  }
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => event.persisted && lease && location.reload());
  document.addEventListener("visibilitychange", () => !document.hidden && lease && beat());
  setInterval(tick, 1000);

  // --- The decision -----------------------------------------------------------------------------------------------------
  const WORDS = {
    block: { safe: "Overturn the block", unsafe: "Confirm the block" },
    hold: { safe: "Settle as safe", unsafe: "Settle as unsafe" },
    allow: { safe: "Confirm as safe", unsafe: "Overturn as unsafe" },
  };

  function describe() {
    const words = document.querySelector("[data-submit-words]");
    if (!words) return;
    const truth = form().elements.truth.value;
    words.textContent = truth === "unsure" ? "Ask a second pharmacist" : WORDS[form().dataset.decision]?.[truth] || "Submit decision";
  }

  function complain(text) {
    const place = document.getElementById("form-message");
    if (place) place.textContent = text;
  }

  function signedOut() {
    complain("You are signed out, so nothing was saved. Sign in again in another tab, then submit here: what you entered stays.");
  }

  function choose(truth) {
    const radio = form().querySelector(`[name=truth][value=${truth}]`);
    radio.checked = true;
    radio.focus({ preventScroll: true });
    describe();
  }

  function suggest() {
    for (const box of form().querySelectorAll("[name=categories]")) box.checked = "suggested" in box.dataset;
  }

  function toggleCategory(digit) {
    const box = form().querySelector(`[name=categories][data-key="${digit}"]`);
    if (!box) return;
    const shown = form().elements.truth.value === "unsafe";
    choose("unsafe");
    box.checked = shown ? !box.checked : true;
    box.closest("label").scrollIntoView({ block: "nearest" });
  }

  function act(key) {
    const decision = form().dataset.decision;
    if (key === "s") choose("safe");
    else if (key === "u") choose("unsafe");
    else if (key === "q") choose("unsure");
    else if (key === "e") document.getElementById("note").focus();
    else if (/^[1-9]$/.test(key)) toggleCategory(key);
    else if (key === "c" || key === "o") {
      if (decision === "hold") guard.toast("The cascade held this answer: there is nothing to confirm or overturn. Say S or U.");
      else if ((key === "c") === (decision === "block")) {
        if (key === "c") suggest();
        choose("unsafe");
      } else choose("safe");
    } else return false;
    return true;
  }

  document.addEventListener("keydown", (event) => {
    if (!form()) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      if (!busy && Date.now() > busyUntil) form().requestSubmit();
    } else if (event.key === "Escape" && event.target.id === "note") {
      event.target.blur();
    } else if (guard.isShortcut(event) && !event.shiftKey && !busy && Date.now() > busyUntil && act(event.key.toLowerCase())) {
      event.preventDefault();
    }
  });
  document.addEventListener("change", (event) => event.target.name === "truth" && describe());

  // --- Sending: nothing that was typed is lost, whatever happens on the way ------------------------------------------------
  // Events are sent to whatever is still in the page; the request knows the form that it came from.
  const ours = (event) => event.detail.requestConfig?.elt.matches("#decision, [data-skip-form]");
  document.addEventListener("htmx:beforeRequest", (event) => { if (ours(event)) { busy = true; complain(""); } });
  document.addEventListener("htmx:afterRequest", (event) => { if (ours(event)) { busy = false; busyUntil = Date.now() + SETTLE_MS; } });
  // htmx would carry the focus from one item's note to the next one's, and what is typed with it.
  document.addEventListener("htmx:beforeSwap", (event) => { if (ours(event) && event.detail.xhr.status === 200) document.activeElement.blur(); });
  document.addEventListener("htmx:sendError", (event) => ours(event) && complain("No connection, so nothing was saved. What you entered is still here: submit again."));
  document.addEventListener("htmx:responseError", (event) => {
    if (!ours(event)) return;
    if (event.detail.xhr.status === 403) signedOut();
    else complain("The server could not save this. What you entered is still here: submit again.");
  });
  document.addEventListener("guard:signed-out", signedOut);
  document.addEventListener("htmx:afterSettle", () => takeUp());

  // Leaving by a link of ours, or signing out: give the item back first, so that the queue shows it as free.
  function leaveThen(event, go) {
    if (!lease || lease.lost) return;
    event.preventDefault();
    const { leaveUrl } = lease.pane.dataset;
    const data = body();
    lease.lost = true;
    const late = new Promise((resolve) => setTimeout(resolve, 500));
    Promise.race([late, fetch(leaveUrl, { method: "POST", body: data, keepalive: true }).catch(() => {})]).then(go);
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-leave], .topbar a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    leaveThen(event, () => location.assign(link.href));
  });
  document.addEventListener("submit", (event) => {
    if (event.target.matches("[data-sign-out]")) leaveThen(event, () => event.target.submit());
  });

  // --- Evidence ---------------------------------------------------------------------------------------------------------
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-finding]");
    if (!link) return;
    event.preventDefault();
    const number = link.dataset.finding;
    for (const other of document.querySelectorAll("[data-finding]")) other.ariaCurrent = other === link ? "true" : null;
    const marks = [...document.querySelectorAll("mark[data-findings]")];
    for (const mark of marks) mark.classList.toggle("is-focused", mark.dataset.findings.split(" ").includes(number));
    marks.find((mark) => mark.classList.contains("is-focused"))?.scrollIntoView({ block: "center", behavior: "smooth" });
  });

  takeUp();
})();
