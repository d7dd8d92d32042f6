"""The traffic of a channel over time, as what is needed to draw it. Pure.

Sent and failed stand on each other. Throttled is in a strip of its own, with a scale of its own: a burst can be a
hundred times of what a minute takes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from notifyctl.http.pages.figures import count
from notifyctl.models.template import Channel
from notifyctl.store.reports import BucketView, Counts

PLOT, STRIP = 112.0, 26.0
"""Heights, in pixels. What lies across is in per cent, so that a chart fits any width and its text keeps its size."""
LEAST = 2.0
"""Pixels of whatever is not nothing: one failure among a million has to be seen."""
GAP = 0.18
STEPS = (1, 2, 4, 6, 8, 10)
TICKS = 4
_PARTS = ("sent", "failed", "throttled")


@dataclass(frozen=True, slots=True)
class Bar:
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class ChartColumn:
    """One bucket."""

    start: datetime
    end: datetime
    counts: Counts
    x: float
    width: float
    """Of the bars; the column itself is `Chart.pitch` wide."""
    bars: dict[str, Bar]


@dataclass(frozen=True, slots=True)
class Chart:
    columns: tuple[ChartColumn, ...]
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
        return all(column.counts == Counts(0, 0, 0) for column in self.columns)

    @property
    def alternative(self) -> str:
        """What is to be seen in it, in words."""
        if self.is_empty:
            return "Nothing was sent, failed or throttled."
        busiest = max(self.columns, key=lambda column: column.counts.sent)
        totals = {name: sum(getattr(column.counts, name) for column in self.columns) for name in _PARTS}
        words = ", ".join(f"{count(total)} {name}" for name, total in totals.items())
        return (
            f"{words}. Most were sent from {busiest.start:%H:%M} on {busiest.start:%A}: {count(busiest.counts.sent)}."
        )


def traffic_chart(buckets: Sequence[BucketView], channel: Channel, length: timedelta) -> Chart:
    counts = [bucket.of(channel) for bucket in buckets]
    top = round_up(max((each.sent + each.failed for each in counts), default=0))
    most_throttled = max((each.throttled for each in counts), default=0)
    pitch = 100 / len(buckets)
    columns = tuple(
        ChartColumn(
            start=bucket.start,
            end=bucket.start + length,
            counts=each,
            x=number * pitch + pitch * GAP / 2,
            width=pitch * (1 - GAP),
            bars=dict(_bars(each, top, most_throttled)),
        )
        for number, (bucket, each) in enumerate(zip(buckets, counts, strict=True))
    )
    return Chart(columns, pitch, top, most_throttled, tuple(_ticks(columns, length)))


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


def _ticks(columns: Sequence[ChartColumn], length: timedelta) -> Iterator[str]:
    """The time at each quarter of the chart."""
    form = "%H:%M" if len(columns) * length <= timedelta(days=1) else "%a %H:%M"
    for quarter in range(TICKS):
        yield columns[quarter * len(columns) // TICKS].start.strftime(form)
    yield "now"


def round_up(number: int) -> int:
    """The next number that is easy to read on a scale: 1, 2, 4, 6, 8, 10, 20 and so on."""
    size = 1
    while number > 10 * size:
        size *= 10
    return next(step * size for step in STEPS if number <= step * size)
