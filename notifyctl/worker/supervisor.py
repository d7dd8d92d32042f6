"""Several worker processes as one: started together, stopped together, replaced when one dies."""

import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from types import FrameType

from notifyctl.errors import ExitCode
from notifyctl.stopping import Patience, stop_signals
from notifyctl.worker import systemd

RESTART_SECONDS = 1.0
"""A process that dies is replaced after this. One that dies young again waits twice as long, up to the longest."""
LONGEST_RESTART_SECONDS = 15.0
YOUNG_SECONDS = 10.0
INCURABLE = frozenset({ExitCode.USAGE, ExitCode.PROVIDER})
"""A wrong setting, a missing key: as long as no process has ever been well, these end the whole."""

log = logging.getLogger("notifyctl.worker")


def this_program(*arguments: str) -> list[str]:
    """The command that runs notifyctl as this process does."""
    return [sys.executable, "-m", "notifyctl", *arguments]


class Supervisor:
    """`run` blocks until every process has ended. The first SIGTERM, SIGINT or SIGHUP is passed on as SIGTERM; a second
    SIGTERM or SIGINT kills.

    Without `restart`, the first that ends badly ends the others. With it, one that ends is replaced, after a while
    that grows as long as they die young; the others go on meanwhile.
    """

    def __init__(
        self,
        command: Sequence[str],
        processes: int,
        *,
        restart: bool,
        pass_fds: Sequence[int] = (),
        started: Callable[[], None] = lambda: None,
    ) -> None:
        self._command = list(command)
        self._wanted = processes
        self._restart = restart
        self._pass_fds = pass_fds
        self._started = started
        self._running: dict[subprocess.Popen[bytes], tuple[float, int]] = {}
        """Since when, by the monotonic clock, and how many before it died young, one after the other."""
        self._replacements: list[tuple[float, int]] = []
        """When each is to be started, and the same."""
        self._was_well = False
        self._stopping = False
        self._patience = Patience()
        self._worst = 0

    def run(self) -> int:
        """The first exit code that was not 0 and ended the whole, or 0."""
        for number in stop_signals():
            signal.signal(number, self._on_signal)
        for _ in range(self._wanted):
            self._start(0)
        systemd.notify("READY=1")
        self._started()
        watchdog, told_at = systemd.watchdog_seconds(), monotonic()
        while self._running or (self._replacements and not self._stopping):
            if watchdog is not None and monotonic() - told_at >= watchdog:
                systemd.notify("WATCHDOG=1")
                told_at = monotonic()
            for process in [each for each in self._running if each.poll() is not None]:
                self._ended(process)
            self._replace()
            sleep(0.05)
        return self._worst

    def _start(self, died_young: int) -> None:
        try:
            # A group of their own: Ctrl-C reaches them through us, once, and not a second time from the terminal.
            process = subprocess.Popen(self._command, process_group=0, pass_fds=self._pass_fds)  # noqa: S603  our own program
        except OSError as error:  # no memory, or too many processes: those that run must not be left alone
            log.error("worker process cannot be started", extra={"error": str(error)})
            self._replace_later(died_young)
            return
        self._running[process] = monotonic(), died_young
        if self._stopping:
            process.terminate()  # the signal came meanwhile, and was passed on to the others only

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        since, died_young = self._running.pop(process)
        is_young = monotonic() - since < YOUNG_SECONDS
        if process.returncode == 0 and (self._stopping or not self._restart):
            return
        if self._stopping and process.returncode == -signal.SIGTERM:
            return  # it had only just been started, and knew of no signal yet
        self._was_well = self._was_well or not is_young or self._has_one_that_is_well()
        is_hopeless = process.returncode in INCURABLE and not self._was_well
        if self._stopping or not self._restart or is_hopeless:
            log.warning("worker process ended", extra={"pid": process.pid, "exit_code": process.returncode})
            self._worst = self._worst or abs(process.returncode)
            self._pass_on(signal.SIGTERM)
            return
        seconds = self._replace_later(died_young if is_young else 0)
        log_fields = {"pid": process.pid, "exit_code": process.returncode, "replaced_in_seconds": seconds}
        log.warning("worker process ended", extra=log_fields)

    def _has_one_that_is_well(self) -> bool:
        return any(monotonic() - since >= YOUNG_SECONDS for since, _ in self._running.values())

    def _replace_later(self, died_young: int) -> float:
        """In how many seconds."""
        seconds = min(RESTART_SECONDS * 2.0 ** min(died_young, 10), LONGEST_RESTART_SECONDS)
        self._replacements.append((monotonic() + seconds, died_young + 1))
        return seconds

    def _replace(self) -> None:
        now = monotonic()
        due = [died_young for moment, died_young in self._replacements if moment <= now]
        self._replacements = [later for later in self._replacements if later[0] > now]
        for died_young in due:
            if not self._stopping:
                self._start(died_young)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._patience.is_over(number):
            self._pass_on(signal.SIGKILL)
        elif not self._stopping:
            systemd.notify("STOPPING=1")
            self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: signal.Signals) -> None:
        self._stopping = True
        for process in self._running:
            process.send_signal(number)
