"""Being told to stop: in the first moments, as the first process of a container, and by a terminal that is gone."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from notifyctl.bootstrap import Runtime
from tests.support.processes import Environment

PROGRAM = [sys.executable, "-m", "notifyctl"]
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
def start(environment: Environment, runtime: Runtime, log: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def start(*command: str, nohup: bool = False) -> subprocess.Popen[bytes]:
        def ignore() -> None:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

        with log.open("ab") as written:
            process = subprocess.Popen(
                command, env=environment(), stdin=subprocess.PIPE, stdout=written, stderr=written,
                preexec_fn=ignore if nohup else None,
            )  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stdin is not None
        process.stdin.close()


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
    unshare = start("unshare", "--fork", "--pid", "--kill-child", *PROGRAM, *arguments)
    pid = first_process_of(unshare)
    wait_for(lambda: b"notifyctl" in Path(f"/proc/{pid}/cmdline").read_bytes() and catches(pid, number))
    os.kill(pid, number)
    assert unshare.wait(60) in (0, 128 + number)
    assert "worker started" not in log.read_text()


def test_nothing_that_takes_time_is_imported_before_it_can_be_stopped() -> None:
    code = "import sys, notifyctl.__main__; print({'typer', 'notifyctl.cli', 'pydantic'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "set()\n"


@pytest.mark.parametrize("name", DAEMONS)
def test_a_terminal_that_is_gone_stops_it_in_good_order(start: Start, log: Path, name: str) -> None:
    arguments, ready = DAEMONS[name]
    process = start(*PROGRAM, *arguments)
    wait_for(lambda: ready in log.read_text())
    for _ in range(3):  # the kernel tells, and the shell
        process.send_signal(signal.SIGHUP)
        sleep(0.01)
    assert process.wait(60) == 0
    if "worker" in name:
        assert "worker stopped" in log.read_text()


@pytest.mark.parametrize("name", DAEMONS)
def test_nohup_keeps_it_running(start: Start, log: Path, name: str) -> None:
    arguments, ready = DAEMONS[name]
    process = start(*PROGRAM, *arguments, nohup=True)
    wait_for(lambda: ready in log.read_text())
    process.send_signal(signal.SIGHUP)
    sleep(0.3)
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == 0


def test_a_command_that_works_on_something_records_its_end(start: Start) -> None:
    process = start(sys.executable, "-c", INTERRUPTED)
    wait_for(lambda: catches(process.pid, signal.SIGHUP))
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 7


INTERRUPTED = """
import sys, time
from notifyctl.stopping import interrupt_when_told

interrupt_when_told()
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.2)  # a second SIGHUP would cut this short
    sys.exit(7)
"""
