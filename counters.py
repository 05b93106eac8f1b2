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
import shlex
import signal
import string
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from itertools import groupby
from typing import Any, NamedTuple

from batch import AttemptError
from database_url import DATABASE, NAME, NAME_RULE, apply_schema, engine, explain

COMMAND = ".venv/bin/python counters.py"
MAX_COUNT = 2**53 - 1  # the largest number that every browser shows right

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C ends it at once, and the database rolls back
try:
    from sqlalchemy import Connection, CursorResult, inspect, text
    from sqlalchemy.exc import DBAPIError
except ModuleNotFoundError:
    sys.exit(f"This Python has no SQLAlchemy. Run it as `{COMMAND}`, with the .venv of README.md")


class Mistake(argparse.ArgumentTypeError):
    """What was asked for cannot be done; the message says what to do instead."""


class Count(NamedTuple):
    """A count and its clicks per day; the days may add up to another number, for what was set has none."""

    value: int
    days: dict[str, int] | None = None  # None: not given


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
    if not re.fullmatch("[0-9]{1,16}", given) or int(given) > MAX_COUNT:
        raise Mistake(f"{given[:60]!r} is not a count. Write a whole number from 0 to {MAX_COUNT}, without separators.")
    return int(given)


def checked_days(given: str) -> dict[str, int]:
    """Read `2026-11-22=12 2026-11-23=4`."""
    days: dict[str, int] = {}
    for entry in given.split():
        day, _, clicks = entry.partition("=")
        with suppress(ValueError):
            if day not in days and date.fromisoformat(day).isoformat() == day:
                days[day] = checked_value(clicks)
                continue
        raise Mistake(f"{entry[:60]!r} is not a day, or is there twice. Write each once, like 2026-11-22=12")
    return days


HEADER = "name,value or name,value,days"
NUMBER = re.compile(r"\W*\d[\d\W]*(e\W?\d+\W*)?", re.IGNORECASE)  # however a spreadsheet writes it


def read_csv(content: bytes) -> dict[str, Count]:
    """Read the counts, and the days where there is a third field; raise Mistake, which says in which line."""
    given = content.decode("utf-8-sig", errors="replace")
    delimiter = re.search("[,;\t]", given)
    counts: dict[str, Count] = {}
    header: list[str] | None = None
    line = 1
    try:
        reader = csv.reader(io.StringIO(given, newline=""), delimiter=delimiter[0] if delimiter else ",", strict=True)
        for row in reader:
            fields = [field.strip() for field in row]
            if re.search("[\0\ufffd]", "".join(fields)):  # UTF-16 without a mark; what could not be decoded
                raise Mistake('This is no UTF-8. Save it as "CSV UTF-8"')
            if not any(fields) or fields[0].lower().startswith("sep="):  # which tells a spreadsheet the delimiter
                pass
            elif header is None and not NUMBER.fullmatch("".join(fields[1:2])):
                header = " ".join(fields).lower().split()
                if header not in (["name", "value"], ["name", "value", "days"]):
                    raise Mistake(f"{','.join(fields)[:60]!r} is taken for a header, which must be {HEADER}")
            else:
                header = header or []
                _read_row(fields, "days" in header, counts)
            line = reader.line_num + 1  # where the next row begins: a quoted field may have several lines
    except (Mistake, csv.Error) as error:
        raise Mistake(f"Line {line}: {str(error).rstrip('.')}. Nothing was imported.") from None
    if header is None:
        raise Mistake("There is nothing to import: every line is empty. Write lines like post-1,42")
    return counts


def _read_row(fields: Sequence[str], with_days: bool, counts: dict[str, Count]) -> None:
    name, value, days, *others = [*fields, "", ""]
    if any(others):
        raise Mistake(f"Fields: {len(fields)} instead of 2 or 3. Write it like post-1,42")
    if days.isdigit():  # 1,234 is no number with a day
        value += f",{days}"
    if NUMBER.fullmatch(value) and not value.removeprefix("-").isdigit():
        raise Mistake(
            f"{value[:60]!r} is not a count. Write it with digits alone: in the spreadsheet, give its column the "
            "number format 0, and save it again"
        )
    if checked_name(name) in counts:
        raise Mistake(f"The counter {name} is there twice. Write it once")
    counts[name] = Count(checked_value(value), checked_days(days) if days or with_days else None)


# --- The database -----------------------------------------------------------------------------------------------

