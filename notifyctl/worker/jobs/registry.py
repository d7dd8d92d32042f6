"""What is done at set times: the table of the jobs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import time, timedelta

from notifyctl.errors import NotFound
from notifyctl.orchestrator import timetable
from notifyctl.orchestrator.timetable import Timed
from notifyctl.worker import alert_jobs, delivery_jobs, stripe_jobs, upkeep_jobs
from notifyctl.worker.job_context import JobContext


@dataclass(frozen=True)
class Job(Timed):
    """`do` returns what it did, as one line for an operator. It must bear to be run once more for the same slot."""

    name: str
    every: timedelta | time
    do: Callable[[JobContext], str]
    longest: timedelta = timedelta(minutes=15)


_DO = {
    "in_doubt_reconciler": delivery_jobs.reconcile_doubts,
    "missing_receipts": delivery_jobs.ask_for_receipts,
    timetable.MONITOR: alert_jobs.run_notification_failure_spike_monitor,
    "compliance_expiry_reminders": alert_jobs.remind_of_expiry,
    "compliance_sla_monitor": alert_jobs.watch_compliance_sla,
    "stripe_event_retry": stripe_jobs.retry_stripe_events,
    "audit_seal": upkeep_jobs.seal_audit_rows,
    "retention": upkeep_jobs.remove_what_is_old,
}
"""To add one, add its line here and in orchestrator.timetable."""
JOBS = tuple(Job(one.name, one.every, _DO[one.name], one.longest) for one in timetable.TIMETABLE)


def named(name: str) -> Job:
    """Raises NotFound that lists the names there are."""
    job = next((job for job in JOBS if job.name == name), None)
    if job is None:
        raise NotFound(f"no job is called {name!r}; there is {', '.join(each.name for each in JOBS)}")
    return job
