"""Clocks for tests: one that stands still, and the wall's with a lead."""

from datetime import UTC, datetime, timedelta

from notifyctl.clock import system_clock

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
    """The wall's clock, `ahead` of it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return system_clock() + self.ahead
