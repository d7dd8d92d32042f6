"""Withdrawing messages that still wait, with their audit rows and without what was secret in them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlmodel import Session

from notifyctl.models.audit import AuditAction
from notifyctl.store import audit, messages, outbox
from notifyctl.store.messages import Filter


def withdraw(session: Session, wanted: Filter, detail: str, *, actor: str, now: datetime) -> Sequence[Row[Any]]:
    """What was withdrawn. A message that a worker is sending is left alone."""
    moved = messages.cancel(session, wanted, now=now)
    outbox.erase_sealed(session, [message.id for message in moved])
    entries = [
        audit.for_message(AuditAction.NOTIFICATION_CANCELED, message, actor=actor, now=now, details={"detail": detail})
        for message in moved
    ]
    audit.write_many(session, entries)
    return moved
