"""The seals over the audit log, the checkpoint before them, and the open transactions that sealing waits for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Executable,
    LargeBinary,
    Select,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.db.bulk import as_bytes, moment_as_bytes, moment_of, text_of
from notifyctl.models.audit import AuditCheckpoint, AuditLog, AuditSeal
from notifyctl.models.columns import table

PAGE_SEALS = 100

_audit = table(AuditLog)
_seal = table(AuditSeal)
_checkpoint = table(AuditCheckpoint)


class StoredSeal(NamedTuple):
    """As stored, to the byte; None where the column holds no number."""

    id: int
    first_audit_id: int | None
    last_audit_id: int | None
    row_count: int | None
    row_hashes: bytes | None
    previous_digest: bytes | None
    key_id: bytes | None
    sealed_at: bytes | None
    digest: bytes | None
    mac: bytes | None


class StoredCheckpoint(NamedTuple):
    seal_id: int
    last_audit_id: int | None
    digest: bytes | None
    rows_removed: int | None
    created_at: bytes | None
    key_id: bytes | None
    mac: bytes | None


def newest(session: Session) -> StoredSeal | None:
    return next(newest_first(session), None)


def newest_first(session: Session) -> Iterator[StoredSeal]:
    """One query each: callers look at few."""
    statement = _select_seals(bulk.dialect(session)).order_by(_seal.c.id.desc()).limit(1)
    seals = _seals(session, statement)
    while seals:
        yield seals[0]
        seals = _seals(session, statement.where(_seal.c.id < seals[0].id))


def page(session: Session, *, after: int | None = None) -> list[StoredSeal]:
    """Up to PAGE_SEALS seals with numbers above `after`, by number."""
    statement = _select_seals(bulk.dialect(session)).order_by(_seal.c.id).limit(PAGE_SEALS)
    return _seals(session, statement if after is None else statement.where(_seal.c.id > after))


def every(session: Session, *, after: int | None = None) -> Iterator[StoredSeal]:
    """All pages."""
    while seals := page(session, after=after):
        yield from seals
        after = seals[-1].id


def count(session: Session) -> int:
    return int(session.execute(select(func.count()).select_from(_seal)).scalar_one())


def add(session: Session, values: Mapping[str, object]) -> bool:
    """False when there is a seal with this number already."""
    statement = bulk.upsert(session, _seal).values(**values).on_conflict_do_nothing().returning(_seal.c.id)
    return session.execute(statement).first() is not None


def newest_before(session: Session, moment: datetime) -> StoredSeal | None:
    """The newest seal that was made before `moment`; all its rows were written before, too."""
    statement = _select_seals(bulk.dialect(session)).where(_seal.c.sealed_at < moment)
    return next(iter(_seals(session, statement.order_by(_seal.c.id.desc()).limit(1))), None)


def last_removable(session: Session, moment: datetime) -> int:
    """The last seal that is older than `moment`, as all before it are; never the newest. 0 when there is none.

    The newest stays because SQLite makes an id by adding one to the highest: no id may be used twice.
    """
    first_younger = select(func.min(_seal.c.id)).where(_seal.c.sealed_at >= moment).scalar_subquery()
    end = select(func.max(_seal.c.id)).scalar_subquery()
    statement = select(func.max(_seal.c.id)).where(_seal.c.id < func.coalesce(first_younger, end))
    return int(session.execute(statement).scalar_one() or 0)


def lock(session: Session, number: int) -> bool:
    """Locks it until the transaction ends. False when the seal is gone."""
    statement = select(_seal.c.id).where(_seal.c.id == number).with_for_update()
    return session.execute(statement).first() is not None


def remove_up_to(session: Session, number: int, row_id: int) -> int:
    """Deletes the rows up to this id and the seals up to this number; returns the number of rows.

    Rows before seals, and both after the checkpoint: the triggers allow deleting only what a checkpoint and its seal
    cover.
    """
    removed = session.exec(delete(_audit).where(_audit.c.id <= row_id)).rowcount
    session.execute(delete(_seal).where(_seal.c.id <= number))
    return removed


def count_rows_up_to(session: Session, number: int) -> int:
    """How many rows the seals up to this number cover."""
    statement = select(func.sum(_seal.c.row_count)).where(_seal.c.id <= number)
    return int(session.execute(statement).scalar_one() or 0)


def checkpoint(session: Session) -> StoredCheckpoint | None:
    statement = _select_checkpoints(bulk.dialect(session)).order_by(_checkpoint.c.seal_id.desc()).limit(1)
    row = session.execute(statement).first()
    if row is None:
        return None
    number, last_id, digest, removed, created_at, key_id, mac = row
    moment = moment_as_bytes(created_at, bulk.dialect(session))
    return StoredCheckpoint(number, last_id, as_bytes(digest), removed, moment, as_bytes(key_id), as_bytes(mac))


def write_checkpoint(session: Session, values: Mapping[str, object]) -> None:
    """Replaces the previous one."""
    session.execute(delete(_checkpoint))
    session.execute(insert(_checkpoint).values(**values))


def sign_checkpoint(session: Session, seal_id: int, *, key_id: str, mac: str) -> None:
    """Does nothing when it has been replaced."""
    session.execute(update(_checkpoint).where(_checkpoint.c.seal_id == seal_id).values(key_id=key_id, mac=mac))


@dataclass(frozen=True, slots=True)
class Writer:
    """An open transaction that has written audit rows, or is about to."""

    process_id: int | None
    since: datetime | None


_WRITERS = text("""
    SELECT lock.virtualtransaction, lock.pid, activity.xact_start
    FROM pg_locks AS lock LEFT JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
    WHERE lock.locktype = 'relation' AND lock.relation = CAST('audit_log' AS regclass)
      AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND lock.mode = 'RowExclusiveLock' AND lock.granted AND lock.pid IS DISTINCT FROM pg_backend_pid()
