"""What tests of the audit log share: writing rows, sealing them, and tampering as somebody with the database would."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.audit import seal as audit_seal
from notifyctl.audit import verify as audit_verify
from notifyctl.audit.chain import ChainHead, SealKeys
from notifyctl.audit.log import NewAuditRow
from notifyctl.audit.seal import SealResult
from notifyctl.audit.verify import VerifyReport
from notifyctl.bootstrap import Runtime
from notifyctl.db import bulk
from notifyctl.models.audit import AuditLog
from notifyctl.models.columns import new_message_id, table
from notifyctl.models.enums import AuditAction


def keys_of(runtime: Runtime) -> SealKeys:
    return SealKeys(runtime.settings.notification_secret_key)


def an_entry(runtime: Runtime, **fields: Any) -> NewAuditRow:
    values: dict[str, Any] = {
        "actor": "worker",
        "now": runtime.clock(),
        "client_id": "acme",
        "message_id": new_message_id(),
        "details": {"attempt": 1, "seconds": 0.002, "detail": "größer", "parts": [None, True, {"b": 2, "a": 1}]},
    }
    return audit_log.entry(AuditAction.NOTIFICATION_SENT, **(values | fields))


def write_rows(runtime: Runtime, count: int = 5, **fields: Any) -> None:
    with runtime.database.transaction() as session:
        audit_log.write_many(session, [an_entry(runtime, **fields) for _ in range(count)])


def seal(runtime: Runtime, *, patience_seconds: float = 5) -> SealResult:
    return audit_seal.seal(runtime.database, keys_of(runtime), runtime.clock, patience_seconds=patience_seconds)


def sealed_log(runtime: Runtime, *, seals: int = 4, rows: int = 5) -> None:
    """Beside the rows that setting up has written, which are in the first seal."""
    for _ in range(seals):
        write_rows(runtime, rows)
        assert seal(runtime).seals == 1


def verify(runtime: Runtime, expected: ChainHead | None = None, keys: SealKeys | None = None) -> VerifyReport:
    with runtime.database.read() as session:
        return audit_verify.verify_all(session, keys or keys_of(runtime), expected=expected)


@contextmanager
def unguarded(session: Session) -> Iterator[None]:
    """As who owns the tables can have it: the triggers that refuse changes are off until the transaction ends."""
    if session.get_bind().dialect.name != "sqlite":
        session.execute(text("SET LOCAL session_replication_role = replica"))
        yield
        return
    triggers = session.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")).all()
    for name, _ in triggers:
        session.execute(text(f"DROP TRIGGER {name}"))
    yield
    for _, definition in triggers:
        session.connection().exec_driver_sql(definition)


def sql(runtime: Runtime, *statements: str, **values: Any) -> None:
    """Whatever the triggers say."""
    with runtime.database.transaction() as session, unguarded(session):
        for statement in statements:
            wanted = {name: value for name, value in values.items() if f":{name}" in statement}
            session.execute(text(statement), wanted)


def ask(runtime: Runtime, query: str, **values: Any) -> list[Any]:
    with runtime.database.read() as session:
        return list(session.execute(text(query), values).all())


def row_ids(runtime: Runtime) -> list[int]:
    return [row.id for row in ask(runtime, "SELECT id FROM audit_log ORDER BY id")]


def insert_row(runtime: Runtime, row_id: int, age: timedelta = timedelta()) -> None:
    """With an id of the intruder's choice."""
    entry = an_entry(runtime, actor="mallory", now=runtime.clock() - age)
    with runtime.database.transaction() as session:
        bulk.insert_rows(session, table(AuditLog), [{"id": row_id, **entry._asdict()}])


@contextmanager
def undone(runtime: Runtime) -> Iterator[None]:
    """What is done to rows and seals meanwhile is undone at the end."""
    names = ("audit_log", "audit_seal")
    sql(runtime, *(f"CREATE TABLE kept_{name} AS SELECT * FROM {name}" for name in names))
    yield
    for name in names:
        sql(runtime, f"DELETE FROM {name}", f"INSERT INTO {name} SELECT * FROM kept_{name}")
        sql(runtime, f"DROP TABLE kept_{name}")
    assert verify(runtime).is_good


def swap(runtime: Runtime, table: str, first: int, second: int) -> None:
    move = f"UPDATE {table} SET id = :new WHERE id = :old"
    for old, new in ((first, -9_999), (second, first), (-9_999, second)):
        sql(runtime, move, old=old, new=new)
