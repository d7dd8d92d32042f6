"""Read-only questions about the traffic, for the terminal, HTTP, the page and Prometheus alike.

Everything is counted from message_log rows: nothing beside them could be made false by a restore or a repair. Each
moment that is asked about has an index over the rows that have it, so that the cost follows the window and not the
history. Conditions are spelled out as the indexes have them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Integer, Row, and_, bindparam, func, literal, select, union_all
from sqlmodel import Session

from notifyctl.models.columns import table
from notifyctl.models.message import (
    ENDED_BADLY,
    IS_HELD,
    IS_UNCONFIRMED,
    IS_WAITING,
    WAS_DELIVERED,
    WAS_SENT,
    WAS_THROTTLED,
    MessageLog,
    MessageStatus,
)
from notifyctl.models.otp import USED_INDEX, OtpChallenge
from notifyctl.models.template import Channel
from notifyctl.store import latencies
from notifyctl.store.latencies import within

_message = table(MessageLog)
_challenge = table(OtpChallenge)

FIRST_RECEIPT, LAST_RECEIPT = timedelta(hours=1), timedelta(hours=24)
"""A message sent longer ago than the one, and not as long as the other, should have its receipt."""
TOP = 5


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one channel did in a window."""

    sent: int = 0
    codes: int = 0
    """One-time codes among what was sent."""
    delivered: int = 0
    failed: int = 0
    bounced: int = 0
    blocked: int = 0
    throttled: int = 0
    p50_seconds: float | None = None
    """From acceptance to the provider's yes, by nearest rank."""
    p95_seconds: float | None = None

    @property
    def failure_rate(self) -> float:
        return self.failed / (self.failed + self.sent) if self.failed else 0.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """What one channel has before it now."""

    pending: int = 0
    retrying: int = 0
    in_doubt: int = 0
    oldest_due_at: datetime | None = None
    """When the oldest message that is due, and that no pause holds, became so."""
    oldest_unthrottled_at: datetime | None = None
    """The same of those that were never told to wait for room in the minute: their forecasts are no promises."""


@dataclass(frozen=True, slots=True)
class Bucket:
    start: datetime
    sent: Mapping[Channel, int]
    failed: Mapping[Channel, int]
    throttled: Mapping[Channel, int]


def traffic(session: Session, since: datetime, until: datetime) -> dict[Channel, Traffic]:
    """In [since, until), each by the moment that it happened."""
    rows = {row.what: row._mapping for row in session.execute(_traffic_statement(), {"since": since, "until": until})}
    gone = latencies.sent(session, since, until)
    return {
        channel: Traffic(
            sent=gone[channel].messages,
            codes=gone[channel].codes,
            p50_seconds=gone[channel].seconds.get(50),
            p95_seconds=gone[channel].seconds.get(95),
            **{what: row[channel] for what, row in rows.items()},
        )
        for channel in Channel
    }


_ENDED = {status.lower(): status for status in (MessageStatus.FAILED, MessageStatus.BOUNCED, MessageStatus.BLOCKED)}


@cache
def _traffic_statement() -> Any:
    return union_all(
        _per_channel("delivered", _message.c.delivered_at, WAS_DELIVERED),
        _per_channel("throttled", _message.c.throttled_at, WAS_THROTTLED),
        *(_per_channel(what, _message.c.finished_at, _ended(status)) for what, status in _ENDED.items()),
    )


def _ended(status: MessageStatus) -> Any:
    return and_(ENDED_BADLY, _message.c.status == status)


def _per_channel(what: str, moment: Any, has_it: Any) -> Any:
    """A count for each channel in one row, and no GROUP BY, for which SQLite would sort them all."""
    counts = (func.count().filter(_message.c.channel == channel).label(channel) for channel in Channel)
    return select(literal(what).label("what"), *counts).where(has_it, *within(moment))


def backlog(session: Session, now: datetime, paused: Sequence[Any] = ()) -> dict[Channel, Backlog]:
    """`paused`: the scopes of what is held back, which is pending and not due."""
    found: dict[Channel, dict[str, Any]] = {
        channel: {"pending": 0, "retrying": 0, "in_doubt": 0} for channel in Channel
    }
    for condition in (IS_WAITING, IS_HELD):
        statement = select(_message.c.channel, _message.c.status, func.count()).where(condition)
        for channel, status, count in session.execute(statement.group_by(_message.c.channel, _message.c.status)):
            found[channel][_COUNTED_AS[status]] += count
    due_at = _message.c.next_attempt_at
    unthrottled = func.min(due_at).filter(_message.c.status != MessageStatus.DEFERRED_THROTTLED)
    due = select(_message.c.channel, func.min(due_at), unthrottled).where(
        IS_WAITING, _message.c.next_attempt_at <= now, *(~scope.holds(_message) for scope in paused)
    )
    for channel, oldest, oldest_unthrottled in session.execute(due.group_by(_message.c.channel)):
        found[channel] |= {"oldest_due_at": oldest, "oldest_unthrottled_at": oldest_unthrottled}
    return {channel: Backlog(**values) for channel, values in found.items()}


_COUNTED_AS = {
    MessageStatus.QUEUED: "pending",
    MessageStatus.DEFERRED_THROTTLED: "pending",
    MessageStatus.SENDING: "pending",
    MessageStatus.RETRY_SCHEDULED: "retrying",
    MessageStatus.IN_DOUBT: "in_doubt",
}


