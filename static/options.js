// What a plain button does without: `once`, words around the count, and other languages than English.

import { isKey, newKey, onceItem, read, server, write } from "./clicks.js";

const LANGUAGES = ["de"]; // each has a file like notes.de.js, which only pages in that language load
const loaded = new Map(); // notes by language

// --- once: for each counter one key of this visitor, until it is counted --------------------------------------------

export function isCounted(name) {
  return read(onceItem(name)).counted === true;
}

// Two tabs that open together each write a key: both must send the one that is there in the end.
export function keyFor(name) {
  if (!isKey(read(onceItem(name)).key) && !isCounted(name)) write(onceItem(name), { key: newKey() });
  return read(onceItem(name)).key;
}

// A button of the page's own is marked only after the first answer or press, as its framework may still compare the page
// with what its server has sent.
export function showPressed(element, button, isPressed) {
  const isOurs = button?.getRootNode() === element.shadowRoot;
  if (element.once && (isOurs || isPressed || element.value !== null)) button?.setAttribute("aria-pressed", isPressed);
  else if (isOurs) button.removeAttribute("aria-pressed");
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
  const [, one, many] = /^(.*\{\}.*)\|(.*\{\}.*)$/s.exec(format) ?? [];
  const form = new Intl.PluralRules(locale).select(number) === "one" ? one : many;
  return (form ?? format).replace("{}", number.toLocaleString(locale));
}

// The notes of a language and how it writes numbers, if they are there by now; else they are loaded, and `arrived` is
// called.
export function notesIn(language, arrived) {
  const [main] = language.toLowerCase().split(/[-_]/);
  if (!LANGUAGES.includes(main)) return undefined;
  if (!loaded.has(main)) load(main).then(arrived, () => loaded.delete(main));
  return loaded.get(main) && { ...loaded.get(main), locale: localeOf(language) };
}

async function load(main) {
  loaded.set(main, undefined);
  loaded.set(main, (await import(`./notes.${main}.js`)).default);
}

// The element is there already.
export function warn(other, url) {
  if (other?.origin === server.origin) console.warn(`<click-counter> is loaded twice, also as ${url}. Once is enough.`);
  else
    console.warn(
      `<click-counter> is another server's here, not that of ${server}. A page can show the counters of one.`,
    );
}
