"""Nothing is lost: what real deployments suffer, under load, checked like the counter and set tests of Jepsen."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException

import pg8000.dbapi
import pytest
from proxy import REQUEST, Proxy
from servers import (
    COUNTER,
    Client,
    Function,
    Postgres,
    children,
    new_key,
    rows,
    update_readme,
    wait_for_lock,
    wait_until,
)

from batch import PROBE_PAUSE

NAMES = ["a", "b"]
CLIENTS = 8
INTRODUCTION = ("The counter is at", "It listens on", "It counts")  # how the lines at its start begin


class Load:
    """Clients that send each click again, with its key, until it is answered, and readers that watch the values."""

    def __init__(self, functions, fresh_keys=False):
        self.ports = [function.port for function in functions]
        self.fresh_keys = fresh_keys
        self.sent = {name: set() for name in NAMES}
        self.counted = {name: set() for name in NAMES}  # the keys of the clicks that were answered
        self.clicks = Counter()
        self.errors = 0
        self.slowest = 0.0
        self.answered_at = []
        self.wrong = []
        self.stopping = threading.Event()

    @contextmanager
    def running(self):
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            futures = [pool.submit(self._click, number) for number in range(CLIENTS)] + [pool.submit(self._watch)]
            try:
                wait_until(lambda: len(self.answered_at) > 100)
                yield self
                before = len(self.answered_at)
                wait_until(lambda: len(self.answered_at) > before + 100)
            finally:
                self.stopping.set()
            for future in futures:
                future.result()

    def _click(self, number):
        client = Client(self.ports[number % len(self.ports)])
        chance = random.Random(number)
        try:
            while not self.stopping.is_set():
                self._click_until_answered(client, chance.choice(NAMES))
                time.sleep(0.004)
        finally:
            client.connection.close()

    def _click_until_answered(self, client, name):
        key = new_key()
        self.clicks[name] += 1
        for _ in range(1000):
            self.sent[name].add(key)
            started = time.monotonic()
            try:
                answer = client.click(name, key)
            except (OSError, HTTPException):
                answer = None
            self.slowest = max(self.slowest, time.monotonic() - started)
            if answer and answer.status == 200:
                self.counted[name].add(key)
                self.answered_at.append(time.monotonic())
                return
            if answer and (answer.status != 503 or "Retry-After" not in answer.headers):
                self.wrong.append(answer)
            self.errors += 1
            time.sleep(0.1)
            if self.fresh_keys:
                key = new_key()
        raise AssertionError("a click was never answered")

    def _watch(self):
        """Read a value again and again: it never goes back, and stays between what was answered and what was sent."""
        client = Client(self.ports[0])
        seen = Counter()
        try:
            while not self.stopping.is_set():
                for name in NAMES:
                    least = max(seen[name], len(self.counted[name]))
                    with suppress(OSError, HTTPException):
                        answer = client.send("GET", f"/value?name={name}")
                        if answer.status == 200:
                            seen[name] = answer.value
                            if not least <= answer.value <= len(self.sent[name]):
                                self.wrong.append((least, answer.value, len(self.sent[name])))
                        elif answer.status != 503:
                            self.wrong.append(answer)
                time.sleep(0.02)
        finally:
            client.connection.close()

    def check(self, database):
        """Acknowledged keys are among the stored ones, stored among the sent; each value and its days are so many."""
        assert self.wrong == []
        assert self.slowest < 12  # 8 s, and the share of a busy machine, on which the clients run, too
        for name in NAMES:
            stored = database.keys(name)
            assert self.counted[name] <= stored <= self.sent[name]
            assert database.values()[name] == len(stored) == self.clicks[name]
            assert database.clicks_of_all_days()[name] == self.clicks[name]


@pytest.fixture(scope="module")
def own_postgres():
    """A Postgres that only these tests torture."""
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture
def postgres(own_postgres):
    yield own_postgres
    if own_postgres.process.poll() is not None:
        own_postgres.start()


@pytest.fixture(scope="module")
def table(request):
    """The rows of the table in tests/README.md, which are written there with --update."""
    lines = {}
    yield lines
    if request.config.getoption("--update"):
        head = "| fault, under load | clicks sent | counted | errors seen by clients | seconds to recover |\n"
        head += "|---|---|---|---|---|\n"
        update_readme("faults", head + "".join(lines.values()))


@pytest.fixture
def survives(on_postgres, start, table):
    """Run clients against functions while a fault happens, check that all is right, and note the row of the table."""

    def run(what, fault, functions=None, load=None):
        load = load or Load(functions or [start(on_postgres.url, COUNTERS="a,b")])
        with load.running():
            fault()
            over = time.monotonic()
            wait_until(lambda: load.answered_at[-1] > over)
            recovered = min(at for at in load.answered_at if at > over) - over
        load.check(on_postgres)
        sent, counted = sum(load.clicks.values()), sum(on_postgres.values().values())
        table[what] = f"| {what} | {sent:,} | {counted:,} | {load.errors} | {recovered:.1f} |\n"
        return load

    return run


def logged(function):
    """The lines in a function's log that say that something is wrong; each of them must be structured."""
    return [json.loads(line) for line in function.output().splitlines() if not line.startswith(INTRODUCTION)]


