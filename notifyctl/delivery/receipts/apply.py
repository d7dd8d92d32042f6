"""What providers report later on, applied to messages and to the list of suppressed addresses."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlmodel import Session

from notifyctl import errors
from notifyctl.audit import log as audit_log
from notifyctl.clients.suppressions import known_since, lift, suppress
from notifyctl.db.database import Database
from notifyctl.delivery import in_doubt_store
from notifyctl.delivery.outcomes import kept_words
from notifyctl.delivery.receipts import store
from notifyctl.delivery.receipts.store import IN_TIME, KeptReceipt, ReceivedMessage
from notifyctl.delivery.result_store import AttemptResult
from notifyctl.errors import DatabaseError
from notifyctl.keyring import KeyRing
from notifyctl.models.enums import AuditAction, Channel, FailureReason, MessageStatus
from notifyctl.models.message import may_become
from notifyctl.orchestrator import payload_store
from notifyctl.providers.receipts import Ignored, Notice, Receipt, ReceiptEvent, Release, from_json, to_json
from notifyctl.providers.registry import PROVIDERS
from notifyctl.text.addresses import AddressError, normal_address
from notifyctl.text.durations import iso

_STATUS = {
    ReceiptEvent.SENT: MessageStatus.SENT,
    ReceiptEvent.DELIVERED: MessageStatus.DELIVERED,
    ReceiptEvent.BOUNCED: MessageStatus.BOUNCED,
}
_ACTIONS = {
    MessageStatus.DELIVERED: AuditAction.NOTIFICATION_DELIVERED,
    MessageStatus.BOUNCED: AuditAction.NOTIFICATION_BOUNCED,
}
KEPT_FOR = timedelta(minutes=5)
"""How long a receipt waits for the record that it overtook."""
TRIED_AT_ONCE = 500

log = logging.getLogger("notifyctl.delivery")


@dataclass(frozen=True, slots=True)
class ReceiptEffect:
    """`entries` are audit rows."""

    result: AttemptResult
    entries: list[audit_log.NewAuditRow]


def is_too_early(message: ReceivedMessage) -> bool:
    """Our own record of the sending may still be on its way."""
    return message.status not in IN_TIME


def is_in_doubt(message: ReceivedMessage) -> bool:
    """Whether nobody knows if it went out; a receipt that may move it tells that it did."""
    return message.status in (MessageStatus.IN_DOUBT, MessageStatus.FAILED)


def is_of_another_copy(message: ReceivedMessage, receipt: Receipt) -> bool:
    """A message that was sent twice has two fates, and only that of the copy on record counts."""
    ours, theirs = message.provider_message_id, receipt.provider_message_id
    return ours is not None and theirs is not None and ours != theirs


def effect_of(message: ReceivedMessage, receipt: Receipt, *, is_id_free: bool, now: datetime) -> ReceiptEffect | None:
    """None when it changes nothing. `is_id_free`: no other message has the provider's id that the receipt names."""
    status = _STATUS[receipt.event]
    if not _may_move(message, status):
        return None
    words = _provider_words(message, receipt)
    result = _result(message, status, receipt, words, now)
    entries: list[audit_log.NewAuditRow] = []
    if is_in_doubt(message):
        provider_message_id = receipt.provider_message_id if is_id_free else None
        result = result._replace(sent_at=message.last_attempt_at, provider_message_id=provider_message_id)
        entries += _sent_after_all(message, receipt, now)
    if status in _ACTIONS:
        entries.append(_entry(_ACTIONS[status], message, receipt, _details(receipt, words), now))
    return ReceiptEffect(result, entries)


def _may_move(message: ReceivedMessage, status: MessageStatus) -> bool:
    if message.status is MessageStatus.FAILED and message.reason != FailureReason.IN_DOUBT_HELD:
        return False
    return may_become(message.status, status)


def _result(
    message: ReceivedMessage, status: MessageStatus, receipt: Receipt, words: str, now: datetime
) -> AttemptResult:
    """The times are ours, of when we learned it: no figure of an hour that has passed changes afterwards.

    What a bounce takes back leaves no trace here, so that the order of receipts makes no difference; the audit has it.
    """
    is_bounce = status is MessageStatus.BOUNCED
    return AttemptResult(
        id=message.id,
        status=status,
        reason=receipt.reason if is_bounce else None,
        error_code=receipt.code if is_bounce else None,
        error=words or None if is_bounce else None,
        provider_message_id=message.provider_message_id,
        sent_at=message.sent_at,
        delivered_at=now if status is MessageStatus.DELIVERED else None,
        finished_at=None if status is MessageStatus.SENT else now,
    )


