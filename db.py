"""The database: its URL, its one connection, the schema, the counting statement and the batches.

Knows nothing of HTTP. Importing it reads the settings and starts nothing: SQLAlchemy is imported and the connection
made by the first click or read.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import re
import socket
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from urllib.parse import unquote

if TYPE_CHECKING:
    from ssl import SSLContext

    from sqlalchemy import Connection, CursorResult, Engine

HERE = Path(__file__).parent
SCHEMA = HERE / "schema.sql"

NAME = re.compile(r"[A-Za-z0-9._:/-]{1,100}")
NAME_RULE = "A name is 1 to 100 characters out of A-Z a-z 0-9 . _ - : / and nothing else."
KEPT = 24 * 3600  # seconds that a client's key is remembered
KEPT_OWN = 5 * 60  # seconds that a key is remembered that was made here, only for the retries below

# A click is answered within 8 s, whatever happens: it is tried until PATIENCE, and given up at DEADLINE even where
# an attempt hangs in a name look-up, which nothing can interrupt. A backend that waits for a lock gives up before its
# client does, so that none is left behind in the queue for the row.
PATIENCE = 5.0
DEADLINE = 7.5
SOCKET_TIMEOUT = 2.5  # to connect, and for each receive
STATEMENT_TIMEOUT = 2000  # milliseconds, locks included
BATCH = 500  # callers in one statement, which then fits into a socket's buffer, so that sending it does not wait
QUEUE = 10  # full batches that may wait: bounds the memory
PRUNE_AFTER = 4  # clicks, after which expired keys are deleted: an eighth of the time of a click alone
PROBE_PAUSE = 0.5  # seconds between two attempts while the database is away


class SettingError(ValueError):
    """A setting cannot be used; the message names it, says what to do and never holds a password."""


class Unavailable(Exception):
    """The database cannot count or read now; the message says what to do."""


class Full(Exception):
    """The click cannot be counted, now or later; the message says why."""


# --- DATABASE_URL -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Database:
    """Where the counts are: keyword arguments of pg8000.connect, or the path of a SQLite file."""

    sqlite: Path | None = None
    arguments: dict[str, str | int | None] = field(default_factory=dict, repr=False)
    sslmode: str = "prefer"
    sslrootcert: str | None = None


EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=require"
SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
POSTGRES_URL = re.compile(
    r"postgres(ql)?(\+\w+)?://"
    r"((?P<user>[^:/?#@]*)(:(?P<password>[^/?#]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/?#@,]*)(:(?P<port>\d{1,5}))?"
    r"(/(?P<database>[^/?#@]*))?(\?(?P<query>[^#]*))?"
)


# What documentation writes where a host belongs: HOST, <host>, [host], ${HOST}, your-host, db.<ref>.supabase.co,
# ep-xxx.neon.tech, the names that RFC 2606 reserves.
PLACEHOLDER_HOST = re.compile(
    r".*[][<>{}*$].*|host(name)?|.*\.\.\..*|(.*[.-])?x{3,}([.-].*)?"
    r"|(.*[.-])?your([-_].*|host|hostname|server|domain|database|db|project|instance|endpoint)(\..*)?"
    r"|(.*\.)?(example(\.(com|net|org))?|invalid)",
    re.IGNORECASE,
)
PLACEHOLDER_PASSWORD = re.compile(r"\[.*\]|<.*>|\{.*\}|\$\{.*\}|\*+|PASSWORD|(?i:your[-_ ]?(db[-_ ]?)?password)")


def decoded(text: str) -> str:
    """Undo percent-encoding; raise SettingError where unquote() would leave an escape or replace bytes."""
    with suppress(UnicodeDecodeError):
        if not re.search("%(?![0-9A-Fa-f]{2})|%00", text):
            return unquote(text, errors="strict")
    raise SettingError(
        "DATABASE_URL holds a % that begins no character. Write %25 for a % that belongs to the password"
    )


def database_from(environ: Mapping[str, str]) -> Database:
    """Read DATABASE_URL, or take the local SQLite file; raise SettingError where it cannot be used."""
    url = environ.get("DATABASE_URL", "").strip()
    local = not url or url.startswith("sqlite")
    if local and "K_SERVICE" in environ:
        raise SettingError(
            "DATABASE_URL must name a Postgres here: a local file is lost with the instance, and every click with it. "
            f"Set it to {EXAMPLE}"
        )
    if local:
        return _sqlite(url or f"sqlite:///{HERE / 'clicks.sqlite3'}")
    return _postgres(url)


def _sqlite(url: str) -> Database:
    path = Path(url.removeprefix("sqlite:///")).absolute()
    if not url.startswith("sqlite:///") or path.name in ("", ":memory:") or path.is_dir():
        raise SettingError("DATABASE_URL names no SQLite file. Set it to sqlite:///clicks.sqlite3, or leave it out")
    if not os.access(path.parent, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise SettingError(f"DATABASE_URL: {path} cannot be written. Make its folder, or name another file")
    return Database(sqlite=path)


def _postgres(url: str) -> Database:
    match = POSTGRES_URL.fullmatch(url)
    if match is None:
        raise SettingError(
            f"DATABASE_URL cannot be understood. It looks like {EXAMPLE}, one host, with @ : / ? # % in the password "
            "written as %40 %3A %2F %3F %23 %25"
        )
    # libpq and drivers know many more parameters. What is not asked for below is left out knowingly: pg8000 binds the
    # channel anyway, the timeouts are ours, a pooler refuses options.
    query = {name: decoded(value) for name, value in re.findall("([^&=]+)=([^&]*)", match["query"] or "")}
    host = query.get("host") or decoded(re.sub(r"^\[([0-9A-Fa-f:.]+)\]$", r"\1", match["host"]))
    port = query.get("port") or match["port"] or "5432"
    user = query.get("user") or decoded(match["user"] or "")
    password = query.get("password") or decoded(match["password"] or "")
    if not user or not (host or query.get("unix_sock")):
        raise SettingError(f"DATABASE_URL names no {'host' if user else 'user'}. It looks like {EXAMPLE}")
    if PLACEHOLDER_HOST.fullmatch(host):
        raise SettingError(
            f"DATABASE_URL holds a placeholder instead of the host, {host}. Put the name of the server there"
        )
    if PLACEHOLDER_PASSWORD.fullmatch(password):
        raise SettingError("DATABASE_URL holds a placeholder instead of the password. Put the password there")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise SettingError("DATABASE_URL: the port must be a number from 1 to 65535, usually 5432")
    arguments: dict[str, str | int | None] = {
        "user": user,
        "password": password,  # pg8000 fails with an AttributeError on None
        "database": query.get("dbname") or decoded(match["database"] or "") or None,
        "application_name": "click-counter",
    }
    socket = query.get("unix_sock") or (f"{host.rstrip('/')}/.s.PGSQL.{port}" if host.startswith("/") else None)
    if socket is not None:
        if len(os.fsencode(socket)) > 107:
            raise SettingError("DATABASE_URL: a socket's path can have 107 bytes at most. Shorten the instance's name")
        return Database(arguments={**arguments, "unix_sock": socket}, sslmode="disable")  # as libpq: none on a socket
    sslmode, sslrootcert = _tls_settings(query)
    return Database(None, {**arguments, "host": host, "port": int(port)}, sslmode, sslrootcert)


def _tls_settings(query: Mapping[str, str]) -> tuple[str, str | None]:
    """sslmode and sslrootcert as libpq means them; `ssl` as other drivers write it."""
    if "sslcert" in query or "sslkey" in query:
        raise SettingError("DATABASE_URL: sslcert and sslkey are not supported. Use a user with a password")
    mode = query.get("sslmode") or query.get("ssl") or "prefer"
    mode = {"true": "require", "1": "require", "false": "disable", "0": "disable"}.get(mode, mode)
    if mode not in SSLMODES:
        raise SettingError(f"DATABASE_URL: sslmode must be one of {', '.join(SSLMODES)}")
    rootcert = query.get("sslrootcert")
    if rootcert == "system":
        return "verify-full", None
    if rootcert is not None and not Path(rootcert).is_file():
        raise SettingError(f"DATABASE_URL: sslrootcert names {rootcert}, which is no file here. Put it there")
    if rootcert is not None and mode == "require":
        mode = "verify-ca"  # https://www.postgresql.org/docs/current/libpq-ssl.html#LIBQ-SSL-CERTIFICATES
    return mode, rootcert


def _ssl_context(database: Database) -> SSLContext | bool | None:
    """What pg8000 takes for an sslmode: None uses TLS where the server offers it, a context insists on it."""
    if database.sslmode == "disable":
        return False
    if not database.sslmode.startswith(("require", "verify")):
        return None
    import ssl

    if database.sslmode == "require":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # pg8000's own one reads the authorities first, for 35 ms
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    context = ssl.create_default_context(cafile=database.sslrootcert)  # without one: the system's authorities
    context.check_hostname = database.sslmode == "verify-full"
    return context


try:
    DATABASE = database_from(os.environ)
except SettingError as error:
    sys.exit(str(error))


# --- The one connection -----------------------------------------------------------------------------------------

Item = TypeVar("Item")
Value = TypeVar("Value")
Run = Callable[..., "CursorResult[*tuple[Any, ...]]"]  # a connection's exec_driver_sql
Result = TypeVar("Result")


class Fault(Exception):
    """An attempt failed. `code` is the SQLSTATE or the error's class, `passing` whether another one may succeed."""

    def __init__(self, code: str, message: str, passing: bool) -> None:
        super().__init__(message)
        self.code = code
        self.passing = passing


