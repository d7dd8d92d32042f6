"""Several processes as one: what becomes of the others, and of the whole, when one of them ends."""

import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.support.processes import Processes

SUPERVISOR = """
import sys
from notifyctl.worker import supervisor

restart, processes, supervisor.RESTART_SECONDS, supervisor.YOUNG_SECONDS = map(float, sys.argv[1:5])
sys.exit(supervisor.Supervisor(sys.argv[5:], int(processes), restart=bool(restart)).run())
"""
PROCESS = """
import itertools, pathlib, signal, sys, time
here, code, bad = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
for number in itertools.count():
    try:
        with open(here / str(number), "x") as file:
            file.write(str(time.monotonic()))
        break
    except FileExistsError:
        continue
if number < bad:
    sys.exit(code)
time.sleep(60)
"""

Run = Callable[..., int]


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    """A file for each process that was started, with the moment."""
    folder = tmp_path / "starts"
    folder.mkdir()
    return folder


@pytest.fixture
def run(processes: Processes, starts: Path, tmp_path: Path) -> Run:
    (tmp_path / "supervisor.py").write_text(SUPERVISOR)

    def run(
        *, code: int, bad: int, processes_wanted: int, until: int, restart: bool = True, after: float = 1.0,
        young: float = 10.0,
    ) -> int:  # fmt: skip
        """`bad` of them end with `code`. Told to stop once `until` were started, or after 20 seconds."""
        how = map(str, (int(restart), processes_wanted, after, young))
        child = [sys.executable, "-I", "-S", "-c", PROCESS, starts, str(code), str(bad)]
        supervisor = processes.start(sys.executable, tmp_path / "supervisor.py", *how, *child)
        _stop(supervisor, starts, until)
        return supervisor.wait(20)

    return run


def _stop(supervisor: subprocess.Popen[bytes], starts: Path, until: int) -> None:
    deadline = monotonic() + 20
    while supervisor.poll() is None and monotonic() < deadline:
        if len(list(starts.iterdir())) >= until:
            break
        sleep(0.02)
    supervisor.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("code", [1, 5, 70])
def test_one_that_ends_is_replaced_and_the_whole_goes_on(run: Run, starts: Path, code: int) -> None:
    assert run(code=code, bad=7, processes_wanted=2, until=9, after=0.1) == 0
    assert len(list(starts.iterdir())) == 9


def test_each_that_dies_young_is_waited_for_longer(run: Run, starts: Path) -> None:
    run(code=5, bad=4, processes_wanted=1, until=5, after=0.1)
    moments = [float(path.read_text()) for path in sorted(starts.iterdir())]
    assert len(moments) == 5
    for number, (earlier, later) in enumerate(pairwise(moments)):
        assert later - earlier >= 0.1 * 2**number


@pytest.mark.parametrize("code", [2, 6])
def test_what_no_restart_would_mend_ends_the_whole_with_its_code(run: Run, code: int) -> None:
    assert run(code=code, bad=100, processes_wanted=2, until=100) == code


def test_a_fault_in_the_settings_ends_none_that_is_well(run: Run) -> None:
    assert run(code=2, bad=3, processes_wanted=2, until=5, after=0.1, young=0.0) == 0


def test_without_restart_one_that_ends_badly_ends_the_others(run: Run) -> None:
    assert run(code=5, bad=1, processes_wanted=2, until=100, restart=False) == 5
