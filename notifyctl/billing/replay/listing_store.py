"""Stripe's events and subscriptions as an operator asks for them: filtered, in order, compared with others."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import Column, ColumnElement, Executable, and_, func, or_, select, tuple_
from sqlmodel import Session

from notifyctl.audit.log import AuditRow
from notifyctl.billing import store as event_store
from notifyctl.billing.store import SUBJECT, SUMMARY, EventSubject, EventSummary
from notifyctl.billing.subscription_store import COLUMNS, SubscriptionRow
from notifyctl.db import bulk
from notifyctl.errors import InvalidInput
from notifyctl.models.audit import AuditLog
from notifyctl.models.columns import table
from notifyctl.models.enums import AuditAction, StripeEventStatus
from notifyctl.models.message import MessageLog
from notifyctl.models.stripe_event import SETTLED, StripeEvent, StripeSubscription
from notifyctl.orchestrator.filters import LEAST_DIGITS
from notifyctl.orchestrator.message_store import MessageRow

_event = table(StripeEvent)
_subscription = table(StripeSubscription)
_message = table(MessageLog)
_audit = table(AuditLog)

_ABOUT_EVENTS = (
    AuditAction.STRIPE_EVENT_RECEIVED,
    AuditAction.STRIPE_EVENT_PROCESSED,
    AuditAction.STRIPE_EVENT_FAILED,
    AuditAction.STRIPE_EVENT_REPLAYED,
)
_IS_BARE = and_(_event.c.status.in_(SETTLED), func.length(_event.c.body) == 0)
_NEWEST_FIRST = (_event.c.created.desc(), _event.c.id.desc())


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events; None, or no types, means any. A type may end in `*`. The times are when it happened at Stripe."""

    ids: Collection[str] | None = None
    status: StripeEventStatus | None = None
    types: Sequence[str] = ()
    client_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        if self.ids is not None:
            conditions.append(_event.c.id.in_(sorted(self.ids)))
        if self.status is not None:
            conditions.append(_event.c.status == self.status)
        if self.types:
            conditions.append(or_(*map(_of_type, self.types)))
        if self.client_id is not None:
            conditions.append(or_(_event.c.client_id == self.client_id, _event.c.named_client == self.client_id))
        if self.since is not None:
            conditions.append(_event.c.created >= self.since)
        if self.until is not None:
            conditions.append(_event.c.created < self.until)
        return conditions


def _of_type(pattern: str) -> ColumnElement[bool]:
    if pattern.endswith("*"):
        return _event.c.type.startswith(pattern[:-1], autoescape=True)
    return _event.c.type == pattern


def newest(session: Session, criteria: EventFilter, *, limit: int) -> list[EventSummary]:
    statement = select(*SUMMARY).where(*criteria.conditions())
    return _summaries(session, statement.order_by(*_NEWEST_FIRST).limit(limit))


def ids_like(session: Session, part: str, limit: int) -> list[str]:
    """Of the events whose id begins or ends so, the newest first. For an end all ids are read."""
    alike = or_(_event.c.id.startswith(part, autoescape=True), _event.c.id.endswith(part, autoescape=True))
    return list(session.execute(select(_event.c.id).where(alike).order_by(*_NEWEST_FIRST).limit(limit)).scalars())


def whole_id(session: Session, text: str) -> str:
    """The id that `text` is, or of which it is the beginning or end; `text` itself where there is none such.

    Raises InvalidInput where several are.
    """
    if len(text) < LEAST_DIGITS or event_store.get(session, text) is not None:
        return text
    alike = ids_like(session, text, 2)
    if len(alike) > 1:
        raise InvalidInput(f"{text!r} is the beginning or end of several events; give more of the id")
    return alike[0] if alike else text


def count(session: Session, criteria: EventFilter) -> int:
    return int(session.execute(select(func.count()).select_from(_event).where(*criteria.conditions())).scalar_one())


