"""A backup of PostgreSQL: what pg_dump writes, and what pg_restore makes of it in a transaction of ours.

pg_dump sees the very snapshot that we count and verify. pg_restore only reads the file: its statements are executed
here, so that what is restored, and the marks by which nothing of it is sent again, are one commit.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, TypeAlias, cast

from sqlalchemy import inspect, select, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from notifyctl.audit.chain import SealKeys
from notifyctl.audit.verify import VerifyReport, verify_all
from notifyctl.db import migrations
from notifyctl.db.database import Database
from notifyctl.errors import InvalidInput, NotifyctlError, WrongSchema
from notifyctl.models.audit import AuditLog
from notifyctl.models.columns import table
from notifyctl.operations import heartbeats
from notifyctl.text.durations import moment, plural
from notifyctl.transfer.copy_store import Driver, count_rows, driver_of, tables

if TYPE_CHECKING:
    import psycopg

MAGIC = b"PGDMP"
REVISION = "alembic_version"
_audit = table(AuditLog)
Mark: TypeAlias = Callable[[Session], tuple[datetime | None, int]]
"""What is done to the restored rows in their own commit: when they were written last, and how many messages wait."""


@dataclass(frozen=True, slots=True)
class Loaded:
    revision: str
    rows: int
    taken_at: datetime | None
    """When something was last written to it."""
    waiting: int
    """Messages that wait, and are not sent before the store is recovered."""
    kept: str | None = None
    """Where what was there before is now."""


def last_written(session: Session) -> datetime | None:
    return session.execute(select(_audit.c.created_at).order_by(_audit.c.id.desc()).limit(1)).scalar_one_or_none()


def require_ours(session: Session, file: Path) -> str:
    """The revision of what was restored. Raises InvalidInput, or WrongSchema for a newer one."""
    if not inspect(session.connection()).has_table(REVISION):
        raise InvalidInput(f"{file} is no backup of notifyctl: it has no table {REVISION}")
    revision = str(session.execute(text(f"SELECT version_num FROM {REVISION}")).scalar_one())  # noqa: S608  our own words
    _require_known(revision, file)
    return revision


FIRST_REVISION = "0016"
"""From then on a store can say that it is to be recovered."""


def _require_known(revision: str, file: Path) -> None:
    head = migrations.head_revision()
    if revision == migrations.UNFINISHED:
        raise InvalidInput(f"{file} is of an {revision}; name another backup")
    if revision > head:
        raise WrongSchema(f"{file} is of revision {revision}, newer than this notifyctl ({head}); upgrade the program")
    if revision < FIRST_REVISION:
        raise WrongSchema(
            f"{file} is of revision {revision}, from before `db backup`; put it in place by hand, run"
            " `notifyctl db upgrade`, and `notifyctl db recover --since` with its time before a worker starts"
        )


def refuse_target(session: Session, database: Database, replace: bool, taken_at: datetime | None) -> None:
    """Raises NotifyctlError for a worker that is at work there, and InvalidInput for rows unless they may go."""
    if not inspect(session.connection()).has_table(REVISION):
        return
    heartbeats.refuse_workers(session, str(database), database.clock())
    rows = sum(count_rows(session).values())
    if rows and not replace:
        of = f" of {moment(taken_at)}" if taken_at else ""
        raise InvalidInput(
            f"{database} has {plural(rows, 'row')}, the last of {moment(last_written(session))}; --replace puts the"
            f" backup{of} in their place, without what was written since"
        )


def dump(database: Database, into: Path, keys: SealKeys) -> tuple[int, VerifyReport]:
    """How many rows are in it. Raises NotifyctlError where pg_dump is not there, is too old, or fails."""
    url = database.listen_url or database.url
    with database.read() as session:
        session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        program = _program("pg_dump", int(session.execute(text("SHOW server_version_num")).scalar_one()) // 10_000)
        schema = session.execute(text("SELECT current_schema()")).scalar_one()
        snapshot = session.execute(text("SELECT pg_export_snapshot()")).scalar_one()
        others = [
            f'--exclude-table="{schema}"."{name}"' for name in session.execute(_TABLES).scalars() if not _is_ours(name)
        ]
        what = ["--format=custom", "--no-password", f'--schema="{schema}"', *others, f"--snapshot={snapshot}"]
        options = database.engine.dialect.create_connect_args(url)[1]
        password = options.pop("password", None)
        with _running([program, *what, f"--file={into}", f"--dbname={_conninfo(options)}"], password):
            rows = sum(count_rows(session).values())
            report = verify_all(session, keys)
    written = _count_rows_in(_beside(program), into)
    if written != rows:
        raise NotifyctlError(f"pg_dump has written {plural(written, 'row')} of {rows:,}; the backup was not kept")
    return rows, report


def load(database: Database, file: Path, replace: bool, mark: Mark) -> Loaded:
    """All of it, or nothing is changed."""
    program = _program("pg_restore")
    entries = _entries(program, file)
    revision = _revision_in(program, file)
    _require_known(revision, file)
    functions = [entry.name for entry in entries if entry.kind == "FUNCTION"]
    with database.transaction() as session:
        refuse_target(session, database, replace, None)
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        session.execute(text("SET LOCAL check_function_bodies = off"))
        with tempfile.NamedTemporaryFile("w") as listed:
            listed.writelines(f"{entry.line}\n" for entry in entries)
            listed.flush()
            reading = [program, "--no-owner", "--no-privileges", f"--use-list={listed.name}", "--file=-", str(file)]
            try:
                _drop(session, functions)
                with _running(reading) as running:
                    _execute(driver_of(session), running)
            except (DBAPIError, database.engine.dialect.loaded_dbapi.Error) as error:
                cause = _cause(error)
                raise NotifyctlError(
                    f"{file} cannot be restored into {database}: {cause}; nothing was changed"
                ) from error
        rows = sum(count_rows(session).values())
        taken_at, waiting = mark(session)
    return Loaded(revision, rows, taken_at, waiting)


_TABLES = text(
    "SELECT relname FROM pg_class"
    " WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'f', 'm')"
)
_FUNCTIONS = text(
    "SELECT DISTINCT tgfoid::regprocedure::text FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
    " WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace"
)
_COPY = re.compile(rb"COPY \S+\.(\S+) \(.*\) FROM stdin;\n")
_IS_DEPENDED_ON = "2BP01"
"""dependent_objects_still_exist (PostgreSQL, appendix A)."""
_END = b"\\.\n"
_NOT_FOR_US = (b"--", b"SET ", b"SELECT pg_catalog.set_config('search_path'", b"\\")
"""Of a script for psql: what sets its session up."""
_ENTRY = re.compile(r"\d+; \d+ \d+ ([A-Z][A-Z ]*) (\S+) (\S+)")
_BY_NAME = {
    "TABLE", "TABLE DATA", "TABLE ATTACH", "SEQUENCE", "SEQUENCE OWNED BY", "SEQUENCE SET", "DEFAULT", "CONSTRAINT",
    "FK CONSTRAINT", "TRIGGER", "FUNCTION",
}  # fmt: skip
_BY_TABLE = {"INDEX", "INDEX ATTACH"}
"""Whose own names say nothing; a dump of ours has none of others' tables."""


