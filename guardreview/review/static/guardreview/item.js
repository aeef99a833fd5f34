// The item page: the lease, the keys of the decision, and evidence that a finding points at.
"use strict";

(() => {
  const SETTLE_MS = 200; // keys rest until a new item has been seen
  const HEARTBEAT_S = 45;
  const IDLE_S = 300; // who has not touched anything for so long does not keep an item from others
  const SOON_S = 60;

  const pane = () => document.querySelector(".pane.decision");
  const form = () => document.getElementById("decision");
  let busy = false;
  let locked = false; // what was entered is kept, and waits for the server
  const rest = () => { guard.restUntil = Date.now() + SETTLE_MS; };
  let lease = null;
  let lastTouch = Date.now();

  // --- The lease: counted down, extended while somebody is there, given back on leaving -------------------------------
  function takeUp() {
    const here = pane();
    if (!here) lease = null;
    else if (!lease || lease.pane !== here) {
      lease = { pane: here, endsAt: Date.now() + 1000 * Number(here.dataset.expiresIn), asked: Date.now(), lost: false };
      rest();
      locked = false;
      describe();
      guard.spans.draw();
      showCurrent();
      if (/mac/i.test(navigator.platform)) for (const cap of document.querySelectorAll("[data-submit-key]")) cap.textContent = "⌘ ↵";
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
        complain(said.full || (said.decided ? "This item has been decided meanwhile." : `${said.holder || "Somebody else"} has this item now.`));
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
    if (soon && !lease.warned && !lease.lost) guard.toast("This item is yours for one more minute. Move the mouse or press a key to keep it.");
    lease.warned = soon;
    const touched = Date.now() - lastTouch < 1000 * IDLE_S;
    const since = (Date.now() - lease.asked) / 1000;
    if (!document.hidden && touched && (since > HEARTBEAT_S || (left <= SOON_S && since > 5))) beat();
  }

  function leave() {
    if (!lease || lease.lost || busy || locked || !form()) return;
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
  function describe() {
    if (!form()) return;
    const truth = form().elements.truth.value;
    document.querySelector("[data-submit-text]").textContent = JSON.parse(form().dataset.submitWords)[truth] || "Submit decision";
    const note = document.getElementById("note");
    note.ariaRequired = String((note.dataset.neededFor ?? "").split(" ").includes(truth));
  }

  function complain(text) {
    const place = document.getElementById("form-message");
    if (place) place.textContent = text;
  }

  function choose(truth) {
    const radio = form().querySelector(`[name=truth][value=${truth}]`);
    radio.checked = true;
    radio.focus({ preventScroll: true });
    radio.dispatchEvent(new Event("change", { bubbles: true }));
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
      if (!decision) guard.toast("This item is blind: you see what the machine said once you have decided. Say whether it is safe.");
      else if (decision === "hold") guard.toast("The cascade held this answer: there is nothing to confirm or overturn. Say whether it is safe.");
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
      if (!busy && !locked && Date.now() > guard.restUntil) form().requestSubmit();
    } else if (event.key === "Escape" && event.target.matches("#note, #corrected-answer")) {
      event.target.blur();
    } else if (guard.isShortcut(event) && !busy && !locked && Date.now() > guard.restUntil && act(guard.pressed(event))) {
      event.preventDefault();
    }
  });
  document.addEventListener("change", (event) => event.target.name === "truth" && describe());
  document.addEventListener("spans:mark", () => {
    if (locked) return;
    if (!guard.spans.mark()) guard.toast("Select the dangerous words in the answer first.");
    else if (form().elements.truth.value !== "unsafe") choose("unsafe");
  });

  // --- Sending: nothing that was typed is lost, whatever happens on the way ------------------------------------------------
  // Events are sent to whatever is still in the page; the request knows the form that it came from.
  const ours = (event) => event.detail.requestConfig?.elt.matches("#decision, [data-skip-form], [data-go-on], [data-undo-form]");
  const isDecision = (event) => event.detail.requestConfig?.elt.matches("#decision");
  document.addEventListener("htmx:beforeRequest", (event) => { if (ours(event)) { busy = true; complain(""); } });
  document.addEventListener("htmx:afterRequest", (event) => { if (ours(event)) { busy = false; rest(); } });
  // htmx would carry the focus from one item's note to the next one's, and what is typed with it.
  document.addEventListener("htmx:beforeSwap", (event) => { if (ours(event) && event.detail.xhr.status === 200) document.activeElement.blur(); });
  const NOT_SENT = "No connection. It is sent once you are connected.";
  const NOT_SAVED = "The server could not save it. It is sent again by itself.";
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, (event) => {
      if (isDecision(event)) keep(NOT_SENT);
      else if (ours(event)) complain("No connection. Nothing was done.");
    });
  }
  document.addEventListener("htmx:responseError", (event) => {
    if (isDecision(event) && event.detail.xhr.status === 403) signedOut(event);
    else if (isDecision(event)) keep(NOT_SAVED);
    else if (ours(event)) complain("The server could not do this. Please try again.");
  });
  const signedOut = (event) => isDecision(event) ? keep("You are signed out.", guard.signInAddress()) : ours(event) && complain("You are signed out. Sign in again first.");
  document.addEventListener("guard:signed-out", signedOut);

  // The decision waits in this browser; "saved" is said only once the server has it.
  async function keep(why, signIn = "") {
    try {
      await guard.outbox.keep(form());
    } catch {
      renewKey(); // it may have arrived, and must not stand for what is sent next
      complain("This was not saved. What you entered is still here: submit again.");
      return;
    }
    lock(true);
    const words = document.querySelector("[data-kept-why]");
    words.textContent = `${why} `;
    if (signIn) {
      const link = document.createElement("a");
      link.href = signIn;
      link.textContent = "Sign in again";
      words.append(link, ", and it is sent.");
    }
    guard.outbox.show();
  }

  function lock(on) {
    locked = on;
    form().querySelector("[data-entered]").disabled = on;
    form().querySelector("[type=submit]").disabled = on;
    form().querySelector("[data-kept-note]").hidden = !on;
  }

  function renewKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    form().elements.key.value = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  document.addEventListener("click", async (event) => {
    if (!event.target.closest("[data-kept-change]")) return;
    await guard.outbox.take(form().elements.key.value);
    if (!locked) return; // the server has answered meanwhile
    lock(false);
    renewKey();
    guard.outbox.show();
  });
  const isHere = (event) => locked && form()?.elements.key.value === event.detail.key;
  document.addEventListener("outbox:saved", (event) => {
    if (form()?.dataset.item !== event.detail.item) return;
    lease.lost = true; // not ours to give back any more
    document.querySelector("[data-go-on]").requestSubmit();
  });
  document.addEventListener("outbox:refused", (event) => {
    if (!isHere(event)) return;
    lease.lost = true;
    document.getElementById("kept-refused").addEventListener("close", () => location.reload(), { once: true });
  });
  document.addEventListener("htmx:afterSettle", () => takeUp());

  // Leaving by a link of ours, or signing out: give the item back first, so that the queue shows it as free.
  function leaveThen(event, go) {
    if (!lease || lease.lost || locked) return;
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
