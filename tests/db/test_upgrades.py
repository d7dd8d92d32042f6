"""Upgrades beside running workers: which code may work on which schema, and what an upgrade does to those at work."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, text

from notifyctl.bootstrap import Runtime
from notifyctl.db import beside, migrations
from notifyctl.db.database import Database
from notifyctl.http.api import probes
from tests.support.command_line import CommandLine
from tests.support.databases import KeptDatabase
from tests.support.messages import a_worker
from tests.support.poolers import Pooled
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.releases import fill, later, next_release

ADD_TABLE = '    op.create_table("later", sa.Column("id", sa.Integer(), primary_key=True))'
each_database = pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)
on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


class Upgrade:
    """`db upgrade` of the next release, as a program."""

    def __init__(self, release: Path, processes: Processes, variables: dict[str, str]) -> None:
        self._processes = processes
        self._options: dict[str, Any] = {"cwd": release, "env": variables, "fresh": True}

    def run(self, *command: str) -> tuple[int, str]:
        ran = self._processes.run(*NOTIFYCTL, *(command or ("db", "upgrade")), **self._options)
        return ran.returncode, ran.stdout + ran.stderr

    def start(self) -> Any:
        return self._processes.start(*NOTIFYCTL, "db", "upgrade", **self._options)


@each_database
def test_the_release_before_goes_on_on_a_schema_that_leaves_it_what_it_needs(
    runtime: Runtime,
    notifyctl: CommandLine,
    processes: Processes,
    environment: Environment,
    tmp_path: Path,
) -> None:
    release = next_release(tmp_path, (ADD_TABLE, migrations.head_revision()))
    code, said = Upgrade(release, processes, environment()).run()
    assert code == 0, said
    assert re.search(rf"^{later()}  Later change 1\.  \(\d+\.\d s\)$", said, re.M), said
    status = json.loads(notifyctl("db", "status", "--format", "json").out)
    assert {name: status[name] for name in ("revision", "head", "oldest_code", "current", "fits")} == {
        "revision": later(),
        "head": migrations.head_revision(),
        "oldest_code": migrations.head_revision(),
        "current": False,
        "fits": True,
    }
    assert notifyctl("clients", "list").code == 0
    assert probes._missing(runtime) == ""
    ran = notifyctl("db", "upgrade")
    assert (ran.code, ran.err.count("\n")) == (0, 1)
    assert f"is left as it is: it is at revision {later()}, and this notifyctl is of" in ran.err
    checks = json.loads(notifyctl("doctor", "--format", "json").out)
    [schema] = [check for check in checks if check["check"] == "schema"]
    assert (schema["status"], schema["remedy"]) == ("warn", "upgrade this program as well")
    assert f"it fits, but it is at revision {later()}" in schema["problem"]


@each_database
def test_a_schema_that_takes_away_what_code_needs_refuses_it_in_one_line(
    notifyctl: CommandLine, processes: Processes, environment: Environment, tmp_path: Path
) -> None:
    release = next_release(tmp_path, (ADD_TABLE, migrations.head_revision()), ("    pass", later()))
    code, said = Upgrade(release, processes, environment()).run()
    assert code == 0, said
    ran = notifyctl("clients", "list")
    assert (ran.code, ran.out, ran.err.count("\n")) == (5, "", 1)
    assert f"is at revision {later(2)}, newer than this notifyctl ({migrations.head_revision()})" in ran.err
    assert f"it takes one of {later()} or later: upgrade the program" in ran.err
    assert notifyctl("db", "upgrade").code == 5
    assert notifyctl("db", "status").code == 5


@each_database
def test_nothing_is_taken_away_while_a_worker_needs_it(
    runtime: Runtime, processes: Processes, environment: Environment, tmp_path: Path
) -> None:
    contract = (ADD_TABLE, migrations.head_revision()), ("    pass", later())
    upgrade = Upgrade(next_release(tmp_path, *contract), processes, environment())
    a_worker(runtime, "app-1:4711:ab", revision=migrations.head_revision())
    a_worker(runtime, "app-2:4712:cd", revision=None)
    a_worker(runtime, "app-3:4713:ef", revision=later())
    code, said = upgrade.run()
    assert (code, said.count("\n")) == (5, 1), said
    assert f"revision {later(2)} takes away what notifyctl before {later()} needs" in said
    assert (
        f"app-1 (process 4711) of {migrations.head_revision()}, app-2 (process 4712) of before 0014; stop them" in said
    )
    assert migrations.schema_status(runtime.database).is_current  # nothing was begun
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE worker_heartbeat SET left_at = seen_at WHERE worker LIKE 'app-1%'"))
        session.execute(text("DELETE FROM worker_heartbeat WHERE worker LIKE 'app-2%'"))
    code, said = upgrade.run()
    assert code == 0, said


@each_database
def test_a_worker_says_of_which_revision_it_is(
    runtime: Runtime, processes: Processes, environment: Environment, notifyctl: CommandLine
) -> None:
    worker = processes.notifyctl("worker", "--no-jobs", env=environment())
    found = _until(lambda: _read(runtime.database, "SELECT revision FROM worker_heartbeat"))
    assert found == [(migrations.head_revision(),)]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0


@on_postgresql
def test_a_worker_whose_new_connections_find_a_schema_that_refuses_it_ends(
    runtime: Runtime, processes: Processes, environment: Environment
) -> None:
    worker = processes.notifyctl("worker", "--no-jobs", env=environment())
    _until(lambda: _read(runtime.database, "SELECT worker FROM worker_heartbeat"))
    with runtime.database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999', oldest_code = '9998'"))
    with runtime.database.transaction() as session:
        session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid()"
            )
        )
    assert worker.wait(60) == 5
    assert "it takes one of 9998 or later: upgrade the program" in processes.said_by(worker)


HOT = ("message_log", "message_payload", "audit_log", "otp_challenge", "stripe_event")
"""What is written to all the time, or grows with the traffic."""
_HOT = rf"(?:{'|'.join(HOT)})"
HEAVY = (
    rf"CREATE (UNIQUE )?INDEX (?!CONCURRENTLY).* ON {_HOT}\b",
    rf"DROP INDEX (?!CONCURRENTLY)(ix|ux)_{_HOT}",
    rf"ALTER TABLE {_HOT} (ALTER COLUMN \w+ (TYPE|SET NOT NULL)|ADD CONSTRAINT (?!.*NOT VALID))",
    rf"(VACUUM FULL|CLUSTER|REINDEX (?!.*CONCURRENTLY)|LOCK TABLE|TRUNCATE).*{_HOT}",
)


def is_heavy(statement: str) -> bool:
    """Whether it holds a lock that workers wait for, for as long as it takes to read or write the whole table."""
    return any(re.match(pattern, " ".join(statement.split()), re.I) for pattern in HEAVY)


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("CREATE INDEX x ON message_log (id)", True),
        ("CREATE UNIQUE INDEX x\n ON audit_log (id)", True),
        ("CREATE INDEX CONCURRENTLY IF NOT EXISTS x ON message_log (id)", False),
        ("CREATE INDEX x ON page_session (id)", False),
        ("DROP INDEX ix_message_log_queue", True),
        ("DROP INDEX CONCURRENTLY IF EXISTS ix_message_log_queue", False),
        ("ALTER TABLE message_log ALTER COLUMN attempts TYPE BIGINT", True),
        ("ALTER TABLE message_log ALTER COLUMN client_id SET NOT NULL", True),
        ("ALTER TABLE message_log ADD CONSTRAINT x CHECK (attempts > 0)", True),
        ("ALTER TABLE message_log ADD CONSTRAINT x CHECK (attempts > 0) NOT VALID", False),
        ("ALTER TABLE message_log VALIDATE CONSTRAINT x", False),
        ("ALTER TABLE message_log ADD COLUMN x INTEGER DEFAULT '0' NOT NULL", False),
        ("TRUNCATE message_log", True),
    ],
)
def test_what_a_revision_must_not_do(statement: str, heavy: bool) -> None:
    assert is_heavy(statement) is heavy


@pytest.fixture
def first_release(empty_database_url: str) -> Iterator[Database]:
    """A store of the first release, with more rows in its large tables than are written in one batch."""
    database = Database(empty_database_url)
    migrations.upgrade(database, "0001")
    fill(database, 6_000)
    yield database
    database.close()


@on_postgresql
def test_no_revision_holds_a_table_in_use_for_long(first_release: Database) -> None:
    """By what it does, for how long that takes depends on the machine."""
    did: list[tuple[str, int]] = []

    def note(_connection: object, cursor: Any, statement: str, *_more: object) -> None:
        did.append((" ".join(statement.split()), cursor.rowcount))

    files = "SELECT relname, relfilenode FROM pg_class WHERE relname = ANY(:hot)"
    before = dict(_read(first_release, files, hot=list(HOT)))
    event.listen(first_release.engine, "after_cursor_execute", note)
    migrations.upgrade(first_release)
    event.remove(first_release.engine, "after_cursor_execute", note)
    assert dict(_read(first_release, files, hot=list(HOT))) == before, "a table was written anew"
    assert [statement for statement, _ in did if is_heavy(statement)] == []
    written = [(statement, rows) for statement, rows in did if re.match(rf"(UPDATE|DELETE FROM) {_HOT}\b", statement)]
    assert [statement for statement, rows in written if rows > beside.BATCH_ROWS] == []
    assert sum("CREATE INDEX CONCURRENTLY" in statement for statement, _ in did) > 15


class Killed(BaseException):
    pass


@on_postgresql
def test_an_upgrade_that_ends_anywhere_is_finished_by_the_next(
    first_release: Database, kept_database: KeptDatabase
) -> None:
    """Killed before and after everything that no transaction holds together, each once, in one long row of upgrades."""
    seen: set[tuple[str, str]] = set()

    def kill(when: str, statement: str) -> None:
        is_a_point = "CONCURRENTLY" in statement or statement.startswith("UPDATE stripe_subscription")
        if is_a_point and (when, statement) not in seen:
            seen.add((when, statement))
            raise Killed

    event.listen(first_release.engine, "before_cursor_execute", lambda *given: kill("before", given[2]))
    event.listen(first_release.engine, "after_cursor_execute", lambda *given: kill("after", given[2]))
    kills = 0
    while True:
        try:
            migrations.upgrade(first_release)
        except Killed:
            kills += 1
        else:
            break
    assert kills == len(seen) > 50
    assert migrations.schema_status(first_release).is_current
    assert _half_made(first_release) == []
    unbroken = Database(kept_database.url)
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    assert _read(first_release, indexes) == _read(unbroken, indexes)
    unbroken.close()


def _read(database: Database, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    with database.read() as session:
        return [tuple(row) for row in session.execute(text(statement), values)]


def _until(look: Callable[[], Any], seconds: float = 60) -> Any:
    """What it finds, once it finds something."""
    deadline = monotonic() + seconds
    while not (found := look()):
        assert monotonic() < deadline
        sleep(0.02)
    return found


@contextmanager
def open_transaction(url: str, *statements: str) -> Iterator[psycopg.Connection]:
    """As a dump holds one: it has read, and sees for as long as it lasts what was there then."""
    with psycopg.connect(url, application_name="pg_dump") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for statement in statements:
            connection.execute(statement)
        yield connection


MAKING = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase LIKE 'waiting%'"


@on_postgresql
def test_an_upgrade_killed_while_it_makes_an_index_is_finished_by_the_next(
    first_release: Database, empty_database_url: str, processes: Processes, environment: Environment
) -> None:
    """The server goes on with what it was asked for: the next one waits for that, and makes it no second time."""
    variables = environment(DATABASE_URL=empty_database_url)
    with open_transaction(empty_database_url, "SELECT count(*) FROM message_log"):
        upgrade = processes.notifyctl("db", "upgrade", env=variables)
        [(making,)] = _until(lambda: _read(first_release, MAKING))
        upgrade.kill()
        upgrade.wait(30)
        again = processes.notifyctl("db", "upgrade", env=variables)
        turn = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"
        _until(lambda: _read(first_release, turn))
        assert _read(first_release, MAKING) == [(making,)]
    assert again.wait(60) == 0, processes.said_by(again)
    assert migrations.schema_status(first_release).is_current
    assert _half_made(first_release) == []


@on_postgresql
def test_half_an_index_is_made_anew(
    first_release: Database, empty_database_url: str, processes: Processes, environment: Environment
) -> None:
    """The server's process has ended, as in a restart."""
    variables = environment(DATABASE_URL=empty_database_url)
    with open_transaction(empty_database_url, "SELECT count(*) FROM message_log"):
        upgrade = processes.notifyctl("db", "upgrade", env=variables)
        [(making,)] = _until(lambda: _read(first_release, MAKING))
        _read(first_release, "SELECT pg_terminate_backend(:making, 10000)", making=making)
        assert upgrade.wait(30) == 5
    [line] = [line for line in processes.said_by(upgrade).splitlines() if line.startswith("notifyctl:")]
    assert "terminating connection" in line
    assert _half_made(first_release) == [("ix_message_log_queue_new",)]
    again = processes.run(*NOTIFYCTL, "db", "upgrade", env=variables)
    assert again.returncode == 0, again.stderr
    assert migrations.schema_status(first_release).is_current
    assert _half_made(first_release) == []


