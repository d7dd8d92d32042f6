"""The circuit breaker of a channel's provider, shared by all workers: one row a channel, written only when it moves."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import bindparam, or_, select, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.columns import table
from notifyctl.models.enums import BreakerState, Channel
from notifyctl.models.operations import ProviderBreaker

_breaker = table(ProviderBreaker)
is_of_channel = _breaker.c.channel == bindparam("channel", type_=_breaker.c.channel.type)
_OF_CHANNEL = select(_breaker).where(is_of_channel)


class BreakerRow(NamedTuple):
    channel: Channel
    state: BreakerState
    reason: str | None
    opened_at: datetime | None
    probe_at: datetime | None
    failed_probes: int


def get(session: Session, channel: Channel) -> BreakerRow | None:
    """None until it has opened for the first time: closed."""
    row = session.execute(_OF_CHANNEL, {"channel": channel}).one_or_none()
    return BreakerRow(*row) if row is not None else None


def not_closed(session: Session) -> dict[Channel, str]:
    """Channels whose provider is taken for down, and what it said last."""
    statement = select(_breaker).where(_breaker.c.state != BreakerState.CLOSED).order_by(_breaker.c.channel)
    return {row.channel: row.reason or "no answer" for row in session.execute(statement)}


def open_(session: Session, channel: Channel, *, reason: str, now: datetime, probe_at: datetime) -> bool:
    """Opens a closed breaker. False when another worker has opened it first."""
    values = {"state": BreakerState.OPEN, "reason": reason, "opened_at": now, "probe_at": probe_at, "failed_probes": 0}
    statement = bulk.upsert(session, _breaker).values(channel=channel, **values)
    moved = statement.on_conflict_do_update(
        index_elements=["channel"], set_=values, where=_breaker.c.state == BreakerState.CLOSED
    ).returning(_breaker.c.channel)
    return session.execute(moved).first() is not None


def start_probe(session: Session, channel: Channel, *, now: datetime, heard_by: datetime, latest: datetime) -> bool:
    """Whether this caller may make the one call that finds out; also when an earlier one was not heard of in time.

    A probe that is put off beyond `latest` is due: the clock was set back.
    """
    statement = (
        update(_breaker)
        .where(
            _breaker.c.channel == channel,
            or_(_breaker.c.state == BreakerState.OPEN, _breaker.c.state == BreakerState.PROBING),
            or_(_breaker.c.probe_at <= now, _breaker.c.probe_at > latest),
        )
        .values(state=BreakerState.PROBING, probe_at=heard_by)
        .returning(_breaker.c.channel)
    )
    return session.execute(statement).first() is not None


def reopen(session: Session, channel: Channel, *, reason: str, probe_at: datetime) -> None:
    """The probe failed too."""
    statement = update(_breaker).where(_breaker.c.channel == channel, _breaker.c.state == BreakerState.PROBING)
    values = {"state": BreakerState.OPEN, "reason": reason, "probe_at": probe_at}
    session.execute(statement.values(**values, failed_probes=_breaker.c.failed_probes + 1))


def close(session: Session, channel: Channel) -> bool:
    """False when it was closed already."""
    statement = update(_breaker).where(_breaker.c.channel == channel, _breaker.c.state != BreakerState.CLOSED)
    values = {"state": BreakerState.CLOSED, "opened_at": None, "probe_at": None, "failed_probes": 0}
    return session.execute(statement.values(values).returning(_breaker.c.channel)).first() is not None
