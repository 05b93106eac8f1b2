// <click-counter>: a button and its count, on any page.

import { Delivery, isCounted, isRefusal, loadModule, request, server, singleKey, urlOf } from "./clicks.js";
import { applyStyle, BUTTON_STYLE, inspect, listen, sheetOf, showPressed } from "./content.js";
import { advise, adviseForbidden, adviseMissing, languageOf, notesIn, written } from "./words.js";

const MIN_DELAY = 4e3; // ms
const MAX_DELAY = 60e3; // ms
const MAX_NAMES = 50;
const SPOKEN = 2e3; // ms

// One bad element never costs another.
function forEach(elements, act) {
  for (const element of [...elements]) {
    try {
      act(element);
    } catch (error) {
      reportError(error);
    }
  }
}

class Counters {
  #all = new Map(); // by the name that is given; "" is the default counter
  #unreadable = false;

  of(given) {
    if (!this.#all.has(given))
      this.#all.set(given, { given, name: given, value: null, since: -1, waiting: 0, refused: 0, elements: new Set() });
    return this.#all.get(given);
  }

  shown() {
    return [...this.#all.values()].filter(({ elements }) => elements.size);
  }

  press(element, counter) {
    const again = element.single && this.isPressed(counter);
    Object.assign(counter, { pressed: element, refused: 0, again });
    if (again) {
      if (counter.elements.has(element)) element.tell([]);
      this.changed();
    } else delivery.add(counter.given, element.single);
    return !again;
  }

  isPressed({ given, name }) {
    const isWaiting = (click) => click.single && click.name === given;
    return isCounted(given) || isCounted(name) || delivery.clicks().some(isWaiting);
  }

  show({ name, value }, started, given) {
    for (const counter of new Set([this.of(given), this.of(name)])) this.#update(counter, name, value, started);
  }

  // Answers overtake one another: a lower count is news only if it was asked for later.
  #update(counter, name, value, started) {
    const { value: before, since } = counter;
    const isNews = value !== before && (value > before || started >= since) && Number.isSafeInteger(value);
    Object.assign(counter, { name, missing: false });
    if (isNews || started >= since) counter.since = performance.now();
    if (!isNews) return;
    counter.value = value;
    forEach(counter.elements, (element) => element.refresh());
    announce(counter, "value", { value });
    poller.hurry();
  }

  miss(given, reason) {
    const counter = this.of(given);
    if (!counter.missing) adviseMissing(given, reason);
    counter.missing = true;
    announce(counter, "missing", { reason });
  }

  counted(click, answer, started) {
    this.show(answer, started, click.name);
    announce(this.of(click.name), "counted", { value: answer.value }, true);
    poller.hurry();
  }

  refused(click, status, reason) {
    const counter = this.of(click.name);
    counter.refused += 1;
    counter.forbidden = status === 403 && server.origin !== location.origin;
    if (counter.forbidden) adviseForbidden();
    announce(counter, "refused", { reason }, true);
  }

  read(isRead) {
    this.#unreadable = !isRead;
    if (isRead) delivery.send();
    else this.changed();
  }

  changed() {
    const late = delivery
      .clicks()
      .filter((click) => delivery.isLate(click))
      .map(({ name }) => this.of(name));
    for (const counter of this.shown()) this.#tell(counter, late.filter((one) => one === counter).length);
  }

  #tell(counter, waiting) {
    const isNews = waiting !== counter.waiting;
    counter.waiting = waiting;
    const sentences = this.#sentences(counter);
    forEach(counter.elements, (element) => element.tell(element === speakerOf(counter) ? sentences : []));
    if (isNews) announce(counter, "waiting", { waiting }, true);
  }

  #sentences({ value, waiting, refused, forbidden, again, missing }) {
    const unreadable = value === null && this.#unreadable && !waiting && !missing;
    const told = { waiting, refused, forbidden: refused && forbidden, again, missing, unreadable };
    return Object.entries(told).filter(([, number]) => number);
  }
}

function speakerOf({ elements, pressed }) {
  return elements.has(pressed) || !elements.size ? pressed : [...elements][0];
}

function announce(counter, event, more, once) {
  const detail = { name: counter.name, ...more };
  for (const element of once ? [speakerOf(counter)] : [...counter.elements]) {
    element?.dispatchEvent(new CustomEvent(`click-counter-${event}`, { bubbles: true, composed: true, detail }));
  }
}

