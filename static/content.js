// The page's own form, button and output inside a <click-counter>. Loaded where there are elements inside.

const BUTTON = "button, input:is([type=submit], [type=button], [type=image]), [role=button]";
const CONTROL = `${BUTTON}, a[href], summary`;

const UNSEEN = ["noscript", "script", "style", "template"];

// What is shown inside, also what comes through the slots of a component around it.
function nodesIn(parent) {
  const slotted = parent.localName === "slot" ? parent.assignedNodes() : [];
  return [...(slotted.length ? slotted : parent.childNodes)].flatMap((child) => {
    if (child instanceof Text) return child.data.trim() ? [child] : [];
    if (!(child instanceof Element) || UNSEEN.includes(child.localName)) return [];
    return child.localName === "slot" ? nodesIn(child) : [child, ...nodesIn(child)];
  });
}

// The address that a form clicks at; undefined for one of the page's own, such as a search.
function addressOf(form) {
  const url = new URL(form.getAttribute("action") ?? "", document.baseURI);
  return url.pathname.endsWith("/click") ? url : undefined;
}

function isForm(node) {
  return node.localName === "form";
}

const awaited = new WeakSet();

// What the element finds inside: whether that is nothing, whether something there can be pressed, the button among it,
// the <output>, and the name of the counter that a form clicks.
export function look(element) {
  const nodes = nodesIn(element);
  const form = nodes.find((node) => isForm(node) && addressOf(node));
  for (const node of nodes.filter((node) => node.localName?.includes("-") && node.matches(":not(:defined)"))) {
    if (awaited.has(node)) continue;
    awaited.add(node);
    customElements.whenDefined(node.localName).then(() => setTimeout(() => element.refresh())); // it has rendered by then
  }
  return {
    isEmpty: !nodes.length,
    hasControl: nodes.some(isControl),
    button: nodes.find((node) => node.matches?.(BUTTON)),
    output: nodes.find(({ localName }) => localName === "output"),
    name: form && addressOf(form).searchParams.get("name"),
  };
}

function isControl(node) {
  return node.matches?.(CONTROL) || [...(node.shadowRoot?.querySelectorAll("*") ?? [])].some(isControl);
}

const heard = new WeakSet();

// Let what is inside press: a button or a link by itself, a form of the README's kind when it is sent. One press is one
// click and nothing else, whatever is around: the browser's own action goes, and a held key does not press again.
export function listen(element, press) {
  if (heard.has(element)) return;
  heard.add(element);
  element.addEventListener("click", (event) => click(element, event, press));
  element.addEventListener("auxclick", (event) => pressAt(element, event).control && event.preventDefault());
  element.addEventListener("submit", (event) => submit(element, event, press));
  element.addEventListener("keydown", (event) => {
    const isPress = controlOf(element, event) || event.composedPath()[0].localName === "input";
    if (event.repeat && event.key === "Enter" && isPress) event.preventDefault();
  });
}

function pathWithin(element, event) {
  const path = event.composedPath();
  return path.slice(0, path.indexOf(element));
}

function controlOf(element, event) {
  return pathWithin(element, event).find((node) => node.matches?.(CONTROL));
}

// The control that this event presses, and the form around it; neither where there is nothing to press.
function pressAt(element, event) {
  const control = controlOf(element, event);
  const form = pathWithin(element, event).find(isForm);
  return element.readonly || (form && !addressOf(form)) ? {} : { control, form };
}

// A form is asked to send itself, so that it checks its fields and its page hears of it.
function click(element, event, press) {
  const { control, form } = pressAt(element, event);
  if (!control || control.disabled || event.defaultPrevented) return;
  if (!form) {
    event.preventDefault();
    press();
  } else if (control.form === form && ["submit", "image"].includes(control.type)) {
    event.preventDefault();
    form.requestSubmit(control);
  }
}

function submit(element, event, press) {
  const address = addressOf(event.target);
  if (event.defaultPrevented || !address) return;
  event.preventDefault();
  press(element.name || (address.searchParams.get("name") ?? ""));
}

const sheets = new Map(); // by their text

// Buttons of the page's own look like the element's. `:where` gives way to any rule of the page but those in a layer; so
// a button with a class is left alone.
export function dress(element, look) {
  const root = element.getRootNode();
  const text = `${look(":where(click-counter button:not([class]:not([class=''])))")}
    click-counter[readonly] :is(form, ${BUTTON}) { display: none !important }`;
  if (!sheets.has(text)) sheets.set(text, new CSSStyleSheet());
  const sheet = sheets.get(text);
  if (root.adoptedStyleSheets?.includes(sheet)) return;
  sheet.replaceSync(text);
  try {
    root.adoptedStyleSheets.push(sheet);
  } catch {
    // moved into another document, which cannot share it
  }
}
