"""`notifyctl jobs`, and what `doctor` says about jobs."""

import csv
import io
import json
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import col, update

from notifyctl.bootstrap import Runtime
from notifyctl.models.enums import JobOutcome, MessageStatus
from notifyctl.models.message import MessageLog
from notifyctl.operations import job_runs
from notifyctl.sandbox import Sandbox
from notifyctl.worker.jobs import runs
from notifyctl.worker.jobs.registry import JOBS, find_job
from notifyctl.worker.jobs.runs import Begun, Ended
from tests.support.clients import a_client
from tests.support.command_line import CommandLine
from tests.support.messages import WELCOME, message, send
from tests.support.processes import Environment, Processes

NAME = "in_doubt_reconciler"
WEB1 = "web1:312:a0b1c2"


@pytest.fixture
def _sigterm() -> Iterator[None]:
    """As it was: `jobs run` sets it, for a process of its own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


pytestmark = pytest.mark.usefixtures("_sigterm")


def begin(runtime: Runtime) -> Begun:
    claimed = runs.claim(runtime, find_job(NAME), WEB1, run_now=True)
    assert isinstance(claimed, Begun)
    return claimed


def alter(runtime: Runtime, **values: Any) -> None:
    """Every run; times are given as seconds ago."""
    now = runtime.clock()
    moments = {name: (now - timedelta(seconds=ago)).replace(tzinfo=None) for name, ago in values.items()}
    changed = ", ".join(f"{name} = :{name}" for name in moments)
    with runtime.database.transaction() as session:
        session.execute(text(f"UPDATE job_run SET {changed}"), moments)


def history(runtime: Runtime) -> list[Any]:
    with runtime.database.read() as session:
        return list(job_runs.history(session, NAME, 10))


def listed(notifyctl: CommandLine) -> dict[str, Any]:
    rows = json.loads(notifyctl("jobs", "list", "--format", "json").out)
    return next(row for row in rows if row["name"] == NAME)


def doctor(notifyctl: CommandLine) -> dict[str, Any]:
    rows = json.loads(notifyctl("doctor", "--format", "json").out)
    return next(row for row in rows if row["check"] == "jobs")


def a_message_in_doubt(runtime: Runtime) -> str:
    a_client(runtime)
    message_id = send(runtime, "WELCOME_EMAIL", WELCOME).message_id
    doubt = {"status": MessageStatus.IN_DOUBT, "last_attempt_at": runtime.clock(), "attempts": 1}
    with runtime.database.transaction() as session:
        session.execute(update(MessageLog).where(col(MessageLog.id) == message_id).values(**doubt))
    return str(message_id)


def test_a_run_prints_what_it_did_and_leaves_a_row(runtime: Runtime, notifyctl: CommandLine) -> None:
    ran = notifyctl("jobs", "run", NAME)
    assert (ran.code, ran.out, ran.err) == (0, "0 messages in doubt were asked about\n", "")
    (run,) = history(runtime)
    assert (run.outcome, run.summary, run.attempt) == ("DONE", "0 messages in doubt were asked about", 1)
    assert run.worker.startswith(f"{socket.gethostname()}:")
    assert run.started_at <= run.finished_at


def test_the_reconciler_asks_about_what_is_in_doubt(runtime: Runtime, notifyctl: CommandLine) -> None:
    message_id = a_message_in_doubt(runtime)
    with Sandbox() as sandbox:
        ran = notifyctl(
            "jobs", "run", NAME, POSTMARK_API_URL=sandbox.url, TWILIO_API_URL=sandbox.url,
            IN_DOUBT_SEARCH_DELAY_SECONDS="0",
        )  # fmt: skip
    assert ran.out == "1 message in doubt was asked about\n"
    assert message(runtime, message_id).status == "QUEUED"


def test_an_unknown_name_is_answered_with_the_names(runtime: Runtime, notifyctl: CommandLine) -> None:
    for command in ("run", "history"):
        ran = notifyctl("jobs", command, "nonsense")
        assert ran.code == 4
        names = ", ".join(job.name for job in JOBS)
        assert ran.err == f"notifyctl: no job is called 'nonsense'; there is {names}\n"


def test_a_run_beside_another_is_refused_and_says_where_the_other_is(runtime: Runtime, notifyctl: CommandLine) -> None:
    begun = begin(runtime)
    ran = notifyctl("jobs", "run", NAME)
    assert ran.code == 1
    since = f"{begun.started_at:%Y-%m-%d %H:%M:%SZ}"
    assert ran.err == f"notifyctl: {NAME} is running at web1 (process 312) since {since}; nothing was started\n"
    assert len(history(runtime)) == 1


def test_a_run_whose_worker_is_gone_is_taken_up(runtime: Runtime, notifyctl: CommandLine) -> None:
    begin(runtime)
    alter(runtime, lease_until=1)
    assert notifyctl("jobs", "run", NAME).code == 0
    assert [(run.outcome, run.attempt) for run in history(runtime)] == [("DONE", 2), ("FAILED", 1)]


def test_a_run_that_fails_exits_with_the_code_of_its_error(runtime: Runtime, notifyctl: CommandLine) -> None:
    ran = notifyctl("jobs", "run", NAME, POSTMARK_SERVER_TOKEN="")
    assert ran.code == 6
    assert ran.err == "notifyctl: EMAIL and SMS cannot be looked up: POSTMARK_SERVER_TOKEN not set\n"
    (run,) = history(runtime)
    assert run.outcome == "FAILED"
    assert run.summary == "ProviderError: EMAIL and SMS cannot be looked up: POSTMARK_SERVER_TOKEN not set"


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_database_without_our_tables_is_exit_5(tmp_path: Path, notifyctl: CommandLine) -> None:
    ran = notifyctl("jobs", "run", NAME, DATABASE_URL=f"sqlite:///{tmp_path}/empty.db")
    assert ran.code == 5
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_an_interrupted_run_is_recorded(
    runtime: Runtime, processes: Processes, environment: Environment, number: signal.Signals
) -> None:
    a_message_in_doubt(runtime)
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        variables = environment(POSTMARK_API_URL=url, TWILIO_API_URL=url)
        process = processes.notifyctl("jobs", "run", NAME, env=variables)
        silent.settimeout(30)
        stack.enter_context(silent.accept()[0])
        process.send_signal(number)
        assert process.wait(20) == 130
    assert processes.said_by(process) == "notifyctl: interrupted\n"
    (run,) = history(runtime)
    assert (run.outcome, run.summary) == ("FAILED", "interrupted")


def test_the_list_says_how_each_job_stands(runtime: Runtime, notifyctl: CommandLine) -> None:
    row = listed(notifyctl)
    assert (row["schedule"], row["state"], row["last_run"]) == ("every 5 min", "never", None)
    assert doctor(notifyctl)["status"] == "ok"

    begun = begin(runtime)
    row = listed(notifyctl)
    assert (row["state"], row["outcome"], row["worker"]) == ("running", "RUNNING", WEB1)

    alter(runtime, lease_until=1)
    assert listed(notifyctl)["state"] == "lost"
    found = doctor(notifyctl)
    assert (found["status"], found["remedy"]) == ("warn", "start `notifyctl worker`: it takes the run up again")

    alter(runtime, lease_until=-30, started_at=16 * 60)
    assert listed(notifyctl)["state"] == "hung"
    assert "hangs at web1 (process 312)" in doctor(notifyctl)["problem"]

    runs.record(runtime, begun, Ended(JobOutcome.FAILED, "ValueError: no"))
    alter(runtime, started_at=0.2, finished_at=0.1)
    row = listed(notifyctl)
    assert (row["state"], row["summary"], row["duration_seconds"]) == ("failed", "ValueError: no", 0.1)
    assert doctor(notifyctl)["problem"] == f"{NAME} failed: ValueError: no"

    notifyctl("jobs", "run", NAME)
    row = listed(notifyctl)
    assert (row["state"], row["problem"]) == ("done", "")
    assert doctor(notifyctl)["status"] == "ok"

    alter(runtime, started_at=1000, finished_at=1000)
    assert listed(notifyctl)["state"] == "overdue"
    assert f"{NAME} (every 5 min) was last done 16 min ago" in doctor(notifyctl)["problem"]


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "tsv", "github"])
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_list_and_the_history_come_in_every_format(runtime: Runtime, notifyctl: CommandLine, form: str) -> None:
    notifyctl("jobs", "run", NAME)
    for command in (("list",), ("history", NAME)):
        ran = notifyctl("jobs", *command, "--format", form)
        assert ran.code == 0
        assert "0 messages in doubt were asked about" in ran.out
    if form == "csv":
        (row,) = csv.DictReader(io.StringIO(notifyctl("jobs", "history", NAME, "--format", form).out))
        assert (row["outcome"], row["attempt"]) == ("DONE", "1")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_job_without_history_says_how_it_gets_one(runtime: Runtime, notifyctl: CommandLine) -> None:
    ran = notifyctl("jobs", "history", NAME)
    assert ran.code == 0
    assert ran.err == f"{NAME} has not run yet; it runs in `notifyctl worker`, every 5 min.\n"
