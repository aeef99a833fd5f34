// Decisions that could not be sent: kept in this browser for their author, three days at most, and sent until the server has them.
// What was entered is sealed, since a note may repeat a patient's words and many share a pharmacy's computer: the server gives the
// key to its owner's session alone, and it stays in this page's memory. In clear are whose an entry is, since when, and the random
// number that makes it count once.
"use strict";

guard.outbox = (() => {
  const KEEP_MS = 3 * 24 * 3600 * 1000;
  const EVERY_MS = 10000;
  const SOON_MS = 1500; // many a failure is over at once
  const GIVE_UP_MS = 15000;
  const banner = document.getElementById("outbox"); // missing where nobody is signed in
  const { user, keyUrl } = banner?.dataset ?? {}; // no address of a key for whoever may not decide

  let opened;
  const database = () => (opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("guardreview.kept", 1);
    request.onupgradeneeded = () => {
      indexedDB.deleteDatabase("guardreview"); // of a version that sealed nothing
      request.result.createObjectStore("kept", { keyPath: "key" });
    };
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

  // One's own, oldest first. Of whoever else's are too old, only that they were is left, until their author has been told.
  async function mine() {
    const all = await store("readonly", (kept) => kept.getAll());
    const isOld = (entry) => Date.now() - entry.at > KEEP_MS;
    for (const { key, user: author, at, sealed: words } of all.filter(isOld)) {
      if (author !== user) await (words && store("readwrite", (kept) => kept.put({ key, user: author, at })));
      else await drop(key, "A decision was kept for three days, could not be sent, and is dropped. Please decide that item again.");
    }
    return all.filter((entry) => entry.user === user && !isOld(entry)).sort((a, b) => a.at - b.at);
  }

  async function drop(key, words) {
    await remove(key);
    guard.toast(words, "error");
  }

  // --- Sealing --------------------------------------------------------------------------------------------------------------
  let secret = null; // fetched as soon as a page is there, so that it can seal without a connection
  const bytes = (text) => new TextEncoder().encode(text);
  const cipher = ({ key, user: author, at, iv }) => ({ name: "AES-GCM", iv, additionalData: bytes(JSON.stringify([key, author, at])) });

  async function unlocked() {
    if (secret) return secret;
    const response = await fetch(keyUrl, { signal: AbortSignal.timeout(GIVE_UP_MS) });
    if (response.status >= 500) throw new Error("no key");
    const said = response.ok && !response.redirected ? await response.json() : {};
    signedOut = said.user !== user;
    if (signedOut) throw new Error("no key");
    const raw = Uint8Array.from(atob(said.key), (character) => character.charCodeAt(0));
    secret = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, ["encrypt", "decrypt"]);
    return secret;
  }

  async function sealed(head, entered) {
    const entry = { ...head, iv: crypto.getRandomValues(new Uint8Array(12)) };
    entry.sealed = await crypto.subtle.encrypt(cipher(entry), await unlocked(), bytes(JSON.stringify(entered)));
    return entry;
  }

  // Null of what the key does not fit: the server's own secret is another than it was.
  async function unsealed(entry, key) {
    const opened = await crypto.subtle.decrypt(cipher(entry), key, entry.sealed).catch(() => null);
    return opened && JSON.parse(new TextDecoder().decode(opened));
  }

  async function keep(form) {
    const data = new FormData(form);
    data.delete("csrfmiddlewaretoken");
    const { item, keptUrl: url } = form.dataset;
    const entry = await sealed({ key: data.get("key"), user, at: Date.now() }, { item, url, fields: [...data] });
    await store("readwrite", (kept) => kept.put(entry));
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
    if (!keyUrl) return;
    const key = await unlocked();
    for (const entry of await mine()) if (!(await send(entry, await unsealed(entry, key)))) return;
  }

  // Whether to go on with the next one.
  async function send(entry, kept) {
    if (!kept) {
      await drop(entry.key, "A kept decision cannot be read any more, and is dropped. Please decide that item again.");
      return true;
    }
    const body = new URLSearchParams([...kept.fields, ["user", entry.user], ["csrfmiddlewaretoken", guard.cookie("csrftoken")]]);
    let response;
    try {
      response = await fetch(kept.url, { method: "POST", body, signal: AbortSignal.timeout(GIVE_UP_MS) });
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
    const answer = { name: response.ok ? "outbox:saved" : "outbox:refused", key: entry.key, item: kept.item };
    answered(answer);
    tabs.postMessage(answer);
    return true;
  }

  // The tab with the form may be another one than the tab that sent it.
  const tabs = new BroadcastChannel("guardreview.kept");
  tabs.onmessage = ({ data }) => {
    if (data.name === "outbox:locked") secret = null;
    else answered(data);
    show();
  };
  function answered({ name, key, item }) {
    const isHere = document.getElementById("decision")?.dataset.item === item; // then the next page says it
    if (name === "outbox:saved" && !isHere) guard.toast("Saved: the decision that was kept in this browser.", "success");
    document.dispatchEvent(new CustomEvent(name, { detail: { key, item } }));
  }

  // Both decisions, as the server shows them.
  function refused({ page }) {
    const dialog = document.getElementById("kept-refused");
    const part = document.createElement("section");
    if (page) {
      part.innerHTML = page; // our own server's, with every word in it escaped
      htmx.process(part); // what the other said comes once it can no longer be undone
    } else part.textContent = "The server knows this item no longer.";
    dialog.querySelector("[data-refused]").replaceChildren(part);
    if (!dialog.open) dialog.showModal();
  }

  // --- Saying so ------------------------------------------------------------------------------------------------------------
  async function show() {
    if (!banner) return;
    const count = await mine().then((entries) => entries.length, () => 0);
    const leaving = [...banner.querySelectorAll("[data-outbox-leave], [data-outbox-drop]")];
    if (count && leaving.some((button) => !button.hidden)) return; // it is asked whether to sign out all the same
    for (const button of leaving) button.hidden = true;
    const said = document.querySelector("[data-kept-note]:not([hidden])");
    banner.hidden = Boolean(said && count < 2) || !(count || offline);
    banner.querySelector("[data-outbox-retry]").hidden = !count;
    const words = count ? `${told(count)} ${why()}` : "No connection. What you submit is kept in this browser until it can be saved.";
    const place = banner.querySelector("[data-outbox-words]");
    if (place.textContent !== words) place.textContent = words;
  }
  const told = (count) => `${count === 1 ? "1 decision is" : `${count} decisions are`} kept in this browser, not saved yet.`;
  const why = () => (signedOut ? "Sign in again, and it is sent." : offline ? "It is sent once you are connected." : "It is sent again by itself.");

  async function signOut(form) {
    if ((await mine()).length) await flush();
    const count = (await mine()).length;
    if (count) {
      await show();
      form.closest("details").open = false; // it would cover what is asked
      banner.hidden = false;
      const [go, forget] = ["leave", "drop"].map((name) => banner.querySelector(`[data-outbox-${name}]`));
      go.hidden = forget.hidden = false;
      go.onclick = () => leave(form);
      forget.onclick = async () => {
        for (const entry of await mine().catch(() => [])) await remove(entry.key);
        leave(form);
      };
      banner.querySelector("[data-outbox-words]").textContent = `${told(count)} Sealed until you sign in here again.`;
      go.focus();
    } else leave(form);
  }

  function leave(form) {
    secret = null;
    tabs.postMessage({ name: "outbox:locked" });
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
