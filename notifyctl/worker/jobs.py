"""What is done at set times: the table of the jobs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from notifyctl.alerts import spikes
from notifyctl.errors import NotFound
from notifyctl.orchestrator.words import window
from notifyctl.store.job_runs import slot
from notifyctl.worker import alert_jobs, delivery_jobs, stripe_jobs, upkeep_jobs
from notifyctl.worker.job_context import JobContext

DAY = timedelta(days=1)


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


JOBS = (
    Job("in_doubt_reconciler", timedelta(minutes=5), delivery_jobs.reconcile_doubts),
    Job("missing_receipts", timedelta(minutes=15), delivery_jobs.ask_for_receipts, longest=timedelta(hours=1)),
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
