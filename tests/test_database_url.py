"""DATABASE_URL and what an error means, through `counters.py`: it names the cause and the mend, never the password."""

import re
from urllib.parse import quote

import pytest
from servers import PASSWORD, Tool

from database_url import SettingError, database_from


def test_password_is_never_shown():
    for url in ("postgres://u:hunter2@127.0.0.1:9/d", "postgres://u:hunter2@h:x/d", "mysql://u:hunter2@h/d"):
        assert "hunter2" not in Tool(url).refusal("list")


GOOD = "postgres://postgres:{password}@127.0.0.1:{port}/{name}"
VERIFIED = "postgres://postgres:{password}@{host}:{tls}/{name}?sslmode=verify-full"
UNREACHABLE = {
    "password": (GOOD.replace("{password}", "hunter2"), "password authentication failed .* Check user and pas"),
    "no password": (GOOD.replace(":{password}", ""), "password.* Check user and password"),
    "database": (
        GOOD.replace("{name}", "none"),
        'database "none" does not exist. Check the database\'s name in DATABASE_URL',
    ),
    "port": ("postgres://u:hunter2@127.0.0.1:9/d", "Postgres at 127.0.0.1:9: Connection refused. Check host and port"),
    "host": ("postgres://u:hunter2@no.where/d", "Postgres at no.where:5432: .*. Check the host in DATABASE_URL"),
    "socket": (
        "postgres://u:hunter2@/d?host=/no",
        "Postgres at the socket /no/.s.PGSQL.5432: No such file .* cloud-sql-proxy",
    ),
    "TLS that is refused": (
        f"{GOOD}?sslmode=require",
        "Postgres at 127.0.0.1:{port}: Server refuses SSL. sslmode in DATABASE_URL insists",
    ),
    "a certificate for another host": (
        VERIFIED.replace("{host}", "127.0.0.1") + "&sslrootcert={root}",
        "Postgres at 127.0.0.1:{tls}: IP address mismatch, certificate is not valid for .* Check the host",
    ),
    "a certificate of nobody": (
        VERIFIED.replace("{host}", "localhost"),
        "Postgres at localhost:{tls}: unable to get local issuer certificate. .* name the authority in sslrootcert",
    ),
}


@pytest.mark.parametrize(("url", "words"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_cause_of_a_failure_is_named(postgres, on_postgres, tls, url, words):
    password = quote(PASSWORD, safe="")
    places = {"port": postgres.port, "name": on_postgres.name, "tls": tls.port, "root": tls.rootcert}
    refusal = Tool(url.format(**places, password=password)).refusal("list")
    assert re.fullmatch(f"The database failed: .*{words.format(**places)}.*\n", refusal)
    assert "hunter2" not in refusal
    assert password not in refusal


def test_statement_pooling_is_named(postgres, on_postgres):
    with postgres.pooler("statement") as port:
        refusal = Tool(postgres.url(on_postgres.name, port)).refusal("list")
    assert "statement pooling" in refusal
    assert "transaction mode" in refusal


def test_server_that_is_no_postgres_is_suspected(shared):
    refusal = Tool(f"postgres://u:p@127.0.0.1:{shared.port}/d").refusal("list")
    assert f"127.0.0.1:{shared.port}" in refusal
    assert "Postgres" in refusal


def test_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "x.txt").write_text("what I wanted to remember, which is longer than a header of SQLite is\n" * 9)
    refusal = Tool(f"sqlite:///{tmp_path}/x.txt").refusal("list")
    assert refusal == f"The database failed: {tmp_path}/x.txt: file is not a database\n"


PLACEHOLDERS = """
    HOST <host> [host] %3Chost%3E {HOST} ${HOST} your-host YOUR_HOST yourserver your-db.example.net
    db.[YOUR-PROJECT-REF].supabase.co db.<ref>.supabase.co"""


@pytest.mark.parametrize("host", PLACEHOLDERS.split())
def test_placeholder_of_a_host_is_not_looked_up(host):
    with pytest.raises(SettingError, match="holds a placeholder instead of the host") as caught:
        database_from({"DATABASE_URL": f"postgres://u:hunter2@{host}:5432/d"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("host", ["...", "a..b", ".a", "a" * 64])
def test_host_that_cannot_be_looked_up_is_named(host):
    with pytest.raises(SettingError, match="cannot be a host's name"):
        database_from({"DATABASE_URL": f"postgres://u:hunter2@{host}:5432/d"})


def test_escape_that_is_none_is_refused_and_not_changed():
    for password in ("a%deb", "100%", "50%off", "%zz", "a%00b", "%ff"):
        refusal = Tool(f"postgres://u:{password}@127.0.0.1:9/d").refusal("list")
        assert refusal.startswith("DATABASE_URL")
        assert "%25" in refusal
        assert password not in refusal