""")


def writers(session: Session) -> dict[str, Writer]:
    """By virtual transaction id, which is never reused. Always empty on SQLite.

    An INSERT takes this lock before its row gets an id, and keeps it until the transaction ends. Transaction ids would
    not do: a transaction has none before its first row is written.
    """
    if bulk.dialect(session) == "sqlite":
        return {}
    return {name: Writer(pid, since) for name, pid, since in session.execute(_WRITERS)}


def freeze(session: Session) -> None:
    """Makes the transaction a snapshot. Must be its first call; on SQLite every transaction is one."""
    if bulk.dialect(session) != "sqlite":
        session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))


def _seals(session: Session, statement: Executable) -> list[StoredSeal]:
    dialect = bulk.dialect(session)
    seals = []
    for number, first_id, last_id, rows, hashes, previous, key_id, sealed_at, digest, mac in session.execute(statement):
        moment = moment_as_bytes(sealed_at, dialect)
        texts = as_bytes(previous), as_bytes(key_id), moment, as_bytes(digest), as_bytes(mac)
        seals.append(StoredSeal(number, first_id, last_id, rows, hashes, *texts))
    return seals


@cache
def _select_seals(dialect: str) -> Select[*tuple[object, ...]]:
    return select(
        _seal.c.id,
        _number(_seal.c.first_audit_id, dialect),
        _number(_seal.c.last_audit_id, dialect),
        _number(_seal.c.row_count, dialect),
        cast(_seal.c.row_hashes, LargeBinary),
        text_of(_seal.c.previous_digest, dialect),
        text_of(_seal.c.key_id, dialect),
        moment_of(_seal.c.sealed_at, dialect),
        text_of(_seal.c.digest, dialect),
        text_of(_seal.c.mac, dialect),
    )


@cache
def _select_checkpoints(dialect: str) -> Select[*tuple[object, ...]]:
    return select(
        _checkpoint.c.seal_id,
        _number(_checkpoint.c.last_audit_id, dialect),
        text_of(_checkpoint.c.digest, dialect),
        _number(_checkpoint.c.rows_removed, dialect),
        moment_of(_checkpoint.c.created_at, dialect),
        text_of(_checkpoint.c.key_id, dialect),
        text_of(_checkpoint.c.mac, dialect),
    )


def _number(column: ColumnElement[int], dialect: str) -> ColumnElement[int]:
    if dialect != "sqlite":
        return column
    return case((func.typeof(column) == literal("integer"), column))
