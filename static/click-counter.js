// <click-counter>: a button and its count, on any page.

import { Delivery, isRefusal, request, server, setCounted, urlOf } from "./clicks.js";

const SOONEST = 4e3; // ms
const LATEST = 60e3; // ms
const NAMES_AT_ONCE = 50;
const SPOKEN = 2e3; // ms

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

class Counters {
  #all = new Map();
  #default = "";
  #unreadable = false;

  of(name) {
    const key = name || this.#default;
    if (!this.#all.has(key)) this.#all.set(key, { name: key, value: null, since: -1, waiting: 0, refused: 0, elements: new Set() });
    return this.#all.get(key);
  }

  shown() {
    return [...this.#all.values()].filter(({ elements }) => elements.size);
  }

  press(element, counter, name) {
    const again = element.once && this.isPressed(counter, name);
    Object.assign(counter, { pressed: element, refused: 0, again });
    if (again) this.changed();
    else delivery.add(name, element.once && options.keyFor(name));
    return !again;
  }

  isPressed(counter, name) {
    const isWaiting = (click) => click.once && this.of(click.name) === counter;
    return options.isCounted(name) || options.isCounted(counter.name) || delivery.clicks().some(isWaiting);
  }

  // Answers overtake one another: a lower count is news only if it was asked for later.
  show({ name, value }, started, asked) {
    if (!asked) this.#learnDefault(name);
    const counter = this.of(name);
    const { value: before, since } = counter;
    const isNews = value !== before && (value > before || started >= since) && Number.isSafeInteger(value);
    counter.missing = false;
    if (isNews || started >= since) counter.since = performance.now();
    if (!isNews) return;
    counter.value = value;
    for (const element of [...counter.elements]) element.refresh();
    announce(counter, "value", { value });
    poller.hurry();
  }

  miss(name, reason) {
    const counter = this.of(name);
    if (!counter.missing) hint(404, `COUNTERS=…,${name}`);
    counter.missing = true;
    announce(counter, "missing", { reason });
  }

  counted(click, answer, started) {
    this.show(answer, started, click.name);
    if (click.once && answer.name === this.#default) setCounted("");
    announce(this.of(answer.name), "counted", { value: answer.value }, true);
    poller.hurry();
  }

  refused(click, status, reason) {
    const counter = this.of(click.name);
    counter.refused += 1;
    counter.forbidden = status === 403 && server.origin !== location.origin;
    if (counter.forbidden) hint(403, `ALLOWED_ORIGINS=${location.origin}`);
    announce(counter, "refused", { reason }, true);
  }

  read(isRead) {
    this.#unreadable = !isRead;
    if (isRead) delivery.send();
    else this.changed();
  }

  changed() {
    const late = delivery.clicks().filter((click) => delivery.isLate(click)).map(({ name }) => this.of(name));
    for (const counter of this.shown()) this.#tell(counter, late.filter((one) => one === counter).length);
  }

  #tell(counter, waiting) {
    const isNews = waiting !== counter.waiting;
    counter.waiting = waiting;
    for (const element of counter.elements) element.tell(element === speakerOf(counter) ? this.#sentences(counter) : []);
    if (isNews) announce(counter, "waiting", { waiting }, true);
  }

  #sentences({ name, value, waiting, refused, forbidden, again, missing }) {
    const unreadable = value === null && this.#unreadable && !waiting && !missing;
    const waits = delivery.lacksRoom(name) ? "full" : "waiting";
    const told = { [waits]: waiting, refused, forbidden: refused && forbidden, again, missing, unreadable };
    return Object.entries(told).filter(([, number]) => number);
  }

  #learnDefault(name) {
    const unnamed = this.#all.get("");
    this.#default = name;
    this.#all.delete("");
    if (this.#all.has(name)) for (const element of unnamed?.elements ?? []) element.rejoin();
    else if (unnamed) this.#all.set(name, Object.assign(unnamed, { name }));
  }
}

function hint(status, setting) {
  console.warn(`<click-counter> ${status}. The owner of ${server} must set ${setting}`);
}

function speakerOf({ elements, pressed }) {
  return elements.has(pressed) ? pressed : [...elements][0];
}

function announce(counter, event, more, once) {
  const detail = { name: counter.name, ...more };
  for (const element of once ? [speakerOf(counter)] : [...counter.elements]) {
    element?.dispatchEvent(new CustomEvent(`click-counter-${event}`, { bubbles: true, composed: true, detail }));
  }
}

class Poller {
  #delay = SOONEST;
  #timer;
  #isAsking = false;
  #isAsked = true;
  #joining;

  start() {
    for (const event of ["visibilitychange", "online"]) addEventListener(event, () => this.#wake(), true);
  }

  join(counter) {
    counter.missing = false;
    this.#isAsked &&= counter.value !== null && performance.now() - counter.since < SOONEST;
    this.#joining ??= Promise.resolve().then(() => {
      this.#joining = undefined;
      counters.changed();
      if (!this.#isAsked) this.#poll();
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
    this.#timer = setTimeout(() => this.#poll(), this.#delay * (0.85 + Math.random() * 0.15));
  }

  async #poll() {
    if (document.hidden || this.#isAsking) return;
    clearTimeout(this.#timer);
    this.#isAsking = this.#isAsked = true;
    this.#delay = Math.min(this.#delay * 1.4, LATEST);
    const names = counters.shown().flatMap(({ name, missing }) => (missing ? [] : [name]));
    const groups = names.includes("") ? [[""]] : [];
    for (const named = names.filter(Boolean); named.length; ) groups.push(named.splice(0, NAMES_AT_ONCE));
    const areRead = await Promise.all(groups.map(readCounts));
    this.#isAsking = false;
    counters.read(!areRead.includes(false));
    if (this.#isAsked) this.#pollLater();
    else this.#poll();
  }
}

async function readCounts(names) {
  const started = performance.now();
  try {
    const response = await request("value", names);
    const answer = await response.json();
    const isMissing = isRefusal(response) && !names[1];
    for (const count of isMissing ? [{ name: names[0], value: null, ...answer }] : [answer].flat()) {
      const { name, value, detail } = count;
      if (value === null) counters.miss(name, detail ?? `There is no counter ${name}.`);
      else if (response.ok) counters.show(count, started, names[0]);
    }
    return response.ok || isMissing;
  } catch {
    return false;
  }
}

const HEART = "M12 21 3.4 12.5a5.6 5.6 0 0 1 7.9-7.9l.7.7.7-.7a5.6 5.6 0 0 1 7.9 7.9z";
const BUTTON = "button, [type=submit], [role=button]";
const CONTROL = `${BUTTON}, a[href], summary`;

// `:where` gives way to any rule of the page.
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
    touch-action: manipulation;
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
    text-align: match-parent;
  }
  [part="note"]:empty, .unseen {
    position: absolute;
    inline-size: 1px;
    block-size: 1px;
    clip-path: inset(50%);
    white-space: nowrap;
    overflow: hidden;
  }
  @media (prefers-reduced-motion: no-preference) {
    .burst svg {
      animation: burst 450ms;
    }
  }
  @keyframes burst {
    30% {
      transform: scale(0.8);
    }
    60% {
      fill: currentColor;
      transform: scale(1.35);
      filter: drop-shadow(0 0 0.3em currentColor);
    }
  }`);

function sheetOf(text) {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(text);
  return sheet;
}

function make(tag, attributes = {}, ...content) {
  const isDrawn = tag === "svg" || tag === "path";
  const element = isDrawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.append(...content);
  return element;
}

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

let options;
let loading;

function loadOptions() {
  loading ??= import("./options.js").then(
    (module) => {
      options = module;
      for (const { elements } of counters.shown()) for (const element of elements) element.refresh();
      counters.changed();
    },
    () => (loading = undefined),
  );
  return loading;
}

// It writes nothing outside its shadow before the first answer: a framework may still be hydrating.
class ClickCounter extends HTMLElement {
  static observedAttributes = ["name", "readonly", "once", "format", "history"];
  static server = server;

  #slot = make("slot");
  #svg = make("svg", { viewBox: "0 0 24 24", "aria-hidden": true }, make("path", { d: HEART }));
  #label = make("span", { class: "unseen" });
  #heart = make("span", { part: "heart" }, this.#svg, this.#label);
  #button = make("button", { part: "button", type: "button" }, this.#heart);
  #output = make("output", { part: "count", "aria-live": "off" });
  #note = make("span", { part: "note", role: "status" });
  #past = make("div", { part: "history" });
  #states = this.attachInternals().states;
  #counter;
  #content = [];
  #history;
  #written = [""];

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [inside];
    root.append(this.#slot, this.#note);
    this.#slot.addEventListener("slotchange", () => this.#arrange());
    this.addEventListener("click", (event) => this.#click(event));
    this.addEventListener("submit", (event) => this.#submit(event));
    this.addEventListener("keydown", (event) => {
      if (event.repeat && event.key === "Enter" && this.#controlOf(event)[0]) event.preventDefault();
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
    } catch {}
    for (const property of [...ClickCounter.observedAttributes, "value"].filter((property) => Object.hasOwn(this, property))) {
      const value = this[property];
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
    if (!this.#counter) return;
    this.refresh();
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

  refresh() {
    this.#arrange();
    this.#updateHistory();
  }

  tell(sentences) {
    const isPressed = this.once && options && counters.isPressed(this.#counter, this.#name());
    const isWaiting = this.#counter.waiting > 0;
    this.#setState("pressed", isPressed);
    this.#setState("waiting", isWaiting);
    this.#button.classList.toggle("waiting", isWaiting);
    options?.showPressed(this, this.#button.isConnected ? this.#button : this.#content.find((node) => node.matches?.(BUTTON)), isPressed);
    const notes = options?.notesIn(languageOf(this), () => counters.changed()) ?? ENGLISH;
    const { lang, dir = "ltr", locale = lang } = notes;
    for (const place of [this.#note, this.#label]) Object.assign(place, { lang, dir });
    const text = sentences.map(([note, number]) => notes[note](notes.clicks(number.toLocaleString(locale), number), number)).join(" ");
    if (this.#note.textContent !== text) this.#note.textContent = text;
    if (this.#label.textContent !== notes.like) this.#label.textContent = notes.like;
    this.#history?.speak(notes.chart, locale);
  }

  #setState(state, isSo) {
    try {
      this.#states[isSo ? "add" : "delete"](state);
    } catch {}
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
    else if (this.#output.parentNode !== place) place.insertBefore(this.#output, isOwn ? null : this.#note);
    if (!this.history) this.#past.remove();
    else if (!this.#past.isConnected) this.#showHistory();
    this.#write();
  }

  #rename() {
    this.rejoin();
    const { value } = this.#counter;
    if (value !== null) announce({ ...this.#counter, elements: [this] }, "value", { value });
  }

  // A translator's text stays until there is other news.
  #write() {
    const { value } = this.#counter;
    const language = languageOf(this);
    if (!options && (this.once || this.format || !/^(en|$)/i.test(language))) loadOptions();
    if (!options && this.format) return;
    const place = this.#place();
    const text = value === null ? "" : (options?.written(value, this.format || "{}", language) ?? value.toLocaleString());
    const [before, where] = this.#written;
    this.#written = [text, place];
    if (text !== before || (text && place !== where)) place.textContent = text;
  }

  async #showHistory() {
    this.shadowRoot.append(this.#past);
    try {
      this.#history ??= (await import("./history.js")).historyIn(this.#past);
      counters.changed();
      this.#updateHistory();
    } catch {
      this.#past.remove();
    }
  }

  #updateHistory() {
    if (this.value === null || !this.history) this.#history?.clear();
    else this.#history?.update(urlOf("history", [this.#name()]));
  }

  #controlOf(event) {
    const path = event.composedPath();
    const within = path.slice(0, path.indexOf(this));
    if (within.includes(this.#button)) return [this.#button];
    return [within.find((node) => node.matches?.(CONTROL)), within.find(({ localName }) => localName === "form")];
  }

  #click(event) {
    const [control, form] = this.#controlOf(event);
    if (!control || control.disabled || this.readonly || event.defaultPrevented) return;
    const isSent = form && addressOf(form) && control.form === form && control.type === "submit";
    if (form && !isSent) return;
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
    if (this.once && !options) return loadOptions().then(() => options && this.#press());
    this.#output.ariaLive = "polite";
    setTimeout(() => (this.#output.ariaLive = "off"), SPOKEN);
    this.#button.classList.remove("burst");
    this.#button.getBoundingClientRect();
    this.#button.classList.toggle("burst", counters.press(this, this.#counter, this.#name()));
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
  loadOptions().then(() => options?.warn(there.server, import.meta.url));
} else {
  customElements.define("click-counter", ClickCounter);
  delivery.start();
  poller.start();
}
