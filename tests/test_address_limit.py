"""CLICKS_PER_MINUTE: how many clicks of one address are counted, on one instance."""

import itertools
import time

import pytest
from servers import COUNTER, HTML, Client, new_key

import main


@pytest.fixture
def early():
    """Begin early in a minute, so that a test's clicks are all in the same."""
    rest = 60 - time.time() % 60
    if rest < 15:
        time.sleep(rest + 0.1)


@pytest.fixture
def limited(early, start, on_sqlite):
    return start(on_sqlite.url, CLICKS_PER_MINUTE="3", COUNTERS="hello-world-button,other")


def click(function, address=None, path="/click", **headers):
    forwarded = {} if address is None else {"X-Forwarded-For": address}
    return function.send("POST", path, {**forwarded, **headers})


def statuses(function, *addresses):
    return [click(function, address).status for address in addresses]


def test_click_beyond_the_limit_is_refused_and_told_when_to_come_back(limited, on_sqlite):
    assert statuses(limited, *["203.0.113.7"] * 3) == [200] * 3
    key = new_key()
    refused = click(limited, "203.0.113.7", **{"Idempotency-Key": key})
    assert refused.status == 429
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert "Try again in" in refused.json()["detail"]
    assert key not in on_sqlite.keys(COUNTER)
    assert on_sqlite.values() == {COUNTER: 3}
    assert statuses(limited, "203.0.113.8") == [200]
    assert click(limited, "203.0.113.7", "/click?name=other").status == 429  # one limit for all counters


def test_visitor_of_a_form_gets_a_page_that_says_to_try_again(limited):
    statuses(limited, *["203.0.113.7"] * 3)
    answer = click(limited, "203.0.113.7", **HTML)
    assert (answer.status, answer.headers["Content-Type"]) == (429, "text/html; charset=utf-8")
    assert b"Try again in" in answer.body
    assert "Retry-After" in answer.headers


SAME = {
    "last entry": ["203.0.113.7", "198.51.100.1, 203.0.113.7", "a, b,203.0.113.7 ", "203.0.113.7"],
    "IPv4 in IPv6": ["203.0.113.7", "::ffff:203.0.113.7", "::FFFF:cb00:7107", "203.0.113.7"],
    "IPv6 network": ["2001:db8:1:2::1", "2001:db8:1:2:ffff::", "2001:0DB8:0001:0002::5", "2001:db8:1:2::1"],
}


@pytest.mark.parametrize("addresses", SAME.values(), ids=SAME)
def test_addresses_that_are_one(limited, addresses):
    assert statuses(limited, *addresses) == [200, 200, 200, 429]


def test_addresses_that_are_not(limited):
    others = ["203.0.113.7", "203.0.113.8", "2001:db8:1:2::1", "2001:db8:1:3::1", "0.0.0.1", "0.0.0.0", "::1"]
    assert statuses(limited, *others * 3) == [200] * 21


def test_what_is_no_address_has_no_limit(limited):
    for address in (None, "", "unknown", "203.0.113.7:443", "256.1.1.1", "203.0.113.7, ", "a" * 9000, "\xe9"):
        assert (address, statuses(limited, *[address] * 5)) == (address, [200] * 5)


def test_only_clicks_count(limited):
    address = {"X-Forwarded-For": "203.0.113.7"}
    for _ in range(5):
        assert limited.send("GET", "/value", address).status == 200
        assert limited.send("OPTIONS", "/click", address).status == 204
        assert limited.send("GET", "/", address).status == 200
        assert click(limited, "203.0.113.7", "/click?name=unknown").status == 404
    assert statuses(limited, *["203.0.113.7"] * 4) == [200, 200, 200, 429]


@pytest.mark.parametrize(("setting", "counted"), [("0", 700), (None, 600)])
def test_default_and_no_limit(early, start, on_sqlite, setting, counted):
    function = start(on_sqlite.url, **{} if setting is None else {"CLICKS_PER_MINUTE": setting})
    client = Client(function.port)
    answers = [client.send("POST", "/click", {"X-Forwarded-For": "203.0.113.7"}).status for _ in range(700)]
    client.connection.close()
    assert answers == [200] * counted + [429] * (700 - counted)


def test_no_address_is_stored_or_logged(limited, on_sqlite, tmp_path):
    answers = [click(limited, "203.0.113.77") for _ in range(4)]
    assert answers[-1].status == 429
    assert not [answer for answer in answers if b"203.0.113" in answer.body]
    assert "203.0.113" not in limited.output()
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("clicks.sqlite3*"))
    assert stored
    assert b"203.0.113" not in stored


@pytest.fixture
def clock(monkeypatch):
    """The time that main.py sees, in a list of one."""
    now = [1_700_000_040.0]  # 40 s past a full minute
    monkeypatch.setattr("main.time.time", lambda: now[0])
    return now


def passes(limit, address):
    try:
        limit.check({"x-forwarded-for": address})
    except main.Problem as problem:
        assert problem.status == 429
        return int(problem.headers["Retry-After"])
    return True


def test_next_minute_begins_anew(clock):
    limit = main.AddressLimit(1)
    began = clock[0] - clock[0] % 60
    assert passes(limit, "203.0.113.7") is True
    for second, rest in ((clock[0] % 60, 60 - clock[0] % 60), (59, 1), (59.9, 1)):
        clock[0] = began + second
        assert passes(limit, "203.0.113.7") == rest
    clock[0] = began + 60
    assert passes(limit, "203.0.113.7") is True
    assert passes(limit, "203.0.113.7") == 60


def test_flood_of_addresses_costs_bounded_memory_and_new_ones_pass(clock):
    limit = main.AddressLimit(1)
    addresses = [f"10.0.{a}.{b}" for a, b in itertools.product(range(60), range(250))]
    assert {passes(limit, address) for address in addresses} == {True}
    assert len(limit.clicks) == 10_000
    assert passes(limit, addresses[0]) is not True
    limit.limit = 3
    assert [passes(limit, addresses[0]) is True for _ in range(3)] == [True, True, False]  # still counted
    limit.limit = 1
    assert passes(limit, addresses[-1]) is True
    clock[0] += 60
    assert passes(limit, addresses[0]) is True
    assert len(limit.clicks) == 1
