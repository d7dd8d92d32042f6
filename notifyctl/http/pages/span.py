"""What span of time the page shows, by its address, and in whose time zone."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import Depends, Request

from notifyctl.clock import zone_of
from notifyctl.errors import InvalidInput
from notifyctl.health.summary import MINUTE
from notifyctl.text.durations import iso, parse_moment

ZONE_COOKIE = "notifyctl_zone"
"""Written by a script. Without one, times are UTC."""
DEFAULT_MINUTES = 60
SHORTEST, LONGEST = MINUTE, timedelta(days=31)
QUARTER = 15 * MINUTE
"""What a bar leads to, where it stands for less."""
MOST_BARS = 60
_STEPS = [timedelta(seconds=seconds) for seconds in (1, 5, 15, 30, 60, 120, 300, 900, 1800, 3600, 7200, 14_400, 86_400)]


@dataclass(frozen=True, slots=True)
class Window:
    """One that ends now, and that there is a button for."""

    label: str
    words: str
    bucket_minutes: int


WINDOWS = {
    60: Window("1 h", "the last hour", 2),
    4 * 60: Window("4 h", "the last 4 hours", 5),
    24 * 60: Window("24 h", "the last 24 hours", 30),
    7 * 24 * 60: Window("7 d", "the last 7 days", 4 * 60),
}


def _zone(request: Request) -> ZoneInfo:
    return zone_of(request.cookies.get(ZONE_COOKIE, "UTC"))


ViewerZone = Annotated[ZoneInfo, Depends(_zone)]


@dataclass(frozen=True, slots=True)
class ShownSpan:
    since: datetime
    until: datetime
    bucket: timedelta
    words: str
    minutes: int | None
    """Of the button; None for a span of its own."""
    fault: str = ""
    """What was wrong with the one that was asked for."""

    @property
    def query(self) -> dict[str, str]:
        """What leads to the same."""
        return {"from": iso(self.since), "to": iso(self.until)} if self.minutes is None else _relative(self.minutes)

    @property
    def buckets(self) -> int:
        """However many touch it, where it has edges of its own."""
        if self.minutes is not None:
            return ceil((self.until - self.since) / self.bucket)
        size = self.bucket.total_seconds()
        return int(self._last.timestamp() // size) - int(self.since.timestamp() // size) + 1

    @property
    def last_moment(self) -> datetime:
        return self.until if self.minutes is not None else self._last

    @property
    def _last(self) -> datetime:
        return self.until - timedelta(microseconds=1)

    @property
    def earlier(self) -> dict[str, str]:
        return _absolute(self.since - (self.until - self.since), self.since)

    @property
    def later(self) -> dict[str, str]:
        return _absolute(self.until, self.until + (self.until - self.since))

    @property
    def wider(self) -> dict[str, str]:
        length = self.until - self.since
        return _absolute(self.since - length, self.until + length)

    def zoom(self, start: datetime) -> dict[str, str]:
        """To a bucket, or the quarter of an hour around it, with its messages; nothing if that is what is shown."""
        if self.bucket < QUARTER:
            start -= timedelta(seconds=start.timestamp() % QUARTER.total_seconds())
        end = start + max(self.bucket, QUARTER)
        is_this = start <= self.since and end >= self.until
        return {} if is_this else _absolute(start, end) | {"since": iso(start), "until": iso(end)}


def read_span(query: Mapping[str, str], now: datetime, zone: ZoneInfo) -> ShownSpan:
    if not query.get("from") and not query.get("to"):
        return _window(query.get("window_minutes", ""), now)
    try:
        since, until = (_moment(query.get(name, ""), now, zone) for name in ("from", "to"))
    except InvalidInput:
        return _window("", now, "Both ends must be times, as 2026-03-01T12:00Z.")
    # It may end after now: the quarter of an hour that has just begun is shown as well.
    if since >= now or not SHORTEST <= until - since <= LONGEST:
        return _window("", now, "It must begin before it ends and before now, and be at most 31 days long.")
    bucket = next(step for step in _STEPS if (until - since) / step <= MOST_BARS)
    return ShownSpan(since, until, bucket, "this span", None)


def in_utc(text: str, zone: ZoneInfo) -> str:
    """A time that names no zone, as fields of a form have it, is one of the viewer's."""
    try:
        moment = datetime.fromisoformat(text)
        return text if moment.tzinfo else iso(moment.replace(tzinfo=zone))
    except (ValueError, OverflowError):
        return text


def _moment(text: str, now: datetime, zone: ZoneInfo) -> datetime:
    return parse_moment(in_utc(text, zone), now)


def _window(text: str, now: datetime, fault: str = "") -> ShownSpan:
    """One of those that there is a button for; the default for anything else."""
    minutes = int(text) if text in map(str, WINDOWS) else DEFAULT_MINUTES
    window = WINDOWS[minutes]
    return ShownSpan(now - minutes * MINUTE, now, window.bucket_minutes * MINUTE, window.words, minutes, fault)


def _relative(minutes: int) -> dict[str, str]:
    return {"window_minutes": str(minutes)}


def _absolute(since: datetime, until: datetime) -> dict[str, str]:
    return {"from": iso(since), "to": iso(until)}
