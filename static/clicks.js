// The outbox and its delivery. A click waits in localStorage until it is answered. Its key makes it count once.

export const server = new URL(".", import.meta.url);

const OUTBOX = "click-counter ";
const ONCE = "click-counter-once ";
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const TIMEOUT = 10e3; // ms
const UNUSUAL = 2e3; // ms until a click is shown as waiting
const LONGEST_WAIT = 23 * 3600e3; // ms; the server remembers a key for 24 hours
const LONGEST_PAUSE = 60e3; // ms
const AT_ONCE = 6;

export function urlOf(path, names) {
  const url = new URL(path, server);
  for (const name of names) if (name) url.searchParams.append("name", name);
  return url.href;
}

export function onceItem(name) {
  return ONCE + urlOf("click", [name]);
}

// Without the key: later it would count again.
export function setCounted(name) {
  write(onceItem(name), { counted: true });
}

export function request(path, names, options) {
  return fetch(urlOf(path, names), { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT), ...options });
}

// Only the function refuses with this type: no proxy costs a click.
export function isRefusal({ status, headers }) {
  const isProblem = headers.get("Content-Type")?.startsWith("application/problem+json");
  return isProblem && status >= 400 && status < 500 && ![408, 425, 429].includes(status);
}

export function isKey(key) {
  return typeof key === "string" && UUID.test(key);
}

// A blob's address ends with a UUID also without HTTPS.
export function newKey() {
  return crypto.randomUUID?.() ?? URL.createObjectURL(new Blob()).slice(-36);
}

function attempt(use) {
  try {
    return use() ?? {};
  } catch {
    return null;
  }
}

const memory = new Map();

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

function readClick(key) {
  const { url, born, once } = read(OUTBOX + key);
  if (!isKey(key) || !String(url).startsWith(urlOf("click", []))) return null;
  const name = new URL(url).searchParams.get("name") ?? "";
  return url === urlOf("click", [name]) && name.length <= 100 ? { key, name, born, once: once === true } : null;
}

// An item for each: tabs overwrite each other's list.
class Outbox extends Map {
  #settled = new Set(); // keys whose items another script may put back

  add(click, isOwn) {
    this.set(click.key, { ...click, isOwn, since: performance.now() });
  }

  save({ key, name, born, once }) {
    write(OUTBOX + key, { url: urlOf("click", [name]), born, once });
  }

  remove({ key, once }, answer) {
    this.delete(key);
    if (answer || !once) this.#settled.add(key);
    remove(OUTBOX + key);
  }

  load() {
    const items = Object.keys(attempt(() => localStorage) ?? {}).filter((item) => item.startsWith(OUTBOX));
    const keys = new Set(items.map((item) => item.slice(OUTBOX.length)));
    for (const [key, { isOwn }] of this) if (!isOwn && !keys.has(key)) this.delete(key);
    const found = [...keys]
      .filter((key) => !this.has(key) && !this.#settled.has(key))
      .map(readClick)
      .filter(Boolean);
    for (const click of found.sort((a, b) => a.born - b.born)) {
      const isTime = typeof click.born === "number" && click.born <= Date.now();
      if (!isTime) this.save(Object.assign(click, { born: Date.now() }));
      this.add(click, false);
    }
  }
}

export class Delivery {
  #outbox = new Outbox();
  #listener;
  #sending = new Set();
  #failures = 0;
  #pausedUntil = 0;
  #forbiddenUntil = 0;
  #noRoomUntil = new Map();
  #timer;

  constructor(listener) {
    this.#listener = listener;
  }

  start() {
    addEventListener("online", () => this.#reached());
    addEventListener("storage", ({ key, newValue }) => {
      const click = this.#outbox.get(key?.slice(OUTBOX.length));
      if (click && newValue === null) click.isOwn = false;
      if (!key || key.startsWith(OUTBOX) || key.startsWith(ONCE)) this.#sendIn(100);
    });
    this.send();
  }

  add(name, key) {
    const click = { key: key || newKey(), name, born: Date.now(), once: Boolean(key) };
    this.#outbox.add(click, true);
    this.#outbox.save(click);
    this.#pausedUntil = Math.min(this.#pausedUntil, this.#forbiddenUntil);
    this.#send();
  }

  send() {
    this.#outbox.load();
    this.#send();
  }

  clicks() {
    return [...this.#outbox.values()];
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
    if (this.#outbox.size) this.#sendIn(pause > 0 ? Math.min(pause, UNUSUAL) : UNUSUAL);
    this.#listener.changed();
  }

  #sendSome() {
    for (const click of this.#outbox.values()) {
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
      const options = { method: "POST", headers, redirect: "error", keepalive: true };
      await this.#take(click, await request("click", [click.name], options), started);
    } catch {
      this.#backOff(click, 0);
    }
    this.#sending.delete(click.key);
    this.#send();
  }

  async #take(click, response, started) {
    const retryAfter = Math.max(response.headers.get("Retry-After") * 1e3 || 0, 0);
    if (!response.ok && !isRefusal(response)) return this.#backOff(click, retryAfter);
    const answer = await response.json();
    if (response.ok && !Number.isInteger(answer.value)) throw new TypeError("There is no count in the answer.");
    this.#reached();
    if (response.status === 409 && retryAfter) this.#noRoomUntil.set(click.name, performance.now() + retryAfter);
    else this.#settle(click, response.status, answer.detail, response.ok && answer, started);
  }

  #settle(click, status, reason, answer, started) {
    if (click.once && (answer || !status))
      for (const name of [click.name, answer?.name ?? click.name]) setCounted(name);
    this.#outbox.remove(click, answer);
    if (answer) this.#listener.counted(click, answer, started);
    else this.#listener.refused(click, status, reason);
  }

  #reached() {
    this.#failures = this.#pausedUntil = 0;
  }

  #backOff(click, retryAfter) {
    if (this.#outbox.delete(click.key)) this.#outbox.set(click.key, click);
    const now = performance.now();
    if (now < this.#pausedUntil) return;
    this.#failures += 1;
    const pause = Math.min(20e3, 500 * 2 ** this.#failures) * (0.75 + Math.random() / 2);
    this.#forbiddenUntil = now + Math.min(retryAfter, LONGEST_PAUSE);
    this.#pausedUntil = Math.max(now + pause, this.#forbiddenUntil);
  }
}
