// Plots say the value that is pointed at, tapped or reached by the arrow keys. Without this script they have titles and tables.
"use strict";

(() => {
  const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

  function setUp(plot) {
    const marks = [...plot.querySelectorAll("[data-mark]")];
    const said = plot.querySelector("[data-said]");
    if (!marks.length || plot.dataset.plot) return;
    plot.dataset.plot = "ready";

    const show = (mark) => {
      for (const other of marks) other.classList.toggle("shown", other === mark);
      said.textContent = mark ? mark.getAttribute("aria-label") : "";
    };
    // One mark of a plot is in the order of Tab, the arrows go to the others.
    const reach = (mark) => {
      for (const other of marks) other.setAttribute("tabindex", other === mark ? "0" : "-1");
    };
    const focused = () => marks.find((mark) => mark === document.activeElement);

    reach(marks.at(-1));
    for (const mark of marks) {
      mark.querySelector("title")?.remove(); // it would cover what is said below
      mark.addEventListener("pointerenter", () => show(mark));
      mark.addEventListener("pointerdown", () => show(mark));
      mark.addEventListener("focus", () => {
        reach(mark);
        show(mark);
      });
      mark.addEventListener("blur", () => show(null));
    }
    // A finger that slides over the plot reads it; the page still scrolls up and down.
    plot.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse") return;
      const under = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-mark]");
      if (under && plot.contains(under)) show(under);
    });
    plot.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") show(focused() || null);
    });
    plot.addEventListener("keydown", (event) => {
      const at = marks.indexOf(focused());
      if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
      const to = { Home: 0, End: marks.length - 1 }[event.key] ?? (STEPS[event.key] ? at + STEPS[event.key] : -1);
      if (event.key === "Escape") show(null);
      if (!(to in marks)) return;
      event.preventDefault();
      marks[to].focus();
    });
  }

  for (const plot of document.querySelectorAll("[data-plot]")) setUp(plot);
  // Panels that come later have theirs.
  document.addEventListener("htmx:load", (event) => {
    for (const plot of event.detail.elt.querySelectorAll("[data-plot]")) setUp(plot);
  });

  // A panel that does not come says so, and can be asked for again.
  const say = (panel, words, busy) => {
    const said = panel.querySelector("[data-awaited-words]");
    said.textContent = words;
    said.classList.toggle("visually-hidden", busy);
    panel.querySelector("[data-again]").hidden = busy;
    panel.setAttribute("aria-busy", String(busy));
  };
  const awaited = (event) => event.target.closest?.("[data-awaited]");
  for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, (event) => {
      if (awaited(event)) say(awaited(event), "This figure did not come.", false);
    });
  }
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-again]")) return;
    say(awaited(event), "Being counted.", true);
    htmx.trigger(awaited(event), "again");
  });
})();
