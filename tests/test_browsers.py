"""What the page and the element promise, in Firefox, WebKit and Chromium: tests/run --browsers."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from types import SimpleNamespace

import pytest
from engines import ENGINES
from pages import Site
from PIL import Image
from proxy import REQUEST, Proxy
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from servers import COUNTER, Function, wait_until

# Selenium's own driver for WebKit.
pytestmark = pytest.mark.filterwarnings("ignore:setting remote_server_addr:DeprecationWarning")

ALL = b""  # is in whatever is sent
ALREADY = "You have pressed this already"

# WebKit's driver tells nothing of the console, so the page itself keeps what its scripts complain of.
COMPLAINTS = """<script>
  const complaints = [];
  for (const kind of ["error", "warn"]) console[kind] = (...words) => complaints.push(words.join(" "));
  for (const kind of ["error", "unhandledrejection"])
    addEventListener(kind, (event) => complaints.push(event.message ?? event.reason));
</script>"""


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def driver(engine: str) -> Iterator[WebDriver]:
    with ENGINES[engine](True) as driver:
        driver.set_page_load_timeout(60)
        yield driver


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture(scope="module")
def function(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    folder = tmp_path_factory.mktemp("browsers")
    settings = {"COUNTERS": f"{COUNTER},post-*", "ALLOWED_ORIGINS": site.origin, "CLICKS_PER_MINUTE": "0"}
    function = Function({"DATABASE_URL": f"sqlite:///{folder}/clicks.sqlite3", **settings}, folder / "log")
    function.started().click()  # makes the tables
    yield function
    function.stop()
    assert "Traceback" not in function.output()


class Network(Proxy):
    """What lies between the browser and the function."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fail(self, how: str, marker: bytes = REQUEST) -> None:
        self.fault, self.marker = how, marker

    def recover(self) -> None:
        self.fault = None


@pytest.fixture
def network(function: Function) -> Iterator[Network]:
    network = Network(function.port, REQUEST)
    yield network
    network.close()