def _provider_words(message: ReceivedMessage, receipt: Receipt) -> str:
    """Of an erased client's message the provider's words are not kept: they may quote the address."""
    if not message.recipient:
        return ""
    return kept_words(receipt.detail, message.recipient, sensitive=bool(message.sensitive))


def _details(receipt: Receipt, words: str) -> dict[str, object]:
    happened_at = iso(receipt.happened_at) if receipt.happened_at else None
    details = {"detail": words, "happened_at": happened_at}
    if receipt.event is ReceiptEvent.BOUNCED:
        details = {"reason": receipt.reason, "error_code": receipt.code, "error": words, "happened_at": happened_at}
    return {name: value for name, value in details.items() if value}


def _sent_after_all(message: ReceivedMessage, receipt: Receipt, now: datetime) -> list[audit_log.NewAuditRow]:
    """What was in doubt did go out: the rows that the answer to the call would have brought."""
    details = {
        "attempt": message.attempts,
        "provider_message_id": receipt.provider_message_id,
        "detail": "its receipt says that it went out",
    }
    entries = [_entry(AuditAction.NOTIFICATION_SENT, message, receipt, details, now)]
    if message.audit_sent:
        entries.append(_entry(AuditAction(message.audit_sent), message, receipt, message.metadata or {}, now))
    return entries


def _entry(
    action: AuditAction, message: ReceivedMessage, receipt: Receipt, details: Mapping[str, object], now: datetime
) -> audit_log.NewAuditRow:
    return audit_log.for_message(action, message, actor=receipt.provider, now=now, details=details)


class Result(StrEnum):
    APPLIED = "applied"
    NOTHING_NEW = "nothing new"
    """Known already, or a later word than this one is."""
    EARLY = "early"
    """No such message, or its sending is not recorded yet."""
    IGNORED = "ignored"


def receive(database: Database, keys: KeyRing, notice: Notice, *, now: datetime) -> Result:
    """Takes in what a webhook brought. Raises DatabaseError; then the provider must send it again."""
    if isinstance(notice, Ignored):
        log_fields = {"provider": notice.provider, "why": notice.why, "message_id": notice.message_id}
        log.log(logging.WARNING if notice.is_misdirected else logging.INFO, "receipt ignored", extra=log_fields)
        return Result.IGNORED
    with database.transaction() as session:
        if isinstance(notice, Release):
            return release(session, keys, notice, now=now)
        result = apply(session, keys, notice, now=now)
        if result is Result.EARLY:
            ids = {"message_id": notice.message_id, "provider_message_id": notice.provider_message_id}
            store.keep(session, provider=notice.provider, receipt=to_json(notice), now=now, **ids)
        return result


def apply(
    session: Session, keys: KeyRing, receipt: Receipt, *, now: datetime, heard_at: datetime | None = None
) -> Result:
    """`heard_at` is when it came, of one that was kept."""
    if receipt.provider_message_id is not None and not PROVIDERS[receipt.channel].keeps_our_id:
        # Before any row is locked, as the inquiries into doubts do it: the other way round is a deadlock.
        in_doubt_store.lock_provider_message_id(session, receipt.provider_message_id)
    ids = {"message_id": receipt.message_id, "provider_message_id": receipt.provider_message_id}
    message = store.lock_message(session, receipt.channel, **ids)
    settled = receipt.suppress is not None and _suppress(session, keys, receipt, message, heard_at, now)
    if receipt.event is ReceiptEvent.REFUSED:
        if settled:
            return Result.APPLIED
        return Result.EARLY if message is None and any(ids.values()) else Result.IGNORED
    if message is None or is_too_early(message):
        return Result.EARLY
    return _move(session, message, receipt, now)


def _move(session: Session, message: ReceivedMessage, receipt: Receipt, now: datetime) -> Result:
    log_fields = {"message_id": message.id, "provider": receipt.provider, "receipt": receipt.event.lower()}
    if is_of_another_copy(message, receipt):
        log.info("receipt of another copy ignored", extra=log_fields)
        return Result.IGNORED
    effect = effect_of(message, receipt, is_id_free=_is_id_free(session, message, receipt), now=now)
    if effect is None or not store.move(session, effect.result):
        log.debug("receipt brings nothing new", extra=log_fields | {"status": message.status})
        return Result.NOTHING_NEW
    audit_log.write_many(session, effect.entries)
    if is_in_doubt(message):
        payload_store.erase_sealed(session, [message.id])
    code = {"error_code": receipt.code} if receipt.code else {}
    log.info("message %s", effect.result.status.lower(), extra=log_fields | code)
    return Result.APPLIED


