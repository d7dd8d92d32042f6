"""The message rows as a worker sees them: what is due, claimed under a lease, and recorded behind its fence."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Row, Table, and_, bindparam, delete, func, select, text, update
from sqlmodel import Session

from notifyctl.models.client import Client
from notifyctl.models.message import WAITING, MessageLog, MessagePayload, MessageStatus
from notifyctl.models.template import Channel, Lane
from notifyctl.store import bulk

_message: Table = MessageLog.__table__  # type: ignore[attr-defined]
_payload: Table = MessagePayload.__table__  # type: ignore[attr-defined]
_client: Table = Client.__table__  # type: ignore[attr-defined]

# Spelled out rather than bound: a partial index is used only if its condition can be read in the statement.
_WAITING = text("message_log.status IN ({})".format(", ".join(f"'{status}'" for status in WAITING)))
_SENDING = text(f"message_log.status = '{MessageStatus.SENDING}'")


def lock_due(session: Session, channel: Channel, *, now: datetime, limit: int) -> list[Row[Any]]:
    """Up to `limit` messages that are due, urgent ones first, locked until the transaction ends.

    Each row has the message's columns, its payload and its client's facts (`known_client_id` is None when it has no
    client, or it is gone). Rows that another worker has locked are passed over.
    """
    found: list[Row[Any]] = []
    for lane in Lane:
        if len(found) < limit:
            values = {"channel": channel, "lane": lane, "now": now, "limit": limit - len(found)}
            found += session.execute(_due_statement(), values)
    return found


def anything_due(session: Session, channel: Channel, *, now: datetime) -> bool:
    values = {"channel": channel, "now": now}
    return any(session.execute(_first_due_statement(), values | {"lane": lane}).first() for lane in Lane)


@cache
def _first_due_statement() -> Any:
    return select(_message.c.id).where(*_is_due()).limit(1)


def _is_due() -> tuple[Any, ...]:
    return (
        _message.c.channel == bindparam("channel", type_=_message.c.channel.type),
        _message.c.lane == bindparam("lane", type_=_message.c.lane.type),
        _message.c.next_attempt_at <= bindparam("now", type_=_message.c.next_attempt_at.type),
        _WAITING,
    )


@cache
def _due_statement() -> Any:
    picked = (
        select(_message)
        .where(*_is_due())
        .order_by(_message.c.next_attempt_at)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    return (
        select(
            picked,
            _payload.c.context,
            _payload.c.sealed,
            _payload.c.key_id,
            _client.c.id.label("known_client_id"),
            _client.c.email,
            _client.c.phone_e164,
            _client.c.plan,
            _client.c.provisioning_status,
            _client.c.subscription_status,
            _client.c.sms_enabled,
        )
        .select_from(picked)
        .outerjoin(_payload, _payload.c.message_id == picked.c.id)
        .outerjoin(_client, and_(_client.c.id == picked.c.client_id, _client.c.erased_at.is_(None)))
    )


def claim(
    session: Session, ids: Sequence[str], *, owner: str, provider: str, now: datetime, lease_until: datetime
) -> None:
    """Marks locked messages as being sent by `owner`. Once committed, this is the journal of what may have gone out."""
    dialect = session.get_bind().dialect.name
    values = {"owner": owner, "provider": provider, "now": now, "lease_until": lease_until}
    session.execute(_claim_statement(dialect), values | bulk.encode(dialect, [{"id": found} for found in ids]))


@cache
def _claim_statement(dialect: str) -> Any:
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


RECORDED = (
    "status",
    "reason",
    "error_code",
    "error",
    "subject",
    "provider_message_id",
    "next_attempt_at",
    "sent_at",
    "finished_at",
)
"""What a finished attempt, or a refusal just before it, writes on the row."""


def close_unclaimed(session: Session, outcomes: Sequence[Mapping[str, Any]]) -> None:
    """Writes what became of locked messages that are not to be sent: `id` and all of RECORDED."""
    if outcomes:
        dialect = session.get_bind().dialect.name
        session.execute(_record_statement(dialect, False), bulk.encode(dialect, outcomes))


def record(session: Session, owner: str, outcomes: Sequence[Mapping[str, Any]]) -> set[str]:
    """Writes the outcome of claimed messages: `id`, `lease_generation` and all of RECORDED. Returns the ids written.

    The fence: a message that was claimed again since, or is another worker's, is left as it is. One that was only
    declared in doubt meanwhile is still ours to settle.
    """
    dialect = session.get_bind().dialect.name
    values = {"owner": owner} | bulk.encode(dialect, outcomes)
    return set(session.execute(_record_statement(dialect, True), values).scalars())


@cache
def _record_statement(dialect: str, fenced: bool) -> Any:
    names = ("id", "lease_generation", *RECORDED) if fenced else ("id", *RECORDED)
    rows = bulk.unpack(dialect, bulk.column_types(_message, *names))
    statement = update(_message).where(_message.c.id == rows.c.id)
    if fenced:
        statement = statement.where(
            _message.c.status.in_([MessageStatus.SENDING, MessageStatus.IN_DOUBT]),
            _message.c.lease_owner == bindparam("owner"),
            _message.c.lease_generation == rows.c.lease_generation,
        ).returning(_message.c.id)
    written = {name: rows.c[name] for name in RECORDED if name != "subject"}
    subject = func.coalesce(rows.c.subject, _message.c.subject)
    return statement.values(**written, subject=subject, lease_until=None)


def give_back(session: Session, owner: str, now: datetime, ids: Sequence[str]) -> None:
    """Claimed but never handed to the provider: as if it had not been claimed."""
    dialect = session.get_bind().dialect.name
    values = {"owner": owner, "now": now} | bulk.encode(dialect, [{"id": found} for found in ids])
    session.execute(_give_back_statement(dialect), values)


@cache
def _give_back_statement(dialect: str) -> Any:
    rows = bulk.unpack(dialect, bulk.column_types(_message, "id"))
    return (
        update(_message)
        .where(
            _message.c.id.in_(select(rows.c.id)),
            _message.c.lease_owner == bindparam("owner"),
            _message.c.status == MessageStatus.SENDING,
        )
        .values(
            status=MessageStatus.QUEUED,
            attempts=_message.c.attempts - 1,
            next_attempt_at=bindparam("now", type_=_message.c.next_attempt_at.type),
            lease_until=None,
        )
    )


def erase_payloads(session: Session, ids: Sequence[str]) -> None:
    if ids:
        dialect = session.get_bind().dialect.name
        session.execute(_erase_statement(dialect), bulk.encode(dialect, [{"id": found} for found in ids]))


@cache
def _erase_statement(dialect: str) -> Any:
    rows = bulk.unpack(dialect, bulk.column_types(_message, "id"))
    return delete(_payload).where(_payload.c.message_id.in_(select(rows.c.id)))


def renew_leases(session: Session, owner: str, until: datetime) -> None:
    statement = update(_message).where(_SENDING, _message.c.lease_owner == owner).values(lease_until=until)
    session.execute(statement)


def expire_leases(session: Session, now: datetime) -> Sequence[Row[Any]]:
    """Messages whose worker has gone become IN_DOUBT: their call may have gone out."""
    statement = (
        update(_message)
        .where(_SENDING, _message.c.lease_until < now)
        .values(
            status=MessageStatus.IN_DOUBT,
            error="the worker that sent it was lost before it recorded the answer",
        )
        .returning(_message.c.id, _message.c.client_id, _message.c.attempts, _message.c.lease_owner)
    )
    return session.execute(statement).all()
