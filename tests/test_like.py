"""<click-counter> as a like button: single, its look, its languages, and the pages that must not break it."""

import gzip
import json
import re
import time
from types import SimpleNamespace

import pytest
from pages import (
    HEART,
    LIKE,
    PICTURES,
    SINGLE,
    button,
    check_accessibility,
    count,
    greet,
    has_value,
    heading,
    note,
    own_output,
    press,
    requests_of,
    wait_for,
    waiting_clicks,
)
from playwright.sync_api import expect
from proxy import Proxy
from servers import COUNTER, ROOT, new_key

OFFLINE = "ERR_INTERNET_DISCONNECTED"
PROBLEM = {"content_type": "application/problem+json", "body": '{"detail": "No."}'}
SHARED = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After"}
ALREADY = "You have pressed this already"


@pytest.fixture
def function(visited):
    return visited.function


@pytest.fixture
def database(visited):
    return visited.database


@pytest.fixture
def show(function, listed, page):
    """Open a page of another site with this content, and wait for the first count."""

    def shown(body, text="", **options):
        page.goto(listed.put(function, body, **options))
        if text:
            expect(count(page).first).to_have_text(text)
        elif text is not None:
            has_value(page)
        return page

    return shown


def is_pressed(page, index=0, pressed=True):
    expect(button(page, index)).to_have_attribute("aria-pressed", str(pressed).lower())
    state = "(index) => document.querySelectorAll('click-counter')[index].matches(':state(pressed)')"
    assert page.evaluate(state, index) == pressed


def keys_stored(page):
    return page.evaluate("Object.entries(localStorage).filter(([item]) => item.startsWith('click-counter-single '))")


# --- single -------------------------------------------------------------------------------------------------------


def test_visitor_who_counts_once_is_pressed_for_good_and_on_every_element(function, show, page):
    show(SINGLE * 2)
    is_pressed(page, 0, False)
    press(page)
    for index in (0, 1):
        expect(count(page, index)).to_have_text("1")
        is_pressed(page, index)
    press(page, 1)
    expect(note(page, 1)).to_contain_text(ALREADY)
    page.reload()
    is_pressed(page, 0)
    press(page)
    expect(note(page)).to_contain_text(ALREADY)
    assert function.count("post-1") == 1


def test_key_is_stored_when_the_element_is_shown_and_gone_when_it_is_counted(function, database, show, page):
    show(SINGLE)
    wait_for(page, lambda: keys_stored(page))
    [[_, text]] = keys_stored(page)
    press(page)
    is_pressed(page)
    expect(count(page)).to_have_text("1")
    assert database.keys("post-1") == {json.loads(text)["key"]}
    [[_, text]] = keys_stored(page)
    assert json.loads(text) == {"counted": True}
    database.sql("delete from click")  # as after 24 hours
    page.reload()
    is_pressed(page)
    sent = requests_of(page, "/click?", "POST")
    press(page, times=3)
    expect(note(page)).to_contain_text(ALREADY)
    assert sent == []
    assert function.count("post-1") == 1


def test_two_tabs_count_once_also_without_a_network(function, listed, show, page):
    page.expected.append(OFFLINE)
    show(SINGLE)
    other = page.context.new_page()
    other.goto(listed.put(function, SINGLE))
    has_value(other)
    wait_for(other, lambda: keys_stored(other))
    page.context.set_offline(True)
    press(page)
    is_pressed(page)
    is_pressed(other)
    press(other)
    expect(note(other)).to_contain_text(ALREADY)
    page.context.set_offline(False)
    for tab in (page, other):
        expect(count(tab)).to_have_text("1", timeout=15_000)
        is_pressed(tab)
    assert function.count("post-1") == 1


def test_two_tabs_that_press_at_the_same_moment_count_once(function, listed, show, page):
    show(SINGLE)
    other = page.context.new_page()
    other.goto(listed.put(function, SINGLE))
    has_value(other)
    wait_for(other, lambda: keys_stored(other))
    held = []
    for tab in (page, other):
        tab.route("**/click?*", lambda route: held.append(route))
    press(page)
    wait_for(page, lambda: held)
    press(other)
    for route in held:
        route.continue_()
    expect(count(page)).to_have_text("1")
    is_pressed(page)
    is_pressed(other)
    assert function.count("post-1") == 1


def test_click_that_waits_counts_as_pressed_also_after_a_reload(function, show, page):
    page.expected.append("ERR_FAILED")
    show(SINGLE)
    page.route("**/click?*", lambda route: route.abort())
    press(page)
    is_pressed(page)
    page.reload()
    is_pressed(page)
    page.unroute("**/click?*")
    expect(count(page)).to_have_text("1", timeout=15_000)
    is_pressed(page)


@pytest.mark.parametrize("status", [403, 404, 409])
def test_refusal_takes_the_press_back(function, show, page, status):
    page.expected.append(str(status))
    show(SINGLE)
    sent = requests_of(page, "/click?", "POST")
    refusal = {"status": status, "headers": {**SHARED, "Retry-After": "3600"}, **PROBLEM}  # as where there is no room
    page.route("**/click?*", lambda route: route.fulfill(**refusal))
    page.evaluate("addEventListener('click-counter-refused', (event) => (window.reason = event.detail.reason))")
    press(page)
    expect(note(page)).to_contain_text("1 click could not be counted.")
    is_pressed(page, pressed=False)
    assert (len(sent), waiting_clicks(page), page.evaluate("reason")) == (1, 0, "No.")
    page.unroute("**/click?*")
    press(page)
    expect(count(page)).to_have_text("1")
    is_pressed(page)


def test_once_without_storage_holds_while_the_page_lives(function, show, page):
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no') } })")
    show(SINGLE)
    press(page, times=3)
    expect(count(page)).to_have_text("1")
    is_pressed(page)
    expect(note(page)).to_contain_text(ALREADY)
    assert function.count("post-1") == 1


JUNK_KEYS = ["5", "null", '{"key": 7}', '{"key": ["a"]}', "{", '"x"', '[{"counted": true}]', "{}"]


def test_single_survives_what_other_scripts_store(function, listed, show, page):
    listed.pages["/empty"] = "<!doctype html><title>Empty</title><link rel=icon href=data:,>"
    page.goto(f"{listed.origin}/empty")
    for index, junk in enumerate(JUNK_KEYS):
        item = f"click-counter-single {function.url}/click?name=post-{index}"
        page.evaluate("([item, junk]) => localStorage.setItem(item, junk)", [item, junk])
    show("".join(f'<click-counter name="post-{index}" single></click-counter>' for index in range(len(JUNK_KEYS))))
    for index in range(len(JUNK_KEYS)):
        is_pressed(page, index, pressed=False)
        press(page, index)
        expect(count(page, index)).to_have_text("1")
        is_pressed(page, index)


def test_click_too_old_to_be_sent_again_leaves_its_visitor_counted(show, page):
    """It may have been counted, and its answer lost."""
    page.expected.append("ERR_FAILED")
    show(SINGLE)
    page.route("**/click?*", lambda route: route.abort())
    press(page)
    wait_for(page, lambda: waiting_clicks(page) == 1)
    page.evaluate(
        """() => { const item = Object.keys(localStorage).find((one) => one.startsWith("click-counter "));
        const click = JSON.parse(localStorage.getItem(item));
        localStorage.setItem(item, JSON.stringify({ ...click, born: click.born - 23.1 * 3600e3 })); }"""
    )
    page.reload()
    is_pressed(page)
    expect(note(page)).to_contain_text("could not be counted")
    assert waiting_clicks(page) == 0


def test_default_counter_by_both_of_its_names_counts_once(function, listed, show, page):
    show("<click-counter single></click-counter><click-counter single name=hello-world-button></click-counter>")
    press(page, 0)
    is_pressed(page, 0)
    is_pressed(page, 1)
    page.goto(listed.put(function, f"<click-counter single name={COUNTER}></click-counter>", "/another"))
    is_pressed(page)
    page.goto(listed.put(function, "<click-counter single></click-counter>", "/third"))
    is_pressed(page)
    assert function.count() == 1