class _TocEntry(NamedTuple):
    line: str
    kind: str
    name: str


def _is_ours(name: str) -> bool:
    """Of a table, a partition of one, or what is named after one."""
    return name.startswith(("notifyctl_", REVISION, *(table.name for table in tables())))


def _entries(program: str, file: Path) -> list[_TocEntry]:
    with _running([program, "--list", str(file)]) as running:
        matches = [_ENTRY.match(line.decode(errors="replace")) for line in running]
    found = [_TocEntry(match.string.rstrip(), match[1], match[3]) for match in matches if match]
    if ("TABLE DATA", REVISION) not in {(entry.kind, entry.name) for entry in found}:
        raise InvalidInput(f"{file} is no backup of notifyctl: it has no table {REVISION}")
    return [entry for entry in found if entry.kind in _BY_TABLE or (entry.kind in _BY_NAME and _is_ours(entry.name))]


def _revision_in(program: str, file: Path) -> str:
    with _running([program, "--data-only", f"--table={REVISION}", "--file=-", str(file)]) as running:
        rows = [line for _, line in _data(running)]
    return rows[0].decode().split("\t")[0].strip() if rows else ""


def _count_rows_in(program: str, file: Path) -> int:
    with _running([program, "--data-only", "--file=-", str(file)]) as running:
        return sum(table != REVISION for table, _ in _data(running))


