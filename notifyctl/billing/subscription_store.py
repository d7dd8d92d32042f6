"""Stripe's subscriptions and invoices. Whoever writes one holds the lock on its client's row."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cache

from sqlalchemy import Insert, Table, func, select, update
from sqlmodel import Session

from notifyctl.db import bulk
from notifyctl.models.columns import table
from notifyctl.models.stripe_event import StripeInvoice, StripeSubscription

_subscription = table(StripeSubscription)
_invoice = table(StripeInvoice)


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """models/stripe_event.py explains the columns. The defaults are those of a subscription that is not known yet."""

    id: str
    client_id: str | None = None
    customer_id: str | None = None
    status: str | None = None
    reported_status: str | None = None
    known_status: str | None = None
    known_order: str = ""
    reported_at: datetime | None = None
    report_order: str = ""
    price_id: str | None = None
    plan: str | None = None
    plan_order: str = ""
    current_period_end: datetime | None = None
    started_at: datetime | None = None
    cancel_at: datetime | None = None
    ended_at: datetime | None = None
    end_cause: str | None = None
    was_live: bool = False
    was_incomplete: bool = False
    last_event_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class InvoiceRow:
    id: str
    client_id: str
    subscription_id: str | None
    total: int
    paid_at: datetime | None
    failed_at: datetime | None
    failed_attempts: int


COLUMNS = [_subscription.c[field.name] for field in fields(SubscriptionRow)]
"""Those of a SubscriptionRow, in its order."""
_INVOICE = [_invoice.c[field.name] for field in fields(InvoiceRow)]


def get(session: Session, subscription_id: str) -> SubscriptionRow | None:
    row = session.execute(select(*COLUMNS).where(_subscription.c.id == subscription_id)).one_or_none()
    return SubscriptionRow(*row) if row is not None else None


def owner(session: Session, subscription_id: str) -> str | None:
    """The id of the client that it belongs to."""
    statement = select(_subscription.c.client_id).where(_subscription.c.id == subscription_id)
    client_id: str | None = session.execute(statement).scalar_one_or_none()
    return client_id


def of_client(session: Session, client_id: str) -> list[SubscriptionRow]:
    statement = select(*COLUMNS).where(_subscription.c.client_id == client_id).order_by(_subscription.c.id)
    return [SubscriptionRow(*row) for row in session.execute(statement)]


def save(session: Session, row: SubscriptionRow, *, now: datetime) -> None:
    """Writes a whole row, over the one of that id if there is one."""
    _save(session, _subscription, asdict(row) | {"updated_at": now})


def invoice(session: Session, invoice_id: str | None) -> InvoiceRow | None:
    row = session.execute(select(*_INVOICE).where(_invoice.c.id == invoice_id)).one_or_none()
    return InvoiceRow(*row) if row is not None else None


def save_invoice(session: Session, row: InvoiceRow, *, now: datetime) -> None:
    _save(session, _invoice, asdict(row) | {"updated_at": now})


def payments(session: Session, subscription_id: str) -> tuple[datetime | None, datetime | None]:
    """When the last invoice with something to pay was paid, and when the last failed of those that are not paid."""
    paid = func.max(_invoice.c.paid_at).filter(_invoice.c.total > 0)
    failed = func.max(_invoice.c.failed_at).filter(_invoice.c.paid_at.is_(None))
    row = session.execute(select(paid, failed).where(_invoice.c.subscription_id == subscription_id)).one()
    return row[0], row[1]


def forget_customer(session: Session, client_id: str) -> None:
    """What Stripe calls an erased client is gone from its subscriptions; that they are its own stays."""
    known = (_subscription.c.client_id == client_id, _subscription.c.customer_id.is_not(None))
    session.execute(update(_subscription).where(*known).values(customer_id=None))


def _save(session: Session, target: Table, values: Mapping[str, object]) -> None:
    session.execute(_upsert(bulk.dialect(session), target, tuple(values)), values)


@cache
def _upsert(dialect: str, target: Table, names: tuple[str, ...]) -> Insert:
    statement = bulk.upsert(dialect, target)
    others = {name: statement.excluded[name] for name in names if name != "id"}
    return statement.on_conflict_do_update(index_elements=["id"], set_=others)
