"""What the failure-spike monitor asks of the messages, and what it remembers of each channel.

The cost follows the window and not the history: each condition is spelled out as an index has it.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from functools import cache
from itertools import starmap
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Executable,
    ScalarSelect,
    Select,
    TextClause,
    bindparam,
    case,
    func,
    literal,
    not_,
    select,
    union,
    update,
)
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.alerts import SpikeState
from notifyctl.models.audit import FAILED_ATTEMPTS, AuditLog
from notifyctl.models.columns import table
from notifyctl.models.enums import Channel, Lane, MessageStatus, SpikeLevel
from notifyctl.models.message import ENDED_BADLY, IS_HELD, IS_WAITING, WAS_SENT, MessageLog
from notifyctl.operations.pauses import PauseScope

_message = table(MessageLog)
_audit = table(AuditLog)
_state = table(SpikeState)

OWN_TEMPLATES = ("OPS_ALERT_NOTIFICATION_SPIKE", "NOTIFICATION_SPIKE_ALERT_ADMIN", "OPS_ALERT_SMS")
"""The monitor's own alerts are not traffic."""
TOP = 5
_A_TICK = timedelta(microseconds=1)

_ARRIVED = (MessageStatus.SENT, MessageStatus.DELIVERED)
_is_traffic = _message.c.template_key.not_in(OWN_TEMPLATES)
_STATUSES = (MessageStatus.QUEUED, MessageStatus.RETRY_SCHEDULED, MessageStatus.DEFERRED_THROTTLED)


@dataclass(frozen=True, slots=True)
class ChannelFailures:
    """Of one channel: messages, each once, that a window's last attempt at did not bring to their recipients."""

    failed: int = 0
    clients: int = 0
    """How many clients they are of."""
    reasons: tuple[tuple[str, int], ...] = ()
    """The most frequent first, at most TOP."""
    templates: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Attempts:
    """Of a channel in a window, in messages: what failed and is so still, and what was sent."""

    failed: int
    sent: int
    last_failed_at: datetime | None = None
    sent_since: int = 0
    """What went out after that: the failure may be over."""


@dataclass(frozen=True, slots=True)
class LaneQueue:
    """What of a lane no pause holds."""

    lane: Lane
    due_at: datetime | None
    """Of the oldest message that is due and was never told to wait for room in the minute."""
    turn_at: datetime | None
    """The earliest forecast of those that were; it may be in the future."""


@dataclass(frozen=True, slots=True)
class SpikeMemory:
    """What is remembered of a channel; spike_state says what each is."""

    level: SpikeLevel = SpikeLevel.OK
    told: SpikeLevel = SpikeLevel.OK
    problem: str = ""
    raised_at: datetime | None = None
    told_at: datetime | None = None
    measured_at: datetime | None = None


class RaisedSpike(NamedTuple):
    channel: Channel
    level: SpikeLevel
    told: SpikeLevel
    problem: str
    raised_at: datetime | None
    measured_at: datetime | None


_MEMORY = [_state.c[field.name] for field in fields(SpikeMemory)]


def failures(session: Session, since: datetime) -> dict[Channel, ChannelFailures]:
    reasons: dict[Channel, Counter[str]] = {channel: Counter() for channel in Channel}
    templates: dict[Channel, Counter[str]] = {channel: Counter() for channel in Channel}
    for channel, reason, template, messages in session.execute(_failures_statement(), {"since": since}):
        reasons[channel][reason] += messages
        templates[channel][template] += messages
    clients = {row.channel: row.clients for row in session.execute(_clients_statement(), {"since": since})}
    return {
        channel: ChannelFailures(
            failed=templates[channel].total(),
            clients=clients.get(channel, 0),
            reasons=_top(reasons[channel]),
            templates=_top(templates[channel]),
        )
        for channel in Channel
    }


def attempts(session: Session, since: datetime) -> dict[Channel, Attempts]:
    failed, gone = failures(session, since), sent(session, since)
    last = {}
    if any(failed[channel].failed for channel in Channel):
        last = {row.channel: row.at for row in session.execute(_last_failed_statement(), {"since": since})}
    return {
        channel: Attempts(
            failed[channel].failed,
            gone[channel],
            last.get(channel),
            sent(session, last[channel] + _A_TICK)[channel] if gone[channel] and channel in last else 0,
        )
        for channel in Channel
    }


@cache
def _last_failed_statement() -> Executable:
    """By when it was written down, as it is with what was sent; an attempt that was made good later is one, too."""
    since = bindparam("since", type_=_message.c.sent_at.type)
    return (
        select(_message.c.channel, func.max(_audit.c.created_at).label("at"))
        .select_from(_audit.join(_message, _message.c.id == _audit.c.message_id))
        .where(FAILED_ATTEMPTS, _audit.c.created_at >= since, _is_traffic)
        .group_by(_message.c.channel)
    )


def _top(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP])


@cache
def _failures_statement() -> Executable:
    failed = _failed().subquery("failed")
    columns = (failed.c.channel, failed.c.reason, failed.c.template)
    return select(*columns, func.count().label("messages")).group_by(*columns)


@cache
def _clients_statement() -> Executable:
    failed = _failed().subquery("failed")
    clients = func.count(failed.c.client_id.distinct()).label("clients")
    return select(failed.c.channel, clients).group_by(failed.c.channel)