# https://www.postgresql.org/docs/current/errcodes-appendix.html: connection; two instances that make the tables at once
# and collide in the catalogue; read-only after a failover; rolled back; resources; lock timeout; cancelled or shutting
# down; system; internal (poolers).
PASSING = ("08", "23505", "42P07", "42710", "25006", "25P", "40", "53", "55P03", "57", "58", "XX")
NO_TABLE = "42P01"
OUT_OF_RANGE = ("22003", "23514", "IntegrityError")  # Postgres, either way; SQLite
LASTING = (NO_TABLE, *OUT_OF_RANGE, "SSLCertVerificationError")


def _fault(error: Exception) -> Fault:
    """Translate what SQLAlchemy, a driver or a socket raised; nothing of the statement gets into the message."""
    cause = getattr(error, "orig", None) or error
    fields = cause.args[0] if cause.args else ""
    if isinstance(fields, dict):  # the ErrorResponse of Postgres, as pg8000 gives it
        return Fault(fields["C"], fields["M"], fields["C"].startswith(PASSING))
    code = NO_TABLE if str(fields).startswith("no such table") else type(cause).__name__
    return Fault(code, str(fields), code not in LASTING)


@cache
def _engine() -> Engine:
    gc.disable()  # collecting while SQLAlchemy is imported makes that a fifth slower
    try:
        return _make_engine()
    finally:
        gc.enable()


