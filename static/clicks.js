// The outbox, its delivery, and who has pressed once. A click waits in localStorage until it is answered.

export const server = new URL(".", import.meta.url);

const OUTBOX = "click-counter ";
const SINGLE = "click-counter-single ";
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const TIMEOUT = 10e3; // ms
const LATE_AFTER = 2e3; // ms
const MAX_AGE = 23 * 3600e3; // ms; the server remembers a key for 24 hours
const MAX_RETRY_AFTER = 60e3; // ms
const MAX_REQUESTS = 6;

export function urlOf(path, names) {
  const url = new URL(path, server);
  for (const name of names) if (name) url.searchParams.append("name", name);
  return url.href;
}

// Out of the back-forward cache, a fetch may never settle, whatever its signal says.
export async function request(path, names, options) {
  const controller = new AbortController();
  const load = async () => {
    const response = await fetch(urlOf(path, names), { signal: controller.signal, ...options });
    return { response, answer: await response.json().catch(() => undefined) };
  };
  let timer;
  const limit = new Promise((_, reject) => (timer = setTimeout(reject, TIMEOUT)));
  try {
    return await Promise.race([load(), limit]);
  } finally {
    clearTimeout(timer);
    controller.abort();
  }
}

// Only the function refuses with this type: no proxy costs a click.
export function isRefusal({ status, headers }) {
  const isProblem = headers.get("Content-Type")?.startsWith("application/problem+json");
  return isProblem && status >= 400 && status < 500 && ![408, 425, 429].includes(status);
}

const failures = {};

// Firefox, and Chromium before 156, remember that an address failed.
export function loadModule(file) {
  return import(file + (failures[file] ?? "")).catch((error) => {
    failures[file] = `?${performance.now()}`;
    throw error;
  });
}

function attempt(use) {
  try {
    return use() ?? {};
  } catch {
    return null;
  }
}

const memory = new Map();

function read(item) {
  return memory.get(item) ?? attempt(() => JSON.parse(localStorage.getItem(item))) ?? {};
}

function write(item, value) {
  memory.delete(item);
  if (!attempt(() => localStorage.setItem(item, JSON.stringify(value)))) memory.set(item, value);
}

function remove(item) {
  memory.delete(item);
  attempt(() => localStorage.removeItem(item));
}

function isKey(key) {
  return typeof key === "string" && UUID.test(key);
}

// A blob's address ends with one also without HTTPS.
function newKey() {
  return crypto.randomUUID?.() ?? URL.createObjectURL(new Blob()).slice(-36);
}

function singleItem(name) {
  return SINGLE + urlOf("click", [name]);
}

export function isCounted(name) {
  return read(singleItem(name)).counted === true;
}

function setCounted(name) {
  write(singleItem(name), { counted: true });
}

// Stored when the counter is shown and read again at the press: two tabs that open together send the same one.
export function singleKey(name) {
  const item = singleItem(name);
  if (!isKey(read(item).key)) write(item, { key: newKey() });
  return read(item).key;
}

function readClick(key) {
  const { url, born, single } = read(OUTBOX + key);
  if (!isKey(key) || !String(url).startsWith(urlOf("click", []))) return null;
  const name = new URL(url).searchParams.get("name") ?? "";
  return url === urlOf("click", [name]) && name.length <= 100 ? { key, name, born, single: single === true } : null;
}

// An item for each: tabs overwrite each other's list.
class Outbox extends Map {
  #settled = new Set(); // keys; another script may put them back

  add(click, isOwn) {
    this.set(click.key, { ...click, isOwn, since: performance.now() });
  }

  save({ key, name, born, single }) {
    write(OUTBOX + key, { url: urlOf("click", [name]), born, single });
  }

  remove({ key, single }, answer) {
    this.delete(key);
    if (answer || !single) this.#settled.add(key);
    remove(OUTBOX + key);
  }

  load() {
    const items = Object.keys(attempt(() => localStorage) ?? {}).filter((item) => item.startsWith(OUTBOX));
    const keys = new Set(items.map((item) => item.slice(OUTBOX.length)));
    for (const [key, { isOwn }] of [...this]) if (!isOwn && !keys.has(key)) this.delete(key);
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
  #sending = new Map(); // requests by key
  #failures = 0;
  #pausedUntil = 0;
  #retryAfterUntil = 0;
  #timer;

  constructor(listener) {
    this.#listener = listener;
  }

  start() {
    addEventListener("online", () => this.#reached());
    addEventListener("storage", ({ key, newValue }) => {
      const click = this.#outbox.get(key?.slice(OUTBOX.length));
      if (click && newValue === null) click.isOwn = false;
      if (!key || key.startsWith(OUTBOX) || key.startsWith(SINGLE)) this.#sendIn(100);
    });
    this.send();
  }

  add(name, single) {
    const click = { key: single ? singleKey(name) : newKey(), name, born: Date.now(), single };
    this.#outbox.add(click, true);
    this.#outbox.save(click);
    this.#pausedUntil = Math.min(this.#pausedUntil, this.#retryAfterUntil);
    this.#send();
  }

  send() {
    this.#outbox.load();
    this.#send();
  }

  resume() {
    this.#sending.clear();
    this.#reached();
    this.send();
  }

  clicks() {
    return [...this.#outbox.values()];
  }

  isLate({ since }) {
    return this.#failures > 0 || performance.now() - since >= LATE_AFTER;
  }

  #sendIn(pause) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.send(), pause);
  }

  #send() {
    const pause = this.#pausedUntil - performance.now();
    if (pause <= 0) this.#sendSome();
    if (this.#outbox.size) this.#sendIn(pause > 0 ? Math.min(pause, LATE_AFTER) : LATE_AFTER);
    this.#listener.changed();
  }

  #sendSome() {
    for (const click of this.clicks()) {
      if (this.#sending.size >= (this.#failures ? 1 : MAX_REQUESTS)) return;
      const age = Date.now() - click.born;
      if (this.#sending.has(click.key) || (age < LATE_AFTER && !click.isOwn)) continue;
      if (age < MAX_AGE) this.#deliver(click);
      else this.#settle(click, 0, "It was too old.");
    }
  }

  async #deliver(click) {
    const started = performance.now();
    const headers = { "Idempotency-Key": click.key, Accept: "application/json" };
    const options = { method: "POST", headers, redirect: "error", keepalive: true };
    const sent = request("click", [click.name], options);
    this.#sending.set(click.key, sent);
    const outcome = await sent.catch(() => undefined);
    if (this.#sending.get(click.key) !== sent) return;
    this.#sending.delete(click.key);
    if (outcome) this.#take(click, outcome, started);
    else this.#backOff(click, 0);
    this.#send();
  }

  #take(click, { response, answer }, started) {
    const isCounted = response.ok && Number.isInteger(answer?.value);
    if (!isCounted && !isRefusal(response))
      return this.#backOff(click, Math.max(response.headers.get("Retry-After") * 1e3 || 0, 0));
    this.#reached();
    this.#settle(click, response.status, answer?.detail, isCounted && answer, started);
  }

  #settle(click, status, reason, answer, started) {
    if (click.single && (answer || !status))
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
    this.#retryAfterUntil = now + Math.min(retryAfter, MAX_RETRY_AFTER);
    this.#pausedUntil = Math.max(now + pause, this.#retryAfterUntil);
  }
}
