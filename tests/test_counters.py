"""`counters.py`: what an owner does by hand, on both databases, beside a function that goes on counting."""

import csv
import gzip
import io
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from servers import (
    COUNTER,
    ROOT,
    Tool,
    clicks_coming_in,
    copy_function,
    new_key,
    rows,
    today,
    wait_for_lock,
    wait_until,
)

import counters
import database_url

COMMAND = ".venv/bin/python counters.py"
MAX_COUNT = 9007199254740991


class OwnProcess(Tool):
    """The same in the tests' own process, which saves half a second a command; what is given is a file."""

    def __init__(self, url, folder, monkeypatch, capfd):
        super().__init__(url)
        self.folder, self.monkeypatch, self.capfd = folder, monkeypatch, capfd

    def run(self, *arguments, given=b""):
        if arguments and {*arguments} <= {"import", "--add"}:
            file = self.folder / "given.csv"
            file.write_bytes(given if isinstance(given, bytes) else given.encode())
            arguments = (*arguments, str(file))
        self.monkeypatch.delenv("COUNTERS", raising=False)
        for name, value in self.environment.items():
            self.monkeypatch.setenv(name, value)
        for module in (counters, database_url):
            self.monkeypatch.setattr(module, "DATABASE", database_url.database_from(self.environment))
        self.monkeypatch.setattr(sys, "argv", ["counters.py", *arguments])
        code = 0
        try:
            counters.main()
        except SystemExit as end:  # with a line for standard error, as Python takes it
            code = 1 if isinstance(end.code, str) else end.code
            print(end.code if code == 1 else "", end="\n" if code == 1 else "", file=sys.stderr)
        return code, *self.capfd.readouterr()


@pytest.fixture
def tool_on(tmp_path, monkeypatch, capfd):
    return lambda url: OwnProcess(url, tmp_path, monkeypatch, capfd)


@pytest.fixture
def tool(tool_on, database):
    return tool_on(database.url)


@pytest.fixture
def tool_on_sqlite(tool_on, on_sqlite):
    return tool_on(on_sqlite.url)


# --- The command line -------------------------------------------------------------------------------------------


def test_without_a_command_it_shows_help_and_writes_nothing(tool, database):
    code, text, said = tool.run()
    assert (code, said) == (0, "")
    assert text == tool("--help")
    assert re.findall("^    ([a-z]+) ", text, re.M) == ["list", "set", "rename", "delete", "export", "import", "init"]
    assert text.startswith(f"usage: {COMMAND} ")
    tables = "sqlite_master" if database.url.startswith("sqlite") else "pg_tables where schemaname = 'public'"
    assert database.sql(f"select * from {tables}") == []


def test_init_makes_the_tables_and_may_be_repeated(tool, database):
    for _ in range(2):
        assert tool("init") == "The tables are there.\n"
        assert database.values() == {}


def test_every_command_makes_the_tables_that_it_needs(tool_on, postgres):
    def tool():
        return tool_on(postgres.url(postgres.new_database()))

    assert tool()("list") == ""
    assert tool()("export") == "name,value,days\n"
    assert tool()("set", "a", "1") == "1\n"
    assert tool()("import", given="a,1\n") == "Imported 1 counter.\n"
    assert "There is no counter a." in tool().refusal("delete", "a")
    assert "There is no counter a." in tool().refusal("rename", "a", "b")


def test_one_table_that_is_missing_is_made(tool, database):
    tool("set", "a", "1")
    database.sql("drop table daily")
    assert tool("list") == "a\t1\n"


def test_table_from_before_with_a_base_goes_on_working(tool, database, start):
    database.sql("create table counter (name text not null primary key, value bigint not null, "
                 "base bigint not null default 0)")  # fmt: skip
    tool("import", given="a,5,2026-01-01=4\nb,1\n")
    tool("set", "a", "7")
    tool("rename", "b", "a", "--merge")
    function = start(database.url, COUNTERS="a,c")
    assert [function.click("a").value, function.click("c").value] == [9, 1]
    assert tool("export") == f"name,value,days\na,9,2026-01-01=4 {today()}=1\nc,1,{today()}=1\n"
    tool("delete", "a")
    assert database.values() == {"c": 1}


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
    (["rename", "a", "b"], "There is a counter b already. Choose another name, or add a to it with --merge."),
    (["rename", "a", "a"], "There is a counter a already"),
    (["rename", "a", "a", "--merge"], "There is a counter a already"),
    (["rename", "nothing", "b", "--merge"], "There is no counter nothing."),
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
    (["set", "a", str(MAX_COUNT + 1)], "is not a count"),
    (["set", "a", "9" * 5000], "is not a count"),
    (["set", "a", "1.000"], "is not a count"),
    (["set", "a", "\u0661"], "is not a count"),
    (["set", "a"], "VALUE"),
    (["set", "a", str(MAX_COUNT), "--add"], f"a would be 9007199254740992, and {MAX_COUNT} is the most."),
    (["list", "--sort", "day"], "--sort"),
    (["export", "counts.csv"], f"export writes to standard output. Write `{COMMAND} export > counts.csv`"),
    (["export", "my counts.csv"], "export > 'my counts.csv'`"),
    (["get", "a"], "invalid choice: 'get'"),
    (["audit"], "invalid choice: 'audit'"),
]


