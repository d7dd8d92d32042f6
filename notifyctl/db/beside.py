"""What a revision does beside running workers. Only revisions use it.

On PostgreSQL each of these commits what the revision has done so far, and takes no lock that a worker waits for. So a
revision that is interrupted between two of them is begun anew: they pass over what is there already, and whatever a
revision does before one of them must do the same. On SQLite all is one transaction.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import sleep

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Connection

from notifyctl.db.migrations import begin_step

BATCH_ROWS = 5_000
POLL_SECONDS = 0.2
_INDEX = sa.text("SELECT indexrelid, indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
_MAKING = sa.text("SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE index_relid = :index)")


def create_index(
    name: str, table: str, columns: Sequence[str], *, where: str | None = None, unique: bool = False
) -> None:
    """Names are as they stand in SQL; `columns` may be expressions."""
    if _is_sqlite():
        op.create_index(
            name, table, [sa.text(column) for column in columns],
            unique=unique, sqlite_where=None if where is None else sa.text(where),
        )  # fmt: skip
        return
    with _outside() as connection:
        _make_index(connection, name, _as_sql(name, table, columns, where, unique))


def replace_index(name: str, table: str, columns: Sequence[str], *, where: str | None = None) -> None:
    """One of that name by another: the old one serves until the new one can."""
    if _is_sqlite():
        op.drop_index(name, table)
        create_index(name, table, columns, where=where)
        return
    new = f"{name}_new"
    with _outside() as connection:
        _make_index(connection, new, _as_sql(new, table, columns, where, unique=False))
        connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    op.execute(f"ALTER INDEX {new} RENAME TO {name}")


def drop_index(name: str, table: str) -> None:
    if _is_sqlite():
        op.drop_index(name, table)
        return
    with _outside() as connection:
        connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def add_column(table: str, column: sa.Column[object]) -> None:
    """Unless it is there. One that is not nullable has a constant for its default, so that no row is written anew."""
    if all(there["name"] != column.name for there in sa.inspect(op.get_bind()).get_columns(table)):
        op.add_column(table, column)


def in_batches(key: sa.ColumnElement[object], statement: sa.Update, *, rows: int = BATCH_ROWS) -> None:
    """Runs `statement` on all rows of its table, in the order of `key`, which is unique; each batch is committed.

    It must bear to be run on a row twice, also on one that a worker has written meanwhile.
    """
    connection = op.get_bind()
    first: object = None
    while True:
        left = sa.true() if first is None else key > first
        last = connection.execute(
            sa.select(key).where(left).order_by(key).offset(rows - 1).limit(1)
        ).scalar_one_or_none()
        connection.execute(statement.where(left, sa.true() if last is None else key <= last))
        if last is None:
            return
        first = last
        if not _is_sqlite():
            connection.commit()
            begin_step(connection)


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


@contextmanager
def _outside() -> Iterator[Connection]:
    """A connection for what no transaction may have around it."""
    ours = op.get_bind()
    ours.commit()
    with ours.engine.connect() as other:
        other.execution_options(isolation_level="AUTOCOMMIT")
        other.exec_driver_sql("SET lock_timeout = 0; SET statement_timeout = 0")
        try:
            yield other
        finally:
            other.invalidate()  # it is another one now, and must not go back to the pool
    begin_step(ours)


def _as_sql(name: str, table: str, columns: Sequence[str], where: str | None, unique: bool) -> str:
    kind = "UNIQUE INDEX" if unique else "INDEX"
    condition = "" if where is None else f" WHERE {where}"
    return f"CREATE {kind} CONCURRENTLY IF NOT EXISTS {name} ON {table} ({', '.join(columns)}){condition}"


def _make_index(connection: Connection, name: str, statement: str) -> None:
    """An upgrade that was killed may have left it half made, or its server may still be making it."""
    while True:
        found = connection.execute(_INDEX, {"name": name}).one_or_none()
        if found is None:
            connection.exec_driver_sql(statement)
        elif found.indisvalid:
            return
        elif connection.execute(_MAKING, {"index": found.indexrelid}).scalar_one():
            sleep(POLL_SECONDS)
        else:
            connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
