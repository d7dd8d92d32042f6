"""What Stripe told us, kept as it came, and the subscriptions it describes."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field, SQLModel

from notifyctl.models.client import SubscriptionStatus
from notifyctl.models.columns import UtcDateTime, enum_column


class StripeEventStatus(StrEnum):
    RECEIVED = "RECEIVED"
    PROCESSED = "PROCESSED"
    IGNORED = "IGNORED"
    UNMATCHED = "UNMATCHED"
    FAILED = "FAILED"


class StripeEvent(SQLModel, table=True):
    __tablename__ = "stripe_event"

    id: str = Field(primary_key=True)
    type: str
    created: datetime = Field(sa_type=UtcDateTime)
    livemode: bool
    verified: bool
    """True when the body's signature was checked, or it was fetched from Stripe's API."""
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    status: StripeEventStatus = Field(sa_column=enum_column(StripeEventStatus))
    error: str | None = None
    attempts: int = 0
    client_id: str | None = None
    received_at: datetime = Field(sa_type=UtcDateTime)
    processed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class StripeSubscription(SQLModel, table=True):
    __tablename__ = "stripe_subscription"

    id: str = Field(primary_key=True)
    client_id: str | None = Field(default=None, foreign_key="client.id", index=True)
    customer_id: str = Field(index=True)
    status: SubscriptionStatus = Field(sa_column=enum_column(SubscriptionStatus))
    price_id: str | None = None
    plan: str | None = None
    current_period_end: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_event_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
