// The page that writes the lines for other sites. What it shows under "The button" is what those lines make.

import { request, server } from "./clicks.js";

const wishes = document.querySelector("#wishes");
const { name, label, page, format, single, readonly, history, colored, background, color } = wishes.elements;
const preview = document.querySelector("#preview");
const image = document.querySelector("#badge");
const hints = new Map(["hint", "page-hint", "format-hint"].map((id) => [id, document.getElementById(id).textContent]));

const NAME_HINT = "A name has 1 to 100 characters out of A-Z a-z 0-9 . _ - : / and nothing else.";
const PAGE_HINT = "Write the whole address, like https://example.com/post-1";
const FORMAT_HINT = "Write {} where the number goes, as in: {} like|{} likes";

function addressOf(path, fields) {
  const url = new URL(path, server);
  for (const [field, value] of Object.entries(fields)) url.searchParams.set(field, value);
  return url.href;
}

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

function write(id, text) {
  document.getElementById(id).textContent = text;
}

function hint(id, isWrong, text) {
  write(id, isWrong ? text : hints.get(id));
}

// Whether the page's address is there, so that a form can bring its visitor back.
function isPage() {
  return page.validity.valid && /^https?:/i.test(page.value);
}

function isFormat() {
  return format.value.includes("{}");
}

// The attributes that the element gets, in the order in which they are written.
function attributes() {
  const chosen = [["name", name.value]];
  if (isFormat()) chosen.push(["format", format.value]);
  for (const { name: attribute, checked } of [readonly.checked ? readonly : single, history])
    if (checked) chosen.push([attribute, ""]);
  return chosen;
}

function colors() {
  return [
    ["--click-counter-background", background.value],
    ["--click-counter-border", background.value],
    ["--click-counter-color", color.value],
  ];
}

function style() {
  const rules = colors().map(([property, value]) => `${property}: ${value}`);
  return colored.checked ? `<style>click-counter { ${rules.join("; ")} }</style>\n` : "";
}

function tag() {
  const written = attributes().map(([attribute, value]) => (value ? `${attribute}="${escaped(value)}"` : attribute));
  return `<click-counter ${written.join(" ")}>`;
}

function words() {
  return label.value.trim() || (isPage() ? "Like" : "");
}

// The form is around the element, on one line, and each tag is closed: so it survives Markdown, MDX, JSX and WordPress.
function snippet() {
  const script = `<script type="module" src="${new URL("click-counter.js", server)}"></script>`;
  if (!isPage() || readonly.checked)
    return `${script}\n${style()}<div>${tag()}${escaped(words())}</click-counter></div>`;
  const back = `<input type="hidden" name="return" value="${escaped(page.value)}" />`;
  const button = `${tag()}<button>${escaped(words())}</button></click-counter>`;
  const action = escaped(addressOf("click", { name: name.value }));
  return `${script}\n${style()}<form method="post" action="${action}">${back}${button}</form>`;
}

// Settings are lists, and deploy.sh replaces them: so what is there is read first.
function command(site) {
  const add = (setting, ...entries) => `${setting}="${entries.filter(Boolean).join()}"`;
  const counters = add("COUNTERS", standard, "$(listed COUNTERS)", name.value);
  const origins = add("ALLOWED_ORIGINS", "$(listed ALLOWED_ORIGINS)", site);
  return `export PROJECT_ID=my-project REGION=europe-west1
listed() { gcloud functions describe click-counter --gen2 --project=$PROJECT_ID --region=$REGION --format="value(serviceConfig.environmentVariables.$1)"; }
${isListed ? "" : `${counters} `}${origins} ./deploy.sh`;
}

function showPreview() {
  const element = document.createElement("click-counter");
  for (const [attribute, value] of attributes()) element.setAttribute(attribute, value);
  if (colored.checked) for (const [property, value] of colors()) element.style.setProperty(property, value);
  element.textContent = words();
  preview.replaceChildren(element);
}

function showLines() {
  const isName = name.checkValidity();
  isListed = true; // until the server says otherwise
  hint("hint", name.value && !isName, NAME_HINT);
  hint("page-hint", page.value && !isPage(), PAGE_HINT);
  hint("format-hint", format.value && !isFormat(), FORMAT_HINT);
  for (const choice of document.querySelectorAll(".colors")) choice.hidden = !colored.checked;
  document.querySelector("#lines").hidden = !isName;
  if (isName) writeLines();
}

function writeLists() {
  const site = isPage() ? new URL(page.value).origin : "https://example.com";
  write("command", command(site));
  write("setting", `${isListed ? "" : `COUNTERS=…,${name.value}\n`}ALLOWED_ORIGINS=…,${site}`);
  for (const part of document.querySelectorAll(".listed")) part.hidden = !isListed;
}

function writeLines() {
  const text = label.value.trim() || "likes";
  const badge = addressOf("badge.svg", { name: name.value, label: text });
  const policy = ["script-src", "connect-src", "img-src", "form-action"];
  write("snippet", snippet());
  writeLists();
  write("policy", policy.map((directive) => `${directive} 'self' ${server.origin};`).join("\n"));
  write("html", `<img src="${escaped(badge)}" alt="${escaped(text)}">`);
  write("markdown", `![${text.replace(/[[\]\\]/g, "\\$&")}](${badge})`);
  image.src = badge;
  image.alt = `The badge of ${name.value}`;
  showPreview();
}

async function copy({ currentTarget: button }) {
  const code = document.getElementById(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code); // the clipboard is closed to pages without HTTPS
    button.textContent = "Press Ctrl+C to copy";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

let timer;
let isListed = true;
let standard = ""; // the name of the default counter
wishes.addEventListener("submit", (event) => event.preventDefault());
wishes.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(showLines, 300); // no request for each letter
});
preview.addEventListener("click-counter-value", ({ detail }) => {
  image.src = `${addressOf("badge.svg", { name: name.value, label: label.value.trim() || "likes" })}&v=${detail.value}`;
});
preview.addEventListener("click-counter-missing", ({ detail }) => {
  if (!isListed || detail.name !== name.value) return;
  isListed = false;
  hint("hint", true, `${detail.reason} The lines below add it.`);
  writeLists();
});
for (const button of document.querySelectorAll("[data-copies]")) button.addEventListener("click", copy);
wishes.hidden = false;
name.value = new URLSearchParams(location.search).get("name") ?? "";
try {
  const { response, answer } = await request("value", []);
  if (response.ok) standard = answer.name;
  else hint("hint", !name.value, answer.detail);
} catch {} // the name can be written
name.value ||= standard; // unless something has been typed meanwhile
if (name.value) showLines();
