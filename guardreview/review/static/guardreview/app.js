// Every page: theme, toasts, the sheet of shortcuts, and the keys that links and buttons name in data-key.
"use strict";

const guard = {
  keysOn: () => localStorage.getItem("keys") !== "off",

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
    for (const list of document.querySelectorAll("[data-messages]")) {
      for (const item of list.children) guard.toast(item.textContent, item.className);
      list.remove();
    }
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

function setUpKeySheet() {
  const sheet = document.getElementById("keys");
  if (!sheet) return;
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
}

// Links and buttons with data-key are clicked by it; choices of the decision form are item.js's.
document.addEventListener("keydown", (event) => {
  if (!guard.isShortcut(event) || event.shiftKey) return;
  const target = document.querySelector(`a[data-key="${CSS.escape(event.key.toLowerCase())}"], button[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (!target || target.disabled) return;
  event.preventDefault();
  target.click();
});

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
  guard.toastMessages();
  if (event.target.id !== "main" || document.activeElement !== document.body) return;
  const first = event.target.querySelector("[data-focus-first]");
  if (first) first.focus({ preventScroll: true });
});

setUpTheme();
setUpKeySheet();
guard.toastMessages();
