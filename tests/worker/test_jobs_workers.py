"""Jobs in real worker processes: shared, killed, hung, stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import select

from notifyctl.bootstrap import Runtime
from notifyctl.models.operations import JobRun
from notifyctl.operations import heartbeats
from notifyctl.sandbox import Sandbox
from tests.support.messages import CODE, message, send
from tests.support.processes import NOTIFYCTL, Environment, Processes

SCRIPT = Path(__file__).parents[1] / "support" / "job_worker.py"

StartWorker = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """A line for each run that has begun."""
    return tmp_path / "done"


@pytest.fixture
def start(
    processes: Processes, environment: Environment, sandbox: Sandbox, log: Path, done: Path, runtime: Runtime
) -> StartWorker:
    variables = environment(POSTMARK_API_URL=sandbox.url, TWILIO_API_URL=sandbox.url)

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        program = NOTIFYCTL if arguments[0] == "worker" else (sys.executable, SCRIPT, done)
        return processes.start(*program, *arguments, env=variables, log=log)

    return start


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        sleep(0.02)


def stop(*stopped: subprocess.Popen[bytes]) -> None:
    for worker in stopped:
        worker.send_signal(signal.SIGTERM)
    for worker in stopped:
        assert worker.wait(30) == 0


def begun(done: Path) -> list[str]:
    """The process of each run, in order."""
    return [line.split()[1] for line in done.read_text().splitlines()] if done.exists() else []


def all_runs(runtime: Runtime, name: str = "probe") -> list[JobRun]:
    with runtime.database.read() as session:
        return list(session.scalars(select(JobRun).where(JobRun.name == name).order_by(JobRun.id)))


def count(runtime: Runtime, name: str, outcome: str) -> int:
    return sum(run.outcome == outcome for run in all_runs(runtime, name))


def end_lease(runtime: Runtime) -> None:
    """As if a minute had passed since its worker was heard of."""
    with runtime.database.transaction() as session:
        ended = {"moment": (runtime.clock() - timedelta(seconds=1)).replace(tzinfo=None)}
        session.execute(text("UPDATE job_run SET lease_until = :moment WHERE outcome = 'RUNNING'"), ended)


def test_with_three_workers_each_slot_is_run_once(runtime: Runtime, start: StartWorker, done: Path) -> None:
    names = ["first", "second", "third"]
    crew = [start(*(f"{name}=work" for name in names)) for _ in range(3)]
    wait_until(lambda: all(count(runtime, name, "DONE") >= 2 for name in names))
    stop(*crew)
    runs = [run for name in names for run in all_runs(runtime, name)]
    assert {(run.outcome, run.attempt, run.summary) for run in runs} == {("DONE", 1, "worked")}
    assert len(begun(done)) == len(runs)
    assert len({(run.name, run.due_at) for run in runs}) == len(runs)


def test_a_run_whose_worker_was_killed_is_lost_and_taken_up_once(
    runtime: Runtime, start: StartWorker, done: Path
) -> None:
    killed = start("probe=hang=86400")
    wait_until(lambda: begun(done))
    killed.kill()
    killed.wait()
    others = [start("probe=work=86400") for _ in range(2)]
    wait_until(lambda: _working(runtime) >= 2)
    sleep(1.5)
    assert len(begun(done)) == 1, "its lease still holds"
    end_lease(runtime)
    wait_until(lambda: count(runtime, "probe", "DONE"))
    sleep(1.5)
    stop(*others)
    lost, again = all_runs(runtime)
    assert (lost.outcome, lost.attempt, lost.finished_at is not None) == ("FAILED", 1, True)
    assert lost.summary.startswith("lost: ")
    assert (again.outcome, again.attempt, again.due_at) == ("DONE", 2, lost.due_at)
    assert begun(done)[0] == str(killed.pid)
    assert len(begun(done)) == 2


def test_a_job_that_hangs_stops_neither_sending_nor_the_heartbeat_nor_other_jobs(
    runtime: Runtime, sandbox: Sandbox, start: StartWorker
) -> None:
    worker = start("stuck=hang", "probe=work")
    wait_until(lambda: count(runtime, "stuck", "RUNNING"))
    since = runtime.clock()
    sent = send(runtime, "OTP_CODE_SMS", CODE, recipient="+4915112345678")
    wait_until(lambda: message(runtime, sent.message_id).status == "SENT")
    before = count(runtime, "probe", "DONE")
    wait_until(lambda: count(runtime, "probe", "DONE") >= before + 2)
    wait_until(lambda: _seen_at(runtime) > since)
    (hung,) = all_runs(runtime, "stuck")
    wait_until(lambda: all_runs(runtime, "stuck")[0].lease_until > hung.lease_until)
    stop(worker)
    (hung,) = all_runs(runtime, "stuck")
    assert (hung.outcome, hung.summary) == ("FAILED", "lost: its worker was stopped")
    assert hung.finished_at is not None


def test_a_job_that_asks_whether_to_stop_ends_with_its_worker(runtime: Runtime, start: StartWorker) -> None:
    worker = start("probe=obey")
    wait_until(lambda: count(runtime, "probe", "RUNNING"))
    stop(worker)
    (run,) = all_runs(runtime)
    assert (run.outcome, run.summary) == ("DONE", "ended early")


def test_a_job_that_raises_has_failed_and_its_worker_goes_on(runtime: Runtime, start: StartWorker, log: Path) -> None:
    told = {"fail": "ValueError: no such thing as [number]", "database": "DatabaseError: the database is away"}
    worker = start(*(f"{behaviour}={behaviour}" for behaviour in told), "probe=work")
    for name in told:
        wait_until(lambda name=name: count(runtime, name, "FAILED") >= 2)
    wait_until(lambda: count(runtime, "probe", "DONE") >= 2)
    stop(worker)
    for name, summary in told.items():
        assert {run.summary for run in all_runs(runtime, name)} == {summary}
        assert f'"job": "{name}"' in log.read_text()
    assert '"event": "job failed"' in log.read_text()
    assert "4915112345678" not in log.read_text()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_database_that_was_away_is_waited_for(runtime: Runtime, start: StartWorker, log: Path, postgres: str) -> None:
    import psycopg

    worker = start("probe=work")
    wait_until(lambda: count(runtime, "probe", "DONE"))
    name = runtime.database.url.database
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        wait_until(lambda: '"job": "probe"' in log.read_text().split("database unavailable")[-1])
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    runtime.database.engine.dispose()
    before = count(runtime, "probe", "DONE")
    wait_until(lambda: count(runtime, "probe", "DONE") >= before + 2)
    stop(worker)


@pytest.mark.parametrize("options", [("--once",), ("--no-jobs",), ("--processes", "2", "--no-jobs")], ids=" ".join)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_worker_without_jobs_leaves_no_run(runtime: Runtime, start: StartWorker, options: tuple[str, ...]) -> None:
    worker = start("worker", *options)
    if "--once" not in options:
        wait_until(lambda: _working(runtime) >= 1)
        sleep(2)  # a scheduler looks after one
        stop(worker)
    assert worker.wait(30) == 0
    with runtime.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM job_run")).scalar_one() == 0


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_worker_runs_the_shipped_jobs(runtime: Runtime, start: StartWorker) -> None:
    worker = start("worker")
    wait_until(lambda: count(runtime, "in_doubt_reconciler", "DONE"))
    stop(worker)
    (run,) = all_runs(runtime, "in_doubt_reconciler")
    assert run.worker.split(":")[:2] == [os.uname().nodename, str(worker.pid)]


def _working(runtime: Runtime) -> int:
    with runtime.database.read() as session:
        return heartbeats.count_working(session, runtime.clock() - timedelta(seconds=20))


def _seen_at(runtime: Runtime) -> Any:
    with runtime.database.read() as session:
        return max(row.seen_at for row in heartbeats.present(session))
