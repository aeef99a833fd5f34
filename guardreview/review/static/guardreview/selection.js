// The dangerous words: selected in the answer, shown there and as chips, sent as offsets.
// The server counts characters (code points) of the response as it is stored. Each piece of it on the page says in data-start
// where it begins; one that stands for other characters (hidden ones, personal data) says in data-end where they end.
"use strict";

guard.spans = (() => {
  const MOST = 20;
  const answer = () => document.querySelector("[data-response]");
  const field = () => document.querySelector("#decision [name=spans]");
  const pieces = () => [...(answer()?.querySelectorAll("[data-start]") ?? [])];
  const isExact = (piece) => piece.dataset.end === undefined;
  const characters = (text) => [...text].length;
  let latest = null; // a button that is touched takes the selection away

  function read() {
    try {
      return JSON.parse(field()?.value || "[]");
    } catch {
      return [];
    }
  }

  function write(spans) {
    field().value = JSON.stringify(spans);
    draw();
  }

  // --- From the page to offsets -----------------------------------------------------------------------------------------
  function offsetIn(piece, container, offset) {
    const before = document.createRange();
    before.setStart(piece, 0);
    before.setEnd(container, offset);
    return characters(before.toString());
  }

  // The span that a range of the page covers, without white space at its ends; null if it is empty.
  function spanOf(range) {
    let span = null;
    for (const piece of pieces()) {
      if (!range.intersectsNode(piece)) continue;
      const first = Number(piece.dataset.start);
      let [start, end] = [first, isExact(piece) ? first + characters(piece.textContent) : Number(piece.dataset.end)];
      if (isExact(piece)) {
        const text = [...piece.textContent];
        if (piece.contains(range.endContainer)) end = first + offsetIn(piece, range.endContainer, range.endOffset);
        if (piece.contains(range.startContainer)) start = first + offsetIn(piece, range.startContainer, range.startOffset);
        while (start < end && !text[start - first].trim()) start += 1;
        while (start < end && !text[end - first - 1].trim()) end -= 1;
      } else if (touchesOnly(range, piece)) continue;
      if (start < end) span = span ? { start: span.start, end } : { start, end };
    }
    return span;
  }

  // Whether a range only borders on a piece.
  function touchesOnly(range, piece) {
    const whole = document.createRange();
    whole.selectNodeContents(piece);
    return range.compareBoundaryPoints(Range.START_TO_END, whole) <= 0 || range.compareBoundaryPoints(Range.END_TO_START, whole) >= 0;
  }

  // --- From offsets to the page -----------------------------------------------------------------------------------------
  function boundary(piece, count) {
    const walker = document.createTreeWalker(piece, NodeFilter.SHOW_TEXT);
    let left = count;
    let node = walker.nextNode();
    for (let next = node; next; next = walker.nextNode()) {
      node = next;
      const length = characters(node.data);
      if (left <= length) break;
      left -= length;
    }
    return [node, [...node.data].slice(0, left).join("").length];
  }

  function rangeOf({ start, end }) {
    const range = document.createRange();
    let begun = false;
    for (const piece of pieces()) {
      const first = Number(piece.dataset.start);
      const last = isExact(piece) ? first + characters(piece.textContent) : Number(piece.dataset.end);
      if (last <= start || first >= end || !piece.textContent) continue;
      const exact = isExact(piece);
      if (!begun) range.setStart(...boundary(piece, exact ? Math.max(start, first) - first : 0));
      begun = true;
      range.setEnd(...boundary(piece, exact ? Math.min(end, last) - first : characters(piece.textContent)));
    }
    return begun ? range : null;
  }

  // --- Drawing ------------------------------------------------------------------------------------------------------------
  function chip(span, text) {
    const item = document.createElement("li");
    item.className = "span-chip";
    const words = document.createElement("q");
    const short = text.replace(/\s+/g, " ");
    words.textContent = short.length > 60 ? `${short.slice(0, 58)}…` : short;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "×";
    button.ariaLabel = `Unmark ${words.textContent}`;
    button.dataset.unmark = span.start;
    item.append(words, button);
    return item;
  }

  function draw() {
    const list = document.querySelector("[data-spans]");
    const spans = read();
    const ranges = spans.map(rangeOf);
    if (list) {
      document.querySelector("[data-spans-part]").hidden = !pieces().length;
      list.replaceChildren(...spans.map((span, at) => chip(span, ranges[at]?.toString() ?? `${span.start} to ${span.end}`)));
      document.querySelector("[data-spans-none]").hidden = spans.length > 0;
    }
    if (!CSS.highlights) return;
    const shown = list && field().form.elements.truth.value === "unsafe";
    if (shown && spans.length) CSS.highlights.set("dangerous", new Highlight(...ranges.filter(Boolean)));
    else CSS.highlights.delete("dangerous");
  }

  // --- Marking ------------------------------------------------------------------------------------------------------------
  function selected() {
    const selection = getSelection();
    if (!selection.rangeCount || selection.isCollapsed) return null;
    const range = selection.getRangeAt(0);
    return answer() && range.intersectsNode(answer()) ? range.cloneRange() : null;
  }

  // Add what is selected; whether anything was.
  function mark() {
    const range = selected() ?? latest;
    const span = range && range.startContainer.isConnected ? spanOf(range) : null;
    latest = null;
    if (!span) return false;
    const touching = (other) => other.start <= span.end && span.start <= other.end;
    const all = read();
    const joined = all.filter(touching).reduce((a, b) => ({ start: Math.min(a.start, b.start), end: Math.max(a.end, b.end) }), span);
    const spans = [...all.filter((other) => !touching(other)), joined].sort((a, b) => a.start - b.start);
    if (spans.length > MOST) {
      guard.toast(`No more than ${MOST} places can be marked.`);
      return true;
    }
    getSelection().removeAllRanges();
    write(spans);
    return true;
  }

  document.addEventListener("selectionchange", () => { latest = selected() ?? latest; });
  document.addEventListener("pointerup", (event) => {
    // What was selected is known only after the event.
    if (event.pointerType === "mouse") setTimeout(() => field()?.form.elements.truth.value === "unsafe" && !document.querySelector("[data-entered]").disabled && selected() && mark());
  });
  document.addEventListener("pointerdown", (event) => {
    if (event.target.closest("[data-mark-selection]")) event.preventDefault();
    else if (event.target.closest("[data-response]")) latest = null;
  });
  document.addEventListener("click", (event) => {
    const unmark = event.target.closest("[data-unmark]");
    if (unmark) {
      write(read().filter((span) => span.start !== Number(unmark.dataset.unmark)));
      document.querySelector("[data-mark-selection]").focus();
    } else if (event.target.closest("[data-mark-selection]")) {
      document.dispatchEvent(new CustomEvent("spans:mark"));
    }
  });
  document.addEventListener("change", (event) => event.target.name === "truth" && draw());
  // When the answer was revealed or masked meanwhile, its words are quoted as they stand now.
  document.addEventListener("htmx:afterSettle", (event) => event.target.id === "reading" && field() && draw());
  return { draw, mark };
})();
