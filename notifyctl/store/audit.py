"""Audit rows are only ever added, in the transaction of the change they describe."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select
from sqlmodel import Session

from notifyctl.models.audit import AuditAction, AuditLog
from notifyctl.models.columns import table
from notifyctl.store import bulk

_audit = table(AuditLog)


def entry(
    action: AuditAction,
    *,
    actor: str,
    now: datetime,
    client_id: str | None = None,
    message_id: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A row for `write_many`."""
    return {
        "action": action,
        "actor": actor,
        "client_id": client_id,
        "message_id": message_id,
        "metadata": details,
        "created_at": now,
    }


def write(
    session: Session,
    action: AuditAction,
    *,
    actor: str,
    now: datetime,
    client_id: str | None = None,
    message_id: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    row = entry(action, actor=actor, now=now, client_id=client_id, message_id=message_id, details=details)
    session.execute(insert(_audit), row)


def write_many(session: Session, entries: Sequence[Mapping[str, Any]]) -> None:
    bulk.insert_rows(session, _audit, entries)


def of_message(session: Session, message_id: str) -> Sequence[Row[Any]]:
    """In the order in which they were written."""
    statement = select(_audit).where(_audit.c.message_id == message_id).order_by(_audit.c.id)
    return session.execute(statement).all()
