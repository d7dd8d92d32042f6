"""`db copy`: all of a store in another database, to the last row, and nothing sent from both."""

import json
import os
import signal
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from time import sleep
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from notifyctl.audit import append_only
from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db.database import Database
from notifyctl.models.enums import Channel
from notifyctl.models.tables import metadata
from notifyctl.sandbox import Sandbox
from notifyctl.transfer import copy_store
from tests.support.audit_log import ask, row_ids, seal, sealed_log, verify, write_rows
from tests.support.clients import a_client
from tests.support.command_line import CommandLine, Ran
from tests.support.messages import WELCOME, a_worker, send
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.settings import make_settings
from tests.support.stores import Content, content_of, fill
from tests.transfer.conftest import Opened

SCRIPT = Path(__file__).parents[1] / "support" / "small_chunks.py"
WRITTEN_AT_THE_END = {"audit_log", "pause"}
"""One says that it was copied, and two rows in the old one that it is not to be used."""
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def copied(notifyctl: CommandLine, url: str, **variables: str) -> dict[str, Any]:
    ran = notifyctl("db", "copy", "--to", url, "--format", "json", **variables)
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


def refused(ran: Ran, code: int) -> str:
    assert (ran.code, ran.out) == (code, "")
    (line,) = ran.err.splitlines()
    return line


def as_copied(content: Content, times: int = 1) -> Content:
    """Without what a copy adds: an audit row. And without its own name, for from there on it is another store."""
    return {**content, "audit_log": content["audit_log"][:-times], "store_state": nameless(content)}


def nameless(content: Content) -> list[tuple[Any, ...]]:
    return [(row[0], *row[2:]) for row in content["store_state"]]


def test_every_row_of_every_table_is_the_same_and_so_it_is_on_the_way_back(
    database: Database, other_url: str, opened: Opened, notifyctl: CommandLine, tmp_path: Path
) -> None:
    fill(database)
    before = content_of(database)
    assert set(before) == set(metadata.tables)
    assert all(len(rows) >= 2 for name, rows in before.items() if name != "store_state")
    assert before["store_state"]
    rows = sum(map(len, before.values()))

    there = copied(notifyctl, other_url)
    assert (there["tables"], there["rows"], there["went_on"]) == (len(before), rows, False)
    other = opened(other_url)
    assert as_copied(content_of(other)) == {**before, "store_state": nameless(before)}

    back_url = f"sqlite:///{tmp_path / 'back.db'}"
    back = copied(notifyctl, back_url, DATABASE_URL=other_url)
    assert back["rows"] == rows + 1
    assert as_copied(content_of(opened(back_url)), 2) == {**before, "store_state": nameless(before)}


def test_the_audit_chain_goes_on_where_it_was(runtime: Runtime, other_url: str, notifyctl: CommandLine) -> None:
    sealed_log(runtime)
    write_rows(runtime, 2)
    before, last = verify(runtime), row_ids(runtime)[-1]
    assert copied(notifyctl, other_url)["audit_head"] == str(before.head)
    other = open_runtime(make_settings(database_url=other_url))
    after = verify(other)
    assert after.is_good
    assert (after.rows, after.seals, after.head) == (before.rows, before.seals, before.head)
    write_rows(other, 1)
    assert row_ids(other)[-2:] == [last + 1, last + 2]
    with other.database.read() as session:
        assert append_only.gaps(session.connection()) == []
    assert seal(other).rows == 4
    assert verify(other).is_good
    other.close()


def test_a_row_that_the_copy_changed_is_named(
    database: Database, other_url: str, opened: Opened, notifyctl: CommandLine
) -> None:
    fill(database)
    target = opened(other_url)
    seen = []

    def tracked(steps: Any, label: str, total: int | None) -> Any:
        seen.append((label, total))
        if label == "Comparing":
            with target.transaction() as session:
                session.execute(text("UPDATE compliance_item SET name = 'another' WHERE id = 2"))
        return steps

    with pytest.raises(Exception, match=r"compliance_item in .* differs from the source"):
        copy_store.copy(database, target, actor="test", tracked=tracked)
    rows = sum(map(len, content_of(database).values()))
    assert seen == [("Copying", rows), ("Comparing", rows)]
    assert "is an unfinished copy" in notifyctl("health", DATABASE_URL=other_url).err
    assert ask_pauses(database) == 3  # those of `fill`: nothing has moved