def _make_engine() -> Engine:
    from sqlalchemy import URL, create_engine
    from sqlalchemy.pool import NullPool

    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # tracebacks where a broken connection is closed
    if DATABASE.sqlite is not None:
        url = URL.create("sqlite", database=str(DATABASE.sqlite))
        arguments: dict[str, object] = {"timeout": SOCKET_TIMEOUT}
    else:
        url = URL.create("postgresql+pg8000")
        arguments = {**DATABASE.arguments, "ssl_context": _ssl_context(DATABASE), "timeout": SOCKET_TIMEOUT}
    return create_engine(url, connect_args=arguments, isolation_level="AUTOCOMMIT", poolclass=NullPool)


_connections: list[Connection] = []  # none or one


async def _attempt(work: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Do work on the one connection, made where there is none and dropped after a failure; raise Fault."""
    async with _turn():
        try:
            if not _connections:
                _connections.append(await _in_thread(_connect))
            try:
                return await work(_connections[0])
            except Exception as error:
                if _fault(error).code != NO_TABLE:
                    raise
                await _make_tables(_connections[0])
                return await work(_connections[0])
        except BaseException as error:  # whatever it was, the connection may be out of step with the server
            if _connections:
                _connections.pop().invalidate()
            if isinstance(error, Exception):
                raise _fault(error) from error
            raise


@cache
def _turn() -> asyncio.Lock:
    return asyncio.Lock()


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")  # made after the fork, by the first use


async def _in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    return await asyncio.get_running_loop().run_in_executor(_thread(), function, *arguments)


def _connect() -> Connection:
    return _engine().connect()


async def _make_tables(connection: Connection) -> None:
    """Make the tables that are missing."""
    schema = SCHEMA.read_text()
    if DATABASE.sqlite is not None:
        await _in_thread(connection.connection.driver_connection.executescript, schema)  # type: ignore[union-attr]
    else:
        await _in_thread(connection.exec_driver_sql, schema)


# --- What the owner's tool uses ---------------------------------------------------------------------------------


class DatabaseError(Exception):
    """The database failed. `code` is the SQLSTATE or the name of an error's class; the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# https://www.postgresql.org/docs/current/errcodes-appendix.html
WHAT_TO_DO = {
    "08P01": "The function and counters.py need transactions: use the pooler's transaction mode or no pooler",
    "25006": "Name the primary server in DATABASE_URL, or try again after the failover",
    "25P03": "This program was stopped for too long. Nothing was changed: try again",
    "28000": "Check user, database and sslmode in DATABASE_URL; most servers want sslmode=require",
    "28P01": "Check the user and the password in DATABASE_URL",
    "3D000": "Check the last part of DATABASE_URL, or make the database",
    "42501": "Grant it to the user in DATABASE_URL, or name the owner of the tables there",
    "53300": "Try again, or lower MAX_INSTANCES",
    "55P03": "Something else holds the lock. Nothing was changed: try again",
    "57P03": "Try again in a moment",
}


def explain(error: Exception) -> DatabaseError:
    """Translate what SQLAlchemy, pg8000, sqlite3 or a socket raised: name the cause, and what to do about it."""
    causes = _causes(error)
    for cause in causes:
        if cause.args and isinstance(cause.args[0], dict):  # the server's own words, as pg8000 gives them
            code, message = cause.args[0]["C"], cause.args[0]["M"]
            return DatabaseError(code, f"{message}. {WHAT_TO_DO.get(code, '')}".rstrip(". "))
    cause = causes[-1]  # pg8000 says "network error" or "communication error", and why is behind that
    if DATABASE.sqlite is None:
        return DatabaseError(type(cause).__name__, _explain_tls(cause) or _explain_socket(cause))
    code = NO_TABLE if str(cause).startswith("no such table") else type(cause).__name__
    return DatabaseError(code, f"{DATABASE.sqlite}: {cause}")


def _causes(error: BaseException | None) -> list[BaseException]:
    return [error, *_causes(error.__cause__ or error.__context__)] if error else []


def _server() -> str:
    socket_path = DATABASE.arguments.get("unix_sock")
    return f"the socket {socket_path}" if socket_path else "{host}:{port}".format(**DATABASE.arguments)


def _explain_tls(cause: BaseException) -> str | None:
    import ssl

    asked = f"sslmode={DATABASE.sslmode} in DATABASE_URL"
    named = ", for this host" if DATABASE.sslmode == "verify-full" else ""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {_server()} does not verify: {cause.verify_message.rstrip('.')}. {asked} wants one "
            f"that {DATABASE.sslrootcert or 'the system'} trusts{named}. "
            "Name the provider's authority in sslrootcert=FILE; sslmode=require encrypts without verifying"
        )
    if str(cause) == "Server refuses SSL":
        return f"{_server()} offers no TLS, and {asked} insists on it. Nothing is encrypted with sslmode=disable"
    if isinstance(cause, ssl.SSLError):
        return f"{_server()} does not speak TLS as expected: {cause.reason or cause}. Check the port, and {asked}"
    return None


