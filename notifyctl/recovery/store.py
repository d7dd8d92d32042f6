"""The rows that a recovery asks about, settles, and writes anew."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import NamedTuple

from sqlalchemy import Executable, and_, bindparam, case, func, or_, select, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.delivery.result_store import AttemptResult, encode_results, result_rows, write_results
from notifyctl.models.client import Client
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel, MessageStatus, OtpState
from notifyctl.models.message import HAS_PROVIDER_ID, IS_IN_DOUBT, IS_WAITING, MessageLog, MessagePayload
from notifyctl.models.otp import LIVE_INDEX, OtpChallenge, OtpSubject
from notifyctl.operations import store_state
from notifyctl.orchestrator import message_store

_message = table(MessageLog)
_payload = table(MessagePayload)
_client = table(Client)
_challenge = table(OtpChallenge)
_subject = table(OtpSubject)
OPEN = (MessageStatus.QUEUED, MessageStatus.DEFERRED_THROTTLED, MessageStatus.RETRY_SCHEDULED, MessageStatus.IN_DOUBT)


def mark_restored(session: Session, taken_at: datetime, cause: str, *, now: datetime | None = None) -> None:
    """The store is as it was at `taken_at`, as after a restore: nothing is sent before it is recovered from then on."""
    moment = now or taken_at
    store_state.need_recovery(session, since=taken_at, cause=cause, is_proven=True, now=moment)


class OpenMessage(NamedTuple):
    """One that waits, or is in doubt: perhaps its provider has it."""

    id: str
    client_id: str | None
    channel: Channel
    template_key: str
    template_version: int
    recipient: str | None
    recipient_hash: str | None
    attempts: int
    lease_generation: int
    created_at: datetime
    metadata: Mapping[str, object] | None
    context: str | None
    sealed: str | None
    key_id: str | None


_OF_MESSAGE = OpenMessage._fields[: OpenMessage._fields.index("context")]
_OF_PAYLOAD = ("context", "sealed", "key_id")
_OPEN = select(*(_message.c[name] for name in _OF_MESSAGE), *(_payload.c[name] for name in _OF_PAYLOAD)).outerjoin(
    _payload, _payload.c.message_id == _message.c.id
)


def count_open(session: Session, created_before: datetime) -> dict[Channel, int]:
    is_open = or_(IS_WAITING, IS_IN_DOUBT)
    statement = select(_message.c.channel, func.count()).where(is_open, _message.c.created_at < created_before)
    return {Channel(channel): count for channel, count in session.execute(statement.group_by(_message.c.channel))}


def statuses(session: Session, ids: Collection[str]) -> dict[str, MessageStatus]:
    dialect = bulk.dialect(session)
    rows = session.execute(_statuses(dialect), bulk.encode(dialect, [{"id": message_id} for message_id in ids]))
    return {str(message_id): MessageStatus(status) for message_id, status in rows}


@cache
def _statuses(dialect: str) -> Executable:
    keys = bulk.unpack(dialect, bulk.column_types(_message, "id"))
    return select(_message.c.id, _message.c.status).join(keys, keys.c.id == _message.c.id)


def open_by_id(session: Session, ids: Collection[str]) -> list[OpenMessage]:
    statement = _OPEN.where(or_(IS_WAITING, IS_IN_DOUBT), _message.c.id.in_(list(ids)))
    return [OpenMessage(*row) for row in session.execute(statement)]


def open_to(session: Session, channel: Channel, recipient_hashes: Collection[str]) -> list[OpenMessage]:
    """In the order in which they were accepted."""
    statement = _OPEN.where(
        or_(IS_WAITING, IS_IN_DOUBT),
        _message.c.channel == bindparam("channel", type_=_message.c.channel.type),
        _message.c.recipient_hash.in_(list(recipient_hashes)),
    ).order_by(_message.c.created_at)
    return [OpenMessage(*row) for row in session.execute(statement, {"channel": channel})]


def known_ids(session: Session, channel: Channel, provider_message_ids: Collection[str]) -> set[str]:
    """Which of these the store has."""
    statement = select(_message.c.provider_message_id).where(
        _message.c.channel == bindparam("channel", type_=_message.c.channel.type),
        HAS_PROVIDER_ID,
        _message.c.provider_message_id.in_(list(provider_message_ids)),
    )
    return set(session.execute(statement, {"channel": channel}).scalars())


def being_sent_to(session: Session, recipient_hashes: Collection[str]) -> set[str]:
    """To which of these a worker is sending: its answer will say more than any list."""
    statement = select(_message.c.recipient_hash).where(
        _message.c.status == MessageStatus.SENDING, _message.c.recipient_hash.in_(list(recipient_hashes))
    )
    return set(session.execute(statement).scalars())


def settle(
    session: Session, results: Sequence[AttemptResult], attempted: Mapping[str, datetime], provider: str
) -> set[str]:
    """Writes what the provider knows of open messages. Returns the ids of those that were written."""
    if not results:
        return set()
    dialect = bulk.dialect(session)
    written = session.execute(_settle_statement(dialect), encode_results(dialect, results)).scalars()
    ids = {str(message_id) for message_id in written}
    for message_id in ids:
        at = attempted.get(message_id)
        if at is not None:
            values = {"last_attempt_at": at, "provider": provider}
            session.execute(update(_message).where(_message.c.id == message_id).values(values))
    return ids


@cache
def _settle_statement(dialect: str) -> Executable:
    rows = result_rows(dialect)
    # Raised: whoever claimed the message before it was forgotten cannot write over this.
    was_counted = _message.c.status == MessageStatus.IN_DOUBT
    attempts = case((was_counted, _message.c.attempts), else_=_message.c.attempts + 1)
    later = {"lease_generation": _message.c.lease_generation + 1, "attempts": attempts}
    return write_results(rows).where(_message.c.status.in_(OPEN)).values(**later).returning(_message.c.id)


def clients_at(session: Session, channel: Channel, addresses: Collection[str]) -> dict[str, str]:
    """Address, in small letters -> the id of the client that has it, where it is one alone."""
    column = func.lower(_client.c.email) if channel is Channel.EMAIL else _client.c.phone_e164
    statement = select(column, func.min(_client.c.id)).where(column.in_([each.lower() for each in addresses]))
    found = session.execute(statement.group_by(column).having(func.count() == 1))
    return {address: client_id for address, client_id in found}


def add(session: Session, rows: Sequence[message_store.Row]) -> set[str]:
    """Messages that the provider has and the store does not."""
    return message_store.insert(session, rows) if rows else set()


def lock_codes(
    session: Session, *, phone_hashes: Mapping[str, str], live_since: datetime | None, until: datetime, now: datetime
) -> tuple[int, list[str]]:
    """Locks these phones and those that have had a live code since then, and ends the codes.

    `phone_hashes` have the id of the pepper of each. Returns how many were locked, and the messages of the codes.
    """
    locked = dict(phone_hashes)
    if live_since is not None:
        live = select(_challenge.c.phone_hash, _challenge.c.key_id).where(LIVE_INDEX)
        found = session.execute(live.where(_challenge.c.created_at >= live_since))
        locked |= {phone_hash: key_id for phone_hash, key_id in found}
    longer = and_(_subject.c.locked_until.is_not(None), _subject.c.locked_until >= until)
    for phone_hash, key_id in sorted(locked.items()):
        first = {"phone_hash": phone_hash, "key_id": key_id, "failed_count": 0, "consecutive_failures": 0}
        again = {"locked_until": until, "updated_at": now}
        statement = bulk.upsert(session, _subject).values(first | again)
        session.execute(statement.on_conflict_do_update(index_elements=["phone_hash"], set_=again, where=~longer))
    ended = update(_challenge).where(LIVE_INDEX, _challenge.c.phone_hash.in_(sorted(locked)))
    ids = session.execute(ended.values(state=OtpState.LOCKED, finished_at=now).returning(_challenge.c.message_id))
    return len(locked), [message_id for message_id in ids.scalars() if message_id]
