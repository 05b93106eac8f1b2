"""The fixtures: a Postgres for all tests, a new database and any number of functions for each, and a browser."""

from __future__ import annotations

import datetime
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from pages import Site
from playwright.sync_api import Browser, Page, sync_playwright
from servers import COUNTER, Function, Postgres, Tool, today
from tls import TlsPostgres


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="renew the tracked pictures and tables")
    parser.addoption("--soak", metavar="MINUTES", help="also torture it for so long")
    parser.addoption("--browsers", action="store_true", help="run the tests of all browsers, and no others")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    browsers, soak = config.getoption("--browsers"), config.getoption("--soak")
    items[:] = [
        item
        for item in items
        if (item.path.name == "test_browsers.py") == browsers and (soak or item.name != "test_soak")
    ]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.remove()


class Database:
    """An empty database: its URL, and what the tests look up in it beside the function."""

    def __init__(self, name: str, url: str, sql: Callable[[str], list[tuple]]) -> None:
        self.name = name
        self.url = url
        self.sql = sql

    def values(self) -> dict[str, int]:
        return dict(self.sql("select name, value from counter"))

    def days(self, name: str = COUNTER) -> dict[str, int]:
        return dict(self.sql(f"select day, value from daily where name = '{name}'"))

    def put_days(self, days: dict[int, int], name: str = COUNTER) -> None:
        """Add clicks of so many days ago, which its value does not have."""
        for ago, value in days.items():
            day = today() - datetime.timedelta(days=ago)
            self.sql(f"insert into daily values ('{name}', '{day}', {value})")

    def clicks_of_all_days(self) -> dict[str, int]:
        """What the days of each counter add up to; equals its value where nothing was set."""
        return {name: int(total) for name, total in self.sql("select name, sum(value) from daily group by name")}

    def keys(self, name: str) -> set[str]:
        return {key for (key,) in self.sql(f"select key from click where name = '{name}'")}


def new_database(postgres: Postgres) -> Database:
    name = postgres.new_database()
    return Database(name, postgres.url(name), lambda statement: postgres.sql(name, statement))


@pytest.fixture
def on_postgres(postgres: Postgres) -> Database:
    return new_database(postgres)


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Database:
    path = tmp_path / "clicks.sqlite3"

    def sql(statement: str) -> list[tuple]:
        with closing(sqlite3.connect(path, timeout=15, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    return Database(path.name, f"sqlite:///{path}", sql)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    return request.getfixturevalue(f"on_{request.param}")


@pytest.fixture
def tool(database: Database) -> Tool:
    return Tool(database.url)


@pytest.fixture
def tls(postgres: Postgres, tmp_path: Path) -> Iterator[TlsPostgres]:
    server = TlsPostgres(postgres.port, tmp_path)
    yield server
    server.server.close()


Start = Callable[..., Function]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a function with a DATABASE_URL and further settings."""
    functions: list[Function] = []

    def started(url: str, **settings: str) -> Function:
        log = tmp_path / f"function-{len(functions)}.log"
        functions.append(Function({"DATABASE_URL": url, **settings}, log))
        return functions[-1].started()

    yield started
    for function in functions:
        function.stop()
        assert "Traceback" not in function.output()


@pytest.fixture
def function(database: Database, start: Start) -> Function:
    """The function on an empty database, once on SQLite and once on Postgres."""
    return start(database.url, COUNTERS="hello-world-button,other,post-*", MAX_COUNTERS="20")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    """One function on SQLite for all tests that only ask what it answers."""
    folder = tmp_path_factory.mktemp("shared")
    settings = {
        "DATABASE_URL": f"sqlite:///{folder}/clicks.sqlite3",
        "COUNTERS": "hello-world-button, other, a:/b-c.d_E, post-*",
    }
    function = Function({**settings, "ALLOWED_ORIGINS": "https://trusted.example"}, folder / "log")
    yield function.started()
    function.stop()
    assert "Traceback" not in function.output()


class Visited(NamedTuple):
    """What the tests of the pages share: a function on Postgres, and a site that it lists."""

    function: Function
    database: Database
    site: Site


@pytest.fixture(scope="session")
def visited_by_all(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visited]:
    site = Site()
    database = new_database(postgres)
    settings = {"COUNTERS": "hello-world-button,other,third,post-*", "ALLOWED_ORIGINS": site.origin}
    log = tmp_path_factory.mktemp("visited") / "log"
    function = Function({"DATABASE_URL": database.url, **settings}, log).started()
    function.click()  # makes the tables
    yield Visited(function, database, site)
    function.stop()
    site.close()
    assert "Traceback" not in function.output()


@pytest.fixture
def visited(visited_by_all: Visited) -> Visited:
    """The same with empty tables and without pages; to start a function for each test would take minutes."""
    visited_by_all.database.sql("do $$ begin delete from counter; delete from daily; delete from click; end $$")
    visited_by_all.site.pages.clear()
    visited_by_all.site.headers.clear()
    return visited_by_all


@pytest.fixture
def listed(visited: Visited) -> Site:
    return visited.site


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    flags = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which(os.environ.get("CHROMIUM", "chromium")),
            args=[*flags.split(), "--disable-sync"],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A browser's page that must not report any error, but for those with a text that the test expects."""
    errors: list[str] = []
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.errors, page.expected = errors, []
    yield page
    context.close()
    assert [error for error in errors if not any(text in error for text in page.expected)] == []
