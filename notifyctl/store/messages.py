"""The message rows as callers and operators see them: written at acceptance, read, withdrawn, queued again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, case, exists, func, or_, select, true, update
from sqlmodel import Session

from notifyctl.models.client import Client
from notifyctl.models.columns import oldest_message_id, table
from notifyctl.models.message import IDEMPOTENCY_INDEX, WAITING, MessageLog, MessagePayload, MessageStatus
from notifyctl.models.template import Channel
from notifyctl.store import bulk

_message = table(MessageLog)
_payload = table(MessagePayload)
_client = table(Client)


def by_idempotency_keys(session: Session, keys: Collection[str]) -> dict[str, Row[Any]]:
    """Blocked messages do not hold their keys."""
    if not keys:
        return {}
    dialect = bulk.dialect(session)
    if len(keys) == 1:
        asked = {"key": next(iter(keys))}
    else:
        asked = bulk.encode(dialect, [{"idempotency_key": key} for key in keys])
    found = session.execute(_by_idempotency_keys(dialect, len(keys) == 1), asked)
    return {row.idempotency_key: row for row in found}


@cache
def _by_idempotency_keys(dialect: str, single: bool) -> Any:
    key = _message.c.idempotency_key
    columns = (key, _message.c.id, _message.c.fingerprint, _message.c.status)
    asked = bulk.unpack(dialect, bulk.column_types(_message, "idempotency_key"))
    if single:
        return select(*columns).where(key == bindparam("key"), IDEMPOTENCY_INDEX)
    if dialect == "sqlite":
        return select(*columns).where(key.in_(select(asked.c.idempotency_key)), IDEMPOTENCY_INDEX)
    # One by one: asked for all of them at once, PostgreSQL reads the whole table as long as it is not very large.
    found = select(*columns).where(key == asked.c.idempotency_key, IDEMPOTENCY_INDEX).limit(1).lateral("found")
    return select(*found.c).select_from(asked.join(found, true()))


def insert(session: Session, messages: Sequence[Mapping[str, Any]]) -> set[str]:
    """Writes the rows and returns the ids of those that were written.

    A row is left out when another transaction has committed its idempotency key first; on PostgreSQL this waits for
    a transaction that is about to.
    """
    if not any(message["idempotency_key"] for message in messages):
        bulk.insert_rows(session, _message, messages)
        return {message["id"] for message in messages}
    dialect, shared = bulk.dialect(session), bulk.shared_names(messages)
    statement = _insert_unless_known(dialect, tuple(messages[0]), shared)
    return set(session.execute(statement, bulk.encode_shared(dialect, messages, shared)).scalars())


@lru_cache(maxsize=128)
def _insert_unless_known(dialect: str, names: tuple[str, ...], shared: frozenset[str]) -> Any:
    # The condition keeps SQLite from taking ON CONFLICT for that of a join.
    rows = bulk.unpack_shared(dialect, _message, names, shared).where(true())
    return (
        bulk.upsert(dialect, _message)
        .from_select(list(names), rows)
        .on_conflict_do_nothing(index_elements=["idempotency_key"], index_where=IDEMPOTENCY_INDEX)
        .returning(_message.c.id)
    )


def insert_payloads(session: Session, payloads: Sequence[Mapping[str, Any]]) -> None:
    bulk.insert_rows(session, _payload, payloads)


CLOCKS_DIFFER_BY = timedelta(minutes=10)
"""An id has its maker's time, and created_at the database's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which messages; None means any."""

    ids: Collection[str] | None = None
    status: MessageStatus | None = None
    reason: str | None = None
    channel: Channel | None = None
    template_key: str | None = None
    client_id: str | None = None
    recipient_hashes: Collection[str] | None = None
    key_prefix: str | None = None
    """How the idempotency key begins."""
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        exact = {"status": self.status, "reason": self.reason, "channel": self.channel}
        exact |= {"template_key": self.template_key, "client_id": self.client_id}
        found = [_message.c[name] == value for name, value in exact.items() if value is not None]
        if self.ids is not None:
            found.append(_message.c.id.in_(self.ids))
        if self.recipient_hashes is not None:
            found.append(_message.c.recipient_hash.in_(self.recipient_hashes))
        if self.key_prefix is not None:  # LIKE would not tell capitals apart on SQLite, and Stripe's ids have both
            found.append(func.substr(_message.c.idempotency_key, 1, len(self.key_prefix)) == self.key_prefix)
        if self.since is not None:
            found.append(_message.c.created_at >= self.since)
            found.append(_message.c.id >= oldest_message_id(self.since - CLOCKS_DIFFER_BY))
        if self.until is not None:
            found.append(_message.c.created_at < self.until)
        return found


def find(session: Session, wanted: Filter, *, limit: int, before: str | None = None) -> Sequence[Row[Any]]:
    """Newest first; only those that were made before the message of that id."""
    statement = select(_message).where(*wanted.conditions())
    if before is not None:
        statement = statement.where(_message.c.id < before)
    # Ids are made in the order of time, and have an index.
    return session.execute(statement.order_by(_message.c.id.desc()).limit(limit)).all()


def get(session: Session, message_id: str) -> Row[Any] | None:
    return session.execute(select(_message).where(_message.c.id == message_id)).one_or_none()


def count_by_status(session: Session, wanted: Filter) -> dict[MessageStatus, int]:
    statement = select(_message.c.status, func.count()).where(*wanted.conditions()).group_by(_message.c.status)
    return {status: count for status, count in session.execute(statement)}


def retryable(session: Session, wanted: Filter, *, now: datetime) -> dict[str, list[str]]:
    """FAILED messages by what stands in the way: "" for nothing, else the reason in words."""
    has_payload = exists().where(_payload.c.message_id == _message.c.id)
    obstacle = case(
        (_message.c.expires_at <= now, "their send-by time has passed"),
        (or_(~has_payload, _message.c.recipient.is_(None)), "their context was erased"),
        else_="",
    )
    statement = select(_message.c.id, obstacle).where(*wanted.conditions(), _message.c.status == MessageStatus.FAILED)
    found: dict[str, list[str]] = {}
    for message_id, why in session.execute(statement):
        found.setdefault(why, []).append(message_id)
    return found


def with_clients(session: Session, ids: Collection[str]) -> Sequence[Row[Any]]:
    """With their clients' facts, named as in store.outbox.lock_due; oldest first."""
    facts = (_client.c[name] for name in CLIENT_FACTS)
    statement = select(_message, _client.c.id.label("known_client_id"), *facts)
    known = and_(_client.c.id == _message.c.client_id, _client.c.erased_at.is_(None))
    found = statement.select_from(_message).outerjoin(_client, known).where(_message.c.id.in_(ids))
    return session.execute(found.order_by(_message.c.id)).all()