def test_mistake_is_explained_and_changes_nothing(tool_on_sqlite, on_sqlite):
    tool_on_sqlite("import", given="a,1\nb,2\n")
    for arguments, words in MISTAKES:
        assert words in tool_on_sqlite.refusal(*arguments)
        assert on_sqlite.values() == {"a": 1, "b": 2}


# --- list, set, rename ------------------------------------------------------------------------------------------


def test_set_list_and_rename(tool, database):
    assert tool("set", "post-2", "7") == "7\n"
    assert tool("set", "post-1", str(MAX_COUNT)) == "9007199254740991\n"
    assert tool("list") == "post-1\t9007199254740991\npost-2\t7\n"
    assert tool("rename", "post-2", "a:/new-name_2.0") == "a:/new-name_2.0\t7\n"
    assert database.values() == {"a:/new-name_2.0": 7, "post-1": MAX_COUNT}


def test_list_is_sorted_as_bytes_are_on_both_databases(tool):
    tool("import", given="post-10,1\npost-2,30\nPost,2\nposta,1\n")
    assert re.findall(r".+(?=\t)", tool("list")) == ["Post", "post-10", "post-2", "posta"]
    assert re.findall(r".+(?=\t)", tool("list", "--sort", "value")) == ["post-2", "Post", "post-10", "posta"]


def test_list_shows_those_with_a_prefix(tool):
    tool("import", given="post-1,1\npost-2,2\npost_3,3\nPost-4,4\n")
    assert tool("list", "post-") == tool("list", "post-*") == "post-1\t1\npost-2\t2\n"
    assert tool("list", "%") == ""


def test_list_on_a_terminal_has_a_header_the_last_day_and_a_total(tool_on_sqlite, tool, monkeypatch):
    assert tool_on_sqlite.on_terminal("list") == (0, "NAME        COUNT  LAST CLICK\n0 counters      0\n")
    tool("import", given="post-10,1200\na,7,2026-01-02=3 2026-01-10=4 2026-02-01=0\n")
    monkeypatch.setattr(os, "isatty", lambda file: True)
    assert tool("list") == (
        "NAME        COUNT  LAST CLICK\na               7  2026-01-10\npost-10      1200  -\n2 counters   1207\n"
    )


def test_what_is_replaced_is_told(tool):
    assert tool.run("set", "post-1", "28") == (0, "28\n", "")  # where there was none
    assert tool.run("set", "post-1", "28") == (0, "28\n", "")
    assert tool.run("set", "post-1", "5000") == (0, "5000\n", "post-1: 28 -> 5000\n")
    tool("set", "post-3", "0")
    output, said = tool.run("import", given="post-3,3\npost-2,2\npost-1,1\n")[1:]
    assert (output, said) == ("Imported 3 counters.\n", "post-1: 5000 -> 1\n")


def test_add_adds_to_the_count_and_leaves_its_days(tool, database):
    tool("import", given="a,10,2026-01-01=4\n")
    assert tool.run("set", "a", "5", "--add") == (0, "15\n", "a: 10 -> 15\n")
    assert tool.run("set", "b", "5", "--add") == (0, "5\n", "")
    assert tool("export") == "name,value,days\na,15,2026-01-01=4\nb,5,\n"


def test_import_with_add_adds_the_counts_and_the_days(tool, database):
    tool("import", given="a,10,2026-01-01=4 2026-01-02=6\nb,1,2026-01-01=1\nz,7\n")
    given = "name,value,days\na,20,2026-01-02=1 2026-01-03=2\nb,5,\nc,3,2026-01-01=3\n"
    said = "a: 10 -> 30\nb: 1 -> 6\n"
    assert tool.run("import", "--add", given=given) == (0, "Imported 3 counters.\n", said)
    assert tool("export") == (
        "name,value,days\na,30,2026-01-01=4 2026-01-02=7 2026-01-03=2\nb,6,2026-01-01=1\nc,3,2026-01-01=3\nz,7,\n"
    )
    refusal = tool.refusal("import", "--add", given=f"b,1\na,{MAX_COUNT}\n")
    assert refusal == f"a would be 9007199254741021, and {MAX_COUNT} is the most. Nothing was changed.\n"
    assert database.values()["b"] == 6


