"""How health looks on a terminal: what is wrong first, then the figures, then what they are made of."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from time import monotonic
from types import MappingProxyType

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from notifyctl.cli import terminal
from notifyctl.errors import DatabaseError
from notifyctl.health.problems import folded, problems
from notifyctl.health.reports import TOP, Backlog, BucketView, Counts, Traffic
from notifyctl.health.summary import Health
from notifyctl.models.enums import Channel
from notifyctl.operations.problem import Code, Gravity, Problem
from notifyctl.text.durations import duration, exact_duration, moment, plural, printable, sentence

GRAVITY_STYLES = {Gravity.CRITICAL: "bold reverse red", Gravity.WARNING: "bold black on yellow", Gravity.NOTE: "bold"}
BAR, BAR_RETRYING, BAR_FAILED = "█", "▒", "▓"
NOTHING = "·"
LEAST_BAR = 10
NONE = Counts(0, 0, 0)
LINES_BESIDE_LISTS = 3
"""An empty one, the heading of the lists, and the prompt that follows."""


def overview(health: Health, *, stale: str = "") -> RenderableType:
    """`stale`: why these figures are not those of now."""
    return _Overview(health, stale)


class _Overview:
    """On a terminal the lists of what failed are cut to the lines that are left: what is wrong stays on the screen."""

    def __init__(self, health: Health, stale: str) -> None:
        self._health, self._stale = health, stale

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        figures = self._figures(options.max_width if console.is_terminal else None)
        footer: RenderableType = _footer(self._health)
        if self._health.block_reasons:
            footer = Group(_refusals(self._health), footer)
        lines = TOP
        if console.is_terminal:
            taken = len(console.render_lines(Group(figures, footer), options.update(height=None)))
            lines = min(TOP, console.height - taken - LINES_BESIDE_LISTS)
            if taken >= console.height:
                figures = self._figures(options.max_width, in_short=True)
        yield figures
        if self._health.top_templates and lines > 0:
            yield Text()
            yield _failures(self._health, lines)
        yield footer

    def _figures(self, room: int | None, *, in_short: bool = False) -> RenderableType:
        stale = [Problem(Gravity.CRITICAL, self._stale, Code.NO_FIGURES)] if self._stale else []
        wrong = _problems([*stale, *problems(self._health)])
        return Group(
            _head(self._health, room),
            Text(),
            wrong,
            Text(),
            _in_short(self._health) if in_short else _Figures(self._health),
        )


def _head(health: Health, room: int | None) -> Text:
    """`room`: how wide the terminal is; None where it is none. Of a long place, the end tells the most."""
    span = exact_duration(int((health.until - health.since).total_seconds()))
    head = Text.assemble(
        (printable(health.installation.name), "bold"), f"  last {span}, until {moment(health.until)}  "
    )
    kind, _, place = printable(health.installation.database).partition(" ")
    left = room - head.cell_len - len(kind) - 1 if room is not None else len(place)
    shown = place if len(place) <= left else f"…{place[-max(left - 1, 1) :]}"
    return head.append(f"{kind} {shown}", "dim")


def _problems(wrong: Sequence[Problem]) -> RenderableType:
    if not wrong:
        return Text.assemble((" OK ", "bold black on green"), " nothing is wrong")
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    shown, more = folded(wrong)
    for problem in shown:
        label = Text(f" {problem.gravity} ", GRAVITY_STYLES[problem.gravity])
        table.add_row(label, printable(problem.sentence))
    if more:
        table.add_row("", Text(f"and {len(more)} more; `notifyctl health --format json` has every pause", "dim"))
    return table


def _count(number: int, style: str = "") -> Text:
    return Text(f"{number:,}", style) if number else Text(NOTHING, "dim")


def _rate(traffic: Traffic) -> Text:
    style = "bold red" if traffic.failure_rate >= 0.25 else "yellow" if traffic.failure_rate >= 0.1 else ""
    return Text(f"{traffic.failure_rate:.1%}", style) if traffic.failed else Text(NOTHING, "dim")


def _latency(seconds: float | None) -> Text:
    return Text(NOTHING, "dim") if seconds is None else Text(duration(seconds))


_TRAFFIC: Mapping[str, Callable[[Traffic], Text]] = {
    "sent": lambda traffic: _count(traffic.sent, "green"),
    "delivered": lambda traffic: _count(traffic.delivered),
    "failed": lambda traffic: _count(traffic.failed, "red"),
    "rate": _rate,
    "bounced": lambda traffic: _count(traffic.bounced, "red"),
    "blocked": lambda traffic: _count(traffic.blocked),
    "throttled": lambda traffic: _count(traffic.throttled),
    "p50": lambda traffic: _latency(traffic.p50_seconds),
    "p95": lambda traffic: _latency(traffic.p95_seconds),
}
_BACKLOG: Mapping[str, Callable[[Backlog], int]] = {
    "pending": lambda backlog: backlog.pending,
    "retrying": lambda backlog: backlog.retrying,
    "in doubt": lambda backlog: backlog.in_doubt,
}
_IN_FULL = {"rate": "failure rate", "p50": "latency p50", "p95": "latency p95"}
"""Where there is room for it: with a line for each figure."""
Cells = Mapping[str, Sequence[Text]]
"""By the name of the figure, a cell for each channel."""


class _Figures:
    """A line a channel, as wide as fits: on a terminal of 24 lines, a line a figure would push off the screen what is
    wrong. On a narrow one a line a figure all the same."""

    def __init__(self, health: Health) -> None:
        self._channels = list(health.traffic)
        self._did: Cells = {
            name: [cell(traffic) for traffic in health.traffic.values()] for name, cell in _TRAFFIC.items()
        }
        self._has: Cells = {
            name: [_count(count(health.backlog[channel])) for channel in self._channels]
            for name, count in _BACKLOG.items()
        } | {"failing": [_count(health.lately[channel].failed, "red") for channel in self._channels]}
        self._has |= {"limit a minute": [_count(health.limits[channel]) for channel in self._channels]}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        for tables in self._across():
            unbounded = options.update(max_width=10_000)
            if all(console.measure(table, options=unbounded).maximum <= options.max_width for table in tables):
                return tables
        return [self._down()]

    def _across(self) -> Iterable[list[Table]]:
        yield [self._lines({**self._did, **self._has}, gap=2)]
        for gap in (2, 1):
            yield [self._lines(self._did, gap), self._lines(self._has, gap)]

    def _lines(self, cells: Cells, gap: int) -> Table:
        table = _table(gap)
        table.add_column("")
        for name in cells:
            table.add_column(name, justify="right", no_wrap=True)
        for channel, *row in zip(self._channels, *cells.values(), strict=True):
            table.add_row(Text(channel, "bold"), *row)
        return table

    def _down(self) -> Table:
        table = _table(gap=2)
        table.add_column("")
        for channel in self._channels:
            table.add_column(channel, justify="right")
        for name, row in self._did.items():
            table.add_row(_IN_FULL.get(name, name), *row)
        table.add_row("")
        for name, row in self._has.items():
            table.add_row(name, *row)
        return table


def _table(gap: int) -> Table:
    return Table(box=None, show_edge=False, padding=(0, gap, 0, 0), header_style="dim")


def _in_short(health: Health) -> Text:
    """A line a channel, where a screen is so small that all figures would push off it what is wrong."""
    lines = []
    for channel, did in health.traffic.items():
        waiting = health.backlog[channel].pending + health.backlog[channel].retrying
        failed = f"{did.failed:,} failed ({did.failure_rate:.1%})" if did.failed else "none failed"
        lines.append(f"{channel}: {did.sent:,} sent, {failed}, {waiting:,} waiting")
    return Text("\n".join(lines))


def _failures(health: Health, lines: int) -> Table:
    table = Table.grid(padding=(0, 4, 0, 0))
    reasons, templates = health.top_reasons[:lines], health.top_templates[:lines]
    table.add_row(_top("Failed by reason", reasons), _top("by template", templates))
    return table


def _refusals(health: Health) -> Text:
    """In one line: a refusal is what was asked for, and takes no room from what failed."""
    counts = " · ".join(f"{count:,} {printable(reason)}" for reason, count in health.block_reasons)
    return Text.assemble(("Blocked ", "dim"), counts, no_wrap=True, overflow="ellipsis")


def _top(title: str, counts: Iterable[tuple[str, int]]) -> Table:
    table = Table(box=None, show_edge=False, padding=(0, 1, 0, 0), show_header=True, header_style="dim")
    table.add_column("", justify="right")
    table.add_column(title, overflow="ellipsis", no_wrap=True, max_width=40)
    for name, count in counts:
        table.add_row(f"{count:,}", printable(name))
    return table


def _footer(health: Health) -> Text:
    parts = [plural(health.workers, "worker")]
    if not health.workers and health.installation.lives_by_cron:
        parts = ["run by cron"]
    if health.oldest_pending_seconds:
        parts.append(f"oldest due for {_span(health.oldest_pending_seconds)}")
    if health.drains_in_seconds:
        parts.append(f"backlog gone in {_span(health.drains_in_seconds)}")
    parts.append(f"{health.unconfirmed:,} without a receipt")
    if sent := health.codes.sent:
        verified = health.codes.verified
        parts.append(f"codes: {sent:,} sent, {verified:,} verified ({verified / sent:.0%})")
    return Text(" · ".join(parts), "dim")


def _span(seconds: int) -> str:
    return f"{seconds} s" if seconds < 60 else f"{-(-seconds // 60):,} min"


Retried = Mapping[tuple[datetime, Channel], int]


def bars(buckets: Sequence[BucketView], retried: Retried = MappingProxyType({})) -> Group:
    """A line a bucket, the channels that had anything side by side and on one scale.

    `retried`: how many messages wait for another attempt, by the bucket and the channel in which the last one failed.
    """
    counted = {(bucket.start, channel): bucket.of(channel) for bucket in buckets for channel in Channel}
    again = {key: retried.get(key, 0) for key in counted}
    seen = {channel for (start, channel), counts in counted.items() if again[start, channel] or counts != NONE}
    busy = [channel for channel in Channel if channel in seen or not seen]
    peak = max(counts.sent + counts.failed + again[key] for key, counts in counted.items())
    names = ["sent", "failed", *(["retry"] if any(again.values()) else []), "thrott."]
    first, last = buckets[0].start.date(), buckets[-1].start.date()
    table = Table(box=None, show_edge=False, padding=(0, 1, 0, 0), header_style="dim", expand=True)
    table.add_column("", no_wrap=True)
    for channel in busy:
        table.add_column(Text(channel, "bold"), ratio=1, no_wrap=True)
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
    for bucket in buckets:
        line: list[RenderableType] = [f"{bucket.start:%H:%MZ}" if first == last else f"{bucket.start:%m-%d %H:%MZ}"]
        for channel in busy:
            counts, waiting = bucket.of(channel), again[bucket.start, channel]
            line.append(_Bar(counts, waiting, peak))
            line += [_count(counts.sent), _count(counts.failed, "red")]
            line += [_count(waiting, "yellow")] if "retry" in names else []
            line.append(_count(counts.throttled))
        table.add_row(*line)
    days = f"{first}" if first == last else f"{first} to {last}"
    legend = Text.assemble(f"{days}  ", (BAR, "green"), " sent  ", (BAR_FAILED, "red"), " failed")
    if "retry" in names:
        legend.append("  ").append(BAR_RETRYING, "yellow").append(" to be retried")
    return Group(legend, table)


class _Bar:
    """Sent, failed, and to be retried, from left to right; as wide as its cell is, measured by the peak of all buckets.

    What is not nothing is at least a mark.
    """

    def __init__(self, counts: Counts, retried: int, peak: int) -> None:
        self._counts = (counts.sent, counts.failed, retried)
        self._peak = peak

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterable[Text]:
        room = max(options.max_width, LEAST_BAR)
        sent, failed, retried = (max(1, round(count * room / self._peak)) if count else 0 for count in self._counts)
        # The least mark of the others may push it over the edge.
        sent = min(sent, room - failed - retried)
        marks = ((BAR * sent, "green"), (BAR_FAILED * failed, "red"), (BAR_RETRYING * retried, "yellow"))
        yield Text.assemble(*marks)


class Screen:
    """Looks again every few seconds. While the database is away it keeps the last figures, and says since when."""

    def __init__(self, look: Callable[[], Health], *, every: int) -> None:
        self._look = look
        self._every = every
        self._last: Health | None = None
        self._lost_at: float | None = None

    def run(self) -> None:
        terminal.watch(self._frame, every=self._every)

    def _frame(self) -> RenderableType:
        try:
            self._last, self._lost_at = self._look(), None
        except DatabaseError as error:
            self._lost_at = self._lost_at or monotonic()
            gone = f"No figures for {int(monotonic() - self._lost_at)} s. {sentence(str(error))}"
            return overview(self._last, stale=gone) if self._last else Text(printable(gone), "bold red")
        return overview(self._last)