def _failed() -> Select[tuple[Channel, str | None, str, str]]:
    reason = func.coalesce(
        _message.c.reason,
        case((_message.c.status == MessageStatus.IN_DOUBT, literal("IN_DOUBT"))),
        literal("code ") + _message.c.error_code,
        literal("UNKNOWN"),
    )
    columns = (_message.c.channel, _message.c.client_id, _message.c.template_key.label("template"))
    # A success after the failure shows in the status, and nothing but a bounce, which is a failure, comes after one.
    return select(*columns, reason.label("reason")).where(
        _message.c.id.in_(select(_candidates().subquery().c.id)), _message.c.status.not_in(_ARRIVED), _is_traffic
    )


def _candidates() -> CompoundSelect[tuple[str]]:
    """The audit log has the attempts of messages that have moved on since, as by an operator or to EXPIRED.

    Those that stand as failed now are looked for as well, so that no figure rests on audit rows alone.
    """
    since = bindparam("since", type_=_message.c.sent_at.type)
    attempted = select(_audit.c.message_id.label("id")).where(FAILED_ATTEMPTS, _audit.c.created_at >= since)
    ended = select(_message.c.id).where(
        ENDED_BADLY,
        _message.c.status.in_([MessageStatus.FAILED, MessageStatus.BOUNCED]),
        _message.c.finished_at >= since,
    )
    # Lane and channel are named for the sake of the index, which begins with them.
    retrying = select(_message.c.id).where(
        IS_WAITING,
        _message.c.channel.in_(list(Channel)),
        _message.c.lane.in_(list(Lane)),
        _message.c.status == MessageStatus.RETRY_SCHEDULED,
        _message.c.last_attempt_at >= since,
    )
    in_doubt = select(_message.c.id).where(
        IS_HELD, _message.c.status == MessageStatus.IN_DOUBT, _message.c.last_attempt_at >= since
    )
    return union(attempted, ended, retrying, in_doubt)


def sent(session: Session, since: datetime) -> dict[Channel, int]:
    """Messages that were sent in a window, and have not bounced."""
    counts = {row.channel: row.messages for row in session.execute(_sent_statement(), {"since": since})}
    return dict.fromkeys(Channel, 0) | counts


@cache
def _sent_statement() -> Executable:
    since = bindparam("since", type_=_message.c.sent_at.type)
    return (
        select(_message.c.channel, func.count().label("messages"))
        .where(WAS_SENT, _message.c.sent_at >= since, _message.c.status.in_(_ARRIVED), _is_traffic)
        .group_by(_message.c.channel)
    )


def queues(session: Session, channel: Channel, now: datetime, paused: Sequence[PauseScope] = ()) -> list[LaneQueue]:
    """A row a lane. The whole channel being paused, nothing is due in it."""
    if any(scope.channel in (None, channel) and not (scope.template_key or scope.client_id) for scope in paused):
        return [LaneQueue(lane, None, None) for lane in Lane]
    row = session.execute(_queues_statement(tuple(paused)), {"channel": channel, "now": now}).one()
    moments = iter(row)
    return [LaneQueue(lane, _earliest(next(moments), next(moments)), next(moments)) for lane in Lane]


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


@cache
def _queues_statement(paused: tuple[PauseScope, ...]) -> Executable:
    return select(*(_first_moment(lane, status, paused) for lane in Lane for status in _STATUSES))


def _first_moment(lane: Lane, status: MessageStatus, paused: Sequence[PauseScope]) -> ScalarSelect[datetime]:
    conditions: list[ColumnElement[bool] | TextClause] = [
        _message.c.channel == bindparam("channel", type_=_message.c.channel.type),
        _message.c.lane == lane,
        _message.c.status == status,
        IS_WAITING,
        _is_traffic,
    ]
    if status is not MessageStatus.DEFERRED_THROTTLED:
        conditions.append(_message.c.next_attempt_at <= bindparam("now", type_=_message.c.next_attempt_at.type))
    not_held = (not_(scope.holds(_message)) for scope in paused)
    moments = select(_message.c.next_attempt_at).where(*conditions, *not_held)
    return moments.order_by(_message.c.next_attempt_at).limit(1).scalar_subquery()


def lock(session: Session, channel: Channel) -> SpikeMemory:
    """Until the transaction ends. Made when it is not there yet."""
    fresh = {"channel": channel, "level": SpikeLevel.OK, "told": SpikeLevel.OK, "problem": ""}
    session.execute(bulk.upsert(session, _state).values(fresh).on_conflict_do_nothing(index_elements=["channel"]))
    row = session.execute(select(*_MEMORY).where(_state.c.channel == channel).with_for_update()).one()
    return SpikeMemory(*row)


def save(session: Session, channel: Channel, memory: SpikeMemory) -> None:
    session.execute(update(_state).where(_state.c.channel == channel).values(asdict(memory)))


def raised(session: Session, channels: Collection[Channel] = tuple(Channel)) -> Sequence[RaisedSpike]:
    """The spikes that are not over."""
    statement = (
        select(*(_state.c[name] for name in RaisedSpike._fields))
        .where(_state.c.level != SpikeLevel.OK, _state.c.channel.in_(list(channels)))
        .order_by(_state.c.channel)
    )
    return list(starmap(RaisedSpike, session.execute(statement)))
