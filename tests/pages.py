"""What the tests of the pages share: another site, the element's parts, and what a visitor does with them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page
from servers import ROOT, Function, wait_until

PICTURES = ROOT / "tests" / "pictures"
ICON = "<link rel=icon href=data:,>"  # so that the browser asks for none
LIKE = '<click-counter name="post-1">Like</click-counter>'
HEART = '<click-counter name="post-1"></click-counter>'
SINGLE = '<click-counter name="post-1" single></click-counter>'


class Site:
    """Another site: pages with a script of the counter's, at an origin of its own.

    The function is at 127.0.0.1; to the browser, localhost is not only another origin, but another site.
    """

    def __init__(self) -> None:
        site = self
        self.pages: dict[str, str] = {}
        self.headers: dict[str, str] = {}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = site.pages.get(self.path.partition("?")[0])
                self.send_response(200 if page else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                for header, value in site.headers.items():
                    self.send_header(header, value)
                self.end_headers()
                self.wfile.write((page or "").encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://localhost:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def put(self, function: Function, body: str, path: str = "/post", head: str = "", lang: str = "en") -> str:
        """Make a page that loads the element from the function; return its address."""
        script = f'<script type="module" src="{function.url}/click-counter.js"></script>'
        self.pages[path] = f"<!doctype html><html lang={lang}><title>Post</title>{ICON}{head}{script}<body>{body}"
        return f"{self.origin}{path}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def element(page: Page, index: int = 0) -> Locator:
    return page.locator("click-counter").nth(index)


def button(page: Page, index: int = 0) -> Locator:
    return element(page, index).get_by_role("button")


def count(page: Page, index: int = 0) -> Locator:
    return element(page, index).locator("[part=count]")


def has_value(page: Page, index: int = 0) -> None:
    """Wait until the element knows its count: a button alone does not show that it is 0."""
    known = "(index) => Number.isInteger(document.querySelectorAll('click-counter')[index]?.value)"
    wait_for(page, lambda: page.evaluate(known, index))


def own_output(page: Page) -> Locator:
    """The page's own <output>; until the element has looked at what is inside, it has one, too."""
    return page.locator("output:not([part])")


def note(page: Page, index: int = 0) -> Locator:
    return element(page, index).locator("[part=note]")


def press(page: Page, index: int = 0, times: int = 1) -> None:
    for _ in range(times):
        button(page, index).click()


def heading(page: Page) -> Locator:
    return page.get_by_role("heading", level=1)


def greet(page: Page, times: int = 1) -> None:
    for _ in range(times):
        page.get_by_role("button", name="Greet the world!").click()


def wait_for(page: Page, true: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait until it is true, while what the browser reports and what a route holds keeps arriving."""
    wait_until(lambda: page.wait_for_timeout(20) or true(), seconds)


def waiting_clicks(page: Page) -> int:
    return page.evaluate("Object.keys(localStorage).filter((item) => item.startsWith('click-counter ')).length")


def stored(page: Page) -> int:
    return page.evaluate("localStorage.length")


def requests_of(page: Page, path: str, method: str = "GET") -> list[str]:
    """The addresses that the page asks for from now on; the list grows."""
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if path in one.url and one.method == method else None)
    return asked


def check_accessibility(page: Page) -> None:
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
