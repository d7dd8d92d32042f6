"""The one entry to schema changes, and which code may work on which schema.

Alembic is imported only by what changes the schema: every command asks for the state.

On PostgreSQL each revision has a transaction of its own, and waits for no lock for long: whatever queues behind a
statement that waits would wait as well. It is tried again until the others let it through. One that was interrupted is
begun anew, so that it passes over what it has done already (notifyctl/db/beside.py).
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Literal, cast

from sqlalchemy import Connection, bindparam, inspect, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, ProgrammingError

from notifyctl.db.connections import single_engine
from notifyctl.db.database import Database
from notifyctl.errors import DatabaseError, WrongSchema
from notifyctl.models.columns import UtcDateTime
from notifyctl.text.durations import rough_duration, worker_place

if TYPE_CHECKING:
    import psycopg
    from alembic.config import Config
    from alembic.script import Script, ScriptDirectory

_PACKAGE = Path(__file__).resolve().parent.parent
UPGRADE_LOCK = 0x6E6F7469
"""PostgreSQL advisory lock: two hosts that upgrade at once take turns."""
UNFINISHED = "unfinished copy"
"""In the place of a revision, for as long as `db copy` is at work on it: nobody may use half of a store."""
LOCK_MILLISECONDS = 500
"""So long a statement may queue for a table, and hold up what comes after it."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
PATIENCE_SECONDS = 600.0
IN_THE_WAY = ("55P03", "40P01")
"""lock_not_available, deadlock_detected."""
FIRST_CODE, LAST_SILENT = "0001", "0013"
SEEN = timedelta(minutes=1)
"""A worker that was not seen for so long is gone."""

Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    revision: str | None
    """None when the database has no notifyctl tables yet."""
    head: str
    """Of this code."""
    oldest_code: str | None = None
    """The head of the oldest code that may work on it; None where only its own may."""

    @property
    def is_current(self) -> bool:
        return self.revision == self.head

    @property
    def is_unfinished(self) -> bool:
        return self.revision == UNFINISHED

    @property
    def is_newer_than_code(self) -> bool:
        return self.revision is not None and not self.is_unfinished and self.revision > self.head

    @property
    def fits(self) -> bool:
        """Whether this code may work on it: on its own schema, or on a later one that leaves it all it needs."""
        return self.is_current or (self.is_newer_than_code and self.head >= (self.oldest_code or self.revision or ""))

    @property
    def difference(self) -> str:
        """In words, where it is not the code's own."""
        return f"it is at revision {self.revision}, and this notifyctl is of {self.head}"


@cache
def migrations_dir() -> Path:
    """Inside an installed wheel, or at the top of a checkout."""
    packed = _PACKAGE / "_migrations"
    return packed if packed.is_dir() else _PACKAGE.parent / "migrations"


@cache
def head_revision() -> str:
    """Revisions are numbered, so that the newest file's number is the head."""
    return max(path.name.split("_")[0] for path in (migrations_dir() / "versions").glob("[0-9]*_*.py"))


def schema_status(database: Database) -> SchemaStatus:
    """Raises DatabaseError when the database cannot be reached."""
    with database.read() as session:
        return _status(session.connection())


def _status(connection: Connection) -> SchemaStatus:
    if not inspect(connection).has_table("alembic_version"):
        return SchemaStatus(None, head_revision())
    # All columns: before revision 0014 there is no oldest_code.
    row = connection.execute(text("SELECT * FROM alembic_version")).mappings().one_or_none()
    if row is None:
        return SchemaStatus(None, head_revision())
    return SchemaStatus(row["version_num"], head_revision(), row.get("oldest_code"))


def require_fitting_schema(database: Database) -> None:
    """Raises WrongSchema that says whether the database or the program must be upgraded, or another DatabaseError."""
    status = schema_status(database)
    if status.fits:
        return
    if status.revision is None:
        raise WrongSchema(f"database {database} has no tables of notifyctl; run `notifyctl db upgrade`")
    if status.is_unfinished:
        raise WrongSchema(f"database {database} is an {UNFINISHED}; let `notifyctl db copy` end, or run it again")
    if status.is_newer_than_code:
        raise WrongSchema(
            f"database {database} is at revision {status.revision}, newer than this notifyctl ({status.head}); it takes"
            f" one of {status.oldest_code or status.revision} or later: upgrade the program"
        )
    raise WrongSchema(
        f"database {database} is at revision {status.revision}, this notifyctl needs {status.head};"
        " run `notifyctl db upgrade`"
    )


