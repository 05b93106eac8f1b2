"""The page in a real browser, as a visitor uses it."""

import re
import threading
import time

import pytest
from pages import PICTURES, check_accessibility, greet, heading, note, own_output, requests_of, wait_for, waiting_clicks
from playwright.sync_api import expect
from servers import COUNTER, ROOT

OFFLINE = "ERR_INTERNET_DISCONNECTED"


@pytest.fixture
def function(visited):
    return visited.function


@pytest.fixture
def database(visited):
    return visited.database


@pytest.fixture
def counter(function, page):
    """The function's page, opened and showing the count."""
    page.goto(function.url)
    expect(heading(page)).to_have_text("Hello World! (0x)")
    return function


def test_click_shows_the_next_number_without_a_reload(counter, page):
    page.evaluate("window.same = true")
    greet(page)
    expect(heading(page)).to_have_text("Hello World! (1x)")
    greet(page, 4)
    expect(heading(page)).to_have_text("Hello World! (5x)")
    assert page.evaluate("window.same")
    assert waiting_clicks(page) == 0
    assert counter.count() == 5


def test_every_click_has_a_key_of_its_own(counter, page):
    keys = []
    page.on("request", lambda request: keys.append(request.headers.get("idempotency-key")))
    greet(page, 3)
    expect(heading(page)).to_have_text("Hello World! (3x)")
    keys = [key for key in keys if key]
    assert len(set(keys)) == len(keys) == 3


def test_large_number_is_grouped_by_locale(counter, database, browser):
    counter.click()
    database.sql("update counter set value = 12345678901")
    for locale, text in (("en-US", "(12,345,678,901x)"), ("de-DE", "(12.345.678.901x)")):
        context = browser.new_context(locale=locale)
        page = context.new_page()
        page.goto(counter.url)
        expect(heading(page)).to_have_text(f"Hello World! {text}")
        context.close()


def test_clicks_without_network_wait_survive_the_page_and_count_once(counter, page):
    page.expected.append(OFFLINE)
    context = page.context
    context.set_offline(True)
    greet(page, 3)
    expect(note(page)).to_contain_text("3 clicks are waiting")
    expect(heading(page)).to_have_text("Hello World! (0x)")
    page.close()
    assert counter.count() == 0
    context.set_offline(False)
    page = context.new_page()
    page.goto(counter.url)
    expect(heading(page)).to_have_text("Hello World! (3x)")
    expect(note(page)).to_have_text("")
    assert waiting_clicks(page) == 0
    page.wait_for_timeout(1000)
    assert counter.count() == 3


def test_clicks_are_sent_as_soon_as_the_network_is_back(counter, page):
    page.expected.append(OFFLINE)
    page.context.set_offline(True)
    greet(page, 2)
    expect(note(page)).to_contain_text("2 clicks are waiting")
    page.context.set_offline(False)
    expect(heading(page)).to_have_text("Hello World! (2x)", timeout=3000)


def test_reply_lost_after_the_commit_is_not_counted_twice(counter, page):
    lost = []

    def lose_first(route):
        if not lost:
            lost.append(route.fetch().json()["value"])
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/click", lose_first)
    greet(page)
    expect(heading(page)).to_have_text("Hello World! (1x)", timeout=8000)
    wait_for(page, lambda: waiting_clicks(page) == 0)
    assert lost == [1]
    assert counter.count() == 1
    assert "ERR_CONNECTION_RESET" in page.errors.pop()


def test_server_that_asks_to_wait_is_left_alone_until_then(counter, page):
    times = []

    def busy_once(route):
        times.append(time.monotonic())
        if len(times) == 1:
            route.fulfill(
                status=503, headers={"Retry-After": "3", "Content-Type": "application/problem+json"}, body="{}"
            )
        else:
            route.continue_()

    page.route("**/click", busy_once)
    greet(page)
    expect(note(page)).to_contain_text("1 click is waiting")
    greet(page)
    expect(heading(page)).to_have_text("Hello World! (2x)", timeout=8000)
    assert len(times) == 3
    assert times[1] - times[0] >= 2.9
    assert "503" in page.errors.pop()