def test_rename_with_merge_adds_counts_and_days(tool, database):
    tool("import", given="a,10,2026-01-01=4 2026-01-02=5\nb,3,2026-01-02=2 2026-01-03=1\nc,1\n")
    assert tool.run("rename", "a", "b", "--merge") == (0, "b\t13\n", "b: 3 -> 13\n")
    assert tool("export") == "name,value,days\nb,13,2026-01-01=4 2026-01-02=7 2026-01-03=1\nc,1,\n"
    assert tool.run("rename", "c", "d", "--merge") == (0, "d\t1\n", "")  # where there is none
    tool("set", "d", str(MAX_COUNT))
    assert f"b would be {MAX_COUNT + 13}" in tool.refusal("rename", "d", "b", "--merge")
    assert database.values() == {"b": 13, "d": MAX_COUNT}


def test_names_that_counters_does_not_permit_are_named(tool_on_sqlite):
    said = "COUNTERS does not permit {}. List what pages are to show and click.\n"
    commands = {
        "likes": ([("set", "likes", "1"), ("set", "post-1", "1"), ("rename", "post-1", "post-2")], ""),
        "likes-2": ([("set", "likes-2", "1"), ("rename", "post-2", "likes-2", "--merge")], said.format("likes-2")),
        "old": ([("rename", "likes-2", "old")], said.format("old")),
    }
    for settings in ("likes,post-*", " post-*, likes ,"):
        tool_on_sqlite.environment["COUNTERS"] = settings
        for calls, words in commands.values():
            for call in calls:
                assert tool_on_sqlite.run(*call)[2].endswith(words), call
                assert words or "COUNTERS" not in tool_on_sqlite.run("list")[2]
        given = "".join(f"page-{number:02},1\n" for number in range(25)) + "likes,1\npost-3,1\n"
        told = tool_on_sqlite.run("import", given=given)[2]
        assert told == said.format(", ".join(f"page-{number:02}" for number in range(20)) + " and 5 more")
        tool_on_sqlite("delete", "old", "page-*", "post-*", "likes")
    for settings in ("", " , "):  # not set, as far as this owner's shell knows
        tool_on_sqlite.environment["COUNTERS"] = settings
        assert tool_on_sqlite.run("set", "x" + str(len(settings)), "1")[2] == ""


# --- Beside the function ----------------------------------------------------------------------------------------


def test_function_goes_on_from_what_the_owner_did(tool, function, database):
    keys = [new_key() for _ in range(4)]
    for name in (COUNTER, COUNTER, "other", "other"):
        function.click(name)
    tool("set", COUNTER, "41")
    assert [function.count(), function.click().value, database.days()] == [41, 42, {str(today()): 3}]
    tool("set", COUNTER, "0")
    tool("set", "other", "10", "--add")
    assert [function.click().value, function.click("other").value] == [1, 13]
    for name, key in zip(("post-1", "post-2", "post-3", "post-3"), keys, strict=True):
        function.click(name, key)
        function.click(name, keys[0])  # which belongs to a click on each
    tool("delete", "post-3")
    tool("rename", "post-1", "post-4")
    tool("rename", "post-2", "post-4", "--merge")
    tool("rename", "post-4", "post-1")  # and back, over the keys that stayed
    for name, key in [("post-1", keys[0]), ("post-1", keys[1]), ("post-2", keys[1]), ("post-3", keys[2])]:
        assert function.click(name, key).status == 200  # counts nothing, and makes none anew
    assert database.values() == {COUNTER: 1, "other": 13, "post-1": 3}
    assert database.clicks_of_all_days() == {COUNTER: 4, "other": 3, "post-1": 3}
    assert function.click("post-1").value == 4


def state(export, *names):
    """What an export says of each of these counters: its count, and the clicks of all its days."""
    found = {row["name"]: row for row in csv.DictReader(io.StringIO(export))}
    rows = [found.get(name, {"value": 0, "days": ""}) for name in names]
    return [(int(row["value"]), sum(int(day.partition("=")[2]) for day in row["days"].split())) for row in rows]


