"""Outbound limits as operators set them, and the shared record of what is used of them."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import bindparam, delete, select, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel
from notifyctl.models.operations import OutboundBudget, OutboundLimit

_limit = table(OutboundLimit)
_budget = table(OutboundBudget)
_LIMIT = select(_limit.c.per_minute_limit).where(
    _limit.c.channel == bindparam("of_channel", type_=_limit.c.channel.type)
)
_is_budget = _budget.c.channel == bindparam("of_channel", type_=_budget.c.channel.type)
_STATE = select(_budget.c.state).where(_is_budget)
_LOCKED_STATE = _STATE.with_for_update()
_SAVE = update(_budget).where(_is_budget).values(state=bindparam("new_state", type_=_budget.c.state.type))


def per_minute(session: Session, channel: Channel) -> int | None:
    """What an operator has set; None where the environment decides."""
    rows = bulk.execute(session, _LIMIT, {"of_channel": channel})
    return rows[0][0] if rows else None


def set_per_minute(session: Session, channel: Channel, limit: int, *, actor: str, now: datetime) -> None:
    values = {"per_minute_limit": limit, "updated_at": now, "updated_by": actor}
    statement = bulk.upsert(session, _limit).values(channel=channel, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["channel"], set_=values))


def reset(session: Session, channel: Channel) -> bool:
    """False when nothing was set."""
    return (
        session.execute(delete(_limit).where(_limit.c.channel == channel).returning(_limit.c.channel)).first()
        is not None
    )


def lock_budget(session: Session, channel: Channel) -> dict[str, object]:
    """What was saved last, kept from every other worker until this transaction ends."""
    ours = {"of_channel": channel}
    rows = bulk.execute(session, _LOCKED_STATE, ours)
    if not rows:
        session.execute(bulk.upsert(session, _budget).values(channel=channel, state={}).on_conflict_do_nothing())
        rows = bulk.execute(session, _LOCKED_STATE, ours)
    return _as_record(rows[0][0])


def read_budget(session: Session, channel: Channel) -> dict[str, object]:
    rows = bulk.execute(session, _STATE, {"of_channel": channel})
    return _as_record(rows[0][0] if rows else None)


def _as_record(state: object) -> dict[str, object]:
    """Empty where there is none yet. What is no record at all is handed on as one that cannot be read."""
    return dict(state) if isinstance(state, dict) else {"buckets": None} if state else {}


def save_budget(session: Session, channel: Channel, state: Mapping[str, object]) -> None:
    bulk.execute(session, _SAVE, {"of_channel": channel, "new_state": dict(state)})
