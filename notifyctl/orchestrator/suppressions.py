"""Suppressing an address and lifting that again, each with its audit row."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlmodel import Session

from notifyctl.models.audit import AuditAction
from notifyctl.models.suppression import SuppressionReason
from notifyctl.models.template import Channel
from notifyctl.orchestrator.sealing import KeyRing
from notifyctl.store import audit
from notifyctl.store import suppressions as store


def suppress(  # noqa: PLR0913  what, why, who and when are one act
    session: Session,
    keys: KeyRing,
    channel: Channel,
    address: str,
    *,
    reason: SuppressionReason,
    actor: str,
    now: datetime,
    note: str | None = None,
    message_id: str | None = None,
    keep_address: bool = True,
) -> bool:
    """`address` in its normal form. False, without an audit row, when it is suppressed already.

    `actor` is kept as the source of the suppression. `message_id` is the message that brought it about. The hash
    alone suppresses as well: `keep_address` is False for someone who was erased.
    """
    hashes = keys.recipient_hashes(channel, address)
    if store.find(session, channel, hashes):
        return False
    added = store.add(
        session,
        channel=channel,
        recipient_hash=hashes[0],
        key_id=keys.ids[0],
        address=address if keep_address else None,
        reason=reason,
        source=actor,
        note=note,
        now=now,
    )
    if added:
        details = {"channel": channel, "recipient_hash": hashes[0], "reason": reason}
        action = AuditAction.SUPPRESSION_ADDED
        audit.write(session, action, actor=actor, now=now, message_id=message_id, details=details)
    return added


def lift(  # noqa: PLR0913  who, when, and which ones
    session: Session,
    keys: KeyRing,
    channel: Channel,
    address: str,
    *,
    actor: str,
    now: datetime,
    reason: SuppressionReason | None = None,
    source: str | None = None,
    made_until: datetime | None = None,
) -> Row[Any] | None:
    """The suppression that was removed, whichever key it was written under; None when there was none.

    Only one for this reason, from this source, made up to this moment, where they are given.
    """
    hashes = keys.recipient_hashes(channel, address)
    removed = store.remove(session, channel, hashes, reason=reason, source=source, made_until=made_until)
    for row in removed:
        details = {"channel": channel, "recipient_hash": row.recipient_hash, "reason": row.reason}
        audit.write(session, AuditAction.SUPPRESSION_REMOVED, actor=actor, now=now, details=details)
    return removed[0] if removed else None