def test_commands_and_clicks_at_once_lose_nothing(tool, function, database):
    """Every export is a state that there was: of these two, one is clicked after the other."""
    with clicks_coming_in(function, COUNTER, "other", clients=1) as answered:
        wait_until(lambda: answered)
        exports = [tool("export") for _ in range(3)]
        for number in range(4):
            tool("set", "post-0", str(number))
            tool("import", given=f"post-{number},5\n")
            exports.append(tool("export"))
        tool("rename", "post-1", "post-9")
        tool("rename", "post-3", "post-9", "--merge")
        tool("delete", "post-2")
        tool("init")
        wait_until(lambda: len(answered) > 10)
        exports.append(tool("export"))
        tool("set", "other", "1000", "--add")
    clicks = len(answered) // 2
    assert {answer.status for answer in answered} == {200}
    assert database.values() == {COUNTER: clicks, "other": clicks + 1000, "post-0": 3, "post-9": 10}
    assert database.clicks_of_all_days() == {COUNTER: clicks, "other": clicks}
    states = [state(export, COUNTER, "other") for export in exports]
    assert all(count == clicked for each in states for count, clicked in each)
    assert {first - second for (first, _), (second, _) in states} <= {0, 1}
    assert states[0] != states[-1]


@pytest.mark.parametrize(
    "arguments", [["import", "rows.csv"], ["delete", "a"], ["rename", "a", "b"], ["rename", "a", "c", "--merge"]]
)
def test_tool_waits_for_a_click_that_has_its_day_but_not_yet_its_count(on_postgres, postgres, tmp_path, arguments):
    """Without the lock they would wait for each other: for the counter's row here, for the day's row there."""
    with postgres.connected(on_postgres.name) as click:
        rows(click, (ROOT / "schema.sql").read_text())
        rows(click, "insert into counter values ('a', 3), ('c', 0)")
        rows(click, "insert into daily values ('a', '2026-01-01', 3)")
        (tmp_path / "rows.csv").write_text("a,100,2026-01-01=40\n")
        rows(click, "begin; lock table counter in row exclusive mode; update daily set value = 4")
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = Tool(on_postgres.url).start(*arguments, cwd=tmp_path, **pipes)
        wait_for_lock(on_postgres)
        rows(click, "update counter set value = 4 where name = 'a'; commit")
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said.decode()
    left = {"import": {"a": 100, "c": 0}, "delete": {"c": 0}, "b": {"b": 4, "c": 0}, "c": {"c": 4}}
    assert on_postgres.values() == left[arguments[0] if arguments[0] in left else arguments[2]]


def test_isolation_that_the_database_prefers_does_not_matter(on_postgres, tool_on, start):
    tool, function = tool_on(on_postgres.url), start(on_postgres.url, COUNTERS="a")
    with clicks_coming_in(function, "a", clients=2):
        for isolation in ("repeatable read", "serializable"):
            on_postgres.sql(f"alter database {on_postgres.name} set default_transaction_isolation = '{isolation}'")
            for _ in range(3):
                tool("set", "a", "0")


def test_tool_that_is_stopped_does_not_stop_the_clicks(postgres, on_postgres, tool_on, start, tmp_path):
    """As by Ctrl+Z, or a laptop that sleeps, while its statement runs and holds the lock."""
    function = start(on_postgres.url)
    function.click()
    tool = tool_on(on_postgres.url)
    given = "\n".join([f"{COUNTER},5", *(f"post-{number},{number}" for number in range(1000))])
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
    assert b"idle-in-transaction timeout. The tool was stopped for too long: try again" in said
    assert "post-1" not in on_postgres.values()
    assert tool("import", given=given) == "Imported 1001 counters.\n"


def test_tool_that_finds_the_counters_locked_gives_up(on_postgres, tool_on, postgres):
    tool = tool_on(on_postgres.url)
    tool("set", "a", "1")
    with postgres.connected(on_postgres.name) as other:
        rows(other, "begin; lock table counter")
        began = time.monotonic()
        refusal = tool.refusal("set", "a", "2")
    assert time.monotonic() - began < 20  # of the 30 s that it waits for answers
    assert "lock timeout. Something else holds the lock: try again" in refusal


