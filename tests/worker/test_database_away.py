"""A database that is not there yet when a process starts."""

import os
import select
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep

import pytest
from sqlalchemy import make_url, text

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.store.database import Database
from notifyctl.worker import database_wait
from notifyctl.worker.daemon import Worker
from tests.support.processes import Environment
from tests.support.settings import PEPPER, SECRET, make_settings

postgresql_only = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


class Door:
    """A port before the server's socket: shut until it is opened, and then it hands everything on."""

    def __init__(self, folder: str) -> None:
        self._behind = f"{folder}/.s.PGSQL.5432"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._closed = Event()
        self._listener: socket.socket | None = None

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        Thread(target=self._let_in, daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        if self._listener is not None:
            self._listener.close()

    def _let_in(self) -> None:
        assert self._listener is not None
        while not self._closed.is_set():
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._behind)
            Thread(target=_hand_on, args=(caller, server), daemon=True).start()


def _hand_on(caller: socket.socket, server: socket.socket) -> None:
    with caller, server:
        other_way = {caller: server, server: caller}
        while True:
            for ready in select.select([caller, server], [], [])[0]:
                try:
                    data = ready.recv(65_536)
                    other_way[ready].sendall(data)
                except OSError:
                    return
                if not data:
                    return


@pytest.fixture
def door(database_url: str) -> Iterator[Door]:
    door = Door(str(make_url(database_url).query["host"]))
    yield door
    door.close()


@pytest.fixture
def away(environment: Environment, database_url: str, door: Door) -> dict[str, str]:
    """The environment of a process whose database is behind the door."""
    url = make_url(database_url).set(host="127.0.0.1", port=door.port, query={})
    return environment(DATABASE_URL=url.render_as_string(hide_password=False))


@contextmanager
def program(variables: dict[str, str], log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("w") as written:
        process = subprocess.Popen([sys.executable, "-m", "notifyctl", *arguments], env=variables, stderr=written)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)  # a supervisor's children would go on without it
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until(condition: Callable[[], bool], seconds: float = 40) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        sleep(0.05)


def at_work(runtime: Runtime) -> int:
    with runtime.database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM worker_heartbeat")).scalar_one())


@postgresql_only
@pytest.mark.parametrize("processes", ["1", "2"])
def test_workers_wait_for_it_and_go_to_work(
    runtime: Runtime, door: Door, away: dict[str, str], tmp_path: Path, processes: str
) -> None:
    log = tmp_path / "log"
    with program(away, log, "worker", "--no-jobs", "--processes", processes) as worker:
        wait_until(lambda: log.read_text().count("database unavailable") >= 2 * int(processes))
        assert worker.poll() is None
        assert "worker process ended" not in log.read_text()
        door.open()
        wait_until(lambda: at_work(runtime) == int(processes))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    assert at_work(runtime) == 0


@postgresql_only
def test_a_worker_that_waits_stops_at_a_signal(away: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with program(away, log, "worker") as worker:
        wait_until(lambda: "database unavailable" in log.read_text())
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    assert "worker stopped" in log.read_text()


@postgresql_only
@pytest.mark.parametrize(
    "arguments",
    [("worker", "--once"), ("worker", "--once", "--processes", "2"), ("jobs", "run", "audit_seal")],
    ids=" ".join,
)
def test_what_is_to_end_by_itself_ends_with_5(away: dict[str, str], tmp_path: Path, arguments: tuple[str, ...]) -> None:
    log = tmp_path / "log"
    with program(away, log, *arguments) as process:
        assert process.wait(30) == 5
    (line,) = log.read_text().splitlines()
    assert line.startswith("notifyctl: Database postgresql")
    assert "check DATABASE_URL" in line


@postgresql_only
@pytest.mark.parametrize("processes", ["1", "2"])
def test_serve_says_503_until_it_is_there(
    runtime: Runtime, door: Door, away: dict[str, str], tmp_path: Path, processes: str
) -> None:
    log = tmp_path / "log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with program(away, log, "serve", "--port", str(port), "--processes", processes) as server:
        wait_until(lambda: status_of(port, "/healthz") == 200)
        assert status_of(port, "/readyz") == 503
        door.open()
        wait_until(lambda: status_of(port, "/readyz") == 200)
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


def status_of(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["one process", "two processes"])
def test_a_database_that_is_not_migrated_is_said_once_and_not_waited_for(
    empty_database_url: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    log = tmp_path / "log"
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": empty_database_url}
    variables |= {"NOTIFICATION_SECRET_KEY": SECRET, "OTP_PEPPER": PEPPER, "EMAIL_SENDER": "hello@acme.example"}
    variables |= {"POSTMARK_SERVER_TOKEN": "sandbox-token", "SMS_ENABLED": "false"}
    with program(variables, log, "worker", *options) as worker:
        assert worker.wait(30) == 5
    (line,) = log.read_text().splitlines()
    assert "run `notifyctl db upgrade`" in line


def test_a_worker_waits_for_a_database_that_others_have_locked(
    database_url: str, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_wait, "MOST_SECONDS", 0.5)
    impatient = open_runtime(
        make_settings(database_url=database_url), database=Database(database_url, patience_seconds=0.1)
    )
    worker = Worker(impatient, {})
    thread = Thread(target=worker.run)
    with runtime.database.transaction() as session:
        session.execute(text("SELECT 1" if runtime.database.is_sqlite else "LOCK TABLE worker_heartbeat"))
        thread.start()
        sleep(1.0)
        assert thread.is_alive()
    thread.join(20)  # it has no channel to serve, so that it ends once it has begun
    assert not thread.is_alive()
    impatient.close()
