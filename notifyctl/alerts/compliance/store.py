"""Compliance items: written many at a time, listed, and looked up for reminders and alerts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from itertools import starmap
from typing import NamedTuple

from sqlalchemy import Executable, Select, and_, bindparam, delete, func, or_, select, true, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.alerts import ComplianceItem
from notifyctl.models.client import Client
from notifyctl.models.columns import table

_item = table(ComplianceItem)
_client = table(Client)

Key = tuple[str, str]
"""Client id and reference."""


@dataclass(frozen=True, slots=True)
class ItemValues:
    """What people say of an item."""

    client_id: str
    reference: str
    name: str
    expires_on: date

    @property
    def key(self) -> Key:
        return self.client_id, self.reference


class ItemRow(NamedTuple):
    id: int
    client_id: str
    name: str
    reference: str
    expires_on: date
    asked_for: date | None
    asked_window: int | None
    asked_at: datetime | None
    reminded: bool


class ExpiringItem(NamedTuple):
    """What tells whether an item is to be reminded of."""

    id: int
    client_id: str
    expires_on: date
    asked_for: date | None
    asked_window: int | None
    asked_at: datetime | None
    reminded: bool
    timezone: str
    client_updated_at: datetime


class ListedItem(NamedTuple):
    """With its client's name and time zone."""

    id: int
    client_id: str
    name: str
    reference: str
    expires_on: date
    asked_for: date | None
    asked_at: datetime | None
    reminded: bool
    client_name: str
    timezone: str


class ReminderMark(NamedTuple):
    """What the last reminder of an item was about."""

    id: int
    asked_for: date
    asked_window: int
    asked_at: datetime
    reminded: bool


_ROW = [_item.c[name] for name in ItemRow._fields]


def lock_clients(session: Session, ids: Collection[str]) -> set[str]:
    """Which of these are known and not erased. Locked first by all who lock items, so that nobody waits in a circle."""
    dialect = bulk.dialect(session)
    return set(session.execute(_clients(dialect), _encoded_ids(dialect, ids)).scalars())


@cache
def _clients(dialect: str) -> Executable:
    keys = bulk.unpack(dialect, bulk.column_types(_client, "id"))
    existing = select(_client.c.id).where(_client.c.id.in_(select(keys.c.id)), _client.c.erased_at.is_(None))
    return existing.order_by(_client.c.id).with_for_update(key_share=True)


def _encoded_ids(dialect: str, ids: Collection[str] | Collection[int]) -> dict[str, str]:
    return bulk.encode(dialect, [{"id": each} for each in ids])


def by_keys(session: Session, keys: Collection[Key]) -> dict[Key, ItemRow]:
    """Locked until the transaction ends."""
    dialect = bulk.dialect(session)
    values = [{"client_id": client_id, "reference": reference} for client_id, reference in keys]
    items = starmap(ItemRow, session.execute(_by_keys(dialect), bulk.encode(dialect, values)))
    return {(item.client_id, item.reference): item for item in items}


@cache
def _by_keys(dialect: str) -> Executable:
    keys = bulk.unpack(dialect, bulk.column_types(_item, "client_id", "reference"))
    same = and_(_item.c.client_id == keys.c.client_id, _item.c.reference == keys.c.reference)
    return select(*_ROW).join(keys, same).order_by(_item.c.id).with_for_update(of=_item)


_WRITTEN = ("client_id", "reference", "name", "expires_on", "created_at", "updated_at")


def upsert(session: Session, items: Sequence[ItemValues], *, now: datetime) -> None:
    if items:
        dialect = bulk.dialect(session)
        rows = [(item.client_id, item.reference, item.name, str(item.expires_on), now, now) for item in items]
        session.execute(_upsert(dialect), bulk.encode(dialect, [dict(zip(_WRITTEN, row, strict=True)) for row in rows]))


@cache
def _upsert(dialect: str) -> Executable:
    rows = bulk.unpack(dialect, bulk.column_types(_item, *_WRITTEN))
    names = [*_WRITTEN, "reminded"]
    # The condition keeps SQLite from taking ON CONFLICT for that of a join.
    values = select(*(rows.c[name] for name in _WRITTEN), bindparam("reminded", False)).where(true())
    statement = bulk.upsert(dialect, _item).from_select(names, values)
    changed = {name: statement.excluded[name] for name in ("name", "expires_on", "updated_at")}
    return statement.on_conflict_do_update(index_elements=["client_id", "reference"], set_=changed)


