// What a page puts inside a <click-counter>: its own form, button and output.

const BUTTON = "button, input:is([type=submit], [type=button], [type=image]), [role=button]";
const CONTROL = `${BUTTON}, a[href], summary`;
const BLOCK = `p, h1, h2, h3, h4, h5, h6, ul, ol, dl, table, pre, blockquote, figure, form, article, section, main, header,
  footer, nav, aside`;
const UNSEEN = ["noscript", "script", "style", "template"];
const MAX_LABEL = 100; // characters
const MAX_PARAGRAPH = 24; // of a label in a <p>, as of Markdown tools

// Also through the slots of a component around it.
function nodesIn(parent) {
  const slotted = parent.localName === "slot" ? parent.assignedNodes() : [];
  return [...(slotted.length ? slotted : parent.childNodes)].flatMap((child) => {
    if (child instanceof Text) return child.data.trim() ? [child] : [];
    if (!(child instanceof Element) || UNSEEN.includes(child.localName)) return [];
    if (child.localName === "click-counter") return [child];
    return child.localName === "slot" ? nodesIn(child) : [child, ...nodesIn(child)];
  });
}

function isForm(node) {
  return node.localName === "form";
}

// Where a form clicks; undefined for another, such as a search.
function addressOf(form) {
  try {
    const url = new URL(form.getAttribute("action") ?? "", document.baseURI);
    const field = form.elements.namedItem("name")?.value;
    if (field && !url.searchParams.has("name")) url.searchParams.set("name", field);
    return url.pathname.endsWith("/click") ? url : undefined;
  } catch {
    return undefined;
  }
}

function nameIn(form) {
  return addressOf(form).searchParams.get("name") ?? "";
}

function isControl(node) {
  return node.matches?.(CONTROL) || [...(node.shadowRoot?.querySelectorAll("*") ?? [])].some(isControl);
}

const awaited = new WeakSet();

export function inspect(element) {
  const nodes = nodesIn(element);
  if (isPage(element, nodes)) return { isPage: true, isEmpty: true };
  for (const node of nodes.filter((node) => node.localName?.includes("-") && node.matches(":not(:defined)"))) {
    if (awaited.has(node)) continue;
    awaited.add(node);
    customElements.whenDefined(node.localName).then(() => setTimeout(() => element.refresh()));
  }
  const form = [...nodes.filter(isForm), element.closest("form")].find(addressOf);
  return {
    isEmpty: !nodes.length,
    hasControl: nodes.some(isControl),
    button: nodes.find((node) => node.matches?.(BUTTON)),
    output: nodes.find(({ localName }) => localName === "output"),
    address: form && addressOf(form),
    name: form && nameIn(form),
  };
}

// Without a closing tag it holds the rest of the page: another counter, or what no label looks like.
function isPage(element, nodes) {
  const find = (selector) => nodes.filter((node) => node.matches?.(selector));
  const isOwn = (node) =>
    isControl(node) && !node.matches("a[href], summary") && (node.form?.contains(element) ?? true);
  const [blocks, links] = [find(BLOCK), find("a[href]").length];
  const text = nodes.map((node) => node.data?.trim() ?? "").join(" ");
  if (find("click-counter").length) return true;
  if (find("output").length || find("form").some(addressOf)) return false;
  if (nodes.some(isOwn)) return blocks.length > 0 && links > 0;
  const most = element.readonly ? MAX_LABEL : MAX_PARAGRAPH;
  const isLabel = blocks.length < 2 && nodes[0] === blocks[0] && text.length <= most;
  return (blocks.length > 0 && !isLabel) || links > 1 || text.length > MAX_LABEL;
}

// One press is one click and nothing else, whatever is around.
export function listen(element, press) {
  element.addEventListener("click", (event) => click(element, event, press));
  element.addEventListener("auxclick", (event) => pressAt(element, event).control && event.preventDefault());
  element.addEventListener("submit", (event) => submit(element, event, press), true);
  element.addEventListener("keydown", (event) => {
    const { control, field } = pressAt(element, event);
    if (event.repeat && event.key === "Enter" && (control || field)) event.preventDefault();
  });
}

function pressAt(element, event) {
  const path = event.composedPath();
  const within = path.slice(0, path.indexOf(element));
  const control = within.find((node) => node.matches?.(CONTROL));
  const form = within.find(isForm);
  const isOurs = control?.getRootNode() === element.shadowRoot;
  if (element.readonly || (form && !addressOf(form)) || (!isOurs && inspect(element).isPage)) return {};
  return { control, form, field: form && within[0].localName === "input" };
}

function click(element, event, press) {
  const { control, form } = pressAt(element, event);
  if (!control || control.disabled || event.defaultPrevented) return;
  const sends = ["submit", "image"].includes(control.type) && control.form && addressOf(control.form) && control.form;
  if (form && form !== sends) return;
  event.preventDefault();
  if (!sends) press();
  else if (control.formNoValidate || sends.noValidate || sends.reportValidity()) send(sends, press);
}

function submit(element, event, press) {
  const form = event.target;
  if (event.defaultPrevented || !addressOf(form) || inspect(element).isPage) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  send(form, press);
}

// Scripts that take forms over, as htmx does, do not hear of it. The form's own handler may say no.
function send(form, press) {
  const event = new Event("submit", { cancelable: true });
  if (form.onsubmit?.(event) !== false && !event.defaultPrevented) press(nameIn(form));
}

export const BUTTON_STYLE = (button) => `
  ${button} {
    min-block-size: 24px;
    padding: 0.35em 0.85em;
    border: 1px solid var(--click-counter-border, rgb(128 128 128));
    border-radius: var(--click-counter-radius, 99em);
    background: var(--click-counter-background, transparent);
    color: var(--click-counter-color, inherit);
    font: inherit;
    cursor: pointer;
    touch-action: manipulation;
  }
  ${button}:hover {
    box-shadow: inset 0 99em rgb(128 128 128 / 0.15);
  }
  ${button}[aria-pressed="true"] {
    border-color: var(--click-counter-border, currentColor);
    box-shadow: inset 0 99em rgb(128 128 128 / 0.25);
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

const sheets = new Map();

export function sheetOf(text) {
  if (!sheets.has(text)) {
    sheets.set(text, new CSSStyleSheet());
    sheets.get(text).replaceSync(text);
  }
  return sheets.get(text);
}

// The page's own buttons. `:where` gives way to any rule but those in a layer: so not where there is a class.
export function applyStyle(element) {
  const root = element.getRootNode();
  const sheet = sheetOf(`${BUTTON_STYLE(":where(click-counter button:not([class]:not([class=''])))")}
    click-counter[readonly] :is(form, ${BUTTON}):not(click-counter click-counter *) { display: none !important }`);
  if (root.adoptedStyleSheets?.includes(sheet)) return;
  try {
    root.adoptedStyleSheets.push(sheet);
  } catch {} // in another document
}

const marked = new WeakSet();

// The page's own button may still be hydrated before the first answer.
export function showPressed(element, button, isPressed) {
  const isOurs = button?.getRootNode() === element.shadowRoot;
  if (button && element.single && (isOurs || isPressed || element.value !== null)) {
    button.setAttribute("aria-pressed", isPressed);
    marked.add(button);
  } else if (marked.delete(button)) button.removeAttribute("aria-pressed");
}
