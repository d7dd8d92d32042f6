"""The real program with its standard streams closed, full, or read no further: what it found and did stays so."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import update

from notifyctl.bootstrap import Runtime
from notifyctl.db.database import Database
from notifyctl.models.message import MessageLog
from tests.support.clients import a_client
from tests.support.messages import WELCOME, send
from tests.support.processes import NOTIFYCTL, Environment, Processes

WITHOUT_STREAMS = Path(__file__).parents[1] / "support" / "without_streams.py"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(processes: Processes, environment: Environment) -> Run:
    """`closed` are numbers of streams; `stdout` and `stderr` open what is in their place."""

    def run(command: str, *, closed: str = "", **streams: Callable[[], int]) -> subprocess.CompletedProcess[str]:
        program = (sys.executable, WITHOUT_STREAMS, closed) if closed else NOTIFYCTL
        opened = {name: open_one() for name, open_one in streams.items()}
        try:
            return processes.run(*program, *command.split(), env=environment(), **opened)
        finally:
            for descriptor in opened.values():
                os.close(descriptor)

    return run


def left_lying(runtime: Runtime) -> None:
    """A message that has been due for twenty minutes: the monitor's verdict is CRITICAL."""
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    with runtime.database.transaction() as session:
        session.execute(update(MessageLog).values(next_attempt_at=runtime.clock() - timedelta(minutes=20)))


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def only_for_reading() -> int:
    return os.open(os.devnull, os.O_RDONLY)


def read_no_further() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


LOST: dict[str, Mapping[str, object]] = {
    "full": {"stdout": full},
    "full, and stderr as well": {"stdout": full, "stderr": full},
    "closed": {"closed": "1"},
    "all closed": {"closed": "0,1,2"},
    "only for reading": {"stdout": only_for_reading},
    "read no further": {"stdout": read_no_further},
}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("how", LOST.values(), ids=LOST)
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("monitor", 2),
        ("monitor --format json", 2),
        ("monitor --channel NONE", 3),
        ("send WELCOME_EMAIL --client nobody --set client_name=A --set login_url=https://a.example/", 3),
        ("doctor", 1),
    ],
)
def test_a_verdict_is_not_lost_with_its_output(
    runtime: Runtime, run: Run, command: str, code: int, how: Mapping[str, object]
) -> None:
    left_lying(runtime)
    ran = run(command, **how)
    assert ran.returncode == code
    assert "unexpected" not in (ran.stderr or "")


@pytest.mark.parametrize("how", ["full", "closed"])
def test_the_monitor_says_critical_on_either_database(runtime: Runtime, run: Run, how: str) -> None:
    left_lying(runtime)
    assert run("monitor", **LOST[how]).returncode == 2


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "command",
    ["clients list", "clients list -f jsonl", "health", "health --format json", "jobs list", "config", "audit export"],
)
def test_a_list_that_cannot_be_written_is_one_line_and_exit_1(runtime: Runtime, run: Run, command: str) -> None:
    a_client(runtime)
    lost = run(command, stdout=full)
    line = "notifyctl: stdout cannot be written: No space left on device; what was printed is not whole\n"
    assert (lost.returncode, lost.stderr.splitlines(keepends=True)[-1:]) == (1, [line])
    closed = run(command, closed="1")
    assert (closed.returncode, closed.stderr) == (0, "")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("how", ["<&-", "<&- >&-", "2>&-", "<&- >&- 2>&-"])
def test_nothing_is_written_into_a_file_that_took_a_closed_streams_number(
    runtime: Runtime, processes: Processes, environment: Environment, how: str
) -> None:
    """Without a hold on the numbers, the database would be opened as stdout, and rows printed into it."""
    a_client(runtime)
    for command in ("clients set acme --name Other", "clients list"):
        words = ["bash", "-c", f'exec "$@" {how}', "bash", *NOTIFYCTL, *command.split()]
        assert processes.run(*words, env=environment()).returncode == 0
    with Database(runtime.settings.database_url).read() as session:
        assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        assert session.connection().exec_driver_sql("SELECT name FROM client").scalar_one() == "Other"


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_where_stdin_is_closed_nothing_is_asked(runtime: Runtime, run: Run) -> None:
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    ran = run("messages cancel --client acme", closed="0")
    assert ran.returncode == 2
    assert ran.stderr == "notifyctl: Cancel 1 message? There is no terminal to ask on; say --yes to do it\n"
    assert run("clients import -", closed="0").stderr.count("\n") == 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_talk_goes_nowhere_when_stderr_is_closed(runtime: Runtime, run: Run) -> None:
    ran = run("messages list", closed="2")
    assert ran.returncode == 0
    assert "No message matches" not in ran.stdout


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("how", [LOST["full"], LOST["closed"]], ids=["full", "closed"])
def test_a_key_that_nobody_could_read_is_told_to_be_revoked(runtime: Runtime, run: Run, how: Mapping[str, Any]) -> None:
    ran = run("keys create ci --scope read", **how)
    assert ran.returncode == 1
    assert "revoke it with `notifyctl keys revoke ci`" in ran.stderr


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_pipe_that_takes_nothing_just_now_is_waited_for(
    runtime: Runtime, processes: Processes, environment: Environment
) -> None:
    """As one that another program has made non-blocking for all who share it."""
    for number in range(300):
        a_client(runtime, f"c{number}", name="x" * 300)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    command = ["clients", "list", "-n", "1000", "-f", "jsonl"]
    process = processes.notifyctl(*command, stdout=writing, stderr=subprocess.PIPE, env=environment())
    os.close(writing)
    with os.fdopen(reading) as stream:
        assert len(stream.readlines()) == 300
    _, complaint = process.communicate(timeout=30)
    assert (process.returncode, complaint) == (0, b"")
