import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from notifyctl.bootstrap import Runtime
from notifyctl.errors import DatabaseError
from notifyctl.worker import systemd
from notifyctl.worker.upkeep import Upkeep
from tests.support.processes import Processes


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield listening


def test_the_manager_hears_each_state(manager: socket.socket) -> None:
    systemd.notify("READY=1")
    systemd.notify("WATCHDOG=1")
    assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"WATCHDOG=1"]


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.notify("READY=1")


def test_a_manager_that_is_gone_stops_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    systemd.notify("READY=1")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_manager_hears_that_the_database_is_away_and_that_it_is_back(
    manager: socket.socket, runtime: Runtime
) -> None:
    upkeep = Upkeep(runtime, "w", once=False, stop=Event(), held_ids=tuple, failed=lambda _error: None)
    file = Path(str(runtime.database.url.database))
    file.rename(file.with_suffix(".aside"))
    runtime.database.drop_connections()
    with pytest.raises(DatabaseError):
        upkeep.look_for_obstacle()
    assert manager.recv(400).decode().startswith(f"STATUS=there is no database file {file}")
    file.with_suffix(".aside").rename(file)
    for _again in range(2):
        upkeep.look_for_obstacle()
    systemd.notify("WATCHDOG=1")
    assert [manager.recv(400), manager.recv(400)] == [b"STATUS=", b"WATCHDOG=1"]


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", None, 15.0),
        ("30000000", "me", 15.0),
        ("30000000", "1", None),
        ("", None, None),
        ("soon", None, None),
    ],
    ids=["half of it", "meant for us", "meant for another", "none", "no number"],
)
def test_the_watchdog_is_fed_at_half_its_time(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str | None, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", {"me": str(os.getpid())}.get(pid or "", pid or ""))
    assert systemd.watchdog_seconds() == seconds


def test_lines_for_the_journal_begin_with_their_priority_and_no_others_do(processes: Processes, tmp_path: Path) -> None:
    script = (
        "import logging; from notifyctl.worker.logging import configure_logging; configure_logging();"
        "log = logging.getLogger('notifyctl.worker'); log.info('well'); log.warning('hm'); log.error('no')"
    )
    journal, other = tmp_path / "journal", tmp_path / "other"
    journal.touch()
    file = journal.stat()
    variables = {**os.environ, "JOURNAL_STREAM": f"{file.st_dev}:{file.st_ino}"}
    for log in (journal, other):
        assert processes.start(sys.executable, "-c", script, log=log, env=variables).wait(60) == 0
    assert [line[:4] for line in journal.read_text().splitlines()] == ["<6>{", "<4>{", "<3>{"]
    assert {line[0] for line in other.read_text().splitlines()} == {"{"}
