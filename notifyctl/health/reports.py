"""Read-only questions about the traffic, for the terminal, HTTP, the page and Prometheus alike.

Everything is counted from message_log rows: nothing beside them could be made false by a restore or a repair. Each
moment that is asked about has an index over the rows that have it, so that the cost follows the window and not the
history. Conditions are spelled out as the indexes have them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import Annotated, NamedTuple

from pydantic import Field
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Integer,
    Select,
    TextClause,
    and_,
    bindparam,
    func,
    literal,
    select,
    union_all,
)
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.health import latencies
from notifyctl.health.latencies import within
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel, Lane, MessageStatus
from notifyctl.models.message import (
    ENDED_BADLY,
    IS_HELD,
    IS_UNCONFIRMED,
    IS_WAITING,
    WAITING,
    WAS_DELIVERED,
    WAS_SENT,
    WAS_THROTTLED,
    MessageLog,
)
from notifyctl.models.otp import USED_INDEX, OtpChallenge
from notifyctl.operations.pauses import PauseScope

_message = table(MessageLog)
_challenge = table(OtpChallenge)

_Condition = ColumnElement[bool] | TextClause

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
class Counts:
    sent: int
    failed: int
    throttled: int


@dataclass(frozen=True, slots=True)
class BucketView:
    start: datetime
    EMAIL: Counts
    SMS: Counts

    def of(self, channel: Channel) -> Counts:
        counts: Counts = getattr(self, channel)
        return counts


@dataclass(frozen=True, slots=True)
class RecentMessage:
    id: str
    status: str
    reason: str | None
    channel: str
    template_key: str
    recipient: Annotated[str | None, Field(description="Masked without the scope admin.")]
    error_code: str | None
    error: str | None
    attempts: int
    created_at: datetime
    sent_at: datetime | None
    finished_at: datetime | None


class TemplateCount(NamedTuple):
    """How many messages of a template were sent, delivered, failed, bounced or blocked, and why."""

    channel: Channel
    template_key: str
    what: str
    reason: str
    messages: int


class QueueDepth(NamedTuple):
    channel: Channel
    lane: Lane
    status: MessageStatus
    messages: int


def traffic(session: Session, since: datetime, until: datetime) -> dict[Channel, Traffic]:
    """In [since, until), each by the moment that it happened."""
    rows = session.execute(_traffic_statement(), {"since": since, "until": until})
    ended = {what: dict(zip(Channel, counts, strict=True)) for what, *counts in rows}
    sent = latencies.sent(session, since, until)
    return {
        channel: Traffic(
            sent=sent[channel].messages,
            codes=sent[channel].codes,
            p50_seconds=sent[channel].seconds.get(50),
            p95_seconds=sent[channel].seconds.get(95),
            **{what: counts[channel] for what, counts in ended.items()},
        )
        for channel in Channel
    }


_ENDED = {status.lower(): status for status in (MessageStatus.FAILED, MessageStatus.BOUNCED, MessageStatus.BLOCKED)}


@cache
def _traffic_statement() -> CompoundSelect[str, *tuple[int, ...]]:
    return union_all(
        _per_channel("delivered", _message.c.delivered_at, WAS_DELIVERED),
        _per_channel("throttled", _message.c.throttled_at, WAS_THROTTLED),
        *(_per_channel(what, _message.c.finished_at, _ended(status)) for what, status in _ENDED.items()),
    )


def _ended(status: MessageStatus) -> ColumnElement[bool]:
    return and_(ENDED_BADLY, _message.c.status == status)


def _per_channel(what: str, moment: ColumnElement[datetime], has_it: _Condition) -> Select[str, *tuple[int, ...]]:
    """A count for each channel in one row, and no GROUP BY, for which SQLite would sort them all."""
    counts = (func.count().filter(_message.c.channel == channel).label(channel) for channel in Channel)
    return select(literal(what).label("what"), *counts).where(has_it, *within(moment))


def backlog(
    session: Session, now: datetime, depths: Sequence[QueueDepth], paused: Sequence[PauseScope] = ()
) -> dict[Channel, Backlog]:
    """`depths` are `queue_depths`; `paused` the scopes of what is held back, which is pending and not due."""
    counts: dict[Channel, Counter[str]] = {channel: Counter() for channel in Channel}
    for depth in depths:
        counts[depth.channel][_COUNTED_AS[depth.status]] += depth.messages
    oldest = session.execute(_oldest_statement(tuple(paused)), {"now": now}).one()._mapping
    return {
        channel: Backlog(
            counts[channel]["pending"],
            counts[channel]["retrying"],
            counts[channel]["in_doubt"],
            oldest_due_at=_first(oldest[f"{channel}_{lane}_{status}"] for lane in Lane for status in WAITING),
            oldest_unthrottled_at=_first(
                oldest[f"{channel}_{lane}_{status}"]
                for lane in Lane
                for status in WAITING
                if status is not MessageStatus.DEFERRED_THROTTLED
            ),
        )
        for channel in Channel
    }


def _first(moments: Iterable[datetime | None]) -> datetime | None:
    return min(filter(None, moments), default=None)


@lru_cache(maxsize=128)
def _oldest_statement(paused: tuple[PauseScope, ...]) -> Select[*tuple[datetime | None, ...]]:
    """The head of each queue: a million that wait are not read for the one that has waited longest."""
    due_at = _message.c.next_attempt_at
    heads = (
        select(due_at)
        .where(
            IS_WAITING,
            _message.c.channel == channel,
            _message.c.lane == lane,
            _message.c.status == status,
            due_at <= bindparam("now", type_=due_at.type),
            *(~scope.holds(_message) for scope in paused),
        )
        .order_by(due_at)
        .limit(1)
        .scalar_subquery()
        .label(f"{channel}_{lane}_{status}")
        for channel in Channel
        for lane in Lane
        for status in WAITING
    )
    return select(*heads)


_COUNTED_AS = {
    MessageStatus.QUEUED: "pending",
    MessageStatus.DEFERRED_THROTTLED: "pending",
    MessageStatus.SENDING: "pending",
    MessageStatus.RETRY_SCHEDULED: "retrying",
    MessageStatus.IN_DOUBT: "in_doubt",
}


def top_ends(
    session: Session, since: datetime, until: datetime, by: str, status: MessageStatus = MessageStatus.FAILED
) -> list[tuple[str, int]]:
    """`by` is template_key or reason. The most frequent first, at most TOP; the name decides between equals."""
    name = func.coalesce(_message.c[by], "UNKNOWN")
    ended = and_(_ended(status), *within(_message.c.finished_at))
    statement = select(name, func.count()).where(ended).group_by(name).order_by(func.count().desc(), name).limit(TOP)
    return [(str(key), int(count)) for key, count in session.execute(statement, {"since": since, "until": until})]


def unconfirmed(session: Session, now: datetime) -> int:
    """Sent long enough ago, and without a receipt."""
    statement = select(func.count()).select_from(_message).where(IS_UNCONFIRMED, *within(_message.c.sent_at))
    window = {"since": now - LAST_RECEIPT, "until": now - FIRST_RECEIPT}
    return int(session.execute(statement, window).scalar_one())


def verified_codes(session: Session, since: datetime, until: datetime) -> int:
    used = select(func.count()).where(USED_INDEX, *within(_challenge.c.finished_at))
    return int(session.execute(used, {"since": since, "until": until}).scalar_one())


def series(session: Session, until: datetime, buckets: int, bucket: timedelta) -> list[BucketView]:
    """`buckets` of them, on edges that are multiples of `bucket`; the last one has `until` in it."""
    size = int(bucket.total_seconds())
    last = int(until.timestamp()) // size
    parameters = {"first": last - buckets + 1, "last": last, "size": size}
    return [
        BucketView(datetime.fromtimestamp(number * size, until.tzinfo), **_by_channel(counts))
        for number, *counts in session.execute(_series_statement(bulk.dialect(session)), parameters)
    ]


def _by_channel(counts: Sequence[int]) -> dict[str, Counts]:
    each = len(_COUNTED_OVER_TIME)
    return {channel: Counts(*counts[each * place :][:each]) for place, channel in enumerate(Channel)}


_COUNTED_OVER_TIME = (
    (_message.c.sent_at, WAS_SENT),
    (_message.c.finished_at, _ended(MessageStatus.FAILED)),
    (_message.c.throttled_at, WAS_THROTTLED),
)
"""In the order of the fields of Counts."""


@cache
def _series_statement(dialect: str) -> Select[*tuple[int, ...]]:
    """The number of each bucket, and its counts, channel by channel.

    The buckets are counted off, and each is a range of an index: nothing has to be sorted or grouped.
    """
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
        for channel in Channel
        for moment, has_it in _COUNTED_OVER_TIME
    )
    return select(buckets.c.number, *counts).order_by(buckets.c.number)


def _moment(dialect: str, seconds: ColumnElement[int]) -> ColumnElement[datetime]:
    """In the form that moments are stored in."""
    kind = _message.c.sent_at.type
    if dialect == "sqlite":
        return func.strftime("%Y-%m-%d %H:%M:%S.000000", seconds, "unixepoch", type_=kind)
    return func.to_timestamp(seconds, type_=kind)


def recent(session: Session, limit: int) -> list[RecentMessage]:
    """Newest first."""
    columns = [_message.c[field.name] for field in fields(RecentMessage)]
    return [
        RecentMessage(*row) for row in session.execute(select(*columns).order_by(_message.c.id.desc()).limit(limit))
    ]


def outcomes(session: Session, since: datetime, until: datetime) -> list[TemplateCount]:
    return [TemplateCount(*row) for row in session.execute(_outcomes_statement(), {"since": since, "until": until})]


@cache
def _outcomes_statement() -> CompoundSelect[Channel, str, str, str, int]:
    return union_all(
        _per_template("sent", _message.c.sent_at, WAS_SENT),
        _per_template("delivered", _message.c.delivered_at, WAS_DELIVERED),
        *(
            _per_template(what, _message.c.finished_at, _ended(status), _message.c.reason)
            for what, status in _ENDED.items()
        ),
    )


def _per_template(
    what: str, moment: ColumnElement[datetime], has_it: _Condition, *reason: ColumnElement[str]
) -> Select[Channel, str, str, str, int]:
    keys = (_message.c.channel, _message.c.template_key, *reason)
    why = func.coalesce(*reason, "") if reason else literal("")
    counted = select(*keys[:2], literal(what).label("what"), why.label("reason"), func.count().label("messages"))
    return counted.where(has_it, *within(moment)).group_by(*keys)


def queue_depths(session: Session) -> list[QueueDepth]:
    """Of what is not finished, counted one by one: a million takes a tenth of a second."""
    columns = (_message.c.channel, _message.c.lane, _message.c.status)
    depths = [
        select(*columns, func.count().label("messages")).where(kind).group_by(*columns)
        for kind in (IS_WAITING, IS_HELD)
    ]
    return [QueueDepth(*row) for row in session.execute(union_all(*depths))]
