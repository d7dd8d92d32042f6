"""`notifyctl health`: how the traffic is, what is wrong with it first."""

import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

import typer

from notifyctl.bootstrap import Runtime
from notifyctl.cli import options, output, terminal
from notifyctl.cli.health.view import Screen, bars, overview
from notifyctl.cli.invocation import in_a_hurry
from notifyctl.cli.listing import ListedRows, lists
from notifyctl.cli.messages.messages import SHOWN
from notifyctl.cli.output import OutputFormat
from notifyctl.cli.runtime import opened_runtime
from notifyctl.errors import InvalidInput
from notifyctl.health import store
from notifyctl.health import summary as health_summary
from notifyctl.health.problems import problems
from notifyctl.health.reports import BucketView
from notifyctl.health.summary import LONGEST_WINDOW_MINUTES, Health
from notifyctl.models.enums import Channel
from notifyctl.text.durations import age

app = typer.Typer(name="health", invoke_without_command=True)

WindowMinutes = Annotated[
    int,
    typer.Option(
        "--window-minutes",
        "-w",
        parser=options.span("--window-minutes", "m", least=1, most=LONGEST_WINDOW_MINUTES),
        metavar="DURATION",
        help="How far to look back: 90m, 24h, 7d, or a number of minutes.",
    ),
]


@app.callback()
def without_subcommand(
    ctx: typer.Context,
    window_minutes: WindowMinutes = 60,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    if ctx.invoked_subcommand is None:
        summary(window_minutes, form)


@app.command()
@in_a_hurry()
def summary(window_minutes: WindowMinutes = 60, form: options.Format = OutputFormat.TABLE) -> None:
    """What is wrong, and the figures of each channel. The same as `notifyctl health` alone."""
    with opened_runtime() as runtime:
        figures = _look(runtime, window_minutes)
    summed_up = health_summary.summary(figures, problems(figures))
    match form:
        case OutputFormat.JSON:
            sys.stdout.write(health_summary.to_json(summed_up))
        case OutputFormat.TABLE:
            terminal.show(overview(figures))
        case _:
            rows = [
                {"channel": name, **dict(_cells(channel))}
                for name, channel in health_summary.as_fields(summed_up.channels).items()
            ]
            output.rows(rows, form, columns=tuple(rows[0]))


@app.command()
@in_a_hurry()
def timeseries(
    window_minutes: WindowMinutes = 240,
    bucket_minutes: Annotated[
        int,
        typer.Option(
            "--bucket-minutes",
            "-b",
            parser=options.span("--bucket-minutes", "m", least=1, most=24 * 60),
            metavar="DURATION",
            help="Length of one bucket: 15m, 1h, or a number of minutes.",
        ),
    ] = 15,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """What was sent, failed and was throttled over time: a bar for each bucket."""
    if window_minutes > bucket_minutes * health_summary.MOST_BUCKETS:
        raise InvalidInput(
            f"--window-minutes {window_minutes} with --bucket-minutes {bucket_minutes} makes over"
            f" {health_summary.MOST_BUCKETS} buckets; take longer ones"
        )
    with opened_runtime() as runtime, runtime.database.read() as session:
        series = health_summary.timeseries(
            session, runtime.clock(), window_minutes=window_minutes, bucket_minutes=bucket_minutes
        )
        retried = store.retried(session, series.buckets[0].start, timedelta(minutes=bucket_minutes))
    if form is OutputFormat.JSON:
        sys.stdout.write(health_summary.to_json(series))
    elif form is OutputFormat.TABLE and output.on_terminal():
        terminal.show(bars(series.buckets, retried))
    else:
        columns = ("start", "channel", "sent", "failed", "throttled")
        output.rows(_flat_buckets(series.buckets), form, columns=columns)


@app.command()
@in_a_hurry()
@lists
def recent(
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=health_summary.MOST_RECENT, help="At most this many.")
    ] = 100,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show recipients in full.")] = False,
) -> ListedRows:
    """The newest messages and what became of them."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        newest = health_summary.recent(session, limit, reveal=reveal)
        now = runtime.clock()
    rows = [{**health_summary.as_fields(message), "age": age(message.created_at, now)} for message in newest.items]
    return ListedRows(
        rows=rows,
        columns=health_summary.RECENT,
        shown=SHOWN,
        styles=terminal.STATUS_STYLES,
        nothing="There is no message yet.",
        document=health_summary.to_json(newest),
    )


@app.command()
def watch(
    window_minutes: WindowMinutes = 60,
    every: Annotated[
        int,
        typer.Option(
            "--every",
            parser=options.span("--every", "s", least=1, most=3_600),
            metavar="DURATION",
            help="Between two looks: 5s, 1m, or a number of seconds.",
        ),
    ] = 2,
) -> None:
    """The overview, kept up to date on the terminal until Ctrl-C."""
    if not output.on_terminal():
        raise InvalidInput("`health watch` needs a terminal; `notifyctl health --format json` is for programs")

    with opened_runtime() as runtime:
        Screen(lambda: _look(runtime, window_minutes), every=every).run()


def _look(runtime: Runtime, window_minutes: int) -> Health:
    with runtime.database.read() as session:
        return health_summary.read_health(session, runtime.settings, runtime.clock(), timedelta(minutes=window_minutes))


def _cells(figures: object) -> Iterator[tuple[str, object]]:
    """A cell for each figure of a channel; the latencies have one each."""
    for name, value in health_summary.as_fields(figures).items():
        if isinstance(value, health_summary.Latency):
            yield from ((f"{part}_seconds", seconds) for part, seconds in health_summary.as_fields(value).items())
        else:
            yield name, value


def _flat_buckets(buckets: list[BucketView]) -> list[dict[str, object]]:
    return [
        {"start": bucket.start, "channel": channel, **health_summary.as_fields(bucket.of(channel))}
        for bucket in buckets
        for channel in Channel
    ]
