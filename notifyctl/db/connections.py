"""How a connection to PostgreSQL is opened, also through a pooler, and what a fork does to it.

A pooler in transaction mode gives each transaction the server's session that is free. So nothing is set for a session
there: the limits are set by each transaction for itself, and no statement is prepared.
"""

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from notifyctl.errors import WrongSchema

if TYPE_CHECKING:
    import psycopg

CONNECTIONS = 26
KEPT = 8
OUTSIDE_THE_POOL = 2
"""The connection that listens, and for a moment each minute the clock's."""
LOCK_SECONDS = 20
"""Nobody waits for a lock for longer than a lease allows."""
IDLE_SECONDS = 30
"""A process that is frozen or cut off in the middle of a transaction must not hold its locks against all others."""
CONNECT_ARGUMENTS = {
    "connect_timeout": 5,
    "application_name": "notifyctl",
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A machine that vanishes says nothing: what waits for it is told after 14 seconds at most, on Linux after 11. Probes
of a sleeping connection cost a packet each 5 seconds.
"""


_SQLITE_URL = "sqlite:///"


def parsed(url: str) -> URL:
    """SQLite's path is taken as it stands: elsewhere in a URL %41 would be A, and options begin behind a ?."""
    if url.startswith(_SQLITE_URL):
        return URL.create("sqlite", database=url.removeprefix(_SQLITE_URL))
    from_text = make_url(url)
    return from_text if from_text.get_backend_name() == "sqlite" else with_driver(from_text)


def with_driver(url: URL) -> URL:
    return url.set(drivername="postgresql+psycopg")


def shown(url: URL) -> str:
    """As people write it: without the driver, and without what is secret."""
    if url.get_backend_name() == "sqlite":
        return f"{_SQLITE_URL}{url.database or ''}"
    url = url.set(drivername=url.get_backend_name())
    return url.difference_update_query(["password"]).render_as_string(hide_password=True)


def pooled_engine(url: URL, connections: int, patience_seconds: float | None) -> Engine:
    """For transactions: `connections` of a process, less those outside the pool."""
    most = connections - OUTSIDE_THE_POOL
    kept = min(KEPT, most)
    # The last one used is the next: it has the statements prepared that are run just now.
    return _engine(url, patience_seconds, pool_size=kept, max_overflow=most - kept, pool_use_lifo=True)


def single_engine(url: URL) -> Engine:
    """Opens a connection each time, and keeps none."""
    return _engine(url, None, poolclass=NullPool)


def is_behind_a_pooler(connection: Connection) -> bool:
    return bool(connection.info.get("is_behind_a_pooler"))


def _engine(url: URL, patience_seconds: float | None, **pool: Any) -> Engine:
    ours = {name: value for name, value in CONNECT_ARGUMENTS.items() if name not in url.query}
    engine = create_engine(url, isolation_level="AUTOCOMMIT", hide_parameters=True, connect_args=ours, **pool)
    lock_seconds = LOCK_SECONDS if patience_seconds is None else patience_seconds

    @event.listens_for(engine, "connect", insert=True)  # SQLAlchemy's own first look takes text for granted
    def _refuse_other_encodings(connection: "psycopg.Connection", _entry: ConnectionPoolEntry) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding not in (None, "UTF8"):
            connection.close()
            raise WrongSchema(
                f"database {shown(url)} has the encoding {encoding}, which cannot hold every mail; make one with"
                " `createdb --encoding UTF8 --locale C.UTF-8 --template template0`"
            )

    @event.listens_for(engine, "connect")
    def _configure(connection: "psycopg.Connection", entry: ConnectionPoolEntry) -> None:
        _speak_plainly(connection)
        # A pooler shows a number of its own in the place of the server's.
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        if row is not None and row[0] != connection.info.backend_pid:
            entry.info["is_behind_a_pooler"] = True
            connection.prepare_threshold = None
        else:
            # Whoever ends idle sessions means people's: each pause would end with a request that is refused.
            idle = b"; SET SESSION idle_session_timeout = 0" if connection.info.server_version >= 140_000 else b""
            connection.execute(_limits("SESSION", lock_seconds) + idle, prepare=False)
        _sockets.add(connection)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            return
        driver: Any = connection.connection.driver_connection
        hasty: float | None = connection.info.pop("lock_seconds", None)
        begin = BEGIN_READING if connection.info.pop("begin", None) == "DEFERRED" else BEGIN
        if hasty is not None or is_behind_a_pooler(connection):
            begin = with_limits(begin, lock_seconds if hasty is None else hasty)
        try:
            driver.execute(begin, prepare=False)
        except Exception as error:
            if not driver.broken:
                raise
            # As SQLAlchemy does for every other statement, which hands on what is raised here as it is.
            connection.invalidate(error)
            raise OperationalError("BEGIN", None, error, connection_invalidated=True) from error

    return engine


_PLAIN = {"client_encoding": "UTF8", "DateStyle": "ISO"}
"""The only form in which the driver reads times, and the only encoding that has every letter."""


def _speak_plainly(connection: "psycopg.Connection") -> None:
    """Whatever is set on the role or its database, for people who read there. A pooler keeps both for its client."""
    for name, plain in _PLAIN.items():
        spoken = connection.info.parameter_status(name)
        if spoken is not None and spoken.partition(",")[0] != plain:
            connection.execute(f"SET {name} = '{plain}'".encode(), prepare=False)


BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"
BEGIN_READING = BEGIN + b" READ ONLY"


def with_limits(begin: bytes, lock_seconds: float) -> bytes:
    """BEGIN and the limits in one round trip, as the driver's own BEGIN takes one."""
    return begin + b"; " + _limits("LOCAL", lock_seconds)


def _limits(scope: str, lock_seconds: float) -> bytes:
    return (
        f"SET {scope} idle_in_transaction_session_timeout = {IDLE_SECONDS * 1000};"
        f" SET {scope} lock_timeout = {lock_seconds * 1000:.0f}"
    ).encode()


class Forkable(Protocol):
    def before_fork(self) -> None: ...

    def in_child(self) -> None: ...


_forkables: WeakSet[Forkable] = WeakSet()
_sockets: "WeakSet[psycopg.Connection]" = WeakSet()


def follow_forks(one: Forkable) -> None:
    """What is done to it around each os.fork, for as long as it lives."""
    _forkables.add(one)


def _before_fork() -> None:
    for one in list(_forkables):
        one.before_fork()


def _in_child() -> None:
    """The parent goes on with its connections: to the server, none of them is ours any more.

    What is still used here by mistake reads the end of a file, and never an answer that is the parent's; and when the
    parent dies, the server learns of it.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for connection in list(_sockets):
        with suppress(Exception):
            os.dup2(nothing, connection.fileno())
    os.close(nothing)
    _sockets.clear()
    for one in list(_forkables):
        one.in_child()


os.register_at_fork(before=_before_fork, after_in_child=_in_child)
