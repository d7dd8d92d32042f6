"""When each job is due, and its runs: claimed by their slot, held under a lease, kept as history."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import NamedTuple

from sqlalchemy import ColumnElement, Executable, ScalarSelect, delete, func, select, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.columns import table
from notifyctl.models.enums import JobOutcome
from notifyctl.models.operations import IS_RUNNING, JobRun
from notifyctl.text.durations import exact_duration

DAY = timedelta(days=1)
MONITOR, MONITOR_EVERY = "run_notification_failure_spike_monitor", timedelta(minutes=5)

_run = table(JobRun)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_FIRST = (_run.c.due_at.desc(), _run.c.attempt.desc())


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


def slot(now: datetime, period: timedelta) -> datetime:
    """The last moment up to `now` that is a whole number of periods from midnight UTC."""
    return now - (now - _EPOCH) % period


class RunRow(NamedTuple):
    id: int
    name: str
    due_at: datetime
    attempt: int
    worker: str
    outcome: JobOutcome
    summary: str | None
    started_at: datetime
    finished_at: datetime | None
    lease_until: datetime | None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What is known of a job that has run."""

    last: RunRow
    """Its latest run, however it ended."""
    done_at: datetime | None
    """When a run of it was last DONE."""


def add_done(session: Session, *, name: str, due_at: datetime, worker: str, summary: str, now: datetime) -> None:
    """A run that is over already, if its slot has none yet that was done, and none is on its way.

    One that hangs must stay the last one, so that it is seen.
    """
    if current_run(session, name) is not None:
        return
    last = latest(session, name, up_to=due_at)
    attempt = last.attempt + 1 if last is not None and last.due_at == due_at else 1
    if attempt > 1 and last is not None and last.outcome is not JobOutcome.FAILED:
        return
    values = {"name": name, "due_at": due_at, "attempt": attempt, "worker": worker, "started_at": now}
    done = {"outcome": JobOutcome.DONE, "summary": summary, "finished_at": now}
    session.execute(bulk.upsert(session, _run).values(**values, **done).on_conflict_do_nothing())


def begin(
    session: Session, *, name: str, due_at: datetime, attempt: int, worker: str, now: datetime, lease_until: datetime
) -> int | None:
    """The id of the new run; None when another has taken this attempt, or is at the job."""
    values = {"name": name, "due_at": due_at, "attempt": attempt, "worker": worker, "started_at": now}
    statement = bulk.upsert(session, _run).values(**values, outcome=JobOutcome.RUNNING, lease_until=lease_until)
    return session.execute(statement.on_conflict_do_nothing().returning(_run.c.id)).scalar_one_or_none()


def renew(session: Session, ids: Collection[int], until: datetime) -> set[int]:
    """Which of these are still held. Also a lease that has run out is renewed, if nobody has ended it."""
    statement = update(_run).where(_run.c.id.in_(ids), IS_RUNNING).values(lease_until=until)
    return set(session.execute(statement.returning(_run.c.id)).scalars())


def end(session: Session, run_id: int, outcome: JobOutcome, summary: str, now: datetime) -> bool:
    """False when it had ended already: whoever lost its lease has nothing to say any more."""
    return _end(session, _run.c.id == run_id, outcome, summary, now)


def end_lost(session: Session, name: str, *, summary: str, before: datetime, now: datetime) -> bool:
    """Whether there was a run whose lease ended before then. It is FAILED now."""
    return _end(session, (_run.c.name == name) & (_run.c.lease_until < before), JobOutcome.FAILED, summary, now)


def _end(session: Session, which: ColumnElement[bool], outcome: JobOutcome, summary: str, now: datetime) -> bool:
    values = {"outcome": outcome, "summary": summary, "finished_at": now, "lease_until": None}
    statement = update(_run).where(which, IS_RUNNING).values(**values).returning(_run.c.id)
    return session.execute(statement).first() is not None


def current_run(session: Session, name: str) -> RunRow | None:
    """There is one at most."""
    return _first(session, select(_run).where(_run.c.name == name, IS_RUNNING))


def latest(session: Session, name: str, up_to: datetime) -> RunRow | None:
    """The last attempt at the last slot that is not later than `up_to`."""
    statement = select(_run).where(_run.c.name == name, _run.c.due_at <= up_to)
    return _first(session, statement.order_by(*_LATEST_FIRST).limit(1))


def history(session: Session, name: str, limit: int) -> list[RunRow]:
    """Latest first."""
    return _rows(session, select(_run).where(_run.c.name == name).order_by(_run.c.id.desc()).limit(limit))


def _rows(session: Session, statement: Executable) -> list[RunRow]:
    return [RunRow(*row) for row in session.execute(statement)]


def _first(session: Session, statement: Executable) -> RunRow | None:
    return next(iter(_rows(session, statement)), None)


def records(session: Session) -> dict[str, JobRecord]:
    """Of every job that has ever run, by its name."""
    names = session.execute(select(_run.c.name).distinct()).scalars().all()
    return {name: _record(session, name) for name in names}


def records_of(session: Session, names: Collection[str]) -> dict[str, JobRecord]:
    """The same as `records` for those of these names that have run, in one statement."""
    rows = {row.id: row for row in _rows(session, _latest_of(tuple(names)))}
    records: dict[str, JobRecord] = {}
    for name in names:
        ours = sorted((row for row in rows.values() if row.name == name), key=lambda row: (row.due_at, row.attempt))
        if ours:
            done = [row.finished_at for row in ours if row.outcome is JobOutcome.DONE]
            records[name] = JobRecord(ours[-1], done[-1] if done else None)
    return records


@cache
def _latest_of(names: tuple[str, ...]) -> Executable:
    """Of each its last run, and its last that was DONE."""
    ids: list[ScalarSelect[int]] = []
    for name in names:
        last = select(_run.c.id).where(_run.c.name == name).order_by(*_LATEST_FIRST).limit(1)
        ids += [last.scalar_subquery(), last.where(_run.c.outcome == JobOutcome.DONE).scalar_subquery()]
    return select(_run).where(_run.c.id.in_(ids))


def first_start(session: Session) -> datetime | None:
    """Since when jobs have been run here, as far as history goes back."""
    return session.execute(select(_run.c.started_at).order_by(_run.c.id).limit(1)).scalar_one_or_none()


def forget(session: Session, before: datetime) -> int:
    """Deletes runs that ended before then, but of each job the last one and the last DONE. Returns how many."""
    statement = delete(_run).where(*_forgettable(session, before)).returning(_run.c.id)
    return len(session.execute(statement).all())


def count_forgettable(session: Session, before: datetime) -> int:
    statement = select(func.count()).select_from(_run).where(*_forgettable(session, before))
    return int(session.execute(statement).scalar_one())


def _forgettable(session: Session, before: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    names = session.execute(select(_run.c.name).distinct()).scalars().all()
    kept = [run.id for name in names for run in (_last(session, name), _last(session, name, JobOutcome.DONE)) if run]
    return _run.c.finished_at < before, _run.c.id.not_in(kept)


def _record(session: Session, name: str) -> JobRecord:
    last, done = _last(session, name), _last(session, name, JobOutcome.DONE)
    assert last is not None
    return JobRecord(last, done.finished_at if done else None)


def _last(session: Session, name: str, outcome: JobOutcome | None = None) -> RunRow | None:
    statement = select(_run).where(_run.c.name == name)
    if outcome is not None:
        statement = statement.where(_run.c.outcome == outcome)
    return _first(session, statement.order_by(*_LATEST_FIRST).limit(1))
