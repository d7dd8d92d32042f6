"""Stripe's subscriptions and invoices. Whoever writes one holds the lock on its client's row."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Row, Table, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from notifyctl.models.columns import table
from notifyctl.models.stripe_event import StripeInvoice, StripeSubscription

_subscription = table(StripeSubscription)
_invoice = table(StripeInvoice)


def get(session: Session, subscription_id: str) -> Row[Any] | None:
    return session.execute(select(_subscription).where(_subscription.c.id == subscription_id)).one_or_none()


def owner(session: Session, subscription_id: str) -> str | None:
    """The id of the client that it belongs to."""
    statement = select(_subscription.c.client_id).where(_subscription.c.id == subscription_id)
    found: str | None = session.execute(statement).scalar_one_or_none()
    return found


def of_client(session: Session, client_id: str) -> Sequence[Row[Any]]:
    statement = select(_subscription).where(_subscription.c.client_id == client_id)
    return session.execute(statement.order_by(_subscription.c.id)).all()


def save(session: Session, values: Mapping[str, Any]) -> None:
    """Writes a whole row, over the one of that id if there is one."""
    _save(session, _subscription, values)


def invoice(session: Session, invoice_id: str) -> Row[Any] | None:
    return session.execute(select(_invoice).where(_invoice.c.id == invoice_id)).one_or_none()


def save_invoice(session: Session, values: Mapping[str, Any]) -> None:
    _save(session, _invoice, values)


def payments(session: Session, subscription_id: str) -> tuple[datetime | None, datetime | None]:
    """When the last invoice with something to pay was paid, and when the last failed of those that are not paid."""
    paid = func.max(_invoice.c.paid_at).filter(_invoice.c.total > 0)
    failed = func.max(_invoice.c.failed_at).filter(_invoice.c.paid_at.is_(None))
    row = session.execute(select(paid, failed).where(_invoice.c.subscription_id == subscription_id)).one()
    return row[0], row[1]


def forget_customer(session: Session, client_id: str) -> int:
    """What Stripe calls an erased client is gone from its subscriptions; that they are its own stays."""
    known = (_subscription.c.client_id == client_id, _subscription.c.customer_id.is_not(None))
    result: Any = session.execute(update(_subscription).where(*known).values(customer_id=None))
    return int(result.rowcount)


def _save(session: Session, target: Table, values: Mapping[str, Any]) -> None:
    session.execute(_upsert(session.get_bind().dialect.name, target, tuple(values)), values)


@cache
def _upsert(dialect: str, target: Table, names: tuple[str, ...]) -> Any:
    make: Any = sqlite.insert if dialect == "sqlite" else postgresql.insert
    statement = make(target)
    others = {name: statement.excluded[name] for name in names if name != "id"}
    return statement.on_conflict_do_update(index_elements=["id"], set_=others)