def test_button_of_the_page_is_unmarked_where_it_does_not_count_once_any_more(function, show, page):
    show(f'<click-counter name="post-1" single>{form(function)}</click-counter>')
    press(page)
    is_pressed(page)
    page.evaluate("document.querySelector('click-counter').single = false")
    wait_for(page, lambda: button(page).get_attribute("aria-pressed") is None)
    page.evaluate("document.querySelector('button').setAttribute('aria-pressed', 'mixed')")  # the page's own
    press(page)
    expect(count(page)).to_have_text("2")
    expect(button(page)).to_have_attribute("aria-pressed", "mixed")


def test_press_again_is_said_again(show, page):
    show(SINGLE)
    press(page, times=2)
    expect(note(page)).to_contain_text(ALREADY)
    assert note(page).get_attribute("role") == "status"
    note(page).evaluate("(note) => new MutationObserver(() => (note.times = 1)).observe(note, { childList: true })")
    press(page)
    wait_for(page, lambda: note(page).evaluate("(note) => note.times"))
    expect(note(page)).to_contain_text(ALREADY)


def test_once_on_a_form_of_the_page_marks_its_button(function, show, page):
    show(f"<click-counter single>{form(function)}</click-counter>")
    is_pressed(page, pressed=False)
    press(page, times=2)
    is_pressed(page)
    expect(note(page)).to_contain_text(ALREADY)
    assert function.count("post-1") == 1


# --- What waits -------------------------------------------------------------------------------------------------


def test_limit_of_an_address_keeps_the_click_for_as_long_as_it_says(function, show, page):
    page.expected.append("429")
    page.clock.install()
    show(LIKE)
    busy = {"status": 429, "headers": {**SHARED, "Retry-After": "60"}, **PROBLEM}
    page.route("**/click?*", lambda route: route.fulfill(**busy))
    sent = requests_of(page, "/click?", "POST")
    press(page, times=3)
    expect(note(page)).to_contain_text("are waiting")
    before = len(sent)
    page.clock.run_for(55_000)
    assert len(sent) == before
    page.unroute("**/click?*")
    page.clock.run_for(10_000)
    wait_for(page, lambda: page.clock.run_for(1000) or function.count("post-1") == 3)
    assert waiting_clicks(page) == 0


def put_clicks(page, function, number):
    page.evaluate(
        """([url, number]) => { for (let index = 0; index < number; index += 1) {
        const key = `00000000-0000-4000-8000-${String(index).padStart(12, "0")}`;
        localStorage.setItem(`click-counter ${key}`, JSON.stringify({ url, born: Date.now() - 60e3 })); } }""",
        [f"{function.url}/click?name=post-1", number],
    )


def test_hundreds_of_waiting_clicks_are_delivered_and_each_counts_once(function, show, page):
    show(LIKE)
    put_clicks(page, function, 400)
    page.reload()
    wait_for(page, lambda: waiting_clicks(page) == 0, 60)
    assert function.count("post-1") == 400


def test_thousands_of_waiting_clicks_are_delivered_too(function, show, page):
    """With a server that answers at single: where each click costs the page 20 ms, they take more than a minute."""
    page.add_init_script(
        """const real = fetch; let value = 0; window.fetch = async (url, options) => options?.method === "POST" ?
        Response.json({ name: "post-1", value: (value += 1) }) : real(url, options)"""
    )
    show(LIKE)
    put_clicks(page, function, 4000)
    page.reload()
    expect(count(page)).to_have_text("4,000", timeout=120_000)
    wait_for(page, lambda: waiting_clicks(page) == 0)


JUNK = {
    "no key": ("zzz", '{"url": URL, "born": NOW}'),
    "a key of its own": ("zzz", '{"url": URL, "born": NOW, "key": KEY}'),
    "another key inside": (None, '{"url": URL, "born": NOW, "key": "8e03978e-40d5-43e8-bc93-6894a57f9324"}'),
    "a number": (None, "5"),
    "nothing": (None, "null"),
    "no JSON": (None, "{{{"),
    "a list": (None, "[[[[]]]]"),
    "no address": (None, '{"born": NOW}'),
    "another server": (None, '{"url": "https://example.com/click?name=post-1", "born": NOW}'),
    "another path": (None, '{"url": URL/, "born": NOW}'),
    "two names": (None, '{"url": URL&name=post-2, "born": NOW}'),
    "a long name": (None, '{"url": URL' + "x" * 9000 + ', "born": NOW}'),
    "an object": (None, '{"url": {"href": URL}, "born": NOW}'),
}


def test_what_another_script_puts_into_the_outbox_is_not_sent(function, show, page):
    show(LIKE)
    sent = requests_of(page, "/click", "POST")
    for what, (key, text) in JUNK.items():
        before = function.count("post-1")
        text = re.sub(r"URL([^,}]*)", lambda match: json.dumps(f"{function.url}/click?name=post-1{match[1]}"), text)
        text = text.replace("KEY", json.dumps(new_key())).replace("NOW", str(int(time.time() * 1000) - 5000))
        page.evaluate("([item, text]) => localStorage.setItem(item, text)", [f"click-counter {key or new_key()}", text])
        page.reload()
        has_value(page)
        press(page)
        page.wait_for_timeout(300)
        wait_for(page, lambda before=before: sent and function.count("post-1") == before + len(sent))
        expect(note(page)).to_have_text("")
        assert len(sent) in (1, 2), what  # the visitor's own, and one that is a click but for what it has beside
        sent.clear()
        page.evaluate("localStorage.clear()")


def test_click_that_another_script_puts_back_is_not_sent_for_ever(function, show, page):
    show(LIKE)
    sent = requests_of(page, "/click", "POST")
    page.evaluate(
        """() => { const { removeItem } = Storage.prototype;
        Storage.prototype.removeItem = function (item) { removeItem.call(this, item);
            localStorage.setItem(item, JSON.stringify({ url: window.url, born: Date.now() - 60e3 })); }; }"""
    )
    page.evaluate("(url) => (window.url = url)", f"{function.url}/click?name=post-1")
    press(page)
    expect(count(page)).to_have_text("1")
    page.wait_for_timeout(3000)  # more than a pause between two deliveries
    assert len(sent) == 1
    page.evaluate("localStorage.clear()")


def test_clicks_with_an_impossible_time_are_counted_once_and_are_gone(function, show, page):
    show(LIKE)
    page.evaluate(
        """(url) => { for (const born of [Date.now() + 9e12, "yesterday", null, [], 1e999])
        localStorage.setItem(`click-counter ${crypto.randomUUID()}`, JSON.stringify({ url, born })); }""",
        f"{function.url}/click?name=post-1",
    )
    page.reload()
    expect(count(page)).to_have_text("5", timeout=10_000)
    wait_for(page, lambda: waiting_clicks(page) == 0)
    assert function.count("post-1") == 5


def test_click_that_always_fails_does_not_hold_up_the_others(function, show, page):
    page.expected.append("500")
    page.clock.install()
    show(LIKE + '<click-counter name="post-2">Like</click-counter>')
    page.route("**/click?name=post-1", lambda route: route.fulfill(status=500, body="no"))
    press(page, 0, 2)
    expect(note(page, 0)).to_contain_text("2 clicks are waiting")
    press(page, 1)
    wait_for(page, lambda: page.clock.run_for(1000) or count(page, 1).inner_text() == "1")
    assert waiting_clicks(page) == 2


# --- Browsers and pages that do not keep to the rules -----------------------------------------------------------

THROWING = {
    "a fetch that throws": "window.real = fetch; window.fetch = () => { throw new TypeError('no') }",
    "a fetch that gives nothing": "window.real = fetch; window.fetch = () => undefined",
    "a fetch that rejects": "window.real = fetch; window.fetch = async () => { throw undefined }",
}


