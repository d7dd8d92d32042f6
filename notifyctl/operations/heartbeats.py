"""Who is at work, and who was last: one row a worker process, under a name of its own."""

import os
import secrets
import socket
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete, func, or_, select, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.errors import NotifyctlError
from notifyctl.models.columns import table
from notifyctl.models.message import IS_SENDING, MessageLog
from notifyctl.models.operations import WorkerHeartbeat
from notifyctl.text.durations import age, worker_place

SEEN = timedelta(minutes=1)
"""A worker that was not seen for so long is not at work."""
_heartbeat = table(WorkerHeartbeat)
_message = table(MessageLog)


class WorkerRow(NamedTuple):
    worker: str
    host: str
    pid: int
    version: str
    started_at: datetime
    seen_at: datetime
    stopping: bool
    once: bool
    left_at: datetime | None
    revision: str | None = None
    store_generation: int = 0


def beat(  # noqa: PLR0913  the columns of its row
    session: Session,
    *,
    worker: str,
    host: str,
    pid: int,
    version: str,
    started_at: datetime,
    now: datetime,
    stopping: bool,
    once: bool = False,
    revision: str | None = None,
) -> None:
    """The first beat makes the row; of the others only `now` and `stopping` are written."""
    first = WorkerRow(worker, host, pid, version, started_at, now, stopping, once, left_at=None, revision=revision)
    statement = bulk.upsert(session, _heartbeat).values(first._asdict())
    session.execute(
        statement.on_conflict_do_update(index_elements=["worker"], set_={"seen_at": now, "stopping": stopping})
    )


def leave(session: Session, worker: str, now: datetime) -> None:
    """It has stopped in good order. Its row stays until somebody else forgets it."""
    session.execute(update(_heartbeat).where(_heartbeat.c.worker == worker).values(left_at=now, seen_at=now))


def leave_all(session: Session, now: datetime) -> None:
    """Of a store that stands in for another one, on which nobody is at work: its own workers ended with their store."""
    session.execute(update(_heartbeat).where(_heartbeat.c.left_at.is_(None)).values(left_at=now))


def forget(session: Session, *, lost_before: datetime, left_before: datetime) -> None:
    """Rows of workers that were killed and last seen before then, and of those that left before then."""
    lost = _heartbeat.c.left_at.is_(None) & (_heartbeat.c.seen_at < lost_before)
    session.execute(delete(_heartbeat).where(or_(lost, _heartbeat.c.left_at < left_before)))


def count_working(session: Session, since: datetime) -> int:
    """How many were seen since then, and are not on their way out."""
    return sum(is_working(row, since) for row in known(session))


def is_working(row: WorkerRow, since: datetime) -> bool:
    return row.left_at is None and not row.stopping and row.seen_at >= since


def present(session: Session) -> list[WorkerRow]:
    """Those that have not left, be they killed; the one that started first comes first."""
    return [row for row in known(session) if row.left_at is None]


def known(session: Session) -> list[WorkerRow]:
    """Those that have left as well."""
    columns = (_heartbeat.c[name] for name in WorkerRow._fields)
    return [WorkerRow(*row) for row in session.execute(select(*columns).order_by(_heartbeat.c.started_at))]


def refuse_workers(session: Session, database: str, now: datetime) -> None:
    """Raises NotifyctlError that names one which may write at any moment, be it on its way out."""
    for row in present(session):
        if row.seen_at >= now - SEEN:
            raise NotifyctlError(
                f"worker {worker_place(row.worker)} is at work on {database}, and was seen {age(row.seen_at, now)}"
                " ago; stop all workers first (one that was killed counts for a minute)"
            )


def held_by(session: Session, worker: str) -> int:
    """How many messages it is sending."""
    statement = select(func.count()).select_from(_message).where(IS_SENDING, _message.c.lease_owner == worker)
    return int(session.execute(statement).scalar_one())


def new_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
