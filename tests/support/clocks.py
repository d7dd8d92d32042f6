"""Clocks for tests: one that stands still, and the wall's with a lead."""

from datetime import UTC, datetime, timedelta

from notifyctl.clock import Stopwatch, machine_stopwatch, system_clock

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class StandingClock:
    """Shows `now` until a test turns it."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def turn(self, **by: float) -> None:
        self.now += timedelta(**by)


class TurnableClock:
    """The wall's clock. `ahead` is time that has passed; `set_wrong` is what somebody has set it forward or back by."""

    def __init__(self) -> None:
        self.ahead = timedelta()
        self.set_wrong = timedelta()

    def __call__(self) -> datetime:
        return system_clock() + self.ahead + self.set_wrong

    @property
    def stopwatch(self) -> Stopwatch:
        real = machine_stopwatch()
        return Stopwatch(real.origin, lambda: real.read() + self.ahead.total_seconds())
