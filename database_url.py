"""Where the database is: DATABASE_URL, TLS and SQLAlchemy's engine; what an error means and what to do about it.

Importing it reads DATABASE_URL and starts nothing.
"""

from __future__ import annotations

import os
import re
import ssl
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from batch import AttemptError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

HERE = Path(__file__).parent
SCHEMA = HERE / "schema.sql"

NAME = re.compile(r"[A-Za-z0-9._:/-]{1,100}")
NAME_RULE = "A name is 1 to 100 characters out of A-Z a-z 0-9 . _ - : / and nothing else."

CONNECT_TIMEOUT = 2.5  # seconds


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
PLACEHOLDER = re.compile(r"(?i)[\[<{][a-z _-]+[\]>}]|\byour([-_ ]|[a-z]+$)|(?-i:^(USER|PASSWORD|HOST)$)")
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
        _check_host(host)
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
        if PLACEHOLDER.search(given):
            raise SettingError(f"DATABASE_URL holds a placeholder instead of the {part}. Put the {part} there")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise SettingError("DATABASE_URL: the port must be a number from 1 to 65535, usually 5432")


def _check_host(host: str) -> None:
    try:
        host.encode("idna")  # as the look-up does
    except UnicodeError:
        raise SettingError(f"DATABASE_URL: {host!r} cannot be a host's name. It looks like {EXAMPLE}") from None


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


def ssl_context_for(database: Database) -> ssl.SSLContext | bool | None:
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
        arguments = {**DATABASE.arguments, "ssl_context": ssl_context_for(DATABASE), "timeout": timeout}
        made = create_engine("postgresql+pg8000://", connect_args=arguments, poolclass=NullPool)
        event.listen(made, "connect", lambda driver, _: raise_fatal_errors(driver), insert=True)
        return made
    # https://docs.sqlalchemy.org/en/20/dialects/sqlite.html: the driver begins no transaction, so that all of them can
    # begin as writers; two that read first and write then would deadlock.
    url = URL.create("sqlite", database=str(DATABASE.sqlite))
    made = create_engine(url, connect_args={"timeout": timeout, "isolation_level": None}, poolclass=NullPool)
    event.listen(made, "begin", lambda connection: connection.exec_driver_sql("begin immediate"))
    return made


def schema() -> str:
    """Return the statements that make the tables that are missing."""
    tables = SCHEMA.read_text()
    if DATABASE.sqlite:
        return tables
    # Only the owner gets at the rows: Supabase lets whoever has a project's public key into new tables. In the order in
    # which a click takes its locks.
    return tables + "".join(
        f"alter table {table} enable row level security;\n" for table in ("click", "daily", "counter")
    )


def apply_schema(connection: Connection) -> None:
    """Make the tables that are missing."""
    # SQLite's driver takes one statement at a time.
    for statement in [schema()] if DATABASE.sqlite is None else re.sub("--.*", "", schema()).split(";")[:-1]:
        connection.exec_driver_sql(statement)


# --- What an error means ----------------------------------------------------------------------------------------------

TRANSIENT = (  # https://www.postgresql.org/docs/current/errcodes-appendix.html
    "08",  # the connection
    "23505", "42P07", "42710",  # two instances that make the tables at once
    "25006",  # read-only after a failover
    "25P",  # a transaction that was stopped or has failed
    "40",  # rolled back: deadlock, serialization
    "53",  # resources: disk, memory, connections
    "55P03",  # a lock that somebody holds
    "57",  # cancelled, or shutting down
    "58",  # the system
    "XX",  # internal: poolers, too
)  # fmt: skip
NO_TABLE = "42P01"
DISK_FULL = "53100"
PERMANENT = (NO_TABLE, "SSLCertVerificationError")
ADVICE = {
    "08P01": "Use a pooler in transaction mode, or none",
    "25P03": "The tool was stopped for too long: try again",
    "25006": "Wait for the failover, or let the user in DATABASE_URL write",
    "28000": "Check user and sslmode in DATABASE_URL: most servers want sslmode=require",
    "28P01": "Check user and password in DATABASE_URL",
    "3D000": "Check the database's name in DATABASE_URL, or create the database",
    "42P01": "Restore the tables, or make new ones: counters.py init",
    "42501": "Grant that to the user in DATABASE_URL, or name the owner of the tables there",
    "53100": "Enlarge the disk, or wait: expired keys are being deleted, and autovacuum frees their place",
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
        transient = code not in PERMANENT
    advice = ADVICE.get(reason) or ADVICE.get(code, "")
    return AttemptError(code, f"{DATABASE.place}: {reason.rstrip('.')}. {advice}".rstrip(". "), transient)


def _causes(error: BaseException) -> list[BaseException]:
    """Return the error and what was behind it, for pg8000 says "network error", and SQLAlchemy repeats that."""
    cause = error.__cause__ or error.__context__
    return [error, *_causes(cause)] if cause else [error]


def raise_fatal_errors(driver: Any) -> None:
    """Make pg8000 raise a fatal error at once: nothing follows it, and "network error" would be all that it says."""
    handle = driver.handle_ERROR_RESPONSE

    def raise_if_fatal(data: bytes, context: Any) -> None:
        handle(data, context)
        said = context.error.args[0]
        if said.get("V", said["S"]) in ("FATAL", "PANIC"):
            raise context.error

    driver.message_types[b"E"] = raise_if_fatal
