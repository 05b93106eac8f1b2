"""What a browser asks for on the way to the number on the page, over plain HTTP, so that nothing else is measured."""

from __future__ import annotations

import gzip
import re
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from html.parser import HTMLParser
from urllib.parse import urljoin

from servers import Client

CONNECTIONS = 6  # what browsers open to one host
IMPORT = re.compile(r"""^\s*(?:import|export)\b[^;'"(=]*["'](\.{1,2}/[^"']+)["']""", re.MULTILINE)


class Head(HTMLParser):
    """Find what the page must have before it shows the number: its style sheets and its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.styles: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        address = urljoin("/", found.get("href") or found.get("src") or "")
        if tag == "link" and found.get("rel") == "stylesheet":
            self.styles.append(address)
        elif (tag == "link" and found.get("rel") == "modulepreload") or tag == "script":
            self.scripts.append(address)


class Visitor:
    """A browser without a cache, with a few connections that stay open, this round-trip time away."""

    def __init__(self, port: int, round_trip: float = 0) -> None:
        self.port = port
        self.round_trip = round_trip  # seconds
        self.own = threading.local()
        self.pool = ThreadPoolExecutor(CONNECTIONS)
        self.clients: list[Client] = []

    def get(self, path: str) -> str:
        if not hasattr(self.own, "client"):
            self.own.client = Client(self.port)
            self.clients.append(self.own.client)
            time.sleep(self.round_trip)  # to connect
        time.sleep(self.round_trip)
        answer = self.own.client.send("GET", path, {"Accept-Encoding": "gzip"})
        assert answer.status == 200, (path, answer)
        packed = answer.headers.get("Content-Encoding") == "gzip"
        return (gzip.decompress(answer.body) if packed else answer.body).decode()

    def ask(self, paths: Iterable[str]) -> dict[str, Future[str]]:
        return {path: self.pool.submit(self.get, path) for path in paths}

    def visit(self) -> str:
        """Ask for the page, for its styles and scripts, and, once the scripts are there, for the number; return that.

        Raises OSError while nobody answers. What a script imports is asked for as soon as it has arrived.
        """
        with self.pool:
            head = Head(self.pool.submit(self.get, "/").result())
            styles = self.ask(head.styles)
            scripts = self.ask(head.scripts)
            waiting = list(scripts)
            while waiting:
                path = waiting.pop(0)
                imports = {urljoin(path, name) for name in IMPORT.findall(scripts[path].result())} - scripts.keys()
                scripts |= self.ask(sorted(imports))
                waiting += sorted(imports)
            number = self.pool.submit(self.get, "/value").result()
            for style in styles.values():
                style.result()
            return number

    def close(self) -> None:
        for client in self.clients:
            client.connection.close()
