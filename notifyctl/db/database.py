"""The engine for either database, and the only two ways to open a transaction."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from time import monotonic
from urllib.parse import unquote

import platformdirs
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlmodel import Session

from notifyctl.clock import Clock, system_clock
from notifyctl.db.connections import CONNECTIONS, follow_forks, parsed, pooled_engine, shown, single_engine
from notifyctl.db.failures import ends_connections, obstacle, unusable
from notifyctl.errors import DatabaseError, NotWritable, WrongSchema
from notifyctl.settings import Settings

SQLITE_BUSY_SECONDS = 30
SQLITE_LOG_BYTES = 16 * 1024 * 1024
"""How long the -wal file may stay once all of it is in the database; SQLite begins anew in it from 4 MB on."""
CLOCK_RESYNC_SECONDS = 60
CLOCK_RETRY_SECONDS = 5
"""A server that does not answer must not hold up everyone who asks for the time."""


class Database:
    """Opens nothing until the first transaction.

    On SQLite a new file has mode 0600; it is in WAL mode with synchronous=FULL. One that is gone later on is not made
    again: that would be another, empty database.
    On PostgreSQL transactions are READ COMMITTED: the per-client and per-phone critical sections lock first
    and count afterwards, which needs a fresh snapshot for each statement.
    """

    def __init__(
        self,
        url: str,
        *,
        listen_url: str | None = None,
        connections: int = CONNECTIONS,
        patience_seconds: float | None = None,
        create: bool = True,
    ) -> None:
        """`patience_seconds`: how long to wait for others' locks. Without `create`, a file must be there already.

        With it, the file is made at once, and the last folder of its path as well. `listen_url` is another way to the
        same PostgreSQL, for what needs a session of the server's; `connections` is how many a process opens at most.
        """
        self._patience_seconds = patience_seconds
        self._create = create
        self.dropped = 0
        """How often all connections were given up. Who keeps one beside the pool looks here whether it still serves."""
        self.is_new = False
        """Whether the file was made just now."""
        self.url = parsed(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.listen_url = None if listen_url is None or self.is_sqlite else parsed(listen_url)
        self.engine = (
            self._sqlite_engine() if self.is_sqlite else pooled_engine(self.url, connections, patience_seconds)
        )
        event.listen(self.engine, "connect", self._remember_drops)
        event.listen(self.engine, "checkin", self._close_if_dropped)
        self._unusable: tuple[type[Exception], ...] = (DBAPIError, PoolTimeout, *_driver_errors(self.is_sqlite))
        self.clock: Clock = system_clock if self.is_sqlite else DatabaseClock(self)
        self._open_at_fork = 0
        self._was_forked_in_use = False
        follow_forks(self)

    def __str__(self) -> str:
        return shown(self.url)

    @contextmanager
    def transaction(self, *, lock_seconds: float | None = None) -> Iterator[Session]:
        """A session that commits when the block ends and rolls back when it raises.

        `lock_seconds`: for so long it waits for a row that somebody has locked, where the database locks rows.

        SQLite takes the write lock at once (BEGIN IMMEDIATE): a deferred BEGIN that reads before it writes fails
        with "database is locked" whatever the busy timeout. Raises DatabaseError when the database cannot be used.
        """
        with self._session("IMMEDIATE", lock_seconds) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading only: on PostgreSQL what would write fails, on SQLite it is rolled back."""
        with self._session("DEFERRED") as session:
            yield session

    @contextmanager
    def glance(self) -> Iterator[Session]:
        """A session for one statement that reads. On PostgreSQL that takes one round trip and no transaction."""
        if self.is_sqlite:
            with self.read() as session:
                yield session
            return
        with self.translated(), self.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            with Session(connection) as session:
                yield session

    @contextmanager
    def _session(self, begin: str, lock_seconds: float | None = None) -> Iterator[Session]:
        with self.translated(), self.engine.connect() as connection:
            connection.info["begin"] = begin
            if lock_seconds is not None:
                connection.info["lock_seconds"] = lock_seconds
            # What was read stays as it was read.
            with Session(connection, expire_on_commit=begin != "DEFERRED") as session:
                yield session
                # psycopg throws away what it has prepared with every ROLLBACK, and all would be planned anew.
                if begin == "DEFERRED" and not self.is_sqlite and not connection.invalidated:
                    session.commit()

    @contextmanager
    def translated(self, *, listening: bool = False) -> Iterator[None]:
        """Turns the driver's errors into DatabaseError; `listening`, those of the connection that listens."""
        try:
            yield
        except (IntegrityError, DataError):
            raise
        except self._unusable as error:
            if "Could not decode to UTF-8" in str(error):
                raise  # SQLite keeps what is no text in a column of text: that is one row's fault, as a DataError is
            if ends_connections(error):
                self.drop_connections()
            by_another_way = listening and self.listen_url is not None
            setting = "DATABASE_LISTEN_URL" if by_another_way else "DATABASE_URL"
            place = f"database {shown(self.listen_url or self.url) if by_another_way else self}"
            raise unusable(error, place, setting, self.url) from error

    def require_writable(self) -> None:
        """Raises DatabaseError, where a write would be refused, or a commit never be answered."""
        with self.read() as session:
            found = obstacle(session)
        if found:
            raise NotWritable(f"database {self} cannot be written: {'; '.join(found)}")

    def drop_connections(self) -> None:
        """Their server can no longer write, or is gone. Those in use are closed when their transaction ends."""
        self.dropped += 1
        self.engine.dispose()

    def close(self) -> None:
        self.drop_connections()

    def _remember_drops(self, _connection: object, entry: ConnectionPoolEntry) -> None:
        entry.info["dropped"] = self.dropped

    def _close_if_dropped(self, _connection: object, entry: ConnectionPoolEntry) -> None:
        """It goes back to a pool that nobody has any more, and would stay open until that is collected."""
        entry.info.pop("begin", None)  # of who asked nothing: the next one may write
        if entry.info.get("dropped") != self.dropped:
            entry.invalidate()

    def before_fork(self) -> None:
        """No connection to a SQLite file may be carried into a fork (SQLite, How To Corrupt, 2.6)."""
        if self.is_sqlite:
            self._open_at_fork = _checked_out(self.engine)
            self.engine.dispose()

    def in_child(self) -> None:
        """The parent keeps its connections; what SQLite knows of a file that was in use is the parent's as well."""
        if self.is_sqlite:
            self._was_forked_in_use = self._open_at_fork + _checked_out(self.engine) > 0
        self.engine.dispose(close=False)
        if isinstance(self.clock, DatabaseClock):
            self.clock.in_child()

    def _sqlite_engine(self) -> Engine:
        path = Path(self.url.database or "")
        if path.name in ("", ":memory:"):
            raise DatabaseError("DATABASE_URL must name a file: workers share it. Use sqlite:///path/to/notifyctl.db")
        if self._create:
            self.is_new = _create_private(path)
        patience = SQLITE_BUSY_SECONDS if self._patience_seconds is None else self._patience_seconds
        engine = create_engine(
            self.url,
            hide_parameters=True,
            connect_args={"timeout": patience, "check_same_thread": False},
        )

        @event.listens_for(engine, "do_connect")
        def _look(*_arguments: object) -> None:
            if self._was_forked_in_use:
                raise DatabaseError(
                    f"database {self} was in use when this process was forked; fork between transactions"
                )
            _require(path)

        @event.listens_for(engine, "connect")
        def _configure(connection: sqlite3.Connection, _record: object) -> None:
            # The driver's own BEGIN is deferred: switch it off, and begin ourselves.
            connection.isolation_level = None
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA cache_size=-65536")
            # Else the log stays as long as the largest import has made it.
            connection.execute(f"PRAGMA journal_size_limit={SQLITE_LOG_BYTES}")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            if connection.info.get("begin") == "DEFERRED":
                driver.execute("BEGIN DEFERRED")
            else:
                _begin_immediate(driver, patience)

        return engine


