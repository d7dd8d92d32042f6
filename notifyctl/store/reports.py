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

from sqlalchemy import (
    BigInteger,
    Float,
    Integer,
    Row,
    String,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    text,
    union_all,
)
from sqlmodel import Session

from notifyctl.models.columns import table
from notifyctl.models.message import MessageLog, MessageStatus
from notifyctl.models.otp import USED_INDEX, OtpChallenge
from notifyctl.models.template import Channel

_message = table(MessageLog)
_challenge = table(OtpChallenge)

SENT = text("message_log.sent_at IS NOT NULL")
DELIVERED = text("message_log.delivered_at IS NOT NULL")
THROTTLED = text("message_log.throttled_at IS NOT NULL")
ENDED_BADLY = text("message_log.status IN ('FAILED', 'BOUNCED', 'BLOCKED')")
UNCONFIRMED = text("message_log.status = 'SENT'")
WAITING = text("message_log.status IN ('QUEUED', 'DEFERRED_THROTTLED', 'RETRY_SCHEDULED')")
HELD = text("message_log.status IN ('SENDING', 'IN_DOUBT')")

FIRST_RECEIPT, LAST_RECEIPT = timedelta(hours=1), timedelta(hours=24)
"""A message sent longer ago than the one, and not as long as the other, should have its receipt."""
TOP = 5
MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one channel did in a window."""

    sent: int = 0
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
    counted: dict[Channel, dict[str, Any]] = {channel: {} for channel in Channel}
    asked = {"since": since, "until": until}
    for row in session.execute(_traffic_statement(), asked):
        counted[row.channel][row.what] = row.messages
    for channel, found in _latencies(session, asked).items():
        counted[channel] |= found
    return {channel: Traffic(**values) for channel, values in counted.items()}


@cache
def _traffic_statement() -> Any:
    ended = _per_channel(_status_name(), _message.c.finished_at, ENDED_BADLY)
    return union_all(
        _per_channel(literal("sent"), _message.c.sent_at, SENT),
        _per_channel(literal("delivered"), _message.c.delivered_at, DELIVERED),
        _per_channel(literal("throttled"), _message.c.throttled_at, THROTTLED),
        ended,
    )


def _per_channel(what: Any, moment: Any, has_it: Any) -> Any:
    found = select(_message.c.channel, what.label("what"), func.count().label("messages"))
    return found.where(has_it, *_within(moment)).group_by(_message.c.channel, what)


def _status_name() -> Any:
    """Without the enum's type: the others of the union are words."""
    statuses = (MessageStatus.FAILED, MessageStatus.BOUNCED)
    words = [(_message.c.status == status, literal(status.lower())) for status in statuses]
    return case(*words, else_=literal("blocked"))


def _within(moment: Any) -> tuple[Any, Any]:
    kind = _message.c.sent_at.type
    return moment >= bindparam("since", type_=kind), moment < bindparam("until", type_=kind)