@pytest.mark.parametrize("script", THROWING.values(), ids=THROWING)
def test_fetch_that_fails_at_once_hangs_no_page_and_costs_no_click(function, listed, page, script):
    page.add_init_script(script)
    for _ in range(2):  # the second page finds clicks in the outbox
        page.goto(listed.put(function, LIKE))
        press(page, times=2)
        expect(note(page)).to_contain_text("are waiting")
    assert waiting_clicks(page) == 4
    page.evaluate("window.fetch = real; dispatchEvent(new Event('online'))")
    expect(count(page)).to_have_text("4", timeout=15_000)
    assert function.count("post-1") == 4


OLD = {
    "no fetch": "window.fetch = undefined",
    "no style sheets to share": "delete Document.prototype.adoptedStyleSheets",
    "style sheets that stay as they are": """Object.defineProperty(Document.prototype, "adoptedStyleSheets",
        { get: () => Object.freeze([]) })""",
}


@pytest.mark.parametrize("script", OLD.values(), ids=OLD)
def test_browser_that_is_too_old_uses_the_form(function, listed, page, script):
    page.expected.append("needs a newer browser")
    page.add_init_script(script)
    back = f'<input type="hidden" name="return" value="{listed.origin}/post">'
    page.goto(
        listed.put(function, f"<click-counter>{form(function).replace('<button', back + '<button')}</click-counter>")
    )
    wait_for(page, lambda: page.errors)
    page.get_by_role("button", name="Like").click()
    wait_for(page, lambda: function.count("post-1") == 1)
    expect(page).to_have_url(f"{listed.origin}/post")
    page.evaluate("document.body.innerHTML")  # it does not hang


def test_browser_without_the_newest_of_what_it_can_do_without_counts(function, listed, page):
    page.add_init_script(
        """delete AbortSignal.timeout; delete Crypto.prototype.randomUUID; delete ElementInternals.prototype.states;
        for (const name of ["ariaLive", "ariaLabel", "ariaPressed"]) delete Element.prototype[name];
        delete HTMLFormElement.prototype.requestSubmit"""
    )
    page.goto(listed.put(function, f'<click-counter name="post-1" single history>{form(function)}</click-counter>'))
    has_value(page)
    press(page)
    expect(count(page)).to_have_text("1")
    expect(button(page)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("slider", name="Day")).to_be_visible()
    assert function.count("post-1") == 1


def test_script_of_which_a_part_does_not_arrive_leaves_the_form_to_the_browser(function, listed, page):
    page.expected += ["ERR_FAILED"]
    page.route("**/words.js", lambda route: route.abort())
    back = f'<input type="hidden" name="return" value="{listed.origin}/post">'
    page.goto(
        listed.put(function, f"<click-counter>{form(function).replace('<button', back + '<button')}</click-counter>")
    )
    page.get_by_role("button", name="Like").click()
    wait_for(page, lambda: function.count("post-1") == 1)


def test_module_that_failed_once_is_asked_for_at_another_address(function, show, page):
    """Firefox and older Chromiums remember that the first one failed."""
    page.expected.append("ERR_FAILED")
    page.clock.install()
    asked = requests_of(page, "/history.js")
    for name in ("history", "notes.de"):
        page.route(f"**/{name}.js", lambda route: route.abort())
    show('<click-counter name="post-1" history></click-counter>', lang="de")
    wait_for(page, lambda: page.clock.run_for(1000) or page.locator("[part=history] p").count())
    assert len(set(asked)) >= 2
    wait_for(page, lambda: page.clock.run_for(1000) or "Keine Klicks" in page.locator("[part=history] p").inner_text())


def test_page_out_of_the_back_forward_cache_sends_again_what_was_on_its_way(function, show, page):
    """What was on its way then is never settled: neither the click nor the count."""
    show(LIKE)
    sent, held = [], []
    page.on("request", lambda one: sent.append(one.headers["idempotency-key"]) if one.method == "POST" else None)
    page.route("**/click?*", lambda route: held.append(route) if len(held) < 2 else route.continue_())
    press(page)
    wait_for(page, lambda: held)
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    wait_for(page, lambda: len(held) == 2, 5)
    held[1].continue_()
    expect(count(page)).to_have_text("1")
    assert (waiting_clicks(page), len(sent), len(set(sent))) == (0, 2, 1)
    expect(note(page)).to_have_text("")
    page.evaluate("window.told = 0; addEventListener('click-counter-counted', () => (told += 1))")
    held[0].continue_()  # the answer that comes late after all
    page.wait_for_timeout(300)
    assert page.evaluate("told") == 0
    press(page)
    expect(count(page)).to_have_text("2")
    assert function.count("post-1") == 2


def test_request_that_never_ends_is_given_up_whatever_its_signal_does(function, show, page):
    page.add_init_script(
        """const real = fetch; window.stuck = 0; window.fetch = (url, options) =>
        options?.method === "POST" && stuck++ < 1 ? new Promise(() => {}) : real(url, options)"""
    )
    page.clock.install()
    show(LIKE)
    press(page)
    expect(note(page)).to_have_text("")
    wait_for(page, lambda: page.clock.run_for(1000) or function.count("post-1") == 1)
    expect(count(page)).to_have_text("1")
    wait_for(page, lambda: waiting_clicks(page) == 0)


def test_click_that_another_tab_has_delivered_is_not_sent_again(function, listed, show, page):
    page.expected += [OFFLINE, "ERR_FAILED"]
    show(LIKE)
    other = page.context.new_page()
    other.goto(listed.put(function, LIKE))
    has_value(other)
    other.route("**/click?*", lambda route: route.abort())
    page.context.set_offline(True)
    press(page)
    expect(note(other)).to_contain_text("1 click is waiting", timeout=15_000)
    page.context.set_offline(False)
    expect(count(page)).to_have_text("1", timeout=15_000)
    expect(note(other)).to_have_text("")
    sent = requests_of(other, "/click?", "POST")
    other.evaluate("dispatchEvent(new Event('online'))")
    other.wait_for_timeout(3000)  # longer than a pause
    assert sent == []


def test_clicks_of_another_site_cost_one_preflight(function, listed, page):
    proxy = Proxy(function.port, b"OPTIONS /click")
    page.goto(listed.put(SimpleNamespace(url=f"http://127.0.0.1:{proxy.port}"), LIKE))
    for times in range(3):
        press(page)
        expect(count(page)).to_have_text(str(times + 1))
    assert proxy.marked == 1
    page.goto("about:blank")
    proxy.close()


def test_page_whose_fetch_adds_headers_shows_the_count_and_clicks(function, show, page):
    """As tracing scripts do."""
    page.add_init_script(
        """const real = fetch; window.fetch = (url, { headers, ...options } = {}) =>
        real(url, { ...options, headers: { ...headers, traceparent: "00-1-2-01", "sentry-trace": "1" } })"""
    )
    function.click("post-1")
    show(LIKE, "1")
    press(page)
    expect(count(page)).to_have_text("2")
    assert function.count("post-1") == 2


# --- Advice to the owner ----------------------------------------------------------------------------------------

UNCLOSED = """<main><h1>Post</h1><p>Before</p>{}<p id=first>Some words and <a href="#there">a link</a>.</p><h2>More</h2>
    <form action="/search"><input aria-label=Words><button>Search</button></form><pre>code</pre>
    <button id=own onclick="window.own = 1">Copy</button></main>"""
PLACES = """() => [...document.querySelectorAll("main > h1, #first, h2, form, pre, #own")].map((one) => {
    const { x, width, height } = one.getBoundingClientRect(); return [x, width, height].map(Math.round); })"""


@pytest.mark.parametrize("tag", ['<click-counter name="post-1" />', '<click-counter name="post-1" single>Like'])
def test_tag_that_is_not_closed_is_a_heart_and_leaves_the_page_as_it_was(function, listed, page, tag):
    page.expected.append("no closing tag")
    listed.put(function, "Found", "/search")
    page.goto(listed.put(function, UNCLOSED.format("")))
    places = page.evaluate(PLACES)
    page.goto(listed.put(function, UNCLOSED.format(tag)))
    has_value(page)
    assert page.evaluate(PLACES) == places
    heart = page.locator("[part=button]")
    assert heart.locator("svg").is_visible()
    assert heart.bounding_box()["y"] < page.locator("#first").bounding_box()["y"]
    assert heart.inner_text().strip() == ""  # no word of the page
    page.get_by_role("link").click()
    assert page.url.endswith("#there")
    page.locator("#own").click()
    assert page.evaluate("window.own") == 1
    page.get_by_label("Words").press("Enter")
    expect(page).to_have_url(f"{listed.origin}/search?")
    page.go_back()
    page.locator("[part=button]").click()
    expect(count(page)).to_have_text("1")
    assert function.count("post-1") == 1
    assert any('Write <click-counter name="post-1"></click-counter>' in error for error in page.errors)


