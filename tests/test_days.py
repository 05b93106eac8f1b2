"""Clicks per day: they add up to the count, across midnights, and can be asked for."""

import datetime
import json
import threading
import time

import pytest
from servers import COUNTER, in_a_loop, new_key, rows, send_all, today
from sqlalchemy import event

import database_url
import db

DAY = datetime.timedelta(days=1)


def history(function, name=COUNTER, days=None):
    answer = function.send("GET", f"/history?name={name}" + (f"&days={days}" if days else ""))
    assert answer.status == 200
    assert answer.json()["name"] == name
    return {day["day"]: day["value"] for day in answer.json()["days"]}


def test_click_is_counted_in_its_day(function, database):
    for _ in range(3):
        function.click()
    assert database.days() == {str(today()): 3}
    assert database.days("other") == {}
    assert history(function)[str(today())] == 3


def test_history_has_every_day_the_oldest_first(function, database):
    function.click()
    database.put_days({1: 5, 29: 7, 30: 1000, 365: 2, 366: 1000})
    answer = function.send("GET", "/history").json()
    assert answer["name"] == COUNTER
    days = [day["day"] for day in answer["days"]]
    assert days == [str(today() - ago * DAY) for ago in range(29, -1, -1)]
    assert [day["value"] for day in answer["days"]] == [7, *[0] * 27, 5, 1]
    assert list(history(function, days=1)) == [str(today())]
    assert len(history(function, days=366)) == 366
    assert sum(history(function, days=366).values()) == 1 + 5 + 7 + 1000 + 2


def test_history_of_a_counter_without_clicks_is_zero(function, database):
    assert set(history(function, "post-1").values()) == {0}
    assert database.values() == {}


@pytest.mark.parametrize("days", ["0", "367", "-1", "x", "", "1.5", "030", "\u0663", "99999999999999999999"])
def test_malformed_days(shared, days):
    answer = shared.send("GET", f"/history?days={days}".replace("\u0663", "%D9%A3"))
    assert answer.status == 400
    assert "1 to 366" in answer.json()["detail"]


def test_history_of_one_permitted_counter(shared):
    assert shared.send("GET", "/history?name=unknown").status == 404
    assert shared.send("GET", "/history?name=other&name=other").status == 400


def test_history_is_cached_for_a_minute_and_revalidated(shared):
    shared.click("other")
    answer = shared.send("GET", "/history?name=other")
    assert "max-age=60" in answer.headers["Cache-Control"]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    known = {"If-None-Match": answer.headers["ETag"]}
    assert shared.send("GET", "/history?name=other", known).status == 304
    shared.click("other")
    assert shared.send("GET", "/history?name=other", known).status == 200


