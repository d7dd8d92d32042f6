"""The status of a job: whether it runs as it should, and what to do if not."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from notifyctl.models.enums import JobOutcome
from notifyctl.orchestrator.timetable import TIMETABLE, Timed
from notifyctl.orchestrator.words import age, moment, worker_place
from notifyctl.store.job_runs import JobRecord

GRACE = timedelta(minutes=5)
"""On top of two periods without a run that was DONE."""


class JobState(StrEnum):
    """In the order of their urgency."""

    HUNG = "hung"
    LOST = "lost"
    OVERDUE = "overdue"
    FAILED = "failed"
    RUNNING = "running"
    DONE = "done"
    NEVER = "never"
    """It has never run, and has not had the time to."""


TROUBLED = frozenset({JobState.HUNG, JobState.LOST, JobState.OVERDUE, JobState.FAILED})
_URGENCY = list(JobState)


@dataclass(frozen=True, slots=True)
class JobStatus:
    job: Timed
    state: JobState
    record: JobRecord | None
    next_due: datetime
    """In the past while its run is still to be had."""
    problem: str = ""
    remedy: str = ""


def job_statuses(records: Mapping[str, JobRecord], since: datetime | None, now: datetime) -> list[JobStatus]:
    """All jobs, those in trouble first. They should have run since `since`; None when that is unknown."""
    statuses = [job_status(job, records.get(job.name), since, now) for job in TIMETABLE]
    return sorted(statuses, key=lambda status: _URGENCY.index(status.state))


def job_status(job: Timed, record: JobRecord | None, since: datetime | None, now: datetime) -> JobStatus:
    state = _state(job, record, since, now)
    due = job.due_at(now)
    next_due = due if record is None or record.last.due_at < due else job.next_due(now)
    return JobStatus(job, state, record, next_due, *_words(job, state, record, now))


def _state(job: Timed, record: JobRecord | None, since: datetime | None, now: datetime) -> JobState:
    last = record.last if record else None
    if last is not None and last.outcome is JobOutcome.RUNNING:
        if last.lease_until is None or last.lease_until < now:
            return JobState.LOST
        if now - last.started_at > job.longest:
            return JobState.HUNG
    well_at = (record.done_at if record else None) or since
    if well_at is not None and now - well_at > 2 * job.period + GRACE:
        return JobState.OVERDUE
    return JobState(last.outcome.lower()) if last is not None else JobState.NEVER


def _words(job: Timed, state: JobState, record: JobRecord | None, now: datetime) -> tuple[str, str]:
    """What is wrong and what to do; both empty where nothing is."""
    if state not in TROUBLED:
        return "", ""
    if state is JobState.OVERDUE:
        return _overdue(job, record, now), f"start `notifyctl worker`, or run `notifyctl jobs run {job.name}`"
    assert record is not None
    last = record.last
    if state is JobState.FAILED:
        return f"{job.name} failed: {last.summary}", f"mend that, then run `notifyctl jobs run {job.name}`"
    begun = f"at {worker_place(last.worker)} since {moment(last.started_at)}"
    if state is JobState.LOST:
        return f"{job.name} was lost, having run {begun}", "start `notifyctl worker`: it takes the run up again"
    return f"{job.name} hangs {begun}", "look at the log of that worker, and restart it"


def _overdue(job: Timed, record: JobRecord | None, now: datetime) -> str:
    if record is None:
        return f"{job.name} has never run"
    done = f"was last done {age(record.done_at, now)} ago" if record.done_at else "was never done"
    failed = f"; the last run failed: {record.last.summary}" if record.last.outcome is JobOutcome.FAILED else ""
    return f"{job.name} ({job.schedule}) {done}{failed}"
