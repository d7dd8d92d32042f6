"""Questions about the state of the store and the installation itself."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnExpressionArgument,
    Executable,
    and_,
    cast,
    exists,
    func,
    not_,
    select,
    text,
)
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.columns import oldest_message_id, table
from notifyctl.models.enums import Audience, BlockReason, Channel, FailureReason, MessageStatus, StripeEventStatus
from notifyctl.models.message import (
    ENDED_BADLY,
    FINAL,
    IS_SENDING,
    IS_WAITING,
    WAS_SENT,
    MessageLog,
    MessagePayload,
    is_in,
)
from notifyctl.models.receipt import Suppression
from notifyctl.models.stripe_event import DUE_INDEX, UNMATCHED_INDEX, StripeEvent
from notifyctl.models.template import NotificationTemplate
from notifyctl.operations import pauses
from notifyctl.orchestrator.message_store import CLOCKS_DIFFER_BY

_message = table(MessageLog)
_event = table(StripeEvent)
_template = table(NotificationTemplate)

ALERTS_TOGETHER = timedelta(minutes=1)
"""The alerts of one happening are made within so long."""
SEND_BY = timedelta(hours=24)
"""The longest that an alert is worth sending for."""
_payload = table(MessagePayload)
_suppression = table(Suppression)


def count_expired_leases(session: Session, now: datetime) -> int:
    """Messages whose worker has gone."""
    return _count(session, IS_SENDING, _message.c.lease_until < now)


def retried(session: Session, since: datetime, bucket: timedelta) -> dict[tuple[datetime, Channel], int]:
    """Messages that wait to be tried again, by the start of the bucket in which their last attempt failed.

    They are few: with a provider down, the breaker lets the others wait for their first attempt.
    """
    size = int(bucket.total_seconds())
    is_sqlite = bulk.dialect(session) == "sqlite"
    at = _message.c.last_attempt_at
    seconds = cast(func.strftime("%s", at), BigInteger) if is_sqlite else func.floor(func.extract("epoch", at))
    number = cast(func.floor(seconds / size), BigInteger)
    statement = (
        select(number, _message.c.channel, func.count())
        .where(IS_WAITING, _message.c.status == MessageStatus.RETRY_SCHEDULED, at >= since)
        .group_by(number, _message.c.channel)
    )
    return {
        (datetime.fromtimestamp(int(n) * size, since.tzinfo), channel): int(count)
        for n, channel, count in session.execute(statement)
    }


def count_due_before(
    session: Session, moment: datetime, moving: Collection[Channel], down: Collection[Channel] = ()
) -> int:
    """What a pause holds is not counted, nor what waits for its minute in a channel that is `moving`.

    Somebody said that the one is to wait, and of the other the moment is a forecast, and no promise. What waits for a
    provider that is `down` is not counted either.
    """
    not_held = [not_(pauses.scope_of(row).holds(_message)) for row in pauses.everything(session)]
    throttled = and_(_message.c.status == MessageStatus.DEFERRED_THROTTLED, _message.c.channel.in_(list(moving)))
    due = (IS_WAITING, _message.c.next_attempt_at < moment)
    return _count(session, *due, not_(throttled), _message.c.channel.not_in(list(down)), *not_held)


class ConfirmedShare(NamedTuple):
    """Of what was sent on a channel, how much a receipt has confirmed."""

    channel: Channel
    sent: int
    confirmed: int


def receipts(session: Session, since: datetime, until: datetime) -> Sequence[ConfirmedShare]:
    """One a channel, of what was sent in that time."""
    confirmed = func.count().filter(_message.c.status.in_((MessageStatus.DELIVERED, MessageStatus.BOUNCED)))
    rows = session.execute(
        select(_message.c.channel, func.count().label("sent"), confirmed.label("confirmed"))
        .where(_message.c.sent_at >= since, _message.c.sent_at < until)
        .group_by(_message.c.channel)
    )
    return [ConfirmedShare(*row) for row in rows]


class UnsettledEvent(NamedTuple):
    id: str
    customer_id: str | None
    named_client: str | None


@dataclass(frozen=True, slots=True)
class StripeTroubles:
    """Events that are not settled, and since when the oldest of them waits."""

    failed: int = 0
    failed_since: datetime | None = None
    newest_failed: UnsettledEvent | None = None
    unmatched: int = 0
    unmatched_since: datetime | None = None
    newest_unmatched: UnsettledEvent | None = None
    waiting: int = 0
    waiting_since: datetime | None = None


def stripe_troubles(session: Session, *, unmatched_since: datetime, received_before: datetime) -> StripeTroubles:
    """All that FAILED, what came since then and is about nobody, and what came before then and was not looked at."""
    failed = (DUE_INDEX, _event.c.status == StripeEventStatus.FAILED)
    unmatched = (UNMATCHED_INDEX, _event.c.received_at >= unmatched_since)
    waiting = (DUE_INDEX, _event.c.status == StripeEventStatus.RECEIVED, _event.c.received_at < received_before)
    failed_count, failed_at = _events(session, *failed)
    unmatched_count, unmatched_at = _events(session, *unmatched)
    waiting_count, waiting_at = _events(session, *waiting)
    return StripeTroubles(
        failed=failed_count,
        failed_since=failed_at,
        newest_failed=_newest_event(session, *failed) if failed_count else None,
        unmatched=unmatched_count,
        unmatched_since=unmatched_at,
        newest_unmatched=_newest_event(session, *unmatched) if unmatched_count else None,
        waiting=waiting_count,
        waiting_since=waiting_at,
    )


def _events(session: Session, *conditions: ColumnExpressionArgument[bool]) -> tuple[int, datetime | None]:
    count, oldest = session.execute(select(func.count(), func.min(_event.c.received_at)).where(*conditions)).one()
    return int(count), oldest


def _newest_event(session: Session, *conditions: ColumnExpressionArgument[bool]) -> UnsettledEvent | None:
    statement = select(_event.c.id, _event.c.customer_id, _event.c.named_client).where(*conditions)
    row = session.execute(statement.order_by(_event.c.received_at.desc(), _event.c.id.desc()).limit(1)).first()
    return UnsettledEvent(*row) if row else None


@dataclass(frozen=True, slots=True)
class LostAlert:
    message_id: str
    template_key: str
    channel: Channel
    status: MessageStatus
    reason: str | None
    at: datetime


_KNOWN_OTHERWISE = (
    BlockReason.TEMPLATE_DISABLED, BlockReason.SUPPRESSED, BlockReason.RATE_LIMITED, FailureReason.RECIPIENT_OPTED_OUT,
)  # fmt: skip
"""An operator wants it so, it is the suppression of the address that matters, or there was one just before."""


def lost_alert(session: Session, since: datetime) -> LostAlert | None:
    """The last mail or SMS to the admins that ended badly or too late since then.

    None when one beside or after it was sent.
    """
    to_admins = _message.c.template_key.in_(
        select(_template.c.template_key).where(_template.c.audience == Audience.ADMIN)
    )
    known_otherwise = func.coalesce(_message.c.reason, "").in_(_KNOWN_OTHERWISE)
    ended = select(_message).where(ENDED_BADLY, _message.c.finished_at >= since, to_admins, ~known_otherwise)
    # Two questions, since no index has both. An alert to admins is too late within a day.
    expired = select(_message).where(
        is_in(MessageStatus.EXPIRED), _message.c.id >= oldest_message_id(since - SEND_BY - CLOCKS_DIFFER_BY),
        to_admins, _message.c.finished_at >= since,
    )  # fmt: skip
    last = [query.order_by(_message.c.finished_at.desc()).limit(1) for query in (ended, expired)]
    candidates = [row for statement in last if (row := session.execute(statement).one_or_none()) is not None]
    if not candidates:
        return None
    lost = max(candidates, key=lambda row: row.finished_at)
    alerts_from = lost.created_at - ALERTS_TOGETHER
    arrived = _message.c.status.in_((MessageStatus.SENT, MessageStatus.DELIVERED))
    sent = exists().where(WAS_SENT, _message.c.sent_at >= alerts_from, arrived, to_admins)
    if session.execute(select(sent)).scalar_one():
        return None
    return LostAlert(lost.id, lost.template_key, lost.channel, lost.status, lost.reason, lost.finished_at)


def _count(session: Session, *conditions: ColumnExpressionArgument[bool]) -> int:
    return int(session.execute(select(func.count()).select_from(_message).where(*conditions)).scalar_one())


def count_suppressions(session: Session) -> dict[str, int]:
    """Key id -> how many suppressions are found by it."""
    key = _suppression.c.key_id
    return _counts(session, select(key, func.count()).group_by(key))


def count_unfinished(session: Session) -> dict[str, int]:
    """Key id -> how many messages that are not finished are sealed with it."""
    key = _payload.c.key_id
    sealed = select(key, func.count()).join(_message, _message.c.id == _payload.c.message_id)
    return _counts(session, sealed.where(key.is_not(None), _message.c.status.not_in(FINAL)).group_by(key))


def _counts(session: Session, statement: Executable) -> dict[str, int]:
    return {key: count for key, count in session.execute(statement)}


def revision(session: Session) -> str:
    """Of the schema."""
    return str(session.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


class LongTransaction(NamedTuple):
    """Nothing that was changed or deleted since it began can be cleaned away."""

    process_id: int | None
    """None for a prepared transaction, which is no process's."""
    name: str
    """The application's, or the prepared transaction's."""
    since: datetime


_LONG_TRANSACTION = text("""
    SELECT pid, coalesce(nullif(application_name, ''), 'without a name'), xact_start FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'
      AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND xact_start <= :began_before
    UNION ALL
    SELECT NULL, gid, prepared FROM pg_prepared_xacts WHERE database = current_database() AND prepared <= :began_before
    ORDER BY 3 LIMIT 1
""")


def longest_transaction(session: Session, began_before: datetime) -> LongTransaction | None:
    """Of others. Always None on SQLite. Another role's is seen by a member of pg_read_all_stats alone."""
    if bulk.dialect(session) == "sqlite":
        return None
    found = session.execute(_LONG_TRANSACTION, {"began_before": began_before}).first()
    return LongTransaction(*found) if found else None


_UNSAFE = text("""
    SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'
    ORDER BY name
""")


def unsafe_settings(session: Session) -> list[str]:
    """By which a crash of the server loses what it has confirmed (PostgreSQL, "Reliability and the Write-Ahead Log").

    SQLite's are set by us.
    """
    return [] if bulk.dialect(session) == "sqlite" else list(session.execute(_UNSAFE).scalars())
