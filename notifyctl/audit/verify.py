"""Verifying the audit log: every seal and every sealed row, in order and in bounded memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sqlmodel import Session

from notifyctl.audit import row_store, seal_store
from notifyctl.audit.chain import (
    BEGINNING,
    ChainHead,
    SealKeys,
    Tip,
    hashes_of,
    is_our_checkpoint,
    is_ours,
    is_whole,
    row_hash,
    text,
    tip_after,
    tip_at,
)
from notifyctl.audit.row_store import Counted, StoredRow
from notifyctl.audit.seal_store import StoredCheckpoint, StoredSeal
from notifyctl.db.bulk import as_moment

LISTED = 100
"""So many problems are kept; further ones are only counted."""
DATED_BACK_BY = timedelta(hours=1)
"""No transaction stays open for so long, and no clock is set back by so much, unnoticed."""


class ProblemKind(StrEnum):
    ROW_CHANGED = "row_changed"
    ROW_DELETED = "row_deleted"
    ROW_INSERTED = "row_inserted"
    SEAL_ALTERED = "seal_altered"
    SEAL_FORGED = "seal_forged"
    SEAL_MISSING = "seal_missing"
    SEAL_MISPLACED = "seal_misplaced"
    CHECKPOINT_FORGED = "checkpoint_forged"
    KEY_MISSING = "key_missing"
    TAIL_CUT = "tail_cut"
    HEAD_DIFFERS = "head_differs"


@dataclass(frozen=True, slots=True)
class ChainProblem:
    kind: ProblemKind
    text: str
    seal: int | None = None
    row: int | None = None


@dataclass(slots=True)
class VerifyReport:
    """`problems` are in the order of the chain; the first one is where it broke."""

    seals: int = 0
    rows: int = 0
    head: ChainHead = BEGINNING.head
    checkpoint: StoredCheckpoint | None = None
    problems: list[ChainProblem] = field(default_factory=list)
    problem_count: int = 0
    dated_back: list[int] = field(default_factory=list)
    """Rows with a time long before the previous seal: written late, or with a wrong clock."""
    unsealed: Counted = field(default_factory=lambda: Counted(0, None))

    @property
    def is_good(self) -> bool:
        return not self.problem_count


Tracked = Callable[[Iterator[StoredSeal], int], Iterator[StoredSeal]]


def verify_all(
    session: Session,
    keys: SealKeys,
    *,
    expected: ChainHead | None = None,
    tracked: Tracked = lambda seals, _count: seals,
) -> VerifyReport:
    """Must be the first call of its transaction, which it makes a snapshot.

    `expected` is a head kept elsewhere, which the chain must contain. `tracked` gets the seals and their number, for a
    progress bar.
    """
    seal_store.freeze(session)
    report = VerifyReport(checkpoint=seal_store.checkpoint(session))
    walk = Walk(keys, tip_at(report.checkpoint), row_store.every(session), expected)
    for problem in _all(walk, session, report, tracked):
        report.problem_count += 1
        if len(report.problems) < LISTED:
            report.problems.append(problem)
    report.seals, report.rows, report.dated_back = walk.seals, walk.rows, walk.dated_back
    report.head = walk.tip.head
    report.unsealed = row_store.count_after(session, walk.tip.last_id)
    return report


def verify_up_to(session: Session, keys: SealKeys, number: int) -> ChainProblem | None:
    """The first problem in the chain up to this seal, or up to the next one that confirms it."""
    seal_store.freeze(session)
    checkpoint = seal_store.checkpoint(session)
    walk = Walk(keys, tip_at(checkpoint), row_store.every(session))
    for problem in walk.begin(checkpoint):
        return problem
    for seal in seal_store.every(session):
        if seal.id > number and walk.is_confirmed:
            return None
        for problem in walk.step(seal):
            return problem
    return next(walk.end(), None)


def _all(walk: "Walk", session: Session, report: VerifyReport, tracked: Tracked) -> Iterator[ChainProblem]:
    yield from walk.begin(report.checkpoint)
    for seal in tracked(seal_store.every(session), seal_store.count(session)):
        yield from walk.step(seal)
    yield from walk.end()


class Walk:
    """Along the chain, seal by seal, with the rows of each."""

    def __init__(self, keys: SealKeys, tip: Tip, rows: Iterator[StoredRow], expected: ChainHead | None = None) -> None:
        self.tip = tip
        self.seals = 0
        self.rows = 0
        self.dated_back: list[int] = []
        self._keys = keys
        self._beside = row_store.InPieces(rows)
        self._expected = expected if expected != BEGINNING.head else None
        self._unconfirmed: StoredSeal | None = None
        """The first seal whose key is gone and that no later seal has confirmed yet."""
        self._is_tip_known = True
        """False after an altered or forged seal: the next one need not extend it."""
        self._sealed_at: datetime | None = None

    @property
    def is_confirmed(self) -> bool:
        return self._unconfirmed is None

    def begin(self, checkpoint: StoredCheckpoint | None) -> Iterator[ChainProblem]:
        if checkpoint is not None:
            yield from self._confirm_checkpoint(checkpoint)
            yield from self._compare_head()
        for row in self._beside.up_to(self.tip.last_id):
            yield ChainProblem(
                ProblemKind.ROW_INSERTED, f"row {row.id} was inserted before the rows that are sealed", row=row.id
            )

    def step(self, seal: StoredSeal) -> Iterator[ChainProblem]:
        before = self.tip.head.number
        if seal.id <= before:
            what = f"seal {seal.id} is there, though everything up to seal {before} was removed"
            yield ChainProblem(ProblemKind.SEAL_MISPLACED, what, seal=seal.id)
            return
        self.seals += 1
        untrusted = self._distrust(seal)
        problem = untrusted or self._break(seal)
        if problem is not None:
            yield from self._report_unconfirmed()
            yield problem
        if untrusted is None:
            self._confirm(seal)
            yield from self._compare_rows(seal)
            self._sealed_at = as_moment(seal.sealed_at)
        self._is_tip_known = untrusted is None
        self.tip = tip_after(seal)
        yield from self._compare_head()

    def end(self) -> Iterator[ChainProblem]:
        yield from self._report_unconfirmed()
        expected, last = self._expected, self.tip.head.number
        if expected is not None:
            what = f"the chain ends with seal {last}, and the expected head is seal {expected.number}: its tail was cut"
            yield ChainProblem(ProblemKind.TAIL_CUT, what, seal=expected.number)

    def _confirm_checkpoint(self, checkpoint: StoredCheckpoint) -> Iterator[ChainProblem]:
        number = checkpoint.seal_id
        match is_our_checkpoint(checkpoint, self._keys):
            case False:
                what = (
                    f"the checkpoint at seal {number} was forged: rows up to there were removed, and not by retention"
                )
                yield ChainProblem(ProblemKind.CHECKPOINT_FORGED, what, seal=number)
            case None:
                yield _without_key(f"the checkpoint at seal {number}", checkpoint.key_id, number)

    def _distrust(self, seal: StoredSeal) -> ChainProblem | None:
        if not is_whole(seal):
            return ChainProblem(ProblemKind.SEAL_ALTERED, f"seal {seal.id} was altered", seal=seal.id)
        if is_ours(seal, self._keys) is False:
            return ChainProblem(
                ProblemKind.SEAL_FORGED, f"seal {seal.id} was forged: it was not made with our key", seal=seal.id
            )
        return None

    def _break(self, seal: StoredSeal) -> ChainProblem | None:
        """What is wrong between this seal and the previous one."""
        first_missing, last_missing = self.tip.head.number + 1, seal.id - 1
        if first_missing <= last_missing:
            is_single = first_missing == last_missing
            are = f"seal {first_missing} is" if is_single else f"seals {first_missing} to {last_missing} are"
            return ChainProblem(ProblemKind.SEAL_MISSING, f"{are} missing", seal=first_missing)
        goes_on = (text(seal.previous_digest), seal.first_audit_id) == (self.tip.head.digest, self.tip.last_id + 1)
        if self._is_tip_known and not goes_on:
            what = f"seal {seal.id} does not go on from seal {last_missing}: one of them is not the one that was made"
            return ChainProblem(ProblemKind.SEAL_MISPLACED, what, seal=seal.id)
        return None

    def _confirm(self, seal: StoredSeal) -> None:
        """A seal of ours confirms all those that it extends: their digests are part of its own."""
        if is_ours(seal, self._keys):
            self._unconfirmed = None
        elif self._unconfirmed is None:
            self._unconfirmed = seal

    def _compare_rows(self, seal: StoredSeal) -> Iterator[ChainProblem]:
        for _row in self._beside.up_to((seal.first_audit_id or 0) - 1):
            pass  # of a missing, altered or forged seal, which has been reported
        expected = hashes_of(seal)
        problems: list[ChainProblem] = []
        for row in self._beside.up_to(seal.last_audit_id or 0):
            self.rows += 1
            sealed = expected.pop(row.id, None)
            if sealed is None:
                problems.append(_of_row(ProblemKind.ROW_INSERTED, row.id, seal, "was inserted"))
            elif sealed != row_hash(row):
                problems.append(_of_row(ProblemKind.ROW_CHANGED, row.id, seal, "was changed"))
            elif self._is_dated_back(row):
                self.dated_back.append(row.id)
        problems += [_of_row(ProblemKind.ROW_DELETED, row_id, seal, "was deleted") for row_id in expected]
        yield from sorted(problems, key=lambda problem: problem.row or 0)

    def _is_dated_back(self, row: StoredRow) -> bool:
        if self._sealed_at is None or len(self.dated_back) == LISTED:
            return False
        made_at = as_moment(row.created_at)
        return made_at is not None and made_at < self._sealed_at - DATED_BACK_BY

    def _report_unconfirmed(self) -> Iterator[ChainProblem]:
        seal, self._unconfirmed = self._unconfirmed, None
        if seal is not None:
            yield _without_key(f"seal {seal.id}", seal.key_id, seal.id)

    def _compare_head(self) -> Iterator[ChainProblem]:
        expected, head = self._expected, self.tip.head
        if expected is None or expected.number > head.number:
            return
        self._expected = None
        if expected.number < head.number:
            what = f"the expected head, seal {expected.number}, is not in the chain any more: export a newer one"
            yield ChainProblem(ProblemKind.HEAD_DIFFERS, what, seal=expected.number)
        elif expected != head:
            what = f"seal {head.number} is not the one of the expected head: the chain was made anew"
            yield ChainProblem(ProblemKind.HEAD_DIFFERS, what, seal=head.number)


def _of_row(kind: ProblemKind, row_id: int, seal: StoredSeal, what: str) -> ChainProblem:
    return ChainProblem(kind, f"row {row_id}, in seal {seal.id}, {what}", seal=seal.id, row=row_id)


def _without_key(what: str, key_id: bytes | None, number: int) -> ChainProblem:
    sentence = f"{what} cannot be verified: NOTIFICATION_SECRET_KEY lacks the secret with the id {text(key_id)!r}"
    return ChainProblem(ProblemKind.KEY_MISSING, f"{sentence}; put it back, behind the present one", seal=number)