def test_list_of_tags_that_are_not_closed_shows_each_count(function, show, page):
    page.expected.append("no closing tag")
    posts = "".join(f'<article><h2>{n}</h2><click-counter name="post-{n}" /><p>Words</p></article>' for n in range(3))
    show(f"<div>{posts}</div><click-counter name=post-3 /><section>{LIKE}</section>", None)
    for index in range(5):
        has_value(page, index)
    expect(page.locator("[part=button]")).to_have_count(5)
    page.locator("[part=button]").nth(1).click()
    page.locator("[part=button]").nth(4).click()
    wait_for(page, lambda: function.count("post-1") == 2)
    assert [function.count(f"post-{n}") for n in (0, 2, 3)] == [0, 0, 0]


def test_labels_and_cards_that_are_closed_are_taken_as_they_are(function, show, page):
    labels = ("<p>Like</p>", "<b>Like</b> it", "<div>Like</div>", "<p>So far: <output></output></p>")
    for content in (
        *labels,
        "<h3>Card</h3><p>Words.</p><button>Like</button>",
        "<h3>Card</h3><ul><li>One</li></ul>FORM",
    ):
        content = content.replace("FORM", form(function))
        show(f'<click-counter name="post-1">{content}</click-counter><p>Below</p>')
        expect(page.get_by_role("button")).to_have_count(1)
        assert not page.locator("[part=heart]").is_visible()
    show('<click-counter name="post-1" readonly><p>People who have read this to the end:</p></click-counter>')
    expect(count(page)).to_have_text("0")
    assert count(page).bounding_box()["x"] > page.get_by_text("People").bounding_box()["x"]


ADVICE_AT_LOAD = {
    "a format without a place": ('<click-counter name="post-1" format="likes"></click-counter>', "a format without {}"),
    "a form of another counter": (
        '<click-counter name="post-2">FORM</click-counter>',
        "has a form that clicks at URL/click?name=post-1. Both must name one counter of URL/",
    ),
    "a form of another server": (
        '<click-counter name="post-1"><form action="https://counter.example/click?name=post-1"><button>Like</button>'
        "</form></click-counter>",
        "has a form that clicks at https://counter.example/click?name=post-1.",
    ),
    "a form around of another counter": (
        '<form action="URL/click?name=post-1"><click-counter name="post-2"><b>Like</b></click-counter></form>',
        "has a form that clicks at URL/click?name=post-1",
    ),
}


@pytest.mark.parametrize(("body", "words"), ADVICE_AT_LOAD.values(), ids=ADVICE_AT_LOAD)
def test_owner_is_told_at_load_not_at_the_press(function, show, page, body, words):
    body, words = (text.replace("FORM", form(function)).replace("URL", function.url) for text in (body, words))
    page.expected.append(words)
    show(body)
    wait_for(page, lambda: page.errors)
    page.evaluate("document.querySelector('click-counter').append('!')")
    page.wait_for_timeout(100)
    assert len(page.errors) == 1


def test_field_of_a_form_may_name_the_counter(function, show, page):
    field = "<input type=hidden name=name value=post-1><button"
    show(f"<click-counter>{form(function).replace('?name=post-1', '').replace('<button', field)}</click-counter>")
    press(page)
    expect(count(page)).to_have_text("1")
    assert function.count("post-1") == 1


def test_one_bad_element_costs_no_other(function, show, page):
    page.expected.append("page's own")
    bad = """<script>customElements.define("bad-output", class extends HTMLOutputElement {
        set textContent(_) { throw new Error("The page's own.") } }, { extends: "output" })</script>"""
    bodies = [
        '<click-counter name="post-1"><form action="http://["><button>Like</button></form></click-counter>',
        '<click-counter name="post-1"><output is="bad-output"></output></click-counter>',
    ]
    show(f"{bad}<click-counter></click-counter>{''.join(bodies)}{LIKE}", None)
    has_value(page, 3)
    press(page, 3)
    expect(count(page, 3)).to_have_text("1")
    press(page, 0)
    expect(count(page, 0)).to_have_text("1")
    assert [function.count(name) for name in ("post-1", COUNTER)] == [1, 1]


# --- The look ---------------------------------------------------------------------------------------------------

STYLE = """<style>body { background: #fff } click-counter:state(pressed)::part(button) { background: rgb(1, 2, 3) }
    click-counter:state(waiting)::part(count) { color: rgb(4, 5, 6) } click-counter::part(heart) { color: rgb(7, 8, 9) }
    .own { --click-counter-heart: rgb(10, 11, 12) }</style>"""


def style(page, part, name, index=0):
    script = "([index, part, name]) => getComputedStyle(document.querySelectorAll('click-counter')[index]"
    return page.evaluate(f"{script}.shadowRoot.querySelector(`[part=${{part}}]`))[name]", [index, part, name])


def test_number_stands_on_the_line_of_the_words_beside_it(function, show, page):
    function.click("post-1")
    show(f"<p><span>Words</span> {HEART} {LIKE}</p>", "1")
    words, *numbers = (one.bounding_box() for one in (page.locator("span").first, count(page, 0), count(page, 1)))
    assert [round(number["y"] - words["y"]) for number in numbers] == [0, 0]


def test_heart_and_count_are_one_button_and_own_text_wins(function, show, page):
    function.click("post-1")
    show(HEART + LIKE, "1")
    expect(button(page, 0)).to_have_accessible_name(re.compile("^Like"))
    assert button(page, 0).locator("svg").is_visible()
    assert button(page, 0).locator("[part=count]").is_visible()
    assert button(page, 0).bounding_box()["height"] >= 24
    assert not button(page, 1).locator("svg").is_visible()
    expect(button(page, 1)).to_contain_text("1")


def luminance(color):
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", color)[:3])
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(30, 30, 30)")])
def test_pressed_heart_is_filled_in_a_red_of_its_own(function, show, page, scheme, ground):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    own = "<style>.own { --click-counter-heart: rgb(10, 11, 12) }</style><meta name=color-scheme content='light dark'>"
    show(SINGLE + SINGLE.replace("<click-counter", "<click-counter class=own"), head=own)
    fill = "(svg) => [getComputedStyle(svg).fill, getComputedStyle(svg).color, getComputedStyle(svg).strokeWidth]"
    ink = page.evaluate("getComputedStyle(document.body).color")
    hearts = page.locator("svg")
    assert hearts.evaluate_all(f"(all) => all.map({fill})") == [["rgba(0, 0, 0, 0)", ink, "1.5px"]] * 2
    assert (count(page).inner_text(), page.evaluate("document.querySelector('click-counter').value")) == ("", 0)
    press(page)
    is_pressed(page, 1)
    page.mouse.move(0, 0)
    red, color, _ = hearts.first.evaluate(fill)
    assert red == color != ink
    lights = sorted((luminance(red), luminance(ground)))
    assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 3
    assert hearts.last.evaluate(fill)[0] == "rgb(10, 11, 12)"
    for index in (0, 1):  # the pill stays unfilled
        assert style(page, "button", "backgroundColor", index) == "rgba(0, 0, 0, 0)"
        assert style(page, "button", "boxShadow", index) == "none"


