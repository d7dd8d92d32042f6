"""Many rows in one statement and one parameter: a JSON array that the database itself unpacks.

And what is spelled differently on the two databases: INSERT ... ON CONFLICT, and which of them it is.

On SQLite this also keeps the statement out of Python's interpreter lock, where executemany would starve beside a
busy thread.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    Dialect,
    Executable,
    FromClause,
    Insert,
    LargeBinary,
    Select,
    String,
    Table,
    Text,
    bindparam,
    case,
    cast,
    column,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import ReturnsRows
from sqlalchemy.types import TypeEngine
from sqlmodel import Session

Row: TypeAlias = tuple[Any, ...]
DOCUMENT = "document"
"""The statement parameter that carries what `encode` made."""


def dialect(session: Session) -> str:
    """`sqlite` or `postgresql`: what the statements here are built for."""
    return session.get_bind().dialect.name


def upsert(target: Session | str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT with `on_conflict_do_nothing`, `on_conflict_do_update` and `excluded`.

    `target` is the session that will execute it, or the dialect of a statement that is kept.
    """
    name = target if isinstance(target, str) else dialect(target)
    return sqlite.insert(table) if name == "sqlite" else postgresql.insert(table)


def unpack(dialect: str, types: Mapping[str, TypeEngine[object]]) -> FromClause:
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


