"""The promise: every click is counted, and none twice."""

import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from servers import COUNTER, ROOT, Postgres, Tool, new_key, rows, send_all, wait_for_lock

NAMES = ["a", "b", "c"]


def test_first_click_makes_the_counter(function):
    assert function.count() == 0
    assert [function.click().value, function.click().value] == [1, 2]
    assert function.count() == 2
    assert function.click().json() == {"name": COUNTER, "value": 3}


def test_counters_count_apart(function):
    function.click(COUNTER)
    assert function.click("other").json() == {"name": "other", "value": 1}
    assert function.click("other").value == 2
    assert function.count(COUNTER) == 1


def test_several_counts_are_a_list_in_the_order_asked_for(function):
    function.click("other")
    answer = function.send("GET", f"/value?name=other&name={COUNTER}")
    assert answer.json() == [{"name": "other", "value": 1}, {"name": COUNTER, "value": 0}]


def test_reading_makes_no_counter(function, database):
    assert function.count() == 0
    assert database.values() == {}


def test_key_sent_again_gets_the_count_as_it_is_now(function):
    key = new_key()
    assert function.click(key=key).value == 1
    function.click()
    assert function.click(key=key).value == 2
    assert function.click(key=f'"{key.upper()}"').value == 2


def test_key_belongs_to_one_counter(function):
    key = new_key()
    assert function.click(COUNTER, key).value == 1
    assert function.click("other", key).value == 1
    assert function.click("other", key).value == 1


def test_refused_click_does_not_burn_its_key(function, database):
    key = new_key()
    function.click()
    assert function.click("not-listed", key).status == 404
    assert function.send("POST", "/click", {"Idempotency-Key": key, "Sec-Fetch-Site": "cross-site"}).status == 403
    assert key not in database.keys(COUNTER)
    assert function.click(key=key).value == 2


def clicks_of_which_a_third_comes_twice(number):
    clicks = [(NAMES[index % 3], new_key()) for index in range(number)]
    return clicks, [click for index, click in enumerate(clicks) for _ in range(2 if index % 3 == 0 else 1)]


def check_exactly_once(database, clicks, sent, answers):
    assert [answer.status for answer in answers] == [200] * len(sent)
    assert database.values() == database.clicks_of_all_days() == Counter(name for name, _ in clicks)
    for name in NAMES:
        assert database.keys(name) == {key for of, key in clicks if of == name}
        values = [answer.value for (of, _), answer in zip(sent, answers, strict=True) if of == name]
        assert max(values) == database.values()[name]
        assert min(values) >= 1


def test_clicks_at_once_on_three_instances_add_up(on_postgres, start):
    functions = [start(on_postgres.url, COUNTERS="a,b,c") for _ in range(3)]
    clicks, sent = clicks_of_which_a_third_comes_twice(3000)
    answers = send_all(functions, sent)
    check_exactly_once(on_postgres, clicks, sent, answers)
    connections = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    assert len(on_postgres.sql(connections)) == len(functions)
    assert on_postgres.sql("select deadlocks from pg_stat_database where datname = current_database()") == [(0,)]


def test_clicks_at_once_on_sqlite_add_up(on_sqlite, start):
    functions = [start(on_sqlite.url, COUNTERS="a,b,c")]
    clicks, sent = clicks_of_which_a_third_comes_twice(3000)
    check_exactly_once(on_sqlite, clicks, sent, send_all(functions, sent))


def test_instances_that_start_at_once_make_the_tables_together(on_postgres, start):
    functions = [start(on_postgres.url) for _ in range(4)]
    answers = send_all(functions, [(COUNTER, new_key()) for _ in range(8)], clients=8)
    assert sorted(answer.status for answer in answers) == [200] * 8
    assert on_postgres.values() == {COUNTER: 8}


def test_tables_that_another_instance_is_just_making_are_waited_for(on_postgres, postgres, start):
    function = start(on_postgres.url)
    with postgres.connected(on_postgres.name) as other, ThreadPoolExecutor() as pool:
        rows(other, f"begin; {(ROOT / 'schema.sql').read_text()}")
        sent = pool.submit(function.click)
        wait_for_lock(on_postgres)
        rows(other, "commit")  # now the function's `create table if not exists` finds it in the catalogue, and fails
        assert sent.result().value == 1