def _explain_socket(cause: BaseException) -> str:
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    if isinstance(cause, socket.gaierror):
        return f"the host {DATABASE.arguments['host']} in DATABASE_URL is not found: {reason}. Check how it is written"
    if isinstance(cause, TimeoutError):
        return f"{_server()} does not answer in time. Check it in DATABASE_URL, and whom its firewall lets in"
    if "unix_sock" in DATABASE.arguments and isinstance(cause, OSError):
        return (
            f"nothing listens at {_server()}: {reason}. Check the path in DATABASE_URL; "
            "for Cloud SQL's, elsewhere than on Google, start cloud-sql-proxy --unix-socket /cloudsql"
        )
    if isinstance(cause, ConnectionRefusedError):
        return f"nothing listens at {_server()}. Check host and port in DATABASE_URL, and that the server runs"
    return f"the connection to {_server()} broke: {reason}. Check that a Postgres is there, and try again"


def engine(timeout: float = SOCKET_TIMEOUT) -> Engine:
    """Return an engine without a pool, whose begin() is one transaction of the database."""
    from sqlalchemy import URL, create_engine, event
    from sqlalchemy.pool import NullPool

    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # tracebacks where a broken connection is closed
    if DATABASE.sqlite is None:
        return create_engine("postgresql+pg8000://", creator=partial(_connect_pg8000, timeout), poolclass=NullPool)
    url = URL.create("sqlite", database=str(DATABASE.sqlite))
    made = create_engine(url, connect_args={"timeout": timeout, "isolation_level": None}, poolclass=NullPool)
    # A transaction that begins with a read and then writes fails beside another one that does the same.
    event.listen(made, "begin", lambda connection: connection.exec_driver_sql("begin immediate"))
    return made


def _connect_pg8000(timeout: float) -> object:
    return _connection_class()(**DATABASE.arguments, ssl_context=_ssl_context(DATABASE), timeout=timeout)


@cache
def _connection_class() -> type[Any]:
    import pg8000.dbapi

    class Connection(pg8000.dbapi.Connection):  # type: ignore[misc]
        def handle_ERROR_RESPONSE(self, data: bytes, context: Any) -> None:  # noqa: N802 - the name is pg8000's
            """Raise a fatal error at once: nothing follows it, and pg8000 would say "network error" instead."""
            super().handle_ERROR_RESPONSE(data, context)
            fields = context.error.args[0]
            if fields.get("V", fields["S"]) in ("FATAL", "PANIC"):
                raise context.error

    return Connection


