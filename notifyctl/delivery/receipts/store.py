"""Receipts in the store: the message that one is about, what it moves, and what is kept of one that came too early."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import NamedTuple

from sqlalchemy import ColumnElement, Executable, Select, and_, delete, insert, or_, select, true, union_all, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.delivery.result_store import RECORDED, AttemptResult
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel, FailureReason, MessageStatus
from notifyctl.models.message import FINAL, HAS_PROVIDER_ID, IS_UNCONFIRMED, MessageLog, predecessors
from notifyctl.models.receipt import EarlyReceipt, ReceiptInquiry, SeenEvent
from notifyctl.models.template import NotificationTemplate

_message = table(MessageLog)
_template = table(NotificationTemplate)
_early = table(EarlyReceipt)
_seen = table(SeenEvent)
_inquiry = table(ReceiptInquiry)

IN_TIME = (*FINAL, MessageStatus.IN_DOUBT)
"""What a receipt may find; anywhere else our own record of the sending is still to come."""


class ReceivedMessage(NamedTuple):
    """A message that a receipt is about, locked, with what its template says of secrets and of the audit."""

    id: str
    client_id: str | None
    recipient: str | None
    status: MessageStatus
    reason: str | None
    attempts: int
    provider_message_id: str | None
    last_attempt_at: datetime | None
    sent_at: datetime | None
    metadata: Mapping[str, object] | None
    sensitive: bool | None
    """None where its template is gone."""
    audit_sent: str | None


_OF_MESSAGE = ReceivedMessage._fields[: ReceivedMessage._fields.index("sensitive")]


def lock_message(
    session: Session, channel: Channel, *, message_id: str | None, provider_message_id: str | None
) -> ReceivedMessage | None:
    """By our id, or else by the provider's. Locked until the transaction ends."""
    is_it: ColumnElement[bool]
    if message_id is not None:
        is_it = _message.c.id == message_id
    elif provider_message_id is not None:
        is_it = and_(HAS_PROVIDER_ID, _message.c.provider_message_id == provider_message_id)
    else:
        return None
    statement = (
        select(*(_message.c[name] for name in _OF_MESSAGE), _template.c.sensitive, _template.c.audit_sent)
        .outerjoin(_template, _template.c.template_key == _message.c.template_key)
        .where(is_it, _message.c.channel == channel)
        .with_for_update(of=_message)
    )
    row = session.execute(statement).first()
    return ReceivedMessage(*row) if row is not None else None


def move(session: Session, result: AttemptResult) -> bool:
    """False when the message may not go there from where it is."""
    before = [status for status in predecessors(result.status) if status in IN_TIME]
    failed = _message.c.status == MessageStatus.FAILED
    statement = update(_message).where(
        _message.c.id == result.id,
        _message.c.status.in_(before),
        or_(~failed, _message.c.reason == FailureReason.IN_DOUBT_HELD),
    )
    values = {name: getattr(result, name) for name in RECORDED}
    written = statement.values(**values, lease_until=None).returning(_message.c.id)
    return session.execute(written).first() is not None


def see(session: Session, event_id: str, now: datetime) -> bool:
    """Notes an event. False when it was known."""
    statement = bulk.upsert(session, _seen).values(event_id=event_id, seen_at=now).on_conflict_do_nothing()
    return session.execute(statement.returning(_seen.c.event_id)).first() is not None


def forget_seen(session: Session, before: datetime) -> int:
    """How many events were forgotten."""
    return session.exec(delete(_seen).where(_seen.c.seen_at < before)).rowcount


def keep(
    session: Session,
    *,
    provider: str,
    message_id: str | None,
    provider_message_id: str | None,
    receipt: Mapping[str, object],
    now: datetime,
) -> None:
    values = {"provider": provider, "message_id": message_id, "provider_message_id": provider_message_id}
    session.execute(insert(_early).values(**values, receipt=receipt, received_at=now))


class KeptReceipt(NamedTuple):
    id: int
    receipt: Mapping[str, object]
    received_at: datetime


def kept_in_time(session: Session, *, most: int) -> list[KeptReceipt]:
    """Those whose message has come far enough by now, in their order."""
    by_our_id = _kept().join(_message, _message.c.id == _early.c.message_id)
    same = and_(HAS_PROVIDER_ID, _message.c.provider_message_id == _early.c.provider_message_id)
    by_its_id = _kept().join(_message, same).where(_early.c.message_id.is_(None))
    kept = union_all(by_our_id.where(_is_in_time), by_its_id.where(_is_in_time)).subquery()
    return [KeptReceipt(*row) for row in session.execute(select(kept).order_by(kept.c.id).limit(most))]


def _kept() -> Select[*tuple[object, ...]]:
    return select(*(_early.c[name] for name in KeptReceipt._fields)).select_from(_early)


_is_in_time = _message.c.status.in_(IN_TIME)


def take(session: Session, early_id: int) -> bool:
    """Locks a kept receipt. False when another worker has it or had it."""
    statement = select(_early.c.id).where(_early.c.id == early_id).with_for_update(skip_locked=True)
    return session.execute(statement).first() is not None


def discard(session: Session, early_id: int) -> None:
    session.execute(delete(_early).where(_early.c.id == early_id))


def has_kept_since(session: Session, before: datetime) -> bool:
    """Whether one is still kept that came before this moment."""
    return session.execute(select(_early.c.id).where(_early.c.received_at < before).limit(1)).first() is not None


def drop_kept(session: Session, before: datetime) -> int:
    return session.exec(delete(_early).where(_early.c.received_at < before)).rowcount


class UnconfirmedMessage(NamedTuple):
    id: str
    provider: str
    provider_message_id: str
    sent_at: datetime


def without_receipt(
    session: Session, channel: Channel, *, sent_before: datetime, sent_since: datetime, now: datetime, most: int
) -> list[UnconfirmedMessage]:
    """Messages that are SENT and that nobody is to ask about before later; oldest first."""
    statement = (
        select(*(_message.c[name] for name in UnconfirmedMessage._fields))
        .outerjoin(_inquiry, _inquiry.c.message_id == _message.c.id)
        .where(
            IS_UNCONFIRMED,
            _message.c.channel == channel,
            _message.c.sent_at >= sent_since,
            _message.c.sent_at < sent_before,
            HAS_PROVIDER_ID,
            or_(_inquiry.c.ask_again_at.is_(None), _inquiry.c.ask_again_at <= now),
        )
        .order_by(_message.c.sent_at)
        .limit(most)
    )
    return [UnconfirmedMessage(*row) for row in session.execute(statement)]


def ask_again_at(session: Session, when: Mapping[str, datetime]) -> None:
    """Nobody asks about these messages before then."""
    if when:
        dialect = bulk.dialect(session)
        rows = [{"message_id": message_id, "ask_again_at": moment} for message_id, moment in when.items()]
        session.execute(_ask_again_statement(dialect), bulk.encode(dialect, rows))


@cache
def _ask_again_statement(dialect: str) -> Executable:
    names = ["message_id", "ask_again_at"]
    rows = bulk.unpack(dialect, bulk.column_types(_inquiry, *names))
    statement = bulk.upsert(dialect, _inquiry).from_select(names, select(*rows.c).where(true()))
    later = {"ask_again_at": statement.excluded.ask_again_at}
    return statement.on_conflict_do_update(index_elements=["message_id"], set_=later)


def forget_inquiries(session: Session, before: datetime) -> None:
    session.execute(delete(_inquiry).where(_inquiry.c.ask_again_at < before))