# --- The database dies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "sent"),
    [("Postgres killed with -9 and restarted", signal.SIGKILL), ("Postgres restarted (fast)", signal.SIGINT)],
)
def test_database_restarted(survives, postgres, what, sent):
    def fault():
        postgres.stop(sent)
        postgres.start()

    survives(what, fault)


def backends_of(database):
    return f"from pg_stat_activity where datname = '{database.name}' and pid <> pg_backend_pid()"


@pytest.mark.parametrize(
    ("what", "function"),
    [
        ("every connection terminated, 10 times", "pg_terminate_backend"),
        ("every statement cancelled, 100 times", "pg_cancel_backend"),
    ],
)
def test_backends_signalled(survives, postgres, on_postgres, what, function):
    def fault():
        for _ in range(10 if "terminate" in function else 100):
            postgres.sql("postgres", f"select {function}(pid) {backends_of(on_postgres)}")
            time.sleep(0.1 if "terminate" in function else 0.01)

    assert survives(what, fault).errors == 0


@pytest.fixture
def read_only(postgres, on_postgres):
    """Make the database read-only, or writable again."""

    def make(on):
        setting = "default_transaction_read_only"
        postgres.sql("postgres", f"alter database {on_postgres.name} set {setting} = {'on' if on else 'off'}")
        postgres.sql("postgres", f"select pg_terminate_backend(pid) {backends_of(on_postgres)}")

    return make


def test_read_only_after_a_failover(survives, read_only):
    def fault():
        read_only(True)
        time.sleep(2)
        read_only(False)

    assert survives("read-only for 2 s, as after a failover", fault).errors == 0


def test_too_many_connections(survives, postgres, on_postgres):
    def fault():
        with ExitStack() as stack:
            admin = stack.enter_context(postgres.connected("postgres"))

            def take_what_is_free():
                with suppress(pg8000.dbapi.Error):
                    for _ in range(60):
                        stack.enter_context(postgres.connected("postgres"))

            take_what_is_free()
            while rows(admin, f"select pg_terminate_backend(pid) {backends_of(on_postgres)}"):
                time.sleep(0.02)
                take_what_is_free()
            time.sleep(2)

    survives("too many connections for 2 s", fault)


