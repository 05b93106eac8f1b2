"""DATABASE_URL as providers print it, and what stops the start instead of losing clicks."""

import os
import re
import socket
from contextlib import closing
from urllib.parse import quote

import pytest
from servers import COUNTER, PASSWORD, ROOT, Function, copy_function

import main


@pytest.fixture
def name(postgres):
    return postgres.new_database()


def check_connects(start, url, **settings):
    function = start(url, **settings)
    assert function.click().json() == {"name": COUNTER, "value": 1}
    assert PASSWORD not in function.output()
    return function


PASS = quote(PASSWORD, safe="")
PLAIN = {
    "Heroku": "postgres://postgres:{pass}@{host}:{port}/{name}",
    "psql": "postgresql://postgres:{pass}@{host}:{port}/{name}",
    "SQLAlchemy and pg8000": "postgresql+pg8000://postgres:{pass}@{host}:{port}/{name}",
    "SQLAlchemy and psycopg2": "postgresql+psycopg2://postgres:{pass}@{host}:{port}/{name}",
    "SQLAlchemy and asyncpg": "postgresql+asyncpg://postgres:{pass}@{host}:{port}/{name}?ssl=disable",
    "unescaped @ and : in the password": "postgresql://postgres:p@ss:w%2Frd%3F%23[%25]@{host}:{port}/{name}",
    "trailing newline": "postgresql://postgres:{pass}@{host}:{port}/{name}\n",
    "Supabase's pooler": "postgresql://postgres:{pass}@{host}:{port}/{name}?pgbouncer=true&connection_limit=1",
    "parameters of libpq": "postgresql://postgres:{pass}@{host}:{port}/{name}?connect_timeout=10&application_name=x"
    "&options=endpoint%3Dep-cool-1&channel_binding=prefer&target_session_attrs=read-write&keepalives=1",
    "sslmode disable": "postgresql://postgres:{pass}@{host}:{port}/{name}?sslmode=disable",
    "sslmode prefer": "postgresql://postgres:{pass}@{host}:{port}/{name}?sslmode=prefer",
    "sslmode allow": "postgresql://postgres:{pass}@{host}:{port}/{name}?sslmode=allow",
    "everything in the query": "postgresql:///{name}?host={host}&port={port}&user=postgres&password={pass}",
    "socket in the query": "postgresql://postgres:{pass}@/{name}?host={folder}&port={port}",
    "socket as the host": "postgresql://postgres:{pass}@{quoted_folder}:{port}/{name}?sslmode=require",
    "socket as Google's samples have it": "postgresql+pg8000://postgres:{pass}@/{name}?unix_sock={folder}/.s.PGSQL.{port}",
}


@pytest.mark.parametrize("form", PLAIN.values(), ids=PLAIN)
def test_url_connects(start, postgres, name, form):
    folder = str(postgres.data)
    values = {"host": "127.0.0.1", "port": postgres.port, "name": name, "pass": PASS, "folder": folder}
    check_connects(start, form.format(**values, quoted_folder=quote(folder, safe="")))
    assert postgres.sql(name, "select value from counter") == [(1,)]


def test_socket_of_cloud_sql_connects(start, postgres, name):
    with postgres.cloud_sql() as folder:
        check_connects(start, f"postgresql://postgres:{PASS}@/{name}?host={folder}", K_SERVICE="click")


SECURE = {
    "Neon": "postgresql://postgres:{pass}@localhost:{port}/{name}?sslmode=require&channel_binding=require",
    "nothing said": "postgresql://postgres:{pass}@localhost:{port}/{name}",
    "asyncpg": "postgresql+asyncpg://postgres:{pass}@localhost:{port}/{name}?ssl=require",
    "require does not verify": "postgresql://postgres:{pass}@127.0.0.1:{port}/{name}?sslmode=require",
    "RDS": "postgresql://postgres:{pass}@localhost:{port}/{name}?sslmode=verify-full&sslrootcert={root}",
    "verify-ca takes any host": "postgresql://postgres:{pass}@127.0.0.1:{port}/{name}?sslmode=verify-ca&sslrootcert={root}",
    "require with a root": "postgresql://postgres:{pass}@127.0.0.1:{port}/{name}?sslmode=require&sslrootcert={root}",
}


