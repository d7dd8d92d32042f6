"""The signals that ask a process to stop, and what it does about them until it has something to finish."""

import os
import signal
from types import FrameType
from typing import NoReturn

FORCED_EXIT = 1
"""The exit code of a daemon that was asked to stop a second time, and left its work as it was."""
_BY_SIGNAL = 128
"""A shell's exit code of a process that a signal has ended is this and the signal's number."""


def stop_signals() -> list[signal.Signals]:
    """SIGTERM and SIGINT; SIGQUIT, by which images from nginx's on are stopped; and SIGHUP (its terminal or session is
    gone), unless `nohup` has it ignored.
    """
    signals = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals


def exit_on_signal() -> None:
    """For a daemon that is still starting, and has nothing to finish: a signal ends it with exit code 0, as one later
    does. At once, since an exception may come up in the middle of an import, where pydantic takes it for its own.
    """
    for number in stop_signals():
        signal.signal(number, _leave)
    # What rotates logs likes to send them to whoever writes one: we open none, and would end at once.
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.SIG_IGN)


class Patience:
    """Whether a signal asks for the second time, after which nothing is waited for any more.

    SIGHUP never does: of a terminal that closes, both the kernel and the shell tell.
    """

    def __init__(self) -> None:
        self._asked = False

    def is_over(self, number: int) -> bool:
        if number == signal.SIGHUP:
            return False
        before, self._asked = self._asked, True
        return before


def interrupt_on_signal() -> None:
    """For a command that comes and goes: cron and systemd end what takes too long with SIGTERM. It is as Ctrl-C then,
    so that what was begun is recorded as ended.
    """
    interrupted = False

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        is_repeated, interrupted = interrupted and number == signal.SIGHUP, True
        if not is_repeated:
            raise KeyboardInterrupt

    for number in stop_signals():
        if number not in (signal.SIGINT, signal.SIGQUIT):  # which end one that does not listen
            signal.signal(number, interrupt)


def exit_on_signal_as_pid_1() -> None:
    """Process 1 of a container gets no signal that it has no handler for (pid_namespaces(7))."""
    if os.getpid() == 1:
        for number in stop_signals():
            if number != signal.SIGINT:
                signal.signal(number, _leave_as_if_killed)


def ignore_hangups() -> None:
    """At the end: Python takes its handlers away before it exits, and a second SIGHUP would be the exit code then."""
    if callable(signal.getsignal(signal.SIGHUP)):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(0)


def _leave_as_if_killed(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(_BY_SIGNAL + number)
