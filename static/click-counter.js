// <click-counter>: a button and its count, on any page.

import { Delivery, isRefusal, request, server, urlOf } from "./clicks.js";

const SOONEST = 4e3; // ms
const LATEST = 60e3; // ms
const NAMES_AT_ONCE = 50;
const SPOKEN = 2e3; // ms

const ENGLISH = {
  lang: "en",
  like: "Like",
  clicks: (digits, number) => (number === 1 ? "1 click" : `${digits} clicks`),
  waiting: (clicks, number) =>
    `${clicks} ${number === 1 ? "is" : "are"} waiting. Counted as soon as the server can be reached.`,
  unreadable: () => "The count cannot be read just now.",
};

class Counters {
  #all = new Map();
  #default = "";
  #unreadable = false;

  of(name) {
    const key = name || this.#default;
    if (!this.#all.has(key))
      this.#all.set(key, { name: key, value: null, since: -1, waiting: 0, refused: 0, elements: new Set() });
    return this.#all.get(key);
  }

  shown() {
    return [...this.#all.values()].filter(({ elements }) => elements.size);
  }

  press(element, counter, name) {
    const again = element.once && this.isPressed(counter);
    Object.assign(counter, { pressed: element, refused: 0, again });
    if (again) {
      if (counter.elements.has(element)) element.tell([]); // spoken once more
      this.changed();
    } else delivery.add(name, element.once && options().keyFor(this.#namesOf(counter)));
    return !again;
  }

  isPressed(counter) {
    const names = this.#namesOf(counter);
    return options().isCounted(names) || delivery.clicks().some(({ name, once }) => once && names.includes(name));
  }

  // The default counter goes by its name and without.
  #namesOf({ name }) {
    return name === this.#default ? [name, ""] : [name];
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
    if (!counter.missing) advise(404, name, reason);
    counter.missing = true;
    announce(counter, "missing", { reason });
  }

  counted(click, answer, started) {
    this.show(answer, started, click.name);
    announce(this.of(answer.name), "counted", { value: answer.value }, true);
    poller.hurry();
  }

  refused(click, status, reason) {
    const counter = this.of(click.name);
    counter.refused += 1;
    counter.forbidden = status === 403 && server.origin !== location.origin;
    if (counter.forbidden) advise(403);
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
    for (const element of counter.elements)
      element.tell(element === speakerOf(counter) ? this.#sentences(counter) : []);
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

function advise(...problem) {
  import("./options.js").then((module) => module.advise(...problem)).catch(() => {});
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
  @media (forced-colors: active) {
    ${button}[aria-pressed="true"] {
      forced-color-adjust: none;
      background: Highlight;
      color: HighlightText;
    }
  }
  ${button}:focus-visible {
    outline: 3px solid var(--click-counter-focus, currentColor);
    outline-offset: 2px;
  }`;

const sheet = new CSSStyleSheet();
sheet.replaceSync(`
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
  :host(:state(waiting)) button {
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
    align-self: baseline; /* on the line of words beside it */
    min-inline-size: 1ch;
    font-variant-numeric: tabular-nums;
    overflow-wrap: anywhere;
    unicode-bidi: plaintext;
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
  .unseen {
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

function make(tag, attributes = {}, ...content) {
  const isDrawn = ["svg", "path"].includes(tag);
  const element = isDrawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.append(...content);
  return element;
}

function languageOf(element) {
  const speaking = element.closest("[lang]");
  const { host } = element.getRootNode();
  return !speaking && host ? languageOf(host) : (speaking?.lang ?? "");
}

const connected = new Set();
const modules = {}; // what a plain button does without

function need(file) {
  modules[file] ??= import(file).then(
    (module) => {
      modules[file] = module;
      for (const element of [...connected]) element.refresh();
      counters.changed();
    },
    () => delete modules[file],
  );
  return modules[file] instanceof Promise ? undefined : modules[file];
}

const options = () => need("./options.js");

// It writes nothing outside its shadow before the first answer: a framework may be hydrating.
class ClickCounter extends HTMLElement {
  static observedAttributes = ["name", "readonly", "once", "format", "history"];
  static from = import.meta.url;

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
  #content = {};
  #history;
  #written = { text: "" };
  #isNew;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    root.append(this.#slot, this.#note);
    this.#slot.addEventListener("slotchange", () => this.#arrange());
    this.#button.addEventListener("click", (event) => {
      if (!event.defaultPrevented) this.#press();
      event.preventDefault(); // inside a link, too
    });
    this.#button.addEventListener("auxclick", (event) => event.preventDefault());
    this.#button.addEventListener("keydown", (event) => {
      if (event.repeat && event.key === "Enter") event.preventDefault();
    });
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

  rejoin() {
    this.#isNew = true;
    this.#counter?.elements.delete(this);
    this.#counter = counters.of(this.#name());
    this.#counter.elements.add(this);
    poller.join(this.#counter);
    this.refresh();
  }

  refresh() {
    this.#arrange();
    if (this.#counter) this.#updateHistory();
  }

  tell(sentences) {
    this.#isNew = false;
    this.#write();
    const more = this.#isPlain() && sentences.every(([note]) => ENGLISH[note]) ? undefined : options();
    const isPressed = this.once && more && counters.isPressed(this.#counter);
    this.#setState("pressed", isPressed);
    this.#setState("waiting", this.#counter.waiting);
    more?.showPressed(this, this.#button.isConnected ? this.#button : this.#content.button, isPressed);
    const notes = { ...ENGLISH, ...more?.notesIn(languageOf(this), () => counters.changed()) };
    const { lang, dir = "ltr", locale = lang } = notes;
    for (const place of [this.#note, this.#label]) Object.assign(place, { lang, dir });
    const text = sentences
      .filter(([note]) => notes[note])
      .map(([note, number]) => notes[note](notes.clicks(number.toLocaleString(locale), number), number))
      .join(" ");
    if (this.#note.textContent !== text) this.#note.textContent = text;
    if (this.#label.textContent !== notes.like) this.#label.textContent = notes.like;
    this.#history?.speak(notes.chart, locale);
  }

  #setState(state, isSo) {
    try {
      this.#states[isSo ? "add" : "delete"](state);
    } catch {}
  }

  // What the page has put inside; until it is looked at it stays as it is.
  #look() {
    if (!this.firstElementChild) return { isEmpty: !this.textContent.trim() };
    const content = need("./content.js");
    content?.listen(this, (name) => this.#press(name));
    content?.dress(this, LOOK);
    return content?.look(this) ?? { hasControl: true, isUnknown: true };
  }

  #isPlain() {
    return !modules["./options.js"] && !this.once && !this.format && /^(en|$)/i.test(languageOf(this));
  }

  #name() {
    return this.getAttribute("name") || this.#content.name || "";
  }

  #arrange() {
    if (!connected.has(this)) return;
    this.#content = this.#look();
    if (!this.history) this.#past.remove();
    else if (!this.#past.isConnected) this.shadowRoot.append(this.#past);
    if (this.history) this.#history ??= need("./history.js")?.historyIn(this.#past);
    if (!this.name && this.#content.isUnknown) return; // its form may name the counter
    if (counters.of(this.#name()) !== this.#counter) return this.#rename();
    const isOwn = !this.readonly && !this.#content.hasControl;
    const place = isOwn ? this.#button : this.shadowRoot;
    if (!isOwn) this.#button.remove();
    else if (!this.#button.isConnected) this.shadowRoot.prepend(this.#button);
    if (this.#slot.parentNode !== place) place.prepend(this.#slot);
    this.#heart.hidden = !this.#content.isEmpty;
    if (this.#content.output) this.#output.remove();
    else if (this.#output.parentNode !== place) place.insertBefore(this.#output, isOwn ? null : this.#note);
    this.#write();
  }

  #rename() {
    const isOther = this.#counter;
    this.rejoin();
    const { value } = this.#counter;
    if (isOther && value !== null) announce({ ...this.#counter, elements: [this] }, "value", { value });
  }

  // What another script writes instead, as translators do, stays until there is other news.
  #write() {
    const { value } = this.#counter;
    const { output: place = this.#output } = this.#content;
    const more = this.#isPlain() ? undefined : options();
    if ((this.format && !more) || (this.#isNew && this.#content.output)) return;
    const text =
      value === null ? "" : (more?.written(value, this.format || "{}", languageOf(this)) ?? value.toLocaleString());
    const last = this.#written;
    const at = performance.now();
    const times = text === last.text && at - last.at < SPOKEN ? last.times + 1 : 0;
    if (text === last.text && (!text || place === last.place || times > 9)) return;
    this.#written = { text, place, at, times };
    place.textContent = text;
  }

  #updateHistory() {
    if (this.value === null || !this.history) this.#history?.clear();
    else this.#history?.update(urlOf("history", [this.#name()]));
  }

  #press(name = this.#name()) {
    if (this.readonly) return;
    const retry = () => setTimeout(() => this.#press(name), modules["./options.js"] ? 0 : SOONEST);
    if (this.once && !options()) return void modules["./options.js"].then(retry);
    this.#output.ariaLive = "polite";
    setTimeout(() => (this.#output.ariaLive = "off"), SPOKEN);
    this.#button.classList.remove("burst");
    this.#button.getBoundingClientRect();
    this.#button.classList.toggle("burst", counters.press(this, counters.of(name), name));
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
  import("./options.js").then(({ warn }) => warn(there.from, import.meta.url));
} else {
  customElements.define("click-counter", ClickCounter);
  delivery.start();
  poller.start();
}
