"""What this grew from: read the value, add one, save it. Simultaneous clicks overwrite one another."""

import functools
import os

import flask
import functions_framework
import sqlalchemy

READ = sqlalchemy.text("select value from counter where name = 'hello-world-button'")
SAVE = sqlalchemy.text("update counter set value = :value where name = 'hello-world-button'")


@functools.cache
def engine() -> sqlalchemy.Engine:
    url = os.environ["DATABASE_URL"].replace("postgres://", "postgresql+pg8000://")
    return sqlalchemy.create_engine(url, pool_size=5, max_overflow=2, isolation_level="AUTOCOMMIT")


@functions_framework.http
def handler(request: flask.Request) -> dict[str, object]:
    with engine().connect() as connection:
        value = connection.execute(READ).scalar() + 1
        connection.execute(SAVE, {"value": value})
        return {"value": value}