def _half_made(database: Database) -> list[tuple[Any, ...]]:
    return _read(database, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")


@on_postgresql
def test_what_others_have_locked_holds_up_the_upgrade_and_nobody_else(
    runtime: Runtime, database_url: str, processes: Processes, environment: Environment
) -> None:
    """A statement that waited for its lock would hold up all that come after it."""
    migrations.downgrade(runtime.database, "0012")
    with open_transaction(database_url, "SELECT count(*) FROM worker_heartbeat"):
        upgrade = processes.notifyctl("db", "upgrade", env=environment())
        said = _until(lambda: [line for line in processes.said_by(upgrade).splitlines() if "waits" in line])
        with psycopg.connect(database_url) as worker:  # whom a statement in the queue would keep waiting for ever
            worker.execute("SELECT count(*) FROM worker_heartbeat")
    assert re.search(
        r"waits: others use its tables; pid \d+ \(pg_dump\) has a transaction open for \d+ s\. Next try in", said[0]
    )
    assert upgrade.wait(60) == 0, processes.said_by(upgrade)


@on_postgresql
def test_two_upgrades_at_once_take_turns(
    first_release: Database, empty_database_url: str, processes: Processes, environment: Environment
) -> None:
    variables = environment(DATABASE_URL=empty_database_url)
    with open_transaction(empty_database_url, "SELECT count(*) FROM message_log"):
        both = [processes.notifyctl("db", "upgrade", env=variables) for _ in range(2)]
        _until(lambda: any("Another upgrade" in processes.said_by(one) for one in both))
        _until(lambda: _read(first_release, MAKING))
    assert [one.wait(60) for one in both] == [0, 0], [processes.said_by(one) for one in both]
    said = sorted(processes.said_by(one) for one in both)
    assert sum(bool(re.search(r"^0008  What the health views", one, re.M)) for one in said) == 1


@on_postgresql
def test_an_upgrade_through_a_pooler_in_transaction_mode(
    runtime: Runtime, pooled: Pooled, processes: Processes, environment: Environment
) -> None:
    migrations.downgrade(runtime.database, "0001")
    few = environment(DATABASE_URL=pooled("transaction", "default_pool_size = 2"), DATABASE_POOL_SIZE="4")
    ran = processes.run(*NOTIFYCTL, "db", "upgrade", env=few)
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    assert migrations.schema_status(runtime.database).is_current


@on_postgresql
def test_rows_that_a_revision_cannot_take_are_told_in_one_line(
    first_release: Database, empty_database_url: str, processes: Processes, environment: Environment
) -> None:
    with first_release.transaction() as session:
        session.execute(text("UPDATE otp_challenge SET phone_hash = 'same', state = 'LIVE'"))
    ran = processes.run(*NOTIFYCTL, "db", "upgrade", env=environment(DATABASE_URL=empty_database_url))
    [line] = [line for line in ran.stderr.splitlines() if line.startswith("notifyctl:")]
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (5, line)
    assert "has rows that revision 0003 cannot take (could not create unique index" in line
    assert "mend them, then run `notifyctl db upgrade` again" in line
    with first_release.transaction() as session:
        session.execute(text("UPDATE otp_challenge SET state = 'USED'"))
    assert migrations.upgrade(first_release).is_current
    assert _half_made(first_release) == []
