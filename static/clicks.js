// The outbox and its delivery. Knows no element.
//
// A click is a POST with a key of its own, which counts once however often it is sent. It waits in localStorage until
// the server has answered it, so neither a lost network nor a closed page loses it.

export const server = new URL(".", import.meta.url);

const OUTBOX = "click-counter "; // and the key
const ONCE = "click-counter-once "; // and the address
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const TIMEOUT = 10e3; // ms; the server answers within 8 s
const UNUSUAL = 2e3; // ms after which an unanswered click is shown as waiting
const LONGEST_WAIT = 23 * 3600e3; // ms; the server remembers a key for 24 hours
const LONGEST_PAUSE = 60e3; // ms, whatever a Retry-After says
const AT_ONCE = 4; // requests

export function urlOf(path, names) {
  const url = new URL(path, server);
  for (const name of names) if (name) url.searchParams.append("name", name);
  return url.href;
}

export function onceItem(name) {
  return ONCE + urlOf("click", [name]);
}

export function request(path, names, options) {
  return fetch(urlOf(path, names), { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT), ...options });
}

// Only the function itself refuses with this type; a proxy or a hotel's log-in page must not cost a click.
export function isRefusal({ status, headers }) {
  const isProblem = headers.get("Content-Type")?.startsWith("application/problem+json");
  return isProblem && status >= 400 && status < 500 && ![408, 425, 429].includes(status);
}

export function isKey(key) {
  return typeof key === "string" && UUID.test(key);
}

// crypto.randomUUID is there only on HTTPS and localhost.
export function newKey() {
  const bits = () => crypto.getRandomValues(new Uint8Array(1))[0];
  return "00000000-0000-4000-8000-000000000000".replace(/[08]/g, (digit) => ((bits() & (15 >> (digit / 4))) | digit).toString(16));
}

function attempt(use) {
  try {
    return use() ?? {};
  } catch {
    return null;
  }
}

const memory = new Map(); // what storage does not take: it may be full or forbidden

// Other scripts write there, too.
export function read(item) {
  return memory.get(item) ?? attempt(() => JSON.parse(localStorage.getItem(item))) ?? {};
}

export function write(item, value) {
  memory.delete(item);
  if (!attempt(() => localStorage.setItem(item, JSON.stringify(value)))) memory.set(item, value);
}

function remove(item) {
  memory.delete(item);
  attempt(() => localStorage.removeItem(item));
}

// The click of a stored item; null where it is another server's, or none.
function readClick(key) {
  const { url, born, once } = read(OUTBOX + key);
  if (!isKey(key) || !String(url).startsWith(urlOf("click", []))) return null;
  const name = new URL(url).searchParams.get("name") ?? "";
  return url === urlOf("click", [name]) && name.length <= 100 ? { key, name, born, once: once === true } : null;
}

// The clicks that wait, by key. An item for each, because two tabs that write one list overwrite each other's clicks.
class Outbox extends Map {
  add(click, isOwn) {
    this.set(click.key, { ...click, isOwn, since: performance.now() });
  }

  save({ key, name, born, once }) {
    write(OUTBOX + key, { url: urlOf("click", [name]), born, once });
  }

  remove(key) {
    this.delete(key);
    remove(OUTBOX + key);
  }

  // What other pages of this site have left. This page's own clicks stay, also if the site clears its storage.
  load() {
    const items = Object.keys(attempt(() => localStorage) ?? {}).filter((item) => item.startsWith(OUTBOX));
    const keys = new Set(items.map((item) => item.slice(OUTBOX.length)));
    for (const [key, { isOwn }] of this) if (!isOwn && !keys.has(key)) this.delete(key);
    const found = [...keys].filter((key) => !this.has(key)).map(readClick).filter(Boolean);
    for (const click of found.sort((a, b) => a.born - b.born)) {
      const isTime = typeof click.born === "number" && click.born <= Date.now();
      if (!isTime) this.save(Object.assign(click, { born: Date.now() })); // a clock was set back: from now on it gets old
      this.add(click, false);
    }
  }
}

// Sends each click until it is answered, and tells `listener`: `counted(click, answer, started)`, `refused(click, status,
// reason)`, and `changed()` when it may be that others wait than before.
export class Delivery {
  outbox = new Outbox();
  #listener;
  #sending = new Set(); // keys
  #failures = 0; // in a row
  #pausedUntil = 0; // performance.now(), which no clock that is set moves
  #forbiddenUntil = 0; // by the server
  #noRoomUntil = new Map(); // by name
  #timer;

