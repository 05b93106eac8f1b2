// <click-counter name="post-1">: a button and its count, on any page. Its server is where this file comes from.

import { Delivery, isRefusal, onceItem, request, server, urlOf, write } from "./clicks.js";

const SOONEST = 4e3; // ms between two requests for the counts
const LATEST = 60e3; // ms
const NAMES_AT_ONCE = 50; // counters in one request; the server takes 100
const SPOKEN = 2e3; // ms after a press, in which a new count is the visitor's own

const ENGLISH = {
  lang: "en",
  like: "Like",
  clicks: (digits, number) => (number === 1 ? "1 click" : `${digits} clicks`),
  waiting: (clicks, number) => `${clicks} ${number === 1 ? "is" : "are"} waiting. Counted as soon as the server can be reached.`,
  full: (clicks, number) => `${clicks} ${number === 1 ? "is" : "are"} waiting. There is no room for a new counter yet.`,
  refused: (clicks) => `${clicks} could not be counted.`,
  forbidden: () => "This site may only show the count.",
  again: () => "You have pressed this already. It counts once.",
  missing: () => "There is no such counter.",
  unreadable: () => "The count cannot be read just now.",
};

// --- The counters of this page: elements of the same name share one -------------------------------------------------

class Counters {
  #all = new Map(); // by name; "" is the server's default one, until its own is known
  #default = "";
  #unreadable = false;

  of(name) {
    const key = name || this.#default;
    if (!this.#all.has(key)) this.#all.set(key, { name: key, value: null, since: -1, waiting: 0, elements: new Set() });
    return this.#all.get(key);
  }

  shown() {
    return [...this.#all.values()].filter(({ elements }) => elements.size);
  }

  press(element, counter, name) {
    const again = element.once && this.isPressed(counter, name);
    Object.assign(counter, { pressed: element, refused: 0, again });
    if (again) this.changed();
    else delivery.add(name, element.once ? options.keyFor(name) : undefined);
    return !again;
  }

  isPressed(counter, name) {
    const isCounted = [name, counter.name].some(options.isCounted);
    return isCounted || [...delivery.outbox.values()].some((click) => click.once && this.of(click.name) === counter);
  }

  // Answers overtake one another: a lower count is news only if it was asked for after the one on the screen had come.
  show({ name, value }, started, asked) {
    if (!asked) this.#learnDefault(name);
    const counter = this.of(name);
    const { value: before, since } = counter;
    const isNews = value !== before && (value > before || started >= since) && Number.isSafeInteger(value);
    counter.missing = false;
    if (isNews || started >= since) counter.since = performance.now();
    if (!isNews) return; // beyond 2^53 a script cannot tell numbers apart
    counter.value = value;
    for (const element of counter.elements) element.refresh(before !== null);
    announce(counter, "value", { value });
    poller.hurry();
  }

  miss(name, reason) {
    const counter = this.of(name);
    if (!counter.missing) console.warn(`There is no counter "${name}". Its server must permit it: COUNTERS=…,${name}`);
    counter.missing = true;
    announce(counter, "missing", { reason });
  }

  counted(click, answer, started) {
    this.show(answer, started, click.name);
    if (click.once && answer.name === this.#default) write(onceItem(""), { counted: true });
    announce(this.of(answer.name), "counted", { value: answer.value }, true);
    poller.hurry();
  }

  refused(click, status, reason) {
    const counter = this.of(click.name);
    counter.refused = (counter.refused ?? 0) + 1;
    counter.forbidden = status === 403;
    if (counter.forbidden) console.warn(`This site may not click. The counter's server must list it: ALLOWED_ORIGINS=${location.origin}`);
    announce(counter, "refused", { reason }, true);
  }

  read(isRead) {
    this.#unreadable = !isRead;
    if (isRead) delivery.send();
    else this.changed();
  }

  changed() {
    const waiting = new Map();
    for (const click of [...delivery.outbox.values()].filter((click) => delivery.isLate(click))) {
      waiting.set(this.of(click.name), (waiting.get(this.of(click.name)) ?? 0) + 1);
    }
    for (const counter of this.shown()) this.#tell(counter, waiting.get(counter) ?? 0);
  }

  #tell(counter, waiting) {
    const isNews = waiting !== counter.waiting;
    counter.waiting = waiting;
    const sentences = this.#sentences(counter);
    for (const element of counter.elements) element.tell(element === speakerOf(counter) ? sentences : []);
    if (isNews) announce(counter, "waiting", { waiting }, true);
  }

  #sentences({ name, value, waiting, refused, forbidden, again, missing }) {
    const unreadable = value === null && this.#unreadable && !waiting && !missing;
    const waits = delivery.lacksRoom(name) ? "full" : "waiting";
    const told = { [waits]: waiting, refused, forbidden: refused && forbidden, again, missing, unreadable };
    return Object.entries(told).filter(([, number]) => number);
  }

  #learnDefault(name) {
    const { elements } = this.of("");
    this.#default = name;
    for (const element of [...elements]) element.rejoin();
  }
}

