"""The real program with its standard streams closed, full, or read no further: what it found and did stays so."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import update

from notifyctl.bootstrap import Runtime
from notifyctl.models.message import MessageLog
from notifyctl.store.database import Database
from tests.support.clients import a_client
from tests.support.messages import WELCOME, send
from tests.support.processes import Environment

PROGRAM = f"{sys.executable} -m notifyctl"
Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shell(environment: Environment, tmp_path: Path) -> Shell:
    def run(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command.replace("notifyctl", PROGRAM, 1)],
            env=environment(**variables),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def left_lying(runtime: Runtime) -> None:
    """A message that has been due for twenty minutes: the monitor's verdict is CRITICAL."""
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    with runtime.database.transaction() as session:
        session.execute(update(MessageLog).values(next_attempt_at=runtime.clock() - timedelta(minutes=20)))


LOST = {
    "full": ">/dev/full",
    "full, and stderr as well": ">/dev/full 2>/dev/full",
    "closed": ">&-",
    "all closed": "<&- >&- 2>&-",
    "only for reading": "1</dev/null",
    "read no further": "| true; exit ${PIPESTATUS[0]}",
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
    runtime: Runtime, shell: Shell, command: str, code: int, how: str
) -> None:
    left_lying(runtime)
    ran = shell(f"notifyctl {command} {how}")
    assert ran.returncode == code
    assert "unexpected" not in ran.stderr


@pytest.mark.parametrize("how", [">/dev/full", ">&-"])
def test_the_monitor_says_critical_on_either_database(runtime: Runtime, shell: Shell, how: str) -> None:
    left_lying(runtime)
    assert shell(f"notifyctl monitor {how}").returncode == 2


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "command",
    ["clients list", "clients list -f jsonl", "health", "health --format json", "jobs list", "config", "audit export"],
)
def test_a_list_that_cannot_be_written_is_one_line_and_exit_1(runtime: Runtime, shell: Shell, command: str) -> None:
    a_client(runtime)
    full = shell(f"notifyctl {command} >/dev/full")
    line = "notifyctl: stdout cannot be written: No space left on device; what was printed is not whole\n"
    assert (full.returncode, full.stderr.splitlines(keepends=True)[-1:]) == (1, [line])
    closed = shell(f"notifyctl {command} >&-")
    assert (closed.returncode, closed.stderr) == (0, "")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("how", ["<&-", "<&- >&-", "2>&-", "<&- >&- 2>&-"])
def test_nothing_is_written_into_a_file_that_took_a_closed_streams_number(
    runtime: Runtime, shell: Shell, how: str
) -> None:
    """Without a hold on the numbers, the database would be opened as stdout, and rows printed into it."""
    a_client(runtime)
    assert shell(f"notifyctl clients set acme --name Other {how}").returncode == 0
    assert shell(f"notifyctl clients list {how}").returncode == 0
    with Database(runtime.settings.database_url).read() as session:
        assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        assert session.connection().exec_driver_sql("SELECT name FROM client").scalar_one() == "Other"


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_where_stdin_is_closed_nothing_is_asked(runtime: Runtime, shell: Shell) -> None:
    a_client(runtime)
    send(runtime, "WELCOME_EMAIL", WELCOME)
    ran = shell("notifyctl messages cancel --client acme <&-")
    assert ran.returncode == 2
    assert ran.stderr == "notifyctl: Cancel 1 message? There is no terminal to ask on; say --yes to do it\n"
    assert shell("notifyctl clients import - <&-").stderr.count("\n") == 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_talk_goes_nowhere_when_stderr_is_closed(runtime: Runtime, shell: Shell) -> None:
    ran = shell("notifyctl messages list 2>&-")
    assert ran.returncode == 0
    assert "No message matches" not in ran.stdout


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_key_that_nobody_could_read_is_told_to_be_revoked(runtime: Runtime, shell: Shell) -> None:
    ran = shell("notifyctl keys create ci --scope read >/dev/full")
    assert ran.returncode == 1
    assert "revoke it with `notifyctl keys revoke ci`" in ran.stderr


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_pipe_that_takes_nothing_just_now_is_waited_for(
    runtime: Runtime, environment: Environment, tmp_path: Path
) -> None:
    """As one that another program has made non-blocking for all who share it."""
    for number in range(300):
        a_client(runtime, f"c{number}", name="x" * 300)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    command = [sys.executable, "-m", "notifyctl", "clients", "list", "-n", "1000", "-f", "jsonl"]
    process = subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, env=environment(), cwd=tmp_path)
    os.close(writing)
    with os.fdopen(reading) as stream:
        assert len(stream.readlines()) == 300
    assert process.stderr is not None
    assert (process.wait(30), process.stderr.read()) == (0, b"")
    process.stderr.close()