# Clicks wait for the lock. Where the tool is stopped (Ctrl+Z, a laptop that sleeps), the server takes it back. What
# another client of the same pooler has set does not matter.
PREAMBLE = """
set transaction isolation level read committed; set local search_path to default;
set local lock_timeout = 2000; set local idle_in_transaction_session_timeout = 3000"""
# A parameter of JSON carries any number of rows. Postgres and SQLite agree on json_each for objects.
NAMED = "name in (select key from json_each(:names))"
READ = """
select counter.name, counter.value, daily.day, daily.value as clicks
from counter left join daily on daily.name = counter.name"""
LIST = """
select counter.name, counter.value, max(daily.day) as day
from counter left join daily on daily.name = counter.name and daily.value > 0
group by counter.name, counter.value"""
PUT_VALUES = """
insert into counter (name, value)
select key, cast(cast(value as text) as bigint) from json_each(:values) where true
on conflict (name) do update set value = excluded.value + :add * counter.value"""
ADD_DAYS = """
insert into daily (name, day, value)
select substr(key, 12), substr(key, 1, 10), cast(cast(value as text) as bigint) from json_each(:days) where true
on conflict (name, day) do update set value = daily.value + excluded.value"""
RENAME = (
    """insert into counter (name, value) select :new, value from counter where name = :old
    on conflict (name) do update set value = counter.value + excluded.value""",
    """insert into daily (name, day, value) select :new, day, value from daily where name = :old
    on conflict (name, day) do update set value = daily.value + excluded.value""",
    # Both names keep the keys: a click that is sent again counts under neither.
    """insert into click (key, name, expires) select key, :new, expires from click where name = :old
    and not exists (select 1 from click as other where other.key = click.key and other.name = :new)""",
    "delete from counter where name = :old",
    "delete from daily where name = :old",
)


@contextmanager
def transaction(lock: bool = False) -> Iterator[Connection]:
    """Begin a transaction, with the tables made; with `lock`, no click is counted until it ends."""
    try:
        with engine(timeout=30).begin() as connection:
            if DATABASE.sqlite is None:
                connection.exec_driver_sql(PREAMBLE)
            if not all(map(inspect(connection).has_table, ("counter", "daily", "click"))):
                apply_schema(connection)
            if lock and DATABASE.sqlite is None:
                connection.exec_driver_sql("lock table counter in share row exclusive mode")
            yield connection
    except (DBAPIError, OSError) as error:
        raise explain(error) from error


def run(connection: Connection, statement: str, **parameters: str | int) -> CursorResult[*tuple[Any, ...]]:
    return connection.execute(text(statement), parameters)


def read_counts(connection: Connection, where: str = "", **parameters: str) -> dict[str, Count]:
    """Return the counts and their days, sorted."""
    rows = sorted(tuple(row) for row in run(connection, READ + where, **parameters))
    return {
        name: Count(value, {day: clicks for _, _, day, clicks in group if day is not None})
        for (name, value), group in groupby(rows, key=lambda row: row[:2])
    }


def read_values(connection: Connection, names: str) -> dict[str, int]:
    found = run(connection, f"select name, value from counter where {NAMED}", names=names)
    return {row.name: row.value for row in found}


def put_counts(counts: Mapping[str, Count], add: bool) -> dict[str, int]:
    """Set these counts, and the days that are given, or add them; return the counts after that."""
    days = {name: count.days for name, count in counts.items() if count.days is not None}
    # All that takes time is done before the clicks have to wait.
    values, named = json.dumps({name: count.value for name, count in counts.items()}), json.dumps(days)
    days_of_all = json.dumps({f"{day} {name}": clicks for name in days for day, clicks in days[name].items()})
    with transaction(lock=True) as connection:
        before = read_values(connection, values)
        after = {name: count.value + (before.get(name, 0) if add else 0) for name, count in counts.items()}
        check_sums(after)
        run(connection, PUT_VALUES, values=values, add=int(add))
        if not add:
            run(connection, f"delete from daily where {NAMED}", names=named)
        run(connection, ADD_DAYS, days=days_of_all)
    tell(before, after)
    return after


def check_sums(values: Mapping[str, int]) -> None:
    for name, value in values.items():
        if value > MAX_COUNT:
            raise Mistake(f"{name} would be {value}, and {MAX_COUNT} is the most. Nothing was changed.")


def as_csv(counts: Mapping[str, Count]) -> str:
    """Write the counts as import takes them back; nothing in them needs quotes."""
    days = {name: " ".join(f"{day}={clicks}" for day, clicks in (counts[name].days or {}).items()) for name in counts}
    return "name,value,days\n" + "".join(f"{name},{counts[name].value},{days[name]}\n" for name in counts)


# --- The commands -----------------------------------------------------------------------------------------------


def list_counters(prefix: str, sort: str) -> None:
    """Show the counters: all, or those whose names begin with PREFIX."""
    with transaction() as connection:
        found = run(connection, LIST).all()
    rows = sorted(tuple(row) for row in found if row.name.startswith(prefix.removesuffix("*")))
    if sort == "value":
        rows.sort(key=lambda row: -row[1])
    lines = _table(rows) if os.isatty(1) else "".join(f"{name}\t{value}\n" for name, value, _ in rows)
    write(lines, to_its_end=False)


def _table(rows: Sequence[tuple[str, int, str | None]]) -> str:
    """Align the rows between a header and a total."""
    lines = [("NAME", "COUNT", "LAST CLICK"), *((name, str(value), day or "-") for name, value, day in rows)]
    lines.append((counted(len(rows), "counter"), str(sum(row[1] for row in rows)), ""))
    names, values = (max(len(line[column]) for line in lines) for column in (0, 1))
    return "".join(f"{name:{names}}  {value:>{values}}  {day}".rstrip() + "\n" for name, value, day in lines)


