"""Addresses and numbers that must not be written to."""

from datetime import datetime
from enum import StrEnum

from sqlmodel import Field, SQLModel

from notifyctl.models.columns import UtcDateTime, enum_column
from notifyctl.models.template import Channel


class SuppressionReason(StrEnum):
    HARD_BOUNCE = "HARD_BOUNCE"
    """There is no such mailbox."""
    COMPLAINT = "COMPLAINT"
    """The person called a message spam."""
    OPTED_OUT = "OPTED_OUT"
    """The person said stop."""
    INACTIVE = "INACTIVE"
    """The provider no longer delivers to it: hard bounce, complaint or manual suppression, it does not say which."""
    MANUAL = "MANUAL"
    """An operator said so."""


class Suppression(SQLModel, table=True):
    """Found by the keyed hash, so that it outlives the erasure of the address itself."""

    __tablename__ = "suppression"

    channel: Channel = Field(sa_column=enum_column(Channel, primary_key=True))
    recipient_hash: str = Field(primary_key=True)
    key_id: str
    """The secret key that the hash is made with: without it, nobody is suppressed by this row."""
    address: str | None = None
    reason: SuppressionReason = Field(sa_column=enum_column(SuppressionReason))
    source: str
    note: str | None = None
    created_at: datetime = Field(sa_type=UtcDateTime)
