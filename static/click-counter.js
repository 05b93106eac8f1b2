// <click-counter name="post-1">: a button and its count, on any page. Both find the server by this file's own address.
//
// A click is a POST with a key of its own, which counts once however often it is sent. It waits in localStorage until
// the server has answered it, so neither a lost network nor a closed page loses it. Nothing else is ever stored.

const server = new URL(".", import.meta.url);
const foreign = server.origin !== location.origin;

const LONGEST_WAIT = 23 * 3600e3; // ms; the server remembers a key for 24 hours
const UNUSUAL = 2e3; // ms after which an unanswered click is shown as waiting
const TIMEOUT = 10e3; // ms; the server answers within 8 s
const AT_ONCE = 4; // requests
const LONGEST_PAUSE = 60; // seconds, whatever a Retry-After says
const NAMES_AT_ONCE = 50; // counters in one request; the server takes 100

function urlOf(path, names) {
  const url = new URL(path, server);
  for (const name of names) if (name) url.searchParams.append("name", name);
  return url.href;
}

// --- The outbox: an item for each click, because two tabs that write one list overwrite each other's clicks ---------

const PREFIX = "click-counter ";
const own = new Map(); // this page's clicks, by key: storage may be full or forbidden, or cleared by the site

function keep(key, click) {
  own.set(key, click);
  try {
    localStorage.setItem(PREFIX + key, JSON.stringify(click));
  } catch {}
}

function drop(key) {
  own.delete(key);
  try {
    localStorage.removeItem(PREFIX + key);
  } catch {}
}

function outbox() {
  const clicks = new Map(own);
  try {
    for (const item of Object.keys(localStorage)) {
      const click = item.startsWith(PREFIX) && parsed(localStorage.getItem(item));
      if (click && isOurs(click.url)) clicks.set(item.slice(PREFIX.length), click);
    }
  } catch {}
  return [...clicks].map(([key, click]) => ({ key, ...click })).sort((a, b) => a.born - b.born);
}

function stored({ key, newValue }) {
  if (key?.startsWith(PREFIX) && newValue === null) own.delete(key.slice(PREFIX.length)); // another tab has settled it
  if (key === null || key.startsWith(PREFIX)) tell();
}

function isOurs(url) {
  return url === urlOf("click", []) || String(url).startsWith(urlOf("click", []) + "?name=");
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID(); // only on HTTPS and localhost
  const hex = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, "$1-$2-4$3-8$4-$5");
}

// --- The counters of this page: elements of the same name share one -------------------------------------------------

const counters = new Map(); // by name; "" is the server's default one
let defaultName = "";

function counterOf(name) {
  if (!counters.has(name)) {
    counters.set(name, { name, elements: new Set(), value: -1, since: -Infinity, refused: 0, waiting: 0, missing: false });
  }
  return counters.get(name);
}

function inUse() {
  return [...counters.values()].filter((counter) => counter.elements.size);
}

// The default counter goes by two names, "" and its own.
function called(name) {
  return inUse().filter((counter) => (counter.name || defaultName) === (name || defaultName));
}

function announce(counter, event, detail, elements = [...counter.elements]) {
  for (const element of elements) {
    const name = counter.name || defaultName;
    element.dispatchEvent(new CustomEvent(event, { bubbles: true, composed: true, detail: { name, ...detail } }));
  }
}

// What happens to one click is one event, however many elements show its counter.
function tellOne(name, event, detail) {
  const there = called(name);
  const counter = there.find(({ pressed, elements }) => elements.has(pressed)) ?? there[0];
  if (counter) announce(counter, event, detail, [speakerOf(counter)]);
}

// Answers overtake one another: a lower count is news only if it was asked for after the one on the screen had come.
function show({ name, value }, started) {
  for (const counter of called(name)) {
    counter.missing = false;
    const news = value !== counter.value && (value > counter.value || started >= counter.since);
    if (started >= counter.since) counter.since = performance.now();
    if (!news || !Number.isSafeInteger(value)) continue; // beyond 2^53 a script cannot tell numbers apart
    const first = counter.value < 0;
    counter.value = value;
    counter.since = performance.now();
    for (const element of counter.elements) element.refresh(!first);
    announce(counter, "counter-value", { value });
    delay = SOONEST;
  }
}

function tell() {
  const late = outbox().filter((click) => failures || Date.now() - click.born >= UNUSUAL);
  for (const counter of inUse()) {
    const waiting = late.filter((click) => called(nameOf(click)).includes(counter)).length;
    const lines = [];
    if (waiting) lines.push(`${clicks(waiting)} ${waiting === 1 ? "is" : "are"} waiting. Counted as soon as the server can be reached.`);
    if (counter.refused) lines.push(`${clicks(counter.refused)} could not be counted.`);
    if (counter.refused && forbidden) lines.push("This site may only show the count.");
    const speaker = speakerOf(counter);
    const common = counter.missing ? "There is no such counter." : "The count cannot be read just now.";
    if (counter.missing || (counter.value < 0 && unreadable && !waiting)) lines.push(common);
    for (const element of counter.elements) element.say(element === speaker ? lines.join(" ") : "");
    const before = counter.waiting;
    counter.waiting = waiting;
    if (waiting !== before) announce(counter, "counter-waiting", { waiting }, [speaker]);
  }
}

