"""Suppressing an address and lifting that again, each with its audit row.

What holds depends on when somebody acted, and not on when we heard of it: see models/suppression_causes.py.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.clients import suppression_store as store
from notifyctl.clients.suppression_store import Cause, Lift, OnRecord, holding
from notifyctl.keyring import KeyRing
from notifyctl.models.enums import AuditAction, Channel, FailureReason, SuppressionReason

MOST_AHEAD = timedelta(days=1)
"""No clock is further ahead of ours: a later time is not believed."""
NEXT_MOMENT = timedelta(microseconds=1)
NOT_LIFTED_BY_US = {
    "postmark": "Postmark itself still suppresses it: reactivate it there too, or the next message fails again.",
    "twilio": "After STOP Twilio suppresses it as well: then the person must send START, or the next message fails.",
}
"""Source of a suppression -> what lifting ours does not undo."""


def lock(session: Session, keys: KeyRing, channel: Channel, addresses: Collection[str]) -> None:
    """For callers that suppress several addresses in one transaction: locked at once, two of them cannot deadlock."""
    store.lock(session, [each for address in addresses for each in keys.recipient_hashes(channel, address)])


def suppress(  # noqa: PLR0913  what, why, who and when are one act
    session: Session,
    keys: KeyRing,
    channel: Channel,
    address: str,
    *,
    reason: SuppressionReason,
    actor: str,
    now: datetime,
    acted_at: datetime | None = None,
    attempted_at: datetime | None = None,
    note: str | None = None,
    message_id: str | None = None,
    keep_address: bool = True,
) -> bool:
    """`address` in its normal form. False, without an audit row, when this holds already, or was lifted since.

    `actor` is kept as the source of the suppression. `acted_at` is when the recipient or the provider acted; without
    it: now, and after everything on record. `attempted_at` is when we called the provider for the message in question,
    `message_id`. The hash alone suppresses as well: `keep_address` is False for someone who was erased.
    """
    hashes = keys.recipient_hashes(channel, address)
    store.lock(session, hashes)
    record = store.on_record(session, channel, hashes)
    cause = Cause(reason, actor, now)
    stated_at = _believable(acted_at, now)
    if stated_at and attempted_at:
        stated_at = _after_ours(stated_at, cause, attempted_at, record.lifts)
    undone = [lift.acted_at + NEXT_MOMENT for lift in record.lifts if lift.is_about(cause)]
    cause = replace(cause, acted_at=stated_at or max([now, *undone]))
    left = holding([*record.causes, cause], record.lifts)
    if cause.key not in {held.key for held in left}:
        return False
    is_new = cause.key not in {held.key for held in record.causes}
    store.put(
        session,
        record,
        left,
        channel=channel,
        recipient_hash=hashes[0],
        key_id=keys.ids[0],
        address=address if keep_address else None,
        note=note if is_new else None,
        now=now,
    )
    if is_new:
        details = {"channel": channel, "recipient_hash": hashes[0], "reason": reason}
        action = AuditAction.SUPPRESSION_ADDED
        audit_log.write(session, action, actor=actor, now=now, message_id=message_id, details=details)
    return is_new


def lift(  # noqa: PLR0913  who, when, and from what
    session: Session,
    keys: KeyRing,
    channel: Channel,
    address: str,
    *,
    actor: str,
    now: datetime,
    acted_at: datetime | None = None,
    reason: SuppressionReason | None = None,
    source: str | None = None,
) -> list[Cause]:
    """The causes that were lifted, whichever key they were written under, the earliest first.

    With a reason or a source, only causes that have it. `acted_at` is when the recipient or the provider acted; without
    it: now, and after everything on record. The release is kept even when there is nothing to lift: an earlier cause
    may be reported later, and must not suppress then.
    """
    hashes = keys.recipient_hashes(channel, address)
    store.lock(session, hashes)
    record = store.on_record(session, channel, hashes)
    release = Lift(now, reason, source)
    stated_at = _believable(acted_at, now)
    undone = [cause.acted_at for cause in record.causes if release.is_about(cause)]
    release = replace(release, acted_at=stated_at or max([now, *undone]))
    store.remember(session, release, channel=channel, recipient_hash=hashes[0], key_id=keys.ids[0], now=now)
    left = holding(record.causes, [release])
    lifted = [cause for cause in record.causes if cause not in left]
    if lifted:
        store.put(
            session, record, left, channel=channel, recipient_hash=hashes[0], key_id=keys.ids[0], address=None, now=now
        )
    for cause in lifted:
        details = {"channel": channel, "recipient_hash": record.rows[0].recipient_hash, "reason": cause.reason}
        audit_log.write(session, AuditAction.SUPPRESSION_REMOVED, actor=actor, now=now, details=details)
    return lifted


def rekey(session: Session, keys: KeyRing, *, actor: str, now: datetime, limit: int) -> int:
    """Has suppressions found by the first secret, whatever they were written under; how many, 0 when all are.

    One whose address was erased has to stay as it is. What holds of an address does not change.
    """
    rows = store.under_another_key(session, keys.ids[0], limit=limit)
    hashes = {
        (row.channel, row.recipient_hash): [*keys.recipient_hashes(row.channel, str(row.address)), row.recipient_hash]
        for row in rows
    }
    store.lock(session, [each for of_one in hashes.values() for each in of_one])
    for (channel, old_hash), all_of_it in hashes.items():
        record = store.on_record(session, channel, all_of_it)
        _move(session, record, channel, all_of_it[0], keys.ids[0])
        for row in record.rows:
            if row.recipient_hash == old_hash:
                details = {"channel": channel, "recipient_hash": all_of_it[0], "reason": row.reason, "was": old_hash}
                audit_log.write(session, AuditAction.SUPPRESSION_ADDED, actor=actor, now=now, details=details)
    return len(rows)


def _move(session: Session, record: OnRecord, channel: Channel, recipient_hash: str, key_id: str) -> None:
    """All that is on record of an address, to one row under this hash; nothing where it was lifted meanwhile."""
    store.delete_rows(session, channel, {row.recipient_hash for row in record.rows})
    left = holding(record.causes, record.lifts)
    if not left:
        return
    store.put(
        session,
        OnRecord([], [], []),
        left,
        channel=channel,
        recipient_hash=recipient_hash,
        key_id=key_id,
        # One that was erased under either secret stays so.
        address=record.rows[0].address if all(row.address for row in record.rows) else None,
        note=next((row.note for row in record.rows if row.note), None),
        now=min(row.created_at for row in record.rows),
    )


def drop_lost(session: Session, keys: KeyRing, *, actor: str, now: datetime, limit: int) -> int:
    """Removes suppressions that nobody can find: only the hash is left, and its secret is none of ours. How many."""
    lost = store.count_erased(session).keys() - set(keys.ids)
    gone = store.delete_erased(session, lost, limit=limit) if lost else []
    for channel, recipient_hash, reason in gone:
        details = {"channel": channel, "recipient_hash": recipient_hash, "reason": reason}
        audit_log.write(session, AuditAction.SUPPRESSION_REMOVED, actor=actor, now=now, details=details)
    return len(gone)


def known_since(reason: FailureReason | None, attempted_at: datetime | None) -> datetime | None:
    """When the recipient had opted out at the latest, if a provider refused for that: it knew when we called."""
    return attempted_at if reason is FailureReason.RECIPIENT_OPTED_OUT else None


def _after_ours(stated_at: datetime, cause: Cause, attempted_at: datetime, lifts: Collection[Lift]) -> datetime:
    """A message's fate comes after it was sent, and so after whatever was recorded here before that.

    Those times are by our clock, while `stated_at` is by the provider's: with ours ahead, it would come first.
    """
    ours = [lift for lift in lifts if lift.source is None and lift.is_about(cause) and lift.acted_at < attempted_at]
    return max([stated_at, *(lift.acted_at + NEXT_MOMENT for lift in ours)])


def _believable(stated: datetime | None, now: datetime) -> datetime | None:
    return stated if stated is not None and stated <= now + MOST_AHEAD else None