class SmallDisk:
    """A tablespace on a disk of its own, which is full when it is told to be."""

    def __init__(self, postgres, megabytes):
        self.folder = postgres.folder / "small"
        self.megabytes = megabytes
        self.folder.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs")
        (self.folder / "space").mkdir(mode=0o777)
        if postgres.user:
            shutil.chown(self.folder / "space", postgres.user)

    def _mount(self, *arguments):
        subprocess.run(["mount", *arguments, self.folder], check=True, capture_output=True, text=True)

    def fill(self):
        wait_until(self._shrink)

    def _shrink(self):
        """Make it as small as what it holds, unless that grows at the same moment."""
        disk = os.statvfs(self.folder)
        with suppress(subprocess.CalledProcessError):
            self._mount("-o", f"remount,size={(disk.f_blocks - disk.f_bfree) * disk.f_frsize}")
            return True
        return False

    def free(self):
        self._mount("-o", f"remount,size={self.megabytes}m")

    def remove(self):
        subprocess.run(["umount", self.folder], check=True)
        self.folder.rmdir()


@pytest.fixture
def disk(postgres, on_postgres):
    """The small disk on which the database is."""
    try:
        disk = SmallDisk(postgres, megabytes=2000)
    except (subprocess.CalledProcessError, OSError) as error:
        pytest.skip(f"no disk can be mounted here: {getattr(error, 'stderr', error)}")
    postgres.sql("postgres", f"create tablespace small location '{disk.folder}/space'")
    postgres.sql("postgres", f"alter database {on_postgres.name} set tablespace small")
    yield disk
    disk.free()
    if postgres.process.poll() is not None:
        postgres.start()
    postgres.sql("postgres", f"drop database {on_postgres.name} with (force)")
    postgres.sql("postgres", "drop tablespace small")
    disk.remove()


def test_disk_full(survives, disk, on_postgres, start):
    function = start(on_postgres.url, COUNTERS="a,b")

    def fault():
        disk.fill()
        wait_until(lambda: [line for line in logged(function) if line.get("sqlstate") == "53100"])
        time.sleep(1)
        disk.free()

    survives("disk full", fault, [function])


def put_keys(database, number, expires):
    """Put at least so many keys into the table, until its last page has no room for another one."""
    key = f"select lpad(n::text, 36, '0'), 'old', {expires} + n from generate_series({{}}, {{}}) as n"
    database.sql(f"insert into click {key.format(1, number)}")
    database.sql("vacuum click")  # which makes the maps of free space that it needs later
    place = "(ctid::text::point)"
    [(per_page,)] = database.sql(f"select max({place}[1]) from click where {place}[0] = 1")
    while database.sql(f"insert into click {key.format(number + 1, number + 1)} returning {place}[1]") != [(per_page,)]:
        number += 1


def health(function):
    return function.send("GET", "/health").status


def test_full_disk_recovers_by_deleting_expired_keys(disk, on_postgres, start):
    function = start(on_postgres.url)
    function.click()
    put_keys(on_postgres, 25_000, expires=0)
    disk.fill()
    wait_until(lambda: function.click() and not on_postgres.keys("old"))
    on_postgres.sql("vacuum click")  # as autovacuum does within a minute
    wait_until(lambda: (function.click().status, health(function)) == (200, 200))
    began, ended = logged(function)
    assert (began["sqlstate"], ended["severity"]) == ("53100", "NOTICE")
    assert "expired keys are being deleted" in began["reason"]


def test_health_says_503_while_the_disk_is_full(disk, on_postgres, start):
    function = start(on_postgres.url)
    function.click()
    put_keys(on_postgres, 1000, expires=time.time())
    disk.fill()
    assert health(function) == 503
    assert function.count() == 1
    disk.free()
    wait_until(lambda: health(function) == 200)
    assert [line.get("sqlstate") for line in logged(function)] == ["53100", None]


def test_health_says_503_while_the_database_is_read_only(on_postgres, read_only, start):
    function = start(on_postgres.url)
    function.click()
    read_only(True)
    wait_until(lambda: health(function) == 503)
    assert function.count() == 1
    read_only(False)
    wait_until(lambda: health(function) == 200)
    assert function.click().value == 2
    *causes, ended = logged(function)
    assert causes[-1]["sqlstate"] == "25006"
    assert ended["severity"] == "NOTICE"


