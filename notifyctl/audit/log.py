"""Audit rows are only ever added, in the transaction of the change they describe."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple, Protocol

from sqlalchemy import ColumnElement, Row, Update, bindparam, insert, select
from sqlalchemy.sql.dml import ReturningInsert
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.audit import AuditLog
from notifyctl.models.columns import table
from notifyctl.models.enums import AuditAction

_audit = table(AuditLog)

TOLD = (_audit.c.created_at.label("told_at"), _audit.c.actor, _audit.c.action, _audit.c.message_id)
MARKED = (_audit.c.id.label("audit_id"), *TOLD)
"""What a witness keeps of a row."""


class NewAuditRow(NamedTuple):
    """Named as its columns are."""

    action: AuditAction
    actor: str
    client_id: str | None
    message_id: str | None
    metadata: Mapping[str, object] | None
    created_at: datetime


class AuditRow(NamedTuple):
    id: int
    action: AuditAction
    actor: str
    client_id: str | None
    message_id: str | None
    metadata: dict[str, object] | None
    created_at: datetime


class AboutMessage(Protocol):
    """Any row of a message."""

    @property
    def id(self) -> str: ...

    @property
    def client_id(self) -> str | None: ...


def entry(
    action: AuditAction,
    *,
    actor: str,
    now: datetime,
    client_id: str | None = None,
    message_id: str | None = None,
    details: Mapping[str, object] | None = None,
) -> NewAuditRow:
    """A row for `write_many`."""
    return NewAuditRow(action, actor, client_id, message_id, details, now)


def for_message(
    action: AuditAction, message: AboutMessage, *, actor: str, now: datetime, details: Mapping[str, object] | None
) -> NewAuditRow:
    """The same, about a message."""
    return NewAuditRow(action, actor, message.client_id, message.id, details, now)


def write(
    session: Session,
    action: AuditAction,
    *,
    actor: str,
    now: datetime,
    client_id: str | None = None,
    message_id: str | None = None,
    details: Mapping[str, object] | None = None,
) -> None:
    row = NewAuditRow(action, actor, client_id, message_id, details, now)
    session.execute(insert(_audit), row._asdict())


_NEW: dict[str, ColumnElement[object]] = {
    name: bindparam(name, type_=_audit.c[name].type) for name in NewAuditRow._fields
}


@lru_cache(maxsize=16)
def _insert_with(change: Update | None) -> ReturningInsert[*tuple[object, ...]]:
    statement = insert(_audit).values(_NEW)
    return (statement if change is None else statement.add_cte(change.cte("changed"))).returning(*MARKED)


def write_with(
    session: Session, change: Update, values: Mapping[str, object], row: NewAuditRow
) -> Row[*tuple[object, ...]]:
    """The change, with these parameters, and the row that tells of it: one statement where the database can.

    `change` is one that is made once and kept; of the row, MARKED.
    """
    if bulk.dialect(session) == "sqlite":
        session.execute(change, values)
        return session.execute(_insert_with(None), row._asdict()).one()
    return session.execute(_insert_with(change), row._asdict() | dict(values)).one()


def write_many(session: Session, rows: Sequence[NewAuditRow]) -> None:
    bulk.insert_rows(session, _audit, [row._asdict() for row in rows])


def of_message(session: Session, message_id: str) -> list[AuditRow]:
    """In the order in which they were written."""
    statement = select(_audit).where(_audit.c.message_id == message_id).order_by(_audit.c.id)
    return [AuditRow(*row) for row in session.execute(statement)]