// The element that was pressed last tells what becomes of the click.
function speakerOf({ elements, pressed }) {
  return elements.has(pressed) ? pressed : [...elements][0];
}

// What happens to one click is one event, however many elements show its counter.
function announce(counter, event, more, once) {
  const detail = { name: counter.name, ...more };
  for (const element of once ? [speakerOf(counter)] : counter.elements) {
    element?.dispatchEvent(new CustomEvent(`click-counter-${event}`, { bubbles: true, composed: true, detail }));
  }
}

// --- Other people's clicks: soon while something happens, slower and slower while nothing does, never while hidden ---

class Poller {
  #delay = SOONEST;
  #timer;
  #isAsking = false;
  #isJoining = false;
  #again = false; // whether an element has come that has not been asked for

  start() {
    addEventListener("visibilitychange", () => this.#wake(), true);
    addEventListener("pageshow", ({ persisted }) => persisted && this.#wake());
    addEventListener("online", () => this.#wake());
  }

  // An element has come: ask for its count, unless that is known and not old, after those beside it have come.
  join(counter) {
    counter.missing = false;
    if (counter.value === null || performance.now() - counter.since > SOONEST) this.#again = true;
    if (this.#isJoining) return;
    this.#isJoining = true;
    queueMicrotask(() => {
      this.#isJoining = false;
      counters.changed();
      if (this.#again) this.#poll();
      else if (!this.#timer) this.hurry();
    });
  }

  hurry() {
    this.#delay = SOONEST;
    if (!this.#isAsking) this.#pollLater();
  }

  #wake() {
    if (document.hidden) return;
    for (const counter of counters.shown()) counter.missing = false;
    this.#delay = SOONEST;
    this.#poll();
    delivery.send();
  }

  #pollLater() {
    clearTimeout(this.#timer);
    this.#timer = document.hidden ? 0 : setTimeout(() => this.#poll(), this.#delay * (0.85 + Math.random() * 0.15));
  }

  async #poll() {
    if (document.hidden || this.#isAsking || !counters.shown().length) return;
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#isAsking = true;
    this.#again = false;
    this.#delay = Math.min(this.#delay * 1.4, LATEST); // but for what an answer makes of it
    const names = counters.shown().flatMap(({ name, missing }) => (missing ? [] : [name]));
    const groups = names.includes("") ? [[""]] : []; // the default one's name is in the answer
    for (const named = names.filter(Boolean); named.length; ) groups.push(named.splice(0, NAMES_AT_ONCE));
    const areRead = await Promise.all(groups.map(readCounts));
    this.#isAsking = false;
    counters.read(!areRead.includes(false));
    if (this.#again) this.#poll();
    else this.#pollLater();
  }
}

// Whether that worked.
async function readCounts(names) {
  const started = performance.now();
  try {
    const response = await request("value", names);
    const answer = await response.json();
    const isMissing = names.length === 1 && isRefusal(response);
    const counts = isMissing ? [{ name: names[0], value: null, detail: answer.detail }] : [answer].flat();
    for (const { name, value, detail = `There is no counter ${name}.` } of isMissing || response.ok ? counts : []) {
      if (value === null) counters.miss(name, detail);
      else counters.show({ name, value }, started, names[0]);
    }
    return isMissing || response.ok;
  } catch {
    return false;
  }
}

// --- The element ----------------------------------------------------------------------------------------------------

const HEART = "M12 21 3.4 12.5a5.6 5.6 0 0 1 7.9-7.9l.7.7.7-.7a5.6 5.6 0 0 1 7.9 7.9z";
const CONTROL = "button, a[href], [type=submit], summary, [role=button]";

// A button of the page's own looks like ours, unless the page says otherwise: `:where` gives way to any rule of the page.
// A policy without unsafe-inline forbids <style>, but not sheets like these.
const LOOK = (button) => `
  ${button} {
    min-block-size: 24px;
    padding: 0.35em 0.85em;
    border: 1px solid var(--click-counter-border, color-mix(in srgb, currentColor 50%, transparent));
    border-radius: var(--click-counter-radius, 99em);
    background: var(--click-counter-background, transparent);
    color: var(--click-counter-color, inherit);
    font: inherit;
    cursor: pointer;
    touch-action: manipulation; /* a quick second tap is a click, not a zoom */
  }
  ${button}:hover {
    box-shadow: inset 0 0 0 9em color-mix(in srgb, currentColor 9%, transparent);
  }
  ${button}[aria-pressed="true"] {
    border-color: var(--click-counter-border, currentColor);
    box-shadow: inset 0 0 0 9em color-mix(in srgb, currentColor 14%, transparent);
  }
  ${button}:focus-visible {
    outline: 3px solid var(--click-counter-focus, currentColor);
    outline-offset: 2px;
  }`;

const outside = sheetOf(LOOK(":where(click-counter button)"));
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
  :host([hidden]), [hidden], :host([readonly]) ::slotted(:is(form, button)) {
    display: none !important;
  }
  ${LOOK("button")}
  button {
    display: inline-flex;
    align-items: center;
    gap: 0.45em;
  }
  .waiting {
    border-style: dashed;
  }
  [part="heart"] {
    display: grid;
    border-radius: 50%;
    color: var(--click-counter-heart, currentColor);
  }
  svg {
    inline-size: 1.2em;
    fill: transparent;
    stroke: currentColor;
    stroke-width: 2;
    overflow: visible;
  }
  [aria-pressed="true"] svg {
    fill: currentColor;
  }
  output {
    min-inline-size: 1ch;
    font-variant-numeric: tabular-nums;
    overflow-wrap: anywhere;
  }
  [part="note"] {
    flex-basis: 100%;
    font-size: 0.875em;
    text-align: match-parent; /* on the page's side, whichever way the sentence runs */
  }
  [part="note"]:empty, .unseen { /* takes no room, but is there: else a screen reader would miss what it says first */
    position: absolute;
    inline-size: 1px;
    clip-path: inset(50%);
    white-space: nowrap;
    overflow: hidden;
  }`);

function sheetOf(text) {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(text);
  return sheet;
}

function make(tag, attributes = {}, ...content) {
  const isDrawn = tag === "svg" || tag === "path";
  const element = document.createElementNS(`http://www.w3.org/${isDrawn ? "2000/svg" : "1999/xhtml"}`, tag);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.append(...content);
  return element;
}

// What is shown inside, also what comes through the slots of a component around it.
function contentOf(node) {
  const slotted = node.localName === "slot" ? node.assignedNodes() : [];
  return [...(slotted.length ? slotted : node.childNodes)].flatMap((child) => {
    if (child instanceof Text) return child.data.trim() ? [child] : [];
    return child instanceof Element && child.localName !== "noscript" ? [child, ...contentOf(child)] : [];
  });
}

function isControl(node) {
  return node.matches?.(CONTROL) || node.shadowRoot?.querySelector(CONTROL);
}

// The address of a form that clicks; undefined for one of the page's own.
function addressOf(node) {
  if (node?.localName !== "form") return;
  const url = new URL(node.getAttribute("action") ?? "", document.baseURI);
  if (url.pathname.endsWith("/click")) return url;
}

function languageOf(element) {
  const speaking = element.closest("[lang]");
  const { host } = element.getRootNode();
  return !speaking && host ? languageOf(host) : (speaking?.lang ?? "");
}

let options; // the module

async function loadOptions() {
  options = await import("./options.js");
  for (const { elements } of counters.shown()) for (const element of elements) element.refresh();
  counters.changed();
}

function move(element, frames, duration) {
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) element.animate(frames, { duration, easing: "ease-out" });
}

// A <form> or <button> inside clicks; else the element makes a button around what there is. An <output> inside shows the
// count, but not before an answer has come: a framework may still compare the page with what its server has sent.
class ClickCounter extends HTMLElement {
  static observedAttributes = ["name", "readonly", "once", "format", "history"];
  static server = server;

  #slot = make("slot");
  #svg = make("svg", { viewBox: "0 0 24 24", "aria-hidden": true }, make("path", { d: HEART }));
  #label = make("span", { class: "unseen" });
  #heart = make("span", { part: "heart" }, this.#svg, this.#label);
  #button = make("button", { part: "button", type: "button" }, this.#heart);
  #output = make("output", { part: "count", "aria-live": "off" });
  #voice = make("span", { class: "unseen", role: "status" }); // the count after the visitor's own click
  #note = make("span", { part: "note", role: "status" });
  #past = make("div", { part: "history" });
  #states = this.attachInternals().states;
  #counter;
  #content = [];
  #history; // once its script is there
  #written = []; // the text, and where
  #pressedAt = -Infinity; // performance.now()

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [inside];
    root.append(this.#slot, this.#voice, this.#note);
    this.#slot.addEventListener("slotchange", () => this.#arrange());
    this.addEventListener("click", (event) => this.#click(event));
    this.addEventListener("submit", (event) => this.#submit(event));
    this.addEventListener("keydown", (event) => {
      if (event.repeat && event.key === "Enter" && this.#controlOf(event)) event.preventDefault(); // the key is held
    });
    new MutationObserver(() => this.#arrange()).observe(this, { childList: true, characterData: true, subtree: true });
  }

  get value() {
    return this.#counter?.value ?? null;
  }

  connectedCallback() {
    const root = this.getRootNode();
    try {
      if (!root.adoptedStyleSheets.includes(outside)) root.adoptedStyleSheets = [...root.adoptedStyleSheets, outside];
    } catch {} // moved into another document, which cannot share them
    for (const property of [...ClickCounter.observedAttributes, "value"].filter((property) => Object.hasOwn(this, property))) {
      const value = this[property]; // set before this script was there
      delete this[property];
      if (property !== "value") this[property] = value;
    }
    this.rejoin();
  }

  disconnectedCallback() {
    this.#counter.elements.delete(this);
    this.#counter = undefined;
  }

  attributeChangedCallback() {
    this.#arrange();
    counters.changed();
  }

  rejoin() {
    this.#content = contentOf(this);
    this.#counter?.elements.delete(this);
    this.#counter = counters.of(this.#name());
    this.#counter.elements.add(this);
    poller.join(this.#counter);
    this.#arrange();
    this.#updateHistory();
  }

  // The counter has a value, perhaps the first one.
  refresh(isOther) {
    this.#arrange();
    this.#updateHistory();
    const place = this.#place();
    if (isOther) move(place, { opacity: [0.35, 1], transform: ["translateY(0.18em)", "none"] }, 260);
    if (place === this.#output && performance.now() - this.#pressedAt < SPOKEN) this.#voice.textContent = place.textContent;
  }

  tell(sentences) {
    const isPressed = this.once && options && counters.isPressed(this.#counter, this.#name());
    const isWaiting = this.#counter.waiting > 0;
    for (const [state, isSo] of Object.entries({ pressed: isPressed, waiting: isWaiting })) {
      if (isSo) this.#states.add(state);
      else this.#states.delete(state);
    }
    this.#button.classList.toggle("waiting", isWaiting);
    this.#showPressed(isPressed);
    const language = languageOf(this);
    const notes = options?.notesIn(language, () => counters.changed()) ?? ENGLISH;
    const locale = options?.localeOf(language)?.startsWith(notes.lang) ? options.localeOf(language) : notes.lang;
    for (const place of [this.#note, this.#label]) Object.assign(place, { lang: notes.lang, dir: notes.dir ?? "ltr" });
    const text = sentences.map(([note, number]) => notes[note](notes.clicks(number.toLocaleString(locale), number), number)).join(" ");
    if (this.#note.textContent !== text) this.#note.textContent = text;
    if (this.#label.textContent !== notes.like) this.#label.textContent = notes.like;
    this.#history?.speak(notes.chart, locale);
  }

  #name() {
    const form = this.#content.find(addressOf);
    return this.getAttribute("name") || addressOf(form)?.searchParams.get("name") || "";
  }

  #place() {
    return this.#content.find(({ localName }) => localName === "output") ?? this.#output;
  }

  #arrange() {
    if (!this.#counter) return;
    this.#content = contentOf(this);
    if (counters.of(this.#name()) !== this.#counter) return this.#rename();
    const isOwn = !this.readonly && !this.#content.some(isControl);
    const place = isOwn ? this.#button : this.shadowRoot;
    if (!isOwn) this.#button.remove();
    else if (!this.#button.isConnected) this.shadowRoot.prepend(this.#button);
    if (this.#slot.parentNode !== place) place.prepend(this.#slot);
    this.#heart.hidden = this.#content.length > 0;
    if (this.#place() !== this.#output) this.#output.remove();
    else if (this.#output.parentNode !== place) place.insertBefore(this.#output, isOwn ? null : this.#voice);
    if (!this.history) this.#past.remove();
    else if (!this.#past.isConnected) this.#showHistory();
    this.#write();
  }

  #rename() {
    this.rejoin();
    const { value } = this.#counter;
    if (value !== null) announce({ ...this.#counter, elements: new Set([this]) }, "value", { value });
  }

  // Another script, such as a translator, may write there, too: what it wrote stays until there is other news.
  #write() {
    const { value } = this.#counter;
    const language = languageOf(this);
    if (!options && (this.once || this.format || !/^(en|$)/i.test(language))) loadOptions();
    if (!options && this.format) return;
    const place = this.#place();
    const text = value === null ? "" : (options?.written(value, this.format || "{}", language) ?? value.toLocaleString());
    if (this.#written[0] === text && this.#written[1] === place) return;
    this.#written = [text, place];
    if (text || place === this.#output) place.textContent = text;
  }

  #showPressed(isPressed) {
    const own = this.#button.isConnected && this.#button;
    const button = own || this.#content.find((node) => node.matches?.("button, [type=submit], [role=button]"));
    if (this.once && (own || isPressed || this.value !== null)) button?.setAttribute("aria-pressed", isPressed);
    else if (own) own.removeAttribute("aria-pressed");
  }

  async #showHistory() {
    this.shadowRoot.append(this.#past);
    try {
      const { History, STYLE } = await import("./history.js");
      if (!this.#history) this.shadowRoot.adoptedStyleSheets.push(sheetOf(STYLE));
      this.#history ??= new History(this.#past);
      this.#updateHistory();
      counters.changed();
    } catch {
      this.#past.remove(); // no network, and not cached: tried again with the next count
    }
  }

  #updateHistory() {
    if (this.value === null || !this.history) this.#history?.clear();
    else this.#history?.update(urlOf("history", [this.#counter.name]));
  }

  #controlOf(event) {
    const path = event.composedPath();
    const within = path.slice(0, path.indexOf(this));
    return within.includes(this.#button) ? this.#button : within.find((node) => node.matches?.(CONTROL));
  }

  // A press is one click and nothing else, also inside a link: the default goes. A form of its own kind checks its fields.
  #click(event) {
    const control = this.#controlOf(event);
    if (!control || control.disabled || this.readonly || event.defaultPrevented) return;
    const form = control !== this.#button && (control.form ?? event.composedPath().find(addressOf));
    if (form && !(addressOf(form) && control.form && control.type === "submit")) return;
    event.preventDefault();
    if (form) form.requestSubmit(control);
    else this.#press();
  }

  #submit(event) {
    if (event.defaultPrevented || !addressOf(event.target)) return;
    event.preventDefault();
    if (!this.readonly) this.#press();
  }

  #press() {
    if (this.once && !options) return loadOptions().then(() => this.#press());
    this.#pressedAt = performance.now();
    this.#voice.textContent = "";
    if (!counters.press(this, this.#counter, this.#name())) return;
    move(this.#svg, [{}, { fill: "currentColor", transform: "scale(0.8)" }, { fill: "currentColor", transform: "scale(1.3)" }, {}], 450);
    move(this.#heart, { boxShadow: ["0 0 0 0 currentColor", "0 0 0 0.9em transparent"] }, 450);
  }
}

for (const property of ClickCounter.observedAttributes) {
  const isText = ["name", "format"].includes(property);
  Object.defineProperty(ClickCounter.prototype, property, {
    get() {
      return isText ? (this.getAttribute(property) ?? "") : this.hasAttribute(property);
    },
    set(value) {
      if (isText && value != null) this.setAttribute(property, value);
      else this.toggleAttribute(property, !isText && Boolean(value));
    },
    enumerable: true,
  });
}

const counters = new Counters();
const delivery = new Delivery(counters);
const poller = new Poller();
const there = customElements.get("click-counter");

if (there) {
  const isSame = there.server?.href === server.href;
  console.warn(isSame ? `${import.meta.url} is loaded twice.` : `<click-counter> is another server's here, not that of ${server}`);
} else {
  customElements.define("click-counter", ClickCounter);
  delivery.start();
  poller.start();
}