def open_database(settings: Settings, *, create: bool = False, patience_seconds: float | None = None) -> Database:
    """The only way from settings to a Database: each setting about it has its effect wherever one is opened."""
    return Database(
        settings.database_url,
        listen_url=settings.database_listen_url,
        connections=settings.database_pool_size,
        patience_seconds=patience_seconds,
        create=create,
    )


def _checked_out(engine: Engine) -> int:
    return engine.pool.checkedout() if isinstance(engine.pool, QueuePool) else 0


def _driver_errors(is_sqlite: bool) -> tuple[type[Exception], ...]:
    if is_sqlite:
        return (sqlite3.Error,)
    import psycopg

    return (psycopg.Error,)


def _begin_immediate(driver: sqlite3.Connection, patience_seconds: float) -> None:
    """Tries every few milliseconds: SQLite's own waiting backs off to 100 ms, and starves beside a busy writer."""
    deadline = monotonic() + patience_seconds
    driver.execute("PRAGMA busy_timeout=5")
    try:
        while True:
            try:
                driver.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or monotonic() > deadline:
                    raise
    finally:
        driver.execute(f"PRAGMA busy_timeout={patience_seconds * 1000:.0f}")


def _require(path: Path) -> None:
    """Raises WrongSchema for a file that is not there, which no waiting mends, and DatabaseError for no access."""
    try:
        is_there = path.exists()
    except OSError as error:
        raise DatabaseError(f"database file {path} cannot be opened: {error.strerror}; check DATABASE_URL") from error
    if not is_there:
        _refuse_encoded(path)
        raise WrongSchema(f"there is no database file {path}; run `notifyctl db upgrade`, or check DATABASE_URL")
    _refuse_folder(path)