@pytest.mark.parametrize("form", SECURE.values(), ids=SECURE)
def test_url_connects_with_tls(start, tls, name, form):
    check_connects(start, form.format(**{"pass": PASS, "port": tls.port, "name": name, "root": tls.rootcert}))
    assert set(tls.seen) == {"tls"}


UNTRUSTED = {
    "verify-full and another host": "127.0.0.1:{port}/{name}?sslmode=verify-full&sslrootcert={root}",
    "verify-full without the root": "localhost:{port}/{name}?sslmode=verify-full",
    "verify-ca without the root": "localhost:{port}/{name}?sslmode=verify-ca",
    "the system's roots": "localhost:{port}/{name}?sslrootcert=system",
    "require without TLS": "127.0.0.1:{plain}/{name}?sslmode=require",
}


@pytest.mark.parametrize("form", UNTRUSTED.values(), ids=UNTRUSTED)
def test_untrusted_server_gets_no_password(start, tls, postgres, name, form):
    where = form.format(port=tls.port, plain=postgres.port, name=name, root=tls.rootcert)
    function = start(f"postgresql://postgres:{PASS}@{where}")
    assert function.click().status == 503
    assert "tls" not in tls.seen
    assert re.search("certificate|SSL", function.output())


def refusal(settings, tmp_path, folder=ROOT):
    """Start with these settings, which must stop it, and return the one line that it says."""
    function = Function(settings, tmp_path / "log", folder)
    assert function.process.wait(20) == 1
    [line] = function.output().splitlines()
    return line


