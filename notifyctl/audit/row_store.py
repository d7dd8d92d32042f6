"""Rows of the audit log, exactly as they are stored: for listing, sealing and verifying."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import NamedTuple

from sqlalchemy import ColumnElement, Executable, Select, bindparam, func, select
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.db.bulk import as_bytes, as_moment, moment_as_bytes, moment_of, text_of
from notifyctl.models.audit import AuditLog
from notifyctl.models.columns import table
from notifyctl.models.enums import AuditAction

PAGE_ROWS = 1_000

_audit = table(AuditLog)
_TEXTS = ("action", "actor", "client_id", "message_id", "metadata")


class StoredRow(NamedTuple):
    id: int
    action: bytes | None
    actor: bytes | None
    client_id: bytes | None
    message_id: bytes | None
    metadata: bytes | None
    created_at: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which rows; None means any."""

    action: AuditAction | None = None
    actor: str | None = None
    client_id: str | None = None
    message_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    after_id: int | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        exact = {"action": self.action, "actor": self.actor, "client_id": self.client_id, "message_id": self.message_id}
        conditions: list[ColumnElement[bool]] = [_audit.c[name] == value for name, value in exact.items() if value]
        if self.since is not None:
            conditions.append(_audit.c.created_at >= self.since)
        if self.until is not None:
            conditions.append(_audit.c.created_at < self.until)
        if self.after_id is not None:
            conditions.append(_audit.c.id > self.after_id)
        return conditions


def find(session: Session, criteria: AuditFilter, *, limit: int) -> list[StoredRow]:
    """Newest first."""
    statement = _select(bulk.dialect(session)).where(*criteria.conditions())
    rows = session.execute(statement.order_by(_audit.c.id.desc()).limit(limit))
    return _stored(map(tuple, rows), bulk.dialect(session))


def page(session: Session, *, after: int | None = None) -> list[StoredRow]:
    """Up to PAGE_ROWS rows with ids above `after`, by id."""
    dialect = bulk.dialect(session)
    return _stored(bulk.execute(session, _page(dialect, after is not None), {"after": after}), dialect)


@cache
def _page(dialect: str, is_bounded: bool) -> Executable:
    statement = _select(dialect).order_by(_audit.c.id).limit(PAGE_ROWS)
    # No upper bound: with two bounds PostgreSQL may prefer to sort all rows.
    return statement.where(_audit.c.id > bindparam("after", type_=_audit.c.id.type)) if is_bounded else statement


def every(session: Session, *, after: int | None = None) -> Iterator[StoredRow]:
    """All pages."""
    while rows := page(session, after=after):
        yield from rows
        after = rows[-1].id


class InPieces:
    """Rows by id, taken up to one id after the other."""

    def __init__(self, rows: Iterator[StoredRow]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def up_to(self, row_id: int) -> Iterator[StoredRow]:
        while self._next is not None and self._next.id <= row_id:
            row, self._next = self._next, next(self._rows, None)
            yield row


def highest_id(session: Session) -> int:
    """0 when there is no row."""
    return int(session.execute(select(func.max(_audit.c.id))).scalar_one() or 0)


@dataclass(frozen=True, slots=True)
class Counted:
    rows: int
    oldest_at: datetime | None
    """None when there is no row, or none with a time in it."""


def count_after(session: Session, row_id: int) -> Counted:
    """Of the rows with ids above that one."""
    dialect = bulk.dialect(session)
    statement = select(func.count(), moment_of(func.min(_audit.c.created_at), dialect))
    count, oldest = session.execute(statement.where(_audit.c.id > row_id)).one()
    return Counted(int(count), as_moment(moment_as_bytes(oldest, dialect)))


def _stored(rows: Iterable[bulk.Row], dialect: str) -> list[StoredRow]:
    return [
        StoredRow._make((row_id, *map(as_bytes, texts), moment_as_bytes(created_at, dialect)))
        for row_id, *texts, created_at in rows
    ]


@cache
def _select(dialect: str) -> Select[*tuple[object, ...]]:
    texts = [text_of(_audit.c[name], dialect).label(name) for name in _TEXTS]
    return select(_audit.c.id, *texts, moment_of(_audit.c.created_at, dialect).label("created_at"))
