"""The content of a whole database: made up for every table there is, and read through the types of its columns."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, Boolean, Column, Date, Enum, LargeBinary, Table, Uuid, func, insert, select
from sqlalchemy.types import Integer, TypeEngine

from notifyctl.db.database import Database
from notifyctl.models.columns import UtcDateTime
from notifyctl.models.operations import StoreState
from notifyctl.models.tables import metadata

ODD = "größer\n\t\\N \\. \"'; 😀 "
LONG_AGO = datetime(2026, 3, 2, 12, 0, 0, 120_000, UTC)
Content = Mapping[str, list[tuple[Any, ...]]]


def fill(database: Database, rows: int = 3) -> None:
    """`rows` in each table, with values that are hard to carry; what may be missing is, in one of them."""
    with database.transaction() as session:
        for table in metadata.sorted_tables:
            session.execute(insert(table), [_row(table, number) for number in range(min(rows, _most(table)))])


def _most(table: Table) -> int:
    """Rows that it can have: those by channel have one a channel, and the store knows of itself alone."""
    if table.name == StoreState.__tablename__:
        return 1
    (first, *others) = (column.type for column in table.primary_key)
    return len(first.enums) if isinstance(first, Enum) and not others else 1_000


def _row(table: Table, number: int) -> dict[str, Any]:
    return {column.key: _value(column, number) for column in table.c if not _counts_by_itself(column)}


def _counts_by_itself(column: Column[Any]) -> bool:
    return column is column.table.autoincrement_column


def _value(column: Column[Any], number: int) -> Any:
    if column.nullable and number == 0:
        return None
    if column.foreign_keys:
        (key,) = column.foreign_keys
        return _value(key.column, number)
    kind: TypeEngine[Any] = column.type
    for type_, make in _VALUES.items():
        if isinstance(kind, type_):
            return make(kind, number)
    return f"{column.name} {number} {ODD}"


_VALUES: dict[type[Any], Any] = {
    Enum: lambda kind, number: list(kind.enum_class)[number % len(kind.enums)],
    UtcDateTime: lambda _, number: LONG_AGO + timedelta(days=number, microseconds=number),
    Date: lambda _, number: date(2026, 3, 2) + timedelta(days=number),
    Boolean: lambda _, number: bool(number % 2),
    Integer: lambda _, number: number * 1_000_000 + 1,
    LargeBinary: lambda _, number: bytes(range(256)) * (number + 1),
    JSON: lambda _, number: {"b": [1, None, True, 0.25, ODD], "a": {"number": number}},
    Uuid: lambda _, number: f"0198c7b2-0000-7000-8000-{number:012}",
}


def content_of(database: Database) -> Content:
    """Every row, by its key, in an order that both databases agree on."""
    with database.read() as session:
        return {
            table.name: sorted(
                (tuple(row) for row in session.execute(select(table))),
                key=lambda row: _key(table, row),
            )
            for table in metadata.sorted_tables
        }


def _key(table: Table, row: tuple[Any, ...]) -> list[Any]:
    return [row[place] for place, column in enumerate(table.c) if column.primary_key]


def count_of(database: Database, table: str) -> int:
    with database.read() as session:
        return int(session.execute(select(func.count()).select_from(metadata.tables[table])).scalar_one())
