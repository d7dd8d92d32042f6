"""Addresses that must not be written to, found by the keyed hash of the address."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from notifyctl.models.columns import table
from notifyctl.models.suppression import Suppression, SuppressionReason
from notifyctl.models.template import Channel

_suppression = table(Suppression)


def add(  # noqa: PLR0913  one argument a column
    session: Session,
    *,
    channel: Channel,
    recipient_hash: str,
    key_id: str,
    address: str | None,
    reason: SuppressionReason,
    source: str,
    now: datetime,
    note: str | None = None,
) -> bool:
    """False, and nothing is changed, when the address is suppressed already: the first reason is kept."""
    make: Any = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = make(_suppression).values(
        channel=channel,
        recipient_hash=recipient_hash,
        key_id=key_id,
        address=address,
        reason=reason,
        source=source,
        note=note,
        created_at=now,
    )
    added = statement.on_conflict_do_nothing().returning(_suppression.c.recipient_hash)
    return session.execute(added).first() is not None


def find(session: Session, channel: Channel, hashes: Collection[str]) -> Row[Any] | None:
    """The first suppression under any of an address's hashes (one for each secret key)."""
    return session.execute(select(_suppression).where(*_is(channel, hashes))).first()


def remove(
    session: Session,
    channel: Channel,
    hashes: Collection[str],
    *,
    reason: SuppressionReason | None = None,
    source: str | None = None,
    made_until: datetime | None = None,
) -> Sequence[Row[Any]]:
    """Returns what was removed: only what has this reason, this source, and is no newer, where they are given."""
    statement = delete(_suppression).where(*_is(channel, hashes))
    if reason is not None:
        statement = statement.where(_suppression.c.reason == reason)
    if source is not None:
        statement = statement.where(_suppression.c.source == source)
    if made_until is not None:
        statement = statement.where(_suppression.c.created_at <= made_until)
    return session.execute(statement.returning(_suppression)).all()


def page(
    session: Session,
    *,
    limit: int,
    channel: Channel | None = None,
    reason: SuppressionReason | None = None,
) -> Sequence[Row[Any]]:
    """Newest first."""
    statement = select(_suppression).order_by(_suppression.c.created_at.desc(), _suppression.c.recipient_hash)
    if channel is not None:
        statement = statement.where(_suppression.c.channel == channel)
    if reason is not None:
        statement = statement.where(_suppression.c.reason == reason)
    return session.execute(statement.limit(limit)).all()


def _is(channel: Channel, hashes: Collection[str]) -> tuple[Any, Any]:
    return _suppression.c.channel == channel, _suppression.c.recipient_hash.in_(sorted(hashes))
