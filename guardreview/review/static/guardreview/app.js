// Every page: theme, toasts, what is said of the decision before. Keys are in keys.js.
"use strict";

const guard = {
  keysOn: () => localStorage.getItem("keys") !== "off",

  // Until then keys rest: a new item has to be seen before it can be decided.
  restUntil: 0,

  // Whether somebody is writing: then keys are letters, not shortcuts.
  isTyping: (element) => element.matches("textarea, select, input:not([type=radio], [type=checkbox]), [contenteditable]"),

  isShortcut(event) {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return false;
    return guard.keysOn() && !guard.isTyping(event.target) && !document.querySelector("dialog[open]");
  },

  cookie(name) {
    const pair = document.cookie.split("; ").find((part) => part.startsWith(`${name}=`));
    return pair ? decodeURIComponent(pair.slice(name.length + 1)) : "";
  },

  toast(text, kind = "") {
    const toast = document.createElement("p");
    toast.className = `toast ${kind}`;
    toast.textContent = text;
    document.getElementById("toasts").append(toast);
    setTimeout(() => toast.remove(), kind === "error" ? 10000 : 5000);
  },

  // Messages come with the page, and are said in the one live region that outlasts it.
  toastMessages() {
    const saved = document.querySelector("#main [data-saved]");
    if (saved) guard.showSaved(saved);
    for (const list of document.querySelectorAll("[data-messages]")) {
      for (const item of list.children) guard.toast(item.textContent, item.className);
      list.remove();
    }
  },

  // What became of the decision before stays as long as it can be undone.
  showSaved(saved) {
    const place = document.getElementById("toasts");
    place.querySelector("[data-saved]")?.remove();
    place.append(saved);
    const left = saved.querySelector("[data-seconds-left]");
    const endsAt = Date.now() + 1000 * (Number(saved.dataset.seconds) || 8);
    const clock = setInterval(() => {
      const seconds = Math.ceil((endsAt - Date.now()) / 1000);
      if (left) left.textContent = Math.max(0, seconds);
      if (seconds > 0 && saved.isConnected) return;
      clearInterval(clock);
      saved.remove();
    }, 250);
  },

  signInAddress: () => `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`,
  isSignIn: (address) => new URL(address, location.href).pathname === "/sign-in",
};

function setUpTheme() {
  const root = document.documentElement;
  const button = document.querySelector("[data-theme-toggle]");
  if (!button) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
  });
}

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// A request that ends on the sign-in page means that the session is over: its page must not be put into this one.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (!guard.isSignIn(event.detail.xhr.responseURL || location.href)) return;
  event.detail.shouldSwap = false;
  document.dispatchEvent(new CustomEvent("guard:signed-out", { detail: event.detail }));
});

// The token in a form is from when the page was made; who signed in again since has another.
document.addEventListener("htmx:configRequest", (event) => {
  const { parameters, verb } = event.detail;
  if (verb !== "get") parameters.csrfmiddlewaretoken = guard.cookie("csrftoken");
});

document.addEventListener("htmx:afterSettle", (event) => {
  // The page before said it, and this one no longer does.
  if (event.target.id === "main" && !event.target.querySelector("[data-saved]")) document.querySelector("#toasts [data-saved]")?.remove();
  guard.toastMessages();
  if (event.target.id !== "main" || document.activeElement !== document.body) return;
  const first = event.target.querySelector("[data-focus-first]");
  if (first) first.focus({ preventScroll: true });
});

setUpTheme();
guard.toastMessages();