def apply_schema(connection: Connection) -> None:
    """Make the tables that are missing, within the connection's transaction."""
    if DATABASE.sqlite is None:
        connection.exec_driver_sql(SCHEMA.read_text())
        return
    import sqlite3

    statement = ""
    for line in SCHEMA.read_text().splitlines(keepends=True):  # its executescript() would commit first
        statement += line
        if sqlite3.complete_statement(statement):
            connection.exec_driver_sql(statement)
            statement = ""


# --- The statements ---------------------------------------------------------------------------------------------


class Click(NamedTuple):
    """One click to count: its key, its counter, for how many seconds the key must be remembered.

    And at how many counters no click makes another one; None: it always may.
    """

    key: str
    name: str
    kept: int
    limit: int | None


# What stands in place of a counter's value, and why.
AT_LIMIT = -1
NO_ROOM = -2
WHY_FULL = {
    AT_LIMIT: "This counter has reached the largest number there is. Click another one.",
    NO_ROOM: "There are as many counters as MAX_COUNTERS allows. Click one of those, or ask the owner to raise it.",
}


async def count_clicks(clicks: list[Click]) -> dict[str, int]:
    """Count the clicks whose keys are new; return every counter's value after that, or why it has none."""
    clicks.sort()  # two instances that take the locks of the keys in the same order never deadlock
    try:
        return await _ask(_count_postgres, _count_sqlite, clicks)
    except Fault as fault:
        if fault.code not in OUT_OF_RANGE:
            raise
    names = {click.name for click in clicks}
    if len(names) == 1:
        return dict.fromkeys(names, AT_LIMIT)
    values: dict[str, int] = {}
    for name in names:
        values |= await count_clicks([click for click in clicks if click.name == name])
    return values


async def read_values(names: list[str]) -> dict[str, int]:
    """Return the values of the counters of these names that there are."""
    return await _ask(partial(_ask_postgres, READ_POSTGRES), partial(_ask_sqlite, READ_SQLITE), names)


async def read_days(names: list[str]) -> dict[str, str]:
    """Return the clicks per day of these counters like `2026-11-21 3,2026-11-22 4`, and today's date under ''."""
    return await _ask(partial(_ask_postgres, DAYS_POSTGRES), partial(_ask_sqlite, DAYS_SQLITE), names)


async def _ask(
    postgres: Callable[[list[Item], Connection], Awaitable[dict[str, Value]]],
    sqlite: Callable[[list[Item], Run], dict[str, Value]],
    items: list[Item],
) -> dict[str, Value]:
    if DATABASE.sqlite is None:
        return await _attempt(partial(postgres, items))
    return await _attempt(lambda connection: _in_thread(sqlite, items, connection.exec_driver_sql))


# One flight of the simple protocol: one transaction, and the only form that is also right behind a transaction-mode
# pooler. Counters are sorted for the same reason as keys.
LIMIT_POSTGRES = f"set local statement_timeout = {STATEMENT_TIMEOUT};"
NOW_POSTGRES = "extract(epoch from now())::bigint"
PRUNE_POSTGRES = f"""
delete from click where ctid = any (array(
    select ctid from click where expires < {NOW_POSTGRES} order by expires limit {{prune}} for update skip locked));"""
COUNT_POSTGRES = """
with {given}added as (
    insert into click (key, name, expires)
    {rows}
    on conflict do nothing
    returning name{summed}),
today as (
    insert into daily (name, day, value)
    select name, {today}, {clicks}
    on conflict (name, day) do update set value = daily.value + excluded.value)"""
COUNTED_POSTGRES = """
insert into counter (name, value)
select name, {clicks}
on conflict (name) do update set value = counter.value + excluded.value
returning name, value"""
SUMMED_POSTGRES = """),
clicked as (
    select name, count(*) as clicks from added group by name"""
TODAY_POSTGRES = "to_char(now() at time zone 'UTC', 'YYYY-MM-DD')"
READ_POSTGRES = "select name, value from counter where name = any ({names}::text[])"
DAYS_POSTGRES = f"""
select name, string_agg(day || ' ' || value, ',') from daily
where name = any ({{names}}::text[]) and day > to_char(now() at time zone 'UTC' - interval '366 days', 'YYYY-MM-DD')
group by name union all select '', {TODAY_POSTGRES}"""

