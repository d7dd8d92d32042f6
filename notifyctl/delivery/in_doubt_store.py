"""Messages that may have gone out: taken for an inquiry, and settled by what the provider knows."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import NamedTuple

from sqlalchemy import Executable, bindparam, or_, select, text, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.delivery.result_store import AttemptResult, encode_results, result_rows, write_results
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel, MessageStatus
from notifyctl.models.message import HAS_PROVIDER_ID, IS_IN_DOUBT, IS_SENDING, MessageLog, MessagePayload, is_still_in

_message = table(MessageLog)
_payload = table(MessagePayload)


def take(
    session: Session, channels: Collection[Channel], *, now: datetime, again_at: datetime, most: int
) -> Sequence[str]:
    """The ids of messages to ask about now. Others leave them alone until `again_at`."""
    due = (
        select(_message.c.id)
        .where(
            IS_IN_DOUBT,
            _message.c.channel.in_(list(channels)),
            or_(_message.c.next_attempt_at.is_(None), _message.c.next_attempt_at <= now),
        )
        .order_by(_message.c.last_attempt_at)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    ids = list(session.execute(due).scalars())
    session.execute(update(_message).where(_message.c.id.in_(ids)).values(next_attempt_at=again_at))
    return ids


class DoubtfulMessage(NamedTuple):
    """As it was sent, if it was."""

    id: str
    client_id: str | None
    channel: Channel
    template_key: str
    template_version: int
    recipient: str
    recipient_hash: str
    attempts: int
    lease_generation: int
    last_attempt_at: datetime
    provider: str
    error: str | None
    metadata: Mapping[str, object] | None
    context: str | None
    sealed: str | None
    key_id: str | None


def get(session: Session, message_id: str) -> DoubtfulMessage | None:
    """None when it is not in doubt any more. One at a time: a row may be beyond reading.

    All of the row is read, so that whoever settles it knows that people can look at it afterwards.
    """
    payload = (_payload.c.context, _payload.c.sealed, _payload.c.key_id)
    joined = select(_message, *payload).outerjoin(_payload, _payload.c.message_id == _message.c.id)
    row = session.execute(joined.where(_message.c.id == message_id, is_still_in(MessageStatus.IN_DOUBT))).one_or_none()
    return DoubtfulMessage(*(getattr(row, name) for name in DoubtfulMessage._fields)) if row is not None else None


def postpone(session: Session, message_id: str, *, again_at: datetime) -> None:
    statement = update(_message).where(_message.c.id == message_id, is_still_in(MessageStatus.IN_DOUBT))
    session.execute(statement.values(next_attempt_at=again_at))


def settle(session: Session, result: AttemptResult) -> bool:
    """False when an answer, a receipt or another inquiry was first."""
    dialect = bulk.dialect(session)
    return session.execute(_settle_statement(dialect), encode_results(dialect, [result])).first() is not None


@cache
def _settle_statement(dialect: str) -> Executable:
    rows = result_rows(dialect)
    fence = (is_still_in(MessageStatus.IN_DOUBT), _message.c.lease_generation == rows.c.lease_generation)
    return write_results(rows).where(*fence).returning(_message.c.id)


def held_elsewhere(session: Session, provider_message_ids: Collection[str], *, message_id: str) -> set[str]:
    """Which of these SMS belong to other messages."""
    statement = select(_message.c.provider_message_id).where(
        _message.c.channel == bindparam("channel", type_=_message.c.channel.type),
        HAS_PROVIDER_ID,
        _message.c.provider_message_id.in_(list(provider_message_ids)),
        _message.c.id != message_id,
    )
    return set(session.execute(statement, {"channel": Channel.SMS}).scalars())


def lock_provider_message_id(session: Session, provider_message_id: str) -> None:
    """Two inquiries that found the same SMS take turns until this transaction ends."""
    if bulk.dialect(session) != "sqlite":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:sid, 1))"), {"sid": provider_message_id})


def is_being_sent_to(session: Session, recipient_hash: str, *, but_not: str) -> bool:
    """Whether a worker is sending another message to the same recipient at this moment."""
    statement = select(_message.c.id).where(
        IS_SENDING,
        _message.c.recipient_hash == recipient_hash,
        _message.c.id != but_not,
    )
    return session.execute(statement.limit(1)).first() is not None
