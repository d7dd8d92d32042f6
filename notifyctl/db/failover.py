"""When a server can no longer be written: which errors say so, and what is said of it.

A pooler, a virtual address or a name may lead to another server from one moment to the next. The connections that are
open already stay with the one before, which may go on answering for as long as nobody writes.
"""

import os
from pathlib import Path

from sqlalchemy import text
from sqlmodel import Session

READ_ONLY = "25006"
"""read_only_sql_transaction (PostgreSQL, appendix A): of a replica, too."""
_LEAVING = ("57P01", "57P02", "57P03")
"""admin_shutdown, crash_shutdown, cannot_connect_now."""
_NO_WRITER = ("session is read-only", "server is in hot standby mode")
"""libpq, of a server that is not what target_session_attrs asks for."""
PRIMARY = "name the primary in DATABASE_URL, or all servers with target_session_attrs=read-write"
CONFIRMED_SECONDS = 5
"""A commit that takes longer waits for a replica that is away."""
_STATE = """
    SELECT pg_is_in_recovery() AS is_replica, current_setting('transaction_read_only') = 'on' AS is_read_only,
        EXISTS (
            SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'
            AND state_change < clock_timestamp() - make_interval(secs => :seconds)
        ) AS is_unconfirmed
"""


def is_read_only(error: Exception) -> bool:
    return _state(error) == READ_ONLY or "readonly database" in str(_original(error))


def finds_no_writer(error: Exception) -> bool:
    """None of the servers that the URL names can be written."""
    return any(words in str(_original(error)) for words in _NO_WRITER)


def ends_connections(error: Exception) -> bool:
    """Whether the other connections to that server are of no more use, though they may be open."""
    is_lost = bool(getattr(error, "connection_invalidated", False))
    return is_lost or _state(error) in _LEAVING or is_read_only(error)


def obstacle(session: Session) -> tuple[str, str] | None:
    """Why nothing can be written, without a name or place, and what to do; None where it can be.

    Asks in one statement, and waits for nobody.
    """
    url = session.get_bind().engine.url
    if url.get_backend_name() == "sqlite":
        return _obstacle_of_file(Path(url.database or ""))
    state = session.execute(text(_STATE), {"seconds": CONFIRMED_SECONDS}).one()
    if state.is_replica:
        return "it is a replica, or its server has not taken over yet", PRIMARY
    if state.is_read_only:
        return "it is set read-only (default_transaction_read_only)", "make it writable"
    if state.is_unconfirmed:
        return "commits wait for a synchronous replica that is away", "see synchronous_standby_names on the server"
    return None


def _obstacle_of_file(path: Path) -> tuple[str, str] | None:
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return None
    return "its file or folder may not be written", "give them to the user that notifyctl runs as"


def _original(error: Exception) -> object:
    return getattr(error, "orig", None) or error


def _state(error: Exception) -> str | None:
    state = getattr(_original(error), "sqlstate", None)
    return state if isinstance(state, str) else None
