"""What the store says of itself: which it is, which server it is on, and whether it has forgotten what was done.

A restore, or a failover to a server that lacked the last commits, takes the store back in time. What was sent since
waits again in it, and would be sent a second time. While it says that recovery is needed, nobody claims anything.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import NamedTuple
from uuid import uuid4

from sqlalchemy import ColumnElement, Executable, Row, Text, bindparam, func, literal_column, select, true, update
from sqlmodel import Session

from notifyctl.audit.log import MARKED, TOLD
from notifyctl.db import bulk
from notifyctl.models.audit import AuditCheckpoint, AuditLog
from notifyctl.models.columns import table
from notifyctl.models.operations import StoreState, WorkerHeartbeat

_state = table(StoreState)
_audit = table(AuditLog)
_checkpoint = table(AuditCheckpoint)
_heartbeat = table(WorkerHeartbeat)
_IDENTIFIER = "(SELECT system_identifier::text FROM pg_control_system())"
_TIMELINE = (
    # The line that is written now: pg_control_checkpoint() tells of it only some time after a promotion.
    "CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END"
)
_ONLY = 1
Server = tuple[str | None, str | None]
"""PostgreSQL's identifier and timeline: a new cluster has another; a promotion or a restore in time begins a line."""


class Mark(NamedTuple):
    """A row of the audit log that was seen committed: a store that lacks it has forgotten all that came after."""

    generation: int
    """How often the store had gone back by then, as far as anybody knew."""
    audit_id: int
    at: datetime
    digest: str


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Recovery is needed."""

    since: datetime
    """What the store knows of the time before this is whole."""
    found_at: datetime
    cause: str
    is_proven: bool
    """Something is known to be missing. Otherwise another server has taken over, and it may lack nothing."""


@dataclass(frozen=True, slots=True)
class StoreView:
    """The store as one statement shows it."""

    store_id: str | None
    """None where nobody has written down yet which store it is."""
    generation: int
    recovered_since: datetime | None
    forgotten: Forgotten | None
    server: Server
    """The one that it was on when it was last known to be whole."""
    server_now: Server
    has_mark: bool
    """The row of the mark is there and the same, or retention has removed it since; true where there is no mark."""

    def lapse(self, mark: Mark | None) -> tuple[str, bool] | None:
        """What shows that the store has gone back, unless that is known already; and whether it proves it."""
        if mark is not None and mark.generation > self.generation:
            return "it stands before a recovery that was done already", True
        if mark is not None and not self.has_mark and not self._covers(mark):
            return "it lacks what was committed in it", True
        if self.forgotten is None and None not in (*self.server, *self.server_now) and self.server != self.server_now:
            is_other = self.server[0] != self.server_now[0]
            return ("it is on another server than before", True) if is_other else ("another server took over", False)
        return None

    def _covers(self, mark: Mark) -> bool:
        """Whether the recovery that is needed, or was done since, goes back as far."""
        if self.forgotten is not None:
            return self.forgotten.is_proven and self.forgotten.since <= mark.at
        since = self.recovered_since
        return self.generation > mark.generation and since is not None and since <= mark.at


def look(session: Session, mark: Mark | None, *, asks_server: bool = True) -> StoreView:
    statement = _look_statement(bulk.dialect(session), asks_server)
    row = session.execute(statement, {"mark": mark.audit_id if mark else None}).one()
    return StoreView(
        row.store_id,
        row.generation or 0,
        row.recovered_since,
        _forgotten(row),
        (row.system_identifier, row.timeline),
        (row.identifier_now, row.timeline_now),
        mark is None or row.removed_up_to >= mark.audit_id or _digest(row) == mark.digest,
    )


@cache
def _look_statement(dialect: str, asks_server: bool) -> Executable:
    knows = dialect != "sqlite" and asks_server
    server = [literal_column(words if knows else "NULL", Text) for words in (_IDENTIFIER, _TIMELINE)]
    removed = select(func.coalesce(func.max(_checkpoint.c.last_audit_id), -1)).scalar_subquery()
    now = (server[0].label("identifier_now"), server[1].label("timeline_now"), removed.label("removed_up_to"))
    one = select(literal_column("1").label("one")).subquery()
    is_mark = _audit.c.id == bindparam("mark", type_=_audit.c.id.type)
    joined = one.outerjoin(_state, true()).outerjoin(_audit, is_mark)
    return select(*_state.c, *TOLD, *now).select_from(joined)


_NEWEST = select(*MARKED).order_by(_audit.c.id.desc()).limit(1)


def _digest(row: Row[*tuple[object, ...]]) -> str:
    told = f"{row.told_at} {row.actor} {row.action} {row.message_id}"
    return hashlib.sha256(told.encode(errors="surrogatepass")).hexdigest()[:32]


def _forgotten(row: Row[*tuple[object, ...]]) -> Forgotten | None:
    if row.recovery_needed_since is None:
        return None
    return Forgotten(row.recovery_needed_since, row.found_at, row.cause or "", row.is_proven)


def newest(session: Session, generation: int) -> Mark | None:
    """The last row that this transaction sees: once it has committed, that row is committed too."""
    row = session.execute(_NEWEST).first()
    return mark_of(row, generation) if row is not None else None


def mark_of(row: Row[*tuple[object, ...]], generation: int) -> Mark:
    return Mark(generation, row.audit_id, row.told_at, _digest(row))


def forgotten(session: Session) -> Forgotten | None:
    """Whether recovery is needed, as far as anybody has found."""
    row = session.execute(select(_state)).first()
    return _forgotten(row) if row is not None else None


def settle_down(session: Session, *, asks_server: bool = True) -> None:
    """Writes down which store it is, and which server it is on, where nobody has."""
    first = {"id": _ONLY, "store_id": uuid4().hex, "generation": 0, "is_proven": False}
    session.execute(bulk.upsert(session, _state).values(first).on_conflict_do_nothing(index_elements=["id"]))
    if bulk.dialect(session) != "sqlite" and asks_server:
        unknown = update(_state).where(_state.c.system_identifier.is_(None))
        session.execute(unknown.values(_server_now()))


def become_another(session: Session) -> None:
    """For a copy that lacks nothing and goes its own way, on whatever server: what was seen in the first is not its."""
    alone = update(_state).where(_state.c.id == _ONLY)
    session.execute(alone.values(store_id=uuid4().hex, system_identifier=None, timeline=None))


def _server_now() -> dict[str, ColumnElement[str | None]]:
    return {"system_identifier": literal_column(_IDENTIFIER, Text), "timeline": literal_column(_TIMELINE, Text)}


def need_recovery(
    session: Session, *, since: datetime, cause: str, is_proven: bool, now: datetime, generation: int = 0
) -> bool:
    """Stops all claims. The earlier moment counts where it is needed already. Returns whether that is new.

    `generation` is the highest that anybody remembers.
    """
    settle_down(session, asks_server=False)
    row = session.execute(select(_state).with_for_update()).one()
    before = _forgotten(row)
    if before is not None:
        earliest, proven = min(since, before.since), is_proven or before.is_proven
        found = now if proven and not before.is_proven else before.found_at
        is_more = (earliest, proven) != (before.since, before.is_proven)
        values: dict[str, object] = {"recovery_needed_since": earliest, "is_proven": proven, "found_at": found}
        if proven and not before.is_proven:
            values["cause"] = cause
        if is_more:
            session.execute(update(_state).values(values))
        return is_more
    news = {"recovery_needed_since": since, "found_at": now, "cause": cause, "is_proven": is_proven}
    next_generation = max(row.generation, generation) + 1
    session.execute(update(_state).values(news | {"generation": next_generation, "held_by": None}))
    return True


def last_known_moment(session: Session, mark: Mark | None, now: datetime) -> datetime:
    """The latest of which the store still knows. What was written after it had gone back does not count.

    Without a mark nobody can tell those rows apart; workers write nothing before they have looked, though.
    """
    seen = select(func.max(_heartbeat.c.seen_at, type_=_heartbeat.c.seen_at.type))
    if mark is None:
        newest_row = session.execute(_NEWEST).first()
        moments = [newest_row.told_at if newest_row else None, session.execute(seen).scalar_one()]
        return min((moment for moment in moments if moment is not None), default=now)
    older = select(_audit.c.created_at).where(_audit.c.id < mark.audit_id, _audit.c.created_at <= mark.at)
    moment: datetime | None = session.execute(older.order_by(_audit.c.id.desc()).limit(1)).scalar_one_or_none()
    return moment if moment is not None else mark.at


def take(session: Session, owner: str, *, now: datetime, until: datetime) -> bool:
    """Recovery is for `owner` alone, until then. Also to renew it."""
    free = (_state.c.held_by.is_(None)) | (_state.c.held_by == owner) | (_state.c.held_until < now)
    statement = update(_state).where(_state.c.recovery_needed_since.is_not(None), free)
    return session.execute(statement.values(held_by=owner, held_until=until).returning(_state.c.id)).first() is not None


def recovered(session: Session, owner: str, *, found: Forgotten, now: datetime) -> bool:
    """False when more was found to be forgotten meanwhile, or another has taken over."""
    same = (_state.c.held_by == owner, _state.c.recovery_needed_since == found.since)
    done = {"recovered_since": _state.c.recovery_needed_since, "recovered_at": now}
    done |= {"recovery_needed_since": None, "found_at": None, "cause": None, "is_proven": False, "held_by": None}
    if bulk.dialect(session) != "sqlite":
        done |= _server_now()
    proven = _state.c.is_proven == found.is_proven
    return session.execute(update(_state).where(*same, proven).values(done).returning(_state.c.id)).first() is not None


def confirm(session: Session, worker: str, generation: int) -> None:
    """All that this worker knows has been written again since the store went back for the last time."""
    session.execute(update(_heartbeat).where(_heartbeat.c.worker == worker).values(store_generation=generation))


def unconfirmed(session: Session, generation: int, seen_since: datetime) -> list[tuple[str, datetime]]:
    """Workers that were at work and have not done so, and when they were last seen."""
    statement = select(_heartbeat.c.worker, _heartbeat.c.seen_at).where(
        _heartbeat.c.left_at.is_(None), _heartbeat.c.seen_at >= seen_since, _heartbeat.c.store_generation < generation
    )
    return [(worker, seen_at) for worker, seen_at in session.execute(statement)]
