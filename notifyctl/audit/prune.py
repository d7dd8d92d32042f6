"""Pruning the audit log: whole seals go from the beginning of the chain, and a checkpoint takes their place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from notifyctl.audit import seal_store
from notifyctl.audit.chain import SealKeys, checkpoint_after, is_our_checkpoint, re_signed, text
from notifyctl.audit.seal_store import StoredCheckpoint, StoredSeal
from notifyctl.audit.verify import ChainProblem, verify_up_to
from notifyctl.clock import Clock
from notifyctl.db.batches import batches
from notifyctl.db.bulk import as_moment
from notifyctl.db.database import Database

ROWS_AT_FIRST = 2_000


@dataclass(frozen=True, slots=True)
class PruneResult:
    rows: int
    problem: ChainProblem | None = None
    """Why nothing was removed: a chain that does not verify is evidence."""


def count_removable(session: Session, before: datetime) -> int:
    """Rows in seals that are all older than this, and followed by at least one more."""
    return seal_store.count_rows_up_to(session, seal_store.last_removable(session, before))


def prune(
    database: Database,
    keys: SealKeys,
    clock: Clock,
    before: datetime,
    *,
    stopping: Callable[[], bool] = lambda: False,
    pausing: bool = True,
    tell: Callable[[int], object] = lambda rows: None,
) -> PruneResult:
    """Commits a few seals at a time, with a pause in between; after each commit the rest of the chain verifies.

    `tell` is told after each how many rows have gone.
    """
    _resign_checkpoint(database, keys)
    with database.read() as session:
        last = seal_store.last_removable(session, before)
    if not last:
        return PruneResult(0)
    with database.read() as session:
        problem = verify_up_to(session, keys, last)
    if problem is not None:
        return PruneResult(0, problem)
    removed = 0
    for most in batches(ROWS_AT_FIRST, stopping=stopping, pausing=pausing):
        with database.transaction() as session:
            count = _prune_some(session, keys, last, clock(), most)
        if count is None:
            break
        removed += count
        tell(removed)
    return PruneResult(removed)


def _prune_some(session: Session, keys: SealKeys, last: int, now: datetime, most: int) -> int | None:
    """None when nothing is left, or another process is pruning."""
    seals = _first_few([seal for seal in seal_store.page(session) if seal.id <= last], most)
    # The first one: whoever prunes beside us, by however many, begins there as well.
    if not seals or not seal_store.lock(session, seals[0].id):
        return None
    before = seal_store.checkpoint(session)
    rows = sum(seal.row_count or 0 for seal in seals)
    removed_so_far = (before.rows_removed or 0) if before else 0
    seal_store.write_checkpoint(session, _columns(checkpoint_after(seals[-1], removed_so_far + rows, keys, now)))
    return seal_store.remove_up_to(session, seals[-1].id, seals[-1].last_audit_id or 0)


def _first_few(seals: Sequence[StoredSeal], most: int) -> list[StoredSeal]:
    """Up to so many rows, but never less than a seal."""
    chosen: list[StoredSeal] = []
    rows = 0
    for seal in seals:
        rows += seal.row_count or 0
        if chosen and rows > most:
            break
        chosen.append(seal)
    return chosen


def _resign_checkpoint(database: Database, keys: SealKeys) -> None:
    """No later seal covers a checkpoint, so it is signed with the current key while its own is still there."""
    with database.transaction() as session:
        checkpoint = seal_store.checkpoint(session)
        if (
            checkpoint is not None
            and text(checkpoint.key_id) != keys.present_id
            and is_our_checkpoint(checkpoint, keys)
        ):
            updated = re_signed(checkpoint, keys)
            seal_store.sign_checkpoint(session, checkpoint.seal_id, key_id=text(updated.key_id), mac=text(updated.mac))


def _columns(checkpoint: StoredCheckpoint) -> dict[str, object]:
    texts = {name: text(getattr(checkpoint, name)) for name in ("digest", "key_id", "mac")}
    return checkpoint._asdict() | texts | {"created_at": as_moment(checkpoint.created_at)}
