"""Who is at work: one row a worker process, gone when it has stopped in good order."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from notifyctl.models.columns import table
from notifyctl.models.message import MessageLog
from notifyctl.models.operations import WorkerHeartbeat
from notifyctl.store.outbox import SENDING

_heartbeat = table(WorkerHeartbeat)
_message = table(MessageLog)


def beat(session: Session, *, worker: str, now: datetime, stopping: bool, **about: Any) -> None:
    """`about` is host, pid, version and started_at, written with the first beat."""
    make: Any = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = make(_heartbeat).values(worker=worker, seen_at=now, stopping=stopping, **about)
    session.execute(
        statement.on_conflict_do_update(index_elements=["worker"], set_={"seen_at": now, "stopping": stopping})
    )


def leave(session: Session, worker: str) -> None:
    session.execute(delete(_heartbeat).where(_heartbeat.c.worker == worker))


def forget_lost(session: Session, before: datetime) -> None:
    """Rows of workers that were killed, and were last seen before then."""
    session.execute(delete(_heartbeat).where(_heartbeat.c.seen_at < before))


def count_working(session: Session, since: datetime) -> int:
    """How many were seen since then, and are not on their way out."""
    working = select(func.count()).select_from(_heartbeat).where(_heartbeat.c.seen_at >= since, ~_heartbeat.c.stopping)
    return int(session.execute(working).scalar_one())


def present(session: Session) -> Sequence[Row[Any]]:
    return session.execute(select(_heartbeat).order_by(_heartbeat.c.started_at)).all()


def held_by(session: Session, worker: str) -> int:
    """How many messages it is sending."""
    statement = select(func.count()).select_from(_message).where(SENDING, _message.c.lease_owner == worker)
    return int(session.execute(statement).scalar_one())