def test_a_read_sees_every_click_that_was_answered_before(on_postgres, start):
    one, other = start(on_postgres.url), start(on_postgres.url)
    for expected in range(1, 30):
        assert one.click().value == expected
        assert other.count() == expected


def test_count_outlives_a_restart_of_the_function(database, start):
    function = start(database.url)
    key = new_key()
    assert [function.click(key=key).value, function.click().value] == [1, 2]
    assert function.stop() == 0
    again = start(database.url)
    assert again.count() == 2
    assert again.click(key=key).value == 2


def test_count_outlives_a_restart_of_the_database(start):
    postgres = Postgres()
    try:
        function = start(postgres.url("postgres"))
        assert function.click().value == 1
        for sent in (signal.SIGINT, signal.SIGKILL):
            postgres.stop(sent)
            postgres.start()
            assert function.click().status == 200
        assert function.count() == 3
    finally:
        postgres.remove()


@pytest.fixture
def held(on_postgres, postgres, start):
    """A function whose clicks on `hold` wait for a transaction of ours, so that those after them go as one batch."""
    function = start(on_postgres.url, COUNTERS="hold," + ",".join(f"n{number}" for number in range(1, 30)))
    function.click("hold")
    for number in range(1, 30):
        function.click(f"n{number}")
    connected = partial(postgres.connected, on_postgres.name)
    with connected() as holding, connected() as connection, ThreadPoolExecutor(40) as pool:
        rows(holding, "begin; select * from counter where name = 'hold' for update")
        first = pool.submit(function.click, "hold")
        wait_for_lock(on_postgres)

        def batch(clicks, lock):
            """Send these clicks as one batch, in this order, into a lock of ours; return their future answers."""
            sent = []
            for click in clicks:
                sent.append(pool.submit(function.click, *click))
                time.sleep(0.02)
            rows(connection, f"begin; {lock}")
            rows(holding, "commit")
            assert first.result().status == 200
            wait_for_lock(on_postgres)
            return sent

        yield batch, connection
        for each in (connection, holding):
            rows(each, "rollback")


def test_counters_are_locked_in_sorted_order(held, on_postgres):
    batch, connection = held
    names = [f"n{number}" for number in range(29, 0, -1)]
    sent = batch([(name,) for name in names], "select * from counter where name = 'n1' for update")
    for name in names:
        if name != "n1":  # the first in order, so that the batch holds no other while it waits
            on_postgres.sql(f"select * from counter where name = '{name}' for update nowait")
    rows(connection, "rollback")
    assert [answer.result().value for answer in sent] == [2] * 29


def test_keys_are_locked_in_sorted_order(held, on_postgres):
    batch, connection = held
    keys = sorted((new_key() for _ in range(12)), reverse=True)
    insert = "insert into click values ('{}', 'hold', 0)"
    sent = batch([("hold", key) for key in keys], insert.format(keys[-1]))
    for key in keys[:-1]:  # one that the batch had inserted already would keep us waiting
        on_postgres.sql(f"begin; set local lock_timeout = 200; {insert.format(key)}; rollback")
    rows(connection, "rollback")
    assert {answer.result().value for answer in sent} == {14}


def test_key_being_counted_by_another_instance_waits_for_its_outcome(on_postgres, postgres, start):
    function = start(on_postgres.url)
    function.click()
    key = new_key()
    with postgres.connected(on_postgres.name) as other, ThreadPoolExecutor() as pool:
        counted = f"insert into click values ('{key}', '{COUNTER}', 4e9); update counter set value = value + 1"
        rows(other, f"begin; {counted}")
        sent = pool.submit(function.click, None, key)
        wait_for_lock(on_postgres)
        rows(other, "commit")
        assert sent.result().value == 2


def add_expired_keys(database, number):
    for start in range(0, number, 10_000):
        keys = ",".join(f"('{start + key:036}', 'other', {1000 + key})" for key in range(min(10_000, number - start)))
        database.sql(f"insert into click (key, name, expires) values {keys}")


def test_backlog_of_expired_keys_is_deleted_a_thousand_with_each_batch(function, database):
    function.click()
    add_expired_keys(database, 12_000)
    for _ in range(37):  # without a backlog, one in 20 looks for expired keys
        function.click()
    assert database.keys("other") == set()
    assert len(database.keys(COUNTER)) == 38


