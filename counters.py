"""Look after the counters in DATABASE_URL, or in the local file. Clicks may come in meanwhile.

Not uploaded with the function. A command that fails, or is interrupted, has changed nothing.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

from batch import AttemptError
from database_url import DATABASE, NAME, NAME_RULE, apply_schema, engine, explain

COMMAND = ".venv/bin/python counters.py"
MOST = 2**53 - 1  # the largest number that every browser shows right

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C ends it at once, and the database rolls back
try:
    from sqlalchemy import Connection, CursorResult, Row, text
    from sqlalchemy.exc import DBAPIError
except ModuleNotFoundError:
    sys.exit(f"This Python has no SQLAlchemy. Run it as `{COMMAND}`, with the .venv of README.md")


class Mistake(argparse.ArgumentTypeError):
    """What was asked for cannot be done; the message says what to do instead."""


# --- What is given ----------------------------------------------------------------------------------------------


def checked_name(given: str) -> str:
    if not NAME.fullmatch(given):
        raise Mistake(f"{given[:60]!r} is not a name. {NAME_RULE}")
    return given


def checked_pattern(given: str) -> str:
    if given == "*":
        raise Mistake("'*' would be every counter. Write how the names begin, like 'post-spam-*'")
    checked_name(given.removesuffix("*"))
    return given


def checked_value(given: str) -> int:
    if not re.fullmatch("[0-9]{1,16}", given) or int(given) > MOST:
        raise Mistake(f"{given[:60]!r} is not a count. Write a whole number from 0 to {MOST}, without separators.")
    return int(given)


def checked_days(given: str, value: int) -> dict[str, int]:
    """Read `2026-11-22=12 2026-11-23=4`; `base=-6` says that the count was set to 6 less than was clicked."""
    days: dict[str, int] = {}
    base = 0
    for entry in given.split():
        day, _, clicks = entry.partition("=")
        with suppress(ValueError):
            if re.fullmatch("base=-[0-9]{1,16}", entry):
                base = int(clicks)
                continue
            if day not in days and date.fromisoformat(day).isoformat() == day:
                days[day] = checked_value(clicks)
                continue
        raise Mistake(f"{entry[:60]!r} is not a day, or is there twice. Write each once, like 2026-11-22=12")
    if sum(days.values()) + base > value:
        raise Mistake(f"Its days add up to {sum(days.values())}, more than its count, {value}")
    return days


HEADER = ["name", "value", "days"]
HEADER_RULE = "If it is the header, it must be name,value or name,value,days"


def read_csv(content: bytes) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Read the counts, and the days where there is a third field; raise Mistake, which says in which line."""
    if not content.removeprefix(b"\xef\xbb\xbf").strip(b", \t\r\n"):
        raise Mistake("There is nothing to import: every line is empty. Write lines like post-1,42")
    values: dict[str, int] = {}
    days: dict[str, dict[str, int]] = {}
    line = 1
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        for row in reader:
            fields = [field.strip() for field in row]
            if any(fields) and (values or [field.lower() for field in fields] not in (HEADER, HEADER[:2])):
                _read_row(fields, values, days)
            line = reader.line_num + 1  # where the next row begins: a quoted field may have several lines
    except UnicodeDecodeError as error:
        line = len((content[: error.start] + b"?").splitlines())
        raise Mistake(f"Line {line}: This is no UTF-8. Nothing was imported.") from None
    except (Mistake, csv.Error) as error:
        what = str(error).rstrip(".") + ("" if values else f". {HEADER_RULE}")
        raise Mistake(f"Line {line}: {what}. Nothing was imported.") from None
    return values, days


def _read_row(fields: Sequence[str], values: dict[str, int], days: dict[str, dict[str, int]]) -> None:
    if len(fields) not in (2, 3):
        raise Mistake(f"Fields: {len(fields)} instead of 2 or 3. Write it like post-1,42, with commas")
    name, value = checked_name(fields[0]), checked_value(fields[1])
    if name in values:
        raise Mistake(f"The counter {name} is there twice. Write it once")
    if fields[2:]:
        days[name] = checked_days(fields[2], value)
    values[name] = value


