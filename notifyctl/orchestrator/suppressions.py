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
) -> bool:
    """`address` in its normal form. False, without an audit row, when it is suppressed already.

    `actor` is kept as the source of the suppression.
    """
    hashes = keys.recipient_hashes(channel, address)
    if store.find(session, channel, hashes):
        return False
    added = store.add(
        session,
        channel=channel,
        recipient_hash=hashes[0],
        key_id=keys.ids[0],
        address=address,
        reason=reason,
        source=actor,
        note=note,
        now=now,
    )
    if added:
        details = {"channel": channel, "recipient_hash": hashes[0], "reason": reason}
        audit.write(session, AuditAction.SUPPRESSION_ADDED, actor=actor, now=now, details=details)
    return added


def lift(
    session: Session, keys: KeyRing, channel: Channel, address: str, *, actor: str, now: datetime
) -> Row[Any] | None:
    """The suppression that was removed, whichever key it was written under; None when there was none."""
    removed = store.remove(session, channel, keys.recipient_hashes(channel, address))
    for row in removed:
        details = {"channel": channel, "recipient_hash": row.recipient_hash, "reason": row.reason}
        audit.write(session, AuditAction.SUPPRESSION_REMOVED, actor=actor, now=now, details=details)
    return removed[0] if removed else None
