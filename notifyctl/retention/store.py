"""What may be forgotten, a few rows at a time in the order of the ids; and what the other tables know of a client."""

from collections.abc import Collection
from datetime import datetime
from functools import cache

from sqlalchemy import ColumnElement, Executable, Select, and_, delete, exists, func, or_, select, tuple_, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.alerts import ComplianceItem
from notifyctl.models.columns import oldest_message_id, table
from notifyctl.models.enums import Audience
from notifyctl.models.message import FINAL, MessageLog, MessagePayload
from notifyctl.models.otp import OtpChallenge, OtpSubject
from notifyctl.models.receipt import ReceiptInquiry, SeenEvent, Suppression
from notifyctl.models.stripe_event import SETTLED, StripeEvent
from notifyctl.models.template import NotificationTemplate
from notifyctl.orchestrator import payload_store
from notifyctl.orchestrator.message_store import CLOCKS_DIFFER_BY

_message = table(MessageLog)
_payload = table(MessagePayload)
_suppression = table(Suppression)
_compliance = table(ComplianceItem)
_challenge = table(OtpChallenge)
_subject = table(OtpSubject)
_event = table(StripeEvent)
_seen = table(SeenEvent)
_inquiry = table(ReceiptInquiry)
_template = table(NotificationTemplate)
_ended_at = func.coalesce(_message.c.finished_at, _message.c.sent_at, _message.c.created_at)

COUNTED_AT_MOST = 1_000_000
"""What there is of more takes minutes to count, and nobody needs to the last one."""

Addresses = Collection[tuple[str, str]]
"""(channel, hash) of the client's own addresses."""


def to_addresses_alone(session: Session, own: Addresses) -> list[str]:
    """Ids of messages to these addresses that name no client (one-time codes) and are not final."""
    statement = select(_message.c.id).where(_is_to_address_alone(own), _message.c.status.not_in(FINAL))
    return list(session.execute(statement).scalars())


def delete_payloads(session: Session, client_id: str, own: Addresses) -> int:
    final = select(_message.c.id).where(*_is_final(client_id, own))
    return session.exec(delete(_payload).where(_payload.c.message_id.in_(final))).rowcount


def clear_messages(session: Session, client_id: str, own: Addresses) -> int:
    """The provider's words go too: they quote the address that it could not reach."""
    has_data = or_(_message.c.recipient.is_not(None), _message.c.subject.is_not(None), _message.c.error.is_not(None))
    statement = update(_message).where(*_is_final(client_id, own), has_data)
    return session.exec(statement.values(recipient=None, subject=None, error=None)).rowcount


def count_in_flight(session: Session, client_id: str) -> int:
    """Messages that a worker holds, or that may have gone out: they need their address until it is known."""
    statement = select(func.count()).select_from(_message)
    unsettled = statement.where(_message.c.client_id == client_id, _message.c.status.not_in(FINAL))
    return int(session.execute(unsettled).scalar_one())


def clear_suppressions(session: Session, client_id: str, own: Addresses) -> int:
    """Of its addresses, and of those that its messages went to.

    The rows stay, and with them the hash that blocks. Notes go, since they quote bounces.
    """
    key = tuple_(_suppression.c.channel, _suppression.c.recipient_hash)
    written_to = select(_message.c.channel, _message.c.recipient_hash).where(_message.c.client_id == client_id)
    statement = update(_suppression).where(
        or_(key.in_(written_to), key.in_(sorted(own))), _suppression.c.address.is_not(None)
    )
    return session.exec(statement.values(address=None, note=None)).rowcount


def delete_compliance_items(session: Session, client_id: str) -> int:
    return session.exec(delete(_compliance).where(_compliance.c.client_id == client_id)).rowcount


def _is_final(client_id: str, own: Addresses) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return or_(_message.c.client_id == client_id, _is_to_address_alone(own)), _message.c.status.in_(FINAL)


def _is_to_address_alone(own: Addresses) -> ColumnElement[bool]:
    address = tuple_(_message.c.channel, _message.c.recipient_hash)
    return and_(_message.c.client_id.is_(None), _message.c.audience == Audience.CLIENT, address.in_(sorted(own)))


def _final(before: datetime) -> ColumnElement[bool]:
    return and_(_message.c.status.in_(FINAL), _ended_at < before)


def _contexts(before: datetime) -> Select[str]:
    made_before = _payload.c.message_id < oldest_message_id(before + CLOCKS_DIFFER_BY)
    joined = select(_payload.c.message_id).join(_message, _message.c.id == _payload.c.message_id)
    return joined.where(made_before, _final(before))


def _messages(before: datetime) -> Select[str]:
    return select(_message.c.id).where(_message.c.id < oldest_message_id(before + CLOCKS_DIFFER_BY), _final(before))


def _codes(before: datetime) -> Select[str]:
    return select(_challenge.c.id).where(_challenge.c.created_at < before, _challenge.c.expires_at < before)