def encode(dialect: str, values: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """The parameters of a statement built on `unpack`."""
    stamp = _sqlite_time if dialect == "sqlite" else datetime.isoformat
    return {DOCUMENT: json.dumps(values, default=stamp, separators=(",", ":"))}


def insert_rows(session: Session, table: Table, values: Sequence[Mapping[str, object]]) -> None:
    """Inserts `values`, which all have the keys of the first one, into `table`."""
    if values:
        names, shared = tuple(values[0]), shared_names(values)
        name = dialect(session)
        execute(session, _insert(name, table, names, shared), encode_shared(name, values, shared))


@lru_cache(maxsize=128)
def _insert(dialect: str, table: Table, names: tuple[str, ...], shared: frozenset[str]) -> Insert:
    return insert(table).from_select(list(names), unpack_shared(dialect, table, names, shared))


def execute(session: Session, statement: Executable, values: Mapping[str, object]) -> Sequence[Row]:
    """A statement that its caller has built once and keeps; its rows, or nothing where it returns none.

    For what is run for every group of messages: SQLAlchemy takes longer to find out what it has compiled, and to wrap
    the answer, than the driver takes for all the rest. One with a list in it goes by SQLAlchemy all the same, which
    spells lists as a statement is run.
    """
    connection = session.connection()
    kept = _compiled(statement, connection.dialect)
    if kept is None:
        result = session.execute(statement, values)
        return [tuple(row) for row in result] if isinstance(statement, ReturnsRows) else []
    rows = _at_driver(connection, kept.text, kept.parameters(values), fetching=kept.returns_rows)
    return [kept.converted(row) for row in rows] if kept.converters else rows


def run(session: Session, statement: str, values: Mapping[str, object]) -> Sequence[Row]:
    """A statement as the driver takes it, but for `:name` where a value stands; its rows are as the driver gives them.

    For what is run for every single message. On PostgreSQL it must be a statement that returns rows.
    """
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        values = {name: _sqlite_time(value) if isinstance(value, datetime) else value for name, value in values.items()}
        return _at_driver(connection, statement, values)
    return _at_driver(connection, _for_psycopg(statement), values)


def _at_driver(
    connection: Connection,
    statement: str,
    values: Mapping[str, object] | Sequence[object],
    *,
    fetching: bool = True,
) -> list[Row]:
    """Who listens to the engine's statements is told of it as of any other."""
    cursor = connection.connection.cursor()
    for told in connection.dispatch.before_cursor_execute:
        told(connection, cursor, statement, values, None, False)
    try:
        cursor.execute(statement, values)
        rows = list(cursor.fetchall()) if fetching else []
    except Exception as error:
        raise _as_of_sqlalchemy(connection, statement, error) from error
    for told in connection.dispatch.after_cursor_execute:
        told(connection, cursor, statement, values, None, False)
    return rows


_Converter: TypeAlias = Callable[[object], object]


class _Kept(NamedTuple):
    text: str
    binds: Sequence[tuple[str, str, _Converter | None]]
    """The name in the statement, the caller's, and what makes the driver's value of his."""
    constants: Mapping[str, object]
    order: Sequence[str] | None
    """Of the names, where the driver takes values by their place."""
    returns_rows: bool
    converters: Sequence[tuple[int, _Converter]]
    """Of the columns that the driver does not give as they are wanted, by their place."""

    def parameters(self, values: Mapping[str, object]) -> Mapping[str, object] | Sequence[object]:
        named = dict(self.constants)
        for name, key, converter in self.binds:
            value = values[key]
            named[name] = value if converter is None else converter(value)
        return named if self.order is None else [named[name] for name in self.order]

    def converted(self, row: Row) -> Row:
        values = list(row)
        for place, converter in self.converters:
            values[place] = converter(values[place])
        return tuple(values)


@lru_cache(maxsize=256)
def _compiled(statement: Executable, dialect: Dialect) -> _Kept | None:
    columns = list(statement.exported_columns) if isinstance(statement, ReturnsRows) else []
    assert isinstance(statement, ClauseElement)
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    if compiled.post_compile_params:
        return None
    binds: list[tuple[str, str, _Converter | None]] = []
    constants: dict[str, object] = {}
    for parameter, name in compiled.bind_names.items():
        converter = parameter.type.dialect_impl(dialect).bind_processor(dialect)
        if parameter.required:
            binds.append((name, parameter.key, converter))
        else:
            value = parameter.effective_value
            constants[name] = value if converter is None else converter(value)
    converters = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
    needed = [(place, converter) for place, converter in enumerate(converters) if converter is not None]
    return _Kept(compiled.string, binds, constants, compiled.positiontup, bool(columns), needed)


def _as_of_sqlalchemy(connection: Connection, statement: str, error: Exception) -> BaseException:
    """What SQLAlchemy would have raised; and a connection that is lost is not used again."""
    dialect, base = connection.dialect, connection.dialect.loaded_dbapi.Error
    is_lost = isinstance(error, base) and dialect.is_disconnect(error, connection.connection, None)
    if is_lost:
        connection.invalidate(error)
    return DBAPIError.instance(
        statement, None, error, base, hide_parameters=True, connection_invalidated=is_lost, dialect=dialect
    )


@cache
def _for_psycopg(statement: str) -> str:
    return re.sub(r":([a-z_]+)", r"%(\1)s", statement.replace("%", "%%"))


def moment(value: str | datetime) -> datetime:
    """Of a time that `run` has read."""
    return datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value.astimezone(UTC)


MANY = 100
"""From so many rows on it pays to look for what they share; each set of shared names is a statement of its own."""


def shared_names(values: Sequence[Mapping[str, object]]) -> frozenset[str]:
    """Names that have one value in all of many rows: most of what a bulk send writes. The first name never is one."""
    if len(values) < MANY:
        return frozenset()
    return frozenset(name for name in list(values[0])[1:] if _is_shared(name, values))


def _is_shared(name: str, values: Sequence[Mapping[str, object]]) -> bool:
    first = values[0][name]
    if isinstance(first, dict):  # {"a": 1} equals {"a": True}, and is other JSON
        spelled = repr(first)
        return all(repr(row[name]) == spelled for row in values)
    return all(row[name] == first for row in values)


def unpack_shared(
    dialect: str, table: Table, names: Sequence[str], shared: frozenset[str]
) -> Select[*tuple[object, ...]]:
    """As `unpack`, in the order of `names`; what is shared is written once, in a parameter of its own."""
    rows = unpack(dialect, column_types(table, *(name for name in names if name not in shared)))
    columns = (
        bindparam(f"shared_{name}", type_=table.c[name].type).label(name) if name in shared else rows.c[name]
        for name in names
    )
    return select(*columns).select_from(rows)


def encode_shared(dialect: str, values: Sequence[Mapping[str, object]], shared: frozenset[str]) -> dict[str, object]:
    """The parameters of a statement built on `unpack_shared`."""
    if not shared:
        return dict(encode(dialect, values))
    names = [name for name in values[0] if name not in shared]
    document = encode(dialect, [{name: row[name] for name in names} for row in values])
    return document | {f"shared_{name}": values[0][name] for name in shared}


def column_types(table: Table, *names: str) -> dict[str, TypeEngine[object]]:
    return {name: table.c[name].type for name in names}


@lru_cache(maxsize=1024)
def _sqlite_time(value: datetime) -> str:
    """Remembered, since the rows of one statement share a handful of moments."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


ODD = b"\xff"


def text_of(column: ColumnElement[object], dialect: str) -> ColumnElement[object]:
    """For `as_bytes`."""
    if dialect != "sqlite":
        return cast(column, Text)
    kind = func.typeof(column)
    odd = literal_column("x'ff'").op("||")(kind).op("||")(func.hex(column))
    return case((kind.in_(("text", "null")), cast(column, LargeBinary)), else_=cast(odd, LargeBinary))


def moment_of(column: ColumnElement[object], dialect: str) -> ColumnElement[object]:
    """For `moment_as_bytes`."""
    if dialect == "sqlite":
        return text_of(column, dialect)
    in_utc = func.timezone(literal_column("'UTC'"), column)
    return func.to_char(in_utc, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"BC', type_=Text)


def as_bytes(value: str | bytes | None) -> bytes | None:
    return value.encode(errors="surrogatepass") if isinstance(value, str) else value


def moment_as_bytes(value: str | bytes | None, dialect: str) -> bytes | None:
    """As 2026-03-02T12:00:00.123456Z."""
    stored = as_bytes(value)
    if stored is None:
        return None
    if dialect == "sqlite":
        return stored[:10] + b"T" + stored[11:] + b"Z" if stored[10:11] == b" " else ODD + stored
    return stored[:-2] if stored.endswith(b"AD") else ODD + stored


def as_moment(stored: bytes | None) -> datetime | None:
    """None for what is no time."""
    try:
        moment = datetime.fromisoformat((stored or b"").decode())
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else None


def stored_moment(moment: datetime) -> bytes:
    """What `moment_as_bytes` gives once it was written: microseconds are what both databases keep."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds").encode() + b"Z"
