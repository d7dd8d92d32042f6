"""How a worker learns at once that there is new work: NOTIFY on PostgreSQL, a change check on SQLite.

PostgreSQL lets one transaction at a time commit a NOTIFY, of all its databases. So what is written is committed first,
and the word is sent after that: by one process at most 50 times a second, and by one at a time.

A pooler in transaction mode carries no LISTEN. Behind a pooler the database is therefore asked, 33 times a second,
whether any transaction has written, which touches no table; unless there is a URL for a connection that may listen.
"""

from collections.abc import Collection
from contextlib import suppress
from time import monotonic, sleep
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.orm import Session as AnySession
from sqlalchemy.orm import SessionTransaction
from sqlmodel import Session

from notifyctl.db.connections import is_behind_a_pooler, single_engine
from notifyctl.db.database import Database
from notifyctl.errors import ConfigurationError
from notifyctl.models.enums import Channel

CHANNEL = "notifyctl"
SILENT_SECONDS = 0.02
"""What a process commits so soon after its last word goes without one, since who heard that looks again later."""
AGAIN_SECONDS = SILENT_SECONDS + 0.005
SQLITE_CHECK_SECONDS = 0.005
POLL_SECONDS = 0.03
HEARD_SECONDS = 10.0
"""How long a word of our own may take to be heard."""
EVERYTHING = frozenset(Channel)
WAKE_LOCKS = {Channel.EMAIL: 6_383_203_412, Channel.SMS: 6_383_203_414}
"""PostgreSQL advisory locks: who finds one taken leaves the word to its holder, whose commit is yet to come."""
_WAKE = (
    "SELECT set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '100ms', true),"  # noqa: S608  our names
    f" pg_notify('{CHANNEL}', word) FROM (VALUES {{}}) AS words (word, lock)"
    " WHERE pg_try_advisory_xact_lock(lock)"
)
"""It waits neither for the disk nor for a replica, and hardly for others."""
_IDENTITY = "SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database())"
_LISTEN_REMEDY = "name the server itself there, or a pooler in session mode"
_WRITTEN = "notifyctl: written"
_woken_at: WeakKeyDictionary[Engine, dict[Channel, float]] = WeakKeyDictionary()


def wake_after_commit(session: Session, channels: Collection[Channel]) -> None:
    """Once this transaction is committed, whoever does that, the channels' workers are told that there is work.

    A word that is lost costs a second: that often workers look by themselves.
    """
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        return
    transaction, before = session.get_transaction(), session.info.get(_WRITTEN)
    so_far = before.channels if before is not None and before.transaction is transaction else frozenset()
    session.info[_WRITTEN] = _Written(transaction, connection, so_far.union(channels))


@event.listens_for(AnySession, "after_commit")
def _on_commit(session: Session) -> None:
    """Of a savepoint, too. Of all sessions, whoever made them: to listen to each anew costs more than to be asked."""
    written: _Written | None = session.info.get(_WRITTEN)
    if written is None or session.in_nested_transaction():
        return
    session.info[_WRITTEN] = None
    # Another transaction is that after one that was rolled back; and a connection's own is still to be committed.
    if session.get_transaction() is written.transaction and not written.connection.in_transaction():
        _wake(written.connection, written.channels)


def _wake(connection: Connection, channels: frozenset[Channel]) -> None:
    """On the connection that has committed: another one might have to be waited for. Never fails."""
    now, woken_at = monotonic(), _woken_at.setdefault(connection.engine, {})
    due = [channel for channel in channels if now - woken_at.get(channel, -SILENT_SECONDS) >= SILENT_SECONDS]
    if not due:
        return
    woken_at.update(dict.fromkeys(due, now))
    driver = connection.connection
    try:
        cursor = driver.cursor()
        cursor.execute(_WAKE.format(", ".join(f"('{channel}', {WAKE_LOCKS[channel]})" for channel in due)))
        cursor.close()
        driver.commit()
    except Exception:  # noqa: BLE001  what was to be done is committed, and a worker finds it
        with suppress(Exception):
            driver.rollback()


class _Written(NamedTuple):
    """What a session has written that is to be told of."""

    transaction: SessionTransaction | None
    connection: Connection
    channels: frozenset[Channel]


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
        self._heard: frozenset[Channel] = frozenset()

    @property
    def is_stale(self) -> bool:
        """Other connections to its server were dropped: it would listen there to the end of its days."""
        return self._dropped != self._database.dropped

    def wait(self, timeout: float) -> frozenset[Channel]:
        """In which channels there may be something new, within `timeout` seconds; returns as soon as there is."""
        with self._database.translated(listening=True):
            return self._hear(timeout) if self.is_listening else self._poll(timeout)

    def close(self) -> None:
        self._connection.invalidate()
        self._connection.close()

    def _hear(self, timeout: float) -> frozenset[Channel]:
        """A word counts twice: at once, and later for what others have committed without one."""
        again = self._heard
        words = self._driver.notifies(timeout=AGAIN_SECONDS if again else timeout, stop_after=1)
        self._heard = frozenset[Channel]().union(*(_channels(word.payload) for word in words))
        return again | self._heard

    def _poll(self, timeout: float) -> frozenset[Channel]:
        deadline = monotonic() + timeout
        while monotonic() < deadline:
            state = self._look()
            if state != self._state:
                self._state = state
                return EVERYTHING
            sleep(SQLITE_CHECK_SECONDS if self._is_sqlite else POLL_SECONDS)
        return frozenset()

    def _look(self) -> object:
        """What is another as soon as anybody has committed a change."""
        question = "PRAGMA data_version" if self._is_sqlite else "SELECT pg_current_snapshot()::text"
        return self._ask(question).fetchone()[0]

    def _ask(self, statement: str) -> Any:
        """Outside any transaction."""
        return self._driver.execute(statement)


def _channels(word: str) -> frozenset[Channel]:
    """Without a name, as the version before says it, of them all."""
    return frozenset({Channel(word)}) if word in EVERYTHING else EVERYTHING


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