def _latencies(session: Session, asked: Mapping[str, Any]) -> dict[Channel, dict[str, float]]:
    """The values at nearest rank, of each channel: the smallest that p per cent of all do not exceed."""
    dialect = session.get_bind().dialect.name
    rows = session.execute(_latency_statement(dialect), asked)
    if dialect != "sqlite":
        return {row.channel: {"p50_seconds": row.p50, "p95_seconds": row.p95} for row in rows}
    found: dict[Channel, dict[str, float]] = {}
    for row in rows:
        for percent in PERCENTS:
            if row.rank == -(-row.total * percent // 100):
                found.setdefault(row.channel, {})[f"p{percent}_seconds"] = row.microseconds / MICROSECONDS
    return found


PERCENTS = (50, 95)


@cache
def _latency_statement(dialect: str) -> Any:
    columns = (_message.c.channel, _microseconds(dialect).label("microseconds"))
    waited = select(*columns).where(SENT, *_within(_message.c.sent_at)).subquery("waited")
    if dialect != "sqlite":
        # PostgreSQL's percentile_disc is the nearest rank.
        percentiles = (
            (
                func.percentile_disc(percent / 100).within_group(waited.c.microseconds) / literal(1.0 * MICROSECONDS)
            ).label(f"p{percent}")
            for percent in PERCENTS
        )
        return select(waited.c.channel, *percentiles).group_by(waited.c.channel)
    ranked = select(
        *waited.c,
        func.row_number().over(partition_by=waited.c.channel, order_by=waited.c.microseconds).label("rank"),
        func.count().over(partition_by=waited.c.channel).label("total"),
    ).subquery("ranked")
    return select(ranked).where(or_(*(ranked.c.rank == (ranked.c.total * percent + 99) // 100 for percent in PERCENTS)))


def _microseconds(dialect: str) -> Any:
    if dialect == "sqlite":
        sent, created = _message.c.sent_at, _message.c.created_at
        return (_epoch(sent) - _epoch(created)) * MICROSECONDS + _fraction(sent) - _fraction(created)
    # date_part and not extract, which computes in slow decimals.
    seconds = func.date_part("epoch", _message.c.sent_at - _message.c.created_at, type_=Float)
    return cast(seconds * literal(1.0 * MICROSECONDS), BigInteger)


def _epoch(moment: Any) -> Any:
    """SQLite's own reading of the fraction rounds to milliseconds, and up to the next second."""
    return func.unixepoch(func.substr(moment, 1, 19, type_=String), type_=Integer)


def _fraction(moment: Any) -> Any:
    return cast(func.substr(moment, 21, type_=String), Integer)


def backlog(session: Session, now: datetime, paused: Sequence[Any] = ()) -> dict[Channel, Backlog]:
    """`paused`: the scopes of what is held back, which is pending and not due."""
    found: dict[Channel, dict[str, Any]] = {
        channel: {"pending": 0, "retrying": 0, "in_doubt": 0} for channel in Channel
    }
    for condition in (WAITING, HELD):
        statement = select(_message.c.channel, _message.c.status, func.count()).where(condition)
        for channel, status, count in session.execute(statement.group_by(_message.c.channel, _message.c.status)):
            found[channel][_COUNTED_AS[status]] += count
    due_at = _message.c.next_attempt_at
    unthrottled = func.min(due_at).filter(_message.c.status != MessageStatus.DEFERRED_THROTTLED)
    due = select(_message.c.channel, func.min(due_at), unthrottled).where(
        WAITING, _message.c.next_attempt_at <= now, *(~scope.holds(_message) for scope in paused)
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
    failed = and_(ENDED_BADLY, _message.c.status == MessageStatus.FAILED, *_within(_message.c.finished_at))
    statement = select(name, func.count()).where(failed).group_by(name).order_by(func.count().desc(), name).limit(TOP)
    return [(str(key), int(count)) for key, count in session.execute(statement, {"since": since, "until": until})]


def unconfirmed(session: Session, now: datetime) -> int:
    """Sent long enough ago, and without a receipt."""
    statement = select(func.count()).select_from(_message).where(UNCONFIRMED, *_within(_message.c.sent_at))
    asked = {"since": now - LAST_RECEIPT, "until": now - FIRST_RECEIPT}
    return int(session.execute(statement, asked).scalar_one())


def codes(session: Session, since: datetime, until: datetime) -> tuple[int, int]:
    """One-time codes sent, and verified."""
    of_codes = and_(SENT, _message.c.template_key == literal("OTP_CODE_SMS"), *_within(_message.c.sent_at))
    sent = select(func.count()).select_from(_message).where(of_codes)
    used = _challenge.c.finished_at
    verified = select(func.count()).where(USED_INDEX, *_within(used))
    asked = {"since": since, "until": until}
    return int(session.execute(sent, asked).scalar_one()), int(session.execute(verified, asked).scalar_one())


def series(session: Session, until: datetime, buckets: int, bucket: timedelta) -> list[Bucket]:
    """`buckets` of them, on edges that are multiples of `bucket`; the last one has `until` in it."""
    size = int(bucket.total_seconds())
    last = int(until.timestamp()) // size
    first = last - buckets + 1
    zone = until.tzinfo
    starts = [datetime.fromtimestamp(number * size, zone) for number in range(first, last + 1)]
    counts: list[dict[str, dict[Channel, int]]] = [
        {what: dict.fromkeys(Channel, 0) for what in ("sent", "failed", "throttled")} for _ in starts
    ]
    asked = {"since": starts[0], "until": starts[-1] + bucket, "size": size}
    for row in session.execute(_series_statement(session.get_bind().dialect.name), asked):
        counts[row.number - first][row.what][row.channel] = row.messages
    return [Bucket(start, **count) for start, count in zip(starts, counts, strict=True)]


@cache
def _series_statement(dialect: str) -> Any:
    failed = and_(ENDED_BADLY, _message.c.status == MessageStatus.FAILED)
    return union_all(
        _per_bucket(dialect, "sent", _message.c.sent_at, SENT),
        _per_bucket(dialect, "throttled", _message.c.throttled_at, THROTTLED),
        _per_bucket(dialect, "failed", _message.c.finished_at, failed),
    )


def _per_bucket(dialect: str, what: str, moment: Any, has_it: Any) -> Any:
    size = bindparam("size", type_=Integer)
    if dialect == "sqlite":
        number = _epoch(moment) // size
    else:
        number = cast(func.floor(func.extract("epoch", moment) / size), Integer)
    found = select(
        literal(what).label("what"), _message.c.channel, number.label("number"), func.count().label("messages")
    )
    return found.where(has_it, *_within(moment)).group_by(_message.c.channel, text("number"))


def recent(session: Session, limit: int) -> Sequence[Row[Any]]:
    """Newest first."""
    return session.execute(select(_message).order_by(_message.c.id.desc()).limit(limit)).all()


def outcomes(session: Session, since: datetime, until: datetime) -> Sequence[Row[Any]]:
    """`channel`, `what` (sent, delivered, failed, bounced, blocked), `template_key`, `reason` and `messages`."""
    return session.execute(_outcomes_statement(), {"since": since, "until": until}).all()


@cache
def _outcomes_statement() -> Any:
    no_reason = literal("")
    return union_all(
        _per_template(literal("sent"), no_reason, _message.c.sent_at, SENT),
        _per_template(literal("delivered"), no_reason, _message.c.delivered_at, DELIVERED),
        _per_template(_status_name(), func.coalesce(_message.c.reason, ""), _message.c.finished_at, ENDED_BADLY),
    )


def _per_template(what: Any, reason: Any, moment: Any, has_it: Any) -> Any:
    template = _message.c.template_key
    counted = func.count().label("messages")
    found = select(_message.c.channel, what.label("what"), template, reason.label("reason"), counted)
    return found.where(has_it, *_within(moment)).group_by(_message.c.channel, text("2"), template, text("4"))


def latencies(
    session: Session, since: datetime, until: datetime, bounds: Sequence[float]
) -> dict[Channel, tuple[list[int], float]]:
    """How many messages were sent within each bound in seconds, the last count being all, and the sum of seconds."""
    statement = _latencies_statement(session.get_bind().dialect.name, tuple(bounds))
    found = {channel: ([0] * (len(bounds) + 1), 0.0) for channel in Channel}
    for channel, total, *counts in session.execute(statement, {"since": since, "until": until}):
        found[channel] = ([int(count) for count in counts], float(total) / MICROSECONDS)
    return found


@cache
def _latencies_statement(dialect: str, bounds: tuple[float, ...]) -> Any:
    waited = (
        select(_message.c.channel, _microseconds(dialect).label("microseconds"))
        .where(SENT, *_within(_message.c.sent_at))
        .subquery("waited")
    )
    counts = [
        func.count().filter(waited.c.microseconds <= int(bound * MICROSECONDS)).label(f"bound_{number}")
        for number, bound in enumerate(bounds)
    ]
    total = func.sum(waited.c.microseconds)
    return select(waited.c.channel, total, *counts, func.count().label("all")).group_by(waited.c.channel)


def queue_depths(session: Session) -> Sequence[Row[Any]]:
    """`channel`, `lane`, `status` and `messages` of what is not finished."""
    columns = (_message.c.channel, _message.c.lane, _message.c.status)
    found = [
        select(*columns, func.count().label("messages")).where(kind).group_by(*columns) for kind in (WAITING, HELD)
    ]
    return session.execute(union_all(*found)).all()