def ask_pauses(database: Database) -> int:
    with database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM pause")).scalar_one())


def test_a_copy_that_was_killed_is_not_used_and_goes_on(
    runtime: Runtime,
    other_url: str,
    opened: Opened,
    processes: Processes,
    environment: Environment,
    notifyctl: CommandLine,
) -> None:
    write_rows(runtime, 3_000)
    a_client(runtime)
    before = content_of(runtime.database)
    process = processes.start(NOTIFYCTL[0], SCRIPT, "db", "copy", "--to", other_url, env=environment())
    target = opened(other_url)
    while not has_come_to(target, "audit_log"):
        assert process.poll() is None, processes.said_by(process)
        sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    target.close()

    assert "is an unfinished copy" in refused(notifyctl("worker", "--once", DATABASE_URL=other_url), 5)
    assert "is an unfinished copy" in refused(notifyctl("db", "upgrade", DATABASE_URL=other_url), 5)
    ran = processes.run(NOTIFYCTL[0], SCRIPT, "db", "copy", "--to", other_url, "-f", "json", env=environment())
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["went_on"]
    assert as_copied(content_of(target)) == {**before, "store_state": nameless(before)}
    assert notifyctl("db", "status", DATABASE_URL=other_url).code == 0


def has_come_to(target: Database, table: str) -> bool:
    with target.engine.connect() as connection:
        if not connection.dialect.has_table(connection, "unfinished_copy"):
            return False
        return (
            connection.execute(text("SELECT 1 FROM unfinished_copy WHERE name = :name"), {"name": table}).first()
            is not None
        )


@pytest.mark.parametrize(
    "change", ["UPDATE client SET name = 'another'", "DELETE FROM client WHERE id = 'c3'", "DELETE FROM client"]
)
def test_a_source_that_was_written_to_between_two_runs_is_told(
    runtime: Runtime, other_url: str, opened: Opened, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    for number in range(10):
        a_client(runtime, f"c{number}")
    target = opened(other_url)
    monkeypatch.setattr(copy_store, "CHUNK_ROWS", 4)
    with pytest.raises(KeyboardInterrupt):
        copy_store.copy(runtime.database, target, actor="test", tracked=interrupted_in_comparing)
    with runtime.database.transaction() as session:
        session.execute(text(change))
    with pytest.raises(Exception, match=r"client in .* differs from the source: one of them was written to"):
        copy_store.copy(runtime.database, target, actor="test", tracked=lambda steps, *_: steps)


def interrupted_in_comparing(steps: Any, label: str, _total: int | None) -> Any:
    if label == "Comparing":
        raise KeyboardInterrupt
    return steps


def test_what_is_at_work_or_not_empty_is_left_as_it_is(
    runtime: Runtime, other_url: str, opened: Opened, notifyctl: CommandLine
) -> None:
    a_worker(runtime, "app-1:4711:ab", now=runtime.clock() - timedelta(seconds=3))
    line = refused(notifyctl("db", "copy", "--to", other_url), 1)
    assert "worker app-1 (process 4711) is at work on " in line
    assert "stop all workers first" in line
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE worker_heartbeat SET left_at = seen_at"))

    other = open_runtime(make_settings(database_url=other_url), database=opened(other_url))
    assert notifyctl("db", "upgrade", DATABASE_URL=other_url).code == 0
    a_worker(other)
    assert f"is at work on {other.database}" in refused(notifyctl("db", "copy", "--to", other_url), 1)
    with other.database.transaction() as session:
        session.execute(text("DELETE FROM worker_heartbeat"))
    a_client(other)
    assert "is not empty: there are rows in client" in refused(notifyctl("db", "copy", "--to", other_url), 2)
    assert [row.id for row in ask(other, "SELECT id FROM client")] == ["acme"]


def test_only_its_own_copy_goes_on(runtime: Runtime, other_url: str, opened: Opened, tmp_path: Path) -> None:
    target = opened(other_url)
    with pytest.raises(KeyboardInterrupt):
        copy_store.copy(runtime.database, target, actor="test", tracked=interrupted_in_comparing)
    another = opened(f"sqlite:///{tmp_path / 'another.db'}")
    copy_store.copy(runtime.database, another, actor="test", tracked=lambda steps, *_: steps)
    with pytest.raises(Exception, match="is an unfinished copy of another database; name an empty one"):
        copy_store.copy(another, target, actor="test", tracked=lambda steps, *_: steps)


def test_the_old_one_sends_nothing_and_is_not_copied_again_by_mistake(
    runtime: Runtime, other_url: str, opened: Opened, notifyctl: CommandLine, tmp_path: Path
) -> None:
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    assert copied(notifyctl, other_url)["held"] == 1
    paused = notifyctl("pause").out
    assert paused.count("all of it was copied to") == 2
    assert "all of it was copied to" not in notifyctl("pause", DATABASE_URL=other_url).out
    again = f"sqlite:///{tmp_path / 'again.db'}"
    line = refused(notifyctl("db", "copy", "--to", again), 1)
    assert "is paused: all of it was copied to" in line
    for channel in Channel:
        assert notifyctl("resume", "--channel", channel).code == 0
    assert copied(notifyctl, again)["held"] == 1


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("mysql://u:geheim@db/x", "--to must be sqlite:///path or postgresql://user:password@host/name"),
        ("postgresql://u:geheim@db:x/y", "--to has a port that is no number"),
        ("sqlite:////no/such/folder/x.db", "there is no folder /no/such"),
    ],
)
@on_sqlite
def test_what_is_no_database_is_told_in_a_line(database: Database, notifyctl: CommandLine, url: str, line: str) -> None:
    ran = notifyctl("db", "copy", "--to", url)
    assert ran.code in (2, 5)
    assert line in ran.err
    assert "geheim" not in ran.err
    assert len(ran.err.splitlines()) == 1


