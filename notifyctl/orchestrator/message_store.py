"""The message rows as callers and operators see them: written at acceptance, read, withdrawn, queued again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Executable,
    String,
    TextClause,
    Update,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.client import AddressedClient, Client
from notifyctl.models.columns import oldest_message_id, table
from notifyctl.models.enums import Audience, Channel, Lane, MessageStatus
from notifyctl.models.message import HAS_REASON, IDEMPOTENCY_INDEX, WAITING, MessageLog, MessagePayload, is_in
from notifyctl.models.template import NotificationTemplate

_message = table(MessageLog)
_payload = table(MessagePayload)
_client = table(Client)
_template = table(NotificationTemplate)
CLOCKS_DIFFER_BY = timedelta(minutes=10)
"""An id has its maker's time, and created_at the database's."""
DIGITS_OF_MILLISECOND = 12
"""With which an id begins: whoever gives them means a beginning."""


class MessageRow(NamedTuple):
    """A message with all its columns, in their order."""

    id: str
    idempotency_key: str | None
    fingerprint: str | None
    client_id: str | None
    channel: Channel
    audience: Audience
    template_key: str
    template_version: int
    recipient: str | None
    recipient_hash: str | None
    subject: str | None
    source: str
    source_ref: str | None
    rate_subject: str
    status: MessageStatus
    reason: str | None
    error_code: str | None
    error: str | None
    attempts: int
    lane: Lane
    next_attempt_at: datetime | None
    expires_at: datetime | None
    throttled_at: datetime | None
    last_attempt_at: datetime | None
    provider: str | None
    provider_message_id: str | None
    created_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    finished_at: datetime | None
    metadata: dict[str, object] | None
    lease_owner: str | None
    lease_generation: int
    lease_until: datetime | None
    language: str | None


class KeyedMessage(NamedTuple):
    """A message that holds an idempotency key."""

    idempotency_key: str
    id: str
    fingerprint: str
    status: MessageStatus


class MovedMessage(NamedTuple):
    """A message whose status was changed."""

    id: str
    client_id: str | None


_Condition: TypeAlias = ColumnElement[bool] | TextClause
Row: TypeAlias = Mapping[str, object]
"""What is written of a row, by the names of its columns."""


def by_idempotency_keys(session: Session, keys: Collection[str]) -> dict[str, KeyedMessage]:
    """Blocked messages do not hold their keys."""
    if not keys:
        return {}
    dialect = bulk.dialect(session)
    if len(keys) == 1:
        parameters = {"key": next(iter(keys))}
    else:
        parameters = bulk.encode(dialect, [{"idempotency_key": key} for key in keys])
    rows = session.execute(_by_idempotency_keys(dialect, len(keys) == 1), parameters)
    return {row.idempotency_key: row for row in (KeyedMessage(*row) for row in rows)}


@cache
def _by_idempotency_keys(dialect: str, single: bool) -> Executable:
    key = _message.c.idempotency_key
    columns = [_message.c[name] for name in KeyedMessage._fields]
    keys = bulk.unpack(dialect, bulk.column_types(_message, "idempotency_key"))
    if single:
        return select(*columns).where(key == bindparam("key"), IDEMPOTENCY_INDEX)
    if dialect == "sqlite":
        return select(*columns).where(key.in_(select(keys.c.idempotency_key)), IDEMPOTENCY_INDEX)
    # One by one: asked for all of them at once, PostgreSQL reads the whole table as long as it is not very large.
    one = select(*columns).where(key == keys.c.idempotency_key, IDEMPOTENCY_INDEX).limit(1).lateral("one")
    return select(*one.c).select_from(keys.join(one, true()))


def insert(session: Session, messages: Sequence[Row]) -> set[str]:
    """Writes the rows and returns the ids of those that were written.

    A row is left out when another transaction has committed its idempotency key first; on PostgreSQL this waits for
    a transaction that is about to.
    """
    if not any(message["idempotency_key"] for message in messages):
        bulk.insert_rows(session, _message, messages)
        return {str(message["id"]) for message in messages}
    dialect, shared = bulk.dialect(session), bulk.shared_names(messages)
    statement = _insert_unless_known(dialect, tuple(messages[0]), shared)
    return set(session.execute(statement, bulk.encode_shared(dialect, messages, shared)).scalars())


@lru_cache(maxsize=128)
def _insert_unless_known(dialect: str, names: tuple[str, ...], shared: frozenset[str]) -> Executable:
    # The condition keeps SQLite from taking ON CONFLICT for that of a join.
    rows = bulk.unpack_shared(dialect, _message, names, shared).where(true())
    return (
        bulk.upsert(dialect, _message)
        .from_select(list(names), rows)
        .on_conflict_do_nothing(index_elements=["idempotency_key"], index_where=IDEMPOTENCY_INDEX)
        .returning(_message.c.id)
    )


def insert_payloads(session: Session, payloads: Sequence[Row]) -> None:
    bulk.insert_rows(session, _payload, payloads)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Which messages; None means any."""

    ids: Collection[str] | None = None
    status: MessageStatus | None = None
    reason: str | None = None
    channel: Channel | None = None
    template_key: str | None = None
    client_id: str | None = None
    lane: Lane | None = None
    recipient_hashes: Collection[str] | None = None
    key_prefix: str | None = None
    """How the idempotency key begins."""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_by_template(self) -> bool:
        """Nothing else is asked that few messages have in common; a channel is that of its templates."""
        chosen = {field.name for field in fields(self) if getattr(self, field.name) is not None}
        return bool(chosen & {"template_key", "channel"}) and chosen <= {"template_key", "channel", "since", "until"}

    def conditions(self) -> list[_Condition]:
        exact = {name: getattr(self, name) for name in ("channel", "template_key", "client_id", "lane")}
        chosen: list[_Condition] = [_message.c[name] == value for name, value in exact.items() if value is not None]
        if self.status is not None:
            chosen.append(is_in(self.status))
        if self.reason is not None:
            chosen += [HAS_REASON, _message.c.reason == self.reason]
        if self.ids is not None:
            chosen.append(_message.c.id.in_(self.ids))
        if self.recipient_hashes is not None:
            chosen.append(_message.c.recipient_hash.in_(self.recipient_hashes))
        if self.key_prefix is not None:  # LIKE would not tell capitals apart on SQLite, and Stripe's ids have both
            chosen.append(func.substr(_message.c.idempotency_key, 1, len(self.key_prefix)) == self.key_prefix)
        if self.since is not None:
            chosen.append(_message.c.created_at >= self.since)
            chosen.append(_message.c.id >= oldest_message_id(self.since - CLOCKS_DIFFER_BY))
        if self.until is not None:
            chosen.append(_message.c.created_at < self.until)
            chosen.append(_message.c.id < oldest_message_id(self.until + CLOCKS_DIFFER_BY))
        return chosen


