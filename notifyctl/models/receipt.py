"""What is kept of receipts and suppressions besides their effect on a message, without an address or a number."""

from datetime import datetime

from sqlalchemy import Column
from sqlmodel import Field

from notifyctl.models.columns import MESSAGE_ID, ROW_NUMBER, StoreModel, UtcDateTime, enum_column, json_column
from notifyctl.models.enums import Channel, SuppressionReason


class EarlyReceipt(StoreModel, table=True):
    """A receipt that overtook our own commit: kept for some minutes, and tried again."""

    __tablename__ = "early_receipt"

    id: int | None = Field(default=None, sa_column=Column(ROW_NUMBER, primary_key=True, autoincrement=True))
    provider: str
    message_id: str | None = Field(default=None, sa_column=Column(MESSAGE_ID, nullable=True))
    provider_message_id: str | None = None
    receipt: dict[str, object] = Field(sa_column=json_column())
    received_at: datetime = Field(sa_type=UtcDateTime, index=True)


class SeenEvent(StoreModel, table=True):
    """An event that suppressed an address or freed it. Told a second time, it must not undo what was done since."""

    __tablename__ = "seen_event"

    event_id: str = Field(primary_key=True)
    """The provider, its id of the event, and the keyed hash of the address."""
    seen_at: datetime = Field(sa_type=UtcDateTime)


class ReceiptInquiry(StoreModel, table=True):
    """A message whose provider was asked for the receipt that is missing."""

    __tablename__ = "receipt_inquiry"

    message_id: str = Field(sa_column=Column(MESSAGE_ID, primary_key=True))
    ask_again_at: datetime = Field(sa_type=UtcDateTime)


class Suppression(StoreModel, table=True):
    """An address that something holds against, found by the keyed hash, so that it outlives the address's erasure.

    Of several causes the first stands in the columns: whoever acted first.
    """

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
    """When we wrote it down."""
    acted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When the recipient, the provider or the operator acted; None in a row from before this was known."""
    causes: list[dict[str, object]] | None = Field(default=None, sa_column=json_column(nullable=True))
    """All that holds, as clients.suppression_store writes it; None in a row from before there could be several."""


class SuppressionRelease(StoreModel, table=True):
    """The latest word that frees an address.

    It outlives the suppression: what happened before may be heard of later.
    """

    __tablename__ = "suppression_release"

    channel: Channel = Field(sa_column=enum_column(Channel, primary_key=True))
    recipient_hash: str = Field(primary_key=True)
    reason: str = Field(default="", primary_key=True)
    """It frees from what was for this reason; empty for any."""
    source: str = Field(default="", primary_key=True)
    """It frees from what this one said; empty for anyone."""
    key_id: str
    """The secret key that the hash is made with."""
    acted_at: datetime = Field(sa_type=UtcDateTime)
    heard_at: datetime = Field(sa_type=UtcDateTime, index=True)
