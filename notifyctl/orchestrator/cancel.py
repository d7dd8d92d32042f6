"""Withdrawing messages that still wait, with their audit rows and without what was secret in them."""

from datetime import datetime

from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.models.enums import AuditAction
from notifyctl.models.message import WAITING
from notifyctl.orchestrator import message_store, payload_store
from notifyctl.orchestrator.message_store import MessageFilter, MovedMessage


def withdraw(
    session: Session, criteria: MessageFilter, detail: str, *, actor: str, now: datetime
) -> list[MovedMessage]:
    """What was withdrawn. A message that a worker is sending is left alone."""
    moved = message_store.cancel_waiting(session, criteria, now=now)
    payload_store.erase_sealed(session, [message.id for message in moved])
    entries = [
        audit_log.for_message(
            AuditAction.NOTIFICATION_CANCELED, message, actor=actor, now=now, details={"detail": detail}
        )
        for message in moved
    ]
    audit_log.write_many(session, entries)
    return moved


def count_waiting(session: Session, criteria: MessageFilter) -> int:
    counts = message_store.count_by_status(session, criteria)
    return sum(counts.get(status, 0) for status in WAITING)


def cancel_messages(session: Session, criteria: MessageFilter, *, actor: str, now: datetime) -> int:
    """For an operator. How many were withdrawn."""
    return len(withdraw(session, criteria, "withdrawn by an operator", actor=actor, now=now))