# Counters that only a prefix permits are made where there is room. The statement leaves out the clicks that may not
# make theirs, and says so itself: a look afterwards would find the counter that another instance has made meanwhile.
GIVEN_POSTGRES = """c as materialized (
    select key, name, kept, exists (select from counter where counter.name = c.name) or name = any ({makes})
        or exists (select from click where click.key = c.key and click.name = c.name) as may
    from {source}),
"""
LEFT_OUT_POSTGRES = """, counted as ({counted})
select name, value from counted union all select distinct name, {no_room} from c where not may"""
# The room is counted in a statement of its own after the lock is taken: the lock's own statement sees the time before.
LOCK_POSTGRES = "do $$ begin perform pg_advisory_xact_lock(20261122); end $$;"
ROOM_POSTGRES = """array(
    select n from unnest({names}::text[]) as n where not exists (select from counter where counter.name = n)
    order by n limit (select greatest({limit} - count(*), 0) from counter))"""
CROWD_POSTGRES = "select '', count(*) from counter union all "


async def _count_postgres(clicks: list[Click], connection: Connection) -> dict[str, int]:
    limits = {click.name: click.limit for click in clicks if click.limit is not None}
    names = {click.name for click in clicks}
    makes = f"{_array(names - limits.keys())}::text[]" if limits else None
    values = await _flight(LIMIT_POSTGRES + _counting(clicks, makes), connection)
    if fresh := [name for name, value in values.items() if value == NO_ROOM]:
        seen = await _ask_postgres(CROWD_POSTGRES + READ_POSTGRES, fresh, connection)
        limit = max(limits[name] for name in fresh)
        if len(seen) > 1 or seen[""] < limit:  # one of them has been made meanwhile, or there is room
            clicks = [click for click in clicks if click.name in fresh]
            makes = ROOM_POSTGRES.format(names=_array(fresh), limit=limit)
            made = await _flight(LIMIT_POSTGRES + LOCK_POSTGRES + _counting(clicks, makes), connection)
            values = {name: value for name, value in values.items() if value != NO_ROOM} | made
    # A counter that got nothing new is read afterwards, and that seldom happens. Read in the statement itself, in the
    # snapshot from before, it would lack the click that another instance was just counting under the same key.
    repeated = sorted(names - values.keys())
    return values | await _ask_postgres(READ_POSTGRES, repeated, connection) if repeated else values


def _counting(clicks: list[Click], makes: str | None) -> str:
    """The statement for these clicks, all of which may make their counters, or only those that `makes` names."""
    alone = len(clicks) == 1  # nothing to sum and to sort: a tenth of the time of a click alone
    summed, clicked = ("", "1 from added") if alone else (SUMMED_POSTGRES, "clicks from clicked order by name")
    given = ""
    if alone and not makes:
        [(key, name, kept, _)] = clicks
        rows = f"values ({_literal(key)}, {_literal(name)}, {NOW_POSTGRES} + {kept})"
    else:
        keys, names, kepts = (_array(column) for column in list(zip(*clicks, strict=True))[:3])
        source = f"unnest({keys}::text[], {names}::text[], {kepts}::int[]) as c (key, name, kept)"
        given = GIVEN_POSTGRES.format(source=source, makes=makes) if makes else ""
        rows = f"select key, name, {NOW_POSTGRES} + kept from {'c where may' if makes else source}"
    counted = COUNTED_POSTGRES.format(clicks=clicked)
    prune = _prune(clicks)
    return (
        (PRUNE_POSTGRES.format(prune=prune) if prune else "")
        + COUNT_POSTGRES.format(given=given, rows=rows, summed=summed, today=TODAY_POSTGRES, clicks=clicked)
        + (LEFT_OUT_POSTGRES.format(counted=counted, no_room=NO_ROOM) if makes else counted)
    )


async def _ask_postgres(statement: str, names: list[str], connection: Connection) -> dict[str, Any]:
    return await _flight(LIMIT_POSTGRES + statement.format(names=_array(names)), connection)


async def _flight(statement: str, connection: Connection) -> dict[str, Any]:
    """Do what pg8000's execute_simple does, but wait for the answer in the event loop.

    A thread that waits there fights for the interpreter's lock with the one that answers requests: it costs a third
    of the throughput at 32 clients, and twice the CPU for a click alone. The answer comes in one piece (up to 8 kB,
    some hundred counters), so that reading it does not wait.
    """
    from pg8000.core import Context

    driver: Any = connection.connection.driver_connection
    context = Context(statement)
    driver.send_QUERY(statement)
    driver._sock.flush()
    await _readable(driver._usock.fileno())
    driver.handle_messages(context)
    return dict(context.rows)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        async with asyncio.timeout(SOCKET_TIMEOUT):
            await ready.wait()
    finally:
        loop.remove_reader(descriptor)


TODAY_SQLITE = "date('now')"
READ_SQLITE = "select name, value from counter where name in (select value from json_each(?))"
DAYS_SQLITE = f"""
select name, group_concat(day || ' ' || value) from daily
where name in (select value from json_each(?)) and day > date('now', '-366 days')
group by name union all select '', {TODAY_SQLITE}"""