class Visitor:
    """Somebody with a browser who reads a post on another site and presses its buttons."""

    def __init__(self, driver: WebDriver, function: Function, network: Network, site: Site) -> None:
        self.driver, self.function, self.network, self.site = driver, function, network, site
        self.name = f"post-{uuid.uuid4()}"  # a counter that nobody else presses

    def open(self, content: str, path: str = "/post") -> None:
        """Open a post with this content, in which NAME stands for the counter's name; wait for its count."""
        body = content.replace("NAME", self.name)
        self.driver.get(self.site.put(SimpleNamespace(url=self.network.url), body, path, COMPLAINTS))
        self.wait_for(lambda: self.value() is not None)

    def wait_for(self, true, seconds: float = 15.0) -> None:
        def is_true():
            try:
                return true()
            except WebDriverException:  # the page is not there yet, or has changed meanwhile
                return False

        wait_until(is_true, seconds)

    def run(self, script: str, *arguments: object):
        return self.driver.execute_script(script, *arguments)

    def value(self) -> int | None:
        return self.run("return document.querySelector('click-counter')?.value ?? null")

    def element(self, index: int = 0) -> WebElement:
        return self.driver.find_elements("tag name", "click-counter")[index]

    def button(self, index: int = 0) -> WebElement:
        """The page's own button inside the element, or the element's."""
        own = self.element(index).find_elements("tag name", "button")
        return own[0] if own else self.find("button", index)

    def find(self, selector: str, index: int = 0) -> WebElement:
        """Something in the element's shadow root."""
        return self.element(index).shadow_root.find_element("css selector", selector)

    def point_at(self, element: WebElement) -> None:
        ActionChains(self.driver).move_to_element(element).perform()

    def press(self, index: int = 0, times: int = 1) -> None:
        for _ in range(times):
            ActionChains(self.driver).move_to_element(self.button(index)).click().perform()

    def part(self, part: str, index: int = 0) -> str:
        return self.find(f"[part={part}]", index).text

    def shows(self, number: int, index: int = 0) -> None:
        self.wait_for(lambda: self.part("count", index) == str(number))

    def says(self, words: str, index: int = 0) -> None:
        self.wait_for(lambda: words in self.part("note", index))

    def waiting(self) -> int:
        return self.run("return Object.keys(localStorage).filter((item) => item.startsWith('click-counter ')).length")

    def counted(self, number: int) -> None:
        """All clicks are delivered, and each counted once."""
        self.shows(number)
        self.wait_for(lambda: self.waiting() == 0)
        assert self.function.count(self.name) == number

    def press_keys(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def open_tab(self, engine: str) -> str:
        """Open another tab and return the first one's handle; WebKit's driver keeps a tab hidden, but not a window."""
        first = self.driver.current_window_handle
        self.driver.switch_to.new_window("window" if engine == "webkit" else "tab")
        return first

    def complaints(self) -> list[str]:
        return self.run("return typeof complaints === 'undefined' ? [] : complaints")


@pytest.fixture
def visitor(driver: WebDriver, function: Function, network: Network, site: Site) -> Iterator[Visitor]:
    site.pages["/elsewhere"] = "<!doctype html><title>Elsewhere</title><link rel=icon href=data:,>Elsewhere"
    visitor = Visitor(driver, function, network, site)
    yield visitor
    first, *others = driver.window_handles
    for other in others:
        driver.switch_to.window(other)
        driver.close()
    driver.switch_to.window(first)


LIKE = '<click-counter name="NAME">Like</click-counter>'
HEART = '<click-counter name="NAME"></click-counter>'
SINGLE = '<h1>Post</h1><click-counter name="NAME" single></click-counter>'


def form(network: Network, site: Site) -> str:
    """README's form: it works without the script, too."""
    return (
        f'<form method="post" action="{network.url}/click?name=NAME">'
        f'<input type="hidden" name="return" value="{site.origin}/elsewhere"><button>Like</button></form>'
    )


def test_page_counts_each_press(visitor, network):
    def heading():
        return " ".join(visitor.driver.find_element("tag name", "h1").text.split())

    visitor.name = COUNTER
    before = visitor.function.count()
    visitor.driver.get(network.url)
    visitor.wait_for(lambda: heading() == f"Hello World! ({before}x)")
    visitor.press(times=2)
    visitor.press_keys(Keys.ENTER)
    visitor.wait_for(lambda: heading() == f"Hello World! ({before + 3}x)")
    assert visitor.function.count() == before + 3


def test_each_press_on_another_site_counts_and_shows_everywhere(visitor):
    visitor.open(LIKE + HEART)
    visitor.press(0, times=3)
    visitor.press(1)
    visitor.shows(4, 1)
    visitor.counted(4)
    assert visitor.complaints() == []


def test_key_presses_the_button_that_has_the_focus(visitor):
    visitor.open(LIKE)
    visitor.press_keys(Keys.TAB, Keys.ENTER)
    visitor.shows(1)
    visitor.press_keys(" ")
    visitor.counted(2)


def test_single_counts_once_also_after_a_reload(visitor):
    visitor.open(SINGLE)
    visitor.press()
    visitor.counted(1)
    visitor.driver.refresh()
    visitor.wait_for(lambda: visitor.button().get_attribute("aria-pressed") == "true")
    visitor.shows(1)
    visitor.press()
    visitor.says(ALREADY)
    visitor.counted(1)
    assert visitor.complaints() == []


def test_button_has_a_ground_under_the_pointer_and_a_heart_is_filled_once_it_is_pressed(visitor):
    def colours() -> tuple[bool, bool]:
        """Whether the edge of the button, and the middle of its heart, have another colour than the page."""
        shot = Image.open(BytesIO(visitor.driver.get_screenshot_as_png())).convert("RGB")
        button, heart = visitor.button().rect, visitor.find("[part=heart]").rect
        middle = button["y"] + button["height"] / 2
        edge = shot.getpixel((round(button["x"] + 6), round(middle)))
        inside = shot.getpixel((round(heart["x"] + heart["width"] / 2), round(middle)))
        return edge != shot.getpixel((2, 2)), inside != shot.getpixel((2, 2))

    def point_elsewhere() -> None:
        visitor.point_at(visitor.driver.find_element("tag name", "h1"))

    visitor.open(SINGLE)
    point_elsewhere()
    visitor.wait_for(lambda: colours() == (False, False))
    visitor.point_at(visitor.button())
    visitor.wait_for(lambda: colours()[0])
    visitor.press()
    visitor.counted(1)
    point_elsewhere()
    visitor.wait_for(lambda: colours() == (False, True))


def test_form_counts_each_press_without_leaving_the_page(visitor, network, site):
    visitor.open(f"<click-counter>{form(network, site)}</click-counter>")
    visitor.press(times=2)
    visitor.shows(2)
    visitor.press_keys(Keys.ENTER)
    visitor.counted(3)
    assert visitor.driver.current_url.endswith("/post")
    assert visitor.complaints() == []


@pytest.mark.parametrize("fault", ["reset before", "reset after"])
def test_clicks_without_a_network_are_delivered_once_it_is_back(visitor, network, fault):
    visitor.open(LIKE)
    network.fail(fault)
    visitor.press(times=3)
    visitor.says("3 clicks are waiting")
    network.recover()
    visitor.counted(3)
    visitor.wait_for(lambda: visitor.part("note") == "")


def test_clicks_that_wait_outlive_a_reload(visitor, network):
    visitor.open(LIKE)
    network.fail("reset before", ALL)
    visitor.press(times=2)
    visitor.says("2 clicks are waiting")
    visitor.driver.refresh()
    assert visitor.waiting() == 2
    network.recover()
    visitor.driver.refresh()
    visitor.counted(2)


def test_two_tabs_deliver_the_clicks_of_both_once(visitor, network, engine):
    visitor.open(LIKE)
    first = visitor.open_tab(engine)
    visitor.open(LIKE)
    network.fail("reset before", ALL)
    visitor.press(times=2)
    visitor.driver.switch_to.window(first)
    visitor.press(times=3)
    visitor.says("clicks are waiting")
    assert visitor.waiting() == 5
    network.recover()
    visitor.counted(5)


def test_single_pressed_in_two_tabs_without_a_network_counts_once(visitor, network, engine):
    visitor.open(SINGLE)
    first = visitor.open_tab(engine)
    visitor.open(SINGLE)
    network.fail("reset before", ALL)
    visitor.press()
    visitor.driver.switch_to.window(first)
    visitor.wait_for(lambda: visitor.button().get_attribute("aria-pressed") == "true")
    visitor.press()
    network.recover()
    visitor.counted(1)


def test_page_that_is_come_back_to_has_the_new_count_and_counts(visitor, site):
    visitor.open(LIKE)
    visitor.press()
    visitor.counted(1)
    visitor.driver.get(f"{site.origin}/elsewhere")
    visitor.function.click(visitor.name)
    visitor.driver.back()
    visitor.shows(2)
    visitor.press()
    visitor.counted(3)


@contextmanager
def counting_held_up(function: Function) -> Iterator[None]:
    """Lock the database meanwhile, so that no click is answered."""
    path = function.settings["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        yield
        other.execute("rollback")


def test_click_that_is_answered_while_its_visitor_is_away_counts_once(visitor, network, site):
    visitor.open(LIKE)
    with counting_held_up(visitor.function):
        visitor.press()
        wait_until(lambda: network.marked)
        visitor.driver.get(f"{site.origin}/elsewhere")
    wait_until(lambda: visitor.function.count(visitor.name) == 1)
    visitor.driver.back()
    visitor.shows(1)
    visitor.press()
    visitor.counted(2)


@pytest.mark.parametrize("fault", ["silence before", "silence after"])
def test_click_that_is_lost_while_its_visitor_is_away_counts_once(visitor, network, site, fault):
    visitor.open(LIKE)
    network.fail(fault)
    visitor.press()
    wait_until(lambda: network.hits)
    visitor.driver.get(f"{site.origin}/elsewhere")
    network.recover()
    visitor.driver.back()
    visitor.shows(1)
    visitor.press()
    visitor.counted(2)


def test_forms_count_without_javascript(engine, function, network, site):
    site.pages["/elsewhere"] = "<!doctype html><title>Elsewhere</title>"
    before = function.count()
    with ENGINES[engine](False) as driver:
        visitor = Visitor(driver, function, network, site)
        post = f"<click-counter>{form(network, site)}</click-counter>".replace("NAME", visitor.name)
        for page in (network.url, site.put(SimpleNamespace(url=network.url), post)):
            driver.get(page)
            driver.find_element("tag name", "button").click()
            wait_until(lambda: function.count() == before + 1)
        wait_until(lambda: function.count(visitor.name) == 1)
        wait_until(lambda: driver.current_url.endswith("/elsewhere"))
        assert driver.title == "Elsewhere"