def test_count_of_zero_shows_no_number_but_in_words_and_where_it_is_all_there_is(show, page):
    page.expected.append("no closing tag")
    show(
        HEART + LIKE + '<click-counter name="post-1" format="{} likes">Like</click-counter>'
        '<click-counter name="post-1" readonly>Likes:</click-counter>'
        '<click-counter name="post-1">So far <output></output></click-counter>'
    )
    expect(own_output(page)).to_have_text("0")
    assert [count(page, index).inner_text() for index in range(4)] == ["", "", "0 likes", "0"]
    heights = [button(page, index).bounding_box()["height"] for index in range(3)]
    assert max(heights) - min(heights) < 0.5  # nothing moves at the first click


def test_every_part_and_state_can_be_styled(show, page):
    page.emulate_media(reduced_motion="reduce")  # its colour changes while it bursts
    page.expected += ["ERR_FAILED", "403"]
    show(SINGLE, head=STYLE)
    assert style(page, "heart", "color") == "rgb(7, 8, 9)"
    page.route("**/click?*", lambda route: route.abort())
    press(page)
    assert style(page, "button", "backgroundColor") == "rgb(1, 2, 3)"
    expect(note(page)).to_contain_text("waiting")
    assert style(page, "count", "color") == "rgb(4, 5, 6)"
    assert button(page).locator("svg").evaluate("(svg) => getComputedStyle(svg).fill") == "rgb(7, 8, 9)"


def test_count_is_spoken_after_the_visitors_own_press_alone(function, show, page):
    show(HEART)
    assert count(page).get_attribute("aria-live") == "off"
    pressed = "(button) => { button.click(); return button.querySelector('output').getAttribute('aria-live'); }"
    assert button(page).evaluate(pressed) == "polite"
    expect(count(page)).to_have_attribute("aria-live", "off")  # for the clicks of others


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_heart_bursts_and_count_rolls_only_where_motion_is_welcome(function, show, page, motion):
    page.emulate_media(reduced_motion=motion)
    page.add_init_script(
        """window.moved = []; const { animate } = Element.prototype; Element.prototype.animate = function (...all) {
        moved.push(this.localName); return animate.apply(this, all); }"""
    )
    function.click("post-1")
    show(HEART, "1")
    assert page.evaluate("moved") == []  # the first number is no change
    page.evaluate(
        """window.seen = []; const output = document.querySelector("click-counter").shadowRoot.querySelector("output");
        new MutationObserver(() => seen.push(output.textContent)).observe(output, { childList: true })"""
    )
    press(page)
    expect(count(page)).to_have_text("2")
    assert page.evaluate("moved") == (["svg", "output"] if motion == "no-preference" else [])
    assert page.evaluate("seen") == ["2"]  # no number that the server never gave


STATES = """<meta name="viewport" content="width=device-width"><meta name=color-scheme content="light dark"><style>
    body { font: 18px/1.5 system-ui, sans-serif; margin: 1em }
    section { display: flex; flex-wrap: wrap; gap: 0.75em; align-items: baseline; padding: 1em; border-radius: 0.5em }
    .blue { background: #0b3d91; color: #fff } .yellow { background: #ffe27a; color: #3a2a00 }
    .filled { --click-counter-background: #c2185b; --click-counter-border: #c2185b; --click-counter-color: #fff }
    .red { --click-counter-heart: #c2185b } .blue .red { --click-counter-heart: #ff9dbd }
    @media (prefers-color-scheme: dark) { main > section:first-of-type .red { --click-counter-heart: #ff6f9f } }
    </style>"""
CHIPS = """<click-counter name=post-1></click-counter> <click-counter name=post-2 single></click-counter>
    <click-counter name=post-1 class=red single format="{} like|{} likes"></click-counter>
    <click-counter name=post-1>Like</click-counter> <click-counter name=post-2 single>Applaud</click-counter>
    <click-counter name=post-1 class=filled></click-counter>
    <click-counter name=post-3 readonly format="Read {} time|Read {} times"></click-counter>"""