def test_behind_a_pooler_in_transaction_mode(postgres, on_postgres, tool_on):
    """Also where another of its clients has set where tables are."""
    with postgres.pooler("transaction") as port:
        tool = tool_on(postgres.url(on_postgres.name, port))
        tool("import", given=SPAM)
        with postgres.connected(on_postgres.name, port) as other:
            rows(other, "create schema elsewhere; set search_path to elsewhere")
            rows(other, "create table counter (name text primary key, value bigint not null)")
            assert "post-1,1,\n" in tool("delete", "post-1")
            assert tool("rename", "post-spam-1", "post-spam-2", "--merge") == "post-spam-2\t30\n"
            assert tool("list", "post-spam-2") == "post-spam-2\t30\n"


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
    assert tool.run("delete", "post-1", "--yes")[2].startswith("Deleted 1 counter. ")


def test_delete_names_what_there_is_not_and_deletes_nothing(tool, database):
    tool("import", given=SPAM)
    refusal = tool.refusal("delete", "post-1", "post-9", "post-spam-*", "spam-*")
    assert refusal.startswith("There are no counters post-9, spam-*. Nothing was changed.")
    assert len(database.values()) == 4


@pytest.mark.parametrize("typed", ["\n", "\x04", "maybe\n"])
def test_delete_on_a_terminal_asks(tool_on_sqlite, on_sqlite, typed):
    tool_on_sqlite("import", given=SPAM)
    code, shown = tool_on_sqlite.on_terminal("delete", "post-spam-*", typed=typed)
    assert "Delete 2 counters, post-spam-1, post-spam-2? [y/N] " in shown
    assert shown.endswith("Nothing was deleted.\n")
    assert (code, len(on_sqlite.values())) == (1, 4)


def test_delete_on_a_terminal_goes_on_after_yes(tool_on_sqlite, on_sqlite):
    tool_on_sqlite("import", given=SPAM)
    assert "post-1,1,\n" in tool_on_sqlite.on_terminal("delete", "post-1", typed="y\n")[1]
    assert "[y/N]" not in tool_on_sqlite.on_terminal("delete", "post-spam-*", "--yes")[1]
    assert on_sqlite.values() == {"post-spammer": 5}


# --- import -----------------------------------------------------------------------------------------------------

CSV = {
    "an export": "name,value\na,1\nb,2\n",
    "an export with days": "name,value,days\na,1,\nb,2,\n",
    "without a header": "a,1\nb,2\n",
    "from a spreadsheet": '\ufeffname,value\r\n"a",1\r\n\r\nb,2\r\n',
    "from a German spreadsheet": '\ufeffName;Value\r\n"a";1\r\n;\r\nb;2\r\n',
    "with tabs": "name\tvalue\tdays\na\t1\t\nb\t2\t\n",
    "as list writes it": "a\t1\nb\t2\n",
    "with the delimiter told": "sep=;\r\nname;value\r\na;1\r\nb;2\r\n",
    "with the comma told": '"sep=,"\r\na,1\r\nb,2\r\n',
    "with the tab told": "\ufeffSEP=\t\na\t1\nb\t2",
    "from an old Mac": "name;value\ra;1\rb;2\r",
    "without an end of line": "a,1\nb,2",
    "a header as people write it": "Name,Value\na,1\nb,2\n",
    "a header in capitals": "\n,\nNAME , VALUE,Days\na,1,\nb,2,\n",
    "empty rows and columns of a spreadsheet": "name,value,days,\n,,\na,1,,,\n,,,,\n , \nb,2,,\n,,\n",
    "blanks around": "a, 1\n\u00a0b ,2 \n",
    "leading zeros": "a,01\nb,0000000000000002\n",
    "a quoted end of line": 'a,"1\n"\nb,2\n',
}


def test_import_takes_tables_however_they_are_written(tool_on_sqlite, on_sqlite):
    for kind, text in CSV.items():
        assert tool_on_sqlite("import", given=text) == "Imported 2 counters.\n", kind
        assert on_sqlite.values() == {"a": 1, "b": 2}, kind
        tool_on_sqlite("delete", "a", "b")