def test_refused_click_is_dropped_and_the_visitor_told(counter, page):
    page.route("**/click", lambda route: route.fulfill(status=403, content_type="application/problem+json", body="{}"))
    greet(page)
    expect(note(page)).to_have_text("1 click could not be counted.")
    assert waiting_clicks(page) == 0
    assert "403" in page.errors.pop()
    page.unroute("**/click")
    greet(page)
    expect(note(page)).to_have_text("")
    expect(heading(page)).to_have_text("Hello World! (1x)")


@pytest.mark.parametrize("status", [200, 404])
def test_log_in_page_of_a_hotel_costs_no_click(counter, page, status):
    page.route("**/click", lambda route: route.fulfill(status=status, content_type="text/html", body="<h1>Log in</h1>"))
    greet(page)
    expect(note(page)).to_contain_text("1 click is waiting")
    page.unroute("**/click")
    expect(heading(page)).to_have_text("Hello World! (1x)", timeout=8000)
    page.errors.clear()


def test_click_older_than_23_hours_is_dropped_and_the_visitor_told(counter, page):
    page.evaluate(
        """(hours) => hours.forEach((age) => localStorage.setItem(`click-counter ${crypto.randomUUID()}`,
            JSON.stringify({ url: new URL("click", location).href, born: Date.now() - age * 3600e3 })))""",
        [22.9, 23.1],
    )
    page.reload()
    expect(heading(page)).to_have_text("Hello World! (1x)")
    expect(note(page)).to_have_text("1 click could not be counted.")
    assert waiting_clicks(page) == 0


def test_two_tabs_do_not_disturb_each_other(counter, page):
    page.expected.append(OFFLINE)
    other = page.context.new_page()
    other.goto(counter.url)
    page.context.set_offline(True)
    greet(page, 3)
    greet(other, 2)
    expect(note(page)).to_contain_text("5 clicks are waiting")
    page.context.set_offline(False)
    expect(heading(page)).to_have_text("Hello World! (5x)", timeout=8000)
    expect(heading(other)).to_have_text("Hello World! (5x)", timeout=8000)
    expect(note(page)).to_have_text("")
    expect(note(other)).to_have_text("")
    assert counter.count() == 5


def test_click_that_another_tab_left_is_delivered(counter, page):
    other = page.context.new_page()
    other.goto(counter.url)
    other.route("**/click", lambda route: route.abort())
    greet(other)
    expect(note(other)).to_contain_text("1 click is waiting")
    other.close()
    expect(heading(page)).to_have_text("Hello World! (1x)", timeout=8000)
    expect(note(page)).to_have_text("")


def test_storage_that_is_forbidden_costs_no_click(counter, page):
    page.expected.append(OFFLINE)
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no') } })")
    page.reload()
    page.context.set_offline(True)
    greet(page, 2)
    expect(note(page)).to_contain_text("2 clicks are waiting")
    page.context.set_offline(False)
    expect(heading(page)).to_have_text("Hello World! (2x)", timeout=8000)


def test_page_without_a_secure_context_makes_keys_too(counter, page):
    page.add_init_script("delete Crypto.prototype.randomUUID")
    page.reload()
    greet(page, 2)
    expect(heading(page)).to_have_text("Hello World! (2x)")


def test_other_peoples_clicks_appear_within_five_seconds(counter, page):
    counter.click()
    expect(heading(page)).to_have_text("Hello World! (1x)", timeout=5000)


def test_polling_slows_down_when_nothing_happens_and_rests_while_hidden(counter, page):
    page.clock.install()
    page.reload()
    polls = requests_of(page, "/value")
    answered = []
    page.on("requestfinished", lambda request: answered.append(1) if "/value" in request.url else None)

    def polls_in(minutes):
        polls.clear()
        answered.clear()
        for _ in range(minutes * 30):
            page.clock.run_for(2000)
            while len(answered) < len(polls):
                page.wait_for_timeout(5)
            page.evaluate("fetch('icon.svg').then(() => 0)")  # lets the answers in
        return len(polls)

    assert 4 <= polls_in(1) <= 10
    polls_in(4)
    assert 1 <= polls_in(2) <= 3
    page.evaluate(
        """Object.defineProperty(document, "hidden", { get: () => window.covered, configurable: true });
        window.covered = true; document.dispatchEvent(new Event("visibilitychange"))"""
    )
    assert polls_in(3) == 0
    page.evaluate("window.covered = false; document.dispatchEvent(new Event('visibilitychange'))")
    assert polls_in(1) >= 4