@pytest.mark.parametrize(
    ("look", "width"), [("light", 1280), ("light", 320), ("dark", 1280), ("dark", 390), ("forced", 320)]
)
def test_all_states_are_accessible_and_fit(function, show, page, look, width, request):
    page.expected += ["ERR_FAILED", "403"]
    page.emulate_media(color_scheme="dark" if look == "dark" else "light", reduced_motion="reduce",
                       forced_colors="active" if look == "forced" else "none")  # fmt: skip
    page.set_viewport_size({"width": width, "height": 400})
    for name, clicks in (("post-1", 12), ("post-3", 1)):
        for _ in range(clicks):
            function.click(name)
    rows = [CHIPS, f"<section class=blue>{CHIPS}</section>", f"<section class=yellow>{CHIPS}</section>"]
    states = f"<div>{SINGLE.replace('post-1', 'post-4')}</div><div>{HEART.replace('post-1', 'post-5')}</div>"
    main = f"<section>{rows[0]}</section>{rows[1]}{rows[2]}<section>{states}</section>"
    show(f"<main><h1>Like buttons</h1>{main}</main>", "12", head=STATES)
    press(page, 1)
    is_pressed(page, 1)
    expect(count(page, 1)).to_have_text("1")
    page.route("**/click?name=post-4", lambda route: route.abort())
    page.route("**/click?name=post-5", lambda route: route.fulfill(status=403, headers=SHARED, **PROBLEM))
    press(page, 22)
    expect(note(page, 22)).to_contain_text("could not be counted")
    press(page, 21)
    expect(note(page, 21)).to_contain_text("waiting")
    button(page, 0).focus()
    page.keyboard.press("Shift")  # the focus is a keyboard's
    button(page, 3).hover()
    check_accessibility(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if request.config.getoption("--update"):
        page.screenshot(path=PICTURES / f"states-{look}-{width}.png", full_page=True)


POST_LOOK = """<meta name=viewport content="width=device-width"><meta name=color-scheme content="light dark"><style>
    body { font: 18px/1.6 Georgia, "DejaVu Serif", serif; max-width: 34em; margin: 0 auto; padding: 1.5em 1.25em }
    h1 { font-size: 1.75em; line-height: 1.2; margin: 0 0 0.25em } h2 { font-size: 1.25em; margin: 2em 0 0.25em }
    time { font: 0.8em system-ui, sans-serif } click-counter { font: 16px system-ui, sans-serif }
    </style>"""
POST = """<main><h1>Counting is harder than it looks</h1><time>22 November</time>
    <p>A visitor presses once. The train enters a tunnel, the phone asks again, and the number must grow by one, not by
    two. This is how it is done with one row and one key.</p>
    <div><click-counter name="post-1" single></click-counter></div>
    <h2>A row, a key, a commit</h2><time>15 November</time>
    <p>What a database does while a hundred people press at the same moment, and why it is one statement.</p>
    <div><click-counter name="post-2" single></click-counter></div></main>"""


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_post_with_its_button_pressed_and_not_is_accessible_and_fits(
    function, database, show, page, scheme, width, request
):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 640})
    for name, clicks in (("post-1", 128), ("post-2", 46)):
        function.click(name)
        database.sql(f"update counter set value = {clicks} where name = '{name}'")
    show(POST, "128", head=POST_LOOK)
    expect(count(page, 1)).to_have_text("46")
    press(page)
    expect(count(page)).to_have_text("129")
    page.mouse.move(0, 0)
    check_accessibility(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if request.config.getoption("--update"):
        page.set_viewport_size({"width": min(width, 720), "height": 640})
        page.screenshot(path=PICTURES / f"post-{scheme}-{width}.png", full_page=True)


# --- Words and languages ----------------------------------------------------------------------------------------

WRITTEN = [  # language of the page, format, value, what is shown
    ("en", "{} like|{} likes", 0, "0 likes"),
    ("en", "{} like|{} likes", 1, "1 like"),
    ("en", "{} like|{} likes", 1234, "1,234 likes"),
    ("fr", "{} clic|{} clics", 0, "0 clic"),
    ("de", "{} Klick|{} Klicks", 1234, "1.234 Klicks"),
    ("de_CH", "{} Klick|{} Klicks", 1234, re.compile("^1.234 Klicks$")),
    ("x$", "{} like|{} likes", 1234, "1,234 likes"),
    ("ar-EG", "{} likes", 12, "12 likes"),  # their digits are those of the words
    ("ar-EG", "{} إعجاب", 12, "١٢ إعجاب"),
    ("en", "{} likes", 1, "1 likes"),
    ("en", "({}x)", 1, "(1x)"),
    ("de", "({}x)", 1234, "(1,234x)"),  # a number alone, as the visitor is used to
    ("en", "| {} |", 1, "| 1 |"),
    ("en", "One like|{} likes", 1, "One like"),
    ("en", "One like|{} likes", 2, "2 likes"),
    ("en", "{} of {} | all {}", 2, "all 2"),
    ("en", "$& {} $1", 3, "$& 3 $1"),
]


def test_count_is_written_in_words(function, database, show):
    function.click("post-1")
    for language, words, value, text in WRITTEN:
        database.sql(f"update counter set value = {value}")
        show(f'<click-counter name="post-1" format="{words}"></click-counter>', text, lang=language)


def test_german_page_speaks_german_and_loads_only_that(function, show, page):
    page.expected.append("ERR_FAILED")
    loaded = requests_of(page, "/notes.")
    show('<click-counter name="post-1" history></click-counter>', lang="DE-AT")
    expect(button(page)).to_have_accessible_name(re.compile("^Gefällt mir"))
    expect(page.get_by_text("Keine Klicks in den letzten 30 Tagen.")).to_be_visible()
    function.click("post-1")
    page.reload()
    expect(page.get_by_text(re.compile(r"^1 Klick, am \d+\. \w+\.$"))).to_be_visible()
    page.route("**/click?*", lambda route: route.abort())
    press(page)
    expect(note(page)).to_contain_text("1 Klick wartet.")
    assert note(page).get_attribute("lang") == "de"
    assert {url.rpartition("/")[2] for url in loaded} == {"notes.de.js"}


def test_other_pages_speak_english_and_load_no_notes(function, show, page):
    page.expected.append("ERR_FAILED")
    loaded = requests_of(page, "/notes.")
    page.route("**/click?*", lambda route: route.abort())
    for language in ("en", "en-GB", "pt-BR", "constructor", "", "ar"):
        show(HEART, None, lang=f'"{language}"')
        press(page)
        expect(note(page)).to_contain_text("1 click is waiting.")
        page.evaluate("localStorage.clear()")
    assert loaded == []


def test_arabic_page_keeps_an_english_sentence_whole(function, listed, browser):
    context = browser.new_context(locale="ar-EG")
    page = context.new_page()
    for _ in range(12):
        function.click("post-1")
    page.goto(listed.put(function, '<click-counter name="post-1" history></click-counter>', lang="ar dir=rtl"))
    sentence = page.get_by_text(re.compile("^12 clicks"))
    expect(sentence).to_be_visible()
    for text in (sentence, note(page)):
        assert text.evaluate("(one) => [one.lang, getComputedStyle(one).direction]") == ["en", "ltr"]
    assert sentence.evaluate("(one) => getComputedStyle(one).textAlign") == "right"
    context.close()


def test_words_of_a_left_to_right_language_stay_in_order(show, page):
    show('<click-counter name="post-1" format="{} likes"></click-counter>', "0 likes", lang="ar dir=rtl")
    in_order = """(part) => { const node = part.firstChild; const range = new Range();
        const place = (index) => { range.setStart(node, index); range.setEnd(node, index + 1);
            return range.getBoundingClientRect().x; }; return place(0) < place(node.length - 1); }"""
    assert count(page).evaluate(in_order)


def test_digits_of_a_note_are_those_of_its_language(function, show, page):
    page.expected.append("ERR_FAILED")
    show(LIKE, lang="de")
    put_clicks(page, function, 1234)
    page.route("**/click?*", lambda route: route.abort())
    page.reload()
    expect(note(page)).to_contain_text("1.234 Klicks warten.", timeout=15_000)
    page.evaluate("localStorage.clear()")


def test_language_comes_through_components(function, show, page):
    page.expected.append("ERR_FAILED")
    show("<section lang=de></section>", None)
    page.evaluate(
        """document.querySelector("section").attachShadow({ mode: "open" })
        .append(Object.assign(document.createElement("click-counter"), { name: "post-1" }))"""
    )
    expect(button(page)).to_have_accessible_name(re.compile("^Gefällt mir"))


# --- Properties -------------------------------------------------------------------------------------------------


def test_properties_go_with_the_attributes(function, show, page):
    show(LIKE)
    got = page.evaluate(
        """() => { const one = document.querySelector("click-counter");
        const before = [one.name, one.readonly, one.single, one.format, one.history, one.value];
        Object.assign(one, { name: "post-2", readonly: true, single: 1, format: "{}!", history: true });
        const after = [...one.attributes].map(({ name, value }) => `${name}=${value}`).sort();
        Object.assign(one, { name: null, readonly: false, single: 0, format: undefined, history: "" });
        return [before, after, one.attributes.length, one.name, one.format]; }"""
    )
    assert got == [
        ["post-1", False, False, "", False, 0],
        ["format={}!", "history=", "name=post-2", "readonly=", "single="],
        0,
        "",
        "",
    ]


def test_properties_that_are_set_before_the_script_is_there_hold(function, listed, page):
    early = """<script>const one = document.querySelector("click-counter");
        Object.assign(one, { name: "post-2", single: true, format: "{} like|{} likes", value: 77 })</script>"""
    function.click("post-2")
    page.goto(listed.put(function, f"<click-counter></click-counter>{early}"))
    expect(count(page)).to_have_text("1 like")
    assert page.evaluate("[one.name, one.single, one.getAttribute('format'), one.value, Object.keys(one).length]") == [
        "post-2", True, "{} like|{} likes", 1, 0]  # fmt: skip
    is_pressed(page, pressed=False)


def test_value_is_null_until_the_server_has_told_it_and_cannot_be_written(function, listed, page):
    held = []
    page.route("**/value?*", lambda route: held.append(route))
    page.goto(listed.put(function, LIKE))
    wait_for(page, lambda: held)
    assert page.evaluate("document.querySelector('click-counter').value") is None
    held[0].continue_()
    has_value(page)
    assert (
        page.evaluate(
            "(() => { const one = document.querySelector('click-counter'); one.value = 9; return one.value })()"
        )
        == 0
    )


def test_types_name_every_attribute_and_event():
    types = (ROOT / "static" / "click-counter.d.ts").read_text()
    for name in ("name", "readonly", "single", "format", "history", "value"):
        assert re.search(rf"\b{name}: ", types), name
        assert name == "value" or f'"{name}"' in types
    for event in ("value", "counted", "waiting", "refused", "missing"):
        assert f'"click-counter-{event}"' in types


# --- What must not break it -------------------------------------------------------------------------------------


def form(function):
    return f'<form method="post" action="{function.url}/click?name=post-1"><button>Like</button></form>'


AROUND = {
    "a link": '<a href="/elsewhere">{}</a>',
    "a label": "<label>Like it {} <input type=checkbox></label>",
    "a label for a box": "<input type=checkbox id=box><label for=box>{}</label>",
    "a summary": "<details><summary>{}</summary>More</details>",
    "a form": '<form action="/elsewhere">{}<button>Send</button></form>',
    "another element": "<click-counter name=post-2>{}</click-counter>",
}
INSIDE = {  # what is pressed
    "nothing": "",
    "words": "<b>Like</b>",
    "a form": "FORM",
    "a button": "<button>Like</button>",
    "a link": '<a href="/elsewhere">Like</a>',
    "an input": "<input type=submit value=Like>",
    "an input that is a button": "<input type=button value=Like>",
    "a picture": '<input type=image alt=Like src="data:,">',
}


@pytest.mark.parametrize("around", AROUND)
def test_one_press_is_one_click_and_nothing_else(function, show, page, around):
    page.expected += ["no closing tag"] if around == "another element" else []
    contents = {
        what: content for what, content in INSIDE.items() if what != around
    }  # HTML nests neither forms nor links
    body = ""
    for index, content in enumerate(contents.values()):
        content = content.replace("FORM", form(function)).replace("post-1", f"post-{index}")
        one = f'<click-counter id=one-{index} name="post-{index}">{content}</click-counter>'
        body += (
            f"<div>{AROUND[around].format(one).replace('post-2>', 'post-other>').replace('box', f'box-{index}')}</div>"
        )
    show(body)
    for index, inside in enumerate(contents):
        element = page.locator(f"#one-{index}")
        pressed = element.get_by_role("link" if inside == "a link" else "button").first
        pressed.click()
        expect(element.locator("[part=count]")).to_have_text("1")
        pressed.focus()
        page.keyboard.press("Enter")
        expect(element.locator("[part=count]")).to_have_text("2")
        pressed.click(button="middle")
        assert page.url.endswith("/post")
        assert len(page.context.pages) == 1
        assert page.locator("details[open], :checked").count() == 0
        assert (inside, function.count(f"post-{index}"), function.count("post-other")) == (inside, 2, 0)


WRAPPERS = {
    "the form": ("<slot></slot>", "FORM"),
    "the form, deeper": ("<p><slot name=x></slot></p>", "<div slot=x>FORM</div>"),
    "a button": ("<slot></slot>", "<button>Like</button>"),
    "words": ("<slot></slot>", "Like"),
    "a component with a button": ("<my-button>Like</my-button>", ""),
    "a component with a component": ("<my-outer>Like</my-outer>", ""),
    "a component that is known later": ("<my-later>Like</my-later>", ""),
    "nothing": ("<slot></slot>", ""),
    "nothing to be seen": ("<slot></slot><style>p {}</style>", "<template><button>No</button></template>"),
}


@pytest.mark.parametrize(("shadow", "light"), WRAPPERS.values(), ids=WRAPPERS)
def test_component_around_it_counts_one_click_and_has_one_tab_stop(function, show, page, shadow, light):
    show("<my-like></my-like>", None)
    page.evaluate(
        """([shadow, light]) => {
        customElements.define("my-button", class extends HTMLElement { connectedCallback() {
            this.attachShadow({ mode: "open" }).innerHTML = "<button><slot></slot></button>"; } });
        customElements.define("my-outer", class extends HTMLElement { connectedCallback() {
            this.attachShadow({ mode: "open" }).innerHTML = "<p><my-button><slot></slot></my-button></p>"; } });
        const like = document.querySelector("my-like"); like.innerHTML = light;
        like.attachShadow({ mode: "open" }).innerHTML = `<click-counter name="post-1">${shadow}</click-counter>`; }""",
        [shadow, light.replace("FORM", form(function))],
    )
    page.wait_for_function("document.querySelector('my-like').shadowRoot.firstChild.value === 0")
    page.wait_for_function(
        "!document.querySelector('my-like').shadowRoot.querySelector('click-counter').matches(':empty')"
    )
    page.evaluate("customElements.define('my-later', class extends customElements.get('my-button') {})")
    wait_for(page, lambda: page.get_by_role("button").count() == 1)
    expect(page.get_by_role("button")).to_have_accessible_name(re.compile("^Like"))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("click-counter [part=count]")).to_have_text("1")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # nothing has the focus
    page.wait_for_timeout(200)
    assert function.count("post-1") == 1


