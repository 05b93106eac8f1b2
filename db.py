"""The counts: DATABASE_URL, the connection and every statement. Knows nothing of HTTP.

Importing it reads DATABASE_URL and starts nothing: the driver is imported and the connection made by the first click or
read.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import re
import ssl
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote

from batch import AttemptError as AttemptError
from batch import Batcher, CircuitBreaker, FaultLog
from batch import Unavailable as Unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult, Engine

Result = TypeVar("Result")
Execute = Callable[..., "CursorResult[*tuple[Any, ...]]"]  # a statement and its parameters

HERE = Path(__file__).parent
SCHEMA = HERE / "schema.sql"

NAME = re.compile(r"[A-Za-z0-9._:/-]{1,100}")
NAME_RULE = "A name is 1 to 100 characters out of A-Z a-z 0-9 . _ - : / and nothing else."

KEPT = 24 * 3600  # seconds that a client's key is remembered
KEPT_OWN = 5 * 60  # seconds that a key is remembered that was made here, only for the retries

CONNECT_TIMEOUT = 2.5  # seconds
QUERY_TIMEOUT = 2.5  # seconds, for all of a reply
STATEMENT_TIMEOUT = 2000  # ms, locks included: a backend gives up before its client does, and leaves the lock's queue

BATCH = 500  # clicks or names in one message, which then stays under 100 kB, so that sending it does not wait
HISTORIES = 50  # in one message: a reply has up to 366 days of each
PRUNED = 1000  # expired keys that one batch deletes at most, in 4 ms
PRUNE_AFTER = 20  # clicks without a backlog: looking for expired keys takes an eighth of the time of a click alone
MOST_NAMES_SEEN = 100_000
MOST_DAYS = 366  # in a history


# --- Where the database is --------------------------------------------------------------------------------------


class SettingError(ValueError):
    """A setting cannot be used; the message names it, says what to do and never holds a password."""


@dataclass(frozen=True)
class Database:
    """Where the counts are: the path of a SQLite file, or pg8000's keyword arguments and libpq's TLS settings."""

    sqlite: Path | None = None
    arguments: dict[str, str | int | None] = field(default_factory=dict, repr=False)
    sslmode: str = "prefer"
    sslrootcert: str | None = None

    @property
    def place(self) -> str:
        """Where that is, without the password."""
        if self.sqlite:
            return str(self.sqlite)
        if "unix_sock" in self.arguments:
            return f"Postgres at the socket {self.arguments['unix_sock']}"
        return f"Postgres at {self.arguments['host']}:{self.arguments['port']}"


EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=require"
NOT_UNDERSTOOD = (
    f"DATABASE_URL cannot be understood. It looks like {EXAMPLE}, one host, with @ : / ? # % in the password "
    "written as %40 %3A %2F %3F %23 %25"
)
PLACEHOLDERS = {
    "host": re.compile(
        r"(?i:.*[][<>{}*$].*|host(name)?|.*\.\.\..*|(.*[.-])?x{3,}([.-].*)?"
        r"|(.*[.-])?your([-_].*|host|hostname|server|domain|database|db|project|instance|endpoint)(\..*)?)"
    ),
    "user": re.compile(r"\[.*\]|<.*>|\{.*\}|USER(NAME)?|(?i:your[-_ ].*)"),
    "password": re.compile(r"\[.*\]|<.*>|\$?\{.*\}|\*+|PASSWORD|(?i:your[-_ ]?(db[-_ ]?)?password)"),
}
SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
POSTGRES_URL = re.compile(
    r"""
    postgres(ql)?(\+\w+)?://                          # the driver's name, as SQLAlchemy writes it, does not matter
    ((?P<user>[^:/?\#@]*)(:(?P<password>[^/?\#]*))?@)?
    (?P<host>\[[0-9A-Fa-f:.]+\]|[^:/?\#@,\s]*)        # an address in brackets, or a name; one host only
    (:(?P<port>\d{1,5}))?
    (/(?P<database>[^/?\#@]*))?
    (\?(?P<query>[^\#]*))?
    """,
    re.VERBOSE,
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
    return _sqlite(url) if local else _postgres(url)


def _sqlite(url: str) -> Database:
    path = Path(url.removeprefix("sqlite:///")).absolute() if url else HERE / "clicks.sqlite3"
    if url and (not url.startswith("sqlite:///") or path.name in ("", ":memory:")):
        raise SettingError("DATABASE_URL names no SQLite file. Set it to sqlite:///clicks.sqlite3, or leave it out")
    example = "with DATABASE_URL=sqlite:////path/clicks.sqlite3"
    if not os.access(path.parent, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        remedy = "Make its folder, and make both writable, or keep the counts elsewhere"
        raise SettingError(f"DATABASE_URL: {path} cannot be written. {remedy} {example}")
    if path.is_dir():
        raise SettingError(f"DATABASE_URL: {path} is a folder. Keep the counts in a file {example}")
    return Database(sqlite=path)


def _postgres(url: str) -> Database:
    match = POSTGRES_URL.fullmatch(url)
    if match is None:
        raise SettingError(NOT_UNDERSTOOD)
    # libpq and drivers know many more parameters. What is not asked for below is left out knowingly: pg8000 binds the
    # channel anyway, the timeouts are ours, a pooler refuses options.
    query = {name: _decoded(text) for name, text in re.findall("([^&=]+)=([^&]*)", match["query"] or "")}
    host = query.get("host") or re.sub(r"\[([0-9A-Fa-f:.]+)\]", r"\1", _decoded(match["host"]))
    port = query.get("port") or match["port"] or "5432"
    user = query.get("user") or _decoded(match["user"])
    password = query.get("password") or _decoded(match["password"])
    _check(user, password, host or query.get("unix_sock", ""), port)
    arguments: dict[str, str | int | None] = {
        "user": user,
        "password": password,  # pg8000 fails with an AttributeError on None
        "database": query.get("dbname") or _decoded(match["database"]) or None,
        "application_name": "click-counter",
    }
    socket = query.get("unix_sock") or (f"{host.rstrip('/')}/.s.PGSQL.{port}" if host.startswith("/") else None)
    if socket is None:
        sslmode, sslrootcert = _tls_settings(query)
        return Database(None, {**arguments, "host": host, "port": int(port)}, sslmode, sslrootcert)
    if len(os.fsencode(socket)) > 107:
        raise SettingError("DATABASE_URL: a socket's path can have 107 bytes at most. Shorten the instance's name")
    return Database(arguments={**arguments, "unix_sock": socket}, sslmode="disable")  # as libpq: none on a socket


def _decoded(text: str | None) -> str:
    with suppress(UnicodeDecodeError):
        if not re.search("%(?![0-9A-Fa-f]{2})|%00", text or ""):
            return unquote(text or "", errors="strict")
    raise SettingError(
        "DATABASE_URL holds a % that begins no character. Write %25 for a % that belongs to the password"
    )


def _check(user: str, password: str, host: str, port: str) -> None:
    if not user or not host:
        raise SettingError(f"DATABASE_URL names no {'host' if user else 'user'}. It looks like {EXAMPLE}")
    for part, given in {"user": user, "password": password, "host": host}.items():
        if PLACEHOLDERS[part].fullmatch(given):
            raise SettingError(f"DATABASE_URL holds a placeholder instead of the {part}. Put the {part} there")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise SettingError("DATABASE_URL: the port must be a number from 1 to 65535, usually 5432")


def _tls_settings(query: Mapping[str, str]) -> tuple[str, str | None]:
    """Return sslmode and sslrootcert as libpq means them; `ssl` is how other drivers write it."""
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


def _ssl_context(database: Database) -> ssl.SSLContext | bool | None:
    """Return what pg8000 takes for an sslmode: None uses TLS where the server offers it, a context insists on it."""
    if database.sslmode == "disable":
        return False
    if not database.sslmode.startswith(("require", "verify")):
        return None
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


def engine(timeout: float = CONNECT_TIMEOUT) -> Engine:
    """Return a SQLAlchemy engine for all but the hot path, whose `begin()` is right on both databases.

    `timeout` is in seconds: on Postgres to connect and for each receive, on SQLite to wait for a lock.
    """
    import logging

    from sqlalchemy import URL, create_engine, event
    from sqlalchemy.pool import NullPool

    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # tracebacks where a broken connection is closed
    if DATABASE.sqlite is None:
        arguments = {**DATABASE.arguments, "ssl_context": _ssl_context(DATABASE), "timeout": timeout}
        made = create_engine("postgresql+pg8000://", connect_args=arguments, poolclass=NullPool)
        event.listen(made, "connect", lambda driver, _: _raise_fatal_errors(driver), insert=True)
        return made
    # https://docs.sqlalchemy.org/en/20/dialects/sqlite.html: the driver begins no transaction, so that all of them can
    # begin as writers; two that read first and write then would deadlock.
    url = URL.create("sqlite", database=str(DATABASE.sqlite))
    made = create_engine(url, connect_args={"timeout": timeout, "isolation_level": None}, poolclass=NullPool)
    event.listen(made, "begin", lambda connection: connection.exec_driver_sql("begin immediate"))
    return made


def apply_schema(connection: Connection) -> None:
    """Make the tables that are missing."""
    schema = SCHEMA.read_text()
    # SQLite's driver takes one statement at a time.
    for statement in [schema] if DATABASE.sqlite is None else re.sub("--.*", "", schema).split(";")[:-1]:
        connection.exec_driver_sql(statement)


# --- What can go wrong ------------------------------------------------------------------------------------------


class AtLimit(Exception):
    """A click cannot be counted: its counter has reached the largest number there is."""


class NoRoom(Exception):
    """A click cannot be counted: there are as many counters as there may be, until the owner makes room."""


# https://www.postgresql.org/docs/current/errcodes-appendix.html: connection; two instances that make the tables at once
# and collide in the catalogue; read-only after a failover; rolled back; resources; lock timeout; cancelled or shutting
# down; system; internal (poolers).
TRANSIENT = ("08", "23505", "42P07", "42710", "25006", "25P", "40", "53", "55P03", "57", "58", "XX")
NO_TABLE = "42P01"
OUT_OF_RANGE = ("22003", "23514", "IntegrityError")  # Postgres, either way; SQLite
IDLE_TOO_LONG = "57P05"  # idle_session_timeout
LASTING = (NO_TABLE, *OUT_OF_RANGE, "SSLCertVerificationError")
ADVICE = {
    "08P01": "Use a pooler in transaction mode, or none",
    "25P03": "It was stopped for too long: try again",
    "28000": "Check user and sslmode in DATABASE_URL: most servers want sslmode=require",
    "28P01": "Check user and password in DATABASE_URL",
    "3D000": "Check the database's name in DATABASE_URL, or create the database",
    "42501": "Grant that to the user in DATABASE_URL, or name the owner of the tables there",
    "53300": "Allow more connections, or fewer instances",
    "55P03": "Something else holds the lock: try again",
    "ConnectionRefusedError": "Check host and port in DATABASE_URL, and that the server runs",
    "FileNotFoundError": "Check the socket's path in DATABASE_URL, and that the server or cloud-sql-proxy runs",
    "InterfaceError": "Check that a Postgres listens there",
    "SSLCertVerificationError": "Check the host, or name the authority in sslrootcert; sslmode=require does not verify",
    "SSLError": "Check sslmode and the port in DATABASE_URL",
    "Server refuses SSL": "sslmode in DATABASE_URL insists on TLS; sslmode=disable would not encrypt at all",
    "TimeoutError": "Check the host in DATABASE_URL, and whom its firewall lets in",
    "gaierror": "Check the host in DATABASE_URL",
}  # fmt: skip


def explain(error: BaseException) -> AttemptError:
    """Translate what SQLAlchemy, a driver or a socket raised; nothing of the statement gets into the message."""
    causes = _causes(error)
    said = next((cause.args[0] for cause in causes if cause.args and isinstance(cause.args[0], dict)), None)
    if said:  # an ErrorResponse of Postgres, as pg8000 gives it
        code, reason, transient = said["C"], said["M"], said["C"].startswith(TRANSIENT)
    else:
        cause = next((cause for cause in causes if isinstance(cause, OSError)), causes[-1])
        reason = (
            getattr(cause, "verify_message", "") or getattr(cause, "strerror", "") or str(cause) or "no answer in time"
        )
        code = NO_TABLE if reason.startswith("no such table") else type(cause).__name__
        transient = code not in LASTING
    advice = ADVICE.get(reason) or ADVICE.get(code, "")
    return AttemptError(code, f"{DATABASE.place}: {reason.rstrip('.')}. {advice}".rstrip(". "), transient)


def _causes(error: BaseException) -> list[BaseException]:
    """Return the error and what was behind it, for pg8000 says "network error", and SQLAlchemy repeats that."""
    cause = error.__cause__ or error.__context__
    return [error, *_causes(cause)] if cause else [error]


# --- The connection to Postgres ---------------------------------------------------------------------------------

Rows = list[Any]  # of what the statements return, each row a list


def _raise_fatal_errors(driver: Any) -> None:
    """Make pg8000 raise a fatal error at once: nothing follows it, and "network error" would be all that it says."""
    handle = driver.handle_ERROR_RESPONSE

    def raise_if_fatal(data: bytes, context: Any) -> None:
        handle(data, context)
        said = context.error.args[0]
        if said.get("V", said["S"]) in ("FATAL", "PANIC"):
            raise context.error

    driver.message_types[b"E"] = raise_if_fatal


def _logged_in(database: Database) -> Any:
    """Return a connection of pg8000 that has logged in, which takes a while."""
    from pg8000.core import CoreConnection

    arguments = {**database.arguments, "ssl_context": _ssl_context(database), "timeout": CONNECT_TIMEOUT}
    driver = CoreConnection(**arguments)
    _raise_fatal_errors(driver)
    return driver


class _Connection:
    """A connection of pg8000, with a query that does not hold up the event loop.

    Whatever touches the driver's internals is here.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._socket = driver._usock
        self._stream = driver._sock  # a buffered file over it
        self._loop = asyncio.get_running_loop()
        self._readable: asyncio.Event | None = None  # while a reply is expected
        self._received = bytearray()  # and not read yet
        self.is_stale = False  # the server has ended it
        self._socket.settimeout(0)
        self._loop.add_reader(self._socket, self._on_readable)

    @classmethod
    async def open(cls, database: Database) -> _Connection:
        """Connect and log in, in a thread."""
        return cls(await asyncio.to_thread(_logged_in, database))

    def _on_readable(self) -> None:
        if self._readable:
            self._readable.set()
            return
        try:
            data = self._socket.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):  # a message of TLS
            return
        except OSError:
            data = b""
        self._received += data  # a notice, say, that will be read with the next reply
        if not data or data.startswith(b"E"):
            self.is_stale = True
            self._loop.remove_reader(self._socket)

    async def query(self, message: str) -> tuple[Rows, int]:
        """Send statements as one message and one transaction; return all their rows, and how many rows they affected.

        A row that was both written and returned counts once. Raise a pg8000.DatabaseError or an OSError.
        """
        from pg8000.core import Context

        if self.is_stale:
            raise ConnectionResetError("The server has ended the connection")
        context = Context(message)
        readable = self._readable = asyncio.Event()
        try:
            self._socket.settimeout(QUERY_TIMEOUT)
            self._driver.send_QUERY(message)
            self._stream.flush()
            self._socket.settimeout(0)
            async with asyncio.timeout(QUERY_TIMEOUT):
                self._driver._sock = io.BytesIO(await self._reply(readable))
            self._driver.handle_messages(context)
        finally:
            self._driver._sock = self._stream
            self._readable = None
        return context.rows or [], context.row_count

    async def _reply(self, readable: asyncio.Event) -> bytearray:
        """Return the reply once all of it is there, however slowly it trickles, or the connection has ended."""
        at, is_complete = 0, False
        while not is_complete:
            await readable.wait()
            try:
                data = self._socket.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                readable.clear()
                continue
            if not data:
                break
            self._received += data
            at, is_complete = _walk(self._received, at)
            if not is_complete:
                await asyncio.sleep(0)  # so that not even a reply in tiny pieces holds up the others
        reply, self._received = self._received[:at], self._received[at:]
        return reply

    def close(self) -> None:
        """Close it, without waiting for the server, which may be the one that does not answer."""
        from pg8000.exceptions import InterfaceError

        self._loop.remove_reader(self._socket)
        self._socket.settimeout(0)
        for close in (self._driver.close, self._stream.close):
            with suppress(InterfaceError, OSError):
                close()


def _walk(reply: bytearray, at: int) -> tuple[int, bool]:
    """Go from the message at this place to the next ones: a byte for the type, then four for the length.

    Return where the first one begins that is not complete, and whether ReadyForQuery came before it:
    https://www.postgresql.org/docs/current/protocol-message-formats.html
    """
    is_ready = False
    while not is_ready and at + 5 <= len(reply):
        end = at + 1 + int.from_bytes(reply[at + 1 : at + 5])
        if end > len(reply):
            break
        is_ready, at = reply[at] == ord("Z"), end
    return at, is_ready


# --- Postgres ---------------------------------------------------------------------------------------------------


class Click(NamedTuple):
    """One click to count."""

    key: str  # a UUID
    name: str  # of its counter
    kept: int  # seconds for which the key must be remembered
    limit: int | None  # of counters: where there are as many, it makes none; None: it always may


class Postgres:
    """The counts in Postgres, on one connection. Every method may raise AttemptError, and is safe to repeat."""

    # Two instances that take their locks in the same order never deadlock: so keys and names are sorted.

    PREAMBLE = f"set transaction isolation level read committed; set local statement_timeout = {STATEMENT_TIMEOUT};"
    PRUNE = f"""
        delete from click where ctid = any (array(
            select ctid from click where expires < extract(epoch from now())::bigint
            order by expires limit {PRUNED} for update skip locked));"""
    COUNT_ONE = """
        with added as (
            insert into click (key, name, expires)
            values ({key}, {name}, extract(epoch from now())::bigint + {kept})
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
            select key, name, extract(epoch from now())::bigint + kept
            from unnest({keys}::text[], {names}::text[], {kepts}::int[]) as given (key, name, kept)
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
    LOOK = """
        select name, exists (select from counter where counter.name = given.name), (select count(*) from counter)
        from unnest({names}::text[]) as given (name)"""
    # The counters are counted after the lock was taken: the lock's own statement sees the time before it.
    MAKE = """
        do $$ begin perform pg_advisory_xact_lock(20261122); end $$;
        insert into counter (name, value)
        select name, 0 from unnest({names}::text[]) as given (name)
        where not exists (select from counter where counter.name = given.name)
        order by name limit (select greatest({limit} - count(*), 0) from counter)
        on conflict do nothing;
        select name from counter where name = any ({names}::text[])"""
    READ = "select name, value from counter where name = any ({names}::text[])"
    DAYS = """
        select name, to_char(now() at time zone 'UTC', 'YYYY-MM-DD'), (
            select json_object_agg(day, value) from daily where daily.name = given.name
            and day > to_char(now() at time zone 'UTC' - interval '{days} days', 'YYYY-MM-DD'))
        from unnest({names}::text[]) as given (name)"""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: _Connection | None = None
        self._connecting: asyncio.Future[_Connection] | None = None
        self._turn = asyncio.Lock()
        self._unpruned = PRUNE_AFTER

    async def count(self, clicks: list[Click]) -> dict[str, int]:
        """Count the clicks whose keys are new; return the value of each of their counters after that."""
        clicks = sorted(clicks, key=lambda click: (click.key, click.name))
        self._unpruned += len(clicks)
        prune = self._unpruned >= PRUNE_AFTER
        rows, affected = await self._query((self.PRUNE if prune else "") + self._counting(clicks))
        if prune:  # while there is a backlog, with each batch
            self._unpruned = PRUNE_AFTER if affected - len(rows) >= PRUNED else 0
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
            return self.COUNT_ONE.format(key=_literal(click.key), name=_literal(click.name), kept=click.kept)
        keys, names, kepts, _ = zip(*clicks, strict=True)
        return self.COUNT_MANY.format(keys=_array(keys), names=_array(names), kepts=_array(kepts))

    async def make(self, names: set[str], limit: int) -> set[str]:
        """Make these counters, with 0, while there are fewer than `limit`; return the names of those there are then.

        Only where one is missing and there is room, it takes a lock that holds up the other instances.
        """
        rows, _ = await self._query(self.LOOK.format(names=_array(names)))
        there = {name for name, exists, _ in rows if exists}
        if there == names or rows[0][2] >= limit:
            return there
        rows, _ = await self._query(self.MAKE.format(names=_array(names - there), limit=limit))
        return there.union(name for (name,) in rows)

    async def read(self, names: Iterable[str]) -> dict[str, int]:
        """Return the values of the counters of these names that there are."""
        rows, _ = await self._query(self.READ.format(names=_array(names)))
        return dict(rows)

    async def days(self, names: Iterable[str]) -> dict[str, tuple[str, dict[str, int]]]:
        """Return for each name the database's date in UTC, and the clicks of the last days that had any."""
        rows, _ = await self._query(self.DAYS.format(names=_array(names), days=MOST_DAYS))
        return {name: (today, clicks or {}) for name, today, clicks in rows}

    async def _query(self, statements: str) -> tuple[Rows, int]:
        """Send the statements on the one connection, which is dropped after a failure: the two may be out of step."""
        message = self.PREAMBLE + statements
        async with self._turn:
            try:
                connection = await self._connected()
                try:
                    return await connection.query(message)
                except Exception as error:
                    code = explain(error).code
                    if code == NO_TABLE:
                        await connection.query(self.PREAMBLE + SCHEMA.read_text())
                    elif code == IDLE_TOO_LONG:  # it ended just now; the message was not executed
                        self._drop()
                        connection = await self._connected()
                    else:
                        raise
                    return await connection.query(message)
            except Exception as error:
                failure = explain(error)
                if failure.code not in OUT_OF_RANGE:
                    self._drop()
                raise failure from error
            except BaseException:
                self._drop()
                raise

    async def _connected(self) -> _Connection:
        self._connection = self._connection or await self._opened()
        if self._connection.is_stale:  # no fault: servers end what was idle for long
            self._drop()
            self._connection = await self._opened()
        return self._connection

    async def _opened(self) -> _Connection:
        # One at a time: what comes after the timeout is the next attempt's.
        connecting = self._connecting or asyncio.ensure_future(_Connection.open(self._database))
        self._connecting = connecting
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.wait([connecting])
        self._connecting = None
        return connecting.result()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            connection.close()


def _array(items: Iterable[str | int]) -> str:
    quoted = ",".join(f'"{item}"' for item in items)  # unquoted, a counter called Null would be no counter
    return _literal(f"{{{quoted}}}")


def _literal(text: str) -> str:
    from pg8000.native import literal

    return str(literal(text))


# --- SQLite -----------------------------------------------------------------------------------------------------


class Sqlite:
    """The counts in a SQLite file, with the methods of Postgres; each is one transaction, in a thread."""

    PRUNE = f"""
        delete from click where rowid in (
            select rowid from click where expires < cast(strftime('%s', 'now') as integer)
            order by expires limit {PRUNED})"""
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
    CROWD = "select count(*) from counter"
    MAKE = "insert into counter (name, value) values (:name, 0)"
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

    async def make(self, names: set[str], limit: int) -> set[str]:
        return await self._run(lambda execute: self._make(names, limit, execute))

    def _make(self, names: set[str], limit: int, execute: Execute) -> set[str]:
        there = self._read(names, execute).keys()
        made = sorted(names - there)[: max(limit - execute(self.CROWD).scalar_one(), 0)]
        for name in made:
            execute(self.MAKE, name=name)
        return there | set(made)

    async def read(self, names: Iterable[str]) -> dict[str, int]:
        return await self._run(lambda execute: self._read(names, execute))

    def _read(self, names: Iterable[str], execute: Execute) -> dict[str, int]:
        return dict(execute(self.READ, names=_json(names)).all())

    async def days(self, names: Iterable[str]) -> dict[str, tuple[str, dict[str, int]]]:
        rows = await self._run(
            lambda execute: execute(self.DAYS, names=_json(names), before=f"-{MOST_DAYS} days").all()
        )
        return {name: (today, json.loads(clicks)) for name, today, clicks in rows}

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

_names_seen: set[str] = set()  # of counters that there are


async def _count_clicks(clicks: list[Click]) -> dict[Click, int | Exception]:
    """Count the clicks whose keys are new; return for each its counter's value after that, or why it has none."""
    without_room = await _make_counters(clicks)
    refused = {click: NoRoom(NO_ROOM) for click in clicks if click.name in without_room}
    clicks = [click for click in clicks if click not in refused]
    try:
        counts = await STORE.count(clicks) if clicks else {}
    except AttemptError as error:
        if error.code not in OUT_OF_RANGE:
            raise
        if len(clicks) == 1:
            return {**refused, clicks[0]: AtLimit(AT_LIMIT)}
        # In halves, until the one that is too much for its counter fails alone.
        clicks.sort(key=lambda click: click.name)
        half = len(clicks) // 2
        return {**refused, **await _count_clicks(clicks[:half]), **await _count_clicks(clicks[half:])}
    _remember(click.name for click in clicks if click.limit is not None)
    _freeze()
    return {**refused, **{click: counts.get(click.name, 0) for click in clicks}}  # 0: counted, and deleted by the owner


async def _make_counters(clicks: list[Click]) -> set[str]:
    """Make the counters that are not there yet and need room, while there is some; return the names that got none."""
    limits = {click.name: click.limit for click in clicks if click.limit is not None}
    unseen = limits.keys() - _names_seen
    if not unseen:
        return set()
    return unseen - await STORE.make(unseen, max(limits[name] for name in unseen))


def _remember(names: Iterable[str]) -> None:
    if len(_names_seen) > MOST_NAMES_SEEN:
        _names_seen.clear()
    _names_seen.update(names)


@cache
def _freeze() -> None:
    # Everything is imported by now; full collections over it cost 40 ms each. Clicks that wait are alive: looking for
    # garbage every 700 objects mostly finds them, and costs a tenth of the throughput at 32 clients, a fifth at 256.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def _read_counts(names: list[str]) -> dict[str, int | Exception]:
    counts = await STORE.read(names)
    return {name: counts.get(name, 0) for name in names}


# --- The door ---------------------------------------------------------------------------------------------------

AWAY = "The database does not answer. Try again in a moment, a click with the same Idempotency-Key."
AT_LIMIT = "This counter has reached the largest number there is. Click another one."
NO_ROOM = "There are as many counters as MAX_COUNTERS allows. Click one of those, or ask the owner to make room."

# A database that is read-only after a failover still answers reads: so each has a circuit breaker of its own.
_FAULTS = FaultLog("The database")
_CLICKS = Batcher(_count_clicks, CircuitBreaker(AWAY, _FAULTS), size=BATCH)
_READS = Batcher(_read_counts, CircuitBreaker(AWAY, _FAULTS), size=BATCH)
_HISTORIES = Batcher(STORE.days, CircuitBreaker(AWAY, _FAULTS), size=HISTORIES)


async def click(name: str, key: str | None = None, limit: int | None = None) -> int:
    """Count a click, once per key (a UUID) within 24 hours; return the value after it.

    A counter that is not there yet is made only while there are fewer than `limit`, if one is given. Raise Unavailable,
    NoRoom or AtLimit.
    """
    kept = KEPT if key else KEPT_OWN
    [count] = await _CLICKS.submit(Click(key or str(uuid.uuid4()), name, kept, limit))
    return count


async def values(names: list[str]) -> list[int]:
    """Return the counts of these counters, 0 where there is none, no older than the call. Raise Unavailable."""
    return await _READS.submit(*names)


async def history(name: str, days: int) -> list[tuple[str, int]]:
    """Return the last 1 to 366 UTC days and the clicks of each, the oldest first. Raise Unavailable."""
    [(today, clicks)] = await _HISTORIES.submit(name)
    last = date.fromisoformat(today)
    wanted = [(last - timedelta(days=ago)).isoformat() for ago in reversed(range(days))]
    return [(day, clicks.get(day, 0)) for day in wanted]
