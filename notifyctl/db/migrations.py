"""The one entry to schema changes.

Alembic is imported only by what changes the schema: every command asks for the state.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from sqlalchemy import inspect, text

from notifyctl.db.database import Database
from notifyctl.errors import WrongSchema

_PACKAGE = Path(__file__).resolve().parent.parent
UPGRADE_LOCK = 0x6E6F7469
"""PostgreSQL advisory lock: two hosts that upgrade at once take turns."""
UNFINISHED = "unfinished copy"
"""In the place of a revision, for as long as `db copy` is at work on it: nobody may use half of a store."""


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    revision: str | None
    """None when the database has no notifyctl tables yet."""
    head: str

    @property
    def is_current(self) -> bool:
        return self.revision == self.head

    @property
    def is_unfinished(self) -> bool:
        return self.revision == UNFINISHED

    @property
    def is_newer_than_code(self) -> bool:
        return self.revision is not None and self.revision > self.head


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
        connection = session.connection()
        if not inspect(connection).has_table("alembic_version"):
            return SchemaStatus(None, head_revision())
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return SchemaStatus(revision, head_revision())


def require_current_schema(database: Database) -> None:
    """Raises WrongSchema that says whether the database or the program must be upgraded, or another DatabaseError."""
    status = schema_status(database)
    if status.is_current:
        return
    if status.revision is None:
        raise WrongSchema(f"Database {database} has no tables of notifyctl; run `notifyctl db upgrade`")
    if status.is_unfinished:
        raise WrongSchema(f"Database {database} is an {UNFINISHED}; let `notifyctl db copy` end, or run it again")
    if status.is_newer_than_code:
        raise WrongSchema(
            f"Database {database} is at revision {status.revision}, newer than this notifyctl ({status.head});"
            " upgrade the program"
        )
    raise WrongSchema(
        f"Database {database} is at revision {status.revision}, this notifyctl needs {status.head};"
        " run `notifyctl db upgrade`"
    )


def upgrade(database: Database, revision: str = "head") -> SchemaStatus:
    """Brings the schema to `revision`, in one transaction. Two upgrades at once take turns."""
    before = schema_status(database)
    if before.is_newer_than_code:
        require_current_schema(database)
    _migrate(database, "upgrade", revision)
    return schema_status(database)


def downgrade(database: Database, revision: str) -> SchemaStatus:
    _migrate(database, "downgrade", revision)
    return schema_status(database)


def _migrate(database: Database, step: Literal["upgrade", "downgrade"], revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    with database.transaction() as session:
        connection = session.connection()
        if not database.is_sqlite:
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
        config.attributes["connection"] = connection
        run = command.upgrade if step == "upgrade" else command.downgrade
        run(config, revision)