def _phones(before: datetime) -> Select[str]:
    """Those with no wrong codes, no lock, and no code that is kept: without their row all is as with it."""
    kept = or_(_challenge.c.created_at >= before, _challenge.c.expires_at >= before)
    return select(_subject.c.phone_hash).where(
        _subject.c.updated_at < before,
        _subject.c.consecutive_failures == 0,
        _subject.c.failed_count == 0,
        _subject.c.locked_until.is_(None),
        _subject.c.hard_locked_at.is_(None),
        ~exists().where(_challenge.c.phone_hash == _subject.c.phone_hash, kept),
    )


def _stripe_bodies(before: datetime) -> Select[datetime, str]:
    settled = _event.c.status.in_(SETTLED)
    return select(_event.c.created, _event.c.id).where(
        _event.c.created < before, settled, func.length(_event.c.body) > 0
    )


def count_contexts(session: Session, before: datetime) -> int:
    # In their order, or SQLite begins with the messages, of which there are many more.
    return _count(session, _contexts(before).order_by(_payload.c.message_id))


def erase_contexts(session: Session, before: datetime, *, after: str, most: int) -> list[str]:
    """Those with ids above `after`. The ids of the messages that have none any more."""
    statement = _contexts(before).where(_payload.c.message_id > after).order_by(_payload.c.message_id)
    ids = _locked(session, statement, most)
    payload_store.erase_payloads(session, ids)
    return ids


def count_messages(session: Session, before: datetime) -> int:
    return _count(session, _messages(before))


def delete_messages(session: Session, before: datetime, *, after: str, most: int) -> list[str]:
    """Those with ids above `after`, with all that belongs to them but their audit rows. The ids of those deleted."""
    ids = _locked(session, _messages(before).where(_message.c.id > after).order_by(_message.c.id), most)
    if ids:
        dialect = bulk.dialect(session)
        rows = bulk.encode(dialect, [{"id": message_id} for message_id in ids])
        payload_store.erase_payloads(session, ids)
        for statement in _delete_statements(dialect):
            session.execute(statement, rows)
    return ids


@cache
def _delete_statements(dialect: str) -> tuple[Executable, Executable]:
    rows = bulk.unpack(dialect, bulk.column_types(_message, "id"))
    ids = select(rows.c.id)
    return delete(_inquiry).where(_inquiry.c.message_id.in_(ids)), delete(_message).where(_message.c.id.in_(ids))


def count_codes(session: Session, before: datetime) -> int:
    return _count(session, _codes(before))


def delete_codes(session: Session, before: datetime, *, most: int) -> int:
    """What their phones have failed is kept: it stands elsewhere."""
    ids = session.execute(_codes(before).order_by(_challenge.c.created_at).limit(most)).scalars().all()
    session.execute(delete(_challenge).where(_challenge.c.id.in_(ids)))
    return len(ids)


def count_phones(session: Session, before: datetime) -> int:
    return _count(session, _phones(before))


def delete_phones(session: Session, before: datetime, *, after: str, most: int) -> list[str]:
    """Those with hashes above `after`. The hashes of those deleted."""
    next_ones = _phones(before).where(_subject.c.phone_hash > after).order_by(_subject.c.phone_hash).limit(most)
    locked = session.execute(next_ones.with_for_update(of=_subject, skip_locked=True)).scalars().all()
    # Asked again under the lock: a code may have been sent to one of them in between.
    still = _phones(before).where(_subject.c.phone_hash.in_(locked))
    deleted = delete(_subject).where(_subject.c.phone_hash.in_(still)).returning(_subject.c.phone_hash)
    return sorted(session.execute(deleted).scalars())


def count_stripe_bodies(session: Session, before: datetime) -> int:
    return _count(session, _stripe_bodies(before))


def erase_stripe_bodies(
    session: Session, before: datetime, *, after: tuple[datetime, str] | None, most: int
) -> list[tuple[datetime, str]]:
    """Of events that nothing is left to do for. When they were made and their ids, in that order."""
    place = (_event.c.created, _event.c.id)
    statement = _stripe_bodies(before).order_by(*place).limit(most).with_for_update(skip_locked=True)
    if after is not None:
        statement = statement.where(tuple_(*place) > tuple_(*after))
    events = [(created, event_id) for created, event_id in session.execute(statement)]
    session.execute(update(_event).where(_event.c.id.in_([event_id for _, event_id in events])).values(body=b""))
    return events


def count_seen_events(session: Session, before: datetime) -> int:
    return _count(session, select(_seen.c.event_id).where(_seen.c.seen_at < before))


def longest_rate_window(session: Session) -> int:
    """In seconds, over all templates."""
    return int(session.execute(select(func.max(_template.c.rate_limit_window_seconds))).scalar_one() or 0)


def _locked(session: Session, statement: Select[str], most: int) -> list[str]:
    locked = statement.limit(most).with_for_update(of=_message, skip_locked=True)
    return list(session.execute(locked).scalars())


def _count(session: Session, statement: Select[*tuple[object, ...]]) -> int:
    some = statement.limit(COUNTED_AT_MOST).subquery()
    return int(session.execute(select(func.count()).select_from(some)).scalar_one())
