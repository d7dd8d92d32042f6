"""`notifyctl jobs` and `retention`: what is done at set times, how it went, and doing it now."""

import gc
import sys
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from notifyctl.cli import completion, options, output
from notifyctl.cli.invocation import invocation
from notifyctl.cli.listing import ListedRows, lists
from notifyctl.cli.output import OutputFormat, Shown, named
from notifyctl.cli.runtime import opened_runtime
from notifyctl.errors import NotifyctlError
from notifyctl.health.installation import JobStatus, read_job_statuses
from notifyctl.operations import job_runs
from notifyctl.operations.job_runs import RunRow
from notifyctl.retention.retention import ages, count
from notifyctl.retention.store import COUNTED_AT_MOST
from notifyctl.stopping import interrupt_on_signal
from notifyctl.text.durations import age, duration
from notifyctl.worker.jobs.registry import find_job
from notifyctl.worker.jobs.runs import run_now
from notifyctl.worker.logging import configure_logging

app = typer.Typer(name="jobs", no_args_is_help=True)

LIST_COLUMNS = (
    "name", "schedule", "state", "last_run", "outcome", "duration_seconds", "last_done", "next_due", "worker",
    "summary", "problem",
)  # fmt: skip
HISTORY_COLUMNS = ("id", "due_at", "attempt", "started_at", "outcome", "duration_seconds", "worker", "summary")
STYLES = {
    "hung": "bold red", "lost": "bold red", "overdue": "bold red", "failed": "bold red", "running": "cyan",
    "done": "green", "never": "dim", "FAILED": "bold red", "RUNNING": "cyan", "DONE": "green",
}  # fmt: skip
WIDE = 110
LIST_SHOWN = (
    named("name", whole=True),
    named("schedule", from_width=WIDE),
    named("state", whole=True),
    Shown("ran", lambda row: row["last_run_ago"], whole=True),
    Shown("took", lambda row: row["took"], whole=True, from_width=WIDE),
    Shown("next", lambda row: row["next_in"], whole=True),
    Shown("summary", lambda row: row["problem"] or row["summary"] or "", from_width=70),
)
HISTORY_SHOWN = (
    Shown("started", lambda row: f"{row['started_at']:%Y-%m-%d %H:%M:%SZ}", whole=True),
    named("outcome", whole=True),
    Shown("took", lambda row: row["took"], whole=True),
    named("worker", from_width=WIDE),
    named("summary"),
)

JobName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="As `jobs list` shows it.",
        autocompletion=completion.among(row.name for row in job_runs.TIMETABLE),
    ),
]
retention_app = typer.Typer()


@app.command("list")
@lists
def list_jobs() -> ListedRows:
    """List the jobs, those in trouble first: overdue, hung, lost with their worker, or failed."""
    with opened_runtime() as runtime, runtime.database.read() as session:
        now = runtime.clock()
        statuses = read_job_statuses(session, now)
    return ListedRows(
        rows=[_listed(job, now) for job in statuses],
        columns=LIST_COLUMNS,
        key="name",
        shown=LIST_SHOWN,
        styles=STYLES,
        hints=[f"To mend it: {remedy}." for remedy in dict.fromkeys(job.remedy for job in statuses if job.remedy)],
    )


@app.command()
@lists
def history(name: JobName, limit: options.Limit = 20) -> ListedRows:
    """Show the runs of one job, the latest first."""
    job = find_job(name)
    with opened_runtime() as runtime, runtime.database.read() as session:
        now = runtime.clock()
        rows = [row._asdict() | _duration(row, now) for row in job_runs.history(session, job.name, limit)]
    nothing = f"{job.name} has not run yet; it runs in `notifyctl worker`, {job.schedule}."
    return ListedRows(rows=rows, columns=HISTORY_COLUMNS, shown=HISTORY_SHOWN, styles=STYLES, nothing=nothing)


@app.command()
def run(name: JobName) -> None:
    """Run one job now, with or without a worker, and print what it did. Exit 1 if it fails or is running already.

    It counts as the run that is due, so that no worker repeats it.
    """
    job = find_job(name)
    configure_logging(debug=invocation.get().debug, quiet=True)
    interrupt_on_signal()
    with opened_runtime() as runtime:
        gc.freeze()  # as in a worker
        ended = run_now(runtime, job)
    if ended.error is None:
        print(ended.summary)
    elif isinstance(ended.error, NotifyctlError):
        raise ended.error
    else:
        raise NotifyctlError(f"{job.name} failed: {ended.summary}") from ended.error


def _listed(job: JobStatus, now: datetime) -> dict[str, object]:
    last = job.record.last if job.record else None
    listed: dict[str, object] = {
        "name": job.job.name,
        "schedule": job.job.schedule,
        "state": job.state,
        "next_due": job.next_due,
        "next_in": age(now, job.next_due) if job.next_due > now else "now",
        "problem": job.problem,
        "summary": "",
        "last_run_ago": "",
        "took": "",
    }
    if last is None:
        return listed
    last_run = {
        "last_run": last.started_at,
        "last_run_ago": age(last.started_at, now),
        "outcome": last.outcome,
    }
    about = {"worker": last.worker, "summary": last.summary, "last_done": job.record.done_at if job.record else None}
    return listed | last_run | about | _duration(last, now)


def _duration(run: RunRow, now: datetime) -> dict[str, object]:
    """Of a run that has not ended, until now."""
    seconds = round(((run.finished_at or now) - run.started_at).total_seconds(), 3)
    return {"duration_seconds": seconds, "took": duration(seconds)}


@retention_app.command()
def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be removed; remove nothing.")] = False,
    form: options.Format = OutputFormat.TABLE,
) -> None:
    """Remove what is older than the settings say, as the daily job does. A message that is not final stays.

    Audit rows go only in whole seals from the beginning, and only if they verify.
    """
    if dry_run:
        _count(form)
    else:
        _run()


def _count(form: OutputFormat) -> None:
    with opened_runtime() as runtime, runtime.database.read() as session:
        counts = asdict(count(session, runtime.settings, runtime.clock()))
        age = asdict(ages(session, runtime.settings))
    rows = [{"what": name, "older_than_days": age[name].days, "count": counts[name]} for name in counts]
    output.rows(rows, form, columns=("what", "older_than_days", "count"))
    if COUNTED_AT_MOST in counts.values():
        output.say(f"Counting stops at {COUNTED_AT_MOST:,}: there may be more.")


def _run() -> None:
    """How far it is, is for who looks on: cron would mail it."""
    configure_logging(debug=invocation.get().debug, quiet=not sys.stderr.isatty())
    interrupt_on_signal()
    with opened_runtime() as runtime:
        ended = run_now(runtime, find_job("retention"))
    if isinstance(ended.error, NotifyctlError):
        raise ended.error
    if ended.error is not None:
        raise NotifyctlError(f"retention failed: {ended.summary}") from ended.error
    print(ended.summary)
