"""Sealing the audit log: the rows written since the last run become the next seals of the chain.

A seal covers every row from the end of the previous seal up to its own last id, so no row may be committed into that
range later. SQLite guarantees this: there is one writer, and ids follow the order of commits. On PostgreSQL a
transaction gets an id long before it commits; so we read the highest id, list the transactions that are writing at that
moment, and seal up to that id once they have all ended. Writers never wait, and later ones get higher ids.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic, sleep

from sqlmodel import Session

from notifyctl.audit import row_store, seal_store
from notifyctl.audit.chain import (
    BEGINNING,
    ChainHead,
    SealKeys,
    Tip,
    is_ours,
    is_whole,
    seal_of,
    text,
    tip_after,
    tip_at,
)
from notifyctl.audit.row_store import Counted
from notifyctl.audit.seal_store import StoredSeal, Writer
from notifyctl.clock import Clock
from notifyctl.db.bulk import as_moment
from notifyctl.db.database import Database
from notifyctl.errors import NotifyctlError
from notifyctl.text.durations import moment, plural

PATIENCE_SECONDS = 5.0
"""How long a run waits for open transactions; after that their rows, and all later ones, are left to the next run."""
LOOK_SECONDS = 0.02

LATE_AFTER = timedelta(minutes=5)
"""A row this old should be sealed: ten runs have passed."""

log = logging.getLogger("notifyctl.audit")


@dataclass(frozen=True, slots=True)
class SealResult:
    rows: int
    seals: int
    head: ChainHead
    waits_for: Writer | None
    """A transaction that is still writing: its rows and those after them are not sealed yet."""

    def __str__(self) -> str:
        if self.waits_for is not None:
            return f"nothing sealed: {writer_in_words(self.waits_for)}; head {self.head}"
        return f"{plural(self.rows, 'audit row')} sealed; head {self.head}"


def seal(
    database: Database,
    keys: SealKeys,
    clock: Clock,
    *,
    patience_seconds: float = PATIENCE_SECONDS,
    stopping: Callable[[], bool] = lambda: False,
) -> SealResult:
    """Commits seal by seal. When two processes seal at once, one makes each seal, and the other stops."""
    with database.read() as session:
        last_id = row_store.highest_id(session)
        writing = seal_store.writers(session)
    deadline = monotonic() + patience_seconds
    while writing and monotonic() < deadline and not stopping():
        sleep(LOOK_SECONDS)
        with database.read() as session:
            still = seal_store.writers(session)
        writing = {name: writer for name, writer in writing.items() if name in still}
    if writing:
        return SealResult(0, 0, current_head(database), next(iter(writing.values())))
    return seal_up_to(last_id, database, keys, clock, stopping)


def seal_up_to(
    last_id: int, database: Database, keys: SealKeys, clock: Clock, stopping: Callable[[], bool]
) -> SealResult:
    """No open transaction may still commit a row with this id or a lower one."""
    rows = seals = 0
    while not stopping() and (new_seal := _seal_next(last_id, database, keys, clock())) is not None:
        rows += new_seal.row_count or 0
        seals += 1
    head = current_head(database)
    if seals:
        log.info("audit rows sealed", extra={"rows": rows, "seals": seals, "head": str(head)})
    return SealResult(rows, seals, head, None)


def _seal_next(last_id: int, database: Database, keys: SealKeys, now: datetime) -> StoredSeal | None:
    """None when no row is left, or another process made this seal."""
    with database.read() as session:
        tip = _trusted_tip(session, keys)
        rows = [row for row in row_store.page(session, after=tip.last_id) if row.id <= last_id]
    if not rows:
        return None
    new_seal = seal_of(rows, tip, keys, now)
    with database.transaction() as session:
        return new_seal if seal_store.add(session, _columns(new_seal)) else None


def _trusted_tip(session: Session, keys: SealKeys) -> Tip:
    """A seal confirms the one that it extends, even once the key of that one is gone; so that one is checked first.

    After a newest seal that we did not make, the chain starts over from the last one that we did: new rows are safe,
    and `audit verify` still names the break. Raises NotifyctlError where the key is missing.
    """
    newest: StoredSeal | None = None
    trusted = tip_at(seal_store.checkpoint(session))
    for seal in seal_store.newest_first(session):
        newest = newest or seal
        ours = is_whole(seal) and is_ours(seal, keys)
        if ours is None:
            raise NotifyctlError(
                f"audit seal {seal.id} was made with a secret that NOTIFICATION_SECRET_KEY lacks (id"
                f" {text(seal.key_id)!r}), and cannot be gone on from; put it back, behind the present one"
            )
        if ours:
            trusted = tip_after(seal)
            break
    if newest is None or newest.id == trusted.head.number:
        return trusted
    log.error("audit chain is broken, see `notifyctl audit verify`", extra={"seal": newest.id})
    return Tip(ChainHead(newest.id, BEGINNING.head.digest), trusted.last_id)


def tip_in(session: Session) -> Tip:
    newest = seal_store.newest(session)
    return tip_after(newest) if newest is not None else tip_at(seal_store.checkpoint(session))


def current_head(database: Database) -> ChainHead:
    with database.read() as session:
        return tip_in(session).head


def count_unsealed(session: Session) -> Counted:
    return row_store.count_after(session, tip_in(session).last_id)


def is_late(unsealed: Counted, now: datetime) -> bool:
    return unsealed.oldest_at is not None and is_old(unsealed.oldest_at, now)


def is_old(moment: datetime, now: datetime) -> bool:
    """Whether a row from that moment should be sealed by now."""
    return now - moment > LATE_AFTER


def _columns(new_seal: StoredSeal) -> dict[str, object]:
    texts = {name: text(getattr(new_seal, name)) for name in ("previous_digest", "key_id", "digest", "mac")}
    return new_seal._asdict() | texts | {"sealed_at": as_moment(new_seal.sealed_at)}


def writer_in_words(writer: Writer) -> str:
    return f"database process {writer.process_id} has been writing audit rows since {moment(writer.since)}"
