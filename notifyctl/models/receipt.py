"""What is kept of receipts besides their effect on a message. None of it has an address or a number."""

from datetime import datetime

from sqlalchemy import Column
from sqlmodel import Field, SQLModel

from notifyctl.models.columns import MESSAGE_ID, ROW_NUMBER, UtcDateTime, json_column


class EarlyReceipt(SQLModel, table=True):
    """A receipt that overtook our own commit: kept for some minutes, and tried again."""

    __tablename__ = "early_receipt"

    id: int | None = Field(default=None, sa_column=Column(ROW_NUMBER, primary_key=True, autoincrement=True))
    provider: str
    message_id: str | None = Field(default=None, sa_column=Column(MESSAGE_ID, nullable=True))
    provider_message_id: str | None = None
    receipt: dict[str, object] = Field(sa_column=json_column())
    received_at: datetime = Field(sa_type=UtcDateTime, index=True)


class SeenEvent(SQLModel, table=True):
    """An event that suppressed an address or freed it. Told a second time, it must not undo what was done since."""

    __tablename__ = "seen_event"

    event_id: str = Field(primary_key=True)
    """The provider, its id of the event, and the keyed hash of the address."""
    seen_at: datetime = Field(sa_type=UtcDateTime)


class ReceiptInquiry(SQLModel, table=True):
    """A message whose provider was asked for the receipt that is missing."""

    __tablename__ = "receipt_inquiry"

    message_id: str = Field(sa_column=Column(MESSAGE_ID, primary_key=True))
    ask_again_at: datetime = Field(sa_type=UtcDateTime)
