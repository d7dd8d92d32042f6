"""Compliance items: written many at a time, listed, and looked up for reminders and alerts."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from functools import cache
from typing import Any

from sqlalchemy import Row, and_, bindparam, delete, func, or_, select, true, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from notifyctl.models.client import Client
from notifyctl.models.columns import table
from notifyctl.models.compliance import ComplianceItem
from notifyctl.store import bulk

_item = table(ComplianceItem)
_client = table(Client)

Key = tuple[str, str]
"""Client id and reference."""


def lock_clients(session: Session, ids: Collection[str]) -> set[str]:
    """Which of these are known and not erased. Locked first by all who lock items, so that nobody waits in a circle."""
    dialect = session.get_bind().dialect.name
    return set(session.execute(_clients(dialect), bulk.encode(dialect, [{"id": found} for found in ids])).scalars())


@cache
def _clients(dialect: str) -> Any:
    wanted = bulk.unpack(dialect, bulk.column_types(_client, "id"))
    known = select(_client.c.id).where(_client.c.id.in_(select(wanted.c.id)), _client.c.erased_at.is_(None))
    return known.order_by(_client.c.id).with_for_update(key_share=True)


def by_keys(session: Session, keys: Collection[Key]) -> dict[Key, Row[Any]]:
    """Locked until the transaction ends."""
    dialect = session.get_bind().dialect.name
    values = [{"client_id": client_id, "reference": reference} for client_id, reference in keys]
    found = session.execute(_by_keys(dialect), bulk.encode(dialect, values))
    return {(row.client_id, row.reference): row for row in found}


@cache
def _by_keys(dialect: str) -> Any:
    wanted = bulk.unpack(dialect, bulk.column_types(_item, "client_id", "reference"))
    same = and_(_item.c.client_id == wanted.c.client_id, _item.c.reference == wanted.c.reference)
    return select(_item).join(wanted, same).order_by(_item.c.id).with_for_update(of=_item)


def upsert(session: Session, items: Sequence[Mapping[str, Any]]) -> None:
    """`client_id`, `reference`, `name`, `expires_on` as ISO text, `created_at` and `updated_at` of each."""
    if items:
        dialect = session.get_bind().dialect.name
        session.execute(_upsert(dialect), bulk.encode(dialect, items))


_WRITTEN = ("client_id", "reference", "name", "expires_on", "created_at", "updated_at")


@cache
def _upsert(dialect: str) -> Any:
    rows = bulk.unpack(dialect, bulk.column_types(_item, *_WRITTEN))
    make: Any = sqlite.insert if dialect == "sqlite" else postgresql.insert
    names = [*_WRITTEN, "reminded"]
    # The condition keeps SQLite from taking ON CONFLICT for that of a join.
    found = select(*(rows.c[name] for name in _WRITTEN), bindparam("reminded", False)).where(true())
    statement = make(_item).from_select(names, found)
    changed = {name: statement.excluded[name] for name in ("name", "expires_on", "updated_at")}
    return statement.on_conflict_do_update(index_elements=["client_id", "reference"], set_=changed)


def page(
    session: Session,
    *,
    limit: int,
    client_id: str | None = None,
    search: str | None = None,
    until: date | None = None,
) -> Sequence[Row[Any]]:
    """With their clients' names and time zones, the first to expire first. `until` is the last expiry date wanted."""
    statement = _with_client().order_by(_item.c.expires_on, _item.c.id).limit(limit)
    if client_id is not None:
        statement = statement.where(_item.c.client_id == client_id)
    if search:
        texts = (_item.c.client_id, _item.c.name, _item.c.reference, _client.c.name)
        statement = statement.where(or_(*(column.icontains(search, autoescape=True) for column in texts)))
    if until is not None:
        statement = statement.where(_item.c.expires_on <= until)
    return session.execute(statement).all()


def _with_client() -> Any:
    columns = (_client.c.name.label("client_name"), _client.c.timezone)
    return select(_item, *columns).join(_client, _client.c.id == _item.c.client_id)


def expiring(session: Session, first: date, last: date, *, after: int, most: int) -> Sequence[Row[Any]]:
    """`id`, `client_id` and what was asked for of items that expire within these days, by id, beyond `after`."""
    columns = (_item.c.id, _item.c.client_id, _item.c.expires_on, _item.c.asked_for, _item.c.asked_window)
    more = (_item.c.asked_at, _item.c.reminded, _client.c.timezone, _client.c.updated_at.label("client_updated_at"))
    statement = select(*columns, *more).join(_client, _client.c.id == _item.c.client_id)
    found = statement.where(_item.c.expires_on.between(first, last), _item.c.id > after)
    return session.execute(found.order_by(_item.c.id).limit(most)).all()


def remove(session: Session, item_id: int) -> None:
    session.execute(delete(_item).where(_item.c.id == item_id))


def lock(session: Session, ids: Collection[int]) -> Sequence[Row[Any]]:
    """In the order of their ids."""
    dialect = session.get_bind().dialect.name
    return session.execute(_by_ids(dialect), bulk.encode(dialect, [{"id": found} for found in ids])).all()


@cache
def _by_ids(dialect: str) -> Any:
    wanted = bulk.unpack(dialect, bulk.column_types(_item, "id"))
    about = (_item.c.id, _item.c.client_id, _item.c.name, _item.c.reference, _item.c.expires_on)
    asked = (_item.c.asked_for, _item.c.asked_window, _item.c.asked_at, _item.c.reminded)
    statement = select(*about, *asked).where(_item.c.id.in_(select(wanted.c.id)))
    return statement.order_by(_item.c.id).with_for_update()


def mark(session: Session, marks: Sequence[Mapping[str, Any]]) -> None:
    """`id` and the columns to write, the same ones of each. Days are ISO texts."""
    if marks:
        dialect = session.get_bind().dialect.name
        session.execute(_mark(dialect, tuple(marks[0])), bulk.encode(dialect, marks))


@cache
def _mark(dialect: str, names: tuple[str, ...]) -> Any:
    rows = bulk.unpack(dialect, bulk.column_types(_item, *names))
    values = {name: rows.c[name] for name in names if name != "id"}
    return update(_item).where(_item.c.id == rows.c.id).values(**values)


def lock_overdue(session: Session, last: date) -> Sequence[Row[Any]]:
    """Items that expired by then and that no alert has named yet, with their clients' time zones, the longest first."""
    unnamed = or_(_item.c.overdue_for.is_(None), _item.c.overdue_for != _item.c.expires_on)
    statement = _with_client().where(_item.c.expires_on <= last, unnamed, _client.c.erased_at.is_(None))
    return session.execute(statement.order_by(_item.c.expires_on, _item.c.id).with_for_update(of=_item)).all()


def last_overdue_at(session: Session) -> Any:
    """When an alert last named an item; None when none has."""
    return session.execute(select(func.max(_item.c.overdue_at))).scalar_one_or_none()
