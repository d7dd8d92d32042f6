"""`notifyctl retention`: remove what is older than the settings say, or see what would be."""

from dataclasses import asdict
from typing import Annotated

import typer

from notifyctl.cli import options, output
from notifyctl.cli.output import OutputFormat
from notifyctl.cli.runtime import opened_runtime
from notifyctl.delivery.retention import ages, count
from notifyctl.errors import NotifyctlError
from notifyctl.stopping import interrupt_on_signal
from notifyctl.worker.by_hand import run_now
from notifyctl.worker.jobs.registry import named as job_named

retention_app = typer.Typer()


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


def _run() -> None:
    interrupt_on_signal()
    with opened_runtime() as runtime:
        ended = run_now(runtime, job_named("retention"))
    if isinstance(ended.error, NotifyctlError):
        raise ended.error
    if ended.error is not None:
        raise NotifyctlError(f"retention failed: {ended.summary}") from ended.error
    print(ended.summary)