REFUSED = {
    "nothing on Google": ({"K_SERVICE": "click"}, "DATABASE_URL must name a Postgres"),
    "SQLite on Google": ({"K_SERVICE": "click", "DATABASE_URL": "sqlite:///x"}, "DATABASE_URL must name a Postgres"),
    "blank on Google": ({"K_SERVICE": "click", "DATABASE_URL": "\n"}, "DATABASE_URL must name a Postgres"),
    "no folder": ({"DATABASE_URL": "sqlite:////nowhere/x"}, "/nowhere/x cannot be written. Make its folder"),
    "a file as its folder": ({"DATABASE_URL": f"sqlite:///{ROOT}/main.py/x"}, "main.py/x cannot be written. Make"),
    "a folder as the file": ({"DATABASE_URL": f"sqlite:///{ROOT}/static"}, "static is a folder. Keep the counts"),
    "SQLite in memory": ({"DATABASE_URL": "sqlite://"}, "sqlite:///clicks.sqlite3"),
    "another database": ({"DATABASE_URL": "mysql://u:hunter2@h/d"}, "It looks like postgresql://"),
    "no URL": ({"DATABASE_URL": "hunter2"}, "It looks like postgresql://"),
    "a slash in the password": ({"DATABASE_URL": "postgres://u:hunter2/x@h/d"}, "%2F"),
    "a digit and a slash in the password": ({"DATABASE_URL": "postgres://u:12/hunter2@h/d"}, "%2F"),
    "a question mark in the password": ({"DATABASE_URL": "postgres://u:hunter2?x@h/d"}, "%3F"),
    "a hash in the password": ({"DATABASE_URL": "postgres://u:hunter2#x@h/d"}, "%23"),
    "a placeholder": ({"DATABASE_URL": "postgres://u:[YOUR-PASSWORD]@h/d"}, "placeholder"),
    "no user": ({"DATABASE_URL": "postgres://h/hunter2"}, "names no user"),
    "no host": ({"DATABASE_URL": "postgres://u:hunter2@/d"}, "names no host"),
    "two hosts": ({"DATABASE_URL": "postgres://u:hunter2@a,b/d"}, "one host"),
    "port": ({"DATABASE_URL": "postgres://u:hunter2@h:65536/d"}, "port must be a number from 1 to 65535"),
    "port that is none": ({"DATABASE_URL": "postgres://u:hunter2@h/d?port=x"}, "port must be a number"),
    "sslmode": ({"DATABASE_URL": "postgres://u:hunter2@h/d?sslmode=on"}, "verify-full"),
    "sslrootcert": ({"DATABASE_URL": "postgres://u:hunter2@h/d?sslrootcert=/nowhere"}, "sslrootcert names /nowhere"),
    "client certificate": ({"DATABASE_URL": "postgres://u:hunter2@h/d?sslcert=x"}, "Use a user with a password"),
    "long socket": ({"DATABASE_URL": f"postgres://u:hunter2@/d?host=/cloudsql/{'x' * 90}"}, "107 bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "words"), REFUSED.values(), ids=REFUSED)
def test_start_is_refused_with_a_sentence(tmp_path, settings, words):
    line = refusal(settings, tmp_path)
    assert words in line
    assert line.startswith("DATABASE_URL")
    assert "hunter2" not in line


COUNTERS_LIKE = "Write it like COUNTERS=likes,post-*"
LIKE_1000 = "malformed. Write it like MAX_COUNTERS=1000"
MALFORMED = {
    "name": ({"COUNTERS": "good,not good"}, f"COUNTERS: 'not good' is malformed. {COUNTERS_LIKE}"),
    "no name": ({"COUNTERS": " , "}, f"COUNTERS has no entry. {COUNTERS_LIKE}, or leave it empty for the default"),
    "prefix": ({"COUNTERS": "a*b"}, f"COUNTERS: 'a*b' is malformed. {COUNTERS_LIKE}"),
    "every name": ({"COUNTERS": "*"}, f"COUNTERS: '*' is malformed. {COUNTERS_LIKE}"),
    "word": ({"MAX_COUNTERS": "many"}, f"MAX_COUNTERS: 'many' is {LIKE_1000}"),
    "negative": ({"MAX_COUNTERS": "-1"}, f"MAX_COUNTERS: '-1' is {LIKE_1000}"),
    "grouped": ({"MAX_COUNTERS": "1,000"}, f"MAX_COUNTERS: '1,000' is {LIKE_1000}"),
    "nothing": ({"MAX_COUNTERS": ""}, f"MAX_COUNTERS: '' is {LIKE_1000}"),
    "other digits": ({"MAX_COUNTERS": "\u0663"}, f"MAX_COUNTERS: '\u0663' is {LIKE_1000}"),
    "limit": (
        {"CLICKS_PER_MINUTE": "1.5"},
        "CLICKS_PER_MINUTE: '1.5' is malformed. Write it like CLICKS_PER_MINUTE=600",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "sentence"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_setting_stops_with_a_sentence(settings, sentence):
    with pytest.raises(SystemExit) as stopped:
        main.settings_from(settings)
    assert str(stopped.value) == sentence


ORIGINS = {  # the cases of TestCrossOriginProtectionAddTrustedOriginErrors in Go's csrf_test.go, and more
    "missing scheme": ("example.com", "is malformed"),
    "missing host": ("https://:80", "is malformed"),
    "trailing slash": ("https://example.com/", "ends with a slash. Write it without: https://example.com"),
    "with path": ("https://example.com/path", "is malformed"),
    "with folder": ("https://example.com/path/", "ends with a slash. Write it without: https://example.com/path"),
    "with query": ("https://example.com?query=value", "is malformed"),
    "with fragment": ("https://example.com#fragment", "is malformed"),
    "in capitals": ("https://Example.com", "is malformed"),
    "invalid url": ("https://ex ample.com", "is malformed"),
    "null": ("null", "is malformed"),
    "any": ("*", "is malformed"),
    "default port": ("https://example.com:443", "is malformed"),
    "default port of http": ("http://[::1]:80", "is malformed"),
    "port in other digits": ("https://example.com:8\u0663", "is malformed"),
}
ORIGINS_LIKE = "ALLOWED_ORIGINS=https://blog.example, in lower case, without a path or a default port"


@pytest.mark.parametrize(("origin", "fault"), ORIGINS.values(), ids=ORIGINS)
def test_malformed_origin_is_refused(origin, fault):
    with pytest.raises(SystemExit) as stopped:
        main.settings_from({"ALLOWED_ORIGINS": f"https://good.example,{origin}"})
    remedy = f"{fault}. Write it like {ORIGINS_LIKE}" if fault == "is malformed" else fault
    assert str(stopped.value) == f"ALLOWED_ORIGINS: {origin!r} {remedy}"


@pytest.mark.parametrize("variable", ["COUNTERS", "MAX_COUNTERS", "ALLOWED_ORIGINS", "CLICKS_PER_MINUTE"])
def test_malformed_setting_stops_the_start_in_one_line(tmp_path, variable):
    line = refusal({"DATABASE_URL": f"sqlite:///{tmp_path}/x", variable: "not good"}, tmp_path)
    assert line.startswith(f"{variable}: 'not good' is malformed. Write it like {variable}=")


def test_well_formed_origins_are_taken():
    origins = ["https://example.com", "https://example.com:8080", "http://example.com:443", "http://[::1]:8080"]
    assert main.settings_from({"ALLOWED_ORIGINS": " , ".join(origins)}).allowed_origins == set(origins)


@pytest.mark.parametrize(
    ("counters", "exact", "prefixes"),
    [(None, [COUNTER], []), ("", [COUNTER], []), (" first ,second,", ["first", "second"], []),
     ("post-*,first,second", ["first", "second"], ["post-"]), ("https://blog.example/*", [], ["https://blog.example/"])],
)  # fmt: skip
def test_default_counter_is_the_first_exact_one(counters, exact, prefixes):
    settings = main.settings_from({} if counters is None else {"COUNTERS": counters})
    assert (settings.exact, settings.prefixes) == (tuple(exact), tuple(prefixes))


NEAR = [
    *("COUNTER", "COUNTERSS", "CONTERS", "counters", "Counter", "MAXCOUNTERS", "MAX_COUNTER"),
    *("ALLOWED_ORIGIN", "ALLOWED_ORIGINSS", "ALOWED_ORIGINS", "CLICK_PER_MINUTE", "CLICKS_PER_MINUTES"),
    *("DATABASE_URI", "DATABASE_URL_", "_DATABASE_URL"),
]
FAR = [
    *(
        "",
        "C",
        "PATH",
        "HOST",
        "PORT",
        "K_SERVICE",
        "DATABASE",
        "DATABASE_USER",
        "DATABASE_URL_RO",
        "TEST_DATABASE_URL",
    ),
    *("ORIGINS", "ENCOUNTER", "MAX_CLIENTS", "COUNTERS", "DATABASE_URL", "MAX_COUNTERS", "CLICKS_PER_MINUTE"),
]


@pytest.mark.parametrize("variable", NEAR)
def test_variable_one_letter_from_a_setting_is_named(variable):
    [sentence] = main.misspelt({variable: "hunter2", "PATH": "/bin", "COUNTERS": "a"})
    assert re.fullmatch(rf"{variable} is no setting\. Did you mean (\w+)\?", sentence)
    assert "hunter2" not in sentence


def test_other_variables_are_not_named():
    assert main.misspelt(dict.fromkeys(FAR, "x")) == []


def test_without_settings_a_file_beside_main_is_used(tmp_path):
    folder = copy_function(tmp_path / "copy")
    function = Function({}, tmp_path / "log", folder).started()
    try:
        assert function.click().value == 1
    finally:
        function.stop()
    assert (folder / "clicks.sqlite3").exists()


def test_without_an_exact_counter_one_must_be_named(start, on_sqlite):
    function = start(on_sqlite.url, COUNTERS="post-*")
    answer = function.click()
    assert answer.status == 400
    assert "?name=" in answer.json()["detail"]
    assert function.click("post-1").value == 1
    assert function.send("GET", "/health").status == 200


def test_user_without_the_right_to_make_tables_is_told_in_the_log(start, postgres, name):
    postgres.sql(name, f"create role reader_{name} login password 'x'; revoke create on schema public from public")
    function = start(f"postgres://reader_{name}:x@127.0.0.1:{postgres.port}/{name}")
    assert function.click().status == 503
    assert "permission denied for schema public" in function.output()


def test_nothing_is_connected_before_it_is_needed(start):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        start(f"postgres://u:p@127.0.0.1:{server.getsockname()[1]}/d").send("GET", "/")
        server.settimeout(0.3)
        with pytest.raises(TimeoutError):
            server.accept()


def test_wrong_password_is_not_shown(start, postgres, name):
    function = start(f"postgres://postgres:hunter2@127.0.0.1:{postgres.port}/{name}")
    answer = function.click()
    assert answer.status == 503
    assert b"hunter2" not in answer.body
    assert "password authentication failed" in function.output()
    assert "hunter2" not in function.output()
    assert os.environ.get("DATABASE_URL") is None
