"""A database that may only be read, or whose disk is full: said by name with what to do, and still there to be read."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, make_url, text

from notifyctl.audit.chain import SealKeys
from notifyctl.bootstrap import Runtime
from notifyctl.db import failures
from notifyctl.db.database import Database
from notifyctl.errors import DatabaseError, NotWritable
from notifyctl.transfer import backup_store
from tests.support.command_line import CommandLine
from tests.support.databases import PostgresServer

ROLE = "may_only_read"


@pytest.fixture
def reading_url(runtime: Runtime, request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a role that may read everything."""
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = make_url(runtime.settings.database_url)
    grant = f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE}"
    server.execute(f"CREATE ROLE {ROLE} LOGIN", grant, database=str(url.database))
    yield url.set(username=ROLE).render_as_string(hide_password=False)
    server.execute(f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}", database=str(url.database))


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_role_that_may_only_read_is_told_by_name_before_anything_is_lost(
    runtime: Runtime, reading_url: str, notifyctl: CommandLine
) -> None:
    with runtime.database.read() as session:
        assert failures.obstacle(session) is None
    health = notifyctl("health", DATABASE_URL=reading_url)
    assert (health.code, f"its role {ROLE} may not write" in " ".join(health.out.split())) == (0, True), health
    assert f"its role {ROLE} may not write" in notifyctl("doctor", DATABASE_URL=reading_url).out
    assert notifyctl("worker", "--once", DATABASE_URL=reading_url).code == 5


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_cannot_be_written_is_backed_up_all_the_same(runtime: Runtime, tmp_path: Path) -> None:
    database = Database(runtime.settings.database_url)

    @event.listens_for(database.engine, "connect")
    def _forbid(connection: sqlite3.Connection, _entry: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    with closing(database), pytest.raises(NotWritable, match="is read-only"), database.transaction() as session:
        session.execute(text("DELETE FROM page_session"))
    keys = SealKeys(runtime.settings.notification_secret_key)
    made = backup_store.backup(database, tmp_path / "backup", keys=keys, actor="t", tracked=lambda rows, *_: rows)
    database.close()
    assert "is read-only" in str(made.unaudited)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_full_disk_is_told_before_a_message_is_refused(
    runtime: Runtime, notifyctl: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "LEAST_ROOM", 2**70)
    folder = Path(str(runtime.database.url.database)).parent
    assert f"the disk of {folder} is full" in " ".join(notifyctl("health").out.split())
    assert f"the disk of {folder} is full" in notifyctl("doctor").out


def _cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(5000)


def _limit(database: Database) -> None:
    @event.listens_for(database.engine, "connect")
    def _forbid(connection: sqlite3.Connection, _entry: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")


OF_A_FILE: dict[str, tuple[Callable[[Path], object], Callable[[Database], object], str]] = {
    "no database": (lambda path: path.write_bytes(b"x" * 9999), lambda _: None, r"is no database: .*db restore FILE"),
    "cut": (_cut, lambda _: None, r"is damaged: .*db restore FILE --replace`"),
    "full": (lambda _: None, _limit, r"cannot be written: .*full; make room on its disk"),
}


@pytest.mark.parametrize("case", OF_A_FILE)
def test_what_is_wrong_with_a_file_is_not_told_as_of_a_server(case: str, tmp_path: Path) -> None:
    harm, hinder, words = OF_A_FILE[case]
    path = tmp_path / "n.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("y" * 1000,)] * 40)
        connection.commit()
    harm(path)
    with closing(Database(f"sqlite:///{path}")) as database:
        hinder(database)
        with pytest.raises(DatabaseError, match=words) as caught, database.transaction() as session:
            session.execute(text("INSERT INTO t SELECT randomblob(100000) FROM t"))
    assert "server" not in str(caught.value)
