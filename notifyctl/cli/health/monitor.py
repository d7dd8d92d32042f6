"""`notifyctl monitor`: a plug-in for Nagios and its like, and for cron."""

import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from typer._click.core import Context
from typer.core import TyperCommand
from typer.exceptions import TyperException

from notifyctl.alerts.spikes.levels import MAX_DUE, Thresholds, share_in_words
from notifyctl.alerts.spikes.monitor import EVERY, JOB, SpikeMonitor
from notifyctl.alerts.spikes.report import SpikeReport, affected, counts, summary
from notifyctl.cli import options, output
from notifyctl.cli.invocation import in_a_hurry, invocation, usage_words
from notifyctl.db.database import Database, open_database
from notifyctl.db.migrations import require_fitting_schema
from notifyctl.errors import DatabaseError, NotifyctlError
from notifyctl.health import upkeep
from notifyctl.health.installation import read_installation
from notifyctl.models.enums import Channel
from notifyctl.operations import job_runs
from notifyctl.operations.heartbeats import new_name
from notifyctl.operations.problem import Gravity, Problem, ordered
from notifyctl.settings import Settings
from notifyctl.text.durations import moment, printable

if TYPE_CHECKING:
    from notifyctl.alerts.spikes.levels import Thresholds
    from notifyctl.orchestrator.orchestrator import NotificationOrchestrator

app = typer.Typer()

PATIENCE_SECONDS = 5
"""A plug-in that hangs is worse than one that does not know."""
MAX_SUMMARY = 300
UNKNOWN = 3
EXIT_CODES = {"OK": 0, "WARN": 1, "CRITICAL": 2}
NAMES = {"OK": "OK", "WARN": "WARNING", "CRITICAL": "CRITICAL"}


class Form(StrEnum):
    NAGIOS = "nagios"
    JSON = "json"


