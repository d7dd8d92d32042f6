"""Waiting messages over which a claim stumbles: found without being read, failed, and made readable again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlmodel import Session

from notifyctl.models.columns import table
from notifyctl.models.message import WAITING, MessageLog, MessageStatus
from notifyctl.models.template import Channel
from notifyctl.store.outbox import Queue, is_due
from notifyctl.store.pauses import Scope

_message = table(MessageLog)


def due_ids(
    session: Session, channel: Channel, queue: Queue, *, now: datetime, most: int, paused: Sequence[Scope] = ()
) -> Sequence[str]:
    """As outbox.lock_due, without a lock, and without reading what may be unreadable."""
    statement = select(_message.c.id).where(*is_due(queue, paused)).order_by(_message.c.next_attempt_at).limit(most)
    return session.execute(statement, {"channel": channel, "now": now}).scalars().all()


def fail(session: Session, message_id: str, *, reason: str, error: str, now: datetime) -> Row[Any] | None:
    """A waiting message that cannot be claimed for what stands in it. Its `client_id` and `attempts`; None if gone."""
    values = {"status": MessageStatus.FAILED, "reason": reason, "error": error, "finished_at": now}
    statement = update(_message).where(_message.c.id == message_id, _message.c.status.in_(WAITING))
    written = statement.values(**values, next_attempt_at=None, lease_until=None)
    return session.execute(written.returning(_message.c.client_id, _message.c.attempts)).first()


def blank(session: Session, message_id: str) -> None:
    """Empties what of a message that is over may be of any shape."""
    values: dict[str, Any] = {"metadata": None, "expires_at": None}
    session.execute(update(_message).where(_message.c.id == message_id).values(values))
