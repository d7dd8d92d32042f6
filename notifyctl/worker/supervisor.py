"""Several worker processes as one: started together, stopped together, replaced when one dies."""

import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from types import FrameType

from notifyctl.stopping import Patience, stop_signals
from notifyctl.worker import service_manager

RESTART_SECONDS = 1.0
"""A process that dies is replaced, but not faster than this: a fault at start-up must not spin."""
HOPELESS_STARTS = 5
"""So many deaths in a row within RESTART_SECONDS of the start end the whole."""

log = logging.getLogger("notifyctl.worker")


class Supervisor:
    """`run` blocks until every process has ended. The first SIGTERM, SIGINT or SIGHUP is passed on as SIGTERM; a second
    SIGTERM or SIGINT kills.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        processes: int,
        *,
        restart: bool,
        pass_fds: Sequence[int] = (),
        started: Callable[[], None] = lambda: None,
    ) -> None:
        self._command = [sys.executable, "-m", "notifyctl", *arguments]
        self._wanted = processes
        self._restart = restart
        self._pass_fds = pass_fds
        self._started = started
        self._running: dict[subprocess.Popen[bytes], float] = {}
        self._stopping = False
        self._patience = Patience()
        self._hopeless = 0
        self._worst = 0

    def run(self) -> int:
        """The first exit code that was not 0, or 0."""
        for number in stop_signals():
            signal.signal(number, self._on_signal)
        for _ in range(self._wanted):
            self._start()
        service_manager.tell("READY=1")
        self._started()
        watchdog, told_at = service_manager.watchdog_seconds(), monotonic()
        while self._running:
            if watchdog is not None and monotonic() - told_at >= watchdog:
                service_manager.tell("WATCHDOG=1")
                told_at = monotonic()
            for process in [found for found in self._running if found.poll() is not None]:
                self._ended(process)
            sleep(0.05)
        return self._worst

    def _start(self) -> None:
        # A group of their own: Ctrl-C reaches them through us, once, and not a second time from the terminal.
        process = subprocess.Popen(self._command, process_group=0, pass_fds=self._pass_fds)  # noqa: S603  our own program
        self._running[process] = monotonic()
        if self._stopping:
            process.terminate()  # the signal came meanwhile, and was passed on to the others only

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        lived = monotonic() - self._running.pop(process)
        if process.returncode == 0 and (self._stopping or not self._restart):
            return
        if self._stopping and process.returncode == -signal.SIGTERM:
            return  # it had only just been started, and knew of no signal yet
        log.warning("worker process ended", extra={"pid": process.pid, "exit_code": process.returncode})
        self._hopeless = self._hopeless + 1 if lived < RESTART_SECONDS else 0
        if self._stopping or not self._restart or self._hopeless >= HOPELESS_STARTS or process.returncode > 0:
            self._worst = self._worst or abs(process.returncode)
            self._pass_on(signal.SIGTERM)
            return
        sleep(RESTART_SECONDS)
        if not self._stopping:
            self._start()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._patience.is_over(number):
            self._pass_on(signal.SIGKILL)
        elif not self._stopping:
            service_manager.tell("STOPPING=1")
            self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: signal.Signals) -> None:
        self._stopping = True
        for process in self._running:
            process.send_signal(number)