def _ask_sqlite(statement: str, names: list[str], run: Run) -> dict[str, Any]:
    return dict(run(statement, (json.dumps(names),)).all())


def _count_sqlite(clicks: list[Click], run: Run) -> dict[str, int]:
    now = "cast(strftime('%s', 'now') as integer)"
    run("begin immediate")
    try:
        if prune := _prune(clicks):
            run(
                "delete from click where rowid in "
                f"(select rowid from click where expires < {now} order by expires limit ?)",
                (prune,),
            )
        refused = _refused_sqlite(clicks, run)
        clicks = [click for click in clicks if click.name not in refused]
        added = run(
            "insert into click (key, name, expires) select json_extract(value, '$[0]'), json_extract(value, '$[1]'), "
            f"{now} + json_extract(value, '$[2]') from json_each(?) where true on conflict do nothing returning name",
            (json.dumps(clicks),),
        ).scalars()
        for name, clicked in Counter(added).items():
            run(
                f"insert into daily (name, day, value) values (?, {TODAY_SQLITE}, ?) "
                "on conflict (name, day) do update set value = value + excluded.value",
                (name, clicked),
            )
            run(
                "insert into counter (name, value) values (?, ?) "
                "on conflict (name) do update set value = value + excluded.value",
                (name, clicked),
            )
        values = _ask_sqlite(READ_SQLITE, [click.name for click in clicks], run)
    except BaseException:
        run("rollback")
        raise
    run("commit")
    return values | dict.fromkeys(refused, NO_ROOM)


def _refused_sqlite(clicks: list[Click], run: Run) -> list[str]:
    limits = [click.limit for click in clicks if click.limit is not None]
    if not limits:
        return []
    fresh = run(
        "select distinct json_extract(value, '$[1]') as fresh from json_each(?) as c "
        "where json_extract(value, '$[3]') is not null "
        "and not exists (select 1 from counter where name = json_extract(c.value, '$[1]')) and not exists "
        "(select 1 from click where key = json_extract(c.value, '$[0]') and name = json_extract(c.value, '$[1]')) "
        "order by fresh",
        (json.dumps(clicks),),
    ).scalars()
    there: int = run("select count(*) from counter").scalar_one()
    return list(fresh)[max(max(limits) - there, 0) :]


_unpruned = PRUNE_AFTER


def _prune(clicks: list[Click]) -> int:
    """How many expired keys to delete now: more than twice as many as have come, but not with each single click."""
    global _unpruned
    _unpruned += len(clicks)
    if _unpruned < PRUNE_AFTER:
        return 0
    prune, _unpruned = 2 * _unpruned + 40, 0
    return prune


def _array(items: Iterable[str | int]) -> str:
    quoted = ",".join(f'"{item}"' for item in items)  # unquoted, a counter called Null would be no counter
    return _literal(f"{{{quoted}}}")


def _literal(text: str) -> str:
    from pg8000.native import literal

    return str(literal(text))


# --- Batches ----------------------------------------------------------------------------------------------------


class Batch(Generic[Item, Value]):
    """What waits for one statement together, since when, and the values that all of it will get."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.items: set[Item] = set()
        self.callers = 0
        self.born = loop.time()
        self.outcome: asyncio.Future[dict[str, Value]] = loop.create_future()
        self.timer = loop.call_at(self.born + DEADLINE, self.fail)

    def succeed(self, values: dict[str, Value]) -> None:
        self.timer.cancel()
        if not self.outcome.done():
            self.outcome.set_result(values)

    def fail(self) -> None:
        self.timer.cancel()
        if not self.outcome.done():
            self.outcome.set_exception(Unavailable(AWAY))


class Batches(Generic[Item, Value]):
    """Items that arrive while a statement is under way wait, and then go together in the next one."""

    def __init__(self, what: str, work: Callable[[list[Item]], Awaitable[dict[str, Value]]], size: int) -> None:
        self.work = work
        self.size = size
        self.outage = Outage(what)
        self.waiting: deque[Batch[Item, Value]] = deque()
        self.task: asyncio.Task[None] | None = None

    async def ask(self, *items: Item) -> dict[str, Value]:
        """Return the counters' values after the batch that the items went with; raise Unavailable."""
        self.outage.refuse()
        batch = self.waiting[-1] if self.waiting else None
        if batch is None or batch.callers >= self.size or batch.outcome.done():  # given up before its turn came
            if len(self.waiting) >= QUEUE:
                raise Unavailable("Too many are waiting. Send it again in a moment.")
            batch = Batch()
            self.waiting.append(batch)
        batch.callers += 1
        batch.items.update(items)
        if self.task is None:
            self.task = asyncio.create_task(self._work_off())
        return await asyncio.shield(batch.outcome)  # it is shared: one caller that is cancelled must not cancel it

    async def _work_off(self) -> None:
        try:
            while self.waiting:
                batch = self.waiting.popleft()
                try:
                    if not batch.outcome.done():
                        await self._settle(batch)
                finally:
                    batch.fail()  # where it has no outcome by then, which nobody foresaw
        finally:
            self.task = None

    async def _settle(self, batch: Batch[Item, Value]) -> None:
        """Try until the outcome is known: the keys make it safe to send a batch again that may have been counted."""
        loop = asyncio.get_running_loop()
        pause = 0.02
        while True:
            try:
                values = await self.work(list(batch.items))
            except Fault as fault:
                pause = min(2 * pause, 1.0) * random.uniform(0.75, 1.25)
                age = loop.time() - batch.born
                if not self.outage.worth_waiting(fault, age):
                    return
            else:
                self.outage.over()
                _freeze()
                batch.succeed(values)
                return
            await asyncio.sleep(min(pause, PATIENCE - age))  # so that the last attempt is made at the very end


