// Lists of rows: keys to move in them, and a queue that stays up to date without stealing the focus.
"use strict";

(() => {
  const rows = () => [...document.querySelectorAll("[data-rows] .row-link")];

  document.addEventListener("keydown", (event) => {
    const key = event.key.length === 1 ? guard.pressed(event) : event.key;
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[key];
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

  // --- Staying up to date ---------------------------------------------------------------------------------------------------
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
    const { etag } = event.target.dataset;
    if (event.target.id === "queue-live" && etag) event.detail.headers["If-None-Match"] = etag;
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id !== "queue" || !event.detail.shouldSwap) return;
    live().dataset.etag = event.detail.xhr.getResponseHeader("ETag") || "";
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

  // --- Times ----------------------------------------------------------------------------------------------------------------
  // They go on by themselves, so that the list is sent anew only when something happened. By the server's clock, not this one's.
  let behind = 0;
  const setClock = () => {
    const queue = document.getElementById("queue");
    if (queue) behind = Date.parse(queue.dataset.now) - Date.now();
  };
  const pad = (number) => String(number).padStart(2, "0");

  function duration(milliseconds) {
    const seconds = Math.max(0, Math.floor(milliseconds / 1000));
    const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
    if (seconds < 60) return `${seconds} s`;
    if (minutes < 60) return `${minutes} min`;
    return hours < 24 ? `${hours} h ${pad(minutes % 60)} min` : `${days} d ${hours % 24} h`;
  }

  function tick() {
    const now = Date.now() + behind;
    for (const time of document.querySelectorAll("#queue time")) {
      const moment = Date.parse(time.dateTime);
      const late = now > moment;
      if ("since" in time.dataset) time.textContent = duration(now - moment);
      else time.textContent = late ? `Overdue by ${duration(now - moment)}` : `Due in ${duration(moment - now)}`;
    }
  }
  document.addEventListener("htmx:afterSettle", setClock);
  setClock();
  setInterval(tick, 5000);

  // --- Filters --------------------------------------------------------------------------------------------------------------
  // What does not filter has no place in the address.
  document.addEventListener("formdata", (event) => {
    if (!event.target.matches("[data-tidy]")) return;
    for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
  });
  // An open menu has its first field focused; on a phone that would bring up the keyboard unasked.
  document.addEventListener("toggle", (event) => {
    if (event.target.matches?.("#filter-menu[open]") && matchMedia("(hover: hover)").matches) document.getElementById("filter-text").focus();
  }, { capture: true });
})();
