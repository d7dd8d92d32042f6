"""The time that a channel's window goes by. It passes as real time does, whatever is done to a clock.

The window counts what was presented in the last minute. A clock that is set forward, or a database that fails over to
a server whose clock is ahead, would empty it at once; one that is set back would keep it shut. So the record of what is
used carries its own time, and each who writes it says how far that has come (a Stamp). From its first look on, a worker
adds what its stopwatch counts, and no clock is asked any more; where another's stamp has come further, it goes on from
there. Nobody's time runs ahead of real time, so the one that has come furthest is the best.

Only the first look has to find out how old the stamp is. On the machine that wrote it the stopwatch says so, over any
number of processes. A machine that was started since, or another one, asks the clock that all share and its own, and
believes the one that says less: both would have to be wrong, in the same way and at that moment.

Pure: who calls it reads the clocks.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True)
class Reading:
    """What one worker's clocks show at one moment, in seconds."""

    wall: float
    """The clock that all workers share: the database's, or on SQLite the host's."""
    host: float
    """Its host's own wall clock."""
    origin: str
    stopwatch: float
    """Its stopwatch, and what that counts from."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Written with the record of what is used: the window's time, in seconds, and what the writer's clocks showed."""

    at: float
    wall: float
    host: float
    origin: str
    stopwatch: float

    def dump(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def load(cls, stored: object) -> "Stamp | None":
        """None for what is not one, as in a record that an earlier version wrote."""
        if not isinstance(stored, Mapping) or not isinstance(stored.get("origin"), str):
            return None
        numbers = [stored.get(field.name) for field in fields(cls) if field.name != "origin"]
        if not all(isinstance(number, int | float) for number in numbers):
            return None
        return cls(**{field.name: stored[field.name] for field in fields(cls)})


class WindowTime:
    """One worker's count of it. Used by one thread."""

    def __init__(self) -> None:
        self._ahead: float | None = None
        """Of the stopwatch. None until the first look."""

    def now(self, stamp: Stamp | None, reading: Reading) -> Stamp:
        """What may be written as the next stamp. None stands for a record that has none."""
        if self._ahead is None:
            self._ahead = _first(stamp, reading) - reading.stopwatch
        at = self._ahead + reading.stopwatch
        if stamp is not None and stamp.at > at:
            at = stamp.at
            self._ahead = at - reading.stopwatch
        return Stamp(at, reading.wall, reading.host, reading.origin, reading.stopwatch)


def _first(stamp: Stamp | None, reading: Reading) -> float:
    if stamp is None:
        return reading.wall
    if stamp.origin == reading.origin and stamp.stopwatch <= reading.stopwatch:
        return stamp.at + reading.stopwatch - stamp.stopwatch
    return stamp.at + max(0.0, min(reading.wall - stamp.wall, reading.host - stamp.host))
