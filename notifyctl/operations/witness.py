"""What this process has seen committed, kept outside the database: in memory, and in a file for the next process.

The file is never beside a SQLite file, which may be restored with its whole folder.
"""

import logging
import os
import stat
import zlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic

import platformdirs
from sqlalchemy import Row
from sqlmodel import Session

from notifyctl.clock import Clock
from notifyctl.db.database import Database
from notifyctl.errors import DatabaseError
from notifyctl.operations import store_state
from notifyctl.operations.store_state import Forgotten, Mark, StoreView

COMMITTED_WITHIN = timedelta(minutes=1)
"""A row is written with the time at which its transaction began; it may have been committed so much later."""
LOOK_SECONDS, MARK_SECONDS = 0.1, 0.1
"""A busy worker claims and records a hundred times a second."""
RECORD_BYTES = 160
_NOT_OFFERED = ("42501", "0A000", "42883")
"""insufficient_privilege, feature_not_supported, undefined_function: a server that does not say which it is."""

log = logging.getLogger("notifyctl.recovery")


class Witness:
    """May be shared by threads. `keep_file` makes it remember beyond this process."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._mark: Mark | None = None
        self._asks_server = not database.is_sqlite
        self._file: MarkFile | None = None
        self._keeps_file = False
        self._place = self._look_at_place()
        self.generation: int | None = None
        """Of the store, up to which all that this process knows is in it. None before the first look."""
        self._told: Forgotten | None = None
        self._believed: int | None = None
        """As of how many dropped connections, and when."""
        self._believed_at = 0.0
        self._newest_at = -MARK_SECONDS
        self.is_behind = False
        """Something was committed since the mark."""

    def keep_file(self) -> None:
        self._keeps_file = True

    def permits(self, session: Session, *, sends: bool = True) -> bool:
        """Whether the store of this transaction may be believed. Asked in the transaction that claims.

        Who `sends` has something to write again before, where the store had gone back since the last time; and may ask
        as often as he likes, for an answer is good for a moment while the connections last.
        """
        if sends and self._believed == self._database.dropped and monotonic() - self._believed_at < LOOK_SECONDS:
            return True
        self._require_place()
        view = store_state.look(session, self._mark, asks_server=self._asks_server)
        if self.generation is None:
            self.generation = view.generation
        is_whole = view.forgotten is None and view.lapse(self._mark) is None
        if not is_whole or (sends and view.generation != self.generation):
            self._believed = None
            return False
        self._believed, self._believed_at = self._database.dropped, monotonic()
        return True

    def examine(self) -> StoreView:
        """Looks at the store, and says there what must be recovered, where that is so."""
        self._require_place()
        view = self._look()
        if view.store_id is None or (None in view.server and None not in view.server_now):
            with self._database.transaction() as session:
                store_state.settle_down(session, asks_server=self._asks_server)
            view = self._look()
        assert view.store_id is not None
        mark = self._mark
        self._recall(view.store_id)
        if self._mark is not mark:
            view = self._look()
        if view.lapse(self._mark) is not None:
            view = self._stop_all()
        if self.generation is None:
            self.generation = view.generation
        self._tell(view.forgotten)
        return view

    def _look(self) -> StoreView:
        try:
            with self._database.read() as session:
                return store_state.look(session, self._mark, asks_server=self._asks_server)
        except DatabaseError as error:
            if not self._asks_server or _sqlstate(error) not in _NOT_OFFERED:
                raise
        self._asks_server = False
        log.warning("the server does not say which it is: a failover is noticed only by what it has lost")
        return self._look()

    def _stop_all(self) -> StoreView:
        with self._database.transaction() as session:
            now, mark = self._clock(), self._mark
            view = store_state.look(session, mark, asks_server=self._asks_server)
            found = view.lapse(mark)
            if found is not None:
                cause, is_proven = found
                known = store_state.last_known_moment(session, mark if not view.has_mark else None, now)
                store_state.need_recovery(
                    session,
                    since=known - COMMITTED_WITHIN,
                    cause=cause,
                    is_proven=is_proven,
                    now=now,
                    generation=mark.generation if mark else 0,
                )
            view = store_state.look(session, None, asks_server=self._asks_server)
        self._mark = None  # it has told what it had to tell
        return view

    def _tell(self, forgotten: Forgotten | None) -> None:
        if forgotten is not None and (self._told is None or forgotten.since != self._told.since):
            extra = {"cause": forgotten.cause, "since": forgotten.since}
            log.error("the database has gone back in time, nothing is sent before it is recovered", extra=extra)
        self._told = forgotten

    def newest(self, session: Session, *, at_once: bool = True) -> Mark | None:
        """To be kept once this transaction has committed. Without `at_once`, None where there was one a moment ago.

        With it, `permits` was asked in the same transaction. Else a store that has gone back and was written to since
        might put a mark of its own in the place of the one by which that is noticed.
        """
        self.is_behind = not at_once and monotonic() - self._newest_at < MARK_SECONDS
        if self.is_behind:
            return None
        self._newest_at = monotonic()
        if not at_once and store_state.look(session, self._mark, asks_server=self._asks_server).lapse(self._mark):
            return None
        return store_state.newest(session, self.generation or 0)

    def mark_of(self, row: Row[*tuple[object, ...]]) -> Mark:
        """The same, of a row that this transaction has written: of it, what the audit log calls MARKED."""
        return store_state.mark_of(row, self.generation or 0)

    def catch_up(self) -> None:
        """Where the last commits of this process have left no mark."""
        if self.is_behind:
            with self._database.read() as session:
                self.keep(self.newest(session, at_once=False))

    def keep(self, mark: Mark | None) -> None:
        before = self._mark
        if mark is None or (before is not None and mark[:2] <= before[:2]):
            return
        self._mark = mark
        if self._file is not None:
            self._file.write(mark)

    def _recall(self, store_id: str) -> None:
        if not self._keeps_file or (self._file is not None and self._file.store_id == store_id):
            return
        self._file = MarkFile(store_id)
        self._mark = max(filter(None, (self._mark, self._file.read())), default=None)

    def _look_at_place(self) -> tuple[int, int] | None:
        """Which file it is. A connection stays with the one that it has opened, also when another takes its name."""
        if not self._database.is_sqlite:
            return None
        try:
            found = os.stat(self._database.url.database or "")
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _require_place(self) -> None:
        place = self._look_at_place()
        if place == self._place:
            return
        was_there, self._place = self._place, place
        if was_there is not None:
            self._database.drop_connections()
            raise DatabaseError(f"database file {self._database.url.database} was replaced; it is opened anew")


def _sqlstate(error: DatabaseError) -> str | None:
    original = getattr(error.__cause__, "orig", None)
    state = getattr(original, "sqlstate", None)
    return state if isinstance(state, str) else None


class MarkFile:
    """The last mark of one store that a process of this user on this host has seen. One that cannot be used is told
    once, and done without.

    It is written at each commit, in its place and without waiting for the disk: microseconds, and it outlives the
    process. What a loss of power takes of it makes it older, not wrong.
    """

    def __init__(self, store_id: str) -> None:
        self.store_id = store_id
        self._descriptor: int | None = None
        try:
            path = _folder() / f"{store_id}.seen"
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, stat.S_IRUSR | stat.S_IWUSR)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            log.warning("what was seen is not kept in a file, see guarantees", extra={"error": reason})

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def read(self) -> Mark | None:
        """None where there is none, or one that makes no sense."""
        if self._descriptor is None:
            return None
        try:
            words = os.pread(self._descriptor, RECORD_BYTES, 0).decode("ascii").split()
            return _mark_of(words)
        except (OSError, ValueError):
            return None

    def write(self, mark: Mark) -> None:
        """Unless another process has seen more."""
        if self._descriptor is None:
            return
        there = self.read()
        if there is not None and there[:2] >= mark[:2]:
            return
        words = f"{mark.generation} {mark.audit_id} {mark.at.isoformat()} {mark.digest}"
        record = f"{words} {zlib.crc32(words.encode())}\n".ljust(RECORD_BYTES)
        try:
            os.pwrite(self._descriptor, record.encode("ascii"), 0)
        except OSError as error:
            log.warning("what was seen cannot be kept", extra={"error": error.strerror})
            os.close(self._descriptor)
            self._descriptor = None


def _mark_of(words: Sequence[str]) -> Mark | None:
    if len(words) != len(Mark._fields) + 1 or int(words[-1]) != zlib.crc32(" ".join(words[:-1]).encode()):
        return None
    generation, audit_id, at, digest, _ = words
    return Mark(int(generation), int(audit_id), datetime.fromisoformat(at), digest)


def _folder() -> Path:
    """systemd's StateDirectory=, or the user's own."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(given) if given else platformdirs.user_state_path("notifyctl")
