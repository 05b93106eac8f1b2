"""What somebody sees who starts the function on their own machine, and how they end it."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from servers import ROOT, Function, children, free_port, wait_until

import database_url


def say_so(function):
    return [line for line in function.output().splitlines() if not line.startswith("{")]


def test_start_says_where_the_counter_is_and_how_to_stop_it(start, on_sqlite):
    function = start(on_sqlite.url)
    lines = say_so(function)
    assert len(lines) == 2
    assert f"http://127.0.0.1:{function.port}/" in lines[0]
    assert on_sqlite.url.removeprefix("sqlite:///") in lines[0]
    assert "listens on 127.0.0.1" in lines[1]
    assert "Ctrl+C stops it" in lines[1]


def test_start_does_not_show_a_password(start):
    function = start("postgres://somebody:hunter2@127.0.0.1:9/d")
    assert "Postgres at 127.0.0.1:9" in function.output()
    assert "hunter2" not in function.output()


def test_start_says_that_it_listens_everywhere(tmp_path):
    """Only the words: nothing else of these tests listens on all addresses, and nobody connects to this."""
    port = free_port()
    code = (
        "import click, main\n"
        "context = click.Context(click.Command('x'))\n"
        f"context.params = {{'host': '0.0.0.0', 'port': {port}}}\n"
        "with context: main.prepare_local_start()\n"
        "import os; os.fork() or os._exit(0); os.wait()"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30,
        env={**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/x"},
    )  # fmt: skip
    assert said.stderr == ""
    assert f"http://localhost:{port}/" in said.stdout
    assert "listens on all addresses of this machine" in said.stdout
    assert "HOST=127.0.0.1" in said.stdout


def test_google_is_told_nothing(start, on_postgres):
    function = start(on_postgres.url, K_SERVICE="click-counter")
    assert function.output() == ""


def test_port_that_is_taken_is_named_in_one_line(tmp_path, on_sqlite):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        function = Function({"DATABASE_URL": on_sqlite.url}, tmp_path / "log", port=port)
        assert function.process.wait(20) == 1
    [line] = function.output().splitlines()
    assert line.startswith(f"127.0.0.1:{port} cannot be used: Address already in use.")
    assert "PORT=8081" in line


@pytest.mark.parametrize("settings", [{"PORT": "70000"}, {"HOST": "no.where"}, {"HOST": "::1"}])
def test_place_that_is_nothing_to_listen_on_is_named_in_one_line(on_sqlite, settings):
    framework = Path(sys.executable).parent / "functions-framework"
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": on_sqlite.url, "PORT": str(free_port()), **settings}
    done = subprocess.run(
        [framework, "--target=handler"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30
    )
    [line] = done.stderr.splitlines()
    assert next(iter(settings.values())) in line
    assert "Write HOST=127.0.0.1 PORT=8081 before the command." in line


def refused(path):
    """What is said of a place for the counts; root may write everywhere, so the rest of the test has taken care."""
    with pytest.raises(database_url.SettingError, match="cannot be written") as caught:
        database_url.database_from({} if path is None else {"DATABASE_URL": f"sqlite:///{path}"})
    return str(caught.value)


def test_folder_that_cannot_be_written_is_explained_to_somebody_who_set_nothing(monkeypatch):
    monkeypatch.setattr("database_url.os.access", lambda *_: False)
    assert "clicks.sqlite3 cannot be written. Make its folder, and make both writable" in refused(None)
    assert "DATABASE_URL=sqlite:////path/clicks.sqlite3" in refused(None)


def test_file_that_cannot_be_written_is_explained(monkeypatch, tmp_path):
    path = tmp_path / "clicks.sqlite3"
    path.touch()
    monkeypatch.setattr("database_url.os.access", lambda what, _: what != path)
    assert "make both writable" in refused(path)


def test_folder_that_cannot_be_entered_is_explained(monkeypatch, tmp_path):
    def refuse(_):
        raise PermissionError

    monkeypatch.setattr("database_url.os.access", lambda *_: False)
    monkeypatch.setattr(Path, "exists", refuse)  # as in Python 3.11
    monkeypatch.setattr(Path, "is_dir", refuse)
    assert "make both writable" in refused(tmp_path / "folder/clicks.sqlite3")


def hang_up(function):
    """What the kernel does when a terminal is closed: every process of it gets this signal."""
    for process in (psutil.Process(function.process.pid), *children(function.process.pid)):
        process.send_signal(signal.SIGHUP)


@contextmanager
def as_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # for all that is started now
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def click_under_way(function, database):
    """A click that waits for a lock of ours on the file."""
    path = database.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as other, ThreadPoolExecutor() as pool:
        other.execute("begin immediate")
        [worker] = children(function.process.pid)
        threads = worker.num_threads()
        click = pool.submit(function.click)
        wait_until(lambda: worker.num_threads() > threads)  # one waits for the lock
        yield click
        other.execute("rollback")


def test_closed_terminal_ends_the_function_which_answers_first(start, on_sqlite):
    function = start(on_sqlite.url)
    workers = children(function.process.pid)
    with click_under_way(function, on_sqlite) as click:
        hang_up(function)
        time.sleep(0.1)  # for a worker that would end at once
    assert click.result().value == 1
    assert function.process.wait(45) == 0  # gunicorn gives a worker that is just starting 30 s
    assert psutil.wait_procs(workers, 15)[1] == []


def test_function_that_ignores_the_end_of_its_terminal_goes_on(start, on_sqlite):
    with as_nohup():
        function = start(on_sqlite.url)
    workers = children(function.process.pid)
    with click_under_way(function, on_sqlite) as click:
        hang_up(function)
        time.sleep(0.1)  # for a worker that would end at once
    assert click.result().value == 1
    assert children(function.process.pid) == workers
    assert function.process.poll() is None