CLIENT_FACTS = (
    "email", "phone_e164", "plan", "provisioning_status", "subscription_status", "sms_enabled", "timezone",
)  # fmt: skip
"""What the gates ask of a client."""


def requeue(session: Session, ids: Sequence[str], *, now: datetime) -> list[Row[Any]]:
    """FAILED messages wait for a worker again, with all their retries before them."""
    values: dict[str, Any] = {"status": MessageStatus.QUEUED, "attempts": 0, "next_attempt_at": now}
    cleared = dict.fromkeys(("reason", "error_code", "error", "finished_at", "provider_message_id"))
    return _move(session, ids, [MessageStatus.FAILED], values | cleared)


def cancel(session: Session, wanted: Filter, *, now: datetime) -> list[Row[Any]]:
    """Messages that still wait are withdrawn. One that a worker holds is not."""
    values = {"status": MessageStatus.CANCELED, "finished_at": now, "next_attempt_at": None}
    statement = update(_message).where(*wanted.conditions(), _message.c.status.in_(WAITING)).values(values)
    return list(session.execute(statement.returning(_message.c.id, _message.c.client_id)).all())


UNTRIED = (MessageStatus.QUEUED, MessageStatus.DEFERRED_THROTTLED)
"""Where nobody has seen anything of a message that has no attempts."""


def untried(
    session: Session, client_id: str, template_keys: Collection[str], *, ids: Collection[str] | None = None
) -> Sequence[Row[Any]]:
    """Messages of these templates to a client that wait for their first attempt, and have an idempotency key."""
    conditions = [_message.c.client_id == client_id, _message.c.template_key.in_(template_keys), *_is_untried()]
    if ids is not None:
        conditions.append(_message.c.id.in_(ids))
    chosen = select(_message).where(*conditions, _message.c.idempotency_key.is_not(None))
    return session.execute(chosen.order_by(_message.c.id)).all()


def rewrite(session: Session, message_id: str, fingerprint: str, payload: Mapping[str, Any]) -> bool:
    """False when somebody has begun to send it."""
    statement = update(_message).where(_message.c.id == message_id, *_is_untried())
    found = session.execute(statement.values(fingerprint=fingerprint).returning(_message.c.id)).one_or_none()
    if found is not None:
        values = {name: value for name, value in payload.items() if name != "message_id"}
        session.execute(update(_payload).where(_payload.c.message_id == message_id).values(**values))
    return found is not None


def set_due(session: Session, message_id: str, at: datetime) -> None:
    """When the first attempt may be made."""
    statement = update(_message).where(_message.c.id == message_id, *_is_untried())
    session.execute(statement.values(next_attempt_at=at))


def give_key_back(session: Session, ids: Collection[str]) -> None:
    """Another message may have their idempotency keys."""
    session.execute(update(_message).where(_message.c.id.in_(ids)).values(idempotency_key=None))


def _is_untried() -> list[ColumnElement[bool]]:
    return [_message.c.status.in_(UNTRIED), _message.c.attempts == 0]


def _move(
    session: Session, ids: Sequence[str], start: Sequence[MessageStatus], values: Mapping[str, Any]
) -> list[Row[Any]]:
    moved: list[Row[Any]] = []
    for first in range(0, len(ids), 1_000):
        chosen = _message.c.id.in_(ids[first : first + 1_000])
        # Erased since it was chosen: there is nobody to send it to, and nothing to say.
        whole = and_(_message.c.recipient.is_not(None), exists().where(_payload.c.message_id == _message.c.id))
        statement = update(_message).where(chosen, whole, _message.c.status.in_(start)).values(values)
        moved += session.execute(statement.returning(_message.c.id, _message.c.client_id)).all()
    return moved
