// The page's script. A click is a POST with a key of its own, which counts once however often it is sent. It waits in
// localStorage until the server has answered it, so neither a lost network nor a closed page loses it.

const clickUrl = new URL("click", document.baseURI).href;
const countUrl = new URL("count", document.baseURI).href;
const output = document.querySelector("#count");
const note = document.querySelector("#note");

const LONGEST_WAIT = 23 * 3600e3; // ms; the server remembers a key for 24 hours
const UNUSUAL = 2e3; // ms after which an unanswered click is shown as waiting
const TIMEOUT = 10e3; // ms; the server answers within 8 s
const AT_ONCE = 4; // requests
const LONGEST_PAUSE = 60; // seconds, whatever a Retry-After says

// --- The outbox: an item for each click, because two tabs that write one list overwrite each other's clicks ---------

const PREFIX = "click-counter ";
const unsaved = new Map(); // where storage is full or forbidden

function keep(key, click) {
  try {
    localStorage.setItem(PREFIX + key, JSON.stringify(click));
  } catch {
    unsaved.set(key, click);
  }
}

function drop(key) {
  unsaved.delete(key);
  try {
    localStorage.removeItem(PREFIX + key);
  } catch {} // forbidden: then it is not there either
}

function outbox() {
  const clicks = [...unsaved].map(([key, click]) => ({ key, ...click }));
  try {
    for (const [item, text] of Object.entries(localStorage)) {
      const click = item.startsWith(PREFIX) && parsed(text);
      if (click && click.url === clickUrl) clicks.push({ key: item.slice(PREFIX.length), ...click });
    }
  } catch {}
  return clicks.sort((a, b) => a.born - b.born);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// --- Sending ----------------------------------------------------------------------------------------------------

const sending = new Set();
let failures = 0; // in a row
let pausedUntil = 0; // performance.now(), which no clock that is set moves
let serverSaidWhen = false; // whether pausedUntil comes from Retry-After
let timer;
let refused = 0; // clicks that will never be counted

function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID(); // only on HTTPS and localhost
  const hex = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, "$1-$2-4$3-8$4-$5");
}

function greet(event) {
  event.preventDefault();
  refused = 0;
  keep(newKey(), { url: clickUrl, born: Date.now() });
  if (!serverSaidWhen) pausedUntil = 0;
  deliver();
}

function deliver() {
  clearTimeout(timer);
  const pause = pausedUntil - performance.now();
  if (pause > 0) {
    timer = setTimeout(deliver, pause);
  } else {
    for (const click of outbox()) {
      if (Date.now() - click.born > LONGEST_WAIT) giveUp(click.key);
      else if (sending.size < AT_ONCE && !sending.has(click.key)) send(click.key);
    }
  }
  tell();
}

async function send(key) {
  const started = performance.now();
  sending.add(key);
  setTimeout(tell, UNUSUAL);
  try {
    const response = await fetch(clickUrl, {
      method: "POST",
      headers: { "Idempotency-Key": key, Accept: "application/json" },
      cache: "no-store",
      redirect: "error",
      keepalive: true, // a click just before the page is closed
      signal: AbortSignal.timeout(TIMEOUT),
    });
    if (refusedForGood(response)) giveUp(key);
    else if (response.ok) counted(key, await valueOf(response), started);
    else wait(Number(response.headers.get("Retry-After")));
  } catch {
    wait(0);
  }
  sending.delete(key);
  deliver();
}

function counted(key, value, started) {
  drop(key);
  failures = 0;
  pausedUntil = 0;
  serverSaidWhen = false;
  show(value, started);
  expectMore();
}

// Only the function itself refuses with this type; a proxy or a hotel's log-in page must not cost a click.
function refusedForGood(response) {
  const type = response.headers.get("Content-Type") ?? "";
  const status = response.status;
  return status >= 400 && status < 500 && ![408, 425, 429].includes(status) && type.startsWith("application/problem+json");
}

function giveUp(key) {
  drop(key);
  refused += 1;
}

function wait(retryAfter) {
  if (performance.now() < pausedUntil) return; // several were under way: that is one failure
  failures += 1;
  const seconds = Math.min(20, 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
  serverSaidWhen = retryAfter > 0;
  pausedUntil = performance.now() + Math.max(seconds, Math.min(retryAfter || 0, LONGEST_PAUSE)) * 1e3;
}

async function valueOf(response) {
  const { value } = await response.json();
  if (!Number.isSafeInteger(value)) throw new TypeError("no count in the answer");
  return value;
}

// --- Showing ----------------------------------------------------------------------------------------------------

const format = new Intl.NumberFormat();
let shown = -1;
let shownAt = 0;

// Answers overtake one another: a lower count is news only if it was asked for after the one on the screen had come.
function show(value, started) {
  if (value === shown || (value < shown && started < shownAt)) return;
  output.textContent = `(${format.format(value)}x)`;
  if (shown >= 0) output.classList.add("changed");
  shown = value;
  shownAt = performance.now();
}

function tell() {
  const waiting = outbox().filter((click) => failures || Date.now() - click.born >= UNUSUAL).length;
  const lines = [];
  if (waiting) lines.push(`${greetings(waiting)} ${waiting === 1 ? "is" : "are"} waiting. Counted as soon as the server can be reached.`);
  if (refused) lines.push(`${greetings(refused)} could not be counted.`);
  if (shown < 0 && pollFailed && !waiting) lines.push("The count cannot be read just now.");
  const text = lines.join(" ");
  if (note.textContent !== text) note.textContent = text;
}

function greetings(number) {
  return number === 1 ? "1 greeting" : `${format.format(number)} greetings`;
}

// --- Other people's clicks: soon while something happens, slower and slower while nothing does, never while hidden ---

const SOONEST = 4e3; // ms
const LATEST = 60e3; // ms
let delay = SOONEST;
let pollTimer;
let pollFailed = false;
let polling = false;

async function poll() {
  clearTimeout(pollTimer);
  if (document.hidden || polling) return;
  polling = true;
  const before = shown;
  const started = performance.now();
  try {
    const response = await fetch(countUrl, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
    pollFailed = !response.ok;
    if (response.ok) show(await valueOf(response), started);
  } catch {
    pollFailed = true;
  }
  polling = false;
  if (!pollFailed) deliver(); // what another tab left when it was closed
  delay = shown === before ? Math.min(delay * 1.4, LATEST) : SOONEST;
  pollAgain();
  tell();
}

function pollAgain() {
  clearTimeout(pollTimer);
  if (!document.hidden) pollTimer = setTimeout(poll, delay * (0.85 + Math.random() * 0.15));
}

function expectMore() {
  delay = SOONEST;
  if (!polling) pollAgain();
}

function wake() {
  if (document.hidden) return;
  delay = SOONEST;
  poll();
  deliver();
}

function online() {
  failures = 0;
  pausedUntil = 0;
  wake();
}

document.querySelector("form").addEventListener("submit", greet);
document.addEventListener("visibilitychange", wake);
output.addEventListener("animationend", () => output.classList.remove("changed"));
addEventListener("pageshow", (event) => event.persisted && wake());
addEventListener("online", online);
addEventListener("storage", tell); // another tab counted, or left, a click
wake();
