"""Receipts that came before the message they are about was recorded as sent."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column
from sqlmodel import Field, SQLModel

from notifyctl.models.columns import ROW_NUMBER, UtcDateTime, json_column


class EarlyReceipt(SQLModel, table=True):
    """Kept for some minutes and tried again: a receipt can overtake our own commit."""

    __tablename__ = "early_receipt"

    id: int | None = Field(default=None, sa_column=Column(ROW_NUMBER, primary_key=True, autoincrement=True))
    provider: str
    receipt: dict[str, Any] = Field(sa_column=json_column())
    received_at: datetime = Field(sa_type=UtcDateTime, index=True)