@pytest.mark.parametrize("content", ["Like", "FORM", "<button>Like</button>"])
def test_key_that_is_held_presses_once(function, show, page, content):
    show(f'<click-counter name="post-1">{content.replace("FORM", form(function))}</click-counter>')
    expect(button(page)).to_be_visible()
    button(page).focus()
    for clicks, key in ((1, "Enter"), (3, "Space")):
        for _ in range(8):
            page.keyboard.down(key)
        page.keyboard.up(key)
        expect(count(page)).to_have_text(str(clicks))
        page.keyboard.press(key)
        expect(count(page)).to_have_text(str(clicks + 1))
    assert function.count("post-1") == 4


def test_key_that_is_held_in_a_field_sends_its_form_once(function, show, page):
    fields = form(function).replace("<button", "<input aria-label=Why><textarea aria-label=More></textarea><button")
    show(f'<click-counter name="post-1">{fields}</click-counter>')
    for label, typed in (("Why", ""), ("More", "\n" * 6)):
        field = page.get_by_label(label)
        field.focus()
        for _ in range(6):
            page.keyboard.down("Enter")
        page.keyboard.up("Enter")
        expect(field).to_have_value(typed)
        expect(count(page)).to_have_text("1")
    assert function.count("post-1") == 1


def test_buttons_class_in_a_layer_wins(function, show, page):
    """As Tailwind's utilities are."""
    layer = "<style>@layer utilities { .mine { background: rgb(1, 2, 3); border: 0 } }</style>"
    show('<click-counter name="post-1"><button class=mine>Like</button></click-counter>', head=layer)
    expect(button(page)).to_have_css("background-color", "rgb(1, 2, 3)")
    expect(button(page)).to_have_css("border-top-width", "0px")
    show('<click-counter name="post-1"><button class="">Like</button></click-counter>')
    expect(button(page)).to_have_css("border-top-width", "1px")


def test_form_that_is_sent_counts_its_own_name(function, show, page):
    forms = form(function) + form(function).replace("post-1", "post-2").replace("Like", "Love")
    show(f"<click-counter>{forms}</click-counter>")
    page.evaluate("addEventListener('click-counter-counted', (event) => (window.told = event.detail))")
    page.get_by_role("button", name="Love").click()
    wait_for(page, lambda: page.evaluate("window.told") == {"name": "post-2", "value": 1})
    page.get_by_role("button", name="Like").click()
    expect(count(page)).to_have_text("1")
    assert [function.count(name) for name in ("post-1", "post-2")] == [1, 1]


def test_button_of_the_page_is_the_only_tab_stop(function, show, page):
    show('<click-counter name="post-1"><p>Do you like it?</p><button>Yes</button></click-counter>')
    expect(button(page)).to_have_count(1)
    press(page)
    expect(count(page)).to_have_text("1")


def test_button_that_a_library_extends_is_taken_as_it_is(show, page):
    show('<click-counter name="post-1"><button is="fancy-button">Like</button></click-counter>')
    press(page)
    expect(count(page)).to_have_text("1")  # and no error in the console


def test_link_that_does_not_press_opens_as_ever(listed, show, page):
    listed.pages["/elsewhere"] = "<!doctype html><title>Elsewhere</title><link rel=icon href=data:,>"
    show('<click-counter name="post-1" readonly><a href="/elsewhere">More</a></click-counter>')
    with page.context.expect_page():
        page.get_by_role("link").click(button="middle")
    page.get_by_role("link").click()
    page.wait_for_url("**/elsewhere")


def test_disabled_button_of_the_page_does_not_press(function, show, page):
    show('<click-counter name="post-1"><button disabled><b>Yes</b></button></click-counter>')
    page.locator("b").click(force=True)
    page.locator("b").dispatch_event("click")
    page.wait_for_timeout(200)
    assert function.count("post-1") == 0


def test_name_of_the_form_is_used_where_there_is_no_other(function, show, page):
    function.click("post-1")
    asked = requests_of(page, "/value")
    show(f"<click-counter>{form(function)}</click-counter>", "1")
    press(page)
    expect(count(page)).to_have_text("2")
    assert asked and all("name=post-1" in url for url in asked)
    page.expected.append("Both must name one counter")
    page.evaluate("document.querySelector('click-counter').name = 'post-2'")
    page.wait_for_function("document.querySelector('click-counter').value === 0")


def test_form_that_its_page_cancels_or_whose_fields_are_wrong_counts_nothing(function, show, page):
    field = form(function).replace("<button", "<input required aria-label=Why><button")
    show(f"<click-counter name=post-1>{field}</click-counter>")
    expect(button(page)).to_be_visible()
    press(page)
    page.get_by_label("Why").fill("So")
    page.evaluate("document.querySelector('form').onsubmit = () => false")
    press(page)
    page.wait_for_timeout(200)
    assert function.count("post-1") == 0
    page.evaluate("document.querySelector('form').onsubmit = null")
    press(page)
    expect(count(page)).to_have_text("1")
    assert page.url.endswith("/post")