def set_count(name: str, value: int, add: bool) -> None:
    """Set one count, and make the counter where there is none."""
    write(f"{put_counts({name: Count(value)}, add)[name]}\n")


def rename_counter(old: str, new: str, merge: bool) -> None:
    """Give one counter, with its days, another name."""
    with transaction(lock=True) as connection:
        before = read_values(connection, json.dumps({old: 0, new: 0}))
        if old not in before:
            raise _missing([old])
        if new in before and (not merge or new == old):
            raise Mistake(f"There is a counter {new} already. Choose another name, or add {old} to it with --merge.")
        after = {new: before.pop(old) + before.get(new, 0)}
        check_sums(after)
        for statement in RENAME:
            run(connection, statement, old=old, new=new)
    tell(before, after)
    write(f"{new}\t{after[new]}\n")


def delete_counters(names: list[str], yes: bool) -> None:
    """Delete counters, and write them as import takes them back. On a terminal it asks first."""
    with transaction() as connection:
        chosen = _matching([row.name for row in run(connection, "select name from counter")], names)
    if not yes and os.isatty(0) and not _confirmed(chosen):
        raise Mistake("Nothing was deleted.")
    named = json.dumps(dict.fromkeys(chosen))
    with transaction(lock=True) as connection:
        # Before the commit, so that what cannot be written is not deleted.
        write(as_csv(read_counts(connection, f" where counter.{NAMED}", names=named)))
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
    say(f"Delete {counted(len(names), 'counter')}, {some(names)}? [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def export_counters(file: str | None) -> None:
    """Write all counters, with their days, as CSV."""
    if file is not None:
        raise Mistake(f"export writes to standard output. Write `{COMMAND} export > {shlex.quote(file)}`")
    with transaction() as connection:
        counts = read_counts(connection)
    write(as_csv(counts))


def import_counters(file: str, add: bool) -> None:
    """Set the counters in a CSV file like that of export: all of them or, where a line is wrong, none."""
    if file == "-" and os.isatty(0):
        say("Write lines like post-1,42, and then Ctrl+D. Ctrl+C changes nothing.")
    try:
        with open(0 if file == "-" else file, "rb", closefd=file != "-") as given:
            content = given.read()
    except OSError as error:
        raise Mistake(f"{'Standard input' if file == '-' else file} cannot be read: {error.strerror}") from None
    counts = read_csv(content)
    put_counts(counts, add)
    write(f"Imported {counted(len(counts), 'counter')}.\n")


def init() -> None:
    """Make the tables that are missing, as the first click does, too."""
    with transaction() as connection:
        apply_schema(connection)
    write("The tables are there.\n")


# --- What is told -----------------------------------------------------------------------------------------------


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def tell(before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Tell which counts there were before, and which names COUNTERS does not permit, where it is set."""
    for name, value in before.items():
        if value not in (0, after[name]):
            say(f"{name}: {value} -> {after[name]}")
    listed = [entry.strip(string.whitespace) for entry in os.environ.get("COUNTERS", "").split(",")]
    permitted = {name for entry in listed for name in fnmatch.filter(after, entry)}
    if any(listed) and (foreign := [name for name in after if name not in permitted]):
        say(f"COUNTERS does not permit {some(foreign)}. List what pages are to show and click.")


def say(message: str, end: str = "\n") -> None:
    """Tell what does not belong into the output."""
    print(message, end=end, file=sys.stderr, flush=True)


def write(output: str, to_its_end: bool = True) -> None:
    """Write to standard output; `to_its_end`: a reader that goes before that, as in `list | head`, is a Mistake."""
    if sys.stdout is None:  # file 1 may be the database's by now
        raise Mistake("Standard output is closed. Nothing was written.")
    try:
        with open(1, "w", closefd=False) as out:  # buffered: PYTHONUNBUFFERED would drop what does not fit at once
            out.write(output)
    except OSError as error:
        if to_its_end or not isinstance(error, BrokenPipeError):
            raise Mistake(f"Standard output cannot be written to its end: {error.strerror}") from None


# --- The command line -------------------------------------------------------------------------------------------


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
    setting.add_argument("--add", action="store_true", help="add VALUE to the count that is there")
    renaming = command("rename", rename_counter)
    renaming.add_argument("old", metavar="OLD", type=checked_name)
    renaming.add_argument("new", metavar="NEW", type=checked_name)
    renaming.add_argument("--merge", action="store_true", help="add OLD and its days to NEW, where there is one")
    deleting = command("delete", delete_counters)
    deleting.add_argument("names", metavar="NAME", nargs="+", type=checked_pattern, help="also like 'post-spam-*'")
    deleting.add_argument("-y", "--yes", action="store_true", help="do not ask")
    command("export", export_counters).add_argument("file", nargs="?", help=argparse.SUPPRESS)
    importing = command("import", import_counters)
    importing.add_argument("file", metavar="FILE", nargs="?", default="-")
    importing.add_argument("--add", action="store_true", help="add the counts and the days to those that are there")
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
