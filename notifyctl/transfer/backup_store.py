"""The whole database in one file, and back.

A backup has its name only once it was examined; a restore puts a file in place only once it was, and only with that in
it by which nothing is sent again. Until then both have other names, and only we can read them.
"""

import os
import shutil
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from secrets import token_hex
from time import monotonic

from sqlalchemy import text
from sqlmodel import Session

from notifyctl.audit import log as audit_log
from notifyctl.audit.chain import SealKeys
from notifyctl.audit.verify import VerifyReport, verify_all
from notifyctl.db.database import Database
from notifyctl.errors import DatabaseError, InvalidInput, NotifyctlError, NotWritable
from notifyctl.models.enums import AuditAction
from notifyctl.operations import heartbeats, pauses, store_state
from notifyctl.operations.pauses import PauseScope
from notifyctl.operations.witness import COMMITTED_WITHIN
from notifyctl.text.durations import moment
from notifyctl.transfer import dump_store
from notifyctl.transfer.copy_store import Tracked, count_rows, driver_of
from notifyctl.transfer.dump_store import Loaded, Mark, last_written

PAGES = 1_000
"""Between two looks at the progress bar."""
BESIDE = ("-wal", "-shm", "-journal")
"""Ends of the names of what belongs to a SQLite file."""
LOCK_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Backup:
    file: str
    bytes: int
    rows: int
    seconds: float
    audit_head: str
    audit_problem: str | None
    """What `audit verify` finds in it first; None where it verifies."""
    unaudited: str | None
    """Why no audit row tells of it; None where one does."""


def backup(database: Database, file: Path, *, keys: SealKeys, actor: str, tracked: Tracked) -> Backup:
    """While others write. Raises InvalidInput for a file that is there already or cannot be made.

    The audit row comes first: so it tells of what was broken off, too, and says in the backup when that was made. A
    database that may only be read, or whose disk is full, is one that needs a backup: it is made without that row.
    """
    begun = monotonic()
    _refuse_existing(file)
    with _private(file) as temporary:
        unaudited = None
        try:
            with database.transaction() as session:
                details = {"command": "db backup", "file": str(file.absolute())}
                audit_log.write(
                    session, AuditAction.OPERATOR_ACTION, actor=actor, now=database.clock(), details=details
                )
        except NotWritable as error:
            unaudited = str(error)
        if database.is_sqlite:
            _copy_pages(database, temporary, tracked)
            rows, report = _examine(temporary, keys)
        else:
            rows, report = dump_store.dump(database, temporary, keys)
        size = temporary.stat().st_size
        _publish(temporary, file)
    return Backup(str(file), size, rows, monotonic() - begun, str(report.head), problem_in(report), unaudited)


def restore(database: Database, file: Path, *, replace: bool, actor: str) -> Loaded:
    """Raises InvalidInput for what is no backup, and without `replace` for a database with rows in it; NotifyctlError
    while others use it, WrongSchema for a backup of a newer version.
    """
    is_dump = _is_dump(file)
    if is_dump == database.is_sqlite:
        one, other = ("PostgreSQL", "SQLite") if is_dump else ("SQLite", "PostgreSQL")
        raise InvalidInput(
            f"{file} is a backup of {one}, and {database} is of {other}; restore it into a database of its own kind,"
            " and use `notifyctl db copy` from there"
        )

    def mark(session: Session) -> tuple[datetime | None, int]:
        taken_at = last_written(session)
        return taken_at, after_restore(session, taken_at, file=file, actor=actor, now=database.clock())

    load = _load_file if database.is_sqlite else dump_store.load
    return load(database, file, replace, mark)


def after_restore(session: Session, taken_at: datetime | None, *, file: Path, actor: str, now: datetime) -> int:
    """In the commit of what was restored: nothing is sent before the providers were asked what of it has gone out.

    Returns how many messages wait.
    """
    details = {"command": "db restore", "file": str(file.absolute()), "taken_at": moment(taken_at)}
    audit_log.write(session, AuditAction.OPERATOR_ACTION, actor=actor, now=now, details=details)
    heartbeats.leave_all(session, now)
    cause = f"restored from a backup of {moment(taken_at)}"
    since = (taken_at or now) - COMMITTED_WITHIN
    store_state.need_recovery(session, since=since, cause=cause, is_proven=True, now=now)
    return pauses.held(session, PauseScope())


def problem_in(report: VerifyReport) -> str | None:
    return report.problems[0].text if report.problems else None


def _is_dump(file: Path) -> bool:
    """Raises InvalidInput for what is neither of the two."""
    try:
        with file.open("rb") as stream:
            beginning = stream.read(16)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}; name a file that `db backup` has made") from error
    if not beginning.startswith((dump_store.MAGIC, b"SQLite format 3\0")):
        raise InvalidInput(f"{file} is no backup; name a file that `db backup` has made")
    return beginning.startswith(dump_store.MAGIC)