def page(
    session: Session,
    *,
    limit: int,
    client_id: str | None = None,
    search: str | None = None,
    until: date | None = None,
) -> Sequence[ListedItem]:
    """The first to expire first. `until` is the last expiry date wanted."""
    statement = _with_client().order_by(_item.c.expires_on, _item.c.id).limit(limit)
    if client_id is not None:
        statement = statement.where(_item.c.client_id == client_id)
    if search:
        texts = (_item.c.client_id, _item.c.name, _item.c.reference, _client.c.name)
        statement = statement.where(or_(*(column.icontains(search, autoescape=True) for column in texts)))
    if until is not None:
        statement = statement.where(_item.c.expires_on <= until)
    return list(starmap(ListedItem, session.execute(statement)))


def _with_client() -> Select[tuple[object, ...]]:
    columns = (_item.c[name] for name in ListedItem._fields[:-2])
    return select(*columns, _client.c.name.label("client_name"), _client.c.timezone).join(
        _client, _client.c.id == _item.c.client_id
    )


def expiring(session: Session, first: date, last: date, *, after: int, most: int) -> Sequence[ExpiringItem]:
    """Items that expire within these days, by id, beyond `after`."""
    columns = (_item.c[name] for name in ExpiringItem._fields[:-2])
    statement = (
        select(*columns, _client.c.timezone, _client.c.updated_at.label("client_updated_at"))
        .join(_client, _client.c.id == _item.c.client_id)
        .where(_item.c.expires_on.between(first, last), _item.c.id > after)
        .order_by(_item.c.id)
        .limit(most)
    )
    return list(starmap(ExpiringItem, session.execute(statement)))


def remove(session: Session, item_id: int) -> None:
    session.execute(delete(_item).where(_item.c.id == item_id))


def lock(session: Session, ids: Collection[int]) -> Sequence[ItemRow]:
    """In the order of their ids."""
    dialect = bulk.dialect(session)
    return list(starmap(ItemRow, session.execute(_by_ids(dialect), _encoded_ids(dialect, ids))))


@cache
def _by_ids(dialect: str) -> Executable:
    keys = bulk.unpack(dialect, bulk.column_types(_item, "id"))
    statement = select(*_ROW).where(_item.c.id.in_(select(keys.c.id)))
    return statement.order_by(_item.c.id).with_for_update()


def mark_reminded(session: Session, marks: Sequence[ReminderMark]) -> None:
    _write(session, [mark._asdict() | {"asked_for": str(mark.asked_for)} for mark in marks])


def mark_overdue(session: Session, items: Sequence[ListedItem], *, now: datetime) -> None:
    """An alert has named them."""
    _write(session, [{"id": item.id, "overdue_for": str(item.expires_on), "overdue_at": now} for item in items])


def _write(session: Session, rows: Sequence[Mapping[str, object]]) -> None:
    """`id` and the columns to write, the same ones of each."""
    if rows:
        dialect = bulk.dialect(session)
        session.execute(_update(dialect, tuple(rows[0])), bulk.encode(dialect, rows))


@cache
def _update(dialect: str, names: tuple[str, ...]) -> Executable:
    rows = bulk.unpack(dialect, bulk.column_types(_item, *names))
    values = {name: rows.c[name] for name in names if name != "id"}
    return update(_item).where(_item.c.id == rows.c.id).values(**values)


def lock_overdue(session: Session, last: date) -> Sequence[ListedItem]:
    """Items that expired by then and that no alert has named yet, the longest first."""
    unnamed = or_(_item.c.overdue_for.is_(None), _item.c.overdue_for != _item.c.expires_on)
    statement = _with_client().where(_item.c.expires_on <= last, unnamed, _client.c.erased_at.is_(None))
    ordered = statement.order_by(_item.c.expires_on, _item.c.id).with_for_update(of=_item)
    return list(starmap(ListedItem, session.execute(ordered)))


def last_overdue_at(session: Session) -> datetime | None:
    """When an alert last named an item; None when none has."""
    last: datetime | None = session.execute(select(func.max(_item.c.overdue_at))).scalar_one_or_none()
    return last
