"""A reply is read as the network brings it: in parts, many at once, and with what nobody asked for in between."""

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor

import pg8000
import pytest
import uvloop
from proxy import Proxy
from servers import new_key, wait_until
from tls import send_ticket, update_keys

import db
from connection import Connection
from database_url import database_from

QUERY = "select n, repeat('x', n) from generate_series(1, 9) as n; select 'two'"
ROWS = [*([n, "x" * n] for n in range(1, 10)), ["two"]]


@pytest.fixture(params=["plain", "TLS"])
def proxied(request, postgres, on_postgres, tls):
    """A proxy, and the URL of an empty database behind it."""
    with_tls = request.param == "TLS"
    proxy = Proxy(tls.port if with_tls else postgres.port)
    yield proxy, f"{postgres.url(on_postgres.name, proxy.port)}?sslmode={'require' if with_tls else 'disable'}"
    proxy.close()


@pytest.fixture
def secure_url(postgres, on_postgres, tls):
    return f"{postgres.url(on_postgres.name, tls.port)}?sslmode=require"


def in_production_loop(test):
    """Let a coroutine function be a test, in the loop of the deployed function and in a thread of its own."""

    @functools.wraps(test)
    def run(*arguments, **more):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(uvloop.run, test(*arguments, **more)).result()

    return run


async def eventually(true):
    await asyncio.to_thread(wait_until, true)


async def opened(url):
    return await Connection.open(database_from({"DATABASE_URL": url}))


@in_production_loop
async def test_reply_may_be_torn_at_every_byte(proxied):
    proxy, url = proxied
    connection = await opened(url)
    assert await connection.query(QUERY) == (ROWS, 10)
    for split in range(1, proxy.replied + 1):
        proxy.split = split
        assert await connection.query(f"{QUERY}; select {split}") == ([*ROWS, [split]], 11)
    connection.close()


@in_production_loop
async def test_reply_may_come_byte_by_byte(proxied):
    proxy, url = proxied
    proxy.pieces = (1, 0)
    connection = await opened(url)
    for _ in range(5):
        assert await connection.query(QUERY) == (ROWS, 10)
    connection.close()


@in_production_loop
async def test_reply_may_be_of_any_size(proxied):
    _, url = proxied
    connection = await opened(url)
    for size in (0, 1, 4090, 16_300, 16_384, 65_500, 65_536, 3_000_000):
        assert await connection.query(f"select repeat('y', {size})") == ([["y" * size]], 1)
    connection.close()


@in_production_loop
@pytest.mark.parametrize("record", [1, 2, 5, 100, 1000])
async def test_reply_may_be_several_records_that_come_at_once(secure_url, tls, record):
    tls.record = record
    connection = await opened(secure_url)
    for _ in range(5):
        assert await connection.query(QUERY) == (ROWS, 10)
    assert await connection.query("select repeat('y', 20000)") == ([["y" * 20_000]], 1)
    connection.close()


@in_production_loop
@pytest.mark.parametrize("between", [update_keys, send_ticket])
async def test_what_tls_sends_between_two_queries_does_no_harm(secure_url, tls, between):
    connection = await opened(secure_url)
    tls.after_reply = between
    for number in range(1, 21):
        assert await connection.query(QUERY) == (ROWS, 10)
        await eventually(lambda expected=number: tls.done_after_reply == expected)
        if number % 2:  # it is read before the next query, else with its reply
            await asyncio.sleep(0.005)
        assert not connection.is_stale
    connection.close()


@in_production_loop
async def test_error_in_a_reply_is_raised_and_the_next_one_is_read(proxied):
    proxy, url = proxied
    connection = await opened(url)
    for split in range(1, 40):
        proxy.split = split
        with pytest.raises(pg8000.DatabaseError, match="division by zero"):
            await connection.query("select 1 / 0; select 2")
        assert await connection.query("select 3") == ([[3]], 1)
    connection.close()


@in_production_loop
@pytest.mark.parametrize("split", [None, 1, 5, 30])
async def test_connection_that_the_server_ends_is_stale(proxied, postgres, on_postgres, split):
    proxy, url = proxied
    connection = await opened(url)
    [[pid]], _ = await connection.query("select pg_backend_pid()")
    proxy.split = split
    await asyncio.to_thread(postgres.sql, on_postgres.name, f"select pg_terminate_backend({pid})")
    await eventually(lambda: connection.is_stale)
    with pytest.raises(ConnectionResetError):
        await connection.query("select 1")
    connection.close()


@in_production_loop
async def test_reason_for_which_the_server_ends_a_query_is_raised(proxied, postgres, on_postgres):
    proxy, url = proxied
    connection = await opened(url)
    [[pid]], _ = await connection.query("select pg_backend_pid()")
    proxy.pieces = (1, 0)
    query = asyncio.create_task(connection.query("select pg_sleep(20)"))
    sleeping = f"select 1 from pg_stat_activity where pid = {pid} and state = 'active'"
    await eventually(lambda: on_postgres.sql(sleeping))
    await asyncio.to_thread(postgres.sql, on_postgres.name, f"select pg_terminate_backend({pid})")
    with pytest.raises(pg8000.DatabaseError, match="57P01"):
        await query
    connection.close()


@in_production_loop
async def test_message_that_comes_between_two_queries_is_no_end(proxied, postgres, on_postgres):
    proxy, url = proxied
    connection = await opened(url)
    await connection.query("listen news")
    for split in (None, 1, 5, 8):
        proxy.split, proxy.replied = split, 0
        await asyncio.to_thread(postgres.sql, on_postgres.name, "notify news, 'none that anybody asked for'")
        await eventually(lambda: proxy.replied)
        assert not connection.is_stale
        assert await connection.query(QUERY) == (ROWS, 10)
    connection.close()


@in_production_loop
async def test_largest_batch_fits_into_what_a_dead_link_takes(proxied):
    """So that its send does not wait: that was 74.8 kB."""
    proxy, url = proxied
    store = db.Postgres(database_from({"DATABASE_URL": url}))
    names = [f"{number:0100}" for number in range(db.MAX_BATCH)]
    await store.read([])
    before = proxy.requested
    counts = await store.count([db.Click(new_key(), name, db.KEY_LIFETIME, None) for name in names])
    assert counts == dict.fromkeys(names, 1)
    assert proxy.requested - before < 74_000
