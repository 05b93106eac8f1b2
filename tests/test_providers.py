"""What providers put around a Postgres: poolers, roles, defaults. And tables that an older version has made."""

from contextlib import ExitStack, closing

import pg8000.dbapi
import pytest
from servers import COUNTER, PASSWORD, Tool, rows, wait_until

TABLES = ("counter", "daily", "click")


def everything(database):
    """The rows of all tables."""
    return {table: database.sql(f"select * from {table} order by 1, 2") for table in TABLES}


def test_health_leaves_nothing_behind(function, database):
    assert function.send("GET", "/health").status == 200
    assert everything(database) == {table: [] for table in TABLES}


# --- A pooler in transaction mode -------------------------------------------------------------------------------


@pytest.fixture
def pooler(postgres):
    with postgres.pooler("transaction") as port:
        yield port


def set_by_others(database, port, settings):
    """Let other clients of the pooler set this, on all of its connections to the server."""
    with ExitStack() as stack:
        others = [
            stack.enter_context(
                closing(pg8000.dbapi.connect("postgres", "127.0.0.1", database.name, port, PASSWORD, ssl_context=False))
            )
            for _ in range(2)
        ]
        for other in others:
            other.autocommit = True
        for statement in ("begin", settings, "commit"):  # each has a connection to the server of its own meanwhile
            for other in others:
                rows(other, statement)


SETTINGS = {
    "search_path": '"$user", public',
    "synchronous_commit": "on",
    "statement_timeout": "2s",
    "transaction_isolation": "read committed",
}
SET_BY_OTHERS = """
    set search_path = elsewhere; set synchronous_commit = off; set statement_timeout = '1ms';
    set session characteristics as transaction isolation level serializable;
    set time zone 'Pacific/Kiritimati'; set datestyle = 'German'; set intervalstyle = 'sql_standard';
    set standard_conforming_strings = off; set array_nulls = off; set row_security = off;
    set extra_float_digits = -15"""


@pytest.mark.parametrize("tables", ["are made by the first click", "exist"])
def test_what_others_set_in_a_pooler_does_not_matter(on_postgres, postgres, pooler, start, tables):
    function = start(postgres.url(on_postgres.name, pooler))
    clicks = 0
    if tables == "exist":
        clicks = function.click().value
    on_postgres.sql("create schema elsewhere")
    set_by_others(on_postgres, pooler, SET_BY_OTHERS)
    for expected in range(clicks + 1, clicks + 9):
        assert function.click().value == expected
    assert function.send("GET", "/health").status == 200
    assert function.send("GET", "/history?days=1").json()["days"][0]["value"] == function.count() == clicks + 8
    assert on_postgres.sql("select tablename from pg_tables where schemaname = 'elsewhere'") == []
    assert on_postgres.values() == {COUNTER: clicks + 8}


def test_click_is_counted_under_the_settings_that_it_needs(on_postgres, postgres, pooler, start):
    function = start(postgres.url(on_postgres.name, pooler))
    function.click()
    names = ", ".join(f"'{name}'" for name in SETTINGS)
    on_postgres.sql(
        f"""
        create table seen (name text, value text);
        create function see() returns trigger language plpgsql as $$ begin
            insert into public.seen select name, current_setting(name) from unnest(array[{names}]) as name;
            return null;
        end $$;
        create trigger see after insert on click execute function see()"""
    )
    set_by_others(on_postgres, pooler, SET_BY_OTHERS)
    function.click()
    assert dict(on_postgres.sql("select * from seen")) == SETTINGS


def test_lost_tables_are_not_made_anew_by_who_has_seen_them(on_postgres, start):
    """Nobody must start again from 0 while they are restored."""
    function = start(on_postgres.url)
    function.click()
    for table in TABLES:
        on_postgres.sql(f"alter table {table} rename to lost_{table}")
    answers = [function.click(), function.send("GET", "/value"), function.send("GET", "/health")]
    assert [answer.status for answer in answers] == [503] * 3
    assert "counters.py init" in function.output()
    for table in TABLES:
        on_postgres.sql(f"alter table lost_{table} rename to {table}")
    wait_until(lambda: function.send("GET", "/health").status == 200)
    wait_until(lambda: function.click().status == 200)
    assert on_postgres.values() == {COUNTER: 2}


# --- Supabase ---------------------------------------------------------------------------------------------------

STRANGERS = ("anon", "authenticated")


@pytest.fixture
def on_supabase(postgres, on_postgres):
    """The URL of a database with Supabase's roles and default grants, for its owner, who is no superuser.

    https://supabase.com/docs/guides/api/securing-your-api
    """
    postgres.sql(
        "postgres",
        "create role owner login password 'secret'; create role anon; create role authenticated; "
        f"create role service_role bypassrls; alter database {on_postgres.name} owner to owner",
    )
    everybody = "anon, authenticated, service_role"
    on_postgres.sql(
        f"""
        grant usage on schema public to {everybody};
        grant create on schema public to owner;
        alter default privileges for role owner in schema public grant all on tables to {everybody};
        alter default privileges for role owner in schema public grant all on functions to {everybody};
        alter default privileges for role owner in schema public grant all on sequences to {everybody}"""
    )
    yield f"postgresql://owner:secret@127.0.0.1:{postgres.port}/{on_postgres.name}"
    postgres.sql("postgres", f"drop database {on_postgres.name} with (force)")
    postgres.sql("postgres", f"drop role owner, {everybody}")


def test_public_key_of_supabase_neither_reads_nor_writes(on_supabase, on_postgres, postgres, start):
    function = start(on_supabase)
    assert [function.click().value for _ in range(2)] == [1, 2]
    assert function.send("GET", "/health").status == function.send("GET", "/history").status == 200
    assert Tool(on_supabase)("list") == f"{COUNTER}\t2\n"
    before = everything(on_postgres)
    with postgres.connected(on_postgres.name) as connection:
        for role in STRANGERS:
            rows(connection, f"set role {role}")
            for table, row in zip(TABLES, ("'x', 1", "'x', '2026-11-22', 1", "'x', 'x', 1"), strict=True):
                assert rows(connection, f"select * from {table}") == []
                with pytest.raises(pg8000.dbapi.DatabaseError, match="42501"):
                    rows(connection, f"insert into {table} values ({row})")
                for write in (f"update {table} set name = 'x'", f"delete from {table}"):
                    assert rows(connection, f"with gone as ({write} returning 1) select * from gone") == []
    assert everything(on_postgres) == before
    assert function.click().value == 3


# --- An older version -------------------------------------------------------------------------------------------


def test_tables_of_the_version_with_base_go_on_counting(database, start):
    database.sql(
        "create table counter (name text not null primary key, value bigint not null, base bigint not null default 0)"
    )
    database.sql(f"insert into counter values ('{COUNTER}', 41, 40)")
    function = start(database.url, COUNTERS=f"{COUNTER},post-*", MAX_COUNTERS="2")
    assert function.click().value == 42
    assert [function.click(f"post-{number}").status for number in (1, 2)] == [200, 409]
    assert function.send("GET", "/health").status == 200
    tool = Tool(database.url)
    tool("init")
    assert tool("list") == f"{COUNTER}\t42\npost-1\t1\n"
    assert database.values() == {COUNTER: 42, "post-1": 1}
