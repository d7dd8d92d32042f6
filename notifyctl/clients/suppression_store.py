"""Suppressed addresses and their releases, found by the keyed hash of the address, and which of the two holds."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, String, Table, cast, delete, func, or_, select, text, tuple_
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel, SuppressionReason
from notifyctl.models.receipt import Suppression, SuppressionRelease

_ORDER = {reason: number for number, reason in enumerate(SuppressionReason)}
_suppression = table(Suppression)
_release = table(SuppressionRelease)
LOCK_SPACE = 0x7370
"""Not the one of orchestrator.gate_facts: that is taken before any message is locked, this one after."""


@dataclass(frozen=True, slots=True)
class Cause:
    """`source` is who said so: a provider, or an operator."""

    reason: SuppressionReason
    source: str
    acted_at: datetime

    @property
    def key(self) -> tuple[SuppressionReason, str]:
        return self.reason, self.source


@dataclass(frozen=True, slots=True)
class Lift:
    """Frees from what was for this reason and from this source; without them, from whatever it was."""

    acted_at: datetime
    reason: SuppressionReason | None = None
    source: str | None = None

    def is_about(self, cause: Cause) -> bool:
        return self.reason in (None, cause.reason) and self.source in (None, cause.source)

    def lifts(self, cause: Cause) -> bool:
        """At the same moment too: who frees an address knows what it is freed from."""
        return self.is_about(cause) and cause.acted_at <= self.acted_at


def holding(causes: Iterable[Cause], lifts: Iterable[Lift]) -> list[Cause]:
    """What still holds; first whoever acted first."""
    all_lifts = list(lifts)
    latest: dict[tuple[SuppressionReason, str], Cause] = {}
    for cause in sorted(causes, key=lambda cause: cause.acted_at):
        if not any(lift.lifts(cause) for lift in all_lifts):
            latest[cause.key] = cause
    return sorted(latest.values(), key=lambda cause: (cause.acted_at, _ORDER[cause.reason], cause.source))


class SuppressionRow(NamedTuple):
    channel: Channel
    recipient_hash: str
    key_id: str
    address: str | None
    reason: SuppressionReason
    source: str
    note: str | None
    created_at: datetime
    acted_at: datetime | None
    causes: list[dict[str, str]] | None


_SELECT = select(*(_suppression.c[name] for name in SuppressionRow._fields))


@dataclass(frozen=True, slots=True)
class OnRecord:
    """All that is known of an address. `rows` is one suppression, or one for each key while keys rotate."""

    rows: Sequence[SuppressionRow]
    causes: list[Cause]
    lifts: list[Lift]


def lock(session: Session, hashes: Collection[str]) -> None:
    """Others who change these addresses wait for our commit, since what holds is computed from all that is on record.

    On SQLite the write lock is held already.
    """
    if not hashes or bulk.dialect(session) == "sqlite":
        return
    # Signed, and in one order for everyone.
    keys = sorted({int(recipient_hash[:8], 16) - 2**31 for recipient_hash in hashes})
    in_order = "SELECT key FROM unnest(CAST(:keys AS integer[])) AS given(key) ORDER BY key"
    statement = text(f"SELECT pg_advisory_xact_lock({LOCK_SPACE}, key) FROM ({in_order}) AS ordered")  # noqa: S608  our own words
    session.execute(statement, {"keys": keys})


def on_record(session: Session, channel: Channel, hashes: Collection[str]) -> OnRecord:
    selected = session.execute(_SELECT.where(*_is(_suppression, channel, hashes)))
    rows = [SuppressionRow(*row) for row in selected]
    releases = select(_release.c.acted_at, _release.c.reason, _release.c.source)
    lifts = [
        Lift(acted_at, SuppressionReason(reason) if reason else None, source or None)
        for acted_at, reason, source in session.execute(releases.where(*_is(_release, channel, hashes)))
    ]
    return OnRecord(rows, [cause for row in rows for cause in causes_of(row)], lifts)


def causes_of(row: SuppressionRow) -> list[Cause]:
    """All causes of a suppression. A row from an earlier version has one."""
    if row.causes is None:
        return [Cause(row.reason, row.source, row.acted_at or row.created_at)]
    return [
        Cause(SuppressionReason(kept["reason"]), kept["source"], datetime.fromisoformat(kept["acted_at"]))
        for kept in row.causes
    ]


def put(  # noqa: PLR0913  one argument a column
    session: Session,
    before: OnRecord,
    holding: Sequence[Cause],
    *,
    channel: Channel,
    recipient_hash: str,
    key_id: str,
    address: str | None,
    now: datetime,
    note: str | None = None,
) -> None:
    """Writes what holds now, or deletes the suppression when nothing does. Hash, key and address are for a new row."""
    if before.rows:
        recipient_hash, key_id = before.rows[0].recipient_hash, before.rows[0].key_id
    superfluous = {row.recipient_hash for row in before.rows} - ({recipient_hash} if holding else set())
    delete_rows(session, channel, superfluous)
    if not holding:
        return
    first = holding[0]
    changing = {
        "reason": first.reason,
        "source": first.source,
        "acted_at": first.acted_at,
        "causes": [_json(cause) for cause in holding],
    } | ({"note": note} if note is not None else {})
    new = {"channel": channel, "recipient_hash": recipient_hash, "key_id": key_id, "address": address}
    statement = bulk.upsert(session, _suppression).values(**new, **changing, created_at=now)
    written = statement.on_conflict_do_update(index_elements=["channel", "recipient_hash"], set_=changing)
    session.execute(written)


def delete_rows(session: Session, channel: Channel, hashes: Collection[str]) -> None:
    if hashes:
        session.execute(delete(_suppression).where(*_is(_suppression, channel, hashes)))


def remember(
    session: Session, lift: Lift, *, channel: Channel, recipient_hash: str, key_id: str, now: datetime
) -> None:
    """Keeps a release, unless a later one of its kind is known."""
    key = {
        "channel": channel,
        "recipient_hash": recipient_hash,
        "reason": lift.reason or "",
        "source": lift.source or "",
    }
    times = {"acted_at": lift.acted_at, "heard_at": now}
    statement = bulk.upsert(session, _release).values(**key, **times, key_id=key_id)
    is_later = statement.excluded.acted_at > _release.c.acted_at
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=times, where=is_later))


def count_releases(session: Session, before: datetime) -> int:
    """Those heard of before."""
    statement = select(func.count()).select_from(_release).where(_release.c.heard_at < before)
    return int(session.execute(statement).scalar_one())


def forget_releases(session: Session, before: datetime) -> int:
    """How many were forgotten."""
    return session.exec(delete(_release).where(_release.c.heard_at < before)).rowcount


def find(session: Session, channel: Channel, hashes: Collection[str]) -> SuppressionRow | None:
    """The first suppression under any of an address's hashes (one for each secret key)."""
    row = session.execute(_SELECT.where(*_is(_suppression, channel, hashes))).first()
    return SuppressionRow(*row) if row else None


