"""Messages that are due and do not go now: they wait for their channel's minute, or for the end of quiet hours."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

from sqlalchemy import Executable, bindparam, case, func, literal, select, update
from sqlmodel import Session

from notifyctl.models.client import Client
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel, Lane, MessageStatus
from notifyctl.models.message import MessageLog
from notifyctl.store import bulk
from notifyctl.store.outbox import Queue, is_due
from notifyctl.store.pauses import PauseScope

_message = table(MessageLog)
_client = table(Client)

FORESEEABLE = timedelta(days=366)
"""A forecast is of so long ahead at most: the largest backlog at the smallest limit has half a million."""


class DeferrableMessage(NamedTuple):
    id: str
    client_id: str | None
    timezone: str | None
    """Its client's."""


def lock_due(
    session: Session, channel: Channel, queue: Queue, *, now: datetime, most: int, paused: Sequence[PauseScope] = ()
) -> list[DeferrableMessage]:
    """Messages that are due and will not fit this minute."""
    values = {"channel": channel, "now": now, "most": most}
    return [DeferrableMessage(*row) for row in session.execute(_deferral_statement(queue, tuple(paused)), values)]


@cache
def _deferral_statement(queue: Queue, paused: tuple[PauseScope, ...]) -> Executable:
    columns = (_message.c.id, _message.c.client_id, _client.c.timezone)
    due = select(*columns).outerjoin(_client, _client.c.id == _message.c.client_id).where(*is_due(queue, paused))
    locked = due.order_by(_message.c.next_attempt_at).limit(bindparam("most"))
    return locked.with_for_update(of=_message, skip_locked=True)


def last_forecast(session: Session, channel: Channel, lane: Lane, now: datetime) -> datetime | None:
    """When the last deferred message of a lane expects its turn; what nobody forecast, as infinity, is passed over."""
    deferred = Queue(lane, MessageStatus.DEFERRED_THROTTLED)
    foreseeable = _message.c.next_attempt_at.between(now, now + FORESEEABLE)
    statement = select(_message.c.next_attempt_at).where(*is_due(deferred, ()), foreseeable)
    newest = statement.order_by(_message.c.next_attempt_at.desc()).limit(1)
    forecast: datetime | None = session.execute(newest, {"channel": channel}).scalar_one_or_none()
    return forecast


def defer(session: Session, forecasts: Mapping[str, datetime], *, now: datetime) -> None:
    """Locked messages wait for their channel's minute. Uses up no attempt."""
    dialect = bulk.dialect(session)
    values = [{"id": message_id, "next_attempt_at": at} for message_id, at in forecasts.items()]
    session.execute(_defer_statement(dialect), {"now": now} | bulk.encode(dialect, values))


@cache
def _defer_statement(dialect: str) -> Executable:
    rows = bulk.unpack(dialect, bulk.column_types(_message, "id", "next_attempt_at"))
    first = func.coalesce(_message.c.throttled_at, bindparam("now", type_=_message.c.throttled_at.type))
    return (
        update(_message)
        .where(_message.c.id == rows.c.id)
        .values(status=MessageStatus.DEFERRED_THROTTLED, next_attempt_at=rows.c.next_attempt_at, throttled_at=first)
    )


def put_off(session: Session, moments: Mapping[str, datetime]) -> None:
    """Locked messages are not due before their moment. Uses up no attempt, and does not count as throttled.

    One that waited for its channel's minute is queued again, as if it had been claimed and given back.
    """
    if moments:
        dialect = bulk.dialect(session)
        values = [{"id": message_id, "next_attempt_at": at} for message_id, at in moments.items()]
        session.execute(_put_off_statement(dialect), bulk.encode(dialect, values))


@cache
def _put_off_statement(dialect: str) -> Executable:
    rows = bulk.unpack(dialect, bulk.column_types(_message, "id", "next_attempt_at"))
    deferred = _message.c.status == MessageStatus.DEFERRED_THROTTLED
    status = case((deferred, literal(MessageStatus.QUEUED, _message.c.status.type)), else_=_message.c.status)
    return (
        update(_message).where(_message.c.id == rows.c.id).values(status=status, next_attempt_at=rows.c.next_attempt_at)
    )
