"""The counts: every statement, on Postgres and on SQLite. Knows nothing of HTTP.

Importing it starts nothing: the driver is imported and the connection made by the first click or read.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from batch import AttemptError, Batcher, CircuitBreaker, FaultLog
from batch import Unavailable as Unavailable
from connection import Connection, Rows
from database_url import (
    CONNECT_TIMEOUT,
    DATABASE,
    DISK_FULL,
    NO_TABLE,
    Database,
    apply_schema,
    engine,
    explain,
    schema,
)

if TYPE_CHECKING:
    from sqlalchemy import CursorResult

Result = TypeVar("Result")
Execute = Callable[..., "CursorResult[*tuple[Any, ...]]"]  # a statement and its parameters

KEY_LIFETIME = 24 * 3600  # seconds that a client's key is remembered
OWN_KEY_LIFETIME = 5 * 60  # seconds that a key is remembered that was made here, only for the retries

STATEMENT_TIMEOUT = 2000  # ms, locks included: a backend gives up before its client does, and leaves the lock's queue
HEALTH_LIFETIME = 1.0  # seconds for which one write tells that the next would succeed

MAX_BATCH = 400  # clicks or names in one message, which then stays under 74 kB, so that sending it does not wait
MAX_HISTORIES = 50  # in one message: a reply has up to MAX_DAYS of each
MAX_DAYS = 366
MAX_PRUNED = 1000  # expired keys that one batch deletes, in 4 ms
MAX_PRUNED_ALONE = 10_000  # where there is no room to count
PRUNE_AFTER = 20  # clicks without a backlog: looking for expired keys takes an eighth of the time of a click alone
MAX_KNOWN_COUNTERS = 100_000


class NoRoom(Exception):
    """A click cannot be counted: there are as many counters as there may be, until the owner makes room."""


# --- Postgres ---------------------------------------------------------------------------------------------------


class Click(NamedTuple):
    """One click to count."""

    key: str  # a UUID
    name: str  # of its counter
    lifetime: int  # of the key, in seconds
    limit: int | None  # of counters: where there are as many, it makes none; None: it always may


class Postgres:
    """The counts in Postgres, on one connection. Every method may raise AttemptError, and is safe to repeat."""

    # Two instances that take their locks in the same order never deadlock: so keys and names are sorted.

    # What another client of the same pooler has set does not matter, nor what the database prefers.
    PREAMBLE = f"""
        set transaction isolation level read committed;
        set local statement_timeout = {STATEMENT_TIMEOUT};
        set local synchronous_commit to default;
        set local search_path to default;"""
    PRUNE = """
        delete from click where ctid = any (array(
            select ctid from click where expires < extract(epoch from now())::bigint
            order by expires limit {limit} for update skip locked));"""
    COUNT_ONE = """
        with added as (
            insert into click (key, name, expires)
            values ({key}, {name}, extract(epoch from now())::bigint + {lifetime})
            on conflict do nothing
            returning name),
        today as (
            insert into daily (name, day, value)
            select name, to_char(now() at time zone 'UTC', 'YYYY-MM-DD'), 1 from added
            on conflict (name, day) do update set value = daily.value + 1)
        insert into counter (name, value)
        select name, 1 from added
        on conflict (name) do update set value = counter.value + 1
        returning name, value"""
    COUNT_MANY = """
        with added as (
            insert into click (key, name, expires)
            select key, name, extract(epoch from now())::bigint + lifetime
            from unnest({keys}::text[], {names}::text[], {lifetimes}::int[]) as given (key, name, lifetime)
            on conflict do nothing
            returning name),
        clicked as (
            select name, count(*) as clicks from added group by name),
        today as (
            insert into daily (name, day, value)
            select name, to_char(now() at time zone 'UTC', 'YYYY-MM-DD'), clicks from clicked order by name
            on conflict (name, day) do update set value = daily.value + excluded.value)
        insert into counter (name, value)
        select name, clicks from clicked order by name
        on conflict (name) do update set value = counter.value + excluded.value
        returning name, value"""
    COUNT_COUNTERS = """
        select name, exists (select from counter where counter.name = given.name), (select count(*) from counter)
        from unnest({names}::text[]) as given (name)"""
    # The counters are counted after the lock was taken: the lock's own statement sees the time before it.
    MAKE_COUNTERS = """
        do $$ begin perform pg_advisory_xact_lock(20261122); end $$;
        insert into counter (name, value)
        select name, 0 from unnest({names}::text[]) as given (name)
        where not exists (select from counter where counter.name = given.name)
        order by name limit (select greatest({limit} - count(*), 0) from counter)
        on conflict do nothing"""
    READ = "select name, value from counter where name = any ({names}::text[])"
    DAYS = """
        select name, to_char(now() at time zone 'UTC', 'YYYY-MM-DD'), (
            select json_object_agg(day, value) from daily where daily.name = given.name
            and day > to_char(now() at time zone 'UTC' - interval '{days} days', 'YYYY-MM-DD'))
        from unnest({names}::text[]) as given (name)"""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._opening: asyncio.Future[Connection] | None = None
        self._turn = asyncio.Lock()
        self._has_tables = False
        self._unpruned = PRUNE_AFTER

    async def count(self, clicks: list[Click]) -> dict[str, int]:
        """Count the clicks whose keys are new; return the value of each of their counters after that."""
        clicks = sorted(clicks, key=lambda click: (click.key, click.name))
        self._unpruned += len(clicks)
        prune = self.PRUNE.format(limit=MAX_PRUNED) if self._unpruned >= PRUNE_AFTER else ""
        rows, affected = await self._write(prune + self._counting(clicks))
        if prune:  # while there is a backlog, with each batch
            self._unpruned = PRUNE_AFTER if affected - len(rows) >= MAX_PRUNED else 0
        values: dict[str, int] = dict(rows)
        # A counter that got nothing new is read afterwards, and that seldom happens. Read in the statement itself, in
        # the snapshot from before, it would lack the click that another instance was just counting under the same key.
        repeated = {click.name for click in clicks} - values.keys()
        if repeated:
            values |= await self.read(repeated)
        return values

    def _counting(self, clicks: list[Click]) -> str:
        if len(clicks) == 1:  # as most are: nothing to sum and to sort saves a tenth of the time
            [click] = clicks
            return self.COUNT_ONE.format(key=_literal(click.key), name=_literal(click.name), lifetime=click.lifetime)
        keys, names, lifetimes, _ = zip(*clicks, strict=True)
        return self.COUNT_MANY.format(keys=_array(keys), names=_array(names), lifetimes=_array(lifetimes))

    async def make_counters(self, names: set[str], limit: int) -> set[str]:
        """Make these counters, with 0, while there are fewer than `limit`; return the names of those that exist then.

        Only where one is missing and there is room, it takes a lock that holds up the other instances.
        """
        rows, _ = await self._query(self.COUNT_COUNTERS.format(names=_array(names)))
        existing = {name for name, exists, _ in rows if exists}
        if existing == names or rows[0][2] >= limit:
            return existing
        missing = names - existing
        await self._query(self.MAKE_COUNTERS.format(names=_array(missing), limit=limit))
        return existing | (await self.read(missing)).keys()

    async def read(self, names: Iterable[str]) -> dict[str, int]:
        """Return the values of those of these counters that exist."""
        rows, _ = await self._query(self.READ.format(names=_array(names)))
        return dict(rows)

    async def days(self, names: Iterable[str]) -> dict[str, tuple[str, dict[str, int]]]:
        """Return for each name the database's date in UTC, and the clicks of the last days that had any."""
        rows, _ = await self._query(self.DAYS.format(names=_array(names), days=MAX_DAYS))
        return {name: (today, clicks or {}) for name, today, clicks in rows}

    async def try_to_count(self) -> None:
        """Count a click, and take it back."""
        if not self._has_tables:
            await self.read([])
        click = Click(str(uuid.uuid4()), str(uuid.uuid4()), 0, None)  # which waits for no other
        await self._write(f"begin; {self._counting([click])}; rollback")

    async def _write(self, statements: str) -> tuple[Rows, int]:
        try:
            return await self._query(statements)
        except AttemptError as error:
            if error.code == DISK_FULL:  # what was deleted together with the clicks has come back
                with suppress(AttemptError):
                    await self._query(self.PRUNE.format(limit=MAX_PRUNED_ALONE))
            raise

    async def _query(self, statements: str) -> tuple[Rows, int]:
        """Send the statements on the one connection, which is dropped after a failure: the two may be out of step."""
        message = self.PREAMBLE + statements
        async with self._turn:
            try:
                connection = await self._connected()
                try:
                    reply = await connection.query(message)
                except Exception as error:
                    # Tables that are lost later are not made anew: nobody must start again from 0.
                    if self._has_tables or explain(error).code != NO_TABLE:
                        raise
                    await connection.query(self.PREAMBLE + schema())
                    reply = await connection.query(message)
            except Exception as error:
                self._drop()
                raise explain(error) from error
            except BaseException:
                self._drop()
                raise
        if not self._has_tables:
            self._has_tables = True
            _freeze()
        return reply

    async def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = await self._opened()
        if self._connection.is_stale:  # no fault: servers end what was idle for long
            self._drop()
            self._connection = await self._opened()
        return self._connection

    async def _opened(self) -> Connection:
        """Connect, with one attempt at a time: a connection that arrives late is kept for the next caller."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(Connection.open(self._database))
            self._opening.add_done_callback(self._forget_failed)
        opening = self._opening
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.wait([opening])
        self._opening = None
        return opening.result()

    def _forget_failed(self, opening: asyncio.Future[Connection]) -> None:
        if opening.cancelled() or opening.exception():
            self._opening = None

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            connection.close()


def _array(items: Iterable[str | int]) -> str:
    quoted = ",".join(f'"{item}"' for item in items)  # unquoted, a counter called Null would be no counter
    return _literal(f"{{{quoted}}}")


def _freeze() -> None:
    # Everything is imported by now; full collections over it cost 40 ms each. Clicks that wait are alive: looking for
    # garbage every 700 objects mostly finds them, and costs a tenth of the throughput at 32 clients, a fifth at 256.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _literal(text: str) -> str:
    from pg8000.native import literal

    return str(literal(text))


# --- SQLite -----------------------------------------------------------------------------------------------------


class Sqlite:
    """The counts in a SQLite file, with the methods of Postgres; each is one transaction, in a thread."""

    PRUNE = f"""
        delete from click where rowid in (
            select rowid from click where expires < cast(strftime('%s', 'now') as integer)
            order by expires limit {MAX_PRUNED})"""
    ADD = """
        insert into click (key, name, expires)
        select json_extract(value, '$[0]'), json_extract(value, '$[1]'),
            cast(strftime('%s', 'now') as integer) + json_extract(value, '$[2]')
        from json_each(:clicks) where true
        on conflict do nothing
        returning name"""
    ADD_TO_DAY = """
        insert into daily (name, day, value) values (:name, date('now'), :clicks)
        on conflict (name, day) do update set value = value + excluded.value"""
    ADD_TO_COUNTER = """
        insert into counter (name, value) values (:name, :clicks)
        on conflict (name) do update set value = value + excluded.value"""
    COUNT_COUNTERS = "select count(*) from counter"
    MAKE_COUNTER = "insert into counter (name, value) values (:name, 0)"
    READ = "select name, value from counter where name in (select value from json_each(:names))"
    DAYS = """
        select given.value, date('now'), (
            select json_group_object(day, daily.value) from daily
            where daily.name = given.value and day > date('now', :before))
        from json_each(:names) as given"""

    def __init__(self) -> None:
        self._engine = cache(engine)
        self._turn = asyncio.Lock()

    async def count(self, clicks: list[Click]) -> dict[str, int]:
        return await self._run(lambda execute: self._count(clicks, execute))

    def _count(self, clicks: list[Click], execute: Execute) -> dict[str, int]:
        execute(self.PRUNE)
        added = Counter(name for (name,) in execute(self.ADD, clicks=json.dumps(clicks)).all())
        for name, number in added.items():
            for statement in (self.ADD_TO_DAY, self.ADD_TO_COUNTER):
                execute(statement, name=name, clicks=number)
        return self._read({click.name for click in clicks}, execute)

    async def make_counters(self, names: set[str], limit: int) -> set[str]:
        return await self._run(lambda execute: self._make_counters(names, limit, execute))

    def _make_counters(self, names: set[str], limit: int, execute: Execute) -> set[str]:
        existing = self._read(names, execute).keys()
        made = sorted(names - existing)[: max(limit - execute(self.COUNT_COUNTERS).scalar_one(), 0)]
        for name in made:
            execute(self.MAKE_COUNTER, name=name)
        return existing | set(made)

    async def read(self, names: Iterable[str]) -> dict[str, int]:
        return await self._run(lambda execute: self._read(names, execute))

    def _read(self, names: Iterable[str], execute: Execute) -> dict[str, int]:
        return dict(execute(self.READ, names=_json(names)).all())

    async def days(self, names: Iterable[str]) -> dict[str, tuple[str, dict[str, int]]]:
        rows = await self._run(lambda execute: execute(self.DAYS, names=_json(names), before=f"-{MAX_DAYS} days").all())
        return {name: (today, json.loads(clicks)) for name, today, clicks in rows}

    async def try_to_count(self) -> None:
        await self._run(self._try_to_count)

    def _try_to_count(self, execute: Execute) -> None:
        execute("savepoint health")
        self._count([Click(str(uuid.uuid4()), "health", 0, None)], execute)
        execute("rollback to health")

    async def _run(self, work: Callable[[Execute], Result]) -> Result:
        async with self._turn:
            try:
                return await asyncio.to_thread(self._transact, work)
            except Exception as error:
                raise explain(error) from error

    def _transact(self, work: Callable[[Execute], Result]) -> Result:
        from sqlalchemy import text

        with self._engine().connect() as connection:

            def execute(statement: str, **values: object) -> CursorResult[*tuple[Any, ...]]:
                return connection.execute(text(statement), values)

            try:
                with connection.begin():
                    return work(execute)
            except Exception as error:
                if explain(error).code != NO_TABLE:
                    raise
            with connection.begin():
                apply_schema(connection)
                return work(execute)


def _json(names: Iterable[str]) -> str:
    return json.dumps(list(names))


# --- Counting, in whichever of the two --------------------------------------------------------------------------

STORE = Sqlite() if DATABASE.sqlite else Postgres(DATABASE)

_known_counters: set[str] = set()  # of counters that exist


async def _count_clicks(clicks: list[Click]) -> dict[Click, int | Exception]:
    """Count the clicks whose keys are new; return for each its counter's value after that, or why it has none."""
    limits = {click.name: click.limit for click in clicks if click.limit is not None}
    unseen = limits.keys() - _known_counters
    existing = await STORE.make_counters(unseen, max(limits[name] for name in unseen)) if unseen else set()
    without_room = unseen - existing
    counted = [click for click in clicks if click.name not in without_room]
    counts = await STORE.count(counted) if counted else {}
    if len(_known_counters) > MAX_KNOWN_COUNTERS:
        _known_counters.clear()
    _known_counters.update(existing)
    # 0: counted, and then deleted by the owner.
    return {click: NoRoom(NO_ROOM) if click.name in without_room else counts.get(click.name, 0) for click in clicks}


