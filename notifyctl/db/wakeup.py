"""How a worker learns at once that there is new work: LISTEN on PostgreSQL, a change check on SQLite.

A pooler in transaction mode carries no LISTEN. Behind a pooler the database is therefore asked, 20 times a second,
whether any transaction has written, which touches no table; unless there is a URL for a connection that may listen.
"""

from time import monotonic, sleep
from typing import Any

from sqlalchemy import text

from notifyctl.db.connections import is_behind_a_pooler, single_engine
from notifyctl.db.database import Database
from notifyctl.errors import ConfigurationError

CHANNEL = "notifyctl"
"""A trigger on message_log notifies it once a statement that inserts."""
SQLITE_CHECK_SECONDS = 0.005
POLL_SECONDS = 0.05
HEARD_SECONDS = 10.0
"""How long a word of our own may take to be heard."""
_IDENTITY = "SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database())"
_LISTEN_REMEDY = "name the server itself there, or a pooler in session mode"


class Watcher:
    """Waits for new messages. Used by one thread, on a connection of its own.

    Raises DatabaseError when the database is gone; make a new one then.
    """

    def __init__(self, database: Database) -> None:
        self._is_sqlite = database.is_sqlite
        self._dropped = database.dropped
        self._database = database
        engine = database.engine if self._is_sqlite else single_engine(database.listen_url or database.url)
        with database.translated(listening=True):
            self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._driver: Any = self._connection.connection.driver_connection
            self.is_listening = not self._is_sqlite and (
                database.listen_url is not None or not is_behind_a_pooler(self._connection)
            )
            if self.is_listening:
                self._ask(f"LISTEN {CHANNEL}")
            self._state = None if self.is_listening else self._look()

    @property
    def is_stale(self) -> bool:
        """Other connections to its server were dropped: it would listen there to the end of its days."""
        return self._dropped != self._database.dropped

    def wait(self, timeout: float) -> bool:
        """Whether something changed within `timeout` seconds; returns as soon as it does."""
        with self._database.translated(listening=True):
            return self._hear(timeout) if self.is_listening else self._poll(timeout)

    def close(self) -> None:
        self._connection.invalidate()
        self._connection.close()

    def _hear(self, timeout: float) -> bool:
        return any(True for _ in self._driver.notifies(timeout=timeout, stop_after=1))

    def _poll(self, timeout: float) -> bool:
        deadline = monotonic() + timeout
        while monotonic() < deadline:
            state = self._look()
            if state != self._state:
                self._state = state
                return True
            sleep(SQLITE_CHECK_SECONDS if self._is_sqlite else POLL_SECONDS)
        return False

    def _look(self) -> object:
        """What is another as soon as anybody has committed a change."""
        question = "PRAGMA data_version" if self._is_sqlite else "SELECT pg_current_snapshot()::text"
        return self._ask(question).fetchone()[0]

    def _ask(self, statement: str) -> Any:
        """Outside any transaction."""
        return self._driver.execute(statement)


def require_listening(database: Database) -> None:
    """Raises ConfigurationError for a DATABASE_LISTEN_URL by which nothing of DATABASE_URL would ever be heard."""
    if database.listen_url is None:
        return
    statement = text(f"{_IDENTITY} FROM pg_control_system()")
    with database.read() as session:
        here = session.execute(statement).one()
    with database.translated(listening=True), single_engine(database.listen_url).connect() as connection:
        there = connection.execute(statement).one()
    if here != there:
        raise ConfigurationError(
            [f"DATABASE_LISTEN_URL is of another database than DATABASE_URL ({database}); {_LISTEN_REMEDY}"]
        )
    watcher = Watcher(database)
    try:
        with database.transaction() as session:
            session.execute(text(f"NOTIFY {CHANNEL}"))
        if not watcher.wait(HEARD_SECONDS):
            raise ConfigurationError(
                ["DATABASE_LISTEN_URL leads through a pooler in transaction mode, which carries no LISTEN;"
                 f" {_LISTEN_REMEDY}"]
            )  # fmt: skip
    finally:
        watcher.close()
