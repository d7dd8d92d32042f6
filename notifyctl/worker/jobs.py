"""What is done at set times: the table of the jobs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import cached_property

from notifyctl.alerts import spikes
from notifyctl.bootstrap import Runtime
from notifyctl.clock import Clock
from notifyctl.errors import NotFound
from notifyctl.models.template import Channel
from notifyctl.orchestrator.words import window
from notifyctl.providers.base import Lookup
from notifyctl.store.job_runs import slot
from notifyctl.worker import alert_jobs, stripe_jobs, upkeep_jobs

DAY = timedelta(days=1)


@dataclass(frozen=True)
class JobContext:
    """What a run is given. A job that takes long asks `stopping` between two steps."""

    runtime: Runtime
    worker: str
    now: datetime
    """When the run began."""
    stopping: Callable[[], bool]
    """Whether to leave off: the worker is on its way out, or another has taken the run over."""

    @property
    def clock(self) -> Clock:
        return self.runtime.clock

    @cached_property
    def lookups(self) -> Mapping[Channel, Lookup]:
        """How to ask the providers; made when first used. Raises ProviderError where a key is not set."""
        from notifyctl.providers.lookups import build_lookups

        settings = self.runtime.settings
        return build_lookups(settings, [Channel.EMAIL, Channel.SMS] if settings.sms_enabled else [Channel.EMAIL])

    def close(self) -> None:
        for lookup in self.__dict__.get("lookups", {}).values():
            lookup.close()


@dataclass(frozen=True, slots=True)
class Job:
    """`do` returns what it did, as one line for an operator. It must bear to be run once more for the same slot."""

    name: str
    every: timedelta | time
    """So often, counted from midnight UTC; or each day at that time, UTC. Not under 2 seconds."""
    do: Callable[[JobContext], str]
    longest: timedelta = timedelta(minutes=15)
    """A run that takes longer is taken for hung."""

    @property
    def period(self) -> timedelta:
        return DAY if isinstance(self.every, time) else self.every

    @property
    def schedule(self) -> str:
        if isinstance(self.every, time):
            return f"daily at {self.every:%H:%MZ}"
        return f"every {window(int(self.every.total_seconds()))}"

    def due_at(self, now: datetime) -> datetime:
        """Its slot: the last moment up to `now` at which it was due, the same for every worker."""
        if isinstance(self.every, time):
            start = timedelta(hours=self.every.hour, minutes=self.every.minute)
            return slot(now - start, DAY) + start
        return slot(now, self.every)

    def next_due(self, now: datetime) -> datetime:
        return self.due_at(now) + self.period


def reconcile_doubts(context: JobContext) -> str:
    """What a worker does every 2 seconds anyway; they share the messages, so that none is asked about twice."""
    from notifyctl.delivery.reconcile import Reconciler

    runtime = context.runtime
    reconciler = Reconciler(
        lookups=context.lookups,
        database=runtime.database,
        clock=context.clock,
        keys=runtime.keys,
        owner=context.worker,
    )
    asked = 0
    while not context.stopping() and (count := reconciler.run()):
        asked += count
    return f"{asked} messages in doubt were asked about"


def ask_for_receipts(context: JobContext) -> str:
    from notifyctl.delivery.missing_receipts import ask_missing

    runtime = context.runtime
    return str(ask_missing(runtime.database, context.clock, runtime.keys, context.lookups, stopping=context.stopping))


JOBS = (
    Job("in_doubt_reconciler", timedelta(minutes=5), reconcile_doubts),
    Job("missing_receipts", timedelta(minutes=15), ask_for_receipts, longest=timedelta(hours=1)),
    Job(spikes.JOB, spikes.EVERY, alert_jobs.run_notification_failure_spike_monitor),
    Job("compliance_expiry_reminders", time(7), alert_jobs.remind_of_expiry, longest=timedelta(hours=1)),
    Job("compliance_sla_monitor", timedelta(hours=1), alert_jobs.watch_compliance_sla),
    Job("stripe_event_retry", timedelta(minutes=1), stripe_jobs.retry_stripe_events),
    Job("audit_seal", timedelta(seconds=30), upkeep_jobs.seal_audit_rows),
    Job("retention", time(3), upkeep_jobs.remove_what_is_old, longest=timedelta(hours=6)),
)
"""To add one, add its line; its function's imports are its own affair, so that cron does not pay for all of them."""


def named(name: str) -> Job:
    """Raises NotFound that lists the names there are."""
    found = next((job for job in JOBS if job.name == name), None)
    if found is None:
        raise NotFound(f"no job is called {name!r}; there is {', '.join(job.name for job in JOBS)}")
    return found
