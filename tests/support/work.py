"""What statements read, however fast the machine is: rows of message_log, message_payload and audit_log on PostgreSQL,
steps of its virtual machine on SQLite."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import event, text

from notifyctl.db.database import Database

TABLES = ("message_log", "message_payload", "audit_log")
EXPLAINED = {
    "session_preload_libraries": "'auto_explain'",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
    # What has an index is read by it: at the size of a test the planner would read whole tables, and be right.
    "enable_seqscan": "off",
}
STEPS = 100


@dataclass(frozen=True, slots=True)
class Work:
    statement: str
    read: int
    plan: str


@contextmanager
def watched(database: Database) -> Iterator[list[Work]]:
    """All that is executed in the block, in any thread, as it was executed."""
    done: list[Work] = []
    with _on_sqlite(database, done) if database.is_sqlite else _on_postgresql(database, done):
        yield done


@contextmanager
def _on_postgresql(database: Database, done: list[Work]) -> Iterator[None]:
    with database.transaction() as session:
        name = session.execute(text("SELECT current_database()")).scalar_one()
        for setting, value in EXPLAINED.items():
            session.execute(text(f"ALTER DATABASE {name} SET {setting} = {value}"))

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        _duration, found, explained = (diagnostic.message_primary or "").partition("plan:\n")
        if found:
            tree = json.loads(explained)
            nodes = list(_nodes(tree["Plan"]))
            done.append(Work(tree["Query Text"], round(sum(map(_rows, nodes))), "; ".join(map(_words, nodes))))

    def listen(connection: psycopg.Connection[Any], _record: object) -> None:
        connection.add_notice_handler(note)

    database.close()  # the settings are for new connections
    event.listen(database.engine, "connect", listen)
    try:
        yield
    finally:
        event.remove(database.engine, "connect", listen)
        database.close()


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those that read one of TABLES."""
    if node.get("Relation Name") in TABLES and node["Node Type"] != "ModifyTable":
        yield node
    for inner in node.get("Plans", []):
        yield from _nodes(inner)


def _rows(node: dict[str, Any]) -> float:
    names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    return float(sum(node.get(name, 0) for name in names) * node.get("Actual Loops", 0))


def _words(node: dict[str, Any]) -> str:
    said = ("Node Type", "Index Name", "Index Cond", "Filter", "Actual Loops")
    return f"{_rows(node):.0f} rows: " + ", ".join(str(node[name]) for name in said if name in node)


@contextmanager
def _on_sqlite(database: Database, done: list[Work]) -> Iterator[None]:
    began: dict[sqlite3.Connection, tuple[str, int]] = {}
    steps: dict[sqlite3.Connection, int] = {}

    def finish(driver: sqlite3.Connection) -> None:
        if driver in began:
            statement, before = began.pop(driver)
            done.append(Work(statement, (steps[driver] - before) * STEPS, ""))

    def begin(connection: Any, _cursor: object, statement: str, *_: object) -> None:
        driver = connection.connection.driver_connection
        finish(driver)
        began[driver] = statement, steps.get(driver, 0)

    def listen(driver: sqlite3.Connection, _record: object) -> None:
        steps[driver] = 0

        def count() -> None:
            steps[driver] += 1

        driver.set_progress_handler(count, STEPS)

    database.close()
    event.listen(database.engine, "connect", listen)
    event.listen(database.engine, "before_cursor_execute", begin)
    try:
        yield
        for driver in list(began):
            finish(driver)
    finally:
        event.remove(database.engine, "connect", listen)
        event.remove(database.engine, "before_cursor_execute", begin)
        database.close()
