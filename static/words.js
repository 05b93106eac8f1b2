// The count in words, notes in the language of the page, and advice to its owner.

import { loadModule, server } from "./clicks.js";

const LANGUAGES = ["de"]; // each has a file like notes.de.js
const loaded = new Map();

const ENGLISH = {
  lang: "en",
  like: "Like",
  clicks: (digits, number) => (number === 1 ? "1 click" : `${digits} clicks`),
  waiting: (clicks, number) =>
    `${clicks} ${number === 1 ? "is" : "are"} waiting. Counted as soon as the server can be reached.`,
  refused: (clicks) => `${clicks} could not be counted.`,
  forbidden: () => "This site may only show the count.",
  again: () => "You have pressed this already. It counts once.",
  missing: () => "There is no such counter.",
  unreadable: () => "The count cannot be read just now.",
};

export function languageOf(element) {
  const speaking = element.closest("[lang]");
  const { host } = element.getRootNode();
  return !speaking && host ? languageOf(host) : (speaking?.lang ?? "");
}

// undefined is the visitor's own.
function localeOf(language) {
  try {
    return Intl.getCanonicalLocales(language.replaceAll("_", "-"))[0];
  } catch {
    return undefined;
  }
}

// A number alone is written as the visitor is used to, one among words as they are. Browsers differ in Arabic digits.
export function written(number, format, language) {
  const locale = /\p{L}{2}/u.test(format) ? localeOf(language) : undefined;
  const [, one, many] = /^([^|]+)\|([^|]*\{\}[^|]*)$/.exec(format) ?? [];
  const form = new Intl.PluralRules(locale).select(number) === "one" ? one : many;
  const digits = /\p{Script=Latin}{2}/u.test(format) ? { numberingSystem: "latn" } : {};
  return (form ?? format).replaceAll("{}", number.toLocaleString(locale, digits));
}

// English until those of the language have arrived.
export function notesIn(language, arrived) {
  const [main] = language.toLowerCase().split(/[-_]/);
  if (!LANGUAGES.includes(main)) return ENGLISH;
  if (!loaded.has(main)) load(main).then(arrived, () => loaded.delete(main));
  return loaded.get(main) ? { ...loaded.get(main), locale: localeOf(language) } : ENGLISH;
}

async function load(main) {
  loaded.set(main, undefined);
  loaded.set(main, (await loadModule(`./notes.${main}.js`)).default);
}

const told = new Set();

// To the owner, in the console, once.
export function advise(advice, tag = "<click-counter>") {
  if (!told.has(tag + advice)) console.warn(tag, advice);
  told.add(tag + advice);
}

export function adviseMissing(name, reason) {
  const isName = /^[\w.:/-]{1,100}$/.test(name);
  advise(isName ? `404. The owner of ${server} must add to its settings: COUNTERS=…,${name}` : reason);
}

export function adviseForbidden() {
  if (self.origin === "null") advise("403. A page without an origin cannot click: serve it, too.");
  else advise(`403. The owner of ${server} must add to its settings: ALLOWED_ORIGINS=…,${self.origin}`);
}