def find(session: Session, criteria: MessageFilter, *, limit: int, before: str | None = None) -> list[MessageRow]:
    """Newest first; only those that were made before the message of that id."""
    earlier = [_message.c.id < before] if before is not None else []
    statement = select(_message).where(*criteria.conditions(), *earlier)
    by_id, key = _message.c.id.desc(), _message.c.template_key
    if not criteria.is_by_template:  # ids are made in the order of time, and have an index
        return _rows(session, statement.order_by(by_id).limit(limit))
    of_channel = select(_template.c.template_key).where(_template.c.channel == criteria.channel)
    keys = [criteria.template_key] if criteria.template_key else session.execute(of_channel).scalars().all()
    # The order of a span is that of the one index by template: for a single key all might be read by id.
    newest = statement.order_by(key.desc(), by_id).limit(limit)
    together = union_all(*(select(newest.where(key.between(one, one)).subquery()) for one in keys or [""])).subquery()
    return _rows(session, select(together).order_by(together.c.id.desc()).limit(limit))


def ids_like(session: Session, digits: str, limit: int, *, newest: int) -> list[str]:
    """Those that begin or end with these, the newest first. An end is looked for among the `newest`, then anywhere."""
    first, last = (str(UUID(digits.ljust(32, filler))) for filler in "0f")
    ids = select(_message.c.id).order_by(_message.c.id.desc())
    begin_so = list(session.execute(ids.where(_message.c.id.between(first, last)).limit(limit)).scalars())
    if len(begin_so) == limit or (begin_so and len(digits) >= DIGITS_OF_MILLISECOND):
        return begin_so
    end_so: list[str] = []
    for of in (ids.limit(newest).subquery().c.id, _message.c.id):
        ends = func.replace(cast(of, String), "-", "").endswith(digits)
        end_so = end_so or list(session.execute(select(of).where(ends).order_by(of.desc()).limit(limit)).scalars())
        if begin_so or end_so:
            break
    return sorted({*begin_so, *end_so}, reverse=True)[:limit]


def get(session: Session, message_id: str) -> MessageRow | None:
    return next(iter(_rows(session, select(_message).where(_message.c.id == message_id))), None)


def _rows(session: Session, statement: Executable) -> list[MessageRow]:
    return [MessageRow._make(row) for row in session.execute(statement)]


def count_by_status(session: Session, criteria: MessageFilter) -> dict[MessageStatus, int]:
    statement = select(_message.c.status, func.count()).where(*criteria.conditions()).group_by(_message.c.status)
    return {status: count for status, count in session.execute(statement)}


def retryable(session: Session, criteria: MessageFilter, *, now: datetime) -> dict[str, list[str]]:
    """FAILED messages by what stands in the way: "" for nothing, else the reason in words."""
    has_payload = exists().where(_payload.c.message_id == _message.c.id)
    obstacle = case(
        (_message.c.expires_at <= now, "their send-by time has passed"),
        (or_(~has_payload, _message.c.recipient.is_(None)), "their context was erased"),
        else_="",
    )
    statement = select(_message.c.id, obstacle).where(*criteria.conditions(), _message.c.status == MessageStatus.FAILED)
    by_obstacle: dict[str, list[str]] = {}
    for message_id, why in session.execute(statement):
        by_obstacle.setdefault(why, []).append(message_id)
    return by_obstacle


