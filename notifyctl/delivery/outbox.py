"""The message rows as a worker sees them: what is due, claimed under a lease, and recorded behind its fence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

from sqlalchemy import (
    CTE,
    ColumnElement,
    Executable,
    FromClause,
    Table,
    TextClause,
    and_,
    bindparam,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.client import AddressedClient, Client
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel, Lane, MessageStatus
from notifyctl.models.message import IS_SENDING, IS_WAITING, MessageLog, MessagePayload, is_still_in
from notifyctl.operations.pauses import PauseScope
from notifyctl.providers.contract import HeldKey

_message = table(MessageLog)
_payload = table(MessagePayload)
_client = table(Client)


@dataclass(frozen=True, slots=True)
class Queue:
    """One line of a channel: messages of a lane in one status, served by next_attempt_at."""

    lane: Lane
    status: MessageStatus


QUEUES = tuple(
    Queue(lane, status)
    for lane in Lane
    for status in (MessageStatus.DEFERRED_THROTTLED, MessageStatus.RETRY_SCHEDULED, MessageStatus.QUEUED)
)
"""In the order of service: within a lane what was deferred goes first, since it has waited longest."""


def due(
    session: Session, channel: Channel, *, now: datetime, most: int, paused: Sequence[PauseScope] = ()
) -> dict[Queue, int]:
    """How many messages of each queue may go now, counted up to `most`. Takes no lock.

    What was deferred is due at any time: its next_attempt_at is a forecast, and the budget decides.
    """
    values = {"channel": channel, "now": now, "most": most}
    (row,) = bulk.execute(session, _due_statement(tuple(paused)), values)
    return {queue: count for queue, count in zip(QUEUES, row, strict=True) if count}


class SeenQueue(NamedTuple):
    messages: int
    lowest: datetime
    """The first next_attempt_at among them; `now` where there are none, or that is yet to come."""


def due_since(
    session: Session,
    channel: Channel,
    *,
    now: datetime,
    most: int,
    paused: Sequence[PauseScope] = (),
    since: Mapping[Queue, datetime],
) -> dict[Queue, SeenQueue]:
    """As `due`, of every queue, from its moment in `since` on; of the whole queues where that is empty. PostgreSQL."""
    values: dict[str, object] = {"channel": channel, "now": now, "most": most, "beginning": _BEGINNING}
    values |= {_since(queue): moment for queue, moment in since.items()}
    rows = bulk.execute(session, _due_since_statement(tuple(paused), bool(since)), values)
    return {QUEUES[place]: SeenQueue(messages, lowest) for place, messages, lowest in rows}


_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def _since(queue: Queue) -> str:
    return f"since_{QUEUES.index(queue)}"


@cache
def _due_since_statement(paused: tuple[PauseScope, ...], bounded: bool) -> Executable:
    moment = _message.c.next_attempt_at.type
    now, beginning = bindparam("now", type_=moment), bindparam("beginning", type_=moment)
    seen = []
    for place, queue in enumerate(QUEUES):
        conditions = is_due(queue, paused, since=_since(queue) if bounded else None)
        # In the order of the index, so that no plan reads more of it than `most` entries.
        in_order = select(_message.c.next_attempt_at).where(*conditions).order_by(_message.c.next_attempt_at)
        first = in_order.limit(bindparam("most")).subquery()
        # least and greatest pass over NULL, and infinity is no moment that Python knows.
        lowest = func.greatest(func.least(func.min(first.c.next_attempt_at), now), beginning, type_=moment)
        seen.append(select(literal_column(str(place)), func.count(), lowest).select_from(first))
    return union_all(*seen)


@cache
def _due_statement(paused: tuple[PauseScope, ...]) -> Executable:
    counts = []
    for queue in QUEUES:
        first = select(_message.c.id).where(*is_due(queue, paused)).limit(bindparam("most")).subquery()
        counts.append(select(func.count()).select_from(first).scalar_subquery())
    return select(*counts)


def is_due(
    queue: Queue, paused: Sequence[PauseScope], *, since: str | None = None
) -> list[ColumnElement[bool] | TextClause]:
    """Conditions with the parameters `channel` and `now`, and the one that `since` names: where the scan begins."""
    conditions: list[ColumnElement[bool] | TextClause] = [
        _message.c.channel == bindparam("channel", type_=_message.c.channel.type),
        # As they are: a look has nine queues, and every parameter of a statement is put into words for each use.
        _message.c.lane == literal_column(f"'{queue.lane}'"),
        _message.c.status == literal_column(f"'{queue.status}'"),
        IS_WAITING,
    ]
    if queue.status is not MessageStatus.DEFERRED_THROTTLED:
        conditions.append(_message.c.next_attempt_at <= bindparam("now", type_=_message.c.next_attempt_at.type))
    if since is not None:
        conditions.append(_message.c.next_attempt_at >= bindparam(since, type_=_message.c.next_attempt_at.type))
    return conditions + [not_(scope.holds(_message)) for scope in paused]


class DueMessage(NamedTuple):
    """What is needed of a locked message to decide about it and to send it."""

    id: str
    client_id: str | None
    channel: Channel
    lane: Lane
    template_key: str
    template_version: int
    recipient: str | None
    expires_at: datetime | None
    attempts: int
    lease_generation: int
    idempotency_key: str | None
    fingerprint: str | None
    metadata: Mapping[str, object] | None
    context: str | None
    sealed: str | None
    key_id: str | None
    client: AddressedClient | None
    """None when it has no client, or the client is gone."""

    @property
    def timezone(self) -> str | None:
        return self.client.timezone if self.client else None

    @property
    def held_key(self) -> HeldKey | None:
        return HeldKey(self.idempotency_key, self.fingerprint or "") if self.idempotency_key else None


_OF_MESSAGE = DueMessage._fields[: DueMessage._fields.index("context")]
_OF_PAYLOAD = ("context", "sealed", "key_id")


def lock_due(
    session: Session,
    channel: Channel,
    queue: Queue,
    *,
    now: datetime,
    most: int,
    paused: Sequence[PauseScope] = (),
    since: datetime | None = None,
) -> list[DueMessage]:
    """Up to `most` messages of a queue, locked until the transaction ends. What another worker locked is passed over.

    `since`: from which next_attempt_at on.
    """
    values: dict[str, object] = {"channel": channel, "now": now, "most": most}
    if since is not None:
        values["since"] = since
    dialect = bulk.dialect(session)
    return _locked(session, _lock_statement(dialect, queue, tuple(paused), bounded=since is not None), values)


def lock_one(session: Session, channel: Channel, queue: Queue, message_id: str, *, now: datetime) -> list[DueMessage]:
    """As `lock_due`, if it is due and nobody else has locked it."""
    values = {"channel": channel, "now": now, "most": 1, "only": message_id}
    return _locked(session, _lock_statement(bulk.dialect(session), queue, (), single=True), values)


def _locked(session: Session, statement: Executable, values: Mapping[str, object]) -> list[DueMessage]:
    rows = bulk.execute(session, statement, values)
    return [DueMessage._make((*row[:_CLIENT_AT], AddressedClient.of(row[_CLIENT_AT:]))) for row in rows]


_CLIENT_AT = len(_OF_MESSAGE) + len(_OF_PAYLOAD)


@cache
def _lock_statement(
    dialect: str, queue: Queue, paused: tuple[PauseScope, ...], *, single: bool = False, bounded: bool = False
) -> Executable:
    is_it = [_message.c.id == bindparam("only", type_=_message.c.id.type)] if single else []
    picked = (
        select(*(_message.c[name] for name in _OF_MESSAGE))
        .where(*is_due(queue, paused, since="since" if bounded else None), *is_it)
        .order_by(_message.c.next_attempt_at)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    payload = _of_each(dialect, picked, _payload, _OF_PAYLOAD, _payload.c.message_id == picked.c.id)
    is_its_client = and_(_client.c.id == picked.c.client_id, _client.c.erased_at.is_(None))
    client = _of_each(dialect, picked, _client, AddressedClient._fields, is_its_client)
    columns = [payload.row.c[name] for name in _OF_PAYLOAD] + [client.row.c[name] for name in AddressedClient._fields]
    joined = picked.outerjoin(payload.row, payload.on).outerjoin(client.row, client.on)
    return select(picked, *columns).select_from(joined)


class _Beside(NamedTuple):
    """What is joined to the messages, and on what."""

    row: FromClause
    on: ColumnElement[bool]


def _of_each(dialect: str, picked: CTE, table: Table, names: Sequence[str], is_its: ColumnElement[bool]) -> _Beside:
    """The row of `table` that is a message's.

    PostgreSQL would read a table of some ten thousand rows as a whole for each group of messages. What has a limit of
    its own, it looks up for each of them.
    """
    if dialect == "sqlite":
        return _Beside(table, is_its)
    row = select(*(table.c[name] for name in names)).where(is_its).limit(literal_column("1")).correlate(picked)
    return _Beside(row.lateral(), true())


def claim(
    session: Session, ids: Sequence[str], *, owner: str, provider: str, now: datetime, lease_until: datetime
) -> None:
    """Marks locked messages as being sent by `owner`. Once committed, this is the journal of what may have gone out."""
    dialect = bulk.dialect(session)
    values = {"owner": owner, "provider": provider, "now": now, "lease_until": lease_until}
    bulk.execute(session, _claim_statement(dialect), values | bulk.encode(dialect, _ids(ids)))


@cache
def _claim_statement(dialect: str) -> Executable:
    rows = bulk.unpack(dialect, bulk.column_types(_message, "id"))
    return (
        update(_message)
        .where(_message.c.id.in_(select(rows.c.id)))
        .values(
            status=MessageStatus.SENDING,
            attempts=_message.c.attempts + 1,
            last_attempt_at=bindparam("now", type_=_message.c.last_attempt_at.type),
            provider=bindparam("provider"),
            lease_owner=bindparam("owner"),
            lease_generation=_message.c.lease_generation + 1,
            lease_until=bindparam("lease_until", type_=_message.c.lease_until.type),
        )
    )


def give_back(session: Session, owner: str, now: datetime, ids: Sequence[str]) -> None:
    """Claimed but never handed to the provider: as if it had not been claimed."""
    if not ids:
        return
    dialect = bulk.dialect(session)
    values = {"owner": owner, "now": now} | bulk.encode(dialect, _ids(ids))
    session.execute(_give_back_statement(dialect), values)


@cache
def _give_back_statement(dialect: str) -> Executable:
    rows = bulk.unpack(dialect, bulk.column_types(_message, "id"))
    return (
        update(_message)
        .where(
            _message.c.id.in_(select(rows.c.id)),
            _message.c.lease_owner == bindparam("owner"),
            is_still_in(MessageStatus.SENDING),
        )
        .values(
            status=MessageStatus.QUEUED,
            attempts=_message.c.attempts - 1,
            next_attempt_at=bindparam("now", type_=_message.c.next_attempt_at.type),
            lease_until=None,
        )
    )


def renew_leases(session: Session, owner: str, ids: Sequence[str], until: datetime) -> None:
    """Of the messages that `owner` knows to be on their way. One that it has lost track of runs out."""
    if ids:
        dialect = bulk.dialect(session)
        values = {"owner": owner, "until": until} | bulk.encode(dialect, _ids(ids))
        session.execute(_renew_statement(dialect), values)


@cache
def _renew_statement(dialect: str) -> Executable:
    rows = bulk.unpack(dialect, bulk.column_types(_message, "id"))
    # What is locked is being recorded at this moment: to wait for it in another order would be a deadlock.
    free = (
        select(_message.c.id)
        .where(
            _message.c.id.in_(select(rows.c.id)),
            is_still_in(MessageStatus.SENDING),
            _message.c.lease_owner == bindparam("owner"),
        )
        .with_for_update(skip_locked=True)
    )
    until = bindparam("until", type_=_message.c.lease_until.type)
    return update(_message).where(_message.c.id.in_(free)).values(lease_until=until)


class LostMessage(NamedTuple):
    id: str
    client_id: str | None
    attempts: int
    lease_owner: str


def expire_leases(session: Session, now: datetime) -> list[LostMessage]:
    """Messages whose worker has gone become IN_DOUBT: their call may have gone out."""
    ended = or_(_message.c.lease_until < now, _message.c.lease_until.is_(None))
    lost = select(_message.c.id).where(IS_SENDING, ended).with_for_update(skip_locked=True)
    statement = (
        update(_message)
        .where(_message.c.id.in_(lost))
        .values(
            status=MessageStatus.IN_DOUBT,
            error="the worker that sent it was lost before it recorded the answer",
            next_attempt_at=None,
        )
        .returning(*(_message.c[name] for name in LostMessage._fields))
    )
    return [LostMessage(*row) for row in session.execute(statement)]


def count_waiting(session: Session, channel: Channel) -> int:
    """How many messages wait for a worker, due or not."""
    statement = select(func.count()).select_from(_message).where(_message.c.channel == channel, IS_WAITING)
    return int(session.execute(statement).scalar_one())


def _ids(ids: Sequence[str]) -> list[dict[str, str]]:
    return [{"id": message_id} for message_id in ids]
