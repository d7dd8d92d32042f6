"""What providers report later on, applied to the messages and to the list of suppressed addresses.

Early, late, doubled and reordered ones do no harm: a status moves only along models/status.py, a receipt that
overtook our own commit is kept and tried again, and an event suppresses or frees an address only once.
"""

import logging
from datetime import datetime, timedelta
from enum import StrEnum

from sqlmodel import Session

from notifyctl.delivery import unexpected
from notifyctl.delivery.receipt_effect import effect_of, is_in_doubt, is_of_another_copy, is_too_early
from notifyctl.errors import DatabaseError
from notifyctl.models.enums import Channel
from notifyctl.orchestrator.addresses import AddressError, normal_address
from notifyctl.orchestrator.sealing import KeyRing
from notifyctl.orchestrator.suppressions import known_since, lift, suppress
from notifyctl.providers.receipts import Ignored, Notice, Receipt, ReceiptEvent, Release, from_json, to_json
from notifyctl.providers.registry import PROVIDERS
from notifyctl.store import audit, doubts, payloads
from notifyctl.store import receipts as store
from notifyctl.store.database import Database
from notifyctl.store.receipts import KeptReceipt, ReceivedMessage

KEPT_FOR = timedelta(minutes=5)
"""How long a receipt waits for the record that it overtook."""
TRIED_AT_ONCE = 500

log = logging.getLogger("notifyctl.delivery")


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
        doubts.lock_provider_message_id(session, receipt.provider_message_id)
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
    audit.write_many(session, effect.entries)
    if is_in_doubt(message):
        payloads.erase_sealed(session, [message.id])
    code = {"error_code": receipt.code} if receipt.code else {}
    log.info("message %s", effect.result.status.lower(), extra=log_fields | code)
    return Result.APPLIED


def _is_id_free(session: Session, message: ReceivedMessage, receipt: Receipt) -> bool:
    """An SMS in doubt is recognised by its text, so that another message may have been given this one's id."""
    keeps_our_id = PROVIDERS[receipt.channel].keeps_our_id
    if keeps_our_id or receipt.provider_message_id is None or not is_in_doubt(message):
        return True
    return not doubts.held_elsewhere(session, [receipt.provider_message_id], message_id=message.id)


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
        unexpected.report(log, "kept receipt cannot be applied", error, receipt=early.id)
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
