"""The only place that reads the wall clock: everyone else is handed `now`, or a Clock. And time zones by name."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from secrets import token_hex
from threading import Lock
from zoneinfo import ZoneInfo

Clock = Callable[[], datetime]
"""Returns the present moment, aware, in UTC."""


def system_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Counts seconds and cannot be set: steps of the wall clock do not move it.

    Two readings may be compared, over processes too, where `origin` is the same.
    """

    origin: str
    read: Callable[[], float]


@cache
def machine_stopwatch() -> Stopwatch:
    """Since this machine was started, the time that it was suspended included (clock_gettime(2), CLOCK_BOOTTIME)."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    if boot_time is None:
        return Stopwatch(f"process {token_hex(8)}", time.monotonic)
    return Stopwatch(_start_of_machine(), lambda: time.clock_gettime(boot_time))


def _start_of_machine() -> str:
    """The same in every process that counts from the same moment; one that cannot know is alone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # A container may have a clock of its own, and a copy of a virtual machine another host's boot id.
        return f"{boot} {os.readlink('/proc/self/ns/time')} {os.uname().nodename}"
    except (OSError, ValueError):
        return f"process {token_hex(8)}"


SET_SECONDS = 10.0
"""What two clocks drift apart between two looks, or a database's is measured wrong by, is less than this."""


class ClockWatch:
    """Notices when a clock is set forward, by looking at it beside a stopwatch. May be shared by threads.

    By one that is set forward, what others hold for a while has ended; by one that is set back, it lasts longer.
    """

    def __init__(self, clock: Clock, stopwatch: Stopwatch) -> None:
        self._clock = clock
        self._stopwatch = stopwatch
        self._looking = Lock()
        self._ahead: float | None = None
        self._set_at: float | None = None

    def was_set_forward_within(self, seconds: float) -> bool:
        """Also of what it was set by just now. To be asked every few seconds; knows nothing of before the first time.

        Raises what the clock raises.
        """
        with self._looking:
            now, passed = self._clock().timestamp(), self._stopwatch.read()
            if self._ahead is not None and now - passed - self._ahead > SET_SECONDS:
                self._set_at = passed
            self._ahead = now - passed
            return self._set_at is not None and passed - self._set_at < seconds


NO_ZONES = frozenset({"Factory", "localtime", "posixrules"})
"""`Factory` says that nobody has set one. The others are the zone of a host, and another one on the next."""


@cache
def names() -> frozenset[str]:
    """Those of the time zone database (package tzdata), and not what a host has beside it, such as `right/UTC`."""
    listed = files("tzdata").joinpath("zones").read_text(encoding="utf-8")
    return frozenset(listed.split()) - NO_ZONES


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """UTC for a name that is none, as of a client that was written by somebody else."""
    return ZoneInfo(name if name in names() else "UTC")


def meant(name: str) -> str | None:
    """The zone that is written like `name` but for capitals."""
    return next((zone for zone in names() if zone.lower() == name.lower()), None)
