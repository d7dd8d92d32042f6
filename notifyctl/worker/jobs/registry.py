"""The jobs: what each calls, and the table of them. operations.job_runs says when."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import cached_property

from notifyctl.alerts.compliance.reminders import Reminders
from notifyctl.alerts.compliance.sla import SlaMonitor
from notifyctl.alerts.spikes.levels import Thresholds
from notifyctl.alerts.spikes.monitor import SpikeMonitor
from notifyctl.alerts.spikes.report import summary
from notifyctl.audit.chain import SealKeys
from notifyctl.audit.seal import seal
from notifyctl.bootstrap import Runtime
from notifyctl.delivery.in_doubt import Reconciler
from notifyctl.delivery.receipts.missing import ask_missing
from notifyctl.errors import NotFound, NotifyctlError
from notifyctl.models.enums import Channel
from notifyctl.operations import job_runs
from notifyctl.operations.job_runs import Timed
from notifyctl.providers.contract import Lookup
from notifyctl.retention.retention import Retention
from notifyctl.text.choices import meant
from notifyctl.text.durations import plural


@dataclass(frozen=True)
class JobContext:
    """What a run is given. A job that takes long asks `stopping` between two steps."""

    runtime: Runtime
    worker: str
    now: datetime
    """When the run began."""
    stopping: Callable[[], bool]
    """Whether to leave off: the worker is on its way out, or another has taken the run over."""

    @cached_property
    def lookups(self) -> Mapping[Channel, Lookup]:
        """How to ask the providers; made when first used. Raises ProviderError where a key is not set."""
        from notifyctl.providers.registry import build_lookups

        settings = self.runtime.settings
        return build_lookups(settings, settings.channels)

    def close(self) -> None:
        for lookup in self.__dict__.get("lookups", {}).values():
            lookup.close()


def run_notification_failure_spike_monitor(context: JobContext) -> str:
    """The same as `notifyctl monitor`."""
    runtime = context.runtime
    monitor = SpikeMonitor(
        database=runtime.database,
        settings=runtime.settings,
        clock=runtime.clock,
        orchestrator=lambda: runtime.orchestrator,
        actor=context.worker,
    )
    return summary(monitor.run(Thresholds.of(runtime.settings)))


def remind_of_expiry(context: JobContext) -> str:
    runtime = context.runtime
    reminders = Reminders(
        database=runtime.database,
        orchestrator=runtime.orchestrator,
        plans=runtime.plans,
        settings=runtime.settings,
        clock=runtime.clock,
    )
    return str(reminders.run(context.stopping))


def watch_compliance_sla(context: JobContext) -> str:
    runtime = context.runtime
    return SlaMonitor(
        database=runtime.database,
        orchestrator=runtime.orchestrator,
        settings=runtime.settings,
        clock=runtime.clock,
    ).run()


def reconcile_doubts(context: JobContext) -> str:
    """What a worker does every 2 seconds anyway; they share the messages, so that none is asked about twice."""
    runtime = context.runtime
    reconciler = Reconciler(
        lookups=context.lookups,
        database=runtime.database,
        clock=runtime.clock,
        keys=runtime.keys,
        owner=context.worker,
    )
    messages = 0
    while not context.stopping() and (count := reconciler.run()):
        messages += count
    return f"{plural(messages, 'message in doubt was', 'messages in doubt were')} asked about"


def ask_for_receipts(context: JobContext) -> str:
    runtime = context.runtime
    return str(ask_missing(runtime.database, runtime.clock, runtime.keys, context.lookups, stopping=context.stopping))


def retry_stripe_events(context: JobContext) -> str:
    """Each in its own transaction. One that fails again says so on its row; the others and the job go on."""
    return str(context.runtime.billing.retry(stopping=context.stopping))


def seal_audit_rows(context: JobContext) -> str:
    """What it returns has the head of the chain in it, and so has the log: that takes it to another place."""
    runtime = context.runtime
    keys = SealKeys(runtime.settings.notification_secret_key)
    return str(seal(runtime.database, keys, runtime.clock, stopping=context.stopping))


def remove_what_is_old(context: JobContext) -> str:
    """Raises NotifyctlError where audit rows are old enough and do not verify; all else is removed then."""
    runtime = context.runtime
    report = Retention(
        runtime.database, runtime.settings, runtime.clock, actor=context.worker, stopping=context.stopping
    ).run()
    if report.audit_problem is not None:
        raise NotifyctlError(
            f"no audit row was removed, since {report.audit_problem.text}; see `notifyctl audit verify`."
            f" Of the rest: {report.removed}"
        )
    return str(report.removed)


@dataclass(frozen=True)
class Job(Timed):
    """`do` returns what it did, as one line for an operator. It must bear to be run once more for the same slot."""

    name: str
    every: timedelta | time
    do: Callable[[JobContext], str]
    longest: timedelta = timedelta(minutes=15)


_DO = {
    "in_doubt_reconciler": reconcile_doubts,
    "missing_receipts": ask_for_receipts,
    job_runs.MONITOR: run_notification_failure_spike_monitor,
    "compliance_expiry_reminders": remind_of_expiry,
    "compliance_sla_monitor": watch_compliance_sla,
    "stripe_event_retry": retry_stripe_events,
    "audit_seal": seal_audit_rows,
    "retention": remove_what_is_old,
}
"""To add one, add its line here and in operations.job_runs."""
JOBS = tuple(Job(row.name, row.every, _DO[row.name], row.longest) for row in job_runs.TIMETABLE)


def find_job(name: str) -> Job:
    """Raises NotFound that lists the names there are."""
    job = next((job for job in JOBS if job.name == name), None)
    if job is None:
        names = [job.name for job in JOBS]
        suggestion = meant(name, names) or f"; there is {', '.join(names)}"
        raise NotFound(f"no job is called {name!r}{suggestion}")
    return job
