"""`python db.py`: what an owner does by hand, on both databases, beside a function that goes on counting."""

import csv
import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from servers import COUNTER, ROOT, clicks_coming_in, copy_function, rows, wait_until


class Tool:
    def __init__(self, url, cwd):
        self.url = url
        self.cwd = cwd

    def run(self, *arguments, given=b""):
        environment = {"DATABASE_URL": self.url, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "error"}
        command = [sys.executable, ROOT / "db.py", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, env=environment, cwd=self.cwd, timeout=60)
        assert b"Traceback" not in done.stderr
        return done

    def __call__(self, *arguments, given=b""):
        """Run a command that must succeed, and return what it writes."""
        done = self.run(*arguments, given=given)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def refusal(self, *arguments, given=b""):
        """Run a command that must fail, and return what it says."""
        done = self.run(*arguments, given=given)
        assert done.returncode != 0
        assert done.stdout == b""
        return done.stderr.decode()


@pytest.fixture
def tool(database, tmp_path):
    return Tool(database.url, tmp_path)


def bases(database):
    return dict(database.sql("select name, value - base from counter"))


def test_init_makes_the_tables_and_may_be_repeated(tool, database):
    for arguments in ([], ["init"], ["init"]):
        assert tool(*arguments) == "The tables are there.\n"
        assert database.values() == {}


def test_every_command_makes_the_tables_that_it_needs(tool):
    assert tool("list") == ""
    assert tool("export").splitlines()[0].startswith("name,value")


def test_set_get_list_rename_and_delete(tool, database):
    assert tool("set", "post-2", "7") == "7\n"
    assert tool("set", "post-1", str(2**53 - 1)) == "9007199254740991\n"
    assert tool("get", "post-2") == "7\n"
    assert tool("list") == "post-1\t9007199254740991\npost-2\t7\n"
    tool("rename", "post-2", "a:/new-name_2.0")
    assert tool("list") == "a:/new-name_2.0\t7\npost-1\t9007199254740991\n"
    tool("delete", "post-1")
    assert database.values() == {"a:/new-name_2.0": 7}


def test_function_goes_on_from_what_was_set(tool, function, database):
    function.click()
    function.click()
    tool("set", COUNTER, "41")
    assert function.count() == 41
    assert function.click().value == 42
    assert bases(database) == {COUNTER: 3}  # base is what was set, the rest was clicked
    tool("set", COUNTER, "0")
    assert function.click().value == 1
    assert bases(database) == {COUNTER: 4}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["get", "nothing"], "There is no counter nothing"),
        (["delete", "nothing"], "There is no counter nothing"),
        (["rename", "nothing", "b"], "There is no counter nothing"),
        (["rename", "a", "b"], "There is a counter b already"),
        (["rename", "a", "a"], "There is a counter a already"),
        (["rename", "a", "b c"], "'b c' is no name. A name is 1 to 100 characters"),
        (["set", "a b", "1"], "'a b' is no name"),
        (["set", "x" * 101, "1"], "is no name"),
        (["get", "x'; drop table counter; --"], "is no name"),
        (["set", "a", "-1"], "'-1' is no count. Write a whole number from 0 to 9007199254740991"),
        (["set", "a", str(2**53)], "is no count"),
        (["set", "a", "1.000"], "is no count"),
        (["set", "a", "\u0661"], "is no count"),
        (["set", "a"], "VALUE"),
        (["reset"], "reset"),
    ],
)
def test_mistake_is_explained_and_changes_nothing(tool, database, arguments, words):
    tool("import", given=b"a,1\nb,2\n")
    assert words in tool.refusal(*arguments)
    assert database.values() == {"a": 1, "b": 2}


CSV = {
    "an export": "name,value\na,1\nb,2\n",
    "without a header": "a,1\nb,2\n",
    "from a spreadsheet": '\ufeffname,value\r\n"a",1\r\n\r\nb,2\r\n',
    "without an end of line": "a,1\nb,2",
}


@pytest.mark.parametrize("text", CSV.values(), ids=CSV)
def test_import_takes(tool, database, text):
    assert tool("import", given=text.encode()) == "Imported 2 counters.\n"
    assert database.values() == {"a": 1, "b": 2}
    assert bases(database) == {"a": 0, "b": 0}


