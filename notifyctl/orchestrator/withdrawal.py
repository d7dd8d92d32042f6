"""Withdrawing messages that still wait, with their audit rows and without what was secret in them."""

from datetime import datetime

from sqlmodel import Session

from notifyctl.models.enums import AuditAction
from notifyctl.models.message import WAITING
from notifyctl.store import audit, messages, payloads
from notifyctl.store.messages import Filter, MovedMessage


def withdraw(session: Session, wanted: Filter, detail: str, *, actor: str, now: datetime) -> list[MovedMessage]:
    """What was withdrawn. A message that a worker is sending is left alone."""
    moved = messages.cancel_waiting(session, wanted, now=now)
    payloads.erase_sealed(session, [message.id for message in moved])
    entries = [
        audit.for_message(AuditAction.NOTIFICATION_CANCELED, message, actor=actor, now=now, details={"detail": detail})
        for message in moved
    ]
    audit.write_many(session, entries)
    return moved


def count_waiting(session: Session, wanted: Filter) -> int:
    counts = messages.count_by_status(session, wanted)
    return sum(counts.get(status, 0) for status in WAITING)


def cancel(session: Session, wanted: Filter, *, actor: str, now: datetime) -> int:
    """For an operator. How many were withdrawn."""
    return len(withdraw(session, wanted, "withdrawn by an operator", actor=actor, now=now))
