"""How a command gets its Runtime."""

from collections.abc import Iterator
from contextlib import contextmanager

from notifyctl.bootstrap import Runtime, open_runtime
from notifyctl.cli import options
from notifyctl.db.database import open_database
from notifyctl.db.migrations import require_fitting_schema
from notifyctl.errors import DatabaseError, WrongSchema


@contextmanager
def opened_runtime(*, migrated: bool = True, create: bool = False, lasting: bool = False) -> Iterator[Runtime]:
    """The Runtime of this call. Raises DatabaseError first if the schema is not the one this code knows.

    Only with `create` is a file made that is not there: a mistyped DATABASE_URL must not look like a new start.
    What is `lasting` bears a database that is away, at its start as later; only a wrong schema ends it.
    """
    settings = options.settings()
    runtime = open_runtime(settings, database=open_database(settings, create=create))
    try:
        if migrated:
            try:
                require_fitting_schema(runtime.database)
            except WrongSchema:
                raise
            except DatabaseError:
                if not lasting:
                    raise
        yield runtime
    finally:
        runtime.close()