def upgrade(database: Database, revision: str = "head", tell: Tell = lambda _line: None) -> SchemaStatus:
    """Brings the schema to `revision`, and tells of each on the way. Two upgrades at once take turns.

    A schema that is newer, and fits, is left as it is.
    """
    before = schema_status(database)
    if before.is_newer_than_code or before.is_unfinished:
        require_fitting_schema(database)
        return before
    if database.is_sqlite:
        with database.transaction() as session:
            connection = session.connection()
            done = [_upgrade_to(database, connection, step) for step in _plan(database, connection, revision)]
        for line in done:
            tell(line)
    else:
        with database.translated(), _turn(database, tell) as keeper:
            with database.engine.connect() as connection:
                steps = _plan(database, connection, revision)
            for step in steps:
                tell(_upgrade_beside_others(database, keeper, step, tell))
    return schema_status(database)


def downgrade(database: Database, revision: str) -> SchemaStatus:
    """In one transaction, whoever waits meanwhile."""
    with database.transaction() as session:
        connection = session.connection()
        _run("downgrade", connection, revision)
        at = _status(connection).revision
        _record_range(connection, _scripts(connection).get_revision(at) if at else None)
    return schema_status(database)


def begin_step(connection: Connection) -> None:
    connection.begin()
    # Whatever a role is allowed otherwise, a revision takes as long as its tables are large.
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")


@contextmanager
def _turn(database: Database, tell: Tell) -> Iterator[Connection]:
    """A transaction that holds the lock, since behind a pooler a session's lock would be anybody's.

    Who waits asks again and again: the snapshot of a statement that waited would hold up the other's CREATE INDEX
    CONCURRENTLY, and so itself.
    """
    # Outside the pool, of which the rest may need all that DATABASE_POOL_SIZE allows.
    with single_engine(database.url).connect() as keeper, keeper.begin():
        keeper.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        has_told = False
        while _asked(keeper, f"SELECT pg_try_advisory_xact_lock({UPGRADE_LOCK})") != (True,):
            if not has_told:
                tell("Another upgrade of this database is running: this one waits for it.")
                has_told = True
            sleep(FIRST_PAUSE)
        yield keeper


def _plan(database: Database, connection: Connection, revision: str) -> "list[Script]":
    """The steps from where the schema is, unless one of them would take from a worker what it needs."""
    at = _status(connection).revision
    steps = list(_scripts(connection).iterate_revisions(revision, at or "base"))[::-1]
    if steps:
        _require_later_workers(database, connection, max(steps, key=_oldest_code))
    return steps


def _upgrade_beside_others(database: Database, keeper: Connection, step: "Script", tell: Tell) -> str:
    began, pause = monotonic(), FIRST_PAUSE
    while True:
        _asked(keeper, "SELECT 1")  # which fails where our turn is lost
        try:
            with database.engine.connect() as connection:
                begin_step(connection)
                _upgrade_to(database, connection, step)
                connection.commit()
        except DBAPIError as error:
            is_in_the_way = getattr(error.orig, "sqlstate", None) in IN_THE_WAY
            if not is_in_the_way or monotonic() - began > PATIENCE_SECONDS:
                raise
            tell(
                f"{step.revision}  waits: others use its tables{_oldest_transaction(keeper)}. Next try in {pause:g} s."
            )
            sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            return _told(step, monotonic() - began)


def _upgrade_to(database: Database, connection: Connection, step: "Script") -> str:
    began = monotonic()
    _require_later_workers(database, connection, step)
    try:
        _run("upgrade", connection, step.revision)
    except (IntegrityError, DataError) as error:
        cause = " ".join(str(error.orig).split("\n")[0].split())
        raise DatabaseError(
            f"database {database} has rows that revision {step.revision} cannot take ({cause}); mend them, then run"
            " `notifyctl db upgrade` again"
        ) from error
    except (OperationalError, ProgrammingError) as error:
        taken = _TAKEN.search(str(error.orig))
        if taken is None:
            raise
        raise WrongSchema(
            f"database {database} has {taken[1]!r} already, and no upgrade of notifyctl has made it; name an empty"
            f" database in DATABASE_URL, or rename what is there and run `notifyctl db upgrade` again"
        ) from error
    _record_range(connection, step)
    return _told(step, monotonic() - began)


