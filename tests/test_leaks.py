"""The check of what tests leave behind sees each kind of it."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import databases, leaks
from tests.support.databases import KeptDatabase
from tests.support.processes import Processes


def left_by(act: Callable[[], object]) -> list[str]:
    before = leaks.look()
    act()
    return leaks.left_behind(before, leaks.look())


def test_nothing_is_left_by_nothing() -> None:
    assert left_by(lambda: None) == []


def test_a_thread_is_named() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="forgotten")
    found = left_by(thread.start)
    over.set()
    thread.join()
    assert [line.partition(" (")[0] for line in found] == ["threads: forgotten"]


def test_a_process_is_named_while_it_runs_and_until_it_is_waited_for(processes: Processes) -> None:
    (found,) = left_by(lambda: processes.start("sleep", "60"))
    assert found.endswith(": sleep 60")


def test_a_variable_a_handler_a_logger_and_a_folder_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours, here = logging.getLogger("notifyctl"), Path.cwd()
    handler = signal.getsignal(signal.SIGHUP)

    def act() -> None:
        monkeypatch.setenv("NOTIFYCTL_LEFT", "x")
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ours.addHandler(forgotten)
        os.chdir(tmp_path)

    forgotten = logging.NullHandler()
    found = left_by(act)
    os.chdir(here)
    ours.removeHandler(forgotten)
    signal.signal(signal.SIGHUP, handler)
    assert [line.partition(" was ")[0] for line in found] == [
        "environment: NOTIFYCTL_LEFT",
        "signal handlers: SIGHUP",
        "logging: notifyctl",
        "working directory: cwd",
    ]


def test_a_file_in_the_checkout_is_named(tmp_path: Path) -> None:
    before = leaks.files(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "left.md").touch()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "made.pyc").touch()
    assert leaks.files(tmp_path) - before == {"docs/left.md"}


def test_rows_tables_settings_and_connections_are_gone_once_the_database_was_emptied(
    kept_database: KeptDatabase,
) -> None:
    import psycopg

    with psycopg.connect(kept_database.url, autocommit=True) as stays:
        stays.execute("INSERT INTO notification_outbound_limits VALUES ('EMAIL', 1, now(), 'x')")
        stays.execute("INSERT INTO audit_log (action, actor, metadata, created_at) VALUES ('PAUSED', 'x', '{}', now())")
        stays.execute(f"ALTER DATABASE {kept_database.NAME} SET work_mem = '64kB'")
        kept_database.empty()
        with pytest.raises(psycopg.OperationalError):
            stays.execute("SELECT 1")
    with psycopg.connect(kept_database.url, autocommit=True) as fresh:
        assert fresh.execute("SELECT count(*) FROM notification_outbound_limits").fetchone() == (0,)
        assert fresh.execute("SHOW work_mem").fetchone() == ("4MB",)
        fresh.execute("INSERT INTO audit_log (action, actor, metadata, created_at) VALUES ('PAUSED', 'x', '{}', now())")
        assert fresh.execute("SELECT id FROM audit_log").fetchone() == (1,)
    kept_database.empty()


@pytest.mark.parametrize(
    "altered",
    [
        "ALTER TABLE api_key RENAME TO hidden",
        "ALTER TABLE client DROP COLUMN locale",
        "DROP INDEX ix_message_log_queue",
        "DROP TRIGGER audit_log_no_truncate ON audit_log",
        "ALTER TABLE audit_log DISABLE TRIGGER audit_log_no_delete",
        "UPDATE alembic_version SET version_num = '9999'",
        "DELETE FROM alembic_version",
    ],
)
def test_a_database_that_was_altered_is_made_anew(kept_database: KeptDatabase, altered: str) -> None:
    import psycopg

    def shape() -> list[tuple[object, ...]]:
        with psycopg.connect(kept_database.url) as connection:
            return databases.shape(connection)

    before = shape()
    with psycopg.connect(kept_database.url, autocommit=True) as connection:
        connection.execute(altered)
    assert shape() != before
    kept_database.empty()
    assert shape() == before
