"""Stripe's events and subscriptions as an operator asks for them: filtered, in order, compared with others."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Row, func, or_, select, tuple_
from sqlmodel import Session

from notifyctl.models.audit import AuditAction, AuditLog
from notifyctl.models.columns import table
from notifyctl.models.message import MessageLog
from notifyctl.models.stripe_event import SETTLED, StripeEvent, StripeEventStatus, StripeInvoice, StripeSubscription
from notifyctl.store import bulk

_event = table(StripeEvent)
_subscription = table(StripeSubscription)
_invoice = table(StripeInvoice)
_message = table(MessageLog)
_audit = table(AuditLog)

_HEADS = [column for column in _event.c if column.name != "body"]
_ABOUT_EVENTS = (
    AuditAction.STRIPE_EVENT_RECEIVED,
    AuditAction.STRIPE_EVENT_PROCESSED,
    AuditAction.STRIPE_EVENT_FAILED,
    AuditAction.STRIPE_EVENT_REPLAYED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events; None, or no types, means any. A type may end in `*`. The times are when it happened at Stripe."""

    ids: Collection[str] | None = None
    status: StripeEventStatus | None = None
    types: Sequence[str] = ()
    client_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.ids is not None:
            found.append(_event.c.id.in_(sorted(self.ids)))
        if self.status is not None:
            found.append(_event.c.status == self.status)
        if self.types:
            found.append(or_(*map(_of_type, self.types)))
        if self.client_id is not None:
            found.append(or_(_event.c.client_id == self.client_id, _event.c.named_client == self.client_id))
        if self.since is not None:
            found.append(_event.c.created >= self.since)
        if self.until is not None:
            found.append(_event.c.created < self.until)
        return found


def _of_type(pattern: str) -> ColumnElement[bool]:
    if pattern.endswith("*"):
        return _event.c.type.startswith(pattern[:-1], autoescape=True)
    return _event.c.type == pattern


def newest(session: Session, wanted: Filter, *, limit: int) -> Sequence[Row[Any]]:
    """Without their bodies."""
    statement = select(*_HEADS).where(*wanted.conditions())
    return session.execute(statement.order_by(_event.c.created.desc(), _event.c.id.desc()).limit(limit)).all()


def count(session: Session, wanted: Filter) -> int:
    return int(session.execute(select(func.count()).select_from(_event).where(*wanted.conditions())).scalar_one())


def oldest(session: Session, wanted: Filter, *, after: tuple[datetime, str] | None, limit: int) -> Sequence[Row[Any]]:
    """Without their bodies; only those beyond the one of that time and id."""
    statement = select(*_HEADS).where(*wanted.conditions())
    if after is not None:
        statement = statement.where(tuple_(_event.c.created, _event.c.id) > after)
    return session.execute(statement.order_by(_event.c.created, _event.c.id).limit(limit)).all()


def statuses(session: Session, ids: Collection[str]) -> dict[str, StripeEventStatus]:
    """Of those events that are stored."""
    return {row.id: row.status for row in session.execute(_statuses(_dialect(session)), _asked(session, ids))}


@cache
def _statuses(dialect: str) -> Any:
    asked = bulk.unpack(dialect, bulk.column_types(_event, "id"))
    return select(_event.c.id, _event.c.status).where(_event.c.id.in_(select(asked.c.id)))


def bare(session: Session, ids: Collection[str]) -> dict[str, Row[Any]]:
    """Those of `ids` that have been settled, and whose body is no longer kept."""
    return {row.id: row for row in session.execute(_bare(_dialect(session)), _asked(session, ids))}


@cache
def _bare(dialect: str) -> Any:
    asked = bulk.unpack(dialect, bulk.column_types(_event, "id"))
    known = (_event.c.id.in_(select(asked.c.id)), _event.c.status.in_(SETTLED), func.length(_event.c.body) == 0)
    return select(*_HEADS).where(*known)


def subjects(session: Session, ids: Collection[str]) -> Sequence[Row[Any]]:
    """id, customer_id, subscription_id and named_client of stored events."""
    return session.execute(_subjects(_dialect(session)), _asked(session, ids)).all()


@cache
def _subjects(dialect: str) -> Any:
    asked = bulk.unpack(dialect, bulk.column_types(_event, "id"))
    columns = (_event.c.id, _event.c.customer_id, _event.c.subscription_id, _event.c.named_client)
    return select(*columns).where(_event.c.id.in_(select(asked.c.id)))


def subscriptions(session: Session, ids: Collection[str]) -> dict[str, Row[Any]]:
    return {row.id: row for row in session.execute(_subscriptions(_dialect(session)), _asked(session, ids))}


@cache
def _subscriptions(dialect: str) -> Any:
    asked = bulk.unpack(dialect, bulk.column_types(_subscription, "id"))
    return select(_subscription).where(_subscription.c.id.in_(select(asked.c.id)))


def subscriptions_after(session: Session, subscription_id: str, *, limit: int) -> Sequence[Row[Any]]:
    """In the order of their ids."""
    statement = select(_subscription).where(_subscription.c.id > subscription_id)
    return session.execute(statement.order_by(_subscription.c.id).limit(limit)).all()


def subscription_of(session: Session, event: Row[Any]) -> Row[Any] | None:
    return session.execute(select(_subscription).where(_subscription.c.id == event.subscription_id)).one_or_none()


def invoice_of(session: Session, event: Row[Any]) -> Row[Any] | None:
    return session.execute(select(_invoice).where(_invoice.c.id == event.object_id)).one_or_none()


def newest_of_subscription(session: Session, subscription_id: str) -> Row[Any] | None:
    """The newest event about it, whatever became of that."""
    about = select(*_HEADS).where(_event.c.subscription_id == subscription_id)
    return session.execute(about.order_by(_event.c.created.desc(), _event.c.id.desc()).limit(1)).one_or_none()


def messages_of(session: Session, event: Row[Any]) -> Sequence[Row[Any]]:
    """The mails that name the event as their source, and the one that it would have repeated; oldest first."""
    # By client, for the sake of the index; admins' mails about the event have none.
    own = (_message.c.client_id == event.client_id) & (_message.c.source_ref == event.id)
    statement = select(_message).where(or_(own, _message.c.id == event.message_id))
    return session.execute(statement.order_by(_message.c.id)).all()


def audit_of(session: Session, event: Row[Any]) -> Sequence[Row[Any]]:
    """In the order in which they were written. Looks through all that was written about events since it came."""
    statement = select(_audit).where(
        _audit.c.action.in_(_ABOUT_EVENTS),
        _audit.c.created_at >= event.received_at,
        _audit.c.metadata["event_id"].as_string() == event.id,
    )
    return session.execute(statement.order_by(_audit.c.id)).all()


def _dialect(session: Session) -> str:
    return session.get_bind().dialect.name


def _asked(session: Session, ids: Collection[str]) -> dict[str, str]:
    return bulk.encode(_dialect(session), [{"id": wanted} for wanted in ids])
