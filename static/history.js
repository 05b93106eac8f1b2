// The clicks of the last 30 days, as a quiet bar chart: <click-counter history> loads this. Hover, touch and arrow keys
// tell a day's number; a screen reader gets a sentence and a table. Every number is one that the server gave.

import { request } from "./clicks.js";
import { sheetOf } from "./content.js";

const DAYS = 30;
const LOWEST = 10; // clicks that a full bar stands for at least, so that the first ones are seen to add up
const HEIGHT = 40; // of the drawing, in its own units; a day is 10 wide
const PAUSE = 2e3; // ms between two requests
const AT_ONCE = 200; // ms
const DAY = 24 * 3600e3; // ms
const SVG = "http://www.w3.org/2000/svg";

const ENGLISH = {
  lang: "en",
  title: "Clicks per day (UTC)",
  day: "Day",
  clicks: "Clicks",
  number: (digits, number) => (number === 1 ? "1 click" : `${digits} clicks`),
  none: (days) => `No clicks in the last ${days} days.`,
  all: (clicks, day, number) =>
    number === 1 ? `${clicks} in the last 30 days, on ${day}.` : `${clicks}, all on ${day}.`,
  most: (clicks, days, day, number) => `${clicks} in the last ${days} days, most on ${day}: ${number}.`,
};

const STYLE = `
  :host([history]) {
    display: flex; /* as wide as there is room, so that the chart stays where it is when its text changes */
  }
  [part="history"] {
    flex-basis: 100%;
    min-block-size: 7.25em;
    margin-block-start: 1em;
    font-size: 0.875em;
    text-align: -webkit-match-parent;
    text-align: match-parent;
  }
  .chart {
    max-inline-size: 24em;
    margin-inline: var(--click-counter-bars-margin, 0);
    color: var(--click-counter-bar, currentColor);
    touch-action: pan-y pinch-zoom;
  }
  .chart:focus-visible {
    outline: 2px solid var(--click-counter-focus, currentColor);
    outline-offset: 4px;
  }
  .chart svg {
    display: block;
    inline-size: 100%;
    block-size: 3em;
    border-block-end: 1px solid rgb(128 128 128 / 0.6);
    stroke: none;
  }
  rect {
    fill: currentColor;
    fill-opacity: 0.5;
  }
  rect.none {
    fill-opacity: 0;
  }
  rect:last-of-type:not(.none) {
    fill-opacity: 0.75;
  }
  rect.chosen {
    fill-opacity: 1;
  }
  .dates {
    display: flex;
    justify-content: space-between;
    margin-block-start: 0.25em;
    font-size: 0.875em;
  }
  p {
    margin: 0.4em 0 0;
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
    rect {
      transition: y 200ms ease-out, height 200ms ease-out;
    }
  }
  @media (forced-colors: active) {
    .chart svg {
      forced-color-adjust: none;
      border-color: CanvasText;
    }
    rect, rect:last-of-type:not(.none) {
      fill: CanvasText;
      fill-opacity: 1;
    }
    rect.chosen {
      fill: Highlight;
    }
  }`;

// The sentences of one language, with its numbers and dates.
class Words {
  #locale;
  #number;
  #date;

  constructor(notes, locale) {
    this.notes = notes;
    this.#locale = locale;
    this.#number = new Intl.NumberFormat(locale);
    this.#date = new Intl.DateTimeFormat(locale, { day: "numeric", month: "long", timeZone: "UTC" });
  }

  isIn(notes, locale) {
    return notes === this.notes && locale === this.#locale;
  }

  number(value) {
    return this.#number.format(value);
  }

  clicks(value) {
    return this.notes.number(this.number(value), value);
  }

  date({ day }) {
    return this.#date.format(new Date(`${day}T00:00:00Z`));
  }

  of(day) {
    return `${this.date(day)}: ${this.clicks(day.value)}`;
  }

  all(days) {
    const sum = days.reduce((total, { value }) => total + value, 0);
    const best = days.reduce((most, day) => (day.value >= most.value ? day : most));
    if (!sum) return this.notes.none(this.number(days.length));
    if (best.value === sum) return this.notes.all(this.clicks(sum), this.date(best), sum);
    return this.notes.most(this.clicks(sum), this.number(days.length), this.date(best), this.number(best.value));
  }
}

function within(index) {
  return Math.max(0, Math.min(DAYS - 1, index));
}

function make(tag, attributes = {}, ...content) {
  const element = tag === "svg" || tag === "rect" ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.append(...content);
  return element;
}

// Elements of one counter that ask at the same moment share one request.
const asked = new Map();

function daysOf(name) {
  if (!(performance.now() - asked.get(name)?.at < AT_ONCE))
    asked.set(name, { at: performance.now(), days: readDays(name) });
  return asked.get(name).days;
}

async function readDays(name) {
  try {
    const { response, answer } = await request("history", [name], { cache: "no-cache" });
    return response.ok && answer.days.length === DAYS && answer.days;
  } catch {
    return false;
  }
}

class History {
  #place;
  #name; // of the counter that is drawn
  #days = [];
  #chosen = -1; // the day that is asked about
  #asking = false;
  #askedAt = -PAUSE; // performance.now()
  #again = false;
  #timer;