def test_deadlock_with_somebody_else(on_postgres, postgres, start):
    function = start(on_postgres.url)
    function.click()
    key = new_key()
    with postgres.connected(on_postgres.name) as other, ThreadPoolExecutor() as pool:
        rows(other, "begin; set local deadlock_timeout = '20s'; select * from counter for update")
        click = pool.submit(function.click, COUNTER, key)
        wait_for_lock(on_postgres)
        rows(other, f"insert into click values ('{key}', '{COUNTER}', 0)")  # the function has it, and waits for us
        rows(other, "rollback")
        assert click.result().value == 2
    assert [line["sqlstate"] for line in logged(function) if "sqlstate" in line] == ["40P01"]


def test_statement_that_waits_too_long_leaves_no_backend_behind(on_postgres, postgres, start):
    function = start(on_postgres.url, COUNTERS="a")
    function.click("a")
    with postgres.connected(on_postgres.name) as other:
        rows(other, "begin; select * from counter for update")
        started = time.monotonic()
        answer = function.click("a")
        assert answer.status == 503
        assert time.monotonic() - started < 8
        waiting = f"select 1 {backends_of(on_postgres)} and wait_event_type = 'Lock'"
        wait_until(lambda: not on_postgres.sql(waiting), seconds=3)
        assert len(on_postgres.sql(f"select 1 {backends_of(on_postgres)}")) <= 2  # ours, and the function's
        rows(other, "rollback")
    wait_until(lambda: function.click("a").status == 200)


# --- The network lies -------------------------------------------------------------------------------------------


@pytest.fixture
def proxied(postgres, on_postgres, start):
    """A function whose connection goes through a proxy that can misbehave."""
    proxy = Proxy(postgres.port)
    yield start(postgres.url(on_postgres.name, proxy.port), COUNTERS="a,b"), proxy
    proxy.close()


def misbehave(proxy, fault, hits):
    proxy.fault = fault
    wait_until(lambda: proxy.hits >= hits)
    proxy.fault = None


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("how", "words", "hits"),
    [
        ("reset", "connection reset", 5),
        ("close", "connection closed", 5),
        ("silence", "connection silent (a black hole)", 1),
    ],
)
def test_network(survives, proxied, moment, how, words, hits):
    function, proxy = proxied
    where = "before the commit" if moment == "before" else "after the commit, the reply lost"
    times = "" if hits == 1 else f", {hits} times"
    load = survives(f"{words} {where}{times}", lambda: misbehave(proxy, f"{how} {moment}", hits), [function])
    assert load.errors == 0


@pytest.fixture
def unreachable(on_postgres, start):
    """A function behind a proxy that loses its answers, as a visitor's network does."""
    function = start(on_postgres.url, COUNTERS="a,b")
    proxy = Proxy(function.port, REQUEST)
    yield proxy
    proxy.close()


def test_answers_lost_on_the_way_to_the_client(survives, unreachable):
    def fault():
        for how in ("close after", "reset after", "close before"):
            misbehave(unreachable, how, unreachable.hits + 20)

    load = survives("the visitor's network loses requests and answers, 60 times", fault, load=Load([unreachable]))
    assert load.errors >= 60


def test_control_run_with_fresh_keys_counts_too_often(on_postgres, unreachable):
    """The same lost answers, but clients that retry without the old key: this shows that the checks have teeth."""
    load = Load([unreachable], fresh_keys=True)
    with load.running():
        misbehave(unreachable, "close after", 20)
    assert sum(on_postgres.values().values()) >= sum(load.clicks.values()) + 20
    with pytest.raises(AssertionError):
        load.check(on_postgres)


def test_batch_is_one_round_trip_on_one_connection(proxied):
    function, proxy = proxied
    for _ in range(5):
        function.click("a")
    before = proxy.round_trips
    for _ in range(50):
        function.click("a")
    assert proxy.round_trips == before + 50


def test_flood_of_health_checks_writes_about_once_a_second(proxied):
    function, proxy = proxied
    function.click("a")
    before, started = proxy.marked, time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: health(function), range(400))) == {200}
    assert 1 <= proxy.marked - before <= time.monotonic() - started + 2


