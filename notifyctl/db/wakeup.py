"""How a worker learns at once that there is new work: LISTEN on PostgreSQL, a change check on SQLite."""

from time import monotonic, sleep
from typing import Any

from sqlalchemy import text

from notifyctl.db.database import Database

CHANNEL = "notifyctl"
"""A trigger on message_log notifies it once a statement that inserts."""
SQLITE_CHECK_SECONDS = 0.005


class Watcher:
    """Waits for new messages. Used by one thread, on a connection of its own.

    Raises DatabaseError when the database is gone; make a new one then.
    """

    def __init__(self, database: Database) -> None:
        self._is_sqlite = database.is_sqlite
        with database.translated():
            self._connection = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._driver: Any = self._connection.connection.driver_connection
            if not self._is_sqlite:
                self._connection.execute(text(f"LISTEN {CHANNEL}"))
        self._version = self._data_version() if self._is_sqlite else 0
        self._database = database

    def wait(self, timeout: float) -> bool:
        """Whether something changed within `timeout` seconds; returns as soon as it does."""
        with self._database.translated():
            return self._wait_sqlite(timeout) if self._is_sqlite else self._wait_postgres(timeout)

    def close(self) -> None:
        self._connection.invalidate()
        self._connection.close()

    def _wait_postgres(self, timeout: float) -> bool:
        return any(True for _ in self._driver.notifies(timeout=timeout, stop_after=1))

    def _wait_sqlite(self, timeout: float) -> bool:
        deadline = monotonic() + timeout
        while monotonic() < deadline:
            version = self._data_version()
            if version != self._version:
                self._version = version
                return True
            sleep(SQLITE_CHECK_SECONDS)
        return False

    def _data_version(self) -> int:
        return int(self._driver.execute("PRAGMA data_version").fetchone()[0])
