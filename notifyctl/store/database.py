"""The engine for either database, and the only two ways to open a transaction."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlmodel import Session

from notifyctl.clock import Clock, system_clock
from notifyctl.errors import DatabaseError

SQLITE_BUSY_SECONDS = 30
CLOCK_RESYNC_SECONDS = 60


class Database:
    """Opens nothing until the first transaction.

    On SQLite the file is made with mode 0600, in WAL mode with synchronous=FULL.
    On PostgreSQL transactions are READ COMMITTED: the per-client and per-phone critical sections lock first
    and count afterwards, which needs a fresh snapshot for each statement.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.url = parsed if self.is_sqlite else parsed.set(drivername="postgresql+psycopg")
        self.engine = self._sqlite_engine() if self.is_sqlite else self._postgres_engine()
        self.clock: Clock = system_clock if self.is_sqlite else DatabaseClock(self.engine)

    def __str__(self) -> str:
        return self.url.difference_update_query(["password"]).render_as_string(hide_password=True)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits when the block ends and rolls back when it raises.

        SQLite takes the write lock at once (BEGIN IMMEDIATE): a deferred BEGIN that reads before it writes fails
        with "database is locked" whatever the busy timeout. Raises DatabaseError when the database cannot be used.
        """
        with self._session("IMMEDIATE") as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading only; what it writes is rolled back."""
        with self._session("DEFERRED") as session:
            yield session

    @contextmanager
    def _session(self, begin: str) -> Iterator[Session]:
        with self.translated(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.info["begin"] = begin
            with Session(connection) as session:
                yield session

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turns the driver's errors into DatabaseError."""
        try:
            yield
        except (IntegrityError, DataError):
            raise
        except DBAPIError as error:
            raise DatabaseError(self._explain(error)) from error

    def _explain(self, error: DBAPIError) -> str:
        cause = " ".join(str(error.orig).split())
        if isinstance(error, ProgrammingError) or "no such table" in cause or "no such column" in cause:
            return f"Database {self} is not migrated ({cause}); run `notifyctl db upgrade`"
        if "locked" in cause:
            return f"Database {self} is locked by another process for over {SQLITE_BUSY_SECONDS} s; end it or try again"
        return f"Database {self} cannot be used: {cause}; check DATABASE_URL and that the server is running"

    def close(self) -> None:
        self.engine.dispose()

    def _sqlite_engine(self) -> Engine:
        path = Path(self.url.database or "")
        _create_private(path)
        engine = create_engine(
            self.url,
            hide_parameters=True,
            connect_args={"timeout": SQLITE_BUSY_SECONDS, "check_same_thread": False},
        )

        @event.listens_for(engine, "connect")
        def _configure(connection: sqlite3.Connection, _record: Any) -> None:
            # The driver's own BEGIN is deferred: switch it off, and begin ourselves.
            connection.isolation_level = None
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA cache_size=-65536")

        @event.listens_for(engine, "begin")
        def _begin(connection: Any) -> None:
            connection.exec_driver_sql(f"BEGIN {connection.info.get('begin', 'IMMEDIATE')}")

        return engine

    def _postgres_engine(self) -> Engine:
        return create_engine(
            self.url,
            isolation_level="READ COMMITTED",
            hide_parameters=True,
            pool_size=8,
            max_overflow=16,
            connect_args={"connect_timeout": 5, "application_name": "notifyctl"},
        )


def _create_private(path: Path) -> None:
    if path.name in ("", ":memory:"):
        raise DatabaseError("DATABASE_URL must name a file: workers share it. Use sqlite:///path/to/notifyctl.db")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Only a file that is not there yet: closing any descriptor of a database drops the locks that SQLite holds
        # on it in this process, and the next writer may then corrupt it (SQLite, How To Corrupt, 2.2).
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR))
    except FileExistsError:
        if path.is_dir():
            raise DatabaseError(f"Database file {path} is a directory; check DATABASE_URL") from None
    except OSError as error:
        raise DatabaseError(f"Database file {path} cannot be opened: {error.strerror}; check DATABASE_URL") from error


class DatabaseClock:
    """The database's clock, so that leases and windows agree across hosts whose own clocks differ.

    The difference to this host is measured again every minute, on a connection of its own.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._measured_at = -float(CLOCK_RESYNC_SECONDS)
        self._database_time = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> datetime:
        if monotonic() - self._measured_at >= CLOCK_RESYNC_SECONDS:
            with self._engine.connect() as connection:
                asked = monotonic()
                self._database_time = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
                self._measured_at = (asked + monotonic()) / 2
        return (self._database_time + timedelta(seconds=monotonic() - self._measured_at)).astimezone(UTC)