  constructor(listener) {
    this.#listener = listener;
  }

  start() {
    addEventListener("online", () => this.#reached());
    addEventListener("storage", ({ key, newValue }) => {
      const click = this.outbox.get(key?.slice(OUTBOX.length));
      if (click && newValue === null) click.isOwn = false; // another tab has settled it
      if (!key || key.startsWith(OUTBOX) || key.startsWith(ONCE)) this.#sendIn(100);
    });
    this.send();
  }

  add(name, key) {
    const click = { key: key ?? newKey(), name, born: Date.now(), once: Boolean(key) };
    this.outbox.add(click, true);
    this.outbox.save(click);
    this.#pausedUntil = Math.min(this.#pausedUntil, this.#forbiddenUntil);
    this.#send();
  }

  // Also what another tab has left.
  send() {
    this.outbox.load();
    this.#send();
  }

  isLate({ name, since }) {
    return this.#failures > 0 || performance.now() - since >= UNUSUAL || this.lacksRoom(name);
  }

  lacksRoom(name) {
    return this.#noRoomUntil.get(name) > performance.now();
  }

  #sendIn(pause) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.send(), pause);
  }

  #send() {
    const pause = this.#pausedUntil - performance.now();
    if (pause <= 0) this.#sendSome();
    if (this.outbox.size) this.#sendIn(pause > 0 ? Math.min(pause, UNUSUAL) : UNUSUAL);
    this.#listener.changed();
  }

  // While nothing gets through, one request at a time tries. What is new in another tab that one sends.
  #sendSome() {
    for (const click of this.outbox.values()) {
      if (this.#sending.size >= (this.#failures ? 1 : AT_ONCE)) return;
      const age = Date.now() - click.born;
      if (this.#sending.has(click.key) || this.lacksRoom(click.name) || (age < UNUSUAL && !click.isOwn)) continue;
      if (age < LONGEST_WAIT) this.#deliver(click);
      else this.#settle(click, 0, "It was too old.");
    }
  }

  async #deliver(click) {
    const started = performance.now();
    this.#sending.add(click.key);
    try {
      const headers = { "Idempotency-Key": click.key, Accept: "application/json" };
      const options = { method: "POST", headers, redirect: "error", keepalive: true }; // also if the page is closed now
      await this.#take(click, await request("click", [click.name], options), started);
    } catch {
      this.#backOff(click, 0);
    }
    this.#sending.delete(click.key);
    this.#send();
  }

  async #take(click, response, started) {
    const retryAfter = response.headers.get("Retry-After") * 1e3 || 0;
    if (!response.ok && !isRefusal(response)) return this.#backOff(click, retryAfter);
    const answer = await response.json();
    if (response.ok && !Number.isInteger(answer.value)) throw new TypeError("There is no count in the answer.");
    this.#reached();
    if (response.status === 409 && retryAfter) this.#noRoomUntil.set(click.name, performance.now() + retryAfter);
    else this.#settle(click, response.status, answer.detail, response.ok && answer, started);
  }

  // One that is too old may have been counted, and the answer lost: a visitor who counts once stays counted. The key goes,
  // for after 24 hours it would count again.
  #settle(click, status, reason, answer, started) {
    const names = answer ? [click.name, answer.name] : status ? [] : [click.name];
    if (click.once) for (const name of names) write(onceItem(name), { counted: true });
    this.outbox.remove(click.key);
    if (answer) this.#listener.counted(click, answer, started);
    else this.#listener.refused(click, status, reason);
  }

  #reached() {
    this.#failures = this.#pausedUntil = 0;
  }

  #backOff(click, retryAfter) {
    if (this.outbox.delete(click.key)) this.outbox.set(click.key, click); // one that always fails holds up no others
    const now = performance.now();
    if (now < this.#pausedUntil) return; // several were under way: that is one failure
    this.#failures += 1;
    const pause = Math.min(20e3, 500 * 2 ** this.#failures) * (0.75 + Math.random() / 2);
    this.#forbiddenUntil = now + Math.min(retryAfter, LONGEST_PAUSE);
    this.#pausedUntil = Math.max(now + pause, this.#forbiddenUntil);
  }
}
