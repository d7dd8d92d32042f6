"""A database that is not there yet when a process starts."""

import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import pytest
from sqlalchemy import make_url, text

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.db.database import Database
from notifyctl.operations import heartbeats
from notifyctl.worker import worker as database_wait
from notifyctl.worker.worker import Worker
from tests.support.doors import Door
from tests.support.processes import NOTIFYCTL, Environment, Processes
from tests.support.settings import PEPPER, SECRET, make_settings

postgresql_only = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@pytest.fixture
def door(database_url: str) -> Iterator[Door]:
    door = Door(f"{make_url(database_url).query['host']}/.s.PGSQL.5432")
    yield door
    door.close()


@pytest.fixture
def away(environment: Environment, database_url: str, door: Door) -> dict[str, str]:
    """The environment of a process whose database is behind the door."""
    url = make_url(database_url).set(host="127.0.0.1", port=door.port, query={})
    return environment(DATABASE_URL=url.render_as_string(hide_password=False))


def wait_until(condition: Callable[[], bool], seconds: float = 40) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        sleep(0.05)


def at_work(runtime: Runtime) -> int:
    with runtime.database.read() as session:
        return len(heartbeats.present(session))


@postgresql_only
@pytest.mark.parametrize("number", ["1", "2"])
def test_workers_wait_for_it_and_go_to_work(
    runtime: Runtime, door: Door, away: dict[str, str], processes: Processes, number: str
) -> None:
    worker = processes.notifyctl("worker", "--no-jobs", "--processes", number, env=away)
    wait_until(lambda: processes.said_by(worker).count("database unavailable") >= 2 * int(number))
    assert worker.poll() is None
    assert "worker process ended" not in processes.said_by(worker)
    door.open()
    wait_until(lambda: at_work(runtime) == int(number))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert at_work(runtime) == 0


@postgresql_only
def test_a_worker_that_waits_stops_at_a_signal(away: dict[str, str], processes: Processes) -> None:
    worker = processes.notifyctl("worker", env=away)
    wait_until(lambda: "database unavailable" in processes.said_by(worker))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert "worker stopped" in processes.said_by(worker)


@postgresql_only
@pytest.mark.parametrize(
    "arguments",
    [("worker", "--once"), ("worker", "--once", "--processes", "2"), ("jobs", "run", "audit_seal")],
    ids=" ".join,
)
def test_what_is_to_end_by_itself_ends_with_5(
    away: dict[str, str], processes: Processes, arguments: tuple[str, ...]
) -> None:
    ran = processes.run(*NOTIFYCTL, *arguments, env=away)
    assert ran.returncode == 5
    (line,) = ran.stderr.splitlines()
    assert line.startswith("notifyctl: database postgresql")
    assert "check DATABASE_URL" in line


@postgresql_only
@pytest.mark.parametrize("number", ["1", "2"])
def test_serve_says_503_until_it_is_there(
    runtime: Runtime, door: Door, away: dict[str, str], processes: Processes, number: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = processes.notifyctl("serve", "--port", str(port), "--processes", number, env=away)
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
    empty_database_url: str, processes: Processes, tmp_path: Path, options: tuple[str, ...]
) -> None:
    if (url := make_url(empty_database_url)).get_backend_name() == "sqlite":
        Path(str(url.database)).touch()
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": empty_database_url}
    variables |= {"NOTIFICATION_SECRET_KEY": SECRET, "OTP_PEPPER": PEPPER, "EMAIL_SENDER": "hello@acme.example"}
    variables |= {"POSTMARK_SERVER_TOKEN": "sandbox-token", "SMS_ENABLED": "false"}
    ran = processes.run(*NOTIFYCTL, "worker", *options, env=variables)
    assert ran.returncode == 5
    (line,) = ran.stderr.splitlines()
    assert "run `notifyctl db upgrade`" in line


def test_a_worker_waits_for_a_database_that_others_have_locked(
    database_url: str, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_wait, "LONGEST_RETRY_SECONDS", 0.5)
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
