"""`notifyctl worker` and `notifyctl workers`: the daemon, and who is at work."""

import ctypes
import gc
from contextlib import ExitStack, suppress
from typing import Annotated

import typer

from notifyctl.cli import options
from notifyctl.cli.invocation import in_a_hurry, invocation
from notifyctl.cli.listing import ListedRows, lists
from notifyctl.cli.output import Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.errors import ExitCode
from notifyctl.operations import heartbeats as store
from notifyctl.providers.registry import PROVIDERS, build_lookups, build_senders
from notifyctl.text.durations import age
from notifyctl.worker.jobs.registry import JOBS
from notifyctl.worker.logging import configure_logging
from notifyctl.worker.supervisor import Supervisor, this_program
from notifyctl.worker.worker import Worker

app = typer.Typer()
LOST_SECONDS = 60
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""mallopt(3)."""
SHOWN = (
    named("worker"),
    named("state", whole=True),
    named("version", from_width=70),
    Shown("up for", lambda row: row["up"], whole=True),
    Shown("seen", lambda row: f"{row['seen']} ago", whole=True),
    named("holds", whole=True),
)


@app.command()
def worker(
    once: Annotated[bool, typer.Option("--once", help="Send what is due, then exit.")] = False,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=2_000, help="SMS calls at once in each process, at most.")
    ] = 400,
    processes: Annotated[int, typer.Option("--processes", min=1, max=64, help="Worker processes to run.")] = 1,
    no_jobs: Annotated[bool, typer.Option("--no-jobs", help="Only send: leave the jobs to others or to cron.")] = False,
) -> None:
    """Send what is queued and run the jobs, until SIGTERM.

    The first SIGTERM, SIGINT, SIGQUIT or SIGHUP claims no more, finishes what is on the way and exits 0. A second,
    other than SIGHUP, exits at once; what was on the way is then looked up at the provider before it is sent again.
    Any number of workers may run side by side, on one host or on many: limits and leases are shared in the database,
    and each job is run by one of them. With --once no jobs are run.
    A database that is away is waited for, at the start as later; with --once that is exit code 5.
    """
    configure_logging(debug=invocation.get().debug)
    if processes > 1:
        _supervise(once, concurrency, processes, no_jobs)
    else:
        _work(once, concurrency, no_jobs)


YOUNG_OBJECTS = 10_000
"""Made between two looks for garbage. A turn makes thousands that are all gone at its end, without such a look."""


def _work(once: bool, concurrency: int, no_jobs: bool) -> None:
    options.log_remarks("notifyctl.worker")
    _return_memory_early()  # before there are threads
    with ExitStack() as opened:
        with in_a_hurry():
            runtime = opened.enter_context(opened_runtime(lasting=not once))
            settings = runtime.settings
            senders = build_senders(settings, settings.channels, concurrency)
            batched = [channel for channel in settings.channels if PROVIDERS[channel].sends_in_batches]
            urgent = build_senders(settings, batched, concurrency)
            lookups = build_lookups(settings, settings.channels)
            jobs = () if no_jobs else JOBS
            daemon = Worker(runtime, senders, lookups, urgent=urgent, jobs=jobs, once=once)
        gc.set_threshold(YOUNG_OBJECTS)
        daemon.keep_marks()
        daemon.stop_on_signals()
        daemon.run()


def _return_memory_early() -> None:
    """glibc gives each thread a heap of its own, and keeps what large blocks have left: a tenth of what a worker holds.

    Other C libraries have nothing like it, or say so nowhere.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_ARENA_MAX, 2)
        mallopt(M_MMAP_THRESHOLD, 64 * 1024)


def _supervise(once: bool, concurrency: int, processes: int, no_jobs: bool) -> None:
    with opened_runtime(lasting=not once):
        pass  # what no process could work with is said once
    before_command = invocation.get()
    arguments = ["--env-file", str(before_command.env_file)] if before_command.env_file else []
    arguments += ["--debug"] if before_command.debug else []
    arguments += ["worker", "--concurrency", str(concurrency)]
    arguments += [name for name, is_set in (("--once", once), ("--no-jobs", no_jobs)) if is_set]
    code = Supervisor(this_program(*arguments), processes, restart=not once).run()
    if code:
        raise typer.Exit(code if code in set(ExitCode) else ExitCode.FAILED)


@app.command()
@lists
def workers() -> ListedRows:
    """Who is at work, on all hosts. One that was not seen for a minute is gone or stuck."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        now = runtime.clock()
        present = [
            {
                "worker": row.worker,
                "host": row.host,
                "pid": row.pid,
                "version": row.version,
                "revision": row.revision,
                "state": _state(row, (now - row.seen_at).total_seconds()),
                "started_at": row.started_at,
                "seen_seconds_ago": round((now - row.seen_at).total_seconds(), 1),
                "holds": store.held_by(session, row.worker),
                "seen": age(row.seen_at, now),
                "up": age(row.started_at, now),
            }
            for row in store.present(session)
        ]
    columns = ("worker", "host", "pid", "version", "revision", "state", "started_at", "seen_seconds_ago", "holds")
    return ListedRows(
        rows=present,
        columns=columns,
        key="worker",
        shown=SHOWN,
        styles={"working": "green", "stopping": "yellow", "lost": "bold red"},
        nothing="No worker is running; start one with `notifyctl worker`.",
    )


def _state(row: object, seen_seconds_ago: float) -> str:
    if seen_seconds_ago > LOST_SECONDS:
        return "lost"
    return "stopping" if getattr(row, "stopping", False) else "working"