def test_connect_that_timed_out_does_not_fail_the_next_click(postgres, on_postgres, start):
    proxy = Proxy(postgres.port)
    function = start(postgres.url(on_postgres.name, proxy.port))
    proxy.is_hole = True
    assert function.click().status == 503
    wait_until(lambda: all(connection.given_up for connection in proxy.connections))
    proxy.is_hole = False
    time.sleep(1.5 * PROBE_PAUSE)
    assert function.click().status == 200
    assert [line.get("sqlstate") for line in logged(function)] == ["TimeoutError", None]
    proxy.close()


LONG_NAMES = [f"a{number:099}" for number in range(3000)]


def read_long_names(function, start=0, number=99):
    return function.send("GET", "/value?" + "&".join(f"name={name}" for name in LONG_NAMES[start : start + number]))


@pytest.fixture
def trickling(postgres, on_postgres, start):
    """A function with 99 counters of long names, whose connection goes through a proxy that may be slow."""
    proxy = Proxy(postgres.port)
    function = start(postgres.url(on_postgres.name, proxy.port), COUNTERS="b,a*", MAX_COUNTERS="9999")
    function.click("b")
    counters = ",".join(f"('{name}', 7)" for name in LONG_NAMES[:99])
    on_postgres.sql(f"insert into counter (name, value) values {counters}")
    yield function, proxy
    proxy.close()


def test_reply_that_trickles_holds_up_nobody_who_needs_no_database(trickling):
    function, proxy = trickling
    proxy.pieces = (1000, 0.1)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(read_long_names, function)
        answered = 0
        while not read.done():
            assert function.send("GET", "/").status == 200
            answered += 1
        assert answered > 5
        assert [one["value"] for one in read.result().json()] == [7] * 99


def test_reply_that_trickles_for_longer_than_its_time_is_given_up_as_a_whole(trickling):
    function, proxy = trickling
    proxy.pieces = (1000, 1)
    with ThreadPoolExecutor() as pool:
        started = time.monotonic()
        read = pool.submit(read_long_names, function)
        click = pool.submit(function.click, "b")
        while not (read.done() and click.done()):
            assert function.send("GET", "/").status == 200
            time.sleep(0.05)
        assert time.monotonic() - started < 8
        assert read.result().status == 503
    proxy.pieces = None
    wait_until(lambda: read_long_names(function).status == 200)


def test_message_stays_small_however_many_counts_are_asked_for_at_once(trickling):
    function, proxy = trickling
    proxy.pieces = (100_000, 0.2)
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda number: read_long_names(function, 99 * number), range(30)))
    assert {answer.status for answer in answers} == {200}
    assert proxy.largest < 74_000


@pytest.fixture
def waiting(trickling, on_postgres, postgres):
    """Send requests while a lock holds up the first one of them; return their statuses."""
    function, _ = trickling

    def statuses(requests):
        clients = [Client(function.port) for _ in requests]
        with postgres.connected(on_postgres.name) as other:
            rows(other, "begin; lock table counter in access exclusive mode")
            for client, request in zip(clients, requests, strict=True):
                client.connection.request(*request)
                if client is clients[0]:
                    wait_for_lock(on_postgres)
            for _ in range(2):  # after these the function has read all that was sent before
                assert function.send("GET", "/").status == 200
            rows(other, "rollback")
        found = [client.connection.getresponse().status for client in clients]
        for client in clients:
            client.connection.close()
        return found

    return statuses


def test_those_who_read_all_that_they_may_shut_out_nobody(waiting):
    all_they_may = [("GET", "/value?" + "&".join(f"name=a{by}-{of}" for of in range(100))) for by in range(80)]
    assert waiting([*all_they_may, ("GET", "/value"), ("GET", "/health"), ("POST", "/click")]) == [200] * 83


def test_message_stays_small_however_many_counters_are_clicked_at_once(waiting, trickling):
    keyed = {"Idempotency-Key": new_key()}
    clicks = [("POST", f"/click?name={name}", None, keyed) for name in LONG_NAMES[99:549]]
    assert waiting([("POST", "/click?name=b"), *clicks]) == [200] * 451
    _, proxy = trickling
    assert 50_000 < proxy.largest < 74_000


