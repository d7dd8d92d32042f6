"""Times, durations, counts and single lines as people read and write them, in one way everywhere."""

import re
from datetime import UTC, datetime, timedelta

from notifyctl.errors import InvalidInput

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def age(since: datetime, now: datetime) -> str:
    """`3 min`, `5 h`, `2 d`: in whole units."""
    return rough_duration((now - since).total_seconds())


def rough_duration(seconds: float) -> str:
    """`3 min`, `5 h`, `2 d`: of the largest unit that there is one of, and what is over that is left off."""
    whole = max(0, int(seconds))
    size, unit = next(((size, unit) for size, unit in _UNITS if whole >= size), _UNITS[-1])
    return f"{whole // size} {unit}"


def exact_duration(seconds: int) -> str:
    """`24 h`, `7 d`, `90 s`: exact, and in days only from two days on."""
    for size, unit in _UNITS:
        if seconds % size == 0 and seconds >= (2 * size if unit == "d" else size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def duration(seconds: float) -> str:
    """`340 ms`, `1.2 s`, `4 min`, `3.5 h`, `3.6 d`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size)
    return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"


def moment(at: datetime | None, *, beside: datetime | None = None) -> str:
    """`2026-03-02 04:17:17Z`; `04:17:17Z` where it stands beside another time of the same day."""
    if at is None:
        return "an unknown time"
    same_day = beside is not None and beside.date() == at.date()
    return f"{at:%H:%M:%SZ}" if same_day else f"{at:%Y-%m-%d %H:%M:%SZ}"


def iso(at: datetime, timespec: str = "milliseconds") -> str:
    """For programs: UTC with Z. `timespec` is that of datetime.isoformat."""
    return at.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def worker_place(name: str) -> str:
    """Of a worker's name: `web1 (process 312)`."""
    host, _, rest = name.partition(":")
    process = rest.partition(":")[0]
    return f"{host} (process {process})" if process else host


def plural(count: int, one: str, many: str = "") -> str:
    """`1 message`, `1,234 messages`; with `many` where an s at the end is not all: `1 job is`, `2 jobs are`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def printable(text: str) -> str:
    """With a blank in the place of each character that a terminal would obey."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def one_line(text: str) -> str:
    """The same without runs of blanks, and without any at either end."""
    return " ".join(printable(text).split())


def sentence(text: str) -> str:
    """Of what an error says: with a capital and a stop, as it stands where people read sentences."""
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


_TYPED_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = timedelta(days=36_500)
_FIRST_YEAR, _LAST_YEAR = 1970, 9998


def parse_duration(text: str) -> timedelta:
    """`90s`, `15m`, `2h`, `7d`, `1w`; a century at most. Raises InvalidInput."""
    number, unit = text[:-1], text[-1:]
    if not number.isascii() or not number.isdigit() or unit not in _TYPED_UNITS:
        raise InvalidInput(f"{text!r} is not a duration; write a number and a unit, as 90s, 15m, 2h, 7d or 1w")
    seconds = int(number[:20]) * _TYPED_UNITS[unit]
    if seconds > _LONGEST.total_seconds():
        raise InvalidInput(f"{text!r} is longer than {_LONGEST.days} days; write a shorter duration")
    return timedelta(seconds=seconds)


_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw]?)", re.ASCII)


def parse_seconds(text: str) -> float:
    """A duration, or a number of seconds; either may have a fraction. Raises InvalidInput."""
    written = _SECONDS.fullmatch(text.strip())
    if written is None:
        raise InvalidInput(f"{text!r} is no span of time; write 5s, 2m, or a number of seconds such as 0.5")
    return float(written[1]) * _TYPED_UNITS[written[2] or "s"]


def parse_moment(text: str, now: datetime) -> datetime:
    """A duration before `now`, or an ISO 8601 time (UTC where it names no zone). Raises InvalidInput."""
    if text[:1].isdigit() and text[-1:] in _TYPED_UNITS:
        return now - parse_duration(text)
    try:
        written = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is not a time; write 2h, 7d, or 2026-03-01T12:00Z") from None
    # At the ends of the calendar, another zone or a few minutes more are beyond it.
    if not _FIRST_YEAR <= written.year <= _LAST_YEAR:
        raise InvalidInput(f"{text!r} is not a time in the years {_FIRST_YEAR} to {_LAST_YEAR}; write a nearer one")
    return written.astimezone(UTC) if written.tzinfo else written.replace(tzinfo=UTC)