def test_histories_asked_for_at_once_are_not_mixed_up(start, on_postgres):
    names = [f"n{number}" for number in range(20)]
    function = start(on_postgres.url, COUNTERS=",".join(names))
    send_all([function], [(name, new_key()) for index, name in enumerate(names) for _ in range(index)])
    found = {}
    asking = [
        threading.Thread(target=lambda name=name: found.update({name: history(function, name)})) for name in names
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert [found[name][str(today())] for name in names] == list(range(20))


def set_clock(database, day, hour="12:00"):
    """Let the database's now() give this time in UTC: ours is found first."""
    database.sql(f"alter database {database.name} set search_path = public, pg_catalog")
    time = f"select timestamptz '{day} {hour}+00'"
    database.sql(f"create or replace function now() returns timestamptz language sql as $$ {time} $$")


def test_clicks_at_once_across_midnights_add_up(on_postgres, start):
    set_clock(on_postgres, "2026-12-30")
    one, other = (start(on_postgres.url, COUNTERS="a,b,c") for _ in range(2))
    clicks = [("abc"[index % 3], new_key()) for index in range(1500)]
    one.click("a", clicks[0][1])
    for number, day in enumerate(("2026-12-31", "2027-01-01", "2027-01-02")):
        part = clicks[number * 500 : number * 500 + 500]
        sent = [click for index, click in enumerate(part) for _ in range(2 if index % 3 == 0 else 1)]
        before = sum(on_postgres.values().values())
        sending = threading.Thread(target=lambda sent=sent: send_all([one, other], sent))
        sending.start()
        while sending.is_alive() and sum(on_postgres.values().values()) < before + 250:
            time.sleep(0.01)
        set_clock(on_postgres, day)
        sending.join()
    assert on_postgres.values() == on_postgres.clicks_of_all_days() == {"a": 500, "b": 500, "c": 500}
    assert len(on_postgres.days("a")) >= 3
    assert one.send("GET", "/history?name=a&days=4").json()["days"][-1]["day"] == "2027-01-02"


def test_clock_that_jumps_by_less_than_a_day_counts_no_key_twice(on_postgres, start):
    set_clock(on_postgres, "2026-12-30")
    function = start(on_postgres.url, COUNTERS="a,b")
    key = new_key()
    assert function.click("a", key).value == 1
    for day, hour in (("2026-12-31", "11:59"), ("2026-12-29", "12:00"), ("2026-11-01", "00:00")):
        set_clock(on_postgres, day, hour)
        for _ in range(25):  # one in 20 deletes what has expired
            function.click("b")
        assert function.click("a", key).value == 1
        assert on_postgres.days("b")[day] == 25
    assert on_postgres.values() == on_postgres.clicks_of_all_days() == {"a": 1, "b": 75}


def test_key_is_forgotten_after_24_hours_of_the_databases_clock(on_postgres, start):
    set_clock(on_postgres, "2026-12-30")
    function = start(on_postgres.url, COUNTERS="a,b")
    key = new_key()
    function.click("a", key)
    set_clock(on_postgres, "2026-12-31", "12:01")
    for _ in range(25):
        function.click("b")
    assert on_postgres.keys("a") == set()
    assert len(on_postgres.keys("b")) == 25


@in_a_loop
async def test_midnight_on_sqlite(on_sqlite, monkeypatch):
    monkeypatch.setattr("database_url.DATABASE", database_url.database_from({"DATABASE_URL": on_sqlite.url}))
    day = ["2027-12-31"]
    engine = database_url.engine()
    event.listen(engine, "connect", lambda driver, _: driver.create_function("date", -1, lambda *_: day[0]))
    monkeypatch.setattr("db.engine", lambda: engine)
    store = db.Sqlite()
    clicks = [db.Click(new_key(), "a", 60, None) for _ in range(3)]
    assert await store.count(clicks[:1]) == {"a": 1}
    day[0] = "2028-01-01"
    assert await store.count(clicks[:1]) == {"a": 1}  # sent again after midnight: it stays in its day
    assert await store.count(clicks[1:]) == {"a": 3}
    assert on_sqlite.days("a") == {"2027-12-31": 1, "2028-01-01": 2}


def test_day_is_of_utc_whatever_the_session_says(on_postgres, start):
    """At any time of day one of these two is on another date than UTC."""
    for zone in ("Etc/GMT+12", "Etc/GMT-14"):
        on_postgres.sql(f"alter database {on_postgres.name} set timezone = '{zone}'")
        start(on_postgres.url).click()
    assert on_postgres.days() == {str(today()): 2}


def test_history_says_503_without_a_database(start):
    answer = start("postgres://u:p@127.0.0.1:9/d").send("GET", "/history")
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert json.loads(answer.body)["status"] == 503


def test_days_are_counted_in_the_same_transaction(function, on_postgres, postgres, start):
    """While the day's row is locked the count waits, too, and both come together."""
    function = start(on_postgres.url)
    function.click()
    with postgres.connected(on_postgres.name) as other:
        rows(other, "begin; select * from daily for update")
        clicking = threading.Thread(target=function.click)
        clicking.start()
        clicking.join(0.5)
        assert clicking.is_alive()
        assert on_postgres.values() == {COUNTER: 1}
        rows(other, "commit")
        clicking.join()
    assert on_postgres.values() == on_postgres.clicks_of_all_days() == {COUNTER: 2}