def test_few_expired_keys_are_deleted_with_the_clicks_that_come(function, database):
    function.click()
    add_expired_keys(database, 20)
    for _ in range(20):
        function.click()
    assert database.keys("other") == set()


def test_own_keys_are_kept_for_minutes_and_client_keys_for_a_day(function, database):
    function.click()
    function.click(key=new_key())
    minutes, day = sorted(expires - time.time() for (expires,) in database.sql("select expires from click"))
    assert 250 < minutes <= 301
    assert 86_300 < day <= 86_401


@pytest.fixture
def earlier(database):
    """The database as the version before left it: `counter` has a column `base`, and a check."""
    database.sql("""
        create table counter (
            name  text   not null primary key,
            value bigint not null check (value between 0 and 9223372036854775807),
            base  bigint not null default 0)""")
    database.sql(
        "create table daily (name text not null, day text not null, value bigint not null, primary key (name, day))"
    )
    database.sql(
        "create table click (key text not null, name text not null, expires bigint not null, primary key (key, name))"
    )
    database.sql("create index click_expires on click (expires)")
    database.sql(f"insert into counter values ('{COUNTER}', 41, 40), ('post-1', 7, 7)")
    return database


def test_table_of_the_version_before_goes_on_working(earlier, function):
    tool = Tool(earlier.url)
    assert function.click().value == 42
    assert function.click("post-1").value == 8
    assert function.click("post-new").value == 1  # made with 0
    assert function.click("other").value == 1  # made with 1
    assert function.send("GET", "/health").status == 200
    tool("set", "post-set", "5")
    tool("import", given="post-imported,6\n")
    tool("rename", "post-1", "post-2")
    assert function.click("post-set").value == 6
    assert function.click("post-2").value == 9
    tool("init")
    assert earlier.values() == {
        COUNTER: 42, "post-2": 9, "post-new": 1, "other": 1, "post-set": 6, "post-imported": 6
    }  # fmt: skip
    assert function.click().value == 43


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_isolation_level_of_the_database_does_not_matter(on_postgres, start, level):
    on_postgres.sql(f"alter database {on_postgres.name} set default_transaction_isolation = '{level}'")
    functions = [start(on_postgres.url, COUNTERS="a,b,c,post-*", MAX_COUNTERS="50") for _ in range(3)]
    clicks, sent = clicks_of_which_a_third_comes_twice(600)
    check_exactly_once(on_postgres, clicks, sent, send_all(functions, sent))
    answers = send_all(functions, [(f"post-{number}", new_key()) for number in range(300)])
    assert {answer.status for answer in answers} == {200, 409}
    assert len(on_postgres.values()) == 50
    answers = send_all(functions, [("post-new", new_key())] * 20)
    assert {answer.status for answer in answers} == {409}
    assert len(on_postgres.values()) == 50


# --- Counters that a prefix permits -----------------------------------------------------------------------------


def test_prefix_makes_counters_up_to_the_limit_and_those_go_on(start, database):
    function = start(database.url, COUNTERS="hello,exact,post-*", MAX_COUNTERS="3")
    for name in ("hello", "post-1", "post-2"):
        assert function.click(name).value == 1
    key = new_key()
    refused = function.click("post-3", key)
    assert refused.status == 409
    assert "MAX_COUNTERS" in refused.json()["detail"]
    assert refused.headers["Retry-After"] == "3600"
    assert key not in database.keys("post-3")
    assert function.count("post-3") == 0
    assert function.click("post-1").value == 2
    assert function.click("exact").value == 1
    assert function.click("post-4").status == 409
    database.sql("delete from counter where name in ('post-2', 'exact')")
    assert function.click("post-3", key).value == 1
    assert database.values() == {"hello": 1, "post-1": 2, "post-3": 1}


def test_no_room_at_all_leaves_the_named_counters(start, database):
    function = start(database.url, COUNTERS="hello,post-*", MAX_COUNTERS="0")
    assert function.click("post-1").status == 409
    assert function.click("hello").value == 1
    assert database.values() == {"hello": 1}


