// What a plain button does without: `once`, words around the count, and other languages than English.

import { isKey, newKey, onceItem, read, server, setCounted, write } from "./clicks.js";

const LANGUAGES = ["de"]; // each has a file like notes.de.js, which only pages in that language load
const loaded = new Map(); // notes by language

// --- once: for each counter one key of this visitor, until it is counted --------------------------------------------

// `names`: all that a counter goes by. Its key is stored when it is first shown, and read again at the press.
export function isCounted(names) {
  const counted = names.some(isCountedAs);
  if (!counted) keyFor(names);
  for (const name of names) if (counted && !isCountedAs(name)) setCounted(name);
  return counted;
}

function isCountedAs(name) {
  return read(onceItem(name)).counted === true;
}

// Two tabs that open together each write a key: both must send the one that is there in the end.
export function keyFor(names) {
  const key = names.map((name) => read(onceItem(name)).key).find(isKey) ?? newKey();
  for (const name of names) if (read(onceItem(name)).key !== key) write(onceItem(name), { key });
  return read(onceItem(names[0])).key;
}

const marked = new WeakSet();

// A button of the page's own is marked only after the first answer or press, as its framework may still compare the page
// with what its server has sent.
export function showPressed(element, button, isPressed) {
  const isOurs = button?.getRootNode() === element.shadowRoot;
  if (button && element.once && (isOurs || isPressed || element.value !== null)) {
    button.setAttribute("aria-pressed", isPressed);
    marked.add(button);
  } else if (marked.delete(button)) button.removeAttribute("aria-pressed");
}

// --- Words ----------------------------------------------------------------------------------------------------------

// As Intl takes it; undefined, which is the visitor's own, where there is none.
function localeOf(language) {
  try {
    return Intl.getCanonicalLocales(language.replaceAll("_", "-"))[0];
  } catch {
    return undefined;
  }
}

// "{} like|{} likes": one and many. A number alone is written as the visitor is used to, one among words in their
// language.
export function written(number, format, language) {
  const locale = /\p{L}{2}/u.test(format) ? localeOf(language) : undefined;
  const [, one, many] = /^([^|]+)\|([^|]*\{\}[^|]*)$/.exec(format) ?? [];
  const form = new Intl.PluralRules(locale).select(number) === "one" ? one : many;
  return (form ?? format).replaceAll("{}", number.toLocaleString(locale));
}

// Beside what click-counter.js says itself.
const RARE_ENGLISH = {
  full: (clicks, number) => `${clicks} ${number === 1 ? "is" : "are"} waiting. There is no room for a new counter yet.`,
  refused: (clicks) => `${clicks} could not be counted.`,
  forbidden: () => "This site may only show the count.",
  again: () => "You have pressed this already. It counts once.",
  missing: () => "There is no such counter.",
};

// The notes of a language and how it writes numbers, if they are there by now; else they are loaded, and `arrived` is
// called.
export function notesIn(language, arrived) {
  const [main] = language.toLowerCase().split(/[-_]/);
  if (!LANGUAGES.includes(main)) return RARE_ENGLISH;
  if (!loaded.has(main)) load(main).then(arrived, () => loaded.delete(main));
  return loaded.get(main) ? { ...loaded.get(main), locale: localeOf(language) } : RARE_ENGLISH;
}

async function load(main) {
  loaded.set(main, undefined);
  loaded.set(main, (await import(`./notes.${main}.js`)).default);
}

// --- To the owner, in the console -----------------------------------------------------------------------------------

function tell(problem) {
  console.warn(`<click-counter> ${problem}`);
}

// The origin may not click, or there is no such counter.
export function advise(status, name, reason) {
  const owner = `${status}. The owner of ${server} must add to its settings:`;
  if (status === 404) tell(/^[\w.:/-]{1,100}$/.test(name) ? `${owner} COUNTERS=…,${name}` : reason);
  else if (self.origin === "null") tell("403. A page without an origin cannot click: serve it, too.");
  else tell(`${owner} ALLOWED_ORIGINS=…,${self.origin}`);
}

// The element is there already.
export function warn(other, url) {
  tell(`is loaded from ${other ?? "elsewhere"} and from ${url}. Load it once: a page can show one server's counters.`);
}
