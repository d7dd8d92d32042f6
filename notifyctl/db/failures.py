"""What is wrong with a database: what an error of its driver means, in words, and what keeps it from being written."""

import os
import re
import sqlite3
from pathlib import Path

from sqlalchemy import URL, text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session

from notifyctl.errors import DatabaseError, NotWritable, WrongSchema
from notifyctl.models import tables
from notifyctl.text.durations import plural

READ_ONLY = "25006"
"""read_only_sql_transaction (PostgreSQL, appendix A): of a replica, too."""
_LEAVING = ("57P01", "57P02", "57P03")
"""admin_shutdown, crash_shutdown, cannot_connect_now."""
_NO_WRITER = ("session is read-only", "server is in hot standby mode")
"""libpq, of a server that is not what target_session_attrs asks for."""
_PRIMARY = "name the primary in {}, or all servers with target_session_attrs=read-write"
_NOT_MIGRATED = ("42P01", "42703")
"""undefined_table, undefined_column."""
_BUSY, _CANCELED = ("55P03", "40P01"), "57014"
"""lock_not_available, deadlock_detected; query_canceled."""
_NOT_WRITABLE = {
    "42501": "refuses that to its role: {cause}; name one that may in {setting}",
    "53100": "has no room left: {cause}; make room on the disk of its server",
}
"""insufficient_privilege, disk_full."""
_REFUSALS = (
    (
        r"unsupported startup parameter",
        "is behind a pooler that refuses a parameter of the URL: {cause};"
        " take it out of {setting}, or add it to ignore_startup_parameters of PgBouncer",
    ),
    (
        r"statement pooling mode",
        "is behind a pooler in statement mode: {cause}; set its pool_mode to transaction or session",
    ),
    (
        r"authentication failed|no such user|no password supplied|no pg_hba.conf entry|role \".*\" does not exist",
        "refuses the login: {cause}; check user and password in {setting}, and pg_hba.conf of the server, or auth_file"
        " of the pooler",
    ),
    (
        r"no such database|database \".*\" does not exist",
        "is not there: {cause}; create it, or name another in {setting}; behind a pooler, see its [databases]",
    ),
    (
        r"no more connections allowed|too many (clients|connections)|remaining connection slots",
        "has no connection left: {cause}; let fewer processes run, lower DATABASE_POOL_SIZE, or raise max_connections"
        " of the server, or max_client_conn of the pooler",
    ),
)
"""What a server or a pooler says before there is a session, for which libpq hands on no code; ours, with what to do."""
CONFIRMED_SECONDS = 5
"""A commit that takes longer waits for a replica that is away."""
_STATE = """
    SELECT pg_is_in_recovery() AS is_replica, current_setting('default_transaction_read_only') = 'on' AS is_read_only,
        EXISTS (
            SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'
            AND state_change < clock_timestamp() - make_interval(secs => :seconds)
        ) AS is_unconfirmed,
        current_setting('synchronous_standby_names') AS standbys, current_user AS role,
        ARRAY(
            SELECT name FROM unnest(CAST(:tables AS text[])) AS name WHERE NOT (
                has_table_privilege(to_regclass(name), 'INSERT')
                AND (name = 'audit_log' OR has_table_privilege(to_regclass(name), 'UPDATE'))
            )
        ) AS locked
"""
_FILE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
"""For which the file, its folder or its disk may be the cause."""
LEAST_ROOM = 256 * 1024
"""Bytes: a SQLite file whose disk has less takes a few more messages at best."""
_SQLITE = {
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: {cause}; let the user that notifyctl runs as read and write its file",
    sqlite3.SQLITE_CORRUPT: "is damaged: {cause}; stop all workers, and `notifyctl db restore FILE --replace`",
    sqlite3.SQLITE_NOTADB: "is no database: {cause}; check {setting}, or `notifyctl db restore FILE --replace`",
    sqlite3.SQLITE_FULL: "cannot be written: {cause}; make room on its disk",
    sqlite3.SQLITE_IOERR: "cannot be used: {cause}; look whether its disk is full or broken",
    sqlite3.SQLITE_READONLY: "is read-only: {cause}; make it writable",
}


def is_read_only(error: Exception) -> bool:
    return _state(error) == READ_ONLY or "readonly database" in str(_original(error))


def finds_no_writer(error: Exception) -> bool:
    """None of the servers that the URL names can be written."""
    return any(words in str(_original(error)) for words in _NO_WRITER)


def ends_connections(error: Exception) -> bool:
    """Whether the other connections to that server are of no more use, though they may be open."""
    is_lost = bool(getattr(error, "connection_invalidated", False))
    return is_lost or _state(error) in _LEAVING or is_read_only(error)


