"""All rows to another, empty database, be it of the other kind.

The tables are those of the metadata, so that none can be forgotten. A value travels as the text that SQLite keeps, and
is turned by the type of its column. A chunk and how far it reaches are one commit, so that a copy which was killed goes
on from there. Until all is compared the target says that it is unfinished, and no command works on it.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import repeat
from pathlib import Path
from sqlite3 import OperationalError
from time import monotonic
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import JSON, BigInteger, Boolean, Date, LargeBinary, String, func, inspect, select, text
from sqlalchemy.schema import Column, MetaData, Table
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.audit.seal import tip_in
from notifyctl.db import bulk, migrations
from notifyctl.db.database import Database
from notifyctl.errors import InvalidInput, NotifyctlError
from notifyctl.models.columns import UtcDateTime
from notifyctl.models.enums import AuditAction
from notifyctl.models.tables import metadata
from notifyctl.operations import controls, heartbeats, pauses, store_state
from notifyctl.text.durations import moment

CHUNK_ROWS, CHUNK_BYTES = 10_000, 8_000_000
"""Of one commit, whichever comes first."""
_marks = Table(
    "unfinished_copy",
    MetaData(),
    Column("name", String, primary_key=True),
    Column("done", BigInteger, nullable=False),
    Column("last_key", String, nullable=False),
)
"""In the target, and no table of ours: how far each table has come."""
MOVED = "all of it was copied to"
"""Begins the reason of a pause in a source."""
_SOURCE = ""
"""The name of the mark that says what is copied."""

Row: TypeAlias = tuple[str | None, ...]
Driver: TypeAlias = Any
"""A connection of sqlite3's or psycopg's own."""
Tracked: TypeAlias = Callable[[Iterable[object], str, int | None], Iterable[object]]
"""Hands on what is done, row by row, for a progress bar."""


@dataclass(frozen=True, slots=True)
class Copied:
    tables: int
    rows: int
    seconds: float
    audit_head: str
    went_on: bool
    held: int
    """Messages that wait in the source, which holds them from now on."""


class _Mark(NamedTuple):
    done: int
    last_key: str


class _Content:
    """Of a table: its rows in number, and a sum of their hashes, which says nothing of their order."""

    def __init__(self, table: Table) -> None:
        self.rows = 0
        self._sum = 0
        self._documents = [place for place, column in enumerate(table.c) if isinstance(column.type, JSON)]

    def add(self, row: Row) -> int:
        """How many bytes it takes."""
        for place in self._documents:
            document = row[place]
            if document is not None:
                row = (*row[:place], _canonical(document), *row[place + 1 :])
        data = repr(row).encode(errors="surrogatepass")
        self.rows += 1
        self._sum += int.from_bytes(blake2b(data, digest_size=16).digest())
        return len(data)

    def is_that_of(self, other: "_Content") -> bool:
        return (self.rows, self._sum) == (other.rows, other._sum)


@lru_cache(maxsize=4096)
def _canonical(document: str) -> str:
    """PostgreSQL keeps the value of a JSON document and not its spelling."""
    try:
        return json.dumps(json.loads(document), sort_keys=True)
    except ValueError:
        return document


def tables() -> Sequence[Table]:
    """In an order in which no row names one that is not there yet."""
    return metadata.sorted_tables


def count_rows(session: Session) -> dict[str, int]:
    """By the tables that are there: a database may be of an earlier version."""
    there = set(inspect(session.connection()).get_table_names())
    counts = {table.name: select(func.count()).select_from(table) for table in tables() if table.name in there}
    return {name: int(session.execute(count).scalar_one()) for name, count in counts.items()}


def copy(source: Database, target: Database, *, actor: str, tracked: Tracked) -> Copied:
    """Nobody writes to the source meanwhile: on SQLite they wait for its lock, on PostgreSQL for those of its tables.

    At its end the source holds what waits in it, so that no worker which still knows it sends anything. Raises
    InvalidInput for a target that is not empty, NotifyctlError for workers and for content that differs.
    """
    if _place(source) == _place(target):
        raise InvalidInput(f"--to is {source} itself; name another database")
    begun = monotonic()
    with _held(source) as session:
        heartbeats.refuse_workers(session, str(source), source.clock())
        _refuse_copied(session, source)
        _prepare(target)
        marks = _begin(target, _identity(source, session))
        total = sum(count_rows(session).values())
        run = _Run(driver_of(session), source.is_sqlite, target, marks)
        deque(tracked(run.copy(), "Copying", total), maxlen=0)
        deque(tracked(run.compare(), "Comparing", total), maxlen=0)
        head = str(tip_in(session).head)
        about = {"command": "db copy", "from": str(source), "to": str(target), "rows": total}
        _finish(target, actor, about)
        now = source.clock()
        audit_log.write(session, AuditAction.OPERATOR_ACTION, actor=actor, now=now, details=about)
        held = controls.pause_everything(session, reason=f"{MOVED} {target}", actor=actor, now=now)
    return Copied(len(tables()), total, monotonic() - begun, head, bool(marks), held)


def _place(database: Database) -> object:
    return Path(database.url.database or "").resolve() if database.is_sqlite else database.url


@contextmanager
def _held(database: Database) -> Iterator[Session]:
    """One snapshot, behind which nobody writes until it ends."""
    with database.transaction() as session:
        if not database.is_sqlite:
            names = ", ".join(f'"{table.name}"' for table in tables())
            session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            session.execute(text(f"LOCK TABLE {names} IN SHARE MODE"))
        yield session


def _refuse_copied(session: Session, source: Database) -> None:
    for row in pauses.everything(session):
        if row.reason.startswith(MOVED):
            raise NotifyctlError(
                f"{source} is paused: {row.reason} at {moment(row.created_at)}; name that one in DATABASE_URL, or say"
                " `notifyctl resume --channel EMAIL` and `--channel SMS` here, if that copy was given up"
            )


def _identity(database: Database, session: Session) -> str:
    """What the source is, for a copy that goes on."""
    if database.is_sqlite:
        return str(_place(database))
    query = "SELECT system_identifier || '/' || oid FROM pg_control_system(), pg_database WHERE datname = "
    return str(session.execute(text(f"{query} current_database()")).scalar_one())


def _prepare(target: Database) -> None:
    """With all tables, and none of them with a row; or with what an interrupted copy has left."""
    status = migrations.schema_status(target)
    if status.revision is None:
        migrations.upgrade(target)
    elif not status.is_unfinished:
        migrations.require_fitting_schema(target)
        with target.read() as session:
            heartbeats.refuse_workers(session, str(target), target.clock())
            refuse_rows(session, target)


def refuse_rows(session: Session, database: Database) -> None:
    """Raises InvalidInput that names a table with rows."""
    for table in tables():
        if session.execute(select(1).select_from(table).limit(1)).first() is not None:
            raise InvalidInput(f"{database} is not empty: there are rows in {table.name}; name an empty database")


def _begin(target: Database, identity: str) -> dict[str, _Mark]:
    """How far an interrupted copy of the same source had come, by table; empty for a new one."""
    with target.transaction() as session:
        if not inspect(session.connection()).has_table(_marks.name):
            _marks.create(session.connection())
            _set_mark(session, _SOURCE, _Mark(0, identity))
            session.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": migrations.UNFINISHED})
        marks = {name: _Mark(done, last_key) for name, done, last_key in session.execute(select(_marks))}
    if marks.pop(_SOURCE).last_key != identity:
        raise InvalidInput(f"{target} is an unfinished copy of another database; name an empty one")
    return marks


def _set_mark(session: Session, name: str, mark: _Mark) -> None:
    values = {"done": mark.done, "last_key": mark.last_key}
    statement = bulk.upsert(session, _marks).values(name=name, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def _finish(target: Database, actor: str, details: Mapping[str, object]) -> None:
    """New rows get numbers behind those that were copied, and the database may be used."""
    with target.transaction() as session:
        if not target.is_sqlite:
            for column in (found for table in tables() if (found := table.autoincrement_column) is not None):
                # Without a row, or without a sequence, nothing is set: the function answers NULL with NULL.
                sequence = func.pg_get_serial_sequence(column.table.name, column.name)
                session.execute(select(func.setval(sequence, select(func.max(column)).scalar_subquery())))
            session.execute(text("ANALYZE"))
        store_state.become_another(session)
        _marks.drop(session.connection())
        session.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": migrations.head_revision()})
        now = target.clock()
        audit_log.write(session, AuditAction.OPERATOR_ACTION, actor=actor, now=now, details=details)


class _Run:
    """What is done is handed on row by row."""

    def __init__(self, source: Driver, source_is_sqlite: bool, target: Database, marks: Mapping[str, _Mark]) -> None:
        self._source = source
        self._read = _rows_of_sqlite if source_is_sqlite else _rows_of_postgresql
        self._target = target
        self._marks = marks
        self._contents = {table.name: _Content(table) for table in tables()}

    def copy(self) -> Iterator[None]:
        for table in tables():
            content = self._contents[table.name]
            mark = self._marks.get(table.name, _Mark(0, ""))
            for chunk in _chunks(self._read(self._source, table, in_order=True), content):
                if content.rows > mark.done:
                    self._write(table, chunk, content.rows)
                elif content.rows == mark.done and _key(table, chunk[-1]) != mark.last_key:
                    raise self._differs(table)
                yield from repeat(None, len(chunk))
            if content.rows < mark.done:
                raise self._differs(table)

    def compare(self) -> Iterator[None]:
        """Raises NotifyctlError for a table whose rows are others than the source's."""
        read = _rows_of_sqlite if self._target.is_sqlite else _rows_of_postgresql
        for table in tables():
            content = _Content(table)
            with self._target.read() as session:
                for row in read(driver_of(session), table, in_order=False):
                    content.add(row)
                    yield
            if not content.is_that_of(self._contents[table.name]):
                raise self._differs(table)

    def _write(self, table: Table, chunk: list[Row], done: int) -> None:
        write = _insert if self._target.is_sqlite else _copy_in
        dbapi = self._target.engine.dialect.loaded_dbapi
        with self._target.transaction() as session:
            try:
                write(driver_of(session), table, chunk)
            except (dbapi.DataError, dbapi.IntegrityError, UnicodeError) as error:
                cause = getattr(getattr(error, "diag", None), "message_primary", None) or error
                raise NotifyctlError(
                    f"{self._target} cannot keep one of the rows {done - len(chunk) + 1} to {done} of {table.name}, in"
                    f" the order of its key: {cause}; mend it, and copy again"
                ) from error
            _set_mark(session, table.name, _Mark(done, _key(table, chunk[-1])))

    def _differs(self, table: Table) -> NotifyctlError:
        return NotifyctlError(
            f"{table.name} in {self._target} differs from the source: one of them was written to since this copy began;"
            " empty that database, and copy anew"
        )


