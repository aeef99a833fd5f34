// Sliders over the number fields, which alone are sent. Moving one asks for the what-if, and the address keeps the state.
"use strict";

(() => {
  const form = document.querySelector("[data-thresholds]");
  if (!form) return;
  const OTHER = { allow_below: "block_at", block_at: "allow_below" };
  const at = (value) => `${(100 * value).toFixed(2)}%`;

  const bound = (dial, name) => dial.querySelector(`[data-bound="${name}"]`);
  const range = (dial, name) => dial.querySelector(`[data-range="${name}"]`);
  const inside = (field) => {
    const value = Number.parseFloat(field.value);
    return value >= 0 && value <= 1 ? value : null;
  };

  function draw(dial) {
    const [low, high] = ["allow_below", "block_at"].map((name) => inside(bound(dial, name)));
    const wrong = low === null || high === null || low > high;
    for (const name of Object.keys(OTHER)) {
      if (wrong) bound(dial, name).setAttribute("aria-invalid", "true");
      else bound(dial, name).removeAttribute("aria-invalid");
    }
    if (wrong) return;
    const zones = { allow: [0, low], judge: [low, high], block: [high, 1] };
    for (const [name, [from, to]] of Object.entries(zones)) {
      const zone = dial.querySelector(`[data-zone="${name}"]`);
      zone.setAttribute("x", at(from));
      zone.setAttribute("width", at(to - from));
    }
    const curves = document.querySelector(`[data-curves="${dial.dataset.dial}"]`);
    for (const [name, value] of [["allow_below", low], ["block_at", high]]) {
      for (const where of [dial, curves]) {
        for (const line of where?.querySelectorAll(`[data-line="${name}"]`) ?? []) {
          line.setAttribute("x1", at(value));
          line.setAttribute("x2", at(value));
        }
      }
      range(dial, name).value = value;
      range(dial, name).setAttribute("aria-valuetext", String(value));
    }
  }

  // What the curves say at the threshold that moves; without one, nothing.
  function read(dial, value) {
    const curves = document.querySelector(`[data-curves="${dial.dataset.dial}"]`);
    for (const plot of curves?.querySelectorAll("[data-plot]") ?? []) {
      const marks = plot.querySelectorAll("[data-mark]");
      const mark = marks[Math.round(value * (marks.length - 1))];
      plot.querySelector("[data-said]").textContent = mark?.getAttribute("aria-label") ?? "";
    }
  }

  // All of the policy, and nothing of the buttons.
  function query() {
    const data = new URLSearchParams(new FormData(form));
    data.delete("add");
    return data.toString();
  }

  function changed() {
    const state = query();
    history.replaceState(history.state, "", `${location.pathname}?${state}`);
    const kept = document.querySelector("[data-state]");
    if (kept) kept.value = state;
    htmx.trigger(form, "moved");
  }

  for (const dial of form.querySelectorAll("[data-dial]")) {
    for (const [name, other] of Object.entries(OTHER)) {
      const slider = range(dial, name);
      slider.hidden = false;
      slider.addEventListener("input", () => {
        bound(dial, name).value = slider.value;
        // One bound pushes the other before it.
        const theirs = inside(bound(dial, other));
        const crossed = name === "allow_below" ? theirs < slider.value : theirs > slider.value;
        if (theirs === null || crossed) bound(dial, other).value = slider.value;
        draw(dial);
        read(dial, Number(slider.value));
        changed();
      });
      bound(dial, name).addEventListener("input", () => {
        draw(dial);
        changed();
      });
    }
    draw(dial);
  }
  form.addEventListener("change", (event) => {
    if (event.target.name === "add") form.requestSubmit();
    else if (!event.target.closest("[data-dial]")) changed();
  });
  // Enter in a field shows what is there, and presses no button.
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches("input")) return;
    event.preventDefault();
    changed();
  });
})();