WRONG = {
    "name": ("a,1\nb c,2\n", "Line 2: 'b c' is no name."),
    "value": ("name,value\na,1\n\nb,1e3\n", "Line 4: '1e3' is no count."),
    "thousands": ('a,1\nb,"1,000"\n', "Line 2: '1,000' is no count."),
    "too large": ("a,9007199254740992\n", "Line 1: '9007199254740992' is no count."),
    "one field": ("a,1\nb\n", "Line 2: Fields: 1 instead of 2 or 3"),
    "semicolons": ("a;1\nb;2\n", "Line 1: Fields: 1 instead of 2 or 3"),
    "twice": ("a,1\nb,2\na,3\n", "Line 3: The counter a was there before."),
    "quote": ('a,1\n"b,2\n', "Line 2: unexpected end of data."),
    "quote over several lines": ('a,1\n"b,2\nc,3\nd,4\n', "Line 2: unexpected end of data."),
    "value over several lines": ('a,1\nb,"2\nc"\nd,4\n', "Line 2: '2\\nc' is no count."),
    "header in the middle": ("a,1\nname,value\n", "Line 2: 'value' is no count."),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG)
def test_import_that_is_wrong_says_in_which_line_and_changes_nothing(tool, database, text, words):
    tool("set", "a", "5")
    refusal = tool.refusal("import", given=text.encode())
    assert words in refusal
    assert "Nothing was imported." in refusal
    assert database.values() == {"a": 5}


def test_import_that_is_no_text_says_in_which_line(tool):
    assert "Line 2: This is no UTF-8" in tool.refusal("import", given=b"a,1\n\xff\xfe,2\n")


def test_import_sets_what_is_there_and_leaves_the_rest(tool, database):
    tool("import", given=b"a,1\nb,2\n")
    tool("import", given=b"b,20\nc,30\n")
    assert database.values() == {"a": 1, "b": 20, "c": 30}


def test_import_of_many_counters(tool, database):
    lines = [f"post-{number},{number}" for number in range(2500)]
    tool("import", given="\n".join(lines).encode())
    assert len(database.values()) == 2500
    assert tool("get", "post-2499") == "2499\n"