def _data(lines: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Rows, with the table of each: a line is a row, since a break in a value is escaped."""
    name = None
    for line in lines:
        if name is None:
            match = _COPY.match(line)
            name = match[1].decode() if match else None
        elif line == _END:
            name = None
        else:
            yield name, line


def _drop(session: Session, functions: Sequence[str]) -> None:
    """All that is ours. What others have made to depend on it, as a view, is not dropped with it: that is an error."""
    ours = [name for name in session.execute(_TABLES).scalars() if _is_ours(name)]
    called = [name for name in session.execute(_FUNCTIONS).scalars() if _is_ours(name)]
    if ours:
        session.execute(text(f"DROP TABLE {', '.join(ours)}"))
    for name in {*called, *functions}:
        session.execute(text(f"DROP FUNCTION IF EXISTS {name}"))


def _cause(error: Exception) -> str:
    """Without the row that it is about; with the view for which a table cannot be dropped."""
    original = cast("psycopg.Error", getattr(error, "orig", error))
    detail = f" ({original.diag.message_detail})" if original.sqlstate == _IS_DEPENDED_ON else ""
    return f"{original.diag.message_primary or original}{detail}"


def _execute(driver: Driver, lines: Iterator[bytes]) -> None:
    statements: list[bytes] = []
    for line in lines:
        if _COPY.match(line):
            driver.execute(b"".join(statements))
            statements.clear()
            with driver.cursor() as cursor, cursor.copy(line.rstrip(b";\n")) as copying:
                for row in iter(lines.__next__, _END):
                    copying.write(row)
        elif not line.startswith(_NOT_FOR_US):
            statements.append(line)
    driver.execute(b"".join(statements))


def _program(name: str, server: int = 0) -> str:
    """Raises NotifyctlError where it is missing, or older than the server."""
    program = shutil.which(name)
    version = f" of version {server} or newer" if server else ""
    if program is None:
        raise NotifyctlError(
            f"{name} is not installed; install PostgreSQL's client programs{version} (Debian: postgresql-client), or"
            " put them on the PATH"
        )
    with _running([program, "--version"]) as running:
        said = b"".join(running).decode()
    numbers = re.search(r"\) (\d+)", said)
    if numbers is not None and int(numbers[1]) < server:
        raise NotifyctlError(
            f"{program} is of version {numbers[1]}, and the server of {server}; install a newer {name}"
        )
    return program


def _beside(pg_dump: str) -> str:
    """pg_restore of the same version."""
    return str(Path(pg_dump).with_name("pg_restore"))


def _conninfo(options: Mapping[str, object]) -> str:
    """As libpq reads it, without what is the driver's own, and what must not be seen in a list of processes."""
    ours = {name: str(value) for name, value in options.items() if name not in ("context", "sslpassword")}
    quoted = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in ours.items()}
    return " ".join(f"{name}='{value}'" for name, value in quoted.items())


@contextmanager
def _running(command: Sequence[str], password: str | None = None) -> Iterator[IO[bytes]]:
    """What it prints, to be read to its end. Raises NotifyctlError with its words when it fails."""
    environment = os.environ | ({"PGPASSWORD": password} if password else {})
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(  # noqa: S603  found on the PATH, and called with words of ours
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        ) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.stdout
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        if code:
            said.seek(0)
            words = " ".join(said.read(2_000).decode(errors="replace").split())
            raise NotifyctlError(f"{words or f'{command[0]} ended with {code}'}; nothing was changed")
