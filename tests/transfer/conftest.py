"""Databases to copy to: each test's own is of one kind, and `other_url` of the other."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from notifyctl.db.database import Database
from tests.support.databases import PostgresServer

Opened = Callable[[str], Database]


@pytest.fixture
def other_url(backend: str, postgres_server: PostgresServer, tmp_path: Path) -> Iterator[str]:
    """An empty database of the other kind."""
    if backend == "postgresql":
        yield f"sqlite:///{tmp_path / 'other.db'}"
        return
    with postgres_server.fresh("notifyctl_other", "template0") as url:
        yield url


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Databases that are closed with the test."""
    databases: list[Database] = []

    def open_database(url: str) -> Database:
        databases.append(Database(url))
        return databases[-1]

    yield open_database
    for database in databases:
        database.close()