_TAKEN = re.compile(r'(?:table|index|relation) "?(\w+)"? already exists')


def _told(step: "Script", seconds: float) -> str:
    return f"{step.revision}  {' '.join(step.doc.split())}  ({seconds:.1f} s)"


def _oldest_transaction(keeper: Connection) -> str:
    """In words, after what it is about; empty where none is old enough to be in the way."""
    _asked(keeper, "SELECT pg_stat_clear_snapshot()")
    row = _asked(keeper, _OLDEST_TRANSACTION)
    if row is None:
        return ""
    pid, name, seconds = row
    return f"; pid {pid} ({name}) has a transaction open for {rough_duration(float(str(seconds)))}"


def _asked(keeper: Connection, statement: str) -> tuple[object, ...] | None:
    """The first row, by the simple protocol: the other leaves a portal open, whose snapshot an index would wait for."""
    driver = cast("psycopg.Connection[tuple[object, ...]]", keeper.connection.driver_connection)
    return driver.execute(statement.encode(), prepare=False).fetchone()


_OLDEST_TRANSACTION = """
    SELECT pid, coalesce(nullif(application_name, ''), usename), extract(epoch FROM clock_timestamp() - xact_start)
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND xact_start < clock_timestamp() - interval '500 ms'  -- LOCK_MILLISECONDS
    ORDER BY xact_start LIMIT 1
"""


def _oldest_code(step: "Script") -> str:
    """As the revision says of itself. One that does not is for its own code, but for those of before anybody asked."""
    return str(getattr(step.module, "oldest_code", step.revision if step.revision > LAST_SILENT else FIRST_CODE))


def _record_range(connection: Connection, step: "Script | None") -> None:
    if step and any(column["name"] == "oldest_code" for column in inspect(connection).get_columns("alembic_version")):
        oldest = _oldest_code(step)
        connection.execute(text("UPDATE alembic_version SET oldest_code = :oldest"), {"oldest": oldest})


def _require_later_workers(database: Database, connection: Connection, step: "Script") -> None:
    """Raises WrongSchema for a step that takes away what code of before needs, while a worker with such code runs."""
    oldest = _oldest_code(step)
    if oldest <= (_status(connection).oldest_code or FIRST_CODE):
        return
    workers = _workers(database, connection)
    older = [f"{worker_place(name)} of {code or 'before 0014'}" for name, code in workers if (code or "") < oldest]
    if older:
        raise WrongSchema(
            f"revision {step.revision} takes away what notifyctl before {oldest} needs, and such workers were seen"
            f" in the last minute: {', '.join(older)}; stop them, then run `notifyctl db upgrade` again"
        )


def _workers(database: Database, connection: Connection) -> Iterator[tuple[str, str | None]]:
    """Those at work, and the revision of their code, which none says of before 0014."""
    if not inspect(connection).has_table("worker_heartbeat"):
        return
    # The server's own time: the clock of a Database takes one more connection, which a pooler may not have.
    asked = text("SELECT clock_timestamp()")
    now = database.clock() if database.is_sqlite else connection.execute(asked).scalar_one()
    since = bindparam("since", now - SEEN, type_=UtcDateTime)
    # All columns: a store of before lacks some.
    seen = text("SELECT * FROM worker_heartbeat WHERE seen_at >= :since ORDER BY worker").bindparams(since)
    for row in connection.execute(seen).mappings():
        if row.get("left_at") is None:
            yield row["worker"], row.get("revision")


def _run(step: Literal["upgrade", "downgrade"], connection: Connection, revision: str) -> None:
    from alembic import command

    run = command.upgrade if step == "upgrade" else command.downgrade
    run(_config(connection), revision)


def _scripts(connection: Connection) -> "ScriptDirectory":
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config(connection))


def _config(connection: Connection) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