# --- The database -----------------------------------------------------------------------------------------------

# Clicks wait for the lock. Where the tool is stopped (Ctrl+Z, a laptop that sleeps), the server takes it back.
LIMITS = "set local lock_timeout = 2000; set local idle_in_transaction_session_timeout = 2000"
# A parameter of JSON carries any number of rows. Postgres and SQLite agree on json_each for objects.
NAMED = "name in (select key from json_each(:names))"
EXPORT = """
select counter.name, counter.value, daily.day, daily.value as clicks
from counter left join daily on daily.name = counter.name"""
LIST = """
select counter.name, counter.value, max(daily.day) as day
from counter left join daily on daily.name = counter.name and daily.value > 0
group by counter.name, counter.value"""
AUDIT = """
select name, sum(clicked) as clicked, sum(days) as days from (
    select name, value - base as clicked, 0 as days from counter union all select name, 0, value from daily) as t
group by name having sum(clicked) <> sum(days) order by name"""
PUT_VALUES = """
insert into counter (name, value)
select key, cast(cast(value as text) as bigint) from json_each(:values) where true
on conflict (name) do update set value = excluded.value"""
PUT_DAYS = """
insert into daily (name, day, value)
select substr(key, 12), substr(key, 1, 10), cast(cast(value as text) as bigint) from json_each(:days)"""
BASE = "value - coalesce((select sum(daily.value) from daily where daily.name = counter.name), 0)"


@contextmanager
def transaction(lock: bool = False) -> Iterator[Connection]:
    """Begin a transaction, with the tables made; with `lock`, no click is counted until it ends."""
    try:
        with engine(timeout=30).begin() as connection:
            if DATABASE.sqlite is None:
                connection.exec_driver_sql(f"set transaction isolation level read committed; {LIMITS}")
            if not _tables_are_there(connection):
                apply_schema(connection)
            if lock and DATABASE.sqlite is None:
                connection.exec_driver_sql("lock table counter in share row exclusive mode")
            yield connection
    except (DBAPIError, OSError) as error:
        raise explain(error) from error


def _tables_are_there(connection: Connection) -> bool:
    try:
        with connection.begin_nested():
            run(connection, "select 1 from counter, daily, click limit 0")
    except DBAPIError as error:
        if explain(error).code != "42P01":
            raise
        return False
    return True


def run(connection: Connection, statement: str, **parameters: object) -> CursorResult[*tuple[Any, ...]]:
    """Execute a statement; a mapping goes as JSON."""
    bound = {name: json.dumps(value) if isinstance(value, Mapping) else value for name, value in parameters.items()}
    return connection.execute(text(statement), bound)


def put_counters(connection: Connection, values: Mapping[str, int], days: Mapping[str, Mapping[str, int]]) -> None:
    """Set these counts, and the days of those counters whose days are given."""
    run(connection, PUT_VALUES, values=values)
    run(connection, f"delete from daily where {NAMED}", names=days)
    run(connection, PUT_DAYS, days={f"{day} {name}": clicks for name in days for day, clicks in days[name].items()})
    run(connection, f"update counter set base = {BASE} where {NAMED}", names=values)


