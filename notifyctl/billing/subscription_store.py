"""Stripe's subscriptions and invoices. Whoever writes one holds the lock on its client's row."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cache
from operator import attrgetter

from sqlalchemy import BindParameter, Executable, Table, bindparam, or_, select, true, update
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


_NAMES = [field.name for field in fields(SubscriptionRow)]
VALUES = attrgetter(*_NAMES)
"""All of a SubscriptionRow."""
COLUMNS = [_subscription.c[name] for name in _NAMES]
"""Those of a SubscriptionRow, in its order."""
_INVOICE = [_invoice.c[field.name] for field in fields(InvoiceRow)]


def get(session: Session, subscription_id: str) -> SubscriptionRow | None:
    row = session.execute(select(*COLUMNS).where(_subscription.c.id == subscription_id)).one_or_none()
    return SubscriptionRow(*row) if row is not None else None


# Made once: building a statement takes longer than running it.
_IDS: BindParameter[list[str]] = bindparam("ids", expanding=True)
_CLIENTS: BindParameter[list[str]] = bindparam("clients", expanding=True)
_OWNERS = select(_subscription.c.client_id).where(_subscription.c.id.in_(_IDS), _subscription.c.client_id.is_not(None))
_THESE = select(*COLUMNS).where(or_(_subscription.c.id.in_(_IDS), _subscription.c.client_id.in_(_CLIENTS)))
_INVOICE_IDS: BindParameter[list[str]] = bindparam("invoices", expanding=True)
_INVOICES = select(*_INVOICE).where(or_(_invoice.c.subscription_id.in_(_IDS), _invoice.c.id.in_(_INVOICE_IDS)))


def owners(session: Session, ids: Collection[str]) -> set[str]:
    """The ids of the clients that these subscriptions belong to."""
    return set(session.execute(_OWNERS, {"ids": sorted(ids)}).scalars())


def these(session: Session, ids: Collection[str], client_ids: Collection[str]) -> list[SubscriptionRow]:
    """By their own ids, and all of these clients."""
    rows = session.execute(_THESE, {"ids": sorted(ids), "clients": sorted(client_ids)})
    return [SubscriptionRow(*row) for row in rows]


def save(session: Session, rows: Sequence[SubscriptionRow], *, now: datetime) -> None:
    """Writes whole rows, over those of their ids."""
    _save(session, _subscription, [dict(zip(_NAMES, VALUES(row), strict=True)) | {"updated_at": now} for row in rows])


def invoice(session: Session, invoice_id: str | None) -> InvoiceRow | None:
    row = session.execute(select(*_INVOICE).where(_invoice.c.id == invoice_id)).one_or_none()
    return InvoiceRow(*row) if row is not None else None


def invoices(session: Session, subscription_ids: Collection[str], ids: Collection[str]) -> list[InvoiceRow]:
    """All of these subscriptions, and those of these ids."""
    rows = session.execute(_INVOICES, {"ids": sorted(subscription_ids), "invoices": sorted(ids)})
    return [InvoiceRow(*row) for row in rows]


def save_invoices(session: Session, rows: Sequence[InvoiceRow], *, now: datetime) -> None:
    _save(session, _invoice, [asdict(row) | {"updated_at": now} for row in rows])


def forget_customer(session: Session, client_id: str) -> None:
    """What Stripe calls an erased client is gone from its subscriptions; that they are its own stays."""
    known = (_subscription.c.client_id == client_id, _subscription.c.customer_id.is_not(None))
    session.execute(update(_subscription).where(*known).values(customer_id=None))


def _save(session: Session, target: Table, rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        dialect = bulk.dialect(session)
        session.execute(_upsert(dialect, target, tuple(rows[0])), bulk.encode(dialect, rows))


@cache
def _upsert(dialect: str, target: Table, names: tuple[str, ...]) -> Executable:
    rows = bulk.unpack(dialect, bulk.column_types(target, *names))
    # The condition keeps SQLite from taking ON CONFLICT for that of a join.
    statement = bulk.upsert(dialect, target).from_select(list(names), select(*rows.c).where(true()))
    others = {name: statement.excluded[name] for name in names if name != "id"}
    return statement.on_conflict_do_update(index_elements=["id"], set_=others)
