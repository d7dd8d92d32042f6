"""On SQLite the host's clock counts. When it is set back, what was written before lies in the future, and would wait
there: messages, leases of workers that are gone, jobs, a breaker, a locked phone. All of that moves back with it.
"""

from datetime import datetime, timedelta

from sqlalchemy import Column, ColumnElement, func, literal, select, update
from sqlmodel import Session

from notifyctl.models.audit import AuditLog
from notifyctl.models.columns import table
from notifyctl.models.enums import BreakerState, JobOutcome, MessageStatus
from notifyctl.models.message import WAITING, MessageLog
from notifyctl.models.operations import JobRun, ProviderBreaker, WorkerHeartbeat
from notifyctl.models.otp import OtpChallenge, OtpSubject

TOLERANCE = timedelta(seconds=5)
"""What NTP corrects by the way."""
_message, _run, _breaker = table(MessageLog), table(JobRun), table(ProviderBreaker)
_heartbeat, _subject, _challenge = table(WorkerHeartbeat), table(OtpSubject), table(OtpChallenge)
_audit = table(AuditLog)
_UNFINISHED = [*WAITING, MessageStatus.IN_DOUBT]


def follow(session: Session, now: datetime, *, longest_lease: timedelta) -> timedelta | None:
    """By how much the clock was set back since something was last written; None when it was not.

    The caller leaves a heartbeat or an audit row with `now`, from which on the new time counts.
    """
    latest = max((moment for moment in _traces(session) if moment is not None), default=now)
    step = latest - now
    if step <= TOLERANCE:
        return None
    _move(session, now, step, longest_lease)
    return step


def _traces(session: Session) -> list[datetime | None]:
    last = select(_audit.c.created_at).order_by(_audit.c.id.desc()).limit(1)
    return [
        session.execute(last).scalar_one_or_none(),
        session.execute(select(func.max(_heartbeat.c.seen_at, type_=_heartbeat.c.seen_at.type))).scalar_one(),
    ]


def _move(session: Session, now: datetime, step: timedelta, longest_lease: timedelta) -> None:
    def ahead(column: Column[datetime], by: timedelta = timedelta()) -> ColumnElement[bool]:
        return column > now + by

    def move(column: Column[datetime], *which: ColumnElement[bool]) -> None:
        earlier = func.strftime("%Y-%m-%d %H:%M:%f000", column, f"-{step.total_seconds():.3f} seconds")
        not_before = literal(now, column.type)
        moved = func.max(not_before, earlier, type_=column.type)
        session.execute(update(column.table).where(ahead(column), *which).values({column: moved}))

    waiting = _message.c.status.in_(_UNFINISHED)
    move(_message.c.next_attempt_at, waiting)
    move(_message.c.expires_at, waiting, ahead(_message.c.created_at))
    # A longer lease than anybody takes: those that were renewed since the step are as they should be.
    sending = _message.c.status == MessageStatus.SENDING
    move(_message.c.lease_until, sending, ahead(_message.c.lease_until, longest_lease))
    move(_run.c.lease_until, _run.c.outcome == JobOutcome.RUNNING, ahead(_run.c.lease_until, longest_lease))
    move(_breaker.c.probe_at, _breaker.c.state != BreakerState.CLOSED)
    move(_subject.c.locked_until, ahead(_subject.c.updated_at))
    move(_challenge.c.expires_at, ahead(_challenge.c.created_at))
    session.execute(update(_heartbeat).where(ahead(_heartbeat.c.seen_at)).values(seen_at=now))
