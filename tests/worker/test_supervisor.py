"""Several processes as one: what becomes of the others, and of the whole, when one of them ends."""

import os
import signal
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from threading import Timer
from time import monotonic

import pytest

from notifyctl.worker import supervisor as module
from notifyctl.worker.supervisor import Supervisor

PROCESS = """
import pathlib, signal, sys, time
here, code, bad = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
number = len(list(here.iterdir()))
(here / f"{number}-{time.monotonic_ns()}").touch()
if number < bad:
    sys.exit(code)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    """A file for each process that was started."""
    folder = tmp_path / "starts"
    folder.mkdir()
    return folder


def run(starts: Path, *, code: int, bad: int, processes: int, until: int, restart: bool = True) -> int:
    """`bad` of them end with `code`. Told to stop once `until` were started, or after 20 seconds."""
    deadline = monotonic() + 20

    def look() -> None:
        if len(list(starts.iterdir())) >= until or monotonic() > deadline:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            again()

    def again() -> None:
        timer = Timer(0.2, look)
        timer.daemon = True
        timer.start()
        timers.append(timer)

    timers: list[Timer] = []
    again()
    command = [sys.executable, "-c", PROCESS, str(starts), str(code), str(bad)]
    try:
        return Supervisor(command, processes, restart=restart).run()
    finally:
        for timer in timers:
            timer.cancel()


@pytest.mark.parametrize("code", [1, 5, 70])
def test_one_that_ends_is_replaced_and_the_whole_goes_on(
    starts: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(module, "RESTART_SECONDS", 0.1)
    assert run(starts, code=code, bad=7, processes=2, until=9) == 0
    assert len(list(starts.iterdir())) == 9


def test_each_that_dies_young_is_waited_for_longer(starts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESTART_SECONDS", 0.2)
    run(starts, code=5, bad=4, processes=1, until=5)
    moments = sorted(int(path.name.partition("-")[2]) / 1e9 for path in starts.iterdir())
    for number, (earlier, later) in enumerate(pairwise(moments)):
        assert later - earlier >= 0.2 * 2**number


@pytest.mark.parametrize("code", [2, 6])
def test_what_no_restart_would_mend_ends_the_whole_with_its_code(starts: Path, code: int) -> None:
    assert run(starts, code=code, bad=100, processes=2, until=100) == code


def test_a_fault_in_the_settings_ends_none_that_is_well(starts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESTART_SECONDS", 0.1)
    monkeypatch.setattr(module, "YOUNG_SECONDS", 0.0)
    assert run(starts, code=2, bad=3, processes=2, until=5) == 0


def test_without_restart_one_that_ends_badly_ends_the_others(starts: Path) -> None:
    assert run(starts, code=5, bad=1, processes=2, until=100, restart=False) == 5