def test_import_that_fails_at_its_end_changes_nothing(tool, database):
    """A trigger of the test refuses the last of 2,500 counters, which is in the third statement."""
    tool("init")
    if database.url.startswith("sqlite"):
        database.sql(
            "create trigger t before insert on counter when new.name = 'z' begin select raise(abort, 'no'); end"
        )
    else:
        database.sql("create function f() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
        database.sql(
            "create trigger t before insert on counter for each row when (new.name = 'z') execute function f()"
        )
    lines = [f"post-{number},{number}" for number in range(2500)]
    assert "no" in tool.refusal("import", given="\n".join([*lines, "z,1"]).encode())
    assert database.values() == {}


def numbers(text):
    return {row["name"]: int(row["value"]) for row in csv.DictReader(io.StringIO(text))}


def test_export_and_import_give_the_same_numbers_while_clicks_come_in(tool, function, database, on_postgres, tmp_path):
    """From either database into an empty Postgres; what is exported is a state that there was."""
    tool("set", COUNTER, "1000")
    with clicks_coming_in(function, COUNTER, "other", clients=1) as answers:
        exports = [tool("export") for _ in range(5)]
    answered = [answer.value for answer in answers]
    assert len({numbers(export)[COUNTER] for export in exports}) > 1
    for export in exports:
        assert 0 <= numbers(export)[COUNTER] - 1000 - numbers(export).get("other", 0) <= 1
    if database.name != on_postgres.name:
        empty = Tool(on_postgres.url, tmp_path)
        empty("import", given=exports[-1].encode())
        assert empty("export") == exports[-1]
        assert on_postgres.values() == numbers(exports[-1])
    assert sorted(value for value in answered if value > 1000) == list(range(1001, 1001 + len(answered) // 2))
    assert function.count() == 1000 + len(answered) // 2


def test_commands_and_clicks_at_once_lose_nothing(tool, function, database):
    with clicks_coming_in(function, "other") as answered:
        for number in range(4):
            tool("set", COUNTER, str(number))
            tool("import", given=f"post-{number},5\n".encode())
        tool("rename", "post-1", "post-9")
        tool("delete", "post-2")
    assert {answer.status for answer in answered} == {200}
    assert database.values() == {COUNTER: 3, "other": len(answered), "post-0": 5, "post-3": 5, "post-9": 5}


def test_deleting_under_load_never_makes_room_for_two(on_postgres, postgres, start, tmp_path):
    """A click that found its counter, and then waits for the deletion, must not make it again past the limit."""
    function = start(on_postgres.url, COUNTERS="post-*", MAX_COUNTERS="1")
    function.click("post-1")
    with postgres.connected(on_postgres.name) as other:
        rows(other, "begin; lock table counter in share row exclusive mode; delete from counter")
        sent = []
        clicking = threading.Thread(target=lambda: sent.append(function.click("post-1").status))
        clicking.start()
        clicking.join(0.5)
        rows(other, "insert into counter values ('post-2', 1); commit")
        clicking.join()
    assert sent == [409]
    assert on_postgres.values() == {"post-2": 1}


def test_tool_that_is_stopped_does_not_stop_the_clicks(function, on_postgres, start, tmp_path):
    """As by Ctrl+Z, or a laptop that sleeps, in the moment in which it holds the lock."""
    function = start(on_postgres.url)
    function.click()
    tool = Tool(on_postgres.url, tmp_path)
    locked = "select 1 from pg_locks where mode = 'ShareRowExclusiveLock' and granted"
    given = "\n".join(f"post-{number},{number}" for number in range(100_000)).encode()
    (tmp_path / "given").write_bytes(given)
    with (tmp_path / "given").open() as file:
        environment = {"DATABASE_URL": on_postgres.url}
        process = subprocess.Popen([sys.executable, ROOT / "db.py", "import"], stdin=file, env=environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    wait_until(lambda: on_postgres.sql(locked))
    process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: function.click().status == 200)
    finally:
        process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"Traceback" not in said
    assert "post-1" not in on_postgres.values()
    assert tool("import", given=given) == "Imported 100000 counters.\n"


def test_output_that_nobody_reads_to_its_end_is_no_failure(tool):
    tool("import", given="\n".join(f"post-{number},1" for number in range(20_000)).encode())
    command = f"{sys.executable} {ROOT / 'db.py'} list | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, env={**os.environ, "DATABASE_URL": tool.url})
    assert (done.stdout, done.stderr) == (b"post-0\t1\n", b"")


def test_interrupted_tool_ends_without_a_word(tool):
    command = [sys.executable, ROOT / "db.py", "import"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env={"DATABASE_URL": tool.url})
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == b""
    assert process.returncode == -signal.SIGINT


def test_password_is_never_shown(tmp_path):
    for url in ("postgres://u:hunter2@127.0.0.1:9/d", "postgres://u:hunter2@h:x/d", "mysql://u:hunter2@h/d"):
        assert "hunter2" not in Tool(url, tmp_path).refusal("list")


def test_wrong_password_is_not_shown(postgres, on_postgres, tmp_path):
    url = f"postgres://postgres:hunter2@127.0.0.1:{postgres.port}/{on_postgres.name}"
    refusal = Tool(url, tmp_path).refusal("get", "a")
    assert refusal.startswith("The database failed: password authentication failed")
    assert "hunter2" not in refusal


def test_local_file_is_named_where_no_url_is_set(tmp_path):
    folder = copy_function(tmp_path / "copy")
    command = [sys.executable, folder / "db.py", "set", "post-1", "5"]
    done = subprocess.run(command, capture_output=True, env={"PYTHONDONTWRITEBYTECODE": "1"}, text=True)
    assert done.stdout == "5\n"
    assert done.stderr == f"DATABASE_URL is not set: this is about {folder / 'clicks.sqlite3'}\n"


def test_help_names_every_command(tool):
    text = tool("--help")
    for command in ("init", "list", "get", "set", "delete", "rename", "export", "import"):
        assert f"\n    {command} " in text