@contextmanager
def _private(beside: Path) -> Iterator[Path]:
    """A new file in the same folder, which is gone with the block. Raises InvalidInput where none can be made."""
    temporary = beside.with_name(f".{beside.name}.{token_hex(4)}.part")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise InvalidInput(f"{beside} cannot be written: {error.strerror}; name another file") from error
    try:
        yield temporary
    except OSError as error:
        raise NotifyctlError(f"{beside} cannot be written: {error.strerror}; nothing of it is left") from error
    finally:
        for end in ("", *BESIDE):
            Path(f"{temporary}{end}").unlink(missing_ok=True)


def _publish(temporary: Path, file: Path) -> None:
    """On the disk first, and never over another file."""
    _sync(temporary)
    try:
        os.link(temporary, file)
    except OSError:  # it has come meanwhile, or this file system has no links
        _refuse_existing(file)
        temporary.rename(file)
    _sync(file.parent)


def _refuse_existing(file: Path) -> None:
    if os.path.lexists(file):
        raise InvalidInput(f"{file} is there already and is left as it is; name a new file")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_pages(database: Database, into: Path, tracked: Tracked) -> None:
    """In one reading transaction: without it SQLite begins anew with each commit of others, and may never end.

    In WAL mode it holds up no writer; the log grows by what they write meanwhile.
    """
    done = 0

    def advance(_status: int, remaining: int, total: int) -> None:
        nonlocal done
        deque(islice(bar, total - remaining - done), maxlen=0)
        done = total - remaining

    with database.read() as session, closing(sqlite3.connect(into)) as copy:
        pages = int(session.execute(text("PRAGMA page_count")).scalar_one())
        session.execute(text("SELECT name FROM sqlite_master LIMIT 1"))
        bar = iter(tracked(range(pages), "Copying", pages))
        try:
            driver_of(session).backup(copy, pages=PAGES, progress=advance)
        except sqlite3.Error as error:
            raise NotifyctlError(f"the backup was not written: {error}; nothing of it is left") from error
        deque(bar, maxlen=0)


def _examine(file: Path, keys: SealKeys) -> tuple[int, VerifyReport]:
    """Of a copy that nobody else knows. Raises NotifyctlError for one that is damaged."""
    _require_whole(file, file)
    with _opened(file) as database, database.read() as session:
        rows, report = sum(count_rows(session).values()), verify_all(session, keys)
    _make_single(file)
    return rows, report


def _make_single(file: Path) -> None:
    """With nothing beside it that belongs to it. Whoever works on it next makes its log anew."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def _require_whole(file: Path, name: Path) -> None:
    try:
        with closing(sqlite3.connect(file)) as connection:
            ((found, *_),) = connection.execute("PRAGMA integrity_check(1)").fetchall()
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise InvalidInput(f"{name} is damaged: {' '.join(found.split())}; take another backup")


@contextmanager
def _opened(file: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{file}", create=False)
    try:
        yield database
    finally:
        database.close()


def _load_file(database: Database, file: Path, replace: bool, mark: Mark) -> Loaded:
    target = Path(database.url.database or "")
    if os.path.exists(f"{file}-wal"):
        raise InvalidInput(f"{file} is in use: {file.name}-wal is beside it; name a file that `db backup` has made")
    if target.exists() and target.samefile(file):
        raise InvalidInput(f"{file} is the database itself; name a backup")
    with _private(target) as temporary:
        shutil.copyfile(file, temporary)
        _require_whole(temporary, file)
        with _opened(temporary) as copy:
            with copy.read() as session:
                revision = dump_store.require_ours(session, file)
                rows, taken_at = sum(count_rows(session).values()), last_written(session)
            with _alone(database, target, replace, taken_at):
                with copy.transaction() as session:
                    taken_at, waiting = mark(session)
                copy.close()
                _make_single(temporary)
                kept = _put(temporary, target, database.clock())
    return Loaded(revision, rows, taken_at, waiting, str(kept) if kept else None)


@contextmanager
def _alone(database: Database, target: Path, replace: bool, taken_at: datetime | None) -> Iterator[None]:
    """With nobody else in the file. Its log is in it by then, so that it is whole without what stood beside it."""
    if not target.exists():
        yield
        return
    try:
        with database.read() as session:
            dump_store.refuse_target(session, database, replace, taken_at)
    except DatabaseError as error:
        if not replace:
            raise InvalidInput(f"{error}; --replace puts it aside as it is") from error
    database.close()
    with closing(sqlite3.connect(target, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise NotifyctlError(
                f"{target} is in use ({error}); stop all workers, `notifyctl serve` and whoever else has it open"
            ) from error
        except sqlite3.DatabaseError:
            pass  # it is none any more, and nobody can work on it
        yield


def _put(temporary: Path, target: Path, now: datetime) -> Path | None:
    """Where what was there is now. At no moment is there no file, or one with another's log beside it."""
    _sync(temporary)
    if not target.exists():
        _publish(temporary, target)
        return None
    kept = target.with_name(f"{target.name}.before-{now:%Y%m%dT%H%M%SZ}")
    for end in BESIDE:
        with suppress(FileNotFoundError):
            os.rename(f"{target}{end}", f"{kept}{end}")
    try:
        os.link(target, kept)
    except OSError:  # a file system without links
        target.rename(kept)
    temporary.replace(target)
    _sync(target.parent)
    return kept
