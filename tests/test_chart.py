"""The chart of the last 30 days, in a real browser."""

import datetime
import random
import re

import pytest
from pages import PICTURES, check_accessibility, wait_for
from playwright.sync_api import expect
from servers import COUNTER, today

RANDOM = random.Random(4)
HISTORIES = {  # clicks of so many days ago
    "no": {},
    "little": {0: 1, 3: 2},
    "much": {ago: int(RANDOM.random() ** 2 * 4000) + 20 for ago in range(40)},
}


@pytest.fixture
def function(visited):
    return visited.function


@pytest.fixture
def database(visited):
    return visited.database


def put(function, database, days):
    """Give the counter these days and no others."""
    function.click()
    database.sql("delete from daily")
    database.put_days(days)
    database.sql(f"update counter set value = {sum(days.values())}")


def text(page):
    return page.locator("[part=history] p")


def slider(page):
    return page.get_by_role("slider", name="Day")


def heights(page):
    return page.locator("[part=history] rect").evaluate_all("bars => bars.map((bar) => +bar.getAttribute('height'))")


def day_of(ago):
    day = today() - datetime.timedelta(days=ago)
    return f"{day:%B} {day.day}"


def test_every_day_has_a_bar_and_todays_grows_with_a_click(function, database, page):
    put(function, database, {0: 1, 1: 4, 29: 2})
    page.goto(function.url)
    expect(text(page)).to_have_text(f"7 clicks in the last 30 days, most on {day_of(1)}: 4.")
    assert heights(page) == [8, *[1] * 27, 16, 4]
    page.get_by_role("button", name="Greet the world!").click()
    expect(text(page)).to_contain_text("8 clicks in the last 30 days")
    assert heights(page) == [8, *[1] * 27, 16, 8]
    function.click()
    expect(text(page)).to_contain_text("9 clicks", timeout=10_000)


def test_many_clicks_ask_for_few_histories(function, database, page):
    asked = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/history") else None)
    put(function, database, {})
    page.goto(function.url)
    expect(text(page)).to_be_visible()
    for _ in range(20):
        page.get_by_role("button", name="Greet the world!").click()
    expect(text(page)).to_contain_text("20 clicks", timeout=10_000)
    assert len(asked) <= 5


def test_hover_tells_day_and_number(function, database, page):
    put(function, database, {0: 1, 1: 1234})
    page.goto(function.url)
    expect(text(page)).to_contain_text("1,235 clicks")
    box = slider(page).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 28.5 / 30, box["y"] + 5)
    expect(text(page)).to_have_text(f"{day_of(1)}: 1,234 clicks")
    page.mouse.move(box["x"] + box["width"] * 29.5 / 30, box["y"] + 5)
    expect(text(page)).to_have_text(f"{day_of(0)}: 1 click")
    page.mouse.move(0, 0)
    expect(text(page)).to_contain_text("in the last 30 days")


def test_touch_tells_day_and_number(function, database, browser):
    put(function, database, {0: 3})
    context = browser.new_context(has_touch=True, locale="en-US", timezone_id="America/Los_Angeles")  # days are UTC's
    page = context.new_page()
    page.goto(function.url)
    expect(text(page)).to_contain_text("3 clicks")
    box = slider(page).bounding_box()
    page.touchscreen.tap(box["x"] + 2, box["y"] + 5)
    expect(text(page)).to_have_text(f"{day_of(29)}: 0 clicks")
    context.close()


def test_keyboard_tells_day_and_number(function, database, page):
    put(function, database, {0: 3, 1: 5})
    page.goto(function.url)
    expect(text(page)).to_contain_text("8 clicks")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(slider(page)).to_be_focused()
    expect(slider(page)).to_have_attribute("aria-valuetext", f"{day_of(0)}: 3 clicks")
    for key, ago, told in (("ArrowLeft", 1, "5 clicks"), ("Home", 29, "0 clicks"), ("ArrowLeft", 29, "0 clicks"),
                           ("ArrowRight", 28, "0 clicks"), ("End", 0, "3 clicks")):  # fmt: skip
        page.keyboard.press(key)
        expect(text(page)).to_have_text(f"{day_of(ago)}: {told}")
        expect(slider(page)).to_have_attribute("aria-valuetext", f"{day_of(ago)}: {told}")
        expect(slider(page)).to_have_attribute("aria-valuenow", str(30 - ago))
    page.keyboard.press("Shift+Tab")
    expect(text(page)).to_contain_text("8 clicks in the last 30 days")


def test_screen_reader_gets_a_sentence_and_a_table(function, database, page):
    put(function, database, {0: 3, 1: 5})
    page.goto(function.url)
    expect(page.get_by_text(f"8 clicks in the last 30 days, most on {day_of(1)}: 5.")).to_be_visible()
    table = page.get_by_role("table", name="Clicks per day (UTC)")
    assert table.get_by_role("row").count() == 31
    expect(table.get_by_role("row").last).to_have_text(f"{day_of(0)}3")
    assert table.get_by_role("rowheader").count() == 30
    assert table.get_by_role("columnheader").all_inner_texts() == ["Day", "Clicks"]


def test_history_that_cannot_be_read_takes_nothing_from_the_count(function, database, page):
    put(function, database, {0: 3})
    page.route(re.compile("/history$"), lambda route: route.abort())
    page.goto(function.url)
    page.get_by_role("button", name="Greet the world!").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Hello World! (4x)")
    expect(slider(page)).to_have_count(0)
    page.unroute(re.compile("/history$"))
    page.get_by_role("button", name="Greet the world!").click()
    expect(text(page)).to_contain_text("5 clicks", timeout=8000)
    page.errors.clear()