def test_number_that_overtakes_is_not_shown_backwards(counter, page):
    held = []

    def hold_first(route):
        if held:
            route.continue_()
        else:
            held.append((route, route.fetch()))

    page.route("**/click", hold_first)
    greet(page, 2)
    expect(heading(page)).to_have_text("Hello World! (2x)")
    page.evaluate(
        """window.seen = []; const output = document.querySelector("output");
        new MutationObserver(() => seen.push(output.textContent)).observe(output, { childList: true })"""
    )
    route, first = held[0]
    route.fulfill(response=first)
    wait_for(page, lambda: waiting_clicks(page) == 0)
    page.wait_for_timeout(300)
    assert "(1x)" not in page.evaluate("seen")
    expect(heading(page)).to_have_text("Hello World! (2x)")


def test_count_that_cannot_be_read_is_no_number(start, page):
    function = start("postgres://u:p@127.0.0.1:9/d")
    function.send("GET", "/value")  # the function has noticed by then
    page.goto(function.url)
    expect(note(page)).to_have_text("The count cannot be read just now.")
    expect(heading(page)).to_have_text("Hello World!")
    greet(page)
    expect(note(page)).to_contain_text("1 click is waiting")
    page.errors.clear()


def test_form_works_without_javascript(function, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(function.url)
    expect(page.get_by_alt_text("The count, as a picture")).to_be_visible()
    greet(page)
    expect(page).to_have_url(f"{function.url}/")
    greet(page)
    expect(page).to_have_url(f"{function.url}/")
    wait_for(page, lambda: function.count() == 2)
    assert page.evaluate("document.querySelector('noscript img').naturalWidth") > 10
    context.close()


def test_page_works_below_a_path_that_ends_in_a_slash(counter, page, browser):
    def strip(route):
        route.continue_(url=route.request.url.replace("/below/this/", "/"))

    page.route("**/below/this/*", strip)
    page.goto(f"{counter.url}/below/this/")
    greet(page)
    expect(heading(page)).to_have_text("Hello World! (1x)")


def test_keyboard_alone_is_enough_and_the_focus_is_seen(counter, page):
    page.keyboard.press("Tab")
    button = page.get_by_role("button", name="Greet the world!")
    expect(button).to_be_focused()
    assert button.evaluate("(button) => getComputedStyle(button).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    expect(heading(page)).to_have_text("Hello World! (2x)")


def test_screen_reader_is_told_the_number(counter, page):
    greet(page)
    expect(page.get_by_role("status").filter(has_text="(1x)")).to_be_visible()
    assert own_output(page).get_attribute("aria-live") == "polite"


def test_nothing_moves_where_motion_is_not_welcome(counter, page):
    style = """() => [...document.querySelectorAll("*")].map((element) => getComputedStyle(element))
        .map((style) => style.animationName + style.transitionDuration)"""
    page.emulate_media(reduced_motion="reduce")
    page.evaluate("document.querySelector('output').classList.add('changed')")
    assert set(page.evaluate(style)) == {"none0s"}


@pytest.mark.parametrize(
    ("scheme", "width", "height", "zoom"), [("light", 1280, 720, 1), ("dark", 320, 568, 1), ("light", 640, 360, 2)]
)
def test_page_is_accessible_and_fits(counter, database, page, scheme, width, height, zoom, request):
    counter.click()
    database.sql("update counter set value = 42")
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width // zoom, "height": height // zoom})
    page.reload()
    expect(heading(page)).to_have_text("Hello World! (42x)")
    check_accessibility(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if request.config.getoption("--update") and zoom == 1:
        PICTURES.mkdir(exist_ok=True)
        page.screenshot(path=PICTURES / f"page-{scheme}-{width}.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_of_an_error_is_accessible_and_fits(function, page, scheme, request):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 320, "height": 568})
    page.goto(f"{function.url}/value?name={'W' * 100}")
    page.errors.clear()  # the status, which the browser reports
    expect(heading(page)).to_have_text("Not Found")
    check_accessibility(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 320  # no wider, and not shrunk to fit
    assert (
        page.evaluate("getComputedStyle(document.body).color")
        == {"light": "rgb(30, 39, 35)", "dark": "rgb(236, 241, 237)"}[scheme]
    )
    if request.config.getoption("--update"):
        page.screenshot(path=PICTURES / f"error-{scheme}-320.png")


def test_pages_markup_loads_nothing_from_elsewhere():
    for path in (ROOT / "static").iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "").replace("https://example.com", "")
        assert not re.search(r"https?://|//cdn|@import", text), path


def test_many_pages_at_once_each_see_their_click(counter, browser):
    contexts = [browser.new_context() for _ in range(4)]
    pages = [context.new_page() for context in contexts]
    for page in pages:
        page.goto(counter.url)
    background = threading.Thread(target=lambda: [counter.click() for _ in range(20)])
    background.start()
    for page in pages:
        greet(page, 5)
    background.join()
    for page in pages:
        expect(heading(page)).to_have_text("Hello World! (40x)", timeout=8000)
    for context in contexts:
        context.close()
    assert counter.count(COUNTER) == 40


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_moves_when_the_count_comes(counter, database, page, width):
    counter.click()
    database.sql("update counter set value = 1234567")
    page.set_viewport_size({"width": width, "height": 700})
    page.add_init_script(
        """window.shift = 0; new PerformanceObserver((list) => list.getEntries().forEach((one) => (shift += one.value)))
        .observe({ type: "layout-shift", buffered: true })"""
    )
    page.reload()
    expect(heading(page)).to_have_text("Hello World! (1,234,567x)")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
    assert page.evaluate("shift") < 0.001


def test_page_without_javascript_has_no_hole(function, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(function.url)
    picture = page.get_by_alt_text("The count, as a picture").bounding_box()
    button = page.get_by_role("button").bounding_box()
    line = page.get_by_text("Every press counts exactly once").bounding_box()
    assert button["y"] - (picture["y"] + picture["height"]) < 60
    assert 8 < line["y"] - (button["y"] + button["height"]) < 60
    context.close()


def test_page_says_what_it_is_and_where_its_lines_are(counter, page):
    page.get_by_role("link", name="Put this button on your pages").click()
    expect(heading(page)).to_have_text("Put the counter on your site")
    page.get_by_role("link", name="The counter").click()
    expect(heading(page)).to_contain_text("Hello World!")


def test_page_of_a_function_without_a_default_counter_shows_what_is_there_to_embed(start, on_sqlite, page):
    page.expected += ["Failed to load resource", "COUNTERS has no default one", "COUNTERS=…,likes"]
    function = start(on_sqlite.url, COUNTERS="post-*")
    page.goto(function.url)
    expect(page.get_by_text("this function counts on other pages")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.get_by_text("Every press counts exactly once")).to_be_hidden()
    expect(page.get_by_text("There is no such counter")).to_be_hidden()
    check_accessibility(page)
    page.get_by_role("link", name="See which lines put one on yours").click()
    expect(page.locator("#hint")).to_contain_text("COUNTERS has no default one")
    expect(page.locator("#snippet")).to_be_hidden()
    page.get_by_label("Counter", exact=True).fill("post-1")
    expect(page.locator("#snippet")).to_contain_text('<click-counter name="post-1" single></click-counter>')
    expect(page.locator("#hint")).to_have_text("")
    page.get_by_label("Counter", exact=True).fill("likes")
    expect(page.locator("#command")).to_contain_text('COUNTERS="$(listed COUNTERS),likes"')
    check_accessibility(page)