def page(
    session: Session, *, limit: int, channel: Channel | None = None, reason: SuppressionReason | None = None
) -> list[SuppressionRow]:
    """Newest first. For a `reason` also those for which it is one of several."""
    statement = _SELECT.order_by(_suppression.c.created_at.desc(), _suppression.c.recipient_hash)
    if channel is not None:
        statement = statement.where(_suppression.c.channel == channel)
    if reason is not None:
        among = cast(_suppression.c.causes, String).contains(f'"{reason}"', autoescape=True)
        statement = statement.where(or_(_suppression.c.reason == reason, among))
    return [SuppressionRow(*row) for row in session.execute(statement.limit(limit))]


def under_another_key(session: Session, key_id: str, *, limit: int) -> list[SuppressionRow]:
    """Those that have an address, which is all that is needed to find them under this key."""
    statement = _SELECT.where(_suppression.c.key_id != key_id, _suppression.c.address.is_not(None))
    return [SuppressionRow(*row) for row in session.execute(statement.limit(limit))]


def count_erased(session: Session) -> dict[str, int]:
    """Key id -> how many have only their hash left."""
    key = _suppression.c.key_id
    counted = select(key, func.count()).where(_suppression.c.address.is_(None)).group_by(key)
    return {key_id: count for key_id, count in session.execute(counted)}


def delete_erased(session: Session, key_ids: Collection[str], *, limit: int) -> list[tuple[Channel, str, str]]:
    """Of those under these keys that have only their hash left: channel, hash and reason of each that was there."""
    row = _suppression.c
    chosen = select(row.channel, row.recipient_hash).where(row.address.is_(None), row.key_id.in_(sorted(key_ids)))
    these = tuple_(row.channel, row.recipient_hash).in_(chosen.limit(limit))
    gone = session.execute(delete(_suppression).where(these).returning(row.channel, row.recipient_hash, row.reason))
    return [(channel, recipient_hash, reason) for channel, recipient_hash, reason in gone]


def _json(cause: Cause) -> Mapping[str, str]:
    return {"reason": cause.reason, "source": cause.source, "acted_at": cause.acted_at.isoformat()}


def _is(of: Table, channel: Channel, hashes: Iterable[str]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return of.c.channel == channel, of.c.recipient_hash.in_(sorted(hashes))
