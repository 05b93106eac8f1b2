"""`counters.py`: what an owner does by hand, on both databases, beside a function that goes on counting."""

import csv
import datetime
import gzip
import io
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from servers import (
    COUNTER,
    ROOT,
    Tool,
    clicks_coming_in,
    copy_function,
    rows,
    today,
    wait_for_lock,
    wait_until,
)

DAY = datetime.timedelta(days=1)
COMMAND = ".venv/bin/python counters.py"
ADDS_UP = "The days of every counter add up.\n"


def days_of_base(database):
    """What the days of each counter must add up to."""
    return dict(database.sql("select name, value - base from counter"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The tool on two counters that no test changes, and what looks them up."""
    path = tmp_path_factory.mktemp("kept") / "clicks.sqlite3"
    tool = Tool(f"sqlite:///{path}")
    tool("import", given="a,1\nb,2\n")
    with closing(sqlite3.connect(path)) as connection:
        yield tool, lambda: connection.execute("select name, value from counter order by name").fetchall()


# --- The command line -------------------------------------------------------------------------------------------


def test_without_a_command_it_shows_help_and_writes_nothing(tool, database):
    code, text, said = tool.run()
    assert (code, said) == (0, "")
    assert text == tool("--help")
    for command in ("list", "set", "rename", "delete", "export", "import", "audit", "init"):
        assert f"\n    {command} " in text
    assert text.startswith(f"usage: {COMMAND} ")
    tables = "sqlite_master" if database.url.startswith("sqlite") else "pg_tables where schemaname = 'public'"
    assert database.sql(f"select * from {tables}") == []


def test_get_is_gone(tool):
    assert "invalid choice: 'get'" in tool.refusal("get", "a")


def test_init_makes_the_tables_and_may_be_repeated(tool, database):
    for _ in range(2):
        assert tool("init") == "The tables are there.\n"
        assert database.values() == {}


def test_every_command_makes_the_tables_that_it_needs(postgres):
    def tool():
        return Tool(postgres.url(postgres.new_database()))

    assert tool()("list") == ""
    assert tool()("export") == "name,value,days\n"
    assert tool()("audit") == ADDS_UP
    assert tool()("set", "a", "1") == "1\n"
    assert "There is no counter a." in tool().refusal("delete", "a")


def test_one_table_that_is_missing_is_made(tool, database):
    tool("set", "a", "1")
    database.sql("drop table daily")
    assert tool("list") == "a\t1\n"


def test_local_file_is_named_where_no_url_is_set(tmp_path):
    folder = copy_function(tmp_path / "copy")
    shutil.copy(ROOT / "counters.py", folder)
    code, output, said = Tool(None, folder).run("set", "post-1", "5")
    assert (code, output) == (0, "5\n")
    assert said == f"DATABASE_URL is not set: this is about {folder / 'clicks.sqlite3'}\n"


def test_python_without_the_libraries_names_the_one_that_has_them():
    command = [sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, '.'); import counters"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == f"This Python has no SQLAlchemy. Run it as `{COMMAND}`, with the .venv of README.md\n"
    assert done.returncode == 1


MISTAKES = [
    (["delete", "nothing"], "There is no counter nothing."),
    (
        ["rename", "nothing", "b"],
        f"There is no counter nothing. Nothing was changed. `{COMMAND} list` shows those that there are.",
    ),
    (["rename", "a", "b"], "There is a counter b already"),
    (["rename", "a", "a"], "There is a counter a already"),
    (["rename", "a", "b c"], "'b c' is not a name. A name is 1 to 100 characters"),
    (["set", "a b", "1"], "'a b' is not a name"),
    (["set", "", "1"], "'' is not a name"),
    (["set", "x" * 101, "1"], "is not a name"),
    (["set", "a\n", "1"], "is not a name"),
    (["delete", "x'; drop table counter; --"], "is not a name"),
    (["delete", "a*b"], "is not a name"),
    (["delete", "*"], "'*' would be every counter"),
    (["delete"], "NAME"),
    (["set", "a", "-1"], "'-1' is not a count. Write a whole number from 0 to 9007199254740991"),
    (["set", "a", str(2**53)], "is not a count"),
    (["set", "a", "9" * 5000], "is not a count"),
    (["set", "a", "1.000"], "is not a count"),
    (["set", "a", "\u0661"], "is not a count"),
    (["set", "a"], "VALUE"),
    (["list", "--sort", "day"], "--sort"),
    (["reset"], "reset"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_mistake_is_explained_and_changes_nothing(kept, arguments, words):
    tool, rows = kept
    assert words in tool.refusal(*arguments)
    assert rows() == [("a", 1), ("b", 2)]


# --- list, set, rename ------------------------------------------------------------------------------------------


def test_set_list_and_rename(tool, database):
    assert tool("set", "post-2", "7") == "7\n"
    assert tool("set", "post-1", str(2**53 - 1)) == "9007199254740991\n"
    assert tool("list") == "post-1\t9007199254740991\npost-2\t7\n"
    assert tool("rename", "post-2", "a:/new-name_2.0") == "a:/new-name_2.0\t7\n"
    assert database.values() == {"a:/new-name_2.0": 7, "post-1": 2**53 - 1}


def test_list_is_sorted_as_bytes_are_on_both_databases(tool):
    tool("import", given="post-10,1\npost-2,30\nPost,2\nposta,1\n")
    assert re.findall(r".+(?=\t)", tool("list")) == ["Post", "post-10", "post-2", "posta"]
    assert re.findall(r".+(?=\t)", tool("list", "--sort", "value")) == ["post-2", "Post", "post-10", "posta"]


def test_list_shows_those_with_a_prefix(tool):
    tool("import", given="post-1,1\npost-2,2\npost_3,3\nPost-4,4\n")
    assert tool("list", "post-") == tool("list", "post-*") == "post-1\t1\npost-2\t2\n"
    assert tool("list", "%") == ""


def test_list_on_a_terminal_has_a_header_the_last_day_and_a_total(tool, database):
    tool("import", given="post-10,1200\na,7,2026-01-02=3 2026-01-10=4 2026-02-01=0\n")
    assert tool.on_terminal("list") == (0, (
        "NAME        COUNT  LAST CLICK\n"
        "a               7  2026-01-10\n"
        "post-10      1200  -\n"
        "2 counters   1207\n"
    ))  # fmt: skip
    assert tool.on_terminal("list", "a")[1].splitlines()[-1] == "1 counter      7"


def test_empty_list_on_a_terminal(tool):
    assert tool.on_terminal("list") == (0, "NAME        COUNT  LAST CLICK\n0 counters      0\n")


def test_function_goes_on_from_what_was_set(tool, function, database):
    function.click()
    function.click()
    tool("set", COUNTER, "41")
    assert function.count() == 41
    assert function.click().value == 42
    assert days_of_base(database) == {COUNTER: 3}  # base is what was set, the rest was clicked
    tool("set", COUNTER, "0")
    assert function.click().value == 1
    assert days_of_base(database) == {COUNTER: 4}


# --- delete -----------------------------------------------------------------------------------------------------

SPAM = "post-1,1\npost-spam-1,10,2026-01-01=3 2026-01-02=7\npost-spam-2,20\npost-spammer,5\n"


def test_delete_takes_names_and_patterns_and_import_undoes_it(tool, database):
    tool("import", given=SPAM)
    before = tool("export")
    code, rows, said = tool.run("delete", "post-spam-*", "post-1", "post-spam-1")
    assert rows == ("name,value,days\npost-1,1,\npost-spam-1,10,2026-01-01=3 2026-01-02=7\npost-spam-2,20,\n")
    assert (code, said) == (0, f"Deleted 3 counters. To undo it, give these lines to `{COMMAND} import`.\n")
    assert database.values() == {"post-spammer": 5}
    assert database.days("post-spam-1") == {}
    tool("import", given=rows)
    assert tool("export") == before
    assert tool("audit") == ADDS_UP


def test_delete_of_one_counter_says_so(tool):
    tool("set", "a", "1")
    assert tool.run("delete", "a", "--yes")[2].startswith("Deleted 1 counter. ")


def test_delete_names_what_there_is_not_and_deletes_nothing(tool, database):
    tool("import", given=SPAM)
    refusal = tool.refusal("delete", "post-1", "post-9", "post-spam-*", "spam-*")
    assert refusal.startswith("There are no counters post-9, spam-*. Nothing was changed.")
    assert len(database.values()) == 4


def test_delete_keeps_the_keys_of_the_clicks(tool, function, database):
    """A click that is sent again must not make the counter anew."""
    key = "8e03978e-40d5-43e8-bc93-6894a57f9324"
    function.click("post-1", key)
    tool("delete", "post-1")
    assert function.click("post-1", key).status == 200
    assert database.values() == {}
    assert database.keys("post-1") == {key}


@pytest.mark.parametrize("typed", ["n\n", "\n", "\x04", "maybe\n"])
def test_delete_on_a_terminal_asks(on_sqlite, typed):
    tool = Tool(on_sqlite.url)
    tool("import", given=SPAM)
    code, shown = tool.on_terminal("delete", "post-spam-*", typed=typed)
    assert "Delete 2 counters, post-spam-1, post-spam-2? [y/N] " in shown
    assert shown.endswith("Nothing was deleted.\n")
    assert (code, len(on_sqlite.values())) == (1, 4)


def test_delete_on_a_terminal_goes_on_after_yes(tool, database):
    tool("import", given=SPAM)
    assert "post-1,1,\n" in tool.on_terminal("delete", "post-1", typed="y\n")[1]
    shown = tool.on_terminal("delete", "post-spam-*", "--yes")[1]
    assert "[y/N]" not in shown
    assert database.values() == {"post-spammer": 5}


def test_delete_whose_rows_cannot_be_written_deletes_nothing(tool, database):
    tool("import", given=SPAM)
    pipes = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with Path("/dev/full").open("wb") as full, tool.start("delete", "post-*", stdout=full, **pipes) as process:
        assert process.stderr.read() == b"Standard output cannot be written: No space left on device\n"
    assert process.returncode == 1
    with tool.start("delete", "post-*", stdout=subprocess.PIPE, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b"Standard output cannot be written: Broken pipe\n"
    assert len(database.values()) == 4


# --- import -----------------------------------------------------------------------------------------------------

CSV = {
    "an export": "name,value\na,1\nb,2\n",
    "an export with days": "name,value,days\na,1,\nb,2,\n",
    "without a header": "a,1\nb,2\n",
    "from a spreadsheet": '\ufeffname,value\r\n"a",1\r\n\r\nb,2\r\n',
    "from an old Mac": "a,1\rb,2\r",
    "without an end of line": "a,1\nb,2",
    "a header as people write it": "Name,Value\na,1\nb,2\n",
    "a header in capitals": "\n,\nNAME , VALUE,Days\na,1,\nb,2,\n",
    "empty rows of a spreadsheet": "name,value,days\n,,\na,1,\n,,,,\n , \nb,2,\n,,\n",
    "blanks around": "a, 1\n b ,2 \n",
    "leading zeros": "a,01\nb,0000000000000002\n",
    "a quoted end of line": 'a,"1\n"\nb,2\n',
}


@pytest.mark.parametrize("text", CSV.values(), ids=CSV)
def test_import_takes(on_sqlite, text):
    assert Tool(on_sqlite.url)("import", given=text) == "Imported 2 counters.\n"
    assert on_sqlite.values() == {"a": 1, "b": 2}
    assert days_of_base(on_sqlite) == {"a": 0, "b": 0}


HEADER_RULE = "If it is the header, it must be name,value or name,value,days."
WRONG = {
    "name": ("a,1\nb c,2\n", "Line 2: 'b c' is not a name."),
    "no name": ("a,1\n,2\n", "Line 2: '' is not a name."),
    "value": ("name,value\na,1\n\nb,1e3\n", "Line 4: '1e3' is not a count."),
    "no value": ("a,1\nb,\n", "Line 2: '' is not a count."),
    "value after empty rows": ("name,value\n,\na,1\n,\nb,x\n", "Line 5: 'x' is not a count."),
    "thousands": ('a,1\nb,"1,000"\n', "Line 2: '1,000' is not a count."),
    "too large": ("a,9007199254740992\n", "Line 1: '9007199254740992' is not a count."),
    "much too large": ("a," + "9" * 5000, "Line 1: '999"),
    "Arabic digits": ("a,\u0661\u0662\n", "Line 1: '\u0661\u0662' is not a count."),
    "negative": ("a,-1\n", "Line 1: '-1' is not a count."),
    "one field": ("a,1\nb\n", "Line 2: Fields: 1 instead of 2 or 3"),
    "four fields": ("a,1\nb,1,,5\n", "Line 2: Fields: 4 instead of 2 or 3"),
    "semicolons": ("a;1\nb;2\n", "Line 1: Fields: 1 instead of 2 or 3. Write it like post-1,42, with"),
    "as list writes it": ("a\t1\nb\t2\n", "Line 1: Fields: 1 instead of 2 or 3. Write it like post-1,42, with"),
    "twice": ("a,1\nb,2\na,3\n", "Line 3: The counter a is there twice."),
    "quote": ('a,1\n"b,2\n', "Line 2: unexpected end of data."),
    "quote over several lines": ('a,1\n"b,2\nc,3\nd,4\n', "Line 2: unexpected end of data."),
    "value over several lines": ('a,1\nb,"2\nc"\nd,4\n', "Line 2: '2\\nc' is not a count."),
    "after a quoted end of line": ('a,"1\n"\nb,x\n', "Line 3: 'x' is not a count."),
    "header in the middle": ("a,1\nname,value\n", "Line 2: 'value' is not a count."),
    "another header": ("path,count\na,1\n", HEADER_RULE),
    "the header of a pivot": ("path,count,unique,new\na,1,1,1\n", HEADER_RULE),
    "a header with semicolons": ("Name;Value\na;1\n", HEADER_RULE),
    "the header turned round": ("value,name\n1,a\n", HEADER_RULE),
    "Latin-1": (b"a,1\ncaf\xe9,2\n", "Line 2: This is no UTF-8."),
    "UTF-16": ("\ufeffa,1\n".encode("utf-16-le"), "Line 1: This is no UTF-8."),
    "a program": (b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0", "Line 1: "),
    "more days than clicks": ("a,1\npost-1,10,2026-11-22=12\n", "Line 2: Its days add up to 12, more than its count"),
    "more days in all": ("post-1,10,2026-11-22=6 2026-11-23=5\n", "Line 1: Its days add up to 11, more than its"),
    "a day of month 13": ("a,1\nb,2,2026-13-01=1\n", "Line 2: '2026-13-01=1' is not a day"),
    "a day that is not there": ("a,1\nb,2,2026-02-30=1\n", "Line 2: '2026-02-30=1' is not a day"),
    "a day without clicks": ("a,1\nb,2,2026-01-01\n", "Line 2: '' is not a count"),
    "a negative day": ("a,1\nb,2,2026-01-01=-1\n", "Line 2: '-1' is not a count"),
    "words": ("a,1\nb,2,x\n", "Line 2: 'x' is not a day"),
    "another way to write days": ("a,1\nb,2,20260101=1\n", "Line 2: '20260101=1' is not a day"),
    "a day twice": ("a,1\nb,2,2026-01-01=1 2026-01-01=2\n", "Line 2: '2026-01-01=2' is not a day, or is there twice"),
    "a colon": ("a,1\nb,2,2026-01-01:1\n", "Line 2: '2026-01-01:1' is not a day"),
    "a positive base": ("a,1\nb,2,base=1\n", "Line 2: 'base=1' is not a day"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG)
def test_import_that_is_wrong_says_in_which_line_and_changes_nothing(kept, text, words):
    tool, rows = kept
    refusal = tool.refusal("import", given=text)
    assert words in refusal
    assert refusal.endswith("Nothing was imported.\n")
    assert refusal.count("\n") == 1
    assert rows() == [("a", 1), ("b", 2)]


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", " , \r\n,,\r\n"])
def test_import_of_an_empty_file_is_a_mistake(kept, text):
    assert (
        kept[0].refusal("import", given=text)
        == "There is nothing to import: every line is empty. Write lines like post-1,42\n"
    )


def test_import_counts_in_right_english(tool):
    assert tool("import", given="a,1\n") == "Imported 1 counter.\n"
    assert tool("import", given="name,value\n") == "Imported 0 counters.\n"  # as an empty database is exported


def test_import_sets_what_is_there_and_leaves_the_rest(tool, database):
    tool("import", given="a,1\nb,2\n")
    tool("import", given="b,20\nc,30\n")
    assert database.values() == {"a": 1, "b": 20, "c": 30}


def test_import_from_a_file(tool, database, tmp_path):
    (tmp_path / "counts.csv").write_text("a,1\n")
    assert tool("import", str(tmp_path / "counts.csv")) == "Imported 1 counter.\n"
    assert database.values() == {"a": 1}
    refusal = tool.refusal("import", str(tmp_path / "none.csv"))
    assert refusal == f"{tmp_path}/none.csv cannot be read: No such file or directory\n"
    assert "Is a directory" in tool.refusal("import", str(tmp_path))
    command = f"{' '.join(tool.command)} import <&-"
    done = subprocess.run(command, shell=True, capture_output=True, env=tool.environment)
    assert done.stderr == b"Standard input cannot be read: Bad file descriptor\n"


def test_import_from_a_terminal_says_that_it_waits(on_sqlite):
    code, shown = Tool(on_sqlite.url).on_terminal("import", typed="a,1\nb,2\n\x04")
    assert "Write lines like post-1,42, and then Ctrl+D." in shown
    assert shown.endswith("Imported 2 counters.\n")
    assert (code, on_sqlite.values()) == (0, {"a": 1, "b": 2})


def test_import_with_days_replaces_them_and_without_keeps_them(tool, function, database):
    function.click()
    tool("import", given=f"{COUNTER},10\n")
    assert database.days() == {str(today()): 1}
    tool("import", given=f"{COUNTER},10,2026-01-01=4 2026-01-02=5\n")
    assert database.days() == {"2026-01-01": 4, "2026-01-02": 5}
    assert tool("audit") == ADDS_UP
    function.click()
    assert function.count() == 11
    tool("import", given=f"{COUNTER},3,\n")  # as an export has a counter without days
    assert database.days() == {}
    assert tool("audit") == ADDS_UP


def test_import_of_100_000_counters(tool, database):
    tool("import", given="\n".join(f"post-{number},{number},2026-01-01={number}" for number in range(100_000)))
    assert database.sql("select count(*), sum(value), max(base) from counter") == [(100_000, 4999950000, 0)]
    assert database.sql("select count(*) from daily") == [(100_000,)]


def test_import_that_fails_at_its_end_changes_nothing(tool, database):
    """A trigger of the test refuses the last of the days, after the counters were set."""
    tool("init")
    if database.url.startswith("sqlite"):
        database.sql("create trigger t before insert on daily when new.name = 'z' begin select raise(abort, 'no'); end")
    else:
        database.sql("create function f() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
        database.sql("create trigger t before insert on daily for each row when (new.name = 'z') execute function f()")
    assert "no" in tool.refusal("import", given="a,1\nz,1,2026-01-01=1")
    assert database.values() == {}


# --- export -----------------------------------------------------------------------------------------------------


def numbers(text):
    return {row["name"]: int(row["value"]) for row in csv.DictReader(io.StringIO(text))}


def test_export_and_import_give_the_same_numbers_while_clicks_come_in(tool, function, database, on_postgres):
    """From either database into an empty Postgres; what is exported is a state that there was."""
    tool("set", COUNTER, "1000")
    with clicks_coming_in(function, COUNTER, "other", clients=1) as answers:
        exports = [tool("export") for _ in range(5)]
    answered = [answer.value for answer in answers]
    assert len({numbers(export)[COUNTER] for export in exports}) > 1
    for export in exports:
        assert 0 <= numbers(export)[COUNTER] - 1000 - numbers(export).get("other", 0) <= 1
    if database.name != on_postgres.name:
        empty = Tool(on_postgres.url)
        empty("import", given=exports[-1])
        assert empty("export") == exports[-1]
        assert on_postgres.values() == numbers(exports[-1])
    assert sorted(value for value in answered if value > 1000) == list(range(1001, 1001 + len(answered) // 2))
    assert function.count() == 1000 + len(answered) // 2


def test_export_and_import_carry_the_days(tool, function, database, on_postgres):
    function.click()
    database.put_days({1: 5, 400: 7})
    database.sql("update counter set value = value + 12")
    tool("set", "other", "50")
    function.click("other")
    tool("set", "post-1", "8")
    export = tool("export")
    days = " ".join(f"{today() - ago * DAY}={value}" for ago, value in ((400, 7), (1, 5), (0, 1)))
    assert export == f"name,value,days\n{COUNTER},13,{days}\nother,51,{today()}=1\npost-1,8,\n"
    if database.name != on_postgres.name:
        empty = Tool(on_postgres.url)
        empty("import", given=export)
        assert empty("export") == export
        assert empty("audit") == ADDS_UP
        everything = "select * from counter order by name"
        assert on_postgres.sql(everything) == database.sql(everything)
    tool("import", given=export)
    assert tool("export") == export


def test_count_that_was_set_below_its_days_survives_export_and_import(tool, database):
    tool("import", given="a,10,2026-01-01=4 2026-01-02=5\n")
    tool("set", "a", "2")
    export = tool("export")
    assert export == "name,value,days\na,2,2026-01-01=4 2026-01-02=5 base=-7\n"
    assert tool("delete", "a") == export
    tool("import", given=export)
    assert tool("export") == export
    assert database.sql("select * from counter") == [("a", 2, -7)]
    assert tool("audit") == ADDS_UP


def test_goatcounters_export_moves_in_as_the_readme_says(on_sqlite, tmp_path):
    readme = (ROOT / "README.md").read_text().partition("GoatCounter's CSV export:\n\n```sh\n")[2]
    conversion, command, _ = readme.partition(".venv/bin/python counters.py import counts.csv\n```")
    assert command
    head = "2Path,Title,Event,UserAgent,Browser,System,Session,Bot,Referrer,Ref scheme,Screen size,Location"
    visits = [
        ("/post-1/", 0, 1, "2026-05-01"),
        ("/post-1/", 0, 0, "2026-05-01"),
        ("/post-1/", 0, 1, "2026-05-02"),
        ("/post-1/", 1, 1, "2026-05-02"),
        ("/a caf\u00e9", 0, "true", "2026-05-02"),
        ("/", 0, 1, "2026-05-03"),
    ]
    lines = [f'{path},"A, b",false,,,,s,{bot},,,,,{first},{day}T12:00:00Z' for path, bot, first, day in visits]
    with gzip.open(tmp_path / "goatcounter-export-blog-20260504T120000Z-0.csv.gz", "wt") as export:
        export.write("\n".join([f"{head},FirstVisit,Date", *lines]))
    subprocess.run(["bash", "-c", conversion], cwd=tmp_path, check=True)
    tool = Tool(on_sqlite.url)
    assert tool("import", str(tmp_path / "counts.csv")) == "Imported 3 counters.\n"
    assert tool("export") == ("name,value,days\na-caf-,1,2026-05-02=1\nhome,1,2026-05-03=1\n"
                              "post-1,2,2026-05-01=1 2026-05-02=1\n")  # fmt: skip
    assert tool("audit") == ADDS_UP


def test_export_to_a_file(tool, tmp_path):
    tool("set", "a", "1")
    file = tmp_path / "counts.csv"
    assert tool.run("export", str(file)) == (0, "", f"Exported 1 counter to {file}.\n")
    assert file.read_bytes() == b"name,value,days\na,1,\n"
    assert tool.refusal("export", "/nowhere/x") == "/nowhere/x cannot be written: No such file or directory\n"


# --- audit and init ---------------------------------------------------------------------------------------------


def test_audit_is_content_with_what_was_clicked_set_imported_renamed_and_deleted(tool, function, database):
    for name in (COUNTER, COUNTER, "other", "post-1", "post-2"):
        function.click(name)
    tool("set", COUNTER, "100")
    tool("set", "post-9", "7")
    tool("import", given="other,50\npost-8,3\n")
    tool("rename", "post-1", "post-5")
    tool("delete", "post-2")
    function.click()
    assert tool("audit") == ADDS_UP
    assert database.days("post-5") == {str(today()): 1}
    assert database.days("post-2") == {}
    assert database.days() == {str(today()): 3}


TAMPERED = {
    "a day": ("update daily set value = 7 where name = 'other'", "other: 2 clicks, but its days add up to 7."),
    "a value": ("update counter set value = 5 where name = 'other'", "other: 5 clicks, but its days add up to 2."),
    "a lost day": ("delete from daily where name = 'other'", "other: 2 clicks, but its days add up to 0."),
    "a day too many": ("insert into daily values ('x', '2020-01-01', 1)", "x: 0 clicks, but its days add up to 1."),
    "a lost counter": ("delete from counter where name = 'other'", "other: 0 clicks, but its days add up to 2."),
    "one click": (
        f"update daily set value = 2 where name = '{COUNTER}'",
        f"{COUNTER}: 1 click, but its days add up to 2.",
    ),
}


def test_audit_finds_what_was_tampered_with_and_says_how_to_mend_it(tool, database):
    counters = f"other,2,2026-11-22=2\n{COUNTER},1,2026-11-22=1\n"
    tool("import", given=counters)
    for tampering, words in TAMPERED.values():
        database.sql(tampering)
        found, advice = tool.refusal("audit").splitlines()
        assert found == words
        [command] = re.findall(rf"`{re.escape(COMMAND)} (set NAME VALUE)`", advice)
        name = words.partition(":")[0]
        tool(*command.replace("NAME", name).replace("VALUE", "9").split())
        assert database.values()[name] == 9
        tool("import", given=counters)
        assert tool("audit") == ADDS_UP


def test_audit_is_right_while_clicks_come_in(tool, function):
    with clicks_coming_in(function, COUNTER):
        for _ in range(3):
            assert tool("audit") == ADDS_UP


def test_counters_from_before_there_were_days_are_brought_into_line(tool, database, start):
    tool("init")
    database.sql("drop table daily")
    database.sql("insert into counter (name, value, base) values ('hello-world-button', 41, 0), ('other', 9, 5)")
    function = start(database.url, COUNTERS="hello-world-button,other")
    assert [function.count(), function.click().value] == [41, 42]
    assert tool("audit") == ADDS_UP
    assert database.days() == {str(today()): 1}
    assert dict(database.sql("select name, base from counter")) == {COUNTER: 41, "other": 9}
    tool("init")
    assert tool("audit") == ADDS_UP
    assert dict(database.sql("select name, base from counter")) == {COUNTER: 41, "other": 9}


def test_clicks_that_an_older_version_counts_beside_a_newer_one_are_brought_into_line(tool, function, database):
    function.click()
    database.sql("update counter set value = value + 2")  # as the older version does
    refusal = tool.refusal("audit")
    assert "3 clicks, but its days add up to 1" in refusal
    assert f"`{COMMAND} init`" in refusal
    assert tool("init") == "The tables are there.\n1 counter had clicks without a day.\n"
    assert tool("audit") == ADDS_UP
    assert (function.click().value, database.days()) == (4, {str(today()): 2})


# --- Beside the function ----------------------------------------------------------------------------------------


def test_commands_and_clicks_at_once_lose_nothing(tool, function, database):
    with clicks_coming_in(function, "other") as answered:
        for number in range(4):
            tool("set", COUNTER, str(number))
            tool("import", given=f"post-{number},5\n")
        tool("rename", "post-1", "post-9")
        tool("delete", "post-2")
        tool("init")
    assert {answer.status for answer in answered} == {200}
    assert database.values() == {COUNTER: 3, "other": len(answered), "post-0": 5, "post-3": 5, "post-9": 5}


@pytest.mark.parametrize("arguments", [["import", "rows.csv"], ["delete", "a"], ["rename", "a", "b"]])
def test_tool_waits_for_a_click_that_has_its_day_but_not_yet_its_count(on_postgres, postgres, tmp_path, arguments):
    """Without the lock they would wait for each other: for the counter's row here, for the day's row there."""
    tool = Tool(on_postgres.url)
    tool("import", given="a,3,2026-01-01=3\n")
    (tmp_path / "rows.csv").write_text("a,100,2026-01-01=40\n")
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with postgres.connected(on_postgres.name) as click:
        rows(click, "begin; lock table counter in row exclusive mode; update daily set value = 4")
        process = tool.start(*arguments, cwd=tmp_path, **pipes)
        wait_for_lock(on_postgres)
        rows(click, "update counter set value = 4; commit")
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said.decode()
    assert tool("audit") == ADDS_UP


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_isolation_that_the_database_prefers_does_not_matter(on_postgres, start, isolation):
    on_postgres.sql(f"alter database {on_postgres.name} set default_transaction_isolation = '{isolation}'")
    tool, function = Tool(on_postgres.url), start(on_postgres.url, COUNTERS="a")
    with clicks_coming_in(function, "a", clients=2):
        for _ in range(3):
            tool("set", "a", "0")
            assert tool("audit") == ADDS_UP


def test_tool_that_is_stopped_does_not_stop_the_clicks(postgres, on_postgres, start, tmp_path):
    """As by Ctrl+Z, or a laptop that sleeps, while its statement runs and holds the lock."""
    function = start(on_postgres.url)
    function.click()
    tool = Tool(on_postgres.url)
    given = "\n".join([f"{COUNTER},5", *(f"post-{number},{number}" for number in range(100_000))])
    (tmp_path / "given").write_text(given)
    with postgres.connected(on_postgres.name) as other:
        rows(other, "begin; select * from counter for update")
        process = tool.start("import", str(tmp_path / "given"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for_lock(on_postgres)
        process.send_signal(signal.SIGSTOP)
        rows(other, "rollback")
    try:
        wait_until(lambda: function.click().status == 200)
    finally:
        process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"idle-in-transaction timeout. It was stopped for too long: try again" in said
    assert "post-1" not in on_postgres.values()
    assert tool("import", given=given) == "Imported 100001 counters.\n"


def test_tool_that_finds_the_counters_locked_gives_up(on_postgres, postgres):
    tool = Tool(on_postgres.url)
    tool("set", "a", "1")
    with postgres.connected(on_postgres.name) as other:
        rows(other, "begin; lock table counter")
        began = time.monotonic()
        refusal = tool.refusal("set", "a", "2")
    assert time.monotonic() - began < 20  # of the 30 s that it waits for answers
    assert "lock timeout. Something else holds the lock: try again" in refusal


def test_behind_a_pooler_in_transaction_mode(postgres, on_postgres):
    with postgres.pooler("transaction") as port:
        tool = Tool(postgres.url(on_postgres.name, port))
        tool("import", given=SPAM)
        assert "post-1,1,\n" in tool("delete", "post-1")
        assert tool("audit") == ADDS_UP


# --- How it ends ------------------------------------------------------------------------------------------------


def test_output_that_nobody_reads_to_its_end_is_no_failure(tool):
    tool("import", given="\n".join(f"post-{number},1" for number in range(20_000)))
    command = f"{' '.join(tool.command)} list | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, env={**os.environ, **tool.environment})
    assert (done.stdout, done.stderr) == (b"post-0\t1\n", b"")


def test_output_that_cannot_be_written_is_told(on_sqlite):
    tool = Tool(on_sqlite.url)
    with Path("/dev/full").open("wb") as full, tool.start("export", stdout=full, stderr=subprocess.PIPE) as process:
        assert process.stderr.read() == b"Standard output cannot be written: No space left on device\n"
    assert process.returncode == 1


def test_interrupted_tool_ends_without_a_word(on_sqlite):
    terminal, end = pty.openpty()
    process = Tool(on_sqlite.url).start("import", stdin=end, stderr=subprocess.PIPE)
    assert b"Ctrl+C changes nothing" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == b""
    assert process.returncode == -signal.SIGINT
    for each in (terminal, end):
        os.close(each)