def as_csv(rows: Iterable[Row[*tuple[Any, ...]]]) -> str:
    """Write the rows of EXPORT as import takes them back."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(HEADER)
    for (name, value), group in groupby(sorted(tuple(row) for row in rows), key=lambda row: row[:2]):
        days = [(day, clicks) for _, _, day, clicks in group if day is not None]
        base = value - sum(clicks for _, clicks in days)
        entries = [*days, ("base", base)] if base < 0 else days
        writer.writerow([name, value, " ".join(f"{day}={clicks}" for day, clicks in entries)])
    return written.getvalue()


# --- The commands -----------------------------------------------------------------------------------------------


def list_counters(prefix: str, sort: str) -> None:
    """Show the counters: all, or those whose names begin with PREFIX."""
    with transaction() as connection:
        found = run(connection, LIST).all()
    rows = sorted(tuple(row) for row in found if row.name.startswith(prefix.removesuffix("*")))
    if sort == "value":
        rows.sort(key=lambda row: -row[1])
    if os.isatty(1):
        write(_table(rows))
    else:
        write("".join(f"{name}\t{value}\n" for name, value, _ in rows))


def _table(rows: Sequence[tuple[str, int, str | None]]) -> str:
    """Align the rows between a header and a total."""
    lines = [("NAME", "COUNT", "LAST CLICK"), *((name, str(value), day or "-") for name, value, day in rows)]
    lines.append((counted(len(rows), "counter"), str(sum(row[1] for row in rows)), ""))
    names, values = (max(len(line[column]) for line in lines) for column in (0, 1))
    return "".join(f"{name:{names}}  {value:>{values}}  {day}".rstrip() + "\n" for name, value, day in lines)


def set_count(name: str, value: int) -> None:
    """Set one count, and make the counter where there is none."""
    with transaction(lock=True) as connection:
        put_counters(connection, {name: value}, {})
    write(f"{value}\n")


def rename_counter(old: str, new: str) -> None:
    """Give one counter, with its days, another name."""
    with transaction(lock=True) as connection:
        found = run(connection, f"select name, value from counter where {NAMED}", names={old: 0, new: 0})
        values = {row.name: row.value for row in found}
        if old not in values:
            raise _missing([old])
        if new in values:
            raise Mistake(f"There is a counter {new} already. Delete it first, or choose another name.")
        for table in ("counter", "daily"):
            run(connection, f"update {table} set name = :new where name = :old", old=old, new=new)
    write(f"{new}\t{values[old]}\n")


def delete_counters(names: list[str], yes: bool) -> None:
    """Delete counters, and write them as import takes them back. On a terminal it asks first."""
    with transaction() as connection:
        chosen = _matching([row.name for row in run(connection, "select name from counter")], names)
    if not yes and os.isatty(0) and not _confirmed(chosen):
        raise Mistake("Nothing was deleted.")
    with transaction(lock=True) as connection:
        named = dict.fromkeys(chosen)
        # Written before the commit, so that what cannot be written is not deleted.
        write(as_csv(run(connection, f"{EXPORT} where counter.{NAMED}", names=named)), to_its_end=True)
        for table in ("counter", "daily"):  # but not the keys: a click that is sent again must not make it anew
            run(connection, f"delete from {table} where {NAMED}", names=named)
    say(f"Deleted {counted(len(chosen), 'counter')}. To undo it, give these lines to `{COMMAND} import`.")


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return those of the names that are meant by others and by patterns like `post-spam-*`."""
    meant = {pattern: fnmatch.filter(names, pattern) for pattern in patterns}
    if missing := [pattern for pattern, found in meant.items() if not found]:
        raise _missing(missing)
    return sorted({name for found in meant.values() for name in found})


def _missing(names: Sequence[str]) -> Mistake:
    what = f"is no counter {names[0]}" if len(names) == 1 else f"are no counters {', '.join(names)}"
    return Mistake(f"There {what}. Nothing was changed. `{COMMAND} list` shows those that there are.")