def oldest(
    session: Session, criteria: EventFilter, *, after: tuple[datetime, str] | None, limit: int
) -> list[EventSummary]:
    """Only those beyond the one of that time and id."""
    statement = select(*SUMMARY).where(*criteria.conditions())
    if after is not None:
        statement = statement.where(tuple_(_event.c.created, _event.c.id) > after)
    return _summaries(session, statement.order_by(_event.c.created, _event.c.id).limit(limit))


def newest_of_subscription(session: Session, subscription_id: str) -> EventSummary | None:
    """The newest event about it, whatever became of that."""
    statement = select(*SUMMARY).where(_event.c.subscription_id == subscription_id)
    return next(iter(_summaries(session, statement.order_by(*_NEWEST_FIRST).limit(1))), None)


def _summaries(session: Session, statement: Executable) -> list[EventSummary]:
    return [EventSummary(*row) for row in session.execute(statement)]


def statuses(session: Session, ids: Collection[str]) -> dict[str, StripeEventStatus]:
    """Of those events that are stored."""
    return {row.id: row.status for row in session.execute(*_by_ids(session, ids, (_event.c.id, _event.c.status)))}


def bare(session: Session, ids: Collection[str]) -> dict[str, EventSummary]:
    """Those of `ids` that have been settled, and whose body is no longer kept."""
    return {row.id: EventSummary(*row) for row in session.execute(*_by_ids(session, ids, SUMMARY, _IS_BARE))}


def subjects(session: Session, ids: Collection[str]) -> dict[str, EventSubject]:
    rows = session.execute(*_by_ids(session, ids, SUBJECT))
    return {event_id: EventSubject(*subject) for event_id, *subject in rows}


def subscriptions(session: Session, ids: Collection[str]) -> dict[str, SubscriptionRow]:
    return {row.id: SubscriptionRow(*row) for row in session.execute(*_by_ids(session, ids, COLUMNS))}


def _by_ids(
    session: Session, ids: Collection[str], columns: Sequence[Column[object]], *conditions: ColumnElement[bool]
) -> tuple[Executable, dict[str, str]]:
    """What to execute for the rows of these ids; the first of `columns` is the id."""
    dialect = bulk.dialect(session)
    parameters = bulk.encode(dialect, [{"id": event_id} for event_id in ids])
    return _select_by_ids(dialect, tuple(columns), *conditions), parameters


@cache
def _select_by_ids(dialect: str, columns: tuple[Column[object], ...], *conditions: ColumnElement[bool]) -> Executable:
    keys = bulk.unpack(dialect, {"id": columns[0].type})
    return select(*columns).where(columns[0].in_(select(keys.c.id)), *conditions)


def subscriptions_after(session: Session, subscription_id: str, *, limit: int) -> list[SubscriptionRow]:
    """In the order of their ids."""
    statement = select(*COLUMNS).where(_subscription.c.id > subscription_id).order_by(_subscription.c.id)
    return [SubscriptionRow(*row) for row in session.execute(statement.limit(limit))]


def mails_of(session: Session, event: EventSummary) -> list[MessageRow]:
    """The mails that name the event as their source, and the one that it would have repeated; oldest first."""
    # By client, for the sake of the index; admins' mails about the event have none.
    own = (_message.c.client_id == event.client_id) & (_message.c.source_ref == event.id)
    statement = select(_message).where(or_(own, _message.c.id == event.message_id)).order_by(_message.c.id)
    return [MessageRow(*row) for row in session.execute(statement)]


def audit_of(session: Session, event: EventSummary) -> list[AuditRow]:
    """In the order in which they were written. Looks through all that was written about events since it came."""
    statement = select(_audit).where(
        _audit.c.action.in_(_ABOUT_EVENTS),
        _audit.c.created_at >= event.received_at,
        _audit.c.metadata["event_id"].as_string() == event.id,
    )
    return [AuditRow(*row) for row in session.execute(statement.order_by(_audit.c.id))]
