// Lists of rows: keys to move in them, and a queue that stays up to date without stealing the focus.
"use strict";

(() => {
  const rows = () => [...document.querySelectorAll("[data-rows] .row-link")];

  document.addEventListener("keydown", (event) => {
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
    if (!step || event.shiftKey || event.repeat && event.key.length === 1 || !guard.keysOn()) return;
    if (event.ctrlKey || event.metaKey || event.altKey || guard.isTyping(event.target) || event.target.matches("[type=radio]")) return;
    const links = rows();
    if (!links.length || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    const at = links.indexOf(document.activeElement);
    const next = links[at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + step))];
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  });

  let etag = "";
  let focusedRow = -1;
  const live = () => document.getElementById("queue-live");

  setInterval(() => {
    const busy = document.querySelector("dialog[open]") || document.activeElement?.matches("select");
    if (live() && !document.hidden && !busy) htmx.trigger(live(), "refresh");
  }, 1000 * (live()?.dataset.pollSeconds || 10));

  document.addEventListener("visibilitychange", () => {
    if (live() && !document.hidden) htmx.trigger(live(), "refresh");
  });
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.target.id === "queue-live" && etag) event.detail.headers["If-None-Match"] = etag;
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id !== "queue") return;
    etag = event.detail.xhr.getResponseHeader("ETag") || "";
    focusedRow = rows().indexOf(document.activeElement);
  });
  // htmx keeps the focus on a row that is still there; if it is gone, its place in the list keeps it.
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target.id !== "queue" || focusedRow < 0 || document.activeElement !== document.body) return;
    const links = rows();
    links[Math.min(focusedRow, links.length - 1)]?.focus({ preventScroll: true });
  });
  document.addEventListener("guard:signed-out", () => {
    if (live()) location.assign(guard.signInAddress());
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submit-on-change]")) event.target.form.requestSubmit();
  });
})();