def _chunks(rows: Iterable[Row], content: _Content) -> Iterator[list[Row]]:
    """The same of the same rows, whenever they are copied."""
    chunk, size = list[Row](), 0
    for row in rows:
        chunk.append(row)
        size += content.add(row)
        if len(chunk) == CHUNK_ROWS or size > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _key(table: Table, row: Row) -> str:
    return json.dumps([row[place] for place, column in enumerate(table.c) if column.primary_key])


def driver_of(session: Session) -> Driver:
    return session.connection().connection.driver_connection


def _rows_of_sqlite(driver: Driver, table: Table, *, in_order: bool) -> Iterator[Row]:
    with closing(driver.cursor()) as cursor:
        try:
            yield from cursor.execute(_select(table, _from_sqlite, in_order))
        except OperationalError as error:  # it quotes what cannot be decoded
            raise NotifyctlError(f"{table.name} cannot be read: {str(error).partition(' with text')[0]}") from error


def _rows_of_postgresql(driver: Driver, table: Table, *, in_order: bool) -> Iterator[Row]:
    with driver.cursor(name="copied") as cursor:  # a hundred at a time: one may have a megabyte of Stripe's
        yield from cursor.execute(_select(table, _from_postgresql, in_order))


def _select(table: Table, expression: Callable[[Column[object]], str], in_order: bool) -> str:
    columns = ", ".join(expression(column) for column in table.c)
    order = ", ".join(f'"{column.name}"' for column in table.primary_key)
    return f'SELECT {columns} FROM "{table.name}"' + (f" ORDER BY {order}" if in_order else "")  # noqa: S608  names of our own tables