class FailedMessage(NamedTuple):
    """A message that may be queued again."""

    id: str
    client_id: str | None
    channel: Channel
    template_key: str
    recipient: str | None
    created_at: datetime
    client: AddressedClient | None
    """None when it has no client, or the client is gone."""


_OF_MESSAGE = FailedMessage._fields[:-1]


def with_clients(session: Session, ids: Collection[str]) -> list[FailedMessage]:
    """Oldest first."""
    columns = (_message.c[name] for name in _OF_MESSAGE)
    client = (_client.c[name] for name in AddressedClient._fields)
    known = and_(_client.c.id == _message.c.client_id, _client.c.erased_at.is_(None))
    statement = select(*columns, *client).select_from(_message).outerjoin(_client, known)
    rows = session.execute(statement.where(_message.c.id.in_(ids)).order_by(_message.c.id))
    at = len(_OF_MESSAGE)
    return [FailedMessage._make((*row[:at], AddressedClient.of(row[at:]))) for row in rows]


def requeue(session: Session, ids: Sequence[str], *, now: datetime) -> list[MovedMessage]:
    """FAILED messages wait for a worker again, with all their retries before them."""
    values: dict[str, object] = {"status": MessageStatus.QUEUED, "attempts": 0, "next_attempt_at": now}
    cleared = dict.fromkeys(("reason", "error_code", "error", "finished_at", "provider_message_id"))
    return _move(session, ids, [MessageStatus.FAILED], values | cleared)


def cancel_waiting(session: Session, criteria: MessageFilter, *, now: datetime) -> list[MovedMessage]:
    """Messages that still wait are withdrawn. One that a worker holds is not."""
    values = {"status": MessageStatus.CANCELED, "finished_at": now, "next_attempt_at": None}
    statement = update(_message).where(*criteria.conditions(), _message.c.status.in_(WAITING)).values(values)
    return _moved(session, statement)


UNTRIED = (MessageStatus.QUEUED, MessageStatus.DEFERRED_THROTTLED)
"""Where nobody has seen anything of a message that has no attempts."""


class UntriedMessage(NamedTuple):
    """A mail of an event that waits for its first attempt."""

    id: str
    client_id: str
    idempotency_key: str
    fingerprint: str
    source_ref: str
    next_attempt_at: datetime


def untried(session: Session, client_ids: Collection[str], template_keys: Collection[str]) -> list[UntriedMessage]:
    """Messages of these templates to clients that wait for their first attempt, and have an idempotency key."""
    conditions = [_message.c.client_id.in_(client_ids), _message.c.template_key.in_(template_keys), *_is_untried()]
    columns = (_message.c[name] for name in UntriedMessage._fields)
    chosen = select(*columns).where(*conditions, _message.c.idempotency_key.is_not(None))
    return [UntriedMessage(*row) for row in session.execute(chosen.order_by(_message.c.id))]


def rewrite(session: Session, message_id: str, fingerprint: str, payload: Row) -> bool:
    """False when somebody has begun to send it."""
    statement = update(_message).where(_message.c.id == message_id, *_is_untried())
    if not session.exec(statement.values(fingerprint=fingerprint)).rowcount:
        return False
    values = {name: value for name, value in payload.items() if name != "message_id"}
    session.execute(update(_payload).where(_payload.c.message_id == message_id).values(**values))
    return True


def set_due(session: Session, message_id: str, at: datetime) -> None:
    """When the first attempt may be made."""
    session.execute(update(_message).where(_message.c.id == message_id, *_is_untried()).values(next_attempt_at=at))


def give_key_back(session: Session, ids: Collection[str]) -> None:
    """Another message may have their idempotency keys."""
    session.execute(update(_message).where(_message.c.id.in_(ids)).values(idempotency_key=None))


def _is_untried() -> list[ColumnElement[bool]]:
    return [_message.c.status.in_(UNTRIED), _message.c.attempts == 0]


def _move(session: Session, ids: Sequence[str], start: Sequence[MessageStatus], values: Row) -> list[MovedMessage]:
    moved: list[MovedMessage] = []
    for first in range(0, len(ids), 1_000):
        chosen = _message.c.id.in_(ids[first : first + 1_000])
        # Erased since it was chosen: there is nobody to send it to, and nothing to say.
        whole = and_(_message.c.recipient.is_not(None), exists().where(_payload.c.message_id == _message.c.id))
        statement = update(_message).where(chosen, whole, _message.c.status.in_(start)).values(values)
        moved += _moved(session, statement)
    return moved


def _moved(session: Session, statement: Update) -> list[MovedMessage]:
    rows = session.execute(statement.returning(*(_message.c[name] for name in MovedMessage._fields)))
    return [MovedMessage(*row) for row in rows]
