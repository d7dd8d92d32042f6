"""What became of messages, written on their rows; and those that are due and do not go now, put off."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import NamedTuple, Protocol

from sqlalchemy import (
    ColumnElement,
    Executable,
    FromClause,
    Update,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.delivery.outbox import Queue, is_due
from notifyctl.models.client import Client
from notifyctl.models.columns import table
from notifyctl.models.enums import BlockReason, Channel, FailureReason, Lane, MessageStatus
from notifyctl.models.message import WAITING, MessageLog, is_still_in
from notifyctl.operations.pauses import PauseScope

_message = table(MessageLog)
_client = table(Client)
FORESEEABLE = timedelta(days=366)
"""A forecast is of so long ahead at most: the largest backlog at the smallest limit has half a million."""


class AttemptResult(NamedTuple):
    """What became of a message. The fields are the columns that are written."""

    id: str
    status: MessageStatus
    lease_generation: int | None = None
    """The claim that the result is of. None where the row is locked, and nobody else can have claimed it."""
    reason: BlockReason | FailureReason | None = None
    error_code: str | None = None
    error: str | None = None
    subject: str | None = None
    """None leaves the one that is on the row."""
    provider_message_id: str | None = None
    next_attempt_at: datetime | None = None
    sent_at: datetime | None = None
    delivered_at: datetime | None = None
    finished_at: datetime | None = None


_RESULT = AttemptResult._fields
_OWN = ("id", "lease_generation", "subject", "provider_message_id")
_SHARED = tuple(name for name in _RESULT if name not in _OWN)
"""Mostly the same in all of a group: everything was accepted."""
_own_of, _shared_of = attrgetter(*_OWN), attrgetter(*_SHARED)
RECORDED = tuple(name for name in _RESULT if name not in ("id", "lease_generation", "subject"))


def encode_results(dialect: str, results: Sequence[AttemptResult]) -> dict[str, str]:
    """The parameter of a statement over `result_rows`."""
    return bulk.encode(dialect, [result._asdict() for result in results])


def result_rows(dialect: str) -> FromClause:
    return bulk.unpack(dialect, bulk.column_types(_message, *_RESULT))


def write_results(rows: FromClause) -> Update:
    """The UPDATE that writes them, without a fence."""
    return _write(rows, {name: rows.c[name] for name in RECORDED})


def _write(rows: FromClause, written: Mapping[str, ColumnElement[object]]) -> Update:
    subject = func.coalesce(rows.c.subject, _message.c.subject)
    return update(_message).where(_message.c.id == rows.c.id).values(**written, subject=subject, lease_until=None)


def close_unclaimed(session: Session, results: Sequence[AttemptResult]) -> None:
    """Writes what became of locked messages that are not to be sent."""
    if results:
        dialect = bulk.dialect(session)
        session.execute(_close_statement(dialect), encode_results(dialect, results))


@cache
def _close_statement(dialect: str) -> Executable:
    return write_results(result_rows(dialect))


def record(session: Session, owner: str, results: Sequence[AttemptResult]) -> set[str]:
    """Writes what became of claimed messages. Returns the ids of those that were written.

    The fence: a message that was claimed again since, or is another worker's, is left as it is. One that was only
    declared in doubt meanwhile is still ours to settle.
    """
    dialect = bulk.dialect(session)
    values: dict[str, object] = {"owner": owner}
    shared = _shared_of(results[0])
    is_alike = all(_shared_of(result) == shared for result in results)
    if is_alike:
        own = [dict(zip(_OWN, _own_of(result), strict=True)) for result in results]
        values |= {f"all_{name}": value for name, value in zip(_SHARED, shared, strict=True)}
        values |= bulk.encode(dialect, own)
    else:
        values |= encode_results(dialect, results)
    return {message_id for (message_id,) in bulk.execute(session, _record_statement(dialect, is_alike), values)}


@cache
def _record_statement(dialect: str, is_alike: bool) -> Executable:
    if is_alike:
        rows = bulk.unpack(dialect, bulk.column_types(_message, *_OWN))
        shared = {name: bindparam(f"all_{name}", type_=_message.c[name].type) for name in _SHARED}
        statement = _write(rows, {**shared, "provider_message_id": rows.c.provider_message_id})
    else:
        rows = result_rows(dialect)
        statement = write_results(rows)
    fence = (
        is_still_in(MessageStatus.SENDING, MessageStatus.IN_DOUBT),
        _message.c.lease_owner == bindparam("owner"),
        _message.c.lease_generation == rows.c.lease_generation,
    )
    return statement.where(*fence).returning(_message.c.id)


class WasAttempted(Protocol):
    @property
    def attempts(self) -> int: ...

    @property
    def attempted_at(self) -> datetime | None: ...


def write_again(
    session: Session,
    owner: str,
    provider: str,
    results: Sequence[AttemptResult],
    attempts: Sequence[WasAttempted],
    lease_until: datetime | None = None,
) -> set[str]:
    """Writes what is known of messages of which the database knows less. Returns the ids of those that were written.

    Left as they are: what has ended, what another worker is sending, and rows that show a later claim, unless it is
    known that the message was accepted. `lease_until` is for what is being sent.
    """
    if not results:
        return set()
    dialect = bulk.dialect(session)
    values = [
        result._asdict() | {"attempts": attempt.attempts, "last_attempt_at": attempt.attempted_at}
        for result, attempt in zip(results, attempts, strict=True)
    ]
    given = {"owner": owner, "provider": provider, "lease_until": lease_until}
    return set(session.execute(_again_statement(dialect), given | bulk.encode(dialect, values)).scalars())


@cache
def _again_statement(dialect: str) -> Executable:
    rows = bulk.unpack(dialect, bulk.column_types(_message, *_RESULT, "attempts", "last_attempt_at"))
    is_ours = and_(_message.c.status == MessageStatus.SENDING, _message.c.lease_owner == bindparam("owner"))
    until = bindparam("lease_until", type_=_message.c.lease_until.type)
    later = {
        name: case((_message.c[name] > rows.c[name], _message.c[name]), else_=rows.c[name])
        for name in ("attempts", "lease_generation")
    }
    return (
        write_results(rows)
        .where(or_(_message.c.status.in_([*WAITING, MessageStatus.IN_DOUBT]), is_ours))
        .where(or_(rows.c.status == MessageStatus.SENT, _message.c.lease_generation < rows.c.lease_generation))
        .values(**later, last_attempt_at=rows.c.last_attempt_at)
        .values(provider=bindparam("provider"), lease_owner=bindparam("owner"), lease_until=until)
        .returning(_message.c.id)
    )


def count_missing(session: Session, ids: Sequence[str]) -> int:
    """Of how many of these messages there is no row."""
    if not ids:
        return 0
    dialect = bulk.dialect(session)
    there = session.execute(_there_statement(dialect), bulk.encode(dialect, [{"id": each} for each in ids]))
    return len(ids) - int(there.scalar_one())


@cache
def _there_statement(dialect: str) -> Executable:
    rows = bulk.unpack(dialect, bulk.column_types(_message, "id"))
    return select(func.count()).select_from(_message).where(_message.c.id.in_(select(rows.c.id)))


class DeferrableMessage(NamedTuple):
    id: str
    client_id: str | None
    timezone: str | None
    """Its client's."""


def lock_due(
    session: Session,
    channel: Channel,
    queue: Queue,
    *,
    now: datetime,
    most: int,
    paused: Sequence[PauseScope] = (),
    since: datetime | None = None,
) -> list[DeferrableMessage]:
    """Messages that are due, from `since` on, and will not fit this minute."""
    values: dict[str, object] = {"channel": channel, "now": now, "most": most}
    if since is not None:
        values["since"] = since
    statement = _deferral_statement(queue, tuple(paused), bounded=since is not None)
    return [DeferrableMessage(*row) for row in session.execute(statement, values)]


@cache
def _deferral_statement(queue: Queue, paused: tuple[PauseScope, ...], *, bounded: bool) -> Executable:
    conditions = is_due(queue, paused, since="since" if bounded else None)
    columns = (_message.c.id, _message.c.client_id, _client.c.timezone)
    due = select(*columns).outerjoin(_client, _client.c.id == _message.c.client_id).where(*conditions)
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