@pytest.mark.parametrize("ended_by", ["idle_session_timeout", "an administrator"])
def test_connection_that_ends_while_it_is_idle_is_no_fault(on_postgres, start, ended_by):
    function = start(on_postgres.url, COUNTERS="a,b")
    backends = f"select pid {backends_of(on_postgres)}"
    if ended_by == "idle_session_timeout":
        on_postgres.sql(f"alter database {on_postgres.name} set idle_session_timeout = '1s'")
    for expected in range(1, 4):
        assert function.click("a").value == expected
        if ended_by == "an administrator":
            on_postgres.sql(f"select pg_terminate_backend(pid) {backends_of(on_postgres)}")
        wait_until(lambda: not on_postgres.sql(backends))
    assert function.send("GET", "/value?name=a").value == 3
    assert logged(function) == []


def test_connection_that_ends_just_as_a_click_is_sent_costs_no_click(postgres, on_postgres, start):
    proxy = Proxy(postgres.port)
    function = start(postgres.url(on_postgres.name, proxy.port) + "?sslmode=disable")
    for expected in range(1, 6):
        assert function.click().value == expected
        proxy.fault = "expire before"
    assert proxy.hits == 4
    proxy.close()


def connections_of(database):
    return database.sql(f"select count(*) {backends_of(database)}")[0][0]


def test_server_that_is_slow_to_greet_costs_one_connection_and_is_reached(postgres, on_postgres, start):
    """Every message of the server comes so late that together they take longer than the time to connect."""
    proxy = Proxy(postgres.port)
    function = start(postgres.url(on_postgres.name, proxy.port))
    function.click()
    proxy.pieces = (1 << 20, 0.9)
    on_postgres.sql(f"select pg_terminate_backend(pid) {backends_of(on_postgres)}")
    answers = [function.click().status for _ in range(3)]
    assert answers[-1] == 200
    assert connections_of(on_postgres) == 1
    proxy.close()


def test_tables_that_somebody_holds_leave_no_backends_behind(on_postgres, postgres, start):
    function = start(on_postgres.url)
    with postgres.connected(on_postgres.name) as other:
        rows(other, "begin; create table counter (name text)")
        assert function.click().status == 503
        assert connections_of(on_postgres) <= 2  # the other's, and the function's
        rows(other, "rollback")
    wait_until(lambda: function.click().status == 200)


NOTICE = b"N\0\0\0\x0dSNOTICE\0\0"  # type, length, severity


def test_what_the_server_adds_to_a_reply_does_not_hold_it_up(postgres, on_postgres, start):
    proxy = Proxy(postgres.port)
    proxy.appended = NOTICE  # also to that of the login
    function = start(postgres.url(on_postgres.name, proxy.port) + "?sslmode=disable")
    for expected in range(1, 12):
        assert function.click().value == expected
    assert logged(function) == []
    assert len(proxy.connections) == 1
    proxy.close()


def test_notice_between_two_clicks_is_no_fault(postgres, on_postgres, start):
    proxy = Proxy(postgres.port)
    function = start(postgres.url(on_postgres.name, proxy.port) + "?sslmode=disable")
    for expected in range(1, 6):
        assert function.click().value == expected
        [connection] = proxy.connections
        connection.client.sendall(NOTICE)
    assert logged(function) == []
    proxy.close()


def test_connection_that_comes_late_and_has_ended_by_then_costs_no_click(postgres, on_postgres, start):
    proxy = Proxy(postgres.port)
    proxy.pieces = (60, 0.5)
    function = start(postgres.url(on_postgres.name, proxy.port))
    assert function.click().status == 503
    on_postgres.sql(f"select pg_terminate_backend(pid) {backends_of(on_postgres)}")
    [connection] = proxy.connections
    wait_until(lambda: connection.ended)
    proxy.pieces = None
    assert function.click().status == 200
    proxy.close()


