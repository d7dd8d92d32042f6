"""A client: whom we write to, and what it may receive."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlmodel import Field

from notifyctl.models.columns import StoreModel, UtcDateTime, enum_column
from notifyctl.models.enums import ProvisioningStatus, SubscriptionStatus

ACTIVE_SUBSCRIPTION = (SubscriptionStatus.TRIALING, SubscriptionStatus.ACTIVE, SubscriptionStatus.PAST_DUE)


class Client(StoreModel, table=True):
    __tablename__ = "client"

    id: str = Field(primary_key=True)
    name: str = ""
    email: str | None = None
    phone_e164: str | None = None
    timezone: str = "UTC"
    locale: str = "en"
    plan: str | None = None
    provisioning_status: ProvisioningStatus = Field(
        default=ProvisioningStatus.PENDING,
        sa_column=enum_column(ProvisioningStatus),
    )
    subscription_status: SubscriptionStatus = Field(
        default=SubscriptionStatus.NONE,
        sa_column=enum_column(SubscriptionStatus),
    )
    sms_enabled: bool = False
    stripe_customer_id: str | None = Field(default=None, unique=True)
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    erased_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class AddressedClient(NamedTuple):
    """What the gates ask of a message's client."""

    id: str
    email: str | None
    phone_e164: str | None
    plan: str | None
    provisioning_status: ProvisioningStatus
    subscription_status: SubscriptionStatus
    sms_enabled: bool
    timezone: str
    locale: str

    @classmethod
    def of(cls, columns: Sequence[object]) -> "AddressedClient | None":
        """None for those of an outer join that found no client."""
        return cls._make(columns) if columns[0] is not None else None