def test_history_that_could_not_be_read_once_is_asked_for_again(function, database, page):
    put(function, database, {0: 3})
    page.clock.install()
    page.goto(function.url)
    expect(text(page)).to_contain_text("3 clicks")
    page.route(re.compile("/history$"), lambda route: route.fulfill(status=503, body="{}"))
    page.get_by_role("button", name="Greet the world!").click()
    page.clock.run_for(3000)
    expect(page.get_by_role("heading", level=1)).to_have_text("Hello World! (4x)")
    page.unroute(re.compile("/history$"))
    page.clock.run_for(25_000)
    expect(text(page)).to_contain_text("4 clicks")
    page.errors.clear()


def test_midnight_brings_a_new_bar(function, database, page):
    put(function, database, {0: 3})
    asked = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/history") else None)
    page.clock.install(time="2026-11-22T23:59:00Z")
    page.goto(function.url)
    expect(text(page)).to_contain_text("3 clicks")
    page.clock.run_for(50_000)
    assert len(asked) == 1
    with page.expect_request(re.compile("/history$")):
        page.clock.run_for(50_000)


def test_elements_of_one_name_share_their_history(function, database, page):
    put(function, database, {0: 3})
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/history?" in request.url else None)
    page.goto(function.url)
    element = f'<click-counter name="{COUNTER}" history></click-counter>'
    page.evaluate("(element) => { document.body.innerHTML = element.repeat(10) }", element)
    expect(text(page)).to_have_count(10)
    expect(text(page).last).to_contain_text("3 clicks")
    assert len(asked) == 1


def test_finger_that_scrolls_leaves_the_sentence(function, database, page):
    put(function, database, {0: 3})
    page.goto(function.url)
    expect(text(page)).to_have_text(f"3 clicks, all on {day_of(0)}.")
    slider(page).dispatch_event("pointerdown", {"pointerType": "touch", "clientX": 0})
    expect(text(page)).to_have_text(f"{day_of(29)}: 0 clicks")
    slider(page).dispatch_event("pointercancel", {"pointerType": "touch"})
    expect(text(page)).to_have_text(f"3 clicks, all on {day_of(0)}.")


def test_other_name_shows_its_own_days(function, database, page):
    put(function, database, {0: 3})
    function.click("other")
    page.goto(function.url)
    expect(text(page)).to_contain_text("3 clicks")
    page.expected.append("Both must name one counter")  # the form of the page clicks the default one
    page.evaluate("document.querySelector('click-counter').setAttribute('name', 'other')")
    expect(text(page)).to_contain_text("1 click in the last 30 days")
    page.evaluate("document.querySelector('click-counter').setAttribute('name', 'third')")
    expect(text(page)).to_have_text("No clicks in the last 30 days.")
    page.evaluate("document.querySelector('click-counter').removeAttribute('history')")
    expect(slider(page)).to_have_count(0)
    wait_for(page, lambda: page.locator("[part=history]").count() == 0)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])
@pytest.mark.parametrize("kind", HISTORIES)
def test_chart_is_accessible_and_fits(function, database, page, kind, width, scheme, request):
    put(function, database, HISTORIES[kind])
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 640})
    page.goto(function.url)
    last = sum(value for ago, value in HISTORIES[kind].items() if ago < 30)
    expect(text(page)).to_contain_text(f"{last:,} clicks in the last" if last else "No clicks in the last 30 days.")
    assert max(heights(page)) == {"no": 1, "little": 8, "much": 40}[kind]
    check_accessibility(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    if request.config.getoption("--update"):
        page.screenshot(path=PICTURES / f"chart-{kind}-{scheme}-{width}.png")


def test_chart_with_few_days_has_a_base_line_and_its_first_and_last_date(function, database, page):
    put(function, database, {0: 3})
    page.goto(function.url)
    expect(text(page)).to_have_text(f"3 clicks, all on {day_of(0)}.")
    expect(slider(page)).to_contain_text(f"{day_of(29)}{day_of(0)}")
    assert slider(page).locator("svg").evaluate("(svg) => getComputedStyle(svg).borderBlockEndWidth") == "1px"
    chart, button = slider(page).bounding_box(), page.get_by_role("button").bounding_box()
    assert chart["y"] > button["y"] + button["height"] + 16
    assert slider(page).evaluate("(chart) => getComputedStyle(chart).touchAction") == "pan-y pinch-zoom"


def test_bars_are_seen_in_forced_colours(function, database, page):
    put(function, database, HISTORIES["much"])
    page.emulate_media(forced_colors="active")
    page.goto(function.url)
    expect(slider(page)).to_be_visible()
    bar = slider(page).locator("rect").first
    ink, ground = (f"getComputedStyle(document.body).{name}" for name in ("color", "backgroundColor"))
    look = "(bar) => [getComputedStyle(bar).fill, getComputedStyle(bar).fillOpacity]"
    assert bar.evaluate(look) == [page.evaluate(ink), "1"]
    assert page.evaluate(f"{ink} !== {ground}")
    put(function, database, {1: 5})  # and none today
    page.reload()
    expect(text(page)).to_contain_text("5 clicks")
    looks = slider(page).locator("rect").evaluate_all(f"(bars) => bars.map({look})")
    assert looks[29] == looks[0] != looks[28]
