"""What somebody sees who starts the function on their own machine, and how they end it."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from servers import ROOT, children, free_port, is_open, wait_until

import database_url


def say_so(function):
    return [line for line in function.output().splitlines() if not line.startswith("{")]


def test_start_says_where_the_counter_is_and_what_it_counts(start, on_sqlite):
    function = start(on_sqlite.url)
    lines = say_so(function)
    assert len(lines) == 3
    assert f"http://127.0.0.1:{function.port}/" in lines[0]
    assert on_sqlite.url.removeprefix("sqlite:///") in lines[0]
    assert "listens on 127.0.0.1" in lines[1]
    assert "Ctrl+C stops it" in lines[1]
    assert lines[2] == "It counts hello-world-button. Other sites that may click: none."


def test_start_shows_a_setting_that_was_not_read(start, on_sqlite):
    settings = {"COUNTERS": "post-*,likes", "COUNTER": "hunter2", "ALLOWED_ORIGIN": "https://a.example"}
    sites = "https://c.example,https://b.example"
    lines = say_so(start(on_sqlite.url, ALLOWED_ORIGINS=sites, **settings))
    assert lines[2] == "It counts likes, post-*. Other sites that may click: https://b.example, https://c.example."
    assert lines[3:] == [
        "ALLOWED_ORIGIN is no setting. Did you mean ALLOWED_ORIGINS?",
        "COUNTER is no setting. Did you mean COUNTERS?",
    ]


def test_start_does_not_show_a_password(start):
    function = start("postgres://somebody:hunter2@127.0.0.1:9/d")
    assert "Postgres at 127.0.0.1:9" in function.output()
    assert "hunter2" not in function.output()


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_start_says_that_it_listens_everywhere(tmp_path, host):
    """Only the words: nothing else of these tests listens on all addresses, and nobody connects to this."""
    code = (
        "import click, main\n"
        "context = click.Context(click.Command('x'))\n"
        f"context.params = {{'host': '{host}', 'port': 8080}}\n"
        "with context: main.prepare_start()\n"
        "import os; os.fork() or os._exit(0); os.wait()"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30,
        env={**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/x"},
    )  # fmt: skip
    assert said.stderr == ""
    assert "http://localhost:8080/" in said.stdout
    assert "listens on all addresses of this machine" in said.stdout
    assert "HOST=127.0.0.1" in said.stdout


def test_nothing_is_said_on_google(start, on_postgres):
    assert start(on_postgres.url, K_SERVICE="click-counter").output() == ""


@contextmanager
def started_with(settings, log):
    framework = [Path(sys.executable).parent / "functions-framework", "--target=handler"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            framework, cwd=ROOT, env={"PATH": os.environ["PATH"], **settings}, stdout=output, stderr=subprocess.STDOUT
        )
    yield process
    if process.poll() is None:
        process.terminate()
        process.wait(45)


def test_port_that_is_taken_is_named(tmp_path, on_sqlite):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        settings = {"DATABASE_URL": on_sqlite.url, "HOST": "127.0.0.1", "PORT": str(port)}
        with started_with(settings, tmp_path / "log") as process:
            assert process.wait(30) == 1
    said = (tmp_path / "log").read_text()
    assert f"Can't connect to ('127.0.0.1', {port})" in said.splitlines()[-1]
    assert "Address already in use" in said
    assert "The counter is at" not in said


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_function_listens_on_an_address_of_ipv6(tmp_path, on_sqlite, host):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    port = free_port()
    settings = {"DATABASE_URL": on_sqlite.url, "HOST": host, "PORT": str(port)}
    log = tmp_path / "log"
    with started_with(settings, log) as process:
        wait_until(lambda: process.poll() is not None or "The counter is at" in log.read_text(), seconds=30)
        lines = log.read_text().splitlines()
        assert lines[0].startswith(f"The counter is at http://[::1]:{port}/")
        assert lines[1].startswith("It listens on [::1].")
        with urllib.request.urlopen(f"http://[::1]:{port}/value", timeout=15) as answer:
            assert json.load(answer) == {"name": "hello-world-button", "value": 0}


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
def on_hangup(action):
    before = signal.signal(signal.SIGHUP, action)  # for all that is started now
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
    with on_hangup(signal.SIG_DFL):  # also where the tests run under nohup
        function = start(on_sqlite.url)
    workers = children(function.process.pid)
    with click_under_way(function, on_sqlite) as click:
        hang_up(function)
        time.sleep(0.1)  # for a worker that would end at once
    assert click.result().value == 1
    assert function.process.wait(45) == 0  # gunicorn gives a worker that is just starting 30 s
    assert psutil.wait_procs(workers, 15)[1] == []


def test_function_that_ignores_the_end_of_its_terminal_goes_on(start, on_sqlite):
    with on_hangup(signal.SIG_IGN):
        function = start(on_sqlite.url)
    workers = children(function.process.pid)
    with click_under_way(function, on_sqlite) as click:
        hang_up(function)
        time.sleep(0.1)  # for a worker that would end at once
    assert click.result().value == 1
    assert children(function.process.pid) == workers
    assert function.process.poll() is None


def test_interrupt_of_the_first_process_alone_ends_all_which_answer_first(start, on_sqlite):
    function = start(on_sqlite.url)
    workers = children(function.process.pid)
    with click_under_way(function, on_sqlite) as click:
        function.process.send_signal(signal.SIGINT)
        wait_until(lambda: not is_open(function.port))
    assert click.result().value == 1
    assert function.process.wait(10) == 0
    assert psutil.wait_procs(workers, 5)[1] == []


def test_interrupt_right_after_the_start_ends_it(on_sqlite, tmp_path):
    settings = {"DATABASE_URL": on_sqlite.url, "HOST": "127.0.0.1", "PORT": str(free_port())}
    log = tmp_path / "log"
    with started_with(settings, log) as process:
        wait_until(lambda: process.poll() is not None or "The counter is at" in log.read_text(), seconds=30)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_ctrl_c_ends_all_processes(start, on_sqlite):
    function = start(on_sqlite.url)
    workers = children(function.process.pid)
    for process in (psutil.Process(function.process.pid), *workers):
        process.send_signal(signal.SIGINT)
    assert function.process.wait(10) == 0
    assert psutil.wait_procs(workers, 5)[1] == []