def top_failures(session: Session, since: datetime, until: datetime, by: str) -> list[tuple[str, int]]:
    """`by` is template_key or reason. The most frequent first, at most TOP; the name decides between equals."""
    name = func.coalesce(_message.c[by], "UNKNOWN")
    failed = and_(ENDED_BADLY, _message.c.status == MessageStatus.FAILED, *within(_message.c.finished_at))
    statement = select(name, func.count()).where(failed).group_by(name).order_by(func.count().desc(), name).limit(TOP)
    return [(str(key), int(count)) for key, count in session.execute(statement, {"since": since, "until": until})]


def unconfirmed(session: Session, now: datetime) -> int:
    """Sent long enough ago, and without a receipt."""
    statement = select(func.count()).select_from(_message).where(IS_UNCONFIRMED, *within(_message.c.sent_at))
    asked = {"since": now - LAST_RECEIPT, "until": now - FIRST_RECEIPT}
    return int(session.execute(statement, asked).scalar_one())


def verified_codes(session: Session, since: datetime, until: datetime) -> int:
    used = select(func.count()).where(USED_INDEX, *within(_challenge.c.finished_at))
    return int(session.execute(used, {"since": since, "until": until}).scalar_one())


def series(session: Session, until: datetime, buckets: int, bucket: timedelta) -> list[Bucket]:
    """`buckets` of them, on edges that are multiples of `bucket`; the last one has `until` in it."""
    size = int(bucket.total_seconds())
    last = int(until.timestamp()) // size
    asked = {"first": last - buckets + 1, "last": last, "size": size}
    rows = session.execute(_series_statement(session.get_bind().dialect.name), asked)
    return [_bucket(row, datetime.fromtimestamp(row.number * size, until.tzinfo)) for row in rows]


def _bucket(row: Any, start: datetime) -> Bucket:
    counts = {what: {channel: getattr(row, f"{what}_{channel}") for channel in Channel} for what in _COUNTED_OVER_TIME}
    return Bucket(start, **counts)


_COUNTED_OVER_TIME = {
    "sent": (_message.c.sent_at, WAS_SENT),
    "failed": (_message.c.finished_at, _ended(MessageStatus.FAILED)),
    "throttled": (_message.c.throttled_at, WAS_THROTTLED),
}


@cache
def _series_statement(dialect: str) -> Any:
    """The buckets are counted off, and each is a range of an index: nothing has to be sorted or grouped."""
    first, last, size = (bindparam(name, type_=Integer) for name in ("first", "last", "size"))
    buckets = select(first.label("number")).cte("buckets", recursive=True)
    buckets = buckets.union_all(select(buckets.c.number + 1).where(buckets.c.number < last))
    start = _moment(dialect, buckets.c.number * size)
    end = _moment(dialect, (buckets.c.number + 1) * size)
    counts = (
        select(func.count())
        .select_from(_message)
        .where(has_it, _message.c.channel == channel, moment >= start, moment < end)
        .scalar_subquery()
        .label(f"{what}_{channel}")
        for what, (moment, has_it) in _COUNTED_OVER_TIME.items()
        for channel in Channel
    )
    return select(buckets.c.number, *counts).order_by(buckets.c.number)


def _moment(dialect: str, seconds: Any) -> Any:
    """In the form that moments are stored in."""
    kind = _message.c.sent_at.type
    if dialect == "sqlite":
        return func.strftime("%Y-%m-%d %H:%M:%S.000000", seconds, "unixepoch", type_=kind)
    return func.to_timestamp(seconds, type_=kind)


def recent(session: Session, limit: int) -> Sequence[Row[Any]]:
    """Newest first."""
    return session.execute(select(_message).order_by(_message.c.id.desc()).limit(limit)).all()


def outcomes(session: Session, since: datetime, until: datetime) -> Sequence[Row[Any]]:
    """`channel`, `what` (sent, delivered, failed, bounced, blocked), `template_key`, `reason` and `messages`."""
    return session.execute(_outcomes_statement(), {"since": since, "until": until}).all()


@cache
def _outcomes_statement() -> Any:
    return union_all(
        _per_template("sent", _message.c.sent_at, WAS_SENT),
        _per_template("delivered", _message.c.delivered_at, WAS_DELIVERED),
        *(
            _per_template(what, _message.c.finished_at, _ended(status), _message.c.reason)
            for what, status in _ENDED.items()
        ),
    )


def _per_template(what: str, moment: Any, has_it: Any, *reason: Any) -> Any:
    keys = (_message.c.channel, _message.c.template_key, *reason)
    why = func.coalesce(*reason, "") if reason else literal("")
    found = select(*keys[:2], literal(what).label("what"), why.label("reason"), func.count().label("messages"))
    return found.where(has_it, *within(moment)).group_by(*keys)


def queue_depths(session: Session) -> Sequence[Row[Any]]:
    """`channel`, `lane`, `status` and `messages` of what is not finished."""
    columns = (_message.c.channel, _message.c.lane, _message.c.status)
    found = [
        select(*columns, func.count().label("messages")).where(kind).group_by(*columns)
        for kind in (IS_WAITING, IS_HELD)
    ]
    return session.execute(union_all(*found)).all()
