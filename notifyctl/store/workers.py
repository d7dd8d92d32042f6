"""Who is at work, and who was last: one row a worker process."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, or_, select, update
from sqlmodel import Session

from notifyctl.models.columns import table
from notifyctl.models.message import IS_SENDING, MessageLog
from notifyctl.models.operations import WorkerHeartbeat
from notifyctl.store import bulk

_heartbeat = table(WorkerHeartbeat)
_message = table(MessageLog)


def beat(session: Session, *, worker: str, now: datetime, stopping: bool, **about: Any) -> None:
    """`about` is host, pid, version, started_at and `once`, written with the first beat."""
    statement = bulk.upsert(session, _heartbeat).values(worker=worker, seen_at=now, stopping=stopping, **about)
    session.execute(
        statement.on_conflict_do_update(index_elements=["worker"], set_={"seen_at": now, "stopping": stopping})
    )


def leave(session: Session, worker: str, now: datetime) -> None:
    """It has stopped in good order. Its row stays until somebody else forgets it."""
    session.execute(update(_heartbeat).where(_heartbeat.c.worker == worker).values(left_at=now, seen_at=now))


def forget(session: Session, *, lost_before: datetime, left_before: datetime) -> None:
    """Rows of workers that were killed and last seen before then, and of those that left before then."""
    lost = _heartbeat.c.left_at.is_(None) & (_heartbeat.c.seen_at < lost_before)
    session.execute(delete(_heartbeat).where(or_(lost, _heartbeat.c.left_at < left_before)))


def count_working(session: Session, since: datetime) -> int:
    """How many were seen since then, and are not on their way out."""
    return sum(is_working(row, since) for row in known(session))


def is_working(row: Row[Any], since: datetime) -> bool:
    return row.left_at is None and not row.stopping and row.seen_at >= since


def present(session: Session) -> Sequence[Row[Any]]:
    """Those that have not left, be they killed; the one that started first comes first."""
    return [row for row in known(session) if row.left_at is None]


def known(session: Session) -> Sequence[Row[Any]]:
    """Those that have left as well."""
    return session.execute(select(_heartbeat).order_by(_heartbeat.c.started_at)).all()


def held_by(session: Session, worker: str) -> int:
    """How many messages it is sending."""
    statement = select(func.count()).select_from(_message).where(IS_SENDING, _message.c.lease_owner == worker)
    return int(session.execute(statement).scalar_one())
