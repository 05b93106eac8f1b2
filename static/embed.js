// The page that writes the lines for other sites. What it shows under "The button" is what those lines make.

const server = new URL(".", import.meta.url);
const wishes = document.querySelector("#wishes");
const { name, label, page } = wishes.elements;
const hint = document.querySelector("#hint");
const pageHint = document.querySelector("#page-hint");
const PAGE_HINT = pageHint.textContent;
const preview = document.querySelector("#preview");
const image = document.querySelector("#badge");
let badge = "";

function addressOf(path, fields) {
  const url = new URL(path, server);
  for (const [field, value] of Object.entries(fields)) url.searchParams.set(field, value);
  return url.href;
}

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

function wording() {
  return label.value.trim() || "Like";
}

function snippet() {
  const text = escaped(wording());
  const element = `<script type="module" src="${new URL("click-counter.js", server)}"></script>\n<click-counter name="${name.value}">`;
  if (!isPage()) return `${element}${text}</click-counter>`;
  return `${element}
  <form method="post" action="${escaped(addressOf("click", { name: name.value }))}">
    <input type="hidden" name="return" value="${escaped(page.value)}">
    <button>${text}</button>
  </form>
</click-counter>`;
}

function isPage() {
  return page.validity.valid && /^https?:/i.test(page.value);
}

function showSections(shown) {
  for (const section of document.querySelectorAll("section")) section.hidden = !shown;
}

function write(id, text) {
  document.getElementById(id).textContent = text;
}

function showLines() {
  const well = name.checkValidity();
  hint.textContent = well ? "" : "A name has 1 to 100 characters out of A-Z a-z 0-9 . _ - : / and nothing else.";
  pageHint.textContent = page.value && !isPage() ? "Write the whole address, like https://example.com/post-1" : PAGE_HINT;
  showSections(well);
  if (!well) return;
  const site = isPage() ? new URL(page.value).origin : "https://example.com";
  badge = addressOf("badge.svg", { name: name.value, label: wording() });
  const policy = ["script-src", "connect-src", "img-src", "form-action"];
  write("snippet", snippet());
  write("setting", `ALLOWED_ORIGINS=${site}`);
  write("policy", policy.map((directive) => `${directive} 'self' ${server.origin};`).join("\n"));
  write("html", `<img src="${escaped(badge)}" alt="${escaped(wording())}">`);
  write("markdown", `![${wording().replace(/[[\]\\]/g, "\\$&")}](${badge})`);
  image.src = badge;
  image.alt = `The badge of ${name.value}`;
  const element = document.createElement("click-counter");
  element.setAttribute("name", name.value);
  element.textContent = wording();
  preview.replaceChildren(element);
}

async function copy(event) {
  const button = event.currentTarget;
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

async function defaultName() {
  const response = await fetch(new URL("value", server), { cache: "no-store" });
  return response.ok ? (await response.json()).name : "";
}

let timer;
wishes.addEventListener("submit", (event) => event.preventDefault());
wishes.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(showLines, 300); // no request for each letter
});
preview.addEventListener("click-counter-value", (event) => (image.src = `${badge}&fresh=${event.detail.value}`));
preview.addEventListener("click-counter-missing", (event) => {
  hint.textContent = event.detail.reason;
  showSections(false);
});
for (const button of document.querySelectorAll("[data-copies]")) button.addEventListener("click", copy);
name.value = new URLSearchParams(location.search).get("name") ?? "";
if (!name.value) {
  const standard = await defaultName().catch(() => "");
  name.value ||= standard; // unless something has been typed meanwhile
}
showLines();