// The element that was pressed last tells what became of the click.
function speakerOf(counter) {
  return counter.elements.has(counter.pressed) ? counter.pressed : [...counter.elements][0];
}

function clicks(number) {
  return number === 1 ? "1 click" : `${number} clicks`;
}

// --- Sending ----------------------------------------------------------------------------------------------------

const sending = new Set();
let forbidden = false; // whether the server takes no clicks from this site
let failures = 0; // in a row
let pausedUntil = 0; // performance.now(), which no clock that is set moves
let serverSaidWhen = false; // whether pausedUntil comes from Retry-After
let timer;

function click(name, element) {
  for (const counter of called(name)) {
    counter.refused = 0;
    counter.pressed = element;
  }
  keep(newKey(), { url: urlOf("click", [name]), born: Date.now() });
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
      if (Date.now() - click.born > LONGEST_WAIT) giveUp(click, "It was too old.");
      else if (sending.size < AT_ONCE && !sending.has(click.key)) send(click);
    }
  }
  tell();
}

async function send(click) {
  const started = performance.now();
  sending.add(click.key);
  setTimeout(tell, UNUSUAL);
  try {
    const response = await fetch(click.url, {
      method: "POST",
      headers: { "Idempotency-Key": click.key, Accept: "application/json" },
      cache: "no-store",
      redirect: "error",
      keepalive: true, // a click just before the page is closed
      signal: AbortSignal.timeout(TIMEOUT),
    });
    if (refusedForGood(response)) giveUp(click, (await response.json()).detail);
    else if (response.ok) counted(click, await response.json(), started);
    else wait(Number(response.headers.get("Retry-After")));
  } catch {
    if (foreign && (await isForbidden(nameOf(click)))) giveUp(click, "This site's origin must be listed in ALLOWED_ORIGINS.");
    else wait(0);
  }
  sending.delete(click.key);
  deliver();
}

function counted(click, answer, started) {
  if (!Number.isInteger(answer.value)) throw new Error("There is no count in the answer.");
  drop(click.key);
  forbidden = false;
  failures = 0;
  pausedUntil = 0;
  serverSaidWhen = false;
  if (nameOf(click) === "") defaultName = answer.name;
  show(answer, started);
  tellOne(answer.name, "counter-counted", { value: answer.value });
  delay = SOONEST;
  if (!polling) pollAgain();
}

function nameOf(click) {
  return new URL(click.url).searchParams.get("name") ?? "";
}

// Only the function itself refuses with this type; a proxy or a hotel's log-in page must not cost a click.
function refusedForGood(response) {
  const type = response.headers.get("Content-Type") ?? "";
  const status = response.status;
  return status >= 400 && status < 500 && ![408, 425, 429].includes(status) && type.startsWith("application/problem+json");
}

// To a script, a refusal of its site and a network that is gone look the same. But the count may be read from everywhere,
// and with it the server says whether this site may click.
async function isForbidden(name) {
  try {
    const response = await askFor([name]);
    forbidden = response.headers.get("Click-Counter-Access") === "read";
    return forbidden;
  } catch {
    return false;
  }
}

function giveUp(click, reason) {
  drop(click.key);
  for (const counter of called(nameOf(click))) counter.refused += 1;
  tellOne(nameOf(click), "counter-refused", { reason });
}