class Outage:
    """Whether the database is away. Then all but one probing request are refused at once instead of waiting, too.

    Clicks and reads have one each: a database that is read-only after a failover still answers reads.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.since: float | None = None  # the first failed attempt; time.monotonic()
        self.given_up = False
        self.next_probe = 0.0

    def refuse(self) -> None:
        """Raise Unavailable while the database is away, but for one request at a time that finds out if it still is."""
        if self.given_up:
            if time.monotonic() < self.next_probe:
                raise Unavailable(AWAY)
            self.next_probe = time.monotonic() + DEADLINE

    def worth_waiting(self, fault: Fault, age: float) -> bool:
        """Note a failed attempt; tell whether a batch that is `age` seconds old should try again."""
        if self.since is None:
            self.since = time.monotonic()
            _log("WARNING", f"The database failed; {self.what} are retried", sqlstate=fault.code, reason=str(fault))
        if fault.passing and not self.given_up and age < PATIENCE:
            return True
        if not self.given_up:
            _log("ERROR", f"The database is away; {self.what} are refused", sqlstate=fault.code, reason=str(fault))
        self.given_up = True
        self.next_probe = time.monotonic() + PROBE_PAUSE
        return False

    def over(self) -> None:
        """Note that an attempt succeeded."""
        if self.since is not None:
            _log("NOTICE", f"The database is back; {self.what} go on", seconds=round(time.monotonic() - self.since, 1))
        self.since, self.given_up = None, False


AWAY = "The database does not answer. Try again in a moment, a click with the same Idempotency-Key."
CLICKS = Batches("clicks", count_clicks, BATCH)
READS = Batches("reads", read_values, BATCH)
HISTORIES = Batches("histories", read_days, BATCH // 10)


@cache
def _freeze() -> None:
    # Everything is imported by now; full collections over it cost 40 ms each. Clicks that wait are alive: looking for
    # garbage every 700 objects mostly finds them, and costs a tenth of the throughput at 32 clients, a fifth at 256.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _log(severity: str, message: str, **more: str | float) -> None:
    """One line as Cloud Logging reads it: https://cloud.google.com/logging/docs/structured-logging."""
    print(json.dumps({"severity": severity, "message": message, **more}), file=sys.stderr, flush=True)


async def click(name: str, key: str | None = None, limit: int | None = None) -> int:
    """Count a click, once per key (a UUID) within 24 hours; return the value after it. Raise Unavailable or Full.

    A counter that is not there yet is made only while there are fewer than `limit`, if one is given.
    """
    own = key is None
    values = await CLICKS.ask(Click(key or str(uuid.uuid4()), name, KEPT_OWN if own else KEPT, limit))
    value = values.get(name, 0)  # 0: the key was counted before the counter was deleted
    if value < 0:
        raise Full(WHY_FULL[value])
    return value


async def values(names: list[str]) -> list[int]:
    """Return the counts of these counters, 0 where there is none, no older than the call. Raise Unavailable."""
    found = await READS.ask(*names)
    return [found.get(name, 0) for name in names]


async def history(name: str, days: int) -> list[tuple[str, int]]:
    """Return the last 1 to 366 UTC days and the clicks of each, the oldest first. Raise Unavailable."""
    found = await HISTORIES.ask(name)
    clicked = dict(day.split(" ") for day in found.get(name, "").split(",") if day)
    today = date.fromisoformat(found[""])
    wanted = [(today - timedelta(days=ago)).isoformat() for ago in reversed(range(days))]
    return [(day, int(clicked.get(day, 0))) for day in wanted]
