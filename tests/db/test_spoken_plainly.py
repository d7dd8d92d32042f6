"""What is set on a role or its database for the people who read there, and what becomes of our own rows."""

from contextlib import closing

import psycopg
import pytest
from psycopg import sql

from notifyctl.db.database import Database
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


def set_on_the_database(database_url: str, name: str, values: list[str]) -> None:
    statement = sql.SQL("ALTER DATABASE {} SET {} TO {}").format(
        sql.Identifier(KeptDatabase.NAME), sql.Identifier(name), sql.SQL(", ").join(map(sql.Literal, values))
    )
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement)
