"""A transaction for each click, with the pool of Google's Cloud SQL sample: counts right, but not exactly once."""

import functools
import os

import flask
import functions_framework
import sqlalchemy

UPSERT = sqlalchemy.text(
    "insert into counter (name, value) values (:name, 1) "
    "on conflict (name) do update set value = counter.value + 1 returning value"
)


@functools.cache
def engine() -> sqlalchemy.Engine:
    url = os.environ["DATABASE_URL"].replace("postgres://", "postgresql+pg8000://")
    return sqlalchemy.create_engine(url, pool_size=5, max_overflow=2, pool_timeout=30, pool_recycle=1800)


@functions_framework.http
def handler(request: flask.Request) -> dict[str, object]:
    with engine().begin() as connection:
        return {"value": connection.execute(UPSERT, {"name": "hello-world-button"}).scalar()}