  #words = new Words(ENGLISH, "en");
  #bars = Array.from({ length: DAYS }, (_, index) => make("rect", { x: index * 10 + 1, width: 8 }));
  #first = make("span");
  #last = make("span");
  #chart = make(
    "div",
    { class: "chart", role: "slider", tabindex: 0, dir: "ltr", "aria-valuemin": 1, "aria-valuemax": DAYS },
    make(
      "svg",
      { viewBox: `0 0 ${DAYS * 10} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": true },
      ...this.#bars,
    ),
    make("div", { class: "dates", "aria-hidden": true }, this.#first, this.#last),
  );
  #text = make("p");
  #unseen = make("div", { class: "unseen" }); // around the table, for that would take the height of its rows

  constructor(place) {
    this.#place = place;
    this.#chart.addEventListener("pointermove", (event) => this.#point(event));
    this.#chart.addEventListener("pointerdown", (event) => this.#point(event));
    this.#chart.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.#choose(-1));
    this.#chart.addEventListener("pointercancel", () => this.#choose(-1)); // the finger scrolls the page
    this.#chart.addEventListener("blur", () => this.#choose(-1));
    this.#chart.addEventListener("keydown", (event) => this.#press(event));
  }

  // Ask for the days again, whenever the count changes, but not more often than every two seconds.
  async update(name) {
    if (name !== this.#name) this.clear();
    this.#name = name;
    this.#again = true;
    if (this.#asking) return;
    this.#asking = true;
    clearTimeout(this.#timer);
    let drawn = true;
    while (this.#again) {
      const pause = this.#askedAt + PAUSE - performance.now();
      if (pause > 0) await new Promise((done) => setTimeout(done, pause));
      this.#again = false;
      this.#askedAt = performance.now();
      drawn = await this.#ask();
    }
    this.#asking = false;
    if (this.#name === undefined) return;
    const pause = drawn ? DAY - (Date.now() % DAY) + Math.random() * 10 * PAUSE : 10 * PAUSE; // after midnight, or soon
    this.#timer = setTimeout(() => this.#place.isConnected && this.update(this.#name), pause);
  }

  async #ask() {
    const name = this.#name;
    const days = name !== undefined && (await daysOf(name));
    if (!days || name !== this.#name) return false; // what is drawn stays; the count's own note tells what is wrong
    this.#draw(days);
    return true;
  }

  // Speak another language.
  speak(notes = ENGLISH, locale = notes.lang) {
    if (this.#words.isIn(notes, locale)) return;
    this.#words = new Words(notes, locale);
    if (this.#days.length) this.#draw(this.#days);
  }

  clear() {
    if (this.#name === undefined) return;
    this.#name = undefined;
    this.#again = false;
    clearTimeout(this.#timer);
    this.#days = [];
    this.#chosen = -1;
    this.#place.replaceChildren();
  }

  #draw(days) {
    this.#days = days;
    if (!this.#chart.isConnected) this.#place.replaceChildren(this.#chart, this.#text, this.#unseen);
    const most = Math.max(LOWEST, ...days.map(({ value }) => value));
    for (const [index, { value }] of days.entries()) {
      const height = value ? Math.max(3, (value / most) * HEIGHT) : 1;
      this.#bars[index].setAttribute("y", HEIGHT - height);
      this.#bars[index].setAttribute("height", height);
      this.#bars[index].classList.toggle("none", !value);
    }
    this.#first.textContent = this.#words.date(days[0]);
    this.#last.textContent = this.#words.date(days[DAYS - 1]);
    this.#unseen.replaceChildren(this.#table());
    const { notes } = this.#words;
    for (const part of [this.#chart, this.#text, this.#unseen]) part.lang = notes.lang;
    this.#text.dir = this.#unseen.dir = notes.dir ?? "ltr";
    this.#chart.setAttribute("aria-label", notes.day);
    this.#choose(this.#chosen);
  }

  #table() {
    const { notes } = this.#words;
    const row = (day) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, this.#words.date(day)),
        make("td", {}, this.#words.number(day.value)),
      );
    return make(
      "table",
      {},
      make("caption", {}, notes.title),
      make(
        "thead",
        {},
        make("tr", {}, make("th", { scope: "col" }, notes.day), make("th", { scope: "col" }, notes.clicks)),
      ),
      make("tbody", {}, ...this.#days.map(row)),
    );
  }

  #choose(index) {
    this.#chosen = index;
    for (const bar of this.#bars) bar.classList.toggle("chosen", bar === this.#bars[index]);
    const at = index < 0 ? DAYS - 1 : index;
    const told = this.#words.of(this.#days[at]);
    this.#chart.setAttribute("aria-valuenow", at + 1);
    this.#chart.setAttribute("aria-valuetext", told);
    const text = index < 0 ? this.#words.all(this.#days) : told;
    if (this.#text.textContent !== text) this.#text.textContent = text;
  }

  #point(event) {
    const { left, width } = this.#chart.getBoundingClientRect();
    this.#choose(within(Math.floor(((event.clientX - left) / width) * DAYS)));
  }

  #press(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return; // the browser's own shortcuts
    const from = this.#chosen < 0 ? DAYS - 1 : this.#chosen;
    const to = {
      ArrowLeft: from - 1,
      ArrowDown: from - 1,
      ArrowRight: from + 1,
      ArrowUp: from + 1,
      Home: 0,
      End: DAYS - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#choose(within(to));
  }
}

export function historyIn(place) {
  place.getRootNode().adoptedStyleSheets.push(sheetOf(STYLE));
  return new History(place);
}