HEADER = "is taken for a header, which must be name,value or name,value,days."
FORMAT = "is not a count. Write it with digits alone: in the spreadsheet, give its column the number format 0"
UTF_8 = 'This is no UTF-8. Save it as "CSV UTF-8".'
WRONG = {
    "name": ("a,1\nb c,2\n", "Line 2: 'b c' is not a name."),
    "no name": ("a,1\n,2\n", "Line 2: '' is not a name."),
    "name in the first line": ("My post,2\n", "Line 1: 'My post' is not a name."),
    "value": ("name,value\na,1\n\nb,1e\n", "Line 4: '1e' is not a count."),
    "no value": ("a,1\nb,\n", "Line 2: '' is not a count."),
    "value after empty rows": ("name,value\n,\na,1\n,\nb,x\n", "Line 5: 'x' is not a count."),
    "thousands": ('a,1\nb,"1,234"\n', f"Line 2: '1,234' {FORMAT}, and save it again."),
    "thousands without quotes": ("a,1\nb,1,234\n", f"Line 2: '1,234' {FORMAT}"),
    "thousands in the first line": ("a;1.234\n", f"Line 1: '1.234' {FORMAT}"),
    "thousands with blanks": ("a;1 234\n", f"Line 1: '1 234' {FORMAT}"),
    "thousands as the French write them": ("a;1\nb;1\u202f234\u00a0567\n", f"Line 2: '1\\u202f234\\xa0567' {FORMAT}"),
    "thousands as the Swiss write them": ("a;1'234\n", f"Line 1: \"1'234\" {FORMAT}"),
    "a typographic apostrophe": ("a;1\u2019234\n", f"Line 1: '1\u2019234' {FORMAT}"),
    "scientific": ("name;value\na;1.23E+05\n", f"Line 2: '1.23E+05' {FORMAT}"),
    "scientific with a comma": ("a;1,23E+05\n", f"Line 1: '1,23E+05' {FORMAT}"),
    "scientific without a point": ("a;1e3\n", f"Line 1: '1e3' {FORMAT}"),
    "decimals": ("a,5000.0\n", f"Line 1: '5000.0' {FORMAT}"),
    "a currency": ("a,$5\n", f"Line 1: '$5' {FORMAT}"),
    "too large": ("a,9007199254740992\n", "Line 1: '9007199254740992' is not a count. Write a whole number from 0 to"),
    "much too large": ("a," + "9" * 5000, "Line 1: '999"),
    "Arabic digits": ("a,\u0661\u0662\n", "Line 1: '\u0661\u0662' is not a count."),
    "negative": ("a,-1\n", "Line 1: '-1' is not a count. Write a whole number from 0 to"),
    "one field": ("a,1\nb\n", "Line 2: '' is not a count."),
    "four fields": ("a,1\nb,1,,5\n", "Line 2: Fields: 4 instead of 2 or 3. Write it like post-1,42."),
    "another delimiter": ("a,1\nb;2\n", "Line 2: 'b;2' is not a name."),
    "twice": ("a,1\nb,2\na,3\n", "Line 3: The counter a is there twice."),
    "quote": ('a,1\n"b,2\n', "Line 2: unexpected end of data."),
    "quote over several lines": ('a,1\n"b,2\nc,3\nd,4\n', "Line 2: unexpected end of data."),
    "value over several lines": ('a,1\nb,"2\nc"\nd,4\n', "Line 2: '2\\nc' is not a count."),
    "after a quoted end of line": ('a,"1\n"\nb,x\n', "Line 3: 'x' is not a count."),
    "after a told delimiter": ("sep=;\na;1\nb;x\n", "Line 3: 'x' is not a count."),
    "header in the middle": ("a,1\nname,value\n", "Line 2: 'value' is not a count."),
    "another header": ("Page,Likes\na,1\n", f"Line 1: 'Page,Likes' {HEADER}"),
    "another header with semicolons": ("\nPage;Likes\na;1\n", f"Line 2: 'Page,Likes' {HEADER}"),
    "the header of a pivot": ("path,count,unique,new\na,1,1,1\n", HEADER),
    "a header with a year": ("Page,Likes 2026\na,1\n", HEADER),
    "a title": ("My likes;\nname;value\na;1\n", f"Line 1: 'My likes,' {HEADER}"),
    "the header turned round": ("value,name\n1,a\n", HEADER),
    "one word": ("a\n", f"Line 1: 'a' {HEADER}"),
    "Latin-1": (b"a,1\ncaf\xe9,2\n", f"Line 2: {UTF_8}"),
    "Windows-1252": ("a;1\nb;1\u00a0234\n".encode("cp1252"), f"Line 2: {UTF_8}"),
    "UTF-16": ("a,1\n".encode("utf-16"), f"Line 1: {UTF_8}"),
    "UTF-16 the other way": ("\ufeffname\tvalue\r\n".encode("utf-16-be"), f"Line 1: {UTF_8}"),
    "UTF-16 without a mark": ("name,value\na,1\n".encode("utf-16-le"), f"Line 1: {UTF_8}"),
    "UTF-16 without a mark the other way": ("a,1\n".encode("utf-16-be"), f"Line 1: {UTF_8}"),
    "a program": (b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0", f"Line 1: {UTF_8}"),
    "a day of month 13": ("a,1\nb,2,2026-13-01=1\n", "Line 2: '2026-13-01=1' is not a day"),
    "a day that is not there": ("a,1\nb,2,2026-02-30=1\n", "Line 2: '2026-02-30=1' is not a day"),
    "a day without clicks": ("a,1\nb,2,2026-01-01\n", "Line 2: '' is not a count"),
    "a negative day": ("a,1\nb,2,2026-01-01=-1\n", "Line 2: '-1' is not a count"),
    "words": ("a,1\nb,2,x\n", "Line 2: 'x' is not a day"),
    "another way to write days": ("a,1\nb,2,20260101=1\n", "Line 2: '20260101=1' is not a day"),
    "a day twice": ("a,1\nb,2,2026-01-01=1 2026-01-01=2\n", "Line 2: '2026-01-01=2' is not a day, or is there twice"),
    "a colon": ("a,1\nb,2,2026-01-01:1\n", "Line 2: '2026-01-01:1' is not a day"),
}  # fmt: skip


def test_import_that_is_wrong_says_in_which_line_and_changes_nothing(tool_on_sqlite, on_sqlite):
    tool_on_sqlite("import", given="a,1\nb,2\n")
    for kind, (text, words) in WRONG.items():
        refusal = tool_on_sqlite.refusal("import", given=text)
        assert words in refusal, kind
        assert refusal.endswith(". Nothing was imported.\n"), kind
        assert refusal.count("\n") == 1, kind
        assert on_sqlite.values() == {"a": 1, "b": 2}, kind


def test_import_of_an_empty_file_is_a_mistake(tool_on_sqlite):
    for text in ("", "\n\n", "\ufeff", " , \r\n,,\r\n", "sep=;\n"):
        refusal = tool_on_sqlite.refusal("import", given=text)
        assert refusal == "There is nothing to import: every line is empty. Write lines like post-1,42\n"
    assert (
        tool_on_sqlite("import", given="name,value\n") == "Imported 0 counters.\n"
    )  # as an empty database is exported


def test_import_from_a_file_or_standard_input(tool_on_sqlite, on_sqlite, tmp_path):
    (tmp_path / "counts.csv").write_text("a,1\n")
    assert tool_on_sqlite("import", str(tmp_path / "counts.csv")) == "Imported 1 counter.\n"
    assert Tool(on_sqlite.url)("import", given="b,2\n") == "Imported 1 counter.\n"
    assert on_sqlite.values() == {"a": 1, "b": 2}
    refusal = tool_on_sqlite.refusal("import", str(tmp_path / "none.csv"))
    assert refusal == f"{tmp_path}/none.csv cannot be read: No such file or directory\n"
    assert "Is a directory" in tool_on_sqlite.refusal("import", str(tmp_path))
    assert in_shell(tool_on_sqlite, "import <&-").stderr == "Standard input cannot be read: Bad file descriptor\n"


def test_import_from_a_terminal_says_that_it_waits(on_sqlite):
    code, shown = Tool(on_sqlite.url).on_terminal("import", typed="a,1\nb,2\n\x04")
    assert "Write lines like post-1,42, and then Ctrl+D." in shown
    assert shown.endswith("Imported 2 counters.\n")
    assert (code, on_sqlite.values()) == (0, {"a": 1, "b": 2})


def test_import_replaces_what_is_given_and_leaves_the_rest(tool, database):
    tool("import", given="a,1,2026-01-01=1\nb,2,2026-01-01=2\nc,3,2026-01-01=1\n")
    tool("import", given="a,10\nb,20,\nc,30,2026-01-02=4 2026-01-03=5\nd,40\n")
    assert tool("export") == (
        "name,value,days\na,10,2026-01-01=1\nb,20,2026-01-01=2\nc,30,2026-01-02=4 2026-01-03=5\nd,40,\n"
    )
    tool("import", given="name,value,days\nb,20,\n")  # as an export has a counter without days
    assert database.days("b") == {}


def test_import_of_100_000_counters(tool, database):
    tool("import", given="\n".join(f"post-{number},{number},2026-01-01={number}" for number in range(100_000)))
    assert database.sql("select count(*), sum(value) from counter") == [(100_000, 4999950000)]
    assert database.sql("select count(*), sum(value) from daily") == [(100_000, 4999950000)]


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


def test_export_and_import_lose_nothing(tool, tool_on, database, on_postgres):
    """From either database into an empty Postgres: days, counts that were set below them, and counts without."""
    tool("import", given=f"a,10,2026-01-01=4 2026-01-02=5\nb,50,2026-01-01=0\nc,{MAX_COUNT},2026-01-01={MAX_COUNT}\n")
    tool("set", "a", "2")
    tool("set", "d", "0")
    export = (
        "name,value,days\na,2,2026-01-01=4 2026-01-02=5\nb,50,2026-01-01=0\n"
        f"c,{MAX_COUNT},2026-01-01={MAX_COUNT}\nd,0,\n"
    )
    assert tool("export") == export
    assert tool("delete", "a", "b", "c", "d") == export
    other = tool_on(on_postgres.url)
    assert other("import", given=export) == "Imported 4 counters.\n"
    assert other("export") == export
    everything = "select counter.name, counter.value, day, daily.value from counter left join daily using (name)"
    assert len(on_postgres.sql(everything)) == 5


def test_goatcounters_export_moves_in_as_the_readme_says(tool_on_sqlite, tmp_path):
    readme = (ROOT / "README.md").read_text().partition("GoatCounter's CSV export:\n\n```sh\n")[2]
    conversion, command, _ = readme.partition(".venv/bin/python counters.py import counts.csv\n```")
    assert command
    head = "2Path,Title,Event,UserAgent,Browser,System,Session,Bot,Referrer,Ref scheme,Screen size,Location"
    visits = [
        ("/post-1/", 0, 1, "2026-05-01"),
        ("/post-1/", 0, 0, "2026-05-01"),
        ("/post-1", 0, 1, "2026-05-02"),
        ("/post-1/", 1, 1, "2026-05-02"),
        ("/a caf\u00e9", 0, "true", "2026-05-02"),
        ("/a-caf-/", 0, 1, "2026-05-02"),
        ("/", 0, 1, "2026-05-03"),
    ]
    lines = [f'{path},"A, b",false,,,,s,{bot},,,,,{first},{day}T12:00:00Z' for path, bot, first, day in visits]
    with gzip.open(tmp_path / "goatcounter-export-blog-20260504T120000Z-0.csv.gz", "wt") as export:
        export.write("\n".join([f"{head},FirstVisit,Date", *lines]))
    done = subprocess.run(["bash", "-c", conversion], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stderr == "a-caf- is of several pages: /a caf\u00e9 /a-caf-\n"
    assert tool_on_sqlite("import", str(tmp_path / "counts.csv")) == "Imported 3 counters.\n"
    assert tool_on_sqlite("export") == ("name,value,days\na-caf-,2,2026-05-02=2\nhome,1,2026-05-03=1\n"
                                        "post-1,2,2026-05-01=1 2026-05-02=1\n")  # fmt: skip


# --- How it ends ------------------------------------------------------------------------------------------------


def in_shell(tool, command):
    """Run it as a container does, where Python writes what it has at once, and files end at 8 kB."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; ulimit -f 8; {' '.join(tool.command)} {command}"],
        cwd=tool.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **tool.environment, "PYTHONUNBUFFERED": "1"},
        text=True,
    )


def test_output_that_nobody_reads_to_its_end_is_no_failure(tool_on_sqlite):
    tool_on_sqlite("import", given="\n".join(f"post-{number},1" for number in range(10_000)))
    done = in_shell(tool_on_sqlite, "list | head -n 1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "post-0\t1\n", "")


def test_rows_that_cannot_be_written_to_their_end_are_told_and_stay(tool_on_sqlite, on_sqlite):
    tool_on_sqlite("import", given="\n".join(f"post-{number},1" for number in range(10_000)))
    reason = "Standard output cannot be written to its end: {}\n"
    for command, said in {
        "export >/dev/full": reason.format("No space left on device"),
        "delete 'post-*' >/dev/full": reason.format("No space left on device"),
        "export >rows.csv": reason.format("File too large"),
        "export | head -n 1 >/dev/null": reason.format("Broken pipe"),
        "delete 'post-*' | head -n 1 >/dev/null": reason.format("Broken pipe"),
        "delete 'post-*' >&-": "Standard output is closed. Nothing was written.\n",
    }.items():
        done = in_shell(tool_on_sqlite, command)
        assert (done.returncode, done.stderr) == (1, said), command
    assert len(on_sqlite.values()) == 10_000


def test_interrupted_tool_ends_without_a_word(on_sqlite):
    terminal, end = pty.openpty()
    process = Tool(on_sqlite.url).start("import", stdin=end, stderr=subprocess.PIPE)
    assert b"Ctrl+C changes nothing" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == b""
    assert process.returncode == -signal.SIGINT
    for each in (terminal, end):
        os.close(each)