class _Plugin(TyperCommand):
    """Its exit code 2 means CRITICAL: a mistyped option is UNKNOWN."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except TyperException as error:
            _print_unknown(usage_words(error), Form.NAGIOS)
            raise typer.Exit(UNKNOWN) from error


@app.command(cls=_Plugin)
def monitor(
    channel: Annotated[
        Channel | None, typer.Option("--channel", case_sensitive=False, help="Only this channel.")
    ] = None,
    warn_percent: Annotated[
        float | None, typer.Option("--warn-percent", "-w", min=0, max=100, help="Failure rate that warns.")
    ] = None,
    crit_percent: Annotated[
        float | None, typer.Option("--crit-percent", "-c", min=0, max=100, help="Failure rate that is critical.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing when all is well.")] = False,
    form: Annotated[Form, typer.Option("--format", "-f", case_sensitive=False, help="How to print.")] = Form.NAGIOS,
) -> None:
    """Look for a spike of failures in each channel, alert about it, and print one line for Nagios.

    It tells as well what else is wrong, as `health` says it: no worker, jobs overdue, no template, an alert address
    suppressed, Stripe events that wait for somebody. The exit code is the same whatever becomes of the output.
    Exit 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. It is the whole of the job
    run_notification_failure_spike_monitor, and any number may run at once.
    What no option says is taken from the settings NOTIFICATION_SPIKE_….
    Without options it counts as the job's run: `jobs list` has it, and no worker repeats it.
    """
    try:
        with in_a_hurry():
            settings = options.settings()
            thresholds = _thresholds(settings, warn_percent, crit_percent)
            reports, problems = _run(settings, thresholds, channel)
    except NotifyctlError as error:
        _print_unknown(str(error), form)
        raise typer.Exit(UNKNOWN) from error
    except Exception as error:
        # The boundary of a plug-in: who calls it reads stdout and the exit code, and nothing else.
        if invocation.get().debug:
            traceback.print_exception(error)
        _print_unknown(f"unexpected {type(error).__name__}: {error}", form)
        raise typer.Exit(UNKNOWN) from error
    worst = _worst(reports, problems)
    if not quiet or worst != "OK":
        document = output.dumps(_document(reports, problems), indent=2) if form is Form.JSON else ""
        print(document or nagios_line(reports, thresholds, problems, name=settings.installation_name))
    raise typer.Exit(EXIT_CODES[worst])


def _worst(reports: Sequence[SpikeReport], problems: Sequence[Problem]) -> str:
    levels = [report.level.value for report in reports] + [_LEVELS[problem.gravity] for problem in problems]
    return max(levels, key=list(EXIT_CODES).index)


_LEVELS = {"WARNING": "WARN", "CRITICAL": "CRITICAL"}


def _thresholds(settings: Settings, warn_percent: float | None, crit_percent: float | None) -> Thresholds:
    thresholds = Thresholds.of(settings)
    return replace(
        thresholds,
        warn_percent=thresholds.warn_percent if warn_percent is None else warn_percent,
        crit_percent=thresholds.crit_percent if crit_percent is None else crit_percent,
    )


def _run(
    settings: Settings, thresholds: Thresholds, channel: Channel | None
) -> tuple[list[SpikeReport], list[Problem]]:
    """What was found of the channels, and what else is wrong, without notes.

    It never makes a database file, does not wait long for others, and loads the orchestrator for an alert only.
    """

    def orchestrator() -> "NotificationOrchestrator":
        from notifyctl.bootstrap import open_runtime

        return open_runtime(settings, database=database).orchestrator

    database = open_database(settings, patience_seconds=PATIENCE_SECONDS)
    try:
        require_fitting_schema(database)
        database.require_writable()
        watcher = SpikeMonitor(
            database=database,
            settings=settings,
            clock=database.clock,
            orchestrator=orchestrator,
            actor=options.actor(),
        )
        reports = watcher.run(thresholds, [Channel(channel)] if channel else list(Channel))
        if not channel and thresholds == Thresholds.of(settings):
            _leave_a_run(database, reports)
        return reports, _beside_the_traffic(database, settings)
    finally:
        database.close()


def _beside_the_traffic(database: Database, settings: Settings) -> list[Problem]:
    """Asked last: what it may stumble over keeps back no alert."""
    with database.read() as session:
        installation = read_installation(session, settings, database.clock())
    return ordered([problem for problem in upkeep.problems(installation) if problem.gravity is not Gravity.NOTE])


def _leave_a_run(database: Database, reports: Sequence[SpikeReport]) -> None:
    """Of what has been done there is no doubt, whether or not this can be written."""
    now = reports[0].measurement.at
    with suppress(DatabaseError), database.transaction() as session:
        job_runs.add_done(
            session,
            name=JOB,
            due_at=job_runs.slot(now, EVERY),
            worker=new_name(),
            summary=printable(summary(reports))[:MAX_SUMMARY],
            now=now,
        )


def nagios_line(
    reports: Sequence[SpikeReport],
    thresholds: Thresholds,
    problems: Sequence[Problem] = (),
    *,
    name: str | None = None,
) -> str:
    """`CRITICAL - EMAIL CRITICAL: 18 of 60 failed …; SMS OK: 12 sent | email_failed=18;;;0 …`, the worst first.

    Behind the level stands the installation's name, where it has one.
    """
    lines = [(report.level.value, f"{report.channel} {NAMES[report.level]}: {in_words(report)}") for report in reports]
    lines += [(_LEVELS[problem.gravity], problem.sentence) for problem in problems]
    by_level = sorted(lines, key=lambda item: -list(EXIT_CODES).index(item[0]))
    figures = " ".join(_figures(report, thresholds) for report in reports)
    whose = f"{name}: " if name else ""
    return f"{NAMES[by_level[0][0]]} - {_line(whose + '; '.join(text for _, text in by_level))} | {figures}"


def in_words(report: SpikeReport) -> str:
    measured = report.measurement
    parts = list(report.verdict.problems)
    if report.verdict.share:
        parts += [counts(measured.failures.reasons), affected(measured)]
    elif not parts and report.level != "OK":
        parts.append(f"was failing since {moment(report.memory.raised_at)}, and nothing has been sent lately")
    elif not parts:
        parts.append(share_in_words(measured))
    if report.alert_queued:
        parts.append(f"alert queued: {report.alert_queued}")
    if report.alert_problem:
        parts.append(report.alert_problem)
    return ", ".join(parts)


def _figures(report: SpikeReport, thresholds: Thresholds) -> str:
    name, measured = report.channel.lower(), report.measurement
    due, most = measured.oldest_due.total_seconds(), MAX_DUE.total_seconds()
    rate = f"{measured.percent:.1f}%;{thresholds.warn_percent:g};{thresholds.crit_percent:g};0;100"
    counts = f"{name}_failed={measured.failed};;;0 {name}_sent={measured.sent};;;0"
    return f"{counts} {name}_rate={rate} {name}_oldest_due={due:.0f}s;;{most:.0f};0"


def _document(reports: Sequence[SpikeReport], problems: Sequence[Problem]) -> dict[str, object]:
    worst = _worst(reports, problems)
    return {
        "status": NAMES[worst],
        "exit_code": EXIT_CODES[worst],
        "channels": {report.channel.value: _fields(report) for report in reports},
        "problems": [asdict(problem.view) for problem in problems],
    }


def _fields(report: SpikeReport) -> dict[str, object]:
    measured, memory = report.measurement, report.memory
    return {
        "status": NAMES[report.level],
        "failed": measured.failed,
        "sent": measured.sent,
        "rate_percent": round(measured.percent, 1),
        "clients": measured.failures.clients,
        "oldest_due_seconds": round(measured.oldest_due.total_seconds()),
        "problems": report.verdict.problems,
        "top_reasons": [{"reason": name, "failed": count} for name, count in measured.failures.reasons],
        "top_templates": [{"template_key": name, "failed": count} for name, count in measured.failures.templates],
        "spike": None if memory.level == "OK" else {"level": NAMES[memory.level], "since": memory.raised_at},
        "moved": report.moved,
        "alert_queued": report.alert_queued,
        "alert_trouble": report.alert_problem or None,
    }


def _print_unknown(text: str, form: Form) -> None:
    if form is Form.JSON:
        print(output.dumps({"status": "UNKNOWN", "exit_code": UNKNOWN, "problem": text}, indent=2))
    else:
        print(f"UNKNOWN - {_line(text)}")


def _line(text: str) -> str:
    """What follows a bar would be taken for performance data."""
    return printable(" ".join(text.split())).replace("|", "/")
