"""Waiting messages over which a claim stumbles: found without being read, failed, and made readable again."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Column, Integer, select, update
from sqlmodel import Session

from notifyctl import errors
from notifyctl.audit import log as audit_log
from notifyctl.clock import Clock
from notifyctl.db.database import Database
from notifyctl.delivery.claims import DEFERRED_AT_ONCE, Claim, Claimer, QueueSnapshot
from notifyctl.delivery.outbox import Queue, is_due
from notifyctl.errors import DatabaseError
from notifyctl.models.columns import UtcDateTime, table
from notifyctl.models.enums import AuditAction, Channel, FailureReason, MessageStatus
from notifyctl.models.message import WAITING, MessageLog
from notifyctl.operations.pauses import PauseScope
from notifyctl.orchestrator import payload_store

log = logging.getLogger("notifyctl.delivery")

_message = table(MessageLog)


def due_ids(
    session: Session, channel: Channel, queue: Queue, *, now: datetime, most: int, paused: Sequence[PauseScope] = ()
) -> Sequence[str]:
    """As outbox.lock_due, without a lock, and without reading what may be unreadable."""
    statement = select(_message.c.id).where(*is_due(queue, paused)).order_by(_message.c.next_attempt_at).limit(most)
    return session.execute(statement, {"channel": channel, "now": now}).scalars().all()


class UnusableMessage(NamedTuple):
    id: str
    client_id: str | None
    attempts: int


def fail(session: Session, message_id: str, *, reason: str, error: str, now: datetime) -> UnusableMessage | None:
    """A waiting message that cannot be claimed for what stands in it. None if it is gone.

    What nobody can read of it is emptied: it would go on to break every list that the row stands in.
    """
    values = {"status": MessageStatus.FAILED, "reason": reason, "error": error, "finished_at": now}
    statement = update(_message).where(_message.c.id == message_id, _message.c.status.in_(WAITING))
    written = statement.values(**values, next_attempt_at=None, lease_until=None)
    if session.execute(written.returning(_message.c.id)).first() is None:
        return None
    make_readable(session, message_id, now)
    columns = (_message.c[name] for name in UnusableMessage._fields)
    return UnusableMessage(*session.execute(select(*columns).where(_message.c.id == message_id)).one())


def make_readable(session: Session, message_id: str, now: datetime) -> None:
    """Empties what of a message nobody can read."""
    values = {
        column.name: None if column.nullable else _empty_value(column, now)
        for column in _message.c
        if not column.primary_key and not _can_be_read(session, column, message_id)
    }
    if values:
        session.execute(update(_message).where(_message.c.id == message_id).values(values))
        log.error("removed what nobody can read", extra={"message_id": message_id, "columns": list(values)})


def _can_be_read(session: Session, column: Column[object], message_id: str) -> bool:
    try:
        session.execute(select(column).where(_message.c.id == message_id)).all()
    except DatabaseError:
        raise
    except Exception:  # noqa: BLE001  whatever the reason
        return False
    return True


def _empty_value(column: Column[object], now: datetime) -> datetime | int | str:
    if isinstance(column.type, UtcDateTime):
        return now
    return 0 if isinstance(column.type, Integer) else ""


pass  # MOVED


Load = Callable[[Session, Sequence[Claim]], None]


class _Sound(Exception):
    """Ends a trial, so that nothing of it is written."""


def set_aside(
    database: Database, clock: Clock, claimer: Claimer, snapshot: QueueSnapshot, owner: str, *, load: Load
) -> int:
    """Tries what is due one by one and fails what cannot be claimed. Returns how many. Raises DatabaseError.

    `load` is what is done with claimed messages in the same transaction.
    """
    now = clock()
    count = 0
    for queue in snapshot.due:
        with database.read() as session:
            most, paused = DEFERRED_AT_ONCE, snapshot.paused
            ids = due_ids(session, claimer.channel, queue, now=now, most=most, paused=paused)
        for message_id in ids:
            try:
                with database.transaction() as session:
                    load(session, claimer.try_one(session, queue, message_id, now))
                    raise _Sound
            except _Sound:
                continue
            except DatabaseError:
                raise
            except Exception as error:  # noqa: BLE001  that is what we are looking for
                errors.report(log, "message cannot be used", error, message_id=message_id)
                count += _fail(database, message_id, errors.describe(error), owner, now)
    return count


def _fail(database: Database, message_id: str, why: str, owner: str, now: datetime) -> bool:
    reason, error = FailureReason.RENDER_ERROR, f"It cannot be used: {why}"
    with database.transaction() as session:
        failed = fail(session, message_id, reason=reason, error=error, now=now)
        if failed is None:
            return False
        payload_store.erase_sealed(session, [message_id])
        details = {"reason": reason, "error": error, "attempts": failed.attempts}
        entry = audit_log.for_message(AuditAction.NOTIFICATION_FAILED, failed, actor=owner, now=now, details=details)
        audit_log.write_many(session, [entry])
    return True