class Poller {
  #delay = MIN_DELAY;
  #timer;
  #asking;
  #isAsked = true;
  #joining;

  start() {
    for (const event of ["visibilitychange", "online"]) addEventListener(event, () => this.#wake(), true);
    addEventListener("pageshow", ({ persisted }) => {
      if (!persisted) return;
      this.#asking = undefined;
      this.#wake();
      delivery.resume();
    });
  }

  join(counter) {
    counter.missing = false;
    this.#isAsked &&= counter.value !== null && performance.now() - counter.since < MIN_DELAY;
    this.#joining ??= Promise.resolve().then(() => {
      this.#joining = undefined;
      counters.changed();
      if (!this.#isAsked) this.#poll();
      else if (!this.#timer) this.hurry();
    });
  }

  hurry() {
    this.#delay = MIN_DELAY;
    if (!this.#asking) this.#pollLater();
  }

  #wake() {
    if (document.hidden) return;
    for (const counter of counters.shown()) counter.missing = false;
    this.#delay = MIN_DELAY;
    this.#poll();
    delivery.send();
  }

  #pollLater() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#poll(), this.#delay * (0.85 + Math.random() * 0.15));
  }

  async #poll() {
    if (document.hidden || this.#asking) return;
    clearTimeout(this.#timer);
    this.#isAsked = true;
    this.#delay = Math.min(this.#delay * 1.4, MAX_DELAY);
    const given = counters.shown().flatMap(({ given, missing }) => (missing ? [] : [given]));
    const groups = given.includes("") ? [[""]] : [];
    for (const names = given.filter(Boolean); names.length; ) groups.push(names.splice(0, MAX_NAMES));
    const asking = Promise.all(groups.map(readCounts));
    this.#asking = asking;
    const areRead = await asking;
    if (this.#asking !== asking) return;
    this.#asking = undefined;
    counters.read(!areRead.includes(false));
    if (this.#isAsked) this.#pollLater();
    else this.#poll();
  }
}

async function readCounts(names) {
  const started = performance.now();
  try {
    const { response, answer } = await request("value", names, { cache: "no-store" });
    const mayPress = [...connected].some(({ readonly }) => !readonly);
    if (mayPress && response.headers.get("Pragma") === "click-allowed=no") adviseForbidden();
    const isMissing = isRefusal(response) && !names[1];
    for (const count of isMissing ? [{ ...answer, value: null }] : [answer].flat()) {
      const given = names[1] ? count.name : names[0];
      if (count.value === null) counters.miss(given, count.detail ?? `There is no counter ${given}.`);
      else if (response.ok) counters.show(count, started, given);
    }
    return response.ok || isMissing;
  } catch {
    return false;
  }
}

const HEART = "M12 21 3.4 12.5a5.6 5.6 0 0 1 7.9-7.9l.7.7.7-.7a5.6 5.6 0 0 1 7.9 7.9z";
const STYLE = `
  :host {
    display: inline-flex;
    flex-wrap: wrap;
    align-items: baseline;
    gap: 0.25em 0.6em;
  }
  :host([hidden]), [hidden] {
    display: none !important;
  }
  ${BUTTON_STYLE("button")}
  button {
    display: inline-flex;
    align-items: center;
    gap: 0.45em;
  }
  button.heart[aria-pressed="true"]:not(:hover) {
    box-shadow: none;
  }
  :host(:state(waiting)) button {
    border-style: dashed;
  }
  [part="heart"] {
    display: grid;
  }
  svg {
    inline-size: 1.2em;
    fill: transparent;
    stroke: currentColor;
    stroke-width: 1.5;
    overflow: visible;
  }
  [aria-pressed="true"] [part="heart"] {
    color: var(--click-counter-heart, var(--click-counter-color, #f0384f)); /* 3:1 on white, on black */
  }
  [aria-pressed="true"] svg {
    fill: currentColor;
  }
  output {
    align-self: baseline; /* on the line of words beside it */
    min-inline-size: 1ch;
    font-variant-numeric: tabular-nums;
    overflow-wrap: anywhere;
    unicode-bidi: plaintext;
  }
  output:empty::before {
    content: "\\200b"; /* as high as with a number */
  }
  output.none {
    min-inline-size: 0;
    margin-inline-start: -0.45em; /* no gap either */
  }
  [part="note"] {
    flex-basis: 100%;
    font-size: 0.875em;
    text-align: -webkit-match-parent;
    text-align: match-parent;
  }
  [part="note"]:empty {
    position: absolute;
  }
`;
const READONLY_STYLE = ":host([readonly]) ::slotted(:is(form, button)) { display: none !important }";
const PAGE_STYLE = ":host { display: contents !important }";

const BURST = {
  transform: ["none", "scale(0.8)", "scale(1.35)", "none"],
  fill: ["transparent", "currentColor", "currentColor"],
};
const ROLL = { transform: ["translateY(60%)", "none"], opacity: [0, 1] };

function play(element, frames, duration) {
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches)
    element.animate(frames, { duration, easing: "ease-out" });
}

function make(tag, attributes = {}, ...content) {
  const isDrawn = ["svg", "path"].includes(tag);
  const element = isDrawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.append(...content);
  return element;
}

// What is in its place keeps the focus.
function fill(place, nodes) {
  for (const [index, node] of nodes.entries())
    if (place.childNodes[index] !== node) place.insertBefore(node, place.childNodes[index] ?? null);
  while (place.childNodes.length > nodes.length) place.lastChild.remove();
}

const connected = new Set();
let charts; // history.js
let chartsDelay = 0; // ms

async function loadCharts() {
  if (chartsDelay) return;
  for (chartsDelay = MIN_DELAY; !charts; chartsDelay *= 2) {
    charts = await loadModule("./history.js").catch(() => new Promise((done) => setTimeout(done, chartsDelay)));
  }
  forEach(connected, (element) => element.refresh());
  counters.changed();
}

// It writes only into its shadow before the first answer: a framework may be hydrating.
class ClickCounter extends HTMLElement {
  static observedAttributes = ["name", "readonly", "single", "format", "history"];
  static from = import.meta.url;

  #slot = make("slot");
  #svg = make("svg", { viewBox: "0 0 24 24", role: "img" }, make("path", { d: HEART }));
  #heart = make("span", { part: "heart" }, this.#svg);
  #button = make("button", { part: "button", type: "button" });
  #output = make("output", { part: "count", "aria-live": "off" });
  #note = make("span", { part: "note", role: "status" });
  #past = make("div", { part: "history" });
  #states = this.attachInternals().states;
  #counter;
  #content = {};
  #history;
  #written = { text: "" };
  #isNew;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheetOf(STYLE), sheetOf(READONLY_STYLE)];
    root.append(this.#slot, this.#note);
    this.#slot.addEventListener("slotchange", () => this.#arrange());
    listen(this, (name) => this.#press(name));
    new MutationObserver(() => this.#arrange()).observe(this, { childList: true, characterData: true, subtree: true });
  }

  get value() {
    return this.#counter?.value ?? null;
  }

  connectedCallback() {
    for (const [property, value] of Object.entries(this).filter(([property]) => property in ClickCounter.prototype)) {
      delete this[property];
      Reflect.set(this, property, value); // `value` cannot
    }
    connected.add(this);
    this.refresh();
  }

  disconnectedCallback() {
    connected.delete(this);
    this.#counter?.elements.delete(this);
    this.#counter = undefined;
  }

  attributeChangedCallback() {
    if (!connected.has(this)) return;
    this.refresh();
    counters.changed();
  }

  refresh() {
    this.#arrange();
    if (this.value === null || !this.history) this.#history?.clear();
    else this.#history?.update(this.#name());
  }

  tell(sentences) {
    this.#isNew = false;
    this.#write();
    this.#advise();
    const isPressed = this.single && counters.isPressed(this.#counter);
    if (this.single && !isPressed) singleKey(this.#counter.given);
    this.#setState("pressed", isPressed);
    this.#setState("waiting", this.#counter.waiting);
    this.#setState("missing", this.#counter.missing);
    showPressed(this, this.#button.isConnected ? this.#button : this.#content.button, isPressed);
    const notes = notesIn(languageOf(this), () => counters.changed());
    const { lang, dir = "ltr", locale = lang } = notes;
    Object.assign(this.#note, { lang, dir });
    this.#svg.setAttribute("lang", lang);
    this.#svg.setAttribute("aria-label", notes.like);
    const text = sentences
      .map(([note, number]) => notes[note](notes.clicks(number.toLocaleString(locale), number), number))
      .join(" ");
    if (this.#note.textContent !== text) this.#note.textContent = text;
    this.#history?.speak(notes.chart, locale);
  }

  #setState(state, isSo) {
    try {
      this.#states[isSo ? "add" : "delete"](state);
    } catch {}
  }

  #name() {
    return this.name || this.#content.name || "";
  }

  #arrange() {
    if (!connected.has(this)) return;
    this.#content = inspect(this);
    if (counters.of(this.#name()) !== this.#counter) return this.#join();
    const { isPage, isEmpty, hasControl, output } = this.#content;
    const isOwn = !this.readonly && !hasControl;
    const [slot, count] = [!isPage && this.#slot, !output && this.#output];
    if (isOwn) fill(this.#button, [slot, this.#heart, count].filter(Boolean));
    const parts = isOwn ? [this.#button] : [slot, count];
    fill(this.shadowRoot, [...parts, this.#note, this.history && this.#past, isPage && this.#slot].filter(Boolean));
    this.#heart.hidden = !isEmpty;
    this.#button.classList.toggle("heart", isEmpty);
    this.shadowRoot.adoptedStyleSheets[1] = sheetOf(isPage ? PAGE_STYLE : READONLY_STYLE);
    if (this.firstElementChild && !isPage) applyStyle(this);
    if (this.history && !charts) loadCharts();
    if (this.history) this.#history ??= charts?.historyIn(this.#past);
    this.#write();
  }

  #join() {
    const before = this.#counter;
    before?.elements.delete(this);
    this.#isNew = true;
    this.#counter = counters.of(this.#name());
    this.#counter.elements.add(this);
    poller.join(this.#counter);
    this.refresh();
    const { value } = this.#counter;
    if (before && value !== null) announce({ ...this.#counter, elements: [this] }, "value", { value });
  }

  // What another script writes instead, as translators do, stays until there is other news.
  #write() {
    const { value } = this.#counter;
    const { output: place = this.#output } = this.#content;
    if (this.#isNew && this.#content.output) return;
    const isBare = value === 0 && place === this.#output && !this.format && !this.readonly;
    const text = value === null || isBare ? "" : written(value, this.format || "{}", languageOf(this));
    this.#output.classList.toggle("none", isBare);
    const last = this.#written;
    const at = performance.now();
    const times = text === last.text && at - last.at < SPOKEN ? last.times + 1 : 0;
    if (text === last.text && (!text || place === last.place || times > 9)) return;
    this.#written = { text, place, at, times };
    place.textContent = text;
    if (last.text && place === this.#output) play(place, ROLL, 200);
  }

  #advise() {
    if (document.readyState === "loading") return;
    const { isPage, address, name } = this.#content;
    const tag = `<click-counter name="${this.#name()}">`;
    const path = urlOf("click", []);
    if (isPage) advise(`has no closing tag, and holds the rest of the page. Write ${tag}</click-counter>`, tag);
    if (this.format && !this.format.includes("{}")) advise("has a format without {}, where the count goes.", tag);
    if (address && (address.origin + address.pathname !== path || name !== this.#name()))
      advise(`has a form that clicks at ${address}. Both must name one counter of ${server}`, tag);
  }

  #press(name = this.#content.name ?? "") {
    if (this.readonly) return;
    this.#output.setAttribute("aria-live", "polite");
    setTimeout(() => this.#output.setAttribute("aria-live", "off"), SPOKEN);
    if (counters.press(this, counters.of(this.name || name))) play(this.#svg, BURST, 450);
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
const existing = customElements.get("click-counter");
const { adoptedStyleSheets } = document;
const isSupported = self.fetch && adoptedStyleSheets && !Object.isFrozen(adoptedStyleSheets);

if (existing) {
  const both = `is loaded from ${existing.from ?? "elsewhere"} and from ${import.meta.url}`;
  advise(`${both}. Load it once.`);
} else if (isSupported) {
  customElements.define("click-counter", ClickCounter);
  delivery.start();
  poller.start();
} else {
  advise("needs a newer browser. A form inside works in all.");
}