def test_form_that_a_script_sends_counts_once_whoever_takes_it(function, show, page):
    show(f"<click-counter>{form(function)}</click-counter>")
    page.evaluate(
        """() => { const [form] = document.forms; window.taken = 0;
        form.addEventListener("submit", (event) => { event.preventDefault(); taken += 1; }); form.requestSubmit(); }"""
    )
    expect(count(page)).to_have_text("1")
    assert (page.evaluate("taken"), function.count("post-1")) == (0, 1)
    page.evaluate("document.forms[0].onsubmit = () => false; document.forms[0].requestSubmit()")
    page.wait_for_timeout(200)
    assert function.count("post-1") == 1


def test_translator_and_element_do_not_undo_each_others_text_for_ever(function, show, page):
    page.goto("about:blank")
    show('<click-counter name="post-1">So far: <output></output></click-counter>', None)
    expect(own_output(page)).to_have_text("0")
    page.evaluate(
        """() => { window.rewrites = 0; const output = document.querySelector("output");
        const translate = () => { if (output.textContent.startsWith("«") || rewrites > 200) return;
            rewrites += 1; output.innerHTML = `<font>«${output.textContent}»</font>`; };
        new MutationObserver(translate).observe(output, { childList: true, characterData: true, subtree: true });
        translate(); }"""
    )
    expect(own_output(page)).to_have_text("«0»")
    press(page)
    expect(own_output(page)).to_have_text("«1»")
    page.wait_for_timeout(300)
    assert page.evaluate("rewrites") <= 3


PUT_BACK = {
    "what is in the element": """const before = "So far: <output></output>";
        const put = () => { if (one.innerHTML !== before) { rewrites += 1; one.innerHTML = before; } };""",
    "the output, translated": """const put = () => { const output = one.querySelector("output");
        if (output.textContent.startsWith("«")) return;
        const copy = output.cloneNode(); copy.textContent = "«?»"; rewrites += 1; output.replaceWith(copy); };""",
}


@pytest.mark.parametrize("script", PUT_BACK.values(), ids=PUT_BACK)
def test_script_that_puts_back_what_was_there_stops_nothing(function, show, page, script):
    show('<click-counter name="post-1">So far: <output></output></click-counter>', None)
    expect(own_output(page)).to_have_text("0")
    page.evaluate(
        f"""() => {{ window.rewrites = 0; const one = document.querySelector("click-counter");
        const observe = (node, put) => new MutationObserver((all) => rewrites < 1000 && put(all))
            .observe(node, {{ childList: true, characterData: true, subtree: true }});
        {script}
        put(); observe(one, put) }}"""
    )
    page.wait_for_timeout(300)
    assert 0 < page.evaluate("rewrites") < 30
    function.click("post-1")
    page.evaluate("window.rewrites = 1000")  # it stops
    expect(own_output(page)).to_have_text("1", timeout=10_000)


def test_output_that_a_framework_makes_anew_is_written_each_time(show, page):
    show('<click-counter name="post-1">So far: <output></output></click-counter>', None)
    for _ in range(8):
        expect(own_output(page)).to_have_text("0")
        page.evaluate("document.querySelector('click-counter').innerHTML = 'Now: <output></output>'")
    expect(own_output(page)).to_have_text("0")


def test_output_of_the_page_is_not_written_while_its_element_is_put_in(show, page):
    show(HEART)
    assert (
        page.evaluate(
            """() => { const place = document.createElement("div"); document.body.append(place);
            place.innerHTML = '<click-counter name="post-1"><output></output></click-counter>';
            return place.querySelector("output").textContent; }"""
        )
        == ""
    )
    page.wait_for_function("document.querySelector('div output').textContent === '0'")


def test_output_of_the_page_is_left_alone_until_the_first_answer(function, listed, page):
    function.click("post-1")
    held = []
    page.route("**/value?*", lambda route: held.append(route))
    body = f'<click-counter name="post-1" single><output></output>{form(function)}</click-counter>'
    before = """<script>window.writes = 0; new MutationObserver((all) => (writes += all.length))
        .observe(document.body, { childList: true, characterData: true, attributes: true, subtree: true })</script>"""
    page.goto(listed.put(function, before + body))
    wait_for(page, lambda: held)
    page.wait_for_function("!!customElements.get('click-counter')")
    page.evaluate("window.writes = 0")
    page.wait_for_timeout(300)
    assert page.evaluate("[writes, document.querySelector('output').outerHTML]") == [0, "<output></output>"]
    held[0].continue_()
    expect(own_output(page)).to_have_text("1")


RULES = re.compile(  # of EasyPrivacy, generic; the hosts are such as .com
    r"/count\?|/counter\?|/click-count\.|/click\?track=|/clickcount[./]|/clicktag\.|/count\?pid=|/count\.gif\?|/counter\?id="
)


def test_no_address_is_one_that_block_lists_refuse(function, show, page):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    show('<click-counter name="post-1" single history format="{} like|{} likes"></click-counter>', "0 likes", lang="de")
    press(page)
    is_pressed(page)
    page.goto(f"{function.url}/")
    greet(page)
    expect(heading(page)).to_contain_text("(1x)")
    page.goto(f"{function.url}/embed.html")
    expect(page.locator("#snippet")).to_contain_text("click-counter")
    assert len(asked) > 20
    assert [url for url in asked if RULES.search(url)] == []


def test_script_that_is_loaded_twice_says_so(function, show, page):
    page.expected.append("Load it once")
    second = f'<script type="module" src="{function.url}/click-counter.js?2"></script>'
    show(LIKE, head=second)
    wait_for(page, lambda: page.errors)
    addresses = [f"{function.url}/click-counter.js{query}" for query in ("?2", "")]
    assert " and from ".join(addresses) in page.errors[0] or " and from ".join(addresses[::-1]) in page.errors[0]
    press(page)
    expect(count(page)).to_have_text("1")
    assert function.count("post-1") == 1


def test_script_of_another_server_says_so(function, start, on_sqlite, show, page):
    page.expected.append("Load it once")
    other = start(on_sqlite.url, COUNTERS="post-*")
    show(LIKE, None, head=f'<script type="module" src="{other.url}/click-counter.js"></script>')
    wait_for(page, lambda: page.errors)


ADVICE = {
    "malformed": ('<click-counter name="not good">', "A name is 1 to 100 characters"),
    "not permitted": ('<click-counter name="nothing">', "COUNTERS=…,nothing"),
}


@pytest.mark.parametrize(("body", "words"), ADVICE.values(), ids=ADVICE)
def test_owner_reads_what_to_do_in_the_console(function, show, page, body, words):
    page.expected += [words, "Failed to load resource"]
    show(body, None)
    expect(note(page)).to_have_text("There is no such counter.")
    wait_for(page, lambda: any(words in error for error in page.errors))
    assert all("Failed" in error or ("COUNTERS" in error) == ("COUNTERS" in words) for error in page.errors)


def test_page_without_an_origin_is_told_to_be_served(function, show, page):
    page.expected += ["serve it", "403"]
    script = f"<script type=module src={function.url}/click-counter.js></script>"
    show(f"<iframe sandbox=allow-scripts srcdoc='{script}{LIKE}'></iframe>", None)
    page.frame_locator("iframe").get_by_role("button").click()
    wait_for(page, lambda: any("serve it" in error for error in page.errors))
    assert not any("ALLOWED_ORIGINS" in error for error in page.errors)


def test_plain_button_loads_at_most_13500_bytes(function, show, page):
    loaded = []
    page.on("response", lambda response: loaded.append(response) if response.url.endswith(".js") else None)
    show(HEART)
    press(page)
    expect(count(page)).to_have_text("1")
    names = {response.url.rpartition("/")[2] for response in loaded}
    assert names == {"click-counter.js", "clicks.js", "content.js", "words.js"}
    assert sum(len(gzip.compress(response.body(), 9)) for response in loaded) <= 13_500
