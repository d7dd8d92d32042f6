"""Being told to stop: in the first moments, as the first process of a container, and by a terminal that is gone."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from notifyctl.bootstrap import Runtime
from tests.support.processes import NOTIFYCTL, Environment, Processes

DAEMONS = {
    "worker": (["worker"], "worker started"),
    "two workers": (["worker", "--processes", "2"], "worker started"),
    "serve": (["serve", "--port", "0"], "listening"),
    "sandbox": (["sandbox", "--port", "0"], "Inbox at"),
}

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def backend() -> str:
    """What a signal does has nothing to do with it."""
    return "sqlite"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def start(processes: Processes, environment: Environment, runtime: Runtime, log: Path) -> Start:
    return lambda *command: processes.start(*command, env=environment(), stdin=subprocess.PIPE, log=log)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        sleep(0.005)


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal (proc(5), SigCgt)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def first_process_of(unshare: subprocess.Popen[bytes]) -> int:
    """In the numbering of this side."""
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
    wait_for(lambda: unshare.poll() is not None or children.read_text())
    if unshare.poll() is not None:
        pytest.skip("this user may make no namespaces")
    return int(children.read_text().split()[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", ["worker", "serve", "a command that waits"])
def test_the_first_process_of_a_container_stops_also_while_it_is_starting(
    start: Start, log: Path, name: str, number: signal.Signals
) -> None:
    arguments = DAEMONS[name][0] if name in DAEMONS else ["clients", "import", "-"]
    unshare = start("unshare", "--fork", "--pid", "--kill-child", *NOTIFYCTL, *arguments)
    pid = first_process_of(unshare)
    wait_for(lambda: b"notifyctl" in Path(f"/proc/{pid}/cmdline").read_bytes() and catches(pid, number))
    os.kill(pid, number)
    assert unshare.wait(60) in (0, 128 + number)
    assert "worker started" not in log.read_text()


def test_nothing_that_takes_time_is_imported_before_it_can_be_stopped(processes: Processes) -> None:
    code = "import sys, notifyctl.__main__; print({'typer', 'notifyctl.cli', 'pydantic'} & set(sys.modules))"
    ran = processes.run(sys.executable, "-c", code)
    assert (ran.returncode, ran.stdout) == (0, "set()\n")


def test_a_ctrl_c_while_it_is_imported_is_one_line(processes: Processes) -> None:
    ran = processes.run(sys.executable, "-c", CTRL_C)
    assert (ran.returncode, ran.stderr) == (130, "notifyctl: interrupted\n")


CTRL_C = """
import builtins, runpy

def interrupted(name, *rest, imported=builtins.__import__, **named):
    if name == "notifyctl.cli.main":
        raise KeyboardInterrupt
    return imported(name, *rest, **named)

builtins.__import__ = interrupted
runpy.run_module("notifyctl", run_name="__main__")
"""


@pytest.mark.parametrize("name", DAEMONS)
def test_what_rotates_logs_leaves_it_running_and_sigquit_stops_it(start: Start, log: Path, name: str) -> None:
    arguments, ready = DAEMONS[name]
    process = start(*NOTIFYCTL, *arguments)
    wait_for(lambda: ready in log.read_text())
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGUSR2)
    process.send_signal(signal.SIGQUIT)
    assert process.wait(60) == 0
    if "worker" in name:
        assert "worker stopped" in log.read_text()


@pytest.mark.parametrize("name", DAEMONS)
def test_a_terminal_that_is_gone_stops_it_in_good_order(start: Start, log: Path, name: str) -> None:
    arguments, ready = DAEMONS[name]
    process = start(*NOTIFYCTL, *arguments)
    wait_for(lambda: ready in log.read_text())
    for _ in range(3):  # the kernel tells, and the shell
        process.send_signal(signal.SIGHUP)
        sleep(0.01)
    assert process.wait(60) == 0
    if "worker" in name:
        assert "worker stopped" in log.read_text()


@pytest.mark.parametrize("name", DAEMONS)
def test_nohup_keeps_it_running(start: Start, log: Path, tmp_path: Path, name: str) -> None:
    arguments, ready = DAEMONS[name]
    (tmp_path / "nohup.py").write_text(NOHUP)
    process = start(sys.executable, tmp_path / "nohup.py", *arguments)
    wait_for(lambda: ready in log.read_text())
    assert not catches(process.pid, signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    sleep(0.1)
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == 0


NOHUP = """
import runpy, signal

signal.signal(signal.SIGHUP, signal.SIG_IGN)
runpy.run_module("notifyctl", run_name="__main__", alter_sys=True)
"""


def test_a_command_that_works_on_something_records_its_end(start: Start, tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    process = start(sys.executable, tmp_path / "interrupted.py")
    wait_for(lambda: catches(process.pid, signal.SIGHUP))
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 7


INTERRUPTED = """
import sys, time
from notifyctl.stopping import interrupt_on_signal

interrupt_on_signal()
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.2)  # a second SIGHUP would cut this short
    sys.exit(7)
"""
