"""What is set on a role or its database for the people who read there, and what becomes of our own sessions."""

from contextlib import closing

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, text

from notifyctl.db.database import Database
from notifyctl.db.migrations import begin_step
from notifyctl.errors import DatabaseError
from tests.support.databases import KeptDatabase
from tests.support.poolers import Pooled
from tests.support.stores import content_of, fill

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

SETTINGS = [
    ("DateStyle", ["German", "DMY"]),
    ("DateStyle", ["SQL", "MDY"]),
    ("client_encoding", ["LATIN1"]),
]


@pytest.mark.parametrize("way", ["direct", "transaction"])
@pytest.mark.parametrize(("name", "values"), SETTINGS, ids=[f"{name} {values[0]}" for name, values in SETTINGS])
def test_every_value_is_written_and_read_as_ever(
    name: str, values: list[str], way: str, database_url: str, request: pytest.FixtureRequest
) -> None:
    with closing(Database(database_url)) as plain:
        assert not any(content_of(plain)["message_log"])
        set_on_the_database(database_url, name, values)
        pooled: Pooled = request.getfixturevalue("pooled")
        with closing(Database(database_url if way == "direct" else pooled(way))) as database:
            fill(database)
            assert content_of(database) == content_of(plain)
            assert any(content_of(plain)["message_log"])


def test_an_idle_session_is_not_ended_and_a_revision_takes_its_time(database_url: str) -> None:
    set_on_the_database(database_url, "idle_session_timeout", ["1min"])
    set_on_the_database(database_url, "statement_timeout", ["1min"])
    with closing(Database(database_url)) as database:
        with database.read() as session:
            assert shown(session.connection(), "idle_session_timeout") == "0"
            assert shown(session.connection(), "statement_timeout") == "1min"
        with database.engine.connect() as connection:
            begin_step(connection)
            assert shown(connection, "statement_timeout") == "0"


def test_a_statement_that_takes_too_long_is_told_as_what_it_is(database_url: str) -> None:
    set_on_the_database(database_url, "statement_timeout", ["500ms"])
    with (
        closing(Database(database_url)) as database,
        pytest.raises(DatabaseError, match=r"has canceled a statement: .*statement_timeout, raise it for the role in"),
        database.read() as session,
    ):
        session.execute(text("SELECT pg_sleep(30)"))


def shown(connection: Connection, name: str) -> str:
    return str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())


def set_on_the_database(database_url: str, name: str, values: list[str]) -> None:
    statement = sql.SQL("ALTER DATABASE {} SET {} TO {}").format(
        sql.Identifier(KeptDatabase.NAME), sql.Identifier(name), sql.SQL(", ").join(map(sql.Literal, values))
    )
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement)