def _confirmed(names: Sequence[str]) -> bool:
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    say(f"Delete {counted(len(names), 'counter')}, {shown}? [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def export_counters(file: str) -> None:
    """Write all counters, with their days, as CSV."""
    with transaction() as connection:
        content = as_csv(run(connection, EXPORT))
    if file == "-":
        write(content)
    else:
        with _told(file, "written"):
            Path(file).write_text(content, newline="")
        say(f"Exported {counted(content.count(chr(10)) - 1, 'counter')} to {file}.")


def import_counters(file: str) -> None:
    """Set the counters in a CSV file like that of export: all of them or, where a line is wrong, none."""
    if file == "-" and os.isatty(0):
        say("Write lines like post-1,42, and then Ctrl+D. Ctrl+C changes nothing.")
    source = "Standard input" if file == "-" else file
    with _told(source, "read"), open(0 if file == "-" else file, "rb", closefd=file != "-") as given:
        values, days = read_csv(given.read())
    with transaction(lock=True) as connection:
        put_counters(connection, values, days)
    write(f"Imported {counted(len(values), 'counter')}.\n")


def audit() -> None:
    """Check that the days of every counter add up to its count, less what was set or imported."""
    with transaction() as connection:
        wrong = run(connection, AUDIT).all()
    for row in wrong:
        say(f"{row.name}: {counted(row.clicked, 'click')}, but its days add up to {row.days}.")
    if wrong:
        raise Mistake(
            f"`{COMMAND} set NAME VALUE` brings one of them into line, "
            f"`{COMMAND} init` all counters, with the counts that they have."
        )
    write("The days of every counter add up.\n")


def init() -> None:
    """Make the tables that are missing, as the first click does, too; give clicks without a day to the base."""
    with transaction() as connection:  # without the lock: making an index waits for clicks, which would wait for it
        apply_schema(connection)
    with transaction(lock=True) as connection:
        # An older version that still runs beside a newer one, or after it, counts without days.
        mended = run(connection, f"update counter set base = {BASE} where base <> {BASE}").rowcount
    write("The tables are there.\n" + (f"{counted(mended, 'counter')} had clicks without a day.\n" if mended else ""))


# --- The command line -------------------------------------------------------------------------------------------


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def say(message: str, end: str = "\n") -> None:
    """Tell what does not belong into the output."""
    print(message, end=end, file=sys.stderr, flush=True)


def write(output: str, to_its_end: bool = False) -> None:
    """Write to standard output. A reader that goes, as in `list | head`, ends it silently, or is a Mistake."""
    if not to_its_end:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with _told("Standard output", "written"):
        print(output, end="", flush=True)


@contextmanager
def _told(file: str, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python writes again what it could not, when it ends
        raise Mistake(f"{file} cannot be {done}: {error.strerror}") from None


def parser() -> argparse.ArgumentParser:
    """Return the parser: a command has its function as `function`, and that function's arguments."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(metavar="COMMAND")

    def command(name: str, function: Callable[..., None]) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        made.set_defaults(function=function)
        return made

    listing = command("list", list_counters)
    listing.add_argument("prefix", metavar="PREFIX", nargs="?", default="")
    listing.add_argument("--sort", choices=["name", "value"], default="name", help="value: the largest first")
    setting = command("set", set_count)
    setting.add_argument("name", metavar="NAME", type=checked_name)
    setting.add_argument("value", metavar="VALUE", type=checked_value)
    renaming = command("rename", rename_counter)
    renaming.add_argument("old", metavar="OLD", type=checked_name)
    renaming.add_argument("new", metavar="NEW", type=checked_name)
    deleting = command("delete", delete_counters)
    deleting.add_argument("names", metavar="NAME", nargs="+", type=checked_pattern, help="also like 'post-spam-*'")
    deleting.add_argument("-y", "--yes", action="store_true", help="do not ask")
    command("export", export_counters).add_argument("file", metavar="FILE", nargs="?", default="-")
    command("import", import_counters).add_argument("file", metavar="FILE", nargs="?", default="-")
    command("audit", audit)
    command("init", init)
    return parser


def main() -> None:
    """Do what the command line says; end with a line that says what to do where that cannot be done."""
    given = vars(parser().parse_args())
    if "function" not in given:
        return parser().print_help()
    if DATABASE.sqlite is not None and not os.environ.get("DATABASE_URL", "").strip():
        say(f"DATABASE_URL is not set: this is about {DATABASE.sqlite}")
    try:
        given.pop("function")(**given)
    except Mistake as error:
        sys.exit(str(error))
    except AttemptError as error:
        sys.exit(f"The database failed: {error}")


if __name__ == "__main__":
    main()