def _from_sqlite(column: Column[object]) -> str:
    name = f'"{column.name}"'
    return f"hex({name})" if isinstance(column.type, LargeBinary) else f"CAST({name} AS TEXT)"


def _from_postgresql(column: Column[object]) -> str:
    name = f'"{column.name}"'
    match column.type:
        case LargeBinary():
            return f"upper(encode({name}, 'hex'))"
        case UtcDateTime():
            return f"to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
        case Date():
            return f"to_char({name}, 'YYYY-MM-DD')"
        case Boolean():
            return f"CAST(CAST({name} AS integer) AS text)"
    return f"CAST({name} AS text)"


def _insert(driver: Driver, table: Table, rows: list[Row]) -> None:
    """What is text turns into a number by itself, where the column is one of numbers."""
    names = ", ".join(f'"{column.name}"' for column in table.c)
    statement = f'INSERT INTO "{table.name}" ({names}) VALUES ({", ".join("?" * len(table.c))})'  # noqa: S608  names of our own tables
    driver.executemany(statement, _with_bytes(table, rows, bytes.fromhex))


def _copy_in(driver: Driver, table: Table, rows: list[Row]) -> None:
    names = ", ".join(f'"{column.name}"' for column in table.c)
    with driver.cursor() as cursor:
        cursor.execute("SET LOCAL TimeZone = 'UTC'")
        with cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copying:
            for row in _with_bytes(table, rows, lambda digits: f"\\x{digits}"):
                copying.write_row(row)


def _with_bytes(table: Table, rows: list[Row], turned: Callable[[str], object]) -> Iterable[Sequence[object]]:
    places = {place for place, column in enumerate(table.c) if isinstance(column.type, LargeBinary)}
    if not places:
        return rows
    return (
        [turned(value) if place in places and value is not None else value for place, value in enumerate(row)]
        for row in rows
    )
