"""CLICKS_PER_MINUTE: how many clicks of one address are counted, on one instance."""

import itertools
import socket
import time

import pytest
from servers import COUNTER, HTML, new_key

import main


@pytest.fixture
def limited(start, on_sqlite):
    """A function with a small limit, early in a minute, so that a test's clicks are all in the same."""
    function = start(on_sqlite.url, CLICKS_PER_MINUTE="3", COUNTERS="hello-world-button,other")
    rest = 60 - time.time() % 60
    if rest < 8:
        time.sleep(rest + 0.1)
    return function


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


def test_only_clicks_count(limited):
    address = {"X-Forwarded-For": "203.0.113.7"}
    for _ in range(5):
        assert limited.send("GET", "/value", address).status == 200
        assert limited.send("OPTIONS", "/click", address).status == 204
        assert limited.send("GET", "/", address).status == 200
        assert click(limited, "203.0.113.7", "/click?name=unknown").status == 404
    assert statuses(limited, *["203.0.113.7"] * 4) == [200, 200, 200, 429]


def status_of_lines(function, *lines, rest="\r\n"):
    """Click with a line X-Forwarded-For for each of these."""
    request = "POST /click HTTP/1.1\r\nHost: x\r\n" + "".join(f"X-Forwarded-For: {line}\r\n" for line in lines)
    with socket.create_connection(("127.0.0.1", function.port), timeout=8) as connection:
        connection.sendall(f"{request}{rest}".encode())  # at once, so that a trailer is parsed before the answer
        return int(connection.recv(65536).split(maxsplit=2)[1])


CHUNKED = "Transfer-Encoding: chunked\r\n\r\n0\r\n{}\r\n"


def test_address_is_the_last_of_all_lines(limited):
    for first in ("198.51.100.1", "198.51.100.2, 198.51.100.3", "junk"):
        assert status_of_lines(limited, first, "198.51.100.4, 203.0.113.7") == 200
    assert status_of_lines(limited, "198.51.100.5", "203.0.113.7") == 429
    assert statuses(limited, "203.0.113.7", "198.51.100.1") == [429, 200]


def test_several_lines_get_nobody_past_the_limit(shared):
    before = shared.count()
    for junk in ("junk", "", "203.0.113.8, junk"):
        assert status_of_lines(shared, "203.0.113.7", junk) == 400
    trailer = CHUNKED.format("X-Forwarded-For: 203.0.113.8\r\n")
    assert status_of_lines(shared, "203.0.113.7", rest=trailer) == 400
    assert status_of_lines(shared, "203.0.113.7", "203.0.113.8", rest=CHUNKED.format("")) == 400
    assert shared.count() == before


def test_chunked_click_with_one_line_counts(shared):
    before = shared.count()
    assert status_of_lines(shared, "203.0.113.9", rest=CHUNKED.format("")) == 200
    assert shared.count() == before + 1


def test_without_a_limit_headers_do_not_matter(start, on_sqlite):
    function = start(on_sqlite.url, CLICKS_PER_MINUTE="0")
    assert statuses(function, *["203.0.113.7"] * 5, "203.0.113.7, junk") == [200] * 6
    assert status_of_lines(function, "203.0.113.7", "junk") == 200
    assert status_of_lines(function, "a", rest=CHUNKED.format("X-Forwarded-For: b\r\n")) == 200


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
    now = [1_700_000_080.0]  # 40 s past a full minute
    monkeypatch.setattr("main.time.time", lambda: now[0])
    return now


def passes(limit, address):
    """Whether a click of this address passes, or else in how many seconds one will."""
    try:
        limit.check(address)
    except main.Problem as problem:
        assert problem.status_code == 429
        return int(problem.headers["Retry-After"])
    return True


def test_limit_is_that_of_the_settings():
    assert main.settings_from({}).clicks_per_minute == 600
    assert main.settings_from({"CLICKS_PER_MINUTE": "5"}).clicks_per_minute == 5


SAME = {
    "last entry": ["203.0.113.7", "198.51.100.1, 203.0.113.7", "a, b,203.0.113.7 "],
    "IPv4 in IPv6": ["203.0.113.7", "::ffff:203.0.113.7", "::FFFF:cb00:7107"],
    "IPv6 network": ["2001:db8:1:2::1", "2001:db8:1:2:ffff::", "2001:0DB8:0001:0002::5"],
    "port": ["203.0.113.7", "203.0.113.7:51234", "a, 203.0.113.7:443"],
    "port of IPv6": ["2001:db8:1:2::1", "[2001:db8:1:2::1]", "[2001:db8:1:2::7]:51234"],
    "port of IPv4 in IPv6": ["203.0.113.7", "[::ffff:203.0.113.7]:51234"],
}


@pytest.mark.parametrize("addresses", SAME.values(), ids=SAME)
def test_addresses_that_are_one(clock, addresses):
    limit = main.AddressLimit(len(addresses))
    assert [passes(limit, address) for address in addresses] == [True] * len(addresses)
    assert passes(limit, addresses[0]) == 20


def test_addresses_that_are_not(clock):
    limit = main.AddressLimit(1)
    for address in ("203.0.113.7", "203.0.113.8", "2001:db8:1:2::1", "2001:db8:1:3::1", "0.0.0.1", "0.0.0.0", "::1"):
        assert passes(limit, address) is True
        assert passes(limit, address) == 20


def test_what_is_no_address_has_no_limit(clock):
    limit = main.AddressLimit(1)
    junk = ("", "unknown", "256.1.1.1", "203.0.113.7, ", "203.0.113.7:x", "203.0.113.7:123456", "[", "a" * 9000, "\xe9")
    for address in junk:
        assert [passes(limit, address) for _ in range(3)] == [True] * 3


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


def flood(limit, addresses):
    """Click once from each address, and return how many of the clicks passed."""
    return sum(passes(limit, address) is True for address in addresses)


def test_network_with_more_addresses_than_are_kept_is_limited_as_one(clock):
    limit = main.AddressLimit(2)
    assert flood(limit, (f"2001:db8:1:{part:x}::1" for part in range(10_100))) == 10_002
    assert passes(limit, "2001:db8:1:0::5") is True  # kept, and has its second click
    for other in ("2001:db8:2::1", "2001:db8:3::1", "203.0.113.7", "203.0.114.7"):
        assert [passes(limit, other) for _ in range(3)] == [True, True, 20]


def test_flood_of_addresses_costs_bounded_memory_and_other_networks_pass(clock):
    limit = main.AddressLimit(1)
    networks = [f"10.{a}.{b}.7" for a, b in itertools.product(range(200), range(250))]
    assert flood(limit, networks) > 20_000
    assert sum(map(len, limit.clicks)) <= 30_000
    assert passes(limit, networks[0]) == 20  # an address that is kept
    assert passes(limit, networks[-1]) == 20  # one whose /16 is
    assert passes(limit, "203.0.113.7") is True
    assert passes(limit, "2001:db8::1") is True
    clock[0] += 60
    assert passes(limit, networks[0]) is True
    assert sum(map(len, limit.clicks)) == 1