def _refuse_encoded(path: Path) -> None:
    """Once `%20` was a blank in DATABASE_URL. An empty database beside the old one would forget who has opted out."""
    plain = unquote(str(path))
    if plain != str(path) and not os.path.lexists(path) and os.path.exists(plain):
        raise WrongSchema(
            f"there is no database file {path}: a path in DATABASE_URL is taken as it stands; write sqlite:///{plain}"
        )


def _create_private(path: Path) -> bool:
    """False for a file that is there already."""
    _refuse_encoded(path)
    try:
        _make_folder(path.parent)
        # Only a file that is not there yet: closing any descriptor of a database drops the locks that SQLite holds
        # on it in this process, and the next writer may then corrupt it (SQLite, How To Corrupt, 2.2).
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR))
    except FileExistsError:
        _refuse_folder(path)
        return False
    except OSError as error:
        raise DatabaseError(f"database file {path} cannot be opened: {error.strerror}; check DATABASE_URL") from error
    return True


def _make_folder(folder: Path) -> None:
    """All of the path only for the default database: elsewhere it is more likely to be mistyped."""
    if folder.is_dir():
        return
    if not folder.parent.is_dir() and folder != _default_folder():
        raise DatabaseError(f"there is no folder {folder.parent} for a database; make it, or check DATABASE_URL")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _default_folder() -> Path | None:
    try:
        return platformdirs.user_data_path("notifyctl")
    except RuntimeError:
        return None


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise DatabaseError(f"database file {path} is a directory; check DATABASE_URL")


class DatabaseClock:
    """The database's clock, so that leases and windows agree across hosts whose own clocks differ.

    The difference to this host is measured again every minute, and when connections were dropped, for then it may be
    another server's; outside the pool, since the caller may hold its last connection. Raises DatabaseError only when it
    could never be measured.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._engine = single_engine(database.url)
        self._measuring = Lock()
        self._measured: tuple[datetime, float] | None = None
        """The database's time, and when it was that by our monotonic clock."""
        self._dropped = database.dropped
        """As of the connections by which it was measured."""
        self._failed_at = float(-CLOCK_RETRY_SECONDS)

    def __call__(self) -> datetime:
        measured = self._measured
        if measured is None or (self._is_old(measured[1]) and monotonic() - self._failed_at >= CLOCK_RETRY_SECONDS):
            measured = self._measure()
        return (measured[0] + timedelta(seconds=monotonic() - measured[1])).astimezone(UTC)

    def in_child(self) -> None:
        """Of a fork: whoever measured is not here to let go."""
        self._measuring = Lock()

    def _is_old(self, measured_at: float) -> bool:
        return monotonic() - measured_at >= CLOCK_RESYNC_SECONDS or self._dropped != self._database.dropped

    def _measure(self) -> tuple[datetime, float]:
        """One caller at a time; the others go on with what was measured last."""
        if not self._measuring.acquire(blocking=self._measured is None):
            assert self._measured is not None
            return self._measured
        try:
            dropped = self._database.dropped
            with self._database.translated(), self._engine.connect() as connection:
                before = monotonic()
                moment = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
                self._measured = (moment, (before + monotonic()) / 2)
            self._dropped = dropped
        except DatabaseError:
            self._failed_at = monotonic()
            if self._measured is None:
                raise
        finally:
            self._measuring.release()
        assert self._measured is not None
        return self._measured
