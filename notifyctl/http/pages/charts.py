"""The traffic of a channel over time, as what is needed to draw it. Pure.

Sent and failed stand on each other. Throttled is in a strip of its own, with a scale of its own: a burst can be a
hundred times of what a minute takes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from notifyctl.health.reports import BucketView, Counts
from notifyctl.http.pages.page import count
from notifyctl.models.enums import Channel

PLOT, STRIP = 112.0, 26.0
"""Heights, in pixels. What lies across is in per cent, so that a chart fits any width and its text keeps its size."""
LEAST = 2.0
"""Pixels of whatever is not nothing: one failure among a million has to be seen."""
GAP = 0.18
STEPS = (1, 2, 4, 6, 8, 10)
TICKS = 4


@dataclass(frozen=True, slots=True)
class Bar:
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """One bucket."""

    start: datetime
    end: datetime
    sent: int
    failed: int
    throttled: int
    x: float
    width: float
    """Of the bars; the column itself is `Chart.pitch` wide."""
    bars: dict[str, Bar]


@dataclass(frozen=True, slots=True)
class Chart:
    columns: tuple[Column, ...]
    pitch: float
    top: int
    """What the upper edge of the plot stands for."""
    most_throttled: int
    ticks: tuple[str, ...]

    @property
    def middle(self) -> int | None:
        return self.top // 2 if self.top % 2 == 0 else None

    @property
    def is_empty(self) -> bool:
        return not any(column.sent or column.failed or column.throttled for column in self.columns)

    @property
    def alternative(self) -> str:
        """What is to be seen in it, in words."""
        if self.is_empty:
            return "Nothing was sent, failed or throttled."
        busiest = max(self.columns, key=lambda column: column.sent)
        totals = {name: sum(getattr(column, name) for column in self.columns) for name in _PARTS}
        words = ", ".join(f"{count(total)} {name}" for name, total in totals.items())
        return f"{words}. Most were sent from {busiest.start:%H:%M} on {busiest.start:%A}: {count(busiest.sent)}."


_PARTS = ("sent", "failed", "throttled")


def traffic_chart(buckets: Sequence[BucketView], channel: Channel, bucket: timedelta, end: str = "now") -> Chart:
    """`buckets` as health.summary.timeseries has them; `end` is what stands below the last."""
    series = [(part.start, part.of(channel)) for part in buckets]
    top = round_up(max((counts.sent + counts.failed for _, counts in series), default=0))
    most_throttled = max((counts.throttled for _, counts in series), default=0)
    pitch = 100 / len(buckets)
    columns = tuple(
        Column(
            start=start,
            end=start + bucket,
            sent=counts.sent,
            failed=counts.failed,
            throttled=counts.throttled,
            x=number * pitch + pitch * GAP / 2,
            width=pitch * (1 - GAP),
            bars=dict(_bars(counts, top, most_throttled)),
        )
        for number, (start, counts) in enumerate(series)
    )
    return Chart(columns, pitch, top, most_throttled, tuple(_ticks(columns, bucket, end)))


def _bars(counts: Counts, top: int, most_throttled: int) -> Iterator[tuple[str, Bar]]:
    sent = _height(counts.sent, top, PLOT)
    failed = _height(counts.failed, top, PLOT)
    # The least height of the one may push the other over the edge.
    sent = min(sent, PLOT - failed)
    if sent:
        yield "sent", Bar(PLOT - sent, sent)
    if failed:
        yield "failed", Bar(PLOT - sent - failed, failed)
    if throttled := _height(counts.throttled, most_throttled, STRIP):
        yield "throttled", Bar(STRIP - throttled, throttled)


def _height(number: int, most: int, pixels: float) -> float:
    return max(LEAST, pixels * number / most) if number else 0.0


def _ticks(columns: Sequence[Column], bucket: timedelta, end: str) -> Iterator[str]:
    """The time at each quarter of the chart."""
    form = "%H:%M" if len(columns) * bucket <= timedelta(days=1) else "%a %H:%M"
    for quarter in range(TICKS):
        yield columns[quarter * len(columns) // TICKS].start.strftime(form)
    yield end


def round_up(number: int) -> int:
    """The next number that is easy to read on a scale: 1, 2, 4, 6, 8, 10, 20 and so on."""
    size = 1
    while number > 10 * size:
        size *= 10
    return next(step * size for step in STEPS if number <= step * size)