def check_race(database, functions, most, clients):  # of four times as many as have room
    names = [f"post-{number}" for number in range(4 * most)]
    answers = send_all(functions, [(name, new_key()) for name in names], clients)
    made = {name for name, answer in zip(names, answers, strict=True) if answer.status == 200}
    assert {answer.status for answer in answers} == {200, 409}, [function.output() for function in functions]
    assert len(made) == most
    assert database.values() == dict.fromkeys(made, 1)
    assert database.sql("select count(*) from click") == [(most,)]
    again = send_all(functions, [(name, new_key()) for name in sorted(made) * 3], clients=32)
    assert {answer.status for answer in again} == {200}
    assert database.values() == database.clicks_of_all_days() == dict.fromkeys(made, 4)


def test_thousand_clients_that_race_for_new_names_leave_exactly_the_limit(on_postgres, start):
    settings = {"COUNTERS": "post-*", "MAX_COUNTERS": "250"}
    check_race(on_postgres, [start(on_postgres.url, **settings) for _ in range(4)], 250, clients=1000)


def test_race_for_new_names_on_sqlite(on_sqlite, start):
    check_race(on_sqlite, [start(on_sqlite.url, COUNTERS="post-*", MAX_COUNTERS="50")], 50, clients=64)


def test_counter_that_another_instance_makes_after_the_look_gets_its_clicks(on_postgres, postgres, start):
    """The function has looked, and found no post-1, before another instance makes it: no click may get lost."""
    function = start(on_postgres.url, COUNTERS="post-*", MAX_COUNTERS="2")
    function.click("post-0")
    key = new_key()
    with postgres.connected(on_postgres.name) as other, ThreadPoolExecutor() as pool:
        rows(other, "begin; select pg_advisory_xact_lock(20261122)")
        sent = pool.submit(function.click, "post-1", key)
        wait_for_lock(on_postgres)
        rows(other, "insert into counter (name, value) values ('post-1', 1); commit")
        assert sent.result().value == 2
    assert on_postgres.keys("post-1") == {key}


def test_first_clicks_at_once_on_the_last_counter_that_has_room_are_all_counted(on_postgres, start):
    functions = [start(on_postgres.url, COUNTERS="hello,post-*", MAX_COUNTERS="2") for _ in range(3)]
    functions[0].click("hello")
    for number in range(12):
        answers = send_all(functions, [(f"post-{number}", new_key()) for _ in range(9)], clients=9)
        assert [answer.status for answer in answers] == [200] * 9
        assert on_postgres.values() == {"hello": 1, f"post-{number}": 9}
        on_postgres.sql("delete from counter where name <> 'hello'")


def test_counter_that_another_instance_is_just_making_takes_its_room(on_postgres, postgres, start):
    function = start(on_postgres.url, COUNTERS="post-*", MAX_COUNTERS="2")
    assert function.click("post-1").value == 1
    with postgres.connected(on_postgres.name) as other, ThreadPoolExecutor() as pool:
        rows(other, "begin; select pg_advisory_xact_lock(20261122); insert into counter values ('post-2', 1)")
        sent = pool.submit(function.click, "post-3")
        wait_for_lock(on_postgres)
        rows(other, "commit")
        assert sent.result().status == 409
    assert on_postgres.values() == {"post-1": 1, "post-2": 1}


def test_existing_counters_of_a_prefix_wait_for_no_lock(on_postgres, postgres, start):
    function = start(on_postgres.url, COUNTERS="post-*", MAX_COUNTERS="3")
    for number in range(3):
        function.click(f"post-{number}")
    with postgres.connected(on_postgres.name) as other:
        rows(other, "begin; select pg_advisory_xact_lock(20261122)")
        assert [function.click(f"post-{number}").value for number in range(3)] == [2, 2, 2]
        assert function.click("post-3").status == 409


def test_key_of_a_counter_that_was_deleted_does_not_make_it_again(function, database):
    key = new_key()
    for name in (COUNTER, "post-1"):
        assert function.click(name, key).value == 1
        database.sql(f"delete from counter where name = '{name}'")
        assert function.click(name, key).value == 0
    assert database.values() == {}
    database.sql(f"insert into counter (name, value) values {', '.join(f'({number}, 0)' for number in range(20))}")
    assert function.click("post-1", key).value == 0
    assert function.click("post-2").status == 409
