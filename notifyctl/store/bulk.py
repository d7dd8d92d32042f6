"""Many rows in one statement and one parameter: a JSON array that the database itself unpacks.

On SQLite this also keeps the statement out of Python's interpreter lock, where executemany would starve beside a
busy thread.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import (
    Column,
    FromClause,
    Insert,
    String,
    Table,
    bindparam,
    cast,
    column,
    func,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine
from sqlmodel import Session

DOCUMENT = "document"
"""The statement parameter that carries what `encode` made."""


def unpack(dialect: str, types: Mapping[str, TypeEngine[Any]]) -> FromClause:
    """A table-like selectable over the rows in the parameter DOCUMENT; a value that is missing is NULL.

    Build a statement around it once and keep it: SQLAlchemy compiles it once, and each use costs one parameter.
    """
    if dialect == "sqlite":
        item = func.json_each(bindparam(DOCUMENT, type_=String)).table_valued("value", name="item")
        values = (func.json_extract(item.c.value, f"$.{name}", type_=kind) for name, kind in types.items())
        return select(*(value.label(name) for name, value in zip(types, values, strict=True))).subquery("rows")
    document = cast(bindparam(DOCUMENT, type_=String), JSONB)
    columns = [column(name, kind) for name, kind in types.items()]
    return func.jsonb_to_recordset(document).table_valued(*columns, name="rows").render_derived(with_types=True)


def encode(dialect: str, values: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The parameters of a statement built on `unpack`."""
    stamp = _sqlite_time if dialect == "sqlite" else datetime.isoformat
    return {DOCUMENT: json.dumps(values, default=stamp, separators=(",", ":"))}


def insert_rows(session: Session, table: Table, values: Sequence[Mapping[str, Any]]) -> None:
    """Inserts `values`, which all have the keys of the first one, into `table`."""
    if values:
        dialect = session.get_bind().dialect.name
        session.execute(_insert(dialect, table, tuple(values[0])), encode(dialect, values))


@cache
def _insert(dialect: str, table: Table, names: tuple[str, ...]) -> Insert:
    source = unpack(dialect, column_types(table, *names))
    return insert(table).from_select(list(names), select(*source.c))


def column_types(table: Table, *names: str) -> dict[str, TypeEngine[Any]]:
    return {name: _column(table, name).type for name in names}


def _column(table: Table, name: str) -> Column[Any]:
    return table.c[name]


@lru_cache(maxsize=1024)
def _sqlite_time(value: datetime) -> str:
    """Remembered, since the rows of one statement share a handful of moments."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