function wait(retryAfter) {
  if (performance.now() < pausedUntil) return; // several were under way: that is one failure
  failures += 1;
  const seconds = Math.min(20, 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
  serverSaidWhen = retryAfter > 0;
  pausedUntil = performance.now() + Math.max(seconds, Math.min(retryAfter || 0, LONGEST_PAUSE)) * 1e3;
}

// --- Other people's clicks: soon while something happens, slower and slower while nothing does, never while hidden ---

const SOONEST = 4e3; // ms
const LATEST = 60e3; // ms
let delay = SOONEST;
let pollTimer;
let polling = false;
let joined = false; // whether an element has come that has not been asked for
let unreadable = false;

async function poll() {
  clearTimeout(pollTimer);
  pollTimer = undefined;
  if (document.hidden || polling || !inUse().length) return;
  polling = true;
  joined = false;
  delay = Math.min(delay * 1.4, LATEST); // but for what `show` and `counted` make of it
  const asked = inUse().filter((counter) => !counter.missing);
  const names = [...new Set(asked.map((counter) => counter.name || defaultName))];
  const groups = names.includes("") ? [[""]] : []; // the default one's name is known once it has been asked for
  const named = names.filter(Boolean);
  for (let at = 0; at < named.length; at += NAMES_AT_ONCE) groups.push(named.slice(at, at + NAMES_AT_ONCE));
  const read = await Promise.all(groups.map(readCounts));
  unreadable = read.includes(false);
  polling = false;
  if (!unreadable) deliver(); // what another tab left when it was closed
  if (joined) poll();
  else pollAgain();
  tell();
}

function askFor(names) {
  return fetch(urlOf("value", names), { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
}

// Read these counts with one request, and tell whether that worked. One name that is not permitted spoils the answer for
// all: then each half is asked for.
async function readCounts(names) {
  const started = performance.now();
  try {
    const response = await askFor(names);
    if (response.ok) {
      const answer = await response.json();
      if (names[0] === "") defaultName = answer.name;
      for (const count of [answer].flat()) show(count, started);
    } else if (refusedForGood(response)) {
      const half = names.length >> 1;
      if (half) return (await Promise.all([names.slice(0, half), names.slice(half)].map(readCounts))).every(Boolean);
      const { detail } = await response.json();
      for (const counter of called(names[0])) {
        counter.missing = true;
        announce(counter, "counter-missing", { reason: detail });
      }
    }
    return response.ok || refusedForGood(response);
  } catch {
    return false;
  }
}

// An element has come: ask for its count, unless that is known and not old.
function join(counter) {
  counter.missing = false;
  if (counter.value < 0 || performance.now() - counter.since > SOONEST) {
    joined = true;
    queueMicrotask(poll); // after the elements beside it have come
  } else if (!pollTimer && !polling) {
    pollAgain();
  }
  tell();
}

function pollAgain() {
  clearTimeout(pollTimer);
  if (!document.hidden) pollTimer = setTimeout(poll, delay * (0.85 + Math.random() * 0.15));
}

function wake() {
  if (document.hidden) return;
  delay = SOONEST;
  for (const counter of counters.values()) counter.missing = false;
  poll();
  deliver();
}

function online() {
  failures = 0;
  pausedUntil = 0;
  wake();
}

// --- The element ------------------------------------------------------------------------------------------------

const format = new Intl.NumberFormat();

// A button of the page's own, in a form inside the element, looks like ours, unless the page says otherwise: `:where`
// gives way to any rule of the page. A policy without unsafe-inline forbids <style>, but not sheets like these.
const LOOK = (button) => `
  ${button} {
    min-block-size: 24px;
    padding: 0.35em 0.9em;
    border: 1px solid var(--click-counter-border, currentColor);
    border-radius: var(--click-counter-radius, 0.5em);
    background: var(--click-counter-background, transparent);
    color: var(--click-counter-color, inherit);
    font: inherit;
    cursor: pointer;
    touch-action: manipulation; /* a quick second tap is a click, not a zoom */
  }
  ${button}:hover {
    box-shadow: inset 0 0 0 9em color-mix(in srgb, currentColor 10%, transparent);
  }
  ${button}:focus-visible {
    outline: 3px solid var(--click-counter-focus, currentColor);
    outline-offset: 2px;
  }`;

function sheetOf(text) {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(text);
  return sheet;
}

const outside = sheetOf(LOOK(":where(click-counter form button)"));
const inside = sheetOf(`
  :host {
    display: inline-flex;
    flex-wrap: wrap;
    align-items: baseline;
    gap: 0.25em 0.6em;
  }
  :host([history]) {
    display: flex; /* as wide as there is room, so that the chart stays where it is when its text changes */
  }
  :host([hidden]), [hidden] {
    display: none !important;
  }
  :host([readonly]) ::slotted(form) {
    display: none !important;
  }
  ${LOOK("button")}
  output {
    font-variant-numeric: tabular-nums;
    overflow-wrap: anywhere;
  }
  [part="note"] {
    flex-basis: 100%;
    font-size: 0.875em;
  }
  [part="note"]:empty {
    position: absolute; /* takes no room, but is there: else a screen reader would miss what it says first */
  }
  @media (prefers-reduced-motion: no-preference) {
    .changed {
      animation: rise 260ms ease-out;
    }
    @keyframes rise {
      from {
        opacity: 0.35;
        transform: translateY(0.18em);
      }
    }
  }`);

let historySheet;

function part(tag, name) {
  const element = document.createElement(tag);
  element.setAttribute("part", name);
  return element;
}

function isContent(node) {
  return node instanceof Element ? node.localName !== "noscript" : node instanceof Text && node.data.trim() !== "";
}

// Attributes: `name` of the counter, `readonly` to only show it, `format` like "({}x)", `history` to show the last days.
// An <output> inside shows the count and a <form> inside sends it; what is not there the element makes itself.
class ClickCounter extends HTMLElement {
  static observedAttributes = ["name", "readonly", "format", "history"];

  #slot = document.createElement("slot");
  #button = part("button", "button");
  #label = document.createElement("span");
  #output = part("output", "count");
  #note = part("span", "note");
  #past = part("div", "history");
  #history = null; // once its script is there
  #counter = null;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [inside];
    root.append(this.#slot, this.#note);
    this.#button.type = "button";
    this.#button.append(this.#label);
    this.#label.textContent = "Like";
    this.#output.ariaLive = "off"; // but for the visitor's own clicks
    this.#note.setAttribute("role", "status");
    this.#note.lang = "en";
    this.#note.dir = "ltr";
    this.#button.addEventListener("click", () => this.#press());
    this.addEventListener("submit", (event) => this.#submit(event));
    this.addEventListener("animationend", (event) => event.composedPath()[0].classList.remove("changed"));
    new MutationObserver(() => this.#arrange()).observe(this, { childList: true, characterData: true, subtree: true });
  }

  connectedCallback() {
    const root = this.getRootNode();
    try {
      if (!root.adoptedStyleSheets.includes(outside)) root.adoptedStyleSheets = [...root.adoptedStyleSheets, outside];
    } catch {} // moved into another document, which cannot share them
    this.#join();
  }

  disconnectedCallback() {
    this.#counter.elements.delete(this);
    this.#counter = null;
  }

  attributeChangedCallback(attribute, before, now) {
    if (!this.#counter || before === now) return;
    if (attribute === "name") {
      this.disconnectedCallback();
      this.#join();
      const { value } = this.#counter;
      if (value >= 0) announce(this.#counter, "counter-value", { value }, [this]);
    } else {
      this.#arrange();
    }
  }

  #join() {
    this.#counter = counterOf(this.getAttribute("name") ?? "");
    this.#counter.elements.add(this);
    this.#arrange();
    this.#updateHistory();
    join(this.#counter);
  }

  #arrange() {
    if (!this.#counter) return;
    const own = !this.hasAttribute("readonly") && !this.querySelector("form");
    const place = own ? this.#button : this.shadowRoot;
    if (this.#slot.parentNode !== place) place.prepend(this.#slot);
    if (!own) this.#button.remove();
    else if (!this.#button.parentNode) this.shadowRoot.prepend(this.#button);
    this.#label.hidden = [...this.childNodes].some(isContent);
    if (this.#shown() !== this.#output) this.#output.remove();
    else if (!this.#output.parentNode) this.#note.before(this.#output);
    if (!this.hasAttribute("history")) this.#past.remove();
    else if (!this.#past.parentNode) this.#showHistory();
    this.render();
  }

  async #showHistory() {
    this.shadowRoot.append(this.#past);
    try {
      const { History, STYLE } = await import("./history.js");
      historySheet ??= sheetOf(STYLE);
      if (!this.#history) this.shadowRoot.adoptedStyleSheets.push(historySheet);
      this.#history ??= new History(this.#past);
      this.#updateHistory();
    } catch {
      this.#past.remove(); // no network, and not cached: the count needs none of it
    }
  }

  #updateHistory() {
    const { name, value } = this.#counter ?? {};
    if (!this.#history || !this.#past.parentNode) return;
    if (value >= 0) this.#history.update(urlOf("history", [name]));
    else this.#history.clear();
  }

  #shown() {
    return this.querySelector("output") ?? this.#output;
  }

  #submit(event) {
    const action = new URL(event.target.getAttribute("action") ?? "", document.baseURI);
    if (!action.pathname.endsWith("/click")) return; // a form of the page's own
    event.preventDefault();
    this.#press();
  }

  #press() {
    if (!this.#counter || this.hasAttribute("readonly")) return;
    this.#output.ariaLive = "polite";
    setTimeout(() => (this.#output.ariaLive = "off"), UNUSUAL);
    click(this.#counter.name, this);
  }

  refresh(changed) {
    this.#arrange(); // tries the chart again, where its script could not be had
    if (changed) this.#shown().classList.add("changed");
    this.#updateHistory();
  }

  render() {
    const { value } = this.#counter;
    const output = this.#shown();
    const text = value < 0 ? "" : (this.getAttribute("format") ?? "{}").replace("{}", format.format(value));
    if (output.textContent !== text) output.textContent = text;
  }

  say(text) {
    if (this.#note.textContent !== text) this.#note.textContent = text;
  }
}

document.addEventListener("visibilitychange", wake);
addEventListener("pageshow", (event) => event.persisted && wake());
addEventListener("online", online);
addEventListener("storage", stored);
if (customElements.get("click-counter")) console.warn(`<click-counter> is another server's here, not that of ${server}`);
else customElements.define("click-counter", ClickCounter);
deliver();