def test_failed_replies_leave_no_file_open(proxied):
    function, proxy = proxied
    [worker] = children(function.process.pid)
    function.click("a")
    before = worker.num_fds()
    for _ in range(30):
        proxy.fault = "close after"
        hits = proxy.hits
        with ThreadPoolExecutor() as pool:
            click = pool.submit(function.click, "a")
            wait_until(lambda hits=hits: proxy.hits > hits)
            proxy.fault = None
            assert click.result().status == 200
    assert worker.num_fds() <= before + 3


def test_log_names_why_the_server_ended_a_connection(on_postgres, postgres, start):
    function = start(on_postgres.url)
    function.click()
    with postgres.connected(on_postgres.name) as other, ThreadPoolExecutor() as pool:
        rows(other, "begin; select * from counter for update")
        click = pool.submit(function.click)
        wait_for_lock(on_postgres)
        rows(other, f"select pg_terminate_backend(pid) {backends_of(on_postgres)} and wait_event_type = 'Lock'")
        wait_until(lambda: logged(function))
        rows(other, "rollback")
        assert click.result().value == 2
    began, ended = logged(function)
    assert (began["severity"], began["sqlstate"]) == ("ERROR", "57P01")
    assert ended["severity"] == "NOTICE"


# --- The database stays away ------------------------------------------------------------------------------------


def test_database_away_for_12_seconds(postgres, on_postgres, start, page, table):
    function = start(on_postgres.url)
    page.goto(function.url)
    page.get_by_text("(0x)").wait_for()
    postgres.stop()
    away = time.monotonic()
    button = page.get_by_role("button")
    for _ in range(3):
        button.click()
    assert function.click().status == 503  # after it has been tried for 5 s
    assert 4 < time.monotonic() - away < 8
    assert function.send("GET", "/value").status == 503  # so have the reads
    refusals = 0
    while time.monotonic() - away < 12:
        started = time.monotonic()
        answer = function.click()
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert function.send("GET", "/health").status == 503
        assert function.send("GET", "/value").status == 503
        assert function.send("GET", "/").status == 200
        assert time.monotonic() - started < 2  # a new click learns quickly
        refusals += 1
        page.wait_for_timeout(500)
    assert "3 clicks are waiting" in page.locator("click-counter [part=note]").inner_text()
    postgres.start()
    back = time.monotonic()
    wait_until(lambda: function.send("GET", "/health").status == 200)
    recovered = time.monotonic() - back
    page.get_by_text("(3x)").wait_for(timeout=70_000)
    assert on_postgres.values() == {COUNTER: 3}
    page.errors.clear()
    *causes, end = logged(function)
    codes = [line["sqlstate"] for line in causes]
    assert len(set(codes)) == len(codes) <= 3  # not one for each click
    assert "ConnectionRefusedError" in codes
    assert (end["severity"], end["message"]) == ("NOTICE", "The database works again")
    table["away"] = (
        f"| Postgres away for 12 s, three clicks in an open page | 3 | 3 | {refusals + 1} | {recovered:.1f} |\n"
    )


def test_black_hole_is_answered_in_time_and_leaves_one_line_in_the_log(proxied):
    function, proxy = proxied
    function.click("a")
    proxy.fault = "silence before"
    with ThreadPoolExecutor() as pool:
        click = pool.submit(function.click, "a")
        wait_until(lambda: proxy.hits)
        started = time.monotonic()
        assert function.send("GET", "/health").status == 503
        assert time.monotonic() - started < 8
        assert click.result().status == 503
    proxy.fault = None
    wait_until(lambda: function.send("GET", "/health").status == 200)
    began, ended = logged(function)
    assert (began["severity"], ended["severity"]) == ("ERROR", "NOTICE")


