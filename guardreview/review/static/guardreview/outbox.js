// Decisions that could not be sent: kept in this browser for their author, twelve hours at most, and sent until the server has
// them. An entry holds what the pharmacist entered and no word of the patient's or the answer's. Its key makes it count once.
"use strict";

guard.outbox = (() => {
  const KEEP_MS = 12 * 3600 * 1000;
  const EVERY_MS = 10000;
  const SOON_MS = 1500; // many a failure is over at once
  const GIVE_UP_MS = 15000;
  const banner = document.getElementById("outbox"); // missing where nobody is signed in
  const user = banner?.dataset.user;

  let opened;
  const database = () => (opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("guardreview", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("kept", { keyPath: "key" });
    request.onsuccess = () => {
      request.result.onclose = () => { opened = undefined; }; // browsers close it now and then
      resolve(request.result);
    };
    request.onerror = () => {
      opened = undefined;
      reject(request.error);
    };
  }));

  async function store(mode, act) {
    const transaction = (await database()).transaction("kept", mode);
    const request = act(transaction.objectStore("kept"));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }
  const remove = (key) => store("readwrite", (kept) => kept.delete(key));

  // One's own, oldest first; whoever else's are too old are forgotten.
  async function mine() {
    const all = await store("readonly", (kept) => kept.getAll());
    for (const entry of all) {
      if (Date.now() - entry.at <= KEEP_MS) continue;
      await remove(entry.key);
      if (entry.user === user) guard.toast("A decision was kept for twelve hours, could not be sent, and is dropped. Please decide that item again.", "error");
    }
    return all.filter((entry) => entry.user === user && Date.now() - entry.at <= KEEP_MS).sort((a, b) => a.at - b.at);
  }

  async function keep(form) {
    const data = new FormData(form);
    data.delete("csrfmiddlewaretoken");
    const { item, keptUrl: url } = form.dataset;
    await store("readwrite", (kept) => kept.put({ key: data.get("key"), user, item, url, at: Date.now(), fields: [...data] }));
    await show();
    setTimeout(flush, SOON_MS);
  }

  // Take one back, to change it; false if it is not here any more: then the server has answered.
  async function take(key) {
    await sending;
    const there = (await mine()).some((entry) => entry.key === key);
    if (there) await remove(key);
    await show();
    return there;
  }

  // --- Sending --------------------------------------------------------------------------------------------------------------
  let sending = null;
  let offline = !navigator.onLine;
  let signedOut = false;

  // One tab at a time, where the browser can say so; it counts once in any case.
  const alone = (act) => (navigator.locks ? navigator.locks.request("guardreview.kept", act) : act());
  const flush = () => (sending ??= alone(sendAll).catch(() => {}).finally(() => { sending = null; show(); }));

  async function sendAll() {
    for (const entry of await mine()) if (!(await send(entry))) return;
  }

  // Whether to go on with the next one.
  async function send(entry) {
    const body = new URLSearchParams([...entry.fields, ["user", entry.user], ["csrfmiddlewaretoken", guard.cookie("csrftoken")]]);
    let response;
    try {
      response = await fetch(entry.url, { method: "POST", body, signal: AbortSignal.timeout(GIVE_UP_MS) });
    } catch {
      offline = !navigator.onLine;
      return false;
    }
    offline = false;
    signedOut = response.redirected || [401, 403].includes(response.status);
    if (signedOut || response.status === 429) return false;
    if (response.status >= 500) return true; // it comes again, and the next one need not wait for it
    // What stands in between may answer in the server's place: only the server's own words count.
    const said = await response.json().catch(() => null);
    if (response.ok ? said?.saved !== true : response.status !== 404 && typeof said?.page !== "string") return false;
    await remove(entry.key);
    if (!response.ok) refused(response.status === 404 ? { page: "" } : said);
    const { key, item } = entry;
    answered({ name: response.ok ? "outbox:saved" : "outbox:refused", key, item });
    tabs.postMessage({ name: response.ok ? "outbox:saved" : "outbox:refused", key, item });
    return true;
  }

  // The tab with the form may be another one than the tab that sent it.
  const tabs = new BroadcastChannel("guardreview.kept");
  tabs.onmessage = ({ data }) => { answered(data); show(); };
  function answered({ name, key, item }) {
    const isHere = document.getElementById("decision")?.dataset.item === item; // then the next page says it
    if (name === "outbox:saved" && !isHere) guard.toast("Saved: the decision that was kept in this browser.", "success");
    document.dispatchEvent(new CustomEvent(name, { detail: { key, item } }));
  }

  // Both decisions, as the server shows them.
  function refused({ page }) {
    const dialog = document.getElementById("kept-refused");
    const part = document.createElement("section");
    if (page) part.innerHTML = page; // our own server's, with every word in it escaped
    else part.textContent = "The server knows this item no longer.";
    dialog.querySelector("[data-refused]").replaceChildren(part);
    if (!dialog.open) dialog.showModal();
  }

  // --- Saying so ------------------------------------------------------------------------------------------------------------
  async function show() {
    if (!banner) return;
    const count = await mine().then((entries) => entries.length, () => 0);
    const said = document.querySelector("[data-kept-note]:not([hidden])");
    banner.hidden = Boolean(said && count < 2) || !(count || offline);
    banner.querySelector("[data-outbox-retry]").hidden = !count;
    if (!count) banner.querySelector("[data-outbox-drop]").hidden = true;
    const kept = `${count === 1 ? "1 decision is" : `${count} decisions are`} kept in this browser, not saved yet.`;
    const words = count ? `${kept} ${why()}` : "No connection. What you submit is kept in this browser until it can be saved.";
    const place = banner.querySelector("[data-outbox-words]");
    if (place.textContent !== words) place.textContent = words;
  }
  const why = () => (signedOut ? "Sign in again, and it is sent." : offline ? "It is sent once you are connected." : "It is sent again by itself.");

  async function signOut(form) {
    if ((await mine()).length) await flush();
    if ((await mine()).length) {
      await show();
      banner.hidden = false;
      const drop = banner.querySelector("[data-outbox-drop]");
      drop.hidden = false;
      drop.onclick = () => leave(form);
      drop.focus();
    } else leave(form);
  }

  async function leave(form) {
    try {
      for (const entry of await mine()) await remove(entry.key);
    } catch { /* without a store there is nothing to forget, and signing out must always work */ }
    form.dataset.cleared = "yes";
    form.requestSubmit();
  }

  if (banner) {
    banner.querySelector("[data-outbox-retry]").addEventListener("click", flush);
    addEventListener("online", () => { offline = false; flush(); });
    addEventListener("offline", () => { offline = true; show(); });
    document.addEventListener("visibilitychange", () => !document.hidden && flush());
    document.addEventListener("submit", (event) => {
      if (!event.target.matches("[data-sign-out]") || event.target.dataset.cleared) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      signOut(event.target).catch(() => leave(event.target));
    }, { capture: true });
    setInterval(flush, EVERY_MS);
    flush();
  } else mine().catch(() => {}); // forget what is too old
  return { keep, take, flush, show };
})();