def test_to_itself_is_refused(database: Database, database_url: str, notifyctl: CommandLine) -> None:
    assert refused(notifyctl("db", "copy", "--to", database_url), 2).endswith(" itself; name another database")


@pytest.mark.parametrize(
    ("value", "cause"), [("x'00'", "NUL"), ("x'ff'", "client cannot be read: Could not decode to UTF-8 column")]
)
@on_sqlite
def test_what_postgresql_cannot_keep_is_told_in_a_line(
    runtime: Runtime, other_url: str, notifyctl: CommandLine, value: str, cause: str
) -> None:
    a_client(runtime, name="\0")
    with runtime.database.transaction() as session:
        session.execute(text(f"UPDATE client SET name = CAST({value} AS TEXT)"))
    line = refused(notifyctl("db", "copy", "--to", other_url), 1)
    assert cause in line
    assert "client" in line


@on_sqlite
def test_the_line_to_change_is_named(
    database: Database, notifyctl: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "new.db"
    ran = notifyctl("db", "copy", "--to", f"sqlite:///{target}")
    assert f"Now set DATABASE_URL=sqlite:///{target} in the environment" in ran.err
    assert target.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@on_sqlite
def test_each_message_leaves_once_whichever_database_it_waits_in(
    runtime: Runtime,
    sandbox: Sandbox,
    other_url: str,
    processes: Processes,
    environment: Environment,
    notifyctl: CommandLine,
    tmp_path: Path,
) -> None:
    """Half of the queue by a worker on SQLite, the rest on PostgreSQL; and from there back again."""
    back_url = f"sqlite:///{tmp_path / 'back.db'}"

    def drain(url: str, limit: int) -> int:
        variables = environment(
            DATABASE_URL=url, POSTMARK_API_URL=sandbox.url, NOTIFICATION_EMAIL_PER_MINUTE_LIMIT=str(limit)
        )
        ran = processes.run(*NOTIFYCTL, "worker", "--once", env=variables)
        assert ran.returncode == 0, ran.stderr
        return sandbox.accepted(Channel.EMAIL)

    for number in range(40):
        a_client(runtime, f"c{number}")
        send(runtime, "WELCOME_EMAIL", WELCOME, client_id=f"c{number}")
    first = drain(runtime.settings.database_url, 20)
    assert 15 <= first <= 20
    assert copied(notifyctl, other_url)["held"] == 40 - first
    assert drain(runtime.settings.database_url, 1_000) == first
    second = drain(other_url, 30)
    assert second > first
    assert second <= 30  # what was sent by the old one counts in this minute
    assert copied(notifyctl, back_url, DATABASE_URL=other_url)["held"] == 40 - second
    assert drain(other_url, 1_000) == second
    assert drain(back_url, 1_000) == 40
    assert set(sandbox.accepted_by_message_id(Channel.EMAIL).values()) == {1}
    with psycopg.connect(other_url) as connection:
        assert connection.execute("SELECT count(*) FROM message_log").fetchone() == (40,)