def unusable(error: Exception, place: str, setting: str, url: URL) -> DatabaseError:
    """What is wrong with the database that `setting` names, and what to do. `place` begins the sentence."""
    kind = NotWritable if is_read_only(error) or _state(error) in _NOT_WRITABLE else DatabaseError
    if _is_not_migrated(error):
        kind = WrongSchema
    if _sqlite_code(error) in _FILE and (found := _obstacle_of_file(Path(url.database or ""))):
        return NotWritable(f"{place} cannot be written: {'; '.join(found)}")
    if _sqlite_code(error) == sqlite3.SQLITE_FULL:
        kind = NotWritable
    return kind(f"{place} {_in_words(error, setting)}")


def _in_words(error: Exception, setting: str) -> str:
    cause, state = " ".join(str(_original(error)).split()), _state(error)
    if _is_not_migrated(error):
        return f"is not migrated ({cause}); run `notifyctl db upgrade`"
    if state == _CANCELED:
        return (
            f"has canceled a statement: {cause}; if that is its statement_timeout, raise it for the role in {setting}"
        )
    if state in _BUSY or isinstance(error, PoolTimeout) or re.search(r"database.* is locked", cause):
        return f"is busy: others hold what is needed here ({cause}); try again"
    if isinstance(_original(error), sqlite3.Error):
        words = _SQLITE.get(_sqlite_code(error) or 0, "cannot be used: {cause}; check {setting}")
        return words.format(cause=cause, setting=setting)
    if state in _NOT_WRITABLE:
        return _NOT_WRITABLE[state].format(cause=cause, setting=setting)
    if is_read_only(error):
        return f"is read-only: {cause}; make it writable; if it is a replica, {_PRIMARY.format(setting)}"
    if finds_no_writer(error):
        return f"has no server that can be written: {cause}; promote one, or check {setting}"
    for pattern, words in _REFUSALS:
        if re.search(pattern, cause):
            return words.format(cause=cause, setting=setting)
    return f"cannot be used: {cause}; check {setting} and that the server is running"


def _is_not_migrated(error: Exception) -> bool:
    return _state(error) in _NOT_MIGRATED or re.search("no such (table|column)", str(_original(error))) is not None


def obstacle(session: Session) -> tuple[str, str] | None:
    """Why nothing can be written, without a name or place, and what to do; None where it can be.

    Asks in one statement, and waits for nobody.
    """
    url = session.get_bind().engine.url
    if url.get_backend_name() == "sqlite":
        return _obstacle_of_file(Path(url.database or ""))
    asked = {"seconds": CONFIRMED_SECONDS, "tables": sorted(tables.metadata.tables)}
    state = session.execute(text(_STATE), asked).one()
    if state.is_replica or state.is_read_only:
        # A session that began read-only stays so when its database no longer is: the next look is by a new one.
        session.connection().info.pop("dropped", None)
    if state.is_replica:
        return "it is a replica, or its server has not taken over yet", _PRIMARY.format("DATABASE_URL")
    if state.is_read_only:
        return "it is set read-only (default_transaction_read_only)", "make it writable"
    if state.is_unconfirmed:
        remedy = f"start it, or take it out of synchronous_standby_names ({state.standbys}) on the server"
        return "commits wait for a synchronous replica that is away", remedy
    if state.locked:
        rest = f" and {plural(len(state.locked) - 3, 'more table')}" if len(state.locked) > 3 else ""
        remedy = "grant it SELECT, INSERT, UPDATE and DELETE on all tables, or name another in DATABASE_URL"
        return f"its role {state.role} may not write {', '.join(state.locked[:3])}{rest}", remedy
    return None


def _obstacle_of_file(path: Path) -> tuple[str, str] | None:
    """Of the files beside it, too: the first who opens it makes them, which may have been another user."""
    beside = [Path(f"{path}{end}") for end in ("-wal", "-shm")]
    for one in (path, path.parent, *(file for file in beside if file.exists())):
        if not os.access(one, os.R_OK | os.W_OK):
            return f"{one} may not be written", "give it to the user that notifyctl runs as, and see its mode"
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return None
    free = disk.f_frsize * (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail)
    if free < LEAST_ROOM and disk.f_blocks:
        return f"the disk of {path.parent} is full, {plural(free, 'byte is', 'bytes are')} free", "make room on it"
    return None


def _original(error: Exception) -> object:
    return getattr(error, "orig", None) or error


def _sqlite_code(error: Exception) -> int | None:
    """Without what an extended code adds."""
    code = getattr(_original(error), "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _state(error: Exception) -> str | None:
    state = getattr(_original(error), "sqlstate", None)
    return state if isinstance(state, str) else None