def _is_id_free(session: Session, message: ReceivedMessage, receipt: Receipt) -> bool:
    """An SMS in doubt is recognised by its text, so that another message may have been given this one's id."""
    keeps_our_id = PROVIDERS[receipt.channel].keeps_our_id
    if keeps_our_id or receipt.provider_message_id is None or not is_in_doubt(message):
        return True
    return not in_doubt_store.held_elsewhere(session, [receipt.provider_message_id], message_id=message.id)


def _suppress(
    session: Session,
    keys: KeyRing,
    receipt: Receipt,
    message: ReceivedMessage | None,
    heard_at: datetime | None,
    now: datetime,
) -> bool:
    """False when it is not known whom this is about."""
    on_record = message.recipient if message is not None else None
    address = on_record or _normal(receipt.channel, receipt.recipient)
    if address is None or receipt.suppress is None:
        return False
    if store.see(session, _event_key(keys, receipt, address), now):
        suppress(
            session,
            keys,
            receipt.channel,
            address,
            reason=receipt.suppress,
            actor=receipt.provider,
            now=now,
            acted_at=receipt.happened_at or _known_since(receipt, message) or heard_at,
            attempted_at=_attempted_at(receipt, message),
            message_id=message.id if message is not None else None,
            keep_address=message is None or on_record is not None,  # a message without one: its client was erased
        )
    return True


def _known_since(receipt: Receipt, message: ReceivedMessage | None) -> datetime | None:
    return known_since(receipt.reason, message.last_attempt_at) if message is not None else None


def _attempted_at(receipt: Receipt, message: ReceivedMessage | None) -> datetime | None:
    """None where that may have been the attempt of another copy."""
    if message is None or is_of_another_copy(message, receipt):
        return None
    return message.last_attempt_at


def release(session: Session, keys: KeyRing, notice: Release, *, now: datetime) -> Result:
    address = _normal(notice.channel, notice.recipient)
    if address is None:
        return Result.IGNORED
    if not store.see(session, _event_key(keys, notice, address), now):
        return Result.NOTHING_NEW
    # A person's own word counts whoever noted the opposite; a provider's only against what it said itself.
    source = None if notice.reason is not None else notice.provider
    lifted = lift(
        session,
        keys,
        notice.channel,
        address,
        actor=notice.provider,
        now=now,
        acted_at=notice.happened_at,
        reason=notice.reason,
        source=source,
    )
    return Result.APPLIED if lifted else Result.NOTHING_NEW


def _event_key(keys: KeyRing, notice: Receipt | Release, address: str) -> str:
    return f"{notice.provider} {notice.event_id} {keys.recipient_hash(notice.channel, address)}"


def _normal(channel: Channel, address: str | None) -> str | None:
    """None for none, and for what we could not have written to."""
    try:
        return normal_address(channel, address) if address else None
    except AddressError:
        return None


def retry_early_receipts(database: Database, keys: KeyRing, now: datetime) -> int:
    """Applies kept receipts whose message has been recorded since, and drops those that have waited for KEPT_FOR.

    Returns how many were applied. Each in a transaction of its own; workers share them.
    """
    with database.read() as session:
        kept = store.kept_in_time(session, most=TRIED_AT_ONCE)
        is_time_to_drop = store.has_kept_since(session, now - KEPT_FOR)
    applied = sum(_retry_if_sound(database, keys, early, now) for early in kept)
    if is_time_to_drop:
        with database.transaction() as session:
            dropped = store.drop_kept(session, now - KEPT_FOR)
        if dropped:
            log.info("receipts of messages that are not ours dropped", extra={"count": dropped})
    return applied


def _retry_if_sound(database: Database, keys: KeyRing, early: KeptReceipt, now: datetime) -> bool:
    """One over which this stumbles is tried again with the next ones, until it has waited for KEPT_FOR."""
    try:
        return _retry(database, keys, early, now)
    except DatabaseError:
        raise
    except Exception as error:  # noqa: BLE001  it is about this one, and the others wait
        errors.report(log, "kept receipt cannot be applied", error, receipt=early.id)
        return False


def _retry(database: Database, keys: KeyRing, early: KeptReceipt, now: datetime) -> bool:
    with database.transaction() as session:
        if not store.take(session, early.id):
            return False
        try:
            receipt = from_json(early.receipt)
        except (TypeError, ValueError) as error:
            log.warning("receipt that another version kept dropped", extra={"error": type(error).__name__})
            store.discard(session, early.id)
            return False
        result = apply(session, keys, receipt, now=now, heard_at=early.received_at)
        if result is not Result.EARLY:
            store.discard(session, early.id)
        return result is Result.APPLIED