async def _read_counts(names: list[str]) -> dict[str, int | Exception]:
    counts = await STORE.read(names)
    return {name: counts.get(name, 0) for name in names}


_checked = float("-inf")  # time.monotonic(), when a click could be counted


def _is_checked() -> bool:
    return time.monotonic() - _checked < HEALTH_LIFETIME


async def _check_health(checks: list[str]) -> dict[str, None]:
    global _checked
    if not _is_checked():  # by the batch just before
        await STORE.try_to_count()
        _checked = time.monotonic()
    return dict.fromkeys(checks)


# --- The public functions ---------------------------------------------------------------------------------------

UNAVAILABLE = "The database does not answer. Try again in a moment, a click with the same Idempotency-Key."
NO_ROOM = "There are as many counters as MAX_COUNTERS allows. Click one of those, or ask the owner to make room."

# A database that is read-only after a failover still answers reads: so each has a circuit breaker of its own.
_FAULTS = FaultLog("The database")
_CLICKS = Batcher(
    _count_clicks, CircuitBreaker(UNAVAILABLE, _FAULTS, writes=True), max_size=MAX_BATCH, max_waiting=25_000
)
_READS = Batcher(_read_counts, CircuitBreaker(UNAVAILABLE, _FAULTS), max_size=MAX_BATCH, max_waiting=25_000)
_HISTORIES = Batcher(STORE.days, CircuitBreaker(UNAVAILABLE, _FAULTS), max_size=MAX_HISTORIES, max_waiting=1_000)
_CHECKS = Batcher(
    _check_health, CircuitBreaker(UNAVAILABLE, _FAULTS, writes=True), max_size=MAX_BATCH, max_waiting=25_000, patience=1
)


async def click(name: str, key: str | None = None, limit: int | None = None) -> int:
    """Count a click, once per key (a UUID) within 24 hours; return the value after it.

    A counter that does not exist is made only while there are fewer than `limit`, if one is given. Raise Unavailable
    or NoRoom.
    """
    lifetime = KEY_LIFETIME if key else OWN_KEY_LIFETIME
    [count] = await _CLICKS.submit(Click(key or str(uuid.uuid4()), name, lifetime, limit))
    return count


async def counts(names: list[str]) -> list[int]:
    """Return the counts of these counters, 0 where there is none, no older than the call. Raise Unavailable."""
    return await _READS.submit(*names)


async def history(name: str, days: int) -> list[tuple[str, int]]:
    """Return the last 1 to 366 UTC days and the clicks of each, the oldest first. Raise Unavailable."""
    [(today, clicks)] = await _HISTORIES.submit(name)
    last = date.fromisoformat(today)
    wanted = [(last - timedelta(days=ago)).isoformat() for ago in reversed(range(days))]
    return [(day, clicks.get(day, 0)) for day in wanted]


async def check_health() -> None:
    """Return if a click could be counted just now; raise Unavailable."""
    if not _is_checked():
        await _CHECKS.submit("a click")
