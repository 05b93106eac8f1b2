"""<click-counter> in frameworks, under scripts that take forms over, and out of the tools that people write with."""

import fcntl
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from pages import button, count, wait_for
from peers import Missing, install
from playwright.sync_api import expect
from servers import ROOT

SOURCES = Path(__file__).parent / "frameworks"
FRAMEWORKS = ("react", "preact", "svelte", "solid", "angular", "vue", "lit")


@pytest.fixture(scope="session")
def form():
    """README's form."""
    return re.search(r"^<form .*</form>$", (ROOT / "README.md").read_text(), re.MULTILINE)[0]


@pytest.fixture(scope="session")
def built(form):
    """The folder with what frameworks/build.mjs makes of the real packages, which npm keeps outside the project."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "click-counter-frameworks.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes test
        folder = cache / "click-counter-frameworks"
        try:
            install(folder, SOURCES)
        except Missing as reason:
            pytest.skip(f"The frameworks are left out: {reason}.")
        sources = {path.name: path.read_text() for path in SOURCES.iterdir()} | {"form.html": form}
        if not (folder / "built").exists() or (folder / "built").read_text() != json.dumps(sources):
            for name, text in sources.items():
                (folder / name).write_text(text)
            subprocess.run(["node", "build.mjs", "form.html"], cwd=folder, check=True, timeout=120)
            (folder / "built").write_text(json.dumps(sources))
    return folder


@pytest.fixture
def function(visited):
    return visited.function


def inline(script, kind="module"):
    text = script.read_text().replace("</script", "<\\/script")
    return f"<script type={kind}>{text}</script>"


@pytest.mark.parametrize("is_late", [False, True], ids=["the element is there first", "the framework is there first"])
def test_three_presses_in_each_framework_are_one_click(function, listed, page, built, is_late):
    for name in FRAMEWORKS:
        before = function.count(f"post-{name}")
        framework = inline(built / "out" / f"{name}.js")
        listed.put(function, "<main></main>" + ("" if is_late else framework), head=framework if is_late else "")
        page.goto(f"{listed.origin}/post")
        for _ in range(3):
            button(page).click()
        expect(button(page)).to_have_attribute("aria-pressed", "true")
        wait_for(page, lambda name=name, before=before: function.count(f"post-{name}") > before)
        assert (name, function.count(f"post-{name}")) == (name, before + 1)
        page.evaluate("localStorage.clear()")


TAKERS = {
    "htmx": None,
    "a listener on each form": """for (const form of document.forms) form.addEventListener("submit", take)""",
    "a listener at the document": """document.addEventListener("submit", take)""",
    "a listener at the document, first": """document.addEventListener("submit", take, true)""",
}
TAKE = """<script type=module>function take(event) { event.preventDefault();
    const body = new URLSearchParams(new FormData(event.target));
    fetch(event.target.action, { method: "POST", body }).catch(() => 0); }
    %s</script>"""


@pytest.mark.parametrize("is_inside", [True, False], ids=["form inside", "form around"])
@pytest.mark.parametrize("site", ["its own", "another"])
def test_one_press_is_one_click_whoever_takes_the_submit(function, listed, page, built, form, site, is_inside):
    form = form.replace("https://counter.example", function.url).replace("https://blog.example", listed.origin)
    form = form.replace(" single", "")
    if is_inside:
        form = re.sub(
            r"(<form.*?)(<click-counter.*?>)(.*?)</click-counter></form>", r"\2\1\3</form></click-counter>", form
        )
    for what, script in TAKERS.items():
        taker = TAKE % script if script else inline(built / "out" / "htmx.js", "text/javascript")
        url = listed.put(function, f"<div hx-boost=true>{form}</div>{taker}")
        if site == "its own":
            url = f"{function.url}/with-{what.replace(' ', '-')}"
            page.route(url, lambda route: route.fulfill(content_type="text/html", body=listed.pages["/post"]))
        page.goto(url)
        before = function.count("post-1")
        page.wait_for_function("document.querySelector('click-counter').value !== null")
        button(page).click()
        expect(count(page)).to_have_text(str(before + 1))
        button(page).focus()
        page.keyboard.press("Enter")
        expect(count(page)).to_have_text(str(before + 2))
        page.wait_for_timeout(300)  # for another request
        assert (what, function.count("post-1"), page.url) == (what, before + 2, url)


def test_form_of_the_readme_survives_the_tools_that_people_write_with(function, listed, page, browser, built):
    pages = json.loads((built / "out" / "pages.json").read_text())
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    for text in pages.values():
        before = function.count("post-1")
        text = text.replace("https://counter.example", function.url).replace("https://blog.example", listed.origin)
        page.goto(listed.put(function, f"<main><h1>Post</h1>{text}<p>Below</p></main>", "/post-1"))
        expect(page.get_by_role("button")).to_have_count(1)
        button(page).click()
        expect(count(page)).to_have_text(str(before + 1))
        expect(button(page)).to_have_attribute("aria-pressed", "true")
        page.evaluate("localStorage.clear()")
        plain.goto(f"{listed.origin}/post-1")
        plain.get_by_role("button", name="Like").click()
        expect(plain).to_have_url(f"{listed.origin}/post-1")
        wait_for(plain, lambda before=before: function.count("post-1") == before + 2)
    context.close()
    assert len(pages) == 7


OPTIONAL = {".states", ".randomUUID", ".clipboard", ".writeText"}  # what the scripts do without where it is missing


def newer(built, scripts):
    """Say what these scripts use that is newer than the browsers that README names."""
    versions = re.search(r"Chromium ([\d.]+), Firefox ([\d.]+) and Safari ([\d.]+)", (ROOT / "README.md").read_text())
    command = ["node", "compat.mjs", *map(str, scripts)]
    features = json.loads(subprocess.check_output(command, cwd=built, timeout=60))
    assert len(features) > 3
    return {
        feature
        for feature, added in features.items()
        for version, oldest in zip(added, versions.groups(), strict=True)
        if version is None or float(version) > float(oldest)
    }, features


def test_scripts_use_nothing_newer_than_the_browsers_of_the_readme(built, tmp_path):
    found, features = newer(built, sorted((ROOT / "static").glob("*.js")))
    assert found - OPTIONAL == set()
    needed = [added for feature, added in features.items() if feature not in OPTIONAL]
    oldest = [max(float(added[index] or 0) for added in needed) for index in range(3)]
    assert oldest == [99, 101, 16.4]  # and these are the oldest
    script = tmp_path / "newer.js"
    script.write_text(
        """const one = Promise.withResolvers(); [].findLast(() => 1); structuredClone(one);
        fetch("", { signal: AbortSignal.timeout(1) }); document.body.checkVisibility(); [1].at(-1);
        class Two { static { Object.groupBy([], () => 1) } }"""
    )
    assert newer(built, [script])[0] >= {
        "Promise.withResolvers", ".findLast", "AbortSignal.timeout", ".checkVisibility", "Object.groupBy",
    }  # fmt: skip
