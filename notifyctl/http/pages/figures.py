"""Numbers and moments as the pages show them. Pure."""

from datetime import datetime

from notifyctl.orchestrator.words import duration

NOTHING = "–"


def count(number: int) -> str:
    """`1,234,567`."""
    return f"{number:,}"


def share(part: float, whole: float = 1) -> str:
    """`12.3 %`; a dash of nothing, and never 0 or 100 for what is not quite so."""
    if not whole:
        return NOTHING
    percent = 100 * part / whole
    if 0 < percent < 0.05:
        return "< 0.1 %"
    if 99.95 <= percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f} %".replace(".0 %", " %")


def span(seconds: float | None) -> str:
    """`340 ms`, `1.2 s`, `4 min`, `3.5 h`; a dash when it is not known."""
    return NOTHING if seconds is None else duration(seconds)


def day_and_time(at: datetime) -> str:
    """`2 Mar 12:00:07`, in UTC."""
    return f"{at.day} {at:%b %H:%M:%S}"
