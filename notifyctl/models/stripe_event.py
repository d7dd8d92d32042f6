"""What Stripe told us, kept as it came, and the subscriptions and invoices it describes."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, Index, LargeBinary, text
from sqlmodel import Field

from notifyctl.models.columns import MESSAGE_ID, StoreModel, UtcDateTime, enum_column, table
from notifyctl.models.enums import Origin, StripeEventStatus

SETTLED = (StripeEventStatus.PROCESSED, StripeEventStatus.IGNORED)
"""A redelivery of these changes nothing."""


class StripeEvent(StoreModel, table=True):
    __tablename__ = "stripe_event"

    id: str = Field(primary_key=True)
    type: str
    created: datetime = Field(sa_type=UtcDateTime)
    """When it happened at Stripe; whole seconds."""
    livemode: bool
    verified: bool
    """True when the body's signature was checked, it was fetched from Stripe's API, or an operator gave it in a file:
    then it is on that person's word, which the audit log keeps.
    """
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """As it came. Empty once its client was erased, or when it has been settled for as long as bodies are kept."""
    status: StripeEventStatus = Field(sa_column=enum_column(StripeEventStatus))
    error: str | None = None
    reason: str | None = None
    """Why it was ignored or matched nobody, or why no mail came of it."""
    attempts: int = 0
    client_id: str | None = None
    received_at: datetime = Field(sa_type=UtcDateTime)
    processed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    origin: str = Origin.WEBHOOK.value
    api_version: str | None = None
    account: str | None = None
    object_id: str | None = None
    customer_id: str | None = None
    subscription_id: str | None = None
    named_client: str | None = None
    """The client that it names, whether there is one of that id or not."""
    message_id: str | None = Field(default=None, sa_column=Column(MESSAGE_ID, nullable=True))
    """The mail that came of it, or the earlier one that it would have repeated."""
    next_attempt_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    alert: str | None = None
    alerted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


_events = table(StripeEvent)

DUE_INDEX = text(f"status IN ('{StripeEventStatus.RECEIVED}', '{StripeEventStatus.FAILED}')")
UNMATCHED_INDEX = text(f"status = '{StripeEventStatus.UNMATCHED}'")
ALERTED_INDEX = text("alerted_at IS NOT NULL")
Index(
    "ix_stripe_event_due",
    _events.c.next_attempt_at,
    sqlite_where=DUE_INDEX,
    postgresql_where=DUE_INDEX,
)
Index(
    "ix_stripe_event_unmatched",
    _events.c.received_at,
    sqlite_where=UNMATCHED_INDEX,
    postgresql_where=UNMATCHED_INDEX,
)
Index(
    "ix_stripe_event_alerted",
    _events.c.alerted_at,
    sqlite_where=ALERTED_INDEX,
    postgresql_where=ALERTED_INDEX,
)
Index("ix_stripe_event_created", _events.c.created, _events.c.id)
Index("ix_stripe_event_customer_id", _events.c.customer_id)
Index("ix_stripe_event_subscription_id", _events.c.subscription_id)


class StripeSubscription(StoreModel, table=True):
    """What its own events report, and beside it what it comes to with those of its invoices."""

    __tablename__ = "stripe_subscription"

    id: str = Field(primary_key=True)
    client_id: str | None = Field(default=None, foreign_key="client.id", index=True)
    customer_id: str | None = Field(default=None, index=True)
    status: str | None = None
    """Stripe's word for how it stands. None while only a checkout spoke of it."""
    reported_status: str | None = None
    """The word in the newest of its own events."""
    known_status: str | None = None
    """The word in the newest of them that said one we know."""
    known_order: str = ""
    """Of that report, as report_order."""
    reported_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    report_order: str = ""
    """Of two reports, the one whose text sorts last is the newer."""
    price_id: str | None = None
    plan: str | None = None
    """By the newest report with a price that the plan registry knew."""
    plan_order: str = ""
    """Of that report."""
    current_period_end: datetime | None = Field(default=None, sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    cancel_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    end_cause: str | None = None
    was_live: bool = False
    """It has been in force at some time: its end is worth a mail."""
    was_incomplete: bool = False
    last_event_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)


class StripeInvoice(StoreModel, table=True):
    """How the payments of an invoice went, as far as its events have told."""

    __tablename__ = "stripe_invoice"

    id: str = Field(primary_key=True)
    client_id: str | None = Field(default=None, foreign_key="client.id", index=True)
    subscription_id: str | None = Field(default=None, index=True)
    total: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    """In minor units of its currency."""
    paid_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    failed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Of the latest failure."""
    failed_attempts: int = 0
    updated_at: datetime = Field(sa_type=UtcDateTime)
