import socket
import stat
import struct
import sys
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db import bulk, migrations
from notifyctl.db.database import SQLITE_LOG_BYTES, Database
from notifyctl.db.wakeup import Watcher
from notifyctl.errors import DatabaseError, NotWritable, WrongSchema
from notifyctl.models.client import Client
from tests.support.clients import a_client
from tests.support.processes import Processes
from tests.support.settings import make_settings

WRITE_AND_CLOSE = """
import sys
from contextlib import ExitStack
from sqlalchemy import text
from notifyctl.db.database import Database

database = Database(sys.argv[1])
with database.transaction() as session:
    session.execute(text("INSERT INTO t SELECT value, hex(randomblob(500)) FROM generate_series(1, 2000)".replace(
        "generate_series(1, 2000)", "json_each('[" + ",".join(["1"] * 2000) + "]')")))
database.close()
"""


def test_a_second_database_in_one_process_leaves_the_locks_of_the_first_alone(
    processes: Processes, tmp_path: Path
) -> None:
    script = tmp_path / "write_and_close.py"
    script.write_text(WRITE_AND_CLOSE)
    url = f"sqlite:///{tmp_path / 'notifyctl.db'}"
    first = Database(url)
    with first.transaction() as session:
        session.execute(text("CREATE TABLE t (value INTEGER, filler TEXT)"))
    for _ in range(3):
        Database(url).close()
        # A process that takes itself for the last user of the file checkpoints and removes the log under our feet.
        assert processes.run(sys.executable, script, url).returncode == 0
        with first.transaction() as session:
            session.execute(text("UPDATE t SET filler = filler || 'x'"))
    fresh = Database(url)
    with fresh.read() as session:
        assert session.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
        assert session.execute(text("SELECT count(*) FROM t")).scalar_one() == 6_000
    fresh.close()
    first.close()


def test_a_new_sqlite_file_is_private_durable_and_in_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "notifyctl.db"
    database = Database(f"sqlite:///{path}")
    with database.read() as session:
        assert session.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert session.execute(text("PRAGMA synchronous")).scalar_one() == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    database.close()


def test_what_was_read_decides_what_is_written_also_on_sqlite(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'notifyctl.db'}")
    with database.transaction() as session, database.read() as other:
        session.execute(text("CREATE TABLE t (value INTEGER)"))
        assert other.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one() == 0
    database.close()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_postgresql_transactions_are_read_committed(database: Database) -> None:
    with database.transaction() as session:
        assert session.execute(text("SHOW transaction_isolation")).scalar_one() == "read committed"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_what_only_reads_cannot_write_on_postgresql(database: Database) -> None:
    with pytest.raises(DatabaseError, match="read-only"), database.read() as session:
        session.execute(text("INSERT INTO pause (reason, actor, created_at) VALUES ('', '', now())"))
    with database.transaction() as session:
        assert session.execute(text("SHOW transaction_read_only")).scalar_one() == "off"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_who_comes_after_a_reader_that_asked_nothing_may_write(database: Database) -> None:
    with database.read():
        pass
    with database.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        assert connection.execute(text("SHOW transaction_read_only")).scalar_one() == "off"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_postgresql_statements_stay_prepared_from_one_transaction_to_the_next(database: Database) -> None:
    """psycopg forgets them all at a ROLLBACK, and each is planned anew then: a look at the queue takes 2 ms more."""
    asked = "SELECT count(*) FROM message_log WHERE recipient = :recipient"
    for _ in range(12):
        for way in (database.read, database.transaction):
            with way() as session:
                session.execute(text(asked), {"recipient": "x"})
    prepared = text("SELECT sum(generic_plans + custom_plans) FROM pg_prepared_statements WHERE statement LIKE :asked")
    with database.read() as session:
        assert session.execute(prepared, {"asked": "SELECT count(*) FROM message_log%"}).scalar_one() >= 12


def test_what_was_read_stays_readable_behind_its_transaction(runtime: Runtime) -> None:
    """COMMIT makes SQLAlchemy forget what it has read, unless it is told not to."""
    a_client(runtime)
    with runtime.database.read() as session:
        (client,) = session.exec(select(Client))
    assert client.id == "acme"


def test_the_clock_of_the_database_is_aware_and_moves(database: Database) -> None:
    first, second = database.clock(), database.clock()
    assert first.utcoffset() is not None
    assert first <= second


UNUSABLE = {
    "a server that is not there": (
        "postgresql://nobody@127.0.0.1:1/none",
        "check DATABASE_URL and that the server is running",
    ),
    "a directory": ("sqlite:////", "must name a file"),
    "a file that is no database": ("sqlite:///{tmp}/text", "is no database"),
}  # fmt: skip


