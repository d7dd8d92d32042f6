"""When each job is due. What it does is in worker.jobs, which nobody needs to load for the status of jobs."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta

from notifyctl.orchestrator.words import exact_duration
from notifyctl.store.job_runs import slot

DAY = timedelta(days=1)
MONITOR, MONITOR_EVERY = "run_notification_failure_spike_monitor", timedelta(minutes=5)


class Timed:
    """A schedule, derived from `every`."""

    __slots__ = ()

    name: str
    every: timedelta | time
    longest: timedelta

    @property
    def period(self) -> timedelta:
        return DAY if isinstance(self.every, time) else self.every

    @property
    def schedule(self) -> str:
        if isinstance(self.every, time):
            return f"daily at {self.every:%H:%MZ}"
        return f"every {exact_duration(int(self.every.total_seconds()))}"

    def due_at(self, now: datetime) -> datetime:
        """Its slot: the last moment up to `now` at which it was due, the same for every worker."""
        if isinstance(self.every, time):
            start = timedelta(hours=self.every.hour, minutes=self.every.minute)
            return slot(now - start, DAY) + start
        return slot(now, self.every)

    def next_due(self, now: datetime) -> datetime:
        return self.due_at(now) + self.period


@dataclass(frozen=True)
class Schedule(Timed):
    name: str
    every: timedelta | time
    """So often, counted from midnight UTC; or each day at that time, UTC. Not under 2 seconds."""
    longest: timedelta = timedelta(minutes=15)
    """A run that takes longer is taken for hung."""


TIMETABLE = (
    Schedule("in_doubt_reconciler", timedelta(minutes=5)),
    Schedule("missing_receipts", timedelta(minutes=15), longest=timedelta(hours=1)),
    Schedule(MONITOR, MONITOR_EVERY),
    Schedule("compliance_expiry_reminders", time(7), longest=timedelta(hours=1)),
    Schedule("compliance_sla_monitor", timedelta(hours=1)),
    Schedule("stripe_event_retry", timedelta(minutes=1)),
    Schedule("audit_seal", timedelta(seconds=30)),
    Schedule("retention", time(3), longest=timedelta(hours=6)),
)