# --- The function stops -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "sent"),
    [
        ("function stopped with SIGTERM and started again", signal.SIGTERM),
        ("function killed with -9 and started again", signal.SIGKILL),
    ],
)
def test_function_stopped(survives, on_postgres, start, tmp_path, what, sent):
    functions = [start(on_postgres.url, COUNTERS="a,b") for _ in range(2)]
    again = []

    def fault():
        functions[0].stop(sent)
        settings = {"DATABASE_URL": on_postgres.url, "COUNTERS": "a,b"}
        again.append(Function(settings, tmp_path / "again.log", port=functions[0].port).started())

    try:
        survives(what, fault, functions)
    finally:
        for function in again:
            function.stop()


def test_sigterm_waits_for_what_was_accepted(on_postgres, postgres, start):
    function = start(on_postgres.url)
    function.click()
    with postgres.connected(on_postgres.name) as other, ThreadPoolExecutor() as pool:
        rows(other, "begin; select * from counter for update")
        clicks = [pool.submit(function.click) for _ in range(5)]
        wait_for_lock(on_postgres)
        time.sleep(1)
        stopped = pool.submit(function.stop)
        time.sleep(0.5)
        rows(other, "rollback")
        started = time.monotonic()
        assert [click.result().status for click in clicks] == [200] * 5
        assert stopped.result() == 0
        assert time.monotonic() - started < 8
    assert on_postgres.values() == {COUNTER: 6}


# --- Between the function and the database ----------------------------------------------------------------------


@pytest.fixture
def pooler(postgres):
    with postgres.pooler("transaction") as port:
        yield port


def test_transaction_mode_pooler(survives, postgres, on_postgres, pooler, start):
    url = postgres.url(on_postgres.name, pooler)
    functions = [start(url, COUNTERS="a,b") for _ in range(4)]
    kill = f"select pg_terminate_backend(pid) {backends_of(on_postgres)}"

    def fault():
        time.sleep(1)
        postgres.sql("postgres", kill)
        time.sleep(1)

    survives("behind PgBouncer in transaction mode, its connections terminated", fault, functions)


# --- The soak, only when it is asked for ------------------------------------------------------------------------


def test_soak(request, postgres, on_postgres, disk, start, proxied, read_only):
    """All of it at random, for as many minutes as --soak says."""
    minutes = float(request.config.getoption("--soak"))
    through, proxy = proxied
    direct = start(on_postgres.url, COUNTERS="a,b")
    chance = random.Random(1)

    def restart(sent):
        postgres.stop(sent)
        time.sleep(chance.random() * 2)
        postgres.start()

    def until_health_is(status):
        wait_until(lambda: direct.send("GET", "/health").status == status, seconds=30)

    def read_only_for_a_while():
        read_only(True)
        until_health_is(503)
        read_only(False)
        until_health_is(200)

    def disk_full_for_a_while():
        disk.fill()
        time.sleep(chance.random() * 6)
        disk.free()

    faults = [
        lambda: restart(signal.SIGKILL),
        lambda: restart(signal.SIGINT),
        lambda: postgres.sql("postgres", f"select pg_terminate_backend(pid) {backends_of(on_postgres)}"),
        lambda: postgres.sql("postgres", f"select pg_cancel_backend(pid) {backends_of(on_postgres)}"),
        read_only_for_a_while,
        disk_full_for_a_while,
        *(
            lambda how=how, moment=moment: misbehave(proxy, f"{how} {moment}", proxy.hits + 1)
            for how in ("reset", "close", "silence")
            for moment in ("before", "after")
        ),
    ]
    load = Load([through, direct])
    number = 0
    with load.running():
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            chance.choice(faults)()
            number += 1
            time.sleep(chance.random() * 3)
    load.check(on_postgres)
    for function in (through, direct):
        logged(function)
    clicks = sum(load.clicks.values())
    told = (
        f"In {minutes:g} minutes there were {number:,} faults. {clicks:,} clicks were answered, and each was counted\n"
        f"once; clients saw {load.errors:,} errors, and sent those clicks again. The slowest answer took\n"
        f"{load.slowest:.1f} s.\n"
    )
    print(told)
    if request.config.getoption("--update"):
        update_readme("soak", told)