@pytest.mark.parametrize(("url", "words"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_database_that_cannot_be_used_is_one_clear_error(tmp_path: Path, url: str, words: str) -> None:
    (tmp_path / "text").write_text("not a database at all, but long enough to be taken for one" * 20)
    with pytest.raises(DatabaseError, match=words):
        migrations.schema_status(Database(url.format(tmp=tmp_path)))


def test_a_password_is_never_shown() -> None:
    for url in ("postgresql://u:s3cret@h/d", "postgresql://u@h/d?password=s3cret"):
        assert "s3cret" not in str(Database(url))


def test_the_log_beside_a_sqlite_file_shrinks_again_while_others_are_at_work(tmp_path: Path) -> None:
    path = tmp_path / "notifyctl.db"
    database, other = Database(f"sqlite:///{path}"), Database(f"sqlite:///{path}")
    log = Path(f"{path}-wal")
    watcher = Watcher(other)
    with database.transaction() as session:
        session.execute(text("CREATE TABLE t (value BLOB)"))
    with other.read() as reader:
        assert reader.execute(text("SELECT count(*) FROM t")).scalar_one() == 0
        with database.transaction() as session:
            for _ in range(24):
                session.execute(text("INSERT INTO t VALUES (randomblob(1000000))"))
    assert log.stat().st_size > 1.4 * SQLITE_LOG_BYTES
    for _ in range(3):
        with database.transaction() as session:
            session.execute(text("INSERT INTO t VALUES (1)"))
    assert log.stat().st_size <= SQLITE_LOG_BYTES
    watcher.close()
    database.close()
    other.close()


def test_a_file_that_is_gone_is_not_made_again_under_a_process_that_is_at_work(tmp_path: Path) -> None:
    path = tmp_path / "notifyctl.db"
    database = Database(f"sqlite:///{path}")
    with database.read() as session:
        session.execute(text("SELECT 1"))
    database.close()
    path.unlink()
    with pytest.raises(DatabaseError, match="there is no database file"), database.read() as session:
        session.execute(text("SELECT 1"))
    assert not path.exists()


def test_a_runtime_makes_no_file_that_is_not_there(tmp_path: Path) -> None:
    runtime = open_runtime(make_settings(database_url=f"sqlite:///{tmp_path / 'deep' / 'n.db'}"))
    with pytest.raises(DatabaseError, match=r"run `notifyctl db upgrade`"), runtime.database.transaction():
        pass
    assert list(tmp_path.iterdir()) == []


def test_connections_that_may_only_read_are_not_kept(database_url: str) -> None:
    """A writer that became a standby and stays up, or was set read-only for a while: new sessions can write again."""
    database = Database(database_url, patience_seconds=1)
    with ExitStack() as open_ones:
        for session in [open_ones.enter_context(database.read()) for _ in range(3)]:
            if database.is_sqlite:
                session.connection().exec_driver_sql("PRAGMA query_only = ON")
            else:
                session.execute(text("SET default_transaction_read_only = on"))
                session.commit()

    with pytest.raises(DatabaseError, match=r"is read-only: .*make it writable"):
        _write(database)
    _write(database)
    database.close()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_who_looks_whether_it_can_be_written_does_not_look_by_a_stale_session(database_url: str) -> None:
    """Nothing is written meanwhile, which would drop it: a worker waits with its start, a server is told not ready."""
    database = Database(database_url)
    with database.read() as session:
        session.execute(text("SET default_transaction_read_only = on"))
    with pytest.raises(NotWritable, match="it is set read-only"):
        database.require_writable()
    database.require_writable()
    database.close()


def _write(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE notification_outbound_limits SET per_minute_limit = per_minute_limit"))
        session.execute(text("DELETE FROM page_session"))


def test_what_the_driver_refuses_is_told_as_what_sqlalchemy_refuses(database: Database) -> None:
    statement = (
        "INSERT INTO page_session (id, key_id, created_at, expires_at) VALUES (:id, :key, :now, :now) RETURNING id"
    )
    values = {"id": "one", "key": "no such key", "now": datetime(2026, 3, 1, tzinfo=UTC)}
    with database.transaction() as session:
        assert bulk.run(session, statement, values) == [("one",)]
    with pytest.raises(IntegrityError) as raised, database.transaction() as session:
        bulk.run(session, statement, values)
    assert "no such key" not in str(raised.value)
    with pytest.raises(WrongSchema, match="is not migrated"), database.transaction() as session:
        bulk.run(session, "SELECT * FROM no_such_table WHERE id = :id", {"id": "one"})
    assert database.dropped == 0
    with database.read() as session:
        assert bulk.run(session, "SELECT id FROM page_session WHERE id = 'x'", {}) == []


def test_a_pooler_that_refuses_our_options_is_told_from_a_server_that_is_away() -> None:
    """PgBouncer, where the URL has options."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pooler = threading.Thread(target=_refuse_options, args=(listener,))
        pooler.start()
        database = Database(
            f"postgresql://u@127.0.0.1:{listener.getsockname()[1]}/n?sslmode=disable&gssencmode=disable"
        )
        with pytest.raises(DatabaseError, match="unsupported startup parameter: options; take it out") as raised:
            migrations.schema_status(database)
        pooler.join()
    assert "check DATABASE_URL and that" not in str(raised.value)


def _refuse_options(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4_096)
        fields = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
        connection.sendall(b"E" + struct.pack("!i", len(fields) + 4) + fields)
