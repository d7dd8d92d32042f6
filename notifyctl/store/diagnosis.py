"""Questions about the health of the store itself."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, func, not_, select
from sqlmodel import Session

from notifyctl.models.columns import table
from notifyctl.models.message import WAITING, MessageLog, MessageStatus
from notifyctl.models.template import Channel
from notifyctl.store import pauses

_message = table(MessageLog)


def count_expired_leases(session: Session, now: datetime) -> int:
    """Messages whose worker has gone."""
    return _count(session, _message.c.status == MessageStatus.SENDING, _message.c.lease_until < now)


def count_due_before(session: Session, moment: datetime, moving: Collection[Channel]) -> int:
    """What a pause holds is not counted, nor what waits for its minute in a channel that is `moving`.

    Somebody said that the one is to wait, and of the other the moment is a forecast, and no promise.
    """
    not_held = [not_(pauses.scope_of(row).holds(_message)) for row in pauses.everything(session)]
    throttled = and_(_message.c.status == MessageStatus.DEFERRED_THROTTLED, _message.c.channel.in_(list(moving)))
    due = (_message.c.status.in_(WAITING), _message.c.next_attempt_at < moment)
    return _count(session, *due, not_(throttled), *not_held)


def receipts(session: Session, since: datetime, until: datetime) -> Sequence[Row[Any]]:
    """A row a channel: how many were `sent` in that time, and how many of these a receipt has `confirmed`."""
    confirmed = _message.c.status.in_((MessageStatus.DELIVERED, MessageStatus.BOUNCED))
    return session.execute(
        select(
            _message.c.channel,
            func.count().label("sent"),
            func.count().filter(confirmed).label("confirmed"),
        )
        .where(_message.c.sent_at >= since, _message.c.sent_at < until)
        .group_by(_message.c.channel)
    ).all()


def _count(session: Session, *conditions: Any) -> int:
    return int(session.execute(select(func.count()).select_from(_message).where(*conditions)).scalar_one())
